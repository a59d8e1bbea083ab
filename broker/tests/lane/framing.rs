//! The stream of a connection may be cut anywhere, and may hold anything.

use corelane_protocol::request::{Acks, ApiVersionsRequest, MetadataRequest};
use corelane_protocol::{ErrorCode, Request, RequestFlags, Response};

use crate::client::{at, frame, produce_frame, put};
use crate::world::World;

#[test]
fn a_stream_may_be_cut_at_every_byte() {
    let mut world = World::new(40, 1);
    let topic = world.create("t", 1, &[]);
    let mut stream = produce_frame(1, Acks::All, &[put(at(topic, 0), "first")]);
    stream.extend(frame(
        2,
        RequestFlags::NONE,
        &Request::ApiVersions(ApiVersionsRequest::default()),
    ));
    stream.extend(produce_frame(3, Acks::All, &[put(at(topic, 0), "second")]));
    for cut in 0..=stream.len() {
        let client = world.connect(0);
        world.receive(client, &stream[..cut]);
        world.receive(client, &stream[cut..]);
        world.settle();
        let mut answered: Vec<_> = (0..3).map(|_| world.reply(client).correlation()).collect();
        world.no_reply(client);
        answered.sort_unstable();
        assert_eq!(answered, [1, 2, 3], "cut at {cut}");
        world.disconnect(client);
    }
    let client = world.connect(0);
    assert_eq!(
        world.read_all(client, at(topic, 0)).len(),
        2 * (stream.len() + 1)
    );
}

#[test]
fn a_stream_may_come_byte_by_byte() {
    let mut world = World::new(41, 1);
    let topic = world.create("t", 1, &[]);
    let client = world.connect(0);
    for number in 0..3 {
        for byte in produce_frame(number, Acks::All, &[put(at(topic, 0), "value")]) {
            world.receive(client, &[byte]);
        }
    }
    world.settle();
    for number in 0..3 {
        assert_eq!(world.reply(client).correlation(), number);
    }
    assert_eq!(
        world.cores[0]
            .ledger
            .in_use_of(corelane_storage::memory::MemoryKind::Reply),
        0
    );
}

#[test]
fn a_connection_with_many_requests_takes_turns_with_others() {
    let mut world = World::new(46, 1);
    let topic = world.create("t", 1, &[]);
    let (many, other) = (world.connect(0), world.connect(0));
    let mut stream = Vec::new();
    for number in 0..300 {
        stream.extend(produce_frame(
            number,
            Acks::All,
            &[put(at(topic, 0), "flood")],
        ));
    }
    let mut rest = &stream[..];
    let mut turns = 0;
    while !rest.is_empty() {
        let taken = world.receive_once(many, rest);
        assert!(taken > 0 && taken < stream.len() / 2, "{taken} bytes");
        rest = &rest[taken..];
        turns += 1;
        let value = format!("turn {turns}");
        let frame = produce_frame(turns, Acks::All, &[put(at(topic, 0), &value)]);
        assert_eq!(world.receive_once(other, &frame), frame.len());
    }
    world.settle();
    for number in 0..300 {
        assert_eq!(world.reply(many).correlation(), number);
    }
    let reader = world.connect(0);
    let values = world.values(reader, at(topic, 0));
    let places: Vec<_> = (1..=turns)
        .map(|turn| {
            values
                .iter()
                .position(|value| *value == format!("turn {turn}"))
        })
        .collect();
    assert_eq!(places[..2], [Some(128), Some(257)]);
}

#[test]
fn replies_of_one_round_leave_in_one_send() {
    let mut world = World::new(42, 1);
    let client = world.connect(0);
    world.clients[client].reading = false;
    let request = Request::ApiVersions(ApiVersionsRequest::default());
    let stream: Vec<u8> = (0..10)
        .flat_map(|n| frame(n, RequestFlags::NONE, &request))
        .collect();
    world.receive(client, &stream);
    let mut sends = 0;
    while let Some(effect) = world.cores[0].lane.poll_effect() {
        assert!(
            matches!(effect, corelane_broker::lane::Effect::Send { ref parts, .. } if parts.len() == 1)
        );
        sends += 1;
    }
    assert_eq!(sends, 1);
}

