//! Expiry looks at named readers: it counts what they miss, says so, or waits for them up to a cap.

use std::rc::Rc;

use corelane_protocol::{Offset, Timestamp};
use corelane_storage::store::{
    GuardMode, LogConfig, Progress, ReaderState, ReportError, RetentionGuard, StoreConfig, Unread,
};

use crate::support::{
    Machine, NOW, STORE, Store, batch, partition, progress, small_config, small_log,
};

const READER: &str = "billing";

fn at(ms: i64) -> Timestamp {
    Timestamp::new(NOW.get() + ms)
}

/// Records are kept for 1,000 ms, and up to 10,000 more for the reader.
fn guarded(mode: GuardMode) -> LogConfig {
    LogConfig {
        retention_ms: Some(1_000),
        guard: RetentionGuard {
            mode,
            readers: [READER.to_owned()].into(),
            ms_max: 10_000,
            bytes_max: 1 << 30,
        },
        ..small_log()
    }
}

/// A store with 40 records in several segments, all of the same time.
fn filled(seed: u64, config: LogConfig, settings: StoreConfig) -> (Machine, Rc<Store>) {
    let machine = Machine::new(seed);
    let store = machine.store_with(settings, &[(partition(1, 0), config)]);
    append(&machine, &store, 40);
    (machine, store)
}

fn append(machine: &Machine, store: &Store, batches: u64) {
    for _ in 0..batches {
        let bytes = batch("guard", 1, 3000);
        let appended = store.append(partition(1, 0), &bytes, NOW);
        appended.expect("the store takes it");
        machine.settle();
    }
}

/// Lets the store see the time; what it said of readers.
fn tick(machine: &Machine, store: &Store, ms: i64) -> Vec<Unread> {
    for _ in 0..3 {
        store.tick(at(ms));
        machine.settle();
    }
    let said = progress(store).into_iter();
    said.filter_map(|event| match event {
        Progress::Unread { unread, .. } => Some(unread),
        _ => None,
    })
    .collect()
}

fn log_start(store: &Store) -> u64 {
    let offsets = store.offsets(partition(1, 0)).expect("it is there");
    offsets.log_start.get()
}

fn report(store: &Store, position: u64) -> Result<(), ReportError> {
    store.report_position(partition(1, 0), READER, Offset::new(position))
}

fn reader(store: &Store) -> ReaderState {
    let described = store.describe(partition(1, 0)).expect("it is there");
    let [(name, state)] = &described.readers[..] else {
        panic!("{:?}", described.readers);
    };
    assert_eq!(name, READER);
    *state
}

#[test]
fn what_a_reader_has_not_read_waits_for_it() {
    let (machine, store) = filled(1, guarded(GuardMode::Wait), small_config());
    let said = tick(&machine, &store, 1_100);
    assert_eq!(log_start(&store), 0);
    let first_segment = said[0].records;
    assert!(
        said.len() == 1 && said[0].is_waited_for && said[0].reader == READER,
        "{said:?}"
    );
    assert_eq!(
        tick(&machine, &store, 2_000),
        [],
        "it is said once a minute"
    );
    report(&store, first_segment + 1).expect("it is named");
    tick(&machine, &store, 2_100);
    assert_eq!(log_start(&store), first_segment);
    report(&store, 40).expect("it is named");
    tick(&machine, &store, 2_200);
    assert_eq!(log_start(&store), 40);
    assert_eq!(
        reader(&store),
        ReaderState {
            position: Offset::new(40),
            expired_unread: 0
        }
    );
}

#[test]
fn a_reader_that_is_gone_is_waited_for_no_longer_than_the_cap() {
    let (machine, store) = filled(2, guarded(GuardMode::Wait), small_config());
    report(&store, 3).expect("it is named");
    tick(&machine, &store, 11_000);
    assert_eq!(log_start(&store), 0);
    let said = tick(&machine, &store, 71_001);
    assert_eq!(log_start(&store), 40);
    let told: u64 = said.iter().map(|unread| unread.records).sum();
    assert!(told > 0 && said.iter().all(|unread| !unread.is_waited_for));
    assert_eq!(reader(&store).expired_unread, 37);
}

#[test]
fn expiry_counts_what_was_missed_and_says_so_if_it_is_to() {
    for mode in [GuardMode::Off, GuardMode::Warn] {
        let (machine, store) = filled(3, guarded(mode), small_config());
        report(&store, 3).expect("it is named");
        let said = tick(&machine, &store, 1_100);
        assert_eq!(log_start(&store), 40);
        assert_eq!(reader(&store).expired_unread, 37, "{mode:?}");
        assert_eq!(said.is_empty(), mode == GuardMode::Off, "{said:?}");
    }
}

