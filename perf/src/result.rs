//! What a run gives: figures, and what they mean. Plain data, which is also its JSON; `docs/load_generator.md` says how
//! each figure is counted.

use std::collections::BTreeMap;

use corelane_client::Durability;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::limit::Limit;
use crate::manifest::Manifest;
use crate::recorder::Fingerprint;
use crate::stages::Stages;
use crate::workload::Kind;

/// The version of the JSON form. It grows when a key is renamed, removed, or means something else; new keys do not
/// change it.
pub const RESULT_VERSION: u32 = 1;

/// The result of one run. It cannot be made without a manifest and the durability that was confirmed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PerfResult {
    /// [`RESULT_VERSION`].
    pub version: u32,
    /// Which load it was.
    pub kind: Kind,
    /// Whether latency counts from fixed times (open), or from when the client happened to send (closed).
    #[serde(rename = "loop")]
    pub pace: Pace,
    /// Whether it was ended before its time; the figures are of the time until then.
    pub cut_short: bool,
    /// Seconds that are counted, without the warm-up.
    pub seconds: f64,
    /// Records acknowledged in that time; consume and end-to-end: handed to a consumer.
    pub records: u64,
    /// Bytes of their values.
    pub value_bytes: u64,
    /// `value_bytes` in 10^6 a second.
    pub throughput_mb_s: f64,
    /// `records` a second.
    pub records_per_s: f64,
    /// Open loop: from the time at which a record was due. Closed loop: from the call that sent it. To its receipt;
    /// end-to-end: to the moment at which a consumer had it. `None` for consume. Of the records that were due (closed
    /// loop: sent) in the time that is counted.
    pub latency_us: Option<Percentiles>,
    /// The same records, from the call that sent them.
    pub service_time_us: Option<Percentiles>,
    /// End-to-end only: from the time at which a record was due to its receipt.
    pub acknowledge_us: Option<Percentiles>,
    /// The weakest durability of any record, warm-up included.
    #[serde(with = "durability_word")]
    pub durability: Durability,
    /// Who said so.
    pub durability_from: DurabilityFrom,
    /// Records of the whole run, warm-up included, that were refused, not answered, never sent although they were due,
    /// damaged, or not read back.
    pub errors: u64,
    /// The same, by kind.
    pub errors_by_kind: BTreeMap<String, u64>,
    /// What the first of them said.
    pub first_error: Option<String>,
    /// CPU time of the broker's own threads for each of `records`, nanoseconds. `None` where they cannot be told.
    pub broker_cpu_ns_per_record: Option<f64>,
    /// CPU time of the load generator's threads for each of `records`, nanoseconds.
    pub client_cpu_ns_per_record: Option<f64>,
    /// What the topic held, for consume.
    pub consumed: Option<Consumed>,
    /// `latency_us` as a curve: from it a plot by percentile can be drawn.
    pub latency_curve_us: Vec<CurvePoint>,
    /// `service_time_us` as a curve.
    pub service_time_curve_us: Vec<CurvePoint>,
    /// Consecutive intervals of the time that is counted.
    pub series: Vec<Interval>,
    /// What was measured, with what, on what.
    pub manifest: Manifest,
    /// What this machine could do at most with the same bytes, measured in turns with this run, where that was asked.
    pub limit: Option<Limit>,
    /// How long the broker's stages took, where that was asked.
    #[serde(default)]
    pub stages: Option<Stages>,
    /// The histograms of the latencies of `series`, in microseconds; not in the JSON.
    #[serde(skip)]
    pub histograms: Vec<Histogram<u64>>,
    /// What was acknowledged in the whole run.
    #[serde(skip)]
    pub(crate) acknowledged: Fingerprint,
}

/// Who decides when records are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// A schedule: records are due at fixed times.
    Open,
    /// The broker: records are sent when others were acknowledged, or read as fast as they come.
    Closed,
}

/// Who vouches for the durability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DurabilityFrom {
    /// The broker, in the receipt of every record.
    Receipts,
    /// The topic's settings at the time of reading: nobody knows how what was there was acknowledged.
    TopicSettings,
}

