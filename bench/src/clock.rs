//! Time since a common start, in nanoseconds, the same on every core.

use std::time::{Duration, Instant};

/// A start that times are counted from.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Begins now.
    #[expect(
        clippy::disallowed_methods,
        reason = "measuring is what this crate is for"
    )]
    #[must_use]
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub fn ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
