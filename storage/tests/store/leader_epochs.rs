//! A restart that was not in order begins a new leader epoch, by which readers of what is gone are told so.

use corelane_protocol::batch::{Stamp, batches};
use corelane_protocol::{LeaderEpoch, Offset};
use corelane_storage::epochs::{EpochEnd, EpochStart};
use corelane_storage::store::{AppendError, LogConfig};

use crate::support::{
    Machine, NOW, STORE, Store, append, batch, partition, payloads, small_config, small_log,
};

fn weak_log() -> LogConfig {
    LogConfig {
        flush_messages: Some(4),
        ..small_log()
    }
}

fn begun(epoch: u32, start: u64) -> EpochStart {
    EpochStart {
        epoch: LeaderEpoch::new(epoch),
        start: Offset::new(start),
    }
}

fn epochs(store: &Store, of: corelane_protocol::TopicPartition) -> Vec<EpochStart> {
    store.describe(of).expect("it exists").epochs
}

fn divergence(store: &Store, epoch: u32, offset: u64) -> Option<(u32, u64)> {
    let handle = store.partition_handle(partition(1, 0)).expect("it exists");
    let told = store.divergence(handle, LeaderEpoch::new(epoch), Offset::new(offset))?;
    let EpochEnd { epoch, end } = told;
    Some((epoch.get(), end.get()))
}

/// The base offset and the leader epoch of every batch.
fn stamps(machine: &Machine, store: &std::rc::Rc<Store>) -> Vec<(u64, u32)> {
    let bytes = machine
        .read_all(store, partition(1, 0), Offset::ZERO)
        .expect("it is readable");
    let stamps = batches(&bytes).map(|batch| {
        let stamp = Stamp::read(batch.expect("whole batches")).expect("a stamp");
        (stamp.base_offset.get(), stamp.leader_epoch.get())
    });
    stamps.collect()
}

#[test]
fn readers_of_what_a_crash_took_are_told_where_the_logs_agree() {
    let machine = Machine::new(1);
    let of = partition(1, 0);
    let store = machine.store_with(small_config(), &[(of, weak_log())]);
    for _ in 0..6 {
        append(&store, of, &batch("a", 1, 100));
        machine.settle();
    }
    assert_eq!(epochs(&store, of), [begun(0, 0)]);
    let machine = Machine::from_image(2, &machine.disk.crash(1));
    let (store, report) = machine.open(STORE, small_config()).expect("it recovers");
    assert_eq!(report.raised, [(of, begun(1, 4))]);
    assert_eq!(epochs(&store, of), [begun(0, 0), begun(1, 4)]);
    // Before anything is appended, and after other records have their offsets.
    for _ in 0..3 {
        assert_eq!(divergence(&store, 0, 4), None);
        assert_eq!(divergence(&store, 0, 5), Some((0, 4)));
        assert_eq!(divergence(&store, 0, 6), Some((0, 4)));
        append(&store, of, &batch("b", 1, 100));
        machine.settle();
    }
    assert_eq!(
        stamps(&machine, &store),
        [(0, 0), (1, 0), (2, 0), (3, 0), (4, 1), (5, 1), (6, 1)]
    );
    let handle = store.partition_handle(of).expect("it exists");
    let at = [3, 4, 7].map(|offset| store.epoch_at(handle, Offset::new(offset)));
    assert_eq!(at, [0, 1, 1].map(|epoch| Some(LeaderEpoch::new(epoch))));
    // The records of epoch 1 are lost in their turn, with all that was told of it.
    let machine = Machine::from_image(3, &machine.disk.crash(2));
    let (store, _) = machine.open(STORE, small_config()).expect("it recovers");
    assert_eq!(epochs(&store, of), [begun(0, 0), begun(2, 4)]);
    assert_eq!(divergence(&store, 1, 7), Some((0, 4)));
    assert_eq!(divergence(&store, 0, 6), Some((0, 4)));
}

