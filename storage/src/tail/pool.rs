//! The memory of tails: taken under the ledger, kept for reuse, given back when nobody reads it.
//!
//! Owns free chunks, by their size, and those that readers still hold. Belongs to the core that runs
//! the store.

use std::rc::Rc;

use super::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, TailChunk};
use crate::memory::{AlignedBuf, Chunk, Ledger, LedgerFull, MemoryKind};

/// Free memory that is kept: enough for a burst, little enough to be no loss.
const FREE_BYTES_MAX: usize = 16 << 20;
/// Sizes that are kept apart: the powers of two from the smallest chunk to the largest.
const SIZES: usize = (CHUNK_BYTES_MAX / CHUNK_BYTES_MIN).ilog2() as usize + 1;

/// Hands out chunks. Every byte it has handed out or keeps is reserved in the ledger as `Tail`.
#[derive(Debug)]
pub(crate) struct ChunkPool {
    ledger: Rc<Ledger>,
    free: [Vec<AlignedBuf>; SIZES],
    free_bytes: usize,
    /// Chunks that left their tail while a reader had slices of them.
    lent: Vec<Chunk>,
}

impl ChunkPool {
    pub(crate) fn new(ledger: Rc<Ledger>) -> Self {
        Self {
            ledger,
            free: Default::default(),
            free_bytes: 0,
            lent: Vec::new(),
        }
    }

    /// An empty chunk.
    ///
    /// # Errors
    /// `LedgerFull`; the caller may evict and try again.
    pub(crate) fn take(&mut self, capacity: usize) -> Result<Chunk, LedgerFull> {
        if let Some(free) = size(capacity).and_then(|size| self.free[size].pop()) {
            self.free_bytes -= capacity;
            return Ok(Chunk::from_buf(free));
        }
        self.ledger.reserve(MemoryKind::Tail, capacity)?;
        Ok(Chunk::with_capacity(capacity))
    }

    /// Whether `take` has such a chunk without reserving more.
    pub(crate) fn has_free(&self, capacity: usize) -> bool {
        size(capacity).is_some_and(|size| !self.free[size].is_empty())
    }

    /// An empty chunk for a replay, whose bound is the journal's size.
    pub(crate) fn take_unbounded(&mut self, capacity: usize) -> Chunk {
        self.ledger.reserve_unbounded(MemoryKind::Tail, capacity);
        Chunk::with_capacity(capacity)
    }

    /// Takes a chunk's memory back.
    pub(crate) fn give(&mut self, chunk: TailChunk) {
        self.give_memory(chunk.into_memory());
    }

    /// Takes memory back.
    pub(crate) fn give_memory(&mut self, memory: Chunk) {
        match memory.try_into_buf() {
            Ok(buffer) => self.keep_or_free(buffer),
            Err(memory) => self.lent.push(memory),
        }
    }

    /// Takes back what readers have let go since.
    pub(crate) fn collect(&mut self) {
        for memory in std::mem::take(&mut self.lent) {
            self.give_memory(memory);
        }
    }

    /// Frees what is kept for reuse.
    pub(crate) fn trim(&mut self) {
        for buffer in self.free.iter_mut().flat_map(|free| free.drain(..)) {
            self.ledger.release(MemoryKind::Tail, buffer.capacity());
        }
        self.free_bytes = 0;
    }

    fn keep_or_free(&mut self, buffer: AlignedBuf) {
        let capacity = buffer.capacity();
        match size(capacity) {
            Some(size) if self.free_bytes + capacity <= FREE_BYTES_MAX => {
                self.free_bytes += capacity;
                self.free[size].push(buffer);
            }
            _ => self.ledger.release(MemoryKind::Tail, capacity),
        }
    }
}

/// Where chunks of this capacity are kept, if they are.
fn size(capacity: usize) -> Option<usize> {
    let is_kept =
        capacity.is_power_of_two() && (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&capacity);
    is_kept.then(|| (capacity / CHUNK_BYTES_MIN).ilog2() as usize)
}

impl Drop for ChunkPool {
    fn drop(&mut self) {
        self.trim();
        for memory in self.lent.drain(..) {
            self.ledger.release(MemoryKind::Tail, memory.capacity());
        }
    }
}
