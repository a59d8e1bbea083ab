//! Golden data directories: what earlier builds of a format version wrote is opened for ever.
//!
//! `CORELANE_GOLDEN=NAME` makes the one of that name anew; the files of a version that was released are never
//! changed.

use std::path::PathBuf;
use std::rc::Rc;

use corelane_protocol::batch::{DecompressLimit, RecordBatch, batches};
use corelane_protocol::{Offset, Timestamp};
use corelane_storage::directory::{self, DirectoryIdentity, Opened};
use corelane_storage::disk::memory::DiskImage;
use corelane_storage::dump::dump;
use corelane_storage::store::{LogConfig, RecoveryReport, StoreConfig};
use uuid::Uuid;

use crate::image_file::{decode, encode};
use crate::support::{Machine, NOW, STORE, Store, batch, partition, read_all, small_config, topic};

const IDENTITY: DirectoryIdentity = DirectoryIdentity {
    cluster: Uuid::from_u128(0x1111_0000_0000_4000_8000_0000_0000_0001),
    directory: Uuid::from_u128(0x2222_0000_0000_4000_8000_0000_0000_0002),
    stores: 1,
};

/// Records of each log, and where it starts.
const LOGS: [(u128, u64, u64); 3] = [(1, 30, 13), (2, 6, 0), (3, 9, 9)];

pub(crate) fn config() -> StoreConfig {
    StoreConfig {
        spill_bytes: 4096,
        ..small_config()
    }
}

fn log_config(number: u128) -> LogConfig {
    let config = LogConfig {
        segment_bytes: 6 << 10,
        ..LogConfig::default()
    };
    match number {
        1 => LogConfig {
            retention_bytes: Some(1 << 30),
            ..config
        },
        2 => LogConfig {
            flush_ms: Some(50),
            ..config
        },
        _ => LogConfig {
            segment_ms: Some(1000),
            retention_ms: Some(1 << 40),
            ..config
        },
    }
}

pub(crate) fn path_of(name: &str) -> PathBuf {
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    PathBuf::from(tests).join(name)
}

/// A machine with a new data directory.
pub(crate) fn new_directory() -> Machine {
    let machine = Machine::new(1);
    let opened = machine
        .executor
        .block_on(directory::open(&machine.disk, IDENTITY));
    assert!(matches!(opened, Ok(Opened::New(_))));
    machine.create(STORE, &config());
    let finished = directory::finish(&machine.disk, &IDENTITY);
    machine.executor.block_on(finished).expect("the disk works");
    machine
}

/// Makes a data directory with a life behind it.
fn make(is_closed: bool) -> DiskImage {
    let machine = new_directory();
    let (store, _) = machine.open(STORE, config()).expect("it was just made");
    let mut wanted: Vec<_> = LOGS
        .iter()
        .map(|(number, _, _)| (partition(*number, 0), log_config(*number)))
        .collect();
    wanted.push((partition(4, 0), LogConfig::default()));
    let created = store.create_partitions(&wanted);
    machine.executor.block_on(created).expect("the disk works");
    for (number, records, _) in LOGS {
        append(&machine, &store, number, 0..records - 3);
    }
    append(&machine, &store, 4, 0..3);
    for (number, _, log_start) in LOGS {
        let before = Offset::new(log_start.min(store_end(&store, number)));
        let deleted = store.delete_records(partition(number, 0), before);
        machine.executor.block_on(deleted).expect("the disk works");
    }
    let deleted = store.delete_topic(topic(4));
    machine.executor.block_on(deleted).expect("the disk works");
    for (number, records, log_start) in LOGS {
        append(&machine, &store, number, records - 3..records);
        let deleted = store.delete_records(partition(number, 0), Offset::new(log_start));
        machine.executor.block_on(deleted).expect("the disk works");
    }
    if is_closed {
        machine
            .executor
            .block_on(store.close())
            .expect("the disk works");
    } else {
        store.tick(Timestamp::new(NOW.get() + 100));
        machine.settle();
    }
    machine.disk.image()
}

