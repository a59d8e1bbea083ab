//! One pass of one reader over one partition: it must see every offset once, in order, and at its
//! end nothing may be missing that was promised or seen before it began.

use std::collections::BTreeMap;

use corelane_protocol::ids::{Offset, TopicPartition};

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

    /// Takes the next offset and reports it when it is not the one expected.
    pub(crate) fn poll(&mut self, offset: Offset, verdict: &mut Verdict) {
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
            return;
        }
        if offset > expected {
            verdict.add(Violation::Skipped {
                reader,
                partition,
                expected,
                offset,
            });
        }
        self.polled.push(offset);
        self.expected = offset.advance(1);
    }

    /// Ends the read: receipts and sights older than its beginning are looked up in what it saw.
    pub(crate) fn end(&self, history: &mut PartitionHistory, verdict: &mut Verdict) {
        if history.is_released {
            return;
        }
        let from = self.from.max(history.log_start);
        let missing_receipts = self.missing(from, &mut history.receipts, |receipt| {
            let due = receipt.at < self.started;
            receipt.verified |= due;
            due
        });
        for offset in &missing_receipts {
            verdict.add(Violation::LostAcknowledged {
                record: history.receipts[offset].record,
                partition: self.partition,
                offset: *offset,
                reader: self.reader,
            });
        }
        for offset in self.missing(from, &mut history.sights, |sight| sight.at < self.started) {
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
