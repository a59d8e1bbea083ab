//! Compaction by key: the last record of each key is left at its offset, and nothing that is gone comes back.

use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_protocol::batch::{
    BatchBuilder, BatchBuilderConfig, Compression, DecompressLimit, RecordBatch, RecordRef, batches,
};
use corelane_protocol::{Offset, Timestamp};
use corelane_storage::disk::memory::{DiskImage, Fault};
use corelane_storage::store::{CompactionConfig, LogConfig, Read, ReadError, StoreConfig};
use corelane_storage::testing::{Random, yield_now};

use crate::support::{
    Machine, NOW, STORE, Store, partition, read_all, read_once, small_config, small_log,
};

/// How long a tombstone is kept after it was compacted, ms.
const TOMBSTONE_MS: u64 = 5_000;

fn compaction() -> CompactionConfig {
    CompactionConfig {
        min_lag_ms: 0,
        delete_retention_ms: TOMBSTONE_MS,
        dirty_ratio_min: 0,
    }
}

fn log() -> LogConfig {
    LogConfig {
        segment_bytes: 16 << 10,
        compaction: Some(compaction()),
        ..small_log()
    }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::new(NOW.get() + ms)
}

/// A record: its key, and its value or nothing.
type KeyValue = (String, Option<String>);

/// A partition that is compacted, and everything that was ever appended to it.
struct Life {
    machine: Machine,
    store: Rc<Store>,
    appended: BTreeMap<u64, KeyValue>,
    random: Random,
    now: i64,
}

impl Life {
    fn new(seed: u64, config: StoreConfig, log: LogConfig) -> Self {
        let machine = Machine::new(seed);
        let store = machine.store_with(config, &[(partition(1, 0), log)]);
        Self {
            machine,
            store,
            appended: BTreeMap::new(),
            random: Random::new(seed),
            now: 0,
        }
    }

    /// Appends batches of records of so many keys, every eighth or so without a value.
    fn append(&mut self, batches: u64, keys: u64) {
        for _ in 0..batches {
            let records = self.random.below(8) + 1;
            let first = self
                .appended
                .last_key_value()
                .map_or(0, |(last, _)| last + 1);
            let compression = match self.random.below(4) {
                0 => Compression::Lz4,
                1 => Compression::Zstd,
                _ => Compression::None,
            };
            let config = BatchBuilderConfig {
                compression,
                ..BatchBuilderConfig::default()
            };
            let mut builder = BatchBuilder::new(config).expect("the codecs work");
            for number in 0..records {
                let offset = first + number;
                let key = format!("key {}", self.random.below(keys));
                let is_deletion = self.random.below(8) == 0;
                let filler = "x".repeat(self.random.below(400) as usize);
                let value = (!is_deletion).then(|| format!("{offset} {filler}"));
                let record = RecordRef {
                    key: Some(key.as_bytes()),
                    value: value.as_deref().map(str::as_bytes),
                    headers: &[("number", Some(b"7"))],
                    timestamp: at(self.now - number as i64),
                };
                builder.try_push(record).expect("it has room");
                self.appended.insert(offset, (key, value));
            }
            let bytes = builder.finish().expect("there are records");
            let given = self.store.append(partition(1, 0), &bytes, at(self.now));
            let given = given.expect("the store takes it");
            assert_eq!(given.base_offset, Offset::new(first));
            self.machine.settle();
        }
    }

    /// Lets time pass, and everything happen that follows from it.
    fn pass(&mut self, ms: i64) {
        for _ in 0..4 {
            self.now += ms / 4;
            self.store.tick(at(self.now));
            self.machine.settle();
        }
    }

    /// Ends the segment that is appended to, so that all of the log is complete.
    fn complete(&mut self) {
        let ended = LogConfig {
            segment_ms: Some(0),
            ..log()
        };
        self.configure(ended);
        self.pass(40);
        self.configure(log());
    }

    fn configure(&self, config: LogConfig) {
        let configured = self.store.configure(partition(1, 0), config);
        configured.expect("it is there");
    }

    fn reopen(&mut self, seed: u64, is_crash: bool) {
        let image = if is_crash {
            self.machine.disk.crash(seed)
        } else {
            let closed = self.machine.executor.block_on(self.store.close());
            closed.expect("the disk works");
            self.machine.disk.image()
        };
        self.machine = Machine::from_image(seed, &image);
        let (store, report) = self
            .machine
            .open(STORE, small_config())
            .expect("it recovers");
        assert!(report.failed.is_empty(), "{report:?}");
        self.store = store;
        self.configure(log());
    }

