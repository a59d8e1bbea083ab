//! One core's disk: aligned memory, the `Disk` seam and its implementations, and the logs built on them.
//!
//! Owns every byte that Corelane keeps on disk. Never knows topics' policies, networks or clients, never
//! reads a clock, and never shares anything between cores: whatever lives here belongs to the core that
//! made it, and most of it is `!Send`.
#![deny(unsafe_code)]

pub mod block_log;
pub mod catalogue;
pub mod compaction;
pub mod directory;
pub mod disk;
pub mod distribution;
pub mod dump;
pub mod epochs;
pub mod index;
pub mod journal;
mod layout;
pub mod memory;
#[doc(hidden)]
pub mod planted;
pub mod position;
pub mod producers;
mod recovery;
pub mod ring;
pub mod segment;
pub mod store;
mod tail;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod times;

pub use store::Store;
