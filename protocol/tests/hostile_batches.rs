//! Batches that are cut, damaged, absurd or built to hurt: each is refused with
//! a typed error, or holds exactly the records that it says.
//!
//! Two attackers: the network and the disk flip bits, which checksums catch; a
//! hostile producer seals what it sends with a right CRC, so that only the
//! checks behind the checksum stand.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use corelane_protocol::batch::{
    BatchBuilder, BatchBuilderConfig, BatchError, BatchLimits, Compression, DecompressLimit,
    PREFIX_LEN, RecordBatch, RecordRef, STAMP_LEN, Stamp, batches, validate, verify_crc,
};
use corelane_protocol::{
    AlignedBytes, ErrorCode, LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId,
};
use proptest::prelude::*;

/// What the tests' batches unpack to at most, and what parsing them may hold.
const LIMIT: DecompressLimit = DecompressLimit {
    bytes_max: 64 * 1024,
    ratio_max: 64,
};
const LIMITS: BatchLimits = BatchLimits {
    batch_bytes_max: 64 * 1024,
    uncompressed_bytes_max: 64 * 1024,
    uncompressed_ratio_max: 64,
    needs_keys: false,
};

/// A batch that uses every column, or the least one.
fn batch(compression: Compression, full: bool) -> AlignedBytes {
    let config = BatchBuilderConfig {
        compression,
        ..BatchBuilderConfig::default()
    };
    let mut builder = BatchBuilder::new(config).unwrap();
    for index in 0..if full { 11_u8 } else { 1 } {
        let value = vec![index; 20];
        let headers: [(&str, Option<&[u8]>); 2] = [("tracé", Some(b"yes")), ("none", None)];
        builder
            .try_push(RecordRef {
                key: (full && index % 3 != 0).then_some(b"key"),
                value: (!full || index % 4 != 1).then_some(&value),
                headers: if full && index % 2 == 0 {
                    &headers
                } else {
                    &[]
                },
                timestamp: Timestamp::new(1_700_000_000_000 + i64::from(index)),
            })
            .unwrap();
    }
    let batch = builder.finish().unwrap();
    validate(&batch, &LIMITS).unwrap();
    batch
}

/// One batch for each codec that shrinks it, and the least one.
fn samples() -> Vec<AlignedBytes> {
    let mut samples = vec![batch(Compression::None, false)];
    samples.extend(Compression::ALL.iter().map(|codec| batch(*codec, true)));
    samples
}

fn stamped(mut batch: AlignedBytes) -> AlignedBytes {
    let stamp = Stamp {
        topic: TopicId::from_bytes([7; 16]),
        partition: PartitionIndex::new(3),
        leader_epoch: LeaderEpoch::new(9),
        base_offset: Offset::new(4711),
        append_time: Timestamp::new(1_700_000_000_000),
    };
    stamp.write(&mut batch);
    batch
}

/// The bytes with a right CRC over whatever they hold now.
fn sealed(bytes: &[u8]) -> AlignedBytes {
    let mut batch = AlignedBytes::copy_of(bytes);
    let crc = crc32c::crc32c(&batch[STAMP_LEN + 4..]);
    batch[STAMP_LEN..STAMP_LEN + 4].copy_from_slice(&crc.to_le_bytes());
    batch
}

/// Reads all that a batch holds, as a broker and as a consumer would.
fn probe(batch: &AlignedBytes) -> Result<(), BatchError> {
    let (validated, bytes) = support::peak(|| validate(batch, &LIMITS));
    assert_eq!(bytes, 0, "a broker's check reserves memory");
    let (parsed, bytes) = support::peak(|| RecordBatch::parse_unstamped(&batch[..], &LIMIT));
    // The codecs' own state, and what they may unpack to.
    assert!(
        bytes <= 256 * 1024 + u64::from(LIMIT.bytes_max),
        "{bytes} bytes"
    );
    let _ = batches(batch).count();
    let batch = match (validated, parsed) {
        (Ok(header), Ok(parsed)) => {
            assert_eq!(&header, parsed.header());
            parsed
        }
        // Kinds that only brokers write, and what is packed, are seen by one side.
        (Err(BatchError::NotFromProducers { .. } | BatchError::RecordCount { .. }), Ok(parsed)) => {
            parsed
        }
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    let mut records = 0;
    for record in &batch {
        records += 1;
        assert!(record.offset < batch.end_offset());
        assert!(record.timestamp >= Timestamp::new(0));
        assert!(record.timestamp <= batch.header().max_timestamp);
        let headers = record
            .headers()
            .map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len));
        let blobs = [record.key, record.value].map(|blob| blob.map_or(0, <[u8]>::len));
        assert!(headers.sum::<usize>() + blobs[0] + blobs[1] <= LIMIT.bytes_max as usize);
    }
    assert_eq!(records, batch.record_count());
    Ok(())
}

