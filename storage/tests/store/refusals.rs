//! What cannot be done is refused, with the reason, and nothing is changed by it.

use std::rc::Rc;

use corelane_protocol::batch::BatchError;
use corelane_protocol::{Offset, StoreId};
use corelane_storage::disk::memory::{Fault, OperationKind};
use corelane_storage::memory::Ledger;
use corelane_storage::store::{
    AppendError, LogConfig, LogState, Progress, Read, ReadError, StoreConfig, StoreError,
};

use crate::support::{
    Machine, NOW, STORE, Store, append, batch, durable_end, ledger, partition, payloads, progress,
    small_config, small_log, topic,
};

fn try_append(
    store: &Store,
    to: corelane_protocol::TopicPartition,
    bytes: &[u8],
) -> Result<u64, AppendError> {
    store
        .append(to, bytes, NOW)
        .map(|appended| appended.base_offset.get())
}

#[test]
fn bad_batches_leave_no_trace() {
    let machine = Machine::new(1);
    let of = partition(1, 0);
    let log = LogConfig {
        batch_bytes_max: 2000,
        ..small_log()
    };
    let store = machine.store_with(small_config(), &[(of, log)]);
    let good = batch("good", 2, 30);
    let mut flipped = good.clone();
    *flipped.last_mut().expect("it has bytes") ^= 1;
    assert!(matches!(
        try_append(&store, of, &flipped),
        Err(AppendError::Batch(BatchError::Crc { .. }))
    ));
    assert!(matches!(
        try_append(&store, of, &good[..good.len() - 8]),
        Err(AppendError::Batch(BatchError::Truncated { .. }))
    ));
    assert!(matches!(
        try_append(&store, of, &batch("large", 1, 3000)),
        Err(AppendError::Batch(BatchError::TooLarge { .. }))
    ));
    assert_eq!(
        try_append(&store, partition(1, 1), &good),
        Err(AppendError::UnknownPartition(partition(1, 1)))
    );
    assert_eq!(try_append(&store, of, &good), Ok(0));
    assert_eq!(try_append(&store, of, &good), Ok(2));
    machine.settle();
    let read = machine
        .read_all(&store, of, Offset::new(0))
        .expect("it is there");
    assert_eq!(
        payloads(&read),
        [(0, good[48..].to_vec()), (2, good[48..].to_vec())]
    );
    let beyond = store.read(of, Offset::new(5), 1000, true);
    assert!(
        matches!(beyond, Err(ReadError::OutOfRange { .. })),
        "{beyond:?}"
    );
}

#[test]
fn a_handle_of_a_deleted_partition_is_refused() {
    let machine = Machine::new(2);
    let of = partition(1, 0);
    let store = machine.store_with(small_config(), &[(of, small_log())]);
    let handle = store.partition_handle(of).expect("it exists");
    let bytes = batch("a", 1, 10);
    append(&store, of, &bytes);
    machine.settle();
    assert_eq!(
        store.offsets_by_handle(handle),
        Some(store.offsets(of).expect("it exists"))
    );
    let read = store.read_by_handle(handle, Offset::new(0), 100, true);
    assert!(matches!(read, Ok(Read::Ready(found)) if found.next_offset == Offset::new(1)));
    machine
        .executor
        .block_on(store.delete_topic(topic(1)))
        .expect("the disk works");
    machine
        .executor
        .block_on(store.delete_topic(topic(1)))
        .expect("it is gone already");
    machine
        .executor
        .block_on(store.create_partitions(&[(partition(2, 0), small_log())]))
        .expect("the disk works");
    let late = store.append_by_handle(handle, &bytes, NOW);
    assert_eq!(late, Err(AppendError::PartitionGone));
    let late = store.read_by_handle(handle, Offset::new(0), 100, true);
    assert!(matches!(late, Err(ReadError::PartitionGone)), "{late:?}");
    assert_eq!(store.offsets_by_handle(handle), None);
    assert!(matches!(
        store.read(of, Offset::new(0), 100, true),
        Err(ReadError::UnknownPartition(_))
    ));
    assert_eq!(
        store.offsets(partition(2, 0)).expect("it is new").log_end,
        Offset::new(0)
    );
}

