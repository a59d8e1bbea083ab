//! What clients know of compaction: which topics may be compacted, and how long records without a value have to stay.
//!
//! Owns when such a record may be gone, as a user reads `delete.retention.ms`: by the broker's clock, no earlier than so
//! long after it was sent.

use std::collections::{BTreeSet, VecDeque};

use corelane_checker::RecordNumber;

use crate::keeping::Wall;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Compacting {
    /// Topics that may be compacted.
    names: BTreeSet<String>,
    /// For how long records without a value have to stay, ms.
    pub(crate) delete_retention_ms: u64,
    /// Those that have to stay yet, and when they were sent, µs.
    tombstones: VecDeque<(u64, RecordNumber)>,
}

impl Compacting {
    /// From now on a topic may be compacted.
    pub(crate) fn permit(&mut self, topic: &str) {
        self.names.insert(topic.to_owned());
    }

    pub(crate) fn may_compact(&self, topic: &str) -> bool {
        self.names.contains(topic)
    }

    /// A record without a value is sent.
    pub(crate) fn sent(&mut self, now_us: u64, record: RecordNumber) {
        self.tombstones.push_back((now_us, record));
    }

    /// The next record that may be gone by now.
    pub(crate) fn expired(&mut self, now_us: u64, wall: &Wall) -> Option<RecordNumber> {
        let (sent_us, _) = *self.tombstones.front()?;
        let (sent_ms, _) = wall.bounds(sent_us, now_us);
        let (_, latest_ms) = wall.bounds(0, now_us);
        let age_ms = u64::try_from(latest_ms - sent_ms).unwrap_or(0);
        if age_ms < self.delete_retention_ms {
            return None;
        }
        let (_, record) = self.tombstones.pop_front()?;
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tombstones_stay_for_their_time_by_a_clock_that_jumps() {
        let mut compacting = Compacting {
            delete_retention_ms: 1_000,
            ..Compacting::default()
        };
        for number in 0..3 {
            compacting.sent(number * 500_000, RecordNumber(number));
        }
        let mut wall = Wall::default();
        let mut expired = |now_us, wall: &Wall| {
            std::iter::from_fn(|| compacting.expired(now_us, wall)).collect::<Vec<_>>()
        };
        assert_eq!(expired(999_000, &wall), []);
        assert_eq!(expired(1_000_000, &wall), [RecordNumber(0)]);
        assert_eq!(expired(1_499_000, &wall), []);
        wall.jumped(1_499_000, 501);
        let others = [RecordNumber(1), RecordNumber(2)];
        assert_eq!(expired(1_499_000, &wall), others);
    }
}
