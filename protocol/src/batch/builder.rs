//! Building a batch: records go into columns as they come, and leave as bytes.
//!
//! Owns its buffers and uses them again for the next batch, so that a record
//! costs copies and no allocation. Never knows a clock: the timestamp comes with
//! the record.

use super::columns::{Blobs, Columns, Deltas, Ends, HeaderColumns};
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
    keys: Column,
    any_key: bool,
    header_record_ends: Vec<u32>,
    header_keys: Column,
    header_values: Column,
    /// The uncompressed archive, while it is compressed.
    plain: AlignedBytes,
    /// The columns as they are archived: the vectors' memory between batches.
    archive: Columns,
    narrow_deltas: Vec<i16>,
}

/// Bytes of the archive apart from rows and blobs: the roots of its columns and
/// what aligns them. A test holds the estimate against what is built.
const ARCHIVE_BYTES: usize = 96;
const ARCHIVE_KEYS_BYTES: usize = 40;
const ARCHIVE_HEADERS_BYTES: usize = 96;

/// What a column has more than it holds: rows, their bytes, and whether one of
/// them is null.
#[derive(Clone, Copy, Default)]
struct Extra {
    rows: usize,
    bytes: usize,
    any_null: bool,
}

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

impl Extra {
    fn add(&mut self, row: Option<&[u8]>) {
        self.rows += 1;
        self.bytes += row.map_or(0, <[u8]>::len);
        self.any_null |= row.is_none();
    }
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
            any_key: false,
            header_record_ends: Vec::new(),
            header_keys: Column::default(),
            header_values: Column::default(),
            plain: AlignedBytes::new(),
            archive: Columns::default(),
            narrow_deltas: Vec::new(),
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
        self.any_key = growth.any_key;
        let index = self.deltas.len();
        self.deltas.push(delta);
        self.values.push(record.value);
        self.keys.push(record.key);
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
        self.any_key = false;
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
        let mut out = AlignedBytes::with_capacity(self.estimated_bytes());
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
        if self.is_empty() {
            return Err(BuildError::Empty);
        }
        let (record_count, span) = (self.len() as u32, self.span);
        self.fill_archive();
        out.clear();
        out.resize(PREFIX_LEN, 0);
        let (compression, uncompressed_length) = self.write_payload(out);
        let payload_length = out.len() - PREFIX_LEN;
        let configured = (self.config.producer_id, self.config.producer_epoch);
        let (producer_id, producer_epoch) = self.producer.unwrap_or(configured);
        out.resize(out.len().next_multiple_of(BATCH_ALIGN), 0);
        let mut header = BatchHeader {
            crc: 0,
            encoding: ENCODING_COLUMNAR,
            total_length: length_u32(out.len()),
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
        header.write(out);
        self.take_back_archive();
        self.clear();
        Ok(())
    }

    /// Appends the payload to `out`: compressed where that makes it shorter and
    /// a reader's limit on the ratio allows it. Returns how, and the plain length.
    fn write_payload(&mut self, out: &mut AlignedBytes) -> (Compression, usize) {
        let start = out.len();
        let compression = self.compressor.compression();
        if compression == Compression::None {
            self.archive.write(out);
            return (compression, out.len() - start);
        }
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        self.archive.write(&mut plain);
        let taken = match pack(&mut self.compressor, &plain, out) {
            Packed::Shorter => Some(compression),
            // Only zstd shrinks anything so far; lz4 never does.
            Packed::BeyondRatio => match pack(&mut Compressor::Lz4, &plain, out) {
                Packed::Shorter => Some(Compression::Lz4),
                Packed::BeyondRatio | Packed::NoShorter => None,
            },
            Packed::NoShorter => None,
        };
        if taken.is_none() {
            out.extend_from_slice(&plain);
        }
        let plain_length = plain.len();
        self.plain = plain;
        (taken.unwrap_or(Compression::None), plain_length)
    }

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

    const fn any_header(&self) -> bool {
        !self.header_record_ends.is_empty()
    }

    /// The batch as it is.
    fn growth(&self) -> Growth {
        Growth {
            deltas: self.span,
            any_key: self.any_key,
            any_header: self.any_header(),
            ..Growth::default()
        }
    }

    /// The batch with `record`.
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

