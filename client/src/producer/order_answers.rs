//! What a partition's order makes of answers and lost connections.
//!
//! Owns: which batches go back to the row once everything in flight is answered, which of them may be
//! in the log, and what that means for their numbers. Never: sends; it puts back in order what the
//! engine then sends.

use std::time::Duration;

use super::order::{
    Answer, BatchNumber, ConnectionNumber, InFlight, PartitionOrder, Refusal, Settled, Waiting,
};
use super::sequence::Sequencer;
use crate::backoff::{Backoff, Jitter};

/// Whether the broker can have taken what stands behind a refused batch on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// Nothing was refused before it.
    Perhaps,
    /// Not under the number that it had: those before it are missing for good.
    NotByNumber,
    /// Not on this connection.
    No,
}

impl<T, E: Clone> PartitionOrder<T, E> {
    /// Takes the answer to a batch in flight. Answers to batches that are not (of a connection that
    /// was given up) change nothing.
    pub(crate) fn answered<R>(
        &mut self,
        now: Duration,
        number: BatchNumber,
        answer: Answer<R, E>,
        backoff: &Backoff,
        jitter: &mut Jitter,
        settled: &mut Vec<Settled<T, R, E>>,
    ) {
        let Some(index) = self.index_in_flight(number) else {
            return;
        };
        match answer {
            Answer::Written(receipt) => {
                let waiting = self.take_written(index);
                settled.extend(waiting.map(|waiting| Settled::Written(waiting.batch, receipt)));
            }
            Answer::WrittenBefore(error) => {
                let waiting = self.take_written(index);
                settled.extend(waiting.map(|waiting| Settled::WrittenBefore(waiting.batch, error)));
            }
            Answer::Failed {
                error,
                needs_resume,
                maybe_written,
            } => settled.extend(self.fail(index, error, needs_resume, maybe_written)),
            Answer::Retry {
                error,
                needs_resume,
                maybe_written,
                redirected,
            } => {
                let refusal = match needs_resume {
                    true => Refusal::Holding,
                    false => Refusal::Alone,
                };
                self.count_failure(now, redirected, backoff, jitter);
                self.refuse(index, refusal, error, maybe_written);
            }
            Answer::OutOfSequence(error) | Answer::Forgotten(error) if self.sequencer.is_none() => {
                settled.extend(self.fail(index, error, true, false));
            }
            Answer::OutOfSequence(error) => {
                self.count_failure(now, true, backoff, jitter);
                self.refuse(index, Refusal::OutOfSequence(error.clone()), error, false);
            }
            Answer::Forgotten(error) => {
                self.count_failure(now, true, backoff, jitter);
                self.refuse(index, Refusal::Forgotten(error.clone()), error, false);
            }
        }
        self.requeue_if_drained(settled);
    }

    fn take_written(&mut self, index: usize) -> Option<Waiting<T, E>> {
        self.failures = 0;
        let entry = self.in_flight.remove(index)?;
        if let Some(sequencer) = &mut self.sequencer {
            sequencer.written(entry.end);
        }
        entry.waiting
    }

    /// A batch is refused for good. Where others have numbers behind its own, or wait for a batch
    /// that resumes, its place is kept until they are answered.
    fn fail<R>(
        &mut self,
        index: usize,
        error: E,
        needs_resume: bool,
        maybe_written: bool,
    ) -> Option<Settled<T, R, E>> {
        let was_in_doubt = self.in_flight[index].maybe_written;
        let waiting = if needs_resume || self.sequencer.is_some() {
            let refusal = match needs_resume {
                true => Refusal::Holding,
                false => Refusal::Alone,
            };
            let entry = self.count_refused(index, refusal);
            entry.maybe_written |= maybe_written;
            entry.waiting.take()
        } else {
            self.in_flight.remove(index)?.waiting
        };
        waiting.map(|waiting| match was_in_doubt {
            true => Settled::Doubtful(waiting.batch, error),
            false => Settled::Failed(waiting.batch, error),
        })
    }

    /// The first refusal since everything was in order begins a round that failed.
    fn count_failure(
        &mut self,
        now: Duration,
        redirected: bool,
        backoff: &Backoff,
        jitter: &mut Jitter,
    ) {
        if self.refused_count > 0 {
            return;
        }
        self.failures += 1;
        // The first redirect is followed at once; several in a row mean that two brokers point
        // at each other.
        if !redirected || self.failures > 1 {
            self.not_before = now + backoff.after(self.failures, jitter);
        }
    }

    fn refuse(&mut self, index: usize, refusal: Refusal<E>, error: E, maybe_written: bool) {
        let entry = self.count_refused(index, refusal);
        entry.maybe_written |= maybe_written;
        if let Some(waiting) = &mut entry.waiting {
            waiting.last_error = Some(error);
        }
    }

    /// Nothing more is sent now until everything in flight is answered.
    fn count_refused(&mut self, index: usize, refusal: Refusal<E>) -> &mut InFlight<T, E> {
        let entry = &mut self.in_flight[index];
        assert!(
            entry.refusal.is_none(),
            "a batch in flight is answered once"
        );
        entry.refusal = Some(refusal);
        self.refused_count += 1;
        entry
    }

