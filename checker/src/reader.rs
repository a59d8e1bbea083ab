//! One pass of one reader over one partition: it must see every offset once, in order, and at its
//! end nothing may be missing that was promised or seen before it began. Where the log may be compacted, what it was led
//! past is judged when everything is known.

use std::collections::BTreeMap;
use std::ops::Range;

use corelane_protocol::ids::{Offset, TopicPartition};

use crate::compaction::GAP_MAX;
use crate::event::ReaderNumber;
use crate::partition::{Moment, PartitionHistory};
use crate::verdict::Verdict;
use crate::violation::Violation;

#[derive(Debug)]
pub(crate) struct Read {
    reader: ReaderNumber,
    partition: TopicPartition,
    started: Moment,
    from: Offset,
    expected: Offset,
    /// What the answer whose records are being handed over said.
    high_watermark: Option<Offset>,
    /// Offsets in order of size, since a poll that goes backwards is reported and not kept.
    polled: Vec<Offset>,
}

impl Read {
    pub(crate) fn new(
        reader: ReaderNumber,
        partition: TopicPartition,
        started: Moment,
        from: Offset,
    ) -> Self {
        Self {
            reader,
            partition,
            started,
            from,
            expected: from,
            high_watermark: None,
            polled: Vec::new(),
        }
    }

    pub(crate) fn answered(&mut self, high_watermark: Offset) {
        self.high_watermark = Some(high_watermark);
    }

    /// What it was to be handed next is deleted.
    pub(crate) fn moved(&mut self, to: Offset) {
        self.expected = self.expected.max(to);
    }

    pub(crate) fn started(&self) -> Moment {
        self.started
    }

    /// Takes the next offset and reports it when it is not the one expected. Returns the offsets that it was led past where
    /// that is permitted.
    pub(crate) fn poll(
        &mut self,
        offset: Offset,
        may_skip: bool,
        verdict: &mut Verdict,
    ) -> Option<Range<Offset>> {
        let (reader, partition, expected) = (self.reader, self.partition, self.expected);
        if let Some(high_watermark) = self.high_watermark.filter(|end| offset >= *end) {
            verdict.add(Violation::AboveHighWatermark {
                reader,
                partition,
                high_watermark,
                offset,
            });
        }
        if offset < expected {
            verdict.add(Violation::NonMonotonicPoll {
                reader,
                partition,
                expected,
                offset,
            });
            return None;
        }
        let skipped = self.skip(offset, may_skip, verdict);
        self.polled.push(offset);
        self.expected = offset.advance(1);
        skipped
    }

    /// It was served up to an offset. Returns as `poll` does.
    pub(crate) fn through(
        &mut self,
        to: Offset,
        may_skip: bool,
        verdict: &mut Verdict,
    ) -> Option<Range<Offset>> {
        let (reader, partition) = (self.reader, self.partition);
        if let Some(high_watermark) = self.high_watermark.filter(|end| to > *end) {
            verdict.add(Violation::AboveHighWatermark {
                reader,
                partition,
                high_watermark,
                offset: to,
            });
        }
        let skipped = self.skip(to, may_skip, verdict);
        self.expected = self.expected.max(to);
        skipped
    }

    fn skip(&self, to: Offset, may_skip: bool, verdict: &mut Verdict) -> Option<Range<Offset>> {
        let (reader, partition, expected) = (self.reader, self.partition, self.expected);
        if to <= expected {
            return None;
        }
        if may_skip && to.distance_from(expected) <= GAP_MAX {
            return Some(expected..to);
        }
        verdict.add(Violation::Skipped {
            reader,
            partition,
            expected,
            offset: to,
        });
        None
    }

    /// Ends the read: receipts and sights older than its beginning are looked up in what it saw.
    pub(crate) fn end(&self, history: &mut PartitionHistory, verdict: &mut Verdict) {
        if history.is_released {
            return;
        }
        let from = self.from.max(history.log_start);
        // What it was led past is judged elsewhere.
        let passed = history.compaction.as_ref().map(|_| self.expected);
        let is_owed = |offset: &Offset| passed.is_none_or(|passed| *offset >= passed);
        let mut missing_receipts = self.missing(from, &mut history.receipts, |receipt| {
            let due = receipt.at < self.started;
            receipt.verified |= due;
            due
        });
        missing_receipts.retain(is_owed);
        for offset in &missing_receipts {
            verdict.add(Violation::LostAcknowledged {
                record: history.receipts[offset].record,
                partition: self.partition,
                offset: *offset,
                reader: self.reader,
            });
        }
        let missing_sights =
            self.missing(from, &mut history.sights, |sight| sight.at < self.started);
        for offset in missing_sights.into_iter().filter(is_owed) {
            // A lost receipt has been reported; that it had been read too says nothing new.
            if missing_receipts.binary_search(&offset).is_ok() {
                continue;
            }
            verdict.add(Violation::Vanished {
                partition: self.partition,
                offset,
                first: history.sights[&offset].reader,
                second: self.reader,
            });
        }
    }

    /// The offsets of `known` from one on that were due for this read and are not among those polled.
    fn missing<T>(
        &self,
        from: Offset,
        known: &mut BTreeMap<Offset, T>,
        is_due: impl Fn(&mut T) -> bool,
    ) -> Vec<Offset> {
        let mut polled = self.polled.iter().copied().peekable();
        let mut missing = Vec::new();
        for (offset, entry) in known.range_mut(from..) {
            while polled.peek().is_some_and(|seen| seen < offset) {
                polled.next();
            }
            if is_due(entry) && polled.peek() != Some(offset) {
                missing.push(*offset);
            }
        }
        missing
    }
}
