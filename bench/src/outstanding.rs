//! Which requests have not been answered.
//!
//! Owns the intended time of each. Counts every answer once: a second answer to a request, or one to a request
//! that was never sent, is told apart. Pure.

use std::collections::VecDeque;

/// Requests by number, from the oldest that is not answered.
#[derive(Debug, Default)]
pub struct Outstanding {
    first: u64,
    /// The intended time of each, nanoseconds; `None` if it was answered.
    requests: VecDeque<Option<u64>>,
    unanswered: usize,
}

impl Outstanding {
    /// The number that the next request gets.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.first + self.requests.len() as u64
    }

    /// How many are not answered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.unanswered
    }

    /// Whether all are answered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.unanswered == 0
    }

    /// Notes a request that is to be sent.
    pub fn sent(&mut self, intended_ns: u64) {
        self.requests.push_back(Some(intended_ns));
        self.unanswered += 1;
    }

    /// The number of the oldest that is not answered.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.first
    }

    /// The number of which `wrapped` are the lower 32 bits, among those that may be outstanding.
    #[must_use]
    pub fn unwrap(&self, wrapped: u32) -> u64 {
        self.first + u64::from(wrapped.wrapping_sub(self.first as u32))
    }

    /// Takes an answer: the intended time of its request, or `None` if no such request is outstanding.
    pub fn answered(&mut self, number: u64) -> Option<u64> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let intended = self.requests.get_mut(index)?.take()?;
        self.unanswered -= 1;
        while let Some(None) = self.requests.front() {
            self.requests.pop_front();
            self.first += 1;
        }
        Some(intended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_counts_once() {
        let mut outstanding = Outstanding::default();
        for time in 10..14 {
            outstanding.sent(time);
        }
        assert_eq!(outstanding.answered(1), Some(11));
        assert_eq!(outstanding.answered(1), None, "a second answer");
        assert_eq!(outstanding.answered(4), None, "never sent");
        assert_eq!((outstanding.len(), outstanding.oldest()), (3, 0));
        assert_eq!(outstanding.answered(0), Some(10));
        assert_eq!((outstanding.len(), outstanding.oldest()), (2, 2));
        assert_eq!(outstanding.answered(0), None, "long gone");
        assert_eq!(outstanding.answered(3), Some(13));
        assert_eq!(outstanding.answered(2), Some(12));
        assert!(outstanding.is_empty());
        assert_eq!(outstanding.next(), 4);
    }

    #[test]
    fn numbers_are_found_over_the_end_of_32_bits() {
        let mut outstanding = Outstanding {
            first: u64::from(u32::MAX),
            ..Outstanding::default()
        };
        outstanding.sent(1);
        outstanding.sent(2);
        assert_eq!(outstanding.unwrap(0), 1 << 32);
        assert_eq!(outstanding.answered(outstanding.unwrap(0)), Some(2));
    }
}
