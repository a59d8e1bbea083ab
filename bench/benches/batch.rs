//! What a record batch costs: building it in the client, checking it in the broker, reading it in the consumer.

use std::hint::black_box;

use corelane_protocol::batch::{
    BatchBuilder, BatchBuilderConfig, BatchLimits, DecompressLimit, RecordBatch, RecordRef,
    verify_crc,
};
use corelane_protocol::{AlignedBytes, Timestamp};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Records in a batch, bytes of a value: about 100 KB of small records, 64 KB of larger ones, and one alone.
const SHAPES: [(usize, usize); 3] = [(1000, 100), (64, 1000), (1, 1000)];

fn fill(builder: &mut BatchBuilder, records: usize, value: &[u8]) {
    builder.clear();
    for index in 0..records {
        let record = RecordRef {
            value: Some(value),
            timestamp: Timestamp::new(1_700_000_000_000 + index as i64 / 10),
            ..RecordRef::default()
        };
        builder.try_push(record).expect("the batch has room");
    }
}

fn batch(records: usize, value_bytes: usize) -> AlignedBytes {
    let mut builder = BatchBuilder::new(BatchBuilderConfig::default()).expect("no codec is set up");
    fill(&mut builder, records, &vec![0x5a; value_bytes]);
    builder.finish().expect("records are there")
}

fn batches(criterion: &mut Criterion) {
    for (records, value_bytes) in SHAPES {
        let name = format!("{records} x {value_bytes} B");
        let bytes = batch(records, value_bytes);
        let mut group = criterion.benchmark_group("batch");
        group.throughput(Throughput::Elements(records as u64));

        let mut builder =
            BatchBuilder::new(BatchBuilderConfig::default()).expect("no codec is set up");
        let value = vec![0x5a; value_bytes];
        let mut out = AlignedBytes::new();
        group.bench_function(BenchmarkId::new("build", &name), |bencher| {
            bencher.iter(|| {
                fill(&mut builder, records, black_box(&value));
                builder.finish_into(&mut out).expect("records are there");
                out.len()
            });
        });
        group.bench_function(BenchmarkId::new("validate", &name), |bencher| {
            let limits = BatchLimits::default();
            bencher.iter(|| {
                corelane_protocol::batch::validate(black_box(&bytes), &limits).expect("it is valid")
            });
        });
        group.bench_function(BenchmarkId::new("checksum alone", &name), |bencher| {
            bencher.iter(|| verify_crc(black_box(&bytes)).expect("it is valid"));
        });
        group.bench_function(BenchmarkId::new("read", &name), |bencher| {
            let limit = DecompressLimit::default();
            bencher.iter(|| {
                let batch = RecordBatch::parse_unstamped(black_box(&bytes[..]), &limit)
                    .expect("it is valid");
                batch
                    .records()
                    .map(|record| record.value.map_or(0, <[u8]>::len))
                    .sum::<usize>()
            });
        });
        group.finish();
    }
}

criterion_group!(benches, batches);
criterion_main!(benches);
