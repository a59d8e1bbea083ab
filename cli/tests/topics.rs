//! Topics are made, shown and deleted, for people and for programs.

mod support;

use serde_json::Value;
use support::{TestBroker, corelane};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_topic_lives_from_create_to_delete() {
    let broker = TestBroker::start();
    assert_eq!(
        json(&broker.succeed(&["topic", "list", "--format", "json"])),
        Value::Array(vec![])
    );

    let created = broker.succeed(&["topic", "create", "orders", "--partitions", "3"]);
    assert!(
        created.contains("created topic orders with 3 partitions"),
        "{created}"
    );
    let created = json(&broker.succeed(&[
        "topic",
        "create",
        "audit",
        "--partitions",
        "1",
        "--config",
        "segment.bytes=1048576",
        "--config",
        "max.message.bytes=65536",
        "--format",
        "json",
    ]));
    assert_eq!(
        (&created["name"], &created["partitions"]),
        (&"audit".into(), &1.into())
    );

    let listed = json(&broker.succeed(&["topic", "list", "--format", "json"]));
    let names: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|topic| &topic["name"])
        .collect();
    assert_eq!(names, ["audit", "orders"]);
    assert_eq!(listed[0]["id"], created["id"]);
    assert_eq!(listed[1]["partitions"], 3);

    let described = json(&broker.succeed(&["topic", "describe", "audit", "--format", "json"]));
    assert_eq!(described["id"], created["id"]);
    let partition = &described["partitions"][0];
    assert_eq!(partition["partition"], 0);
    assert_eq!(partition["state"], "online");
    assert_eq!(partition["high_watermark"], 0);
    assert_eq!(partition["error"], Value::Null);
    let setting = |key: &str| {
        let configs = described["configs"].as_array().unwrap();
        configs
            .iter()
            .find(|config| config["key"] == key)
            .cloned()
            .unwrap_or(Value::Null)
    };
    assert_eq!(setting("segment.bytes")["value"], "1048576");
    assert_eq!(setting("segment.bytes")["source"], "topic");
    assert_eq!(setting("flush.ms")["source"], "default");

    let deleted = broker.succeed(&["topic", "delete", "audit"]);
    assert!(deleted.contains("deleted topic audit"), "{deleted}");
    let gone = broker.run(&["topic", "describe", "audit"]);
    gone.assert_code(1)
        .assert_error_says(&["no topic 'audit'", "corelane topic create audit"]);
    broker.run(&["topic", "delete", "audit"]).assert_code(1);
}

#[test]
fn settings_are_changed_while_the_topic_serves() {
    let mut broker = TestBroker::start();
    broker.create("orders", 2);
    let setting = |broker: &TestBroker, key: &str| {
        let described = broker.succeed(&["topic", "describe", "orders", "--format", "json"]);
        let described = json(&described);
        let configs = described["configs"].as_array().unwrap();
        let found = configs.iter().find(|config| config["key"] == key).unwrap();
        let text = |field: &str| found[field].as_str().unwrap().to_owned();
        (text("value"), text("source"))
    };
    let alter = ["topic", "alter", "orders", "--config", "flush.ms=250"];
    let checked = broker.succeed(&[&alter[..], &["--dry-run"]].concat());
    assert!(checked.contains("could be changed"), "{checked}");
    assert_eq!(setting(&broker, "flush.ms"), ("0".into(), "default".into()));
    let altered = broker.succeed(&alter);
    assert!(altered.contains("changed the settings"), "{altered}");
    assert_eq!(setting(&broker, "flush.ms"), ("250".into(), "topic".into()));

    broker.kill();
    broker.restart();
    assert_eq!(setting(&broker, "flush.ms"), ("250".into(), "topic".into()));
    let unset = ["--unset", "flush.ms", "--config", "segment.bytes=1MiB"];
    broker.succeed(&[&["topic", "alter", "orders"], &unset[..]].concat());
    assert_eq!(setting(&broker, "flush.ms"), ("0".into(), "default".into()));
    assert_eq!(
        setting(&broker, "segment.bytes"),
        ("1048576".into(), "topic".into())
    );

    let refused = |arguments: &[&str]| broker.run(&[&["topic", "alter"], arguments].concat());
    refused(&["orders"])
        .assert_code(2)
        .assert_error_says(&["--config"]);
    refused(&["orders", "--config", "segment.bites=1"])
        .assert_code(1)
        .assert_error_says(&["segment.bites", "segment.bytes"]);
    refused(&["nothing", "--unset", "flush.ms"])
        .assert_code(1)
        .assert_error_says(&["no topic 'nothing'"]);
}

