//! Fetches return what is there, wait for what is not, and wake when they should.

use corelane_protocol::ErrorCode;
use corelane_protocol::request::{Acks, OffsetPosition};

use crate::client::{at, fetch_request, put};
use crate::world::World;

#[test]
fn a_fetch_returns_batches_from_the_offset_on() {
    let mut world = World::new(20, 1);
    let topic = world.create("t", 2, &[]);
    let client = world.connect(0);
    for value in ["a", "b", "c"] {
        world
            .produce_one(client, at(topic, 0), value)
            .expect("a produce");
    }
    world
        .produce_one(client, at(topic, 1), "z")
        .expect("a produce");
    let entries = [(at(topic, 1), 0), (at(topic, 0), 1), (at(topic, 0), 3)];
    world.send_fetch(client, fetch_request(&entries, 0, 1));
    world.settle();
    let reply = world.reply(client);
    let first: Vec<_> = reply
        .values()
        .into_iter()
        .map(|v| v.expect("an entry"))
        .collect();
    assert_eq!(first[0], [(0, "z".to_owned())]);
    assert_eq!(first[1], [(1, "b".to_owned()), (2, "c".to_owned())]);
    assert!(first[2].is_empty());
    let entries = reply.fetch().entries;
    let heads: Vec<_> = entries
        .iter()
        .map(|entry| entry.result.as_ref().expect("an entry"))
        .collect();
    assert_eq!(heads[1].high_watermark.get(), 3);
    assert_eq!(heads[1].log_start_offset.get(), 0);
}

#[test]
fn limits_of_bytes_are_kept_but_one_batch_always_comes() {
    let mut world = World::new(21, 1);
    let topic = world.create("t", 2, &[]);
    let client = world.connect(0);
    let large = "x".repeat(3000);
    for partition in [0, 0, 1] {
        world
            .produce_one(client, at(topic, partition), &large)
            .expect("a produce");
    }
    let mut request = fetch_request(&[(at(topic, 0), 0), (at(topic, 1), 0)], 0, 1);
    request.max_bytes = 10;
    world.send_fetch(client, request.clone());
    world.settle();
    let counts = |world: &mut World| -> Vec<usize> {
        let values = world.reply(client).values();
        values
            .into_iter()
            .map(|entry| entry.expect("an entry").len())
            .collect()
    };
    assert_eq!(counts(&mut world), [1, 0]);
    request.max_bytes = 1 << 20;
    request.entries[0].max_bytes = 10;
    world.send_fetch(client, request);
    world.settle();
    assert_eq!(counts(&mut world), [1, 1]);
}

#[test]
fn a_long_poll_wakes_on_append() {
    let mut world = World::new(22, 1);
    let topic = world.create("t", 1, &[]);
    let (writer, reader) = (world.connect(0), world.connect(0));
    world.send_fetch(reader, fetch_request(&[(at(topic, 0), 0)], 10_000, 1));
    world.settle();
    world.no_reply(reader);
    world.send_produce(writer, Acks::All, &[put(at(topic, 0), "a")]);
    world.carry();
    // Not before it is durable.
    world.no_reply(reader);
    world.settle();
    assert_eq!(
        world.reply(reader).values(),
        [Ok(vec![(0, "a".to_owned())])]
    );
}

#[test]
fn a_long_poll_does_not_block_what_follows_it() {
    let mut world = World::new(23, 1);
    let topic = world.create("t", 1, &[]);
    let client = world.connect(0);
    let fetch = world.send_fetch(client, fetch_request(&[(at(topic, 0), 0)], 10_000, 1));
    let produce = world.send_produce(client, Acks::All, &[put(at(topic, 0), "a")]);
    world.settle();
    let mut answered = [
        world.reply(client).correlation(),
        world.reply(client).correlation(),
    ];
    answered.sort_unstable();
    assert_eq!(answered, [fetch, produce]);
}

#[test]
fn a_long_poll_ends_at_its_deadline() {
    let mut world = World::new(24, 1);
    let topic = world.create("t", 1, &[]);
    let client = world.connect(0);
    world.send_fetch(client, fetch_request(&[(at(topic, 0), 0)], 500, 1));
    world.pass_ms(499);
    world.no_reply(client);
    world.pass_ms(1);
    world.settle();
    assert_eq!(world.reply(client).values(), [Ok(vec![])]);
}

