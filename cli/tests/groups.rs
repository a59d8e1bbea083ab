//! Consumer groups on the command line: members that share topics, and the groups themselves.

mod support;

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::mpsc::Receiver;

use serde_json::Value;
use support::TestBroker;
use support::broker_process::OwnedChild;
use support::running::{await_line, lines, signal, spawn};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A group as `describe` shows it to programs.
#[track_caller]
fn describe(broker: &TestBroker, group: &str) -> Value {
    json(&broker.succeed(&["group", "describe", group, "--format", "json"]))
}

/// What is committed of each partition that has an offset or an owner.
#[track_caller]
fn committed(broker: &TestBroker, group: &str) -> Vec<Value> {
    let described = describe(broker, group);
    let partitions = described["partitions"]
        .as_array()
        .expect("partitions are a list");
    let committed = partitions.iter().map(|one| one["committed"].clone());
    committed.collect()
}

#[track_caller]
fn produce(broker: &TestBroker, topic: &str, partition: u32, lines: &str) {
    let command = ["produce", topic, "--partition", &partition.to_string()];
    broker.feed(&command, lines).assert_code(0);
}

/// Reads as a member of the group to the end, and gives the lines in order.
#[track_caller]
fn read(broker: &TestBroker, arguments: &[&str]) -> Vec<String> {
    let command = [&["consume"], arguments, &["--until-end"]].concat();
    let outcome = broker.run(&command);
    outcome.assert_code(0);
    // Shown where the test fails.
    print!("{}", outcome.stderr);
    let mut lines: Vec<_> = outcome.stdout.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// A broker whose members hear soon of what others do.
fn lively() -> TestBroker {
    TestBroker::start_with(&[("CORELANE_GROUPS_HEARTBEAT_INTERVAL_MS_MAX", "100")])
}

/// A member that prints for ever.
struct Member {
    child: OwnedChild,
    printed: Receiver<String>,
    said: Receiver<String>,
}

impl Member {
    fn join(broker: &TestBroker, arguments: &[&str]) -> Self {
        let mut child = spawn(broker, &[&["consume"], arguments].concat());
        Self {
            printed: lines(child.0.stdout.take().expect("it is piped")),
            said: lines(child.0.stderr.take().expect("it is piped")),
            child,
        }
    }

    /// Ends it by a signal that it takes in order.
    #[track_caller]
    fn end(mut self, name: &str, code: i32) {
        signal(&self.child, name);
        let ended = self.child.0.wait().expect("it ends");
        assert_eq!(ended.code(), Some(code));
    }
}

#[test]
fn a_group_goes_on_where_it_has_come_to() {
    let mut broker = TestBroker::start();
    broker.create("orders", 2);
    produce(&broker, "orders", 0, "a\nb\nc\n");
    produce(&broker, "orders", 1, "d\n");
    let none = broker.run(&["group", "list"]);
    none.assert_code(0)
        .assert_error_says(&["no groups", "--group NAME"]);

    let billing = ["orders", "--group", "billing"];
    assert_eq!(read(&broker, &billing), ["a", "b", "c", "d"]);
    assert_eq!(read(&broker, &billing), [""; 0]);
    produce(&broker, "orders", 1, "e\n");
    broker.kill();
    broker.restart();
    assert_eq!(read(&broker, &billing), ["e"]);

    let listed = json(&broker.succeed(&["group", "list", "--format", "json"]));
    let (name, state) = (&listed[0]["name"], &listed[0]["state"]);
    assert_eq!((name, state), (&"billing".into(), &"empty".into()));
    let (members, offsets) = (&listed[0]["members"], &listed[0]["offsets"]);
    assert_eq!((members, offsets), (&0.into(), &2.into()));
    let table = broker.succeed(&["group", "list"]);
    assert!(table.starts_with("GROUP "), "{table}");

    let described = describe(&broker, "billing");
    assert_eq!(described["lag"], 0);
    let partition = &described["partitions"][1];
    assert_eq!(partition["topic"], "orders");
    assert_eq!(partition["partition"], 1);
    assert_eq!(partition["member"], Value::Null);
    assert_eq!(partition["committed"], 2);
    assert_eq!(partition["high_watermark"], 2);
    produce(&broker, "orders", 0, "f\n");
    let described = broker.succeed(&["group", "describe", "billing"]);
    for part in ["state       empty", "lag         1", "HIGH WATERMARK"] {
        assert!(described.contains(part), "{described}");
    }

    let deleted = broker.succeed(&["group", "delete", "billing"]);
    assert_eq!(deleted, "deleted group billing\n");
    for action in ["describe", "delete"] {
        let gone = broker.run(&["group", action, "billing"]);
        gone.assert_code(1)
            .assert_error_says(&["no group 'billing'", "corelane group list"]);
    }
}

#[test]
fn where_a_group_begins_and_how_far_it_is_committed() {
    let broker = TestBroker::start();
    broker.create("t", 1);
    produce(&broker, "t", 0, "0\n1\n2\n3\n4\n");
    // All five came in one batch: what was not printed of it is not committed.
    let two = ["consume", "t", "--group", "g", "--max", "2"];
    assert_eq!(broker.succeed(&two), "0\n1\n");
    assert_eq!(committed(&broker, "g"), [2]);
    assert_eq!(broker.succeed(&two), "2\n3\n");
    // Something is committed: --from does not apply.
    let begin = |group: &str, from: &str| read(&broker, &["t", "--group", group, "--from", from]);
    assert_eq!(begin("g", "start"), ["4"]);
    assert_eq!(begin("h", "end"), [""; 0]);
    produce(&broker, "t", 0, "5\n");
    assert_eq!(begin("h", "start"), ["5"]);
    assert_eq!(begin("i", "-2"), ["4", "5"]);
    assert_eq!(begin("j", "3"), ["3", "4", "5"]);
    assert_eq!(begin("j", "0"), [""; 0]);
    assert_eq!(begin("k", "99"), [""; 0]);
    assert_eq!(begin("l", "@2020-01-31T08:00:00Z").len(), 6);
    assert_eq!(begin("m", "@4102444800000"), [""; 0]);
}

#[test]
fn offsets_are_set_while_nobody_consumes() {
    let broker = TestBroker::start();
    broker.create("t", 3);
    for partition in 0..3 {
        produce(&broker, "t", partition, "a\nb\nc\nd\n");
    }
    let delete = ["topic", "delete-records", "t", "--partition", "2"];
    broker.succeed(&[&delete[..], &["--before", "2"]].concat());
    let reset = |arguments: &[&str]| {
        let command = ["group", "reset-offsets", "g", "--topic", "t"];
        broker.run(&[&command[..], arguments].concat())
    };
    let set = |arguments: &[&str]| {
        let outcome = reset(&[arguments, &["--format", "json"]].concat());
        outcome.assert_code(0);
        json(&outcome.stdout)
    };
    // It need not have been there.
    let looked = reset(&["--to-latest", "--dry-run"]);
    looked.assert_code(0);
    assert!(
        looked.stdout.contains("dry run: would set 3 partitions"),
        "{}",
        looked.stdout
    );
    broker.run(&["group", "describe", "g"]).assert_code(1);
    reset(&["--shift-by", "1"])
        .assert_code(1)
        .assert_error_says(&["committed nothing"]);
    let shown = reset(&["--to-offset", "1"]);
    shown.assert_code(0);
    let rows: Vec<&str> = shown.stdout.lines().collect();
    assert!(rows[3].ends_with("the log begins here"), "{rows:?}");
    assert_eq!(rows[4], "set 3 partitions of t for group g");
    assert_eq!(committed(&broker, "g"), [1, 1, 2]);

    let shifted = set(&["--shift-by", "2", "--partition", "0", "--partition", "2"]);
    assert_eq!(shifted["changed"], true);
    let rows = shifted["partitions"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (&rows[0]["before"], &rows[0]["after"]),
        (&1.into(), &3.into())
    );
    assert_eq!(rows[0]["clamped"], Value::Null);
    assert_eq!(
        (&rows[1]["before"], &rows[1]["after"]),
        (&2.into(), &4.into())
    );
    let clamped = set(&["--shift-by", "2", "--partition", "0"]);
    assert_eq!(clamped["partitions"][0]["after"], 4);
    assert_eq!(clamped["partitions"][0]["clamped"], "end");
    assert_eq!(committed(&broker, "g"), [4, 1, 4]);
    set(&["--to-time", "2020-01-31T08:00:00Z"]);
    assert_eq!(committed(&broker, "g"), [0, 0, 2]);
    let dry = set(&["--to-time", "4102444800000", "--dry-run"]);
    assert_eq!(dry["changed"], false);
    assert_eq!(dry["partitions"][1]["after"], 4);
    assert_eq!(read(&broker, &["t", "--group", "g"]).len(), 10);
    set(&["--to-earliest", "--partition", "1"]);
    assert_eq!(committed(&broker, "g"), [4, 0, 4]);

    reset(&["--to-latest", "--partition", "3"])
        .assert_code(1)
        .assert_error_says(&["no partition 3"]);
    reset(&[])
        .assert_code(2)
        .assert_error_says(&["--to-earliest"]);
    reset(&["--to-latest", "--to-offset", "1"]).assert_code(2);
    reset(&["--to-time", "yesterday"]).assert_code(2);
}

#[test]
fn members_share_and_take_over() {
    let mut broker = lively();
    broker.create("t", 2);
    let join = ["t", "--group", "g", "--print", "%p %v\\n"];
    let one = Member::join(&broker, &join);
    await_line(&one.said, "group g: got t 0-1");
    produce(&broker, "t", 0, "a\n");
    await_line(&one.printed, "0 a");

    let other = Member::join(&broker, &join);
    let gone = await_line(&one.said, "group g: let go of t ");
    let moved = gone.rsplit(' ').next().unwrap().to_owned();
    await_line(&other.said, &format!("group g: got t {moved}"));
    produce(&broker, "t", 0, "b\n");
    produce(&broker, "t", 1, "b\n");
    let kept = if moved == "0" { "1" } else { "0" };
    await_line(&one.printed, &format!("{kept} b"));
    await_line(&other.printed, &format!("{moved} b"));

    let described = describe(&broker, "g");
    assert_eq!(described["state"], "stable");
    let members = described["members"].as_array().unwrap();
    let held: BTreeSet<_> = members
        .iter()
        .map(|member| member["assigned"][0]["partitions"].to_string())
        .collect();
    assert_eq!(held, ["[0]", "[1]"].map(str::to_owned).into());
    for refused in [
        &["group", "delete", "g"][..],
        &["group", "reset-offsets", "g", "--topic", "t", "--to-latest"],
    ] {
        let refused = broker.run(refused);
        refused
            .assert_code(1)
            .assert_error_says(&["group 'g' has members", "stop them first"]);
    }

    // A restart of the broker is no reason for a rebalance.
    broker.kill();
    broker.restart();
    produce(&broker, "t", 0, "c\n");
    produce(&broker, "t", 1, "c\n");
    await_line(&one.printed, &format!("{kept} c"));
    await_line(&other.printed, &format!("{moved} c"));

    other.end("TERM", 143);
    await_line(&one.said, &format!("group g: got t {moved}"));
    produce(&broker, "t", 0, "d\n");
    produce(&broker, "t", 1, "d\n");
    // Nothing comes twice: what the other one printed is committed.
    let mut rest = [one.printed.recv().unwrap(), one.printed.recv().unwrap()];
    rest.sort();
    assert_eq!(rest, ["0 d", "1 d"]);
    one.end("INT", 130);
    assert_eq!(describe(&broker, "g")["lag"], 0);
    assert_eq!(describe(&broker, "g")["state"], "empty");
}

#[test]
fn a_pattern_finds_topics_and_an_instance_keeps_its_partitions() {
    let broker = lively();
    broker.create("orders-de", 1);
    broker.create("payments", 1);
    produce(&broker, "orders-de", 0, "de\n");
    let join = ["--pattern", "orders-.*", "--group", "g", "--instance", "i"];
    let member = Member::join(&broker, &join);
    await_line(&member.printed, "de");
    broker.create("orders-fr", 1);
    produce(&broker, "orders-fr", 0, "fr\n");
    produce(&broker, "payments", 0, "none of it\n");
    assert_eq!(member.printed.recv().unwrap(), "fr");
    let twice = broker.run(&[&["consume"], &join[..]].concat());
    twice.assert_code(1).assert_error_says(&["instance name"]);
    let before = describe(&broker, "g");
    assert_eq!(before["members"][0]["instance"], "i");
    member.end("TERM", 143);
    // It may come back: until then it is still there, and so are its partitions.
    let away = describe(&broker, "g");
    assert_eq!(
        away["members"][0]["assigned"],
        before["members"][0]["assigned"]
    );
    produce(&broker, "orders-fr", 0, "again\n");
    assert_eq!(read(&broker, &join), ["again"]);
}

#[test]
fn what_was_not_written_out_is_not_committed() {
    let broker = lively();
    broker.create("t", 1);
    let count = 30_000;
    let numbers: String = (0..count).map(|number| format!("{number:060}\n")).collect();
    produce(&broker, "t", 0, &numbers);
    // Nobody reads what it prints, which is more than a pipe takes.
    let mut member = spawn(&broker, &["consume", "t", "--group", "g"]);
    let said = lines(member.0.stderr.take().expect("it is piped"));
    await_line(&said, "group g: got t 0");
    signal(&member, "TERM");
    assert_eq!(member.0.wait().expect("it ends").code(), Some(143));
    let mut written = String::new();
    let mut stdout = member.0.stdout.take().expect("it is piped");
    stdout.read_to_string(&mut written).expect("text");
    let written = written.lines().filter(|line| line.len() == 60).count();
    assert!(written < count, "the pipe has taken everything");

    let described = describe(&broker, "g");
    assert_eq!(described["state"], "empty");
    let committed = described["partitions"][0]["committed"].as_u64();
    let committed = usize::try_from(committed.unwrap_or(0)).unwrap();
    assert!(committed <= written, "{committed} {written}");
    let rest = read(&broker, &["t", "--group", "g"]);
    assert_eq!(rest.len(), count - committed);
    assert_eq!(rest[0], format!("{committed:060}"));
}

#[test]
fn what_the_broker_refuses_of_a_member_is_explained() {
    let broker = TestBroker::start();
    broker.create("t", 1);
    let join = |arguments: &[&str]| broker.run(&[&["consume", "t", "--group"], arguments].concat());
    join(&["g", "--assignor", "fair"])
        .assert_code(1)
        .assert_error_says(&["fair", "sticky", "round-robin"]);
    join(&["g", "--session-timeout", "101"])
        .assert_code(1)
        .assert_error_says(&["session timeout of 101 ms"]);
    join(&["g", "--pattern", "("])
        .assert_code(1)
        .assert_error_says(&["pattern"]);
    join(&["a\nb"])
        .assert_code(1)
        .assert_error_says(&["control character"]);
    let missing = broker.run(&["consume", "t", "nothing", "--group", "g"]);
    missing
        .assert_code(1)
        .assert_error_says(&["no topic 'nothing'"]);
    // None of them was ever a member.
    broker.run(&["group", "describe", "g"]).assert_code(1);
}
