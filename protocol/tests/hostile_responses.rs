//! Responses that are cut, damaged or absurd: each is refused with a typed error
//! or read as what it now says, and never costs more memory than its bytes are
//! worth.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use corelane_protocol::batch::TimestampType;
use corelane_protocol::response::{
    AlterTopicConfigsResponse, AlteredTopic, ApiVersionsResponse, BrokerMetadata, ConfigSource,
    CoreAddress, CreatePartitionsResponse, CreateTopicsResponse, CreatedTopic,
    DeleteRecordsResponse, DeleteTopicsResponse, DeletedRecords, DeletedTopic,
    DescribeTopicsResponse, DescribedPartition, DescribedReader, DescribedTopic, DivergingEpoch,
    Durability, ExtendedTopic, FetchResponse, FetchResponseHead, Fetched, FetchedEntry,
    FetchedEntryHead, FetchedHead, InitProducerIdResponse, ListOffsetsResponse, ListedEntry,
    ListedOffset, MetadataResponse, PartitionMetadata, PartitionState, ProduceResponse,
    ProducedEntry, ProducerIdentity, Receipt, ReportPositionsResponse, ReportedPosition,
    SupportedApi, TopicConfigEntry, TopicDescription, TopicMetadata, TopicPartitions, encode_error,
};
use corelane_protocol::{
    ApiError, ApiKey, BrokerId, CoreId, CorrelationId, ErrorCode, LeaderEpoch, Offset,
    PartitionIndex, ProducerEpoch, ProducerId, Response, ResponseHeader, ResponseMeta, StoreId,
    Timestamp, TopicId, TopicPartition,
};
use proptest::prelude::*;

const FRAME_BYTES_MAX: u32 = 1 << 20;
const META: ResponseMeta = ResponseMeta {
    api_version: 1,
    correlation_id: CorrelationId::new(5),
    throttle_ms: 2,
    credit_bytes: 1 << 20,
};

fn partition(number: u32) -> TopicPartition {
    TopicPartition::new(
        TopicId::from_bytes([number as u8 | 1; 16]),
        PartitionIndex::new(number),
    )
}

fn address() -> CoreAddress {
    CoreAddress {
        core: CoreId::new(3),
        host: "::1".to_owned(),
        port: 9503,
    }
}

fn refusal() -> ApiError {
    ApiError::new(ErrorCode::NotOwner, "core 3 owns it")
}

fn produce() -> Response<'static> {
    let receipt = Receipt {
        base_offset: Offset::new(1 << 40),
        append_time: Timestamp::new(1_700_000_000_000),
        log_start_offset: Offset::new(3),
        durability: Durability::Durable,
        replicas_flushed: 1,
    };
    let entry = |result, owner| ProducedEntry {
        partition: partition(1),
        result,
        owner,
    };
    let entries = vec![
        entry(Ok(receipt), None),
        entry(Err(refusal()), Some(address())),
    ];
    Response::Produce(ProduceResponse { entries })
}

fn fetch() -> Response<'static> {
    let fetched = |batches: &'static [u8]| {
        Ok(Fetched {
            high_watermark: Offset::new(9),
            log_start_offset: Offset::new(2),
            diverging: batches.is_empty().then_some(DivergingEpoch {
                epoch: LeaderEpoch::new(3),
                end_offset: Offset::new(8),
            }),
            batches,
        })
    };
    let entry = |result, owner| FetchedEntry {
        partition: partition(2),
        result,
        owner,
    };
    Response::Fetch(FetchResponse {
        entries: vec![
            entry(fetched(&[7; 24]), None),
            entry(Err(refusal()), Some(address())),
            entry(fetched(&[]), Some(address())),
            entry(fetched(&[8; 8]), None),
        ],
    })
}

fn metadata() -> Response<'static> {
    let partitions = (0..3).map(|number| PartitionMetadata {
        partition: PartitionIndex::new(number),
        leader: BrokerId::new(1),
        core: CoreId::new(2),
        leader_epoch: LeaderEpoch::new(4),
    });
    let topic = TopicPartitions {
        id: TopicId::from_bytes([1; 16]),
        timestamp_type: TimestampType::LogAppend,
        batch_bytes_max: 57_344,
        partitions: partitions.collect(),
    };
    Response::Metadata(MetadataResponse {
        brokers: vec![BrokerMetadata {
            id: BrokerId::new(1),
            host: "localhost".to_owned(),
            port: 9500,
            cores: vec![address(), address()],
        }],
        controller: BrokerId::new(1),
        topics: vec![
            TopicMetadata {
                name: "orders".to_owned(),
                result: Ok(topic),
            },
            TopicMetadata {
                name: "x".to_owned(),
                result: Err(ErrorCode::UnknownTopic.into()),
            },
        ],
    })
}

