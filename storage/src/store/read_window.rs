//! Bringing a window of a segment into memory.
//!
//! Owns the way from an offset to verified bytes. Whatever comes from a file is checked (stamp, place,
//! checksum, and that the offsets follow each other) before anybody sees it.

use std::rc::Rc;

use corelane_protocol::{Offset, TopicPartition};

use super::index_load::Piece;
use super::partition::PartitionHandle;
use super::read_cache::{Window, WindowKey};
use super::reservation::Reservation;
use super::segments::{SegmentError, SegmentPlace};
use super::{Corruption, ReadError, Store};
use crate::disk::{Disk, DiskFile};
use crate::layout::{BLOCK, block_ceiling, block_floor};
use crate::memory::{AlignedBuf, AlignedSlice, MemoryKind};
use crate::position::LogPoint;
use crate::segment::batches::{BatchPeek, Check};
use crate::segment::walk::{Step, Stop, Walk};
use crate::segment::{HandleKey, compacted_path, index_beside, segment_path};

/// Bytes of a segment's file, and where they are.
pub(super) struct SegmentBytes {
    pub(super) bytes: AlignedSlice,
    pub(super) start: u64,
    reserved: Reservation,
}

impl SegmentBytes {
    /// The bytes between two positions of the file, if all of them are here.
    pub(super) fn range(&self, from: u64, to: u64) -> Option<&[u8]> {
        self.bytes
            .get((from - self.start) as usize..(to - self.start) as usize)
    }
}

/// The segment that is being read.
pub(super) struct Segment {
    pub(super) handle: PartitionHandle,
    pub(super) partition: TopicPartition,
    pub(super) place: SegmentPlace,
}

/// Where a read ended up.
pub(super) enum Loaded {
    /// From disk.
    Window(Rc<Window>),
    /// What was wanted is not on disk any more, or not yet: `read` knows.
    Elsewhere,
}

/// What a walk over some bytes found of what is wanted.
enum Gathered {
    /// Batches that can be served, and damage behind them if there is some.
    Batches(Vec<(u64, BatchPeek)>, Option<String>),
    /// Nothing yet: so many bytes are needed from this boundary on.
    Further(LogPoint, usize),
    /// Nothing, and it cannot be reached: the position and the reason.
    Damaged(u64, String),
}

impl Segment {
    fn walk<'a>(&self, bytes: &'a SegmentBytes, from: LogPoint) -> Walk<'a> {
        Walk {
            partition: self.partition,
            bytes: &bytes.bytes,
            start: bytes.start,
            at: from.position.at,
            expected: from.offset,
            limit: self.place.flushed,
            end_offset: self.place.end_offset,
        }
    }

    /// The walk from a boundary over bytes that begin in its block.
    pub(super) fn walk_from<'a>(&self, bytes: &'a SegmentBytes, from: LogPoint) -> Walk<'a> {
        self.walk(bytes, from)
    }

    /// Steps over the batches before `wanted`, and gathers those from there on.
    /// Those from `end` on are left to the next window.
    fn gather(
        &self,
        bytes: &SegmentBytes,
        near: LogPoint,
        wanted: Offset,
        end: Option<Offset>,
    ) -> Gathered {
        let mut walk = self.walk(bytes, near);
        let mut batches = Vec::new();
        let mut boundary = near;
        let stop = loop {
            // What is stepped over is not served, so its content does not matter here.
            let is_served = !batches.is_empty() || self.begins_with(bytes, boundary, wanted);
            match walk.step(if is_served {
                Check::Whole
            } else {
                Check::Stamp
            }) {
                Step::Stop(stop) => break stop,
                Step::Batch(at, batch) => {
                    boundary.position.at = walk.at;
                    boundary.offset = walk.expected;
                    if is_served {
                        batches.push((at, batch));
                        if end.is_some_and(|end| boundary.offset >= end) {
                            break Stop::End;
                        }
                    }
                }
            }
        };
        let is_found = !batches.is_empty();
        boundary.position.at = walk.at;
        match stop {
            Stop::End | Stop::Incomplete(_) if is_found => Gathered::Batches(batches, None),
            Stop::Damaged(reason) if is_found => Gathered::Batches(batches, Some(reason)),
            Stop::Damaged(reason) => Gathered::Damaged(walk.at, reason),
            Stop::End => Gathered::Damaged(walk.at, format!("offset {wanted} is missing")),
            Stop::Incomplete(needed) => Gathered::Further(boundary, needed),
        }
    }

    /// Whether the batch at a boundary holds `wanted`.
    fn begins_with(&self, bytes: &SegmentBytes, boundary: LogPoint, wanted: Offset) -> bool {
        match self.walk(bytes, boundary).step(Check::Stamp) {
            Step::Batch(_, batch) => batch.end_offset > wanted,
            Step::Stop(_) => false,
        }
    }
}

