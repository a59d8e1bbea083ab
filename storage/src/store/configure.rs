//! Giving a partition other settings while it serves.
//!
//! Owns what a change means for batches that were appended under the settings before. Does no I/O.

use corelane_protocol::TopicPartition;

use super::partition::PartitionHandle;
use super::state::State;
use super::{LogConfig, PartitionError, Store};
use crate::disk::Disk;

impl<D: Disk> Store<D> {
    /// Gives a partition other settings, which count at once: what waits to be flushed and need not wait any
    /// more is committed, and what may be read already stays readable.
    ///
    /// They are kept in memory only. A store that is opened has older ones, so whoever opens it says them again.
    ///
    /// # Errors
    /// `Unknown`.
    pub fn configure(
        &self,
        partition: TopicPartition,
        config: LogConfig,
    ) -> Result<(), PartitionError> {
        let handle = self
            .partition_handle(partition)
            .ok_or(PartitionError::Unknown(partition))?;
        let mut state = self.state.borrow_mut();
        state.configure(handle, config);
        if state.planner.is_due() {
            self.wake.commit.notify();
        }
        Ok(())
    }
}

impl State {
    fn configure(&mut self, handle: PartitionHandle, config: LogConfig) {
        let partition = self
            .partitions
            .get_mut(handle)
            .expect("the caller has looked it up");
        let waiting = partition.unflushed_records;
        // Nobody may tell an idle store the time, so that what waits cannot be left to a `flush.ms` that is new.
        let has_time = config.flush_ms.is_none() || config.flush_ms == partition.config.flush_ms;
        let may_wait = config.is_weak()
            && has_time
            && config.flush_messages.is_none_or(|limit| waiting < limit);
        partition.readers.follow(&config.guard);
        partition.config = config;
        if !may_wait {
            self.make_due(handle);
        }
    }
}
