//! Topics are made, shown, described and deleted, on every core alike.

use corelane_broker::lane::TaskFailure;
use corelane_protocol::request::{Acks, CreateTopicsRequest, MetadataRequest, NewTopic};
use corelane_protocol::response::{ConfigSource, PartitionState};
use corelane_protocol::{ErrorCode, Request, Response};

use crate::client::{at, fetch_request, put};
use crate::world::{World, core};

#[test]
fn a_topic_is_known_on_every_core_once_it_is_answered() {
    for creator in 0..3 {
        let mut world = World::new(60, 3);
        let client = world.connect(creator);
        let topic = world.try_create(client, "t", 6, &[]).expect("a topic");
        for number in 0..3 {
            let other = world.connect(number);
            let mut owners = world.owners(other, "t").expect("a topic");
            owners.sort_unstable();
            assert_eq!(owners, [0, 0, 1, 1, 2, 2]);
            let partition = world.partition_on("t", topic, number);
            assert_eq!(world.produce_one(other, partition, "x"), Ok(0));
        }
    }
}

#[test]
fn a_topic_is_shown_by_no_core_before_every_core_has_it() {
    let mut world = World::new(61, 3);
    let creator = world.connect(0);
    let watchers: Vec<_> = (0..3).map(|number| world.connect(number)).collect();
    world.send(
        creator,
        &Request::CreateTopics(CreateTopicsRequest {
            topics: vec![NewTopic {
                name: "t".to_owned(),
                partitions: 6,
                configs: vec![],
            }],
            validate_only: false,
        }),
    );
    // Core 2's disk is slow: nothing of its store's tasks ends before `settle`.
    world.carry();
    world.no_reply(creator);
    for watcher in &watchers {
        let topics = Some(vec!["t".to_owned()]);
        world.send(*watcher, &Request::Metadata(MetadataRequest { topics }));
        world.carry();
        let reply = world.reply(*watcher);
        let Ok(Response::Metadata(metadata)) = reply.response() else {
            panic!("not metadata");
        };
        assert!(metadata.topics[0].result.is_err());
    }
    world.settle();
    assert!(world.reply(creator).response().is_ok());
    for watcher in watchers {
        assert!(world.owners(watcher, "t").is_ok());
    }
}

#[test]
fn commands_of_several_clients_are_all_answered() {
    let mut world = World::new(62, 3);
    let clients: Vec<_> = (0..9).map(|number| world.connect(number % 3)).collect();
    for (number, client) in clients.iter().enumerate() {
        let name = format!("t{}", number / 2);
        world.send(
            *client,
            &Request::CreateTopics(CreateTopicsRequest {
                topics: vec![NewTopic {
                    name,
                    partitions: 2,
                    configs: vec![],
                }],
                validate_only: false,
            }),
        );
    }
    world.settle();
    let mut made = 0;
    for client in clients {
        let reply = world.reply(client);
        let Ok(Response::CreateTopics(response)) = reply.response() else {
            panic!("not an answer to a creation");
        };
        match &response.topics[0].result {
            Ok(_) => made += 1,
            Err(error) => assert_eq!(error.code, ErrorCode::TopicExists),
        }
    }
    assert_eq!(made, 5);
}

#[test]
fn a_deleted_topic_is_gone_and_its_name_is_free() {
    let mut world = World::new(63, 2);
    let first = world.create("t", 4, &[]);
    let client = world.connect(1);
    let partition = world.partition_on("t", first, 1);
    world
        .produce_one(client, partition, "old")
        .expect("a produce");
    assert_eq!(world.delete(client, "t").expect("a deletion"), first);
    assert_eq!(
        world.produce_one(client, partition, "x"),
        Err(ErrorCode::UnknownTopic)
    );
    assert!(world.owners(client, "t").is_err());
    assert_eq!(
        world.delete(client, "t").map_err(|e| e.code),
        Err(ErrorCode::UnknownTopic)
    );
    let second = world.create("t", 4, &[]);
    assert_ne!(first, second);
    let partition = world.partition_on("t", second, 1);
    assert_eq!(world.read_all(client, partition), []);
    assert_eq!(world.produce_one(client, partition, "new"), Ok(0));
    for core in &world.cores {
        let kept: usize = core
            .stores
            .iter()
            .map(|store| store.partitions().len())
            .sum();
        assert_eq!(kept, 2);
    }
}

