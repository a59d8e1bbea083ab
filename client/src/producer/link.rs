//! The way to one address: its connection, its window, and the partitions that wait for it.
//!
//! Owns: whether it is up, being opened, or waiting before another attempt. Never: opens anything;
//! it says when the engine should ask for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::accumulator::SlotId;
use super::order::ConnectionNumber;
use super::window::{Hints, Window};
use crate::backoff::{Backoff, Jitter};
use crate::error::Error;

/// Index into the engine's links.
pub(crate) type LinkId = usize;

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) address: Arc<str>,
    state: State,
    /// Partitions with something to send, fairly in turn.
    pub(crate) queue: VecDeque<SlotId>,
    failures: u32,
    /// Why it is not up.
    pub(crate) last_error: Option<Error>,
}

#[derive(Debug)]
enum State {
    Down { not_before: Duration },
    Opening,
    Up(ConnectionNumber, Window),
}

impl Link {
    pub(crate) fn new(address: Arc<str>) -> Self {
        Self {
            address,
            state: State::Down {
                not_before: Duration::ZERO,
            },
            queue: VecDeque::new(),
            failures: 0,
            last_error: None,
        }
    }

    /// Whether a connection should be opened now; if so it counts as being opened.
    pub(crate) fn begin_opening(&mut self, now: Duration) -> bool {
        let due = matches!(self.state, State::Down { not_before } if not_before <= now);
        if due {
            self.state = State::Opening;
        }
        due
    }

    pub(crate) fn connected(&mut self, connection: ConnectionNumber, limit_bytes: u64) {
        self.state = State::Up(connection, Window::new(limit_bytes));
        self.last_error = None;
    }

    /// The connection was lost or could not be made. The first time it is tried again at once.
    pub(crate) fn failed(
        &mut self,
        now: Duration,
        error: Error,
        backoff: &Backoff,
        jitter: &mut Jitter,
    ) {
        self.failures += 1;
        let wait = if self.failures == 1 {
            Duration::ZERO
        } else {
            backoff.after(self.failures - 1, jitter)
        };
        self.state = State::Down {
            not_before: now + wait,
        };
        self.last_error = Some(error);
    }

    /// An answer came: the link works.
    pub(crate) fn answered(&mut self, now: Duration, bytes: u64, hints: Hints) {
        self.failures = 0;
        if let State::Up(_, window) = &mut self.state {
            window.answered(now, bytes, hints);
        }
    }

    pub(crate) fn sent(&mut self, bytes: u64) {
        match &mut self.state {
            State::Up(_, window) => window.sent(bytes),
            _ => unreachable!("only a link that is up has room"),
        }
    }

    /// The connection and how many bytes it may take now, if it is up.
    pub(crate) fn room(&self, now: Duration) -> Option<(ConnectionNumber, u64)> {
        match &self.state {
            State::Up(connection, window) => Some((*connection, window.room_bytes(now))),
            _ => None,
        }
    }

    /// Whether nothing is in flight, so that a request of any size may go.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(&self.state, State::Up(_, window) if window.is_idle())
    }

    pub(crate) fn is_connection(&self, connection: ConnectionNumber) -> bool {
        matches!(self.state, State::Up(number, _) if number == connection)
    }

    /// When partitions that wait here should be looked at, if no event comes before.
    pub(crate) fn wake_at(&self, now: Duration) -> Option<Duration> {
        if self.queue.is_empty() {
            return None;
        }
        match &self.state {
            State::Down { not_before } => Some(*not_before),
            State::Opening => None,
            State::Up(_, window) => window.throttled_until(now),
        }
    }
}
