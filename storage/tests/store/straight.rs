//! Large parts go straight to their segments: written once, and what a crash or damage makes of them.

use std::rc::Rc;

use corelane_protocol::Offset;
use corelane_storage::disk::memory::{DiskImage, Fault, Operation, OperationKind};
use corelane_storage::dump::dump;
use corelane_storage::store::{LogConfig, LogState, RecoveryReport, StoreConfig, StoreError};

use crate::golden::{append as append_records, new_directory, path_of, records, write_if_asked};
use crate::image_file::{decode, encode};
use crate::support::{Machine, STORE, Store, append, batch, partition, payloads, small_config};

const NAME: &str = "version-1-straight";
const BLOCK: u64 = 4096;

type Sent = Vec<(u64, Vec<u8>)>;

fn log() -> LogConfig {
    LogConfig {
        segment_bytes: 1 << 20,
        ..LogConfig::default()
    }
}

fn config() -> StoreConfig {
    StoreConfig {
        spill_bytes: 64 << 10,
        segment_allocation_bytes: 1 << 20,
        ..small_config()
    }
}

/// A store whose partition has a segment file with room, all of it counted as flushed, and what was sent to it. Five
/// more batches stay where only the journal tells of them.
fn with_segment(machine: &Machine) -> (Rc<Store>, Sent) {
    let logs = [(partition(1, 0), log()), (partition(2, 0), log())];
    let store = machine.store_with(config(), &logs);
    let mut sent = Vec::new();
    fill_segment(machine, &store, &mut sent);
    (store, sent)
}

/// Sends batches until one has gone straight and all of it is counted as flushed.
fn fill_segment(machine: &Machine, store: &Store, sent: &mut Sent) {
    let counts = || (store.metrics().straight_parts, store.metrics().spills);
    loop {
        let (parts, spills) = counts();
        send(machine, store, sent, 1);
        let (parts_now, spills_now) = counts();
        if parts_now > parts && spills_now > spills {
            return;
        }
    }
}

/// Sends batches that are large enough to go straight.
fn send(machine: &Machine, store: &Store, sent: &mut Sent, count: usize) {
    for _ in 0..count {
        let number = sent.len();
        let bytes = batch(&format!("log 1 record {number}"), 1, 9000 + number);
        let appended = append(store, partition(1, 0), &bytes);
        sent.push((appended.base_offset.get(), bytes[48..].to_vec()));
        machine.settle();
    }
}

fn writes<'a>(trace: &'a [Operation], suffix: &'a str) -> impl Iterator<Item = &'a Operation> {
    trace.iter().filter(move |operation| {
        let file = operation.path.rsplit('/').next().unwrap_or_default();
        operation.kind == OperationKind::Write && file.contains(suffix)
    })
}

/// Opens what is left, and finds what was sent as far as `count`.
fn expect_sent(image: &DiskImage, sent: &Sent, count: usize) -> RecoveryReport {
    let machine = Machine::from_image(9, image);
    let (store, report) = machine.open(STORE, config()).expect("it opens");
    assert_eq!((&report.failed, &report.fenced), (&Vec::new(), &None));
    let read = machine.read_all(&store, partition(1, 0), Offset::ZERO);
    assert!(payloads(&read.expect("it is there")) == sent[..count]);
    report
}

