//! Every file of a store can be printed.

use std::io::Cursor;

use corelane_storage::dump::dump;
use corelane_storage::store::StoreConfig;

use crate::support::{Machine, append, batch, partition, small_config, small_log};

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
        "SegmentSealed",
        "PartitionFlushed",
        "store-0000/journal-0000\njournal file 0:",
        "  part: partition 70000000-0000-4000-8000-000000000001/2, offsets ",
        "/00000000000000000000.log\nsegment: partition",
        "batch at 4096: offsets 0 to 2, records 2,",
        "/00000000000000000000.index\nindex block 0: segment 0,",
    ] {
        assert!(all.contains(expected), "{expected:?} is not in\n{all}");
    }
}
