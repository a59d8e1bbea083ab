//! The times of a segment's batches: what retention, rolling and the time index go by.
//!
//! Owns the rule how a batch adds to them. Times are ms since 1970, and come from outside. Pure; used on the
//! core that runs the store.

use corelane_protocol::Timestamp;

/// The times of a segment's batches, from its first one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentTimes {
    /// The earliest append.
    pub first_append: Timestamp,
    /// The latest append.
    pub last_append: Timestamp,
    /// The largest timestamp of a record, by the producers' clocks or the broker's, as the topic has it.
    pub max_timestamp: Timestamp,
}

impl SegmentTimes {
    /// Those of no batch at all.
    pub const NONE: Self = Self {
        first_append: Timestamp::new(i64::MAX),
        last_append: Timestamp::new(i64::MIN),
        max_timestamp: Timestamp::new(i64::MIN),
    };

    /// Adds a batch.
    pub(crate) fn note(&mut self, append_time: Timestamp, max_timestamp: Timestamp) {
        self.first_append = self.first_append.min(append_time);
        self.last_append = self.last_append.max(append_time);
        self.max_timestamp = self.max_timestamp.max(max_timestamp);
    }

    /// ms since the first append; nothing if there was none. A clock that went back makes it 0.
    pub(crate) fn age_ms(&self, now: Timestamp) -> Option<u64> {
        (*self != Self::NONE).then(|| elapsed_ms(self.first_append, now))
    }
}

/// ms from one time to a later one; 0 if it is not later.
pub(crate) fn elapsed_ms(from: Timestamp, to: Timestamp) -> u64 {
    to.get().saturating_sub(from.get()).max(0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_add_up_in_any_order_of_their_times() {
        let mut times = SegmentTimes::NONE;
        assert_eq!(times.age_ms(Timestamp::new(5)), None);
        times.note(Timestamp::new(100), Timestamp::new(7));
        times.note(Timestamp::new(90), Timestamp::new(900));
        times.note(Timestamp::new(95), Timestamp::new(-3));
        assert_eq!(
            (times.first_append, times.last_append, times.max_timestamp),
            (Timestamp::new(90), Timestamp::new(100), Timestamp::new(900))
        );
        assert_eq!(times.age_ms(Timestamp::new(150)), Some(60));
        assert_eq!(times.age_ms(Timestamp::new(0)), Some(0));
    }
}
