//! What a run counts while it goes on.
//!
//! Pure: it is told every time, in nanoseconds since the run's start. One for all producers and consumers of a run, so
//! that memory does not grow with their number; each interval has a histogram, and the figures of the whole come from
//! all of them merged.

use std::collections::BTreeMap;

use corelane_client::Durability;
use hdrhistogram::Histogram;

use crate::result::Interval;

/// The largest latency that a histogram tells from a larger one, in microseconds.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Significant digits of a histogram.
const DIGITS: u8 = 3;
/// How many intervals a series may have.
const INTERVALS_MAX: u64 = 600;
const NS_PER_S: f64 = 1e9;

/// The time that counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) from_ns: u64,
    pub(crate) to_ns: u64,
}

impl Window {
    pub(crate) fn contains(self, ns: u64) -> bool {
        (self.from_ns..self.to_ns).contains(&ns)
    }

    pub(crate) fn seconds(self) -> f64 {
        self.to_ns.saturating_sub(self.from_ns) as f64 / NS_PER_S
    }
}

/// How long the intervals of a series are: a tenth of a second, or longer where there would be too many.
fn interval_ns(window: Window) -> u64 {
    const STEPS: [u64; 3] = [1, 2, 5];
    let length_ns = window.to_ns - window.from_ns;
    let mut unit_ns = 100_000_000;
    loop {
        for step in STEPS {
            if length_ns <= step * unit_ns * INTERVALS_MAX {
                return step * unit_ns;
            }
        }
        unit_ns *= 10;
    }
}

/// A record on its way from one end to the other, in nanoseconds since the run's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// When it should have been sent; in a closed loop when it was.
    pub(crate) due_ns: u64,
    /// When it was given to the client.
    pub(crate) sent_ns: u64,
    /// When it was acknowledged, or a consumer had it.
    pub(crate) done_ns: u64,
}

/// How many records there are and what their numbers add up to: enough to see that what was read is
/// what was acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) records: u64,
    pub(crate) sum: u64,
}

impl Fingerprint {
    pub(crate) fn add(&mut self, number: u64) {
        self.records += 1;
        self.sum = self.sum.wrapping_add(number);
    }

    /// Adds consecutive numbers.
    pub(crate) fn add_run(&mut self, first: u64, count: u64) {
        self.records += count;
        let between = count * count.saturating_sub(1) / 2;
        let sum = first.wrapping_mul(count).wrapping_add(between);
        self.sum = self.sum.wrapping_add(sum);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.records += other.records;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    records: u64,
    value_bytes: u64,
    errors: u64,
}

/// Counts of one run.
pub(crate) struct Recorder {
    window: Window,
    interval_ns: u64,
    counts: Vec<Counts>,
    /// Latency in microseconds by the interval in which a record was due.
    latencies: Vec<Histogram<u64>>,
    service_times: Histogram<u64>,
    acknowledge_times: Histogram<u64>,
    errors_by_kind: BTreeMap<String, u64>,
    first_error: Option<String>,
    weakest: Option<Durability>,
    /// Records given to the client, in the whole run.
    handed: u64,
    /// Those of them of which it is known what became of them.
    settled: u64,
    /// What was acknowledged, in the whole run.
    acknowledged: Fingerprint,
    /// Records that came to their end, in the whole run.
    delivered: u64,
    /// Bytes of their values.
    delivered_bytes: u64,
}

impl Recorder {
    pub(crate) fn new(window: Window) -> Self {
        let interval_ns = interval_ns(window);
        let intervals = (window.to_ns - window.from_ns).div_ceil(interval_ns) as usize;
        Self {
            window,
            interval_ns,
            counts: vec![Counts::default(); intervals],
            latencies: vec![histogram(); intervals],
            service_times: histogram(),
            acknowledge_times: histogram(),
            errors_by_kind: BTreeMap::new(),
            first_error: None,
            weakest: None,
            handed: 0,
            settled: 0,
            acknowledged: Fingerprint::default(),
            delivered: 0,
            delivered_bytes: 0,
        }
    }

