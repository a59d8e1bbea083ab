//! What was acknowledged is there after a restart, whether it was expected or not.

use corelane_protocol::Offset;
use corelane_storage::store::Progress;

use crate::support::{
    Machine, STORE, append, batch, durable_end, partition, payloads, progress, small_config,
    small_log,
};

#[test]
fn an_append_is_acknowledged_once_it_is_durable_and_then_read() {
    let machine = Machine::new(1);
    let orders = partition(1, 0);
    let store = machine.store_with(small_config(), &[(orders, small_log())]);
    let first = batch("first", 3, 20);
    let appended = append(&store, orders, &first);
    assert_eq!(
        (appended.base_offset, appended.end_offset),
        (Offset::new(0), Offset::new(3))
    );
    assert_eq!(
        store.offsets(orders).expect("it exists").high_watermark,
        Offset::new(0)
    );
    assert!(progress(&store).is_empty(), "nothing is durable yet");
    machine.settle();
    assert!(
        matches!(progress(&store)[..], [Progress::Durable { durable_end, high_watermark, .. }]
        if durable_end == Offset::new(3) && high_watermark == Offset::new(3))
    );
    let read = machine
        .read_all(&store, orders, Offset::new(0))
        .expect("it is there");
    assert_eq!(payloads(&read), [(0, first[48..].to_vec())]);
}

#[test]
fn what_was_acknowledged_survives_a_crash_of_the_machine() {
    let machine = Machine::new(2);
    let orders = partition(1, 0);
    let store = machine.store_with(small_config(), &[(orders, small_log())]);
    let mut sent = Vec::new();
    for number in 0..40 {
        let bytes = batch(&format!("batch {number}"), 1 + number % 3, 30);
        sent.push((
            append(&store, orders, &bytes).base_offset.get(),
            bytes[48..].to_vec(),
        ));
        machine.settle();
    }
    assert_eq!(
        durable_end(&store, orders),
        store.offsets(orders).expect("it exists").log_end
    );
    let image = machine.disk.crash(5);
    let machine = Machine::from_image(3, &image);
    let (store, report) = machine
        .open(STORE, small_config())
        .expect("nothing is damaged");
    assert!(!report.was_clean && report.failed.is_empty() && report.fenced.is_none());
    let read = machine
        .read_all(&store, orders, Offset::new(0))
        .expect("it is there");
    assert_eq!(payloads(&read), sent);
}

#[test]
fn a_closed_store_opens_clean_with_everything_in_it() {
    let machine = Machine::new(4);
    let partitions: Vec<_> = (0..3)
        .map(|index| (partition(1, index), small_log()))
        .collect();
    let store = machine.store_with(small_config(), &partitions);
    let mut sent = vec![Vec::new(); 3];
    for number in 0..60 {
        let index = number % 3;
        let bytes = batch(&format!("batch {number}"), 2, 700);
        let base = append(&store, partitions[index].0, &bytes).base_offset;
        sent[index].push((base.get(), bytes[48..].to_vec()));
        if number % 7 == 0 {
            machine.settle();
        }
    }
    machine
        .executor
        .block_on(store.close())
        .expect("the disk works");
    let image = machine.disk.crash(6);
    let machine = Machine::from_image(5, &image);
    let (store, report) = machine
        .open(STORE, small_config())
        .expect("nothing is damaged");
    assert!(report.was_clean, "{report:?}");
    for (index, (of, _)) in partitions.iter().enumerate() {
        let read = machine
            .read_all(&store, *of, Offset::new(0))
            .expect("it is there");
        assert_eq!(payloads(&read), sent[index]);
    }
}
