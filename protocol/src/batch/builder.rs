//! Building a batch: records go into columns as they come, and leave as bytes.
//!
//! Owns its buffers and uses them again for the next batch, so that a record
//! costs no allocation, and one copy: the values are collected where they are
//! sent from. Never knows a clock: the timestamp comes with the record.

use super::archive::{Archive, DeltasAt, EndsAt, Root};
use super::bytes::BatchBytes;
use super::column::{Column, Extra};
use super::compression::{Compression, Compressor, DecompressLimit};
use super::header::{BatchHeader, TIMESTAMP_MAX, TimestampType};
use super::layout::{BATCH_ALIGN, ENCODING_COLUMNAR, PREFIX_LEN};
use super::validate::BATCH_BYTES_MAX_DEFAULT;
use crate::aligned::AlignedBytes;
use crate::ids::{ProducerEpoch, ProducerId, Timestamp};

/// How batches are built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchBuilderConfig {
    /// Bytes that a whole batch may have before it is compressed. A batch that
    /// does not shrink is sent uncompressed, so none is ever longer.
    pub bytes_max: u32,
    /// How to compress.
    pub compression: Compression,
    /// The level for gzip (0 to 9) and zstd; `None` is the codec's default.
    pub compression_level: Option<i32>,
    /// The idempotent producer's number, for batches that are not told another one.
    pub producer_id: ProducerId,
    /// The idempotent producer's incarnation.
    pub producer_epoch: ProducerEpoch,
}

impl Default for BatchBuilderConfig {
    fn default() -> Self {
        Self {
            bytes_max: BATCH_BYTES_MAX_DEFAULT,
            compression: Compression::None,
            compression_level: None,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
        }
    }
}

/// A record to be added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// The key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is null.
    pub value: Option<&'a [u8]>,
    /// The headers, as key and value.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// The time, from 0 on.
    pub timestamp: Timestamp,
}

/// Why a record was not added; the batch is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The batch has no room left for it; the next one may.
    #[error("the batch is full")]
    Full,
    /// No batch has room for it.
    #[error("the record needs a batch of {bytes} bytes, at most {bytes_max} are allowed")]
    RecordTooLarge {
        /// Bytes of a batch with this record alone.
        bytes: usize,
        /// The limit.
        bytes_max: u32,
    },
    /// Its timestamp is more than 2^31 ms (24.8 days) from the batch's first
    /// one; the next batch can hold it.
    #[error("the timestamp is too far from the batch's first one")]
    TimestampSpan,
    /// Its timestamp is negative or absurdly large: no batch can hold it.
    #[error("the timestamp {timestamp} is not possible")]
    Timestamp {
        /// The record's.
        timestamp: Timestamp,
    },
}

/// Why no batch was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// There are no records.
    #[error("a batch has at least one record")]
    Empty,
}

/// Collects records and makes batches of them.
#[derive(Debug)]
pub struct BatchBuilder {
    config: BatchBuilderConfig,
    compressor: Compressor,
    /// Whose the batch is, where that is not the one of `config`.
    producer: Option<(ProducerId, ProducerEpoch)>,
    base_sequence: u32,
    first_timestamp: i64,
    /// The least and the greatest timestamp delta.
    span: (i32, i32),
    deltas: Vec<i32>,
    /// One for each record, or none: then the offsets are consecutive.
    offsets: Vec<u32>,
    values: Column,
    /// The keys up to the last one that is not null, or none.
    keys: Column,
    header_record_ends: Vec<u32>,
    header_keys: Column,
    header_values: Column,
    /// The memory of a batch that was copied out.
    spare: BatchBytes,
}

/// Bytes of the archive apart from rows and blobs: the roots of its columns and
/// what aligns them. A test holds the estimate against what is built.
const ARCHIVE_BYTES: usize = 96;
const ARCHIVE_KEYS_BYTES: usize = 40;
const ARCHIVE_HEADERS_BYTES: usize = 96;

/// The batch with one record more than it holds, or with none more.
#[derive(Clone, Copy, Default)]
struct Growth {
    deltas: (i32, i32),
    any_key: bool,
    any_header: bool,
    value: Extra,
    key: Extra,
    header_keys: Extra,
    header_values: Extra,
}

impl BatchBuilder {
    /// A builder without records.
    ///
    /// # Errors
    /// The codec cannot be set up (zstd is out of memory).
    pub fn new(config: BatchBuilderConfig) -> std::io::Result<Self> {
        let compressor = Compressor::new(config.compression, config.compression_level)?;
        Ok(Self {
            config,
            compressor,
            producer: None,
            base_sequence: u32::MAX,
            first_timestamp: 0,
            span: (0, 0),
            deltas: Vec::new(),
            offsets: Vec::new(),
            values: Column::default(),
            keys: Column::default(),
            header_record_ends: Vec::new(),
            header_keys: Column::default(),
            header_values: Column::default(),
            spare: BatchBytes::default(),
        })
    }

