//! Requests that are cut, damaged or absurd: each is refused with a typed error
//! or read as what it now says, and never costs more memory than its bytes are
//! worth.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use corelane_protocol::request::{
    Acks, AlterTopicConfigsRequest, ApiVersionsRequest, CreatePartitionsRequest,
    CreateTopicsRequest, DeleteBefore, DeleteRecordsEntry, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeTopicsRequest, FetchEntry, FetchRequest, InitProducerIdRequest,
    ListOffsetsEntry, ListOffsetsRequest, MetadataRequest, NewTopic, OffsetPosition, PositionEntry,
    ProduceEntry, ProduceRequest, ReportPositionsRequest, TopicAlteration, TopicExtension,
};
use corelane_protocol::{
    ApiError, ApiKey, CorrelationId, DecodeError, EncodeError, ErrorCode, LeaderEpoch, Offset,
    PartitionIndex, Request, RequestFlags, RequestHeader, Timestamp, TopicId, TopicPartition,
};
use proptest::prelude::*;

const FRAME_BYTES_MAX: u32 = 1 << 20;

fn partition(number: u32) -> TopicPartition {
    TopicPartition::new(
        TopicId::from_bytes([number as u8 | 1; 16]),
        PartitionIndex::new(number),
    )
}

fn names() -> Vec<String> {
    vec!["orders".to_owned(), "ä".to_owned(), String::new()]
}

/// One of each request, with every field in use.
fn requests() -> Vec<Request<'static>> {
    let mut requests = vec![
        Request::ApiVersions(ApiVersionsRequest {
            client_name: "probe".to_owned(),
            client_version: "1.2".to_owned(),
        }),
        Request::Metadata(MetadataRequest { topics: None }),
        Request::Metadata(MetadataRequest {
            topics: Some(names()),
        }),
        Request::Produce(ProduceRequest {
            acks: Acks::All,
            timeout_ms: 30_000,
            entries: vec![
                ProduceEntry {
                    partition: partition(0),
                    resume: true,
                    batch: &[7; 16],
                },
                ProduceEntry {
                    partition: partition(1),
                    resume: false,
                    batch: &[],
                },
                ProduceEntry {
                    partition: partition(0),
                    resume: false,
                    batch: &[9; 24],
                },
            ],
        }),
        Request::Fetch(FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 1 << 20,
            entries: vec![
                FetchEntry {
                    partition: partition(0),
                    offset: Offset::new(70),
                    max_bytes: 4096,
                    current_epoch: Some(LeaderEpoch::new(3)),
                    last_epoch: Some(LeaderEpoch::new(2)),
                },
                FetchEntry::new(partition(2), Offset::MAX, 1),
            ],
        }),
        Request::ListOffsets(ListOffsetsRequest {
            entries: [
                OffsetPosition::Earliest,
                OffsetPosition::Latest,
                OffsetPosition::Timestamp(Timestamp::new(1_700_000_000_000)),
            ]
            .map(|position| ListOffsetsEntry {
                partition: partition(1),
                position,
            })
            .to_vec(),
        }),
        Request::CreateTopics(CreateTopicsRequest {
            topics: vec![
                NewTopic {
                    name: "orders".to_owned(),
                    partitions: 8,
                    configs: vec![("segment.bytes".to_owned(), "1048576".to_owned())],
                },
                NewTopic::default(),
            ],
            validate_only: true,
        }),
        Request::DeleteTopics(DeleteTopicsRequest { names: names() }),
        Request::DescribeTopics(DescribeTopicsRequest {
            topics: Some(names()),
        }),
        Request::ReportPositions(ReportPositionsRequest {
            reader: "billing".to_owned(),
            entries: (0..3)
                .map(|number| PositionEntry {
                    partition: partition(number),
                    position: Offset::new(u64::from(number) * 9),
                })
                .collect(),
        }),
        Request::DeleteRecords(DeleteRecordsRequest {
            entries: [
                DeleteBefore::HighWatermark,
                DeleteBefore::Offset(Offset::ZERO),
                DeleteBefore::Offset(Offset::MAX),
            ]
            .map(|before| DeleteRecordsEntry {
                partition: partition(1),
                before,
            })
            .to_vec(),
        }),
        Request::CreatePartitions(CreatePartitionsRequest {
            topics: vec![
                TopicExtension {
                    name: "orders".to_owned(),
                    total: 12,
                },
                TopicExtension::default(),
            ],
            validate_only: true,
        }),
        Request::AlterTopicConfigs(AlterTopicConfigsRequest {
            topics: vec![
                TopicAlteration {
                    name: "orders".to_owned(),
                    set: vec![("flush.ms".to_owned(), "10".to_owned())],
                    unset: names(),
                },
                TopicAlteration::default(),
            ],
            validate_only: true,
        }),
    ];
    requests.push(Request::InitProducerId(InitProducerIdRequest));
    requests.extend(support::group_requests::samples());
    requests
}

