//! The aligned memory of one core: buffers for direct I/O, append-only chunks that are read while they
//! grow, and the ledger that bounds them.
//!
//! Owns all memory that the kernel or a reader may see while somebody else holds it, and the `unsafe` that
//! this takes. Never does I/O and never decides what the bytes mean. Runs on every core; nothing here is
//! `Send`, so a core's memory stays on that core.
#![expect(
    unsafe_code,
    reason = "raw allocations, and slices of memory that is appended to while it is read"
)]

mod allocation;
mod buffer;
mod chunk;
mod ledger;

pub use buffer::AlignedBuf;
pub use chunk::{AlignedSlice, Chunk, ChunkSlice};
pub use ledger::{Ledger, LedgerFull, MemoryKind};

/// The alignment of every buffer, in bytes: what direct I/O asks of memory on any device we support.
pub const ALIGNMENT: usize = 4096;

/// Buffers of at least this many bytes ask the kernel for huge pages.
pub const HUGE_PAGE_BYTES: usize = 2 * 1024 * 1024;
