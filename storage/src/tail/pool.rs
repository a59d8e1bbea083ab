//! The memory of tails: taken under the ledger, kept for reuse, given back when nobody reads it.
//!
//! Owns free chunks of the largest size and those that readers still hold. Belongs to the core that runs
//! the store.

use std::rc::Rc;

use super::{CHUNK_BYTES_MAX, TailChunk};
use crate::memory::{AlignedBuf, Chunk, Ledger, LedgerFull, MemoryKind};

/// Most free chunks that are kept: enough for a burst, little enough to be no loss.
const FREE_CHUNKS_MAX: usize = 4;

/// Hands out chunks. Every byte it has handed out or keeps is reserved in the ledger as `Tail`.
#[derive(Debug)]
pub(crate) struct ChunkPool {
    ledger: Rc<Ledger>,
    free: Vec<AlignedBuf>,
    /// Chunks that left their tail while a reader had slices of them.
    lent: Vec<Chunk>,
}

impl ChunkPool {
    pub(crate) fn new(ledger: Rc<Ledger>) -> Self {
        Self {
            ledger,
            free: Vec::new(),
            lent: Vec::new(),
        }
    }

    /// An empty chunk.
    ///
    /// # Errors
    /// `LedgerFull`; the caller may evict and try again.
    pub(crate) fn take(&mut self, capacity: usize) -> Result<Chunk, LedgerFull> {
        if capacity == CHUNK_BYTES_MAX
            && let Some(free) = self.free.pop()
        {
            return Ok(Chunk::from_buf(free));
        }
        self.ledger.reserve(MemoryKind::Tail, capacity)?;
        Ok(Chunk::with_capacity(capacity))
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
        for buffer in self.free.drain(..) {
            self.ledger.release(MemoryKind::Tail, buffer.capacity());
        }
    }

    fn keep_or_free(&mut self, buffer: AlignedBuf) {
        if buffer.capacity() == CHUNK_BYTES_MAX && self.free.len() < FREE_CHUNKS_MAX {
            self.free.push(buffer);
        } else {
            self.ledger.release(MemoryKind::Tail, buffer.capacity());
        }
    }
}

impl Drop for ChunkPool {
    fn drop(&mut self) {
        self.trim();
        for memory in self.lent.drain(..) {
            self.ledger.release(MemoryKind::Tail, memory.capacity());
        }
    }
}
