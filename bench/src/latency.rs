//! Percentiles of times in nanoseconds, shown in microseconds.

use hdrhistogram::Histogram;
use serde::Serialize;

/// What a histogram of nanoseconds says, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    /// Values counted.
    pub count: u64,
    /// 50 %.
    pub p50: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

impl Latency {
    /// Reads a histogram of nanoseconds.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |percentile| histogram.value_at_percentile(percentile) as f64 / 1e3;
        Self {
            count: histogram.len(),
            p50: at(50.0),
            p99: at(99.0),
            p999: at(99.9),
            max: histogram.max() as f64 / 1e3,
        }
    }
}

/// Times beyond this count as this.
const NS_MAX: u64 = 60_000_000_000;

/// An empty histogram of nanoseconds, exact to three digits.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, NS_MAX, 3).expect("three digits are possible")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_become_microseconds_and_nothing_is_lost() {
        let mut times = histogram();
        times.saturating_record(1_500);
        times.saturating_record(u64::MAX);
        let latency = Latency::of(&times);
        assert_eq!((latency.count, latency.p50), (2, 1.5));
        assert!(latency.max >= NS_MAX as f64 / 1e3);
    }
}
