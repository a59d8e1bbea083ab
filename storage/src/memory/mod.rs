//! The aligned memory of one core, in huge pages: buffers for direct I/O, append-only chunks that are read while
//! they grow, and the ledger that bounds them.
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
mod page_map;
mod preparer;
mod slab_memory;
mod slabs;

pub use buffer::AlignedBuf;
pub use chunk::{AlignedSlice, Chunk, ChunkSlice};
pub use ledger::{Ledger, LedgerFull, MemoryKind};
pub use slabs::prepare_ahead;

/// The alignment of every buffer, in bytes: what direct I/O asks of memory on any device we support.
pub const ALIGNMENT: usize = 4096;

/// The bytes of a huge page, which the kernel is asked for.
pub const HUGE_PAGE_BYTES: usize = 2 * 1024 * 1024;
