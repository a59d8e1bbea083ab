//! Limits on what a broker takes on.

use corelane_protocol::request::{DeleteTopicsRequest, MetadataRequest};
use corelane_protocol::{ErrorCode, Request, Response};

use crate::client::fetch_request;
use crate::world::{World, small_config};

#[test]
fn connections_are_limited_and_closing_one_makes_room() {
    let mut config = small_config();
    config.limits.connections_max = 2;
    let mut world = World::with_config(120, 2, config);
    let first = world.connect(0);
    world.connect(0);
    world.connect(1);
    let error = world.try_connect(0).expect_err("a third connection");
    assert_eq!(error.code, ErrorCode::TooManyConnections);
    let refusal = corelane_broker::lane::refusal_frame(&error);
    let header = corelane_protocol::ResponseHeader::parse(&refusal, 1 << 20);
    let header = header.expect("a sound header").expect("a whole header");
    assert_eq!(header.error_code, ErrorCode::TooManyConnections.as_u16());
    world.disconnect(first);
    assert!(world.try_connect(0).is_ok());
}

#[test]
fn topics_and_partitions_are_limited() {
    let mut config = small_config();
    config.limits.topics_max = 2;
    config.limits.topic_partitions_max = 8;
    config.limits.partitions_max = 10;
    let mut world = World::with_config(121, 2, config);
    let client = world.connect(1);
    let mut create = |name: &str, partitions| {
        world
            .try_create(client, name, partitions, &[])
            .map_err(|error| error.code)
    };
    assert_eq!(create("a", 9), Err(ErrorCode::InvalidPartitions));
    assert!(create("a", 8).is_ok());
    assert_eq!(create("b", 3), Err(ErrorCode::TopicLimit));
    assert!(create("b", 2).is_ok());
    assert_eq!(create("c", 1), Err(ErrorCode::TopicLimit));
}

#[test]
fn a_request_names_a_bounded_number_of_topics() {
    let mut world = World::new(122, 1);
    let client = world.connect(0);
    let names = vec!["x".to_owned(); 10_001];
    let topics = Some(names.clone());
    let reply = world.ask(client, &Request::Metadata(MetadataRequest { topics }));
    assert_eq!(reply.code(), Some(ErrorCode::InvalidRequest));
    let reply = world.ask(
        client,
        &Request::DeleteTopics(DeleteTopicsRequest { names }),
    );
    assert_eq!(reply.code(), Some(ErrorCode::InvalidRequest));
    let topics = Some(vec!["x".to_owned(); 10_000]);
    let reply = world.ask(client, &Request::Metadata(MetadataRequest { topics }));
    assert!(matches!(reply.response(), Ok(Response::Metadata(_))));
}

#[test]
fn a_fetch_waits_no_longer_than_the_broker_allows() {
    let mut config = small_config();
    config.limits.fetch_wait_ms_max = 200;
    let mut world = World::with_config(123, 1, config);
    let topic = world.create("t", 1, &[]);
    let client = world.connect(0);
    let partition = crate::client::at(topic, 0);
    world.send_fetch(client, fetch_request(&[(partition, 0)], u32::MAX, u32::MAX));
    world.pass_ms(200);
    world.settle();
    assert_eq!(world.reply(client).values(), [Ok(vec![])]);
}

#[test]
fn a_request_has_a_bounded_number_of_entries() {
    let mut config = small_config();
    config.limits.frame_bytes_max = 8 << 20;
    config.limits.connection_in_flight_bytes_max = 16 << 20;
    config.journal.file_bytes = 64 << 20;
    let mut world = World::with_config(124, 1, config);
    let topic = world.create("t", 1, &[]);
    let client = world.connect(0);
    let entries = vec![(crate::client::at(topic, 0), 0); 65_537];
    let reply = world.ask(client, &Request::Fetch(fetch_request(&entries, 0, 1)));
    assert_eq!(reply.code(), Some(ErrorCode::InvalidRequest));
    let reply = world.ask(client, &Request::Fetch(fetch_request(&entries[1..], 0, 1)));
    assert_eq!(reply.fetch().entries.len(), 65_536);
}
