//! What was acknowledged is there after a power loss, whatever the number of cores.

use std::collections::BTreeMap;
use std::sync::Arc;

use corelane_protocol::request::Acks;
use corelane_protocol::response::{Durability, PartitionState};
use corelane_protocol::{ErrorCode, TopicId, TopicPartition};

use crate::client::{Put, at, fetch_request, put};
use crate::world::{World, small_config};

/// What a producer was told, by partition and offset.
type Acknowledged = BTreeMap<(TopicPartition, u64), String>;

/// Produces through some core to every partition until the disk halts, and keeps the receipts.
fn produce_until_halted(
    world: &mut World,
    topic: TopicId,
    round: u32,
    acknowledged: &mut Acknowledged,
) {
    let cores = u32::try_from(world.cores.len()).expect("few cores");
    let clients: Vec<_> = (0..cores)
        .map(|core| world.connect(u16::try_from(core).expect("few")))
        .collect();
    let mut sent = BTreeMap::new();
    for step in 0..30_u32 {
        let index = (step % cores) as usize;
        let puts: Vec<Put> = (0..3)
            .map(|part| {
                let value = format!(
                    "{round}-{step}-{part}-{}",
                    "x".repeat((step as usize * 97) % 3000)
                );
                put(at(topic, (step + part * 3) % 8), &value)
            })
            .collect();
        let values: Vec<_> = puts.iter().map(|p| (p.partition, value_of(p))).collect();
        let correlation = world.send_produce(clients[index], Acks::All, &puts);
        sent.insert((index, correlation), values);
        if step % 4 == 0 {
            world.settle();
        }
    }
    world.settle();
    for (index, client) in clients.iter().enumerate() {
        while let Some(reply) = world.clients[*client].take_reply() {
            let values = &sent[&(index, reply.correlation())];
            for (receipt, (partition, value)) in reply.receipts().iter().zip(values) {
                if let Ok(receipt) = receipt {
                    let key = (*partition, receipt.base_offset.get());
                    let before = acknowledged.insert(key, value.clone());
                    assert_eq!(before, None, "an offset was given twice: {key:?}");
                }
            }
        }
        world.disconnect(*client);
    }
}

fn value_of(put: &Put) -> String {
    let mut stamped = put.batch.clone();
    corelane_protocol::batch::Stamp {
        topic: put.partition.topic,
        partition: put.partition.partition,
        leader_epoch: corelane_protocol::LeaderEpoch::new(0),
        base_offset: corelane_protocol::Offset::ZERO,
        append_time: corelane_protocol::Timestamp::new(0),
    }
    .write(&mut stamped);
    crate::client::records(&stamped).remove(0).1
}

fn check(world: &mut World, topic: TopicId, acknowledged: &Acknowledged) {
    let client = world.connect(0);
    for partition in 0..8 {
        let partition = at(topic, partition);
        let found: BTreeMap<u64, String> = world.read_all(client, partition).into_iter().collect();
        let offsets: Vec<_> = found.keys().copied().collect();
        let expected: Vec<_> = (0..found.len() as u64).collect();
        assert_eq!(offsets, expected, "offsets of {partition} have gaps");
        for ((_, offset), value) in acknowledged.iter().filter(|((p, _), _)| *p == partition) {
            assert_eq!(
                found.get(offset),
                Some(value),
                "offset {offset} of {partition}"
            );
        }
    }
    world.disconnect(client);
}

#[test]
fn acknowledged_records_survive_power_losses_and_changes_of_the_number_of_cores() {
    for seed in 0..12 {
        let mut world = World::new(1000 + seed, 4);
        let topic = world.create("t", 8, &[("segment.bytes", "64 KiB")]);
        let mut acknowledged = Acknowledged::new();
        for (round, cores) in (0..).zip([1, 3, 2, 4]) {
            let halt = world.disk.operations() + 5 + seed * 7 + u64::from(round) * 11;
            world.disk.halt_at(halt);
            produce_until_halted(&mut world, topic, round, &mut acknowledged);
            world = world.crash(cores);
            check(&mut world, topic, &acknowledged);
        }
        // And once more without a crash in the middle.
        produce_until_halted(&mut world, topic, 9, &mut acknowledged);
        world = world.close_and_restart(2);
        check(&mut world, topic, &acknowledged);
        assert!(
            acknowledged.len() >= 90,
            "seed {seed}: {} records",
            acknowledged.len()
        );
    }
}

