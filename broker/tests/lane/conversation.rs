//! A recorded conversation of a client and a broker, byte by byte: the broker still says the same.
//!
//! `CORELANE_GOLDEN=write` records it anew, once for each version of the wire format; one of a version that was
//! released is never changed. The protocol's own tests read the same file.

use std::path::PathBuf;

use corelane_protocol::batch::{BatchBuilder, BatchBuilderConfig, Compression, RecordRef};
use corelane_protocol::request::{
    Acks, ApiVersionsRequest, CreateTopicsRequest, DeleteBefore, DeleteRecordsEntry,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeTopicsRequest, ListOffsetsEntry,
    ListOffsetsRequest, MetadataRequest, NewTopic, OffsetPosition, PositionEntry,
    ReportPositionsRequest,
};
use corelane_protocol::response::ApiVersionsResponse;
use corelane_protocol::{
    Offset, Request, RequestFlags, RequestHeader, Response, ResponseHeader, Timestamp, TopicId,
};

use crate::client::{Put, alteration, at, extension, fetch_request, frame, produce_frame, put};
use crate::world::World;

const SEED: u64 = 11;

fn path() -> PathBuf {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/tests/golden");
    PathBuf::from(golden).join("conversation-1")
}

/// What was said: each request, and all that was answered to it.
type Conversation = Vec<(Vec<u8>, Vec<u8>)>;

fn encode(conversation: &Conversation) -> Vec<u8> {
    let mut out = Vec::new();
    for bytes in conversation
        .iter()
        .flat_map(|(asked, answered)| [asked, answered])
    {
        out.extend((bytes.len() as u32).to_le_bytes());
        out.extend(bytes);
    }
    out
}

