//! The check of a whole batch, once, where it enters.

use super::columns;
use super::compression::{Compression, DecompressLimit, UNCOMPRESSED_BYTES_MAX_DEFAULT};
use super::error::BatchError;
use super::header::BatchHeader;
use super::layout::{BATCH_ALIGN, CRC_COVERS_FROM, PREFIX_LEN};
use super::sequence::SEQUENCES;
use crate::ids::{ProducerEpoch, ProducerId};

/// The default limit on one batch, bytes; Kafka's `max.message.bytes`.
pub const BATCH_BYTES_MAX_DEFAULT: u32 = 1024 * 1024 + 12;

/// What a batch may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Bytes of the whole batch.
    pub batch_bytes_max: u32,
    /// Bytes of its payload once it is unpacked, as the header states them.
    pub uncompressed_bytes_max: u32,
    /// Unpacked bytes for each packed byte, beyond a free 64 KiB.
    pub uncompressed_ratio_max: u32,
    /// Whether every record has a key, as far as that can be seen: nobody looks into a compressed payload.
    pub needs_keys: bool,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            batch_bytes_max: BATCH_BYTES_MAX_DEFAULT,
            uncompressed_bytes_max: UNCOMPRESSED_BYTES_MAX_DEFAULT,
            uncompressed_ratio_max: DecompressLimit::default().ratio_max,
            needs_keys: false,
        }
    }
}

/// Checks a batch from a producer: that `bytes` are exactly one batch, within
/// the limits, of a kind that producers may send, with a right CRC, zeros as
/// padding, and (where it is not compressed) a payload whose columns fit
/// together. `bytes` must begin at a multiple of 8.
///
/// What a compressed payload holds is the consumer's to check; here nothing is
/// ever decompressed, and nothing is reserved.
///
/// # Errors
/// The first rule that is broken, the cheap ones before the CRC.
pub fn validate(bytes: &[u8], limits: &BatchLimits) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(bytes)?;
    if !bytes.as_ptr().addr().is_multiple_of(BATCH_ALIGN) {
        return Err(BatchError::Misaligned);
    }
    check_limits(&header, limits)?;
    check_producer_rules(&header)?;
    check_crc(bytes, &header)?;
    let padding = &bytes[header.payload_end()..];
    if padding.iter().any(|byte| *byte != 0) {
        return Err(BatchError::NotZero);
    }
    if header.compression == Compression::None {
        let columns = columns::checked(&bytes[PREFIX_LEN..header.payload_end()], &header)?;
        if !columns.offsets.is_empty() {
            return Err(BatchError::NotFromProducers { kind: "compacted" });
        }
        if limits.needs_keys
            && let Some(record) = columns.first_null_key()
        {
            return Err(BatchError::NoKey { record });
        }
    }
    Ok(header)
}

/// Checks that `bytes` are exactly one batch with a right CRC, at any alignment;
/// for batches that were validated before they were stored or sent.
///
/// # Errors
/// The header's first broken rule, a wrong length, or a wrong CRC.
pub fn verify_crc(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(bytes)?;
    check_crc(bytes, &header)?;
    Ok(header)
}

fn check_limits(header: &BatchHeader, limits: &BatchLimits) -> Result<(), BatchError> {
    let (total_length, bytes_max) = (header.total_length, limits.batch_bytes_max);
    if total_length > bytes_max {
        return Err(BatchError::TooLarge {
            total_length,
            bytes_max,
        });
    }
    if header.compression == Compression::None {
        return Ok(());
    }
    let limit = DecompressLimit {
        bytes_max: limits.uncompressed_bytes_max,
        ratio_max: limits.uncompressed_ratio_max,
    };
    let bytes_max = limit.bytes_for(header.payload_length);
    let uncompressed_length = header.uncompressed_length;
    if uncompressed_length > bytes_max {
        return Err(BatchError::UnpacksTooLarge {
            uncompressed_length,
            bytes_max,
        });
    }
    Ok(())
}

/// Transactions and control batches are the broker's to begin, a producer's
/// records have consecutive offsets, and it is idempotent or not.
fn check_producer_rules(header: &BatchHeader) -> Result<(), BatchError> {
    if header.control {
        return Err(BatchError::NotFromProducers { kind: "control" });
    }
    if header.transactional {
        return Err(BatchError::NotFromProducers {
            kind: "transactional",
        });
    }
    if header.offsets_taken() != u64::from(header.record_count) {
        return Err(BatchError::RecordCount {
            record_count: header.record_count,
        });
    }
    let is_idempotent = header.producer_id != ProducerId::NONE;
    let fits = if is_idempotent {
        header.producer_epoch != ProducerEpoch::NONE
            && header.base_sequence < SEQUENCES
            && header.record_count < SEQUENCES
    } else {
        header.producer_epoch == ProducerEpoch::NONE && header.base_sequence == u32::MAX
    };
    if !fits {
        return Err(BatchError::Producer);
    }
    Ok(())
}

fn check_crc(bytes: &[u8], header: &BatchHeader) -> Result<(), BatchError> {
    let (needed, length) = (header.total_length as usize, bytes.len());
    if length < needed {
        return Err(BatchError::Truncated { needed, length });
    }
    if length > needed {
        return Err(BatchError::Trailing {
            total_length: header.total_length,
            length,
        });
    }
    let computed = crc32c::crc32c(&bytes[CRC_COVERS_FROM..]);
    if computed != header.crc {
        return Err(BatchError::Crc {
            stored: header.crc,
            computed,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aligned::AlignedBytes;
    use crate::batch::{BatchBuilder, BatchBuilderConfig, RecordRef};

    /// A batch of so many records, those at `nulls` without a key.
    fn batch(records: usize, nulls: &[usize], compression: Compression) -> AlignedBytes {
        let config = BatchBuilderConfig {
            compression,
            ..BatchBuilderConfig::default()
        };
        let mut builder = BatchBuilder::new(config).expect("a codec");
        for index in 0..records {
            let record = RecordRef {
                key: (!nulls.contains(&index)).then_some(b"key"),
                value: index.is_multiple_of(2).then_some(&[b'v'; 100]),
                ..RecordRef::default()
            };
            builder.try_push(record).expect("room");
        }
        builder.finish().expect("records")
    }

    #[test]
    fn the_first_record_without_a_key_is_named_where_keys_are_needed() {
        let limits = BatchLimits {
            needs_keys: true,
            ..BatchLimits::default()
        };
        let all: Vec<_> = (0..20).collect();
        for (records, nulls, first) in [
            (1, &[][..], None),
            (20, &[], None),
            (1, &[0], Some(0)),
            (20, &[0], Some(0)),
            (20, &[7], Some(7)),
            (20, &[8, 3], Some(3)),
            (20, &[19], Some(19)),
            (20, &all, Some(0)),
        ] {
            let plain = batch(records, nulls, Compression::None);
            assert!(validate(&plain, &BatchLimits::default()).is_ok());
            let error = validate(&plain, &limits).err();
            let expected = first.map(|record| BatchError::NoKey { record });
            assert_eq!(error, expected, "{records} {nulls:?}");
        }
        let packed = batch(20, &all, Compression::Lz4);
        let header = validate(&packed, &limits).expect("nobody looks into it");
        assert_eq!(header.compression, Compression::Lz4);
    }
}
