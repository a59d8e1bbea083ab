//! A recorded conversation of a client and a broker, byte by byte: the broker still says the same.
//!
//! `CORELANE_GOLDEN=conversation-2` records that one anew; one that was released is never changed. The protocol's own
//! tests read the same files.

use std::path::PathBuf;

use corelane_protocol::batch::{
    BatchBuilder, BatchBuilderConfig, Compression, RecordRef, set_producer,
};
use corelane_protocol::request::{
    Acks, ApiVersionsRequest, CommitEntry, CommitOffsetsRequest, CreateTopicsRequest, DeleteBefore,
    DeleteGroupRequest, DeleteRecordsEntry, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeGroupRequest, DescribeTopicsRequest, FetchOffsetsRequest, GroupHeartbeatRequest,
    InitProducerIdRequest, LeaveGroupRequest, ListGroupsRequest, ListOffsetsEntry,
    ListOffsetsRequest, MemberRef, MetadataRequest, NewTopic, OffsetPosition, PartitionsOfTopic,
    PositionEntry, ReportPositionsRequest, Subscription,
};
use corelane_protocol::response::ApiVersionsResponse;
use corelane_protocol::{
    ApiKey, Generation, LeaderEpoch, MemberId, Offset, PartitionIndex, ProducerEpoch, ProducerId,
    Request, RequestFlags, RequestHeader, Response, ResponseHeader, Timestamp, TopicId,
};
use uuid::Uuid;

use crate::client::{Put, alteration, at, extension, fetch_request, frame, produce_frame, put};
use crate::world::World;

const SEED: u64 = 11;

/// The conversation about topics and records.
const RECORDS: &str = "conversation-1";
/// The one about consumer groups.
const GROUPS: &str = "conversation-2";
/// The one with idempotent producers.
const PRODUCERS: &str = "conversation-3";

fn path(name: &str) -> PathBuf {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/tests/golden");
    PathBuf::from(golden).join(name)
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
    created(&said[2].1)
}

/// The id of the one topic that was created.
fn created(answered: &[u8]) -> TopicId {
    let header = ResponseHeader::parse(answered, u32::MAX);
    let header = header.expect("sound").expect("whole");
    match Response::decode(&header, &answered[ResponseHeader::LEN..]) {
        Ok(Ok(Response::CreateTopics(mut created))) => {
            created.topics.remove(0).result.expect("it was created")
        }
        other => panic!("not an answer to a creation: {other:?}"),
    }
}

/// The id that the first topic of a broker of this seed gets.
fn first_topic_id() -> TopicId {
    let create = group_session(TopicId::NIL).into_iter().take(1);
    let said = converse(create);
    created(&said[0].1)
}

/// A session that uses every request about topics and records, and is refused in many ways.
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

/// The last request that there was when the conversation was recorded.
const LAST_RECORDED: ApiKey = ApiKey::ReportPositions;

/// Settings of topics that came after the conversation was recorded.
const ADDED_SETTINGS: [&str; 4] = [
    "cleanup.policy",
    "min.compaction.lag.ms",
    "delete.retention.ms",
    "min.cleanable.dirty.ratio",
];

/// The answer without what is no part of the format: the version of the software, and what has been added since.
fn without_release(answer: &[u8]) -> Vec<u8> {
    let header = ResponseHeader::parse(answer, u32::MAX)
        .expect("sound")
        .expect("whole");
    let response = Response::decode(&header, &answer[ResponseHeader::LEN..header.frame_length()]);
    let names = (header.api_key, header.api_version, header.correlation_id);
    match response {
        Ok(Ok(Response::ApiVersions(response))) => {
            let mut same = ApiVersionsResponse {
                broker_version: String::new(),
                ..response
            };
            // Requests are added, and none changes.
            same.apis
                .retain(|api| api.api_key <= LAST_RECORDED.as_u16());
            format!("{names:?} {same:?}").into_bytes()
        }
        // So are settings, which are described, and named where one is unknown.
        Ok(Ok(Response::DescribeTopics(mut same))) => {
            let described = same.topics.iter_mut();
            for topic in described.filter_map(|topic| topic.result.as_mut().ok()) {
                topic
                    .configs
                    .retain(|config| !ADDED_SETTINGS.contains(&&*config.key));
            }
            format!("{names:?} {same:?}").into_bytes()
        }
        Ok(Ok(Response::CreateTopics(same))) => without_added(&format!("{names:?} {same:?}")),
        Ok(Ok(Response::AlterTopicConfigs(same))) => without_added(&format!("{names:?} {same:?}")),
        _ => answer.to_vec(),
    }
}

