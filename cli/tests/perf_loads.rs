//! The loads of `corelane perf`: what each does to a broker, of its own or any other, and what it refuses. The figures
//! themselves are not judged.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::perf::{CLOSED_SECONDS, assert_latency, load, load_for, result_of};
use support::{CORELANE, Outcome, SMALL_JOURNAL, TestBroker};

#[test]
fn the_limit_of_the_machine_stands_beside_a_load() {
    for (command, names) in [
        ("produce", &["relay, recycled", "relay, fresh"][..]),
        ("latency", &["relay, recycled", "relay, fresh"]),
        ("consume", &["TCP with CRC32C"]),
    ] {
        let fill = match command {
            "consume" => &["--fill-bytes", "1MB"][..],
            _ => &[],
        };
        let result = result_of(&load(&[&[command, "--with-limit"], fill].concat()));
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
fn what_cannot_work_is_refused_before_anything_is_sent() {
    let cases: [(&[&str], &[&str]); 10] = [
        (
            &["latency", "--fill-bytes", "1MB"],
            &["--fill-bytes", "only consume"],
        ),
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
fn a_disk_without_room_is_named_where_records_were_not_acknowledged() {
    let mut command = Command::new(CORELANE);
    command
        .args([
            "perf",
            "latency",
            "--rate",
            "20",
            "--duration",
            "0.5",
            "--warm-up",
            "0",
        ])
        .envs(SMALL_JOURNAL)
        .env("CORELANE_LOG_DISK_RESERVE_BYTES", "1000GiB")
        .stdin(Stdio::null());
    Outcome::of(command.output().expect("corelane runs"))
        .assert_code(1)
        .assert_error_says(&[
            "the broker's disk has",
            "GB free",
            "none of the last 1073.74 GB",
        ]);
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

/// What a broker's cores remember of idempotent producers, bytes.
fn producers_bytes(broker: &TestBroker) -> f64 {
    let admin = broker.process().admin().expect("it has one");
    let mut stream = TcpStream::connect(admin).expect("the admin endpoint listens");
    let request = b"GET /metrics HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n";
    stream.write_all(request).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let lines = answer.lines();
    let values = lines.filter_map(|line| {
        let line = line.strip_prefix("corelane_store_producers_bytes{")?;
        line.rsplit_once(' ')?.1.parse::<f64>().ok()
    });
    values.sum()
}

#[test]
fn producers_are_idempotent_unless_told_otherwise() {
    let broker = TestBroker::start();
    let run = |how: &[&str]| {
        let to = ["produce", "--rate", "500", "--broker", broker.address()];
        let to = [&to[..], &["--topic", "t"], how].concat();
        let result = result_of(&load(&to));
        let manifest = &result["manifest"];
        let said = [&manifest["workload"], &manifest["client"]];
        (
            said.map(|part| part["idempotent"] == true),
            producers_bytes(&broker),
        )
    };
    assert_eq!(run(&["--idempotent", "false"]), ([false; 2], 0.0));
    let (said, remembered) = run(&[]);
    assert_eq!(said, [true; 2]);
    assert!(remembered > 0.0, "{remembered}");
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