#[test]
fn a_large_part_is_written_once_and_found_again() {
    let machine = Machine::new(1);
    let (store, mut sent) = with_segment(&machine);
    machine.disk.start_trace();
    let before = store.metrics();
    send(&machine, &store, &mut sent, 5);
    let trace = machine.disk.take_trace();
    let after = store.metrics();
    assert_eq!(after.straight_parts - before.straight_parts, 5);
    assert_eq!(after.straight_bytes - before.straight_bytes, 5 * 3 * BLOCK);
    let lens = |suffix| {
        writes(&trace, suffix)
            .map(|write| write.len)
            .collect::<Vec<_>>()
    };
    assert_eq!(lens(".log"), [3 * BLOCK; 5]);
    assert_eq!(lens("journal-"), [BLOCK; 5]);
    assert_eq!(
        store
            .offsets(partition(1, 0))
            .expect("it is there")
            .durable_end
            .get(),
        sent.len() as u64
    );
    let read = machine.read_all(&store, partition(1, 0), Offset::ZERO);
    assert!(payloads(&read.expect("it is there")) == sent);
    // Nothing that was acknowledged may be lost, whatever the power's end leaves of the rest.
    for seed in 0..20 {
        let report = expect_sent(&machine.disk.crash(seed), &sent, sent.len());
        assert_eq!(report.extents_replayed, 5);
    }
    // What is counted as flushed is not written again, and a segment read from its file is whole.
    machine.disk.start_trace();
    send(&machine, &store, &mut sent, 28);
    let trace = machine.disk.take_trace();
    let mut blocks: Vec<u64> = writes(&trace, ".log")
        .flat_map(|write| write.position / BLOCK..(write.position + write.len) / BLOCK)
        .collect();
    let count = blocks.len();
    blocks.sort_unstable();
    blocks.dedup();
    assert_eq!(blocks.len(), count, "a block was written twice");
    machine
        .executor
        .block_on(store.close())
        .expect("the disk works");
    expect_sent(&machine.disk.image(), &sent, sent.len());
}

/// Turns a bit over in the middle of the last batch that was sent, in its segment.
fn damage_last(image: &mut DiskImage, sent: &Sent) -> String {
    let name = format!("log 1 record {}/", sent.len() - 1);
    let files = image.files();
    let (path, _) = files
        .iter()
        .find(|(path, _)| path.ends_with(".log"))
        .expect("there is a segment");
    let bytes = image.read(path).expect("it is listed");
    let found = bytes
        .windows(name.len())
        .position(|window| window == name.as_bytes());
    image.flip_bit(path, found.expect("it is in the segment") as u64 + 300, 3);
    path.clone()
}

#[test]
fn what_a_crash_tore_of_a_large_part_was_never_acknowledged() {
    let machine = Machine::new(2);
    let (store, mut sent) = with_segment(&machine);
    send(&machine, &store, &mut sent, 3);
    let mut image = machine.disk.image();
    damage_last(&mut image, &sent);
    let report = expect_sent(&image, &sent, sent.len() - 1);
    assert!(report.discarded_from.is_some());
    // Padding belongs to it.
    let mut image = machine.disk.image();
    let (path, _) = image
        .files()
        .into_iter()
        .find(|(path, _)| path.ends_with(".log"))
        .expect("one");
    let end = written_end(&image, &path);
    assert!(!(end + 1).is_multiple_of(BLOCK));
    image.flip_bit(&path, block_end(end) - 1, 0);
    expect_sent(&image, &sent, sent.len() - 1);
}

/// The last byte of a file that is not zero.
fn written_end(image: &DiskImage, path: &str) -> u64 {
    let bytes = image.read(path).expect("it is listed");
    let last = bytes.iter().rposition(|byte| *byte != 0);
    last.expect("it has a header") as u64
}

fn block_end(at: u64) -> u64 {
    (at + 1).next_multiple_of(BLOCK)
}

#[test]
fn damage_to_an_acknowledged_large_part_costs_its_partition_alone() {
    let machine = Machine::new(3);
    let (store, mut sent) = with_segment(&machine);
    let other = partition(2, 0);
    send(&machine, &store, &mut sent, 3);
    // A later group says that they were durable.
    append(&store, other, &batch("small", 1, 10));
    machine.settle();
    append(&store, other, &batch("small", 1, 10));
    machine.settle();
    let whole = machine.disk.image();
    let mut damaged = whole.clone();
    let path = damage_last(&mut damaged, &sent);
    let mut missing = whole.clone();
    missing.remove(&path);
    let mut cut = whole.clone();
    let end = written_end(&whole, &path);
    cut.truncate(&path, block_end(end) - BLOCK);
    for image in [damaged, missing, cut] {
        let machine = Machine::from_image(4, &image);
        let (store, report) = machine.open(STORE, config()).expect("it opens");
        let [(failed, reason)] = &report.failed[..] else {
            panic!("{report:?}");
        };
        assert_eq!(*failed, partition(1, 0));
        assert!(reason.starts_with(&path), "{reason}");
        assert_eq!(report.discarded_from, None, "{report:?}");
        let state = store.describe(other).expect("it is there").state;
        assert_eq!(state, LogState::Online);
        let read = machine.read_all(&store, other, Offset::ZERO);
        assert_eq!(payloads(&read.expect("it is there")).len(), 2);
    }
}

