//! A golden store whose catalogue and journal hold every kind of record that this format version began with.
//!
//! It is opened and read like those of `golden`. A kind that the decoders know and no directory holds fails: whoever
//! adds one adds a directory, see there.

use std::collections::BTreeSet;
use std::rc::Rc;

use corelane_protocol::{Offset, Timestamp};
use corelane_storage::block_log::{BlockLog, BlockLogKind};
use corelane_storage::catalogue::{CATALOGUE_VERSION, CatalogueRecord, LAST_KIND};
use corelane_storage::disk::memory::DiskImage;
use corelane_storage::dump::dump;
use corelane_storage::store::{GuardMode, LogConfig, LogState, ReaderState, RetentionGuard};

use crate::golden::{append, config, open, path_of, records, write_if_asked};
use crate::image_file::{decode, encode};
use crate::support::{Machine, NOW, STORE, Store, partition, topic};

const NAME: &str = "version-1-every-kind";

/// What the logs of the directory are for.
const KEPT: u128 = 1;
const WEAK: u128 = 2;
const EMPTIED: u128 = 3;
const DELETED: u128 = 4;
const DAMAGED: u128 = 5;
const GUARDED: u128 = 6;

/// Where each log starts and ends; the damaged one serves nothing.
const LOGS: [(u128, u64, u64); 4] = [
    (KEPT, 60, 75),
    (WEAK, 0, 8),
    (EMPTIED, 12, 12),
    (GUARDED, 7, 9),
];

fn log_config(number: u128) -> LogConfig {
    let config = LogConfig {
        segment_bytes: 6 << 10,
        segment_ms: Some(1 << 20),
        retention_bytes: Some(1 << 30),
        retention_ms: Some(1 << 40),
        ..LogConfig::default()
    };
    match number {
        WEAK => LogConfig {
            flush_messages: Some(4),
            flush_ms: Some(1 << 30),
            ..config
        },
        GUARDED => LogConfig {
            guard: RetentionGuard {
                mode: GuardMode::Wait,
                readers: ["audit".to_owned(), "billing".to_owned()].into(),
                ms_max: 1000,
                bytes_max: 1 << 20,
            },
            ..config
        },
        _ => config,
    }
}

fn delete_records(machine: &Machine, store: &Store, number: u128, before: u64) {
    let deleted = store.delete_records(partition(number, 0), Offset::new(before));
    machine.executor.block_on(deleted).expect("the disk works");
    machine.settle();
}

fn report(store: &Store, reader: &str, position: u64) {
    let reported = store.report_position(partition(GUARDED, 0), reader, Offset::new(position));
    reported.expect("the topic names it");
}

/// The first life, left in the middle: with a deleted topic, readers, weak records, and one that is to be damaged.
fn first_life() -> DiskImage {
    let machine = crate::golden::new_directory();
    let (store, _) = machine.open(STORE, config()).expect("it was just made");
    let numbers = [KEPT, WEAK, EMPTIED, DELETED, DAMAGED, GUARDED];
    let wanted = numbers.map(|number| (partition(number, 0), log_config(number)));
    let created = store.create_partitions(&wanted);
    machine.executor.block_on(created).expect("the disk works");
    append(&machine, &store, KEPT, 0..30);
    append(&machine, &store, EMPTIED, 0..12);
    append(&machine, &store, DELETED, 0..3);
    append(&machine, &store, GUARDED, 0..9);
    let deleted = store.delete_topic(topic(DELETED));
    machine.executor.block_on(deleted).expect("the disk works");
    delete_records(&machine, &store, KEPT, 13);
    delete_records(&machine, &store, EMPTIED, 12);
    report(&store, "billing", 4);
    delete_records(&machine, &store, GUARDED, 7);
    report(&store, "billing", 8);
    store.tick(Timestamp::new(NOW.get() + 6_000));
    machine.settle();
    append(&machine, &store, DAMAGED, 0..2);
    // Two of these are in memory only and lost.
    append(&machine, &store, WEAK, 0..6);
    // A group behind it says that the damaged one was durable.
    append(&machine, &store, KEPT, 30..35);
    machine.disk.crash(1)
}

/// Turns over a bit of the second record of the log that is to be damaged, where the journal has it.
fn damage(image: &mut DiskImage) {
    let text = format!("log {DAMAGED} record 1/");
    for (path, _) in image.files() {
        let bytes = image.read(&path).expect("it is listed");
        let mut windows = bytes.windows(text.len());
        if let Some(at) = windows.position(|window| window == text.as_bytes()) {
            assert!(path.contains("journal"), "{path}");
            image.flip_bit(&path, at as u64, 3);
            return;
        }
    }
    panic!("the journal has it");
}

