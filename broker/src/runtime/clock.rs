//! The core's clocks, as deciding code is told them.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use corelane_protocol::Timestamp;

use crate::lane::Now;

/// Reads the wall clock and a monotonic clock. One per core, from the same beginning.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    beginning: Instant,
}

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the shell tells deciding code the time"
    )]
    pub(crate) fn start() -> Self {
        Self {
            beginning: Instant::now(),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the shell tells deciding code the time"
    )]
    pub(crate) fn now(&self) -> Now {
        // A clock before 1970 is not set at all.
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            wall: Timestamp::new(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)),
            monotonic_us: u64::try_from(self.beginning.elapsed().as_micros()).unwrap_or(u64::MAX),
        }
    }
}
