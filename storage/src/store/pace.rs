//! How much of the disk's time work in the background takes.
//!
//! Owns the count of bytes that may be read, which ticks give. Does no I/O.

use corelane_protocol::Timestamp;

use crate::times::elapsed_ms;

/// Bytes of one read in the background, unless a batch is larger.
pub(super) const PIECE_BYTES: u64 = 256 << 10;

/// Bytes that may be read now.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    pub(super) allowance: u64,
    given_at: Option<Timestamp>,
}

impl Pace {
    /// Adds what the time since the last call allows. Returns whether a piece can be read.
    pub(super) fn give(&mut self, now: Timestamp, bytes_per_second: u64) -> bool {
        let since = self.given_at.replace(now).unwrap_or(now);
        let ms = elapsed_ms(since, now).min(1000);
        let given = bytes_per_second.saturating_mul(ms) / 1000;
        if given == 0 && ms > 0 && bytes_per_second > 0 {
            // Too little time to count: the next call counts it.
            self.given_at = Some(since);
        }
        self.allowance = (self.allowance + given).min(bytes_per_second.max(PIECE_BYTES));
        self.allowance >= PIECE_BYTES
    }

    /// Takes so many bytes, if they may be read now. A batch larger than what is ever allowed at once is read all the
    /// same.
    pub(super) fn take(&mut self, bytes: u64) -> bool {
        let may_read = self.allowance >= bytes.min(PIECE_BYTES);
        if may_read {
            self.allowance = self.allowance.saturating_sub(bytes);
        }
        may_read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_however_often_the_time_is_told() {
        for step_ms in [1, 7, 50, 400] {
            let mut pace = Pace::default();
            let (mut read, mut now) = (0, 0);
            while now < 60_000 {
                now += step_ms;
                if pace.give(Timestamp::new(now), 100_000) {
                    pace.allowance -= PIECE_BYTES;
                    read += PIECE_BYTES;
                }
            }
            let expected = 6_000_000;
            assert!(
                (expected - 600_000..=expected).contains(&read),
                "{step_ms} ms: {read}"
            );
        }
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let mut pace = Pace::default();
        pace.give(Timestamp::new(0), 1 << 20);
        assert!(pace.give(Timestamp::new(3_600_000), 1 << 20));
        assert_eq!(pace.allowance, 1 << 20);
        assert!(!Pace::default().give(Timestamp::new(5), 0));
    }
}
