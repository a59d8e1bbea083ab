//! Settings of topics change while they serve, on every core, and are there after a restart.

use corelane_protocol::batch::{TimestampType, set_timestamp_type};
use corelane_protocol::request::{Acks, MetadataRequest};
use corelane_protocol::response::{ConfigSource, Durability};
use corelane_protocol::{ErrorCode, Request, Response, TopicPartition};

use crate::client::{at, extension, put};
use crate::world::World;

/// Produces one value without letting a disk do anything; its durability, if it is answered.
fn produce_from_memory(
    world: &mut World,
    client: usize,
    partition: TopicPartition,
) -> Option<Durability> {
    world.send_produce(client, Acks::All, &[put(partition, "x")]);
    world.carry();
    let reply = world.clients[client].take_reply()?;
    let receipt = reply.receipts().remove(0).expect("a receipt");
    Some(receipt.durability)
}

#[test]
fn a_change_applies_on_every_core_and_survives_a_crash() {
    let mut world = World::new(70, 3);
    let topic = world.create("t", 6, &[("segment.bytes", "2 MiB")]);
    for number in 0..3 {
        let client = world.connect(number);
        let size = format!("{}", 2000 + number);
        let set = [("max.message.bytes", &*size), ("flush.messages", "1")];
        let altered = world.alter(client, "t", &set, &["segment.bytes"]);
        assert_eq!(altered.expect("a topic that exists"), topic);
        for other in 0..3 {
            let client = world.connect(other);
            let own = |value: &str| (value.to_owned(), ConfigSource::Topic);
            assert_eq!(world.setting(client, "t", "max.message.bytes"), own(&size));
            assert_eq!(world.setting(client, "t", "flush.messages"), own("1"));
            let followed = world.setting(client, "t", "segment.bytes");
            assert_eq!(followed, ("1048576".to_owned(), ConfigSource::Broker));
            let partition = world.partition_on("t", topic, other);
            let large = "x".repeat(2000);
            assert_eq!(
                world.produce_one(client, partition, &large),
                Err(ErrorCode::BatchTooLarge)
            );
        }
    }
    let mut world = world.crash(2);
    let client = world.connect(1);
    let partition = world.partition_on("t", topic, 0);
    let large = "x".repeat(2000);
    assert_eq!(
        world.produce_one(client, partition, &large),
        Err(ErrorCode::BatchTooLarge)
    );
    // What follows on that connection waits for it to come in smaller ones.
    let other = world.connect(1);
    assert_eq!(world.produce_one(other, partition, "x"), Ok(0));
}

#[test]
fn what_cannot_be_changed_changes_nothing() {
    let mut world = World::new(71, 2);
    world.create("t", 2, &[]);
    let client = world.connect(1);
    for (set, unset, part) in [
        (
            &[("flush.ms", "5"), ("colour", "blue")][..],
            &[][..],
            "known are segment.bytes",
        ),
        (
            &[("flush.ms", "5"), ("segment.bytes", "1")],
            &[],
            "choose between",
        ),
        (&[("flush.ms", "5")], &["flush.ms"], "twice"),
        (&[("flush.ms", "5")], &["colour"], "colour"),
    ] {
        let error = world.alter(client, "t", set, unset).expect_err(part);
        assert_eq!(error.code, ErrorCode::InvalidConfig);
        assert!(error.message.contains(part), "{error}");
        let kept = world.setting(client, "t", "flush.ms");
        assert_eq!(kept, ("0".to_owned(), ConfigSource::Default));
    }
    let error = world.alter(client, "none", &[("flush.ms", "5")], &[]);
    assert_eq!(error.expect_err("no topic").code, ErrorCode::UnknownTopic);
}