#[test]
fn an_orderly_restart_and_one_without_weak_records_lose_nobody() {
    let machine = Machine::new(4);
    let (weak, durable) = (partition(1, 0), partition(2, 0));
    let logs = [(weak, weak_log()), (durable, small_log())];
    let store = machine.store_with(small_config(), &logs);
    append(&store, weak, &batch("a", 3, 100));
    append(&store, durable, &batch("a", 3, 100));
    machine.settle();
    machine
        .executor
        .block_on(store.close())
        .expect("the disk works");
    let machine = Machine::from_image(5, &machine.disk.crash(1));
    let (store, report) = machine.open(STORE, small_config()).expect("it was closed");
    assert_eq!(report.raised, []);
    assert_eq!(epochs(&store, weak), [begun(0, 0)]);
    let machine = Machine::from_image(6, &machine.disk.crash(2));
    let (store, _) = machine.open(STORE, small_config()).expect("it recovers");
    assert_eq!(epochs(&store, durable), [begun(0, 0), begun(1, 3)]);
    assert_eq!(divergence(&store, 0, 3), None);
}

#[test]
fn epochs_go_with_the_records_that_had_them() {
    let mut machine = Machine::new(7);
    let of = partition(1, 0);
    let mut store = machine.store_with(small_config(), &[(of, small_log())]);
    for life in 1..4 {
        append(&store, of, &batch("a", 2, 100));
        machine.settle();
        machine = Machine::from_image(7 + life, &machine.disk.crash(life));
        (store, _) = machine.open(STORE, small_config()).expect("it recovers");
    }
    let all = [begun(0, 0), begun(1, 2), begun(2, 4), begun(3, 6)];
    assert_eq!(epochs(&store, of), all);
    let deleted = store.delete_records(of, Offset::new(5));
    machine.executor.block_on(deleted).expect("the disk works");
    assert_eq!(epochs(&store, of), all[2..]);
    let machine = Machine::from_image(20, &machine.disk.crash(9));
    let (store, _) = machine.open(STORE, small_config()).expect("it recovers");
    assert_eq!(epochs(&store, of), [begun(2, 4), begun(4, 6)]);
}

#[test]
fn a_disk_without_room_for_epochs_is_waited_for() {
    let machine = Machine::new(30);
    // So many that they do not fit the catalogue's reserve.
    let logs: Vec<_> = (0..5000)
        .map(|index| (partition(1, index), weak_log()))
        .collect();
    let of = partition(1, 0);
    let store = machine.store_with(small_config(), &logs);
    append(&store, of, &batch("a", 6, 100));
    machine.settle();
    let machine = Machine::from_image(31, &machine.disk.crash(1));
    machine.disk.set_capacity(Some(machine.disk.allocated()));
    let (store, report) = machine.open(STORE, small_config()).expect("it recovers");
    assert_eq!(report.raised.len(), 5000);
    let bytes = batch("b", 1, 100);
    let refused = store.append(of, &bytes, NOW);
    assert_eq!(refused, Err(AppendError::DiskFull));
    let read = machine.read_all(&store, of, Offset::ZERO);
    assert_eq!(payloads(&read.expect("it is readable")).len(), 1);
    // What was not recorded is begun again, whether the store is left or ended.
    let closed = machine.executor.block_on(store.close());
    assert!(closed.is_err(), "{closed:?}");
    let machine = Machine::from_image(32, &machine.disk.image());
    machine.disk.set_capacity(Some(machine.disk.allocated()));
    let (store, report) = machine.open(STORE, small_config()).expect("it recovers");
    assert!(!report.was_clean);
    assert_eq!(store.append(of, &bytes, NOW), Err(AppendError::DiskFull));
    machine.disk.set_capacity(None);
    store.tick(corelane_protocol::Timestamp::new(NOW.get() + 10_000));
    machine.settle();
    store.append(of, &bytes, NOW).expect("there is room again");
    let epoch = store.leader_epoch(of).expect("it exists");
    let machine = Machine::from_image(33, &machine.disk.crash(2));
    let (store, _) = machine.open(STORE, small_config()).expect("it recovers");
    assert!(store.leader_epoch(of) > Some(epoch));
}
