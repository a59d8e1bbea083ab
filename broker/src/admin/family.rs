//! What a metric is, and how its series are written.
//!
//! Names, units and labels follow Prometheus' rules: base units, `_total` for what only grows.

use std::fmt;

use prometheus_client::encoding::MetricEncoder;
use prometheus_client::encoding::NoLabelSet;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit as TextUnit;

use super::state::{
    BrokerState, CoreState, Counts, PartitionState, ReaderState, StoreState, TopicState,
};

/// Kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, from the broker's start on.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often values of each size came.
    Histogram,
}

/// Unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// It counts things.
    None,
    /// Seconds; the state has microseconds.
    Seconds,
    /// Bytes.
    Bytes,
}

/// A metric with all of its series.
pub struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) unit: Unit,
    /// The labels of its series.
    pub labels: &'static [&'static str],
    pub(super) help: &'static str,
    pub(super) collect: fn(&Shown<'_>, &mut Samples<'_>),
}

impl Family {
    /// Its name as the endpoint shows it, without what histograms add.
    #[must_use]
    pub fn name(&self) -> String {
        let unit = match self.unit {
            Unit::None => "",
            Unit::Seconds => "_seconds",
            Unit::Bytes => "_bytes",
        };
        let kind = if self.kind == Kind::Counter {
            "_total"
        } else {
            ""
        };
        format!("{}{unit}{kind}", self.name)
    }

    /// Its kind by Prometheus' word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }

    /// Its unit by Prometheus' word, or nothing where it counts things.
    #[must_use]
    pub fn unit(&self) -> Option<&'static str> {
        match self.unit {
            Unit::None => None,
            Unit::Seconds => Some("seconds"),
            Unit::Bytes => Some("bytes"),
        }
    }
}

impl Kind {
    pub(super) fn as_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Histogram => MetricType::Histogram,
        }
    }
}

impl Unit {
    pub(super) fn as_unit(self) -> Option<TextUnit> {
        match self {
            Self::None => None,
            Self::Seconds => Some(TextUnit::Seconds),
            Self::Bytes => Some(TextUnit::Bytes),
        }
    }
}

/// What is shown.
pub struct Shown<'a> {
    pub(super) state: &'a BrokerState,
    /// The most partitions that have series of their own.
    pub(super) partitions_max: usize,
}

impl<'a> Shown<'a> {
    /// The partitions that have series of their own: the first ones, by topic name and number.
    fn partitions(&self) -> impl Iterator<Item = (&'a TopicState, &'a PartitionState)> {
        let all = self.state.topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(move |partition| (topic, partition))
        });
        all.take(self.partitions_max)
    }

    pub(super) fn partitions_without_series(&self) -> usize {
        let topics = self.state.topics.iter();
        let all: usize = topics.map(|topic| topic.partitions.len()).sum();
        all.saturating_sub(self.partitions_max)
    }
}

/// The bounds of histogram buckets, in µs.
const MICROS_BOUNDS: [u64; 18] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 60_000_000,
];

/// The bounds of histogram buckets, in bytes.
const BYTES_BOUNDS: [u64; 8] = [
    4 << 10,
    16 << 10,
    64 << 10,
    256 << 10,
    1 << 20,
    4 << 20,
    16 << 20,
    64 << 20,
];

/// A turn of a core's driver that came later than this is a stall, µs.
pub(super) const STALL_US: u64 = 10_000;

/// Takes the series of one family.
pub struct Samples<'a> {
    family: &'static Family,
    encoder: MetricEncoder<'a>,
    outcome: fmt::Result,
}

impl<'a> Samples<'a> {
    pub(super) fn new(family: &'static Family, encoder: MetricEncoder<'a>) -> Self {
        Self {
            family,
            encoder,
            outcome: Ok(()),
        }
    }

    pub(super) fn finish(self) -> fmt::Result {
        self.outcome
    }

    /// A counter or gauge. Times are given in µs.
    pub(super) fn put(&mut self, labels: &[&str], value: u64) {
        let is_time = self.family.unit == Unit::Seconds;
        let kind = self.family.kind;
        self.series(labels, |encoder| match (kind, is_time) {
            (Kind::Counter, true) => {
                encoder.encode_counter::<NoLabelSet, _, f64>(&seconds(value), None)
            }
            (Kind::Counter, false) => encoder.encode_counter::<NoLabelSet, _, f64>(&value, None),
            (_, true) => encoder.encode_gauge(&seconds(value)),
            (_, false) => encoder.encode_gauge(&(value as f64)),
        });
    }

    pub(super) fn put_flag(&mut self, labels: &[&str], flag: bool) {
        self.put(labels, u64::from(flag));
    }