/// A file that is gone is damage also if nothing says yet that the group was durable: it was made before.
#[test]
fn a_missing_segment_does_not_end_the_log_of_others() {
    let machine = Machine::new(4);
    let (store, mut sent) = with_segment(&machine);
    append(&store, partition(2, 0), &batch("small", 1, 10));
    send(&machine, &store, &mut sent, 1);
    let mut image = machine.disk.image();
    let files = image.files();
    let (path, _) = files
        .iter()
        .find(|(path, _)| path.ends_with(".log"))
        .expect("one");
    image.remove(path);
    let machine = Machine::from_image(5, &image);
    let (store, report) = machine.open(STORE, config()).expect("it opens");
    assert_eq!((report.failed.len(), report.discarded_from), (1, None));
    let read = machine.read_all(&store, partition(2, 0), Offset::ZERO);
    assert_eq!(payloads(&read.expect("it is there")).len(), 1);
}

/// What cannot be read is not gone: an opening that fails changes nothing, and the next one finds all of it, under the
/// leader epochs that one which was never tried would have found.
#[test]
fn a_segment_that_cannot_be_read_keeps_the_store_from_opening() {
    let machine = Machine::new(6);
    let (store, mut sent) = with_segment(&machine);
    send(&machine, &store, &mut sent, 3);
    let image = machine.disk.crash(1);
    let is_segment = |path: &str| path.ends_with(".log");
    let places = [OperationKind::Open, OperationKind::Len, OperationKind::Read];
    for (kind, errno) in places.into_iter().flat_map(|kind| {
        [
            (kind, libc::ENOSPC),
            (kind, libc::EMFILE),
            (kind, libc::EIO),
        ]
    }) {
        let machine = Machine::from_image(7, &image);
        machine
            .disk
            .inject(Fault::error(errno).on(kind).in_path(is_segment));
        let Err(error) = machine.open(STORE, config()) else {
            panic!("it opens, though {kind:?} has failed with {errno}");
        };
        let StoreError::Io { file, source, .. } = &error else {
            panic!("{error}");
        };
        assert!(is_segment(file), "{error}");
        assert_eq!(source.raw_os_error(), Some(errno));
        assert_eq!(encode(&machine.disk.image()), encode(&image));
        expect_sent(&machine.disk.image(), &sent, sent.len());
    }
}

/// The next life writes to the file only behind what groups tell of, though the catalogue counts less.
#[test]
fn a_restart_keeps_what_only_groups_tell_of() {
    let machine = Machine::new(5);
    let (store, mut sent) = with_segment(&machine);
    send(&machine, &store, &mut sent, 3);
    let mut image = machine.disk.crash(1);
    for life in 0..4 {
        let machine = Machine::from_image(10 + life, &image);
        let (store, _) = machine.open(STORE, config()).expect("it opens");
        send(&machine, &store, &mut sent, 3 + life as usize);
        image = machine.disk.crash(life);
        expect_sent(&image, &sent, sent.len());
    }
}

/// Eight partitions whose segments have files with room, all that was sent to them counted as flushed.
fn eight_with_segments(machine: &Machine) -> Rc<Store> {
    let logs: Vec<_> = (1..=8).map(|topic| (partition(topic, 0), log())).collect();
    let store = machine.store_with(
        StoreConfig {
            journal_file_bytes: 512 << 10,
            group_bytes_max: 64 << 10,
            open_files_max: 16,
            spill_bytes: 8 << 10,
            ..config()
        },
        &logs,
    );
    for (of, _) in &logs {
        for _ in 0..4 {
            append(&store, *of, &batch("at first", 1, 9000));
            machine.settle();
        }
    }
    store
}

/// Appends a batch to each of the first partitions at once. Returns how many parts went straight, in how many groups.
fn send_at_once(machine: &Machine, store: &Store, partitions: u128, bytes: usize) -> (u64, u64) {
    let counts = || {
        let metrics = store.metrics();
        (metrics.straight_parts, metrics.group_bytes.count())
    };
    let before = counts();
    for topic in 1..=partitions {
        append(store, partition(topic, 0), &batch("at once", 1, bytes));
    }
    machine.settle();
    let after = counts();
    (after.0 - before.0, after.1 - before.1)
}

