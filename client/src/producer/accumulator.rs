//! The records of one partition that are not on their way yet.
//!
//! Owns: the open batch that callers append to, and the full ones that stand before it. Callers and
//! the sender share it under one lock for each partition, held for the copy of a few records.
//! Never: sends, encodes or waits; it says when the sender should look.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corelane_protocol::batch::{
    self, BatchBuilder, BatchBytes, PushError, advance_sequence, sequence_distance,
};
use corelane_protocol::{ProducerEpoch, ProducerId, Timestamp};

use super::builders::Builders;
use super::delivery::{Completer, Completion, completion};
use super::sequence::Sequence;
use crate::error::Error;
use crate::record::RecordRef;

/// Names a partition within its producer.
pub(crate) type SlotId = usize;

/// One partition as a producer's callers see it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) id: SlotId,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: u32,
    accumulator: Mutex<Accumulator>,
}

impl Slot {
    /// A partition of a topic that takes batches of `batch_bytes_max`.
    pub(crate) fn new(id: SlotId, topic: Arc<str>, partition: u32, batch_bytes_max: u32) -> Self {
        Self {
            id,
            topic,
            partition,
            accumulator: Mutex::new(Accumulator::new(batch_bytes_max)),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Accumulator> {
        // Only a bug panics while holding it, and its content is whole between pushes.
        self.accumulator
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch that records are appended to.
#[derive(Debug)]
struct OpenBatch {
    builder: Box<BatchBuilder>,
    serial: u64,
    ticket: Ticket,
}

/// What a batch carries along to the end of its way.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) completer: Completer,
    pub(crate) completion: Completion,
    pub(crate) opened_at: Duration,
    /// What its records took from the producer's buffer.
    pub(crate) buffer_bytes: usize,
}

/// A batch that takes no more records.
#[derive(Debug)]
pub(crate) struct SealedBatch {
    pub(crate) content: Content,
    pub(crate) ticket: Ticket,
    /// Its epoch and number, by what is known here.
    pub(crate) guess: Option<Guess>,
}

/// The epoch and the sequence number that a batch will have unless one before it fails. They are
/// written where the batch is encoded, so that the checksum need not be computed again; the sender
/// has the last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Guess {
    pub(crate) sequence: Sequence,
    /// How often the sender had corrected what is guessed here when it was made.
    corrections: u64,
}

/// What is guessed of the next batch that becomes full.
#[derive(Debug, Default)]
struct Numbering {
    /// Whose it is, once the sender has said so: until then it is of whom all new batches are of.
    producer: Option<(ProducerId, ProducerEpoch)>,
    base_sequence: u32,
    corrections: u64,
}

/// The records of a batch.
#[derive(Debug)]
pub(crate) enum Content {
    /// In columns, still to be encoded.
    Records(Box<BatchBuilder>),
    /// As they go on the wire.
    Encoded(BatchBytes),
}

/// Where a record was put.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// Names the batch within its partition.
    pub(crate) serial: u64,
    /// The record's index in the batch.
    pub(crate) index: u32,
    /// The batch's completion.
    pub(crate) completion: &'a Completion,
}

/// Which batches the sender takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pull {
    /// How long a batch that is not full waits for more records.
    pub(crate) linger: Duration,
    /// Whether a batch that is not full may be taken at all.
    pub(crate) partial: bool,
}

/// The records of one partition that the sender has not taken.
#[derive(Debug)]
pub(crate) struct Accumulator {
    /// The largest batch that the topic takes, in bytes as it is sent.
    batch_bytes_max: u32,
    open: Option<OpenBatch>,
    full: VecDeque<SealedBatch>,
    next_serial: u64,
    numbering: Numbering,
    /// The sender was told and has not looked yet.
    announced: bool,
    /// The open batch is to be sent without waiting for more.
    forced: bool,
}

/// Why no batch can hold a record; the batches are as they were.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// With the batch around it, it is larger than the topic takes.
    TooLarge { bytes: u64, bytes_max: u64 },
    /// Something else that never changes.
    Invalid(String),
}

impl Refusal {
    pub(crate) fn into_error(self, topic: &str) -> Error {
        match self {
            Self::TooLarge { bytes, bytes_max } => Error::RecordTooLarge {
                topic: topic.into(),
                bytes,
                bytes_max,
            },
            Self::Invalid(reason) => Error::InvalidArgument(reason),
        }
    }
}

impl Accumulator {
    /// No records; batches of at most `batch_bytes_max` as they are sent.
    pub(crate) fn new(batch_bytes_max: u32) -> Self {
        Self {
            batch_bytes_max,
            open: None,
            full: VecDeque::new(),
            next_serial: 0,
            numbering: Numbering::default(),
            announced: false,
            forced: false,
        }
    }