#[test]
fn a_topic_that_becomes_weak_answers_from_memory_from_then_on() {
    let mut world = World::new(72, 1);
    let topic = world.create("t", 1, &[]);
    let partition = world.partition_on("t", topic, 0);
    let (waiting, admin, later) = (world.connect(0), world.connect(0), world.connect(0));
    assert_eq!(produce_from_memory(&mut world, waiting, partition), None);
    // The change needs no store: the disk has done nothing when it applies.
    let request = crate::client::alteration("t", &[("flush.ms", "60000")], &[]);
    world.send(admin, &request);
    world.carry();
    assert!(world.reply(admin).response().is_ok());
    assert_eq!(
        produce_from_memory(&mut world, later, partition),
        Some(Durability::Memory)
    );
    world.no_reply(waiting);
    world.settle();
    let promised = world.reply(waiting).receipts().remove(0);
    assert_eq!(promised.expect("a receipt").durability, Durability::Durable);
}

#[test]
fn a_topic_that_becomes_durable_answers_once_it_is_flushed_from_then_on() {
    let mut world = World::new(73, 2);
    let topic = world.create("t", 2, &[("flush.ms", "3600000")]);
    let partition = world.partition_on("t", topic, 1);
    let client = world.connect(1);
    assert_eq!(
        produce_from_memory(&mut world, client, partition),
        Some(Durability::Memory)
    );
    world
        .alter(client, "t", &[], &["flush.ms"])
        .expect("a topic that exists");
    assert_eq!(produce_from_memory(&mut world, client, partition), None);
    world.settle();
    let receipt = world.reply(client).receipts().remove(0);
    assert_eq!(receipt.expect("a receipt").durability, Durability::Durable);
    // What was acknowledged from memory before the change is flushed with it.
    let mut world = world.crash(1);
    let client = world.connect(0);
    assert_eq!(world.read_all(client, partition).len(), 2);
}

#[test]
fn new_partitions_are_shown_by_no_core_before_every_core_has_them() {
    let mut world = World::new(74, 3);
    let topic = world.create("t", 3, &[]);
    let (admin, watchers) = (world.connect(1), [0, 1, 2].map(|n| world.connect(n)));
    world.send(admin, &extension("t", 12));
    // No disk does anything before `settle`: the stores have not made them.
    world.carry();
    world.no_reply(admin);
    let shown = |world: &mut World, watcher: usize| {
        let topics = Some(vec!["t".to_owned()]);
        world.send(watcher, &Request::Metadata(MetadataRequest { topics }));
        world.carry();
        let reply = world.reply(watcher);
        let Ok(Response::Metadata(metadata)) = reply.response() else {
            panic!("not metadata");
        };
        let topic = metadata.topics[0].result.as_ref().expect("a topic");
        topic.partitions.len()
    };
    for watcher in watchers {
        assert_eq!(shown(&mut world, watcher), 3);
    }
    world.settle();
    assert!(world.reply(admin).response().is_ok());
    for watcher in watchers {
        assert_eq!(shown(&mut world, watcher), 12);
        let owners = world.owners(watcher, "t").expect("a topic");
        for core in 0..3 {
            assert_eq!(owners.iter().filter(|owner| **owner == core).count(), 4);
        }
        for (index, _) in (0..).zip(&owners) {
            assert!(world.produce_one(watcher, at(topic, index), "x").is_ok());
        }
    }
    let error = world.extend(admin, "t", 12).expect_err("it has them");
    assert_eq!(error.code, ErrorCode::InvalidPartitions);
    assert!(error.message.contains("ask for 13"), "{error}");
    // Settings and deletion reach the new ones like the old ones.
    let set = [("max.message.bytes", "1024")];
    world.alter(admin, "t", &set, &[]).expect("a topic");
    let large = "x".repeat(2000);
    assert_eq!(
        world.produce_one(admin, at(topic, 11), &large),
        Err(ErrorCode::BatchTooLarge)
    );
    let mut world = world.crash(2);
    let client = world.connect(0);
    assert_eq!(world.read_all(client, at(topic, 11)).len(), 3);
    assert_eq!(world.delete(client, "t"), Ok(topic));
    let stores = world.cores.iter().flat_map(|core| &core.stores);
    assert_eq!(
        stores.map(|store| store.partitions().len()).sum::<usize>(),
        0
    );
}

