//! What something may be that was asked to change, as far as those can know who asked.
//!
//! Owns the one rule by which doubt ends: what was answered no longer counts once something that was asked for later
//! was answered too. What had no answer may still come through.

/// A value that was asked for.
#[derive(Clone, Debug)]
struct Spell<T> {
    value: T,
    from_us: u64,
    answered_us: Option<u64>,
    /// Something later counts since then.
    until_us: Option<u64>,
}

/// See the module. Times in µs.
#[derive(Clone, Debug)]
pub(crate) struct Possible<T>(Vec<Spell<T>>);

impl<T> Possible<T> {
    /// This value from the beginning.
    pub(crate) fn new(value: T) -> Self {
        Self(vec![Spell {
            value,
            from_us: 0,
            answered_us: Some(0),
            until_us: None,
        }])
    }

    /// What was asked for last was so from the beginning.
    pub(crate) fn settle(&mut self) {
        if let Some(last) = self.0.pop() {
            *self = Self::new(last.value);
        }
    }

    /// It may become this value from now on.
    pub(crate) fn asked(&mut self, now_us: u64, value: T) {
        self.0.push(Spell {
            value,
            from_us: now_us,
            answered_us: None,
            until_us: None,
        });
    }

    /// What was asked for last has come through.
    pub(crate) fn answered(&mut self, now_us: u64) {
        let Some(last) = self.0.last_mut() else {
            return;
        };
        last.answered_us = Some(now_us);
        let from_us = last.from_us;
        let earlier = self.0.iter_mut().rev().skip(1);
        for spell in earlier.filter(|spell| spell.answered_us.is_some_and(|us| us <= from_us)) {
            spell.until_us.get_or_insert(now_us);
        }
    }

    /// What was asked for last has come to nothing, for certain.
    pub(crate) fn refused(&mut self) {
        self.0.pop();
    }

    /// Whatever it once was, it may be again; and what has not come through by now never will.
    pub(crate) fn forgotten(&mut self, now_us: u64) {
        for spell in &mut self.0 {
            spell.until_us = None;
            spell.answered_us.get_or_insert(now_us);
        }
    }

    /// What it may have been at any time since `us`. Never empty.
    pub(crate) fn since(&self, us: u64) -> impl Iterator<Item = &T> + Clone {
        let spells = self.0.iter();
        spells
            .filter(move |spell| spell.until_us.is_none_or(|until| until >= us))
            .map(|spell| &spell.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn since(possible: &Possible<u64>, us: u64) -> Vec<u64> {
        possible.since(us).copied().collect()
    }

    #[test]
    fn what_was_answered_counts_until_something_later_is() {
        let mut possible = Possible::new(1);
        possible.asked(10, 2);
        assert_eq!(since(&possible, 11), [1, 2]);
        possible.answered(20);
        assert_eq!(since(&possible, 20), [1, 2]);
        assert_eq!(since(&possible, 21), [2]);
        possible.asked(30, 3);
        possible.refused();
        assert_eq!(since(&possible, 31), [2]);
    }

    #[test]
    fn what_had_no_answer_may_come_through_until_its_broker_is_dead() {
        let mut possible = Possible::new(1);
        possible.asked(10, 2);
        possible.asked(20, 3);
        possible.answered(30);
        assert_eq!(since(&possible, 31), [2, 3]);
        possible.forgotten(40);
        assert_eq!(since(&possible, 50), [1, 2, 3]);
        possible.asked(60, 4);
        possible.answered(70);
        assert_eq!(since(&possible, 71), [4]);
    }
}
