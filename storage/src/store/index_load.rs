//! The indexes of segments, for readers: from memory, from the file beside the segment, or from a scan.
//!
//! Owns the indexes of sealed segments that are in memory, and their number.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use corelane_protocol::batch::verify_crc;
use corelane_protocol::{Offset, Timestamp};

use super::read_window::Segment;
use super::{Notify, PartitionHandle, ReadError, Store};
use crate::disk::{BLOCK_BYTES, Disk, DiskFile, Durable, OpenOptions, WriteData};
use crate::index::{IndexIdentity, SparseIndex};
use crate::memory::AlignedBuf;
use crate::position::LogPoint;
use crate::segment::HandleKey;
use crate::segment::batches::{Check, peek_times};
use crate::segment::walk::{Step, Stop};

/// Indexes of sealed segments kept in memory: some 130 KiB for a segment of 1 GiB.
const INDEXES_MAX: usize = 64;
/// A scan reads pieces of this size.
const SCAN_BYTES: u64 = 1 << 20;
/// Pieces that are read ahead of one reader.
const PIECES_AHEAD: usize = 4;
/// Later than any time.
const LATEST: Timestamp = Timestamp::new(i64::MAX);
/// An index file that is larger than this is no index.
const INDEX_FILE_BYTES_MAX: u64 = 16 << 20;

/// Indexes of sealed segments, the oldest in memory dropped first.
#[derive(Debug, Default)]
pub(super) struct IndexCache {
    indexes: BTreeMap<HandleKey, Rc<SparseIndex>>,
    order: VecDeque<HandleKey>,
}

impl IndexCache {
    fn get(&self, key: HandleKey) -> Option<Rc<SparseIndex>> {
        self.indexes.get(&key).map(Rc::clone)
    }

    fn insert(&mut self, key: HandleKey, index: Rc<SparseIndex>) {
        if self.indexes.insert(key, index).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > INDEXES_MAX {
            let oldest = self.order.pop_front().expect("it is not empty");
            self.indexes.remove(&oldest);
        }
    }

    /// Forgets a partition.
    pub(super) fn forget(&mut self, partition: PartitionHandle) {
        self.forget_below(partition, Offset::MAX);
    }

    /// Forgets a partition's segments before an offset.
    pub(super) fn forget_below(&mut self, partition: PartitionHandle, end: Offset) {
        let is_kept = |key: &HandleKey| key.partition != partition || key.base >= end;
        self.order.retain(is_kept);
        self.indexes.retain(|key, _| is_kept(key));
    }
}

/// A part of a segment that is read at a time. It ends where the index knows a batch, so that what follows can be
/// read at the same time.
#[derive(Debug)]
pub(super) struct Piece {
    /// A batch that does not begin after what is wanted, the nearest that the index knows.
    pub(super) near: LogPoint,
    /// The batch behind the piece; none where the index knows no such batch within the bytes of a window.
    pub(super) end: Option<LogPoint>,
    /// Where the pieces behind it begin, as many as are read ahead.
    pub(super) ahead: Vec<Offset>,
}

impl Piece {
    fn of(index: &SparseIndex, wanted: Offset, bytes_max: u64) -> Self {
        let near = index.floor(wanted);
        let end = index.last_within(near, bytes_max);
        let mut ahead = Vec::new();
        let mut next = end;
        while let Some(start) = next
            && ahead.len() < PIECES_AHEAD
        {
            ahead.push(start.offset);
            next = index.last_within(start, bytes_max);
        }
        Self { near, end, ahead }
    }
}

/// An index file that is being written: the segment's files are not removed before it ends.
pub(super) struct IndexWrite<'a> {
    count: Rc<Cell<usize>>,
    idle: &'a Notify,
}

impl Drop for IndexWrite<'_> {
    fn drop(&mut self) {
        self.count.set(self.count.get() - 1);
        self.idle.notify();
    }
}

