//! One piece of a partition's tail: memory that mirrors a range of a segment file.
//!
//! Owns the mapping between file positions, offsets and memory. Never does I/O. Belongs to the core that
//! runs the store.

use corelane_protocol::Offset;

use crate::layout::{block_ceiling, block_floor};
use crate::memory::{AlignedSlice, Chunk};
use crate::position::{LogPoint, LogPosition};
use crate::segment::batches::{BatchPeek, BatchTimes, peek, peek_times};
use crate::times::SegmentTimes;

/// A batch within a chunk, noted so that a search need not begin at the chunk's first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Position in the segment file.
    pub(crate) at: u64,
    /// The batch's base offset.
    pub(crate) offset: Offset,
    /// The times of the segment's batches before it.
    pub(crate) times: SegmentTimes,
}

/// Consecutive batches of one segment, in memory whose byte 0 is byte `start` of the segment's file.
///
/// A batch never crosses from one chunk to the next, and there is no padding between the batches of one.
/// Once closed it is padded to a block, and what follows begins at the next one.
#[derive(Debug)]
pub(crate) struct TailChunk {
    segment: Offset,
    start: u64,
    first: Mark,
    end: LogPoint,
    /// The times of the segment's batches up to the end.
    times: SegmentTimes,
    closed: bool,
    /// A group says that all of it is in the segment's file.
    is_in_segment: bool,
    marks: Vec<Mark>,
    memory: Chunk,
}

impl TailChunk {
    /// An empty chunk whose first batch goes to `first`. After a replay that may be within a block; the
    /// bytes before it are in the segment file already.
    pub(crate) fn new(first: LogPoint, times: SegmentTimes, mut memory: Chunk) -> Self {
        let start = block_floor(first.position.at);
        let skipped = (first.position.at - start) as usize;
        memory
            .reserve(skipped)
            .expect("a chunk holds a block")
            .fill(0);
        memory.publish(skipped);
        Self {
            segment: first.position.segment,
            start,
            first: Mark {
                at: first.position.at,
                offset: first.offset,
                times,
            },
            end: first,
            times,
            closed: false,
            is_in_segment: false,
            marks: Vec::new(),
            memory,
        }
    }

    pub(crate) fn segment(&self) -> Offset {
        self.segment
    }

    /// The boundary before its first batch.
    pub(crate) fn first(&self) -> LogPoint {
        LogPoint {
            position: self.position(self.first.at),
            offset: self.first.offset,
        }
    }

    /// The boundary after its last batch.
    pub(crate) fn end(&self) -> LogPoint {
        self.end
    }

    /// The times of the segment's batches up to its end.
    pub(crate) fn times(&self) -> SegmentTimes {
        self.times
    }

    /// Bytes of memory it holds.
    pub(crate) fn capacity(&self) -> usize {
        self.memory.capacity()
    }

    /// Bytes of memory that it uses.
    pub(crate) fn used(&self) -> usize {
        self.memory.len()
    }

    /// Where the bytes that it may still write to the file end: the whole blocks below `durable`, and the
    /// padded last one if that is the end of a closed chunk.
    pub(crate) fn spillable_end(&self, durable: LogPosition) -> u64 {
        if durable >= self.end.position {
            if self.closed {
                block_ceiling(self.end.position.at)
            } else {
                block_floor(self.end.position.at)
            }
        } else if durable.segment == self.segment {
            block_floor(durable.at).max(self.start)
        } else {
            self.start
        }
    }

    /// Whether all of it is in the segment file.
    pub(crate) fn is_flushed(&self, flushed: LogPosition) -> bool {
        self.closed && flushed >= self.position(block_ceiling(self.end.position.at))
    }