/// One flush of the journal stays one however many partitions have something: beside it there are four at most.
#[test]
fn a_group_writes_to_four_segments_at_most() {
    let machine = Machine::new(8);
    let store = eight_with_segments(&machine);
    // A quarter of what waits each.
    assert_eq!(send_at_once(&machine, &store, 1, 9000), (1, 1));
    assert_eq!(send_at_once(&machine, &store, 4, 9000), (4, 1));
    // A quarter of the largest group each, and what waits fills two of them.
    assert_eq!(send_at_once(&machine, &store, 8, 18_000), (8, 2));
    // Large enough for the setting, and less than a quarter.
    assert_eq!(send_at_once(&machine, &store, 5, 9000), (0, 1));
    // Less than that, until only one of them still waits.
    assert_eq!(send_at_once(&machine, &store, 8, 9000), (1, 2));
}

fn make() -> DiskImage {
    let machine = new_directory();
    let (store, _) = machine.open(STORE, config()).expect("it was just made");
    let wanted = [(partition(1, 0), log()), (partition(2, 0), log())];
    let created = store.create_partitions(&wanted);
    machine.executor.block_on(created).expect("the disk works");
    append_records(&machine, &store, 2, 0..1);
    let mut sent = Vec::new();
    fill_segment(&machine, &store, &mut sent);
    send(&machine, &store, &mut sent, 3);
    append_records(&machine, &store, 2, 1..2);
    machine.disk.image()
}

#[test]
fn a_directory_of_version_1_with_large_parts_in_segments_opens() {
    write_if_asked(NAME, make);
    let golden = std::fs::read(path_of(NAME)).expect("it is part of the sources");
    let image = decode(&golden);
    assert_eq!(encode(&image), golden);
    let mut printed = String::new();
    for (path, _) in image.files() {
        let bytes = image.read(&path).expect("it is listed");
        let mut out = Vec::new();
        let dumped = dump(&mut std::io::Cursor::new(&bytes), &mut out);
        assert!(dumped.is_ok(), "{path}: {dumped:?}");
        printed += &String::from_utf8(out).expect("text");
    }
    assert!(
        printed.contains("    in the segment's file, incarnation 0x100000001: "),
        "{printed}"
    );
    let machine = Machine::from_image(6, &image);
    let (store, report) = machine.open(STORE, config()).expect("it opens");
    assert!(
        report.failed.is_empty() && report.extents_replayed == 3,
        "{report:?}"
    );
    let first = store.offsets(partition(1, 0)).expect("it is there");
    for (number, count) in [(1, first.log_end.get()), (2, 2)] {
        let expected: Vec<_> = (0..count)
            .map(|record| (record, format!("log {number} record {record}")))
            .collect();
        assert_eq!(records(&machine, &store, number, 0), expected);
    }
}

/// Room is taken from where the log ends, not from where the spill is: else what has fallen behind by more than the room
/// ahead never goes straight again.
#[test]
fn room_is_taken_ahead_of_the_log_however_far_the_spill_is_behind() {
    let machine = Machine::new(6);
    let log = LogConfig {
        segment_bytes: 8 << 20,
        ..LogConfig::default()
    };
    let config = StoreConfig {
        journal_file_bytes: 1 << 20,
        segment_allocation_bytes: 64 << 10,
        ..config()
    };
    let store = machine.store_with(config, &[(partition(1, 0), log)]);
    let mut sent = Vec::new();
    fill_segment(&machine, &store, &mut sent);
    machine.disk.start_trace();
    let mut bytes = 0;
    for _ in 0..60 {
        let batch = batch("burst", 1, 9000);
        bytes += batch.len() as u64;
        append(&store, partition(1, 0), &batch);
    }
    machine.settle();
    let trace = machine.disk.take_trace();
    let is_room = |operation: &&Operation| {
        operation.kind == OperationKind::Allocate && operation.path.ends_with(".log")
    };
    let first = trace.iter().find(is_room).expect("room is taken");
    assert!(first.len > bytes, "{first:?}");
    let before = store.metrics().straight_parts;
    send(&machine, &store, &mut sent, 1);
    assert_eq!(store.metrics().straight_parts, before + 1);
}