#[test]
fn unknown_requests_and_versions_are_refused_and_the_connection_goes_on() {
    let mut world = World::new(43, 1);
    let client = world.connect(0);
    let mut bytes = frame(
        1,
        RequestFlags::NONE,
        &Request::Metadata(MetadataRequest::default()),
    );
    bytes[4..6].copy_from_slice(&999_u16.to_le_bytes());
    world.receive(client, &bytes);
    world.settle();
    let reply = world.reply(client);
    assert_eq!(reply.code(), Some(ErrorCode::UnsupportedApi));
    assert_eq!((reply.header.api_key, reply.correlation()), (999, 1));
    bytes[4..6].copy_from_slice(&1_u16.to_le_bytes());
    bytes[6..8].copy_from_slice(&77_u16.to_le_bytes());
    world.receive(client, &bytes);
    world.settle();
    assert_eq!(
        world.reply(client).code(),
        Some(ErrorCode::UnsupportedVersion)
    );
    assert!(world.owners(client, "none").is_err());
}

#[test]
fn a_body_that_is_not_sound_is_refused_and_the_connection_goes_on() {
    let mut world = World::new(44, 1);
    let topic = world.create("t", 1, &[]);
    let client = world.connect(0);
    let good = produce_frame(1, Acks::All, &[put(at(topic, 0), "x")]);
    // The count of entries is 2^31, the body cut short, bytes too many.
    let mut counted = good.clone();
    counted[24..28].copy_from_slice(&(1_u32 << 31).to_le_bytes());
    let mut cut = good[..30].to_vec();
    cut[..4].copy_from_slice(&26_u32.to_le_bytes());
    let mut long = good.clone();
    long.extend([0; 8]);
    let length = u32::try_from(long.len() - 4).expect("a small frame");
    long[..4].copy_from_slice(&length.to_le_bytes());
    for bytes in [counted, cut, long] {
        world.receive(client, &bytes);
        world.settle();
        assert_eq!(
            world.reply(client).code(),
            Some(ErrorCode::MalformedRequest)
        );
    }
    world.receive(client, &good);
    world.settle();
    assert!(world.reply(client).receipts()[0].is_ok());
}

#[test]
fn absurd_lengths_are_answered_and_closed_without_taking_memory() {
    for length in [1_u32 << 31, u32::MAX, 256 * 1024 + 1, 0, 11] {
        let mut world = World::new(45, 1);
        let client = world.connect(0);
        let mut bytes = frame(
            7,
            RequestFlags::NONE,
            &Request::Metadata(MetadataRequest::default()),
        );
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        let before = world.cores[0].ledger.in_use();
        world.receive(client, &bytes);
        assert!(
            world.cores[0].ledger.in_use() < before + 1024,
            "length {length}"
        );
        world.settle();
        let reply = world.reply(client);
        let expected = if length > 1000 {
            ErrorCode::FrameTooLarge
        } else {
            ErrorCode::MalformedRequest
        };
        assert_eq!(reply.code(), Some(expected), "length {length}");
        assert_eq!(reply.correlation(), 7);
        assert!(world.clients[client].closed_by_broker);
        assert_eq!(world.cores[0].lane.connections(), 0);
    }
}

#[test]
fn every_flipped_bit_of_a_stream_is_answered_or_closes() {
    let mut world = World::new(46, 1);
    let topic = world.create("t", 1, &[]);
    let probe = world.connect(0);
    let stream = produce_frame(1, Acks::All, &[put(at(topic, 0), "x")]);
    for bit in 0..stream.len() * 8 {
        let mut flipped = stream.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let client = world.connect(0);
        world.receive(client, &flipped);
        world.settle();
        if world.clients[client].open {
            world.disconnect(client);
        }
    }
    // Whatever was stored is sound, and the broker goes on.
    assert!(!world.read_all(probe, at(topic, 0)).is_empty());
    assert!(world.produce_one(probe, at(topic, 0), "after").is_ok());
    assert_eq!(world.cores[0].lane.connections(), 1);
}

#[test]
fn versions_and_limits_are_told_first() {
    let mut world = World::new(47, 1);
    let client = world.connect(0);
    let reply = world.ask(client, &Request::ApiVersions(ApiVersionsRequest::default()));
    let Ok(Response::ApiVersions(versions)) = reply.response() else {
        panic!("not an answer to api versions");
    };
    assert_eq!(
        versions.frame_bytes_max,
        world.config.limits.frame_bytes_max
    );
    assert_eq!(versions.batch_bytes_max, world.config.log.max_message_bytes);
    assert_eq!(versions.apis.len(), corelane_protocol::ApiKey::ALL.len());
    assert_eq!(reply.header.credit_bytes, 512 * 1024);
}
