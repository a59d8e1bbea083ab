//! The device runs out of room at one place exactly: at each place where a store takes some.
//!
//! Whatever is refused says so, what was accepted is read, topics are made and deleted, and all goes on by itself
//! once there is room.

use std::collections::BTreeSet;
use std::rc::Rc;

use corelane_protocol::{Offset, Timestamp, TopicPartition};
use corelane_storage::disk::memory::{Fault, OperationKind};
use corelane_storage::store::{AppendError, LogConfig, Progress, StoreError};

use crate::support::{
    Machine, NOW, STORE, Store, batch, partition, payloads, progress, small_config, small_log,
    topic,
};

/// Where room is taken.
struct Place {
    name: &'static str,
    kind: OperationKind,
    file: fn(&str) -> bool,
    /// Appends are refused while there is no room; where they are not, the store does without.
    is_needed: bool,
}

const fn place(
    name: &'static str,
    kind: OperationKind,
    file: fn(&str) -> bool,
    is_needed: bool,
) -> Place {
    Place {
        name,
        kind,
        file,
        is_needed,
    }
}

fn is_journal(path: &str) -> bool {
    path.contains("/journal-")
}

fn is_segment(path: &str) -> bool {
    path.ends_with(".log")
}

fn is_index(path: &str) -> bool {
    path.ends_with(".index")
}

fn is_catalogue(path: &str) -> bool {
    path.ends_with("/catalogue")
}

fn is_rewritten_catalogue(path: &str) -> bool {
    path.ends_with("/catalogue.new")
}

fn is_topic_dir(path: &str) -> bool {
    path.matches('/').count() == 1
}

fn is_partition_dir(path: &str) -> bool {
    path.matches('/').count() == 2
}

const CATALOGUE: Place = place(
    "the catalogue's room",
    OperationKind::Allocate,
    is_catalogue,
    true,
);

const REWRITTEN: Place = place(
    "a rewritten catalogue's room",
    OperationKind::Allocate,
    is_rewritten_catalogue,
    false,
);

/// All places of a store that is open. Opening and closing are in `refusals`, epochs in `leader_epochs`.
const PLACES: [Place; 14] = {
    use OperationKind::{Allocate, CreateDir, Open, Write};
    [
        place("a new journal file", Open, is_journal, false),
        place("a journal file's room", Allocate, is_journal, false),
        place("a journal file's zeros", Write, is_journal, false),
        place("a topic's directory", CreateDir, is_topic_dir, true),
        place("a partition's directory", CreateDir, is_partition_dir, true),
        place("a new segment", Open, is_segment, true),
        place("a new segment's blocks", Write, is_segment, true),
        place("a segment's room", Allocate, is_segment, true),
        place("a new index", Open, is_index, false),
        place("an index's blocks", Write, is_index, false),
        CATALOGUE,
        place("a rewritten catalogue", Open, is_rewritten_catalogue, false),
        REWRITTEN,
        place(
            "a rewritten catalogue's blocks",
            Write,
            is_rewritten_catalogue,
            false,
        ),
    ]
};

const LOGS: [u128; 3] = [1, 2, 3];

/// Each batch's base offset and bytes, as `payloads` gives them.
type Payloads = Vec<(u64, Vec<u8>)>;

/// A store in use, and what it has accepted.
struct Life {
    machine: Machine,
    store: Rc<Store>,
    sent: Vec<(TopicPartition, Payloads)>,
    now: i64,
}

impl Life {
    fn begin(seed: u64) -> Self {
        let machine = Machine::new(seed);
        let log = LogConfig {
            segment_bytes: 20 << 10,
            ..small_log()
        };
        let logs = LOGS.map(|number| (partition(number, 0), log.clone()));
        let store = machine.store_with(small_config(), &logs);
        let sent = LOGS.map(|number| (partition(number, 0), Vec::new()));
        Self {
            machine,
            store,
            sent: sent.into(),
            now: NOW.get(),
        }
    }

    fn pass_ms(&mut self, ms: i64) {
        self.now += ms;
        self.store.tick(Timestamp::new(self.now));
        self.machine.settle();
    }

    /// Appends to each of the logs, and says what was refused.
    fn append(&mut self, logs: &[u128]) -> Vec<AppendError> {
        let mut refused = Vec::new();
        for (of, sent) in &mut self.sent {
            if !logs.iter().any(|number| partition(*number, 0) == *of) {
                continue;
            }
            let bytes = batch(&format!("{of} {}", sent.len()), 1, 3000);
            match self.store.append(*of, &bytes, Timestamp::new(self.now)) {
                Ok(appended) => sent.push((appended.base_offset.get(), bytes[48..].to_vec())),
                Err(error) => refused.push(error),
            }
        }
        self.pass_ms(100);
        refused
    }

    /// Lets a place have no room from now on. What exists there already may be opened, and groups be written.
    fn exhaust(&self, place: &Place) {
        let files = self.machine.disk.files().into_iter();
        let known: BTreeSet<String> = files.map(|(path, _)| path).collect();
        let is_new_only = place.kind != OperationKind::Allocate;
        let is_there = place.file;
        let fault = Fault::error(libc::ENOSPC).on(place.kind).forever();
        self.machine.disk.inject(
            fault.in_path(move |path| is_there(path) && !(is_new_only && known.contains(path))),
        );
    }

    fn expect_all_is_read(&self, store: &Rc<Store>, machine: &Machine) {
        for (of, sent) in &self.sent {
            let read = machine.read_all(store, *of, Offset::ZERO);
            let read = payloads(&read.expect("reads go on"));
            assert!(read == *sent, "{of}: {} of {}", read.len(), sent.len());
        }
    }

