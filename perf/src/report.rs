//! What a load gives: figures, and what they mean.

use corelane_protocol::response::Durability;
use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

use crate::manifest::Manifest;
use crate::run::Load;

/// The result of a load. It cannot be made without the durability that the broker confirmed.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Produced value bytes acknowledged, in 10^6 bytes a second: the broker kept as busy as the
    /// client can.
    pub throughput_mb_s: f64,
    /// From the intended send time of each record to its receipt, in microseconds, at a steady rate
    /// (open loop): a stall counts for every record that it delayed.
    pub latency_us: LatencyReport,
    /// The weakest durability of any receipt of the whole load.
    #[serde(serialize_with = "durability_word")]
    pub durability: Durability,
    /// Records that were refused, not answered in time, or not read back.
    pub errors: u64,
    /// The produce phase.
    pub produce: Throughput,
    /// The consume phase: all records of the produce phase read back from the start.
    pub consume: Throughput,
    /// What was asked of the broker.
    pub load: Load,
    /// What it was measured on.
    pub manifest: Manifest,
}

/// Count over time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Throughput {
    /// Records acknowledged or read.
    pub records: u64,
    /// Their value bytes.
    pub value_bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// Value bytes in 10^6 bytes a second.
    pub mb_s: f64,
    /// Records a second.
    pub records_s: f64,
}

impl Throughput {
    pub(crate) fn new(records: u64, value_bytes: u64, seconds: f64) -> Self {
        Self {
            records,
            value_bytes,
            seconds,
            mb_s: value_bytes as f64 / 1e6 / seconds,
            records_s: records as f64 / seconds,
        }
    }
}

/// Percentiles of one merged histogram, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LatencyReport {
    /// Records measured.
    pub count: u64,
    /// 50 %.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// 99.99 %.
    pub p9999: u64,
    /// The slowest.
    pub max: u64,
}

impl LatencyReport {
    /// Percentiles of a histogram of microseconds.
    pub(crate) fn new(histogram: &Histogram<u64>) -> Self {
        let at = |percentile| histogram.value_at_percentile(percentile);
        Self {
            count: histogram.len(),
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            p9999: at(99.99),
            max: histogram.max(),
        }
    }
}

fn durability_word<S: Serializer>(
    durability: &Durability,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(durability.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughput_is_count_over_time() {
        let throughput = Throughput::new(2_000, 2_000_000, 0.5);
        assert_eq!((throughput.mb_s, throughput.records_s), (4.0, 4_000.0));
    }

    #[test]
    fn percentiles_come_from_the_merged_histogram() {
        let mut fast = Histogram::new(3).unwrap();
        fast.record_n(100, 99).unwrap();
        let mut slow = Histogram::new(3).unwrap();
        slow.record(10_000).unwrap();
        fast.add(&slow).unwrap();
        let report = LatencyReport::new(&fast);
        assert_eq!((report.count, report.p50, report.p99), (100, 100, 100));
        assert!((9_990..=10_010).contains(&report.p999), "{report:?}");
        assert_eq!(report.p999, report.max);
    }
}
