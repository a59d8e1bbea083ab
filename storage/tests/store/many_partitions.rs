//! Ten thousand partitions with little in each cost little.

use std::rc::Rc;

use corelane_protocol::Offset;
use corelane_storage::disk::memory::OperationKind;
use corelane_storage::memory::Ledger;
use corelane_storage::store::StoreConfig;

use crate::support::{Machine, STORE, append, batch, partition, payloads, small_log};

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
