//! Batches that are all different, so that none can stand for another.

use corelane_protocol::Timestamp;
use corelane_protocol::batch::{BatchBuilder, BatchBuilderConfig, BatchHeader, RecordRef};
use corelane_storage::testing::Random;

/// A batch of records whose values have about `value_bytes` each, and whose contents follow from `serial`.
pub(crate) fn batch(serial: u64, records: u32, value_bytes: usize) -> Vec<u8> {
    let config = BatchBuilderConfig {
        bytes_max: 4 << 20,
        ..BatchBuilderConfig::default()
    };
    let mut builder = BatchBuilder::new(config).expect("no codec is needed");
    let mut random = Random::new(serial);
    for _ in 0..records {
        let mut value = vec![0; value_bytes + random.index(value_bytes / 4 + 1)];
        random.fill(&mut value);
        let key = serial.to_le_bytes();
        let record = RecordRef {
            key: Some(&key),
            value: Some(&value),
            headers: &[],
            timestamp: Timestamp::new(1_000),
        };
        builder.try_push(record).expect("room for the record");
    }
    builder.finish().expect("there are records").to_vec()
}

/// How many offsets a batch takes.
pub(crate) fn offsets_taken(batch: &[u8]) -> u64 {
    BatchHeader::parse(batch)
        .expect("a batch of ours")
        .offsets_taken()
}