impl<D: Disk> Store<D> {
    /// Reads and verifies the window at an offset.
    pub(super) async fn load(&self, (handle, from): WindowKey) -> Result<Loaded, ReadError> {
        loop {
            let segment = {
                let state = self.state.borrow();
                let Some(found) = state.partitions.get(handle) else {
                    return Ok(Loaded::Elsewhere);
                };
                found.expect_readable(from)?;
                match found.segment_of(from) {
                    Some(place) => Segment {
                        handle,
                        partition: found.id,
                        place,
                    },
                    None => return Ok(Loaded::Elsewhere),
                }
            };
            let loaded = self.load_from(&segment, from).await;
            // Compaction may have put another file in its place meanwhile, and removed this one. What was read of it is
            // not kept: for others, who have seen the new one, records would come back.
            if !self.is_replaced(&segment) {
                return loaded;
            }
        }
    }

    async fn load_from(&self, segment: &Segment, from: Offset) -> Result<Loaded, ReadError> {
        let file = self.open_segment(segment).await?;
        let piece = self.index_piece(segment, &file, from).await?;
        let window = self.load_window(segment, &file, piece, from).await?;
        Ok(Loaded::Window(Rc::new(window)))
    }

    /// Whether the segment's offsets are in another file now.
    pub(super) fn is_replaced(&self, segment: &Segment) -> bool {
        let state = self.state.borrow();
        let partition = state.partitions.get(segment.handle);
        partition.is_some_and(|partition| {
            let last = Offset::new(segment.place.end_offset.get().saturating_sub(1));
            let now = partition.segment_of(last);
            now.is_some_and(|now| now.incarnation != segment.place.incarnation)
        })
    }

    async fn load_window(
        &self,
        segment: &Segment,
        file: &D::File,
        piece: Piece,
        wanted: Offset,
    ) -> Result<Window, ReadError> {
        let window_bytes = self.state.borrow().config.read_window_bytes as u64;
        let Piece {
            mut near,
            end,
            ahead,
        } = piece;
        let mut len = end.map_or(window_bytes, |end| {
            end.position.at - block_floor(near.position.at)
        });
        let end = end.map(|end| end.offset);
        loop {
            let bytes = self
                .read_segment(segment, file, near.position.at, len)
                .await?;
            match segment.gather(&bytes, near, wanted, end) {
                Gathered::Batches(batches, damage) => {
                    let mut window = Window::new(bytes.bytes, bytes.start, bytes.reserved);
                    let mut after = near.position.at;
                    for (at, batch) in batches {
                        after = at + u64::from(batch.length);
                        window.push(at, batch);
                    }
                    window.ahead = ahead;
                    window.damage = damage.map(|reason| self.corruption(segment, after, reason));
                    return Ok(window);
                }
                Gathered::Further(boundary, needed) => {
                    near = boundary;
                    len = window_bytes.max(needed as u64 + BLOCK);
                }
                Gathered::Damaged(position, reason) => {
                    return Err(self.corruption(segment, position, reason).into());
                }
            }
        }
    }