#[test]
fn topics_get_more_partitions() {
    let mut broker = TestBroker::start();
    broker.create("orders", 2);
    let add = |broker: &TestBroker, arguments: &[&str]| {
        broker.run(&[&["topic", "add-partitions", "orders"], arguments].concat())
    };
    let count = |broker: &TestBroker| {
        let described = broker.succeed(&["topic", "describe", "orders", "--format", "json"]);
        json(&described)["partitions"].as_array().unwrap().len()
    };
    add(&broker, &["--partitions", "5", "--dry-run"]).assert_code(0);
    assert_eq!(count(&broker), 2);
    let added = add(&broker, &["--partitions", "5"]);
    added.assert_code(0);
    assert!(added.stdout.contains("now has 5"), "{}", added.stdout);
    assert_eq!(count(&broker), 5);
    broker
        .feed(&["produce", "orders", "--partition", "4"], "a\nb\n")
        .assert_code(0);
    add(&broker, &["--partitions", "5"])
        .assert_code(1)
        .assert_error_says(&["has 5 partitions", "only added"]);
    broker.kill();
    broker.restart();
    assert_eq!(count(&broker), 5);
    let read = broker.succeed(&["consume", "orders", "--partition", "4", "--until-end"]);
    assert_eq!(read, "a\nb\n");
}

#[test]
fn the_oldest_records_are_deleted_and_others_found_by_time() {
    let mut broker = TestBroker::start();
    broker.create("orders", 1);
    broker
        .feed(&["produce", "orders"], "a\nb\nc\nd\n")
        .assert_code(0);
    let delete = |broker: &TestBroker, arguments: &[&str]| {
        let command = ["topic", "delete-records", "orders", "--partition", "0"];
        broker.run(&[&command[..], arguments].concat())
    };
    let read = |broker: &TestBroker, from: &str| {
        broker.succeed(&["consume", "orders", "--until-end", "--from", from])
    };
    let looked = delete(&broker, &["--before", "2", "--dry-run"]);
    assert!(
        looked.stdout.contains("would delete 2 records"),
        "{}",
        looked.stdout
    );
    assert_eq!(read(&broker, "start"), "a\nb\nc\nd\n");
    let deleted = delete(&broker, &["--before", "2"]);
    assert!(
        deleted.stdout.contains("deleted 2 records"),
        "{}",
        deleted.stdout
    );
    assert_eq!(read(&broker, "start"), "c\nd\n");
    delete(&broker, &["--before", "5"])
        .assert_code(1)
        .assert_error_says(&["has no offset 5", "will have 4"]);
    delete(&broker, &["--before", "all"]).assert_code(2);
    broker.kill();
    broker.restart();
    assert_eq!(read(&broker, "start"), "c\nd\n");
    assert_eq!(read(&broker, "@2020-01-31T08:00:00Z"), "c\nd\n");
    assert_eq!(read(&broker, "@4102444800000"), "");
    delete(&broker, &["--before", "end"]).assert_code(0);
    assert_eq!(read(&broker, "start"), "");
}

#[test]
fn tables_are_for_people() {
    let broker = TestBroker::start();
    let empty = broker.run(&["topic", "list"]);
    empty
        .assert_code(0)
        .assert_error_says(&["no topics", "corelane topic create"]);
    assert_eq!(empty.stdout, "");

    broker.create("orders", 2);
    broker
        .feed(&["produce", "orders", "--partition", "1"], "a\nb\nc\n")
        .assert_code(0);
    let listed = broker.succeed(&["topic", "list"]);
    let mut lines = listed.lines();
    assert_eq!(
        lines.next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["TOPIC", "PARTITIONS", "ID"]
    );
    assert!(lines.next().unwrap().starts_with("orders"), "{listed}");
    assert_eq!(lines.next(), None);

    let described = broker.succeed(&["topic", "describe", "orders"]);
    for part in [
        "records     3",
        "HIGH WATERMARK",
        "online",
        "segment.bytes",
        "SET BY",
    ] {
        assert!(described.contains(part), "{part} is not in\n{described}");
    }
    assert!(
        described.lines().all(|line| line == line.trim_end()),
        "{described}"
    );
}

#[test]
fn what_cannot_be_made_is_refused_with_the_reason() {
    let broker = TestBroker::start();
    broker.create("orders", 1);
    let create = |arguments: &[&str]| broker.run(&[&["topic", "create"], arguments].concat());
    create(&["orders", "--partitions", "1"])
        .assert_code(1)
        .assert_error_says(&["exists already"]);
    create(&["a/b", "--partitions", "1"])
        .assert_code(1)
        .assert_error_says(&["'/'"]);
    create(&["x", "--partitions", "0"])
        .assert_code(2)
        .assert_error_says(&["--partitions"]);
    create(&["x"])
        .assert_code(2)
        .assert_error_says(&["--partitions"]);
    create(&["x", "--partitions", "1", "--config", "nonsense"]).assert_code(2);
    create(&["x", "--partitions", "1", "--config", "segment.bites=1"])
        .assert_code(1)
        .assert_error_says(&["segment.bites", "segment.bytes"]);
    create(&["x", "--partitions", "1", "--config", "segment.bytes=many"])
        .assert_code(1)
        .assert_error_says(&["segment.bytes", "many"]);
}

