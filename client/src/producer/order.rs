//! The batches of one partition on their way to the broker, and the order among them.
//!
//! Owns: what waits, what is in flight, and which sequence number each has; `order_answers.rs` has
//! how a refusal in the middle is put right without changing the order.
//! Never: knows topics, connections or bytes; a batch is any `T`. Time is passed in, as the time
//! since the producer started.
//!
//! The rule (see `docs/wire.md`, produce): once the broker has refused a batch with a retriable
//! error it refuses everything after it on that connection until a batch comes with the resume flag.
//! So after a refusal nothing more is sent until every batch in flight is answered; then those
//! refused go back to the front in their order, and the first is sent with the flag. After a lost
//! connection all that was not answered goes back in the same way.
//!
//! With a [`Sequencer`] each batch gets its number when it is sent, from its place in the row. So
//! when one leaves the row without being written, those behind it move up. Only a batch that may be
//! in the log keeps the number that it had there (it is *bound* to it): the broker knows it again by
//! that. What may be in the log always stands before what is not, since the broker takes nothing
//! behind what it refused.

use std::collections::VecDeque;
use std::time::Duration;

use corelane_protocol::response::ProducerIdentity;

use super::sequence::{RecordNumber, Sequence, Sequencer};

/// Names a batch within its partition; grows by one for each batch.
pub(crate) type BatchNumber = u64;

/// Names a connection; a new one after every reconnect.
pub(crate) type ConnectionNumber = u64;

/// What became of a batch in flight, by the broker's answer.
#[derive(Debug)]
pub(crate) enum Answer<R, E> {
    /// It is in the log.
    Written(R),
    /// It is in the log, and the broker does not know any more where.
    WrittenBefore(E),
    /// This attempt did not write it, and none ever will.
    Failed {
        error: E,
        /// Whether the broker refuses what came behind it until a batch resumes.
        needs_resume: bool,
        /// Whether it may be in the log although it was refused.
        maybe_written: bool,
    },
    /// It may be sent again.
    Retry {
        error: E,
        /// Whether the broker refuses what came behind it until a batch resumes.
        needs_resume: bool,
        /// Whether it may be in the log although it was refused.
        maybe_written: bool,
        /// Whether waiting is pointless: the answer told a better address.
        redirected: bool,
    },
    /// Batches before it are not in the log, and neither is it.
    OutOfSequence(E),
    /// The partition does not know the producer (any more).
    Forgotten(E),
}

/// A batch that leaves the partition, with its outcome.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled<T, R, E> {
    /// The broker has it.
    Written(T, R),
    /// The broker has it, and cannot say where.
    WrittenBefore(T, E),
    /// The broker refused it for good.
    Failed(T, E),
    /// The broker refused it for good, after an attempt that may have written it.
    Doubtful(T, E),
    /// The deadline passed and no broker can have it.
    Expired(T, Option<E>),
    /// The deadline passed and a broker may have it.
    Unknown(T, Option<E>),
}

/// A batch to put on the wire now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ToSend<'a, T> {
    pub(crate) number: BatchNumber,
    pub(crate) batch: &'a T,
    pub(crate) resume: bool,
    /// What it has to say of its producer; `None` if that is not idempotent.
    pub(crate) sequence: Option<Sequence>,
}

#[derive(Debug)]
pub(super) struct Waiting<T, E> {
    pub(super) number: BatchNumber,
    pub(super) batch: T,
    pub(super) deadline: Duration,
    pub(super) maybe_written: bool,
    /// The number under which it may be in the log, and which it keeps therefore.
    pub(super) bound: Option<RecordNumber>,
    pub(super) last_error: Option<E>,
}

/// What holds for whatever is put in the place of a batch that was taken out.
#[derive(Debug)]
pub(crate) struct Vacancy<E> {
    deadline: Duration,
    pub(crate) maybe_written: bool,
    bound: Option<RecordNumber>,
    last_error: Option<E>,
}

