//! Scrubbing finds damage that nobody reads, tells it once, and spoils nothing.

use std::rc::Rc;

use corelane_protocol::{Offset, Timestamp};
use corelane_storage::store::{LogState, Progress, ReadError, StoreConfig};

use crate::support::{
    Machine, NOW, STORE, Store, append, batch, partition, progress, read_once, small_config,
    small_log,
};

const SEGMENT: &str = "store-0000/70000000-0000-4000-8000-000000000001/0/00000000000000000000.log";

fn config() -> StoreConfig {
    StoreConfig {
        scrub_bytes_per_second: 1 << 20,
        ..small_config()
    }
}

/// A closed store of one partition with some sealed segments.
fn closed() -> Machine {
    let machine = Machine::new(1);
    let store = machine.store_with(config(), &[(partition(1, 0), small_log())]);
    for number in 0..60 {
        append(
            &store,
            partition(1, 0),
            &batch(&format!("{number}"), 1, 3000),
        );
        machine.settle();
    }
    machine
        .executor
        .block_on(store.close())
        .expect("the disk works");
    machine
}

fn opened(machine: &Machine) -> (Machine, Rc<Store>) {
    let machine = Machine::from_image(2, &machine.disk.image());
    let (store, report) = machine.open(STORE, config()).expect("it was closed");
    assert!(report.failed.is_empty(), "{report:?}");
    (machine, store)
}

fn scrub(machine: &Machine, store: &Store, seconds: i64) {
    for second in 0..=seconds {
        store.tick(Timestamp::new(NOW.get() + second * 1000));
        machine.settle();
    }
}

fn damage_told(store: &Store) -> Vec<String> {
    let told = progress(store).into_iter();
    let damage = told.filter_map(|event| match event {
        Progress::Damaged { reason, .. } => Some(reason.to_string()),
        _ => None,
    });
    damage.collect()
}

#[test]
fn damage_is_told_once_and_read_as_an_error_while_the_rest_serves() {
    let machine = closed();
    // Within the values of a batch in the middle of the first segment.
    let at = 4096 + 5 * 3200;
    machine.disk.flip_bit(SEGMENT, at, 4);
    let (machine, store) = opened(&machine);
    assert_eq!(
        store
            .describe(partition(1, 0))
            .expect("it is there")
            .damage
            .len(),
        0
    );
    scrub(&machine, &store, 5);
    let told = damage_told(&store);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains(SEGMENT) && told[0].contains("byte"),
        "{told:?}"
    );
    let description = store.describe(partition(1, 0)).expect("it is there");
    assert_eq!(
        (description.damage.len(), description.state),
        (1, LogState::Online)
    );
    let (mut refused, mut served) = (0, 0);
    for offset in 0..60 {
        let read = read_once(&store, partition(1, 0), Offset::new(offset), 1);
        match machine.executor.block_on(read) {
            Ok(_) => served += 1,
            Err(ReadError::Corrupt(damage)) => {
                assert_eq!(damage.to_string(), told[0], "offset {offset}");
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((refused, served), (1, 59));
    append(&store, partition(1, 0), &batch("it serves", 1, 10));
}

#[test]
fn every_bit_of_a_sealed_segment_is_looked_at() {
    let machine = closed();
    for at in (4096..24_000).step_by(911) {
        let (machine, store) = opened(&machine);
        let bytes = machine.disk.image().read(SEGMENT).expect("it is there");
        machine.disk.flip_bit(SEGMENT, at, (at % 8) as u8);
        scrub(&machine, &store, 4);
        assert_eq!(
            damage_told(&store).len(),
            1,
            "byte {at}: {}",
            bytes[at as usize]
        );
    }
}

#[test]
fn a_sound_store_is_scrubbed_at_its_rate_and_for_ever() {
    let machine = closed();
    let (machine, store) = opened(&machine);
    machine.disk.start_trace();
    scrub(&machine, &store, 10);
    let operations = machine.disk.take_trace();
    let read: u64 = operations.iter().map(|operation| operation.len).sum();
    assert!(
        (2 << 20..13 << 20).contains(&read),
        "{read} bytes in 10 seconds"
    );
    assert_eq!(damage_told(&store), Vec::<String>::new());
    machine
        .executor
        .block_on(store.close())
        .expect("the disk works");
}

#[test]
fn an_index_that_does_not_fit_is_made_anew() {
    let machine = closed();
    let (machine, store) = opened(&machine);
    let index = SEGMENT.replace(".log", ".index");
    let mut image = machine.disk.image();
    let mut bytes = image.read(&index).expect("it was sealed");
    // The first entry's offset, with the block's checksum made to fit.
    bytes[40] ^= 2;
    let checksum = crc32c::crc32c(&bytes[..4092]);
    bytes[4092..4096].copy_from_slice(&checksum.to_le_bytes());
    image.write(&index, &bytes);
    drop(store);
    let machine = Machine::from_image(3, &image);
    let (store, _) = machine.open(STORE, config()).expect("it was closed");
    scrub(&machine, &store, 3);
    assert_eq!(damage_told(&store), Vec::<String>::new());
    let files = machine.disk.files();
    assert!(!files.iter().any(|(path, _)| *path == index), "{files:?}");
    let read = machine.read_all(&store, partition(1, 0), Offset::ZERO);
    assert!(!read.expect("it is there").is_empty());
}
