//! Idempotent producers: what they send again is in the log once, whatever crashed in between.
//!
//! `CORELANE_GOLDEN=version-1-producers` makes the golden directory of that name anew, see `golden`.
//! `CORELANE_STORE_LIVES` sets the number of lives (default 60), `CORELANE_STORE_SEED` the first seed.

use std::cell::RefCell;
use std::rc::Rc;

use corelane_protocol::batch::{
    BatchHeader, Stamp, advance_sequence, batches, sequence_distance, set_producer,
};
use corelane_protocol::{Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition};
use corelane_storage::disk::memory::DiskImage;
use corelane_storage::producers::SequenceError;
use corelane_storage::store::{AppendError, LogConfig, StoreConfig};
use corelane_storage::testing::{Random, yield_now};

use crate::golden::{config, new_directory, path_of, write_if_asked};
use crate::image_file::{decode, encode};
use crate::support::{
    Machine, NOW, STORE, Store, append, batch, partition, small_config, small_log,
};

/// A batch of a producer that does not say what came before.
fn of(producer: u64, epoch: u16, sequence: u32, records: u32, value_bytes: usize) -> Vec<u8> {
    let name = format!("{producer}/{epoch}/{sequence}");
    let mut bytes = batch(&name, records, value_bytes);
    let (id, epoch) = (ProducerId::new(producer), ProducerEpoch::new(epoch));
    set_producer(&mut bytes, id, epoch, sequence);
    bytes
}

fn refusal(store: &Store, to: TopicPartition, batch: &[u8]) -> AppendError {
    let refused = store.append(to, batch, NOW);
    refused.expect_err("the store refuses it")
}

#[test]
fn a_batch_that_is_sent_again_is_known() {
    let machine = Machine::new(1);
    let to = partition(1, 0);
    let store = machine.store_with(small_config(), &[(to, small_log())]);
    let (first, second) = (of(7, 0, 0, 3, 50), of(7, 0, 3, 2, 50));
    append(&store, to, &first);
    append(&store, to, &batch("somebody else", 4, 20));
    let appended = append(&store, to, &second);
    assert_eq!(appended.base_offset, Offset::new(7));
    assert!(!appended.is_duplicate);
    // Before it is durable and after.
    for _ in 0..2 {
        let again = append(&store, to, &first);
        assert!(again.is_duplicate);
        assert_eq!(
            (again.base_offset, again.end_offset),
            (Offset::ZERO, Offset::new(3))
        );
        let again = append(&store, to, &second);
        assert!(again.is_duplicate && again.base_offset == Offset::new(7));
        machine.settle();
    }
    let offsets = store.offsets(to).expect("it exists");
    assert_eq!(offsets.log_end, Offset::new(9));
}

#[test]
fn nothing_is_said_of_a_batch_whose_bytes_have_changed() {
    let machine = Machine::new(1);
    let to = partition(1, 0);
    let store = machine.store_with(small_config(), &[(to, small_log())]);
    let mut known = of(7, 0, 0, 3, 50);
    append(&store, to, &known);
    let mut ahead = of(7, 0, 9, 3, 50);
    for bytes in [&mut known, &mut ahead] {
        let last = bytes.len() - 9;
        bytes[last] ^= 1;
        assert!(matches!(refusal(&store, to, bytes), AppendError::Batch(_)));
    }
}

#[test]
fn gaps_old_epochs_and_strangers_are_refused() {
    let machine = Machine::new(1);
    let to = partition(1, 0);
    let store = machine.store_with(small_config(), &[(to, small_log())]);
    append(&store, to, &of(7, 1, 0, 3, 50));
    let gap = SequenceError::OutOfOrder {
        found: 4,
        expected: 3,
    };
    assert_eq!(
        refusal(&store, to, &of(7, 1, 4, 1, 50)),
        AppendError::Sequence(gap)
    );
    let unknown = SequenceError::UnknownProducer { found: 3 };
    assert_eq!(
        refusal(&store, to, &of(8, 1, 3, 1, 50)),
        AppendError::Sequence(unknown)
    );
    append(&store, to, &of(7, 2, 0, 1, 50));
    let fenced = SequenceError::Fenced {
        found: ProducerEpoch::new(1),
        latest: ProducerEpoch::new(2),
    };
    assert_eq!(
        refusal(&store, to, &of(7, 1, 3, 1, 50)),
        AppendError::Sequence(fenced)
    );
}