    /// The largest batch that the topic takes, in bytes as it is sent.
    pub(crate) fn batch_bytes_max(&self) -> u32 {
        self.batch_bytes_max
    }

    /// Changes what the topic takes, for batches begun from now on. Those before may be too large.
    pub(crate) fn set_batch_bytes_max(&mut self, batch_bytes_max: u32) {
        self.batch_bytes_max = batch_bytes_max;
    }

    /// Appends a record that counts `buffer_bytes` against the producer's buffer. `now_ms` is the
    /// time of records that bring none, in milliseconds since the Unix epoch. `placed` is told where
    /// the record is; the result is whether the sender must be told to look at this partition.
    ///
    /// # Errors
    /// When no batch can hold it; the batches are as they were.
    ///
    /// Inlined, and the place handed to a function, since a result of that size that goes through
    /// memory stalls for longer than the rest takes.
    #[inline(always)]
    pub(crate) fn push(
        &mut self,
        now: Duration,
        record: &RecordRef<'_>,
        now_ms: i64,
        buffer_bytes: usize,
        builders: &Builders,
        placed: impl FnOnce(Place<'_>),
    ) -> Result<bool, Refusal> {
        let item = batch::RecordRef {
            key: record.key,
            value: record.value,
            headers: record.headers,
            timestamp: Timestamp::new(record.timestamp_ms.unwrap_or(now_ms)),
        };
        if let Some(open) = &mut self.open {
            match open.builder.try_push(item) {
                Ok(index) => {
                    open.ticket.buffer_bytes += buffer_bytes;
                    placed(Place {
                        serial: open.serial,
                        index,
                        completion: &open.ticket.completion,
                    });
                    return Ok(false);
                }
                Err(PushError::Full | PushError::TimestampSpan) => {}
                Err(error) => return Err(Refusal::Invalid(error.to_string())),
            }
        }
        self.push_first(now, item, buffer_bytes, builders)?;
        placed(self.last_place());
        Ok(!std::mem::replace(&mut self.announced, true))
    }

    /// Appends a record to a batch of its own, behind the open one, which is then full.
    #[inline(never)]
    fn push_first(
        &mut self,
        now: Duration,
        item: batch::RecordRef<'_>,
        buffer_bytes: usize,
        builders: &Builders,
    ) -> Result<(), Refusal> {
        let broken = |error: Error| Refusal::Invalid(error.to_string());
        let mut builder = builders.take(self.batch_bytes_max).map_err(broken)?;
        let alone_bytes_max = builders.alone_bytes_max(self.batch_bytes_max);
        let mut alone = false;
        let pushed = match builder.try_push(item) {
            Err(PushError::RecordTooLarge { bytes, .. }) if bytes <= alone_bytes_max as usize => {
                builders.give_back(builder);
                builder = builders.large(self.batch_bytes_max).map_err(broken)?;
                alone = true;
                builder.try_push(item)
            }
            pushed => pushed,
        };
        if let Err(error) = pushed {
            builders.give_back(builder);
            return Err(match error {
                PushError::RecordTooLarge { bytes, .. } if builders.compresses() => {
                    Refusal::Invalid(format!(
                        "the record takes {bytes} bytes before it is compressed, and nobody unpacks more than {alone_bytes_max}; send a smaller record"
                    ))
                }
                PushError::RecordTooLarge { bytes, .. } => Refusal::TooLarge {
                    bytes: bytes as u64,
                    bytes_max: u64::from(self.batch_bytes_max),
                },
                other => Refusal::Invalid(other.to_string()),
            });
        }
        let before = self.open.take();
        self.full
            .extend(before.map(|open| open.seal(builders, &mut self.numbering)));
        let serial = self.next_serial;
        self.next_serial += 1;
        let (completer, completion) = completion();
        let ticket = Ticket {
            completer,
            completion,
            opened_at: now,
            buffer_bytes,
        };
        let batch = OpenBatch {
            builder,
            serial,
            ticket,
        };
        if alone {
            // Others would delay it, and could make it longer than the broker takes.
            self.full
                .push_back(batch.seal(builders, &mut self.numbering));
        } else {
            self.open = Some(batch);
        }
        Ok(())
    }

    /// The place of the first record of the newest batch.
    fn last_place(&self) -> Place<'_> {
        let open = self.open.as_ref().map(|open| &open.ticket);
        let last = open.or_else(|| self.full.back().map(|full| &full.ticket));
        Place {
            serial: self.next_serial - 1,
            index: 0,
            completion: &last.expect("a batch was just begun").completion,
        }
    }

