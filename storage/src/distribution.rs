//! `Distribution`: how often values of each size came, in a fixed amount of memory.
//!
//! Recording allocates nothing and locks nothing: a distribution belongs to one core, whose answers to whoever
//! asks are copies.

use hdrhistogram::Histogram;

/// The longest time that is told apart from longer ones, in µs.
const MICROS_MAX: u64 = 120_000_000;

/// The largest size that is told apart from larger ones.
const BYTES_MAX: u64 = 1 << 32;

/// Counts of values, each known to a sixteenth, and their exact sum.
#[derive(Clone, Debug)]
pub struct Distribution {
    counts: Histogram<u64>,
    sum: u64,
}

impl Distribution {
    /// Of times in microseconds, up to two minutes.
    #[must_use]
    pub fn of_micros() -> Self {
        Self::upto(MICROS_MAX)
    }

    /// Of sizes in bytes, up to 4 GiB.
    #[must_use]
    pub fn of_bytes() -> Self {
        Self::upto(BYTES_MAX)
    }

    fn upto(most: u64) -> Self {
        Self {
            counts: Histogram::new_with_bounds(1, most, 1).expect("bounds that are in order"),
            sum: 0,
        }
    }

    /// Counts a value. One beyond the range counts as the largest of it; the sum has it as it is.
    pub fn record(&mut self, value: u64) {
        self.counts.saturating_record(value);
        self.sum = self.sum.saturating_add(value);
    }

    /// Values that were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.len()
    }

    /// The values' sum.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest value, rounded up to the next step; 0 if there is none.
    #[must_use]
    pub fn max(&self) -> u64 {
        if self.counts.is_empty() {
            0
        } else {
            self.counts.max()
        }
    }

    /// The steps that have values, in rising order: the largest value that counts as the step's, and how many do.
    pub fn steps(&self) -> impl Iterator<Item = (u64, u64)> {
        let steps = self.counts.iter_recorded();
        steps.map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
    }

    /// Forgets all values.
    pub fn clear(&mut self) {
        self.counts.reset();
        self.sum = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_known_to_a_sixteenth_and_their_sum_exactly() {
        let mut times = Distribution::of_micros();
        for value in [0, 1, 31, 1000, 1001, 50_000] {
            times.record(value);
        }
        assert_eq!((times.count(), times.sum()), (6, 52_033));
        let steps: Vec<_> = times.steps().collect();
        let counted: u64 = steps.iter().map(|(_, count)| count).sum();
        assert_eq!(counted, 6);
        for (value, least) in [(1000, 1001), (50_000, 50_000)] {
            let step = steps.iter().find(|(upto, _)| *upto >= value);
            let upto = step.expect("the value has a step").0;
            assert!(upto >= least && upto <= value + value / 16 + 1, "{upto}");
        }
        times.clear();
        assert_eq!((times.count(), times.sum(), times.max()), (0, 0, 0));
    }

    #[test]
    fn what_is_beyond_the_range_counts_as_the_largest() {
        let mut sizes = Distribution::of_bytes();
        sizes.record(u64::MAX);
        sizes.record(u64::MAX);
        assert_eq!((sizes.count(), sizes.sum()), (2, u64::MAX));
        assert!(sizes.max() >= BYTES_MAX);
    }
}
