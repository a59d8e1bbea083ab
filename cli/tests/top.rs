//! `corelane top` as programs and people without a terminal use it.

mod support;

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