    /// What is served from an offset on: every record as it was appended, its offset among them.
    fn served(&self, from: u64) -> BTreeMap<u64, KeyValue> {
        served(&self.machine, &self.store, &self.appended, from)
    }

    /// The last record of each key, with its offset.
    fn latest(&self) -> BTreeMap<String, (u64, Option<String>)> {
        latest(&self.appended)
    }

    fn passes(&self) -> u64 {
        self.store.metrics().compaction.passes
    }

    fn files(&self, ending: &str) -> usize {
        let files = self.machine.disk.files();
        files
            .iter()
            .filter(|(path, _)| path.ends_with(ending))
            .count()
    }
}

fn latest(records: &BTreeMap<u64, KeyValue>) -> BTreeMap<String, (u64, Option<String>)> {
    let latest = records
        .iter()
        .map(|(offset, (key, value))| (key.clone(), (*offset, value.clone())));
    latest.collect()
}

/// The keys that have a value, with it and its offset.
fn values(records: &BTreeMap<u64, KeyValue>) -> BTreeMap<String, (u64, String)> {
    let latest = latest(records).into_iter();
    latest
        .filter_map(|(key, (offset, value))| Some((key, (offset, value?))))
        .collect()
}

fn records_of(bytes: &[u8]) -> Vec<(u64, KeyValue)> {
    let mut records = Vec::new();
    let mut next = None;
    for batch in batches(bytes) {
        let batch = batch.expect("whole batches");
        let batch = RecordBatch::parse(batch, &DecompressLimit::default()).expect("it is sound");
        // Batches follow each other without a gap, whatever is left of them.
        assert!(next.is_none_or(|next| batch.base_offset() == next));
        next = Some(batch.end_offset());
        for record in &batch {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("it is text");
            let key = text(record.key.expect("every record has one"));
            let headers: Vec<_> = record.headers().collect();
            assert_eq!(headers, [("number", Some(&b"7"[..]))]);
            records.push((record.offset.get(), (key, record.value.map(text))));
        }
    }
    records
}

fn served(
    machine: &Machine,
    store: &Rc<Store>,
    appended: &BTreeMap<u64, KeyValue>,
    from: u64,
) -> BTreeMap<u64, KeyValue> {
    let read = machine.read_all(store, partition(1, 0), Offset::new(from));
    let records = records_of(&read.expect("nothing is damaged"));
    assert!(
        records.is_sorted_by_key(|(offset, _)| *offset),
        "in the order of offsets"
    );
    let records: BTreeMap<u64, KeyValue> = records.into_iter().collect();
    for (offset, record) in &records {
        assert_eq!(appended.get(offset), Some(record), "offset {offset}");
    }
    records
}

#[test]
fn the_last_record_of_each_key_is_left_at_its_offset() {
    let mut life = Life::new(1, small_config(), log());
    life.append(120, 20);
    life.complete();
    assert_eq!(life.passes(), 1);
    let served = life.served(0);
    assert_eq!(latest(&served), life.latest());
    assert_eq!(served.len(), life.latest().len(), "nothing else is left");
    let metrics = life.store.metrics().compaction;
    let removed = life.appended.len() - served.len();
    assert_eq!(metrics.records_removed, removed as u64);
    assert!(
        metrics.written_bytes < metrics.read_bytes / 4,
        "{metrics:?}"
    );
    assert_eq!(life.files(".log"), 1, "what is left fits into one segment");
    let end = life
        .store
        .offsets(partition(1, 0))
        .expect("it is there")
        .log_end;
    assert_eq!(
        end.get(),
        life.appended.len() as u64,
        "no offset is given out again"
    );
    // From the midst of what is gone, what comes next is served.
    for from in (0..life.appended.len() as u64).step_by(7) {
        let rest: BTreeMap<_, _> = served.range(from..).map(|(o, r)| (*o, r.clone())).collect();
        let found = life.served(from);
        assert!(
            rest.iter()
                .all(|(offset, record)| found.get(offset) == Some(record))
        );
    }
}