/// Percentiles of one merged histogram, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Records measured.
    pub count: u64,
    /// The mean.
    pub mean: f64,
    /// 50 %.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 95 %.
    pub p95: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// 99.99 %.
    pub p9999: u64,
    /// The slowest.
    pub max: u64,
}

impl Percentiles {
    /// Percentiles of a histogram of microseconds. `None` if it is empty.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |percentile| histogram.value_at_percentile(percentile);
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            mean: histogram.mean(),
            p50: at(50.0),
            p90: at(90.0),
            p95: at(95.0),
            p99: at(99.0),
            p999: at(99.9),
            p9999: at(99.99),
            max: histogram.max(),
        })
    }
}

/// A point of a curve of latency by percentile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Of the records, in percent; 100 is the slowest.
    pub percentile: f64,
    /// The latency that they did not exceed, microseconds.
    pub value_us: u64,
}

/// Points of a curve for each halving of the distance to 100 %.
const TICKS_PER_HALF: u32 = 5;

/// A histogram of microseconds as a curve, denser towards 100 %.
pub(crate) fn curve(histogram: &Histogram<u64>) -> Vec<CurvePoint> {
    let quantiles = histogram.iter_quantiles(TICKS_PER_HALF);
    let points = quantiles.map(|value| CurvePoint {
        percentile: value.percentile(),
        value_us: histogram
            .highest_equivalent(value.value_iterated_to())
            .min(histogram.max()),
    });
    points.collect()
}

/// One interval of the time that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// When it begins, in seconds since counting began.
    pub start_s: f64,
    /// How long it is, seconds. The last one may be shorter.
    pub seconds: f64,
    /// Records acknowledged, or handed to a consumer, in it.
    pub records: u64,
    /// Bytes of their values.
    pub value_bytes: u64,
    /// Records that were due (closed loop: sent) in it and have a latency.
    pub latencies: u64,
    /// Their latency, 50 %, microseconds.
    pub p50_us: Option<u64>,
    /// 99 %.
    pub p99_us: Option<u64>,
    /// The slowest.
    pub max_us: Option<u64>,
    /// Records that failed in it.
    pub errors: u64,
}

/// What was there to be consumed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Consumed {
    /// Records of the topic when reading began.
    pub topic_records: u64,
    /// Their size on disk, bytes.
    pub topic_bytes: u64,
    /// Records that the run itself had filled the topic with before.
    pub filled_records: u64,
    /// How often everything was read, warm-up included.
    pub passes: f64,
}