    /// A histogram, of µs or of bytes.
    pub(super) fn put_counts(&mut self, labels: &[&str], counts: &Counts) {
        let is_time = self.family.unit == Unit::Seconds;
        let bounds: &[u64] = if is_time {
            &MICROS_BOUNDS
        } else {
            &BYTES_BOUNDS
        };
        let shown = |value: u64| {
            if is_time {
                seconds(value)
            } else {
                value as f64
            }
        };
        let buckets = bucketed(counts, bounds);
        let buckets: Vec<(f64, u64)> = buckets
            .map(|(bound, count)| (bound.map_or(f64::INFINITY, shown), count))
            .collect();
        let (sum, count) = (shown(counts.sum), counts.count());
        self.series(labels, |encoder| {
            encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        });
    }

    fn series(
        &mut self,
        values: &[&str],
        encode: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) {
        debug_assert_eq!(values.len(), self.family.labels.len());
        if self.outcome.is_err() {
            return;
        }
        let labels: Vec<(&str, &str)> = self
            .family
            .labels
            .iter()
            .copied()
            .zip(values.iter().copied())
            .collect();
        self.outcome = if labels.is_empty() {
            encode(&mut self.encoder)
        } else {
            let family = self.encoder.encode_family(&labels);
            family.and_then(|mut encoder| encode(&mut encoder))
        };
    }

    pub(super) fn each_core(&mut self, shown: &Shown<'_>, value: impl Fn(&CoreState) -> u64) {
        for core in &shown.state.cores {
            self.put(&[&core.core.to_string()], value(core));
        }
    }

    pub(super) fn each_store(&mut self, shown: &Shown<'_>, value: impl Fn(&StoreState) -> u64) {
        for store in &shown.state.stores {
            let labels = [store.core.to_string(), store.store.to_string()];
            self.put(&[&labels[0], &labels[1]], value(store));
        }
    }

    pub(super) fn each_store_counts(
        &mut self,
        shown: &Shown<'_>,
        counts: impl Fn(&StoreState) -> &Counts,
    ) {
        for store in &shown.state.stores {
            let labels = [store.core.to_string(), store.store.to_string()];
            self.put_counts(&[&labels[0], &labels[1]], counts(store));
        }
    }

    pub(super) fn each_topic(&mut self, shown: &Shown<'_>, value: impl Fn(&PartitionState) -> u64) {
        for topic in &shown.state.topics {
            self.put(&[&topic.name], topic.sum(&value));
        }
    }

    pub(super) fn each_partition(
        &mut self,
        shown: &Shown<'_>,
        value: impl Fn(&PartitionState) -> u64,
    ) {
        for (topic, partition) in shown.partitions() {
            let core = partition.core.to_string();
            let number = partition.partition.to_string();
            self.put(&[&topic.name, &number, &core], value(partition));
        }
    }

    /// A number of each named reader of a partition.
    pub(super) fn each_reader(
        &mut self,
        shown: &Shown<'_>,
        value: impl Fn(&PartitionState, &ReaderState) -> u64,
    ) {
        for (topic, partition) in shown.partitions() {
            let core = partition.core.to_string();
            let number = partition.partition.to_string();
            for reader in &partition.readers {
                let labels = [&*topic.name, &*number, &*core, &*reader.name];
                self.put(&labels, value(partition, reader));
            }
        }
    }

    pub(super) fn each_stage(&mut self, shown: &Shown<'_>, api: &str) {
        for core in &shown.state.cores {
            let number = core.core.to_string();
            for stage in core.stages.iter().filter(|stage| stage.api == api) {
                self.put_counts(&[&number, &stage.stage], &stage.times);
            }
        }
    }
}

/// Counts of each bucket by itself; the last one has no bound.
fn bucketed<'a>(
    counts: &'a Counts,
    bounds: &'a [u64],
) -> impl Iterator<Item = (Option<u64>, u64)> + 'a {
    let mut steps = counts.steps.iter().peekable();
    let bounds = bounds.iter().copied().map(Some).chain([None]);
    bounds.map(move |bound| {
        let mut sum = 0;
        while let Some((_, count)) =
            steps.next_if(|(upto, _)| bound.is_none_or(|bound| *upto <= bound))
        {
            sum += count;
        }
        (bound, sum)
    })
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_go_into_the_bucket_that_holds_all_of_them() {
        let counts = Counts {
            sum: 0,
            steps: vec![(10, 1), (50, 2), (51, 4), (100, 8), (70_000_000, 16)],
        };
        let buckets: Vec<_> = bucketed(&counts, &MICROS_BOUNDS).collect();
        assert_eq!(buckets[..2], [(Some(50), 3), (Some(100), 12)]);
        assert_eq!(buckets.last(), Some(&(None, 16)));
        let sum: u64 = buckets.iter().map(|(_, count)| count).sum();
        assert_eq!(sum, counts.count());
    }
}