    fn create(&self, number: u128) -> Result<(), StoreError> {
        let wanted = [(partition(number, 0), small_log())];
        let created = self.store.create_partitions(&wanted);
        self.machine.executor.block_on(created)
    }

    fn delete(&self, number: u128) -> Result<(), StoreError> {
        let deleted = self.store.delete_topic(topic(number));
        self.machine.executor.block_on(deleted)
    }

    fn expect_nothing_failed(&self) {
        let failures = progress(&self.store).into_iter();
        let failed = failures.filter(|event| matches!(event, Progress::Failed { .. }));
        assert_eq!(failed.collect::<Vec<_>>(), []);
    }
}

/// Appends until the place was met, and then until everything is refused that can be. Returns how often it was met.
fn meet(life: &mut Life, place: &Place) -> usize {
    let mut met = 0;
    let mut last = Vec::new();
    for _ in 0..300 {
        last = life.append(&LOGS);
        for error in &last {
            let is_clear = matches!(error, AppendError::DiskFull | AppendError::JournalFull);
            assert!(is_clear, "{error}");
        }
        let trace = life.machine.disk.drain_trace();
        met += trace.iter().filter(|done| done.struck.is_some()).count();
    }
    assert!(met > 0, "it is never met");
    let refusals = last.iter().filter(|error| **error == AppendError::DiskFull);
    let expected = if place.is_needed { LOGS.len() } else { 0 };
    assert_eq!(refusals.count(), expected, "{last:?}");
    assert_eq!(life.store.metrics().is_disk_full, place.is_needed);
    met
}

#[test]
fn a_store_goes_on_without_room_at_any_place_and_recovers_by_itself() {
    for (seed, place) in PLACES.iter().enumerate() {
        eprintln!("no room for {}", place.name);
        let mut life = Life::begin(seed as u64);
        // A store that was written to has its directories, and as many journal files as it needs.
        if place.kind != OperationKind::CreateDir && !(place.file)("store-0000/journal-0001") {
            for _ in 0..20 {
                assert_eq!(life.append(&LOGS), []);
            }
        }
        life.machine.disk.start_trace();
        life.exhaust(place);
        let met = meet(&mut life, place);
        let store = Rc::clone(&life.store);
        life.expect_all_is_read(&store, &life.machine);
        // The catalogue takes room in steps.
        let refused = (100..200).find_map(|number| life.create(number).err());
        match refused {
            Some(error) => assert!(error.is_disk_full() && is_catalogue_full(place), "{error}"),
            None => assert!(!is_catalogue_full(place)),
        }
        life.delete(100).expect("it makes room");
        life.expect_nothing_failed();

        life.machine.disk.clear_faults();
        for _ in 0..20 {
            life.pass_ms(100);
        }
        assert!(!life.store.metrics().is_disk_full);
        for _ in 0..20 {
            assert_eq!(life.append(&LOGS), [], "met {met} times");
        }
        life.create(300).expect("there is room");
        life.expect_nothing_failed();
        let image = life.machine.disk.crash(seed as u64);
        let machine = Machine::from_image(50, &image);
        let (store, report) = machine.open(STORE, small_config()).expect("it recovers");
        assert!(report.failed.is_empty(), "{report:?}");
        life.expect_all_is_read(&store, &machine);
    }
}

fn is_catalogue_full(place: &Place) -> bool {
    place.kind == OperationKind::Allocate && (place.file)("store-0000/catalogue")
}

/// Found by reading: only a written segment told that there is room again, and none was to be written.
#[test]
fn a_full_catalogue_is_over_once_there_is_room_though_no_segment_is_written() {
    let mut life = Life::begin(40);
    assert_eq!(life.append(&LOGS), []);
    life.exhaust(&CATALOGUE);
    let refused = (100..200).find_map(|number| life.create(number).err());
    let refused = refused.expect("the catalogue takes room in steps");
    assert!(refused.is_disk_full(), "{refused}");
    life.pass_ms(1000);
    assert!(life.store.metrics().is_disk_full);
    life.machine.disk.clear_faults();
    life.pass_ms(1000);
    let metrics = life.store.metrics();
    assert_eq!((metrics.is_disk_full, metrics.spills), (false, 0));
}

#[test]
fn segments_without_room_are_forgotten_with_their_topic() {
    let mut life = Life::begin(41);
    let segments = place("segments", OperationKind::Allocate, is_segment, true);
    life.exhaust(&segments);
    for _ in 0..8 {
        life.append(&[1]);
    }
    assert!(life.store.metrics().is_disk_full);
    life.delete(1).expect("it makes room");
    life.pass_ms(1000);
    assert!(!life.store.metrics().is_disk_full);
}

/// A rewriting needs as much room as the catalogue has records, and each attempt writes them.
#[test]
fn a_catalogue_that_could_not_be_rewritten_is_left_alone_until_it_has_grown() {
    let mut life = Life::begin(42);
    life.machine.disk.start_trace();
    life.exhaust(&REWRITTEN);
    let met = meet(&mut life, &REWRITTEN);
    let files = life.machine.disk.files();
    let catalogue = files.iter().find(|(path, _)| is_catalogue(path));
    let (_, bytes) = catalogue.expect("there is one");
    assert!(
        met as u64 <= bytes / (256 << 10),
        "{met} with {bytes} bytes"
    );
    assert!(!files.iter().any(|(path, _)| is_rewritten_catalogue(path)));
}