fn describe() -> Response<'static> {
    let partition = |state| DescribedPartition {
        partition: PartitionIndex::new(1),
        store: StoreId::new(2),
        core: CoreId::new(3),
        leader_epoch: LeaderEpoch::new(4),
        log_start_offset: Offset::new(5),
        high_watermark: Offset::new(6),
        log_end_offset: Offset::new(7),
        size_bytes: u64::MAX,
        epoch_start_offset: Offset::new(3),
        state,
        damage: vec!["00000.log at 8192".to_owned(); 2],
        readers: vec![DescribedReader {
            name: "billing".to_owned(),
            position: Offset::new(6),
            expired_unread: 7,
        }],
    };
    let failed = PartitionState::Failed("00000.log at 4096".to_owned());
    let config = |source| TopicConfigEntry {
        key: "k".to_owned(),
        value: "v".to_owned(),
        source,
        bounded_by: (source == ConfigSource::Default).then(|| "segment.bytes".to_owned()),
    };
    let sources = [
        ConfigSource::Topic,
        ConfigSource::Broker,
        ConfigSource::Default,
    ];
    let description = TopicDescription {
        id: TopicId::from_bytes([9; 16]),
        configs: sources.map(config).to_vec(),
        partitions: vec![partition(PartitionState::Online), partition(failed)],
    };
    Response::DescribeTopics(DescribeTopicsResponse {
        topics: vec![
            DescribedTopic {
                name: "orders".to_owned(),
                result: Ok(description),
            },
            DescribedTopic {
                name: "x".to_owned(),
                result: Err(refusal()),
            },
        ],
    })
}

/// One of each response, with every field in use.
fn responses() -> Vec<Response<'static>> {
    let listed = ListedOffset {
        offset: Offset::MAX,
        timestamp: Timestamp::new(-1),
        leader_epoch: LeaderEpoch::new(2),
    };
    let id: Result<TopicId, ApiError> = Ok(TopicId::from_bytes([4; 16]));
    let mut responses = vec![
        Response::ApiVersions(ApiVersionsResponse {
            broker_version: "0.1.0".to_owned(),
            broker_id: BrokerId::new(1),
            apis: vec![
                SupportedApi {
                    api_key: 2,
                    version_min: 1,
                    version_max: 1
                };
                3
            ],
            frame_bytes_max: 3,
            batch_bytes_max: 2,
            connection_in_flight_bytes_max: 1,
            ..ApiVersionsResponse::default()
        }),
        metadata(),
        produce(),
        fetch(),
        Response::ListOffsets(ListOffsetsResponse {
            entries: [Ok(listed), Err(refusal())]
                .map(|result| ListedEntry {
                    partition: partition(0),
                    result,
                    owner: Some(address()),
                })
                .to_vec(),
        }),
        Response::CreateTopics(CreateTopicsResponse {
            topics: [id.clone(), Err(refusal())]
                .map(|result| CreatedTopic {
                    name: "orders".to_owned(),
                    result,
                })
                .to_vec(),
        }),
        Response::ReportPositions(ReportPositionsResponse {
            entries: [Ok(Offset::new(9)), Err(refusal())]
                .map(|result| ReportedPosition {
                    partition: partition(1),
                    owner: result.is_err().then(address),
                    result,
                })
                .into(),
        }),
        Response::DeleteRecords(DeleteRecordsResponse {
            entries: [Ok(Offset::new(77)), Err(refusal())]
                .map(|result| DeletedRecords {
                    partition: partition(3),
                    result,
                    owner: Some(address()),
                })
                .to_vec(),
        }),
        Response::CreatePartitions(CreatePartitionsResponse {
            topics: [id.clone(), Err(refusal())]
                .map(|result| ExtendedTopic {
                    name: "orders".to_owned(),
                    result,
                })
                .to_vec(),
        }),
        Response::AlterTopicConfigs(AlterTopicConfigsResponse {
            topics: [id.clone(), Err(refusal())]
                .map(|result| AlteredTopic {
                    name: "orders".to_owned(),
                    result,
                })
                .to_vec(),
        }),
        Response::DeleteTopics(DeleteTopicsResponse {
            topics: [id, Err(refusal())]
                .map(|result| DeletedTopic {
                    name: "orders".to_owned(),
                    result,
                })
                .to_vec(),
        }),
        describe(),
    ];
    responses.extend(
        [
            Ok(ProducerIdentity {
                producer_id: ProducerId::new(1000),
                producer_epoch: ProducerEpoch::new(0),
                window: 1024,
            }),
            Err(ErrorCode::DiskFull.into()),
        ]
        .map(|result| Response::InitProducerId(InitProducerIdResponse { result })),
    );
    responses.extend(support::group_responses::samples());
    responses
}

