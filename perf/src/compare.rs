//! Two results side by side.

use serde::Serialize;
use serde_json::Value;

use crate::result::{Percentiles, PerfResult};

/// What two results have to say together.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// In what the loads differ, or what was promised: figures of different loads are not comparable.
    pub differences: Vec<String>,
    /// In what machine or software differ: often what is to be compared, and always to be known.
    pub circumstances: Vec<String>,
    /// The figures.
    pub figures: Vec<Figure>,
}

/// One figure of both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: &'static str,
    /// Of the first.
    pub a: f64,
    /// Of the second.
    pub b: f64,
    /// `b / a`. `None` where `a` is 0.
    pub ratio: Option<f64>,
    /// Whether more is better.
    pub more_is_better: bool,
}

/// Keys of a workload that do not make it another one.
const SAME_LOAD: [&str; 4] = ["topic", "fill_bytes", "idempotent", "stages"];

/// Compares two results.
#[must_use]
pub fn compare(a: &PerfResult, b: &PerfResult) -> Comparison {
    Comparison {
        differences: differences(a, b),
        circumstances: circumstances(a, b),
        figures: figures(a, b),
    }
}

fn differences(a: &PerfResult, b: &PerfResult) -> Vec<String> {
    let workload = |result: &PerfResult| serde_json::to_value(&result.manifest.workload);
    let mut differences = match (workload(a), workload(b)) {
        (Ok(one), Ok(other)) => unlike(&one, &other, |key| !SAME_LOAD.contains(&key)),
        _ => vec!["a workload is no JSON".to_owned()],
    };
    let partitions = [a, b].map(|result| result.manifest.topic.partitions);
    if partitions[0] != partitions[1]
        && !differences
            .iter()
            .any(|text| text.starts_with("partitions"))
    {
        differences.push(format!(
            "partitions: {} and {}",
            partitions[0], partitions[1]
        ));
    }
    if a.durability != b.durability {
        differences.push(format!("durability: {} and {}", a.durability, b.durability));
    }
    if a.cut_short != b.cut_short {
        differences.push(format!("cut short: {} and {}", a.cut_short, b.cut_short));
    }
    let held = [a, b].map(|result| result.consumed.map(|consumed| consumed.topic_records));
    if let [Some(one), Some(other)] = held
        && one != other
    {
        differences.push(format!("records of the topic: {one} and {other}"));
    }
    differences
}

fn circumstances(a: &PerfResult, b: &PerfResult) -> Vec<String> {
    /// Where the data lies and how busy the machine was differ each time.
    const EACH_TIME: [&str; 2] = ["data_dir", "load_average"];
    let software = |result: &PerfResult| serde_json::to_value(&result.manifest.software);
    let mut circumstances = match (software(a), software(b)) {
        (Ok(one), Ok(other)) => unlike(&one, &other, |key| !EACH_TIME.contains(&key)),
        _ => Vec::new(),
    };
    let embedded = [a, b].map(|result| result.manifest.broker.embedded);
    if embedded[0] != embedded[1] {
        circumstances.push(format!(
            "embedded broker: {} and {}",
            embedded[0], embedded[1]
        ));
    }
    let idempotent = [a, b].map(|result| result.manifest.client.idempotent);
    if idempotent[0] != idempotent[1] {
        circumstances.push(format!(
            "idempotent producers: {} and {}",
            idempotent[0], idempotent[1]
        ));
    }
    let settings = [a, b].map(|result| &result.manifest.broker.settings);
    if settings[0] != settings[1] {
        let [one, other] = settings.map(|settings| {
            settings.as_ref().map_or_else(
                || "unknown".to_owned(),
                |settings| format!("[{}]", settings.join(", ")),
            )
        });
        circumstances.push(format!("broker settings: {one} and {other}"));
    }
    let settings = [a, b].map(|result| result.manifest.topic.settings.join(", "));
    if settings[0] != settings[1] {
        circumstances.push(format!(
            "topic settings: [{}] and [{}]",
            settings[0], settings[1]
        ));
    }
    circumstances
}

/// The keys of two objects whose values differ, with both values.
fn unlike(one: &Value, other: &Value, counts: impl Fn(&str) -> bool) -> Vec<String> {
    let fields = one.as_object().into_iter().flatten();
    let unlike = fields.filter(|(key, value)| counts(key) && other.get(key) != Some(value));
    unlike
        .map(|(key, value)| {
            format!(
                "{key}: {value} and {}",
                other.get(key).unwrap_or(&Value::Null)
            )
        })
        .collect()
}