/// What is put in the place of a batch that was taken out, or of some of its records.
#[derive(Debug)]
pub(crate) struct Part<T> {
    /// `None` for records that will not be sent.
    pub(crate) batch: Option<T>,
    pub(crate) record_count: u32,
}

/// Why a batch in flight will not be written by this attempt.
#[derive(Debug)]
pub(super) enum Refusal<E> {
    /// Nothing behind it is taken either, until a batch resumes.
    Holding,
    /// It alone was refused; with sequence numbers, those behind it fail for the lack of its own.
    Alone,
    /// Batches before it are missing.
    OutOfSequence(E),
    /// The partition does not know the producer.
    Forgotten(E),
    /// The connection ended before the answer.
    Lost,
}

#[derive(Debug)]
pub(super) struct InFlight<T, E> {
    pub(super) number: BatchNumber,
    /// `None` once it is settled: the user was told, but others still depend on what became of it.
    pub(super) waiting: Option<Waiting<T, E>>,
    /// Whether this attempt or one before may have written it, apart from the answer still to come.
    pub(super) maybe_written: bool,
    pub(super) refusal: Option<Refusal<E>>,
    /// Its records' numbers.
    pub(super) base: RecordNumber,
    pub(super) end: RecordNumber,
}

/// One partition's batches, in order.
#[derive(Debug)]
pub(crate) struct PartitionOrder<T, E> {
    pub(super) waiting: VecDeque<Waiting<T, E>>,
    pub(super) in_flight: VecDeque<InFlight<T, E>>,
    /// `None` for a producer that is not idempotent.
    pub(super) sequencer: Option<Sequencer>,
    /// The connection that everything in flight was sent on.
    pub(super) connection: Option<ConnectionNumber>,
    next_number: BatchNumber,
    /// Batches in flight that were refused and wait for the others' answers.
    pub(super) refused_count: usize,
    /// Rounds that failed since the last success.
    pub(super) failures: u32,
    pub(super) not_before: Duration,
    pub(super) resume: bool,
    /// The broker has lost what it had acknowledged, and nobody has asked about it yet.
    pub(super) has_lost: bool,
}

impl<T, E: Clone> PartitionOrder<T, E> {
    /// No batches; with sequence numbers if the producer is idempotent.
    pub(crate) fn new(idempotent: bool) -> Self {
        Self {
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            sequencer: idempotent.then(Sequencer::default),
            connection: None,
            next_number: 0,
            refused_count: 0,
            failures: 0,
            not_before: Duration::ZERO,
            resume: false,
            has_lost: false,
        }
    }

    /// Adds a batch behind all others. `deadline` is when it must be settled.
    pub(crate) fn push(&mut self, batch: T, deadline: Duration) -> BatchNumber {
        let number = self.next_number;
        self.next_number += 1;
        self.waiting.push_back(Waiting {
            number,
            batch,
            deadline,
            maybe_written: false,
            bound: None,
            last_error: None,
        });
        number
    }

    /// Takes the identity that the producer was given; returns whether that was of use.
    pub(crate) fn identify(&mut self, identity: ProducerIdentity) -> bool {
        let sequencer = self.sequencer.as_mut();
        let is_of_use = sequencer.is_some_and(|sequencer| sequencer.identify(identity));
        self.begin_epoch_if_due();
        is_of_use
    }

    /// Whether nothing can be sent without an identity that it has not had.
    pub(crate) fn needs_identity(&self) -> bool {
        let sequencer = self.sequencer.as_ref();
        sequencer.is_some_and(Sequencer::needs_identity)
    }

    /// The partition is another one, which knows nothing: its topic was made anew.
    pub(crate) fn partition_changed(&mut self) {
        if let Some(sequencer) = &mut self.sequencer {
            sequencer.moved();
        }
        self.begin_epoch_if_due();
    }

    /// The batches that wait, the one whose turn it is first.
    pub(crate) fn waiting_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut T> {
        self.waiting.iter_mut().map(|entry| &mut entry.batch)
    }

