//! The walk over the batches of a segment's bytes.
//!
//! Owns the rule that batches and padding fill a segment without a gap, and that offsets follow each other.
//! Pure; used on the core that runs the store.

use corelane_protocol::{Offset, TopicPartition};

use super::batches::{BatchPeek, Check, Found, find};

/// Bytes of a segment's file, walked from a boundary between two batches.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    pub(crate) partition: TopicPartition,
    pub(crate) bytes: &'a [u8],
    /// The position in the file of the first of the bytes.
    pub(crate) start: u64,
    /// Where the walk is.
    pub(crate) at: u64,
    /// The offset of the next batch.
    pub(crate) expected: Offset,
    /// Whole batches end at or below this position.
    pub(crate) limit: u64,
    /// The offset at which the walk ends.
    pub(crate) end_offset: Offset,
}

/// One step of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A batch at this position.
    Batch(u64, BatchPeek),
    /// The walk goes no further.
    Stop(Stop),
}

/// Why a walk goes no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Every batch was seen.
    End,
    /// More bytes are needed: so many from where the walk is.
    Incomplete(usize),
    /// The bytes there are not what was written: the reason.
    Damaged(String),
}

impl Walk<'_> {
    /// Goes over one batch, and over padding before it.
    pub(crate) fn step(&mut self, check: Check) -> Step {
        loop {
            if self.expected >= self.end_offset {
                return Step::Stop(Stop::End);
            }
            if self.at >= self.limit {
                return self.damaged(format!(
                    "the segment ends before offset {}",
                    self.end_offset
                ));
            }
            let here = self
                .bytes
                .get((self.at - self.start) as usize..)
                .unwrap_or_default();
            match find(self.partition, self.at, here, check) {
                Found::Padding(next) => self.at = next,
                Found::Incomplete(needed) if self.at + needed as u64 > self.limit => {
                    return self.damaged("the segment ends within a batch".into());
                }
                Found::Incomplete(needed) => return Step::Stop(Stop::Incomplete(needed)),
                Found::Damaged(reason) => return self.damaged(reason),
                Found::Batch(batch) => return self.batch(batch),
            }
        }
    }

    fn batch(&mut self, batch: BatchPeek) -> Step {
        if batch.base_offset != self.expected {
            return self.damaged(format!(
                "offset {} instead of {}",
                batch.base_offset, self.expected
            ));
        }
        let after = self.at + u64::from(batch.length);
        if after > self.limit || batch.end_offset > self.end_offset {
            return self.damaged("the batch goes beyond the segment's end".into());
        }
        let step = Step::Batch(self.at, batch);
        self.at = after;
        self.expected = batch.end_offset;
        step
    }

    fn damaged(&self, reason: String) -> Step {
        Step::Stop(Stop::Damaged(reason))
    }
}