/// Found with a real broker: a batch that only began within a piece that was read was taken for whole.
#[test]
fn segments_of_many_pieces_are_read_as_they_come() {
    let large = LogConfig {
        segment_bytes: 2 << 20,
        ..log()
    };
    let config = StoreConfig {
        compaction_keys_bytes_max: 1 << 20,
        ..small_config()
    };
    let mut life = Life::new(11, config, large.clone());
    life.append(900, 5000);
    let ended = LogConfig {
        segment_ms: Some(0),
        ..large
    };
    life.configure(ended);
    life.pass(40);
    assert_eq!(life.passes(), 1);
    let read_bytes = life.store.metrics().compaction.read_bytes;
    assert!(read_bytes > 3 * (256 << 10), "{read_bytes}");
    let served = life.served(0);
    assert_eq!(latest(&served), life.latest());
    assert_eq!(served.len(), life.latest().len());
}

#[test]
fn a_tombstone_stays_for_a_while_and_what_it_deleted_never_comes_back() {
    let mut life = Life::new(2, small_config(), log());
    life.append(120, 200);
    life.complete();
    let tombstones = |records: &BTreeMap<u64, KeyValue>| {
        records
            .values()
            .filter(|(_, value)| value.is_none())
            .count()
    };
    let first = life.served(0);
    assert!(tombstones(&first) > 3, "{first:?}");
    // Something new, so that there is something to do; but not long enough after the first time.
    life.append(30, 2);
    life.pass(TOMBSTONE_MS as i64 - 1000);
    let before = life.passes();
    life.complete();
    assert!(life.passes() > before);
    let second = life.served(0);
    assert_eq!(values(&second), values(&life.appended));
    let kept = first.iter().filter(|(offset, (key, value))| {
        value.is_none() && life.latest()[key].0 == **offset && second.contains_key(offset)
    });
    assert!(kept.count() > 3, "they are younger than that");
    life.pass(2000);
    life.append(30, 2);
    let before = life.passes();
    life.complete();
    assert!(life.passes() > before);
    let third = life.served(0);
    let gone = first.iter().filter(|(_, (_, value))| value.is_none());
    assert!(gone.clone().count() > 3);
    for (offset, _) in gone {
        assert!(
            !third.contains_key(offset),
            "{offset} was kept for long enough"
        );
    }
    assert_eq!(values(&third), values(&life.appended));
}

#[test]
fn what_is_young_or_being_written_is_left_alone() {
    let lagging = |min_lag_ms| LogConfig {
        compaction: Some(CompactionConfig {
            min_lag_ms,
            ..compaction()
        }),
        ..log()
    };
    let mut life = Life::new(3, small_config(), lagging(10_000));
    life.append(60, 5);
    let all = life.appended.clone();
    life.pass(9_000);
    assert_eq!((life.passes(), life.served(0)), (0, all));
    life.pass(2_000);
    assert_eq!(life.passes(), 1);
    // The segment that is appended to is not complete, and all of it is there.
    let served = life.served(0);
    let active = life.appended.len() - served.len();
    assert!(active > 0 && served.len() > life.latest().len());
    assert_eq!(latest(&served), life.latest());
    let first_kept = served
        .iter()
        .rev()
        .zip((0..life.appended.len() as u64).rev());
    let untouched = first_kept.take_while(|((offset, _), expected)| **offset == *expected);
    assert!(untouched.count() > 8);
}

#[test]
fn a_log_is_compacted_once_enough_of_it_is_new() {
    let half = LogConfig {
        compaction: Some(CompactionConfig {
            dirty_ratio_min: 500,
            ..compaction()
        }),
        ..log()
    };
    let mut life = Life::new(4, small_config(), half);
    // Every record has a key of its own, so that nothing ever goes.
    life.append(40, u64::MAX);
    life.pass(40);
    let first = life.passes();
    assert!(first > 0);
    let (mut passes, mut to_compact) = (vec![first], Vec::new());
    for _ in 0..30 {
        life.append(8, u64::MAX);
        life.pass(40);
        passes.push(life.passes());
        let found = life.store.partition_metrics(partition(1, 0));
        let progress = found.and_then(|found| found.compaction);
        let progress = progress.expect("its topic is compacted");
        // What is not half is left, and nothing else.
        assert!(progress.dirty_bytes < progress.clean_bytes, "{progress:?}");
        assert!(!progress.is_running && !progress.is_stopped);
        to_compact.push(progress.dirty_bytes);
    }
    assert!(to_compact.contains(&0) && to_compact.iter().any(|bytes| *bytes > 0));
    let last = passes[30];
    assert!((first + 1..first + 6).contains(&last), "{passes:?}");
    let expected: Vec<_> = life.appended.keys().copied().collect();
    let found: Vec<_> = life.served(0).keys().copied().collect();
    assert_eq!(found, expected);
}

