//! The batches of one partition on their way to the broker, and the order among them.
//!
//! Owns: what waits, what is in flight, and how a refusal in the middle is put right without
//! changing the order. Never: knows topics, connections or bytes; a batch is any `T`. Time is
//! passed in, as the time since the producer started.
//!
//! The rule (see `docs/wire.md`, produce): once the broker has refused a batch with a retriable
//! error it refuses everything after it on that connection until a batch comes with the resume flag.
//! So after a refusal nothing more is sent until every batch in flight is answered; then those
//! refused go back to the front in their order, and the first is sent with the flag. After a lost
//! connection all that was not answered goes back in the same way.

use std::collections::VecDeque;
use std::time::Duration;

use crate::backoff::{Backoff, Jitter};

/// Names a batch within its partition; grows by one for each batch.
pub(crate) type BatchNumber = u64;

/// Names a connection; a new one after every reconnect.
pub(crate) type ConnectionNumber = u64;

/// What became of a batch in flight, by the broker's answer.
#[derive(Debug)]
pub(crate) enum Answer<R, E> {
    /// It is in the log.
    Written(R),
    /// It is not, and never will be by sending it again.
    Failed {
        error: E,
        /// Whether the broker refuses what came behind it until a batch resumes.
        needs_resume: bool,
    },
    /// It may be sent again.
    Retry {
        error: E,
        /// Whether it may be in the log although it was refused.
        maybe_written: bool,
        /// Whether waiting is pointless: the answer told a better address.
        redirected: bool,
    },
}

/// A batch that leaves the partition, with its outcome.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled<T, R, E> {
    /// The broker has it.
    Written(T, R),
    /// The broker refused it for good.
    Failed(T, E),
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
}

#[derive(Debug)]
struct Waiting<T, E> {
    number: BatchNumber,
    batch: T,
    deadline: Duration,
    maybe_written: bool,
    last_error: Option<E>,
}

/// What holds for whatever is put in the place of a batch that was taken out.
#[derive(Debug)]
pub(crate) struct Vacancy<E> {
    deadline: Duration,
    maybe_written: bool,
    last_error: Option<E>,
}

#[derive(Debug)]
struct InFlight<T, E> {
    number: BatchNumber,
    /// `None` once its deadline passed: the user was told, the broker may still answer.
    waiting: Option<Waiting<T, E>>,
    refused: bool,
}

/// One partition's batches, in order.
#[derive(Debug)]
pub(crate) struct PartitionOrder<T, E> {
    waiting: VecDeque<Waiting<T, E>>,
    in_flight: VecDeque<InFlight<T, E>>,
    /// The connection that everything in flight was sent on.
    connection: Option<ConnectionNumber>,
    next_number: BatchNumber,
    /// Batches in flight that were refused and wait for the others' answers.
    refused_count: usize,
    /// Rounds that failed since the last success.
    failures: u32,
    not_before: Duration,
    resume: bool,
}

