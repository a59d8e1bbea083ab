//! A store that does not open costs its own partitions, and nothing else.

use corelane_broker::lane::Topology;
use corelane_protocol::request::OffsetPosition;
use corelane_protocol::response::PartitionState;
use corelane_protocol::{ApiError, ErrorCode, LeaderEpoch, StoreId, TopicId};
use corelane_storage::disk::memory::DiskImage;

use crate::client::{at, fetch_request, put};
use crate::world::World;

const PARTITIONS: u32 = 8;
const DIR: &str = "store-0001/";
const STORE: StoreId = StoreId::new(1);

/// Something that happens to a file of the store.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip(u64),
    Truncate(u64),
    Remove,
}

fn damage(image: &mut DiskImage, path: &str, damage: Damage) {
    match damage {
        Damage::Flip(byte) => image.flip_bit(path, byte, 3),
        Damage::Truncate(len) => image.truncate(path, len),
        Damage::Remove => assert!(image.remove(path), "{path} is there"),
    }
}

/// The files of the damaged store.
fn contents(image: &DiskImage) -> Vec<(String, Vec<u8>)> {
    let files = image.files().into_iter();
    let files = files.filter(|(path, _)| path.starts_with(DIR));
    files
        .map(|(path, _)| {
            let bytes = image.read(&path).expect("it is listed");
            (path, bytes)
        })
        .collect()
}

fn expect_refusal(error: &ApiError, file: &str) {
    assert_eq!(error.code, ErrorCode::StorageFailed, "{error:?}");
    assert!(error.message.contains(file), "{error:?}");
}

/// Every way to ask for a partition of the damaged store.
fn is_refused(world: &mut World, client: usize, topic: TopicId, partition: u32, file: &str) {
    let partition = at(topic, partition);
    world.send_produce(
        client,
        corelane_protocol::request::Acks::All,
        &[put(partition, "lost")],
    );
    world.settle();
    let refused = world.reply(client).produce().entries.remove(0).result;
    expect_refusal(&refused.expect_err("the store is damaged"), file);
    // The last reader knows of later epochs than a broker can that did not open the store.
    for (offset, epoch) in [(0, None), (1, None), (100, None), (0, Some(7))] {
        let mut request = fetch_request(&[(partition, offset)], 60_000, 1);
        request.entries[0].current_epoch = epoch.map(LeaderEpoch::new);
        world.send_fetch(client, request);
        world.settle();
        let reply = world.reply(client);
        let refused = reply.fetch().entries.remove(0).result;
        expect_refusal(&refused.expect_err("the store is damaged"), file);
    }
    for position in [OffsetPosition::Earliest, OffsetPosition::Latest] {
        let refused = world.list_offset(client, partition, position);
        assert_eq!(refused, Err(ErrorCode::StorageFailed));
    }
}

fn check_damaged(world: &mut World, client: usize, topic: TopicId, file: &str) {
    let mut refused = 0;
    for (index, described) in (0..).zip(world.describe_partitions(client, "t")) {
        if described.store == STORE {
            refused += 1;
            assert!(
                matches!(&described.state, PartitionState::Failed(why) if why.contains(file)),
                "{described:?}"
            );
            is_refused(world, client, topic, index, file);
        } else {
            assert_eq!(described.state, PartitionState::Online);
            let partition = at(topic, index);
            assert_eq!(world.read_all(client, partition), [(0, "a".to_owned())]);
            assert_eq!(world.produce_one(client, partition, "b"), Ok(1));
        }
    }
    assert_eq!(refused, 2);
}

fn damages(image: &DiskImage) -> Vec<(String, Damage)> {
    let mut damages = Vec::new();
    let catalogue = format!("{DIR}catalogue");
    for damage in [Damage::Flip(20), Damage::Truncate(5000), Damage::Remove] {
        damages.push((catalogue.clone(), damage));
    }
    let files = contents(image).into_iter();
    let mut journals = files.filter(|(path, _)| path.contains("journal-"));
    let (journal, _) = journals.next().expect("a journal");
    for damage in [Damage::Flip(20), Damage::Truncate(0), Damage::Remove] {
        damages.push((journal.clone(), damage));
    }
    damages
}

/// A topic with a record in each partition.
fn filled(seed: u64) -> (World, TopicId) {
    let mut world = World::new(seed, 2);
    let topic = world.create("t", PARTITIONS, &[]);
    let client = world.connect(0);
    for partition in 0..PARTITIONS {
        assert_eq!(world.produce_one(client, at(topic, partition), "a"), Ok(0));
    }
    (world, topic)
}

#[test]
fn a_damaged_store_fails_its_partitions_and_no_other_until_it_is_put_back() {
    let cases = damages(&filled(1700).0.disk.image());
    for (number, (file, what)) in (1700..).zip(cases) {
        let (world, topic) = filled(number);
        let mut sound = Vec::new();
        let mut damaged = Vec::new();
        let mut world = world.close_and_restart_with(2, |image| {
            sound = contents(image);
            damage(image, &file, what);
            damaged = contents(image);
        });
        for core in 0..2 {
            let expected = usize::from(core == 1) * 2;
            assert_eq!(world.cores[core].reconciled.unfit, expected);
        }
        // Whichever core is asked, the controller's or the other.
        for core in [1, 0] {
            let client = world.connect(core);
            if core == 1 {
                check_damaged(&mut world, client, topic, &file);
            }
            let name = format!("new-{core}");
            let new = world.try_create(client, &name, 6, &[]).expect("a topic");
            for (index, described) in (0..).zip(world.describe_partitions(client, &name)) {
                assert_ne!(described.store, STORE);
                assert_eq!(described.state, PartitionState::Online);
                assert_eq!(world.produce_one(client, at(new, index), "c"), Ok(0));
            }
            world.delete(client, &name).expect("its stores are sound");
        }
        let mut left = Vec::new();
        let mut world = world.close_and_restart_with(2, |image| {
            left = contents(image);
            for (path, bytes) in &sound {
                image.write(path, bytes);
            }
        });
        assert!(
            left == damaged,
            "{file} {what:?}: nothing of the store is written"
        );
        let client = world.connect(0);
        for (index, described) in (0..).zip(world.describe_partitions(client, "t")) {
            assert_eq!(described.state, PartitionState::Online, "{file} {what:?}");
            let partition = at(topic, index);
            let kept = world.read_all(client, partition);
            assert_eq!(kept[0], (0, "a".to_owned()));
            let expected = if described.store == STORE { 1 } else { 2 };
            assert_eq!(kept.len(), expected);
            assert_eq!(
                world.produce_one(client, partition, "d"),
                Ok(expected as u64)
            );
        }
        world.delete(client, "t").expect("every store is sound");
    }
}