#[test]
fn the_silent_are_forgotten_and_room_is_for_new_ones_again() {
    let machine = Machine::new(1);
    let to = partition(1, 0);
    let config = StoreConfig {
        producers_bytes_max: 300,
        producer_expiration_ms: 1000,
        ..small_config()
    };
    let store = machine.store_with(config, &[(to, small_log())]);
    let at = |ms: i64| Timestamp::new(NOW.get() + ms);
    for producer in 0..3 {
        append(&store, to, &of(producer, 0, 0, 1, 50));
    }
    let full = refusal(&store, to, &of(3, 0, 0, 1, 50));
    assert!(matches!(full, AppendError::ProducersFull { .. }));
    // Those that are known go on.
    let again = store.append(to, &of(2, 0, 1, 1, 50), at(900));
    again.expect("it is known");
    store.tick(at(1001));
    let taken = store.append(to, &of(3, 0, 0, 1, 50), at(1001));
    taken.expect("there is room again");
    let known = store.append(to, &of(2, 0, 1, 1, 50), at(1001));
    assert!(known.expect("it is remembered").is_duplicate);
    let unknown = SequenceError::UnknownProducer { found: 1 };
    let forgotten = store.append(to, &of(0, 0, 1, 1, 50), at(1001));
    assert_eq!(forgotten, Err(AppendError::Sequence(unknown)));
}

#[test]
fn a_weak_partition_knows_what_it_has_lost() {
    let machine = Machine::new(3);
    let to = partition(1, 0);
    let weak = LogConfig {
        flush_ms: Some(60_000),
        ..small_log()
    };
    let store = machine.store_with(small_config(), &[(to, weak)]);
    append(&store, to, &of(7, 0, 0, 3, 50));
    machine.settle();
    let machine = Machine::from_image(4, &machine.disk.crash(1));
    let (store, _) = machine.open(STORE, small_config()).expect("it recovers");
    machine.settle();
    assert_eq!(store.offsets(to).expect("it exists").log_end, Offset::ZERO);
    let unknown = SequenceError::UnknownProducer { found: 3 };
    assert_eq!(
        refusal(&store, to, &of(7, 0, 3, 1, 50)),
        AppendError::Sequence(unknown)
    );
    let again = append(&store, to, &of(7, 0, 0, 3, 50));
    assert!(!again.is_duplicate);
}

/// One batch, as its producer remembers it.
struct Sent {
    epoch: u16,
    sequence: u32,
    bytes: Vec<u8>,
    /// Where it is, once it was acknowledged as durable.
    acknowledged: Option<Offset>,
}

/// A producer's half of one partition.
struct Writer {
    producer: u64,
    to: TopicPartition,
    epoch: u16,
    next: u32,
    sent: Vec<Sent>,
    /// Where those are that were appended since the store was opened and not acknowledged: index, offset, end.
    waiting: Vec<(usize, Offset, Offset)>,
}

impl Writer {
    /// Takes in what is durable by now.
    fn acknowledge(&mut self, store: &Store) {
        let Ok(offsets) = store.offsets(self.to) else {
            return;
        };
        for (index, offset, end) in std::mem::take(&mut self.waiting) {
            if end <= offsets.durable_end {
                self.sent[index].acknowledged = Some(offset);
            } else {
                self.waiting.push((index, offset, end));
            }
        }
    }

    /// Sends one batch, for the first time or again. Returns whether the store took it.
    fn send(&mut self, store: &Store, index: usize, now: Timestamp, what: &str) -> bool {
        let sent = &self.sent[index];
        let appended = match store.append(self.to, &sent.bytes, now) {
            Ok(appended) => appended,
            Err(
                AppendError::JournalFull
                | AppendError::MemoryFull(_)
                | AppendError::DiskFull
                | AppendError::Closing
                | AppendError::StorageFailed(_)
                | AppendError::PartitionFailed(_),
            ) => return false,
            Err(error) => panic!(
                "{what}: batch {index} of producer {} (sequence {}): {error}",
                self.producer, sent.sequence
            ),
        };
        if let Some(offset) = sent.acknowledged {
            assert!(
                appended.is_duplicate && appended.base_offset == offset,
                "{what}: {} of producer {} was at {offset}, and is {appended:?}",
                sent.sequence,
                self.producer
            );
        }
        self.waiting
            .push((index, appended.base_offset, appended.end_offset));
        true
    }

    /// After a restart: where to go on.
    fn first_open(&self) -> usize {
        let open = self
            .sent
            .iter()
            .position(|sent| sent.acknowledged.is_none());
        open.unwrap_or(self.sent.len())
    }
}

#[test]
fn every_batch_is_there_once_and_in_order_through_many_crashes() {
    let setting = |name: &str, default: u64| {
        let value = std::env::var(name).ok();
        value.map_or(default, |value| value.parse().expect("a number"))
    };
    let first = setting("CORELANE_STORE_SEED", 1);
    for seed in first..first + setting("CORELANE_STORE_LIVES", 60) {
        live(seed);
    }
}