    /// The sender looks now, and wants to be told of what comes after.
    pub(crate) fn looked_at(&mut self) {
        self.announced = false;
    }

    /// Takes the next batch to send, oldest first.
    pub(crate) fn pull(&mut self, now: Duration, pull: Pull) -> Option<SealedBatch> {
        if let Some(batch) = self.full.pop_front() {
            return Some(batch);
        }
        let open = self.open.as_ref()?;
        let due = self.forced || now >= open.ticket.opened_at + pull.linger;
        if !due || !pull.partial {
            return None;
        }
        self.forced = false;
        let open = self.open.take();
        open.map(|open| open.unencoded(&mut self.numbering))
    }

    /// Takes every batch that was opened at `until` or before.
    pub(crate) fn take_opened_until(&mut self, until: Duration) -> Vec<SealedBatch> {
        let mut taken = Vec::new();
        while self
            .full
            .front()
            .is_some_and(|batch| batch.ticket.opened_at <= until)
        {
            taken.extend(self.full.pop_front());
        }
        if self.full.is_empty() {
            let open = self.open.take_if(|open| open.ticket.opened_at <= until);
            taken.extend(open.map(|open| open.unencoded(&mut self.numbering)));
        }
        taken
    }

    /// The sender gives a batch another epoch or number than was guessed: so it will with those
    /// after it.
    pub(crate) fn correct(&mut self, guess: Guess, sequence: Sequence) {
        let numbering = &mut self.numbering;
        if guess.corrections == numbering.corrections && guess.sequence != sequence {
            let ahead = sequence_distance(guess.sequence.base_sequence, numbering.base_sequence);
            let ahead = u32::try_from(ahead).unwrap_or(0);
            numbering.producer = Some((sequence.producer_id, sequence.producer_epoch));
            numbering.base_sequence = advance_sequence(sequence.base_sequence, ahead);
            numbering.corrections += 1;
        }
    }

    /// Ends the lingering of the open batch; adds the completions of all batches here.
    pub(crate) fn force(&mut self, completions: &mut Vec<Completion>) {
        self.forced = self.open.is_some();
        completions.extend(self.tickets().map(|ticket| ticket.completion.clone()));
    }

    /// When the sender should look if nobody tells it to: the end of lingering (if that is still to
    /// come) or the first deadline.
    pub(crate) fn wake_at(
        &self,
        now: Duration,
        linger: Duration,
        delivery_timeout: Duration,
    ) -> Option<Duration> {
        let deadline = self.tickets().next()?.opened_at + delivery_timeout;
        let open = self.open.as_ref();
        let lingered = open.map(|open| open.ticket.opened_at + linger);
        let lingered = lingered.filter(|at| *at > now && !self.forced);
        Some(lingered.map_or(deadline, |at| at.min(deadline)))
    }

    /// What every batch here carries along, oldest first.
    fn tickets(&self) -> impl Iterator<Item = &Ticket> {
        let full = self.full.iter().map(|full| &full.ticket);
        full.chain(self.open.as_ref().map(|open| &open.ticket))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_none() && self.full.is_empty()
    }
}

impl OpenBatch {
    /// Ends it, full. Where that is cheap it is encoded at once, while its records are in the
    /// caller's cache: the sender is then left with writing.
    fn seal(self, builders: &Builders, numbering: &mut Numbering) -> SealedBatch {
        let sealed = self.unencoded(numbering);
        let content = match sealed.content {
            Content::Records(builder) if !builders.compresses() => {
                Content::Encoded(builders.encode(builder))
            }
            content => content,
        };
        SealedBatch { content, ..sealed }
    }

    fn unencoded(mut self, numbering: &mut Numbering) -> SealedBatch {
        let base_sequence = numbering.base_sequence;
        let record_count = u32::try_from(self.builder.len());
        let record_count = record_count.expect("a batch counts its records by 32 bits");
        numbering.base_sequence = advance_sequence(base_sequence, record_count);
        let config = self.builder.config();
        let of_all = (config.producer_id, config.producer_epoch);
        let (producer_id, producer_epoch) = numbering.producer.unwrap_or(of_all);
        if producer_id != ProducerId::NONE {
            self.builder
                .set_producer(producer_id, producer_epoch, base_sequence);
        }
        SealedBatch {
            content: Content::Records(self.builder),
            ticket: self.ticket,
            guess: Some(Guess {
                sequence: Sequence {
                    producer_id,
                    producer_epoch,
                    base_sequence,
                },
                corrections: numbering.corrections,
            }),
        }
    }
}
