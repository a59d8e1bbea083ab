//! Creating partitions and deleting topics.
//!
//! Owns the order that makes a deletion final: the catalogue first, then the memory, then the files.

use std::collections::BTreeMap;
use std::io;

use corelane_protocol::{Offset, TopicId, TopicPartition};

use super::partition::{Partition, PartitionHandle};
use super::{LogConfig, Store, StoreError};
use crate::catalogue::{CatalogueRecord, FlushState};
use crate::disk::Disk;
use crate::segment::{partition_dir, topic_dir};

/// So many partitions' records are one append to the catalogue, all or none.
const PARTITIONS_PER_RECORDING: usize = 4096;

impl<D: Disk> Store<D> {
    /// Creates partitions, durably; those that exist stay as they are.
    ///
    /// # Errors
    /// `Io` for a full disk, `Fenced`, `Closed`.
    pub async fn create_partitions(
        &self,
        wanted: &[(TopicPartition, LogConfig)],
    ) -> Result<(), StoreError> {
        self.expect_open()?;
        let _turn = self.topics_turn.lock().await;
        // Piece by piece, so that what is in the catalogue is in memory too when a later piece finds no room.
        for piece in wanted.chunks(PARTITIONS_PER_RECORDING) {
            self.create_piece(piece).await?;
        }
        Ok(())
    }