#[test]
fn a_logged_creation_is_finished_after_a_crash() {
    let mut world = World::new(1100, 2);
    let client = world.connect(1);
    world.send_create(client, "t", 8);
    // The record is logged; no store has heard of it.
    world.carry();
    let mut world = world.crash(2);
    let created: usize = world.cores.iter().map(|core| core.reconciled.created).sum();
    assert_eq!(created, 8);
    let client = world.connect(0);
    let owners = world.owners(client, "t").expect("a topic");
    assert_eq!(owners.len(), 8);
    let topic = world.cores[0]
        .lane
        .image()
        .topic_named("t")
        .expect("a topic")
        .id;
    for partition in 0..8 {
        assert_eq!(world.produce_one(client, at(topic, partition), "x"), Ok(0));
    }
}

#[test]
fn a_logged_deletion_is_finished_after_a_crash() {
    let mut world = World::new(1101, 2);
    world.create("kept", 4, &[]);
    let topic = world.create("t", 8, &[]);
    let client = world.connect(1);
    world
        .produce_one(client, at(topic, 0), "x")
        .expect("a produce");
    world.send_delete(client, "t");
    world.carry();
    let world = world.crash(3);
    let deleted: usize = world.cores.iter().map(|core| core.reconciled.deleted).sum();
    assert!(deleted > 0);
    let kept: usize = world
        .cores
        .iter()
        .flat_map(|core| &core.stores)
        .map(|s| s.partitions().len())
        .sum();
    assert_eq!(kept, 4);
}

#[test]
fn creations_and_deletions_may_crash_at_every_step() {
    for step in 0..60 {
        let mut world = World::new(1200 + step, 2);
        let kept = world.create("kept", 4, &[]);
        let client = world.connect(0);
        world
            .produce_one(client, at(kept, 0), "x")
            .expect("a produce");
        world.disk.halt_at(world.disk.operations() + step);
        world.send_create(client, "a", 4);
        world.settle();
        world.send_delete(client, "kept");
        world.settle();
        let mut world = world.crash(1 + (step % 3) as u16);
        let image = world.cores[0].lane.image().clone();
        let client = world.connect(0);
        let expected: usize = image.partition_count();
        let found: usize = world
            .cores
            .iter()
            .flat_map(|core| &core.stores)
            .map(|s| s.partitions().len())
            .sum();
        assert_eq!(found, expected, "step {step}");
        if let Some(topic) = image.topic_named("a") {
            assert_eq!(
                world.produce_one(client, at(topic.id, 1), "y"),
                Ok(0),
                "step {step}"
            );
        }
        if image.topic_named("kept").is_some() {
            assert_eq!(
                world.read_all(client, at(kept, 0)),
                [(0, "x".to_owned())],
                "step {step}"
            );
        }
    }
}

#[test]
fn cold_records_are_read_from_the_disk() {
    let mut world = World::new(1300, 2);
    let topic = world.create("t", 2, &[("segment.bytes", "64 KiB")]);
    let client = world.connect(0);
    let mut expected = Vec::new();
    for number in 0..200_u64 {
        let value = format!("{number}-{}", "x".repeat(2000));
        assert_eq!(world.produce_one(client, at(topic, 1), &value), Ok(number));
        expected.push((number, value));
    }
    let mut world = world.close_and_restart(1);
    let client = world.connect(0);
    assert_eq!(world.read_all(client, at(topic, 1)), expected);
    // Several cold partitions in one fetch, and a long poll at the end of a cold log.
    world.send_fetch(
        client,
        fetch_request(&[(at(topic, 1), 5), (at(topic, 0), 0)], 0, 1),
    );
    world.send_fetch(client, fetch_request(&[(at(topic, 1), 200)], 60_000, 1));
    world.settle();
    let values = world.reply(client).values();
    assert!(
        values[0]
            .as_ref()
            .is_ok_and(|found| found.iter().any(|(offset, _)| *offset == 5))
    );
    assert_eq!(values[1], Ok(vec![]));
    world.no_reply(client);
    world
        .produce_one(client, at(topic, 1), "new")
        .map_err(|_| ())
        .ok();
    world.settle();
}

