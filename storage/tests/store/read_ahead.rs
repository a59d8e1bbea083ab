//! Records on disk are in memory before somebody who reads on comes to them.

use std::rc::Rc;

use corelane_protocol::{Offset, TopicPartition};
use corelane_storage::store::{LogConfig, Read, StoreConfig};

use crate::support::{Machine, NOW, Store, batch, partition, small_config};

const BATCHES: u64 = 200;

/// A store that was closed and opened anew: nothing of its records is in memory.
fn cold(machine: &Machine, config: &StoreConfig, of: &[TopicPartition]) -> Rc<Store> {
    let log = LogConfig {
        segment_bytes: 256 << 10,
        ..LogConfig::default()
    };
    let partitions: Vec<_> = of.iter().map(|of| (*of, log.clone())).collect();
    let store = machine.store_with(config.clone(), &partitions);
    for of in of {
        for number in 0..BATCHES {
            let bytes = batch(&number.to_string(), 1, 900);
            while store.append(*of, &bytes, NOW).is_err() {
                machine.settle();
            }
            machine.settle();
        }
    }
    machine
        .executor
        .block_on(store.close())
        .expect("the disk works");
    let (store, _) = machine
        .open(crate::support::STORE, config.clone())
        .expect("it was closed");
    store
}

/// What a read from here on takes: nothing of the disk, or the offset after what it gave.
fn from_memory(store: &Store, of: TopicPartition, from: u64) -> Option<u64> {
    match store.read(of, Offset::new(from), 1, true) {
        Ok(Read::Ready(fetched)) => Some(fetched.next_offset.get()),
        Ok(Read::Disk(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

fn read(machine: &Machine, store: &Rc<Store>, of: TopicPartition, from: u64) -> u64 {
    let wanted = match store.read(of, Offset::new(from), 1, true) {
        Ok(Read::Ready(fetched)) => return fetched.next_offset.get(),
        Ok(Read::Disk(wanted)) => wanted,
        Err(error) => panic!("{error}"),
    };
    let fetched = machine.executor.block_on(store.read_disk(wanted));
    fetched.expect("the disk works").next_offset.get()
}

#[test]
fn several_windows_are_read_ahead_of_one_reader() {
    let machine = Machine::new(71);
    let of = partition(1, 0);
    let config = StoreConfig {
        read_window_bytes: 16 << 10,
        read_cache_bytes: 1 << 20,
        ..small_config()
    };
    let store = cold(&machine, &config, &[of]);
    // A window holds 12 of the batches, and a piece of the index 4. Somebody who has read half of it reads on.
    let mut next = 0;
    while next < 8 {
        next = read(&machine, &store, of, next);
        machine.settle();
    }
    let mut ahead = next;
    while ahead < BATCHES
        && let Some(end) = from_memory(&store, of, ahead)
    {
        ahead = end;
    }
    let in_memory = ahead - next;
    assert!(
        (40..60).contains(&in_memory),
        "{in_memory} batches are in memory"
    );
    let mut waits = 0;
    while next < BATCHES {
        waits += u32::from(from_memory(&store, of, next).is_none());
        next = read(&machine, &store, of, next);
        machine.settle();
    }
    assert_eq!(waits, 0, "who reads on waits for nothing");
}

#[test]
fn many_readers_share_what_is_read_ahead() {
    let machine = Machine::new(72);
    let of: Vec<_> = (0..12).map(|index| partition(1, index)).collect();
    let config = StoreConfig {
        read_window_bytes: 16 << 10,
        read_cache_bytes: 1 << 20,
        ..small_config()
    };
    let store = cold(&machine, &config, &of);
    let mut next = vec![0; of.len()];
    let mut disk_reads = 0;
    while next[0] < BATCHES {
        for (of, next) in of.iter().zip(&mut next) {
            disk_reads += u32::from(from_memory(&store, *of, *next).is_none());
            *next = read(&machine, &store, *of, *next);
        }
        machine.settle();
    }
    assert!(next.iter().all(|next| *next == BATCHES));
    // Some 17 windows for each reader, of which the memory has room for five at a time: what one reader has read
    // ahead does not push out what another one is about to read.
    let waits = disk_reads as usize;
    assert!(
        waits < 2 * of.len(),
        "{waits} waits of {} readers",
        of.len()
    );
}
