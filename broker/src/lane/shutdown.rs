//! An orderly end: no new requests, what is in flight is answered, connections close.

use corelane_storage::disk::Disk;

use super::slab::Key;
use super::{Effect, Lane, Now};

/// A shutdown that has begun.
pub(super) struct Shutdown {
    deadline_us: u64,
    /// The time is over: what is left is given up.
    expired: bool,
    /// Connections that were answered everything, to be closed.
    answered: Vec<Key>,
}

impl<D: Disk> Lane<D> {
    /// Takes no more requests, and answers those that wait: fetches with what there is, produces
    /// once they are flushed.
    pub fn begin_shutdown(&mut self, now: Now) {
        self.meters.begin_event(now);
        if self.shutdown.is_some() {
            return;
        }
        let drain_us = u64::from(self.config.server.shutdown_drain_ms) * 1000;
        self.shutdown = Some(Shutdown {
            deadline_us: now.monotonic_us + drain_us,
            expired: false,
            answered: Vec::new(),
        });
        let parked: Vec<Key> = self.fetches.iter().map(|(key, _)| key).collect();
        for key in parked {
            self.hasten_fetch(key);
        }
        let open: Vec<Key> = self.connections.iter().map(|(key, _)| key).collect();
        for key in open {
            self.close_if_quiet(now, key);
            self.update_receiving(key);
            self.note_answered(key);
        }
        self.finish_event(now);
    }

    /// Closes a connection that nothing is owed on without waiting for the client to do the same. Others
    /// linger until the client has taken its last reply.
    fn close_if_quiet(&mut self, now: Now, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if !connection.closing && connection.is_quiet(now.monotonic_us) {
            connection.closing = true;
            self.effects.push_back(Effect::Close {
                connection: key.into(),
                after_sending: false,
            });
        }
    }

    /// Whether nothing is left to wait for, or the time to wait is over.
    pub fn is_drained(&self) -> bool {
        let Some(shutdown) = &self.shutdown else {
            return false;
        };
        let controller_idle = self
            .control
            .as_ref()
            .is_none_or(super::control::Control::is_idle);
        shutdown.expired
            || (self.connections.is_empty()
                && self.produces.is_empty()
                && self.fetches.is_empty()
                && self.gathers.is_empty()
                && self.log_requests.is_empty()
                && self.forwards.is_empty()
                && self.pending_records.is_empty()
                && controller_idle)
    }

    /// During a shutdown: a connection that has nothing in flight any more is to be closed.
    pub(super) fn note_answered(&mut self, key: Key) {
        if let Some(shutdown) = &mut self.shutdown
            && let Some(connection) = self.connections.get(key)
            && connection.requests == 0
        {
            shutdown.answered.push(key);
        }
    }

    /// During a shutdown: closes the connections that have been answered everything.
    pub(super) fn advance_shutdown(&mut self) {
        while let Some(shutdown) = &mut self.shutdown
            && let Some(key) = shutdown.answered.pop()
        {
            self.close_after_sending(key);
        }
    }

    pub(super) fn shutdown_deadline(&self) -> Option<u64> {
        let shutdown = self.shutdown.as_ref().filter(|shutdown| !shutdown.expired);
        shutdown.map(|shutdown| shutdown.deadline_us)
    }

    pub(super) fn check_shutdown_deadline(&mut self, now: Now) {
        let Some(shutdown) = &mut self.shutdown else {
            return;
        };
        if shutdown.expired || shutdown.deadline_us > now.monotonic_us {
            return;
        }
        shutdown.expired = true;
        let open: Vec<Key> = self.connections.iter().map(|(key, _)| key).collect();
        for key in open {
            self.effects.push_back(Effect::Close {
                connection: key.into(),
                after_sending: false,
            });
        }
    }
}