#[test]
fn with_more_keys_than_memory_it_takes_several_passes() {
    let config = StoreConfig {
        compaction_keys_bytes_max: 64 * 10,
        ..small_config()
    };
    let mut life = Life::new(5, config, log());
    life.append(120, 60);
    life.complete();
    for _ in 0..100 {
        life.pass(40);
    }
    assert!(life.passes() > 5, "{}", life.passes());
    let served = life.served(0);
    assert_eq!(latest(&served), life.latest());
    let (kept, keys) = (served.len(), life.latest().len());
    assert!(
        kept < life.appended.len() / 2,
        "{kept} of {} for {keys}",
        life.appended.len()
    );
}

#[test]
fn restarts_go_on_where_the_last_one_was() {
    for is_crash in [false, true] {
        let mut life = Life::new(6, small_config(), log());
        for round in 0..6 {
            life.append(40, 12);
            life.complete();
            let before = life.served(0);
            life.reopen(60 + round, is_crash);
            assert_eq!(life.served(0), before);
            assert_eq!(latest(&before), life.latest());
            life.pass(40);
            assert_eq!(life.passes(), 0, "nothing is new");
        }
        life.append(40, 12);
        life.complete();
        assert_eq!(values(&life.served(0)), values(&life.appended));
        // What lives left that were interrupted is gone, and what is left is little.
        assert!(life.files(".log") <= 2 && life.files(".index") <= 2);
    }
}

/// Found by the simulator: a batch was made to cover offsets of a later leader epoch, and whoever had read it was told
/// that what it has read is gone.
#[test]
fn a_batch_never_covers_offsets_of_another_leader_epoch() {
    let quiet = LogConfig {
        compaction: None,
        ..log()
    };
    for seed in 0..8 {
        let mut life = Life::new(seed, small_config(), log());
        life.configure(quiet.clone());
        for round in 0..4 {
            // Records of few keys, so that most of those at the begin of an epoch go.
            life.append(10, 3 + seed);
            life.reopen(seed * 10 + round, true);
            life.configure(quiet.clone());
        }
        life.append(10, 3);
        life.complete();
        assert!(life.passes() > 0);
        assert_eq!(latest(&life.served(0)), life.latest());
        let described = life.store.describe(partition(1, 0)).expect("it is there");
        assert!(described.epochs.len() > 3, "{:?}", described.epochs);
        let read = life
            .machine
            .read_all(&life.store, partition(1, 0), Offset::ZERO);
        for batch in batches(&read.expect("nothing is damaged")) {
            let batch = batch.expect("whole batches");
            let batch = RecordBatch::parse(batch, &DecompressLimit::default()).expect("sound");
            let mut epochs = described.epochs.iter();
            let next = epochs.find(|begun| begun.start > batch.base_offset());
            let is_within = next.is_none_or(|begun| {
                batch.end_offset() <= begun.start && batch.leader_epoch() < begun.epoch
            });
            assert!(is_within, "seed {seed}: {:?} and {next:?}", batch.stamp());
        }
    }
}