#[test]
fn a_broker_that_is_not_there_is_said_to_be_missing() {
    // Port 1 is reserved and not listened on.
    let outcome = corelane(&["topic", "list", "--broker", "127.0.0.1:1"]);
    outcome
        .assert_code(1)
        .assert_error_says(&["127.0.0.1:1", "corelane serve", "--broker"]);
    corelane(&["topic", "list", "--broker", "nonsense"]).assert_code(2);
}

#[test]
fn topics_survive_a_kill() {
    let mut broker = TestBroker::start();
    broker.create("kept", 4);
    broker.create("dropped", 2);
    broker.succeed(&["topic", "delete", "dropped"]);
    let before = broker.succeed(&["topic", "describe", "kept", "--format", "json"]);
    broker.kill();
    broker.restart();
    let listed = json(&broker.succeed(&["topic", "list", "--format", "json"]));
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let after = broker.succeed(&["topic", "describe", "kept", "--format", "json"]);
    let (mut before, after) = (json(&before), json(&after));
    assert_eq!(before["id"], after["id"]);
    // Nobody stopped the broker in order, and so a new leader epoch has begun.
    for partition in before["partitions"].as_array_mut().unwrap() {
        assert_eq!(partition["leader_epoch"], 0);
        partition["leader_epoch"] = 1.into();
    }
    assert_eq!(before["partitions"], after["partitions"]);
}

#[test]
fn a_description_says_what_bounds_a_value() {
    let broker = TestBroker::start();
    let setting = "segment.bytes=65536";
    broker.succeed(&[
        "topic",
        "create",
        "t",
        "--partitions",
        "1",
        "--config",
        setting,
    ]);
    let table = broker.succeed(&["topic", "describe", "t"]);
    let row = table.lines().find(|row| row.contains("max.message.bytes"));
    let row = row.unwrap_or_else(|| panic!("{table}"));
    assert!(row.contains("57344"), "{row}");
    assert!(row.contains("broker, bounded by segment.bytes"), "{row}");
    let described = json(&broker.succeed(&["topic", "describe", "t", "--format", "json"]));
    for config in described["configs"].as_array().unwrap() {
        let expected = match config["key"].as_str() {
            Some("max.message.bytes") => Value::from("segment.bytes"),
            _ => Value::Null,
        };
        assert_eq!(config["bounded_by"], expected, "{config}");
    }
}

#[test]
fn a_topic_is_compacted_by_key_where_its_policy_says_so() {
    let broker = TestBroker::start_with(&[("CORELANE_LOG_MIN_CLEANABLE_DIRTY_RATIO", "0.25")]);
    let compact = ["--partitions", "1", "--config", "cleanup.policy=compact"];
    broker.succeed(&[&["topic", "create", "prices"][..], &compact].concat());
    let setting = |key: &str| {
        let described = broker.succeed(&["topic", "describe", "prices", "--format", "json"]);
        let described = json(&described);
        let configs = described["configs"].as_array().unwrap();
        let found = configs.iter().find(|config| config["key"] == key).unwrap();
        let text = |field: &str| found[field].as_str().unwrap().to_owned();
        (text("value"), text("source"))
    };
    let is = |key: &str, value: &str, source: &str| {
        assert_eq!(setting(key), (value.into(), source.into()), "{key}");
    };
    is("cleanup.policy", "compact", "topic");
    is("min.compaction.lag.ms", "0", "default");
    is("delete.retention.ms", "86400000", "default");
    is("min.cleanable.dirty.ratio", "0.25", "broker");

    let produce = ["produce", "prices"];
    let keyed = [&produce[..], &["--key-separator", "="]].concat();
    broker.feed(&keyed, "tea=3\ncake=4\n").assert_code(0);
    broker
        .feed(&produce, "nobody knows whose\n")
        .assert_code(1)
        .assert_error_says(&["line 1", "has no key", "compacted by key"]);
    let compressed = [&produce[..], &["--compression", "zstd"]].concat();
    broker
        .feed(&compressed, "x".repeat(3_000) + "\n")
        .assert_code(0);

    let both = ["--config", "cleanup.policy=delete,compact"];
    let ratio = ["--config", "min.cleanable.dirty.ratio=0.10"];
    broker.succeed(&[&["topic", "alter", "prices"], &both[..], &ratio].concat());
    is("cleanup.policy", "compact,delete", "topic");
    is("min.cleanable.dirty.ratio", "0.1", "topic");
    for (setting, part) in [
        (
            "cleanup.policy=keep",
            "choose delete, compact, or compact,delete",
        ),
        ("min.cleanable.dirty.ratio=7", "a number from 0 to 1"),
        ("delete.retention.ms=never", "not a duration"),
    ] {
        broker
            .run(&["topic", "alter", "prices", "--config", setting])
            .assert_code(1)
            .assert_error_says(&[part]);
    }
    broker.succeed(&["topic", "alter", "prices", "--unset", "cleanup.policy"]);
    is("cleanup.policy", "delete", "default");
    broker.feed(&produce, "anybody\n").assert_code(0);
}

