//! Named readers report how far they have come, and expiry waits for them.

use corelane_protocol::request::{OffsetPosition, PositionEntry, ReportPositionsRequest};
use corelane_protocol::response::Response;
use corelane_protocol::{ErrorCode, Offset, Request, TopicPartition};

use crate::client::at;
use crate::world::World;

/// What each reported position is answered: where the log starts, or why not.
fn report(
    world: &mut World,
    client: usize,
    reader: &str,
    positions: &[(TopicPartition, u64)],
) -> Vec<Result<u64, ErrorCode>> {
    let entries = positions.iter().map(|(partition, position)| PositionEntry {
        partition: *partition,
        position: Offset::new(*position),
    });
    let request = Request::ReportPositions(ReportPositionsRequest {
        reader: reader.to_owned(),
        entries: entries.collect(),
    });
    let reply = world.ask(client, &request);
    let Ok(Response::ReportPositions(response)) = reply.response() else {
        panic!("not an answer to a report");
    };
    let entries = response.entries.into_iter();
    entries
        .map(|entry| match entry.result {
            Ok(log_start) => Ok(log_start.get()),
            Err(error) => Err(error.code),
        })
        .collect()
}

fn earliest(world: &mut World, client: usize, partition: TopicPartition) -> u64 {
    let found = world.list_offset(client, partition, OffsetPosition::Earliest);
    found.expect("it is there")
}

/// What the metrics of a partition say of its readers: each one's name, position, and what it missed.
fn metrics(world: &World, partition: TopicPartition) -> Vec<(String, u64, u64)> {
    let mut found = Vec::new();
    for core in &world.cores {
        for topic in core.lane.partition_metrics(partition).topics {
            let mut partitions = topic.partitions.into_iter();
            let of = partitions.find(|piece| piece.index == partition.partition);
            found.extend(of.into_iter().flat_map(|piece| piece.readers));
        }
    }
    let readers = found.into_iter();
    readers
        .map(|(name, state)| (name, state.position.get(), state.expired_unread))
        .collect()
}

#[test]
fn expiry_waits_for_the_readers_that_a_topic_names_on_every_core() {
    let mut world = World::new(410, 2);
    let settings = [
        ("retention.ms", "10 s"),
        ("segment.ms", "5 s"),
        ("retention.guard", "wait"),
        ("retention.guard.readers", "billing, audit"),
        ("retention.guard.max.ms", "1 h"),
    ];
    let topic = world.create("t", 2, &settings);
    let partitions = [at(topic, 0), at(topic, 1)];
    let client = world.connect(0);
    for partition in partitions {
        for value in ["a", "b", "c"] {
            world
                .produce_one(client, partition, value)
                .expect("a produce");
        }
    }
    let unknown = report(&mut world, client, "other", &[(partitions[0], 1)]);
    assert_eq!(unknown, [Err(ErrorCode::InvalidRequest)]);
    let beyond = report(&mut world, client, "audit", &[(partitions[1], 4)]);
    assert_eq!(beyond, [Err(ErrorCode::OffsetOutOfRange)]);
    // Of both cores, by one request.
    let all = partitions.map(|partition| (partition, 3));
    assert_eq!(report(&mut world, client, "audit", &all), [Ok(0), Ok(0)]);
    world.pass_ms(60_000);
    assert_eq!(
        partitions.map(|of| earliest(&mut world, client, of)),
        [0, 0]
    );
    let reported = report(&mut world, client, "billing", &[(partitions[0], 3)]);
    assert_eq!(reported, [Ok(0)]);
    world.pass_ms(10_000);
    assert_eq!(
        partitions.map(|of| earliest(&mut world, client, of)),
        [3, 0]
    );
    let described = world.describe_partitions(client, "t");
    let readers: Vec<_> = described[1]
        .readers
        .iter()
        .map(|reader| (&*reader.name, reader.position.get(), reader.expired_unread))
        .collect();
    assert_eq!(readers, [("audit", 3, 0), ("billing", 0, 0)]);
    assert_eq!(
        metrics(&world, partitions[1]),
        [("audit".to_owned(), 3, 0), ("billing".to_owned(), 0, 0)]
    );

    // The settings are changed while it waits, and what is missed is counted.
    world
        .alter(client, "t", &[("retention.guard", "warn")], &[])
        .expect("a topic");
    world.pass_ms(10_000);
    assert_eq!(
        partitions.map(|of| earliest(&mut world, client, of)),
        [3, 3]
    );
    let described = world.describe_partitions(client, "t");
    let expired: Vec<_> = described
        .iter()
        .flat_map(|partition| &partition.readers)
        .map(|reader| reader.expired_unread)
        .collect();
    assert_eq!(expired, [0, 0, 0, 3]);
}

#[test]
fn positions_are_there_after_a_restart_with_other_cores() {
    let mut world = World::new(411, 2);
    let topic = world.create("t", 2, &[("retention.guard.readers", "billing")]);
    let client = world.connect(0);
    for partition in [at(topic, 0), at(topic, 1)] {
        world
            .produce_one(client, partition, "a")
            .expect("a produce");
    }
    let all = [(at(topic, 0), 1), (at(topic, 1), 1)];
    assert_eq!(report(&mut world, client, "billing", &all), [Ok(0), Ok(0)]);
    let mut world = world.close_and_restart(1);
    let client = world.connect(0);
    let described = world.describe_partitions(client, "t");
    let positions: Vec<_> = described
        .iter()
        .flat_map(|partition| &partition.readers)
        .map(|reader| reader.position.get())
        .collect();
    assert_eq!(positions, [1, 1]);
}
