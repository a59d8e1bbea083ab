//! Closes connections that owe the rest of a frame, or their first request, for too long.
//!
//! An unfinished frame holds memory that others could use. Only time in which the client could send
//! counts: not while its frames wait for their turn, nor while its receiving is paused. A connection that
//! owes nothing may be idle for ever.

use corelane_storage::disk::Disk;

use super::slab::Key;
use super::{ConnectionId, Lane, Now};

/// What a connection owes, and since when.
#[derive(Debug, Default)]
pub(super) struct FrameDebt {
    /// Whether a whole request has come.
    has_asked: bool,
    /// Since when the rest of a frame is owed, monotonic µs.
    since_us: Option<u64>,
    /// Receiving was paused meanwhile: the time begins anew.
    was_paused: bool,
    /// When it is looked at, monotonic µs; one that is paid is not unlisted before that.
    pub(super) check_us: Option<u64>,
}

impl FrameDebt {
    /// A whole frame was taken up.
    pub(super) fn paid(&mut self) {
        self.has_asked = true;
        self.since_us = None;
    }

    /// Receiving goes on after a pause.
    pub(super) fn resumed(&mut self) {
        self.was_paused = true;
    }
}

impl<D: Disk> Lane<D> {
    fn frame_timeout_us(&self) -> u64 {
        u64::from(self.config.limits.frame_timeout_ms) * 1000
    }

    /// After a connection's input has changed: notes whether the rest of a frame is owed.
    pub(super) fn follow_frame(&mut self, now: Now, key: Key) {
        let deadline_us = now.monotonic_us + self.frame_timeout_us();
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let is_waiting = connection.stalled || connection.closing;
        let debt = &mut connection.frame_debt;
        if is_waiting || (connection.input.is_empty() && debt.has_asked) {
            debt.since_us = None;
            return;
        }
        debt.since_us.get_or_insert(now.monotonic_us);
        if debt.check_us.is_none() {
            debt.check_us = Some(deadline_us);
            self.frame_checks.insert((deadline_us, key));
        }
    }

    pub(super) fn check_frames(&mut self, now: Now) {
        let time = now.monotonic_us;
        let timeout_us = self.frame_timeout_us();
        while let Some((_, key)) = self.frame_checks.first().copied()
            && self.frame_checks.first().is_some_and(|(at, _)| *at <= time)
        {
            self.frame_checks.pop_first();
            let connection = self.connections.get_mut(key);
            let connection = connection.expect("a closed connection is not listed");
            let debt = &mut connection.frame_debt;
            debt.check_us = None;
            let Some(since_us) = &mut debt.since_us else {
                continue;
            };
            if std::mem::take(&mut debt.was_paused) || !connection.receiving {
                *since_us = time;
            }
            let deadline_us = *since_us + timeout_us;
            if deadline_us > time {
                debt.check_us = Some(deadline_us);
                self.frame_checks.insert((deadline_us, key));
            } else {
                tracing::info!(
                    core = %self.core,
                    connection = %ConnectionId::from(key),
                    peer = %connection.peer,
                    bytes = connection.input.len(),
                    timeout_ms = self.config.limits.frame_timeout_ms,
                    "closed: the client did not finish a request in time (limits.frame_timeout_ms)"
                );
                self.meters.connections_timed_out += 1;
                self.close_after_sending(key);
            }
        }
    }
}
