//! The first record at or after a time, wherever it is: in memory, in a segment with or without its index,
//! within a packed batch, above a log start.

use std::rc::Rc;

use corelane_protocol::batch::{BatchBuilder, BatchBuilderConfig, Compression, RecordRef};
use corelane_protocol::{Offset, Timestamp};
use corelane_storage::store::{ReadError, StoreConfig};
use corelane_storage::testing::Random;

use crate::support::{Machine, NOW, STORE, Store, partition, small_config, small_log};

/// A batch with records of these times, and values that take some room.
fn batch_of(times: &[i64], compression: Compression, value_bytes: usize) -> Vec<u8> {
    let config = BatchBuilderConfig {
        compression,
        ..BatchBuilderConfig::default()
    };
    let mut builder = BatchBuilder::new(config).expect("the codec is there");
    let mut random = Random::new(times[0] as u64);
    for &time in times {
        let mut value = vec![0; value_bytes];
        random.fill(&mut value);
        let record = RecordRef {
            key: None,
            value: Some(&value),
            headers: &[],
            timestamp: Timestamp::new(time),
        };
        builder.try_push(record).expect("the batch has room");
    }
    builder.finish().expect("there are records").to_vec()
}

/// Turns over a bit of every index file that a crash left.
fn spoil_indexes(machine: &Machine) {
    let files = machine.disk.files();
    let indexes = files
        .iter()
        .filter(|(path, len)| path.ends_with(".index") && *len > 100);
    for (path, _) in indexes {
        machine.disk.flip_bit(path, 100, 3);
    }
}

/// What a log holds: the time of each record, by offset.
struct Log {
    machine: Machine,
    store: Rc<Store>,
    times: Vec<i64>,
}

/// A log of records whose times mostly grow, and sometimes jump.
fn log(seed: u64, batches: usize, config: &StoreConfig) -> Log {
    let machine = Machine::new(seed);
    let store = machine.store_with(config.clone(), &[(partition(1, 0), small_log())]);
    let mut random = Random::new(seed);
    let (mut clock, mut times) = (1000, Vec::new());
    for number in 0..batches {
        clock += random.below(50) as i64;
        let jump = [0, 0, 0, 400, -300][random.index(5)];
        let of_batch: Vec<i64> = (0..1 + random.below(4))
            .map(|_| clock + jump + random.below(30) as i64 - 15)
            .collect();
        let compression = [Compression::None, Compression::Zstd, Compression::Lz4];
        let bytes = batch_of(
            &of_batch,
            compression[random.index(3)],
            200 + random.index(600),
        );
        store
            .append(partition(1, 0), &bytes, NOW)
            .expect("the store takes it");
        times.extend(of_batch);
        if number % 3 == 0 {
            machine.settle();
        }
    }
    machine.settle();
    Log {
        machine,
        store,
        times,
    }
}

impl Log {
    fn find(&self, time: i64) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        let found = self
            .store
            .offset_for_timestamp(partition(1, 0), Timestamp::new(time));
        self.machine.executor.block_on(found)
    }

    /// Tries every time around those of the records.
    fn expect_right(&self, log_start: usize) {
        let last = self.times.iter().max().copied().unwrap_or(0);
        for time in (900..=last + 1).step_by(7).chain([last, i64::MIN]) {
            let kept = self.times.iter().enumerate().skip(log_start);
            let expected = kept
                .into_iter()
                .find(|(_, of)| **of >= time)
                .map(|(offset, of)| (Offset::new(offset as u64), Timestamp::new(*of)));
            let found = self.find(time).expect("nothing is damaged");
            assert_eq!(found, expected, "time {time}, log start {log_start}");
        }
    }

    fn reopened(self, prepare: impl Fn(&Machine)) -> Self {
        let machine = Machine::from_image(9, &self.machine.disk.crash(1));
        prepare(&machine);
        let (store, _) = machine.open(STORE, small_config()).expect("it recovers");
        let times = self.times;
        Self {
            machine,
            store,
            times,
        }
    }
}

#[test]
fn the_first_record_at_or_after_a_time_is_found_wherever_it_is() {
    for seed in 0..4 {
        let log = log(seed, 150, &small_config());
        assert!(
            log.machine
                .disk
                .files()
                .iter()
                .filter(|(path, _)| path.ends_with(".index"))
                .count()
                > 2
        );
        log.expect_right(0);
        log.reopened(|_| ()).expect_right(0);
    }
}

#[test]
fn without_index_files_segments_are_scanned() {
    let log = log(7, 150, &small_config());
    let log = log.reopened(|machine| {
        spoil_indexes(machine);
    });
    log.expect_right(0);
}

#[test]
fn what_is_deleted_is_not_found() {
    let log = log(11, 150, &small_config());
    for share in 1..=4 {
        let log_start = log.times.len() * share / 4;
        let deleted = log
            .store
            .delete_records(partition(1, 0), Offset::new(log_start as u64));
        log.machine
            .executor
            .block_on(deleted)
            .expect("it is readable");
        log.expect_right(log_start);
    }
}

#[test]
fn damage_on_the_way_is_an_error() {
    let log = log(13, 150, &small_config());
    let log = log.reopened(|machine| {
        let segment = machine
            .disk
            .files()
            .into_iter()
            .find(|(path, _)| path.ends_with("00000000000000000000.log"));
        let (path, _) = segment.expect("the first segment");
        // Somewhere in the first batch's header: its largest timestamp.
        machine.disk.flip_bit(&path, 4096 + 85, 0);
        spoil_indexes(machine);
    });
    let found = log.find(log.times[0]);
    assert!(matches!(found, Err(ReadError::Corrupt(_))), "{found:?}");
}