/// A directory with two lives behind it, the second left in the middle as well.
fn make() -> DiskImage {
    let mut image = first_life();
    damage(&mut image);
    let machine = Machine::from_image(2, &image);
    let (store, report) = machine.open(STORE, config()).expect("it recovers");
    assert_eq!(report.failed.len(), 1, "{report:?}");
    // The journal is used all around, and what it has of the damaged log is given up.
    let filler = partition(7, 0);
    let wanted = [(filler, log_config(7))];
    let created = store.create_partitions(&wanted);
    machine.executor.block_on(created).expect("the disk works");
    for number in 0..60_i64 {
        let bytes = crate::support::batch("filler", 1, 6000);
        let now = Timestamp::new(NOW.get() + 10_000 + number);
        store.append(filler, &bytes, now).expect("it has room");
        machine.settle();
        store.tick(now);
        machine.settle();
    }
    let deleted = store.delete_topic(topic(7));
    machine.executor.block_on(deleted).expect("the disk works");
    append(&machine, &store, KEPT, 35..75);
    append(&machine, &store, WEAK, 4..8);
    delete_records(&machine, &store, KEPT, 60);
    store.tick(Timestamp::new(NOW.get() + 100_000));
    machine.settle();
    machine.disk.image()
}

fn golden() -> DiskImage {
    write_if_asked(NAME, make);
    let golden = std::fs::read(path_of(NAME)).expect("it is part of the sources");
    let image = decode(&golden);
    assert_eq!(encode(&image), golden);
    image
}

/// The records of the directory's catalogue.
fn catalogue(image: &DiskImage) -> Vec<Vec<u8>> {
    let machine = Machine::from_image(3, image);
    let opened = BlockLog::open(
        machine.disk.clone(),
        "store-0000/catalogue",
        BlockLogKind::Catalogue,
    );
    let (_, contents) = machine.executor.block_on(opened).expect("it is sound");
    contents.records
}

#[test]
fn a_directory_of_version_1_has_every_kind_of_record() {
    let image = golden();
    // Those of producers and of compaction came later, and have directories of their own.
    let producers = crate::producers::golden();
    let compacted = crate::compaction::golden();
    let records = [&image, &producers, &compacted].map(catalogue).concat();
    let found: BTreeSet<u8> = records.iter().map(|record| record[1]).collect();
    assert_eq!(found, (1..=LAST_KIND).collect());
    for unknown in [0, LAST_KIND + 1] {
        let bytes = [&[CATALOGUE_VERSION, unknown][..], &[0; 64]].concat();
        let error = CatalogueRecord::decode(&bytes).expect_err("no such kind");
        assert!(error.to_string().contains("kind"), "{unknown}: {error}");
    }
    let mut journal = String::new();
    for (path, _) in image.files() {
        let bytes = image.read(&path).expect("it is listed");
        let mut out = Vec::new();
        dump(&mut std::io::Cursor::new(&bytes), &mut out)
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        if path.contains("journal") {
            journal += &String::from_utf8(out).expect("text");
        }
    }
    for kind in ["group at ", "seal at ", "  part: ", "leader epoch 1"] {
        assert!(journal.contains(kind), "{kind:?} is not in\n{journal}");
    }
}

#[test]
fn a_directory_of_version_1_with_every_kind_of_record_opens() {
    let machine = Machine::from_image(5, &golden());
    let (store, report) = open(&machine);
    assert!(!report.was_clean && report.warnings.is_empty());
    assert_eq!(store.partitions().len(), LOGS.len() + 1);
    for (number, start, end) in LOGS {
        expect_log(&machine, &store, number, start, end);
    }
    let described = |number| store.describe(partition(number, 0)).expect("it is there");
    let LogState::Failed(reason) = described(DAMAGED).state else {
        panic!("{:?}", described(DAMAGED));
    };
    assert!(reason.contains("given up"), "{reason}");
    let state = |position, expired_unread| ReaderState {
        position: Offset::new(position),
        expired_unread,
    };
    let readers = [
        ("audit".to_owned(), state(0, 7)),
        ("billing".to_owned(), state(8, 3)),
    ];
    assert_eq!(described(GUARDED).readers, readers);
    let epochs = described(KEPT).epochs.into_iter();
    let epochs = epochs.map(|begun| (begun.epoch.get(), begun.start.get()));
    // The records of the first one lie below the log start.
    assert_eq!(epochs.collect::<Vec<_>>(), [(1, 35), (2, 75)]);
    machine
        .executor
        .block_on(store.close())
        .expect("the disk works");
}

/// Reads all of a log, appends to it and reads that.
fn expect_log(machine: &Machine, store: &Rc<Store>, number: u128, start: u64, end: u64) {
    let offsets = store.offsets(partition(number, 0)).expect("it is there");
    let found = (offsets.log_start.get(), offsets.log_end.get());
    assert_eq!(found, (start, end), "log {number}");
    let expected = (start..end).map(|record| (record, format!("log {number} record {record}")));
    let expected: Vec<_> = expected.collect();
    assert_eq!(records(machine, store, number, start), expected);
    append(machine, store, number, end..end + 4);
    assert_eq!(
        records(machine, store, number, end).len(),
        4,
        "log {number}"
    );
}