#[test]
fn a_full_disk_refuses_appends_and_recovers_by_itself() {
    let machine = Machine::new(3);
    let of = partition(1, 0);
    let store = machine.store_with(small_config(), &[(of, small_log())]);
    machine.settle();
    machine.disk.set_capacity(Some(machine.disk.allocated()));
    let mut sent = Vec::new();
    let mut refusal = None;
    for number in 0..2000 {
        let bytes = batch(&format!("{number}"), 1, 900);
        match try_append(&store, of, &bytes) {
            Ok(base) => sent.push((base, bytes[48..].to_vec())),
            Err(error) => refusal = Some(error),
        }
        machine.settle();
        if refusal == Some(AppendError::DiskFull) {
            break;
        }
    }
    assert_eq!(refusal, Some(AppendError::DiskFull));
    let read = machine
        .read_all(&store, of, Offset::new(0))
        .expect("reading goes on");
    assert!(
        payloads(&read) == sent,
        "what was accepted is durable and readable"
    );
    machine.disk.set_capacity(None);
    store.tick(NOW);
    machine.settle();
    let bytes = batch("after", 1, 900);
    sent.push((
        try_append(&store, of, &bytes).expect("there is room again"),
        bytes[48..].to_vec(),
    ));
    machine.settle();
    let read = machine
        .read_all(&store, of, Offset::new(0))
        .expect("it is there");
    assert!(payloads(&read) == sent);
}

/// Each opening and each closing records something. They have their room wherever in its last step of room the
/// catalogue ends, and reading and deleting go on.
#[test]
fn a_store_opens_closes_and_deletes_on_a_full_disk() {
    for made in 1..40 {
        let machine = Machine::new(made);
        let (of, other) = (partition(1, 0), partition(2, 0));
        let store = machine.store_with(small_config(), &[(of, small_log()), (other, small_log())]);
        for index in 1..made {
            let more = [(partition(1, index as u32), small_log())];
            let created = machine.executor.block_on(store.create_partitions(&more));
            created.expect("the disk works");
        }
        append(&store, of, &batch("a", 1, 100));
        machine.settle();
        let mut image = machine.disk.crash(made);
        for life in 0..3 {
            let machine = Machine::from_image(made, &image);
            machine.disk.set_capacity(Some(machine.disk.allocated()));
            let (store, report) = machine.open(STORE, small_config()).expect("it has room");
            assert_eq!(report.fenced, None);
            let read = machine.read_all(&store, of, Offset::new(0));
            assert_eq!(payloads(&read.expect("it is there")).len(), 1);
            if life == 2 {
                let deleted = machine.executor.block_on(store.delete_topic(topic(2)));
                deleted.expect("that makes room");
            }
            let closed = machine.executor.block_on(store.close());
            closed.expect("it has room");
            image = machine.disk.crash(life);
        }
    }
}

#[test]
fn a_disk_that_stays_full_through_many_restarts_lets_data_be_read() {
    let machine = Machine::new(12);
    let of = partition(1, 0);
    let store = machine.store_with(small_config(), &[(of, small_log())]);
    append(&store, of, &batch("a", 1, 100));
    machine.settle();
    let mut image = machine.disk.crash(1);
    let mut fenced = None;
    for restart in 0..60 {
        let machine = Machine::from_image(restart, &image);
        machine.disk.set_capacity(Some(machine.disk.allocated()));
        let (store, report) = machine.open(STORE, small_config()).expect("it opens");
        let read = machine.read_all(&store, of, Offset::new(0));
        assert_eq!(payloads(&read.expect("it is there")).len(), 1);
        image = machine.disk.crash(restart);
        if report.fenced.is_some() {
            fenced = report.fenced;
            break;
        }
    }
    let reason = fenced.expect("the reserve is used up");
    assert!(reason.contains("free space"), "{reason}");
    let machine = Machine::from_image(13, &image);
    let (store, report) = machine.open(STORE, small_config()).expect("there is room");
    assert_eq!(report.fenced, None);
    append(&store, of, &batch("b", 1, 100));
}

