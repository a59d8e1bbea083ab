//! Who an idempotent producer is, once a broker has said so: the part of the engine that asks.
//!
//! Owns: whether the identity is known, asked for, or has to wait before it is asked for again.
//! Never: gives numbers to batches; `sequence.rs` does.

use std::time::Duration;

use corelane_protocol::response::ProducerIdentity;

use super::accumulator::SlotId;
use super::engine::{Effect, Engine};
use crate::backoff::{Backoff, Jitter};
use crate::error::Error;

/// What is known of the producer's identity.
#[derive(Debug, Default)]
pub(crate) struct Identification {
    newest: Option<ProducerIdentity>,
    asking: Asking,
    failures: u32,
    /// Why there is none.
    pub(crate) last_error: Option<Error>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Asking {
    /// Nobody needs another one.
    #[default]
    No,
    /// One is to be asked for, from this time on.
    From(Duration),
    UnderWay,
}

impl Identification {
    /// The identity that was given last.
    pub(crate) fn newest(&self) -> Option<ProducerIdentity> {
        self.newest
    }

    /// Somebody needs an identity that is not the newest one.
    pub(crate) fn want(&mut self, now: Duration) {
        if self.asking == Asking::No {
            self.asking = Asking::From(now);
        }
    }

    /// Whether it should be asked for now.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        matches!(self.asking, Asking::From(at) if at <= now)
    }

    pub(crate) fn begin_asking(&mut self) {
        self.asking = Asking::UnderWay;
    }

    /// Nobody needs it any more.
    pub(crate) fn rest(&mut self) {
        self.asking = Asking::No;
    }

    pub(crate) fn given(&mut self, identity: ProducerIdentity) {
        self.newest = Some(identity);
        self.asking = Asking::No;
        self.failures = 0;
        self.last_error = None;
    }

    /// It could not be had; it is asked for again after a wait if that may help.
    pub(crate) fn failed(
        &mut self,
        now: Duration,
        error: &Error,
        backoff: &Backoff,
        jitter: &mut Jitter,
    ) {
        self.failures += 1;
        self.last_error = Some(error.clone());
        self.asking = if error.is_retriable() {
            Asking::From(now + backoff.after(self.failures, jitter))
        } else {
            Asking::No
        };
    }

    /// When to look next whether it should be asked for.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        match self.asking {
            Asking::From(at) => Some(at),
            Asking::No | Asking::UnderWay => None,
        }
    }
}

impl Engine {
    /// Asks for a producer id if one is due, unless nothing waits for it any more.
    pub(super) fn ask_for_identity(&mut self, now: Duration) {
        if !self.identification.is_due(now) {
            return;
        }
        if self.is_idle() {
            self.identification.rest();
        } else {
            self.identification.begin_asking();
            self.effects.push(Effect::Identify);
        }
    }

    /// The producer was given an identity.
    pub(crate) fn identified(&mut self, now: Duration, identity: ProducerIdentity) {
        self.identification.given(identity);
        self.builders
            .identify(identity.producer_id, identity.producer_epoch);
        for id in 0..self.slots.len() {
            self.enqueue(id, now);
        }
    }

    /// There is no identity for the producer now. If asking again is of no use, nothing that needs one
    /// can be delivered.
    pub(crate) fn identify_failed(&mut self, now: Duration, error: &Error) {
        let (backoff, jitter) = (&self.settings.backoff, &mut self.jitter);
        self.identification.failed(now, error, backoff, jitter);
        if error.is_retriable() {
            return;
        }
        for id in 0..self.slots.len() {
            let state = self.slots[id].as_ref();
            if state.is_some_and(|state| state.order.needs_identity()) {
                self.fail_waiting(id, now, error);
            }
        }
    }

    /// Sees to it that a partition has an identity to send with; false while there is none.
    pub(super) fn identify(&mut self, id: SlotId, now: Duration) -> bool {
        let Some(state) = &mut self.slots[id] else {
            return false;
        };
        if !state.order.needs_identity() {
            return true;
        }
        let newest = self.identification.newest();
        if newest.is_some_and(|newest| state.order.identify(newest)) {
            return true;
        }
        if state.order.waiting_count() > 0 || !state.slot.lock().is_empty() {
            self.identification.want(now);
        }
        false
    }
}