    /// How it builds.
    pub const fn config(&self) -> &BatchBuilderConfig {
        &self.config
    }

    /// Changes the bytes that a whole batch may have; a record that is added from now on is held
    /// against it.
    pub const fn set_bytes_max(&mut self, bytes_max: u32) {
        self.config.bytes_max = bytes_max;
    }

    /// Records in the batch so far.
    pub const fn len(&self) -> usize {
        self.deltas.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.deltas.is_empty()
    }

    /// Bytes that the batch has if it is built now without compression, or up to
    /// 64 less; 0 without records.
    pub fn estimated_bytes(&self) -> usize {
        if self.is_empty() {
            return 0;
        }
        self.bytes_with(&self.growth())
    }

    /// Adds a record and returns its index in the batch.
    ///
    /// # Errors
    /// See [`PushError`]; the batch is as it was before.
    #[inline]
    pub fn try_push(&mut self, record: RecordRef<'_>) -> Result<u32, PushError> {
        let delta = self.delta_of(record.timestamp)?;
        let growth = self.growth_with(&record, delta);
        let bytes = self.bytes_with(&growth);
        let bytes_max = self.config.bytes_max;
        if bytes > bytes_max as usize {
            let alone = self.is_empty();
            let too_large = PushError::RecordTooLarge { bytes, bytes_max };
            return Err(if alone { too_large } else { PushError::Full });
        }
        if self.is_empty() {
            self.first_timestamp = record.timestamp.get();
        }
        self.span = growth.deltas;
        let index = self.deltas.len();
        self.deltas.push(delta);
        self.values.push(record.value);
        if record.key.is_some() {
            self.keys.fill_with_nulls(index);
            self.keys.push(record.key);
        }
        if growth.any_header {
            self.push_headers(index, record.headers);
        }
        Ok(index as u32)
    }

    /// Adds a record whose offset is `offset_delta` after the batch's base offset, more than the
    /// record's before it. Either all records of a batch are added so, or none.
    ///
    /// # Errors
    /// See [`PushError`]; the batch is as it was before.
    pub(super) fn try_push_at(
        &mut self,
        record: RecordRef<'_>,
        offset_delta: u32,
    ) -> Result<u32, PushError> {
        debug_assert_eq!(self.offsets.len(), self.len());
        debug_assert!(self.offsets.last().is_none_or(|last| *last < offset_delta));
        // Before the record, so that it counts in what the batch would have.
        self.offsets.push(offset_delta);
        self.try_push(record).inspect_err(|_| {
            self.offsets.pop();
        })
    }

    /// Sets the sequence number of the batch's first record, for an idempotent
    /// producer.
    pub const fn set_base_sequence(&mut self, base_sequence: u32) {
        self.base_sequence = base_sequence;
    }

    /// Sets whose this batch is, and the sequence number of its first record. The next batch is
    /// again of the producer that the configuration names.
    pub const fn set_producer(
        &mut self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        base_sequence: u32,
    ) {
        self.producer = Some((producer_id, producer_epoch));
        self.base_sequence = base_sequence;
    }

    /// Forgets the records and keeps the memory.
    pub fn clear(&mut self) {
        self.producer = None;
        self.base_sequence = u32::MAX;
        self.first_timestamp = 0;
        self.span = (0, 0);
        self.deltas.clear();
        self.offsets.clear();
        self.header_record_ends.clear();
        for column in [
            &mut self.values,
            &mut self.keys,
            &mut self.header_keys,
            &mut self.header_values,
        ] {
            column.clear();
        }
    }

    /// Makes the batch, unstamped, in a buffer of its own, and begins the next.
    ///
    /// # Errors
    /// There are no records.
    pub fn finish(&mut self) -> Result<AlignedBytes, BuildError> {
        let mut out = AlignedBytes::new();
        self.finish_into(&mut out)?;
        Ok(out)
    }

    /// Makes the batch, unstamped, in place of what `out` holds, and begins the
    /// next.
    ///
    /// # Errors
    /// There are no records.
    pub fn finish_into(&mut self, out: &mut AlignedBytes) -> Result<(), BuildError> {
        self.finish_with(out, |_| ())
    }

