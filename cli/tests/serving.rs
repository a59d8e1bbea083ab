//! A broker starts, says so, refuses what it must, stops cleanly, and comes back after a kill with
//! everything that it had acknowledged.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use support::{CORELANE, SMALL_JOURNAL, TestBroker, corelane};

#[test]
fn exactly_one_line_says_ready() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let mut child = Command::new(CORELANE)
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--cores",
            "1",
            "--admin-listen",
            "127.0.0.1:0",
            "--data-dir",
        ])
        .arg(directory.path().join("data"))
        .envs(SMALL_JOURNAL)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.next().unwrap().unwrap();
    let addresses = ready.strip_prefix("ready ").unwrap();
    let (address, admin) = addresses.split_once(" admin ").unwrap();
    assert!(admin.starts_with("127.0.0.1:"), "{admin}");
    let (host, port) = address.rsplit_once(':').unwrap();
    assert_eq!(host, "127.0.0.1");
    assert_ne!(port.parse::<u16>().unwrap(), 0);
    corelane(&["topic", "list", "--broker", address]).assert_code(0);
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -INT {}", child.id()))
        .status();
    assert!(status.unwrap().success());
    assert!(child.wait().unwrap().success());
    assert!(lines.next().is_none());
}

#[test]
fn acknowledged_records_survive_kills() {
    let mut broker = TestBroker::start();
    broker.create("t", 4);
    let mut expected = Vec::new();
    for round in 0..5 {
        let input: String = (0..1000)
            .map(|line| format!("{round}-{line:04}\n"))
            .collect();
        broker.feed(&["produce", "t"], &input).assert_code(0);
        expected.extend(input.lines().map(str::to_owned));
        broker.kill();
        broker.restart();
        let output = broker.succeed(&["consume", "t", "--until-end"]);
        let mut found: Vec<_> = output.lines().collect();
        found.sort_unstable();
        assert_eq!(found, expected, "after kill {round}");
    }
    broker.stop();
    broker.restart();
    assert_eq!(
        broker
            .succeed(&["consume", "t", "--until-end"])
            .lines()
            .count(),
        expected.len()
    );
}

#[test]
fn a_producer_and_a_consumer_go_on_through_a_kill() {
    let mut broker = TestBroker::start();
    broker.create("t", 2);
    let mut consumer = broker
        .command(&["consume", "t", "--max", "2000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = consumer.stdout.take().unwrap();
    let reader = std::thread::spawn(move || BufReader::new(output).lines().count());
    let mut producer = broker
        .command(&["produce", "t", "--receipts"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = producer.stdin.take().unwrap();
    let mut receipts = BufReader::new(producer.stdout.take().unwrap()).lines();
    let lines =
        |range: std::ops::Range<u32>| -> String { range.map(|line| format!("{line}\n")).collect() };
    std::io::Write::write_all(&mut input, lines(0..1000).as_bytes()).unwrap();
    for _ in 0..1000 {
        receipts.next().unwrap().unwrap();
    }
    broker.kill();
    std::io::Write::write_all(&mut input, lines(1000..2000).as_bytes()).unwrap();
    drop(input);
    std::thread::sleep(Duration::from_millis(300));
    broker.restart();
    assert_eq!(receipts.map(Result::unwrap).count(), 1000);
    assert!(producer.wait().unwrap().success());
    assert_eq!(reader.join().unwrap(), 2000);
    assert!(consumer.wait().unwrap().success());
}

#[test]
fn a_data_directory_has_one_broker() {
    let broker = TestBroker::start();
    let data_dir = broker.launcher.data_dir.to_str().unwrap();
    let second = corelane(&["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir]);
    second.assert_code(1).assert_error_says(&[data_dir]);
    assert_eq!(second.stdout, "");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let data_dir = directory.path().join("data");
    let outcome = corelane(&[
        "serve",
        "--listen",
        &address,
        "--data-dir",
        data_dir.to_str().unwrap(),
    ]);
    outcome
        .assert_code(1)
        .assert_error_says(&[&address, "another broker", "--listen"]);
}

#[test]
fn a_directory_that_is_not_ours_is_left_alone() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::write(directory.path().join("thesis"), "x").unwrap();
    let path = directory.path().to_str().unwrap();
    let serve = |path: &str| corelane(&["serve", "--listen", "127.0.0.1:0", "--data-dir", path]);
    serve(path)
        .assert_code(1)
        .assert_error_says(&[path, "'thesis'", "empty directory"]);
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 1);
    serve(&format!("{path}/thesis/data"))
        .assert_code(1)
        .assert_error_says(&["thesis is not a directory"]);
}

#[test]
fn impossible_settings_are_refused_with_their_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("corelane.toml");
    let serve = |text: &str, arguments: &[&str]| {
        std::fs::write(&file, text).unwrap();
        corelane(&[&["serve", "--config", file.to_str().unwrap()], arguments].concat())
    };
    serve("\nlisten = \"127.0.0.1:0\"\ndata_dri = \"x\"\n", &[])
        .assert_code(2)
        .assert_error_says(&["corelane.toml:3", "data_dri", "corelane.example.toml"]);
    serve("[logs]\n", &[])
        .assert_code(2)
        .assert_error_says(&["corelane.toml:1", "[log], [journal]"]);
    serve("[limits]\nframe_bytes_max = 1\n", &[])
        .assert_code(2)
        .assert_error_says(&["corelane.toml:2", "frame_bytes_max"]);
    serve("", &["--listen", "0.0.0.0:0"])
        .assert_code(2)
        .assert_error_says(&["--insecure"]);
    serve("", &["--cores", "none"])
        .assert_code(2)
        .assert_error_says(&["--cores", "--help"]);
    corelane(&["serve", "--config", "/nowhere.toml"])
        .assert_code(1)
        .assert_error_says(&["/nowhere.toml"]);
}

#[test]
fn cores_can_be_chosen() {
    let broker = TestBroker::start_with(&[("CORELANE_CORES", "1")]);
    broker.create("t", 3);
    let described = broker.succeed(&["topic", "describe", "t", "--format", "json"]);
    let described: serde_json::Value = serde_json::from_str(&described).unwrap();
    for partition in described["partitions"].as_array().unwrap() {
        assert_eq!(partition["core"], 0);
    }
}
