//! The spill task: writes durable blocks from tails to segment files, and then lets the journal go.
//!
//! Owns the order that makes this safe: write, flush the file, flush its directory if it is new, record in
//! the catalogue, and only then count the blocks as flushed. Never writes a block a second time that the
//! catalogue has counted.

use std::io;
use std::rc::Rc;

use corelane_protocol::{Offset, TopicPartition};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::Store;
use super::segments::SegmentError;
use super::spill_plan::{SpillOutcome, SpillWork};
use super::state::{Full, State};
use crate::disk::{Disk, DiskFile, Durable, OpenOptions, WRITE_SEGMENTS_MAX, WriteData};
use crate::layout::BLOCK;
use crate::memory::{AlignedBuf, AlignedSlice};
use crate::segment::{
    HandleKey, SegmentHeader, index_path, partition_dir, segment_path, topic_dir,
};

/// Writes to one file in flight.
const WRITES_IN_FLIGHT: usize = 4;

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
        let in_flight = self.state.borrow().config.spills_in_flight;
        let outcomes = stream::iter(works.iter().map(|work| self.spill(work)));
        let outcomes: Vec<SpillOutcome> = outcomes.buffered(in_flight).collect().await;
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

    async fn spill(&self, work: &SpillWork) -> SpillOutcome {
        let path = segment_path(&self.dir, work.partition, work.from.segment);
        match self.write_blocks(work, &path).await {
            Ok(file_bytes) => SpillOutcome::Flushed { file_bytes },
            Err(error) if error.kind() == io::ErrorKind::StorageFull => SpillOutcome::DiskFull,
            Err(error) => SpillOutcome::Failed { file: path, error },
        }
    }

    /// Writes and flushes a work's blocks. Returns the length of the file, which is flushed too.
    async fn write_blocks(&self, work: &SpillWork, path: &str) -> io::Result<u64> {
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
        if let Some(bytes) = work.left_file_bytes {
            // Bytes behind what counts may be there without a flush ever having kept their length.
            file.truncate(bytes).await?;
        }
        self.make_room(work, &file).await?;
        let writes = self.writes(work);
        let writes = stream::iter(writes).map(Ok).try_for_each_concurrent(
            WRITES_IN_FLIGHT,
            |(position, data)| {
                let file = &file;
                async move { file.write(position, data, Durable::No).await }
            },
        );
        writes.await?;
        if let Some(sealed) = &work.sealed {
            let cut = BLOCK * u64::from(crate::planted!(SealedTooShort));
            file.truncate(sealed.file_bytes - cut).await?;
        }
        let file_bytes = file.len().await?;
        if !crate::planted!(SegmentFlushSkipped) {
            certain(file.flush().await)?;
        }
        if work.is_new_file {
            let dir = partition_dir(&self.dir, work.partition);
            certain(self.disk.sync_dir(&dir).await)?;
        }
        self.write_index(work).await;
        Ok(file_bytes)
    }

    /// Takes room for a work's blocks, and, if large parts may go straight and while there is some, for what follows: only
    /// into room that was flushed can they. What follows begins where the log ends, however far the spill is behind.
    async fn make_room(&self, work: &SpillWork, file: &D::File) -> io::Result<()> {
        let (step, straight_bytes_min) = {
            let config = &self.state.borrow().config;
            let straight_bytes_min = config.straight_bytes_min as u64;
            (config.segment_allocation_bytes, straight_bytes_min)
        };
        let len = file.len().await?;
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
            return Ok(());
        }
        match file.allocate(wanted).await {
            Err(error) if error.kind() == io::ErrorKind::StorageFull && len >= work.end => Ok(()),
            result => result,
        }
    }

    /// Makes a segment's file, or makes it anew if a crash left one that nothing refers to.
    async fn create_segment(&self, work: &SpillWork, path: &str) -> io::Result<D::File> {
        if !work.has_directory {
            self.create_directories(work).await?;
        }
        // What an earlier life left may have a name that a sync failed to keep, and no later sync keeps it then.
        match self.disk.remove_file(path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.disk.open(path, OpenOptions::CREATE_NEW).await?;
        let (partition, base_offset) = (work.partition, work.from.segment);
        self.write_segment_header(&file, partition, base_offset, work.incarnation)
            .await?;
        Ok(file)
    }

    pub(super) async fn write_segment_header(
        &self,
        file: &D::File,
        partition: TopicPartition,
        base_offset: Offset,
        incarnation: u64,
    ) -> io::Result<()> {
        let mut block = AlignedBuf::zeroed(BLOCK as usize);
        let header = SegmentHeader {
            store: self.uuid,
            partition,
            base_offset,
            incarnation,
        };
        header.encode(&mut block);
        file.write(0, WriteData::from(block), Durable::No).await
    }

    async fn create_directories(&self, work: &SpillWork) -> io::Result<()> {
        let topic = topic_dir(&self.dir, work.partition.topic);
        create_dir(&self.disk, &topic).await?;
        self.sync_shared_dir(&self.dir).await?;
        create_dir(&self.disk, &partition_dir(&self.dir, work.partition)).await?;
        self.sync_shared_dir(&topic).await
    }

    /// The blocks in writes of a good size, each with its position.
    fn writes(&self, work: &SpillWork) -> Vec<(u64, WriteData)> {
        let bytes_max =
            self.state.borrow().config.spill_write_bytes / BLOCK as usize * BLOCK as usize;
        let mut writes = Vec::new();
        let (mut position, mut gathered, mut bytes) = (0, Vec::<AlignedSlice>::new(), 0);
        for (at, slice) in &work.blocks {
            let follows = position + bytes as u64 == *at;
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

async fn create_dir<D: Disk>(disk: &D, path: &str) -> io::Result<()> {
    match disk.create_dir(path).await {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
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
