//! What `corelane perf` gives: tables and a line for people, JSON for programs, files, and pages.

mod support;

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::perf::{assert_files, assert_latency, load, result_of};
use support::{CORELANE, Outcome, SMALL_JOURNAL, corelane};

#[test]
fn the_report_for_programs_has_its_keys() {
    let outcome = corelane(&["perf", "--format", "json"]);
    outcome.assert_code(0);
    let report: Value = serde_json::from_str(&outcome.stdout).expect("the report is JSON");
    assert_eq!(report["durability"], "durable");
    assert_eq!(report["errors"], 0);
    assert!(report["throughput_mb_s"].as_f64() >= Some(0.0), "{report}");
    assert_latency(&report["latency_us"]);
    assert_eq!(report["produce"]["mb_s"], report["throughput_mb_s"]);
    assert!(report["consume"]["records"].as_u64() > report["produce"]["records"].as_u64());
    assert!(report["manifest"]["kernel"].is_string());
}

#[test]
fn latency_counts_every_record_that_was_due_and_its_files_agree_with_it() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let out = directory.path().join("new/results");
    let path = out.to_str().expect("the path is Unicode");
    let result = result_of(&load(&[
        "latency",
        "--rate",
        "300",
        "--connections",
        "3",
        "--out",
        path,
    ]));
    assert_eq!(result["loop"], "open");
    assert_latency(&result["latency_us"]);
    assert_latency(&result["service_time_us"]);
    assert_eq!(result["latency_us"]["count"], 300);
    let curve = result["latency_curve_us"].as_array().expect("a curve");
    assert_eq!(
        curve.last().expect("points")["value_us"],
        result["latency_us"]["max"]
    );
    assert_files(&out, &result);
}

#[test]
fn the_page_of_a_result_that_was_kept_is_the_one_that_was_written() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let [out, elsewhere] = ["out", "elsewhere"].map(|name| directory.path().join(name));
    let out_path = out.to_str().expect("Unicode");
    result_of(&load(&["produce", "--rate", "100", "--out", out_path]));
    let page = fs::read_to_string(out.join("report.html")).expect("report.html");
    fs::remove_file(out.join("report.html")).expect("it is there");
    corelane(&["perf", "report", &format!("{out_path}/result.json")]).assert_code(0);
    assert_eq!(
        fs::read_to_string(out.join("report.html")).expect("again"),
        page
    );
    let elsewhere_path = elsewhere.to_str().expect("Unicode");
    corelane(&["perf", "report", out_path, "--out", elsewhere_path]).assert_code(0);
    assert_eq!(
        fs::read_to_string(elsewhere.join("report.html")).expect("there"),
        page
    );

    fs::write(elsewhere.join("result.json"), "{\"version\": 99}").expect("it can be written");
    corelane(&["perf", "report", elsewhere_path])
        .assert_code(1)
        .assert_error_says(&["result.json", "version 99"]);
}

#[test]
fn people_get_tables_and_the_line_that_scripts_know() {
    let mut command = Command::new(CORELANE);
    command
        .args([
            "perf",
            "latency",
            "--rate",
            "100",
            "--duration",
            "0.5",
            "--warm-up",
            "0",
        ])
        .envs(SMALL_JOURNAL)
        .stdin(Stdio::null());
    let outcome = Outcome::of(command.output().expect("corelane runs"));
    outcome.assert_code(0);
    let text = &outcome.stdout;
    assert!(
        text.contains("latency, open loop at 100 records/s: durable records of 1000 B"),
        "{text}"
    );
    assert!(text.contains("its intended send"), "{text}");
    let line = text.lines().last().expect("lines");
    let words: String = line
        .chars()
        .filter(|letter| !letter.is_ascii_digit())
        .collect();
    assert_eq!(
        words,
        " records sent, . records/sec (. MB/sec), . ms avg latency, . ms max latency, . ms th, . ms th, . ms th, . ms .th."
    );
    assert_eq!(outcome.stderr, "");
}
