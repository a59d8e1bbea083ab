//! `corelane top` as programs and people without a terminal use it.

mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use support::{TestBroker, corelane};

#[test]
fn one_interval_is_printed_as_a_table_and_as_json() {
    let broker = TestBroker::start();
    broker.create("orders", 4);
    broker.create("payments", 1);
    broker
        .feed(&["produce", "orders"], "a\nb\nc\n")
        .assert_code(0);
    let admin = broker.process().admin().expect("it has an admin endpoint");

    // Without a terminal there is nothing to draw on.
    let table = corelane(&["top", "--admin", admin, "--interval", "0.3"]);
    table.assert_code(0);
    let lines: Vec<_> = table.stdout.lines().collect();
    assert!(lines[0].starts_with(broker.address()), "{}", table.stdout);
    assert!(lines[0].contains("5 partitions"), "{}", table.stdout);
    for (header, row) in [("CORE", "0 "), ("TOPIC", "orders ")] {
        let at = lines
            .iter()
            .position(|line| line.trim_start().starts_with(header));
        let at = at.unwrap_or_else(|| panic!("{}", table.stdout));
        let below = &lines[at + 1..];
        assert!(
            below.iter().any(|line| line.trim_start().starts_with(row)),
            "{}",
            table.stdout
        );
    }

    let json = corelane(&[
        "top",
        "--once",
        "--format",
        "json",
        "--admin",
        admin,
        "--interval",
        "0.3",
    ]);
    json.assert_code(0);
    let view: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(view["phase"], "serving");
    assert_eq!(view["topics"][0]["name"], "orders");
    assert_eq!(view["topics"][0]["records"], 3);
    assert_eq!(view["topics"][0]["partitions"].as_array().unwrap().len(), 4);
    assert!(view["interval_us"].as_u64().unwrap() >= 200_000);
    assert!(view["cores"][0]["memory_cap"].as_u64().unwrap() > 0);
}

#[test]
fn a_broker_that_is_not_there_is_said() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    corelane(&["top", "--once", "--admin", &address])
        .assert_code(1)
        .assert_error_says(&[&address, "--admin", "CORELANE_ADMIN"]);
    corelane(&["top", "--interval", "0"])
        .assert_code(2)
        .assert_error_says(&["0.1 and 3600"]);
}

#[test]
fn a_taken_admin_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let data_dir = directory.path().join("data");
    let data_dir = data_dir.to_str().unwrap();
    let serve = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        data_dir,
        "--admin-listen",
        &address,
    ];
    corelane(&serve).assert_code(1).assert_error_says(&[
        &address,
        "another broker",
        "--admin-listen",
    ]);
}

/// Reading a terminal that is gone returns nothing for ever: a process that does not notice runs on, and busily.
#[test]
fn a_terminal_that_is_gone_ends_the_live_view() {
    let broker = TestBroker::start();
    let admin = broker.process().admin().expect("it has an admin endpoint");
    let command = format!(
        "exec {} top --admin {admin}",
        env!("CARGO_BIN_EXE_corelane")
    );
    let mut terminal = Command::new("script")
        .args(["--quiet", "--command", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("bsdutils is part of every Debian");
    let children = format!("/proc/{0}/task/{0}/children", terminal.id());
    let is_top = |pid: &str| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).nth(1) == Some(b"top"))
    };
    let top = wait_for(|| {
        let pids = std::fs::read_to_string(&children).ok()?;
        pids.split_whitespace()
            .find(|pid| is_top(pid))
            .map(str::to_owned)
    });
    // It has drawn something, so it reads the terminal as well.
    let mut drawn = [0; 1];
    std::io::Read::read_exact(terminal.stdout.as_mut().expect("piped"), &mut drawn)
        .expect("it draws");
    terminal.kill().expect("it runs");
    terminal.wait().expect("it was killed");
    wait_for(|| (!is_top(&top)).then_some(()));
}

fn wait_for<T>(mut found: impl FnMut() -> Option<T>) -> T {
    for _ in 0..2000 {
        if let Some(found) = found() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it does not come to that within 20 s");
}