#[test]
fn a_damaged_segment_fails_its_partition_or_read_and_no_other() {
    let mut world = World::new(1400, 1);
    let topic = world.create("t", 2, &[("segment.bytes", "64 KiB")]);
    let client = world.connect(0);
    for number in 0..100_u64 {
        let value = format!("{number}-{}", "x".repeat(2000));
        for partition in 0..2 {
            world
                .produce_one(client, at(topic, partition), &value)
                .expect("a produce");
        }
    }
    let world = world.close_and_restart(1);
    let files = world.disk.files();
    let damaged = files
        .iter()
        .find(|(path, _)| path.contains("/0/") && path.ends_with(".log"));
    let (path, length) = damaged.expect("a segment file of partition 0").clone();
    for byte in (4096..length).step_by(64) {
        world.disk.flip_bit(&path, byte, 3);
    }
    let mut world = world.close_and_restart(1);
    let client = world.connect(0);
    world.send_fetch(client, fetch_request(&[(at(topic, 0), 0)], 0, 1));
    world.settle();
    let outcome = world.reply(client).values().remove(0);
    let code = outcome.expect_err("a damaged file is not served");
    assert!(
        matches!(code, ErrorCode::CorruptData | ErrorCode::StorageFailed),
        "{code:?}"
    );
    assert_eq!(world.read_all(client, at(topic, 1)).len(), 100);
    assert_eq!(world.produce_one(client, at(topic, 1), "more"), Ok(100));
    let partitions = world.describe_partitions(client, "t");
    assert_eq!(partitions[1].state, PartitionState::Online);
}

#[test]
fn a_weak_topic_is_flushed_when_its_time_has_come() {
    for (waited_ms, survives) in [(0, false), (2000, true)] {
        let mut world = World::new(1500, 1);
        let topic = world.create("t", 1, &[("flush.ms", "1000")]);
        let client = world.connect(0);
        world.send_produce(client, Acks::All, &[put(at(topic, 0), "a")]);
        world.carry();
        assert!(world.reply(client).receipts()[0].is_ok());
        world.pass_ms(waited_ms);
        let mut world = world.crash(1);
        let client = world.connect(0);
        let kept = world.read_all(client, at(topic, 0));
        if survives {
            assert_eq!(kept, [(0, "a".to_owned())]);
        } else {
            assert!(kept.len() <= 1);
        }
        let next = world.produce_one(client, at(topic, 0), "b");
        assert_eq!(next, Ok(kept.len() as u64));
    }
}

#[test]
fn an_orderly_end_flushes_weak_topics() {
    let mut world = World::new(1501, 2);
    let topic = world.create("t", 2, &[("flush.messages", "1000000")]);
    let client = world.connect(0);
    for partition in 0..2 {
        assert_eq!(world.produce_one(client, at(topic, partition), "a"), Ok(0));
    }
    let mut world = world.close_and_restart(1);
    let client = world.connect(0);
    for partition in 0..2 {
        assert_eq!(world.read_all(client, at(topic, partition)).len(), 1);
    }
}

/// Topics follow the defaults of the broker that runs, not of the one that made them.
#[test]
fn a_changed_default_reaches_partitions_that_exist() {
    let mut config = small_config();
    config.log.flush_ms = 3_600_000;
    let mut world = World::with_config(1510, 1, config);
    let topic = world.create("t", 2, &[]);
    let own = world.create("own", 1, &[("flush.ms", "1 h")]);
    let client = world.connect(0);
    let durability = |world: &mut World, partition| {
        world.send_produce(client_of(world), Acks::All, &[put(partition, "x")]);
        world.settle();
        let client = client_of(world);
        let receipt = world.reply(client).receipts().remove(0);
        receipt.expect("a receipt").durability
    };
    assert_eq!(client, client_of(&world));
    assert_eq!(durability(&mut world, at(topic, 0)), Durability::Memory);

    let mut changed = (*world.config).clone();
    changed.log.flush_ms = 0;
    changed.log.segment_bytes = 64 * 1024;
    world.config = Arc::new(changed);
    let mut world = world.close_and_restart(1);
    let client = world.connect(0);
    // Nobody waits for the hour that the partition was made with.
    assert_eq!(durability(&mut world, at(topic, 0)), Durability::Durable);
    assert_eq!(durability(&mut world, at(topic, 1)), Durability::Durable);
    assert_eq!(durability(&mut world, at(own, 0)), Durability::Memory);
    let value = "x".repeat(50_000);
    for _ in 0..8 {
        world
            .produce_one(client, at(topic, 0), &value)
            .expect("a produce");
    }
    let world = world.close_and_restart(1);
    let files = world.disk.files();
    let segments = files
        .iter()
        .filter(|(path, _)| path.contains("/0/") && path.ends_with(".log"));
    assert!(segments.count() > 4, "{files:?}");
}

/// The client that connected last.
fn client_of(world: &World) -> usize {
    world.clients.len() - 1
}
