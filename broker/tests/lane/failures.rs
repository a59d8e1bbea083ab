//! A disk that fails fences what it failed for, says so, and leaves the rest alone.

use corelane_protocol::request::Acks;
use corelane_protocol::response::PartitionState;
use corelane_protocol::{ErrorCode, TopicPartition};
use corelane_storage::disk::memory::{Fault, OperationKind};

use crate::client::{fetch_request, put};
use crate::world::World;

/// A partition in each of two stores, and the directory of the first.
fn two_stores(world: &mut World) -> (TopicPartition, TopicPartition, String) {
    let topic = world.create("t", 2, &[]);
    let image = world.cores[0].lane.image();
    let placements = &image.topic(topic).expect("a topic").partitions;
    assert_ne!(placements[0].store, placements[1].store);
    let dir = format!("store-{:04}/", placements[0].store.get());
    (
        crate::client::at(topic, 0),
        crate::client::at(topic, 1),
        dir,
    )
}

#[test]
fn a_journal_that_cannot_be_written_fences_its_store_alone() {
    let mut world = World::new(160, 1);
    let (broken, sound, dir) = two_stores(&mut world);
    let (client, reader) = (world.connect(0), world.connect(0));
    assert_eq!(world.produce_one(client, broken, "before"), Ok(0));
    world.send_fetch(reader, fetch_request(&[(broken, 1)], 60_000, 1));
    let journal = format!("{dir}journal");
    let fault = Fault::io_error().on(OperationKind::Write).forever();
    world
        .disk
        .inject(fault.in_path(move |path| path.starts_with(&journal)));
    world.send_produce(
        client,
        Acks::All,
        &[put(broken, "lost"), put(sound, "kept")],
    );
    world.settle();
    let outcomes = world.reply(client).receipts();
    assert_eq!(outcomes[0], Err(ErrorCode::StorageFailed));
    assert!(outcomes[1].is_ok());
    assert_eq!(
        world.produce_one(client, broken, "more"),
        Err(ErrorCode::StorageFailed)
    );
    assert_eq!(world.produce_one(client, sound, "more"), Ok(1));
    // What was acknowledged is still served; what was not is not.
    assert_eq!(world.read_all(client, broken), [(0, "before".to_owned())]);
    let partitions = world.describe_partitions(client, "t");
    assert!(matches!(&partitions[0].state, PartitionState::Failed(why) if !why.is_empty()));
    assert_eq!(partitions[1].state, PartitionState::Online);

    world.disk.clear_faults();
    let mut world = world.crash(1);
    let client = world.connect(0);
    let kept = world.read_all(client, broken);
    assert_eq!(kept[0], (0, "before".to_owned()));
    let next = world.produce_one(client, broken, "after");
    assert_eq!(next, Ok(kept.len() as u64));
    assert_eq!(world.read_all(client, sound).len(), 2);
}

#[test]
fn a_store_that_cannot_make_partitions_fails_the_creation_and_says_why() {
    let mut world = World::new(161, 2);
    let client = world.connect(1);
    let fault = Fault::io_error().on(OperationKind::Write).forever();
    world
        .disk
        .inject(fault.in_path(|path| path == "store-0001/catalogue"));
    let error = world
        .try_create(client, "t", 4, &[])
        .expect_err("a refusal");
    assert_eq!(error.code, ErrorCode::StorageFailed);
    assert!(
        error.message.contains("the change is logged"),
        "{}",
        error.message
    );
    world.disk.clear_faults();
    // The next start makes up for it.
    let mut world = world.crash(2);
    let client = world.connect(0);
    let topic = world.cores[0]
        .lane
        .image()
        .topic_named("t")
        .expect("a topic")
        .id;
    for partition in 0..4 {
        assert_eq!(
            world.produce_one(client, crate::client::at(topic, partition), "x"),
            Ok(0)
        );
    }
}
