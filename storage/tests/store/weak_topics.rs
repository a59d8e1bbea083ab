//! Topics with `flush.messages` or `flush.ms` are read from memory, and flushed when their settings say so.

use corelane_protocol::{LeaderEpoch, Offset, Timestamp};
use corelane_storage::store::{LogConfig, Progress};

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
        .append(of, &batch("b", 1, 20), LeaderEpoch::new(1), after(49))
        .expect("it is taken");
    store.tick(after(50));
    machine.settle();
    assert_eq!(durable(), 2, "the oldest of them decides");
    store
        .append(of, &batch("c", 1, 20), LeaderEpoch::new(1), after(60))
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