impl<D: Disk> Store<D> {
    /// The piece of the segment that holds `offset`, as far as the index knows where batches begin.
    pub(super) async fn index_piece(
        &self,
        segment: &Segment,
        file: &D::File,
        offset: Offset,
    ) -> Result<Piece, ReadError> {
        let bytes_max = self.state.borrow().config.read_window_bytes as u64;
        let wanted = if crate::planted!(IndexTooFar) {
            offset.advance(12)
        } else {
            offset
        };
        self.find_in_index(segment, file, |index| Piece::of(index, wanted, bytes_max))
            .await
    }

    /// A batch of the segment, the last that the index knows, with no record at or after `timestamp` before it.
    pub(super) async fn index_time_floor(
        &self,
        segment: &Segment,
        file: &D::File,
        timestamp: Timestamp,
    ) -> Result<LogPoint, ReadError> {
        self.find_in_index(segment, file, |index| index.time_floor(timestamp))
            .await
    }

    async fn find_in_index<T>(
        &self,
        segment: &Segment,
        file: &D::File,
        search: impl Fn(&SparseIndex) -> T,
    ) -> Result<T, ReadError> {
        let key = HandleKey {
            partition: segment.handle,
            base: segment.place.base,
            incarnation: segment.place.incarnation,
        };
        if let Some(found) = self.find_in_memory(key, segment, &search) {
            return Ok(found);
        }
        let index = self.load_index(segment, file).await?;
        let found = search(&index);
        if segment.place.is_sealed {
            self.indexes.borrow_mut().insert(key, Rc::new(index));
        } else {
            self.complete_index(segment, &index);
        }
        Ok(found)
    }

    fn find_in_memory<T>(
        &self,
        key: HandleKey,
        segment: &Segment,
        search: impl Fn(&SparseIndex) -> T,
    ) -> Option<T> {
        if segment.place.is_sealed
            && let Some(index) = self.indexes.borrow().get(key)
        {
            return Some(search(&index));
        }
        let state = self.state.borrow();
        let partition = state.partitions.get(segment.handle)?;
        let is_active = partition.flush.flushed.segment == segment.place.base;
        if !(is_active && partition.flags.has_whole_index) {
            return None;
        }
        Some(match partition.index.as_deref() {
            Some(index) => search(index),
            None => {
                let interval = state.config.index_interval_bytes;
                search(&SparseIndex::new(segment.place.base, interval))
            }
        })
    }

    /// Puts what was found of an active segment before what is known of it since the store was opened.
    fn complete_index(&self, segment: &Segment, earlier: &SparseIndex) {
        let mut state = self.state.borrow_mut();
        let interval = state.config.index_interval_bytes;
        let Some(partition) = state.partitions.get_mut(segment.handle) else {
            return;
        };
        if partition.flush.flushed.segment == segment.place.base && !partition.flags.has_whole_index
        {
            let base = segment.place.base;
            let index = partition
                .index
                .get_or_insert_with(|| Box::new(SparseIndex::new(base, interval)));
            index.prepend(earlier);
            partition.flags.has_whole_index = true;
        }
    }

    /// Reads the segment's index file as far as it is sound, and scans the segment for the rest.
    async fn load_index(
        &self,
        segment: &Segment,
        file: &D::File,
    ) -> Result<SparseIndex, ReadError> {
        let identity = IndexIdentity {
            base: segment.place.base,
            incarnation: segment.place.incarnation,
        };
        let interval = self.state.borrow().config.index_interval_bytes;
        let path = self.index_path(segment);
        let bytes = self.read_index_file(&path).await;
        let mut index = SparseIndex::decode(identity, interval, segment.place.flushed, &bytes);
        if !self.is_credible(segment, file, &index).await? {
            tracing::warn!(path, "the index does not fit its segment, and is made anew");
            index = SparseIndex::new(identity.base, interval);
        }
        let known = index.entries().len();
        self.scan(segment, file, &mut index).await?;
        if index.entries().len() > known
            && let Some(_writing) = self.begin_index_write(segment)
        {
            self.write_index_file(&path, identity, &index).await;
        }
        Ok(index)
    }

