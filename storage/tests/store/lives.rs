//! A store lives through one crash after another, in the middle of anything, its own recovery included.
//!
//! `CORELANE_STORE_LIVES` sets the number of lives (default 60), `CORELANE_STORE_SEED` the first seed.

use std::cell::RefCell;
use std::rc::Rc;

use corelane_protocol::{Offset, Timestamp};
use corelane_storage::disk::memory::DiskImage;
use corelane_storage::memory::Ledger;
use corelane_storage::store::{AppendError, LogConfig, ReadError, StoreConfig};
use corelane_storage::testing::{Random, yield_now};

use crate::model::{Model, Presence, SharedModel};
use crate::support::{
    Machine, NOW, STORE, Store, batch, partition, payloads, read_once, small_config, small_log,
};

const CRASHES: u64 = 6;
/// Operations of the disk until the next crash, at most.
const OPERATIONS_MAX: u64 = 500;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |value| value.parse().expect("a number"))
}

#[test]
fn a_store_is_new_until_it_was_opened() {
    let machine = Machine::new(20);
    machine.create(STORE, &small_config());
    let (_, report) = machine.open(STORE, small_config()).expect("it was made");
    assert!(report.is_new && report.was_clean, "{report}");
    let machine = Machine::from_image(21, &machine.disk.crash(1));
    let (store, report) = machine.open(STORE, small_config()).expect("it was made");
    assert!(!report.is_new && !report.was_clean, "{report}");
    let closed = machine.executor.block_on(store.close());
    closed.expect("the disk works");
    let machine = Machine::from_image(22, &machine.disk.crash(1));
    let (_, report) = machine.open(STORE, small_config()).expect("it was closed");
    assert!(!report.is_new && report.was_clean, "{report}");
}

#[test]
fn nothing_acknowledged_is_lost_through_many_crashes() {
    let first = setting("CORELANE_STORE_SEED", 1);
    for seed in first..first + setting("CORELANE_STORE_LIVES", 60) {
        live(seed);
    }
}

fn live(seed: u64) {
    let mut random = Random::new(seed);
    let config = some_config(&mut random);
    let machine = Machine::new(random.next_u64());
    machine.create(STORE, &config);
    let mut image = machine.disk.crash(0);
    let model: SharedModel = Rc::default();
    let mut topics = 0;
    for crash in 0..CRASHES {
        let what = format!("seed {seed}, crash {crash}");
        image = interrupted_opening(&mut random, image, &config);
        let machine = Machine::from_image(random.next_u64(), &image);
        let cap = [1 << 20, 2 << 20, 16 << 20][random.index(3)];
        let ledger = Rc::new(Ledger::new(cap, cap / 4 * 3));
        let (store, report) = machine
            .open_with(STORE, config.clone(), Rc::clone(&ledger))
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(
            report.failed.is_empty() && report.fenced.is_none(),
            "{what}: {report:?}"
        );
        assert!(report.warnings.is_empty(), "{what}: {report:?}");
        let mut known = model.take();
        machine.executor.block_on(known.verify(&store, &what));
        model.replace(known);
        machine
            .disk
            .halt_at(machine.disk.operations() + 1 + random.below(OPERATIONS_MAX));
        let work = work(Rc::clone(&store), Rc::clone(&model), random.fork(), topics);
        topics += 100;
        let ended = machine.executor.try_block_on(work);
        assert!(
            ended.is_none() || machine.disk.is_halted() || ended == Some(true),
            "{what}: the work was cut off"
        );
        model.borrow_mut().acknowledge(&store);
        image = if random.chance(1, 4) {
            machine.disk.image()
        } else {
            machine.disk.crash(random.next_u64())
        };
        drop((store, machine));
        assert_eq!(ledger.in_use(), 0, "{what}: memory was not given back");
    }
}

/// Opens the store once or twice with a crash in the middle.
fn interrupted_opening(
    random: &mut Random,
    mut image: DiskImage,
    config: &StoreConfig,
) -> DiskImage {
    while random.coin() {
        let machine = Machine::from_image(random.next_u64(), &image);
        machine.disk.halt_at(random.below(40));
        let opened = Store::open(
            machine.disk.clone(),
            STORE.to_owned(),
            corelane_protocol::StoreId::new(0),
            config.clone(),
            crate::support::ledger(),
        );
        drop(machine.executor.try_block_on(opened));
        image = machine.disk.crash(random.next_u64());
    }
    image
}

fn some_config(random: &mut Random) -> StoreConfig {
    StoreConfig {
        journal_files_max: 2 + random.below(3) as u32,
        groups_in_flight: 1 + random.index(4),
        spill_bytes: [4 << 10, 16 << 10, 64 << 10][random.index(3)],
        close_replay_bytes_max: [0, 8 << 10, 1 << 20][random.index(3)],
        ..small_config()
    }
}

