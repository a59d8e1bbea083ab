//! Removing the files of segments that are no part of the log any more.
//!
//! Owns the order: the catalogue's log start came first, then the files go, then their directory is flushed,
//! and then the catalogue forgets them. A crash in between leaves them in the catalogue, and the next run of
//! the store goes on. Low priority: few files at once.

use std::io;

use corelane_protocol::{Offset, TopicPartition};
use futures_util::{StreamExt, stream};

use super::Store;
use super::partition::PartitionHandle;
use super::state::State;
use crate::catalogue::{CatalogueRecord, SealedSegment};
use crate::disk::Disk;
use crate::segment::{HandleKey, index_beside, partition_dir};

/// The most partitions of one round, after which the catalogue is told.
const PARTITIONS_MAX: usize = 32;
/// The most segments of one partition in one round.
const SEGMENTS_MAX: usize = 16;
/// Partitions whose files are being removed at the same moment.
const REMOVALS_IN_FLIGHT: usize = 2;

/// Files of one partition to be removed.
#[derive(Debug)]
struct Removal {
    handle: PartitionHandle,
    partition: TopicPartition,
    segments: Vec<SealedSegment>,
    /// After the last of them.
    upto: Offset,
}

impl<D: Disk> Store<D> {
    /// Removes files that wait for it. Returns whether there is more to be done at once.
    pub(super) async fn remove_expired(&self) -> bool {
        let removals = self.state.borrow_mut().plan_removals();
        if removals.is_empty() {
            return false;
        }
        let results = stream::iter(&removals).map(|removal| self.remove_files(removal));
        let results: Vec<io::Result<()>> = results.buffered(REMOVALS_IN_FLIGHT).collect().await;
        let mut records = Vec::new();
        for (removal, result) in removals.iter().zip(&results) {
            match result {
                Ok(()) => records.push(CatalogueRecord::SegmentsRemoved {
                    partition: removal.partition,
                    upto: removal.upto,
                }),
                Err(error) => {
                    let partition = removal.partition;
                    tracing::warn!(%partition, %error, "deleted segments could not be removed");
                }
            }
        }
        let is_recorded = !records.is_empty() && self.record(&records).await.is_ok();
        let mut state = self.state.borrow_mut();
        for (removal, result) in removals.iter().zip(&results) {
            state.removal_ended(removal, is_recorded && result.is_ok());
        }
        drop(state);
        self.wake.idle.notify();
        is_recorded && records.len() == removals.len()
    }

    async fn remove_files(&self, removal: &Removal) -> io::Result<()> {
        self.wake
            .idle
            .until(|| !self.has_index_writes(removal.handle))
            .await;
        self.forget_segments(removal.handle, removal.upto);
        for segment in &removal.segments {
            let path = segment.path(&self.dir, removal.partition);
            remove_if_there(&self.disk, &index_beside(&path)).await?;
            remove_if_there(&self.disk, &path).await?;
        }
        let dir = partition_dir(&self.dir, removal.partition);
        match self.disk.file_len(&dir).await? {
            Some(_) => self.sync_shared_dir(&dir).await,
            // Somebody removed all of it.
            None => Ok(()),
        }
    }

    pub(super) fn has_index_writes(&self, handle: PartitionHandle) -> bool {
        let state = self.state.borrow();
        let partition = state.partitions.get(handle);
        partition.is_some_and(|partition| partition.index_writes.get() > 0)
    }

    /// Lets go of what memory has of the segments below an offset.
    fn forget_segments(&self, handle: PartitionHandle, upto: Offset) {
        self.handles.borrow_mut().close_below(HandleKey {
            partition: handle,
            base: upto,
            incarnation: 0,
        });
        self.read_cache.borrow_mut().forget_below(handle, upto);
        self.indexes.borrow_mut().forget_below(handle, upto);
    }
}

impl State {
    fn plan_removals(&mut self) -> Vec<Removal> {
        let mut removals = Vec::new();
        while removals.len() < PARTITIONS_MAX
            && let Some(handle) = self.trims.removals.pop_front()
        {
            let Some(partition) = self.partitions.get_mut(handle) else {
                continue;
            };
            partition.flags.is_removal_queued = false;
            let segments = &partition.expired[..partition.expired.len().min(SEGMENTS_MAX)];
            let Some(last) = segments.last().filter(|_| !partition.flags.is_deleting) else {
                continue;
            };
            removals.push(Removal {
                handle,
                partition: partition.id,
                segments: segments.to_vec(),
                upto: last.end_offset,
            });
            partition.flags.is_removing = true;
        }
        removals
    }

    fn removal_ended(&mut self, removal: &Removal, is_recorded: bool) {
        let Some(partition) = self.partitions.get_mut(removal.handle) else {
            return;
        };
        partition.flags.is_removing = false;
        if is_recorded {
            let expired = &mut partition.expired;
            expired.retain(|segment| segment.end_offset > removal.upto);
        }
        self.queue_removal(removal.handle);
    }
}

pub(super) async fn remove_if_there<D: Disk>(disk: &D, path: &str) -> io::Result<()> {
    match disk.remove_file(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
