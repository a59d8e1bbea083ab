//! The records of one partition that are not on their way yet.
//!
//! Owns: the open batch that callers append to, and the full ones that stand before it. Callers and
//! the sender share it under one lock for each partition, held for the copy of a few records.
//! Never: sends, encodes or waits; it says when the sender should look.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corelane_protocol::batch::{self, BatchBuilder, PushError};
use corelane_protocol::{AlignedBytes, Timestamp};

use super::builders::Builders;
use super::delivery::{Completer, Completion, completion};
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
}

/// The records of a batch.
#[derive(Debug)]
pub(crate) enum Content {
    /// In columns, still to be encoded.
    Records(Box<BatchBuilder>),
    /// As they go on the wire.
    Encoded(AlignedBytes),
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
        self.full
            .extend(self.open.take().map(|open| open.seal(builders)));
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
            self.full.push_back(batch.seal(builders));
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
        self.open.take().map(OpenBatch::unencoded)
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
            taken.extend(open.map(OpenBatch::unencoded));
        }
        taken
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
    fn seal(self, builders: &Builders) -> SealedBatch {
        if builders.compresses() {
            return self.unencoded();
        }
        SealedBatch {
            content: Content::Encoded(builders.encode(self.builder)),
            ticket: self.ticket,
        }
    }

    fn unencoded(self) -> SealedBatch {
        SealedBatch {
            content: Content::Records(self.builder),
            ticket: self.ticket,
        }
    }
}

#[cfg(test)]
mod tests {
    use corelane_protocol::batch::{BatchBuilderConfig, Compression};

    use super::*;

    const T0: Duration = Duration::from_secs(1);
    const LINGER: Duration = Duration::from_millis(5);
    const ANY: Pull = Pull {
        linger: Duration::ZERO,
        partial: true,
    };

    fn builders() -> Builders {
        let config = BatchBuilderConfig {
            bytes_max: 1_000,
            ..BatchBuilderConfig::default()
        };
        Builders::new(config)
    }

    fn push(
        accumulator: &mut Accumulator,
        builders: &Builders,
        value_bytes: usize,
    ) -> Result<(u64, u32, bool), Refusal> {
        let value = vec![7; value_bytes];
        let mut at = (0, 0);
        let record = RecordRef::value(&value);
        let placed = |place: Place<'_>| at = (place.serial, place.index);
        let announce = accumulator.push(T0, &record, 0, value_bytes, builders, placed)?;
        Ok((at.0, at.1, announce))
    }

    fn record_count(batch: &SealedBatch) -> u32 {
        match &batch.content {
            Content::Records(builder) => builder.len() as u32,
            Content::Encoded(bytes) => batch::BatchHeader::parse(bytes).unwrap().record_count,
        }
    }

    #[test]
    fn the_sender_is_told_once_until_it_looks() {
        let (mut accumulator, builders) = (Accumulator::new(10_000), builders());
        assert!(push(&mut accumulator, &builders, 300).unwrap().2);
        assert!(!push(&mut accumulator, &builders, 300).unwrap().2);
        assert!(
            !push(&mut accumulator, &builders, 600).unwrap().2,
            "full, but not looked at"
        );
        accumulator.looked_at();
        assert!(
            !push(&mut accumulator, &builders, 10).unwrap().2,
            "the open batch goes on"
        );
        assert!(
            push(&mut accumulator, &builders, 600).unwrap().2,
            "another one is full"
        );
    }

    #[test]
    fn records_are_numbered_within_their_batches() {
        let (mut accumulator, builders) = (Accumulator::new(10_000), builders());
        let places: Vec<(u64, u32)> = [300, 300, 600, 100]
            .iter()
            .map(|bytes| push(&mut accumulator, &builders, *bytes).unwrap())
            .map(|(serial, index, _)| (serial, index))
            .collect();
        assert_eq!(places, [(0, 0), (0, 1), (1, 0), (1, 1)]);
    }

    #[test]
    fn an_open_batch_waits_for_the_end_of_its_linger() {
        let (mut accumulator, builders) = (Accumulator::new(10_000), builders());
        push(&mut accumulator, &builders, 10).unwrap();
        let lingering = Pull {
            linger: LINGER,
            partial: true,
        };
        assert!(accumulator.pull(T0, lingering).is_none());
        let timeout = Duration::from_secs(9);
        assert_eq!(accumulator.wake_at(T0, LINGER, timeout), Some(T0 + LINGER));
        assert!(accumulator.pull(T0 + LINGER, lingering).is_some());
        assert!(accumulator.is_empty());
    }

    #[test]
    fn full_batches_go_whatever_the_linger_and_oldest_first() {
        let (mut accumulator, builders) = (Accumulator::new(10_000), builders());
        for _ in 0..3 {
            push(&mut accumulator, &builders, 600).unwrap();
        }
        let never = Pull {
            linger: Duration::from_secs(60),
            partial: false,
        };
        let counts: Vec<u32> = std::iter::from_fn(|| accumulator.pull(T0, never))
            .map(|batch| record_count(&batch))
            .collect();
        assert_eq!(counts, [1, 1]);
        assert!(!accumulator.is_empty(), "the open one stays");
    }

