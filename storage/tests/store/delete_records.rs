//! Deleting records: final once it is answered, and the files go.

use std::rc::Rc;

use corelane_protocol::Offset;
use corelane_storage::disk::memory::{Fault, OperationKind};
use corelane_storage::store::{DeleteRecordsError, LogConfig, Read, ReadError};
use corelane_storage::testing::yield_now;

use crate::support::{
    Machine, NOW, STORE, Store, append, batch, partition, payloads, small_config, small_log,
};

/// The segment files of the one partition, by base offset.
fn segments(machine: &Machine) -> Vec<u64> {
    let files = machine.disk.files().into_iter();
    let names = files.filter_map(|(path, _)| {
        let base = path.rsplit('/').next()?.strip_suffix(".log")?;
        base.parse().ok()
    });
    names.collect()
}

fn indexes(machine: &Machine) -> usize {
    let files = machine.disk.files();
    let indexes = files.iter().filter(|(path, _)| path.ends_with(".index"));
    indexes.count()
}

/// A store with one partition and so many batches of a record and about 3,000 bytes: some ten to a segment.
fn filled(batches: u64) -> (Machine, Rc<Store>) {
    let machine = Machine::new(1);
    let store = machine.store_with(small_config(), &[(partition(1, 0), small_log())]);
    for number in 0..batches {
        append(
            &store,
            partition(1, 0),
            &batch(&format!("{number}"), 1, 3000),
        );
        if number % 4 == 0 {
            machine.settle();
        }
    }
    machine.settle();
    (machine, store)
}

fn delete(machine: &Machine, store: &Store, before: u64) -> Result<Offset, DeleteRecordsError> {
    let deleted = store.delete_records(partition(1, 0), Offset::new(before));
    let deleted = machine.executor.block_on(deleted);
    machine.settle();
    deleted
}

fn log_start(store: &Store) -> u64 {
    let offsets = store.offsets(partition(1, 0)).expect("it is there");
    offsets.log_start.get()
}

#[test]
fn what_is_deleted_is_out_of_range_and_segments_wholly_below_go() {
    let (machine, store) = filled(45);
    let of = partition(1, 0);
    let before = segments(&machine);
    assert_eq!(before, [0, 10, 21, 32]);
    assert_eq!(
        delete(&machine, &store, 27).expect("it is readable"),
        Offset::new(27)
    );
    assert_eq!((log_start(&store), segments(&machine)), (27, vec![21, 32]));
    let out_of_range = |error: ReadError| matches!(error, ReadError::OutOfRange { .. });
    assert!(out_of_range(
        store
            .read(of, Offset::new(26), 100, true)
            .expect_err("it is deleted")
    ));
    let rest = machine
        .read_all(&store, of, Offset::new(27))
        .expect("it is there");
    let offsets: Vec<u64> = payloads(&rest).iter().map(|(base, _)| *base).collect();
    assert_eq!(offsets, (27..45).collect::<Vec<_>>());
    // Going back changes nothing, and says where the log starts.
    assert_eq!(
        delete(&machine, &store, 3).expect("it is deleted"),
        Offset::new(27)
    );
}

#[test]
fn what_cannot_be_read_yet_cannot_be_deleted() {
    let (machine, store) = filled(3);
    let refused = delete(&machine, &store, 4).expect_err("the log ends at 3");
    assert!(
        matches!(refused, DeleteRecordsError::OutOfRange { high_watermark, .. } if high_watermark == Offset::new(3)),
        "{refused}"
    );
    let unknown = store.delete_records(partition(2, 0), Offset::ZERO);
    let unknown = machine
        .executor
        .block_on(unknown)
        .expect_err("nobody made it");
    assert!(
        matches!(unknown, DeleteRecordsError::UnknownPartition(_)),
        "{unknown}"
    );
    assert_eq!(log_start(&store), 0);
}

