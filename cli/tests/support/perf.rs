//! Loads of `corelane perf`, small enough for tests, and what holds for every result.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{CORELANE, Outcome, SMALL_JOURNAL};

pub(crate) const PERCENTILES: [&str; 6] = ["p50", "p90", "p99", "p999", "p9999", "max"];

#[track_caller]
pub(crate) fn assert_latency(latency: &Value) {
    let latencies = PERCENTILES.map(|name| latency[name].as_u64().expect(name));
    assert!(latencies.is_sorted(), "{latency}");
    assert!(latencies[0] > 0, "{latency}");
    assert!(latency["count"].as_u64() > Some(0), "{latency}");
}

/// Seconds of a closed loop: without an acknowledgement for so long there would be nothing to report.
pub(crate) const CLOSED_SECONDS: &str = "3";

/// A load of one second, small enough for an unoptimised build, on a broker with small journals.
pub(crate) fn load(arguments: &[&str]) -> Outcome {
    load_for("1", arguments)
}

pub(crate) fn load_for(seconds: &str, arguments: &[&str]) -> Outcome {
    let mut command = Command::new(CORELANE);
    command
        .arg("perf")
        .args(arguments)
        .args([
            "--duration",
            seconds,
            "--warm-up",
            "0.2",
            "--format",
            "json",
        ])
        .envs(SMALL_JOURNAL)
        .stdin(Stdio::null());
    Outcome::of(command.output().expect("corelane runs"))
}

#[track_caller]
pub(crate) fn result_of(outcome: &Outcome) -> Value {
    outcome.assert_code(0);
    let result: Value = serde_json::from_str(&outcome.stdout).expect("the result is JSON");
    assert_eq!(result["version"], 1);
    assert_eq!(result["durability"], "durable", "{result}");
    assert_eq!(result["errors"], 0, "{result}");
    assert_eq!(result["cut_short"], false);
    assert_eq!(
        result["seconds"],
        result["manifest"]["workload"]["duration_s"]
    );
    // On a machine that stood still for the whole second there is no throughput, and no CPU for each of no records.
    let has_records = result["records"].as_u64() > Some(0);
    for figure in [
        "throughput_mb_s",
        "records_per_s",
        "client_cpu_ns_per_record",
        "broker_cpu_ns_per_record",
    ] {
        assert!(
            !has_records || result[figure].as_f64() > Some(0.0),
            "{figure}: {result}"
        );
    }
    let series = result["series"].as_array().expect("a series");
    let records = series
        .iter()
        .map(|interval| interval["records"].as_u64().expect("records"));
    assert_eq!(Some(records.sum::<u64>()), result["records"].as_u64());
    let manifest = &result["manifest"];
    for key in [
        "kernel",
        "cpu",
        "version",
        "pinning",
        "workload",
        "client",
        "load_average",
    ] {
        assert!(!manifest[key].is_null(), "{key} is missing in {manifest}");
    }
    assert_eq!(manifest["durability"], result["durability"]);
    result
}

#[track_caller]
pub(crate) fn assert_files(out: &Path, result: &Value) {
    let read = |name| fs::read_to_string(out.join(name)).expect(name);
    let written: Value = serde_json::from_str(&read("result.json")).expect("JSON");
    assert_eq!(&written, result);
    let hlog = read("latency.hlog");
    assert!(hlog.starts_with("#[Logged by corelane perf]"), "{hlog}");
    let series = read("series.csv");
    let mut lines = series.lines();
    let header = lines.next().expect("a header");
    assert!(header.starts_with("start_s,seconds,records,"), "{header}");
    let records = lines.map(|line| {
        line.split(',')
            .nth(2)
            .expect("records")
            .parse::<u64>()
            .expect("a number")
    });
    assert_eq!(Some(records.sum::<u64>()), result["records"].as_u64());
    let topic = result["manifest"]["topic"]["name"]
        .as_str()
        .expect("a name");
    assert_report(
        out,
        &[
            "<svg",
            result["durability"].as_str().expect("a word"),
            topic,
        ],
    );
}

/// The page is there, and says this.
#[track_caller]
pub(crate) fn assert_report(out: &Path, parts: &[&str]) {
    let report = fs::read_to_string(out.join("report.html")).expect("report.html");
    assert!(report.starts_with("<!DOCTYPE html>"), "{report}");
    for part in parts {
        assert!(report.contains(part), "{part} is not in {report}");
    }
}
