//! The in-memory end of a partition's log, which mirrors the end of its segment files.
//!
//! Owns the chunks from the first batch that is not wholly in a segment file (or is still cached) to the
//! log's end. Never does I/O, never decides what is durable. Belongs to the core that runs the store.

mod chunk;
mod pool;

use std::collections::VecDeque;

use corelane_protocol::{Offset, Timestamp};

pub(crate) use chunk::{Mark, TailChunk};
pub(crate) use pool::ChunkPool;

use crate::layout::block_ceiling;
use crate::memory::{AlignedSlice, Chunk, ChunkSlice};
use crate::position::{LogPoint, LogPosition};
use crate::times::SegmentTimes;

/// The first chunk of a partition that has none.
pub(crate) const CHUNK_BYTES_MIN: usize = 4096;
/// The largest chunk, unless a single batch is larger.
pub(crate) const CHUNK_BYTES_MAX: usize = 1 << 20;
/// The largest chunk while memory is scarce, unless a single batch is larger.
const CHUNK_BYTES_SCARCE: usize = 16 << 10;
/// From this size on a batch gets a chunk of its own size, so that little of one stays unused.
const OWN_CHUNK_BYTES: usize = CHUNK_BYTES_MAX / 2;

/// The most memory that batches take while it is scarce, in bytes: each may need a chunk of its own.
pub(crate) fn memory_bytes_max(batches: u32, bytes: usize) -> usize {
    2 * bytes + batches as usize * CHUNK_BYTES_SCARCE
}

/// The chunks of a partition, oldest first. They follow each other without gaps but for padding and rolls.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    chunks: VecDeque<TailChunk>,
}

/// Consecutive batches found in memory.
#[derive(Debug)]
pub(crate) struct TailRead {
    /// The batches' bytes, in order.
    pub(crate) parts: Vec<ChunkSlice>,
    /// Their sum.
    pub(crate) bytes: usize,
    /// The offset after the last of them.
    pub(crate) next_offset: Offset,
}

/// How much a read may return.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadLimit {
    /// Nothing at or beyond this boundary.
    pub(crate) end: LogPoint,
    /// Bytes of batches.
    pub(crate) bytes_max: usize,
    /// Whether the first batch is returned even if it alone exceeds `bytes_max`.
    pub(crate) at_least_one: bool,
}

impl Tail {
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The boundary before its first batch, if it has any memory.
    pub(crate) fn first(&self) -> Option<LogPoint> {
        self.chunks.front().map(TailChunk::first)
    }

    /// The chunk that takes a batch of `len` bytes for this segment as it is, if there is one.
    pub(crate) fn open_chunk(&mut self, segment: Offset, len: usize) -> Option<&mut TailChunk> {
        self.chunks
            .back_mut()
            .filter(|chunk| chunk.segment() == segment && chunk.has_room(len))
    }

    /// The last chunk.
    pub(crate) fn last(&self) -> Option<&TailChunk> {
        self.chunks.back()
    }

    /// The last chunk.
    pub(crate) fn last_mut(&mut self) -> Option<&mut TailChunk> {
        self.chunks.back_mut()
    }

    /// The capacity of the chunk that should take a batch of `len` bytes next: twice what the last one came
    /// to hold, so that a partition that trickles, or rolls often, stays with small ones.
    /// While memory is scarce it stays small with all of them.
    pub(crate) fn next_capacity(&self, len: usize, is_scarce: bool) -> usize {
        let needed = block_ceiling(len as u64) as usize;
        if len >= OWN_CHUNK_BYTES {
            return needed;
        }
        let held = self.chunks.back().map_or(0, TailChunk::used);
        let most = if is_scarce {
            CHUNK_BYTES_SCARCE
        } else {
            CHUNK_BYTES_MAX
        };
        let wanted = (held.next_power_of_two() * 2).clamp(CHUNK_BYTES_MIN, most);
        wanted.max(needed.next_power_of_two())
    }

