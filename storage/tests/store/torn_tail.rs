//! The end of the journal after a crash: what was never acknowledged is discarded for good.

use corelane_protocol::{Offset, Timestamp};
use corelane_storage::disk::memory::DiskImage;
use corelane_storage::store::StoreConfig;

use crate::support::{
    Machine, NOW, STORE, append, batch, partition, payloads, small_config, small_log,
};

const JOURNAL: &str = "store-0000/journal-0000";

/// A store that leaves everything in the journal.
fn config() -> StoreConfig {
    StoreConfig {
        spill_bytes: 1 << 20,
        ..small_config()
    }
}

/// Turns over a bit in the last block with anything in it, as a torn write would have left it.
fn tear_last_group(image: &mut DiskImage) {
    let bytes = image.read(JOURNAL).expect("the journal's first file");
    let last = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("something was written");
    image.flip_bit(JOURNAL, last as u64, 0);
}

/// A torn group's header can be sound. If the next group is too large for its place and goes to another
/// file, the old one must not be taken for it by a later recovery (found by `lives`, seed 1847).
#[test]
fn a_discarded_group_never_comes_back() {
    let machine = Machine::new(1);
    let of = partition(1, 0);
    let store = machine.store_with(config(), &[(of, small_log())]);
    let mut sent = Vec::new();
    let large = batch("large", 1, 19_000);
    // Four large groups and a small one leave 8 KiB of the file.
    for bytes in [&large, &large, &large, &large, &batch("small", 1, 10)] {
        sent.push((
            append(&store, of, bytes).base_offset.get(),
            bytes[48..].to_vec(),
        ));
        machine.settle();
    }
    append(&store, of, &batch("torn", 1, 3000));
    machine.settle();
    let mut image = machine.disk.image();
    tear_last_group(&mut image);

    let machine = Machine::from_image(2, &image);
    let (store, report) = machine
        .open(STORE, config())
        .expect("the end is torn, no more");
    assert_eq!(
        (report.discarded_from, report.groups_replayed),
        (Some(6), 5)
    );
    sent.push((
        append(&store, of, &large).base_offset.get(),
        large[48..].to_vec(),
    ));
    machine.settle();

    // Only an opening whose own epoch begins later could mistake the old group for one of its time.
    let mut image = machine.disk.crash(3);
    for seed in 4..8 {
        let machine = Machine::from_image(seed, &image);
        let (store, report) = machine.open(STORE, config()).expect("nothing is damaged");
        assert_eq!((report.failed, report.fenced), (Vec::new(), None));
        let read = machine
            .read_all(&store, of, Offset::new(0))
            .expect("it is there");
        assert!(payloads(&read) == sent);
        image = machine.disk.crash(seed);
    }
}

/// The window in which damage cannot be told from a torn write closes when the store falls idle.
#[test]
fn damage_to_the_last_group_is_told_once_it_is_sealed() {
    for is_sealed in [false, true] {
        let machine = Machine::new(1);
        let of = partition(1, 0);
        let store = machine.store_with(config(), &[(of, small_log())]);
        append(&store, of, &batch("kept", 1, 10));
        machine.settle();
        append(&store, of, &batch("flipped", 1, 3000));
        machine.settle();
        let mut image = machine.disk.image();
        if is_sealed {
            store.tick(Timestamp::new(NOW.get() + 1000));
            machine.settle();
            image = machine.disk.image();
        }
        // The second group is at 8192, its batch behind 208 bytes of header and directory.
        image.flip_bit(JOURNAL, 8192 + 1000, 3);
        let machine = Machine::from_image(2, &image);
        let (store, report) = machine
            .open(STORE, config())
            .expect("the catalogue is sound");
        if is_sealed {
            let told = &report.failed[0].1;
            assert!(
                told.contains("journal-0000 is damaged at byte 8192"),
                "{told}"
            );
            assert!(store.read(of, Offset::new(0), 100, true).is_err());
            assert_eq!((report.failed.len(), report.fenced), (1, None));
        } else {
            assert_eq!((report.discarded_from, report.failed.len()), (Some(2), 0));
            let read = machine
                .read_all(&store, of, Offset::new(0))
                .expect("the first is there");
            assert_eq!(payloads(&read).len(), 1);
        }
    }
}

/// An old copy of the catalogue is sound in itself, and what came after it looks like nothing that it expects.
/// Recovery would discard it as never acknowledged.
#[test]
fn a_catalogue_that_is_older_than_the_journal_stops_the_store() {
    let machine = Machine::new(1);
    let of = partition(1, 0);
    let store = machine.store_with(config(), &[(of, small_log())]);
    append(&store, of, &batch("kept", 1, 10));
    let closed = machine.executor.block_on(store.close());
    closed.expect("the disk works");
    let old = machine.disk.image();

    let machine = Machine::from_image(2, &old);
    let (store, _) = machine.open(STORE, config()).expect("it was closed");
    append(&store, of, &batch("newer", 1, 10));
    machine.settle();
    let mut image = machine.disk.image();
    let catalogue = format!("{STORE}/catalogue");
    image.write(&catalogue, &old.read(&catalogue).expect("it is there"));

    let machine = Machine::from_image(3, &image);
    let (store, report) = machine.open(STORE, config()).expect("it says why");
    let told = report.fenced.expect("an acknowledged record is missing");
    assert!(told.contains("store-0000/catalogue is older"), "{told}");
    assert!(store.read(of, Offset::new(0), 100, true).is_err());
}