impl<T, E> PartitionOrder<T, E> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            connection: None,
            next_number: 0,
            refused_count: 0,
            failures: 0,
            not_before: Duration::ZERO,
            resume: false,
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
            last_error: None,
        });
        number
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

    fn index_in_flight(&self, number: BatchNumber) -> Option<usize> {
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
            last_error: front.last_error,
        };
        Some((front.batch, vacancy))
    }

    /// Puts batches where one was taken out. What waits behind them gets new numbers.
    pub(crate) fn put_front(&mut self, vacancy: Vacancy<E>, batches: Vec<T>)
    where
        E: Clone,
    {
        for batch in batches.into_iter().rev() {
            self.waiting.push_front(Waiting {
                number: 0,
                batch,
                deadline: vacancy.deadline,
                maybe_written: vacancy.maybe_written,
                last_error: vacancy.last_error.clone(),
            });
        }
        for entry in &mut self.waiting {
            entry.number = self.next_number;
            self.next_number += 1;
        }
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
        Some(ToSend {
            number: front.number,
            batch: &front.batch,
            resume: self.resume,
        })
    }

    /// Whether a batch, if there were one, could be sent now on `connection`.
    pub(crate) fn may_send(&self, now: Duration, connection: ConnectionNumber) -> bool {
        let drained = self.in_flight.is_empty() || self.connection == Some(connection);
        drained && self.refused_count == 0 && now >= self.not_before
    }

    /// Counts the batch that [`Self::peek`] showed as sent on `connection`.
    pub(crate) fn sent(&mut self, connection: ConnectionNumber) {
        let waiting = self
            .waiting
            .pop_front()
            .expect("only a batch that was shown is sent");
        assert!(
            self.in_flight.is_empty() || self.connection == Some(connection),
            "a partition has batches in flight on one connection only"
        );
        self.connection = Some(connection);
        self.resume = false;
        self.in_flight.push_back(InFlight {
            number: waiting.number,
            waiting: Some(waiting),
            refused: false,
        });
    }

    /// Takes the answer to a batch in flight. Answers to batches that are not (of a connection that
    /// was given up) change nothing.
    pub(crate) fn answered<R>(
        &mut self,
        now: Duration,
        number: BatchNumber,
        answer: Answer<R, E>,
        backoff: &Backoff,
        jitter: &mut Jitter,
    ) -> Option<Settled<T, R, E>> {
        let index = self.index_in_flight(number)?;
        let settled = match answer {
            Answer::Written(receipt) => {
                self.failures = 0;
                let entry = self.in_flight.remove(index)?;
                entry
                    .waiting
                    .map(|waiting| Settled::Written(waiting.batch, receipt))
            }
            Answer::Failed {
                error,
                needs_resume,
            } => {
                let waiting = if needs_resume {
                    self.count_refused(index).take()
                } else {
                    self.in_flight.remove(index)?.waiting
                };
                waiting.map(|waiting| Settled::Failed(waiting.batch, error))
            }
            Answer::Retry {
                error,
                maybe_written,
                redirected,
            } => {
                self.refuse(
                    now,
                    index,
                    error,
                    maybe_written,
                    redirected,
                    backoff,
                    jitter,
                );
                None
            }
        };
        self.requeue_if_drained();
        settled
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one answer, unpacked by its caller"
    )]
    fn refuse(
        &mut self,
        now: Duration,
        index: usize,
        error: E,
        maybe_written: bool,
        redirected: bool,
        backoff: &Backoff,
        jitter: &mut Jitter,
    ) {
        if self.refused_count == 0 {
            self.failures += 1;
            // The first redirect is followed at once; several in a row mean that two brokers point
            // at each other.
            if !redirected || self.failures > 1 {
                self.not_before = now + backoff.after(self.failures, jitter);
            }
        }
        if let Some(waiting) = self.count_refused(index) {
            waiting.maybe_written |= maybe_written;
            waiting.last_error = Some(error);
        }
    }

    /// Nothing more is sent now until everything in flight is answered.
    fn count_refused(&mut self, index: usize) -> &mut Option<Waiting<T, E>> {
        let entry = &mut self.in_flight[index];
        assert!(!entry.refused, "a batch in flight is answered once");
        entry.refused = true;
        self.refused_count += 1;
        &mut entry.waiting
    }

    /// The connection ended: whatever was not answered on it may or may not be in the log.
    pub(crate) fn connection_lost(
        &mut self,
        now: Duration,
        connection: ConnectionNumber,
        error: &E,
        backoff: &Backoff,
        jitter: &mut Jitter,
    ) where
        E: Clone,
    {
        if self.connection != Some(connection) || self.in_flight.is_empty() {
            return;
        }
        if self.refused_count == 0 {
            self.failures += 1;
            self.not_before = now + backoff.after(self.failures, jitter);
        }
        for entry in &mut self.in_flight {
            if entry.refused {
                continue;
            }
            entry.refused = true;
            self.refused_count += 1;
            if let Some(waiting) = &mut entry.waiting {
                waiting.maybe_written = true;
                waiting.last_error = Some(error.clone());
            }
        }
        self.requeue_if_drained();
    }

    /// Once everything in flight is answered, what was refused goes back to the front, in order.
    fn requeue_if_drained(&mut self) {
        if self.refused_count == 0 || self.refused_count < self.in_flight.len() {
            return;
        }
        while let Some(entry) = self.in_flight.pop_back() {
            if let Some(waiting) = entry.waiting {
                self.waiting.push_front(waiting);
            }
        }
        self.refused_count = 0;
        self.resume = true;
    }

    /// Takes out the batches whose deadline has passed, oldest first.
    pub(crate) fn expire<R>(&mut self, now: Duration, settled: &mut Vec<Settled<T, R, E>>) {
        let mut expired = |waiting: Waiting<T, E>, in_flight: bool| {
            settled.push(if in_flight || waiting.maybe_written {
                Settled::Unknown(waiting.batch, waiting.last_error)
            } else {
                Settled::Expired(waiting.batch, waiting.last_error)
            });
        };
        for entry in &mut self.in_flight {
            let refused = entry.refused;
            if let Some(waiting) = entry.waiting.take_if(|waiting| waiting.deadline <= now) {
                expired(waiting, !refused);
            }
        }
        while self
            .waiting
            .front()
            .is_some_and(|entry| entry.deadline <= now)
        {
            if let Some(waiting) = self.waiting.pop_front() {
                expired(waiting, false);
            }
        }
    }

    /// Takes out everything that waits, in order; what is in flight stays.
    pub(crate) fn drain_waiting(&mut self) -> impl Iterator<Item = T> + use<T, E> {
        std::mem::take(&mut self.waiting)
            .into_iter()
            .map(|entry| entry.batch)
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
        let retry = (!self.waiting.is_empty() && now < self.not_before).then_some(self.not_before);
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
