//! The bytes themselves: what one version wrote, every later one must read. The
//! offsets are those of `docs/wire.md`, written here once more by hand.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "golden/groups.rs"]
mod groups;

use corelane_protocol::batch::{
    BatchBuilder, BatchBuilderConfig, BatchLimits, DecompressLimit, RecordBatch, RecordRef, Stamp,
    TimestampType, validate,
};
use corelane_protocol::request::{
    Acks, AlterTopicConfigsRequest, InitProducerIdRequest, ProduceEntry, ProduceRequest,
    TopicAlteration,
};
use corelane_protocol::response::{
    BrokerMetadata, CoreAddress, DivergingEpoch, FetchResponse, Fetched, FetchedEntry,
    InitProducerIdResponse, MetadataResponse, PartitionMetadata, ProducerIdentity, TopicMetadata,
    TopicPartitions,
};
use corelane_protocol::{
    AlignedBytes, ApiError, BrokerId, CoreId, CorrelationId, ErrorCode, LeaderEpoch, Offset,
    PartitionIndex, ProducerEpoch, ProducerId, Request, RequestFlags, Response, ResponseMeta,
    Timestamp, TopicId, TopicPartition,
};

const TOPIC: [u8; 16] = *b"\x01\x23\x45\x67\x89\xab\x4d\xef\x81\x23\x45\x67\x89\xab\xcd\xef";

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| {
        line.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    bytes.chunks(16).map(line).collect::<Vec<_>>().join("\n")
}

fn golden_batch() -> AlignedBytes {
    let config = BatchBuilderConfig {
        producer_id: ProducerId::new(0x0102_0304_0506_0708),
        producer_epoch: ProducerEpoch::new(0x1112),
        ..BatchBuilderConfig::default()
    };
    let mut builder = BatchBuilder::new(config).unwrap();
    builder.set_base_sequence(0x2122_2324);
    let records = [
        (
            Some(&b"key"[..]),
            Some(&b"value"[..]),
            &[("trace", Some(&b"on"[..]))][..],
            1_700_000_000_000,
        ),
        (None, None, &[], 1_700_000_000_007),
    ];
    for (key, value, headers, time) in records {
        let timestamp = Timestamp::new(time);
        builder
            .try_push(RecordRef {
                key,
                value,
                headers,
                timestamp,
            })
            .unwrap();
    }
    let mut batch = builder.finish().unwrap();
    let stamp = Stamp {
        topic: TopicId::from_bytes(TOPIC),
        partition: PartitionIndex::new(0x3132_3334),
        leader_epoch: LeaderEpoch::new(0x4142_4344),
        base_offset: Offset::new(0x5152_5354_5556_5758),
        append_time: Timestamp::new(0x6162_6364_6566_6768),
    };
    stamp.write(&mut batch);
    batch
}

const GOLDEN_BATCH: &str = "\
5534019eaaa03edd0123456789ab4def
8123456789abcdef3433323144434241
58575655545352516867666564636261
aaa03eddbac101014001000000000000
02000000010000000068e5cf8b010000
0768e5cf8b0100000807060504030201
1211000024232221cc000000cc000000
050005000276616c756503000300026b
6579000000000000f2ffffff02000000
eeffffff01000000e7ffffff03000000
00000700010000000100000005007472
6163650002006f6e01000000e8ffffff
0200000000000000e4ffffff01000000
deffffff00000000d6ffffff05000000
00000000d0ffffff01000000caffffff
00000000c2ffffff0200000000000000
70ffffff020000006cffffff01000000
65ffffff050000000100000068ffffff
010000007cffffff0200000078ffffff
000000000100000080ffffff00000000";

#[test]
fn the_golden_batch_is_written_and_read() {
    let batch = golden_batch();
    assert_eq!(hex(&batch), GOLDEN_BATCH);
    validate(&batch, &BatchLimits::default()).unwrap();
    let read = RecordBatch::parse(&batch[..], &DecompressLimit::default()).unwrap();
    let records: Vec<_> = read.records().collect();
    assert_eq!(
        (records[0].key, records[0].value),
        (Some(&b"key"[..]), Some(&b"value"[..]))
    );
    assert_eq!(
        records[0].headers().collect::<Vec<_>>(),
        [("trace", Some(&b"on"[..]))]
    );
    assert_eq!((records[1].key, records[1].value), (None, None));
    assert_eq!(records[1].timestamp.get(), 1_700_000_000_007);
    assert_eq!(records[1].offset.get(), 0x5152_5354_5556_5759);
}

