//! Produces are answered when they should be, and say what happened.

use corelane_protocol::ErrorCode;
use corelane_protocol::request::Acks;
use corelane_protocol::response::Durability;

use crate::client::{Put, at, batch, put};
use crate::world::World;

#[test]
fn a_produce_waits_for_its_flush() {
    for acks in [Acks::Leader, Acks::All] {
        let mut world = World::new(1, 1);
        let topic = world.create("t", 1, &[]);
        let client = world.connect(0);
        world.send_produce(client, acks, &[put(at(topic, 0), "a")]);
        world.carry();
        world.no_reply(client);
        world.settle();
        let receipt = world.reply(client).receipts().remove(0).expect("a receipt");
        assert_eq!(receipt.base_offset.get(), 0);
        assert_eq!(receipt.durability, Durability::Durable);
        assert_eq!(receipt.replicas_flushed, 1);
        assert_eq!(receipt.append_time, world.now.wall);
        assert_eq!(world.read_all(client, at(topic, 0)), [(0, "a".to_owned())]);
    }
}

#[test]
fn acks_none_is_answered_from_memory() {
    let mut world = World::new(2, 1);
    let topic = world.create("t", 1, &[]);
    let client = world.connect(0);
    world.send_produce(client, Acks::None, &[put(at(topic, 0), "a")]);
    world.carry();
    let receipt = world.reply(client).receipts().remove(0).expect("a receipt");
    assert_eq!(receipt.durability, Durability::Memory);
    assert_eq!(receipt.replicas_flushed, 0);
    // It is not readable before it is durable.
    let watermark = corelane_protocol::request::OffsetPosition::Latest;
    assert_eq!(world.list_offset(client, at(topic, 0), watermark), Ok(0));
    assert_eq!(world.list_offset(client, at(topic, 0), watermark), Ok(1));
}

#[test]
fn a_weak_topic_answers_from_memory_and_wakes_readers_at_once() {
    let mut world = World::new(3, 1);
    let topic = world.create("t", 1, &[("flush.ms", "1000")]);
    let (writer, reader) = (world.connect(0), world.connect(0));
    let everything = crate::client::fetch_request(&[(at(topic, 0), 0)], 10_000, 1);
    world.send_fetch(reader, everything);
    world.carry();
    world.no_reply(reader);
    world.send_produce(writer, Acks::All, &[put(at(topic, 0), "a")]);
    world.carry();
    let receipt = world.reply(writer).receipts().remove(0).expect("a receipt");
    assert_eq!(receipt.durability, Durability::Memory);
    assert_eq!(
        world.reply(reader).values(),
        [Ok(vec![(0, "a".to_owned())])]
    );
}

#[test]
fn pipelined_produces_are_answered_in_order_with_consecutive_offsets() {
    let mut world = World::new(4, 1);
    let topic = world.create("t", 2, &[]);
    let client = world.connect(0);
    let mut sent = Vec::new();
    for number in 0..100 {
        let value = format!("v{number}");
        sent.push(world.send_produce(client, Acks::All, &[put(at(topic, number % 2), &value)]));
    }
    world.settle();
    let mut offsets = [0, 0];
    let mut answered = [Vec::new(), Vec::new()];
    for _ in 0..100 {
        let reply = world.reply(client);
        let entry = reply.produce().entries.remove(0);
        let partition = entry.partition.partition.get() as usize;
        let receipt = entry.result.expect("a receipt");
        assert_eq!(receipt.base_offset.get(), offsets[partition]);
        offsets[partition] += 1;
        answered[partition].push(reply.correlation());
    }
    for (partition, answered) in answered.iter().enumerate() {
        let expected: Vec<_> = sent.iter().copied().skip(partition).step_by(2).collect();
        assert_eq!(*answered, expected, "order within partition {partition}");
    }
    world.no_reply(client);
}

#[test]
fn one_request_may_carry_several_batches_of_a_partition_in_order() {
    let mut world = World::new(5, 1);
    let topic = world.create("t", 2, &[]);
    let client = world.connect(0);
    let several = Put {
        partition: at(topic, 0),
        batch: batch(&["c", "d"]),
        resume: false,
    };
    let puts = [
        put(at(topic, 0), "a"),
        put(at(topic, 1), "b"),
        several,
        put(at(topic, 0), "e"),
    ];
    world.send_produce(client, Acks::All, &puts);
    world.settle();
    let receipts = world.reply(client).receipts();
    let offsets: Vec<_> = receipts
        .iter()
        .map(|r| r.expect("a receipt").base_offset.get())
        .collect();
    assert_eq!(offsets, [0, 0, 1, 3]);
    assert_eq!(world.values(client, at(topic, 0)), ["a", "c", "d", "e"]);
}

