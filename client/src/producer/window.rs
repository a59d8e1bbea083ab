//! How many request bytes may be in flight on one connection.
//!
//! Owns: the limit (the smaller of our setting and the broker's), what is outstanding, the broker's
//! credit and throttle hints. Never: sends; the engine asks before it does.

use std::time::Duration;

/// The flow control of one connection, with time passed in (since the producer started).
#[derive(Debug)]
pub(crate) struct Window {
    /// The limit agreed at the start of the connection, in bytes.
    limit_bytes: u64,
    /// What the broker's last credit allows us to have outstanding, at most `limit_bytes`.
    allowed_bytes: u64,
    outstanding_bytes: u64,
    throttled_until: Duration,
}

impl Window {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        assert!(limit_bytes > 0, "a window must allow something");
        Self {
            limit_bytes,
            allowed_bytes: limit_bytes,
            outstanding_bytes: 0,
            throttled_until: Duration::ZERO,
        }
    }

    /// Counts a request as sent.
    pub(crate) fn sent(&mut self, bytes: u64) {
        self.outstanding_bytes += bytes;
    }

    /// Counts a request as answered, and takes in the hints of the response's header.
    ///
    /// The broker's credit says how much it would take beyond what it *holds*. It holds at most what
    /// we have outstanding, so outstanding plus credit is the most it can have meant; the next
    /// answers correct it downwards.
    pub(crate) fn answered(&mut self, now: Duration, bytes: u64, hints: Hints) {
        self.outstanding_bytes = self
            .outstanding_bytes
            .checked_sub(bytes)
            .expect("an answer frees what its request took");
        self.allowed_bytes = self
            .limit_bytes
            .min(self.outstanding_bytes + u64::from(hints.credit_bytes));
        if hints.throttle_ms > 0 {
            let until = now + Duration::from_millis(u64::from(hints.throttle_ms));
            self.throttled_until = self.throttled_until.max(until);
        }
    }

    /// How many more bytes may be sent now. With nothing outstanding one request may always go,
    /// however large, or a small limit would stop the connection for ever.
    pub(crate) fn room_bytes(&self, now: Duration) -> u64 {
        if now < self.throttled_until {
            return 0;
        }
        if self.outstanding_bytes == 0 {
            return self.limit_bytes.max(1);
        }
        self.allowed_bytes.saturating_sub(self.outstanding_bytes)
    }

    /// When a throttle ends, if one holds at `now`.
    pub(crate) fn throttled_until(&self, now: Duration) -> Option<Duration> {
        (now < self.throttled_until).then_some(self.throttled_until)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.outstanding_bytes == 0
    }
}

/// The flow-control fields of a response header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hints {
    pub(crate) credit_bytes: u32,
    pub(crate) throttle_ms: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn credit(credit_bytes: u32) -> Hints {
        Hints {
            credit_bytes,
            throttle_ms: 0,
        }
    }

    #[test]
    fn the_limit_bounds_what_is_outstanding() {
        let mut window = Window::new(100);
        window.sent(60);
        assert_eq!(window.room_bytes(NOW), 40);
        window.sent(40);
        assert_eq!(window.room_bytes(NOW), 0);
        window.answered(NOW, 60, credit(1_000));
        assert_eq!(window.room_bytes(NOW), 60);
    }

    #[test]
    fn little_credit_shrinks_the_window_until_more_is_given() {
        let mut window = Window::new(100);
        window.sent(50);
        window.sent(50);
        window.answered(NOW, 50, credit(10));
        assert_eq!(window.room_bytes(NOW), 10);
        window.sent(10);
        window.answered(NOW, 50, credit(90));
        assert_eq!(window.room_bytes(NOW), 90);
    }

    #[test]
    fn no_credit_never_stops_an_idle_connection() {
        let mut window = Window::new(100);
        window.sent(100);
        window.answered(NOW, 100, credit(0));
        assert!(window.is_idle());
        assert_eq!(window.room_bytes(NOW), 100);
    }

    #[test]
    fn a_throttle_holds_for_its_time() {
        let mut window = Window::new(100);
        window.sent(1);
        let hints = Hints {
            credit_bytes: 100,
            throttle_ms: 5,
        };
        window.answered(NOW, 1, hints);
        assert_eq!(window.room_bytes(NOW), 0);
        let end = NOW + Duration::from_millis(5);
        assert_eq!(window.throttled_until(NOW), Some(end));
        assert_eq!(window.room_bytes(end), 100);
        assert_eq!(window.throttled_until(end), None);
    }
}
