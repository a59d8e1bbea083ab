//! What the committed offset of a partition may be, as far as those can know who commit and ask.
//!
//! Owns how doubt ends. A commit counts no longer once one was acknowledged that was sent after it was acknowledged
//! itself. One without an answer may still come through, until its broker has ended or somebody else was given the
//! partition.

/// Those that count no longer are kept so long: a question may have been under way, µs.
const KEPT_US: u64 = 60_000_000;

#[derive(Debug)]
struct Commit {
    offset: u64,
    from_us: u64,
    /// It has come through by then, or never will.
    settled_us: Option<u64>,
    is_acknowledged: bool,
    /// Something later counts since then.
    until_us: Option<u64>,
}

/// See the module. Offsets are numbers of their own.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    commits: Vec<Commit>,
    /// Something has certainly been committed since then.
    some_us: Option<u64>,
}

impl Offsets {
    pub(crate) fn asked(&mut self, now_us: u64, offset: u64) {
        let is_old = |commit: &Commit| commit.until_us.is_some_and(|us| us + KEPT_US < now_us);
        self.commits.retain(|commit| !is_old(commit));
        self.commits.push(Commit {
            offset,
            from_us: now_us,
            settled_us: None,
            is_acknowledged: false,
            until_us: None,
        });
    }

    /// This offset is durable.
    pub(crate) fn acknowledged(&mut self, now_us: u64, offset: u64) {
        let Some(commit) = self
            .commits
            .iter_mut()
            .find(|commit| commit.offset == offset)
        else {
            return;
        };
        commit.is_acknowledged = true;
        commit.settled_us.get_or_insert(now_us);
        self.some_us.get_or_insert(now_us);
        let from_us = commit.from_us;
        for earlier in &mut self.commits {
            if earlier.settled_us.is_some_and(|us| us <= from_us) {
                earlier.until_us.get_or_insert(now_us);
            }
        }
    }

    /// This offset was never noted.
    pub(crate) fn refused(&mut self, offset: u64) {
        self.commits
            .retain(|commit| commit.offset != offset || commit.is_acknowledged);
    }

    /// Whatever has not come through by now never will.
    pub(crate) fn settle(&mut self, now_us: u64) {
        for commit in &mut self.commits {
            commit.settled_us.get_or_insert(now_us);
        }
    }

    /// What is wrong about an answer to a question of `asked_us`, if anything. What somebody is told is durable.
    pub(crate) fn fetched(
        &mut self,
        now_us: u64,
        asked_us: u64,
        offset: Option<u64>,
        is_lasting: bool,
    ) -> Option<String> {
        let Some(offset) = offset else {
            let is_missing = is_lasting && self.some_us.is_some_and(|us| us <= asked_us);
            return is_missing.then(|| "no offset, and one was acknowledged".to_owned());
        };
        let commit = self.commits.iter().find(|commit| commit.offset == offset);
        let counts = |commit: &&Commit| commit.until_us.is_none_or(|until| until >= asked_us);
        if commit.filter(counts).is_none() {
            let last = self.commits.iter().filter(|commit| commit.is_acknowledged);
            let last = last.map(|commit| commit.offset).next_back();
            return Some(format!(
                "offset {offset} is {}, and {last:?} was acknowledged last",
                if commit.is_some() {
                    "of before"
                } else {
                    "of no commit that counts"
                }
            ));
        }
        self.acknowledged(now_us, offset);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledged_offset_counts_until_a_later_one_is() {
        let mut offsets = Offsets::default();
        assert!(offsets.fetched(5, 4, None, true).is_none());
        offsets.asked(10, 1);
        assert!(offsets.fetched(12, 11, None, true).is_none());
        offsets.acknowledged(20, 1);
        assert!(offsets.fetched(22, 21, None, true).is_some());
        assert!(
            offsets.fetched(22, 21, None, false).is_none(),
            "its topic may be gone"
        );
        offsets.asked(30, 2);
        assert!(offsets.fetched(32, 31, Some(1), true).is_none());
        offsets.acknowledged(40, 2);
        assert!(
            offsets.fetched(42, 39, Some(1), true).is_none(),
            "asked before"
        );
        assert!(offsets.fetched(42, 41, Some(1), true).is_some());
        assert!(offsets.fetched(42, 41, Some(7), true).is_some());
    }

    #[test]
    fn what_had_no_answer_may_come_through_until_its_broker_has_ended() {
        let mut offsets = Offsets::default();
        offsets.asked(10, 1);
        offsets.asked(20, 2);
        offsets.acknowledged(30, 2);
        assert!(offsets.fetched(41, 40, Some(2), true).is_none());
        assert!(
            offsets.fetched(51, 50, Some(1), true).is_none(),
            "it came late"
        );
        let mut offsets = Offsets::default();
        offsets.asked(10, 1);
        offsets.settle(15);
        offsets.asked(20, 2);
        offsets.acknowledged(30, 2);
        assert!(offsets.fetched(41, 40, Some(1), true).is_some());
        offsets.asked(50, 3);
        offsets.refused(3);
        assert!(offsets.fetched(61, 60, Some(3), true).is_some());
    }

    #[test]
    fn what_was_told_once_is_durable() {
        let mut offsets = Offsets::default();
        offsets.asked(10, 1);
        assert!(offsets.fetched(20, 15, Some(1), true).is_none());
        assert!(offsets.fetched(31, 30, None, true).is_some());
    }
}
