//! What compaction does to the batches of a log, beside leaving records out of them (`retain`): making them cover the
//! offsets of records that are gone.
//!
//! The records that stay keep their offsets, so gaps lie within batches, and the batches of a log still follow one another
//! without any.

use super::builder::PushError;
use super::columns::Columns;
use super::compression::Compression;
use super::error::BatchError;
use super::header::BatchHeader;
use super::layout::{BATCH_ALIGN, CRC, CRC_COVERS_FROM, LAST_OFFSET_DELTA, PREFIX_LEN, put};
use super::stamp::Stamp;
use super::validate::verify_crc;
use crate::aligned::AlignedBytes;
use crate::ids::{Offset, ProducerEpoch, ProducerId};

/// What is left of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retained {
    /// The batch stays as it is, byte for byte.
    All,
    /// It is replaced by others, one as a rule.
    Some {
        /// Records that are gone.
        removed: u32,
    },
    /// No record is wanted any more.
    None,
}

/// Why a batch was not compacted.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// It is damaged, or no batch of a log.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// No broker has stamped it: only what is in a log can be compacted.
    #[error("the batch has no stamp; only batches of a log can be compacted")]
    Unstamped,
    /// It should end within its records.
    #[error("the batch ends at offset {end_offset} and cannot end at {end}, which is earlier")]
    End {
        /// Where it should end.
        end: Offset,
        /// Where it ends.
        end_offset: Offset,
    },
    /// It should cover more offsets than a batch can.
    #[error("a batch covers at most 2^32 offsets, and this one would from {from} to {end}")]
    Span {
        /// Where it should begin.
        from: Offset,
        /// Where it should end.
        end: Offset,
    },
    /// A record of it cannot be written anew.
    #[error("a record of the batch cannot be written anew: {0}")]
    Records(#[from] PushError),
    /// The codec cannot be set up.
    #[error("the batch's codec cannot be set up: {0}")]
    Codec(#[source] std::io::Error),
}

/// Makes a stamped batch cover the offsets up to `end`, at or beyond its end offset: changes the
/// last offset delta, the CRC and with it the stamp's checksum, nothing else.
///
/// # Errors
/// The batch is damaged or has no stamp, `end` is before its end offset, or the offsets are more
/// than a batch covers. The batch is as it was then.
pub fn extend_to(batch: &mut [u8], end: Offset) -> Result<(), CompactError> {
    let stamp = Stamp::read(batch)?;
    // A new CRC must not make damage whole.
    let header = verify_crc(batch)?;
    let end_offset = stamp.base_offset.advance(header.offsets_taken());
    if end < end_offset {
        return Err(CompactError::End { end, end_offset });
    }
    let last_offset_delta = last_offset_delta(stamp.base_offset, end)?;
    put(batch, LAST_OFFSET_DELTA, last_offset_delta.to_le_bytes());
    let crc = crc32c::crc32c(&batch[CRC_COVERS_FROM..]);
    put(batch, CRC, crc.to_le_bytes());
    stamp.write(batch);
    Ok(())
}

/// Makes in `out` (cleared first) a batch without records that covers the offsets from `from` to `end`, at least one.
/// The rest of its stamp, and the latest timestamp, are those of `gone`, a stamped batch.
///
/// # Errors
/// `gone` has no stamp or no header, or the offsets are more than a batch covers.
pub fn hollow(
    gone: &[u8],
    from: Offset,
    end: Offset,
    out: &mut AlignedBytes,
) -> Result<(), CompactError> {
    let stamp = Stamp::read(gone)?;
    let header = BatchHeader::parse(gone)?;
    let last_offset_delta = last_offset_delta(from, end)?;
    out.clear();
    out.resize(PREFIX_LEN, 0);
    Columns::default().write(out);
    let payload_length = (out.len() - PREFIX_LEN) as u32;
    out.resize(out.len().next_multiple_of(BATCH_ALIGN), 0);
    let header = BatchHeader {
        total_length: out.len() as u32,
        compression: Compression::None,
        record_count: 0,
        last_offset_delta,
        first_timestamp: header.max_timestamp,
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        base_sequence: u32::MAX,
        payload_length,
        uncompressed_length: payload_length,
        ..header
    };
    header.write(out);
    let stamp = Stamp {
        base_offset: from,
        ..stamp
    };
    stamp.write(out);
    Ok(())
}

/// Of a batch that covers the offsets from `from` to `end`, at least one.
fn last_offset_delta(from: Offset, end: Offset) -> Result<u32, CompactError> {
    u32::try_from(end.distance_from(from) - 1).map_err(|_| CompactError::Span { from, end })
}