    /// Closes the last chunk. Returns where the next one of its segment begins, if there was one.
    pub(crate) fn close_last(&mut self) -> Option<u64> {
        self.chunks.back_mut().map(TailChunk::close)
    }

    /// Adds an empty chunk; the last one must be closed, or end where this one begins.
    /// `times` are those of its segment's batches before it.
    pub(crate) fn push(
        &mut self,
        first: LogPoint,
        times: SegmentTimes,
        memory: Chunk,
    ) -> &mut TailChunk {
        self.chunks.push_back(TailChunk::new(first, times, memory));
        self.chunks.back_mut().expect("it was just added")
    }

    /// Takes the oldest chunk if all of it is in the segment file.
    pub(crate) fn pop_flushed(&mut self, flushed: LogPosition) -> Option<TailChunk> {
        if self.chunks.front()?.is_flushed(flushed) {
            self.chunks.pop_front()
        } else {
            None
        }
    }

    /// Whether `pop_flushed` would take a chunk.
    pub(crate) fn has_flushed(&self, flushed: LogPosition) -> bool {
        self.chunks
            .front()
            .is_some_and(|chunk| chunk.is_flushed(flushed))
    }

    /// Takes all memory.
    pub(crate) fn take(&mut self) -> VecDeque<TailChunk> {
        std::mem::take(&mut self.chunks)
    }

    /// The chunks with batches after a boundary.
    pub(crate) fn chunks_after(&self, boundary: LogPosition) -> impl Iterator<Item = &TailChunk> {
        let after = self
            .chunks
            .partition_point(|chunk| chunk.end().position <= boundary);
        self.chunks
            .iter()
            .skip(after)
            .filter(|chunk| chunk.first().position < chunk.end().position)
    }

    /// Batches from the one that holds `from` on, or nothing if that is not in memory.
    ///
    /// `from` must be below `limit.end`.
    pub(crate) fn read(&self, from: Offset, limit: ReadLimit) -> Option<TailRead> {
        let first = self
            .chunks
            .partition_point(|chunk| chunk.end().offset <= from);
        if self.chunks.get(first)?.first().offset > from {
            return None;
        }
        let mut read = TailRead {
            parts: Vec::new(),
            bytes: 0,
            next_offset: from,
        };
        for (index, chunk) in self.chunks.iter().enumerate().skip(first) {
            let start = if index == first {
                let at = chunk.locate(from);
                LogPoint {
                    position: LogPosition {
                        segment: chunk.segment(),
                        at,
                    },
                    offset: from,
                }
            } else {
                chunk.first()
            };
            if start.position >= limit.end.position {
                break;
            }
            let end = if chunk.end().position <= limit.end.position {
                chunk.end()
            } else {
                limit.end
            };
            if !read.extend(chunk, start, end, limit) {
                break;
            }
        }
        Some(read)
    }

    /// Where to look for a record at or after `timestamp` whose offset is not below `from`: the offset of the
    /// first chunk that may have one.
    pub(crate) fn first_at_time(&self, from: Offset, timestamp: Timestamp) -> Option<Offset> {
        self.chunks
            .iter()
            .filter(|chunk| chunk.end().offset > from)
            .find(|chunk| chunk.times().max_timestamp >= timestamp)
            .map(|chunk| chunk.first().offset.max(from))
    }

    /// What can be written to the file of a segment from `from` on, at most about `bytes_max`: whole blocks,
    /// and the padded last one of a closed chunk.
    pub(crate) fn spillable(
        &self,
        from: LogPosition,
        durable: LogPosition,
        bytes_max: u64,
    ) -> Spillable {
        let mut spillable = Spillable {
            blocks: Vec::new(),
            end: from.at,
            whole: None,
            is_ragged: false,
        };
        for chunk in self
            .chunks
            .iter()
            .filter(|chunk| chunk.segment() == from.segment)
        {
            let end = chunk.spillable_end(durable);
            if end <= spillable.end {
                continue;
            }
            if end <= chunk.first().position.at {
                // Nothing of this chunk is durable, and what is before it is not all spillable yet.
                break;
            }
            if spillable.end - from.at >= bytes_max {
                break;
            }
            if !chunk.is_in_segment() {
                let blocks = chunk.slice(spillable.end, end);
                spillable.blocks.push((spillable.end, blocks));
            }
            let whole = chunk.boundary_at_or_below(chunk.first(), end);
            spillable.is_ragged = whole.position.at < end && whole != chunk.end();
            spillable.whole = Some((whole, chunk.times_at(whole)));
            spillable.end = end;
        }
        spillable
    }