fn decode(mut file: &[u8]) -> Conversation {
    let mut take = || {
        let (length, rest) = file.split_first_chunk::<4>()?;
        let (bytes, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        file = rest;
        Some(bytes.to_vec())
    };
    let mut conversation = Conversation::new();
    while let Some(asked) = take() {
        conversation.push((asked, take().expect("each request was answered")));
    }
    conversation
}

/// Says each frame to a new broker of two cores, and keeps what it answers.
fn converse(frames: impl IntoIterator<Item = Vec<u8>>) -> Conversation {
    let mut world = World::new(SEED, 2);
    let client = world.connect(0);
    world.clients[client].reading = false;
    let mut conversation = Conversation::new();
    for frame in frames {
        world.receive(client, &frame);
        world.pass_ms(100);
        world.settle();
        let answered = std::mem::take(&mut world.clients[client].unread);
        let connection = world.clients[client].connection;
        world.cores[0]
            .lane
            .sent(world.now, connection, answered.len());
        conversation.push((frame, answered));
    }
    conversation
}

/// A batch of records with keys, headers and nulls.
fn rich(compression: Compression) -> Vec<u8> {
    let config = BatchBuilderConfig {
        compression,
        ..BatchBuilderConfig::default()
    };
    let mut builder = BatchBuilder::new(config).expect("the codec is there");
    let value = b"tea, and cake, and tea, and cake, and tea, and cake, and tea".repeat(4);
    let headers = [("trace", Some(&b"on"[..])), ("null", None)];
    for record in 0..4_i64 {
        let record = RecordRef {
            key: (record != 1).then_some(b"anna"),
            value: (record != 2).then_some(&value),
            headers: &headers[..record as usize % 3],
            timestamp: Timestamp::new(1_700_000_000_000 + record),
        };
        builder.try_push(record).expect("room");
    }
    builder.finish().expect("records").to_vec()
}

/// The id that the topic gets, which the broker of this seed always gives.
fn topic_id() -> TopicId {
    let said = converse(session(TopicId::NIL).into_iter().take(3));
    let answered = &said[2].1;
    let header = ResponseHeader::parse(answered, u32::MAX);
    let header = header.expect("sound").expect("whole");
    match Response::decode(&header, &answered[ResponseHeader::LEN..]) {
        Ok(Ok(Response::CreateTopics(mut created))) => {
            created.topics.remove(0).result.expect("it was created")
        }
        other => panic!("not an answer to a creation: {other:?}"),
    }
}

/// A session that uses every request, and is refused in many ways.
fn session(topic: TopicId) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut say = |flags, request: &Request<'_>| {
        frames.push(frame(frames.len() as u32 + 1, flags, request));
    };
    let (plain, no_forward) = (RequestFlags::NONE, RequestFlags::NO_FORWARD);
    say(
        plain,
        &Request::ApiVersions(ApiVersionsRequest {
            client_name: "recorder".to_owned(),
            client_version: "1".to_owned(),
        }),
    );
    let new = |name: &str, key: &str| NewTopic {
        name: name.to_owned(),
        partitions: 4,
        configs: vec![(key.to_owned(), "64 KiB".to_owned())],
    };
    for validate_only in [true, false] {
        say(
            plain,
            &Request::CreateTopics(CreateTopicsRequest {
                topics: vec![new("orders", "segment.bytes"), new("no/name", "x")],
                validate_only,
            }),
        );
    }
    say(plain, &Request::Metadata(MetadataRequest { topics: None }));
    say(
        plain,
        &Request::Metadata(MetadataRequest {
            topics: Some(vec!["orders".to_owned(), "missing".to_owned()]),
        }),
    );
    for compression in Compression::ALL {
        let batch = rich(*compression);
        for (acks, flags) in [(Acks::All, plain), (Acks::Leader, no_forward)] {
            let entries = (0..4).map(|index| corelane_protocol::request::ProduceEntry {
                partition: at(topic, index),
                resume: index == 3,
                batch: &batch,
            });
            say(
                flags,
                &Request::Produce(corelane_protocol::request::ProduceRequest {
                    acks,
                    timeout_ms: 30_000,
                    entries: entries.collect(),
                }),
            );
        }
    }
    let mut damaged = put(at(topic, 0), "damaged");
    damaged.batch[130] ^= 1;
    let puts: [Put; 3] = [
        damaged,
        put(at(topic, 0), "behind it"),
        put(at(topic, 9), "nowhere"),
    ];
    let correlation = frames.len() as u32 + 1;
    frames.push(produce_frame(correlation, Acks::None, &puts));
    let mut say = |flags, request: &Request<'_>| {
        frames.push(frame(frames.len() as u32 + 1, flags, request));
    };
    for index in 0..2 {
        let fetch = fetch_request(&[(at(topic, index), 0), (at(topic, index + 2), 2)], 10, 1);
        say(plain, &Request::Fetch(fetch.clone()));
        say(no_forward, &Request::Fetch(fetch));
    }
    say(
        plain,
        &Request::Fetch(fetch_request(&[(at(topic, 0), 1 << 40)], 10, 1)),
    );
    let positions = [
        OffsetPosition::Earliest,
        OffsetPosition::Latest,
        OffsetPosition::Timestamp(Timestamp::new(1_700_000_000_002)),
        OffsetPosition::Timestamp(Timestamp::new(1_800_000_000_000)),
    ];
    say(
        plain,
        &Request::ListOffsets(ListOffsetsRequest {
            entries: (0..5)
                .flat_map(|index| {
                    positions.map(|position| ListOffsetsEntry {
                        partition: at(topic, index),
                        position,
                    })
                })
                .collect(),
        }),
    );
    say(
        plain,
        &alteration("orders", &[("retention.ms", "1 d")], &["segment.bytes"]),
    );
    say(plain, &alteration("orders", &[("x", "1")], &[]));
    let guard = [
        ("retention.guard", "wait"),
        ("retention.guard.readers", "billing"),
    ];
    say(plain, &alteration("orders", &guard, &[]));
    for reader in ["billing", "nobody"] {
        let positions = [(0, 2), (1, 1 << 40), (9, 0)];
        say(
            plain,
            &Request::ReportPositions(ReportPositionsRequest {
                reader: reader.to_owned(),
                entries: positions
                    .map(|(index, position)| PositionEntry {
                        partition: at(topic, index),
                        position: Offset::new(position),
                    })
                    .to_vec(),
            }),
        );
    }
    say(plain, &extension("orders", 6));
    say(plain, &extension("orders", 2));
    say(
        plain,
        &Request::DescribeTopics(DescribeTopicsRequest { topics: None }),
    );
    say(
        plain,
        &Request::DescribeTopics(DescribeTopicsRequest {
            topics: Some(vec!["missing".to_owned()]),
        }),
    );
    say(
        plain,
        &Request::DeleteRecords(DeleteRecordsRequest {
            entries: [
                (0, DeleteBefore::Offset(Offset::new(2))),
                (1, DeleteBefore::HighWatermark),
                (2, DeleteBefore::Offset(Offset::MAX)),
            ]
            .map(|(index, before)| DeleteRecordsEntry {
                partition: at(topic, index),
                before,
            })
            .to_vec(),
        }),
    );
    say(
        plain,
        &Request::DeleteTopics(DeleteTopicsRequest {
            names: vec!["orders".to_owned(), "missing".to_owned()],
        }),
    );
    // A body that is no body, a version and a request that nobody knows.
    let mut unknown = frames[0].clone();
    unknown[4..6].copy_from_slice(&999_u16.to_le_bytes());
    let mut later = frames[0].clone();
    later[6..8].copy_from_slice(&9_u16.to_le_bytes());
    let mut malformed = frames[0].clone();
    malformed[RequestHeader::LEN] = 0xff;
    frames.extend([unknown, later, malformed]);
    frames
}

/// The answer with another version of the software, which is no part of the format.
fn without_release(answer: &[u8]) -> Vec<u8> {
    let header = ResponseHeader::parse(answer, u32::MAX)
        .expect("sound")
        .expect("whole");
    let response = Response::decode(&header, &answer[ResponseHeader::LEN..header.frame_length()]);
    let Ok(Ok(Response::ApiVersions(response))) = response else {
        return answer.to_vec();
    };
    let same = ApiVersionsResponse {
        broker_version: String::new(),
        ..response
    };
    format!("{header:?} {same:?}").into_bytes()
}

#[test]
fn the_recorded_conversation_goes_the_same_way_again() {
    if std::env::var("CORELANE_GOLDEN").is_ok_and(|asked| asked == "write") {
        let recorded = encode(&converse(session(topic_id())));
        std::fs::create_dir_all(path().parent().expect("a directory")).expect("it can be written");
        std::fs::write(path(), recorded).expect("room");
    }
    let golden = decode(&std::fs::read(path()).expect("it is part of the sources"));
    assert!(golden.len() > 30);
    let again = converse(golden.iter().map(|(asked, _)| asked.clone()));
    for (number, ((asked, answered), (_, now))) in golden.iter().zip(&again).enumerate() {
        assert!(!answered.is_empty(), "request {number} has an answer");
        assert_eq!(
            without_release(now),
            without_release(answered),
            "the answer to request {number}, {:?}",
            RequestHeader::peek(asked)
        );
    }
}
