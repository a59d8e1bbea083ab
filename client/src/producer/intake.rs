//! The records of one call on their way into the accumulators.
//!
//! Owns: a few records that were taken from the caller and have their partitions. Taking them runs
//! the caller's code (iterator, partitioner), which may block or call the producer again; so it is
//! done ahead, while no lock is held. Never: touches an accumulator.

use super::partitioner::Chooser;
use crate::error::Error;
use crate::record::RecordRef;

/// A record with its partition, or with the reason why it has none.
#[derive(Debug)]
pub(crate) struct Addressed<'r> {
    pub(crate) record: RecordRef<'r>,
    /// What it takes from the producer's buffer.
    pub(crate) bytes: usize,
    pub(crate) partition: Result<u32, Box<Error>>,
}

/// The records of a call, of which up to `AHEAD` are taken at a time.
#[derive(Debug)]
pub(crate) struct Intake<'r, I, const AHEAD: usize> {
    rest: I,
    ahead: [Option<Addressed<'r>>; AHEAD],
    /// Index of the next record in `ahead`, and of the end of those taken.
    next: usize,
    end: usize,
}

impl<'r, I: Iterator<Item = RecordRef<'r>>, const AHEAD: usize> Intake<'r, I, AHEAD> {
    pub(crate) fn new(records: I) -> Self {
        Self {
            rest: records,
            ahead: [const { None }; AHEAD],
            next: 0,
            end: 0,
        }
    }

    /// Takes the next records from the caller; only when those before are all done.
    pub(crate) fn fill(&mut self, chooser: &mut Chooser<'_>) {
        assert!(self.is_empty(), "what was taken is done first");
        (self.next, self.end) = (0, 0);
        for place in &mut self.ahead {
            let Some(record) = self.rest.next() else {
                break;
            };
            // Put in place first: moving it once more would cost as much as all of this.
            let addressed = place.insert(Addressed {
                record,
                bytes: 0,
                partition: Ok(0),
            });
            addressed.bytes = addressed.record.buffer_bytes();
            let chosen = chooser.choose(&addressed.record, addressed.bytes);
            addressed.partition = chosen.map_err(Box::new);
            self.end += 1;
        }
    }

    /// Whether everything that was taken is done.
    pub(crate) fn is_empty(&self) -> bool {
        self.next == self.end
    }

    /// The next record, among those taken.
    pub(crate) fn peek(&self) -> Option<&Addressed<'r>> {
        self.ahead[self.next..self.end].first()?.as_ref()
    }

    /// Counts the next record as done. It stays where it is until another one takes its place: to
    /// move it out would cost more than to append it.
    pub(crate) fn advance(&mut self) {
        assert!(!self.is_empty(), "there is a next record");
        self.next += 1;
    }

    /// How many records are still to come, at least.
    pub(crate) fn count_min(&self) -> usize {
        self.rest.size_hint().0.saturating_add(self.end - self.next)
    }
}
