//! Ten thousand partitions with little in each cost little.

use std::rc::Rc;

use corelane_protocol::Offset;
use corelane_storage::disk::memory::OperationKind;
use corelane_storage::memory::Ledger;
use corelane_storage::store::{LogConfig, StoreConfig};

use crate::support::{Machine, STORE, append, batch, partition, payloads, small_config, small_log};

const PARTITIONS: u32 = 10_000;

/// One small batch for each commits in a few groups, takes no segment file and no handle, and is replayed
/// from a few blocks.
#[test]
fn a_small_batch_for_each_is_a_few_writes() {
    let machine = Machine::new(1);
    let config = StoreConfig {
        journal_file_bytes: 16 << 20,
        ..StoreConfig::default()
    };
    let partitions: Vec<_> = (0..PARTITIONS)
        .map(|index| (partition(1, index), small_log()))
        .collect();
    machine.create(STORE, &config);
    let memory = || Rc::new(Ledger::new(64 << 20, 48 << 20));
    let (store, _) = machine
        .open_with(STORE, config.clone(), memory())
        .expect("it is new");
    machine
        .executor
        .block_on(store.create_partitions(&partitions))
        .expect("the disk works");
    machine.settle();
    let bytes = batch("small", 1, 20);
    machine.disk.start_trace();
    for (of, _) in &partitions {
        append(&store, *of, &bytes);
    }
    machine.settle();
    let trace = machine.disk.take_trace();
    let writes = trace
        .iter()
        .filter(|operation| operation.kind == OperationKind::Write);
    let writes = writes
        .filter(|operation| operation.path.contains("journal"))
        .count();
    assert!(writes <= 6, "{writes} writes");
    assert!(
        trace
            .iter()
            .all(|operation| !operation.path.contains(".log")),
        "no segment is touched"
    );
    machine
        .executor
        .block_on(store.close())
        .expect("the disk works");
    let image = machine.disk.crash(2);
    assert!(
        image.files().iter().all(|(path, _)| !path.contains(".log")),
        "little is left to the journal"
    );

    let machine = Machine::from_image(2, &image);
    let (store, report) = machine
        .open_with(STORE, config, memory())
        .expect("it was closed");
    assert!(
        report.was_clean && report.groups_replayed <= 6,
        "{report:?}"
    );
    for (of, _) in partitions.iter().step_by(997) {
        let read = machine
            .read_all(&store, *of, Offset::new(0))
            .expect("it is there");
        assert_eq!(payloads(&read), [(0, bytes[48..].to_vec())]);
    }
}

/// Partitions that fill the journal together are written to their segments a few at a time, not all at once when
/// its oldest file is to be emptied.
#[test]
fn what_fills_the_journal_evenly_is_written_little_by_little() {
    const MANY: u32 = 96;
    let machine = Machine::new(5);
    let config = StoreConfig {
        journal_files_max: 24,
        spill_bytes: 1 << 20,
        ..small_config()
    };
    let (file_bytes, files_max) = (config.journal_file_bytes, config.journal_files_max);
    let log = LogConfig {
        segment_bytes: 1 << 20,
        ..small_log()
    };
    let partitions: Vec<_> = (0..MANY)
        .map(|index| (partition(1, index), log.clone()))
        .collect();
    let store = machine.store_with(config, &partitions);
    let bytes = batch("evenly", 1, 200);
    let (mut spilled, mut spills, mut journaled) = (Vec::new(), 0, 0);
    while spilled.len() < 60 {
        for (of, _) in &partitions {
            append(&store, *of, &bytes);
        }
        machine.settle();
        let metrics = store.metrics();
        if metrics.group_bytes.sum() >= journaled + file_bytes {
            journaled = metrics.group_bytes.sum();
            spilled.push(metrics.spills - spills);
            spills = metrics.spills;
        }
        assert!(
            metrics.journal_files_in_use < files_max as usize - 4,
            "{metrics:?}"
        );
    }
    // Sixteen files should be used at most, so some are before the first partitions are written.
    assert!(spilled[..4].iter().all(|count| *count == 0), "{spilled:?}");
    let most = spilled.iter().max().expect("there are some");
    assert!(*most <= u64::from(MANY) / 2, "{spilled:?}");
    for (of, _) in &partitions {
        machine
            .read_all(&store, *of, Offset::new(0))
            .expect("it is there");
    }
}
