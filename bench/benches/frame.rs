//! What the broker does with each frame beside its batch: reading the header and the request, and writing the answer.

use std::hint::black_box;

use corelane_protocol::batch::{BatchBuilder, BatchBuilderConfig, RecordRef};
use corelane_protocol::request::{Acks, ProduceEntry, ProduceRequest};
use corelane_protocol::response::{Durability, ProduceResponse, ProducedEntry, Receipt};
use corelane_protocol::{
    CorrelationId, FRAME_BYTES_MAX_DEFAULT, Offset, PartitionIndex, Request, RequestFlags,
    RequestHeader, Response, ResponseHeader, ResponseMeta, Timestamp, TopicId, TopicPartition,
};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn partition(index: u32) -> TopicPartition {
    TopicPartition::new(TopicId::from_bytes([7; 16]), PartitionIndex::new(index))
}

fn request(entries: u32) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchBuilderConfig::default()).expect("no codec is set up");
    let value = [0x5a; 1000];
    let record = RecordRef {
        value: Some(&value),
        ..RecordRef::default()
    };
    builder.try_push(record).expect("the batch has room");
    let batch = builder.finish().expect("a record is there");
    let entries = (0..entries).map(|index| ProduceEntry {
        partition: partition(index),
        resume: false,
        batch: &batch,
    });
    let request = Request::Produce(ProduceRequest {
        acks: Acks::All,
        timeout_ms: 30_000,
        entries: entries.collect(),
    });
    let mut frame = Vec::new();
    let encoded = request.encode(CorrelationId::new(1), RequestFlags::NONE, &mut frame);
    encoded.expect("it fits");
    frame
}

fn response(entries: u32) -> Response<'static> {
    let receipt = Receipt {
        base_offset: Offset::new(7),
        append_time: Timestamp::new(1),
        log_start_offset: Offset::new(0),
        durability: Durability::Durable,
        replicas_flushed: 1,
    };
    let entries = (0..entries).map(|index| ProducedEntry {
        partition: partition(index),
        result: Ok(receipt),
        owner: None,
    });
    Response::Produce(ProduceResponse {
        entries: entries.collect(),
    })
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("produce frame");
    for entries in [1, 16] {
        let frame = request(entries);
        group.bench_function(BenchmarkId::new("parse request", entries), |bencher| {
            bencher.iter(|| {
                let frame = black_box(&frame[..]);
                let header = RequestHeader::parse(frame, FRAME_BYTES_MAX_DEFAULT);
                let header = header.expect("it is sound").expect("it is whole");
                let body = &frame[RequestHeader::LEN..];
                match Request::decode(header.api_key, header.api_version, body) {
                    Ok(Request::Produce(request)) => request.entries.len(),
                    other => panic!("a produce request, not {other:?}"),
                }
            });
        });
        let answer = response(entries);
        let meta = ResponseMeta::default();
        let mut out = Vec::new();
        group.bench_function(BenchmarkId::new("write response", entries), |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(&answer).encode(&meta, &mut out);
                out.len()
            });
        });
        let mut answered = Vec::new();
        let meta = ResponseMeta {
            api_version: corelane_protocol::ApiKey::Produce.version(),
            ..ResponseMeta::default()
        };
        answer.encode(&meta, &mut answered);
        group.bench_function(BenchmarkId::new("parse response", entries), |bencher| {
            bencher.iter(|| {
                let frame = black_box(&answered[..]);
                let header = ResponseHeader::parse(frame, FRAME_BYTES_MAX_DEFAULT);
                let header = header.expect("it is sound").expect("it is whole");
                match Response::decode(&header, &frame[ResponseHeader::LEN..]) {
                    Ok(Ok(Response::Produce(response))) => response.entries.len(),
                    other => panic!("a produce response, not {other:?}"),
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, frames);
criterion_main!(benches);
