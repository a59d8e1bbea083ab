//! The spill task: writes durable blocks from tails to segment files, and then lets the journal go.
//!
//! Owns the order that makes this safe: write, flush the files together, and the directories of new ones, record in
//! the catalogue, and only then count the blocks as flushed. Never writes a block a second time that the
//! catalogue has counted.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

use corelane_protocol::{Offset, TopicPartition};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::Store;
use super::segments::SegmentError;
use super::spill_plan::{SpillOutcome, SpillWork};
use super::state::{Full, State};
use crate::disk::{Disk, DiskFile, Durable, OpenOptions, Unsynced, WRITE_SEGMENTS_MAX, WriteData};
use crate::layout::BLOCK;
use crate::memory::{AlignedBuf, AlignedSlice};
use crate::segment::{
    HandleKey, SegmentHeader, index_path, partition_dir, segment_path, topic_dir,
};

/// Writes to one file in flight.
const WRITES_IN_FLIGHT: usize = 4;

/// A file with blocks that are not flushed.
struct Written<D: Disk> {
    file: D::File,
    /// How long it is, at least; exactly, if it is sealed.
    file_bytes: u64,
}

impl<D: Disk> Store<D> {
    /// Writes segments until the store is closed or fenced.
    pub(super) async fn run_spills(self: Rc<Self>) {
        let _work = self.begin_work();
        loop {
            if self.has_ended() {
                return;
            }
            if !self.spill_round().await {
                self.wake.spill.notified().await;
            }
        }
    }

    /// Writes what is due. Returns whether there was anything that may be followed by more at once.
    pub(super) async fn spill_round(&self) -> bool {
        self.give_up_damaged().await;
        let works = {
            let mut state = self.state.borrow_mut();
            state.plan_pressure();
            let works = state.plan_spills();
            if state.planner.is_due() {
                self.wake.commit.notify();
            }
            works
        };
        if works.is_empty() {
            self.look_for_room().await;
            return false;
        }
        let outcomes = self.spill(&works).await;
        let (mut flushed, mut records, mut is_full) = (Vec::new(), Vec::new(), false);
        for (work, outcome) in works.iter().zip(outcomes) {
            is_full |= matches!(outcome, SpillOutcome::DiskFull);
            if let SpillOutcome::Flushed { file_bytes } = outcome {
                records.extend(State::spill_records(work));
                flushed.push((work, file_bytes));
            } else {
                self.state.borrow_mut().spill_failed(work, outcome);
            }
        }
        let is_recorded = flushed.is_empty() || self.record(&records).await.is_ok();
        self.settle(&flushed, is_recorded, is_full);
        self.compact_catalogue().await;
        is_recorded && flushed.len() == works.len()
    }

    /// With no segments to write there is none that finds no room, and only a record shows whether the catalogue has
    /// some again.
    async fn look_for_room(&self) {
        let full = {
            let mut state = self.state.borrow_mut();
            let full = Full {
                segments: false,
                ..state.full
            };
            state.set_full(full);
            self.tell_news(&state);
            full
        };
        if full.catalogue && !self.has_ended() {
            // A failure leaves all as it is, or fences the store.
            let _ = self.record(&[]).await;
        }
    }

    /// Lets go of what damaged partitions hold of a journal that is needed.
    async fn give_up_damaged(&self) {
        let damaged = self.state.borrow().damaged_pinning();
        if damaged.is_empty() {
            return;
        }
        let records: Vec<_> = damaged.iter().map(|(_, record)| record.clone()).collect();
        if self.record(&records).await.is_ok() {
            let mut state = self.state.borrow_mut();
            for (handle, record) in &damaged {
                state.given_up(*handle, record);
            }
            self.wake.journal.notify();
        }
    }

