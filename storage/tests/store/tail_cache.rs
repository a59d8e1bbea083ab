//! What is kept in memory of what is in segments already, and which segment files stay open.

use std::rc::Rc;

use corelane_protocol::{Offset, Timestamp};
use corelane_storage::memory::{Ledger, MemoryKind};
use corelane_storage::store::StoreConfig;

use crate::support::{Machine, NOW, STORE, append, batch, partition, small_config, small_log};

const KIB: usize = 1024;

/// Memory for tails after 2 MiB of batches in four partitions were written to their segments.
fn kept_with(tail_cache_bytes: usize) -> usize {
    let machine = Machine::new(3);
    let config = StoreConfig {
        tail_cache_bytes,
        ..small_config()
    };
    machine.create(STORE, &config);
    let ledger = Rc::new(Ledger::new(64 << 20, 48 << 20));
    let opened = machine.open_with(STORE, config, Rc::clone(&ledger));
    let (store, _) = opened.expect("it is new");
    let partitions = [0, 1, 2, 3].map(|index| (partition(1, index), small_log()));
    let created = store.create_partitions(&partitions);
    machine.executor.block_on(created).expect("the disk works");
    let bytes = batch("kept", 8, 1000);
    for _ in 0..64 {
        for (of, _) in &partitions {
            append(&store, *of, &bytes);
            machine.settle();
        }
    }
    let kept = ledger.in_use_of(MemoryKind::Tail);
    for (of, _) in &partitions {
        let read = machine.read_all(&store, *of, Offset::ZERO);
        assert_eq!(read.expect("it is there").len(), 64 * bytes.len());
    }
    kept
}

#[test]
fn no_more_of_what_is_in_segments_is_kept_than_was_asked_for() {
    // The journal holds 384 KiB at most, and tails half as much again for that.
    let unwritten = 384 * KIB / 2 * 3;
    let little = kept_with(64 * KIB);
    assert!(little <= unwritten + 128 * KIB, "{little}");
    let all = kept_with(64 << 20);
    assert!(all >= 2 << 20, "{all}");
}

#[test]
fn a_partition_that_nobody_uses_has_no_open_file() {
    let machine = Machine::new(4);
    let partitions = [0, 1].map(|index| (partition(1, index), small_log()));
    let store = machine.store_with(small_config(), &partitions);
    let bytes = batch("idle", 8, 1000);
    for _ in 0..8 {
        append(&store, partitions[0].0, &bytes);
        append(&store, partitions[1].0, &bytes);
        machine.settle();
    }
    let after = |minutes: i64| {
        store.tick(Timestamp::new(NOW.get() + minutes * 60_000));
        machine.settle();
        store.metrics().segment_handles
    };
    assert_eq!(after(0), 2);
    for _ in 0..4 {
        append(&store, partitions[0].0, &bytes);
        machine.settle();
    }
    assert_eq!(after(1), 1, "one was used in this minute");
    assert_eq!(after(2), 0);
    for (of, batches) in [(partitions[0].0, 12), (partitions[1].0, 8)] {
        let read = machine.read_all(&store, of, Offset::ZERO);
        assert_eq!(read.expect("it is there").len(), batches * bytes.len());
    }
}