fn encode(response: &Response<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    response.encode(&META, &mut frame);
    frame
}

type Decoded<'a> = Result<Result<Response<'a>, ApiError>, ApiError>;

/// Reads a frame's body as its header names it: a refusal of the frame outside,
/// one by the broker inside.
fn decode(frame: &[u8]) -> Decoded<'_> {
    let header = ResponseHeader::parse(frame, FRAME_BYTES_MAX)?.unwrap();
    Ok(Response::decode(&header, &frame[ResponseHeader::LEN..])?)
}

/// The memory that a body of so many bytes may cost: some, and a multiple that
/// covers the shortest items.
fn worth(frame: &[u8]) -> u64 {
    16 * 1024 + 64 * frame.len() as u64
}

#[test]
fn responses_read_back() {
    let mut seen = std::collections::BTreeSet::new();
    for response in responses() {
        let frame = encode(&response);
        let header = ResponseHeader::parse(&frame, FRAME_BYTES_MAX)
            .unwrap()
            .unwrap();
        assert_eq!(header.frame_length(), frame.len());
        assert_eq!((header.throttle_ms, header.credit_bytes), (2, 1 << 20));
        assert_eq!(decode(&frame), Ok(Ok(response.clone())));
        seen.insert(response.api_key());
    }
    assert_eq!(seen.len(), ApiKey::ALL.len());
}

#[test]
fn every_prefix_is_refused() {
    for response in responses() {
        let frame = encode(&response);
        let header = ResponseHeader::parse(&frame, FRAME_BYTES_MAX)
            .unwrap()
            .unwrap();
        for length in ResponseHeader::LEN..frame.len() {
            let body = &frame[ResponseHeader::LEN..length];
            let (decoded, bytes) = support::peak(|| Response::decode(&header, body));
            decoded.unwrap_err();
            assert!(
                bytes <= worth(&frame),
                "{}: {bytes} bytes",
                response.api_key()
            );
        }
    }
}

#[test]
fn every_flip_is_refused_or_read_as_what_it_says() {
    for response in responses() {
        let frame = encode(&response);
        for (bit, flipped) in support::flips(&frame, 0..frame.len()) {
            let (decoded, bytes) = support::peak(|| decode(&flipped));
            assert!(bytes <= worth(&frame), "bit {bit}: {bytes} bytes");
            if bit / 8 < ResponseHeader::LEN {
                continue;
            }
            if let Ok(Ok(decoded)) = decoded {
                assert_ne!(decoded, response, "bit {bit} is ignored");
                assert_eq!(decode(&encode(&decoded)), Ok(Ok(decoded)));
            }
        }
    }
}

#[test]
fn absurd_numbers_reserve_nothing() {
    for response in responses() {
        let frame = encode(&response);
        for (at, absurd) in support::absurdities(&frame) {
            let (read, bytes) = support::peak(|| decode(&absurd).is_ok());
            assert!(
                bytes <= worth(&frame),
                "at {at}, read {read}: {bytes} bytes"
            );
        }
    }
}

#[test]
fn refusals_of_whole_requests_read_back() {
    let mut frame = Vec::new();
    let error = ApiError::new(ErrorCode::UnsupportedApi, "no request has the API key 900");
    encode_error(900, &META, &error, &mut frame);
    assert_eq!(decode(&frame), Ok(Err(error)));
    for length in ResponseHeader::LEN..frame.len() {
        let header = ResponseHeader::parse(&frame, FRAME_BYTES_MAX)
            .unwrap()
            .unwrap();
        Response::decode(&header, &frame[ResponseHeader::LEN..length]).unwrap_err();
    }
    for (_, flipped) in support::flips(&frame, 0..frame.len()) {
        let _ = decode(&flipped);
    }
}