    /// As [`Self::finish_into`], with a header as `change` wants it.
    pub(super) fn finish_with(
        &mut self,
        out: &mut AlignedBytes,
        change: impl FnOnce(&mut BatchHeader),
    ) -> Result<(), BuildError> {
        let spare = std::mem::take(&mut self.spare);
        let built = self.build(spare, change)?;
        out.clear();
        out.extend_from_slice(&built);
        self.spare = built;
        Ok(())
    }

    /// Makes the batch, unstamped, where its values were collected, and begins
    /// the next in the memory of `next`, which is forgotten.
    ///
    /// # Errors
    /// There are no records.
    pub fn finish_in_place(&mut self, next: BatchBytes) -> Result<BatchBytes, BuildError> {
        self.build(next, |_| ())
    }

    fn build(
        &mut self,
        next: BatchBytes,
        change: impl FnOnce(&mut BatchHeader),
    ) -> Result<BatchBytes, BuildError> {
        if self.is_empty() {
            return Err(BuildError::Empty);
        }
        let (record_count, span) = (self.len() as u32, self.span);
        let plain = self.archive();
        let uncompressed_length = plain.len() - PREFIX_LEN;
        let (mut batch, compression, unused) = self.compress(plain, next.into_memory());
        let payload_length = batch.len() - PREFIX_LEN;
        let configured = (self.config.producer_id, self.config.producer_epoch);
        let (producer_id, producer_epoch) = self.producer.unwrap_or(configured);
        batch.pad(BATCH_ALIGN);
        let mut header = BatchHeader {
            crc: 0,
            encoding: ENCODING_COLUMNAR,
            total_length: length_u32(batch.len()),
            compression,
            timestamp_type: TimestampType::Create,
            transactional: false,
            control: false,
            record_count,
            last_offset_delta: record_count - 1,
            first_timestamp: Timestamp::new(self.first_timestamp),
            max_timestamp: Timestamp::new(self.first_timestamp + i64::from(span.1)),
            producer_id,
            producer_epoch,
            base_sequence: self.base_sequence,
            payload_length: length_u32(payload_length),
            uncompressed_length: length_u32(uncompressed_length),
        };
        change(&mut header);
        header.write(&mut batch);
        self.clear();
        self.values.collect_in(unused);
        Ok(batch)
    }

    /// Takes the values out of their column and makes a batch of them whose
    /// prefix is not written yet.
    fn archive(&mut self) -> BatchBytes {
        let any_key = self.any_key();
        let (mut memory, begin, values) = self.values.take_out(PREFIX_LEN);
        let mut archive = Archive::new(&mut memory, begin);
        let keys = any_key.then(|| {
            self.keys.fill_with_nulls(self.deltas.len());
            let keys = self.keys.archive(&mut archive);
            archive.keys(keys)
        });
        let deltas = self.deltas.iter();
        let timestamps = match delta_width(self.span) {
            0 => DeltasAt::Zero,
            2 => DeltasAt::Narrow(archive.items(deltas.map(|delta| (*delta as i16).to_le_bytes()))),
            _ => DeltasAt::Wide(archive.items(deltas.map(|delta| delta.to_le_bytes()))),
        };
        let offsets = archive.items(u32s(&self.offsets));
        let headers = (!self.header_record_ends.is_empty()).then(|| {
            let record_ends = EndsAt {
                is_wide: true,
                items: archive.items(u32s(&self.header_record_ends)),
            };
            let keys = self.header_keys.archive(&mut archive);
            let values = self.header_values.archive(&mut archive);
            archive.headers(record_ends, keys, values)
        });
        archive.root(Root {
            values,
            keys,
            timestamps,
            offsets,
            headers,
        });
        BatchBytes::new(memory, begin)
    }

    /// Packs the payload into other memory where that makes it shorter and a
    /// reader's limit on the ratio allows it. Returns the batch, how it is
    /// packed, and the memory that it does not use.
    fn compress(
        &mut self,
        plain: BatchBytes,
        mut memory: Vec<u8>,
    ) -> (BatchBytes, Compression, Vec<u8>) {
        let compression = self.compressor.compression();
        memory.clear();
        if compression == Compression::None {
            return (plain, compression, memory);
        }
        memory.resize(PREFIX_LEN, 0);
        let payload = &plain[PREFIX_LEN..];
        let taken = match pack(&mut self.compressor, payload, &mut memory) {
            Packed::Shorter => Some(compression),
            // Only zstd shrinks anything so far; lz4 never does.
            Packed::BeyondRatio => match pack(&mut Compressor::Lz4, payload, &mut memory) {
                Packed::Shorter => Some(Compression::Lz4),
                Packed::BeyondRatio | Packed::NoShorter => None,
            },
            Packed::NoShorter => None,
        };
        match taken {
            Some(compression) => (BatchBytes::new(memory, 0), compression, plain.into_memory()),
            None => (plain, Compression::None, memory),
        }
    }