    /// The batch in flight under this number, unless its deadline passed.
    pub(crate) fn in_flight_mut(&mut self, number: BatchNumber) -> Option<&mut T> {
        let index = self.index_in_flight(number)?;
        let waiting = self.in_flight[index].waiting.as_mut()?;
        Some(&mut waiting.batch)
    }

    pub(super) fn index_in_flight(&self, number: BatchNumber) -> Option<usize> {
        self.in_flight
            .binary_search_by_key(&number, |entry| entry.number)
            .ok()
    }

    /// Takes out the batch whose turn it is, for others to be put in its place.
    pub(crate) fn take_front(&mut self) -> Option<(T, Vacancy<E>)> {
        let front = self.waiting.pop_front()?;
        let vacancy = Vacancy {
            deadline: front.deadline,
            maybe_written: front.maybe_written,
            bound: front.bound,
            last_error: front.last_error,
        };
        Some((front.batch, vacancy))
    }

    /// Puts batches where one was taken out, with its records' numbers if it is bound to them. What
    /// waits behind them gets new names.
    pub(crate) fn put_front(&mut self, vacancy: Vacancy<E>, parts: Vec<Part<T>>) {
        let mut bound = vacancy.bound;
        let mut batches = Vec::new();
        for part in parts {
            match (part.batch, &mut self.sequencer) {
                (Some(batch), _) => batches.push(Waiting {
                    number: 0,
                    batch,
                    deadline: vacancy.deadline,
                    maybe_written: vacancy.maybe_written,
                    bound,
                    last_error: vacancy.last_error.clone(),
                }),
                (None, Some(sequencer)) if bound.is_some() => sequencer.given_up(),
                (None, _) => {}
            }
            bound = bound.map(|number| number + u64::from(part.record_count));
        }
        for waiting in batches.into_iter().rev() {
            self.waiting.push_front(waiting);
        }
        for entry in &mut self.waiting {
            entry.number = self.next_number;
            self.next_number += 1;
        }
        self.begin_epoch_if_due();
    }

