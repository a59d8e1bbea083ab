//! Leaving records out of a batch.
//!
//! Owns how what stays is written: every record keeps its offset, so that gaps lie within batches, and the batches of
//! a log still follow one another without any. Never decides which records stay.

use super::builder::{BatchBuilder, BatchBuilderConfig, PushError, RecordRef};
use super::compact::{CompactError, Retained};
use super::compression::DecompressLimit;
use super::error::BatchError;
use super::header::{BatchHeader, TimestampType};
use super::layout::PREFIX_LEN;
use super::record::{RecordBatch, RecordView, Records};
use super::stamp::Stamp;
use crate::aligned::AlignedBytes;
use crate::ids::Offset;

/// Bytes that a batch may have before it is compressed: as far as an archive's pointers reach.
const BYTES_MAX: u32 = i32::MAX as u32;

/// Builds in `out` (cleared first) what is left of a stamped batch if only those records stay that `keep` wants: one
/// batch as a rule, that covers the offsets from the first of these records to the old batch's end. `keep` is asked once
/// for each record, in the order of their offsets.
///
/// The records keep their offsets, keys, values, headers and the times that their producer gave them. What is built has
/// the stamp of the old batch but for the base offset, its producer, base sequence and attributes, and its codec at the
/// default level (see [`BatchBuilder`] for where that is not used). `out` stays empty unless [`Retained::Some`] is
/// returned.
///
/// Offsets with gaps between records take 4 bytes for each. Where that is more than what goes, or where the times of
/// those that stay are more than 2^31 ms from the first of them, they become several batches that follow each other, so
/// that whoever could unpack the old one can unpack these.
///
/// # Errors
/// The batch has no stamp, or its codec cannot be set up.
pub fn retain<B: AsRef<[u8]>>(
    batch: &RecordBatch<B>,
    mut keep: impl FnMut(&RecordView<'_>) -> bool,
    out: &mut AlignedBytes,
) -> Result<Retained, CompactError> {
    out.clear();
    let stamp = *batch.stamp().ok_or(CompactError::Unstamped)?;
    let kept: Vec<bool> = batch.records().map(|record| keep(&record)).collect();
    let removed = kept.iter().filter(|kept| !**kept).count() as u32;
    if removed == batch.record_count() {
        return Ok(Retained::None);
    }
    if removed == 0 {
        return Ok(Retained::All);
    }
    let unstamped;
    let (records, records_from) = match batch.header().timestamp_type {
        TimestampType::Create => (batch.records(), stamp.base_offset),
        TimestampType::LogAppend => {
            // Without the stamp they have their producer's times.
            unstamped = parse_again(batch)?;
            (unstamped.records(), Offset::ZERO)
        }
    };
    let kept = kept_of(records, &kept, records_from);
    let (first, _) = kept.clone().next().expect("one is kept");
    let is_dense = kept
        .clone()
        .zip(first..)
        .all(|((delta, _), dense)| delta == dense);
    let mut rebuild = Rebuild {
        header: batch.header(),
        stamp,
        from: stamp.base_offset.advance(first),
        builder: builder(batch.header())?,
        built: AlignedBytes::new(),
    };
    let mut headers = Vec::new();
    for (delta, record) in kept {
        headers.clear();
        headers.extend(record.headers());
        let record = RecordRef {
            key: record.key,
            value: record.value,
            headers: &headers,
            timestamp: record.timestamp,
        };
        rebuild.push(record, stamp.base_offset.advance(delta), is_dense, out)?;
    }
    rebuild.finish(batch.end_offset(), out);
    Ok(Retained::Some { removed })
}

/// The same batch as if no broker had stamped it.
fn parse_again<B: AsRef<[u8]>>(batch: &RecordBatch<B>) -> Result<RecordBatch<&[u8]>, BatchError> {
    // It was unpacked within its reader's limit already.
    let limit = DecompressLimit {
        bytes_max: batch.header().uncompressed_length,
        ratio_max: u32::MAX,
    };
    RecordBatch::parse_unstamped(batch.as_bytes(), &limit)
}

fn builder(header: &BatchHeader) -> Result<BatchBuilder, CompactError> {
    let builder = BatchBuilder::new(BatchBuilderConfig {
        bytes_max: bytes_max(header),
        compression: header.compression,
        compression_level: None,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
    });
    builder.map_err(CompactError::Codec)
}

fn bytes_max(header: &BatchHeader) -> u32 {
    let before = (PREFIX_LEN as u32).saturating_add(header.uncompressed_length);
    before.min(BYTES_MAX)
}

/// Those that are kept, and how far each is from the batch's begin.
fn kept_of<'a>(
    records: Records<'a>,
    kept: &'a [bool],
    records_from: Offset,
) -> impl Iterator<Item = (u64, RecordView<'a>)> + Clone {
    let kept = records.zip(kept).filter(|(_, kept)| **kept);
    kept.map(move |(record, _)| (record.offset.distance_from(records_from), record))
}

/// What is being built anew.
struct Rebuild<'a> {
    header: &'a BatchHeader,
    stamp: Stamp,
    /// Where the batch begins that is being filled.
    from: Offset,
    builder: BatchBuilder,
    built: AlignedBytes,
}

impl Rebuild<'_> {
    /// Adds a record; where the batch takes no more, to the next one.
    fn push(
        &mut self,
        record: RecordRef<'_>,
        offset: Offset,
        is_dense: bool,
        out: &mut AlignedBytes,
    ) -> Result<(), CompactError> {
        match self.try_push(record, offset, is_dense) {
            Err(PushError::Full | PushError::TimestampSpan) => {
                self.finish(offset, out);
                self.from = offset;
                self.try_push_alone(record, offset, is_dense)?;
            }
            Err(PushError::RecordTooLarge { .. }) => {
                self.try_push_alone(record, offset, is_dense)?;
            }
            pushed => pushed?,
        }
        Ok(())
    }

    fn try_push(
        &mut self,
        record: RecordRef<'_>,
        offset: Offset,
        is_dense: bool,
    ) -> Result<(), PushError> {
        let delta = offset.distance_from(self.from) as u32;
        let pushed = if is_dense {
            self.builder.try_push(record)
        } else {
            self.builder.try_push_at(record, delta)
        };
        pushed.map(drop)
    }

    /// The first record of a batch fits, however its client wrote it.
    fn try_push_alone(
        &mut self,
        record: RecordRef<'_>,
        offset: Offset,
        is_dense: bool,
    ) -> Result<(), PushError> {
        self.builder.set_bytes_max(BYTES_MAX);
        let pushed = self.try_push(record, offset, is_dense);
        self.builder.set_bytes_max(bytes_max(self.header));
        pushed
    }

    /// Ends the batch that is being filled, which covers the offsets up to `end`.
    fn finish(&mut self, end: Offset, out: &mut AlignedBytes) {
        let last_offset_delta = (end.distance_from(self.from) - 1) as u32;
        self.builder.set_base_sequence(self.header.base_sequence);
        let built = self.builder.finish_with(&mut self.built, |header| {
            header.timestamp_type = self.header.timestamp_type;
            header.transactional = self.header.transactional;
            header.control = self.header.control;
            header.last_offset_delta = last_offset_delta;
        });
        built.expect("a batch is begun with a record");
        let stamp = Stamp {
            base_offset: self.from,
            ..self.stamp
        };
        stamp.write(&mut self.built);
        out.extend_from_slice(&self.built);
    }
}
