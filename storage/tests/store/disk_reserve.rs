//! The reserve of the device: nothing is appended below it, everything else goes on, and it ends by itself.

use std::rc::Rc;

use corelane_protocol::{Offset, Timestamp};
use corelane_storage::disk::memory::{Fault, OperationKind};
use corelane_storage::store::{AppendError, StoreConfig};

use crate::support::{Machine, NOW, Store, batch, partition, payloads, small_config, small_log};

const RESERVE: u64 = 300 << 10;

fn config() -> StoreConfig {
    StoreConfig {
        disk_reserve_bytes: RESERVE,
        ..small_config()
    }
}

fn append(store: &Store) -> Result<(), AppendError> {
    let bytes = batch("reserve", 1, 3000);
    let appended = store.append(partition(1, 0), &bytes, NOW);
    appended.map(drop)
}

fn tick(machine: &Machine, store: &Store, ms: i64) {
    store.tick(Timestamp::new(NOW.get() + ms));
    machine.settle();
}

/// A store on a disk with so much room beyond what the store takes at first.
fn store_with_room(bytes: u64) -> (Machine, Rc<Store>) {
    let machine = Machine::new(1);
    let store = machine.store_with(config(), &[(partition(1, 0), small_log())]);
    machine.settle();
    let taken = machine.disk.allocated();
    machine.disk.set_capacity(Some(taken + bytes));
    (machine, store)
}

/// Appends until the store refuses.
fn fill(machine: &Machine, store: &Store) -> u64 {
    for count in 0..10_000 {
        match append(store) {
            Ok(()) => {}
            Err(AppendError::JournalFull) => {}
            Err(AppendError::DiskFull) => return count,
            Err(error) => panic!("{error}"),
        }
        tick(machine, store, count as i64 * 1000);
    }
    panic!("the disk never gets full");
}

#[test]
fn appends_are_refused_at_the_reserve_and_deleting_records_makes_room() {
    let (machine, store) = store_with_room(RESERVE + (200 << 10));
    let appended = fill(&machine, &store);
    assert!(appended > 20);
    let left = || config().disk_reserve_bytes.saturating_sub(64 << 10);
    let free = machine.executor.block_on(free_bytes(&machine));
    assert!(free > left(), "the reserve is still there: {free}");
    // Reads go on, and so do new topics and deletions.
    let read = machine.read_all(&store, partition(1, 0), Offset::ZERO);
    assert!(payloads(&read.expect("it is there")).len() > 20);
    let wanted = [(partition(2, 0), small_log())];
    let created = machine.executor.block_on(store.create_partitions(&wanted));
    created.expect("the catalogue has room");
    let end = store
        .offsets(partition(1, 0))
        .expect("it is there")
        .high_watermark;
    let deleted = store.delete_records(partition(1, 0), end);
    assert_eq!(
        machine.executor.block_on(deleted).expect("it has room"),
        end
    );
    machine.settle();
    tick(&machine, &store, 100_000_000);
    append(&store).expect("there is room again");
}

async fn free_bytes(machine: &Machine) -> u64 {
    use corelane_storage::disk::Disk;
    machine.disk.free_bytes().await.expect("it can be told")
}

#[test]
fn room_that_others_make_is_noticed_within_a_second() {
    let (machine, store) = store_with_room(RESERVE - 1);
    tick(&machine, &store, 0);
    assert_eq!(append(&store), Err(AppendError::DiskFull));
    assert!(store.has_room(1, 100), "waiting would not help");
    machine.disk.set_capacity(None);
    tick(&machine, &store, 900);
    assert_eq!(append(&store), Err(AppendError::DiskFull));
    tick(&machine, &store, 1000);
    append(&store).expect("there is room again");
    let of = partition(1, 0);
    machine.settle();
    assert_eq!(
        store.offsets(of).expect("it is there").durable_end,
        Offset::new(1)
    );
}

#[test]
fn a_disk_that_cannot_be_asked_changes_nothing() {
    let (machine, store) = store_with_room(RESERVE - 1);
    let fault = Fault::io_error().on(OperationKind::FreeBytes);
    machine.disk.inject(fault);
    tick(&machine, &store, 0);
    append(&store).expect("nothing is known to be wrong");
    tick(&machine, &store, 1000);
    assert_eq!(append(&store), Err(AppendError::DiskFull));
}
