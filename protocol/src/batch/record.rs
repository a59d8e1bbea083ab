//! Reading a batch: records in place.

use super::columns::{self, ArchivedColumns, ArchivedEnds, ArchivedHeaderColumns};
use super::compression::{Compression, DecompressLimit, decompress};
use super::error::{BatchError, RecordBatchError};
use super::header::{BatchHeader, TimestampType};
use super::layout::{BATCH_ALIGN, PREFIX_LEN};
use super::stamp::Stamp;
use super::validate::verify_crc;
use crate::aligned::AlignedBytes;
use crate::ids::{LeaderEpoch, Offset, Timestamp};

/// A checked batch. `B` holds its bytes: a slice, or something that owns them.
/// Records borrow from the batch; without compression, straight from those
/// bytes (if they begin at a multiple of 8).
#[derive(Clone, Debug)]
pub struct RecordBatch<B> {
    bytes: B,
    header: BatchHeader,
    stamp: Option<Stamp>,
    /// The payload, where it cannot be read in place.
    unpacked: Option<AlignedBytes>,
}

impl<B: AsRef<[u8]>> RecordBatch<B> {
    /// Checks a batch as a broker served it: stamp, CRC, and the payload's
    /// structure, unpacking it within `limit` if it is compressed.
    ///
    /// `bytes.as_ref()` must be exactly one batch, and must be the same bytes
    /// each time.
    ///
    /// # Errors
    /// What is wrong, with the batch's base offset if its stamp is right.
    pub fn parse(bytes: B, limit: &DecompressLimit) -> Result<Self, RecordBatchError> {
        let stamp = Stamp::read(bytes.as_ref());
        let stamp = stamp.map_err(|error| RecordBatchError {
            base_offset: None,
            error,
        })?;
        Self::check(bytes, Some(stamp), limit).map_err(|error| RecordBatchError {
            base_offset: Some(stamp.base_offset),
            error,
        })
    }

    /// Checks a batch that no broker has stamped; its offsets begin at 0.
    ///
    /// # Errors
    /// What is wrong.
    pub fn parse_unstamped(bytes: B, limit: &DecompressLimit) -> Result<Self, BatchError> {
        Self::check(bytes, None, limit)
    }

    fn check(bytes: B, stamp: Option<Stamp>, limit: &DecompressLimit) -> Result<Self, BatchError> {
        let batch = bytes.as_ref();
        let header = verify_crc(batch)?;
        let payload = &batch[PREFIX_LEN..header.payload_end()];
        let aligned = batch.as_ptr().addr().is_multiple_of(BATCH_ALIGN);
        let unpacked = match header.compression {
            Compression::None if aligned => None,
            Compression::None => Some(AlignedBytes::copy_of(payload)),
            codec => Some(decompress(
                codec,
                payload,
                header.uncompressed_length,
                limit,
            )?),
        };
        columns::checked(unpacked.as_deref().unwrap_or(payload), &header)?;
        Ok(Self {
            bytes,
            header,
            stamp,
            unpacked,
        })
    }

    /// The producer's header.
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The broker's stamp, if there is one.
    pub const fn stamp(&self) -> Option<&Stamp> {
        self.stamp.as_ref()
    }

    /// The whole batch as it came.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// The first offset that it covers: that of its first record, if it has one.
    pub fn base_offset(&self) -> Offset {
        self.stamp.map_or(Offset::ZERO, |stamp| stamp.base_offset)
    }

    /// The leader epoch under which the broker appended it; 0 if it has no stamp.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.stamp
            .map_or(LeaderEpoch::new(0), |stamp| stamp.leader_epoch)
    }

    /// Where the next batch begins: after the last record, and after those that compaction has left out behind it.
    pub fn end_offset(&self) -> Offset {
        self.base_offset().advance(self.header.offsets_taken())
    }

    /// Records in the batch: at least 1, unless compaction has left out all of them.
    pub const fn record_count(&self) -> u32 {
        self.header.record_count
    }

    /// Its records, in the order of their offsets.
    pub fn records(&self) -> Records<'_> {
        let payload = match &self.unpacked {
            Some(unpacked) => unpacked.as_slice(),
            None => &self.bytes.as_ref()[PREFIX_LEN..self.header.payload_end()],
        };
        let columns = columns::access(payload).expect("the payload was checked, and is the same");
        let append_time = match (self.header.timestamp_type, self.stamp) {
            (TimestampType::LogAppend, Some(stamp)) => Some(stamp.append_time),
            _ => None,
        };
        Records {
            columns,
            base_offset: self.base_offset(),
            first_timestamp: self.header.first_timestamp,
            append_time,
            next: 0,
            count: self.header.record_count as usize,
            value_start: 0,
            key_start: 0,
            header_start: 0,
        }
    }
}