    /// Reads bytes of a segment from the block of `at` on, as far as they are flushed.
    ///
    /// # Errors
    /// The file cannot be read or is shorter than that, or the segment ends before `at`.
    pub(super) async fn read_segment(
        &self,
        segment: &Segment,
        file: &D::File,
        at: u64,
        wanted: u64,
    ) -> Result<SegmentBytes, ReadError> {
        let start = block_floor(at);
        let end = (start + block_ceiling(wanted)).min(segment.place.flushed);
        let len = end.saturating_sub(start) as usize;
        if len == 0 {
            // A walk ends where the segment does, so it is the catalogue that is wrong about one of the two.
            let reason = format!(
                "the catalogue ends this segment at byte {}, before offset {}",
                segment.place.flushed, segment.place.end_offset
            );
            return Err(self.corruption(segment, at, reason).into());
        }
        let reserved = self.reserve_window(len)?;
        let (read, buffer) = file.read(start, AlignedBuf::with_any_contents(len)).await;
        match read {
            Ok(count) if count == len => Ok(SegmentBytes {
                bytes: buffer.freeze(),
                start,
                reserved,
            }),
            Ok(count) => {
                let position = start + count as u64;
                Err(self
                    .corruption(
                        segment,
                        position,
                        "the file is shorter than what was flushed".into(),
                    )
                    .into())
            }
            Err(source) => Err(self.read_failed(segment, source)),
        }
    }

    fn reserve_window(&self, len: usize) -> Result<Reservation, ReadError> {
        let ledger = self.ledger();
        loop {
            match Reservation::new(&ledger, MemoryKind::ReadAhead, len) {
                Ok(reservation) => return Ok(reservation),
                Err(_) if self.read_cache.borrow_mut().drop_oldest() => {}
                Err(_) => {
                    self.state.borrow_mut().evict();
                    return Ok(Reservation::new(&ledger, MemoryKind::ReadAhead, len)?);
                }
            }
        }
    }

    /// The path of the segment's file.
    pub(super) fn segment_path(&self, segment: &Segment) -> String {
        let (partition, place) = (segment.partition, &segment.place);
        if place.is_compacted {
            compacted_path(&self.dir, partition, place.base, place.incarnation)
        } else {
            segment_path(&self.dir, partition, place.base)
        }
    }

    /// The path of the segment's index file.
    pub(super) fn index_path(&self, segment: &Segment) -> String {
        index_beside(&self.segment_path(segment))
    }

    /// Whether the segment is part of the log, and its file the one that it was.
    pub(super) fn is_current(&self, segment: &Segment) -> bool {
        let state = self.state.borrow();
        let partition = state.partitions.get(segment.handle);
        partition.is_some_and(|partition| {
            let flush = &partition.flush;
            let is_active = (flush.flushed.segment, flush.incarnation)
                == (segment.place.base, segment.place.incarnation);
            is_active || partition.has_sealed(&segment.place)
        })
    }

    pub(super) async fn open_segment(&self, segment: &Segment) -> Result<D::File, ReadError> {
        let key = HandleKey {
            partition: segment.handle,
            base: segment.place.base,
            incarnation: segment.place.incarnation,
        };
        let path = self.segment_path(segment);
        match self.segment_file(segment.partition, key, &path).await {
            Ok(file) => {
                if !self.is_current(segment) {
                    // It was removed while it was being opened, and an open file keeps its room on the device.
                    self.handles.borrow_mut().close(key);
                }
                Ok(file)
            }
            Err(SegmentError::Corrupt(corruption)) => Err(corruption.into()),
            Err(SegmentError::Io(source)) => Err(self.read_failed(segment, source)),
        }
    }

    fn read_failed(&self, segment: &Segment, source: std::io::Error) -> ReadError {
        let file = self.segment_path(segment);
        ReadError::Io {
            file,
            source: Rc::new(source),
        }
    }

    pub(super) fn corruption(
        &self,
        segment: &Segment,
        position: u64,
        reason: String,
    ) -> Corruption {
        let file = self.segment_path(segment);
        tracing::error!(file, position, reason, "damage found");
        Corruption {
            file,
            position,
            reason,
        }
    }
}