    async fn create_piece(&self, wanted: &[(TopicPartition, LogConfig)]) -> Result<(), StoreError> {
        let mut new = BTreeMap::new();
        for (partition, config) in wanted {
            let exists = self.state.borrow().partitions.handle(*partition).is_some();
            if !exists {
                new.entry(*partition).or_insert_with(|| config.clone());
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let records = new.iter().map(|(partition, config)| {
            let (partition, config) = (*partition, config.clone());
            CatalogueRecord::PartitionCreated { partition, config }
        });
        let records: Vec<_> = records.collect();
        self.record(&records).await?;
        let mut state = self.state.borrow_mut();
        for (partition, config) in new {
            let flush = FlushState::empty(Offset::ZERO);
            state
                .partitions
                .insert(Partition::new(partition, config, flush, Vec::new()));
        }
        Ok(())
    }

    /// Deletes all partitions of a topic with their files. Durable on return; a topic that the store does not
    /// have is deleted already.
    ///
    /// # Errors
    /// `Io` if the files cannot be removed (the topic is deleted all the same, and the next opening removes
    /// them), `Fenced`, `Closed`.
    pub async fn delete_topic(&self, topic: TopicId) -> Result<(), StoreError> {
        self.expect_open()?;
        let _turn = self.topics_turn.lock().await;
        let handles = self.state.borrow().partitions.of_topic(topic);
        for piece in handles.chunks(PARTITIONS_PER_RECORDING) {
            self.delete_piece(piece).await?;
        }
        Ok(())
    }

    async fn delete_piece(&self, handles: &[PartitionHandle]) -> Result<(), StoreError> {
        self.mark_deleting(handles, true);
        self.wake.idle.until(|| self.are_still(handles)).await;
        let deleted: Vec<TopicPartition> = {
            let state = self.state.borrow();
            handles
                .iter()
                .filter_map(|handle| state.partitions.get(*handle))
                .map(|partition| partition.id)
                .collect()
        };
        let records: Vec<_> = deleted
            .iter()
            .map(|&partition| CatalogueRecord::PartitionDeleted { partition })
            .collect();
        if let Err(error) = self.record_from_reserve(&records).await {
            self.mark_deleting(handles, false);
            return Err(error);
        }
        self.forget(handles);
        self.remove_deleted(&deleted).await
    }

    pub(super) fn expect_open(&self) -> Result<(), StoreError> {
        let state = self.state.borrow();
        match &state.fenced {
            Some(reason) => Err(StoreError::Fenced(reason.clone())),
            None if state.is_closing => Err(StoreError::Closed),
            None => Ok(()),
        }
    }

    fn mark_deleting(&self, handles: &[PartitionHandle], is_deleting: bool) {
        let mut state = self.state.borrow_mut();
        for handle in handles {
            if let Some(partition) = state.partitions.get_mut(*handle) {
                partition.flags.is_deleting = is_deleting;
            }
            if !is_deleting {
                // It was passed over meanwhile.
                state.queue_move(*handle);
                state.queue_removal(*handle);
            }
        }
        self.wake.trim.notify();
        self.wake.compact.notify();
        // Whoever waits for its records to be deleted need not wait.
        self.wake.idle.notify();
    }

    fn are_still(&self, handles: &[PartitionHandle]) -> bool {
        let state = self.state.borrow();
        !handles.iter().any(|handle| {
            state.partitions.get(*handle).is_some_and(|found| {
                let flags = &found.flags;
                flags.is_spilling
                    || flags.is_moving
                    || flags.is_removing
                    || flags.is_compacting
                    || found.index_writes.get() > 0
            })
        })
    }

    /// Takes partitions that the catalogue has no more out of memory.
    fn forget(&self, handles: &[PartitionHandle]) {
        let mut state = self.state.borrow_mut();
        for handle in handles {
            let Some(mut partition) = state.partitions.remove(*handle) else {
                continue;
            };
            state.producers_bytes -= partition.producers.bytes();
            let due_bytes = if partition.flags.is_dirty {
                partition.pending_bytes
            } else {
                0
            };
            state.planner.dropped(
                *handle,
                due_bytes,
                partition.pending_batches,
                partition.pending_bytes,
            );
            for pin in partition.pins.drain(..) {
                state.files.unpin(pin.file);
            }
            for chunk in partition.tail.take() {
                state.pool.give(chunk);
            }
            state.removing.push(partition.id);
            self.handles.borrow_mut().close_partition(*handle);
            self.read_cache.borrow_mut().forget(*handle);
            self.indexes.borrow_mut().forget(*handle);
        }
        state.files.release();
        self.tell_news(&state);
        self.wake.journal.notify();
        self.wake.commit.notify();
    }

    /// Removes the files of deleted partitions, and then their last trace in the catalogue.
    pub(super) async fn remove_deleted(
        &self,
        deleted: &[TopicPartition],
    ) -> Result<(), StoreError> {
        for partition in deleted {
            let dir = partition_dir(&self.dir, *partition);
            remove_dir_and_files(&self.disk, &dir)
                .await
                .map_err(|error| StoreError::io("removing", dir, error))?;
        }
        let mut topics: Vec<TopicId> = deleted.iter().map(|partition| partition.topic).collect();
        topics.dedup();
        for topic in topics {
            let dir = topic_dir(&self.dir, topic);
            remove_topic_dir(&self.disk, &dir)
                .await
                .map_err(|error| StoreError::io("removing", dir, error))?;
        }
        let synced = self.sync_shared_dir(&self.dir).await;
        synced.map_err(|error| StoreError::io("flushing", self.dir.clone(), error))?;
        let records: Vec<_> = deleted
            .iter()
            .map(|&partition| CatalogueRecord::PartitionRemoved { partition })
            .collect();
        self.record_from_reserve(&records).await?;
        self.state
            .borrow_mut()
            .removing
            .retain(|partition| !deleted.contains(partition));
        Ok(())
    }
}

/// Removes a directory with the files in it, as far as they are there.
async fn remove_dir_and_files<D: Disk>(disk: &D, dir: &str) -> io::Result<()> {
    let entries = match disk.list(dir).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    for entry in entries.iter().filter(|entry| !entry.is_dir) {
        disk.remove_file(&format!("{dir}/{}", entry.name)).await?;
    }
    disk.remove_dir(dir).await
}

async fn remove_topic_dir<D: Disk>(disk: &D, dir: &str) -> io::Result<()> {
    match disk.sync_dir(dir).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    }
    match disk.remove_dir(dir).await {
        // Somebody put something else there. It is not ours to remove.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        result => result,
    }
}
