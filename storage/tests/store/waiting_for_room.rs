//! Whoever was told that there is no room is told when there is some, without asking again and again.

use std::cell::Cell;
use std::rc::Rc;

use corelane_protocol::TopicPartition;
use corelane_storage::disk::memory::{Fault, OperationKind};
use corelane_storage::memory::{Ledger, MemoryKind};
use corelane_storage::store::{LogConfig, StoreConfig};

use crate::support::{
    Machine, NOW, STORE, Store, append, batch, partition, progress, small_config, small_log,
};

/// No space left on the device.
const ENOSPC: i32 = 28;

/// Waits for progress as a core does, and notes whether there was room whenever it was told something.
struct Waiting {
    /// How often it was told.
    told: Cell<u32>,
    /// How often there was room for `wanted` then.
    found: Cell<u32>,
}

/// The bytes that are asked for.
const WANTED: usize = 3000;

/// The memory that they take at most: a batch may need a chunk of its own.
const MEMORY: usize = 2 * WANTED + (16 << 10);

fn wait(machine: &Machine, store: &Rc<Store>) -> Rc<Waiting> {
    let waiting = Rc::new(Waiting {
        told: Cell::new(0),
        found: Cell::new(0),
    });
    let (noted, store) = (Rc::clone(&waiting), Rc::clone(store));
    machine.executor.spawn(async move {
        loop {
            store.progressed().await;
            drop(progress(&store));
            noted.told.set(noted.told.get() + 1);
            if store.has_room(1, WANTED) {
                noted.found.set(noted.found.get() + 1);
            }
        }
    });
    waiting
}

/// Appends until there is no room for more, without letting the store's tasks run.
fn fill(store: &Store) {
    let bytes = batch("x", 1, WANTED - 200);
    for number in 0..1000 {
        if !store.has_room(1, WANTED) {
            return;
        }
        append(store, partition(1, number % 8), &bytes);
    }
    panic!("there is room for ever");
}

fn partitions() -> Vec<(TopicPartition, LogConfig)> {
    (0..8)
        .map(|index| (partition(1, index), small_log()))
        .collect()
}

#[test]
fn a_journal_that_has_room_again_is_told() {
    let machine = Machine::new(1);
    let store = machine.store_with(small_config(), &partitions());
    let waiting = wait(&machine, &store);
    machine.settle();
    for _ in 0..10 {
        fill(&store);
        let before = waiting.found.get();
        machine.settle();
        assert!(
            waiting.found.get() > before,
            "there was room, and nobody was told"
        );
    }
}

/// The disk has enough to do long before the journal is full.
#[test]
fn a_queue_that_is_shorter_again_is_told() {
    let machine = Machine::new(9);
    let config = StoreConfig {
        queue_bytes_max: 4 * WANTED,
        ..small_config()
    };
    let store = machine.store_with(config, &partitions());
    let waiting = wait(&machine, &store);
    machine.settle();
    for round in 0..10 {
        fill(&store);
        let ends = |index| store.offsets(partition(1, index)).expect("it is open");
        let appended: u64 = (0..8).map(|index| ends(index).log_end.get()).sum();
        assert_eq!(
            appended,
            5 * (round + 1),
            "batches are a little smaller than asked for"
        );
        let before = waiting.found.get();
        machine.settle();
        assert!(
            waiting.found.get() > before,
            "there was room, and nobody was told"
        );
    }
}

#[test]
fn memory_that_others_release_is_told() {
    let machine = Machine::new(2);
    machine.create(STORE, &small_config());
    let memory = Rc::new(Ledger::new(1 << 20, 1 << 20));
    let opened = machine.open_with(STORE, small_config(), Rc::clone(&memory));
    let (store, _) = opened.expect("it is new");
    let waiting = wait(&machine, &store);
    machine.settle();
    let all = memory.available();
    memory.reserve(MemoryKind::Reply, all).expect("it is free");
    assert!(!store.has_room(1, WANTED));
    machine.settle();
    memory.release(MemoryKind::Reply, MEMORY - 1);
    machine.settle();
    assert_eq!(waiting.told.get(), 0, "that is one byte too few");
    memory.release(MemoryKind::Reply, 1);
    machine.settle();
    assert_eq!((waiting.told.get(), waiting.found.get()), (1, 1));
    memory.release(MemoryKind::Reply, 1);
    machine.settle();
    assert_eq!(waiting.told.get(), 1, "it is told once");
}

#[test]
fn a_full_disk_is_told_because_waiting_does_not_help() {
    let machine = Machine::new(3);
    let store = machine.store_with(small_config(), &partitions());
    let waiting = wait(&machine, &store);
    machine.settle();
    machine.disk.set_capacity(Some(machine.disk.allocated()));
    fill(&store);
    machine.settle();
    assert!(waiting.found.get() > 0, "an append says why it is refused");
}

/// Two files are all that the disk has room for. What keeps them is written to segments, though every
/// partition has little, and though the journal has fewer files than it may have.
#[test]
fn a_journal_that_cannot_grow_is_emptied() {
    let machine = Machine::new(5);
    let config = StoreConfig {
        spill_bytes: 1 << 20,
        journal_files_max: 16,
        ..small_config()
    };
    let store = machine.store_with(config, &partitions());
    let fault = Fault::error(ENOSPC).in_path(|path| path.ends_with("journal-0002"));
    machine.disk.inject(fault.forever());
    let waiting = wait(&machine, &store);
    machine.settle();
    for round in 0..10 {
        fill(&store);
        let before = waiting.found.get();
        machine.settle();
        store.tick(NOW);
        machine.settle();
        assert!(waiting.found.get() > before, "no room in round {round}");
    }
}

#[test]
fn a_store_that_takes_nothing_any_more_keeps_nobody_waiting() {
    let machine = Machine::new(4);
    let store = machine.store_with(small_config(), &partitions());
    let waiting = wait(&machine, &store);
    machine.settle();
    fill(&store);
    let fault = Fault::io_error().on(OperationKind::Write);
    machine
        .disk
        .inject(fault.in_path(|path| path.contains("journal-")));
    machine.settle();
    assert!(waiting.found.get() > 0, "appends say why they are refused");
}
