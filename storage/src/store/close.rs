//! Closing a store: everything durable, and marked so that the next opening knows.
//!
//! Owns the order of the end: no more appends, the last groups, the segments, the clean mark.

use super::{Store, StoreError};
use crate::disk::Disk;

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
        self.wake.idle.until(|| self.is_committed()).await;
        // The spill task has ended, or ends with the round that it is in.
        self.wake.idle.until(|| !self.is_spilling()).await;
        self.spill_all().await?;
        self.record_clean().await
    }

    fn is_committed(&self) -> bool {
        let state = self.state.borrow();
        state.fenced.is_some() || state.planner.is_idle()
    }

    fn is_spilling(&self) -> bool {
        self.state
            .borrow()
            .partitions
            .iter()
            .any(|(_, partition)| partition.flags.is_spilling)
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
                if state.files.replay_bytes() <= state.config.close_replay_bytes_max {
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