#[test]
fn records_that_are_deleted_by_hand_do_not_wait_and_are_counted() {
    let (machine, store) = filled(4, guarded(GuardMode::Wait), small_config());
    report(&store, 3).expect("it is named");
    let deleted = store.delete_records(partition(1, 0), Offset::new(10));
    machine.executor.block_on(deleted).expect("the disk works");
    assert_eq!((log_start(&store), reader(&store).expired_unread), (10, 7));
    // What is counted is as durable as the log start.
    let machine = Machine::from_image(5, &machine.disk.crash(1));
    let (store, _) = machine.open(STORE, small_config()).expect("it recovers");
    store
        .configure(partition(1, 0), guarded(GuardMode::Wait))
        .expect("it is there");
    assert_eq!((log_start(&store), reader(&store).expired_unread), (10, 7));
}

#[test]
fn positions_are_kept_and_never_lead_what_was_reported() {
    let (machine, store) = filled(6, guarded(GuardMode::Wait), small_config());
    report(&store, 5).expect("it is named");
    tick(&machine, &store, 100);
    report(&store, 9).expect("it is named");
    tick(&machine, &store, 200);
    let crashed = Machine::from_image(7, &machine.disk.crash(1));
    let (again, _) = crashed.open(STORE, small_config()).expect("it recovers");
    let known = |store: &Store| {
        let configured = store.configure(partition(1, 0), guarded(GuardMode::Wait));
        configured.expect("it is there");
        reader(store).position.get()
    };
    assert_eq!(
        known(&again),
        5,
        "what was reported last was not recorded yet"
    );
    tick(&machine, &store, 5_200);
    let crashed = Machine::from_image(8, &machine.disk.crash(2));
    let (again, _) = crashed.open(STORE, small_config()).expect("it recovers");
    assert_eq!(known(&again), 9);
    report(&store, 12).expect("it is named");
    let closed = machine.executor.block_on(store.close());
    closed.expect("the disk works");
    let closed = Machine::from_image(9, &machine.disk.crash(3));
    let (again, _) = closed.open(STORE, small_config()).expect("it was closed");
    assert_eq!(known(&again), 12);
}

#[test]
fn only_named_readers_report_and_only_what_can_have_been_read() {
    let (machine, store) = filled(10, guarded(GuardMode::Wait), small_config());
    let of = partition(1, 0);
    let unknown = store.report_position(of, "other", Offset::new(1));
    assert_eq!(unknown, Err(ReportError::UnknownReader("other".to_owned())));
    let beyond = report(&store, 41);
    assert!(matches!(beyond, Err(ReportError::OutOfRange { .. })));
    let nowhere = store.report_position(partition(9, 0), READER, Offset::ZERO);
    assert!(matches!(nowhere, Err(ReportError::UnknownPartition(_))));
    report(&store, 30).expect("it is named");
    report(&store, 20).expect("it may read again");
    assert_eq!(reader(&store).position, Offset::new(20));
    // One that is not named any more is forgotten, and begins anew.
    store.configure(of, small_log()).expect("it is there");
    assert!(report(&store, 20).is_err());
    let configured = store.configure(of, guarded(GuardMode::Wait));
    configured.expect("it is there");
    assert_eq!(reader(&store), ReaderState::default());
    drop(machine);
}

#[test]
fn the_reserve_of_the_disk_is_worth_more_than_readers() {
    let settings = StoreConfig {
        disk_reserve_bytes: 300 << 10,
        ..small_config()
    };
    let (machine, store) = filled(11, guarded(GuardMode::Wait), settings);
    tick(&machine, &store, 1_100);
    assert_eq!(log_start(&store), 0);
    let taken = machine.disk.allocated();
    machine.disk.set_capacity(Some(taken + (200 << 10)));
    tick(&machine, &store, 3_000);
    assert_eq!(log_start(&store), 40);
    assert_eq!(reader(&store).expired_unread, 40);
}

#[test]
fn a_position_is_cut_back_with_a_weak_log() {
    let config = LogConfig {
        flush_messages: Some(4),
        retention_ms: None,
        ..guarded(GuardMode::Wait)
    };
    let machine = Machine::new(12);
    let store = machine.store_with(small_config(), &[(partition(1, 0), config.clone())]);
    append(&machine, &store, 6);
    report(&store, 6).expect("it is readable");
    tick(&machine, &store, 100);
    // What was reported is on the disk, and the records 4 and 5 are not.
    let mut machine = Machine::from_image(13, &machine.disk.crash(1));
    for life in 0..2 {
        let (store, _) = machine.open(STORE, small_config()).expect("it recovers");
        let configured = store.configure(partition(1, 0), config.clone());
        configured.expect("it is there");
        assert_eq!(reader(&store).position, Offset::new(4));
        append(&machine, &store, 4);
        machine = Machine::from_image(14 + life, &machine.disk.crash(life));
    }
}
