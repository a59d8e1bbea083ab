//! The memory of tails: taken under the ledger, and given back when nobody reads it.
//!
//! Owns what readers still hold of chunks that left their tail. Belongs to the core that runs the store.

use std::rc::Rc;

use super::TailChunk;
use crate::memory::{Chunk, Ledger, LedgerFull, MemoryKind};

/// Hands out chunks. Every byte that it has handed out is reserved in the ledger as `Tail`.
#[derive(Debug)]
pub(crate) struct ChunkPool {
    ledger: Rc<Ledger>,
    /// Bytes of all that was handed out and is not back.
    held: usize,
    /// Chunks that left their tail while a reader had slices of them.
    lent: Vec<Chunk>,
}

impl ChunkPool {
    pub(crate) fn new(ledger: Rc<Ledger>) -> Self {
        Self {
            ledger,
            held: 0,
            lent: Vec::new(),
        }
    }

    /// An empty chunk.
    ///
    /// # Errors
    /// `LedgerFull`; the caller may evict and try again.
    pub(crate) fn take(&mut self, capacity: usize) -> Result<Chunk, LedgerFull> {
        self.ledger.reserve(MemoryKind::Tail, capacity)?;
        self.held += capacity;
        Ok(Chunk::with_capacity(capacity))
    }

    /// An empty chunk for a replay, whose bound is the journal's size.
    pub(crate) fn take_unbounded(&mut self, capacity: usize) -> Chunk {
        self.ledger.reserve_unbounded(MemoryKind::Tail, capacity);
        self.held += capacity;
        Chunk::with_capacity(capacity)
    }

    /// Takes a chunk's memory back.
    pub(crate) fn give(&mut self, chunk: TailChunk) {
        self.give_memory(chunk.into_memory());
    }

    /// Takes memory back.
    pub(crate) fn give_memory(&mut self, memory: Chunk) {
        match memory.try_into_buf() {
            Ok(buffer) => {
                self.held -= buffer.capacity();
                self.ledger.release(MemoryKind::Tail, buffer.capacity());
            }
            Err(memory) => self.lent.push(memory),
        }
    }

    /// Bytes of all chunks that were handed out and are not back.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Takes back what readers have let go since.
    pub(crate) fn collect(&mut self) {
        for memory in std::mem::take(&mut self.lent) {
            self.give_memory(memory);
        }
    }
}

impl Drop for ChunkPool {
    fn drop(&mut self) {
        for memory in self.lent.drain(..) {
            self.ledger.release(MemoryKind::Tail, memory.capacity());
        }
    }
}