fn live(seed: u64) {
    let mut random = Random::new(seed);
    let config = StoreConfig {
        journal_files_max: 2 + random.below(3) as u32,
        spill_bytes: [4 << 10, 16 << 10][random.index(2)],
        close_replay_bytes_max: [0, 8 << 10][random.index(2)],
        ..small_config()
    };
    let partitions: Vec<_> = (0..3).map(|index| partition(1, index)).collect();
    let machine = Machine::new(random.next_u64());
    let logs: Vec<_> = partitions.iter().map(|id| (*id, small_log())).collect();
    let store = machine.store_with(config.clone(), &logs);
    machine.executor.block_on(store.close()).expect("it works");
    let mut image = machine.disk.image();
    let writers = partitions.iter().flat_map(|&to| {
        (0..3).map(move |producer| Writer {
            producer,
            to,
            epoch: 0,
            next: 0,
            sent: Vec::new(),
            waiting: Vec::new(),
        })
    });
    let writers = Rc::new(RefCell::new(writers.collect::<Vec<_>>()));
    for crash in 0..6 {
        let what = format!("seed {seed}, crash {crash}");
        let machine = Machine::from_image(random.next_u64(), &image);
        let (store, report) = machine.open(STORE, config.clone()).expect("it recovers");
        assert!(
            report.failed.is_empty() && report.fenced.is_none(),
            "{what}"
        );
        let halt = machine.disk.operations() + 1 + random.below(600);
        machine.disk.halt_at(halt);
        let work = work(
            Rc::clone(&store),
            Rc::clone(&writers),
            random.fork(),
            what.clone(),
        );
        machine.executor.try_block_on(work);
        for writer in writers.borrow_mut().iter_mut() {
            writer.acknowledge(&store);
            writer.waiting.clear();
        }
        image = machine.disk.crash(random.next_u64());
    }
    let machine = Machine::from_image(random.next_u64(), &image);
    let (store, _) = machine.open(STORE, config).expect("it recovers");
    let what = format!("seed {seed}, at the end");
    for writer in writers.borrow_mut().iter_mut() {
        for index in writer.first_open()..writer.sent.len() {
            while !writer.send(&store, index, NOW, &what) {
                machine.settle();
                store.tick(NOW);
            }
        }
        machine.settle();
        writer.acknowledge(&store);
        assert_eq!(writer.first_open(), writer.sent.len(), "{what}");
    }
    for &to in &partitions {
        let bytes = machine
            .read_all(&store, to, Offset::ZERO)
            .expect("it is sound");
        check_log(&bytes, to, &writers.borrow(), &what);
    }
}

/// Sends again what was not acknowledged, then more, until the disk halts or it is enough.
async fn work(
    store: Rc<Store>,
    writers: Rc<RefCell<Vec<Writer>>>,
    mut random: Random,
    what: String,
) {
    let mut now = NOW.get();
    let count = writers.borrow().len();
    for at in 0..count {
        let (first, end) = {
            let writer = &writers.borrow()[at];
            (writer.first_open(), writer.sent.len())
        };
        // Some that were acknowledged, too, of the latest epoch.
        for index in first.saturating_sub(random.index(20))..end {
            let is_fenced = {
                let writer = &writers.borrow()[at];
                writer.sent[index].epoch < writer.epoch
            };
            if is_fenced {
                continue;
            }
            for _ in 0..1000 {
                let taken =
                    writers.borrow_mut()[at].send(&store, index, Timestamp::new(now), &what);
                if taken {
                    break;
                }
                now += 5;
                store.tick(Timestamp::new(now));
                yield_now().await;
            }
        }
    }
    for _ in 0..600 {
        now += 1;
        {
            let mut writers = writers.borrow_mut();
            let writer = &mut writers[random.index(count)];
            writer.acknowledge(&store);
            let is_settled = writer.waiting.is_empty() && writer.first_open() == writer.sent.len();
            if is_settled && random.below(50) == 0 {
                writer.epoch += 1;
                writer.next = 0;
            }
            let records = 1 + random.below(5) as u32;
            let bytes = of(
                writer.producer,
                writer.epoch,
                writer.next,
                records,
                20 + random.index(300),
            );
            writer.sent.push(Sent {
                epoch: writer.epoch,
                sequence: writer.next,
                bytes,
                acknowledged: None,
            });
            let index = writer.sent.len() - 1;
            if writer.send(&store, index, Timestamp::new(now), &what) {
                writer.next = advance_sequence(writer.next, records);
            } else {
                writer.sent.pop();
            }
        }
        if random.coin() {
            store.tick(Timestamp::new(now));
            yield_now().await;
        }
    }
    if random.coin() {
        let _ = store.close().await;
    }
}