/// Stopped before each of its operations in turn, with what was not flushed torn or lost.
#[test]
fn a_crash_at_every_step_loses_nothing_and_brings_nothing_back() {
    let mut life = Life::new(7, small_config(), log());
    let quiet = LogConfig {
        compaction: None,
        ..log()
    };
    life.configure(quiet);
    life.append(60, 10);
    life.pass(40);
    life.configure(log());
    // A first pass, so that the second finds tombstones that are old enough, and small files beside large ones.
    life.complete();
    assert_eq!(life.passes(), 1);
    life.configure(LogConfig {
        compaction: None,
        ..log()
    });
    life.append(60, 10);
    life.pass(4 * TOMBSTONE_MS as i64);
    let (start, appended, now) = (life.machine.disk.crash(5), life.appended.clone(), life.now);
    let expected = values(&appended);
    let mut last_step = 0;
    for step in 0.. {
        let machine = Machine::from_image(7, &start);
        let (store, _) = machine.open(STORE, small_config()).expect("it recovers");
        store
            .configure(partition(1, 0), log())
            .expect("it is there");
        machine.disk.halt_at(machine.disk.operations() + step);
        store.tick(at(now));
        machine.settle();
        store.tick(at(now + 10));
        machine.settle();
        let is_over = !machine.disk.is_halted();
        assert!(!is_over || store.metrics().compaction.passes == 1);
        for image in 0..2 {
            let machine = Machine::from_image(8, &machine.disk.crash(step * 2 + image));
            let (store, report) = machine.open(STORE, small_config()).expect("it recovers");
            assert!(report.failed.is_empty(), "step {step}: {report:?}");
            let found = served(&machine, &store, &appended, 0);
            assert_eq!(values(&found), expected, "step {step}");
            // It goes on.
            store
                .configure(partition(1, 0), log())
                .expect("it is there");
            for ms in 1..5 {
                store.tick(at(now + ms * 50));
                machine.settle();
            }
            let found = served(&machine, &store, &appended, 0);
            assert_eq!(values(&found), expected, "step {step}");
            let files = machine.disk.files();
            let known = |ending| {
                files
                    .iter()
                    .filter(|(path, _)| path.ends_with(ending))
                    .count()
            };
            // The next pass removes what this one has left.
            let logs = known(".log");
            assert!(
                logs <= 2 && known(".index") <= logs,
                "step {step}: {:?} {files:?}",
                store.metrics().compaction
            );
            assert_eq!(store.metrics().damage_found, 0, "step {step}");
        }
        last_step = step;
        if is_over {
            break;
        }
    }
    assert!(last_step > 15, "{last_step}");
}

/// Each operation of a pass fails in turn, once.
#[test]
fn errors_of_the_disk_cost_a_pass_and_no_record() {
    let mut life = Life::new(8, small_config(), log());
    life.configure(LogConfig {
        compaction: None,
        ..log()
    });
    life.append(80, 10);
    life.pass(40);
    let (start, appended, now) = (life.machine.disk.crash(5), life.appended.clone(), life.now);
    let expected = values(&appended);
    for make in [Fault::io_error, || Fault::error(28)] {
        for step in 0.. {
            let machine = Machine::from_image(7, &start);
            let (store, _) = machine.open(STORE, small_config()).expect("it recovers");
            let configured = store.configure(partition(1, 0), log());
            configured.expect("it is there");
            let first = machine.disk.operations();
            machine.disk.inject(make().at(first + step));
            for ms in [0, 10, 20_000, 20_010, 40_000, 40_010] {
                store.tick(at(now + ms));
                machine.settle();
            }
            let is_over = machine.disk.operations() <= first + step;
            if is_over {
                // The fault would strike the reader.
                assert!(step > 15, "{step}");
                break;
            }
            let metrics = store.metrics();
            let is_told = metrics.fenced.is_some() || metrics.damage_found > 0;
            let passes = metrics.compaction.passes;
            assert!(is_told || passes == 1, "step {step}: {passes} passes");
            let found = served(&machine, &store, &appended, 0);
            assert_eq!(values(&found), expected, "step {step}");
            // After a restart it works in any case.
            let machine = Machine::from_image(9, &machine.disk.crash(step));
            let (store, report) = machine.open(STORE, small_config()).expect("it recovers");
            assert!(report.failed.is_empty(), "step {step}: {report:?}");
            let configured = store.configure(partition(1, 0), log());
            configured.expect("it is there");
            for ms in [50_000, 50_010, 50_020] {
                store.tick(at(now + ms));
                machine.settle();
            }
            let found = served(&machine, &store, &appended, 0);
            assert_eq!(values(&found), expected, "step {step}");
            assert!(
                found.len() < appended.len() / 2,
                "step {step}: it is compacted in the end"
            );
        }
    }
}

