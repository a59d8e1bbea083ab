//! Topics with `flush.messages` or `flush.ms` are read from memory, and flushed when their settings say so.

use corelane_protocol::{Offset, Timestamp};
use corelane_storage::store::{AppendError, LogConfig, PartitionError, Progress};

use crate::support::{
    Machine, NOW, STORE, append, batch, partition, payloads, progress, small_config, small_log,
};

fn after(ms: i64) -> Timestamp {
    Timestamp::new(NOW.get() + ms)
}

#[test]
fn an_append_is_visible_at_once_and_flushed_after_so_many_messages() {
    let machine = Machine::new(1);
    let of = partition(1, 0);
    let log = LogConfig {
        flush_messages: Some(10),
        ..small_log()
    };
    let store = machine.store_with(small_config(), &[(of, log)]);
    let bytes = batch("a", 4, 20);
    append(&store, of, &bytes);
    machine.settle();
    assert!(
        matches!(progress(&store)[..], [Progress::Durable { durable_end, high_watermark, .. }]
        if durable_end == Offset::new(0) && high_watermark == Offset::new(4))
    );
    let read = machine
        .read_all(&store, of, Offset::new(0))
        .expect("it is visible");
    assert_eq!(payloads(&read).len(), 1);
    append(&store, of, &bytes);
    machine.settle();
    assert_eq!(
        store.offsets(of).expect("it exists").durable_end,
        Offset::new(0)
    );
    append(&store, of, &bytes);
    machine.settle();
    assert_eq!(
        store.offsets(of).expect("it exists").durable_end,
        Offset::new(12)
    );
}

#[test]
fn an_append_is_flushed_after_so_many_milliseconds() {
    let machine = Machine::new(2);
    let of = partition(1, 0);
    let log = LogConfig {
        flush_ms: Some(50),
        ..small_log()
    };
    let store = machine.store_with(small_config(), &[(of, log)]);
    let durable = || store.offsets(of).expect("it exists").durable_end.get();
    append(&store, of, &batch("a", 1, 20));
    store.tick(after(49));
    machine.settle();
    assert_eq!(durable(), 0);
    store
        .append(of, &batch("b", 1, 20), after(49))
        .expect("it is taken");
    store.tick(after(50));
    machine.settle();
    assert_eq!(durable(), 2, "the oldest of them decides");
    store
        .append(of, &batch("c", 1, 20), after(60))
        .expect("it is taken");
    store.tick(after(0));
    machine.settle();
    assert_eq!(durable(), 3, "a clock that went back makes it due");
}

#[test]
fn closing_flushes_what_waits() {
    let machine = Machine::new(3);
    let of = partition(1, 0);
    let log = LogConfig {
        flush_ms: Some(1_000_000),
        ..small_log()
    };
    let store = machine.store_with(small_config(), &[(of, log)]);
    for _ in 0..5 {
        append(&store, of, &batch("a", 2, 100));
    }
    machine
        .executor
        .block_on(store.close())
        .expect("the disk works");
    let machine = Machine::from_image(4, &machine.disk.crash(1));
    let (store, report) = machine.open(STORE, small_config()).expect("it was closed");
    assert!(report.was_clean);
    assert_eq!(
        store.offsets(of).expect("it exists").durable_end,
        Offset::new(10)
    );
}

#[test]
fn what_waits_is_flushed_when_the_topic_becomes_durable() {
    let machine = Machine::new(5);
    let of = partition(1, 0);
    let weak = LogConfig {
        flush_ms: Some(1_000_000),
        ..small_log()
    };
    let store = machine.store_with(small_config(), &[(of, weak)]);
    append(&store, of, &batch("a", 3, 20));
    machine.settle();
    drop(progress(&store));
    store.configure(of, small_log()).expect("it exists");
    let offsets = store.offsets(of).expect("it exists");
    assert_eq!(
        (offsets.durable_end, offsets.high_watermark),
        (Offset::new(0), Offset::new(3)),
        "what could be read stays readable while it is being flushed"
    );
    append(&store, of, &batch("b", 2, 20));
    let offsets = store.offsets(of).expect("it exists");
    assert_eq!(
        offsets.high_watermark,
        Offset::new(3),
        "what comes later is read when it is durable"
    );
    let read = machine.read_all(&store, of, Offset::new(0));
    assert_eq!(payloads(&read.expect("it is readable")).len(), 1);
    machine.settle();
    let offsets = store.offsets(of).expect("it exists");
    assert_eq!(
        (offsets.durable_end, offsets.high_watermark),
        (Offset::new(5), Offset::new(5))
    );
    assert!(matches!(
        progress(&store)[..],
        [Progress::Durable { durable_end, .. }] if durable_end == Offset::new(5)
    ));
}