/// Every batch of every writer is in the log of its partition once, in the order in which it was sent.
fn check_log(bytes: &[u8], to: TopicPartition, writers: &[Writer], what: &str) {
    for writer in writers.iter().filter(|writer| writer.to == to) {
        let mut sent = writer.sent.iter();
        for found in batches(bytes) {
            let found = found.expect("whole batches");
            let header = BatchHeader::parse(found).expect("a batch");
            if header.producer_id.get() != writer.producer {
                continue;
            }
            let offset = Stamp::read(found).expect("a stamp").base_offset;
            let expected = sent.next();
            let expected = expected.unwrap_or_else(|| {
                panic!("{what}: {to} has sequence {} at {offset} of producer {}, which has sent nothing more", header.base_sequence, writer.producer)
            });
            assert_eq!(
                sequence_distance(expected.sequence, header.base_sequence),
                0,
                "{what}: {to} at {offset} of producer {}",
                writer.producer
            );
            assert_eq!(
                found[48..],
                expected.bytes[48..],
                "{what}: {to} at {offset}"
            );
            assert_eq!(expected.acknowledged, Some(offset), "{what}: {to}");
        }
        assert!(sent.next().is_none(), "{what}: {to} lacks batches");
    }
}

/// What a rewritten catalogue says of producers is what the log says.
#[test]
fn a_rewritten_catalogue_knows_the_producers() {
    let machine = Machine::new(9);
    let to = partition(1, 0);
    let config = StoreConfig {
        close_replay_bytes_max: 0,
        ..small_config()
    };
    let store = machine.store_with(config.clone(), &[(to, small_log())]);
    // Enough to have the catalogue rewritten several times, in runs that are as short as can be.
    let mut last = Offset::ZERO;
    let (mut now, batches) = (NOW.get(), 3000);
    for number in 0..batches {
        for producer in [1, 2] {
            now += 1;
            while store
                .append(to, &of(producer, 0, number, 1, 300), Timestamp::new(now))
                .map(|appended| last = appended.base_offset)
                .is_err()
            {
                machine.settle();
                store.tick(Timestamp::new(now));
            }
        }
        if number % 16 == 0 {
            machine.settle();
        }
    }
    machine.settle();
    machine.executor.block_on(store.close()).expect("it works");
    let machine = Machine::from_image(10, &machine.disk.image());
    let (store, _) = machine.open(STORE, config).expect("it was closed");
    for back in [0, 1, 500, 1000] {
        let known = append(&store, to, &of(2, 0, batches - 1 - back, 1, 300));
        assert!(known.is_duplicate);
        assert_eq!(known.base_offset.get(), last.get() - 2 * u64::from(back));
    }
    let long_ago = refusal(&store, to, &of(2, 0, 5, 1, 300));
    assert_eq!(long_ago, AppendError::Sequence(SequenceError::LongAgo));
}

pub(crate) const NAME: &str = "version-1-producers";

/// A directory that was left in the middle, with two producers of which the catalogue knows one part and the journal
/// the other, the second one in its second epoch.
fn make() -> DiskImage {
    let machine = new_directory();
    let (store, _) = machine.open(STORE, config()).expect("it was just made");
    let to = partition(1, 0);
    let wanted = [(to, small_log())];
    let created = store.create_partitions(&wanted);
    machine.executor.block_on(created).expect("the disk works");
    for number in 0..12 {
        append(&store, to, &of(1, 0, number * 2, 2, 400));
        let (epoch, sequence) = (number as u16 / 8, (number % 8) * 3);
        append(&store, to, &of(2, epoch, sequence, 3, 100));
        machine.settle();
    }
    machine.disk.image()
}

pub(crate) fn golden() -> DiskImage {
    write_if_asked(NAME, make);
    let golden = std::fs::read(path_of(NAME)).expect("it is part of the sources");
    let image = decode(&golden);
    assert_eq!(encode(&image), golden);
    image
}

#[test]
fn a_directory_of_version_1_with_producers_opens() {
    let machine = Machine::from_image(2, &golden());
    let (store, report) = machine.open(STORE, config()).expect("it recovers");
    assert!(
        report.warnings.is_empty() && report.failed.is_empty(),
        "{report:?}"
    );
    machine.settle();
    let to = partition(1, 0);
    assert_eq!(
        store.offsets(to).expect("it exists").log_end,
        Offset::new(60)
    );
    for number in 0..12 {
        let known = append(&store, to, &of(1, 0, number * 2, 2, 400));
        assert!(known.is_duplicate);
        assert_eq!(known.base_offset, Offset::new(u64::from(number) * 5));
    }
    for number in 8..12 {
        let known = append(&store, to, &of(2, 1, (number % 8) * 3, 3, 100));
        assert!(known.is_duplicate);
        assert_eq!(known.base_offset, Offset::new(u64::from(number) * 5 + 2));
    }
    assert!(!append(&store, to, &of(1, 0, 24, 1, 50)).is_duplicate);
    assert!(!append(&store, to, &of(2, 1, 12, 1, 50)).is_duplicate);
}
