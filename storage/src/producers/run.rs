//! Consecutive sequence numbers at consecutive offsets.

use corelane_protocol::Offset;
use corelane_protocol::batch::{advance_sequence, sequence_distance};

/// A run never has more records, so that its numbers are far from going round.
const RUN_RECORDS_MAX: u32 = 1 << 24;

/// Records of a producer that follow each other, in the log as in its sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceRun {
    /// The sequence number of the first one.
    pub sequence: u32,
    /// The offset of the first one.
    pub offset: Offset,
    /// How many.
    pub records: u32,
}

/// A run as it is kept, in 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run(SequenceRun);

const _: () = assert!(size_of::<Run>() == 16);

impl Run {
    pub(super) const fn new(sequence: u32, offset: Offset, records: u32) -> Self {
        Self(SequenceRun {
            sequence,
            offset,
            records,
        })
    }

    pub(super) const fn get(self) -> SequenceRun {
        self.0
    }

    pub(super) const fn offset(&self) -> Offset {
        self.0.offset
    }

    pub(super) fn end(&self) -> Offset {
        self.0.offset.advance(u64::from(self.0.records))
    }

    pub(super) const fn next_sequence(&self) -> u32 {
        advance_sequence(self.0.sequence, self.0.records)
    }

    /// The offset of a batch that lies in this run.
    pub(super) fn offset_of(&self, sequence: u32, records: u32) -> Option<Offset> {
        let skipped = sequence_distance(self.0.sequence, sequence);
        let is_within = skipped >= 0 && skipped + i64::from(records) <= i64::from(self.0.records);
        is_within.then(|| self.0.offset.advance(skipped as u64))
    }

    /// Whether a sequence number comes before all of this run.
    pub(super) const fn is_behind(&self, sequence: u32) -> bool {
        sequence_distance(self.0.sequence, sequence) < 0
    }

    /// Takes in a run that follows this one. Returns whether it does.
    pub(super) fn extend(&mut self, next: Self) -> bool {
        let records = u64::from(self.0.records) + u64::from(next.0.records);
        let follows = self.end() == next.0.offset
            && self.next_sequence() == next.0.sequence
            && records <= u64::from(RUN_RECORDS_MAX);
        if follows {
            self.0.records += next.0.records;
        }
        follows
    }

    /// The part from one offset to another, if there is any.
    pub(super) fn part(&self, from: Offset, upto: Offset) -> Option<Self> {
        let start = self.0.offset.max(from);
        let end = self.end().min(upto);
        if start >= end {
            return None;
        }
        let skipped = start.distance_from(self.0.offset) as u32;
        Some(Self::new(
            advance_sequence(self.0.sequence, skipped),
            start,
            end.distance_from(start) as u32,
        ))
    }
}
