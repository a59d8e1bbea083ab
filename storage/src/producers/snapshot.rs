//! What the catalogue keeps of producers: what has come to a log between two of its offsets.
//!
//! Owns the part of a record's layout that is about one producer.

use std::collections::VecDeque;

use corelane_protocol::batch::SEQUENCES;
use corelane_protocol::wire::{DecodeError, Reader, Writer};
use corelane_protocol::{Offset, ProducerEpoch, ProducerId, Timestamp};

use super::{PRODUCER_BYTES, PRODUCER_WINDOW, Producer, Producers, Run, SequenceRun};

/// One producer, and what it has appended to a part of the log in its latest epoch there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerSnapshot {
    /// Which.
    pub producer: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// When it appended last, as far as that was known.
    pub last_append: Timestamp,
    /// What it has appended, in the order of the log; never empty.
    pub runs: Vec<SequenceRun>,
}

/// The fewest bytes of a snapshot: a producer with one run.
const SNAPSHOT_BYTES_MIN: usize = 8 + 2 + 8 + 4 + RUN_BYTES;
const RUN_BYTES: usize = 4 + 8 + 4;
/// A record is begun anew beyond so many bytes of runs.
const RECORD_BYTES: usize = 32 << 10;

impl ProducerSnapshot {
    /// Bytes in a record.
    fn encoded_bytes(&self) -> usize {
        SNAPSHOT_BYTES_MIN + (self.runs.len() - 1) * RUN_BYTES
    }

    pub(crate) fn encode(&self, out: &mut Writer<'_>) {
        out.u64(self.producer.get());
        out.u16(self.epoch.get());
        out.timestamp(self.last_append);
        out.list(&self.runs, |out, run| {
            out.u32(run.sequence);
            out.offset(run.offset);
            out.u32(run.records);
        });
    }

    pub(crate) fn decode_all(input: &mut Reader<'_>) -> Result<Vec<Self>, DecodeError> {
        input.list(SNAPSHOT_BYTES_MIN, |input| {
            let (producer, epoch) = (ProducerId::new(input.u64()?), input.u16()?);
            let last_append = input.timestamp()?;
            let runs = input.list(RUN_BYTES, |input| {
                let run = SequenceRun {
                    sequence: input.u32()?,
                    offset: input.offset()?,
                    records: input.u32()?,
                };
                let is_possible = run.sequence < SEQUENCES
                    && (1..SEQUENCES).contains(&run.records)
                    && run.offset.get() + u64::from(run.records) <= Offset::MAX.get();
                match is_possible {
                    true => Ok(run),
                    false => Err(input.invalid("run of sequence numbers")),
                }
            })?;
            if producer == ProducerId::NONE || runs.is_empty() {
                return Err(input.invalid("producer of a partition"));
            }
            Ok(Self {
                producer,
                epoch: ProducerEpoch::new(epoch),
                last_append,
                runs,
            })
        })
    }
}

impl Producers {
    /// What came to the log from one offset to another, in records' worth of producers: of each no more runs than
    /// count.
    pub(crate) fn between(&self, from: Offset, upto: Offset) -> Vec<Vec<ProducerSnapshot>> {
        let mut records = Vec::new();
        let mut bytes = 0;
        for (&producer, found) in &self.known {
            if found.end() <= from {
                continue;
            }
            let begins = found.runs.partition_point(|run| run.end() <= from);
            let ends = found.runs.partition_point(|run| run.offset() < upto);
            let begins = begins.max(ends.saturating_sub(PRODUCER_WINDOW as usize));
            let runs = found.runs.range(begins..ends.max(begins));
            let runs: Vec<SequenceRun> = runs
                .filter_map(|run| run.part(from, upto))
                .map(Run::get)
                .collect();
            if runs.is_empty() {
                continue;
            }
            let snapshot = ProducerSnapshot {
                producer,
                epoch: found.epoch,
                last_append: found.last_append,
                runs,
            };
            let more = snapshot.encoded_bytes();
            if records.is_empty() || bytes + more > RECORD_BYTES {
                records.push(Vec::new());
                bytes = 0;
            }
            bytes += more;
            let last: &mut Vec<ProducerSnapshot> = records.last_mut().expect("just made sure of");
            last.push(snapshot);
        }
        records
    }

    /// Takes in what came to the log from `from` on. What was known from there on before is known no more: a record
    /// may tell again of what an earlier one has told, which was not followed by that of the flush.
    pub(crate) fn take_in(
        &mut self,
        snapshots: Vec<ProducerSnapshot>,
        from: Offset,
    ) -> Result<(), &'static str> {
        for snapshot in snapshots {
            let mut runs = match self.known.get_mut(&snapshot.producer) {
                Some(found) if found.epoch == snapshot.epoch => std::mem::take(&mut found.runs),
                _ => VecDeque::new(),
            };
            cut(&mut runs, from);
            for run in snapshot.runs {
                let run = Run::new(run.sequence, run.offset, run.records);
                let end = runs.back().map_or(from, Run::end);
                if run.offset() < end {
                    return Err("the runs of a producer overlap");
                }
                if runs
                    .back()
                    .is_some_and(|last| last.next_sequence() != run.get().sequence)
                {
                    // It was forgotten in between, and began anew.
                    runs.clear();
                }
                if !runs.back_mut().is_some_and(|last| last.extend(run)) {
                    runs.push_back(run);
                }
            }
            let surplus = runs.len().saturating_sub(PRODUCER_WINDOW as usize);
            runs.drain(..surplus);
            let producer = Producer {
                epoch: snapshot.epoch,
                last_append: snapshot.last_append,
                runs,
            };
            self.known.insert(snapshot.producer, producer);
        }
        self.count();
        Ok(())
    }

    /// Forgets what is known from an offset on.
    pub(crate) fn cut(&mut self, end: Offset) {
        self.known.retain(|_, producer| {
            cut(&mut producer.runs, end);
            !producer.runs.is_empty()
        });
        self.count();
    }

    fn count(&mut self) {
        let producers = self.known.values();
        let bytes = |found: &Producer| PRODUCER_BYTES + found.runs.len() * size_of::<Run>();
        self.bytes = producers.clone().map(bytes).sum();
        self.oldest = producers.map(|found| found.last_append).min();
    }
}

/// Takes away what lies at an offset and beyond.
fn cut(runs: &mut VecDeque<Run>, end: Offset) {
    while let Some(last) = runs.back_mut()
        && last.end() > end
    {
        match last.part(Offset::ZERO, end) {
            Some(kept) => {
                *last = kept;
                break;
            }
            None => {
                runs.pop_back();
            }
        }
    }
}