    /// The right to write the index file of a sealed segment, which is not removed meanwhile.
    pub(super) fn begin_index_write(&self, segment: &Segment) -> Option<IndexWrite<'_>> {
        let state = self.state.borrow();
        let partition = state.partitions.get(segment.handle)?;
        let is_there = partition.has_sealed(&segment.place);
        // Another reader may be making the same one.
        let is_writing = partition.index_writes.get() > 0;
        if !is_there || partition.flags.is_deleting || is_writing {
            return None;
        }
        partition.index_writes.set(partition.index_writes.get() + 1);
        Some(IndexWrite {
            count: Rc::clone(&partition.index_writes),
            idle: &self.wake.idle,
        })
    }

    pub(super) async fn read_index_file(&self, path: &str) -> Vec<u8> {
        let read = async {
            let file = self.disk.open(path, OpenOptions::EXISTING).await?;
            let len =
                file.len().await?.min(INDEX_FILE_BYTES_MAX) as usize / BLOCK_BYTES * BLOCK_BYTES;
            if len == 0 {
                return Ok(Vec::new());
            }
            let (read, buffer) = file.read(0, AlignedBuf::zeroed(len)).await;
            read.map(|count| buffer[..count].to_vec())
        };
        // Derived: whatever is wrong with it, the segment itself tells.
        let read: std::io::Result<Vec<u8>> = read.await;
        read.unwrap_or_default()
    }

    /// Whether the last entry points to the batch that it names.
    async fn is_credible(
        &self,
        segment: &Segment,
        file: &D::File,
        index: &SparseIndex,
    ) -> Result<bool, ReadError> {
        let last = index.last();
        if last.offset == segment.place.base {
            return Ok(true);
        }
        if last.offset >= segment.place.end_offset {
            return Ok(false);
        }
        let bytes = self
            .read_segment(segment, file, last.position.at, 2 * BLOCK_BYTES as u64)
            .await?;
        Ok(matches!(
            segment.walk_from(&bytes, last).step(Check::Stamp),
            Step::Batch(..)
        ))
    }

    /// Notes the batches behind the last entry. Ends early at damage: whoever reads there meets it.
    async fn scan(
        &self,
        segment: &Segment,
        file: &D::File,
        index: &mut SparseIndex,
    ) -> Result<(), ReadError> {
        let mut boundary = index.last();
        let mut max_timestamp = index.last_max_timestamp();
        let mut wanted = SCAN_BYTES;
        loop {
            let bytes = self
                .read_segment(segment, file, boundary.position.at, wanted)
                .await?;
            let mut walk = segment.walk_from(&bytes, boundary);
            let needed = loop {
                boundary.position.at = walk.at;
                boundary.offset = walk.expected;
                match walk.step(Check::Stamp) {
                    Step::Batch(at, batch) => {
                        let Some(found) = bytes.range(at, walk.at) else {
                            break (walk.at - boundary.position.at) as usize;
                        };
                        index.note(batch.base_offset, at, max_timestamp);
                        // Nothing is known of the times of a damaged batch. A search by time ends there, and
                        // whoever made it learns why.
                        let times = verify_crc(found).map(|_| peek_times(found));
                        let found = times.map_or(LATEST, |times| times.max_timestamp);
                        max_timestamp = max_timestamp.max(found);
                    }
                    Step::Stop(Stop::End | Stop::Damaged(_)) => return Ok(()),
                    Step::Stop(Stop::Incomplete(needed)) => {
                        let skipped = (walk.at - boundary.position.at) as usize;
                        break needed + skipped;
                    }
                }
            };
            wanted = SCAN_BYTES.max(needed as u64 + BLOCK_BYTES as u64);
        }
    }

    pub(super) async fn write_index_file(
        &self,
        path: &str,
        identity: IndexIdentity,
        index: &SparseIndex,
    ) {
        let written = async {
            let file = self.disk.open(path, OpenOptions::CREATE).await?;
            file.truncate(0).await?;
            file.write(0, WriteData::from(index.encode(identity)), Durable::No)
                .await
        };
        if let Err(error) = written.await {
            tracing::warn!(path, %error, "the index could not be written");
        }
    }
}
