//! Fetches of records that are on the disk only: read together, answered in the order of the entries.

use corelane_protocol::{ErrorCode, TopicId};
use corelane_storage::disk::memory::{Fault, OperationKind};
use corelane_storage::memory::MemoryKind;

use crate::client::{at, fetch_request, put};
use crate::world::World;

const RECORDS: u64 = 20;

fn value(partition: u32, number: u64) -> String {
    let length = 100 + (number as usize * 571 + partition as usize * 97) % 3000;
    format!("{partition}:{number}:{}", "x".repeat(length))
}

/// A topic whose records are not in memory, but for those of partition 2.
fn cold_topic(seed: u64, partitions: u32) -> (World, TopicId) {
    let mut world = World::new(seed, 1);
    let topic = world.create("t", partitions, &[("segment.bytes", "64 KiB")]);
    let client = world.connect(0);
    for number in 0..RECORDS {
        for partition in (0..partitions).filter(|partition| *partition != 2) {
            let value = value(partition, number);
            world.send_produce(
                client,
                corelane_protocol::request::Acks::All,
                &[put(at(topic, partition), &value)],
            );
        }
        world.settle();
    }
    let mut world = world.close_and_restart(1);
    let client = world.connect(0);
    for number in 0..RECORDS {
        let value = value(2, number);
        world
            .produce_one(client, at(topic, 2), &value)
            .expect("a produce");
    }
    world.reads_begun = 0;
    (world, topic)
}

#[test]
fn cold_partitions_of_one_fetch_are_read_together() {
    let (mut world, topic) = cold_topic(400, 6);
    let client = world.connect(0);
    let entries = [5, 2, 0, 3].map(|partition| (at(topic, partition), 1));
    world.send_fetch(client, fetch_request(&entries, 0, 1));
    world.carry();
    assert_eq!(world.reads_begun, 3);
    world.no_reply(client);
    world.settle();
    let values = world.reply(client).values();
    for (found, partition) in values.into_iter().zip([5, 2, 0, 3]) {
        let mut found = found.expect("a partition that reads");
        found.retain(|(offset, _)| *offset >= 1);
        assert!(!found.is_empty());
        for (number, (offset, text)) in (1..).zip(found) {
            assert_eq!((offset, text), (number, value(partition, number)));
        }
    }
}

#[test]
fn reads_of_one_fetch_are_bounded() {
    let (mut world, topic) = cold_topic(401, 40);
    let client = world.connect(0);
    let entries: Vec<_> = (3..40).map(|partition| (at(topic, partition), 0)).collect();
    let mut request = fetch_request(&entries, 0, 1);
    for entry in &mut request.entries {
        entry.max_bytes = 10_000;
    }
    world.send_fetch(client, request.clone());
    world.carry();
    assert_eq!(world.reads_begun, 16);
    world.settle();
    assert!(
        world
            .reply(client)
            .values()
            .iter()
            .all(|found| { found.as_ref().is_ok_and(|found| !found.is_empty()) })
    );
    // No more than what the answer takes.
    world.reads_begun = 0;
    request.max_bytes = 25_000;
    world.send_fetch(client, request);
    world.carry();
    assert!(world.reads_begun <= 3, "{}", world.reads_begun);
    // A client that goes takes its reads along.
    world.disconnect(client);
    world.settle();
    assert_eq!(world.cores[0].ledger.in_use_of(MemoryKind::Reply), 0);
    world.cores[0].lane.begin_shutdown(world.now);
    world.settle();
    assert!(world.cores[0].lane.is_drained());
}

#[test]
fn whatever_the_limits_are_a_reader_gets_on_and_nothing_is_skipped() {
    let (mut world, topic) = cold_topic(402, 5);
    let client = world.connect(0);
    for (max_bytes, entry_bytes) in [
        (1, 1),
        (1, 1 << 20),
        (1 << 20, 1),
        (4000, 1500),
        (10_000, 1 << 20),
        (20_000, 3000),
        (1 << 20, 1 << 20),
    ] {
        let mut next = [0_u64; 5];
        let mut rounds = 0;
        while next.iter().any(|next| *next < RECORDS) {
            let entries: Vec<_> = (0..5)
                .map(|index| (index + rounds) % 5)
                .map(|partition| (at(topic, partition), next[partition as usize]))
                .filter(|(_, next)| *next < RECORDS)
                .collect();
            let mut request = fetch_request(&entries, 0, 1);
            request.max_bytes = max_bytes;
            for entry in &mut request.entries {
                entry.max_bytes = entry_bytes;
            }
            world.send_fetch(client, request);
            world.settle();
            let reply = world.reply(client);
            let mut bytes = 0;
            let mut batches = 0;
            for (entry, (partition, from)) in reply.fetch().entries.iter().zip(&entries) {
                let fetched = entry.result.as_ref().expect("a partition that reads");
                let found = crate::client::records(fetched.batches);
                bytes += fetched.batches.len();
                batches += found.len();
                let number = partition.partition.get();
                for (offset, text) in found.into_iter().filter(|(offset, _)| offset >= from) {
                    let next = &mut next[number as usize];
                    assert_eq!((offset, text), (*next, value(number, *next)));
                    *next += 1;
                }
            }
            assert!(batches > 0, "{max_bytes}, {entry_bytes}: no progress");
            assert!(
                bytes <= max_bytes as usize || batches == 1,
                "{bytes} of {max_bytes}"
            );
            rounds += 1;
        }
    }
}

#[test]
fn a_read_that_fails_costs_its_own_entry() {
    for (seed, failing) in [(403, 0), (404, 1), (405, 3), (406, 4)] {
        let (mut world, topic) = cold_topic(seed, 5);
        let client = world.connect(0);
        let wanted = format!("/{failing}/");
        let fault = Fault::io_error()
            .on(OperationKind::Read)
            .in_path(move |path| path.contains(&wanted))
            .forever();
        world.disk.inject(fault);
        let entries = [4, 1, 0, 3].map(|partition| (at(topic, partition), 0));
        world.send_fetch(client, fetch_request(&entries, 60_000, 1 << 20));
        world.settle();
        let values = world.reply(client).values();
        for (found, (partition, _)) in values.into_iter().zip(entries) {
            if partition.partition.get() == failing {
                assert_eq!(found.map(|_| ()), Err(ErrorCode::StorageFailed));
            } else {
                assert!(found.is_ok_and(|found| !found.is_empty()));
            }
        }
    }
}