/// What was logged and not yet done by a store is neither done there nor forgotten.
#[test]
fn a_damaged_store_follows_the_metadata_once_it_is_put_back() {
    let (mut world, _) = filled(1720);
    let client = world.connect(0);
    world.send_create(client, "late", 4);
    world.send_delete(client, "t");
    // Both are logged; the second is not, as the first has no answer yet.
    world.carry();
    let mut kept = Vec::new();
    let catalogue = format!("{DIR}catalogue");
    let image = &mut world.disk.image();
    let bytes = image.read(&catalogue).expect("it exists");
    assert!(image.remove(&catalogue));
    let mut world = world.restart_from(image, 2);
    let client = world.connect(0);
    let late = world.cores[0].lane.image().topic_named("late");
    let late = late.expect("it was logged").id;
    for (index, described) in (0..).zip(world.describe_partitions(client, "late")) {
        let is_unfit = described.store == STORE;
        let result = world.produce_one(client, at(late, index), "x");
        assert_eq!(result.is_err(), is_unfit);
        kept.push(u64::from(!is_unfit));
    }
    assert_eq!(kept.iter().sum::<u64>(), 3);
    let mut world = world.close_and_restart_with(2, |image| image.write(&catalogue, &bytes));
    let client = world.connect(0);
    for (index, offset) in (0..).zip(kept) {
        let next = world.produce_one(client, at(late, index), "y");
        assert_eq!(next, Ok(offset));
    }
}

#[test]
fn without_any_store_the_broker_says_why() {
    let (world, topic) = filled(1730);
    let stores = world.topology.stores.len();
    let mut world = world.close_and_restart_with(2, |image| {
        for store in 0..stores {
            assert!(image.remove(&format!("store-{store:04}/catalogue")));
        }
    });
    let client = world.connect(u16::from(Topology::CONTROLLER.get() == 0));
    for partition in 0..PARTITIONS {
        is_refused(&mut world, client, topic, partition, "/catalogue");
    }
    let refused = world.try_create(client, "u", 1, &[]);
    expect_refusal(
        &refused.expect_err("there is no store"),
        "store-0003/catalogue",
    );
    world.delete(client, "t").expect("it is remembered");
}

/// A topic with partitions in a store that is lost can go, and its name be used again. If the store comes
/// back after all, it loses what is left of the topic.
#[test]
fn a_topic_is_deleted_without_a_damaged_store() {
    let catalogue = format!("{DIR}catalogue");
    // With the store's files gone for two runs, or put back at once; through the store's core or another.
    for (seed, runs, core) in [(1740, 1, 0), (1741, 1, 1), (1742, 2, 1)] {
        let (world, old) = filled(seed);
        let mut kept = Vec::new();
        let mut world = world.close_and_restart_with(2, |image| {
            kept = contents(image);
            assert!(image.remove(&catalogue));
        });
        let client = world.connect(core);
        assert_eq!(world.delete(client, "t"), Ok(old));
        for partition in 0..PARTITIONS {
            let gone = world.produce_one(client, at(old, partition), "x");
            assert_eq!(gone, Err(ErrorCode::UnknownTopic));
        }
        let stores = world.cores.iter().flat_map(|core| &core.stores);
        let fit = stores.filter(|store| store.unfit().is_none());
        assert_eq!(fit.map(|store| store.partitions().len()).sum::<usize>(), 0);
        let new = world.try_create(client, "t", 6, &[]).expect("a free name");
        assert_ne!(new, old);
        for partition in 0..6 {
            assert_eq!(world.produce_one(client, at(new, partition), "new"), Ok(0));
        }
        for _ in 1..runs {
            world = world.close_and_restart(2);
            assert_eq!(world.cores[1].reconciled.deleted, 0);
        }
        let mut world = world.close_and_restart_with(2, |image| {
            for (path, bytes) in &kept {
                image.write(path, bytes);
            }
        });
        assert_eq!(world.cores[1].reconciled.deleted, 1);
        let left: Vec<_> = world.disk.files();
        let old_files = left
            .iter()
            .filter(|(path, _)| path.starts_with(DIR) && path.contains(&old.to_string()));
        assert_eq!(old_files.count(), 0, "{left:?}");
        let client = world.connect(core);
        for partition in 0..6 {
            let found = world.read_all(client, at(new, partition));
            assert_eq!(found, [(0, "new".to_owned())]);
        }
        // It takes part again.
        let last = world.try_create(client, "last", 12, &[]).expect("a topic");
        let described = world.describe_partitions(client, "last");
        assert!(described.iter().any(|partition| partition.store == STORE));
        for partition in 0..12 {
            assert_eq!(world.produce_one(client, at(last, partition), "x"), Ok(0));
        }
    }
}