    /// Leaves the blocks of the chunk that begins at a place to a group.
    pub(crate) fn leave_to_group(&mut self, first: LogPosition) {
        let chunks = self.chunks.iter_mut().rev();
        let mut found = chunks.skip_while(|chunk| chunk.first().position != first);
        let chunk = found.next().expect("the group was filled from it");
        chunk.leave_to_group();
    }

    /// Where the last blocks end that groups have written to a segment's file, if any have.
    pub(crate) fn group_blocks_end(&self, segment: Offset) -> Option<u64> {
        let chunks = self.chunks.iter().rev();
        let mut written =
            chunks.filter(|chunk| chunk.segment() == segment && chunk.is_in_segment());
        written.next().map(TailChunk::blocks_end)
    }

    /// Bytes beyond what is flushed that groups have written to segments' files.
    pub(crate) fn group_bytes(&self, flushed: LogPosition) -> u64 {
        let chunks = self.chunks.iter();
        let chunks = chunks.filter(|chunk| chunk.is_in_segment() && !chunk.is_flushed(flushed));
        chunks
            .map(|chunk| chunk.blocks_end() - chunk.first().position.at)
            .sum()
    }

    /// The batches worth an index entry that begin between two positions of a segment.
    pub(crate) fn landmarks(
        &self,
        segment: Offset,
        from: u64,
        to: u64,
    ) -> impl Iterator<Item = Mark> {
        let chunks = self
            .chunks
            .iter()
            .filter(move |chunk| chunk.segment() == segment && chunk.first().position.at < to);
        chunks
            .flat_map(TailChunk::landmarks)
            .filter(move |mark| mark.at >= from && mark.at < to)
    }
}

/// What of a tail can be written to a segment's file.
#[derive(Debug)]
pub(crate) struct Spillable {
    /// The blocks, in order, each slice with its position. Those that groups have written are left out.
    pub(crate) blocks: Vec<(u64, AlignedSlice)>,
    /// Where they end in the file, with those that are left out.
    pub(crate) end: u64,
    /// The boundary after the last batch that ends there or before, if any ends among them.
    pub(crate) whole: Option<(LogPoint, SegmentTimes)>,
    /// Whether a batch crosses their end.
    pub(crate) is_ragged: bool,
}

impl TailRead {
    /// Adds a chunk's batches between two boundaries as far as the limit allows. Returns whether more of the
    /// next chunk may be added.
    fn extend(
        &mut self,
        chunk: &TailChunk,
        start: LogPoint,
        end: LogPoint,
        limit: ReadLimit,
    ) -> bool {
        let room = limit.bytes_max.saturating_sub(self.bytes) as u64;
        let available = end.position.at - start.position.at;
        let mut stop = end;
        if available > room {
            stop = chunk.boundary_at_or_below(start, start.position.at + room);
            if stop.position == start.position {
                if self.bytes > 0 || !limit.at_least_one {
                    return false;
                }
                let (at, first) = chunk
                    .batches_from(start.position.at)
                    .next()
                    .expect("a batch begins below the end");
                let after = LogPosition {
                    segment: chunk.segment(),
                    at: at + u64::from(first.length),
                };
                stop = LogPoint {
                    position: after,
                    offset: first.end_offset,
                };
            }
        }
        self.bytes += (stop.position.at - start.position.at) as usize;
        self.parts
            .push(chunk.slice(start.position.at, stop.position.at));
        self.next_offset = stop.offset;
        stop == end
    }
}