/// A text that lists settings, without those that were added.
fn without_added(text: &str) -> Vec<u8> {
    let added = ADDED_SETTINGS.iter();
    let text = added.fold(text.to_owned(), |text, key| {
        text.replace(&format!("{key}, "), "")
    });
    text.into_bytes()
}

/// The session of two members of a group, and of whoever looks after it.
fn group_session(topic: TopicId) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut say = |request: &Request<'_>| {
        frames.push(frame(frames.len() as u32 + 1, RequestFlags::NONE, request));
    };
    let member = |number: u128, generation: u32| MemberRef {
        id: MemberId::new(Uuid::from_u128(number)),
        generation: Generation::new(generation),
    };
    let owned = |partitions: &[u32]| {
        let partitions = partitions.iter().map(|index| PartitionIndex::new(*index));
        vec![PartitionsOfTopic {
            topic,
            partitions: partitions.collect(),
        }]
    };
    let heartbeat = |group: &str, member: MemberRef, owned: Vec<PartitionsOfTopic>| {
        let subscription = Subscription {
            instance: (member.id.get().as_u128() == 2).then(|| "till".to_owned()),
            client: "recorder".to_owned(),
            session_timeout_ms: 45_000,
            rebalance_timeout_ms: 60_000,
            topics: vec!["orders".to_owned()],
            pattern: (member.id.get().as_u128() == 3).then(|| "o.*".to_owned()),
            assignor: (member.id.get().as_u128() == 3).then(|| "range".to_owned()),
        };
        Request::GroupHeartbeat(GroupHeartbeatRequest {
            group: group.to_owned(),
            member,
            subscription: (member.generation == Generation::NONE).then_some(subscription),
            owned,
        })
    };
    let commit = |member: Option<MemberRef>, indexes: &[u32]| {
        let entries = indexes.iter().map(|index| CommitEntry {
            partition: at(topic, *index),
            offset: Offset::new(u64::from(*index) + 5),
            leader_epoch: (*index == 0).then_some(LeaderEpoch::new(0)),
            metadata: "note".to_owned(),
        });
        Request::CommitOffsets(CommitOffsetsRequest {
            group: "g".to_owned(),
            member,
            entries: entries.collect(),
        })
    };
    let offsets = |partitions: Option<&[u32]>| {
        let partitions = partitions.map(|indexes| indexes.iter().map(|index| at(topic, *index)));
        Request::FetchOffsets(FetchOffsetsRequest {
            group: "g".to_owned(),
            partitions: partitions.map(Iterator::collect),
        })
    };
    let group = || "g".to_owned();
    say(&Request::CreateTopics(CreateTopicsRequest {
        topics: vec![NewTopic {
            name: "orders".to_owned(),
            partitions: 4,
            configs: Vec::new(),
        }],
        validate_only: false,
    }));
    say(&offsets(Some(&[0])));
    // The first one has the topic made that keeps groups.
    for _ in 0..2 {
        say(&heartbeat("g", member(1, 0), Vec::new()));
    }
    say(&heartbeat("g", member(1, 1), owned(&[0, 1, 2, 3])));
    say(&commit(Some(member(1, 1)), &[0, 1, 3, 9]));
    say(&heartbeat("g", member(2, 0), Vec::new()));
    say(&heartbeat("g", member(1, 1), owned(&[0, 1, 2, 3])));
    say(&heartbeat("g", member(1, 1), owned(&[0, 1])));
    say(&heartbeat("g", member(2, 2), Vec::new()));
    say(&commit(Some(member(1, 1)), &[0]));
    say(&commit(Some(member(1, 2)), &[0, 2]));
    say(&commit(None, &[0]));
    say(&heartbeat("g", member(7, 3), Vec::new()));
    say(&heartbeat("", member(1, 0), Vec::new()));
    say(&heartbeat("another", member(3, 0), Vec::new()));
    say(&offsets(None));
    say(&offsets(Some(&[0, 2, 3])));
    say(&Request::ListGroups(ListGroupsRequest));
    say(&Request::DescribeGroup(DescribeGroupRequest {
        group: group(),
    }));
    say(&Request::DescribeGroup(DescribeGroupRequest {
        group: "missing".to_owned(),
    }));
    say(&Request::DeleteGroup(DeleteGroupRequest { group: group() }));
    for (member, returns) in [
        (member(1, 2), false),
        (member(2, 2), true),
        (member(8, 1), false),
    ] {
        say(&Request::LeaveGroup(LeaveGroupRequest {
            group: group(),
            member,
            returns,
        }));
    }
    say(&Request::DescribeGroup(DescribeGroupRequest {
        group: group(),
    }));
    say(&Request::DeleteGroup(DeleteGroupRequest {
        group: "missing".to_owned(),
    }));
    frames
}

