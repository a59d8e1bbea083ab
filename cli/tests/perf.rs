//! `corelane perf` measures without a word of configuration, and says how durable its figures are; its commands put a
//! load of the user's choice on any broker. The figures themselves are not judged here.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::{CORELANE, Outcome, SMALL_JOURNAL, TestBroker, corelane};

const PERCENTILES: [&str; 6] = ["p50", "p90", "p99", "p999", "p9999", "max"];

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

#[track_caller]
fn assert_latency(latency: &Value) {
    let latencies = PERCENTILES.map(|name| latency[name].as_u64().expect(name));
    assert!(latencies.is_sorted(), "{latency}");
    assert!(latencies[0] > 0, "{latency}");
    assert!(latency["count"].as_u64() > Some(0), "{latency}");
}

/// Seconds of a closed loop: without an acknowledgement for so long there would be nothing to report.
const CLOSED_SECONDS: &str = "3";

/// A load of one second, small enough for an unoptimised build, on a broker with small journals.
fn load(arguments: &[&str]) -> Outcome {
    load_for("1", arguments)
}

fn load_for(seconds: &str, arguments: &[&str]) -> Outcome {
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

#[test]
fn the_limit_of_the_machine_stands_beside_a_load() {
    for (command, names) in [
        ("produce", &["relay, recycled", "relay, fresh"][..]),
        ("latency", &["relay, recycled", "relay, fresh"]),
        ("consume", &["TCP with CRC32C"]),
    ] {
        let result = result_of(&load(&[command, "--with-limit", "--fill-bytes", "1MB"]));
        let yardsticks = result["limit"]["yardsticks"].as_array().expect(command);
        assert_eq!(yardsticks.len(), names.len(), "{yardsticks:?}");
        for (yardstick, name) in yardsticks.iter().zip(names) {
            assert_eq!(yardstick["name"], *name);
            assert_eq!(yardstick["seconds"], 1.0, "half before, half after");
            let limit = yardstick["throughput_mb_s"].as_f64().expect("a figure");
            let ratio = yardstick["throughput_ratio"].as_f64().expect("a figure");
            let run = result["throughput_mb_s"].as_f64().expect("a figure");
            assert!((ratio * limit - run).abs() <= 1e-6 * run, "{yardstick}");
            assert_eq!(
                yardstick["p99_ratio"].is_number(),
                command == "latency",
                "closed loops' latency is the length of a queue: {yardstick}"
            );
        }
    }
}

#[track_caller]
fn result_of(outcome: &Outcome) -> Value {
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

#[test]
fn produce_is_a_closed_loop_unless_it_has_a_rate() {
    let closed = result_of(&load_for(
        CLOSED_SECONDS,
        &["produce", "--connections", "2", "--partitions", "3"],
    ));
    assert_eq!(closed["kind"], "produce");
    assert_eq!(closed["loop"], "closed");
    assert_latency(&closed["latency_us"]);
    let manifest = &closed["manifest"];
    assert_eq!(manifest["topic"]["partitions"], 3);
    assert_eq!(manifest["broker"]["embedded"], true);
    assert!(manifest["filesystem"].is_string());
    let settings = manifest["broker"]["settings"].to_string();
    assert!(settings.contains("journal.file_bytes"), "{settings}");

    let open = result_of(&load(&["produce", "--rate", "500", "--record-size", "100"]));
    assert_eq!(open["loop"], "open");
    assert_eq!(open["latency_us"]["count"], 500);
    assert_eq!(open["service_time_us"]["count"], 500);
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

#[track_caller]
fn assert_files(out: &Path, result: &Value) {
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
fn assert_report(out: &Path, parts: &[&str]) {
    let report = fs::read_to_string(out.join("report.html")).expect("report.html");
    assert!(report.starts_with("<!DOCTYPE html>"), "{report}");
    for part in parts {
        assert!(report.contains(part), "{part} is not in {report}");
    }
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
fn end_to_end_counts_at_the_consumer() {
    let result = result_of(&load(&[
        "end-to-end",
        "--rate",
        "300",
        "--connections",
        "2",
        "--partitions",
        "5",
    ]));
    assert_eq!(result["loop"], "open");
    for key in ["latency_us", "service_time_us", "acknowledge_us"] {
        assert_latency(&result[key]);
        assert_eq!(result[key]["count"], 300, "{key}");
    }
}

#[test]
fn consume_fills_what_is_empty_and_reads_what_is_there() {
    let broker = TestBroker::start();
    let address = broker.address();
    let arguments = ["--broker", address, "--topic", "t", "--fill-bytes", "2MB"];
    let filled = result_of(&load_for(
        CLOSED_SECONDS,
        &[&["consume"], &arguments[..]].concat(),
    ));
    assert_eq!(filled["consumed"]["filled_records"], 2_000);
    assert_eq!(filled["consumed"]["topic_records"], 2_000);
    assert_eq!(filled["durability_from"], "receipts");
    assert!(filled["latency_us"].is_null());
    assert!(filled["consumed"]["passes"].as_f64() > Some(0.0));

    let read = result_of(&load_for(
        CLOSED_SECONDS,
        &[&["consume"], &arguments[..]].concat(),
    ));
    assert_eq!(read["consumed"]["filled_records"], 0);
    assert_eq!(read["durability_from"], "topic-settings");
    assert_eq!(read["consumed"]["topic_records"], 2_000);
}

#[test]
fn a_broker_that_runs_already_is_measured_and_left_as_it_was() {
    let broker = TestBroker::start();
    let address = broker.address();
    let result = result_of(&load(&["latency", "--broker", address, "--rate", "200"]));
    let manifest = &result["manifest"];
    assert_eq!(manifest["broker"]["embedded"], false);
    assert_eq!(manifest["broker"]["address"], address);
    assert!(manifest["filesystem"].is_null());
    assert_eq!(manifest["topic"]["made"], true);
    assert_eq!(manifest["topic"]["kept"], false);
    let topics = broker.succeed(&["topic", "list", "--format", "json"]);
    assert!(
        !topics.contains("perf-"),
        "its own topic is deleted: {topics}"
    );

    result_of(&load_for(
        CLOSED_SECONDS,
        &[
            "produce",
            "--broker",
            address,
            "--topic",
            "kept",
            "--partitions",
            "2",
            "--acks",
            "1",
        ],
    ));
    let described = broker.succeed(&["topic", "describe", "kept", "--format", "json"]);
    let described: Value = serde_json::from_str(&described).expect("JSON");
    assert_eq!(
        described["partitions"].as_array().map(Vec::len),
        Some(2),
        "{described}"
    );
    load(&[
        "produce",
        "--broker",
        address,
        "--topic",
        "kept",
        "--partitions",
        "3",
    ])
    .assert_code(2)
    .assert_error_says(&["kept has 2 partitions", "--partitions"]);
}

#[test]
fn acknowledgements_from_memory_are_called_so() {
    let outcome = load(&["latency", "--rate", "100", "--acks", "0"]);
    outcome.assert_code(0);
    let result: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(result["durability"], "memory");
    assert_eq!(result["manifest"]["workload"]["acks"], "0");
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

#[test]
fn what_cannot_work_is_refused_before_anything_is_sent() {
    let cases: [(&[&str], &[&str]); 9] = [
        (
            &["produce", "--partitions", "0"],
            &["--partitions is 0", "1 to 10000"],
        ),
        (
            &["produce", "--connections", "65"],
            &["--connections is 65", "1 to 64"],
        ),
        (&["produce", "--record-size", "4"], &["--record-size is 4"]),
        (&["consume", "--rate", "5"], &["consume has no rate"]),
        (&["latency", "--rate", "0"], &["--rate is 0"]),
        (
            &["end-to-end", "--record-size", "10"],
            &["--record-size", "at least 16"],
        ),
        (
            &["produce", "--in-flight-bytes", "1"],
            &["--in-flight-bytes is 1"],
        ),
        (
            &[
                "produce",
                "--record-size",
                "1MB",
                "--in-flight-bytes",
                "8KiB",
            ],
            &["--in-flight-bytes"],
        ),
        (&["produce", "--broker", "nowhere"], &["host:port"]),
    ];
    for (arguments, parts) in cases {
        load(arguments).assert_code(2).assert_error_says(parts);
    }
    load(&["produce", "--broker", "127.0.0.1:1"])
        .assert_code(1)
        .assert_error_says(&["cannot connect to 127.0.0.1:1", "help:"]);
    load(&["produce", "--out", "/proc/nothing"])
        .assert_code(1)
        .assert_error_says(&["cannot write /proc/nothing"]);
}

#[test]
fn records_that_a_topic_does_not_take_are_refused_before_anything_is_sent() {
    let broker = TestBroker::start();
    load(&[
        "produce",
        "--broker",
        broker.address(),
        "--record-size",
        "2MB",
        "--in-flight-bytes",
        "8MiB",
    ])
    .assert_code(2)
    .assert_error_says(&["max.message.bytes", "--record-size"]);
}

/// Waits until the topic that a load has made for itself holds records.
fn wait_for_records(broker: &TestBroker) {
    for _ in 0..600 {
        let topics = broker.succeed(&["topic", "list", "--format", "json"]);
        let topics: Value = serde_json::from_str(&topics).expect("JSON");
        let topics = topics.as_array().expect("a list").iter();
        let mut names = topics.map(|topic| topic["name"].as_str().expect("a name"));
        if let Some(name) = names.find(|name| name.starts_with("perf-")) {
            let described = broker
                .run(&["topic", "describe", name, "--format", "json"])
                .stdout;
            let described: Value = serde_json::from_str(&described).expect("JSON");
            let partitions = described["partitions"]
                .as_array()
                .expect("partitions")
                .iter();
            let ends = partitions
                .map(|partition| partition["high_watermark"].as_u64().expect("an offset"));
            if ends.sum::<u64>() > 100 {
                return;
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the load sent nothing");
}

#[test]
fn ctrl_c_ends_in_order_and_reports_what_was_measured() {
    let broker = TestBroker::start();
    let mut command = Command::new(CORELANE);
    command
        .args([
            "perf",
            "latency",
            "--broker",
            broker.address(),
            "--rate",
            "200",
        ])
        .args(["--duration", "600", "--warm-up", "0", "--format", "json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().expect("corelane runs");
    wait_for_records(&broker);
    let status = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(status.expect("kill runs").success());
    let outcome = Outcome::of(child.wait_with_output().expect("corelane ends"));
    outcome.assert_code(0);
    let result: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(result["cut_short"], true);
    assert_eq!(result["errors"], 0, "{result}");
    let seconds = result["seconds"].as_f64().expect("seconds");
    assert!(seconds > 0.0 && seconds < 600.0, "{seconds}");
    assert_latency(&result["latency_us"]);
    let topics = broker.succeed(&["topic", "list", "--format", "json"]);
    assert!(
        !topics.contains("perf-"),
        "its own topic is deleted: {topics}"
    );
}

#[test]
fn a_load_is_spread_over_many_partitions_connections_and_keys() {
    let spread = [
        "--partitions",
        "500",
        "--connections",
        "16",
        "--keys",
        "1000",
    ];
    let result = result_of(&load(
        &[&["produce", "--rate", "2000"], &spread[..]].concat(),
    ));
    assert_eq!(result["manifest"]["topic"]["partitions"], 500);
    assert_eq!(result["manifest"]["workload"]["keys"], 1000);
    assert_eq!(result["latency_us"]["count"], 2_000);
    let result = result_of(&load(
        &[&["end-to-end", "--rate", "1000"], &spread[..]].concat(),
    ));
    assert_eq!(result["latency_us"]["count"], 1_000);
}

#[test]
fn payloads_are_compressed_as_asked() {
    let broker = TestBroker::start();
    let size = |topic: &str, payload: &str| {
        let to = [
            "--broker",
            broker.address(),
            "--topic",
            topic,
            "--rate",
            "2000",
        ];
        let how = [
            "--linger",
            "20",
            "--payload",
            payload,
            "--compression",
            "zstd",
        ];
        let result = result_of(&load(&[&["end-to-end"], &to[..], &how[..]].concat()));
        assert_eq!(result["manifest"]["workload"]["payload"], payload);
        let described = broker.succeed(&["topic", "describe", topic, "--format", "json"]);
        let described: Value = serde_json::from_str(&described).expect("JSON");
        let partitions = described["partitions"]
            .as_array()
            .expect("partitions")
            .iter();
        partitions
            .map(|partition| partition["size_bytes"].as_u64().expect("a size"))
            .sum::<u64>()
    };
    let (random, text, zeros) = (size("r", "random"), size("t", "text"), size("z", "zeros"));
    assert!(random > 2_000_000, "{random}");
    assert!(text < random / 2 && zeros < text, "{random} {text} {zeros}");
}

#[test]
fn scenarios_are_listed_run_and_begun_from() {
    let listed = corelane(&["perf", "scenarios", "--format", "json"]);
    listed.assert_code(0);
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let names = listed.as_array().expect("a list").iter();
    let names: Vec<_> = names
        .map(|scenario| scenario["name"].as_str().expect("a name"))
        .collect();
    assert!(
        names.contains(&"partitions") && names.contains(&"catch-up"),
        "{names:?}"
    );

    let printed = corelane(&["perf", "scenarios", "--print", "keyed"]);
    printed.assert_code(0);
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = directory.path().join("mine.toml");
    fs::write(&file, &printed.stdout).expect("a file can be written");
    let (file, out) = (
        file.to_str().expect("Unicode"),
        directory.path().join("out"),
    );
    let arguments = [
        "perf",
        "run",
        file,
        "--duration",
        CLOSED_SECONDS,
        "--format",
        "json",
        "--out",
    ];
    let mut command = Command::new(CORELANE);
    command
        .args(arguments)
        .arg(&out)
        .envs(SMALL_JOURNAL)
        .stdin(Stdio::null());
    let outcome = Outcome::of(command.output().expect("corelane runs"));
    outcome.assert_code(0);
    let outcome: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let runs = outcome["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 2);
    for run in runs {
        let name = run["name"].as_str().expect("a name");
        assert_eq!(run["result"]["durability"], "durable");
        assert_files(&out.join(name), &run["result"]);
    }
}

#[test]
fn a_scenario_that_cannot_be_is_refused_with_its_line() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = directory.path().join("mine.toml");
    let text =
        "description = \"d\"\n\n[[run]]\nname = \"n\"\ncommand = \"produce\"\nrecord-sise = 1\n";
    fs::write(&file, text).expect("a file can be written");
    let outcome = corelane(&["perf", "run", file.to_str().expect("Unicode")]);
    outcome
        .assert_code(2)
        .assert_error_says(&["mine.toml", "line 6", "record-sise"]);
    corelane(&["perf", "run", "nothing-like-it"])
        .assert_code(1)
        .assert_error_says(&["nothing-like-it", "perf scenarios"]);
}

#[test]
fn a_sweep_prints_every_rate_that_it_tried() {
    let load = [
        "--duration",
        "0.2",
        "--warm-up",
        "0",
        "--record-size",
        "100",
    ];
    let bounds = ["--p99", "60000", "--rate", "100", "--precision", "1"];
    let out = tempfile::tempdir().expect("a directory can be made");
    let mut command = Command::new(CORELANE);
    // No rate above is possible, whatever the machine: a debug build does not send ten million records a second.
    command
        .args(["perf", "sweep", "--format", "json"])
        .args(load)
        .args(bounds)
        .arg("--out")
        .arg(out.path())
        .envs(SMALL_JOURNAL)
        .stdin(Stdio::null());
    let outcome = Outcome::of(command.output().expect("corelane runs"));
    let swept: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let steps = swept["steps"].as_array().expect("steps");
    assert!(steps.len() > 1, "{swept}");
    let held = steps.iter().filter(|step| step["failed_by"].is_null());
    let highest = held
        .map(|step| step["rate"].as_u64().expect("a rate"))
        .max();
    assert_eq!(swept["highest_rate"].as_u64(), highest);
    assert_eq!(swept["bound"]["p99_us"], 60_000_000);
    let kept = fs::read(out.path().join("sweep.json")).expect("sweep.json");
    assert_eq!(serde_json::from_slice::<Value>(&kept).expect("JSON"), swept);
    let page = fs::read(out.path().join("report.html")).expect("report.html");
    assert_report(out.path(), &["<svg", "the bound of the p99"]);
    let path = out.path().to_str().expect("Unicode");
    corelane(&["perf", "report", path]).assert_code(0);
    assert_eq!(
        fs::read(out.path().join("report.html")).expect("again"),
        page
    );
    // On a machine that stands still no rate holds.
    outcome.assert_code(if highest.is_some() { 0 } else { 1 });

    corelane(&["perf", "sweep", "--p99", "0"])
        .assert_code(2)
        .assert_error_says(&["--p99"]);
    corelane(&["perf", "sweep"])
        .assert_code(2)
        .assert_error_says(&["--p99"]);
}

#[test]
fn results_are_compared_unless_their_loads_differ() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let paths = ["a", "b", "c"].map(|name| directory.path().join(name));
    let [a, b, c] = paths.each_ref().map(|path| path.to_str().expect("Unicode"));
    result_of(&load(&["latency", "--rate", "100", "--out", a]));
    result_of(&load(&["latency", "--rate", "100", "--out", b]));
    result_of(&load(&[
        "latency",
        "--rate",
        "100",
        "--record-size",
        "50",
        "--out",
        c,
    ]));

    let compared = corelane(&[
        "perf",
        "compare",
        a,
        &format!("{b}/result.json"),
        "--format",
        "json",
    ]);
    compared.assert_code(0);
    let compared: Value = serde_json::from_str(&compared.stdout).expect("JSON");
    assert_eq!(
        compared["differences"].as_array().map(Vec::len),
        Some(0),
        "{compared}"
    );
    let figures = compared["figures"].as_array().expect("figures");
    assert!(
        figures
            .iter()
            .any(|figure| figure["name"] == "latency p99, µs"),
        "{compared}"
    );

    let both = directory.path().join("both");
    let both_path = both.to_str().expect("Unicode");
    corelane(&["perf", "compare", a, b, "--out", both_path]).assert_code(0);
    assert_report(&both, &["<svg", "B / A", a, b]);
    let kept: Value =
        serde_json::from_slice(&fs::read(both.join("comparison.json")).expect("comparison.json"))
            .expect("JSON");
    assert_eq!(kept, compared);
    corelane(&["perf", "compare", a, b, "--out", a])
        .assert_code(1)
        .assert_error_says(&["overwritten", "another directory"]);

    corelane(&["perf", "compare", a, c])
        .assert_code(1)
        .assert_error_says(&["record_size: 1000 and 50", "--anyway"]);
    let anyway = corelane(&["perf", "compare", a, c, "--anyway"]);
    anyway.assert_code(0);
    assert!(
        anyway.stdout.contains("NOT THE SAME LOAD: record_size"),
        "{}",
        anyway.stdout
    );
    assert!(anyway.stdout.contains("B/A"), "{}", anyway.stdout);
    corelane(&["perf", "compare", a, "/dev/null"])
        .assert_code(1)
        .assert_error_says(&["/dev/null"]);
}