#[test]
fn all_of_a_log_can_be_deleted_and_it_goes_on() {
    for batches in [1, 20, 26] {
        let (machine, store) = filled(batches);
        delete(&machine, &store, batches).expect("it is readable");
        assert_eq!(segments(&machine), Vec::<u64>::new(), "{batches} batches");
        let offsets = store.offsets(partition(1, 0)).expect("it is there");
        assert_eq!(
            (offsets.log_start, offsets.log_end),
            (Offset::new(batches), Offset::new(batches))
        );
        let next = append(&store, partition(1, 0), &batch("next", 1, 3000));
        assert_eq!(next.base_offset, Offset::new(batches));
        machine.settle();
        let read = machine.read_all(&store, partition(1, 0), Offset::new(batches));
        assert_eq!(payloads(&read.expect("it is there")).len(), 1);
        machine
            .executor
            .block_on(store.close())
            .expect("the disk works");

        let machine = Machine::from_image(2, &machine.disk.crash(1));
        let (store, _) = machine.open(STORE, small_config()).expect("it was closed");
        assert_eq!(log_start(&store), batches);
        let read = machine.read_all(&store, partition(1, 0), Offset::new(batches));
        assert_eq!(payloads(&read.expect("it is there")).len(), 1);
    }
}

#[test]
fn a_deletion_outlives_a_crash_at_every_step_once_it_is_answered() {
    let (machine, _store) = filled(45);
    let start = machine.disk.crash(5);
    for step in 0.. {
        let machine = Machine::from_image(7, &start);
        let (store, _) = machine.open(STORE, small_config()).expect("it recovers");
        machine.disk.halt_at(machine.disk.operations() + step);
        let deleted = store.delete_records(partition(1, 0), Offset::new(40));
        let is_answered = machine.executor.try_block_on(deleted).is_some();
        machine.settle();
        let is_over = !machine.disk.is_halted();

        let machine = Machine::from_image(8, &machine.disk.crash(step));
        let (store, report) = machine.open(STORE, small_config()).expect("it recovers");
        assert!(report.failed.is_empty(), "step {step}: {report:?}");
        let expected = if is_answered { 40 } else { log_start(&store) };
        assert_eq!(log_start(&store), expected, "step {step}");
        machine.settle();
        if expected == 40 {
            // What the crash left of the removal is done now.
            assert_eq!(segments(&machine), [32], "step {step}");
            assert!(
                indexes(&machine) <= 1,
                "step {step}: {:?}",
                machine.disk.files()
            );
        } else {
            assert_eq!(expected, 0, "step {step}");
            assert!(segments(&machine).len() >= 3, "step {step}");
        }
        let read = machine.read_all(&store, partition(1, 0), Offset::new(expected));
        assert_eq!(
            payloads(&read.expect("it is there")).len() as u64,
            45 - expected
        );
        if is_over {
            assert!(is_answered && step > 5);
            return;
        }
    }
}

#[test]
fn a_reader_in_the_midst_of_a_segment_that_goes_gets_its_records_or_is_out_of_range() {
    let (mut served, mut refused) = (0, 0);
    for seed in 0..60 {
        let (first, _store) = filled(45);
        let machine = Machine::from_image(seed, &first.disk.crash(1));
        let (store, _) = machine.open(STORE, small_config()).expect("it recovers");
        let from = Offset::new(seed % 21);
        let Ok(Read::Disk(wanted)) = store.read(partition(1, 0), from, 10_000, true) else {
            panic!("nothing of it is in memory");
        };
        let deleting = Rc::clone(&store);
        machine.executor.spawn(async move {
            for _ in 0..seed {
                yield_now().await;
            }
            let deleted = deleting.delete_records(partition(1, 0), Offset::new(26));
            deleted.await.expect("the disk works");
        });
        match machine.executor.block_on(store.read_disk(wanted)) {
            Ok(fetched) => {
                let bytes: Vec<u8> = fetched
                    .parts
                    .iter()
                    .flat_map(|part| part.to_vec())
                    .collect();
                assert_eq!(payloads(&bytes)[0].0, from.get(), "seed {seed}");
                served += 1;
            }
            Err(ReadError::OutOfRange { .. }) => refused += 1,
            Err(error) => panic!("seed {seed}: {error}"),
        }
        machine.settle();
        assert_eq!(segments(&machine), [21, 32], "seed {seed}");
        assert!(
            indexes(&machine) <= 2,
            "seed {seed}: {:?}",
            machine.disk.files()
        );
    }
    assert!(
        served > 0 && refused > 0,
        "{served} served, {refused} refused"
    );
}

