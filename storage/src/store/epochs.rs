//! Leader epochs of an open store.
//!
//! Owns the order that makes an epoch safe: it is in the catalogue before anything is appended under it. Every
//! opening of a store that was not closed raises the epochs of its partitions, since what was read from memory may
//! be gone; whoever read it learns so by asking where the epoch of its last record ended.

use corelane_protocol::{LeaderEpoch, Offset, TopicPartition};

use super::partition::{PartitionHandle, Status};
use super::state::State;
use super::{Store, StoreError};
use crate::catalogue::CatalogueRecord;
use crate::disk::Disk;
use crate::epochs::EpochEnd;

/// The most epochs that are recorded by one change of the catalogue.
const EPOCHS_PER_RECORDING: usize = 4096;

impl<D: Disk> Store<D> {
    /// The leader epoch of a partition: that of whatever is appended to it.
    pub fn leader_epoch(&self, partition: TopicPartition) -> Option<LeaderEpoch> {
        let handle = self.partition_handle(partition)?;
        let state = self.state.borrow();
        let found = state.partitions.get(handle)?;
        Some(found.epochs.latest().epoch)
    }

    /// Whether a full disk keeps the partition's epoch from being recorded: until then it takes no appends, and an
    /// opening may begin the same epoch once more.
    pub fn awaits_epoch(&self, partition: TopicPartition) -> bool {
        let state = self.state.borrow();
        let handle = state.partitions.handle(partition);
        handle
            .and_then(|handle| state.partitions.get(handle))
            .is_some_and(|found| found.flags.awaits_epoch)
    }

    /// The leader epoch of the record at an offset, or that the next record will have; nothing if the partition
    /// was deleted.
    pub fn epoch_at(&self, handle: PartitionHandle, offset: Offset) -> Option<LeaderEpoch> {
        let state = self.state.borrow();
        Some(state.partitions.get(handle)?.epochs.at(offset))
    }

    /// How far a reader that has read up to `offset`, the last record under `epoch`, has read what the log holds;
    /// nothing if it is all the way, or if the partition cannot be read.
    pub fn divergence(
        &self,
        handle: PartitionHandle,
        epoch: LeaderEpoch,
        offset: Offset,
    ) -> Option<EpochEnd> {
        let state = self.state.borrow();
        let found = state.partitions.get(handle)?;
        if matches!(found.status, Status::Failed(_)) {
            // Where its log ends is not known.
            return None;
        }
        found.epochs.divergence(epoch, offset, found.end.offset)
    }

    /// Makes the epochs durable that are not yet; only then their partitions take appends.
    ///
    /// # Errors
    /// A full disk, after which it may be tried again; anything else fences the store.
    pub(super) async fn record_epochs(&self) -> Result<(), StoreError> {
        loop {
            let begun = self.state.borrow_mut().plan_epochs();
            if begun.is_empty() {
                return Ok(());
            }
            let records: Vec<_> = begun.iter().map(|(_, record)| record.clone()).collect();
            let recorded = self.record_from_reserve(&records).await;
            self.state
                .borrow_mut()
                .epochs_recorded(&begun, recorded.is_ok());
            self.wake.idle.notify();
            recorded?;
        }
    }

    /// Tries again what a full disk has put off. Returns whether something was done.
    pub(super) async fn retry_epochs(&self) -> bool {
        if self.state.borrow().trims.epochs.is_empty() {
            return false;
        }
        match self.record_epochs().await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "leader epochs could not be recorded; it is tried again and again");
                false
            }
        }
    }
}

impl State {
    /// The next epochs to be recorded. Their partitions are not deleted meanwhile.
    fn plan_epochs(&mut self) -> Vec<(PartitionHandle, CatalogueRecord)> {
        let mut begun = Vec::new();
        let partitions = &mut self.partitions;
        self.trims
            .epochs
            .retain(|handle| partitions.get(*handle).is_some());
        for handle in &self.trims.epochs {
            let partition = partitions.get_mut(*handle).expect("just looked up");
            if partition.flags.is_deleting {
                continue;
            }
            partition.flags.is_moving = true;
            let record = CatalogueRecord::EpochStarted {
                partition: partition.id,
                begun: partition.epochs.latest(),
            };
            begun.push((*handle, record));
            // Those who had read what is gone are recorded with it.
            let readers = partition.readers.records(partition.id);
            begun.extend(readers.map(|record| (*handle, record)));
            if begun.len() >= EPOCHS_PER_RECORDING {
                break;
            }
        }
        begun
    }

    fn epochs_recorded(&mut self, begun: &[(PartitionHandle, CatalogueRecord)], is_done: bool) {
        for (handle, _) in begun {
            if let Some(partition) = self.partitions.get_mut(*handle) {
                partition.flags.is_moving = false;
                partition.flags.awaits_epoch &= !is_done;
            }
        }
        let partitions = &self.partitions;
        self.trims.epochs.retain(|handle| {
            let partition = partitions.get(*handle);
            partition.is_some_and(|partition| partition.flags.awaits_epoch)
        });
    }
}