    #[inline]
    fn delta_of(&self, timestamp: Timestamp) -> Result<i32, PushError> {
        let time = timestamp.get();
        if !(0..=TIMESTAMP_MAX).contains(&time) {
            return Err(PushError::Timestamp { timestamp });
        }
        if self.is_empty() {
            return Ok(0);
        }
        i32::try_from(time - self.first_timestamp).map_err(|_| PushError::TimestampSpan)
    }

    const fn any_key(&self) -> bool {
        self.keys.len() > 0
    }

    const fn any_header(&self) -> bool {
        !self.header_record_ends.is_empty()
    }

    /// The batch as it is.
    #[inline]
    fn growth(&self) -> Growth {
        Growth {
            deltas: self.span,
            any_key: self.any_key(),
            any_header: self.any_header(),
            ..Growth::default()
        }
    }

    /// The batch with `record`.
    #[inline]
    fn growth_with(&self, record: &RecordRef<'_>, delta: i32) -> Growth {
        let mut growth = self.growth();
        growth.deltas = (self.span.0.min(delta), self.span.1.max(delta));
        growth.any_key |= record.key.is_some();
        growth.any_header |= !record.headers.is_empty();
        growth.value.add(record.value);
        growth.key.add(record.key);
        for (key, value) in record.headers {
            growth.header_keys.add(Some(key.as_bytes()));
            growth.header_values.add(*value);
        }
        growth
    }

    #[inline]
    fn bytes_with(&self, growth: &Growth) -> usize {
        let rows = self.len() + growth.value.rows;
        let mut bytes = PREFIX_LEN + ARCHIVE_BYTES + self.values.bytes_with(&growth.value);
        bytes += rows * delta_width(growth.deltas) + self.offsets.len() * 4;
        if growth.any_key {
            // Nulls that are still to come into the column.
            let missing = self.len() - self.keys.len();
            let keys = Extra {
                rows: growth.key.rows + missing,
                any_null: growth.key.any_null || missing > 0,
                ..growth.key
            };
            bytes += ARCHIVE_KEYS_BYTES + self.keys.bytes_with(&keys);
        }
        if growth.any_header {
            bytes += ARCHIVE_HEADERS_BYTES + rows * 4;
            bytes += self.header_keys.bytes_with(&growth.header_keys);
            bytes += self.header_values.bytes_with(&growth.header_values);
        }
        bytes
    }

    fn push_headers(&mut self, index: usize, headers: &[(&str, Option<&[u8]>)]) {
        // The records before the first one with headers have none.
        self.header_record_ends.resize(index, 0);
        for (key, value) in headers {
            self.header_keys.push(Some(key.as_bytes()));
            self.header_values.push(*value);
        }
        self.header_record_ends.push(self.header_keys.len() as u32);
    }
}

/// What a codec makes of a payload.
enum Packed {
    /// It is shorter, and was appended.
    Shorter,
    /// It is so much shorter that readers would refuse it.
    BeyondRatio,
    NoShorter,
}

/// Appends a payload, packed, to `out` if readers take it so.
fn pack(compressor: &mut Compressor, plain: &[u8], out: &mut Vec<u8>) -> Packed {
    let start = out.len();
    let packed = compressor.compress(plain, out);
    let length = packed.map(|()| out.len() - start);
    let readable = |length| DecompressLimit::default().bytes_for(length_u32(length)) as usize;
    let packed = match length {
        Some(length) if length < plain.len() && plain.len() <= readable(length) => {
            return Packed::Shorter;
        }
        Some(length) if length < plain.len() => Packed::BeyondRatio,
        _ => Packed::NoShorter,
    };
    out.truncate(start);
    packed
}

/// Bytes of a timestamp delta where all lie within `span`.
const fn delta_width((min, max): (i32, i32)) -> usize {
    if min == 0 && max == 0 {
        0
    } else if min >= i16::MIN as i32 && max <= i16::MAX as i32 {
        2
    } else {
        4
    }
}

fn u32s(items: &[u32]) -> impl ExactSizeIterator<Item = [u8; 4]> {
    items.iter().map(|item| item.to_le_bytes())
}

/// The length of something whose bytes were held against a `u32` limit.
fn length_u32(length: usize) -> u32 {
    u32::try_from(length).expect("batches are shorter than their limit, which is a u32")
}