/// The session of two idempotent producers, which send much again and now and then too early.
fn producer_session(topic: TopicId) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut say = |request: &Request<'_>| {
        frames.push(frame(frames.len() as u32 + 1, RequestFlags::NONE, request));
    };
    let new = NewTopic {
        name: "orders".to_owned(),
        partitions: 2,
        configs: Vec::new(),
    };
    say(&Request::CreateTopics(CreateTopicsRequest {
        topics: vec![new],
        validate_only: false,
    }));
    for _ in 0..3 {
        say(&Request::InitProducerId(InitProducerIdRequest));
    }
    let batch = |producer: u64, epoch: u16, sequence: u32| {
        let mut batch = rich(Compression::None);
        let (id, epoch) = (ProducerId::new(producer), ProducerEpoch::new(epoch));
        set_producer(&mut batch, id, epoch, sequence);
        batch
    };
    let mut produce = |producer: u64, epoch: u16, sequence: u32, resume: bool| {
        let batch = batch(producer, epoch, sequence);
        let entries = (0..2).map(|index| corelane_protocol::request::ProduceEntry {
            partition: at(topic, index),
            resume,
            batch: &batch,
        });
        say(&Request::Produce(
            corelane_protocol::request::ProduceRequest {
                acks: Acks::All,
                timeout_ms: 30_000,
                entries: entries.collect(),
            },
        ));
    };
    for sequence in [0, 4, 8] {
        for producer in [0, 1] {
            produce(producer, 0, sequence, false);
        }
    }
    // Again, and a part of what was sent is no batch that was sent.
    for sequence in [4, 0, 8] {
        produce(0, 0, sequence, false);
    }
    produce(0, 0, 2, false);
    produce(0, 0, 12, false);
    produce(0, 0, 12, true);
    produce(1, 0, 40, false);
    produce(1, 3, 0, true);
    produce(1, 0, 12, false);
    produce(1, 3, 0, false);
    produce(2, 0, 4, false);
    produce(2, 1, 0, true);
    let everything = fetch_request(&[(at(topic, 0), 0), (at(topic, 1), 0)], 10, 1);
    say(&Request::Fetch(everything));
    frames
}

fn goes_the_same_way_again(name: &str, session: impl FnOnce() -> Vec<Vec<u8>>) {
    if std::env::var("CORELANE_GOLDEN").is_ok_and(|asked| asked == name) {
        let recorded = encode(&converse(session()));
        std::fs::create_dir_all(path(name).parent().expect("a directory"))
            .expect("it can be written");
        std::fs::write(path(name), recorded).expect("room");
    }
    let golden = decode(&std::fs::read(path(name)).expect("it is part of the sources"));
    assert!(golden.len() > 20);
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

#[test]
fn the_recorded_conversation_goes_the_same_way_again() {
    goes_the_same_way_again(RECORDS, || session(topic_id()));
}

#[test]
fn the_recorded_conversation_about_groups_goes_the_same_way_again() {
    goes_the_same_way_again(GROUPS, || group_session(first_topic_id()));
}

#[test]
fn the_recorded_conversation_with_producers_goes_the_same_way_again() {
    goes_the_same_way_again(PRODUCERS, || producer_session(first_topic_id()));
}