#[test]
fn damage_stops_it_and_is_told() {
    let mut life = Life::new(9, small_config(), log());
    life.configure(LogConfig {
        compaction: None,
        ..log()
    });
    life.append(80, 10);
    life.pass(40);
    let mut image = life.machine.disk.crash(1);
    let (path, _) = image
        .files()
        .into_iter()
        .find(|(path, _)| path.ends_with(".log"))
        .expect("a segment");
    image.flip_bit(&path, 4096 + 300, 1);
    let machine = Machine::from_image(2, &image);
    let (store, _) = machine.open(STORE, small_config()).expect("it recovers");
    store
        .configure(partition(1, 0), log())
        .expect("it is there");
    for ms in 1..5 {
        store.tick(at(life.now + ms * 20_000));
        machine.settle();
    }
    let metrics = store.metrics();
    assert_eq!((metrics.compaction.passes, metrics.damage_found), (0, 1));
    let described = store.describe(partition(1, 0)).expect("it is there");
    assert!(
        described.damage[0].contains("damaged"),
        "{:?}",
        described.damage
    );
    // What is around the damage can be read as before.
    let last = life
        .appended
        .last_key_value()
        .map(|(last, _)| *last)
        .expect("there are records");
    let read = machine.read_all(&store, partition(1, 0), Offset::new(last));
    assert!(read.is_ok());
}

/// Somebody reads, deletes records or the topic, or closes the store, while it is compacted.
#[test]
fn readers_and_deletions_meet_it_at_any_moment() {
    for seed in 0..80_u64 {
        let mut life = Life::new(seed % 4, small_config(), log());
        life.configure(LogConfig {
            compaction: None,
            ..log()
        });
        life.append(80, 10);
        life.pass(40);
        let machine = Machine::from_image(seed, &life.machine.disk.crash(1));
        let (store, _) = machine.open(STORE, small_config()).expect("it recovers");
        store
            .configure(partition(1, 0), log())
            .expect("it is there");
        store.tick(at(life.now));
        let (other, deleted_to) = (Rc::clone(&store), life.appended.len() as u64 / 2);
        let action = seed % 4;
        let acting = async move {
            for _ in 0..seed * 2 {
                yield_now().await;
            }
            match action {
                0 => drop(
                    other
                        .delete_records(partition(1, 0), Offset::new(deleted_to))
                        .await,
                ),
                1 => drop(other.delete_topic(partition(1, 0).topic).await),
                2 => drop(other.close().await),
                _ => {}
            }
        };
        let reading = read_all(&store, partition(1, 0), Offset::ZERO, 3_000);
        let both = futures_util::future::join(acting, reading);
        let ((), read) = machine.executor.block_on(both);
        match read {
            Ok(bytes) => {
                let found = records_of(&bytes);
                for (offset, record) in &found {
                    assert_eq!(life.appended.get(offset), Some(record), "seed {seed}");
                }
                // A reader that began before it sees what is last of every key.
                let found: BTreeMap<_, _> = found.into_iter().collect();
                assert!(
                    action != 3 || latest(&found) == life.latest(),
                    "seed {seed}"
                );
            }
            Err(ReadError::OutOfRange { .. }) => assert_eq!(action, 0, "seed {seed}"),
            Err(ReadError::UnknownPartition(_)) => assert_eq!(action, 1, "seed {seed}"),
            Err(error) => panic!("seed {seed}: {error}"),
        }
        machine.settle();
        if action == 1 {
            assert!(
                machine
                    .disk
                    .files()
                    .iter()
                    .all(|(path, _)| !path.ends_with(".log")),
                "seed {seed}"
            );
        }
        if action == 0 {
            store.tick(at(life.now + 50));
            machine.settle();
            let found = served(&machine, &store, &life.appended, deleted_to);
            assert_eq!(latest(&found), {
                let kept = life.appended.range(deleted_to..);
                latest(&kept.map(|(o, r)| (*o, r.clone())).collect())
            });
        }
    }
}

/// What was read from a file while another took its place is not kept for others: to them it would come back.
#[test]
fn what_was_read_of_a_replaced_file_is_not_served_to_others() {
    for seed in 0..100_u64 {
        let mut life = Life::new(seed % 4, small_config(), log());
        life.configure(LogConfig {
            compaction: None,
            ..log()
        });
        life.append(60, 10);
        life.pass(40);
        let machine = Machine::from_image(seed, &life.machine.disk.crash(1));
        // Reads find little in memory, so that many are under way at any moment.
        let config = StoreConfig {
            read_cache_bytes: 32 << 10,
            ..small_config()
        };
        let (store, _) = machine.open(STORE, config).expect("it recovers");
        let configured = store.configure(partition(1, 0), log());
        configured.expect("it is there");
        store.tick(at(life.now));
        let end = life.appended.len() as u64;
        let reading = (0..4).map(async |reader| {
            let mut from = reader * end / 4;
            for round in 0..1000 {
                store.tick(at(life.now + round));
                if store.metrics().compaction.written_bytes > 0 {
                    break;
                }
                let read = read_once(&store, partition(1, 0), Offset::new(from), 3_000).await;
                let next = read.expect("nothing is damaged").next_offset.get();
                from = if next < end { next } else { 0 };
                yield_now().await;
            }
        });
        let reading = futures_util::future::join_all(reading);
        machine.executor.block_on(reading);
        machine.settle();
        let found = served(&machine, &store, &life.appended, 0);
        let again = Machine::from_image(seed, &machine.disk.crash(2));
        let (store, _) = again.open(STORE, small_config()).expect("it recovers");
        let left = served(&again, &store, &life.appended, 0);
        assert_eq!(found, left, "seed {seed}");
    }
}