    /// Counts what was flushed, or puts it back.
    fn settle(&self, flushed: &[(&SpillWork, u64)], is_recorded: bool, is_full: bool) {
        let mut state = self.state.borrow_mut();
        let full = Full {
            segments: is_full,
            ..state.full
        };
        state.set_full(full);
        for &(work, file_bytes) in flushed {
            if is_recorded {
                state.spilled(work, file_bytes);
            } else {
                state.spill_failed(work, SpillOutcome::DiskFull);
            }
        }
        if is_recorded && !flushed.is_empty() {
            // A segment may have been sealed that is deleted already.
            self.wake.trim.notify();
            // What failed is tried again by a tick: the two tasks must not wake each other for ever.
            self.wake.journal.notify();
        }
        if state.ledger.is_above_soft() {
            state.evict();
        }
        self.tell_news(&state);
        drop(state);
        let sealed = flushed.iter().filter(|(work, _)| work.sealed.is_some());
        for (work, _) in sealed {
            self.handles.borrow_mut().close(HandleKey {
                partition: work.handle,
                base: work.from.segment,
                incarnation: work.incarnation,
            });
        }
        self.wake.idle.notify();
    }

    /// Writes the blocks of works to their files, and then flushes all that were written.
    async fn spill(&self, works: &[SpillWork]) -> Vec<SpillOutcome> {
        let in_flight = self.state.borrow().config.spills_in_flight;
        let written = stream::iter(works.iter().map(|work| self.write_blocks(work)));
        let written: Vec<io::Result<Written<D>>> = written.buffered(in_flight).collect().await;
        let flushed = self.flush(works, written).await;
        let outcomes = works
            .iter()
            .zip(flushed)
            .map(async |(work, flushed)| match flushed {
                Ok(file_bytes) => {
                    self.write_index(work).await;
                    SpillOutcome::Flushed { file_bytes }
                }
                Err(error) if error.kind() == io::ErrorKind::StorageFull => SpillOutcome::DiskFull,
                Err(error) => SpillOutcome::Failed {
                    file: self.path(work),
                    error,
                },
            });
        stream::iter(outcomes).buffered(in_flight).collect().await
    }

    /// Flushes what was written of works, each with what came of writing it. Returns the lengths of the files.
    async fn flush(
        &self,
        works: &[SpillWork],
        written: Vec<io::Result<Written<D>>>,
    ) -> Vec<io::Result<u64>> {
        let dirs: BTreeSet<String> = works
            .iter()
            .zip(&written)
            .filter(|(_, written)| written.is_ok())
            .flat_map(|(work, _)| self.dirs_with_new_names(work))
            .collect();
        let files = written
            .iter()
            .flatten()
            .filter(|_| !crate::planted!(SegmentFlushSkipped))
            .map(|written| Unsynced::File(&written.file));
        let of_dirs = dirs.iter().map(|dir| Unsynced::Directory(dir));
        let items: Vec<_> = files.chain(of_dirs).collect();
        let mut files = self.disk.sync_together(&items).await;
        let of_dirs = files.split_off(items.len() - dirs.len());
        let dirs: BTreeMap<&String, io::Result<()>> = dirs.iter().zip(of_dirs).collect();
        let is_own = |dir: &str| {
            works
                .iter()
                .any(|work| partition_dir(&self.dir, work.partition) == dir)
        };
        for (dir, synced) in &dirs {
            // A later sync proves nothing of the names that other tasks put there.
            if let Err(error) = synced
                && !is_own(dir)
            {
                self.fence(format!("flushing the directory {dir} failed: {error}"));
            }
        }
        let mut files = files.into_iter();
        let results = works.iter().zip(written).map(|(work, written)| {
            let file_bytes = written?.file_bytes;
            certain(files.next().unwrap_or(Ok(())))?;
            for dir in self.dirs_with_new_names(work) {
                if let Some(Err(error)) = dirs.get(&dir) {
                    return Err(io::Error::other(format!("{dir}: {error}")));
                }
            }
            Ok(file_bytes)
        });
        results.collect()
    }