    /// Nothing counts from then on: the run is cut short.
    pub(crate) fn end_at(&mut self, ns: u64) {
        let to_ns = ns.clamp(self.window.from_ns, self.window.to_ns);
        self.window.to_ns = to_ns;
        let intervals = (to_ns - self.window.from_ns).div_ceil(self.interval_ns) as usize;
        self.counts.truncate(intervals);
        self.latencies.truncate(intervals);
    }

    fn interval(&self, ns: u64) -> Option<usize> {
        let is_within = self.window.contains(ns);
        is_within.then(|| ((ns - self.window.from_ns) / self.interval_ns) as usize)
    }

    /// Records were given to the client.
    pub(crate) fn handed(&mut self, records: u64) {
        self.handed += records;
    }

    /// Some of those were acknowledged.
    pub(crate) fn acknowledged(&mut self, fingerprint: Fingerprint, weakest: Option<Durability>) {
        self.settled += fingerprint.records;
        self.acknowledged.merge(fingerprint);
        if let Some(durability) = weakest {
            let so_far = self.weakest.unwrap_or(durability);
            self.weakest = Some(so_far.min(durability));
        }
    }

    /// Some of those failed.
    pub(crate) fn failed(&mut self, now_ns: u64, kind: &str, records: u64, error: &str) {
        self.settled += records;
        self.lost(now_ns, kind, records, error);
    }

    /// Records failed that were never given to the client, or that it had settled before.
    pub(crate) fn lost(&mut self, now_ns: u64, kind: &str, records: u64, error: &str) {
        if records == 0 {
            return;
        }
        *self.errors_by_kind.entry(kind.to_owned()).or_default() += records;
        if self.first_error.is_none() {
            self.first_error = Some(error.to_owned());
        }
        if let Some(interval) = self.interval(now_ns) {
            self.counts[interval].errors += records;
        }
    }

    /// Records reached their end: they count in the throughput.
    pub(crate) fn done(&mut self, now_ns: u64, records: u64, value_bytes: u64) {
        self.delivered += records;
        self.delivered_bytes += value_bytes;
        if let Some(interval) = self.interval(now_ns) {
            self.counts[interval].records += records;
            self.counts[interval].value_bytes += value_bytes;
        }
    }

    /// Records with these times have a latency.
    pub(crate) fn timed(&mut self, times: Times, records: u64) {
        if let Some(interval) = self.interval(times.due_ns) {
            record(
                &mut self.latencies[interval],
                times.due_ns,
                times.done_ns,
                records,
            );
            record(
                &mut self.service_times,
                times.sent_ns,
                times.done_ns,
                records,
            );
        }
    }

    /// Records with these times were acknowledged on their way to a consumer.
    pub(crate) fn timed_acknowledge(&mut self, times: Times, records: u64) {
        if self.window.contains(times.due_ns) {
            record(
                &mut self.acknowledge_times,
                times.due_ns,
                times.done_ns,
                records,
            );
        }
    }

    pub(crate) fn window(&self) -> Window {
        self.window
    }

    /// Records given to the client of which it is not known what became of them.
    pub(crate) fn outstanding(&self) -> u64 {
        self.handed - self.settled
    }

