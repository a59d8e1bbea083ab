//! The broker as a whole: one thread for each core, from the first look at the kernel to the last flush.
//!
//! Owns the threads, the lock on the data directory, and the order in which cores start and end together.
//! Never handles a signal and never prints: whoever embeds a broker does. [`serve`] runs on the caller's
//! thread; everything else runs on the core that it belongs to.
//!
//! # Start
//! lock → kernel → sockets are bound → threads and rings → directory and metadata log (core 0) → stores are
//! recovered and made to hold what the metadata says (all cores) → listen → ready.
//!
//! # End
//! requests in flight are answered (all cores) → mail stops → stores commit and close → the metadata log is
//! marked clean (core 0) → rings close → threads end.
//!
//! # What of glommio 0.9.0 matters here
//! Executors are started once and for the life of the broker: each leaks an eventfd, and about one start in some
//! hundred takes seconds (membarrier registration waits for the kernel), so nothing here runs out of
//! patience at start. It has no shutdown of an executor: tasks end by themselves (`io::TaskGroup`) before
//! the main future of a core returns. A panic in `spawn_blocking` leaves its future waiting for ever.

mod clock;
mod cores;
mod error;
mod executor;
mod guard;
mod life;
mod link;
mod machine;
mod metadata_log;
mod open_files;
mod prepare;
mod running;
mod shell;
mod start;
mod timer;
mod work;

pub(crate) use clock::Clock;
pub use error::{StartError, StopError};
pub use machine::{free_memory_bytes, this_machine};
/// The log of the controller, for whoever brings a shell of its own.
pub use metadata_log::{MetadataLog, Rewriting};
pub use running::{Running, ShutdownHandle};
pub use start::{serve, serve_probed};