fn figures(a: &PerfResult, b: &PerfResult) -> Vec<Figure> {
    type Read = fn(&PerfResult) -> Option<f64>;
    type Part = fn(&Percentiles) -> u64;
    let plain: [(&'static str, bool, Read); 5] = [
        ("throughput, MB/s", true, |result| {
            Some(result.throughput_mb_s)
        }),
        ("records/s", true, |result| Some(result.records_per_s)),
        ("errors", false, |result| Some(result.errors as f64)),
        ("broker CPU, ns/record", false, |result| {
            result.broker_cpu_ns_per_record
        }),
        ("client CPU, ns/record", false, |result| {
            result.client_cpu_ns_per_record
        }),
    ];
    let parts: [(&'static str, &'static str, Part); 6] = [
        ("latency p50, µs", "service time p50, µs", |latency| {
            latency.p50
        }),
        ("latency p90, µs", "service time p90, µs", |latency| {
            latency.p90
        }),
        ("latency p99, µs", "service time p99, µs", |latency| {
            latency.p99
        }),
        ("latency p99.9, µs", "service time p99.9, µs", |latency| {
            latency.p999
        }),
        (
            "latency p99.99, µs",
            "service time p99.99, µs",
            |latency| latency.p9999,
        ),
        ("latency max, µs", "service time max, µs", |latency| {
            latency.max
        }),
    ];
    let mut figures = Vec::new();
    let mut add = |name, more_is_better, pair: (Option<f64>, Option<f64>)| {
        if let (Some(a), Some(b)) = pair {
            figures.push(Figure {
                name,
                a,
                b,
                ratio: (a != 0.0).then(|| b / a),
                more_is_better,
            });
        }
    };
    for (name, more_is_better, read) in plain {
        add(name, more_is_better, (read(a), read(b)));
    }
    for (name, _, part) in parts {
        let read = |result: &PerfResult| {
            result
                .latency_us
                .as_ref()
                .map(|latency| part(latency) as f64)
        };
        add(name, false, (read(a), read(b)));
    }
    for (_, name, part) in parts {
        let read = |result: &PerfResult| {
            result
                .service_time_us
                .as_ref()
                .map(|latency| part(latency) as f64)
        };
        add(name, false, (read(a), read(b)));
    }
    figures
}

#[cfg(test)]
mod tests {
    use corelane_client::Durability;

    use super::*;
    use crate::result::Consumed;
    use crate::result::tests::example;

    #[test]
    fn a_result_does_not_differ_from_itself_and_its_ratios_are_one() {
        let comparison = compare(&example(), &example());
        assert_eq!(comparison.differences, Vec::<String>::new());
        assert_eq!(comparison.circumstances, Vec::<String>::new());
        assert!(
            comparison
                .figures
                .iter()
                .all(|figure| figure.ratio == Some(1.0))
        );
        assert_eq!(comparison.figures[0].name, "throughput, MB/s");
    }

    #[test]
    fn other_loads_and_durabilities_are_named() {
        let mut other = example();
        other.durability = Durability::Memory;
        other.manifest.workload.record_size = 100;
        other.manifest.workload.topic = Some("elsewhere".to_owned());
        other.manifest.topic.partitions = 8;
        other.manifest.software.kernel = "0.0".to_owned();
        other.manifest.workload.idempotent = false;
        other.manifest.client.idempotent = false;
        let comparison = compare(&example(), &other);
        assert_eq!(
            comparison.differences,
            [
                "record_size: 1000 and 100",
                "partitions: 4 and 8",
                "durability: durable and memory"
            ]
        );
        assert_eq!(comparison.circumstances.len(), 2);
        assert!(comparison.circumstances[0].starts_with("kernel: "));
        let idempotent = "idempotent producers: true and false";
        assert_eq!(comparison.circumstances[1], idempotent);
    }

    #[test]
    fn topics_may_differ_in_how_their_records_were_batched_and_not_in_how_many_there_are() {
        let with = |topic_records, topic_bytes| {
            let mut result = example();
            result.consumed = Some(Consumed {
                topic_records,
                topic_bytes,
                filled_records: topic_records,
                passes: 2.0,
            });
            result
        };
        let differences = |other| compare(&with(1_000, 1_000_000), &other).differences;
        assert_eq!(differences(with(1_000, 1_000_100)), Vec::<String>::new());
        assert_eq!(
            differences(with(999, 1_000_000)),
            ["records of the topic: 1000 and 999"]
        );
    }

    #[test]
    fn ratios_are_of_the_second_to_the_first() {
        let mut other = example();
        other.throughput_mb_s = 3.0;
        other.service_time_us = None;
        let comparison = compare(&example(), &other);
        assert_eq!(comparison.figures[0].ratio, Some(3.0));
        assert!(
            !comparison
                .figures
                .iter()
                .any(|figure| figure.name.starts_with("service"))
        );
    }
}