#[test]
fn a_full_memory_refuses_and_empties_as_segments_are_written() {
    let machine = Machine::new(4);
    let partitions: Vec<_> = (0..8)
        .map(|index| (partition(1, index), small_log()))
        .collect();
    machine.create(STORE, &small_config());
    let config = StoreConfig {
        spill_bytes: 1 << 20,
        journal_files_max: 16,
        ..small_config()
    };
    let memory = Rc::new(Ledger::new(256 << 10, 200 << 10));
    let (store, _) = machine.open_with(STORE, config, memory).expect("it is new");
    machine
        .executor
        .block_on(store.create_partitions(&partitions))
        .expect("the disk works");
    let (mut refused, mut accepted) = (0, 0);
    for number in 0..600 {
        let to = partitions[number % partitions.len()].0;
        match try_append(&store, to, &batch("x", 1, 3000)) {
            Ok(_) => accepted += 1,
            Err(AppendError::MemoryFull(_) | AppendError::JournalFull) => {
                refused += 1;
                machine.settle();
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(
        accepted > 500 && refused > 0,
        "{accepted} accepted, {refused} refused"
    );
    machine.settle();
    for (of, _) in &partitions {
        let offsets = store.offsets(*of).expect("it exists");
        assert_eq!(offsets.durable_end, offsets.log_end);
    }
}

#[test]
fn a_failed_write_of_the_journal_fences_the_store_and_a_restart_recovers() {
    let machine = Machine::new(5);
    let of = partition(1, 0);
    let store = machine.store_with(small_config(), &[(of, small_log())]);
    let first = batch("first", 1, 10);
    append(&store, of, &first);
    machine.settle();
    let before = machine
        .read_all(&store, of, Offset::new(0))
        .expect("it is there");
    drop(progress(&store));
    let fault = Fault::io_error()
        .on(OperationKind::Write)
        .in_path(|path| path.contains("journal"));
    machine.disk.inject(fault);
    append(&store, of, &batch("second", 1, 10));
    machine.settle();
    let said = progress(&store);
    assert!(
        matches!(&said[..], [Progress::Failed { partition: None, reason }] if reason.contains("journal-0000")),
        "{said:?}"
    );
    assert!(matches!(
        try_append(&store, of, &first),
        Err(AppendError::StorageFailed(_))
    ));
    assert!(matches!(
        store.describe(of).expect("it exists").state,
        LogState::Failed(_)
    ));
    let read = machine
        .read_all(&store, of, Offset::new(0))
        .expect("what is durable can be read");
    assert_eq!(read, before);
    let closed = machine.executor.block_on(store.close());
    assert!(matches!(closed, Err(StoreError::Fenced(_))), "{closed:?}");
    let machine = Machine::from_image(6, &machine.disk.crash(7));
    let (store, report) = machine
        .open(STORE, small_config())
        .expect("a restart recovers");
    assert_eq!(
        (report.fenced, report.failed.len(), report.was_clean),
        (None, 0, false)
    );
    append(&store, of, &first);
    machine.settle();
    assert!(store.offsets(of).expect("it exists").durable_end >= Offset::new(2));
}

#[test]
fn a_failed_write_of_a_segment_fences_its_partition_only() {
    let machine = Machine::new(8);
    let (bad, good) = (partition(1, 0), partition(1, 1));
    let store = machine.store_with(small_config(), &[(bad, small_log()), (good, small_log())]);
    let fault = Fault::io_error()
        .on(OperationKind::Flush)
        .in_path(|path| path.contains("/0/"));
    machine.disk.inject(fault);
    for number in 0..30 {
        for of in [bad, good] {
            let _ = try_append(&store, of, &batch(&format!("{number}"), 1, 900));
        }
        machine.settle();
    }
    assert!(matches!(
        try_append(&store, bad, &batch("x", 1, 1)),
        Err(AppendError::PartitionFailed(_))
    ));
    assert!(try_append(&store, good, &batch("x", 1, 1)).is_ok());
    let read = machine
        .read_all(&store, bad, Offset::new(0))
        .expect("what is durable can be read");
    assert!(!payloads(&read).is_empty());
    let machine = Machine::from_image(9, &machine.disk.crash(3));
    let (store, report) = machine
        .open(STORE, small_config())
        .expect("a restart recovers");
    assert_eq!(report.failed, []);
    assert_eq!(
        machine
            .read_all(&store, bad, Offset::new(0))
            .expect("it is there"),
        read
    );
    append(&store, bad, &batch("again", 1, 10));
}

#[test]
fn a_store_out_of_service_says_why() {
    let machine = Machine::new(10);
    let of = partition(1, 0);
    let store = Store::out_of_service(
        machine.disk.clone(),
        STORE.to_owned(),
        StoreId::new(0),
        small_config(),
        ledger(),
        &[(of, small_log())],
        "store-0000/catalogue is damaged at byte 4096",
    );
    machine.run(&store);
    machine.settle();
    let is_told = |text: &str| text.contains("catalogue is damaged");
    assert!(is_told(
        &try_append(&store, of, &batch("x", 1, 1))
            .expect_err("it is not there")
            .to_string()
    ));
    assert!(is_told(
        &store
            .read(of, Offset::new(0), 1, true)
            .expect_err("nor here")
            .to_string()
    ));
    let state = store.describe(of).expect("it is known").state;
    assert!(matches!(state, LogState::Failed(reason) if is_told(&reason)));
    let created = machine
        .executor
        .block_on(store.create_partitions(&[(partition(2, 0), small_log())]));
    assert!(matches!(created, Err(StoreError::Fenced(_))));
    assert!(machine.executor.block_on(store.close()).is_err());
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let machine = Machine::new(11);
    let wrong = [
        StoreConfig {
            journal_file_bytes: 40 << 10,
            ..small_config()
        },
        StoreConfig {
            journal_file_bytes: 100_001,
            ..small_config()
        },
        StoreConfig {
            journal_files_max: 1,
            ..small_config()
        },
        StoreConfig {
            groups_in_flight: 0,
            ..small_config()
        },
        StoreConfig {
            read_window_bytes: 100,
            ..small_config()
        },
    ];
    for config in wrong {
        let uuid = uuid::Uuid::from_u128(1);
        let created = Store::create(&machine.disk, STORE, StoreId::new(0), uuid, &config);
        let refused = machine.executor.block_on(created);
        assert!(matches!(refused, Err(StoreError::Config(_))), "{config:?}");
    }
    StoreConfig::default()
        .check()
        .expect("the defaults can work");
}

/// Found by the simulator: a refused batch may have begun a chunk, which stays empty, while those that wait for their
/// group lie in the one before.
#[test]
fn a_refused_batch_that_began_a_chunk_leaves_those_before_it_to_be_committed() {
    let machine = Machine::new(77);
    let of = partition(1, 0);
    let store = machine.store_with(small_config(), &[(of, small_log())]);
    for number in 0..60 {
        append(&store, of, &batch(&number.to_string(), 1, 1000));
        let mut spoilt = batch("spoilt", 1, 15_000);
        *spoilt.last_mut().expect("it has bytes") ^= 1;
        let refused = store.append(of, &spoilt, NOW);
        assert!(matches!(refused, Err(AppendError::Batch(_))), "{refused:?}");
        machine.settle();
        assert_eq!(durable_end(&store, of), Offset::new(number + 1));
    }
}