    /// The batch whose turn it is on `connection`, if order, waiting times and earlier connections
    /// allow to send one now.
    pub(crate) fn peek(
        &self,
        now: Duration,
        connection: ConnectionNumber,
    ) -> Option<ToSend<'_, T>> {
        if !self.may_send(now, connection) {
            return None;
        }
        let front = self.waiting.front()?;
        let sequence = self.sequencer.as_ref().and_then(|sequencer| {
            sequencer.on_the_wire(front.bound.unwrap_or_else(|| sequencer.next()))
        });
        Some(ToSend {
            number: front.number,
            batch: &front.batch,
            resume: self.resume,
            sequence,
        })
    }

    /// Whether a batch, if there were one, could be sent now on `connection`.
    pub(crate) fn may_send(&self, now: Duration, connection: ConnectionNumber) -> bool {
        let drained = self.in_flight.is_empty() || self.connection == Some(connection);
        drained && self.refused_count == 0 && now >= self.not_before && self.may_number()
    }

    /// Whether the batch whose turn it is can be given a number.
    fn may_number(&self) -> bool {
        let Some(sequencer) = &self.sequencer else {
            return true;
        };
        if sequencer.needs_identity() {
            return false;
        }
        let front = self.waiting.front();
        let is_bound = front.is_some_and(|front| front.bound.is_some());
        if sequencer.is_due() && (sequencer.has_moved() || !is_bound) {
            return false;
        }
        let number = front.map_or(self.next_number, |front| front.number);
        let oldest = self.in_flight.front();
        oldest.is_none_or(|oldest| number - oldest.number < sequencer.window())
    }

    /// Counts the batch that [`Self::peek`] showed as sent on `connection`.
    pub(crate) fn sent(&mut self, connection: ConnectionNumber, record_count: u32) {
        let waiting = self
            .waiting
            .pop_front()
            .expect("only a batch that was shown is sent");
        assert!(
            self.in_flight.is_empty() || self.connection == Some(connection),
            "a partition has batches in flight on one connection only"
        );
        let base = match &mut self.sequencer {
            Some(sequencer) => {
                let base = waiting.bound.unwrap_or_else(|| sequencer.next());
                sequencer.sent(base, record_count);
                base
            }
            None => 0,
        };
        self.connection = Some(connection);
        self.resume = false;
        self.in_flight.push_back(InFlight {
            number: waiting.number,
            maybe_written: waiting.maybe_written,
            waiting: Some(waiting),
            refusal: None,
            base,
            end: base + u64::from(record_count),
        });
    }

    /// Begins the epoch that is due once nothing is in flight and no batch keeps its number.
    pub(super) fn begin_epoch_if_due(&mut self) {
        let Some(sequencer) = &mut self.sequencer else {
            return;
        };
        if !sequencer.is_due() || !self.in_flight.is_empty() {
            return;
        }
        if sequencer.has_moved() {
            for entry in &mut self.waiting {
                entry.bound = None;
            }
        }
        let front = self.waiting.front();
        if front.is_none_or(|front| front.bound.is_none()) {
            sequencer.begin_epoch();
        }
    }

    /// Takes out the batches whose deadline has passed, oldest first.
    pub(crate) fn expire<R>(&mut self, now: Duration, settled: &mut Vec<Settled<T, R, E>>) {
        let mut expired = |waiting: Waiting<T, E>, maybe_written: bool| {
            settled.push(if maybe_written {
                Settled::Unknown(waiting.batch, waiting.last_error)
            } else {
                Settled::Expired(waiting.batch, waiting.last_error)
            });
        };
        for entry in &mut self.in_flight {
            let maybe_written = entry.maybe_written || entry.refusal.is_none();
            if let Some(waiting) = entry.waiting.take_if(|waiting| waiting.deadline <= now) {
                expired(waiting, maybe_written);
            }
        }
        while self
            .waiting
            .front()
            .is_some_and(|entry| entry.deadline <= now)
        {
            if let Some(waiting) = self.waiting.pop_front() {
                self.give_up_number(waiting.bound);
                let maybe_written = waiting.maybe_written;
                expired(waiting, maybe_written);
            }
        }
        self.requeue_if_drained(settled);
    }

    /// Takes out everything that waits, in order; what is in flight stays.
    pub(crate) fn drain_waiting(&mut self) -> impl Iterator<Item = T> + use<T, E> {
        let waiting = std::mem::take(&mut self.waiting);
        for entry in &waiting {
            self.give_up_number(entry.bound);
        }
        self.begin_epoch_if_due();
        waiting.into_iter().map(|entry| entry.batch)
    }

    /// A batch leaves the row that is bound to this number, or to none.
    pub(super) fn give_up_number(&mut self, bound: Option<RecordNumber>) {
        if let (Some(_), Some(sequencer)) = (bound, &mut self.sequencer) {
            sequencer.given_up();
        }
    }

    /// Every batch that is not settled, oldest first.
    pub(crate) fn batches(&self) -> impl Iterator<Item = &T> {
        let in_flight = self
            .in_flight
            .iter()
            .filter_map(|entry| entry.waiting.as_ref());
        in_flight.chain(&self.waiting).map(|entry| &entry.batch)
    }

    /// When something changes here without an answer: the end of a wait or the next deadline.
    pub(crate) fn wake_at(&self, now: Duration) -> Option<Duration> {
        let in_flight = self
            .in_flight
            .iter()
            .find_map(|entry| entry.waiting.as_ref())
            .map(|entry| entry.deadline);
        let waiting = self.waiting.front().map(|entry| entry.deadline);
        // Also if nothing waits here: what callers put in meanwhile has to wait as well.
        let retry = (now < self.not_before).then_some(self.not_before);
        [in_flight, waiting, retry].into_iter().flatten().min()
    }

    pub(crate) fn in_flight_count(&self) -> usize {
        self.in_flight.len()
    }

    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }
}