#[test]
fn a_topic_that_becomes_weak_shows_only_what_is_appended_from_then_on() {
    let machine = Machine::new(6);
    let of = partition(1, 0);
    let store = machine.store_with(small_config(), &[(of, small_log())]);
    machine.settle();
    append(&store, of, &batch("a", 3, 20));
    let weak = LogConfig {
        flush_messages: Some(100),
        ..small_log()
    };
    store.configure(of, weak).expect("it exists");
    let high_watermark = || store.offsets(of).expect("it exists").high_watermark;
    assert_eq!(
        high_watermark(),
        Offset::new(0),
        "it was to be read when it is durable"
    );
    append(&store, of, &batch("b", 2, 20));
    assert_eq!(high_watermark(), Offset::new(5));
    machine.settle();
    append(&store, of, &batch("c", 4, 20));
    machine.settle();
    let offsets = store.offsets(of).expect("it exists");
    assert_eq!(
        (offsets.durable_end, offsets.high_watermark),
        (Offset::new(5), Offset::new(9)),
        "what was due was flushed, and the rest waits"
    );
}

#[test]
fn other_limits_count_at_once_for_what_waits() {
    let machine = Machine::new(7);
    let of = partition(1, 0);
    let flush_messages = |limit| LogConfig {
        flush_messages: Some(limit),
        ..small_log()
    };
    let store = machine.store_with(small_config(), &[(of, flush_messages(100))]);
    let durable = || store.offsets(of).expect("it exists").durable_end.get();
    append(&store, of, &batch("a", 5, 20));
    store.configure(of, flush_messages(6)).expect("it exists");
    machine.settle();
    assert_eq!(durable(), 0, "five are fewer than six");
    store.configure(of, flush_messages(5)).expect("it exists");
    machine.settle();
    assert_eq!(durable(), 5);
    append(&store, of, &batch("b", 1, 20));
    let flush_ms = LogConfig {
        flush_ms: Some(30),
        ..small_log()
    };
    store.configure(of, flush_ms).expect("it exists");
    machine.settle();
    assert_eq!(durable(), 6, "no clock may be running yet");
    append(&store, of, &batch("c", 1, 20));
    store.tick(after(29));
    machine.settle();
    assert_eq!(durable(), 6);
    store.tick(after(30));
    machine.settle();
    assert_eq!(durable(), 7);
}

#[test]
fn sizes_count_from_the_next_append_on() {
    let machine = Machine::new(8);
    let of = partition(1, 0);
    let store = machine.store_with(small_config(), &[(of, small_log())]);
    append(&store, of, &batch("a", 1, 3000));
    let log = LogConfig {
        batch_bytes_max: 2000,
        segment_bytes: 6 << 10,
        ..small_log()
    };
    store.configure(of, log).expect("it exists");
    let refused = store.append(of, &batch("b", 1, 3000), NOW);
    assert!(matches!(refused, Err(AppendError::Batch(_))), "{refused:?}");
    append(&store, of, &batch("c", 1, 1500));
    for _ in 0..40 {
        append(&store, of, &batch("d", 1, 1500));
        machine.settle();
    }
    let segment = format!("{STORE}/{}/0/00000000000000000001.log", of.topic);
    let is_there = machine
        .disk
        .files()
        .iter()
        .any(|(path, _)| *path == segment);
    assert!(is_there, "a new segment began with the second batch");
    let unknown = store.configure(partition(1, 1), small_log());
    assert_eq!(unknown, Err(PartitionError::Unknown(partition(1, 1))));
}

#[test]
fn what_an_unclean_restart_took_from_weak_partitions_is_reported() {
    let machine = Machine::new(6);
    let (weak, ordinary) = (partition(1, 0), partition(2, 0));
    let log = LogConfig {
        flush_messages: Some(4),
        ..small_log()
    };
    let logs = [(weak, log), (ordinary, small_log())];
    let store = machine.store_with(small_config(), &logs);
    for _ in 0..6 {
        append(&store, weak, &batch("a", 1, 100));
        append(&store, ordinary, &batch("a", 1, 100));
        machine.settle();
    }
    assert_eq!(
        store.offsets(weak).expect("it exists").high_watermark,
        Offset::new(6)
    );
    let machine = Machine::from_image(7, &machine.disk.crash(1));
    let (store, report) = machine.open(STORE, small_config()).expect("it recovers");
    assert_eq!(report.weak_losses, [(weak, Offset::new(4))]);
    assert_eq!(store.metrics().weak_losses, 1);
    let next = append(&store, weak, &batch("next", 1, 100));
    assert_eq!(next.base_offset, Offset::new(4));
    machine
        .executor
        .block_on(store.close())
        .expect("the disk works");
    let machine = Machine::from_image(8, &machine.disk.crash(2));
    let (_, report) = machine.open(STORE, small_config()).expect("it was closed");
    assert_eq!((report.was_clean, report.weak_losses), (true, Vec::new()));
}

#[test]
fn a_flush_ms_that_is_new_does_not_wait_for_the_next_append() {
    let machine = Machine::new(37);
    let of = partition(1, 0);
    let by_count = LogConfig {
        flush_messages: Some(1000),
        ..small_log()
    };
    let store = machine.store_with(small_config(), &[(of, by_count.clone())]);
    append(&store, of, &batch("a", 3, 20));
    machine.settle();
    let durable_end = || store.offsets(of).expect("it exists").durable_end;
    assert_eq!(durable_end(), Offset::new(0));
    let by_time = LogConfig {
        flush_ms: Some(100),
        ..by_count
    };
    store.configure(of, by_time).expect("it exists");
    // Nobody tells a store the time that has had no appends for a while.
    machine.settle();
    assert_eq!(durable_end(), Offset::new(3));
}
