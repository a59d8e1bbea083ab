//! Every file of a store can be printed, at any moment, and what is not written yet is told from damage.

use std::io::Cursor;

use corelane_storage::disk::memory::DiskImage;
use corelane_storage::dump::{DumpError, dump};
use corelane_storage::store::StoreConfig;

use crate::support::{Machine, NOW, STORE, append, batch, partition, small_config, small_log};

#[test]
fn every_file_of_a_closed_store_is_printed() {
    let machine = Machine::new(3);
    let of = partition(1, 2);
    let config = StoreConfig {
        close_replay_bytes_max: 0,
        ..small_config()
    };
    let store = machine.store_with(config, &[(of, small_log())]);
    for number in 0..50 {
        append(&store, of, &batch(&format!("{number}"), 2, 900));
        machine.settle();
    }
    machine
        .executor
        .block_on(store.close())
        .expect("the disk works");
    let image = machine.disk.image();
    let mut texts = Vec::new();
    for (path, _) in image.files() {
        let bytes = image.read(&path).expect("it is listed");
        let mut out = Vec::new();
        dump(&mut Cursor::new(bytes), &mut out).unwrap_or_else(|error| panic!("{path}: {error}"));
        texts.push(format!("{path}\n{}", String::from_utf8(out).expect("text")));
    }
    let all = texts.join("\n");
    for expected in [
        "store-0000/catalogue\nblock log: kind Catalogue",
        "; checkpoint: recovery epoch ",
        "  record: partition 70000000-0000-4000-8000-000000000001/2 created: segment.bytes 40960,",
        "  record: segment 0 of partition 70000000-0000-4000-8000-000000000001/2 sealed: end offset ",
        "  record: partition 70000000-0000-4000-8000-000000000001/2 flushed up to byte ",
        "store-0000/journal-0000\njournal file 0:",
        "  part: partition 70000000-0000-4000-8000-000000000001/2, offsets ",
        "/00000000000000000000.log\nsegment: partition",
        "batch at 4096: offsets 0 to 2, records 2,",
        "/00000000000000000000.index\nindex block 0: segment 0,",
    ] {
        assert!(all.contains(expected), "{expected:?} is not in\n{all}");
    }
}

/// What the dump of a file prints, and how it ends.
fn print(bytes: Vec<u8>) -> (String, Result<(), DumpError>) {
    let mut out = Vec::new();
    let result = dump(&mut Cursor::new(bytes), &mut out);
    (String::from_utf8(out).expect("text"), result)
}

/// The position of the damage that a dump ends with.
#[track_caller]
fn damaged_at(bytes: Vec<u8>) -> u64 {
    match print(bytes) {
        (_, Err(DumpError::Damaged { position, .. })) => position,
        (text, other) => panic!("{other:?} after\n{text}"),
    }
}

fn files(image: &DiskImage, ending: &str) -> Vec<(String, Vec<u8>)> {
    let paths = image.files().into_iter().map(|(path, _)| path);
    paths
        .filter(|path| path.contains(ending))
        .map(|path| {
            let bytes = image.read(&path).expect("it is listed");
            (path, bytes)
        })
        .collect()
}

/// Where the lines of a dump say that things of this kind are.
fn positions(text: &str, kind: &str) -> Vec<usize> {
    let start = format!("{kind} at ");
    let lines = text.lines().filter_map(|line| line.strip_prefix(&start));
    lines
        .map(|line| {
            let digits = line.split(':').next().expect("a position");
            digits.parse().expect("a position is a number")
        })
        .collect()
}

#[test]
fn a_store_that_is_written_to_can_be_printed_at_any_moment() {
    let machine = Machine::new(4);
    let of = partition(1, 0);
    let store = machine.store_with(small_config(), &[(of, small_log())]);
    let mut unfinished = 0;
    for number in 0..60 {
        append(
            &store,
            of,
            &batch(&format!("{number}"), 1, 700 + number * 37),
        );
        machine.settle();
        let image = machine.disk.image();
        for (path, _) in image.files() {
            let (text, result) = print(image.read(&path).expect("it is listed"));
            result.unwrap_or_else(|error| panic!("{path}: {error}\n{text}"));
            unfinished += usize::from(
                path.ends_with(".log") && text.trim_end().ends_with("the rest is not written yet"),
            );
        }
    }
    assert!(unfinished > 0, "no segment ended within a batch");
}

