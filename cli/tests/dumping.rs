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

#[test]
fn every_file_of_a_data_directory_is_printed() {
    let mut broker = TestBroker::start_with(&[("CORELANE_LOG_SPILL_BYTES", "64 KiB")]);
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
    broker.stop();
    let mut printed = 0;
    for file in files(&broker.launcher.data_dir) {
        if file.file_name().is_some_and(|name| name == "LOCK") {
            continue;
        }
        let outcome = corelane(&["dump", file.to_str().unwrap()]);
        // The segment that is being written may end within a batch, whose rest is in the journal.
        if outcome.code != Some(0) {
            assert!(
                file.extension().is_some_and(|kind| kind == "log"),
                "{outcome:?}"
            );
            outcome
                .assert_code(1)
                .assert_error_says(&["legal only beyond what was flushed"]);
        }
        assert!(
            !outcome.stdout.is_empty(),
            "{} prints nothing",
            file.display()
        );
        printed += 1;
    }
    // Identity, metadata, and a catalogue, journals and segments at least.
    assert!(printed >= 6, "{printed} files");
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

    corelane(&["dump", "/etc/passwd"])
        .assert_code(1)
        .assert_error_says(&["/etc/passwd"]);
    corelane(&["dump", "/nowhere"])
        .assert_code(1)
        .assert_error_says(&["/nowhere"]);
    corelane(&["dump", "/"])
        .assert_code(1)
        .assert_error_says(&["directory"]);
}
