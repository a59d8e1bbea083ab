//! The reserve of the device: appends are refused before it is full.
//!
//! Owns the look at the room that is left, once a second. What was appended before, deletions and the catalogue
//! still find room then, so that the store can be emptied again; reads go on.

use std::rc::Rc;

use corelane_protocol::Timestamp;

use super::Store;
use super::state::State;
use crate::disk::Disk;
use crate::times::elapsed_ms;

/// The room is looked at so often.
const LOOK_EVERY_MS: u64 = 1000;

/// What is known of the room on the device.
#[derive(Debug, Default)]
pub(crate) struct Reserve {
    /// So little is left that nothing is appended.
    pub(super) is_touched: bool,
    looked_at: Option<Timestamp>,
}

impl Reserve {
    /// Whether it is time to look again.
    pub(super) fn is_look_due(&mut self, now: Timestamp) -> bool {
        let is_due = self
            .looked_at
            .is_none_or(|last| now < last || elapsed_ms(last, now) >= LOOK_EVERY_MS);
        if is_due {
            self.looked_at = Some(now);
        }
        is_due
    }
}

impl State {
    /// Notes how much room is left. Returns whether appends are taken again.
    fn room_is(&mut self, free_bytes: u64) -> bool {
        let reserve_bytes = self.config.disk_reserve_bytes;
        let was_touched = self.reserve.is_touched;
        self.reserve.is_touched = free_bytes < reserve_bytes;
        match (was_touched, self.reserve.is_touched) {
            (false, true) => tracing::warn!(
                free_bytes,
                reserve_bytes,
                "the disk is nearly full: nothing is appended until there is more room"
            ),
            (true, false) => tracing::info!(free_bytes, "the disk has room again"),
            _ => {}
        }
        was_touched && !self.reserve.is_touched
    }
}

impl<D: Disk> Store<D> {
    /// Looks at the room on the device until the store is closed or fenced.
    pub(super) async fn run_reserve(self: Rc<Self>) {
        let _work = self.begin_work();
        if self.state.borrow().config.disk_reserve_bytes == 0 {
            return;
        }
        while !self.has_ended() {
            match self.disk.free_bytes().await {
                Ok(free_bytes) => {
                    let mut state = self.state.borrow_mut();
                    if state.room_is(free_bytes) {
                        self.tell_news(&state);
                    }
                }
                // Nothing is known, so nothing changes.
                Err(error) => tracing::warn!(%error, "the room on the disk cannot be told"),
            }
            if !self.has_ended() {
                self.wake.reserve.notified().await;
            }
        }
    }
}
