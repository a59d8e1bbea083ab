//! Fetched records, read in place.
//!
//! Owns: one batch as it arrived (or unpacked once, if it was compressed) and the views into it.
//! Never: copies a record.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use corelane_protocol::batch::{self, DecompressLimit, RecordBatch, RecordBatchError};

use crate::connection::Frame;

/// A part of a fetch answer: one batch. It keeps the whole answer in memory.
#[derive(Debug, Clone)]
pub(super) struct BatchBytes {
    pub(super) frame: Arc<Frame>,
    pub(super) range: Range<usize>,
}

impl AsRef<[u8]> for BatchBytes {
    fn as_ref(&self) -> &[u8] {
        &self.frame.bytes()[self.range.clone()]
    }
}

/// Consecutive records of one partition: one batch as a producer sent it.
///
/// Records borrow from it; uncompressed ones straight from the bytes that were received. It keeps
/// those bytes in memory while it lives, so copy what is to be kept for long.
#[derive(Debug)]
pub struct Records {
    topic: Arc<str>,
    partition: u32,
    high_watermark: u64,
    batch: RecordBatch<BatchBytes>,
    /// Records at the front that lie before the position asked for.
    skipped: usize,
}

impl Records {
    /// Checks a batch (checksums, structure, and the codec if it is compressed) and opens it from
    /// `position` on.
    pub(super) fn open(
        topic: Arc<str>,
        partition: u32,
        bytes: BatchBytes,
        position: u64,
        high_watermark: u64,
    ) -> Result<Self, RecordBatchError> {
        let batch = RecordBatch::parse(bytes, &DecompressLimit::default())?;
        let skipped = if batch.base_offset().get() < position {
            batch
                .records()
                .take_while(|record| record.offset.get() < position)
                .count()
        } else {
            0
        };
        Ok(Self {
            topic,
            partition,
            high_watermark,
            batch,
            skipped,
        })
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition's index.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// The first offset that consumers could not read yet when these records were fetched. What is
    /// left to read is the difference to [`Records::end_offset`].
    pub fn high_watermark(&self) -> u64 {
        self.high_watermark
    }

    /// The offset after the last of these records: where reading goes on.
    pub fn end_offset(&self) -> u64 {
        self.batch.end_offset().get()
    }

    /// How many records there are. It may be 0 where compaction removed the last of a batch.
    pub fn len(&self) -> usize {
        self.batch.record_count() as usize - self.skipped
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The size of the batch on the wire, in bytes, with its header.
    pub fn size_bytes(&self) -> usize {
        self.batch.as_bytes().len()
    }

    /// The records, in the order of their offsets.
    pub fn iter(&self) -> RecordsIter<'_> {
        let mut views = self.batch.records();
        if self.skipped > 0 {
            views.nth(self.skipped - 1);
        }
        RecordsIter {
            records: self,
            views,
        }
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = ConsumedRecord<'a>;
    type IntoIter = RecordsIter<'a>;

    fn into_iter(self) -> RecordsIter<'a> {
        self.iter()
    }
}

/// The records of a [`Records`], one after the other.
#[derive(Debug, Clone)]
pub struct RecordsIter<'a> {
    records: &'a Records,
    views: batch::Records<'a>,
}

impl<'a> Iterator for RecordsIter<'a> {
    type Item = ConsumedRecord<'a>;

    fn next(&mut self) -> Option<ConsumedRecord<'a>> {
        self.views.next().map(|view| ConsumedRecord {
            records: self.records,
            view,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.views.size_hint()
    }
}

impl ExactSizeIterator for RecordsIter<'_> {}

/// One record, borrowed from the batch that it came in.
#[derive(Debug, Clone)]
pub struct ConsumedRecord<'a> {
    records: &'a Records,
    view: batch::RecordView<'a>,
}

impl<'a> ConsumedRecord<'a> {
    /// The topic's name.
    pub fn topic(&self) -> &'a str {
        &self.records.topic
    }

    /// The partition's index.
    pub fn partition(&self) -> u32 {
        self.records.partition
    }

    /// The record's offset in its partition.
    pub fn offset(&self) -> u64 {
        self.view.offset.get()
    }

    /// The record's time, in milliseconds since the Unix epoch: the producer's, or the broker's
    /// where the topic says so.
    pub fn timestamp_ms(&self) -> i64 {
        self.view.timestamp.get()
    }

    /// The leader epoch under which the broker appended it: two logs with the same epochs have the same records.
    pub fn leader_epoch(&self) -> u32 {
        self.records.batch.leader_epoch().get()
    }

    /// The key; `None` if it is null.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.view.key
    }

    /// The value; `None` if it is null (a tombstone).
    pub fn value(&self) -> Option<&'a [u8]> {
        self.view.value
    }

    /// The key as text, with what is not UTF-8 replaced; empty if it is null.
    pub fn key_text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.view.key.unwrap_or_default())
    }

    /// The value as text, with what is not UTF-8 replaced; empty if it is null.
    pub fn value_text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.view.value.unwrap_or_default())
    }

    /// The value of the last header of this name; `None` if there is none, or if it is null.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        let named = self.view.headers().filter(|(found, _)| *found == name);
        named.last().and_then(|(_, value)| value)
    }

    /// The headers as (name, value), in the order in which they were added.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        self.view.headers()
    }
}
