//! Idempotent producers: what a partition knows of those that write to it.
//!
//! Owns the rule by which a batch is new, known, or refused, and the state that this needs: for each producer its
//! epoch, and the runs of sequence numbers that are in the log with their offsets. All of it follows from the log:
//! batches in the order of their offsets give it again, from any earlier state on. Pure; used on the core that runs
//! the store.

mod run;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use corelane_protocol::batch::{BatchHeader, advance_sequence, sequence_distance};
use corelane_protocol::{Offset, ProducerEpoch, ProducerId, Timestamp};

use run::Run;
pub use run::SequenceRun;
pub use snapshot::ProducerSnapshot;

/// How many of a producer's last batches a partition knows again, at least.
pub const PRODUCER_WINDOW: u32 = 1024;
/// How many it still knows where memory is full: then older ones are only known to be in the log.
const SCARCE_WINDOW: usize = 5;
/// About what a producer takes in memory beside its runs, bytes.
const PRODUCER_BYTES: usize = 128;

/// A batch's place in the sequence of its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sequenced {
    pub(crate) producer: ProducerId,
    pub(crate) epoch: ProducerEpoch,
    /// Of the first record.
    pub(crate) sequence: u32,
    pub(crate) records: u32,
}

impl Sequenced {
    /// Of a batch; `None` if its producer is not idempotent.
    pub(crate) fn of(header: &BatchHeader) -> Option<Self> {
        (header.producer_id != ProducerId::NONE).then_some(Self {
            producer: header.producer_id,
            epoch: header.producer_epoch,
            sequence: header.base_sequence,
            records: header.record_count,
        })
    }
}

/// What a batch is to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It comes next, and the partition knows its producer already.
    Next,
    /// It is the first of a producer that the partition does not know.
    First,
    /// All of it is in the log, from this offset on.
    Known(Offset),
    /// It is not appended.
    Refused(SequenceError),
}

/// Why a batch of an idempotent producer is not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// Batches before it are missing, or it is cut in another way than what was appended. It is not in the log.
    #[error("sequence {found} of the producer, and {expected} comes next")]
    OutOfOrder {
        /// Its first sequence number.
        found: u32,
        /// The one that comes next.
        expected: u32,
    },
    /// Nothing is known of its producer. It may be in the log.
    #[error("sequence {found} of a producer that the partition does not know")]
    UnknownProducer {
        /// Its first sequence number.
        found: u32,
    },
    /// Its producer has begun a later epoch.
    #[error("epoch {found} of the producer, and its epoch is {latest}")]
    Fenced {
        /// Its epoch.
        found: ProducerEpoch,
        /// The producer's.
        latest: ProducerEpoch,
    },
    /// All of it is in the log, so far back that its offset is not known any more.
    #[error("its records are in the log, longer ago than their offsets are remembered")]
    LongAgo,
}

/// The producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    known: BTreeMap<ProducerId, Producer>,
    /// About what they take in memory, bytes.
    bytes: usize,
    /// No producer was heard of before this time.
    oldest: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    /// When it appended last.
    last_append: Timestamp,
    /// What it has in the log in this epoch, in the order of the log; never empty.
    runs: VecDeque<Run>,
}

impl Producer {
    fn next_sequence(&self) -> u32 {
        let last = self.runs.back().expect("a producer has appended");
        last.next_sequence()
    }

    fn end(&self) -> Offset {
        self.runs.back().expect("a producer has appended").end()
    }

    /// Where a batch is whose numbers were all appended before.
    fn find(&self, batch: &Sequenced) -> Option<Offset> {
        let mut runs = self.runs.iter().rev();
        runs.find_map(|run| run.offset_of(batch.sequence, batch.records))
    }
}

impl Producers {
    /// What a batch is. Changes nothing.
    pub(crate) fn judge(&self, batch: &Sequenced) -> Verdict {
        let found = batch.sequence;
        let Some(producer) = self.known.get(&batch.producer) else {
            return match found {
                0 => Verdict::First,
                _ => Verdict::Refused(SequenceError::UnknownProducer { found }),
            };
        };
        let latest = producer.epoch;
        if batch.epoch < latest {
            return Verdict::Refused(SequenceError::Fenced {
                found: batch.epoch,
                latest,
            });
        }
        let expected = match batch.epoch > latest {
            true => 0,
            false => producer.next_sequence(),
        };
        if found == expected {
            return Verdict::Next;
        }
        let end = advance_sequence(found, batch.records);
        let is_known = batch.epoch == latest
            && sequence_distance(expected, found) < 0
            && sequence_distance(expected, end) <= 0;
        if !is_known {
            return Verdict::Refused(SequenceError::OutOfOrder { found, expected });
        }
        if let Some(offset) = producer.find(batch) {
            return Verdict::Known(offset);
        }
        let first = producer.runs.front().expect("a producer has appended");
        Verdict::Refused(if first.is_behind(found) {
            SequenceError::LongAgo
        } else {
            // No batch that was appended holds all of it.
            SequenceError::OutOfOrder { found, expected }
        })
    }

    /// A batch was appended. `settled` is up to where the catalogue says what the partition knows: of what is before
    /// it the last [`PRODUCER_WINDOW`] runs of each producer are kept, and all of what is behind it.
    pub(crate) fn appended(
        &mut self,
        batch: &Sequenced,
        offset: Offset,
        now: Timestamp,
        settled: Offset,
    ) {
        self.oldest = Some(self.oldest.map_or(now, |oldest| oldest.min(now)));
        let producer = match self.known.entry(batch.producer) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(vacant) => {
                self.bytes += PRODUCER_BYTES;
                vacant.insert(Producer {
                    epoch: batch.epoch,
                    last_append: now,
                    runs: VecDeque::new(),
                })
            }
        };
        producer.last_append = now;
        if producer.epoch != batch.epoch {
            producer.epoch = batch.epoch;
            self.bytes -= producer.runs.len() * size_of::<Run>();
            producer.runs.clear();
        }
        let run = Run::new(batch.sequence, offset, batch.records);
        if producer
            .runs
            .back_mut()
            .is_some_and(|last| last.extend(run))
        {
            return;
        }
        producer.runs.push_back(run);
        self.bytes += size_of::<Run>();
        let window = PRODUCER_WINDOW as usize;
        while producer
            .runs
            .get(window)
            .is_some_and(|later| later.offset() < settled)
        {
            producer.runs.pop_front();
            self.bytes -= size_of::<Run>();
        }
    }

    /// Keeps as few runs as may be of those before `settled`, since memory is full.
    pub(crate) fn shrink(&mut self, settled: Offset) {
        for producer in self.known.values_mut() {
            while producer
                .runs
                .get(SCARCE_WINDOW)
                .is_some_and(|later| later.offset() < settled)
            {
                producer.runs.pop_front();
                self.bytes -= size_of::<Run>();
            }
            producer.runs.shrink_to_fit();
        }
    }

    /// Forgets the producers that have appended nothing since `before`. Returns how many.
    pub(crate) fn expire(&mut self, before: Timestamp) -> usize {
        if self.oldest.is_none_or(|oldest| oldest >= before) {
            return 0;
        }
        let count = self.known.len();
        let mut bytes = 0;
        self.known.retain(|_, producer| {
            let is_kept = producer.last_append >= before;
            if is_kept {
                bytes += PRODUCER_BYTES + producer.runs.len() * size_of::<Run>();
            }
            is_kept
        });
        self.bytes = bytes;
        self.oldest = self.known.values().map(|found| found.last_append).min();
        count - self.known.len()
    }

    /// About what they take in memory, bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}