    pub(crate) fn everything_acknowledged(&self) -> Fingerprint {
        self.acknowledged
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Records that came to their end in the whole run so far, and bytes of their values.
    pub(crate) fn progress(&self) -> (u64, u64) {
        (self.delivered, self.delivered_bytes)
    }

    pub(crate) fn weakest(&self) -> Option<Durability> {
        self.weakest
    }

    pub(crate) fn errors(&self) -> u64 {
        self.errors_by_kind.values().sum()
    }

    pub(crate) fn errors_by_kind(&self) -> &BTreeMap<String, u64> {
        &self.errors_by_kind
    }

    pub(crate) fn first_error(&self) -> Option<&str> {
        self.first_error.as_deref()
    }

    /// Records and value bytes of the time that counts.
    pub(crate) fn total(&self) -> (u64, u64) {
        let add = |(records, bytes), counts: &Counts| {
            (records + counts.records, bytes + counts.value_bytes)
        };
        self.counts.iter().fold((0, 0), add)
    }

    /// All latencies.
    pub(crate) fn latency(&self) -> Histogram<u64> {
        merge(&self.latencies)
    }

    pub(crate) fn service_times(&self) -> &Histogram<u64> {
        &self.service_times
    }

    pub(crate) fn acknowledge_times(&self) -> &Histogram<u64> {
        &self.acknowledge_times
    }

    /// The histogram of each interval.
    pub(crate) fn histograms(&self) -> &[Histogram<u64>] {
        &self.latencies
    }

    /// The slowest of 99 % of the records that were due in the last interval that is over.
    pub(crate) fn recent_p99_us(&self, now_ns: u64) -> Option<u64> {
        let interval = self.interval(now_ns.saturating_sub(self.interval_ns))?;
        let histogram = &self.latencies[interval];
        (!histogram.is_empty()).then(|| histogram.value_at_percentile(99.0))
    }

    /// The time that counts, interval by interval.
    pub(crate) fn series(&self) -> Vec<Interval> {
        let length_ns = self.window.to_ns - self.window.from_ns;
        let intervals = self.counts.iter().zip(&self.latencies).enumerate();
        let intervals = intervals.map(|(index, (counts, latencies))| {
            let start_ns = index as u64 * self.interval_ns;
            let at = |percentile| {
                (!latencies.is_empty()).then(|| latencies.value_at_percentile(percentile))
            };
            Interval {
                start_s: start_ns as f64 / NS_PER_S,
                seconds: self.interval_ns.min(length_ns - start_ns) as f64 / NS_PER_S,
                records: counts.records,
                value_bytes: counts.value_bytes,
                latencies: latencies.len(),
                p50_us: at(50.0),
                p99_us: at(99.0),
                max_us: at(100.0),
                errors: counts.errors,
            }
        });
        intervals.collect()
    }
}

/// An empty histogram of microseconds, which grows as it needs.
fn histogram() -> Histogram<u64> {
    Histogram::new(DIGITS).expect("three digits are possible")
}

fn record(histogram: &mut Histogram<u64>, from_ns: u64, to_ns: u64, records: u64) {
    let us = to_ns.saturating_sub(from_ns) / 1000;
    let recorded = histogram.record_n(us.clamp(1, LATENCY_US_MAX), records);
    recorded.expect("the histogram grows");
}

/// Histograms added up. Percentiles are never averaged.
pub(crate) fn merge<'h>(
    histograms: impl IntoIterator<Item = &'h Histogram<u64>>,
) -> Histogram<u64> {
    let mut merged = histogram();
    for part in histograms {
        merged.add(part).expect("the histogram grows");
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const WINDOW: Window = Window {
        from_ns: 1_000 * MS,
        to_ns: 2_050 * MS,
    };

    fn times(due_ms: u64, sent_ms: u64, done_ms: u64) -> Times {
        Times {
            due_ns: due_ms * MS,
            sent_ns: sent_ms * MS,
            done_ns: done_ms * MS,
        }
    }

    #[test]
    fn only_the_window_counts_and_the_intervals_add_up() {
        let mut recorder = Recorder::new(WINDOW);
        for ms in 900..2_200 {
            recorder.done(ms * MS, 1, 10);
            recorder.timed(times(ms, ms, ms + 3), 1);
        }
        assert_eq!(recorder.total(), (1_050, 10_500));
        assert_eq!(recorder.latency().len(), 1_050);
        let series = recorder.series();
        assert_eq!(series.len(), 11);
        assert_eq!(
            series.iter().map(|interval| interval.records).sum::<u64>(),
            1_050
        );
        assert!(
            (series.iter().map(|interval| interval.seconds).sum::<f64>() - WINDOW.seconds()).abs()
                < 1e-9
        );
        assert_eq!((series[0].records, series[10].records), (100, 50));
        assert_eq!(series[0].p50_us, series[0].max_us);
    }

    #[test]
    fn a_stall_shows_where_records_were_due_and_the_gap_where_they_came() {
        let mut recorder = Recorder::new(WINDOW);
        for ms in 1_000..2_000 {
            // Nothing is answered between 1.3 and 1.6 s.
            let done = if (1_300..1_600).contains(&ms) {
                1_600
            } else {
                ms + 1
            };
            recorder.done(done * MS, 1, 10);
            recorder.timed(times(ms, ms.max(done - 1), done), 1);
        }
        let series = recorder.series();
        assert_eq!((series[4].records, series[5].records), (0, 0));
        assert!(series[6].records > 300, "{}", series[6].records);
        assert!(series[3].p50_us.unwrap() > 240_000, "{:?}", series[3]);
        assert!(series[6].p50_us.unwrap() < 2_000, "{:?}", series[6]);
        let service = recorder.service_times().value_at_percentile(99.9);
        assert!(
            service < 2_000,
            "the sender was late, not the broker: {service}"
        );
    }

    #[test]
    fn merged_histograms_are_those_of_all_values_together() {
        let mut recorder = Recorder::new(WINDOW);
        let mut all = Histogram::<u64>::new(DIGITS).unwrap();
        for ms in 1_000..2_000_u64 {
            let latency_ms = if ms < 1_100 { 50 } else { 1 + ms % 7 };
            recorder.timed(times(ms, ms, ms + latency_ms), 1);
            all.record(latency_ms * 1_000).unwrap();
        }
        let merged = recorder.latency();
        for percentile in [50.0, 89.0, 90.5, 99.0, 99.99] {
            assert_eq!(
                merged.value_at_percentile(percentile),
                all.value_at_percentile(percentile)
            );
        }
        let of_intervals = recorder
            .series()
            .iter()
            .filter_map(|interval| interval.p99_us)
            .sum::<u64>();
        assert_ne!(merged.value_at_percentile(99.0), of_intervals / 10);
    }

    #[test]
    fn a_run_that_is_cut_short_ends_there() {
        let mut recorder = Recorder::new(WINDOW);
        recorder.done(1_100 * MS, 1, 10);
        recorder.end_at(1_250 * MS);
        recorder.done(1_260 * MS, 1, 10);
        recorder.timed(times(1_260, 1_260, 1_270), 1);
        recorder.timed(times(1_240, 1_240, 1_270), 1);
        assert_eq!(recorder.total(), (1, 10));
        assert_eq!(recorder.latency().len(), 1);
        assert_eq!(recorder.series().len(), 3);
        assert_eq!(recorder.window().seconds(), 0.25);
        recorder.end_at(10);
        assert_eq!(recorder.series().len(), 0);
    }

    #[test]
    fn failures_are_counted_by_kind_also_outside_of_the_window() {
        let mut recorder = Recorder::new(WINDOW);
        recorder.handed(10);
        recorder.failed(MS, "storage-full", 3, "no room");
        recorder.failed(1_500 * MS, "storage-full", 2, "no room left");
        recorder.acknowledged(
            Fingerprint { records: 4, sum: 0 },
            Some(Durability::Durable),
        );
        recorder.acknowledged(Fingerprint { records: 0, sum: 0 }, Some(Durability::Memory));
        assert_eq!(recorder.outstanding(), 1);
        recorder.lost(3_000 * MS, "unacknowledged", 1, "never answered");
        assert_eq!(recorder.errors(), 6);
        assert_eq!(recorder.errors_by_kind()["storage-full"], 5);
        assert_eq!(recorder.series()[5].errors, 2);
        assert_eq!(recorder.first_error(), Some("no room"));
        assert_eq!(recorder.weakest(), Some(Durability::Memory));
    }

    #[test]
    fn a_run_of_numbers_is_all_of_them() {
        for first in [0, 7, u64::MAX - 2] {
            let (mut one_by_one, mut at_once) = (Fingerprint::default(), Fingerprint::default());
            (0..5).for_each(|number| one_by_one.add(first.wrapping_add(number)));
            at_once.add_run(first, 5);
            at_once.add_run(first, 0);
            assert_eq!(at_once, one_by_one);
        }
    }

    #[test]
    fn long_runs_have_longer_intervals() {
        let interval = |seconds: u64| {
            let window = Window {
                from_ns: 0,
                to_ns: seconds * 1_000 * MS,
            };
            interval_ns(window) / MS
        };
        assert_eq!(
            [1, 60, 61, 600, 3_600, 86_400].map(interval),
            [100, 100, 200, 1_000, 10_000, 200_000]
        );
    }
}