    /// The directories that hold names which a work has made.
    fn dirs_with_new_names(&self, work: &SpillWork) -> Vec<String> {
        let mut dirs = Vec::new();
        if work.is_new_file {
            dirs.push(partition_dir(&self.dir, work.partition));
        }
        if !work.has_directory && !crate::planted!(DirectorySyncSkipped) {
            dirs.push(topic_dir(&self.dir, work.partition.topic));
            dirs.push(self.dir.clone());
        }
        dirs
    }

    fn path(&self, work: &SpillWork) -> String {
        segment_path(&self.dir, work.partition, work.from.segment)
    }

    /// Writes a work's blocks, which are not flushed then.
    async fn write_blocks(&self, work: &SpillWork) -> io::Result<Written<D>> {
        let path = &self.path(work);
        let key = HandleKey {
            partition: work.handle,
            base: work.from.segment,
            incarnation: work.incarnation,
        };
        let file = if work.is_new_file {
            let file = self.create_segment(work, path).await?;
            self.handles.borrow_mut().insert(key, file.clone());
            file
        } else {
            let file = self.segment_file(work.partition, key, path);
            file.await.map_err(into_io)?
        };
        if work.is_left {
            // Bytes behind what counts may be there without a flush ever having kept their length.
            file.truncate(work.file_bytes).await?;
        }
        let file_bytes = self.make_room(work, &file).await?;
        let writes = self.writes(work);
        let writes = stream::iter(writes).map(Ok).try_for_each_concurrent(
            WRITES_IN_FLIGHT,
            |(position, data)| {
                let file = &file;
                async move { file.write(position, data, Durable::No).await }
            },
        );
        writes.await?;
        let mut file_bytes = file_bytes.max(work.end);
        if let Some(sealed) = &work.sealed {
            file_bytes = sealed.file_bytes - BLOCK * u64::from(crate::planted!(SealedTooShort));
            file.truncate(file_bytes).await?;
        }
        Ok(Written { file, file_bytes })
    }

    /// Takes room for a work's blocks, and, if large parts may go straight and while there is some, for what follows: only
    /// into room that was flushed can they. What follows begins where the log ends, however far the spill is behind.
    /// Returns how long the file then is at least.
    async fn make_room(&self, work: &SpillWork, file: &D::File) -> io::Result<u64> {
        let (step, straight_bytes_min) = {
            let config = &self.state.borrow().config;
            let straight_bytes_min = config.straight_bytes_min as u64;
            (config.segment_allocation_bytes, straight_bytes_min)
        };
        let len = work.file_bytes;
        let goes_straight = straight_bytes_min <= step;
        let end = if goes_straight {
            work.log_end
        } else {
            work.end
        };
        let wanted = room(end, step, work.segment_bytes);
        let ahead = if goes_straight {
            (end + end.min(step) / 2).min(wanted)
        } else {
            end
        };
        if len >= ahead || (work.sealed.is_some() && len >= work.end) {
            return Ok(len);
        }
        match file.allocate(wanted).await {
            Err(error) if error.kind() == io::ErrorKind::StorageFull && len >= work.end => Ok(len),
            result => result.map(|()| len.max(wanted)),
        }
    }

    /// Makes a segment's file, without its header, or makes it anew if a crash left one that nothing refers to.
    async fn create_segment(&self, work: &SpillWork, path: &str) -> io::Result<D::File> {
        if work.has_directory || !self.create_directory(work).await? {
            // What an earlier life left may have a name that a sync failed to keep, and no later sync keeps it then.
            match self.disk.remove_file(path).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.disk.open(path, OpenOptions::CREATE_NEW).await
    }

    /// Makes a partition's directory, and its topic's. Returns whether the former is new, and so without any file.
    async fn create_directory(&self, work: &SpillWork) -> io::Result<bool> {
        let dir = partition_dir(&self.dir, work.partition);
        match self.disk.create_dir(&dir).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return is_new(result),
        }
        is_new(
            self.disk
                .create_dir(&topic_dir(&self.dir, work.partition.topic))
                .await,
        )?;
        is_new(self.disk.create_dir(&dir).await)
    }

