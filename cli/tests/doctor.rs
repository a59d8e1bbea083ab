//! The doctor looks at the real machine, leaves nothing behind, and agrees with what a broker does.

mod support;

use std::process::Command;

use serde_json::Value;
use support::{CORELANE, TestBroker, corelane};

/// The check of this name in a report.
fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().expect("a list of checks");
    checks
        .iter()
        .find(|check| check["check"] == name)
        .unwrap_or_else(|| panic!("no check {name} in {report:#}"))
}

#[test]
fn a_machine_that_runs_the_tests_can_serve() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let data = directory.path().join("data");
    let arguments = [
        "doctor",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--data-dir",
        data.to_str().unwrap(),
    ];
    let outcome = corelane(&arguments);
    outcome.assert_code(0);
    let widest = outcome
        .stdout
        .lines()
        .map(|line| line.chars().count())
        .max();
    assert!(widest <= Some(100), "{}", outcome.stdout);
    for part in [
        "STATE",
        "kernel",
        "io_uring",
        "would be made in",
        "a broker can serve here: 0 problems",
    ] {
        assert!(
            outcome.stdout.contains(part),
            "{part} is not in {}",
            outcome.stdout
        );
    }
    let outcome = corelane(&[&arguments[..], &["--format", "json"]].concat());
    outcome.assert_code(0);
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(report["can_serve"], true);
    assert_eq!(check(&report, "io_uring")["state"], "ok");
    assert_eq!(check(&report, "io_uring")["advice"], Value::Null);
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 0, "something was left behind");
}

#[test]
fn a_running_broker_is_recognised() {
    let broker = TestBroker::start();
    let data = broker.launcher.data_dir.to_str().unwrap();
    let arguments = [
        "doctor",
        "--data-dir",
        data,
        "--listen",
        broker.address(),
        "--admin-listen",
        "off",
        "--format",
        "json",
    ];
    let outcome = corelane(&arguments);
    outcome.assert_code(0);
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let user = format!("used by a broker (process {})", broker.process().id());
    for name in ["address", "data directory"] {
        let found = check(&report, name)["found"].as_str().unwrap();
        assert!(found.ends_with(&user) || found.contains(&user), "{found}");
    }
    broker.create("still-there", 1);
}

#[test]
fn what_keeps_a_broker_from_serving_is_exit_code_1() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let outcome = corelane(&[
        "doctor",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "off",
        "--data-dir",
        file.to_str().unwrap(),
    ]);
    outcome.assert_code(1);
    assert_eq!(outcome.stderr, "");
    assert!(
        outcome.stdout.contains("is no directory"),
        "{}",
        outcome.stdout
    );
    assert!(
        outcome.stdout.contains("cannot serve here: 1 problem,"),
        "{}",
        outcome.stdout
    );

    // A limit that glommio refuses: the doctor and the broker agree.
    for command in ["doctor", "serve"] {
        let script =
            "ulimit -l 64 && exec timeout 60 \"$0\" \"$1\" --listen 127.0.0.1:0 --data-dir data";
        let output = Command::new("bash")
            .args(["-c", script, CORELANE, command])
            .current_dir(directory.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}: {output:?}");
        let hint = String::from_utf8_lossy(&output.stderr).contains("`corelane doctor`");
        assert_eq!(hint, command == "serve", "{output:?}");
    }
}

#[test]
fn a_taken_admin_address_is_found_as_serve_finds_it() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let data = directory.path().join("data");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = taken.local_addr().unwrap().to_string();
    let arguments = |command| {
        let data = data.to_str().unwrap();
        let listen = "127.0.0.1:0";
        [
            command,
            "--listen",
            listen,
            "--admin-listen",
            &admin,
            "--data-dir",
            data,
        ]
        .map(str::to_owned)
    };
    let run = |command| {
        let arguments = arguments(command);
        corelane(&arguments.each_ref().map(String::as_str))
    };
    let outcome = run("doctor");
    outcome.assert_code(1);
    let found = format!("{admin} is taken by another program");
    assert!(outcome.stdout.contains(&found), "{}", outcome.stdout);
    run("serve").assert_error_says(&[&admin, "--admin-listen"]);
}

#[test]
fn a_configuration_that_serve_refuses_is_refused_here() {
    corelane(&["doctor", "--listen", "0.0.0.0:0"])
        .assert_code(2)
        .assert_error_says(&["--insecure"]);
}