#[test]
fn damage_in_a_segment_is_no_unwritten_rest() {
    let machine = Machine::new(5);
    let of = partition(1, 0);
    let config = StoreConfig {
        close_replay_bytes_max: 0,
        ..small_config()
    };
    let store = machine.store_with(config, &[(of, small_log())]);
    for number in 0..20 {
        append(&store, of, &batch(&format!("{number}"), 1, 3000));
        machine.settle();
    }
    machine
        .executor
        .block_on(store.close())
        .expect("the disk works");
    let (_, bytes) = files(&machine.disk.image(), ".log").remove(0);
    let batches = positions(&print(bytes.clone()).0, "batch");
    assert!(batches.len() >= 8, "{batches:?}");
    let last = batches[batches.len() - 1];

    // A flipped bit: in a batch with others behind it, and in the last one.
    for at in [batches[3], last] {
        for byte in [at, at + 60, at + 2000] {
            let mut flipped = bytes.clone();
            flipped[byte] ^= 1;
            assert_eq!(damaged_at(flipped), at as u64, "byte {byte}");
        }
    }
    // One that goes over a block's end.
    let over = batches.iter().find(|at| *at % 4096 > 1000);
    let &over = over.expect("batches follow each other within blocks");
    let block = over.next_multiple_of(4096);
    // A hole, with batches behind it.
    let mut holed = bytes.clone();
    holed[block..block + 4096].fill(0);
    assert_eq!(damaged_at(holed), over as u64);
    // A file that was cut off is no file of whole blocks.
    assert_eq!(damaged_at(bytes[..over + 100].to_vec()), over as u64);
    assert_eq!(damaged_at(bytes[..over].to_vec()), over as u64);
    // At a block it may as well be a file that is written to.
    let (text, result) = print(bytes[..block].to_vec());
    result.expect("this is how an active segment looks");
    assert!(text.contains(&format!("\nat {over}: ")), "{text}");
    assert!(text.ends_with("the rest is not written yet\n"), "{text}");
}

#[test]
fn a_group_of_a_journal_is_damaged_only_if_it_was_durable() {
    let machine = Machine::new(6);
    let of = partition(1, 0);
    let store = machine.store_with(small_config(), &[(of, small_log())]);
    for number in 0..6 {
        append(&store, of, &batch(&format!("{number}"), 1, 900));
        machine.settle();
    }
    let (_, bytes) = files(&machine.disk.image(), "/journal-").remove(0);
    let (text, result) = print(bytes.clone());
    result.expect("nothing is wrong");
    let groups = positions(&text, "group");
    assert!(groups.len() >= 4, "{text}");

    let (first, last) = (groups[1], groups[groups.len() - 1]);
    // In the batch, in the directory, in the header.
    for byte in [first + 400, first + 130, first + 20] {
        let mut flipped = bytes.clone();
        flipped[byte] ^= 1;
        assert_eq!(damaged_at(flipped), first as u64, "byte {byte}");
    }
    let mut torn = bytes.clone();
    torn[last + 400] ^= 1;
    let (text, result) = print(torn);
    result.expect("it may be the write of this moment");
    assert!(text.contains("the rest is not written yet"), "{text}");

    let half = bytes.len() / 2;
    assert_eq!(damaged_at(bytes[..half].to_vec()), half as u64);
}

#[test]
fn what_a_crash_leaves_in_a_journal_is_no_damage() {
    let mut torn = 0;
    for seed in 0..40 {
        let machine = Machine::new(seed);
        let of = partition(1, 0);
        let store = machine.store_with(small_config(), &[(of, small_log())]);
        let started = machine.disk.operations();
        machine.disk.halt_at(started + 3 + seed * 2);
        for number in 0..30 {
            let batch = batch(&format!("{number}"), 1, 500 + number * 300);
            // Once the disk has halted, the journal fills up.
            if (store.append(of, &batch, NOW)).is_err() {
                break;
            }
            if number % 3 == 0 {
                machine.settle();
            }
        }
        machine.settle();
        let image = machine.disk.crash(seed);
        for (path, bytes) in files(&image, "/journal-") {
            let (text, result) = print(bytes);
            result.unwrap_or_else(|error| panic!("seed {seed}, {path}: {error}\n{text}"));
            torn += usize::from(text.contains("or a crash tore it"));
        }
        // And what its recovery, and further groups in the same places, leave.
        let machine = Machine::from_image(seed, &image);
        let (store, _) = machine.open(STORE, small_config()).expect("it recovers");
        for number in 0..5 {
            append(&store, of, &batch(&format!("again {number}"), 1, 400));
            machine.settle();
            for (path, bytes) in files(&machine.disk.image(), "/journal-") {
                let (text, result) = print(bytes);
                result.unwrap_or_else(|error| panic!("seed {seed}, {path}: {error}\n{text}"));
            }
        }
    }
    assert!(torn > 0, "no crash tore a group");
}