/// Does anything that a broker would, until the disk halts or enough was done.
async fn work(store: Rc<Store>, model: SharedModel, mut random: Random, first_topic: u128) -> bool {
    let mut now = NOW.get();
    let mut topic = first_topic;
    for step in 0..3000 {
        match random.below(100) {
            0..=1 => {
                topic += 1;
                create(&store, &model, &mut random, topic).await;
            }
            2 if step > 100 => delete(&store, &model, &mut random).await,
            3..=12 => read_somewhere(&store, &model, &mut random).await,
            13..=20 => {
                now += random.below(20) as i64;
                store.tick(Timestamp::new(now));
                yield_now().await;
            }
            21..=30 => {
                for _ in 0..random.below(20) {
                    yield_now().await;
                }
            }
            31 if step > 500 && random.chance(1, 20) => {
                if store.close().await.is_ok() {
                    return true;
                }
            }
            _ => send(&store, &model, &mut random, now),
        }
        model.borrow_mut().acknowledge(&store);
    }
    true
}

async fn create(store: &Store, model: &RefCell<Model>, random: &mut Random, topic: u128) {
    let is_weak = random.chance(1, 4);
    let config = LogConfig {
        segment_bytes: [6 << 10, 40 << 10, 200 << 10][random.index(3)],
        flush_messages: (is_weak && random.coin()).then(|| 1 + random.below(20)),
        flush_ms: is_weak.then(|| random.below(30)),
        ..small_log()
    };
    let wanted: Vec<_> = (0..1 + random.below(3) as u32)
        .map(|index| (partition(topic, index), config.clone()))
        .collect();
    for (of, _) in &wanted {
        model.borrow_mut().creating(*of);
    }
    store
        .create_partitions(&wanted)
        .await
        .expect("the disk works");
    for (of, _) in &wanted {
        model.borrow_mut().set(*of, Presence::Created);
    }
}

async fn delete(store: &Store, model: &RefCell<Model>, random: &mut Random) {
    let there = model.borrow().with(Presence::Created);
    if there.is_empty() {
        return;
    }
    let topic = there[random.index(there.len())].topic;
    let gone: Vec<_> = there.into_iter().filter(|of| of.topic == topic).collect();
    for of in &gone {
        model.borrow_mut().set(*of, Presence::Deleting);
    }
    store.delete_topic(topic).await.expect("the disk works");
    for of in &gone {
        model.borrow_mut().set(*of, Presence::Deleted);
    }
}

fn send(store: &Store, model: &RefCell<Model>, random: &mut Random, now: i64) {
    let there = model.borrow().with(Presence::Created);
    if there.is_empty() {
        return;
    }
    let to = there[random.index(there.len())];
    let (records, bytes) = match random.below(10) {
        0 => (1, 1 + random.index(15_000)),
        1..=3 => (1 + random.below(5) as u32, random.index(1500)),
        _ => (1 + random.below(3) as u32, random.index(60)),
    };
    let bytes = batch(&format!("{}", random.next_u64()), records, bytes);
    match store.append(to, &bytes, Timestamp::new(now)) {
        Ok(appended) => {
            let (base, end) = (appended.base_offset.get(), appended.end_offset.get());
            model.borrow_mut().appended(to, base, end, &bytes);
        }
        Err(AppendError::JournalFull | AppendError::MemoryFull(_)) => {}
        Err(error) => panic!("{to}: {error}"),
    }
}

async fn read_somewhere(store: &Rc<Store>, model: &RefCell<Model>, random: &mut Random) {
    let there = model.borrow().with(Presence::Created);
    if there.is_empty() {
        return;
    }
    let of = there[random.index(there.len())];
    let high_watermark = store.offsets(of).expect("it is there").high_watermark.get();
    let from = random.below(high_watermark + 1);
    let read = match read_once(store, of, Offset::new(from), 1 + random.index(40_000)).await {
        Err(ReadError::MemoryFull(_)) => return,
        result => result.expect("nothing is damaged"),
    };
    assert_eq!(
        read.bytes == 0,
        from == high_watermark,
        "{of}: nothing at {from} of {high_watermark}"
    );
    let bytes: Vec<u8> = read
        .parts
        .iter()
        .flat_map(|part| part.iter().copied())
        .collect();
    let found = payloads(&bytes);
    let model = model.borrow();
    let sent = &model.logs[&of].batches;
    let first = sent.partition_point(|(_, end, _)| *end <= from);
    for ((base, payload), (sent_base, _, sent)) in found.iter().zip(&sent[first..]) {
        assert_eq!(base, sent_base, "{of}: reading at {from}");
        assert!(payload == sent, "{of}: offset {base} has another content");
    }
}
