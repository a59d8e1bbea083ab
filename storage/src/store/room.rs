//! Whether appends would find room, and telling whoever was told no when they would.
//!
//! Owns the memory of what was asked for in vain. Does no I/O.

use std::task::Poll;

use super::Store;
use super::state::State;
use crate::disk::Disk;
use crate::journal::CommitPlanner;
use crate::tail::memory_bytes_max;

/// What appends would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RoomWanted {
    batches: u32,
    bytes: usize,
}

impl RoomWanted {
    fn memory_bytes(self) -> usize {
        memory_bytes_max(self.batches, self.bytes)
    }
}

/// What appends would meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RoomFound {
    /// Room, or a refusal that waiting would not change.
    Enough,
    NoMemory,
    JournalFull,
    /// The disk has as much to write as it needs to be busy: more would wait as well here as there.
    QueueFull,
}

impl<D: Disk> Store<D> {
    /// Whether appends of so many batches, with so many bytes together, would find room now. If not, the
    /// store begins to make some, and `progressed` resolves once the smallest of what was asked for would
    /// find it. True as well where waiting would not help: the append then says why. Room is also what
    /// `StoreConfig::queue_bytes_max` leaves, which appends do not look at.
    pub fn has_room(&self, batches: u32, bytes: usize) -> bool {
        let wanted = RoomWanted { batches, bytes };
        let mut state = self.state.borrow_mut();
        let mut found = state.find_room(wanted);
        if found == RoomFound::Enough {
            return true;
        }
        if found == RoomFound::NoMemory {
            state.evict_for(wanted.memory_bytes());
            found = state.find_room(wanted);
            if found == RoomFound::Enough {
                return true;
            }
        }
        state.wants_memory |= found == RoomFound::NoMemory;
        state.wants_room |= found == RoomFound::JournalFull;
        state.ask_for(wanted);
        if found == RoomFound::QueueFull {
            // Every group that is written looks whether that is news.
            return false;
        }
        self.wake.spill.notify();
        // Whoever waits for progress has to watch the memory from now on.
        self.wake.progress.notify();
        false
    }

    /// Resolves when `take_progress` has something, and when `has_room` would say yes after it had said no.
    /// It resolves again at once until `take_progress` was called.
    pub async fn progressed(&self) {
        std::future::poll_fn(|context| {
            let state = self.state.borrow();
            if state.has_news() {
                return Poll::Ready(());
            }
            if state.room_wanted.is_some() {
                state.ledger.wake_on_release(context.waker());
            }
            self.wake.progress.wait(context.waker());
            Poll::Pending
        })
        .await;
    }

    /// Wakes whoever waits for progress, if there is any.
    pub(super) fn tell_news(&self, state: &State) {
        if state.has_news() {
            self.wake.progress.notify();
        }
    }
}

impl State {
    /// Whether `Store::progressed` should resolve.
    pub(crate) fn has_news(&self) -> bool {
        self.has_progress() || self.has_wanted_room()
    }

    /// Whether there may be room for what was asked for in vain, so that it is worth to ask again.
    pub(crate) fn has_wanted_room(&self) -> bool {
        self.room_wanted
            .is_some_and(|wanted| match self.find_room(wanted) {
                RoomFound::Enough => true,
                RoomFound::NoMemory => !self.cache.is_empty(),
                RoomFound::JournalFull | RoomFound::QueueFull => false,
            })
    }

    fn ask_for(&mut self, wanted: RoomWanted) {
        let is_smallest = self
            .room_wanted
            .is_none_or(|known| (wanted.bytes, wanted.batches) < (known.bytes, known.batches));
        if is_smallest {
            self.room_wanted = Some(wanted);
        }
    }

    fn find_room(&self, wanted: RoomWanted) -> RoomFound {
        let is_full = self.is_disk_full() || self.reserve.is_touched;
        if self.fenced.is_some() || self.is_closing || is_full {
            return RoomFound::Enough;
        }
        let bytes = wanted.memory_bytes().min(self.ledger.cap() / 2);
        if self.ledger.available() < bytes {
            return RoomFound::NoMemory;
        }
        let cost =
            self.planner.unjournaled_cost() + CommitPlanner::cost(wanted.batches, wanted.bytes);
        if !self.files.has_room_for(cost) {
            RoomFound::JournalFull
        } else if self.planner.queued_bytes() >= self.config.queue_bytes_max {
            RoomFound::QueueFull
        } else {
            RoomFound::Enough
        }
    }
}
