//! What `corelane perf` gives: tables and a line for people, JSON for programs, files, and pages.

mod support;

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::perf::{assert_files, assert_latency, assert_report, load, result_of};
use support::{CORELANE, Outcome, SMALL_JOURNAL, TestBroker, corelane};

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

const PRODUCE_STAGES: [&str; 6] = [
    "queue",
    "hop",
    "journal-wait",
    "write-and-flush",
    "until-durable",
    "whole-request",
];

/// The counts of a request's stages, in their order; every figure of them is there if anything was counted.
#[track_caller]
fn stage_counts(result: &Value, request: &str) -> Vec<(String, u64)> {
    let stages = &result["stages"];
    assert!(stages["problem"].is_null(), "{stages}");
    let times = stages["times"].as_array().expect("stages").iter();
    let times = times.filter(|times| times["request"] == request);
    let counts = times.map(|times| {
        let count = times["count"].as_u64().expect("a count");
        let percentiles = ["p50_us", "p99_us", "max_us"].map(|key| times[key].as_u64());
        assert!(percentiles.is_sorted(), "{times}");
        for figure in percentiles.map(|us| us.is_some()) {
            assert_eq!(figure, count > 0, "{times}");
        }
        assert_eq!(times["mean_us"].is_number(), count > 0, "{times}");
        (times["stage"].as_str().expect("a name").to_owned(), count)
    });
    counts.collect()
}

#[test]
fn stages_of_a_broker_of_its_own_leave_out_what_was_not_counted() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let out = directory.path().to_str().expect("Unicode");
    // Four times as much comes before counting begins, of which nothing may be in the stages.
    let outcome = corelane_with_small_journal(&[
        "perf",
        "end-to-end",
        "--rate",
        "300",
        "--warm-up",
        "4",
        "--duration",
        "1",
        "--stages",
        "--format",
        "json",
        "--out",
        out,
    ]);
    outcome.assert_code(0);
    let result: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let seconds = result["stages"]["seconds"].as_f64().expect("seconds");
    assert!(seconds > 0.5, "{seconds}");
    let produce = stage_counts(&result, "produce");
    let names: Vec<_> = produce.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, PRODUCE_STAGES);
    let requests = produce[5].1;
    // Each record is a request unless the machine stood still; and as many came as the time between both readings has.
    assert!(
        requests > 0 && requests as f64 <= 300.0 * (seconds + 1.0),
        "{requests} in {seconds} s"
    );
    assert!(stage_counts(&result, "fetch")[4].1 > 0, "{result}");
    assert!(stage_counts(&result, "any")[0].1 > 0, "{result}");
    assert_files(directory.path(), &result);
    assert_report(
        directory.path(),
        &["The broker&#39;s stages", "produce: write and flush"],
    );
}

fn corelane_with_small_journal(arguments: &[&str]) -> Outcome {
    let mut command = Command::new(CORELANE);
    command
        .args(arguments)
        .envs(SMALL_JOURNAL)
        .stdin(Stdio::null());
    Outcome::of(command.output().expect("corelane runs"))
}

#[test]
fn stages_of_another_broker_come_from_its_own_admin_endpoint_or_not_at_all() {
    let broker = TestBroker::start();
    let admin = broker.process().admin().expect("it has an admin endpoint");
    let target = ["latency", "--rate", "200", "--broker", broker.address()];
    let result = result_of(&load(
        &[&target[..], &["--stages", "--admin", admin]].concat(),
    ));
    assert_eq!(result["stages"]["admin"], admin);
    assert!(stage_counts(&result, "produce")[5].1 > 0, "{result}");

    load(&[&target[..], &["--stages"]].concat())
        .assert_code(2)
        .assert_error_says(&["--admin HOST:PORT", "admin.listen"]);
    load(&[&target[..], &["--admin", admin]].concat())
        .assert_code(2)
        .assert_error_says(&["--stages"]);
    load(&["latency", "--stages", "--admin", admin])
        .assert_code(2)
        .assert_error_says(&["--broker"]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = nobody.local_addr().expect("an address").to_string();
    drop(nobody);
    load(&[&target[..], &["--stages", "--admin", &address]].concat())
        .assert_code(1)
        .assert_error_says(&[&address, "admin.listen", "--stages"]);
    let other = TestBroker::start();
    let admin = other.process().admin().expect("it has an admin endpoint");
    load(&[&target[..], &["--stages", "--admin", admin]].concat())
        .assert_code(1)
        .assert_error_says(&[admin, "another broker's"]);
    let topics = broker.succeed(&["topic", "list", "--format", "json"]);
    assert!(
        !topics.contains("perf-"),
        "refused loads leave no topic: {topics}"
    );
}