#[test]
fn the_batch_header_stands_where_the_document_says() {
    let batch = golden_batch();
    let field = |at: usize, width: usize| {
        let bytes = batch[at..at + width].iter().rev();
        bytes.fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    assert_eq!(field(0, 4), u64::from(crc32c::crc32c(&batch[4..48])));
    assert_eq!(field(4, 4), field(48, 4));
    assert_eq!(batch[8..24], TOPIC);
    assert_eq!(field(24, 4), 0x3132_3334);
    assert_eq!(field(28, 4), 0x4142_4344);
    assert_eq!(field(32, 8), 0x5152_5354_5556_5758);
    assert_eq!(field(40, 8), 0x6162_6364_6566_6768);
    assert_eq!(field(48, 4), u64::from(crc32c::crc32c(&batch[52..])));
    assert_eq!(field(52, 2), 0xc1ba);
    assert_eq!((field(54, 1), field(55, 1)), (1, 1));
    assert_eq!(field(56, 4), batch.len() as u64);
    assert_eq!((field(60, 2), field(62, 2)), (0, 0));
    assert_eq!((field(64, 4), field(68, 4)), (2, 1));
    assert_eq!(field(72, 8), 1_700_000_000_000);
    assert_eq!(field(80, 8), 1_700_000_000_007);
    assert_eq!(field(88, 8), 0x0102_0304_0506_0708);
    assert_eq!((field(96, 2), field(98, 2)), (0x1112, 0));
    assert_eq!(field(100, 4), 0x2122_2324);
    assert_eq!(field(104, 4), field(108, 4));
    assert_eq!(
        (112 + field(104, 4)).next_multiple_of(8),
        batch.len() as u64
    );
}

const GOLDEN_PRODUCE: &str = "\
6c000000020001000d0c0b0a01000000
ffff0000307500000200000001234567
89ab4def8123456789abcdef07000000
01000000080000000123456789ab4def
8123456789abcdef0700000000000000
10000000000000003132333435363738
4142434445464748494a4b4c4d4e4f50";

#[test]
fn the_golden_produce_request_is_written() {
    let entry = |resume, batch| {
        let partition = TopicPartition::new(TopicId::from_bytes(TOPIC), PartitionIndex::new(7));
        ProduceEntry {
            partition,
            resume,
            batch,
        }
    };
    let request = Request::Produce(ProduceRequest {
        acks: Acks::All,
        timeout_ms: 30_000,
        entries: vec![entry(true, b"12345678"), entry(false, b"ABCDEFGHIJKLMNOP")],
    });
    let mut frame = Vec::new();
    request
        .encode(
            CorrelationId::new(0x0a0b_0c0d),
            RequestFlags::NO_FORWARD,
            &mut frame,
        )
        .unwrap();
    assert_eq!(hex(&frame), GOLDEN_PRODUCE);
}

const GOLDEN_IDENTITY: &str = "\
0c000000130001000d0c0b0a00000000
24000000130001000d0c0b0a00000000
00001000000000000000080706050403
0201121100040000";

#[test]
fn the_golden_producer_identity_is_asked_for_and_answered() {
    let mut frame = Vec::new();
    let request = Request::InitProducerId(InitProducerIdRequest);
    let correlation = CorrelationId::new(0x0a0b_0c0d);
    request
        .encode(correlation, RequestFlags::NONE, &mut frame)
        .unwrap();
    let meta = ResponseMeta {
        api_version: 1,
        correlation_id: correlation,
        throttle_ms: 0,
        credit_bytes: 0x0010_0000,
    };
    let result = Ok(ProducerIdentity {
        producer_id: ProducerId::new(0x0102_0304_0506_0708),
        producer_epoch: ProducerEpoch::new(0x1112),
        window: 1024,
    });
    Response::InitProducerId(InitProducerIdResponse { result }).encode(&meta, &mut frame);
    assert_eq!(hex(&frame), GOLDEN_IDENTITY);
}

const GOLDEN_ALTER: &str = "\
3e000000080001000d0c0b0a00000000
000100000006006f7264657273010000
000800666c7573682e6d730200313001
0000000d007365676d656e742e627974
6573";

#[test]
fn the_golden_alter_request_is_written() {
    let request = Request::AlterTopicConfigs(AlterTopicConfigsRequest {
        topics: vec![TopicAlteration {
            name: "orders".to_owned(),
            set: vec![("flush.ms".to_owned(), "10".to_owned())],
            unset: vec!["segment.bytes".to_owned()],
        }],
        validate_only: false,
    });
    let mut frame = Vec::new();
    let correlation = CorrelationId::new(0x0a0b_0c0d);
    request
        .encode(correlation, RequestFlags::NONE, &mut frame)
        .unwrap();
    assert_eq!(hex(&frame), GOLDEN_ALTER);
}

const GOLDEN_METADATA: &str = "\
6b000000010001000d0c0b0a00000000
00001000000000000100000001000000
01006824250100000002000100682425
01000000020000000100740000012345
6789ab4def8123456789abcdef0100e0
00000100000007000000010000000200
04000000010078090004006e6f6e65";

#[test]
fn the_golden_metadata_response_is_written() {
    let broker = BrokerId::new(1);
    let partition = PartitionMetadata {
        partition: PartitionIndex::new(7),
        leader: broker,
        core: CoreId::new(2),
        leader_epoch: LeaderEpoch::new(4),
    };
    let topic = TopicPartitions {
        id: TopicId::from_bytes(TOPIC),
        timestamp_type: TimestampType::LogAppend,
        batch_bytes_max: 57_344,
        partitions: vec![partition],
    };
    let response = Response::Metadata(MetadataResponse {
        brokers: vec![BrokerMetadata {
            id: broker,
            host: "h".to_owned(),
            port: 0x2524,
            cores: vec![CoreAddress {
                core: CoreId::new(2),
                host: "h".to_owned(),
                port: 0x2524,
            }],
        }],
        controller: broker,
        topics: vec![
            TopicMetadata {
                name: "t".to_owned(),
                result: Ok(topic),
            },
            TopicMetadata {
                name: "x".to_owned(),
                result: Err(ApiError::new(ErrorCode::UnknownTopic, "none")),
            },
        ],
    });
    let meta = ResponseMeta {
        api_version: 1,
        correlation_id: CorrelationId::new(0x0a0b_0c0d),
        throttle_ms: 0,
        credit_bytes: 0x0010_0000,
    };
    let mut frame = Vec::new();
    response.encode(&meta, &mut frame);
    assert_eq!(hex(&frame), GOLDEN_METADATA);
}

const GOLDEN_FETCH: &str = "\
5c000000030001000d0c0b0a05000000
00001000000000000100000001234567
89ab4def8123456789abcdef07000000
00002221000000000000110000000000
00000800000051000000610000000000
00000000000000003132333435363738";

#[test]
fn the_golden_fetch_response_is_written() {
    let response = Response::Fetch(FetchResponse {
        entries: vec![FetchedEntry {
            partition: TopicPartition::new(TopicId::from_bytes(TOPIC), PartitionIndex::new(7)),
            result: Ok(Fetched {
                high_watermark: Offset::new(0x2122),
                log_start_offset: Offset::new(0x11),
                diverging: Some(DivergingEpoch {
                    epoch: LeaderEpoch::new(0x51),
                    end_offset: Offset::new(0x61),
                }),
                batches: b"12345678",
            }),
            owner: None,
        }],
    });
    let meta = ResponseMeta {
        api_version: 1,
        correlation_id: CorrelationId::new(0x0a0b_0c0d),
        throttle_ms: 5,
        credit_bytes: 0x0010_0000,
    };
    let mut frame = Vec::new();
    response.encode(&meta, &mut frame);
    assert_eq!(hex(&frame), GOLDEN_FETCH);
}