#[test]
fn each_batch_is_refused_for_its_own_reason() {
    let mut world = World::new(6, 1);
    let topic = world.create("t", 1, &[("max.message.bytes", "2048")]);
    let client = world.connect(0);
    let mut corrupt = put(at(topic, 0), "x");
    let last = corrupt.batch.len() - 9;
    corrupt.batch[last] ^= 1;
    let large = "x".repeat(4000);
    let mut unknown_version = put(at(topic, 0), "x");
    unknown_version.batch[54] = 9;
    let puts = [
        put(at(topic, 0), "good"),
        corrupt,
        put(at(topic, 1), "x"),
        put(at(corelane_protocol::TopicId::from_bytes([9; 16]), 0), "x"),
        unknown_version,
        put(at(topic, 0), "good too"),
        put(at(topic, 0), &large),
    ];
    world.send_produce(client, Acks::All, &puts);
    world.settle();
    let codes: Vec<_> = world
        .reply(client)
        .receipts()
        .into_iter()
        .map(Result::err)
        .collect();
    assert_eq!(
        codes,
        [
            None,
            Some(ErrorCode::CorruptBatch),
            Some(ErrorCode::UnknownPartition),
            Some(ErrorCode::UnknownTopic),
            Some(ErrorCode::UnsupportedBatch),
            None,
            Some(ErrorCode::BatchTooLarge),
        ]
    );
}

#[test]
fn what_follows_a_batch_that_is_too_large_waits_for_it_to_come_in_smaller_ones() {
    let mut world = World::new(6, 2);
    let topic = world.create("t", 2, &[("max.message.bytes", "2048")]);
    let client = world.connect(0);
    for partition in [0, 1] {
        let partition = world.partition_on("t", topic, partition);
        let large = "x".repeat(4000);
        let puts = [
            put(partition, "a"),
            put(partition, &large),
            put(partition, "d"),
        ];
        world.send_produce(client, Acks::All, &puts);
        world.settle();
        let receipts = world.reply(client).receipts();
        let codes: Vec<_> = receipts.into_iter().map(Result::err).collect();
        let expected = [
            None,
            Some(ErrorCode::BatchTooLarge),
            Some(ErrorCode::ProduceOrder),
        ];
        assert_eq!(codes, expected);
        let resumed = Put {
            resume: true,
            ..put(partition, "b")
        };
        let puts = [resumed, put(partition, "c"), put(partition, "d")];
        world.send_produce(client, Acks::All, &puts);
        world.settle();
        assert!(world.reply(client).receipts().iter().all(Result::is_ok));
        let values = world.read_all(client, partition).into_iter();
        let values: Vec<_> = values.map(|(_, value)| value).collect();
        assert_eq!(values, ["a", "b", "c", "d"]);
    }
}

#[test]
fn an_empty_produce_is_answered() {
    let mut world = World::new(7, 1);
    let client = world.connect(0);
    world.send_produce(client, Acks::All, &[]);
    world.settle();
    assert!(world.reply(client).receipts().is_empty());
}

#[test]
fn a_produce_that_is_not_flushed_in_time_is_timed_out_and_must_be_resumed() {
    let mut world = World::new(8, 1);
    let topic = world.create("t", 1, &[]);
    let client = world.connect(0);
    world.send_produce(client, Acks::All, &[put(at(topic, 0), "a")]);
    // Time passes, and the disk does nothing.
    world.now.monotonic_us += 31_000_000;
    let now = world.now;
    world.cores[0].lane.tick(now);
    world.carry();
    assert_eq!(world.reply(client).receipts(), [Err(ErrorCode::TimedOut)]);
    world.settle();
    world.no_reply(client);
    assert_eq!(
        world.produce_one(client, at(topic, 0), "b"),
        Err(ErrorCode::ProduceOrder)
    );
    let resumed = Put {
        resume: true,
        ..put(at(topic, 0), "b")
    };
    world.send_produce(client, Acks::All, &[resumed]);
    world.settle();
    assert_eq!(
        world.reply(client).receipts()[0].map(|r| r.base_offset.get()),
        Ok(1)
    );
}

#[test]
fn a_connection_that_closes_leaves_its_produce_to_finish() {
    let mut world = World::new(9, 1);
    let topic = world.create("t", 1, &[]);
    let (client, other) = (world.connect(0), world.connect(0));
    world.send_produce(client, Acks::All, &[put(at(topic, 0), "a")]);
    world.disconnect(client);
    world.settle();
    assert_eq!(world.read_all(other, at(topic, 0)), [(0, "a".to_owned())]);
}