impl<'a, B: AsRef<[u8]>> IntoIterator for &'a RecordBatch<B> {
    type Item = RecordView<'a>;
    type IntoIter = Records<'a>;

    fn into_iter(self) -> Records<'a> {
        self.records()
    }
}

/// One record, in place.
#[derive(Clone, Debug)]
pub struct RecordView<'a> {
    /// Its offset in the partition.
    pub offset: Offset,
    /// Its time, or its batch's append time if the batch says so.
    pub timestamp: Timestamp,
    /// Its key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is null, which deletes the key where logs are compacted.
    pub value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> RecordView<'a> {
    /// Its headers, in the order in which they were added.
    pub fn headers(&self) -> Headers<'a> {
        self.headers.clone()
    }
}

/// The records of a batch.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    columns: &'a ArchivedColumns,
    base_offset: Offset,
    first_timestamp: Timestamp,
    append_time: Option<Timestamp>,
    next: usize,
    count: usize,
    value_start: usize,
    key_start: usize,
    header_start: usize,
}

impl<'a> Iterator for Records<'a> {
    type Item = RecordView<'a>;

    fn next(&mut self) -> Option<RecordView<'a>> {
        let index = self.next;
        if index == self.count {
            return None;
        }
        self.next += 1;
        let columns = self.columns;
        let value_end = columns.values.ends.get(index);
        let value = columns.values.row(index, self.value_start, value_end);
        self.value_start = value_end;
        let key = columns.keys.as_ref().and_then(|keys| {
            let end = keys.ends.get(index);
            let start = std::mem::replace(&mut self.key_start, end);
            keys.row(index, start, end)
        });
        let headers = match columns.headers.as_ref() {
            None => Headers::EMPTY,
            Some(headers) => {
                let end = headers.record_ends.get(index);
                let start = std::mem::replace(&mut self.header_start, end);
                Headers {
                    columns: Some(headers),
                    next: start,
                    end,
                }
            }
        };
        let offset_delta = match columns.offsets.get(index) {
            Some(delta) => u64::from(delta.to_native()),
            None => index as u64,
        };
        let delta = columns.timestamps.get(index);
        let created = Timestamp::new(self.first_timestamp.get() + delta);
        Some(RecordView {
            offset: self.base_offset.advance(offset_delta),
            timestamp: self.append_time.unwrap_or(created),
            key,
            value,
            headers,
        })
    }

    fn nth(&mut self, skipped: usize) -> Option<RecordView<'a>> {
        let target = self.next.saturating_add(skipped).min(self.count);
        if skipped > 0 && target > 0 {
            let last = target - 1;
            let start = |ends: &ArchivedEnds| ends.get(last);
            self.value_start = start(&self.columns.values.ends);
            self.key_start = self
                .columns
                .keys
                .as_ref()
                .map_or(0, |keys| start(&keys.ends));
            let headers = self.columns.headers.as_ref();
            self.header_start = headers.map_or(0, |headers| start(&headers.record_ends));
            self.next = target;
        }
        self.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.count - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Records<'_> {}

/// The headers of a record, as key and value.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    columns: Option<&'a ArchivedHeaderColumns>,
    next: usize,
    end: usize,
}

impl Headers<'_> {
    const EMPTY: Self = Self {
        columns: None,
        next: 0,
        end: 0,
    };
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let columns = self.columns?;
        let index = self.next;
        if index == self.end {
            return None;
        }
        self.next += 1;
        let (keys, values) = (&columns.keys, &columns.values);
        let key = &keys.bytes[keys.ends.start(index)..keys.ends.get(index)];
        let key = std::str::from_utf8(key).expect("header keys were checked to be UTF-8");
        Some((
            key,
            values.row(index, values.ends.start(index), values.ends.get(index)),
        ))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Headers<'_> {}
