//! When which part of a log was compacted first.
//!
//! Owns the times from which on records without a value are kept for a while. Pure; part of the catalogue.

use corelane_protocol::{Offset, Timestamp};

/// Entries that are kept at most.
pub const COMPACTED_ENTRIES_MAX: usize = 64;

/// Up to where a log was compacted, and when each part of it was for the first time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactionHistory {
    /// The end of each part, ascending, and when it was compacted, never falling.
    entries: Vec<(Offset, Timestamp)>,
}

impl CompactionHistory {
    /// The parts: where each ends, and when it was compacted.
    #[must_use]
    pub fn entries(&self) -> &[(Offset, Timestamp)] {
        &self.entries
    }

    /// Everything below was compacted.
    #[must_use]
    pub fn upto(&self) -> Offset {
        self.entries.last().map_or(Offset::ZERO, |(upto, _)| *upto)
    }

    /// Notes that everything below an offset is compacted now.
    ///
    /// With too many parts two neighbours become one of the later time, so that nothing is ever held for compacted
    /// earlier than it was; those two whose times are closest.
    ///
    /// # Errors
    /// It was compacted up to there before.
    pub(crate) fn note(&mut self, upto: Offset, at: Timestamp) -> Result<(), &'static str> {
        if upto <= self.upto() {
            return Err("a log is compacted up to where it was before");
        }
        // A clock that went back makes nothing older than what was compacted before it.
        let at = self.entries.last().map_or(at, |(_, last)| at.max(*last));
        self.entries.push((upto, at));
        if self.entries.len() > COMPACTED_ENTRIES_MAX {
            let gaps = self.entries.windows(2).enumerate();
            let gaps =
                gaps.map(|(index, pair)| (pair[1].1.get().saturating_sub(pair[0].1.get()), index));
            if let Some((_, closest)) = gaps.min() {
                self.entries.remove(closest);
            }
        }
        Ok(())
    }

    /// Below it everything was compacted `ms` ago or earlier.
    pub(crate) fn compacted_since(&self, ms: u64, now: Timestamp) -> Offset {
        let is_over = |at: Timestamp| crate::times::elapsed_ms(at, now) >= ms;
        let over = self.entries.iter().take_while(|(_, at)| is_over(*at));
        over.last().map_or(Offset::ZERO, |(upto, _)| *upto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(entries: &[(u64, i64)]) -> CompactionHistory {
        let mut history = CompactionHistory::default();
        for (upto, at) in entries {
            let noted = history.note(Offset::new(*upto), Timestamp::new(*at));
            noted.expect("it goes on");
        }
        history
    }

    #[test]
    fn a_part_is_as_old_as_its_first_compaction() {
        let history = history(&[(10, 100), (20, 200), (30, 150)]);
        let since = |ms, now| history.compacted_since(ms, Timestamp::new(now)).get();
        assert_eq!(history.upto(), Offset::new(30));
        assert_eq!(
            (since(50, 149), since(50, 150), since(50, 249)),
            (0, 10, 10)
        );
        // The clock went back before the last one.
        assert_eq!(since(50, 250), 30);
        // Before a time nothing is older than 0 ms.
        assert_eq!((since(1, 200), since(1, 201)), (10, 30));
        assert_eq!(
            CompactionHistory::default().compacted_since(0, Timestamp::new(9)),
            Offset::ZERO
        );
    }

    #[test]
    fn it_never_goes_back() {
        let mut history = history(&[(10, 100)]);
        assert!(history.note(Offset::new(10), Timestamp::new(200)).is_err());
        assert!(history.note(Offset::new(11), Timestamp::new(0)).is_ok());
    }

    #[test]
    fn with_many_parts_no_tombstone_goes_early() {
        let mut all = Vec::new();
        let mut history = CompactionHistory::default();
        for number in 1..500_u64 {
            let (upto, at) = (
                Offset::new(number * 3),
                Timestamp::new((number * number % 1000 + number * 900) as i64),
            );
            let at = all
                .last()
                .map_or(at, |(_, last): &(Offset, Timestamp)| at.max(*last));
            history.note(upto, at).expect("it goes on");
            all.push((upto, at));
            assert!(history.entries().len() <= COMPACTED_ENTRIES_MAX);
            assert_eq!(history.upto(), upto);
            for now in [at.get(), at.get() - 5_000, at.get() - 100_000] {
                let now = Timestamp::new(now);
                let exact = all
                    .iter()
                    .take_while(|(_, at)| crate::times::elapsed_ms(*at, now) >= 2_000);
                let exact = exact.last().map_or(Offset::ZERO, |(upto, _)| *upto);
                assert!(history.compacted_since(2_000, now) <= exact);
            }
        }
    }
}
