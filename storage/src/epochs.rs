//! The leader epochs of a partition's log: which there were, and where each began.
//!
//! Owns the answer to "where did epoch E end". An epoch is begun once, at the end of the log of that moment, and
//! durably before anything is appended under it: so two logs that have the same epoch have the same records up to
//! where it ended in either. What is forgotten makes answers earlier than they need be, never later. Pure.

use corelane_protocol::{LeaderEpoch, Offset};

/// The most epochs that are kept of one partition.
pub const EPOCHS_MAX: usize = 1024;

/// An epoch, and the offset of the first record that can belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Where the log ended when it began.
    pub start: Offset,
}

/// The newest epoch of a log that is not beyond the one that was asked for, and where its records end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The epoch; the one that was asked for if all that is known is newer.
    pub epoch: LeaderEpoch,
    /// The offset after its last record.
    pub end: Offset,
}

/// The epochs of one log, oldest first; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochHistory {
    starts: Vec<EpochStart>,
}

impl Default for EpochHistory {
    fn default() -> Self {
        let first = EpochStart {
            epoch: LeaderEpoch::new(0),
            start: Offset::ZERO,
        };
        Self {
            starts: vec![first],
        }
    }
}

impl EpochHistory {
    /// Begins an epoch. One that had no records when it ended is forgotten.
    ///
    /// # Errors
    /// What is wrong, if the epoch or its start goes back; nothing has changed then.
    pub fn begin(&mut self, begun: EpochStart) -> Result<(), &'static str> {
        let latest = self.latest();
        if begun.epoch <= latest.epoch {
            return Err("a leader epoch goes back");
        }
        if begun.start < latest.start {
            return Err("a leader epoch begins before the one before it");
        }
        if begun.start == latest.start {
            self.starts.pop();
        }
        self.starts.push(begun);
        if self.starts.len() > EPOCHS_MAX {
            let oldest = self.starts.remove(0);
            self.starts[0].start = oldest.start;
        }
        Ok(())
    }

    /// Forgets the epochs whose records all lie below the log start.
    pub fn trim(&mut self, log_start: Offset) {
        let below = self.starts[1..].partition_point(|next| next.start <= log_start);
        self.starts.drain(..below);
    }

    /// The newest epoch.
    #[must_use]
    pub fn latest(&self) -> EpochStart {
        *self.starts.last().expect("there is always one")
    }

    /// The epochs, oldest first.
    #[must_use]
    pub fn starts(&self) -> &[EpochStart] {
        &self.starts
    }

    /// The epoch of the record at an offset, or that the next record will have.
    #[must_use]
    pub fn at(&self, offset: Offset) -> LeaderEpoch {
        let later = self.starts[1..].partition_point(|begun| begun.start <= offset);
        self.starts[later].epoch
    }

    /// Where an epoch ended in a log that ends at `log_end` now.
    #[must_use]
    pub fn end_of(&self, epoch: LeaderEpoch, log_end: Offset) -> EpochEnd {
        let later = self.starts.partition_point(|begun| begun.epoch <= epoch);
        let end = self.starts.get(later).map_or(log_end, |next| next.start);
        let known = later.checked_sub(1).map(|index| self.starts[index].epoch);
        EpochEnd {
            epoch: known.unwrap_or(epoch),
            end,
        }
    }

    /// How far somebody agrees with this log who has read up to `offset`, the last record under `epoch`; nothing
    /// if it is all the way.
    #[must_use]
    pub fn divergence(
        &self,
        epoch: LeaderEpoch,
        offset: Offset,
        log_end: Offset,
    ) -> Option<EpochEnd> {
        let ended = self.end_of(epoch, log_end);
        (ended.epoch < epoch || ended.end < offset).then_some(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(epoch: u32, start: u64) -> EpochStart {
        EpochStart {
            epoch: LeaderEpoch::new(epoch),
            start: Offset::new(start),
        }
    }

    fn history(starts: &[(u32, u64)]) -> EpochHistory {
        let mut history = EpochHistory::default();
        for (epoch, offset) in starts {
            history.begin(start(*epoch, *offset)).expect("it follows");
        }
        history
    }

    fn starts(history: &EpochHistory) -> Vec<(u32, u64)> {
        let starts = history.starts().iter();
        starts
            .map(|begun| (begun.epoch.get(), begun.start.get()))
            .collect()
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_begins() {
        let history = history(&[(1, 10), (4, 20)]);
        let ends = |epoch| {
            let found = history.end_of(LeaderEpoch::new(epoch), Offset::new(25));
            (found.epoch.get(), found.end.get())
        };
        let found: Vec<_> = (0..6).map(ends).collect();
        assert_eq!(
            found,
            [(0, 10), (1, 20), (1, 20), (1, 20), (4, 25), (4, 25)]
        );
        let at: Vec<_> = [0, 9, 10, 19, 20, 99]
            .map(|offset| history.at(Offset::new(offset)).get())
            .into();
        assert_eq!(at, [0, 0, 1, 1, 4, 4]);
    }

    #[test]
    fn whoever_read_what_is_gone_is_told_how_far_the_logs_agree() {
        let history = history(&[(1, 10), (4, 20)]);
        let told = |epoch, offset| {
            let log_end = Offset::new(25);
            let found =
                history.divergence(LeaderEpoch::new(epoch), Offset::new(offset), log_end)?;
            Some((found.epoch.get(), found.end.get()))
        };
        assert_eq!(told(0, 10), None);
        assert_eq!(told(0, 11), Some((0, 10)));
        assert_eq!(told(1, 20), None);
        assert_eq!(told(1, 21), Some((1, 20)));
        assert_eq!(told(4, 25), None);
        assert_eq!(told(4, 26), Some((4, 25)));
        // Epochs that this log never had, wherever the reader stands.
        assert_eq!(told(3, 12), Some((1, 20)));
        assert_eq!(told(9, 3), Some((4, 25)));
    }

    #[test]
    fn nothing_goes_back_and_epochs_without_records_are_forgotten() {
        let mut history = history(&[(1, 10), (2, 10)]);
        assert_eq!(starts(&history), [(0, 0), (2, 10)]);
        for wrong in [start(2, 11), start(1, 11), start(3, 9)] {
            assert!(history.begin(wrong).is_err());
        }
        assert_eq!(starts(&history), [(0, 0), (2, 10)]);
        let raised = self::history(&[(1, 0)]);
        assert_eq!(starts(&raised), [(1, 0)]);
        let found = raised.divergence(LeaderEpoch::new(0), Offset::new(1), Offset::new(5));
        let told = found.map(|found| (found.epoch.get(), found.end.get()));
        assert_eq!(told, Some((0, 0)));
    }

    #[test]
    fn epochs_below_the_log_start_are_forgotten() {
        let mut history = history(&[(1, 10), (2, 20), (3, 30)]);
        history.trim(Offset::new(9));
        assert_eq!(history.starts().len(), 4);
        history.trim(Offset::new(20));
        assert_eq!(starts(&history), [(2, 20), (3, 30)]);
        history.trim(Offset::new(99));
        assert_eq!(starts(&history), [(3, 30)]);
        let found = history.end_of(LeaderEpoch::new(0), Offset::new(40));
        assert_eq!((found.epoch.get(), found.end.get()), (0, 30));
    }

    #[test]
    fn too_many_epochs_make_answers_earlier_and_never_later() {
        let all: Vec<_> = (1..=EPOCHS_MAX as u32 + 5)
            .map(|epoch| (epoch, u64::from(epoch) * 10))
            .collect();
        let history = history(&all);
        assert_eq!(history.starts().len(), EPOCHS_MAX);
        let log_end = Offset::new(1 << 40);
        for (epoch, begun) in all {
            let end = history.end_of(LeaderEpoch::new(epoch), log_end).end;
            assert!(end <= Offset::new(begun + 10) || end == log_end);
        }
        let again = starts(&history);
        assert_eq!(starts(&self::history(&again)).len(), EPOCHS_MAX);
        assert_eq!(starts(&self::history(&again)), again);
    }
}
