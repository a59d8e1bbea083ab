//! Any file of a data directory can be printed, and damage in it is named.

mod support;

use std::path::{Path, PathBuf};

use support::{TestBroker, corelane};

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory of the broker") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn name(path: &Path) -> &str {
    path.to_str().expect("the paths of a broker are text")
}

/// A broker with a topic `t` of two partitions, some records in each, and segments of 1 MiB.
fn broker_with_records() -> TestBroker {
    let broker = TestBroker::start_with(&[("CORELANE_LOG_SPILL_BYTES", "64 KiB")]);
    broker.succeed(&[
        "topic",
        "create",
        "t",
        "--partitions",
        "2",
        "--config",
        "segment.bytes=1048576",
    ]);
    let input: String = (0..40_000)
        .map(|line| format!("line {line} {}\n", "x".repeat(100)))
        .collect();
    broker.feed(&["produce", "t"], &input).assert_code(0);
    broker
}

/// Dumps every file of the broker, which must all be sound, and gives what was printed.
#[track_caller]
fn dump_all(broker: &TestBroker) -> Vec<(PathBuf, String)> {
    let mut printed = Vec::new();
    for file in files(&broker.launcher.data_dir) {
        if file.file_name().is_some_and(|name| name == "LOCK") {
            continue;
        }
        let outcome = corelane(&["dump", name(&file)]);
        outcome.assert_code(0);
        assert!(
            !outcome.stdout.is_empty(),
            "{} prints nothing",
            file.display()
        );
        printed.push((file, outcome.stdout));
    }
    // Identity, metadata, and a catalogue, journals and segments at least.
    assert!(printed.len() >= 6, "{} files", printed.len());
    printed
}

#[test]
fn every_file_of_a_data_directory_is_printed_in_words() {
    let mut broker = broker_with_records();
    dump_all(&broker);
    broker.stop();
    let printed = dump_all(&broker);
    let all: String = printed.iter().map(|(_, text)| text.as_str()).collect();
    for expected in [
        "data directory: ready, ",
        "  record: feature level 1\n",
        "  record: topic t created: id ",
        "partitions 2, segment.bytes=1048576\n",
        " placed from 0 on: stores ",
        " created: segment.bytes 1048576, ",
        "; checkpoint: recovery epoch ",
        " sealed: end offset ",
        "batch at 4096: offsets 0 to ",
    ] {
        assert!(all.contains(expected), "{expected:?} is not in\n{all}");
    }
    assert!(!all.contains("not understood"), "{all}");
}

#[test]
fn a_damaged_segment_is_told_from_an_unfinished_one() {
    let mut broker = broker_with_records();
    broker.stop();
    let segment = files(&broker.launcher.data_dir)
        .into_iter()
        .find(|path| path.extension().is_some_and(|kind| kind == "log"))
        .expect("segments were written");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    corelane(&["dump", name(&segment)])
        .assert_code(1)
        .assert_error_says(&[name(&segment), "damaged at byte 4096"]);
}

#[test]
fn damage_and_strangers_are_named() {
    let mut broker = TestBroker::start();
    broker.create("t", 1);
    broker.stop();
    let file = broker.launcher.data_dir.join("metadata").join("log");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let name = file.to_str().unwrap();
    corelane(&["dump", name])
        .assert_code(1)
        .assert_error_says(&[name, "byte"]);

    let lock = broker.launcher.data_dir.join("LOCK");
    corelane(&["dump", lock.to_str().unwrap()])
        .assert_code(1)
        .assert_error_says(&["which process"]);
    let empty = broker.directory().join("empty");
    std::fs::write(&empty, "").unwrap();
    corelane(&["dump", empty.to_str().unwrap()])
        .assert_code(1)
        .assert_error_says(&["is empty"]);

    corelane(&["dump", "/etc/passwd"])
        .assert_code(1)
        .assert_error_says(&["/etc/passwd"]);
    corelane(&["dump", "/nowhere"])
        .assert_code(1)
        .assert_error_says(&["/nowhere"]);
    corelane(&["dump", "/"])
        .assert_code(1)
        .assert_error_says(&["/ is a directory", "find / -type f"]);
}
