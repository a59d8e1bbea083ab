//! What an earlier life has left behind is not trusted to be there for good.

use corelane_storage::disk::memory::{Fault, OperationKind};
use corelane_storage::store::LogConfig;

use crate::support::{Machine, NOW, STORE, append, batch, partition, small_config, small_log};

/// Found by the simulator: the sync of a partition's directory failed, the process was killed, and the next one used
/// the segment's file that it found. Its name was never durable, whatever later syncs said, so that a power loss took
/// a segment that the catalogue named.
#[test]
fn a_segment_whose_directory_could_not_be_flushed_is_made_anew() {
    for seed in 0..30 {
        let machine = Machine::new(seed);
        let of = partition(1, 0);
        let store = machine.store_with(small_config(), &[(of, small_log())]);
        let fault = Fault::io_error().on(OperationKind::SyncDir);
        machine
            .disk
            .inject(fault.in_path(|path| path.ends_with("/0")));
        for number in 0..8 {
            // The partition is fenced once its segment could not be made.
            let batch = batch(&number.to_string(), 4, 1000);
            let _ = store.append(of, &batch, NOW);
            machine.settle();
        }
        drop(store);
        machine.executor.crash();
        machine.disk.kill(seed);

        let (store, report) = machine.open(STORE, small_config()).expect("a sound store");
        assert!(report.failed.is_empty(), "seed {seed}: {report}");
        for number in 8..16 {
            append(&store, of, &batch(&number.to_string(), 4, 1000));
            machine.settle();
        }
        let durable = store.offsets(of).expect("the partition exists").durable_end;

        let machine = Machine::from_image(seed, &machine.disk.crash(seed));
        let (store, report) = machine.open(STORE, small_config()).expect("a sound store");
        assert!(report.failed.is_empty(), "seed {seed}: {report}");
        let kept = store.offsets(of).expect("the partition exists").durable_end;
        assert!(kept >= durable, "seed {seed}: {kept} of {durable}");
    }
}

/// Found by the simulator: the flush of a segment failed, the process was killed, and the next one wrote the same
/// blocks into a file that was long enough already. No later flush kept a length that had not changed, so that a power
/// loss cut off what the catalogue said was flushed.
#[test]
fn a_segment_whose_flush_failed_gets_its_length_anew() {
    // After some number of batches, the next spill makes the file longer.
    for before in 4..24 {
        let seed = before;
        let machine = Machine::new(seed);
        let of = partition(1, 0);
        let log = LogConfig {
            segment_bytes: 1 << 20,
            ..small_log()
        };
        let store = machine.store_with(small_config(), &[(of, log)]);
        for number in 0..before {
            append(&store, of, &batch(&number.to_string(), 4, 1000));
            machine.settle();
        }
        let fault = Fault::io_error().on(OperationKind::Flush);
        machine
            .disk
            .inject(fault.in_path(|path| path.ends_with(".log")));
        for number in before..before + 8 {
            // The partition is fenced once its segment could not be flushed.
            let batch = batch(&number.to_string(), 4, 1000);
            let _ = store.append(of, &batch, NOW);
            machine.settle();
        }
        drop(store);
        machine.executor.crash();
        machine.disk.kill(seed);

        let (store, report) = machine.open(STORE, small_config()).expect("a sound store");
        assert!(report.failed.is_empty(), "seed {seed}: {report}");
        for number in before + 8..before + 10 {
            append(&store, of, &batch(&number.to_string(), 4, 1000));
            machine.settle();
        }
        let durable = store.offsets(of).expect("the partition exists").durable_end;

        let machine = Machine::from_image(seed, &machine.disk.crash(seed));
        let (store, report) = machine.open(STORE, small_config()).expect("a sound store");
        assert!(report.failed.is_empty(), "seed {seed}: {report}");
        let kept = store.offsets(of).expect("the partition exists").durable_end;
        assert!(kept >= durable, "seed {seed}: {kept} of {durable}");
        let read = machine.read_all(&store, of, corelane_protocol::Offset::ZERO);
        read.expect("what was acknowledged is there");
    }
}