    fn bytes_with(&self, growth: &Growth) -> usize {
        let rows = self.len() + growth.value.rows;
        let mut bytes = PREFIX_LEN + ARCHIVE_BYTES + self.values.bytes_with(&growth.value);
        bytes += rows * delta_width(growth.deltas) + self.offsets.len() * 4;
        if growth.any_key {
            bytes += ARCHIVE_KEYS_BYTES + self.keys.bytes_with(&growth.key);
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

    /// Moves the columns into the archive, in the widths that they need.
    fn fill_archive(&mut self) {
        self.values.move_to(&mut self.archive.values);
        if self.any_key {
            self.keys.move_to(self.archive.keys.get_or_insert_default());
        } else {
            self.archive.keys = None;
        }
        self.archive.timestamps = match delta_width(self.span) {
            0 => Deltas::Zero,
            2 => {
                let mut narrow = std::mem::take(&mut self.narrow_deltas);
                narrow.clear();
                narrow.extend(self.deltas.iter().map(|delta| *delta as i16));
                Deltas::Narrow(narrow)
            }
            _ => Deltas::Wide(std::mem::take(&mut self.deltas)),
        };
        self.archive.offsets = std::mem::take(&mut self.offsets);
        if self.header_record_ends.is_empty() {
            self.archive.headers = None;
            return;
        }
        let headers = self
            .archive
            .headers
            .get_or_insert_with(Box::<HeaderColumns>::default);
        headers.record_ends = Ends::Wide(std::mem::take(&mut self.header_record_ends));
        self.header_keys.move_to(&mut headers.keys);
        self.header_values.move_to(&mut headers.values);
    }

    /// Takes the vectors back, with their memory.
    fn take_back_archive(&mut self) {
        self.values.take_back(&mut self.archive.values);
        if let Some(keys) = &mut self.archive.keys {
            self.keys.take_back(keys);
        }
        match std::mem::take(&mut self.archive.timestamps) {
            Deltas::Zero => {}
            Deltas::Narrow(deltas) => self.narrow_deltas = deltas,
            Deltas::Wide(deltas) => self.deltas = deltas,
        }
        self.offsets = std::mem::take(&mut self.archive.offsets);
        if let Some(headers) = &mut self.archive.headers {
            if let Ends::Wide(ends) = std::mem::take(&mut headers.record_ends) {
                self.header_record_ends = ends;
            }
            self.header_keys.take_back(&mut headers.keys);
            self.header_values.take_back(&mut headers.values);
        }
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
fn pack(compressor: &mut Compressor, plain: &[u8], out: &mut AlignedBytes) -> Packed {
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
    out.resize(start, 0);
    packed
}

/// Byte strings while they are collected.
#[derive(Debug, Default)]
struct Column {
    ends: Vec<u32>,
    narrow_ends: Vec<u16>,
    nulls: Vec<u8>,
    any_null: bool,
    bytes: Vec<u8>,
}

/// The longest blob whose ends are narrow.
const NARROW_BYTES_MAX: usize = u16::MAX as usize;

impl Column {
    const fn len(&self) -> usize {
        self.ends.len()
    }

    fn push(&mut self, row: Option<&[u8]>) {
        let index = self.ends.len();
        if index.is_multiple_of(8) {
            self.nulls.push(0);
        }
        match row {
            Some(bytes) => self.bytes.extend_from_slice(bytes),
            None => {
                self.any_null = true;
                self.nulls[index / 8] |= 1 << (index % 8);
            }
        }
        self.ends.push(self.bytes.len() as u32);
    }

    /// Bytes in the archive with `extra`.
    fn bytes_with(&self, extra: &Extra) -> usize {
        let (rows, bytes) = (self.len() + extra.rows, self.bytes.len() + extra.bytes);
        let width = if bytes <= NARROW_BYTES_MAX { 2 } else { 4 };
        let any_null = self.any_null || extra.any_null;
        rows * width + if any_null { rows.div_ceil(8) } else { 0 } + bytes
    }

    fn move_to(&mut self, blobs: &mut Blobs) {
        blobs.ends = if self.bytes.len() <= NARROW_BYTES_MAX {
            let mut narrow = std::mem::take(&mut self.narrow_ends);
            narrow.clear();
            narrow.extend(self.ends.iter().map(|end| *end as u16));
            Ends::Narrow(narrow)
        } else {
            Ends::Wide(std::mem::take(&mut self.ends))
        };
        if self.any_null {
            blobs.nulls = std::mem::take(&mut self.nulls);
        }
        blobs.bytes = std::mem::take(&mut self.bytes);
    }

    fn take_back(&mut self, blobs: &mut Blobs) {
        match std::mem::take(&mut blobs.ends) {
            Ends::Narrow(ends) => self.narrow_ends = ends,
            Ends::Wide(ends) => self.ends = ends,
        }
        if self.any_null {
            self.nulls = std::mem::take(&mut blobs.nulls);
        }
        self.bytes = std::mem::take(&mut blobs.bytes);
    }

    fn clear(&mut self) {
        self.ends.clear();
        self.nulls.clear();
        self.any_null = false;
        self.bytes.clear();
    }
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

/// The length of something whose bytes were held against a `u32` limit.
fn length_u32(length: usize) -> u32 {
    u32::try_from(length).expect("batches are shorter than their limit, which is a u32")
}