#[test]
fn what_a_weak_partition_deletes_is_durable_first() {
    let machine = Machine::new(1);
    let of = partition(1, 0);
    let weak = LogConfig {
        flush_messages: Some(1000),
        ..small_log()
    };
    let store = machine.store_with(small_config(), &[(of, weak)]);
    for number in 0..3 {
        append(&store, of, &batch(&format!("{number}"), 1, 100));
    }
    machine.settle();
    assert_eq!(
        store.offsets(of).expect("it is there").durable_end,
        Offset::ZERO
    );
    delete(&machine, &store, 3).expect("it is readable");
    assert_eq!(
        store.offsets(of).expect("it is there").durable_end,
        Offset::new(3)
    );
    let machine = Machine::from_image(2, &machine.disk.crash(1));
    let (store, report) = machine.open(STORE, small_config()).expect("it recovers");
    assert!(report.failed.is_empty(), "{report:?}");
    let offsets = store.offsets(of).expect("it is there");
    assert_eq!(
        (offsets.log_start, offsets.log_end),
        (Offset::new(3), Offset::new(3))
    );
}

#[test]
fn a_full_disk_refuses_a_deletion_which_is_done_once_there_is_room() {
    let (machine, store) = filled(45);
    let full = Fault::error(libc::ENOSPC).on(OperationKind::Allocate);
    let in_catalogue = |path: &str| path.ends_with("catalogue");
    machine.disk.inject(full.in_path(in_catalogue));
    let mut deletions = 1..40;
    let refused = deletions.find_map(|before| {
        let error = delete(&machine, &store, before).err()?;
        Some((before, error))
    });
    let (before, error) = refused.expect("the catalogue takes room in steps");
    assert!(matches!(error, DeleteRecordsError::Store(_)), "{error}");
    assert_eq!(log_start(&store), before - 1);
    // What was asked for happens all the same.
    store.tick(NOW);
    machine.settle();
    assert_eq!(log_start(&store), before);
}

#[test]
fn a_file_that_cannot_be_removed_is_tried_again() {
    let (machine, store) = filled(45);
    let fault = Fault::io_error().on(OperationKind::RemoveFile);
    machine.disk.inject(fault.forever());
    delete(&machine, &store, 27).expect("it is readable");
    assert_eq!(
        (log_start(&store), segments(&machine)),
        (27, vec![0, 10, 21, 32])
    );
    machine.disk.clear_faults();
    store.tick(NOW);
    machine.settle();
    assert_eq!(segments(&machine), [21, 32]);
    append(&store, partition(1, 0), &batch("it serves", 1, 10));
}

/// The catalogue would name a partition after its deletion, and never be read again (found by `io_errors`, seed
/// 0: a deletion of records and one of their topic at the same moment).
#[test]
fn records_and_their_topic_may_be_deleted_at_the_same_moment() {
    let (first, _store) = filled(20);
    let start = first.disk.crash(1);
    for seed in 0..40 {
        let machine = Machine::from_image(seed, &start);
        let (store, _) = machine.open(STORE, small_config()).expect("it recovers");
        let deleting = Rc::clone(&store);
        machine.executor.spawn(async move {
            for _ in 0..seed / 2 {
                yield_now().await;
            }
            let of = partition(1, 0);
            deleting
                .delete_topic(of.topic)
                .await
                .expect("the disk works");
        });
        let deleted = store.delete_records(partition(1, 0), Offset::new(15));
        match machine.executor.block_on(deleted) {
            Ok(_) | Err(DeleteRecordsError::UnknownPartition(_)) => {}
            Err(error) => panic!("seed {seed}: {error}"),
        }
        machine.settle();
        assert_eq!(segments(&machine), Vec::<u64>::new(), "seed {seed}");
        let machine = Machine::from_image(seed, &machine.disk.crash(seed));
        let (store, _) = machine.open(STORE, small_config()).expect("it recovers");
        assert_eq!(store.partitions(), [], "seed {seed}");
    }
}