/// A durability as its word.
pub(crate) mod durability_word {
    use corelane_client::Durability;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        durability: &Durability,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(durability.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Durability, D::Error> {
        let word = String::deserialize(deserializer)?;
        let known = [
            Durability::Memory,
            Durability::Durable,
            Durability::Replicated,
        ];
        let found = known.into_iter().find(|known| known.as_str() == word);
        found.ok_or_else(|| D::Error::custom(format!("{word:?} is no durability")))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::manifest::{Broker, ClientSettings, Pinning, Software, Topic};
    use crate::workload::Workload;

    /// A result of two seconds.
    pub(crate) fn example() -> PerfResult {
        let histograms = [[1_000, 9_000].as_slice(), &[1_000]].map(|values: &[u64]| {
            let mut histogram = Histogram::new(3).unwrap();
            for value in values {
                histogram.record(*value).unwrap();
            }
            histogram
        });
        let interval = |start_s, records, latencies, p99_us, errors| Interval {
            start_s,
            seconds: 1.0,
            records,
            value_bytes: records * 1000,
            latencies,
            p50_us: Some(1_000),
            p99_us: Some(p99_us),
            max_us: Some(p99_us),
            errors,
        };
        let latency = Percentiles {
            count: 2_000,
            mean: 1_250.0,
            p50: 1_000,
            p90: 2_000,
            p95: 3_000,
            p99: 5_000,
            p999: 7_000,
            p9999: 8_000,
            max: 9_000,
        };
        PerfResult {
            version: RESULT_VERSION,
            kind: Kind::Latency,
            pace: Pace::Open,
            cut_short: false,
            seconds: 2.0,
            records: 2_000,
            value_bytes: 2_000_000,
            throughput_mb_s: 1.0,
            records_per_s: 1_000.0,
            latency_us: Some(latency),
            service_time_us: Some(latency),
            acknowledge_us: None,
            durability: Durability::Durable,
            durability_from: DurabilityFrom::Receipts,
            errors: 3,
            errors_by_kind: BTreeMap::from([("storage-full".to_owned(), 3)]),
            first_error: Some("no room".to_owned()),
            broker_cpu_ns_per_record: Some(1_500.0),
            client_cpu_ns_per_record: None,
            consumed: None,
            latency_curve_us: curve(&histograms[0]),
            service_time_curve_us: Vec::new(),
            series: vec![
                interval(0.0, 1_500, 2, 9_000, 0),
                interval(1.0, 500, 1, 1_000, 3),
            ],
            manifest: Manifest {
                workload: Workload::new(Kind::Latency),
                topic: Topic {
                    name: "t".to_owned(),
                    partitions: 4,
                    made: true,
                    kept: true,
                    settings: Vec::new(),
                },
                broker: Broker {
                    address: "127.0.0.1:9500".to_owned(),
                    embedded: false,
                    version: "0.1.0".to_owned(),
                    cores: 2,
                    settings: None,
                },
                client: ClientSettings {
                    buffer_bytes: 1,
                    idempotent: true,
                    library: "corelane-client 0.1.0".to_owned(),
                },
                pinning: Pinning {
                    broker: "unknown".to_owned(),
                    client: "not pinned".to_owned(),
                },
                durability: "durable".to_owned(),
                software: Software::look(None),
            },
            limit: None,
            stages: None,
            histograms: histograms.to_vec(),
            acknowledged: Fingerprint::default(),
        }
    }

    #[test]
    fn json_is_read_as_it_was_written() {
        let result = example();
        let written = serde_json::to_value(&result).unwrap();
        assert_eq!(written["version"], RESULT_VERSION);
        assert_eq!(written["loop"], "open");
        assert_eq!(written["durability"], "durable");
        assert_eq!(written["errors_by_kind"]["storage-full"], 3);
        assert_eq!(written["manifest"]["workload"]["acks"], "all");
        assert!(written["manifest"]["kernel"].is_string());
        let read: PerfResult = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), written);
    }

    #[test]
    fn there_is_no_result_without_manifest_or_durability() {
        let written = serde_json::to_value(example()).unwrap();
        for key in ["manifest", "durability"] {
            let mut without = written.clone();
            without.as_object_mut().unwrap().remove(key);
            let error = serde_json::from_value::<PerfResult>(without).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
    }

    #[test]
    fn percentiles_come_from_the_merged_histogram() {
        let mut fast = Histogram::new(3).unwrap();
        fast.record_n(100, 99).unwrap();
        let mut slow = Histogram::new(3).unwrap();
        slow.record(10_000).unwrap();
        fast.add(&slow).unwrap();
        let merged = Percentiles::of(&fast).unwrap();
        assert_eq!((merged.count, merged.p50, merged.p99), (100, 100, 100));
        assert!((9_990..=10_010).contains(&merged.p999), "{merged:?}");
        assert_eq!(merged.p999, merged.max);
        assert_eq!(Percentiles::of(&Histogram::new(3).unwrap()), None);
    }

    #[test]
    fn a_curve_rises_and_ends_with_the_slowest() {
        let mut histogram = Histogram::new(3).unwrap();
        for value in 1..=10_000_u64 {
            histogram.record(value).unwrap();
        }
        let curve = curve(&histogram);
        assert!(curve.len() > 20, "{}", curve.len());
        assert!(curve.is_sorted_by(
            |one, next| one.percentile <= next.percentile && one.value_us <= next.value_us
        ));
        let last = curve.last().unwrap();
        assert_eq!((last.percentile, last.value_us), (100.0, histogram.max()));
    }
}