fn encode(request: &Request<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    request
        .encode(CorrelationId::new(5), RequestFlags::NO_FORWARD, &mut frame)
        .unwrap();
    frame
}

/// Reads a frame's body as its header names it.
fn decode(frame: &[u8]) -> Result<Request<'_>, ApiError> {
    let header = RequestHeader::parse(frame, FRAME_BYTES_MAX)?.unwrap();
    Ok(Request::decode(
        header.api_key,
        header.api_version,
        &frame[RequestHeader::LEN..],
    )?)
}

/// The memory that a body of so many bytes may cost: some, and a multiple that
/// covers the shortest items.
fn worth(frame: &[u8]) -> u64 {
    16 * 1024 + 64 * frame.len() as u64
}

#[test]
fn requests_read_back() {
    let mut seen = std::collections::BTreeSet::new();
    for request in requests() {
        let frame = encode(&request);
        let header = RequestHeader::parse(&frame, FRAME_BYTES_MAX)
            .unwrap()
            .unwrap();
        assert_eq!(header.frame_length(), frame.len());
        assert_eq!(header.correlation_id.get(), 5);
        assert!(header.flags.no_forward());
        assert_eq!(decode(&frame).unwrap(), request);
        seen.insert(request.api_key());
    }
    assert_eq!(seen.len(), ApiKey::ALL.len());
}

#[test]
fn every_prefix_is_refused() {
    for request in requests() {
        let frame = encode(&request);
        for length in RequestHeader::LEN..frame.len() {
            let body = &frame[RequestHeader::LEN..length];
            let key = request.api_key();
            let (decoded, bytes) = support::peak(|| Request::decode(key.as_u16(), 1, body));
            let error = decoded.unwrap_err();
            assert_eq!(
                error.code(),
                ErrorCode::MalformedRequest,
                "{key} {length}: {error}"
            );
            assert!(bytes <= worth(&frame), "{key} {length}: {bytes} bytes");
        }
        let mut longer = frame.clone();
        longer.push(0);
        let body = &longer[RequestHeader::LEN..];
        let error = Request::decode(request.api_key().as_u16(), 1, body).unwrap_err();
        assert!(
            matches!(error, DecodeError::Trailing { left: 1, .. }),
            "{error}"
        );
    }
}

#[test]
fn every_flip_is_refused_or_read_as_what_it_says() {
    for request in requests() {
        let frame = encode(&request);
        for (bit, flipped) in support::flips(&frame, 0..frame.len()) {
            let (decoded, bytes) = support::peak(|| decode(&flipped));
            assert!(bytes <= worth(&frame), "bit {bit}: {bytes} bytes");
            // The correlation id and the flags are the header's alone.
            let Ok(decoded) = decoded else { continue };
            if bit / 8 < RequestHeader::LEN {
                continue;
            }
            assert_eq!(encode(&decoded), flipped, "bit {bit} has no meaning");
            assert_ne!(decoded, request, "bit {bit} is ignored");
        }
    }
}

#[test]
fn absurd_numbers_reserve_nothing() {
    for request in requests() {
        let frame = encode(&request);
        for (at, absurd) in support::absurdities(&frame) {
            let (decoded, bytes) = support::peak(|| decode(&absurd).is_ok());
            assert!(
                bytes <= worth(&frame),
                "at {at}, read {decoded}: {bytes} bytes"
            );
        }
    }
}

#[test]
fn counts_are_held_against_the_body() {
    for (key, count_at) in [
        (4_u16, 0),
        (6, 0),
        (3, 12),
        (2, 8),
        (5, 1),
        (8, 1),
        (9, 1),
        (10, 0),
        (1, 1),
        (7, 1),
        (12, 23),
        (14, 3),
        (15, 3),
    ] {
        for count in [3, 1 << 24, 1 << 31, u32::MAX] {
            let mut body = vec![0; 64];
            if matches!(key, 1 | 7 | 15) {
                body[count_at - 1] = 1;
            }
            body.truncate(count_at + 4);
            body[count_at..].copy_from_slice(&count.to_le_bytes());
            let (decoded, bytes) = support::peak(|| Request::decode(key, 1, &body));
            let expected = DecodeError::CountTooLarge {
                at: count_at,
                count,
                at_most: 0,
            };
            assert_eq!(decoded, Err(expected));
            assert_eq!(bytes, 0);
        }
    }
}

#[test]
fn lists_of_names_end_somewhere() {
    // As many empty names, or topics without partitions, as a frame of 8 MiB has room for.
    for (key, count_at, item_bytes) in [(6, 0, 2), (12, 23, 20)] {
        let count = (8_u32 << 20) / item_bytes;
        let mut body = vec![0; count_at];
        body.extend(count.to_le_bytes());
        body.resize(body.len() + (count * item_bytes) as usize, 0);
        let (decoded, bytes) = support::peak(|| Request::decode(key, 1, &body));
        let expected = DecodeError::CountTooLarge {
            at: count_at,
            count,
            at_most: 65_536,
        };
        assert_eq!(decoded, Err(expected));
        assert_eq!(bytes, 0);
    }
}