#[test]
fn every_prefix_is_refused() {
    for batch in samples() {
        let batch = stamped(batch);
        for length in 0..batch.len() {
            let prefix = AlignedBytes::copy_of(&batch[..length]);
            let needed = if length < PREFIX_LEN {
                PREFIX_LEN
            } else {
                batch.len()
            };
            let expected = BatchError::Truncated { needed, length };
            assert_eq!(validate(&prefix, &LIMITS), Err(expected.clone()));
            assert_eq!(verify_crc(&prefix), Err(expected.clone()));
            let error = RecordBatch::parse(&prefix[..], &LIMIT).unwrap_err();
            assert_eq!(error.error, expected);
        }
        let mut longer = batch.clone();
        longer.extend_from_slice(&[0; 8]);
        assert!(matches!(
            validate(&longer, &LIMITS),
            Err(BatchError::Trailing { .. })
        ));
    }
}

#[test]
fn every_flip_is_caught_by_a_checksum() {
    for batch in samples() {
        let batch = stamped(batch);
        for (bit, flipped) in support::flips(&batch, 0..batch.len()) {
            let flipped = AlignedBytes::copy_of(&flipped);
            if bit / 8 < STAMP_LEN {
                Stamp::read(&flipped).unwrap_err();
                assert_eq!(
                    verify_crc(&flipped),
                    verify_crc(&batch),
                    "the CRC covers the stamp"
                );
            } else {
                validate(&flipped, &LIMITS).unwrap_err();
                verify_crc(&flipped).unwrap_err();
            }
            let error = RecordBatch::parse(&flipped[..], &LIMIT).unwrap_err();
            // The offset is named wherever the stamp still can be believed.
            if let Ok(stamp) = Stamp::read(&flipped) {
                assert_eq!(error.base_offset, Some(stamp.base_offset));
                assert!(
                    error.to_string().starts_with("batch at offset 4711: "),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn every_sealed_flip_is_refused_or_consistent() {
    let mut refused = 0;
    for batch in samples() {
        for (_, flipped) in support::flips(&batch, STAMP_LEN..batch.len()) {
            refused += usize::from(probe(&sealed(&flipped)).is_err());
        }
    }
    assert!(refused > 1000, "only {refused} were refused");
}

#[test]
fn absurd_numbers_under_a_right_crc_reserve_nothing() {
    for batch in samples() {
        for (at, absurd) in support::absurdities(&batch) {
            if at >= STAMP_LEN + 4 {
                let _ = probe(&sealed(&absurd));
            }
        }
    }
}

/// The least batch with one header field overwritten, sealed.
fn with_field(at: usize, value: &[u8]) -> AlignedBytes {
    let mut batch = batch(Compression::None, false);
    batch[at..at + value.len()].copy_from_slice(value);
    sealed(&batch)
}

#[test]
fn each_header_rule_has_its_error() {
    let refused = |at, value: &[u8]| validate(&with_field(at, value), &LIMITS).unwrap_err();
    let unsupported = [
        (refused(54, &[2]), BatchError::Version { found: 2 }),
        (refused(55, &[2]), BatchError::Encoding { found: 2 }),
        (refused(60, &[5, 0]), BatchError::Attributes { bits: 5 }),
        (
            refused(60, &[0, 128]),
            BatchError::Attributes { bits: 1 << 15 },
        ),
        (
            refused(60, &[16, 0]),
            BatchError::NotFromProducers {
                kind: "transactional",
            },
        ),
        (
            refused(60, &[32, 0]),
            BatchError::NotFromProducers { kind: "control" },
        ),
    ];
    for (error, expected) in unsupported {
        assert_eq!(
            (error.code(), error),
            (ErrorCode::UnsupportedBatch, expected)
        );
    }
    assert_eq!(refused(52, &[0, 0]), BatchError::Magic { found: 0 });
    for at in [62, 98] {
        assert_eq!(refused(at, &[1]), BatchError::NotZero);
    }
    for length in [0, 104, 1 << 31, u32::MAX, u32::MAX - 7] {
        assert_eq!(refused(56, &length.to_le_bytes()), BatchError::Lengths);
        assert_eq!(refused(104, &length.to_le_bytes()), BatchError::Lengths);
        assert_eq!(refused(108, &length.to_le_bytes()), BatchError::Lengths);
    }
    for record_count in [0, 2, 1 << 31, u32::MAX] {
        let expected = BatchError::RecordCount { record_count };
        assert_eq!(refused(64, &record_count.to_le_bytes()), expected);
    }
    for delta in [1, 1 << 31, u32::MAX] {
        assert_eq!(
            refused(68, &delta.to_le_bytes()),
            BatchError::RecordCount { record_count: 1 }
        );
    }
    for time in [-1, i64::MIN, i64::MAX, 1 << 50] {
        assert_eq!(refused(72, &time.to_le_bytes()), BatchError::Timestamps);
        assert_eq!(refused(80, &time.to_le_bytes()), BatchError::Timestamps);
    }
}

#[test]
fn padding_must_be_zero() {
    let mut batch = batch(Compression::None, true);
    let end = validate(&batch, &LIMITS).unwrap().payload_end();
    assert!(end < batch.len(), "the sample needs padding");
    for at in end..batch.len() {
        batch[at] = 1;
        assert_eq!(validate(&sealed(&batch), &LIMITS), Err(BatchError::NotZero));
        batch[at] = 0;
    }
}

#[test]
fn limits_hold() {
    let batch = batch(Compression::None, true);
    let total_length = batch.len() as u32;
    let limits = BatchLimits {
        batch_bytes_max: total_length,
        ..LIMITS
    };
    validate(&batch, &limits).unwrap();
    let bytes_max = total_length - 1;
    let limits = BatchLimits {
        batch_bytes_max: bytes_max,
        ..LIMITS
    };
    let error = validate(&batch, &limits).unwrap_err();
    assert_eq!(
        (error.code(), error),
        (
            ErrorCode::BatchTooLarge,
            BatchError::TooLarge {
                total_length,
                bytes_max
            }
        )
    );
}

/// A batch whose payload is `packed`, said to unpack to `uncompressed_length`.
fn bomb(compression: Compression, packed: &[u8], uncompressed_length: u32) -> AlignedBytes {
    let mut bytes = batch(Compression::None, false)[..PREFIX_LEN].to_vec();
    bytes.extend_from_slice(packed);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let total_length = bytes.len() as u32;
    bytes[56..60].copy_from_slice(&total_length.to_le_bytes());
    bytes[60] = compression as u8;
    bytes[104..108].copy_from_slice(&(packed.len() as u32).to_le_bytes());
    bytes[108..112].copy_from_slice(&uncompressed_length.to_le_bytes());
    sealed(&bytes)
}

fn pack(compression: Compression, plain: &[u8]) -> Vec<u8> {
    use std::io::Write;
    match compression {
        Compression::None => plain.to_vec(),
        Compression::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Snappy => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
        Compression::Lz4 => lz4_flex::block::compress(plain),
        Compression::Zstd => zstd::bulk::compress(plain, 19).unwrap(),
    }
}

#[test]
fn bombs_are_refused_before_memory_is_reserved() {
    for codec in &Compression::ALL[1..] {
        let packed = pack(*codec, &vec![0; 8 << 20]);
        for said in [8 << 20, 64 * 1024 + 1, 1 << 31, u32::MAX] {
            let bomb = bomb(*codec, &packed, said);
            let (error, bytes) = support::peak(|| RecordBatch::parse_unstamped(&bomb[..], &LIMIT));
            assert!(
                matches!(error.unwrap_err(), BatchError::UnpacksTooLarge { .. }),
                "{codec}"
            );
            assert_eq!(bytes, 0, "{codec}");
            validate(
                &bomb,
                &BatchLimits {
                    batch_bytes_max: 16 << 20,
                    ..LIMITS
                },
            )
            .unwrap_err();
        }
        // It says less than it holds: what is unpacked ends where it said.
        for said in [16, 1000, 64 * 1024] {
            let bomb = bomb(*codec, &packed, said);
            let (error, bytes) = support::peak(|| RecordBatch::parse_unstamped(&bomb[..], &LIMIT));
            assert_eq!(
                error.unwrap_err(),
                BatchError::Decompress {
                    compression: *codec
                }
            );
            assert!(bytes <= 256 * 1024 + u64::from(said), "{codec}: {bytes}");
        }
    }
}

#[test]
fn the_ratio_is_capped_apart_from_the_size() {
    let limit = DecompressLimit {
        bytes_max: u32::MAX,
        ratio_max: 10,
    };
    for codec in &Compression::ALL[1..] {
        let packed = pack(*codec, &vec![0; 1 << 20]);
        let bytes_max = 64 * 1024 + 10 * packed.len() as u32;
        let bomb = bomb(*codec, &packed, 1 << 20);
        let error = RecordBatch::parse_unstamped(&bomb[..], &limit).unwrap_err();
        let expected = BatchError::UnpacksTooLarge {
            uncompressed_length: 1 << 20,
            bytes_max,
        };
        assert_eq!((error.code(), error), (ErrorCode::BatchTooLarge, expected));
    }
}

#[test]
fn packed_bytes_that_are_cut_or_lengthened_are_refused() {
    let plain = &batch(Compression::None, true)[PREFIX_LEN..];
    for codec in &Compression::ALL[1..] {
        let packed = pack(*codec, plain);
        for length in 0..packed.len() {
            let bomb = bomb(*codec, &packed[..length], plain.len() as u32);
            let error = RecordBatch::parse_unstamped(&bomb[..], &LIMIT).unwrap_err();
            assert_eq!(
                error,
                BatchError::Decompress {
                    compression: *codec
                },
                "{length}"
            );
        }
        for said in [plain.len() - 1, plain.len() + 1] {
            let bomb = bomb(*codec, &packed, said as u32);
            let error = RecordBatch::parse_unstamped(&bomb[..], &LIMIT).unwrap_err();
            assert_eq!(
                error,
                BatchError::Decompress {
                    compression: *codec
                }
            );
        }
        let longer = [&packed[..], b"more"].concat();
        let bomb = bomb(*codec, &longer, plain.len() as u32);
        RecordBatch::parse_unstamped(&bomb[..], &LIMIT).unwrap_err();
    }
}

#[test]
fn a_stamp_of_another_batch_is_refused() {
    let one = stamped(batch(Compression::None, true));
    let mut other = batch(Compression::None, false);
    other[..STAMP_LEN].copy_from_slice(&one[..STAMP_LEN]);
    assert!(matches!(
        Stamp::read(&other),
        Err(BatchError::StampOfAnother { .. })
    ));
    let mut late = batch(Compression::None, true);
    let stamp = Stamp::read(&one).unwrap();
    Stamp {
        base_offset: Offset::new(1 << 63),
        ..stamp
    }
    .write(&mut late);
    assert_eq!(Stamp::read(&late), Err(BatchError::StampValue));
    assert!(matches!(
        Stamp::read(&batch(Compression::None, true)),
        Err(BatchError::StampChecksum { stored: 0, .. })
    ));
}

proptest! {
    #[test]
    fn any_sealed_payload_is_refused_or_consistent(
        at in 0..400_usize,
        written in proptest::collection::vec(any::<u8>(), 1..24),
        again in 0..400_usize,
        codec in 0..Compression::ALL.len(),
    ) {
        let mut bytes = batch(Compression::ALL[codec], true).to_vec();
        let payload = &mut bytes[PREFIX_LEN..];
        for at in [at, again] {
            let at = at % payload.len();
            let length = written.len().min(payload.len() - at);
            payload[at..at + length].copy_from_slice(&written[..length]);
        }
        let _ = probe(&sealed(&bytes));
    }

    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = AlignedBytes::copy_of(&bytes);
        validate(&bytes, &LIMITS).unwrap_err();
        RecordBatch::parse(&bytes[..], &LIMIT).unwrap_err();
        prop_assert!(batches(&bytes).count() <= 1);
    }
}
