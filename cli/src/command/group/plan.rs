//! Which offset each partition of a group is set to. Pure.

/// Where offsets are to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Earliest,
    Latest,
    Offset(u64),
    /// The first record at or after this time, in ms since the Unix epoch.
    Time(i64),
    /// So many records on from what is committed, or back.
    Shift(i64),
}

/// What is known of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) partition: u32,
    /// The first offset that is kept.
    pub(super) earliest: u64,
    /// The offset of the next record.
    pub(super) latest: u64,
    /// The offset at the time that was asked for; the next record's without a time.
    pub(super) at_time: u64,
    /// What the group has committed.
    pub(super) committed: Option<u64>,
}

/// What becomes of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) partition: u32,
    pub(super) before: Option<u64>,
    /// None where there is nothing to count from: it stays as it is.
    pub(super) after: Option<u64>,
    /// Which end of the log was taken because the offset meant lies outside of it.
    pub(super) clamped: Option<Clamped>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clamped {
    Start,
    End,
}

impl Clamped {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::End => "end",
        }
    }
}

/// Where the target lies in one partition.
pub(super) fn step(target: Target, known: Known) -> Step {
    let meant = match target {
        Target::Earliest => Some(known.earliest),
        Target::Latest => Some(known.latest),
        Target::Offset(offset) => Some(offset),
        Target::Time(_) => Some(known.at_time),
        Target::Shift(by) => known.committed.map(|from| from.saturating_add_signed(by)),
    };
    let clamped = match meant {
        Some(offset) if offset < known.earliest => Some(Clamped::Start),
        Some(offset) if offset > known.latest => Some(Clamped::End),
        _ => None,
    };
    Step {
        partition: known.partition,
        before: known.committed,
        after: meant.map(|offset| match clamped {
            Some(Clamped::Start) => known.earliest,
            Some(Clamped::End) => known.latest,
            None => offset,
        }),
        clamped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = Known {
        partition: 3,
        earliest: 10,
        latest: 50,
        at_time: 33,
        committed: Some(20),
    };

    fn after(target: Target) -> (Option<u64>, Option<Clamped>) {
        let step = step(target, KNOWN);
        assert_eq!((step.partition, step.before), (3, Some(20)));
        (step.after, step.clamped)
    }

    #[test]
    fn each_target_means_an_offset_within_the_log() {
        for (target, offset, clamped) in [
            (Target::Earliest, 10, None),
            (Target::Latest, 50, None),
            (Target::Offset(10), 10, None),
            (Target::Offset(50), 50, None),
            (Target::Offset(9), 10, Some(Clamped::Start)),
            (Target::Offset(51), 50, Some(Clamped::End)),
            (Target::Time(1), 33, None),
            (Target::Shift(0), 20, None),
            (Target::Shift(5), 25, None),
            (Target::Shift(-10), 10, None),
            (Target::Shift(-11), 10, Some(Clamped::Start)),
            (Target::Shift(i64::MIN), 10, Some(Clamped::Start)),
            (Target::Shift(i64::MAX), 50, Some(Clamped::End)),
        ] {
            assert_eq!(after(target), (Some(offset), clamped), "{target:?}");
        }
    }

    #[test]
    fn a_shift_needs_something_to_count_from() {
        let fresh = Known {
            committed: None,
            ..KNOWN
        };
        let stays = step(Target::Shift(1), fresh);
        assert_eq!(
            (stays.before, stays.after, stays.clamped),
            (None, None, None)
        );
        assert_eq!(step(Target::Earliest, fresh).after, Some(10));
    }
}
