//! What this machine can do at most, and a sender that adds nothing of its own: the yardsticks that stand
//! beside every figure of the broker.
//!
//! Owns the small limits ([`limits`]), the relay ([`relay`]), the raw sender ([`sender`]) and the accounting
//! of CPU and latency around them. Never part of what serves: only the load generator imports this crate, for its
//! facts about the machine and its accounting. The Criterion benches of the hot paths are in `benches/`.

pub mod beside;
pub mod broker;
pub mod child;
pub mod clock;
pub mod cpu;
pub mod error;
pub mod frames;
pub mod hostile;
pub mod idle;
pub mod latency;
pub mod limits;
pub mod machine;
mod open_files;
pub mod outstanding;
pub mod partitions;
pub mod relay;
pub mod scratch;
pub mod sender;
pub mod series;
pub mod table;
pub mod wait;

pub use error::BenchError;
