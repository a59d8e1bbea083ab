//! `produce` and `consume` as pipes: what goes in by line comes out, in every form that is asked
//! for.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use memchr::memmem::Finder;
use serde_json::{Value, json};
use support::TestBroker;

fn records(lines: &str) -> Vec<Value> {
    lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

#[test]
fn lines_come_out_as_they_went_in() {
    let broker = TestBroker::start();
    broker.create("t", 1);
    let input = "one\n\n  three\t\r\nunicode \u{1F980}\nlast without newline";
    let produced = broker.feed(&["produce", "t"], input);
    produced
        .assert_code(0)
        .assert_error_says(&["5 records", "durable"]);
    assert_eq!(produced.stdout, "");
    assert_eq!(
        broker.succeed(&["consume", "t", "--until-end"]),
        format!("{input}\n")
    );
}

#[test]
fn bytes_that_are_no_text_come_out_unchanged() {
    let broker = TestBroker::start();
    broker.create("t", 1);
    let path = broker.directory().join("input");
    let input: Vec<u8> = (0..=255)
        .filter(|byte| *byte != b'\n')
        .chain([b'\n'])
        .collect();
    std::fs::write(&path, &input).unwrap();
    broker.succeed(&["produce", "t", "--file", path.to_str().unwrap()]);
    let output = broker
        .command(&["consume", "t", "--until-end"])
        .output()
        .unwrap();
    assert_eq!(output.stdout, input);
    let line = broker.succeed(&["consume", "t", "--until-end", "--print", "json"]);
    assert!(line.contains("\"value\":{\"base64\":\"AAEC"), "{line}");
}

#[test]
fn receipts_name_every_line_and_its_place() {
    let broker = TestBroker::start();
    broker.create("t", 4);
    let input: String = (1..=500)
        .map(|line| format!("key{}\tvalue{line}\n", line % 17))
        .collect();
    let produced = broker.feed(
        &["produce", "t", "--key-separator", "\t", "--receipts"],
        &input,
    );
    produced.assert_code(0);
    let mut places = BTreeMap::new();
    for receipt in produced.stdout.lines() {
        let [line, partition, offset, durability] = receipt
            .split(' ')
            .collect::<Vec<_>>()
            .try_into()
            .expect("four fields");
        assert_eq!(durability, "durable");
        let place: (u32, u64) = (partition.parse().unwrap(), offset.parse().unwrap());
        assert!(places.insert(place, line.parse::<u32>().unwrap()).is_none());
    }
    assert_eq!(places.len(), 500);
    let mut partition_of_key = BTreeMap::new();
    for record in records(&broker.succeed(&["consume", "t", "--until-end", "--print", "json"])) {
        let partition = u32::try_from(record["partition"].as_u64().unwrap()).unwrap();
        let line = places[&(partition, record["offset"].as_u64().unwrap())];
        assert_eq!(record["value"], format!("value{line}"));
        let key = record["key"].as_str().unwrap().to_owned();
        assert_eq!(key, format!("key{}", line % 17));
        assert_eq!(*partition_of_key.entry(key).or_insert(partition), partition);
    }
    assert!(
        partition_of_key
            .values()
            .collect::<std::collections::BTreeSet<_>>()
            .len()
            > 1
    );
}

#[test]
fn a_receipt_comes_while_the_input_is_still_open() {
    let broker = TestBroker::start();
    broker.create("t", 1);
    let mut child = broker
        .command(&["produce", "t", "--receipts"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut receipts = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in 0..3 {
        writeln!(input, "line {line}").unwrap();
        assert_eq!(
            receipts.next().unwrap().unwrap(),
            format!("{} 0 {line} durable", line + 1)
        );
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[test]
fn keys_headers_and_partitions_are_as_asked() {
    let broker = TestBroker::start();
    broker.create("t", 3);
    let arguments = [
        "produce",
        "t",
        "--key-separator",
        "::",
        "--partition",
        "2",
        "--header",
        "source=test",
        "--header",
        "empty=",
    ];
    broker
        .feed(&arguments, "k::v::w\nno separator\n::empty key\n")
        .assert_code(0);
    let records = records(&broker.succeed(&["consume", "t", "--until-end", "--print", "json"]));
    let seen: Vec<_> = records
        .iter()
        .map(|record| (&record["key"], &record["value"]))
        .collect();
    assert_eq!(
        seen,
        [
            (&"k".into(), &"v::w".into()),
            (&Value::Null, &"no separator".into()),
            (&"".into(), &"empty key".into()),
        ]
    );
    for record in &records {
        assert_eq!(record["partition"], 2);
        assert_eq!(record["topic"], "t");
        assert_eq!(
            record["headers"][0],
            serde_json::json!({"key": "source", "value": "test"})
        );
        assert_eq!(
            record["headers"][1],
            serde_json::json!({"key": "empty", "value": ""})
        );
        assert!(record["timestamp"].as_i64().unwrap() > 1_600_000_000_000);
    }
}

#[test]
fn print_formats_append_nothing() {
    let broker = TestBroker::start();
    broker.create("t", 1);
    broker
        .feed(&["produce", "t", "--key-separator", "="], "a=1\nb=2\n")
        .assert_code(0);
    let consume =
        |format: &str| broker.succeed(&["consume", "t", "--until-end", "--print", format]);
    assert_eq!(consume("%t/%p/%o %k=%v;"), "t/0/0 a=1;t/0/1 b=2;");
    assert_eq!(consume("%k\\t%v\\n"), "a\t1\nb\t2\n");
    let times = consume("%T\\n");
    assert!(
        times
            .lines()
            .all(|time| time.parse::<i64>().unwrap() > 1_600_000_000_000)
    );
    assert_eq!(
        broker
            .succeed(&["consume", "t", "--until-end", "--format", "json"])
            .lines()
            .count(),
        2
    );
    broker
        .run(&["consume", "t", "--until-end", "--print", "%x"])
        .assert_code(2)
        .assert_error_says(&["%x", "%v value"]);
}

#[test]
fn a_null_value_goes_through_a_pipe_and_stays_null() {
    let broker = TestBroker::start();
    let compact = ["--partitions", "1", "--config", "cleanup.policy=compact"];
    broker.succeed(&[&["topic", "create", "t"][..], &compact].concat());
    let marked = [
        "produce",
        "t",
        "--key-separator",
        "=",
        "--null-marker",
        "NULL",
    ];
    let input = "tea=3\ntea=NULL\nempty=\nNULL=NULL\nNULL=5\n";
    broker.feed(&marked, input).assert_code(0);
    // Line by line, which is another way to the broker; and without the option it is a text.
    let receipts = broker.feed(&[&marked[..], &["--receipts"]].concat(), "cake=NULL\n");
    receipts.assert_code(0);
    assert_eq!(receipts.stdout, "1 0 5 durable\n");
    broker.feed(&marked[..4], "tea=NULL\n").assert_code(0);

    let consume = ["consume", "t", "--until-end"];
    let read = |options: &[&str]| broker.succeed(&[&consume[..], options].concat());
    let pairs: Vec<_> = records(&read(&["--print", "json", "--null-marker", "nil"]))
        .iter()
        .map(|record| (record["key"].clone(), record["value"].clone()))
        .collect();
    let expected = [
        ("tea", json!("3")),
        ("tea", Value::Null),
        ("empty", json!("")),
        ("NULL", Value::Null),
        ("NULL", json!("5")),
        ("cake", Value::Null),
        ("tea", json!("NULL")),
    ];
    assert_eq!(pairs, expected.map(|(key, value)| (key.into(), value)));
    assert_eq!(
        read(&["--null-marker", "\\\\N"]),
        "3\n\\N\n\n\\N\n5\n\\N\nNULL\n"
    );
    assert_eq!(read(&[]), "3\n\n\n\n5\n\nNULL\n");

    // From one topic into another by a marker that no value equals.
    broker.create("copy", 1);
    let format = ["--print", "%k=%v\\n"];
    let text = read(&[&format[..], &["--null-marker", "nil"]].concat());
    let copy = ["produce", "copy", "--key-separator", "="];
    broker
        .feed(&[&copy[..], &["--null-marker", "nil"]].concat(), &text)
        .assert_code(0);
    let copied = broker.succeed(&["consume", "copy", "--until-end", "--print", "json"]);
    let copied = records(&copied).into_iter();
    let copied: Vec<_> = copied
        .map(|record| (record["key"].clone(), record["value"].clone()))
        .collect();
    assert_eq!(copied, pairs);

    let wrong = broker.feed(&["produce", "t", "--null-marker", "a\\n"], "");
    wrong
        .assert_code(2)
        .assert_error_says(&["--null-marker", "a marker with a newline"]);
}

#[test]
fn a_read_starts_and_ends_where_it_is_told() {
    let broker = TestBroker::start();
    broker.create("t", 1);
    let input: String = (0..100).map(|line| format!("{line}\n")).collect();
    broker.feed(&["produce", "t"], &input).assert_code(0);
    let consume = |arguments: &[&str]| {
        let output = broker.succeed(&[&["consume", "t"], arguments].concat());
        let lines: Vec<u32> = output.lines().map(|line| line.parse().unwrap()).collect();
        lines
    };
    assert_eq!(consume(&["--until-end"]), (0..100).collect::<Vec<_>>());
    assert_eq!(consume(&["--from", "start", "--until-end"]).len(), 100);
    assert_eq!(
        consume(&["--from", "90", "--until-end"]),
        (90..100).collect::<Vec<_>>()
    );
    assert_eq!(consume(&["--from", "-3", "--until-end"]), [97, 98, 99]);
    assert_eq!(consume(&["--from=-3", "--until-end"]), [97, 98, 99]);
    assert_eq!(consume(&["--from", "-1000", "--until-end"]).len(), 100);
    assert_eq!(consume(&["--from", "end", "--until-end"]), [0u32; 0]);
    assert_eq!(consume(&["--from", "100", "--until-end"]), [0u32; 0]);
    assert_eq!(consume(&["--max", "5"]), [0, 1, 2, 3, 4]);
    assert_eq!(
        consume(&["--from", "98", "--max", "50", "--until-end"]),
        [98, 99]
    );
    assert_eq!(consume(&["--max", "0"]), [0u32; 0]);
    broker
        .run(&[
            "consume",
            "t",
            "--partition",
            "0",
            "--from",
            "101",
            "--until-end",
        ])
        .assert_code(1)
        .assert_error_says(&["101", "100"]);
    // The same without naming the partition, if none reaches that far.
    broker.create("u", 2);
    for end in [&["--until-end"][..], &["--max", "1"]] {
        let topic_u = ["consume", "u", "--from", "1"];
        broker
            .run(&[&topic_u[..], end].concat())
            .assert_code(1)
            .assert_error_says(&["no offset 1", "will have 0"]);
    }
    broker
        .run(&["consume", "t", "--from", "yesterday"])
        .assert_code(2)
        .assert_error_says(&["start"]);
}

#[test]
fn all_partitions_are_read_to_their_ends_or_one_of_them() {
    let broker = TestBroker::start();
    broker.create("t", 4);
    for partition in 0..3 {
        let input: String = (0..10)
            .map(|line| format!("{partition}-{line}\n"))
            .collect();
        let partition = partition.to_string();
        broker
            .feed(&["produce", "t", "--partition", &partition], &input)
            .assert_code(0);
    }
    let mut all: Vec<_> = broker
        .succeed(&["consume", "t", "--until-end"])
        .lines()
        .map(str::to_owned)
        .collect();
    all.sort();
    let expected: Vec<_> = (0..3)
        .flat_map(|partition| (0..10).map(move |line| format!("{partition}-{line}")))
        .collect();
    assert_eq!(all, expected);
    let one = broker.succeed(&[
        "consume",
        "t",
        "--partition",
        "1",
        "--until-end",
        "--from",
        "-2",
    ]);
    assert_eq!(one, "1-8\n1-9\n");
    assert_eq!(
        broker.succeed(&["consume", "t", "--partition", "3", "--until-end"]),
        ""
    );
    let wrong = broker.run(&["consume", "t", "--partition", "4", "--until-end"]);
    wrong
        .assert_code(1)
        .assert_error_says(&["partition 4", "0 to 3"]);
    let wrong = broker.feed(&["produce", "t", "--partition", "4"], "x\n");
    wrong
        .assert_code(1)
        .assert_error_says(&["partition 4", "0 to 3"]);
}

#[test]
fn every_compression_and_acknowledgement_works() {
    let broker = TestBroker::start();
    broker.create("t", 2);
    let input: String = (0..2000)
        .map(|line| format!("a compressible line {line}\n"))
        .collect();
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        for (acks, durability) in [("0", "memory"), ("1", "durable"), ("all", "durable")] {
            let arguments = ["produce", "t", "--compression", compression, "--acks", acks];
            let produced = broker.feed(&arguments, &input);
            produced
                .assert_code(0)
                .assert_error_says(&["2,000 records", durability]);
        }
    }
    let output = broker.succeed(&["consume", "t", "--until-end"]);
    assert_eq!(output.lines().count(), 2000 * 15);
    let mut counts = BTreeMap::new();
    for line in output.lines() {
        *counts.entry(line).or_insert(0) += 1;
    }
    assert!(input.lines().all(|line| counts[line] == 15));
    broker
        .feed(&["produce", "t", "--compression", "rar"], "")
        .assert_code(2);
    broker
        .feed(&["produce", "t", "--acks", "2"], "")
        .assert_code(2);
}

#[test]
fn a_weaker_topic_says_so_in_its_receipts() {
    let broker = TestBroker::start();
    broker.succeed(&[
        "topic",
        "create",
        "weak",
        "--partitions",
        "1",
        "--config",
        "flush.ms=1000",
    ]);
    let produced = broker.feed(&["produce", "weak", "--receipts"], "x\n");
    produced.assert_code(0).assert_error_says(&["memory"]);
    assert_eq!(produced.stdout, "1 0 0 memory\n");
}

#[test]
fn lines_that_are_too_long_are_named_and_the_rest_goes_through() {
    let broker = TestBroker::start();
    let setting = "max.message.bytes=131072";
    broker.succeed(&[
        "topic",
        "create",
        "t",
        "--partitions",
        "1",
        "--config",
        setting,
    ]);
    // The client refuses what no frame can hold, and the broker what the topic does not take.
    let (too_long, longer) = ("x".repeat(2 << 20), "y".repeat(200 << 10));
    let input = format!("before\n{too_long}\nbetween\n{longer}\nafter\n");
    for arguments in [&["produce", "t"][..], &["produce", "t", "--receipts"]] {
        let produced = broker.feed(arguments, &input);
        produced.assert_code(1).assert_error_says(&[
            "line 2:",
            "line 4:",
            "2 of 5 not acknowledged",
        ]);
    }
    let output = broker.succeed(&["consume", "t", "--until-end"]);
    assert_eq!(output, "before\nbetween\nafter\n".repeat(2));
}

#[test]
fn a_summary_for_programs_is_json() {
    let broker = TestBroker::start();
    broker.create("t", 1);
    let produced = broker.feed(&["produce", "t", "--format", "json"], "ab\nc\n");
    produced.assert_code(0);
    let summary: Value = serde_json::from_str(&produced.stderr).unwrap();
    assert_eq!(summary["records"], 2);
    assert_eq!(summary["bytes"], 3);
    assert_eq!(summary["durability"], "durable");
    assert_eq!(
        (&summary["failed"], &summary["unknown"]),
        (&0.into(), &0.into())
    );
}

#[test]
fn no_input_is_no_record() {
    let broker = TestBroker::start();
    broker.create("t", 1);
    broker
        .feed(&["produce", "t"], "")
        .assert_code(0)
        .assert_error_says(&["0 records"]);
    assert_eq!(broker.succeed(&["consume", "t", "--until-end"]), "");
}

#[test]
fn what_is_not_there_is_refused() {
    let broker = TestBroker::start();
    let produced = broker.feed(&["produce", "nowhere"], "x\n");
    produced
        .assert_code(1)
        .assert_error_says(&["no topic 'nowhere'", "topic create nowhere"]);
    let consumed = broker.run(&["consume", "nowhere", "--until-end"]);
    consumed
        .assert_code(1)
        .assert_error_says(&["no topic 'nowhere'"]);
    broker.create("t", 1);
    let produced = broker.run(&["produce", "t", "--file", "/nowhere/at/all"]);
    produced
        .assert_code(1)
        .assert_error_says(&["/nowhere/at/all"]);
    let produced = broker.run(&["produce", "t", "--file", "/"]);
    produced.assert_code(1).assert_error_says(&["directory"]);
    assert!(!produced.stderr.contains("0 records"), "{produced:?}");
}

#[test]
fn receipts_for_programs_are_json() {
    let broker = TestBroker::start();
    broker.create("t", 1);
    let arguments = [
        "produce",
        "t",
        "--receipts",
        "--format",
        "json",
        "--file",
        "-",
    ];
    let produced = broker.feed(&arguments, "a\nb\n");
    produced.assert_code(0);
    assert_eq!(
        records(&produced.stdout),
        [
            json!({"line_number": 1, "partition": 0, "offset": 0, "durability": "durable"}),
            json!({"line_number": 2, "partition": 0, "offset": 1, "durability": "durable"}),
        ]
    );
    let summary: Value = serde_json::from_str(&produced.stderr).unwrap();
    assert_eq!(summary["records"], 2);
}

#[test]
fn a_reader_that_leaves_ends_the_pipe_quietly() {
    let broker = TestBroker::start();
    broker.create("t", 1);
    let input: String = (0..50_000).map(|line| format!("line {line}\n")).collect();
    broker.feed(&["produce", "t"], &input).assert_code(0);
    let mut child = broker
        .command(&["consume", "t"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    assert_eq!(first, "line 0\n");
    assert!(child.wait().unwrap().success());
    let mut errors = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    assert_eq!(errors, "");
}

#[test]
fn a_waiting_reader_is_handed_what_is_new() {
    let broker = TestBroker::start();
    broker.create("t", 2);
    broker.feed(&["produce", "t"], "old\n").assert_code(0);
    let mut child = broker
        .command(&["consume", "t", "--from", "end", "--max", "2"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.stdout.take().unwrap();
    // The reader settles on the end at some moment after its start, which cannot be seen from here;
    // so lines are produced until it has taken two.
    let reader = std::thread::spawn(move || {
        let lines: Vec<_> = BufReader::new(output).lines().map(Result::unwrap).collect();
        lines
    });
    for line in 0..200 {
        if reader.is_finished() {
            break;
        }
        broker
            .feed(&["produce", "t"], format!("new {line}\n"))
            .assert_code(0);
        std::thread::sleep(Duration::from_millis(20));
    }
    let lines = reader.join().unwrap();
    assert_eq!(lines.len(), 2);
    assert!(
        lines.iter().all(|line| line.starts_with("new ")),
        "{lines:?}"
    );
    assert!(child.wait().unwrap().success());
}

#[test]
fn batches_are_cut_by_what_the_topic_takes() {
    let broker = TestBroker::start_with(&[
        ("CORELANE_JOURNAL_FILE_BYTES", "16 MiB"),
        ("CORELANE_LIMITS_FRAME_BYTES_MAX", "4160 KiB"),
    ]);
    let numbers: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    for (topic, setting) in [
        ("segment", "segment.bytes=65536"),
        ("message", "max.message.bytes=1024"),
    ] {
        broker.succeed(&[
            "topic",
            "create",
            topic,
            "--partitions",
            "1",
            "--config",
            setting,
        ]);
        let produced = broker.feed(&["produce", topic], &numbers);
        produced
            .assert_code(0)
            .assert_error_says(&["100,000 records"]);
        let read = broker.succeed(&["consume", topic, "--until-end"]);
        assert!(read == numbers, "{setting}: the numbers come back in order");
    }
    let large = format!("{}\n", "x".repeat(3_000_000));
    let setting = "max.message.bytes=4000000";
    broker.succeed(&[
        "topic",
        "create",
        "large",
        "--partitions",
        "1",
        "--config",
        setting,
    ]);
    broker.feed(&["produce", "large"], &large).assert_code(0);
    let read = broker.succeed(&["consume", "large", "--until-end"]);
    assert!(read == large, "the large line comes back");

    // The limit is lowered under a producer that knows the old one.
    let mut child = broker
        .command(&["produce", "large", "--receipts"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let receipts = BufReader::new(child.stdout.take().unwrap()).lines();
    input.write_all(b"first\n").unwrap();
    let mut receipts = receipts.map(|receipt| receipt.unwrap());
    assert_eq!(receipts.next().unwrap(), "1 0 1 durable");
    broker.succeed(&[
        "topic",
        "alter",
        "large",
        "--config",
        "max.message.bytes=1024",
    ]);
    let more = numbers.clone();
    let writer = std::thread::spawn(move || input.write_all(more.as_bytes()).unwrap());
    assert_eq!(receipts.count(), 100_000);
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    let read = broker.succeed(&["consume", "large", "--until-end"]);
    assert!(read == format!("{large}first\n{numbers}"), "in order");
}

#[test]
fn a_line_counts_as_it_is_sent_and_a_refusal_says_what_to_raise() {
    let broker = TestBroker::start();
    broker.create("t", 1);
    let line = format!("{}\n", "aaaaaaa".repeat(200_000));
    let refused = broker.feed(&["produce", "t"], &line);
    refused.assert_code(1).assert_error_says(&[
        "raise max.message.bytes of the topic or log.max_message_bytes of the broker",
    ]);
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        broker
            .feed(&["produce", "t", "--compression", codec], &line)
            .assert_code(0);
    }
    let read = broker.succeed(&["consume", "t", "--until-end"]);
    assert!(read == line.repeat(4), "the lines come back");
}

/// The producer ids of the batches that are stored anywhere in a data directory.
fn producer_ids(directory: &Path) -> BTreeSet<u64> {
    // Magic, version and encoding of a batch; its producer id stands 36 bytes behind.
    let begin = Finder::new(&[0xBA, 0xC1, 1, 1]);
    let mut ids = BTreeSet::new();
    for entry in std::fs::read_dir(directory).expect("it is there") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            ids.extend(producer_ids(&path));
            continue;
        }
        let bytes = std::fs::read(&path).expect("it is there");
        for at in begin.find_iter(&bytes) {
            let id = bytes[at + 36..].first_chunk().expect("a whole header");
            ids.insert(u64::from_le_bytes(*id));
        }
    }
    ids
}

#[test]
fn lines_are_of_an_idempotent_producer_unless_told_otherwise() {
    const NONE: u64 = u64::MAX;
    let broker = TestBroker::start();
    broker.create("t", 1);
    let data = broker.directory().join("data");
    broker
        .feed(&["produce", "t", "--no-idempotence"], "one\n")
        .assert_code(0);
    assert_eq!(producer_ids(&data), BTreeSet::from([NONE]));
    for lines in 2..4 {
        broker.feed(&["produce", "t"], "two\n").assert_code(0);
        assert_eq!(
            producer_ids(&data).len(),
            lines,
            "each has an id of its own"
        );
    }
    assert_eq!(
        broker.succeed(&["consume", "t", "--until-end"]),
        "one\ntwo\ntwo\n"
    );
}
