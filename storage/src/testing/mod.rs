//! What tests and the simulator run on: a deterministic executor, its source of randomness, and virtual time.
//!
//! Owns the order of events under a seed. Never reads a clock, starts a thread or asks the system for
//! randomness, so one seed always gives one run. Compiled for tests and the feature `testing` only.

mod clock;
mod executor;
mod random;

pub use clock::Clock;
pub use executor::{Executor, JoinHandle, Spawner, yield_now};
pub use random::Random;