#[test]
fn unknown_requests_and_versions_are_told_apart() {
    for api_key in ApiKey::ALL.len() as u16..=u16::MAX {
        let error = Request::decode(api_key, 1, &[]).unwrap_err();
        assert_eq!(
            (error.code(), error),
            (
                ErrorCode::UnsupportedApi,
                DecodeError::UnknownApi { api_key }
            )
        );
    }
    for key in ApiKey::ALL {
        for version in [0, 2, u16::MAX] {
            let error = Request::decode(key.as_u16(), version, &[]).unwrap_err();
            assert_eq!(error.code(), ErrorCode::UnsupportedVersion);
            assert!(error.to_string().contains("in 1 to 1"), "{error}");
        }
    }
}

#[test]
fn what_cannot_be_sent_is_refused_before() {
    let mut frame = vec![1, 2, 3];
    let long = Request::DeleteTopics(DeleteTopicsRequest {
        names: vec!["x".repeat(65_536)],
    });
    let encoded = long.encode(CorrelationId::new(0), RequestFlags::NONE, &mut frame);
    assert_eq!(encoded, Err(EncodeError::TextTooLong { length: 65_536 }));
    let many = Request::DeleteTopics(DeleteTopicsRequest {
        names: vec![String::new(); 65_537],
    });
    let encoded = many.encode(CorrelationId::new(0), RequestFlags::NONE, &mut frame);
    assert_eq!(encoded, Err(EncodeError::CountTooLarge { count: 65_537 }));
    let produce = ProduceRequest {
        acks: Acks::Leader,
        timeout_ms: 0,
        entries: vec![ProduceEntry {
            partition: partition(0),
            resume: false,
            batch: &[0; 9],
        }],
    };
    let encoded = produce.encode_head(CorrelationId::new(0), RequestFlags::NONE, &mut frame);
    assert_eq!(encoded, Err(EncodeError::BatchNotPadded { length: 9 }));
    assert_eq!(frame, [1, 2, 3]);
}

#[test]
fn batches_lie_at_multiples_of_eight() {
    for entries in 1..6 {
        let batches: Vec<Vec<u8>> = (0..entries).map(|n| vec![n as u8; 8 * (n + 1)]).collect();
        let entry = |batch| ProduceEntry {
            partition: partition(0),
            resume: false,
            batch,
        };
        let entries = batches
            .iter()
            .map(|batch| entry(batch.as_slice()))
            .collect();
        let request = ProduceRequest {
            acks: Acks::None,
            timeout_ms: 1,
            entries,
        };
        let frame = encode(&Request::Produce(request.clone()));
        let mut head = Vec::new();
        request
            .encode_head(CorrelationId::new(5), RequestFlags::NO_FORWARD, &mut head)
            .unwrap();
        assert_eq!(head.len() % 8, 0);
        assert_eq!(frame, [head, batches.concat()].concat());
        let Request::Produce(read) = decode(&frame).unwrap() else {
            panic!("no produce")
        };
        for entry in &read.entries {
            assert_eq!((entry.batch.as_ptr().addr() - frame.as_ptr().addr()) % 8, 0);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(api_key in 0..ApiKey::ALL.len() as u16, body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (decoded, bytes) = support::peak(|| Request::decode(api_key, 1, &body));
        prop_assert!(bytes <= worth(&body));
        if let Ok(request) = decoded {
            prop_assert_eq!(&encode(&request)[RequestHeader::LEN..], &body[..]);
        }
    }

    #[test]
    fn fetches_and_names_round_trip(
        offsets in proptest::collection::vec((0..1_u64 << 63, any::<u32>(), any::<u32>()), 0..50),
        names in proptest::option::of(proptest::collection::vec("\\PC{0,20}", 0..400)),
    ) {
        let entry = |&(offset, number, max_bytes): &(u64, u32, u32)| FetchEntry {
            partition: partition(number), offset: Offset::new(offset), max_bytes,
            current_epoch: (number % 3 > 0).then_some(LeaderEpoch::new(number / 2)),
            last_epoch: (number % 2 > 0).then_some(LeaderEpoch::new(max_bytes / 2)),
        };
        let entries = offsets.iter().map(entry).collect();
        let fetch = Request::Fetch(FetchRequest { max_wait_ms: 1, min_bytes: 2, max_bytes: 3, entries });
        let frame = encode(&fetch);
        prop_assert_eq!(decode(&frame).unwrap(), fetch);
        let metadata = Request::Metadata(MetadataRequest { topics: names });
        let frame = encode(&metadata);
        prop_assert_eq!(decode(&frame).unwrap(), metadata);
    }
}
