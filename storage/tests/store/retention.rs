//! What expires: by bytes, by age, and by the clock of the broker alone.

use std::rc::Rc;

use corelane_protocol::{Offset, Timestamp};
use corelane_storage::store::LogConfig;

use crate::support::{Machine, NOW, STORE, Store, batch, partition, small_config, small_log};

fn at(ms: i64) -> Timestamp {
    Timestamp::new(NOW.get() + ms)
}

/// Appends batches of a record and about 3,000 bytes, ten or so of which fill a segment.
fn append(machine: &Machine, store: &Store, batches: u64, ms: i64) {
    for _ in 0..batches {
        let bytes = batch("retention", 1, 3000);
        store
            .append(partition(1, 0), &bytes, at(ms))
            .expect("the store takes it");
        machine.settle();
    }
}

fn tick(machine: &Machine, store: &Store, ms: i64) {
    // Once for what is to be done, and once more for what follows from it.
    for _ in 0..2 {
        store.tick(at(ms));
        machine.settle();
    }
}

fn log_start(store: &Store) -> u64 {
    let offsets = store.offsets(partition(1, 0)).expect("it is there");
    offsets.log_start.get()
}

fn segment_files(machine: &Machine) -> usize {
    let files = machine.disk.files();
    files
        .iter()
        .filter(|(path, _)| path.ends_with(".log"))
        .count()
}

fn store_with(config: LogConfig) -> (Machine, Rc<Store>) {
    let machine = Machine::new(3);
    let store = machine.store_with(small_config(), &[(partition(1, 0), config)]);
    (machine, store)
}

fn reopened(machine: &Machine, config: LogConfig) -> (Machine, Rc<Store>) {
    let machine = Machine::from_image(4, &machine.disk.crash(1));
    let (store, report) = machine.open(STORE, small_config()).expect("it recovers");
    assert!(report.failed.is_empty(), "{report:?}");
    store
        .configure(partition(1, 0), config)
        .expect("it is there");
    (machine, store)
}

#[test]
fn a_log_is_kept_to_its_size() {
    let config = LogConfig {
        retention_bytes: Some(80_000),
        ..small_log()
    };
    let (machine, store) = store_with(config);
    append(&machine, &store, 200, 0);
    tick(&machine, &store, 1);
    let size = store
        .describe(partition(1, 0))
        .expect("it is there")
        .size_bytes;
    assert!((80_000..80_000 + 2 * (40 << 10)).contains(&size), "{size}");
    assert!(log_start(&store) > 100);
    assert!(
        (2..=4).contains(&segment_files(&machine)),
        "{}",
        segment_files(&machine)
    );
}

#[test]
fn a_log_that_nobody_writes_to_expires_as_a_whole() {
    let config = LogConfig {
        retention_ms: Some(1000),
        ..small_log()
    };
    let (machine, store) = store_with(config);
    append(&machine, &store, 25, 0);
    append(&machine, &store, 1, 900);
    tick(&machine, &store, 1000);
    assert_eq!(log_start(&store), 0, "nothing is older than that");
    tick(&machine, &store, 1001);
    let first = log_start(&store);
    assert!(
        first > 10 && first < 26,
        "the last segment had an append later: {first}"
    );
    tick(&machine, &store, 1901);
    assert_eq!((log_start(&store), segment_files(&machine)), (26, 0));
}

#[test]
fn a_segment_ends_after_its_time_also_across_restarts() {
    let config = LogConfig {
        segment_ms: Some(1000),
        ..small_log()
    };
    // What is in the journal only, and what is in a segment file already.
    for batches in [1, 8] {
        let (machine, store) = store_with(config.clone());
        append(&machine, &store, batches, 0);
        assert_eq!(segment_files(&machine), usize::from(batches > 1));
        let (machine, store) = reopened(&machine, config.clone());
        append(&machine, &store, 1, 999);
        tick(&machine, &store, 999);
        let before = segment_files(&machine);
        append(&machine, &store, 1, 1000);
        tick(&machine, &store, 1000);
        append(&machine, &store, 8, 1001);
        tick(&machine, &store, 1001);
        assert_eq!(
            segment_files(&machine),
            before.max(1) + 1,
            "{batches} batches"
        );
        let names = machine.disk.files();
        let next = format!("{:020}.log", batches + 2);
        assert!(
            names.iter().any(|(path, _)| path.ends_with(&next)),
            "{names:?}"
        );
    }
}

#[test]
fn settings_that_change_count_at_once() {
    let (machine, store) = store_with(small_log());
    append(&machine, &store, 60, 0);
    tick(&machine, &store, 1_000_000_000);
    assert_eq!(log_start(&store), 0, "nothing expires without a setting");
    let shorter = LogConfig {
        retention_bytes: Some(0),
        ..small_log()
    };
    store
        .configure(partition(1, 0), shorter)
        .expect("it is there");
    tick(&machine, &store, 1_000_000_001);
    assert!(log_start(&store) >= 40, "{}", log_start(&store));
    let offsets = store.offsets(partition(1, 0)).expect("it is there");
    assert_eq!(offsets.log_end, Offset::new(60));
}