#[test]
fn a_long_poll_waits_for_its_least_bytes_over_all_partitions() {
    let mut world = World::new(25, 1);
    let topic = world.create("t", 2, &[]);
    let (writer, reader) = (world.connect(0), world.connect(0));
    let bytes = put(at(topic, 0), "a").batch.len() as u32;
    let entries = [(at(topic, 0), 0), (at(topic, 1), 0)];
    world.send_fetch(reader, fetch_request(&entries, 10_000, 2 * bytes));
    world
        .produce_one(writer, at(topic, 0), "a")
        .expect("a produce");
    world.settle();
    world.no_reply(reader);
    world
        .produce_one(writer, at(topic, 1), "b")
        .expect("a produce");
    world.settle();
    let expected = [Ok(vec![(0, "a".to_owned())]), Ok(vec![(0, "b".to_owned())])];
    assert_eq!(world.reply(reader).values(), expected);
    // The deadline returns what there is.
    world.send_fetch(reader, fetch_request(&entries, 700, 10 * bytes));
    world.pass_ms(700);
    world.settle();
    assert_eq!(world.reply(reader).values(), expected);
}

#[test]
fn errors_are_answered_at_once_and_each_for_itself() {
    let mut world = World::new(26, 1);
    let topic = world.create("t", 1, &[]);
    let client = world.connect(0);
    world
        .produce_one(client, at(topic, 0), "a")
        .expect("a produce");
    let unknown = corelane_protocol::TopicId::from_bytes([7; 16]);
    let entries = [
        (at(topic, 0), 0),
        (at(topic, 5), 0),
        (at(unknown, 0), 0),
        (at(topic, 0), 2),
    ];
    world.send_fetch(client, fetch_request(&entries, 10_000, 1 << 20));
    world.settle();
    assert_eq!(
        world.reply(client).values(),
        [
            Ok(vec![(0, "a".to_owned())]),
            Err(ErrorCode::UnknownPartition),
            Err(ErrorCode::UnknownTopic),
            Err(ErrorCode::OffsetOutOfRange),
        ]
    );
}

#[test]
fn an_empty_fetch_is_answered() {
    let mut world = World::new(27, 1);
    let client = world.connect(0);
    world.send_fetch(client, fetch_request(&[], 10_000, 1));
    world.settle();
    assert!(world.reply(client).values().is_empty());
}

#[test]
fn many_long_polls_of_one_partition_all_wake() {
    let mut world = World::new(28, 1);
    let topic = world.create("t", 1, &[]);
    let writer = world.connect(0);
    let readers: Vec<_> = (0..50).map(|_| world.connect(0)).collect();
    for reader in &readers {
        world.send_fetch(*reader, fetch_request(&[(at(topic, 0), 0)], 10_000, 1));
    }
    world
        .produce_one(writer, at(topic, 0), "a")
        .expect("a produce");
    for reader in readers {
        assert_eq!(
            world.reply(reader).values(),
            [Ok(vec![(0, "a".to_owned())])]
        );
    }
}

#[test]
fn a_closed_connection_takes_its_long_polls_along() {
    let mut world = World::new(29, 1);
    let topic = world.create("t", 1, &[]);
    let (writer, reader) = (world.connect(0), world.connect(0));
    for _ in 0..3 {
        world.send_fetch(reader, fetch_request(&[(at(topic, 0), 0)], 10_000, 1));
    }
    world.settle();
    world.disconnect(reader);
    world
        .produce_one(writer, at(topic, 0), "a")
        .expect("a produce");
    world.pass_ms(70_000);
    // Nothing is left but to tell the store the time, once a second.
    let next = world.cores[0].lane.next_deadline();
    let next = next.expect("topics grow old");
    assert!(next > world.now.monotonic_us && next <= world.now.monotonic_us + 1_000_000);
}

#[test]
fn offsets_are_listed() {
    let mut world = World::new(30, 1);
    let topic = world.create("t", 1, &[]);
    let client = world.connect(0);
    for value in ["a", "b"] {
        world
            .produce_one(client, at(topic, 0), value)
            .expect("a produce");
    }
    assert_eq!(
        world.list_offset(client, at(topic, 0), OffsetPosition::Earliest),
        Ok(0)
    );
    assert_eq!(
        world.list_offset(client, at(topic, 0), OffsetPosition::Latest),
        Ok(2)
    );
    let time = OffsetPosition::Timestamp(world.now.wall);
    assert_eq!(world.list_offset(client, at(topic, 0), time), Ok(0));
    let unknown = world.list_offset(client, at(topic, 3), OffsetPosition::Latest);
    assert_eq!(unknown, Err(ErrorCode::UnknownPartition));
}