    /// The connection ended: whatever was not answered on it may or may not be in the log.
    pub(crate) fn connection_lost<R>(
        &mut self,
        now: Duration,
        connection: ConnectionNumber,
        error: &E,
        backoff: &Backoff,
        jitter: &mut Jitter,
        settled: &mut Vec<Settled<T, R, E>>,
    ) {
        if self.connection != Some(connection) || self.in_flight.is_empty() {
            return;
        }
        self.count_failure(now, false, backoff, jitter);
        let mut behind = Behind::Perhaps;
        for entry in &mut self.in_flight {
            match &entry.refusal {
                Some(Refusal::Alone) if entry.maybe_written || self.sequencer.is_none() => {}
                Some(Refusal::Alone) => {
                    if behind == Behind::Perhaps {
                        behind = Behind::NotByNumber;
                    }
                }
                Some(_) => behind = Behind::No,
                None => {
                    entry.refusal = Some(Refusal::Lost);
                    self.refused_count += 1;
                    entry.maybe_written |= behind == Behind::Perhaps;
                    if let Some(waiting) = &mut entry.waiting {
                        waiting.last_error = Some(error.clone());
                    }
                    if let (Behind::NotByNumber, Some(sequencer)) = (behind, &mut self.sequencer) {
                        // It may still be on its way, and must not find its number to be the next.
                        sequencer.used_up();
                    }
                }
            }
        }
        self.requeue_if_drained(settled);
    }

    /// Whether nothing more will be heard that matters. A batch that was settled before its answer
    /// came may be in the log as far as anybody knows; an epoch that begins need not wait for it.
    fn is_drained(&self) -> bool {
        let mut unanswered = self
            .in_flight
            .iter()
            .filter(|entry| entry.refusal.is_none());
        unanswered.all(|entry| self.sequencer.is_some() && entry.waiting.is_none())
    }

    /// Once everything in flight is answered, what was refused goes back to the front, in order.
    pub(super) fn requeue_if_drained<R>(&mut self, settled: &mut Vec<Settled<T, R, E>>) {
        if self.in_flight.is_empty() {
            self.begin_epoch_if_due();
        }
        if self.refused_count == 0 || !self.is_drained() {
            return;
        }
        let sequencer = self.sequencer.as_ref();
        let was_unresolved = sequencer.is_some_and(Sequencer::is_unresolved);
        // What was written is not here any more: the first one shows what the broker lacks, or knows.
        let mut first = None;
        while let Some(entry) = self.in_flight.pop_back() {
            let maybe_written = entry.maybe_written || entry.refusal.is_none();
            let is_bound = maybe_written && self.sequencer.is_some();
            let bound = is_bound.then_some(entry.base);
            first = Some((entry.base, entry.refusal));
            match entry.waiting {
                Some(mut waiting) => {
                    waiting.maybe_written = maybe_written;
                    waiting.bound = bound;
                    self.waiting.push_front(waiting);
                }
                None => self.give_up_number(bound),
            }
        }
        self.refused_count = 0;
        self.resume = true;
        let (base, refusal) = first.expect("something was refused");
        if let Some(sequencer) = &mut self.sequencer {
            sequencer.rewind(base);
        }
        match refusal {
            // They were given up, and perhaps they are still on their way, as may be those behind
            // them that were sent before: the gap may yet close.
            Some(Refusal::OutOfSequence(error)) if was_unresolved => {
                self.renumber_what_is_certain(&error, settled);
            }
            Some(Refusal::OutOfSequence(_)) => self.renumber_everything(),
            Some(Refusal::Forgotten(error)) => self.renumber_what_is_certain(&error, settled),
            _ => {}
        }
        self.begin_epoch_if_due();
    }

    /// The broker lacks batches that it had acknowledged. So nothing behind them is in the log, or will
    /// ever be under the number that it had.
    fn renumber_everything(&mut self) {
        self.has_lost = true;
        if let Some(sequencer) = &mut self.sequencer {
            sequencer.used_up();
        }
        for waiting in &mut self.waiting {
            waiting.bound = None;
            waiting.maybe_written = false;
        }
    }

    /// Everything that may be in the log is settled, since sending it under another number could write
    /// it twice; the rest goes on in another epoch.
    fn renumber_what_is_certain<R>(&mut self, error: &E, settled: &mut Vec<Settled<T, R, E>>) {
        let is_bound = |waiting: &Waiting<T, E>| waiting.bound.is_some();
        while self.waiting.front().is_some_and(is_bound) {
            let waiting = self.waiting.pop_front();
            settled.extend(waiting.map(|waiting| Settled::Doubtful(waiting.batch, error.clone())));
        }
        if let Some(sequencer) = &mut self.sequencer {
            sequencer.used_up();
        }
    }

    /// Whether the broker has lost acknowledged batches since this was last asked.
    pub(crate) fn take_has_lost(&mut self) -> bool {
        std::mem::take(&mut self.has_lost)
    }
}
