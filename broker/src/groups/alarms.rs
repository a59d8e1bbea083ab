//! When a coordinator has something to do by itself.
//!
//! Owns the order of alarms. A heartbeat moves a member's deadline, not its alarm: an alarm that
//! goes off early is set anew, so that heartbeats cost nothing here.

use std::collections::BTreeSet;
use std::sync::Arc;

use corelane_protocol::MemberId;

/// What an alarm is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// A member of a group may have to be removed.
    Member(Arc<str>, MemberId),
    /// The offsets of a group without members may have to go.
    Expiry(Arc<str>),
}

/// All alarms, the next one first.
#[derive(Debug, Default)]
pub(super) struct Alarms(BTreeSet<(u64, Alarm)>);

impl Alarms {
    /// When the next one goes off, in µs of the monotonic clock.
    pub(super) fn next(&self) -> Option<u64> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes out one that is due.
    pub(super) fn take_due(&mut self, now_us: u64) -> Option<Alarm> {
        if self.next()? > now_us {
            return None;
        }
        self.0.pop_first().map(|(_, alarm)| alarm)
    }

    /// Moves an alarm from `was` to `at`, and notes it there.
    pub(super) fn set(&mut self, was: &mut Option<u64>, at: Option<u64>, alarm: Alarm) {
        let mut entry = (0, alarm);
        if let Some(old) = was.take() {
            entry.0 = old;
            self.0.remove(&entry);
        }
        if let Some(at) = at {
            entry.0 = at;
            self.0.insert(entry);
            *was = Some(at);
        }
    }
}