#[test]
fn a_topic_may_be_deleted_and_made_again_under_producers_and_readers() {
    let mut world = World::new(64, 2);
    let (writer, reader, admin) = (world.connect(0), world.connect(0), world.connect(1));
    for round in 0..5 {
        let topic = world.try_create(admin, "t", 2, &[]).expect("a topic");
        let partition = world.partition_on("t", topic, 0);
        for _ in 0..10 {
            world.send_produce(writer, Acks::All, &[put(partition, "x")]);
        }
        world.send_fetch(reader, fetch_request(&[(partition, 10_000)], 60_000, 1));
        world.send_fetch(reader, fetch_request(&[(partition, 0)], 60_000, 1 << 20));
        world.carry();
        assert_eq!(
            world.delete(admin, "t").expect("a deletion"),
            topic,
            "round {round}"
        );
        for _ in 0..10 {
            let outcome = world.reply(writer).receipts().remove(0);
            assert!(
                matches!(outcome, Ok(_) | Err(ErrorCode::UnknownTopic)),
                "{outcome:?}"
            );
        }
        assert_eq!(
            world.reply(reader).values(),
            [Err(ErrorCode::OffsetOutOfRange)]
        );
        assert_eq!(world.reply(reader).values(), [Err(ErrorCode::UnknownTopic)]);
        world.no_reply(writer);
    }
}

#[test]
fn descriptions_are_gathered_from_every_core() {
    let mut world = World::new(65, 3);
    let topic = world.create(
        "t",
        6,
        &[("segment.bytes", "1 MiB"), ("flush.messages", "1")],
    );
    world.create("u", 1, &[]);
    let client = world.connect(1);
    let partition = world.partition_on("t", topic, 2);
    let other = world.connect(2);
    world.produce_one(other, partition, "x").expect("a produce");
    let topics = world.describe(client, Some(&["t", "none", "t"]));
    assert_eq!(topics.len(), 3);
    let code = topics[1].result.as_ref().map_err(|error| error.code);
    assert_eq!(code.expect_err("no such topic"), ErrorCode::UnknownTopic);
    for described in [&topics[0], &topics[2]] {
        let description = described.result.as_ref().expect("a topic");
        let config = |key: &str| {
            let found = description.configs.iter().find(|config| config.key == key);
            let found = found.expect("a setting");
            (found.value.clone(), found.source)
        };
        assert_eq!(
            config("segment.bytes"),
            ("1048576".to_owned(), ConfigSource::Topic)
        );
        assert_eq!(config("flush.ms"), ("0".to_owned(), ConfigSource::Default));
        assert_eq!(description.partitions.len(), 6);
        for (index, described) in description.partitions.iter().enumerate() {
            assert_eq!(described.partition.get() as usize, index);
            assert_eq!(described.state, PartitionState::Online);
            let expected = u64::from(partition.partition == described.partition);
            assert_eq!(described.log_end_offset.get(), expected);
            assert_eq!(
                described.core,
                world.topology.core_of(described.store).expect("a store")
            );
        }
    }
    assert_eq!(world.describe(client, None).len(), 2);
}

#[test]
fn metadata_tells_the_address_of_every_core() {
    let mut world = World::new(66, 3);
    let client = world.connect(2);
    let reply = world.ask(client, &Request::Metadata(MetadataRequest { topics: None }));
    let Ok(Response::Metadata(metadata)) = reply.response() else {
        panic!("not metadata");
    };
    assert_eq!(metadata.brokers[0].cores, world.topology.cores);
    assert_eq!(metadata.brokers[0].port, 9500);
    assert!(metadata.topics.is_empty());
}

#[test]
fn refused_topics_say_why_and_change_nothing() {
    let mut world = World::new(67, 2);
    let client = world.connect(1);
    let refusal = |world: &mut World, name: &str, partitions, configs: &[(&str, &str)]| {
        world
            .try_create(client, name, partitions, configs)
            .expect_err("a refusal")
            .code
    };
    assert_eq!(
        refusal(&mut world, "a b", 1, &[]),
        ErrorCode::InvalidTopicName
    );
    assert_eq!(
        refusal(&mut world, "t", 0, &[]),
        ErrorCode::InvalidPartitions
    );
    assert_eq!(
        refusal(&mut world, "t", 1, &[("colour", "blue")]),
        ErrorCode::InvalidConfig
    );
    assert!(world.metadata_log.is_empty());
    assert_eq!(world.cores[1].lane.image().topic_count(), 0);
    assert_eq!(world.cores[0].lane.core(), core(0));
}