#[test]
fn a_search_by_time_finds_what_is_left() {
    let mut life = Life::new(10, small_config(), log());
    for _ in 0..12 {
        life.append(10, 15);
        life.now += 100;
    }
    life.complete();
    let served = life.served(0);
    for ms in (0..1200).step_by(50) {
        let found = life.store.offset_for_timestamp(partition(1, 0), at(ms));
        let found = life
            .machine
            .executor
            .block_on(found)
            .expect("nothing is damaged");
        if let Some((offset, time)) = found {
            assert!(served.contains_key(&offset.get()) && time >= at(ms));
        }
    }
    let read = life.store.read(partition(1, 0), Offset::ZERO, 1, true);
    assert!(matches!(read, Ok(Read::Ready(_) | Read::Disk(_))));
}

const GOLDEN: &str = "version-1-compacted";

/// A log that was compacted twice and left in the middle, with a segment without records at its begin.
fn make_golden() -> DiskImage {
    let machine = crate::golden::new_directory();
    let (store, _) = machine
        .open(STORE, golden_config())
        .expect("it was just made");
    let wanted = [(partition(1, 0), log())];
    let created = store.create_partitions(&wanted);
    machine.executor.block_on(created).expect("the disk works");
    let mut life = Life {
        machine,
        store,
        appended: BTreeMap::new(),
        random: Random::new(1),
        now: 0,
    };
    life.append(30, 6);
    life.complete();
    life.append(40, 6);
    life.complete();
    life.append(3, 6);
    life.machine.disk.image()
}

fn golden_config() -> StoreConfig {
    StoreConfig {
        // The first pass takes all keys, and the others do.
        compaction_keys_bytes_max: 64 << 10,
        ..crate::golden::config()
    }
}

pub(crate) fn golden() -> DiskImage {
    crate::golden::write_if_asked(GOLDEN, make_golden);
    let golden = std::fs::read(crate::golden::path_of(GOLDEN)).expect("it is part of the sources");
    crate::image_file::decode(&golden)
}

#[test]
fn a_compacted_directory_of_version_1_opens_and_is_compacted_further() {
    // The same life is lived again, so that what it appended is known.
    let appended = {
        let mut life = Life::new(1, golden_config(), log());
        for batches in [30, 40, 3] {
            life.append(batches, 6);
        }
        life.appended
    };
    let machine = Machine::from_image(4, &golden());
    let (store, report) = machine.open(STORE, small_config()).expect("it recovers");
    assert!(
        report.failed.is_empty() && report.warnings.is_empty(),
        "{report:?}"
    );
    let found = served(&machine, &store, &appended, 0);
    assert_eq!(values(&found), values(&appended));
    assert!(
        found.len() < appended.len() / 3,
        "{} of {}",
        found.len(),
        appended.len()
    );
    let configured = store.configure(partition(1, 0), log());
    configured.expect("it is there");
    let mut life = Life {
        machine,
        store,
        appended,
        random: Random::new(9),
        now: 1000,
    };
    life.append(40, 6);
    life.complete();
    assert_eq!(values(&life.served(0)), values(&life.appended));
    for (path, _) in life.machine.disk.files() {
        let bytes = golden_bytes(&life.machine, &path);
        let mut out = Vec::new();
        let dumped = corelane_storage::dump::dump(&mut std::io::Cursor::new(&bytes), &mut out);
        dumped.unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

fn golden_bytes(machine: &Machine, path: &str) -> Vec<u8> {
    machine.disk.image().read(path).expect("it is listed")
}
