//! Closing a store: everything durable, and marked so that the next opening knows.
//!
//! Owns the order of the end: no more appends, the last groups, the end of the tasks, the segments, the
//! clean mark, and then nothing more on the disk.

use std::cell::Cell;

use super::notify::Notify;
use super::{Store, StoreError};
use crate::disk::Disk;

/// Something that uses the disk and that `close` waits for. It also ends when its future is dropped.
pub(super) struct Work<'a> {
    count: &'a Cell<usize>,
    idle: &'a Notify,
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.count.set(self.count.get() - 1);
        self.idle.notify();
    }
}

impl<D: Disk> Store<D> {
    /// Begins something that `close` waits for.
    pub(super) fn begin_work(&self) -> Work<'_> {
        self.work.set(self.work.get() + 1);
        Work {
            count: &self.work,
            idle: &self.wake.idle,
        }
    }
}

impl<D: Disk> Store<D> {
    /// Ends the store: commits everything, weak partitions' batches too, writes segments until little of the
    /// journal is left to be read, and marks the store clean. Its tasks must be running; they end.
    ///
    /// # Errors
    /// `Fenced` if something could not be written: then the store is not clean, and the next opening recovers.
    pub async fn close(&self) -> Result<(), StoreError> {
        {
            let mut state = self.state.borrow_mut();
            state.is_closing = true;
            for handle in state.partitions.handles() {
                state.make_due(handle);
            }
        }
        self.wake_all();
        // Whoever is creating or deleting partitions comes to an end first, and nobody begins.
        let _turn = self.topics_turn.lock().await;
        self.wake
            .idle
            .until(|| self.is_committed() && self.work.get() == 0)
            .await;
        self.spill_all().await?;
        // The next opening raises no epochs if this end is clean.
        self.record_epochs().await?;
        match self.record_readers().await {
            // Positions that lag do no harm.
            Err(error) if error.is_disk_full() => {}
            recorded => drop(recorded?),
        }
        self.record_clean().await
    }

    fn is_committed(&self) -> bool {
        let state = self.state.borrow();
        state.fenced.is_some() || state.planner.is_idle()
    }

    /// Writes segments until a replay would read little enough.
    async fn spill_all(&self) -> Result<(), StoreError> {
        loop {
            {
                let mut state = self.state.borrow_mut();
                if let Some(reason) = &state.fenced {
                    return Err(StoreError::Fenced(reason.clone()));
                }
                state.files.release();
                let replay_bytes = state.files.replay_bytes() + state.straight_replay_bytes();
                if replay_bytes <= state.config.close_replay_bytes_max {
                    return Ok(());
                }
                if let Some(newest) = state.files.newest() {
                    state.force_upto(newest);
                }
            }
            if !self.spill_round().await {
                // Whatever is left stays in the journal: a full disk, or fenced partitions.
                return Ok(());
            }
        }
    }
}