#[test]
fn a_reader_reports_what_it_has_printed() {
    let mut broker = TestBroker::start();
    let named = [
        "--partitions",
        "1",
        "--config",
        "retention.guard.readers=billing,audit",
    ];
    broker.succeed(&[&["topic", "create", "t"][..], &named].concat());
    broker
        .feed(&["produce", "t"], "a\nb\nc\nd\n")
        .assert_code(0);
    let read = |broker: &TestBroker, more: &[&str]| {
        let consume = ["consume", "t", "--reader", "billing"];
        broker.succeed(&[&consume[..], more].concat())
    };
    // Only what was printed, although more was fetched.
    assert_eq!(read(&broker, &["--max", "3"]), "a\nb\nc\n");
    let described = |broker: &TestBroker| {
        let text = broker.succeed(&["topic", "describe", "t", "--format", "json"]);
        json(&text)["partitions"][0]["readers"].clone()
    };
    let billing = |position: u64, lag: u64, expired_unread: u64| {
        serde_json::json!({
            "name": "billing", "position": position, "lag": lag, "expired_unread": expired_unread
        })
    };
    let readers = described(&broker);
    assert_eq!(readers[0]["name"], "audit");
    assert_eq!(readers[1], billing(3, 1, 0));
    let deleted = [
        "topic",
        "delete-records",
        "t",
        "--partition",
        "0",
        "--before",
        "end",
    ];
    broker.succeed(&deleted);
    assert_eq!(described(&broker)[1], billing(3, 0, 1));
    broker.stop();
    broker.restart();
    assert_eq!(described(&broker)[1], billing(3, 0, 1));
    let table = broker.succeed(&["topic", "describe", "t"]);
    assert!(table.contains("EXPIRED UNREAD"), "{table}");
    broker
        .run(&["consume", "t", "--until-end", "--reader", "nobody"])
        .assert_code(0);
    broker.feed(&["produce", "t"], "e\n").assert_code(0);
    broker
        .run(&["consume", "t", "--until-end", "--reader", "nobody"])
        .assert_code(1)
        .assert_error_says(&["nobody", "retention.guard.readers"]);
    let refused = ["topic", "alter", "t", "--config", "retention.guard=maybe"];
    broker
        .run(&refused)
        .assert_code(1)
        .assert_error_says(&["choose off, warn or wait"]);
}

/// Through a kill: what is left is the last record of each key, at its offset.
#[test]
fn a_topic_is_compacted_by_key() {
    let mut broker = TestBroker::start();
    let settings = [
        "cleanup.policy=compact",
        "segment.bytes=1048576",
        "segment.ms=1000",
        "min.cleanable.dirty.ratio=0.01",
    ];
    let settings = settings.iter().flat_map(|setting| ["--config", setting]);
    let create = ["topic", "create", "users", "--partitions", "1"].into_iter();
    broker.succeed(&create.chain(settings).collect::<Vec<_>>());
    let refused = broker.feed(&["produce", "users"], "no key\n");
    refused.assert_error_says(&["record 0", "has no key", "compacted by key"]);

    let padding = "x".repeat(100);
    let round = |number: usize| -> String {
        let lines =
            (0..10_000).map(|line| format!("user {}|{number} {line} {padding}\n", line % 50));
        lines.collect()
    };
    let produce = ["produce", "users", "--key-separator", "|"];
    broker.feed(&produce, round(0)).assert_code(0);
    broker.feed(&produce, round(1)).assert_code(0);
    broker.kill();
    broker.restart();
    broker.feed(&produce, round(2)).assert_code(0);

    let consume = ["consume", "users", "--until-end", "--format", "json"];
    let mut left = String::new();
    for _ in 0..300 {
        left = broker.succeed(&consume);
        if left.lines().count() <= 50 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let left: Vec<Value> = left.lines().map(json).collect();
    assert_eq!(left.len(), 50, "{}", broker.log());
    for (index, record) in left.iter().enumerate() {
        let line = 9_950 + index;
        assert_eq!(record["key"], format!("user {}", line % 50));
        assert_eq!(record["offset"], 20_000 + line);
        assert_eq!(record["value"], format!("2 {line} {padding}"));
    }
}