    /// Whether a batch of `len` bytes can be appended.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        !self.closed && self.memory.remaining() >= len
    }

    /// Whether it takes no more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether its blocks are the business of a group, and of nobody else.
    pub(crate) fn is_in_segment(&self) -> bool {
        self.is_in_segment
    }

    /// Leaves its blocks, all of them, to a group that writes them to the segment's file or has done so.
    pub(crate) fn leave_to_group(&mut self) {
        assert!(self.closed && self.start == self.first.at);
        self.is_in_segment = true;
    }

    /// Whether it begins with the first byte of a block.
    pub(crate) fn begins_a_block(&self) -> bool {
        self.start == self.first.at
    }

    /// All blocks of a closed chunk, the padded last one among them.
    pub(crate) fn blocks(&self) -> AlignedSlice {
        self.slice(self.start, self.blocks_end())
    }

    /// Where its blocks end in the file once it is closed.
    pub(crate) fn blocks_end(&self) -> u64 {
        block_ceiling(self.end.position.at)
    }

    /// The memory of the next batch.
    pub(crate) fn reserve(&mut self, len: usize) -> &mut [u8] {
        assert!(self.has_room(len));
        self.memory.reserve(len).expect("the room was checked")
    }

    /// Forgets the reserved memory.
    pub(crate) fn abandon(&mut self) {
        self.memory.abandon();
    }

    /// Makes the reserved batch, of these times, part of the log.
    pub(crate) fn publish(
        &mut self,
        len: usize,
        end_offset: Offset,
        times: BatchTimes,
        mark_interval: u64,
    ) {
        let at = self.end.position.at;
        let last_mark = self.marks.last().map_or(self.first.at, |mark| mark.at);
        if at - last_mark >= mark_interval {
            self.marks.push(Mark {
                at,
                offset: self.end.offset,
                times: self.times,
            });
        }
        self.memory.publish(len);
        self.times.note(times.append_time, times.max_timestamp);
        self.end = LogPoint {
            position: self.position(at + len as u64),
            offset: end_offset,
        };
    }

    /// Pads the chunk to a block and takes no more. Returns where the next chunk of this segment begins.
    pub(crate) fn close(&mut self) -> u64 {
        if !self.closed {
            self.memory.pad_to(crate::disk::BLOCK_BYTES);
            self.closed = true;
        }
        block_ceiling(self.end.position.at)
    }

    /// Bytes between two positions of the segment's file.
    pub(crate) fn slice(&self, from: u64, to: u64) -> AlignedSlice {
        self.memory
            .slice((from - self.start) as usize..(to - self.start) as usize)
    }

    /// The batches from a boundary on, each with its position.
    pub(crate) fn batches_from(&self, at: u64) -> impl Iterator<Item = (u64, BatchPeek)> {
        let bytes: &[u8] = &self.memory;
        let (start, end) = (self.start, self.end.position.at);
        let mut at = at;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let batch = peek(&bytes[(at - start) as usize..]);
            let found = (at, batch);
            at += u64::from(batch.length);
            Some(found)
        })
    }

    /// The first 8 bytes of the batch at `at`: its stamp's checksum and its CRC.
    pub(crate) fn batch_sums(&self, at: u64) -> &[u8] {
        let from = (at - self.start) as usize;
        &self.memory[from..from + 8]
    }

    /// The position of the batch that holds `offset`, which must be within the chunk.
    pub(crate) fn locate(&self, offset: Offset) -> u64 {
        assert!(offset >= self.first.offset && offset < self.end.offset);
        let known = self.marks.partition_point(|mark| mark.offset <= offset);
        let from = known
            .checked_sub(1)
            .map_or(self.first.at, |index| self.marks[index].at);
        self.batches_from(from)
            .find(|(_, batch)| offset < batch.end_offset)
            .map(|(at, _)| at)
            .expect("the chunk holds the offset")
    }

    /// The last boundary at or below `limit` that is not below `from`, itself a boundary.
    pub(crate) fn boundary_at_or_below(&self, from: LogPoint, limit: u64) -> LogPoint {
        assert!(
            from.position >= self.first().position && from.position.at <= limit.max(self.first.at)
        );
        if limit >= self.end.position.at {
            return self.end;
        }
        let known = self.marks.partition_point(|mark| mark.at <= limit);
        let mut boundary = from;
        if let Some(mark) = known.checked_sub(1).map(|index| self.marks[index])
            && mark.at > from.position.at
        {
            boundary = LogPoint {
                position: self.position(mark.at),
                offset: mark.offset,
            };
        }
        for (at, batch) in self.batches_from(boundary.position.at) {
            let end = at + u64::from(batch.length);
            if end > limit {
                break;
            }
            boundary = LogPoint {
                position: self.position(end),
                offset: batch.end_offset,
            };
        }
        boundary
    }

    /// The times of the segment's batches up to a boundary of this chunk.
    pub(crate) fn times_at(&self, boundary: LogPoint) -> SegmentTimes {
        if boundary.position == self.end.position {
            return self.times;
        }
        let limit = boundary.position.at;
        let known = self.marks.partition_point(|mark| mark.at <= limit);
        let from = known
            .checked_sub(1)
            .map_or(self.first, |index| self.marks[index]);
        let mut times = from.times;
        for (at, _) in self.batches_from(from.at).take_while(|(at, _)| *at < limit) {
            let batch = peek_times(&self.memory[(at - self.start) as usize..]);
            times.note(batch.append_time, batch.max_timestamp);
        }
        times
    }

    /// The batches worth an index entry: the first one and the marked ones.
    pub(crate) fn landmarks(&self) -> impl Iterator<Item = Mark> {
        std::iter::once(self.first).chain(self.marks.iter().copied())
    }

    /// Its memory, for reuse.
    pub(crate) fn into_memory(self) -> Chunk {
        self.memory
    }

    /// Moves its batches into larger memory. Readers keep the old one.
    pub(crate) fn grow(&mut self, mut memory: Chunk) -> Chunk {
        assert!(!self.closed && memory.capacity() > self.memory.capacity());
        let len = self.memory.len();
        memory
            .reserve(len)
            .expect("the new memory is larger")
            .copy_from_slice(&self.memory);
        memory.publish(len);
        std::mem::replace(&mut self.memory, memory)
    }

    fn position(&self, at: u64) -> LogPosition {
        LogPosition {
            segment: self.segment,
            at,
        }
    }
}