#[test]
fn partitions_are_made_at_start_where_a_crash_came_before_the_stores() {
    let mut world = World::new(75, 2);
    let topic = world.create("t", 2, &[]);
    let client = world.connect(0);
    assert_eq!(world.produce_one(client, at(topic, 0), "x"), Ok(0));
    world.send(client, &extension("t", 8));
    // The metadata log has it; no store has done anything about it.
    world.carry();
    let mut world = world.crash(2);
    let client = world.connect(0);
    assert_eq!(world.owners(client, "t").expect("a topic").len(), 8);
    assert_eq!(world.read_all(client, at(topic, 0)).len(), 1);
    for index in 1..8 {
        assert_eq!(world.produce_one(client, at(topic, index), "x"), Ok(0));
    }
}

#[test]
fn a_topic_takes_the_kind_of_time_that_it_is_set_to() {
    let mut world = World::new(76, 2);
    let topic = world.create("t", 2, &[]);
    let partition = world.partition_on("t", topic, 1);
    // Core 0 forwards: what the owner refuses is refused there too.
    let client = world.connect(0);
    let send = |world: &mut World, kind: TimestampType, resume: bool| {
        let mut put = put(partition, "x");
        set_timestamp_type(&mut put.batch, kind);
        put.resume = resume;
        world.send_produce(client, Acks::All, &[put]);
        world.settle();
        world
            .reply(client)
            .receipts()
            .remove(0)
            .map(|receipt| receipt.base_offset.get())
    };
    assert_eq!(send(&mut world, TimestampType::Create, false), Ok(0));
    let set = [("message.timestamp.type", "LogAppendTime")];
    world.alter(client, "t", &set, &[]).expect("a topic");
    let mismatch = Err(ErrorCode::TimestampTypeMismatch);
    assert_eq!(send(&mut world, TimestampType::Create, false), mismatch);
    // What follows keeps its order behind what was refused.
    let order = Err(ErrorCode::ProduceOrder);
    assert_eq!(send(&mut world, TimestampType::LogAppend, false), order);
    assert_eq!(send(&mut world, TimestampType::LogAppend, true), Ok(1));
    let topics = Some(vec!["t".to_owned()]);
    let reply = world.ask(client, &Request::Metadata(MetadataRequest { topics }));
    let Ok(Response::Metadata(metadata)) = reply.response() else {
        panic!("not metadata");
    };
    let told = metadata.topics[0].result.as_ref().expect("a topic");
    assert_eq!(told.timestamp_type, TimestampType::LogAppend);
    world
        .alter(client, "t", &[], &["message.timestamp.type"])
        .expect("a topic");
    assert_eq!(send(&mut world, TimestampType::LogAppend, false), mismatch);
    assert_eq!(send(&mut world, TimestampType::Create, true), Ok(2));
}

#[test]
fn times_far_from_the_brokers_clock_are_refused_for_good() {
    let mut world = World::new(77, 1);
    let topic = world.create("t", 1, &[("message.timestamp.after.max.ms", "1 min")]);
    let partition = world.partition_on("t", topic, 0);
    let client = world.connect(0);
    assert_eq!(world.produce_one(client, partition, "x"), Ok(0));
    // The records of these tests have one time; the broker's clock goes on.
    let set = [("message.timestamp.before.max.ms", "10 s")];
    world.alter(client, "t", &set, &[]).expect("a topic");
    world.pass_ms(10_000);
    assert_eq!(world.produce_one(client, partition, "x"), Ok(1));
    world.pass_ms(1);
    world.send_produce(client, Acks::All, &[put(partition, "x")]);
    world.settle();
    let produced = world.reply(client).produce();
    let error = produced.entries[0].result.as_ref().expect_err("too late");
    assert_eq!(error.code, ErrorCode::InvalidTimestamp);
    for part in [
        "10001 ms behind",
        "10000 ms",
        "message.timestamp.before.max.ms",
    ] {
        assert!(error.message.contains(part), "{error}");
    }
    let wide = [("message.timestamp.before.max.ms", "1 h")];
    world.alter(client, "t", &wide, &[]).expect("a topic");
    assert_eq!(world.produce_one(client, partition, "x"), Ok(2));
}