#[test]
fn a_metadata_log_that_fails_fences_the_controller_but_not_the_data() {
    let mut world = World::new(68, 2);
    let topic = world.create("t", 2, &[]);
    let client = world.connect(1);
    world.metadata_log_fails = Some(TaskFailure::Failed("the disk is on fire".to_owned()));
    let code = world
        .try_create(client, "u", 1, &[])
        .expect_err("a refusal")
        .code;
    assert_eq!(code, ErrorCode::StorageFailed);
    assert_eq!(
        world.delete(client, "t").expect_err("a refusal").code,
        ErrorCode::StorageFailed
    );
    let partition = world.partition_on("t", topic, 1);
    assert_eq!(world.produce_one(client, partition, "x"), Ok(0));
    let mut world = world.close_and_restart(2);
    let client = world.connect(0);
    assert!(world.try_create(client, "u", 1, &[]).is_ok());
    assert_eq!(
        world
            .read_all(client, at(topic, partition.partition.get()))
            .len(),
        1
    );
}

#[test]
fn a_metadata_log_without_room_refuses_what_it_cannot_hold_and_goes_on() {
    let mut world = World::new(69, 2);
    let client = world.connect(1);
    world.metadata_log_fails = Some(TaskFailure::DiskFull("no space left".to_owned()));
    let refusal = world
        .try_create(client, "t", 2, &[])
        .expect_err("a refusal");
    assert_eq!(refusal.code, ErrorCode::DiskFull);
    assert!(
        refusal.message.contains("no space left"),
        "{}",
        refusal.message
    );
    assert_eq!(world.cores[1].lane.image().topic_count(), 0);
    let topic = world.try_create(client, "t", 2, &[]).expect("a topic");
    let partition = world.partition_on("t", topic, 1);
    assert_eq!(world.produce_one(client, partition, "x"), Ok(0));
}

/// A world on whose full disk some store could not make its partition of the last topic.
fn with_a_topic_half_made(seed: u64) -> (World, usize, String) {
    let mut world = World::new(seed, 2);
    let client = world.connect(0);
    world.disk.set_capacity(Some(world.disk.allocated()));
    for number in 0..200 {
        let name = format!("t{number}");
        let Err(error) = world.try_create(client, &name, 4, &[]) else {
            continue;
        };
        assert_eq!(error.code, ErrorCode::StorageFailed, "{}", error.message);
        let partitions = world.describe_partitions(client, &name);
        let mut states = partitions.iter().map(|partition| &partition.state);
        assert!(states.any(|state| matches!(state, PartitionState::Failed(_))));
        return (world, client, name);
    }
    panic!("the disk is never full");
}

#[test]
fn partitions_that_a_full_disk_refused_are_made_once_there_is_room() {
    let (mut world, client, name) = with_a_topic_half_made(70);
    world.pass_ms(3000);
    world.disk.set_capacity(None);
    world.pass_ms(3000);
    let partitions = world.describe_partitions(client, &name);
    assert_eq!(partitions.len(), 4);
    for partition in &partitions {
        assert_eq!(partition.state, PartitionState::Online);
    }
    let topic = world.describe(client, Some(&[&name])).remove(0);
    let topic = topic.result.expect("a topic").id;
    for number in 0..4 {
        assert_eq!(world.produce_one(client, at(topic, number), "x"), Ok(0));
    }
}

#[test]
fn partitions_that_a_full_disk_refused_are_made_after_a_restart_on_the_full_disk() {
    for is_killed in [false, true] {
        let (mut world, _, name) = with_a_topic_half_made(72);
        world.disk_bytes_max = Some(world.disk.allocated());
        let mut world = match is_killed {
            false => world.close_and_restart(2),
            true => world.crash(2),
        };
        let client = world.connect(0);
        let partitions = world.describe_partitions(client, &name);
        let mut states = partitions.iter().map(|partition| &partition.state);
        assert!(states.any(|state| matches!(state, PartitionState::Failed(_))));
        world.pass_ms(3000);
        world.disk.set_capacity(None);
        world.pass_ms(3000);
        for partition in world.describe_partitions(client, &name) {
            assert_eq!(partition.state, PartitionState::Online);
        }
    }
}

#[test]
fn partitions_that_a_full_disk_refused_are_not_made_for_a_topic_that_was_deleted() {
    let (mut world, client, name) = with_a_topic_half_made(71);
    assert!(world.delete(client, &name).is_ok(), "it makes room");
    let partitions = |world: &World| {
        let stores = world.cores.iter();
        let stores = stores.flat_map(|core| core.lane.metrics().stores);
        stores.map(|store| store.partitions).sum::<usize>()
    };
    let before = partitions(&world);
    world.disk.set_capacity(None);
    // The stores find out that there is room.
    world.pass_ms(5000);
    let operations = world.disk.operations();
    world.pass_ms(5000);
    assert_eq!(world.disk.operations(), operations, "nothing is left to do");
    assert_eq!(partitions(&world), before);
    assert!(world.try_create(client, &name, 4, &[]).is_ok());
}
