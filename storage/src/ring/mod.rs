//! The auxiliary io_uring of each core: sockets and files as futures on the core's glommio executor.
//!
//! glommio owns the thread, its pinning, its tasks and their scheduling. Everything on the hot path goes
//! through a ring of our own, since glommio's sockets are one-shot polls and non-blocking calls (0.37 of the
//! throughput at 3.5 times the CPU). One task per core, the driver, talks to that ring; every other task
//! pushes operations without a system call and awaits their completion.
//!
//! Owns every `unsafe` that faces the kernel, and the memory of operations in flight: a future may be
//! dropped at any time, what the kernel may touch is freed only when it has completed. Never decides what is
//! written or sent. Runs on every core, one `Ring` each; nothing but `RingAddress` leaves its core.
//!
//! # What of glommio 0.9.0 is avoided here, and why
//! - *Its files.* If the first `DmaFile` that it opens on a device is empty or cannot be read, it takes the
//!   device for one that can be polled, spins, and takes 4 ms for each durable write. No `DmaFile` is ever
//!   opened: files are ours (`files`), which also spares its short `write_at` and its silent loss of
//!   `O_DIRECT` on tmpfs.
//! - *Its timers.* Its first sleep may take 8 ms instead of 1: `Ring::sleep` is a timeout of this ring.
//! - *Its channels between cores.* Their p99 was 1.7 ms under load: cores wake each other with `Ring::post`.
//! - *Preempt timers.* When one fires early it sleeps although tasks are runnable (`driver`).
//! - *Cancelling tasks.* Each cancelled task leaks 62 to 70 bytes: tasks are detached and end by themselves.
#![expect(
    unsafe_code,
    reason = "the kernel reads and writes memory that operations point to"
)]

mod buffers;
mod driver;
mod files;
mod mapping;
mod message;
mod multishot;
mod op;
mod probe;
#[expect(
    clippy::module_inception,
    reason = "the module is named by what it owns, and so is its main type's file"
)]
mod ring;
mod send_pace;
mod slots;
mod sockets;

pub use buffers::{BufferConfig, Piece};
pub use driver::PREEMPT_TIMER;
pub use files::{Directory, FileStatus, HeldFile, RingFile};
pub use message::RingAddress;
pub use multishot::{Acceptor, ReceiveControl, Receiver};
pub use probe::{
    Features, KernelVersion, LEAST_KERNEL, ProbeError, SUBSTITUTED, operations, probe,
    probe_without,
};
pub use ring::{Ring, RingConfig, RingStats};
pub use sockets::{SendBatch, SendPart, Socket};