    /// The block that a segment's file begins with.
    pub(super) fn segment_header(
        &self,
        partition: TopicPartition,
        base_offset: Offset,
        incarnation: u64,
    ) -> AlignedBuf {
        let mut block = AlignedBuf::zeroed(BLOCK as usize);
        let header = SegmentHeader {
            store: self.uuid,
            partition,
            base_offset,
            incarnation,
        };
        header.encode(&mut block);
        block
    }

    /// The blocks in writes of a good size, each with its position; that of the header before them in a new file.
    fn writes(&self, work: &SpillWork) -> Vec<(u64, WriteData)> {
        let bytes_max =
            self.state.borrow().config.spill_write_bytes / BLOCK as usize * BLOCK as usize;
        let mut writes = Vec::new();
        let (mut position, mut gathered, mut bytes) = (0, Vec::<AlignedSlice>::new(), 0);
        let header = work.is_new_file.then(|| {
            let (partition, base_offset) = (work.partition, work.from.segment);
            self.segment_header(partition, base_offset, work.incarnation)
                .freeze()
        });
        let header = header.as_ref().map(|header| (0, header));
        let blocks = work.blocks.iter().map(|(at, slice)| (*at, slice));
        for (at, slice) in header.into_iter().chain(blocks) {
            let follows = position + bytes as u64 == at;
            let mut from = 0;
            while from < slice.len() {
                let is_full = bytes == bytes_max || gathered.len() == WRITE_SEGMENTS_MAX;
                if !gathered.is_empty() && (is_full || !(follows || from > 0)) {
                    writes.push((position, WriteData::new(std::mem::take(&mut gathered))));
                    bytes = 0;
                }
                if gathered.is_empty() {
                    position = at + from as u64;
                }
                let len = (slice.len() - from).min(bytes_max - bytes);
                gathered.push(slice.slice(from..from + len));
                from += len;
                bytes += len;
            }
        }
        if !gathered.is_empty() {
            writes.push((position, WriteData::new(gathered)));
        }
        writes
    }

    /// Writes the index of a complete segment. It is derived: a failure costs a scan later.
    async fn write_index(&self, work: &SpillWork) {
        let Some((identity, index)) = &work.index else {
            return;
        };
        let path = index_path(&self.dir, work.partition, identity.base);
        self.write_index_file(&path, *identity, index).await;
    }
}

/// How far a file that is to be written up to `end` is allocated: as much again as it holds, up to a step.
/// Whole steps would let many small partitions fill the disk with room that they do not use.
fn room(end: u64, step: u64, segment_bytes: u64) -> u64 {
    (end + end.min(step))
        .next_multiple_of(BLOCK)
        .min(segment_bytes.next_multiple_of(BLOCK))
        .max(end)
}

fn into_io(error: SegmentError) -> io::Error {
    match error {
        SegmentError::Io(error) => error,
        SegmentError::Corrupt(corruption) => {
            io::Error::new(io::ErrorKind::InvalidData, corruption.to_string())
        }
    }
}

/// A flush that failed is never tried again, also if it says that the disk was full: what was to be flushed
/// is not known to be on the device, whatever the next one says.
fn certain(flushed: io::Result<()>) -> io::Result<()> {
    flushed.map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull => io::Error::other(error),
        _ => error,
    })
}

/// Whether a directory was made that was not there.
fn is_new(made: io::Result<()>) -> io::Result<bool> {
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        result => result.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_in_proportion_and_within_the_segment() {
        let (step, segment) = (1 << 20, 8 << 20);
        assert_eq!(room(2 * BLOCK, step, segment), 4 * BLOCK);
        assert_eq!(room(step, step, segment), 2 * step);
        assert_eq!(room(4 * step, step, segment), 5 * step);
        assert_eq!(room(segment - BLOCK, step, segment), segment);
        // A last batch may reach beyond.
        assert_eq!(room(segment + BLOCK, step, segment), segment + BLOCK);
    }
}