fn store_end(store: &Store, number: u128) -> u64 {
    let offsets = store.offsets(partition(number, 0)).expect("it is there");
    offsets.high_watermark.get()
}

pub(crate) fn append(
    machine: &Machine,
    store: &Store,
    number: u128,
    records: std::ops::Range<u64>,
) {
    for record in records {
        let bytes = batch(&format!("log {number} record {record}"), 1, 100);
        let now = Timestamp::new(NOW.get() + record as i64);
        store
            .append(partition(number, 0), &bytes, now)
            .expect("the store takes it");
        machine.settle();
    }
}

/// The offset and the text of each record from the log's start on.
pub(crate) fn records(
    machine: &Machine,
    store: &Rc<Store>,
    number: u128,
    from: u64,
) -> Vec<(u64, String)> {
    let read = read_all(store, partition(number, 0), Offset::new(from), 10_000);
    let bytes = machine.executor.block_on(read).expect("nothing is damaged");
    let mut found = Vec::new();
    for batch in batches(&bytes) {
        let batch = RecordBatch::parse(batch.expect("whole"), &DecompressLimit::default());
        for record in &batch.expect("a sound batch") {
            let value = record.value.expect("a value");
            let text = value.split(|byte| *byte == b'/').next().expect("a name");
            let text = String::from_utf8_lossy(text).into_owned();
            found.push((record.offset.get(), text));
        }
    }
    found
}

/// Opens what a golden directory became on a disk.
pub(crate) fn open(machine: &Machine) -> (Rc<Store>, RecoveryReport) {
    let opened = machine
        .executor
        .block_on(directory::open(&machine.disk, IDENTITY));
    assert!(matches!(opened, Ok(Opened::Existing(found)) if found == IDENTITY));
    machine.open(STORE, config()).expect("it opens")
}

fn expect_opens(name: &str, is_clean: bool) {
    let golden = std::fs::read(path_of(name)).expect("it is part of the sources");
    let image = decode(&golden);
    assert_eq!(encode(&image), golden, "{name}");
    let machine = Machine::from_image(5, &image);
    for (path, _) in image.files() {
        let bytes = image.read(&path).expect("it is listed");
        let dumped = dump(&mut std::io::Cursor::new(&bytes), &mut Vec::new());
        assert!(dumped.is_ok(), "{name}: {path}: {dumped:?}");
    }
    let (store, report) = open(&machine);
    assert_eq!(report.was_clean, is_clean, "{name}");
    assert!(
        report.failed.is_empty() && report.warnings.is_empty(),
        "{name}: {report:?}"
    );
    assert_eq!(store.partitions().len(), LOGS.len(), "{name}");
    for (number, count, log_start) in LOGS {
        let offsets = store.offsets(partition(number, 0)).expect("it is there");
        assert_eq!(
            (offsets.log_start.get(), offsets.log_end.get()),
            (log_start, count),
            "{name}: log {number}"
        );
        let expected: Vec<_> = (log_start..count)
            .map(|record| (record, format!("log {number} record {record}")))
            .collect();
        assert_eq!(
            records(&machine, &store, number, log_start),
            expected,
            "{name}"
        );
        append(&machine, &store, number, count..count + 1);
        assert_eq!(records(&machine, &store, number, count).len(), 1, "{name}");
    }
    machine
        .executor
        .block_on(store.close())
        .expect("the disk works");
}

#[test]
fn a_directory_of_version_1_that_was_closed_opens() {
    write_if_asked("version-1-closed", || make(true));
    expect_opens("version-1-closed", true);
}

#[test]
fn a_directory_of_version_1_that_was_left_opens() {
    write_if_asked("version-1-left", || make(false));
    expect_opens("version-1-left", false);
}

/// Makes a golden directory anew if the environment names it.
pub(crate) fn write_if_asked(name: &str, make: impl FnOnce() -> DiskImage) {
    if std::env::var("CORELANE_GOLDEN").is_ok_and(|asked| asked == name) {
        std::fs::create_dir_all(path_of("")).expect("the sources can be written");
        std::fs::write(path_of(name), encode(&make())).expect("it has room");
    }
}
