//! Finding where a read begins: the segment's sparse index, from the first entry's block to its file.

use std::hint::black_box;

use corelane_protocol::{Offset, Timestamp};
use corelane_storage::index::{IndexIdentity, SparseIndex};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const INTERVAL_BYTES: u32 = 64 << 10;
/// Records of a batch.
const BATCH_RECORDS: u64 = 64;

/// The index of a segment of so many bytes, filled with batches of 64 KiB.
fn index(segment_bytes: u64) -> SparseIndex {
    let mut index = SparseIndex::new(Offset::new(1_000_000), INTERVAL_BYTES);
    for batch in 0..segment_bytes / u64::from(INTERVAL_BYTES) {
        let offset = Offset::new(1_000_000 + batch * BATCH_RECORDS);
        let position = 4096 + batch * u64::from(INTERVAL_BYTES);
        index.note(offset, position, Timestamp::new(batch as i64));
    }
    index
}

fn look_ups(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index");
    for megabytes in [64, 1024] {
        let bytes = megabytes << 20;
        let index = index(bytes);
        let records = bytes / u64::from(INTERVAL_BYTES) * BATCH_RECORDS;
        let mut at = 0;
        let name = format!("{megabytes} MiB");
        group.bench_function(BenchmarkId::new("look-up", &name), |bencher| {
            bencher.iter(|| {
                // Far apart, so that no two in a row touch the same entries.
                at = (at + 7_919_993) % records;
                index.floor(black_box(Offset::new(1_000_000 + at)))
            });
        });
        let identity = IndexIdentity {
            base: Offset::new(1_000_000),
            incarnation: 1,
        };
        let file = index.encode(identity);
        group.bench_function(BenchmarkId::new("load", &name), |bencher| {
            bencher.iter(|| {
                let read =
                    SparseIndex::decode(identity, INTERVAL_BYTES, bytes * 2, black_box(&file));
                read.entries().len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, look_ups);
criterion_main!(benches);