    #[test]
    fn a_flush_ends_the_linger_of_what_is_there() {
        let (mut accumulator, builders) = (Accumulator::new(10_000), builders());
        push(&mut accumulator, &builders, 600).unwrap();
        push(&mut accumulator, &builders, 600).unwrap();
        let mut completions = Vec::new();
        accumulator.force(&mut completions);
        assert_eq!(completions.len(), 2);
        let lingering = Pull {
            linger: LINGER,
            partial: true,
        };
        assert_eq!(
            std::iter::from_fn(|| accumulator.pull(T0, lingering)).count(),
            2
        );
        push(&mut accumulator, &builders, 10).unwrap();
        assert!(
            accumulator.pull(T0, lingering).is_none(),
            "what comes later lingers again"
        );
    }

    #[test]
    fn a_record_larger_than_a_batch_goes_alone() {
        let (mut accumulator, builders) = (Accumulator::new(10_000), builders());
        push(&mut accumulator, &builders, 10).unwrap();
        push(&mut accumulator, &builders, 5_000).unwrap();
        push(&mut accumulator, &builders, 10).unwrap();
        let counts: Vec<u32> = std::iter::from_fn(|| accumulator.pull(T0, ANY))
            .map(|batch| record_count(&batch))
            .collect();
        assert_eq!(counts, [1, 1, 1]);
    }

    #[test]
    fn a_record_that_no_batch_can_hold_is_refused_and_changes_nothing() {
        let (mut accumulator, builders) = (Accumulator::new(10_000), builders());
        push(&mut accumulator, &builders, 10).unwrap();
        let error = push(&mut accumulator, &builders, 20_000).unwrap_err();
        let is_expected = matches!(
            error,
            Refusal::TooLarge {
                bytes_max: 10_000,
                ..
            }
        );
        assert!(is_expected, "{error:?}");
        let record = RecordRef::value(b"x").timestamp_ms(-1);
        let error = accumulator
            .push(T0, &record, 0, 1, &builders, |_| {})
            .unwrap_err();
        assert!(matches!(error, Refusal::Invalid(_)), "{error:?}");
        assert_eq!(
            push(&mut accumulator, &builders, 10).unwrap().1,
            1,
            "the open batch goes on"
        );
    }

    #[test]
    fn batches_are_cut_by_what_the_topic_takes_also_when_that_changes() {
        let (mut accumulator, builders) = (Accumulator::new(600), builders());
        for _ in 0..4 {
            push(&mut accumulator, &builders, 150).unwrap();
        }
        assert!(push(&mut accumulator, &builders, 500).is_err());
        accumulator.set_batch_bytes_max(800);
        push(&mut accumulator, &builders, 500).unwrap();
        accumulator.set_batch_bytes_max(600);
        for _ in 0..2 {
            push(&mut accumulator, &builders, 300).unwrap();
        }
        let batches = std::iter::from_fn(|| accumulator.pull(T0, ANY));
        let sizes: Vec<(u32, bool)> = batches
            .map(|batch| {
                let bytes = match &batch.content {
                    Content::Encoded(bytes) => bytes.len(),
                    Content::Records(builder) => builder.estimated_bytes(),
                };
                (record_count(&batch), bytes <= 600)
            })
            .collect();
        assert_eq!(
            sizes,
            [(2, true), (2, true), (1, false), (1, true), (1, true)]
        );
    }

    #[test]
    fn a_record_that_may_shrink_enough_is_taken_and_goes_alone() {
        let config = BatchBuilderConfig {
            compression: Compression::Zstd,
            ..builders().config().clone()
        };
        let (mut accumulator, builders) = (Accumulator::new(2_000), Builders::new(config));
        for value_bytes in [10, 5_000, 10] {
            push(&mut accumulator, &builders, value_bytes).unwrap();
        }
        let counts: Vec<u32> = std::iter::from_fn(|| accumulator.pull(T0, ANY))
            .map(|batch| record_count(&batch))
            .collect();
        assert_eq!(counts, [1, 1, 1]);
        let error = push(&mut accumulator, &builders, 65 << 20).unwrap_err();
        assert!(matches!(error, Refusal::Invalid(_)), "{error:?}");
    }

    #[test]
    fn what_is_overdue_is_taken_out() {
        let (mut accumulator, builders) = (Accumulator::new(10_000), builders());
        push(&mut accumulator, &builders, 600).unwrap();
        let value = vec![0; 600];
        let later = T0 + Duration::from_secs(1);
        accumulator
            .push(later, &RecordRef::value(&value), 0, 600, &builders, |_| {})
            .unwrap();
        assert_eq!(accumulator.take_opened_until(T0).len(), 1);
        assert_eq!(accumulator.take_opened_until(later).len(), 1);
        assert!(accumulator.is_empty());
    }
}
