//! Record batches: the broker's check, the consumer's, unpacking within its caps, and splitting.
//!
//! Input: a byte of choices (bit 0: the checksums are made right first), and a batch.

use corelane_protocol::batch::{
    BatchBuilder, BatchBuilderConfig, BatchError, BatchLimits, BatchTimes, Compression,
    DecompressLimit, RecordBatch, RecordRef, Stamp, TimestampType, batches, set_timestamp_type,
    validate, verify_crc,
};
use corelane_protocol::{AlignedBytes, LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId};

use crate::repair;

/// Small, so that it is reached.
const LIMIT: DecompressLimit = DecompressLimit {
    bytes_max: 1 << 20,
    ratio_max: 64,
};

const LIMITS: BatchLimits = BatchLimits {
    batch_bytes_max: 1 << 20,
    uncompressed_bytes_max: LIMIT.bytes_max,
    uncompressed_ratio_max: LIMIT.ratio_max,
    needs_keys: false,
};

/// What the codecs themselves need, in bytes.
const CODEC_BYTES: u64 = 256 * 1024;

pub(crate) fn run(input: &[u8]) {
    let Some((choices, bytes)) = input.split_first() else {
        return;
    };
    let mut batch = AlignedBytes::copy_of(bytes);
    if choices & 1 == 1 {
        batch = repair::sealed(&batch);
    }
    split(&batch);
    let (validated, memory) = measured(|| validate(&batch, &LIMITS));
    assert_eq!(memory, 0, "a broker's check reserves memory");
    let (parsed, memory) = measured(|| RecordBatch::parse_unstamped(&batch[..], &LIMIT));
    let cap = (64 * 1024 + u64::from(LIMIT.ratio_max) * batch.len() as u64)
        .min(u64::from(LIMIT.bytes_max));
    assert!(memory <= CODEC_BYTES + cap, "{memory} bytes, cap {cap}");
    let stamped = RecordBatch::parse(&batch[..], &LIMIT);
    if let Ok(stamped) = &stamped {
        let unstamped = parsed.as_ref().expect("a stamp makes nothing sound");
        assert_eq!(stamped.header(), unstamped.header());
        assert!(Stamp::read(&batch).is_ok());
    }
    if let (Ok(header), Err(error)) = (&validated, &parsed) {
        assert_ne!(header.compression, Compression::None, "{error}");
    }
    let (Ok(parsed), Ok(_)) = (&parsed, verify_crc(&batch)) else {
        return;
    };
    read(parsed);
    if validated.is_ok() {
        assert!(matches!(
            validate(
                &batch,
                &BatchLimits {
                    batch_bytes_max: 0,
                    ..LIMITS
                }
            ),
            Err(BatchError::TooLarge { .. })
        ));
        change_times(&batch);
    }
}

fn measured<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let mut result = None;
    let memory = allocation_counter::measure(|| result = Some(work()));
    (result.expect("it was called"), memory.bytes_max)
}

/// Batches one after the other are all that there was, or there is an error.
fn split(bytes: &[u8]) {
    let mut rest = batches(bytes);
    let mut length = 0;
    let mut failed = false;
    for batch in &mut rest {
        assert!(!failed, "after an error there is nothing more");
        match batch {
            Ok(batch) => length += batch.len(),
            Err(_) => failed = true,
        }
    }
    assert!(failed || length == bytes.len());
}

/// Every record is within what the header says.
fn read(batch: &RecordBatch<&[u8]>) {
    let header = batch.header();
    let mut count = 0;
    let mut before = None;
    let mut max_timestamp = Timestamp::new(0);
    for record in batch {
        count += 1;
        assert!(record.offset >= batch.base_offset() && record.offset < batch.end_offset());
        assert!(before.is_none_or(|before| before < record.offset));
        before = Some(record.offset);
        max_timestamp = max_timestamp.max(record.timestamp);
        let headers = record.headers();
        let headers = headers.map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len));
        let blobs = [record.key, record.value].map(|blob| blob.map_or(0, <[u8]>::len));
        let bytes = headers.sum::<usize>() + blobs.iter().sum::<usize>();
        assert!(bytes <= header.uncompressed_length as usize);
    }
    assert_eq!(count, batch.record_count());
    if header.timestamp_type == TimestampType::Create {
        assert_eq!(max_timestamp, header.max_timestamp);
    }
}

/// A producer that learns of another type of time changes its batch, and nothing else of it.
fn change_times(batch: &AlignedBytes) {
    let times = BatchTimes::peek(batch).expect("a sound batch");
    let mut changed = AlignedBytes::copy_of(batch);
    for kind in [TimestampType::LogAppend, TimestampType::Create] {
        set_timestamp_type(&mut changed, kind);
        let header = validate(&changed, &LIMITS).expect("the CRC follows");
        assert_eq!(header.timestamp_type, kind);
    }
    set_timestamp_type(&mut changed, times.timestamp_type);
    assert_eq!(changed[..], batch[..]);
}

/// A batch of each codec, stamped and not.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for codec in Compression::ALL {
        let mut batch = sample(*codec, 3);
        seeds.push([&[1], &batch[..]].concat());
        let stamp = Stamp {
            topic: TopicId::from_bytes([7; 16]),
            partition: PartitionIndex::new(3),
            leader_epoch: LeaderEpoch::new(9),
            base_offset: Offset::new(4711),
            append_time: Timestamp::new(1_700_000_000_000),
        };
        stamp.write(&mut batch);
        seeds.push([&[0], &batch[..]].concat());
    }
    let single = sample(Compression::None, 1);
    seeds.push([&[1], &single[..], &single[..]].concat());
    seeds
}

fn sample(compression: Compression, records: i64) -> AlignedBytes {
    let config = BatchBuilderConfig {
        compression,
        ..BatchBuilderConfig::default()
    };
    let mut builder = BatchBuilder::new(config).expect("the codec is there");
    let value = [b'v'; 90];
    let headers = [("trace", Some(&b"on"[..])), ("null", None)];
    for record in 0..records {
        builder
            .try_push(RecordRef {
                key: (record != 1).then_some(b"key"),
                value: (record != 2).then_some(&value),
                headers: &headers[..record as usize % 3],
                timestamp: Timestamp::new(1_700_000_000_000 + record),
            })
            .expect("room");
    }
    builder.finish().expect("there are records")
}