#[test]
fn codes_of_newer_brokers_read_as_internal_with_their_number() {
    let mut frame = Vec::new();
    encode_error(
        2,
        &META,
        &ApiError::new(ErrorCode::Internal, "why"),
        &mut frame,
    );
    frame[20..22].copy_from_slice(&999_u16.to_le_bytes());
    let error = decode(&frame).unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::Internal);
    assert!(
        error.message.contains("999") && error.message.contains("why"),
        "{error}"
    );
}

#[test]
fn messages_are_cut_to_what_fits() {
    let mut frame = Vec::new();
    let error = ApiError::new(ErrorCode::Internal, "ä".repeat(40_000));
    encode_error(2, &META, &error, &mut frame);
    let read = decode(&frame).unwrap().unwrap_err();
    assert_eq!(read.message, "ä".repeat(32_767));
}

#[test]
fn a_response_that_no_frame_holds_becomes_an_error() {
    let topics = vec![CreatedTopic {
        name: "x".repeat(70_000),
        result: Err(refusal()),
    }];
    let frame = encode(&Response::CreateTopics(CreateTopicsResponse { topics }));
    assert_eq!(
        decode(&frame).unwrap().unwrap_err().code,
        ErrorCode::Internal
    );
    let result = Ok(FetchedHead {
        high_watermark: Offset::ZERO,
        log_start_offset: Offset::ZERO,
        batch_bytes: u32::MAX - 7,
        diverging: None,
    });
    let entry = FetchedEntryHead {
        partition: partition(0),
        result,
        owner: None,
    };
    let head = FetchResponseHead {
        entries: vec![entry; 2],
    };
    let mut frame = Vec::new();
    assert!(!head.encode_head(&META, &mut frame));
    assert_eq!(
        decode(&frame).unwrap().unwrap_err().code,
        ErrorCode::Internal
    );
}

#[test]
fn a_fetch_is_sent_in_parts_as_in_one() {
    let Response::Fetch(fetch) = fetch() else {
        panic!("no fetch")
    };
    let heads = fetch.entries.iter().map(|entry| FetchedEntryHead {
        partition: entry.partition,
        result: entry.result.clone().map(|fetched| FetchedHead {
            high_watermark: fetched.high_watermark,
            log_start_offset: fetched.log_start_offset,
            batch_bytes: fetched.batches.len() as u32,
            diverging: fetched.diverging,
        }),
        owner: entry.owner.clone(),
    });
    let head = FetchResponseHead {
        entries: heads.collect(),
    };
    assert_eq!(head.raw_bytes(), 32);
    let mut parts = Vec::new();
    assert!(head.encode_head(&META, &mut parts));
    assert_eq!(parts.len() % 8, 0);
    for fetched in fetch
        .entries
        .iter()
        .filter_map(|entry| entry.result.as_ref().ok())
    {
        parts.extend_from_slice(fetched.batches);
    }
    assert_eq!(parts, encode(&Response::Fetch(fetch)));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(api_key in 0..ApiKey::ALL.len() as u16, body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let header = ResponseHeader {
            length: (body.len() + ResponseHeader::LEN - 4) as u32,
            api_key,
            api_version: 1,
            correlation_id: CorrelationId::new(1),
            throttle_ms: 0,
            credit_bytes: 0,
            error_code: 0,
        };
        let (_, bytes) = support::peak(|| Response::decode(&header, &body).is_ok());
        prop_assert!(bytes <= worth(&body));
    }

    #[test]
    fn fetched_batches_round_trip(
        sizes in proptest::collection::vec((0..20_usize, any::<bool>()), 0..20),
        fill in any::<u8>(),
    ) {
        let bytes = [fill; 200];
        let entries = sizes.iter().map(|&(size, fails)| FetchedEntry {
            partition: partition(0),
            result: if fails { Err(refusal()) } else {
                Ok(Fetched {
                    high_watermark: Offset::new(1),
                    log_start_offset: Offset::new(0),
                    diverging: None,
                    batches: &bytes[..8 * size],
                })
            },
            owner: fails.then(address),
        });
        let response = Response::Fetch(FetchResponse { entries: entries.collect() });
        let frame = encode(&response);
        prop_assert_eq!(decode(&frame), Ok(Ok(response)));
    }
}
