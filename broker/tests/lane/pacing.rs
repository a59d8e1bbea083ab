//! Senders are slowed down to what disks and other cores take; nobody waits for a store that is not theirs.

use corelane_protocol::request::{Acks, ProduceEntry, ProduceRequest};
use corelane_protocol::{ErrorCode, Request, TopicId, TopicPartition};
use corelane_storage::memory::MemoryKind;

use crate::client::{Put, at, batch, put};
use crate::world::{World, small_config};

/// Partitions of core 1 in its two stores.
fn far_partitions(world: &mut World, topic: TopicId) -> [TopicPartition; 2] {
    let stores = &world.cores[1].stores;
    let of_topic = |store: usize| {
        let mut partitions = stores[store].partitions().into_iter();
        partitions
            .find(|partition| partition.topic == topic)
            .expect("it has partitions in every store")
    };
    [of_topic(0), of_topic(1)]
}

fn values(world: &mut World, partition: TopicPartition) -> Vec<String> {
    values_on(world, 1, partition)
}

fn values_on(world: &mut World, core: u16, partition: TopicPartition) -> Vec<String> {
    let client = world.connect(core);
    world.values(client, partition)
}

/// A client that is faster than the disk, on the port of a core that does not own its partitions.
#[test]
fn a_fast_sender_on_another_cores_port_is_paced_and_loses_nothing() {
    for (seed, cores) in [(300, 2), (301, 3)] {
        let mut config = small_config();
        config.limits.connection_in_flight_bytes_max = 64 << 20;
        config.limits.mailbox_bytes_max = 2 << 20;
        let mut world = World::with_config(seed, cores, config);
        let topic = world.create("t", 4 * u32::from(cores), &[]);
        let partitions = far_partitions(&mut world, topic);
        let clients = [world.connect(0), world.connect(0)];
        let filling = "x".repeat(50_000);
        let frame_bytes = 51_000;
        let (mut sent, mut answered) = ([0_u32; 2], [0_u32; 2]);
        let mut rounds = 0;
        while answered != [200, 200] {
            for (index, client) in clients.into_iter().enumerate() {
                while sent[index] < 200 && world.clients[client].receiving {
                    let partition = partitions[sent[index] as usize % 2];
                    let value = format!("{index}:{}:{filling}", sent[index]);
                    world.send_produce(client, Acks::All, &[put(partition, &value)]);
                    world.carry();
                    sent[index] += 1;
                }
            }
            let outstanding = (sent[0] + sent[1] - answered[0] - answered[1]) * frame_bytes;
            assert!(outstanding <= (1 << 20) + 2 * frame_bytes, "{outstanding}");
            let held = world.cores[1].ledger.in_use_of(MemoryKind::Receive);
            assert!(held <= 1 << 20, "{held}");
            world.run_disks();
            world.pass_ms(5);
            for (index, client) in clients.into_iter().enumerate() {
                while let Some(reply) = world.clients[client].take_reply() {
                    assert_eq!(reply.receipts()[0].map(|_| ()), Ok(()));
                    answered[index] += 1;
                }
            }
            rounds += 1;
            assert!(rounds < 10_000, "only {answered:?} were answered");
        }
        assert!(rounds > 10);
        for (half, partition) in partitions.into_iter().enumerate() {
            let found = values(&mut world, partition);
            for index in 0..2 {
                let prefix = format!("{index}:");
                let own = found.iter().filter_map(|value| value.strip_prefix(&prefix));
                let numbers: Vec<usize> = own
                    .map(|rest| rest.split(':').next().expect("one").parse().expect("one"))
                    .collect();
                let expected: Vec<_> = (0..200).filter(|number| number % 2 == half).collect();
                assert_eq!(numbers, expected);
            }
        }
        assert_eq!(world.cores[1].ledger.in_use_of(MemoryKind::Receive), 0);
    }
}

/// However much one sender has under way, the disk is given little of it at a time, and others are served in between.
#[test]
fn a_modest_sender_does_not_wait_behind_all_of_a_flood() {
    let mut config = small_config();
    config.limits.connection_in_flight_bytes_max = 64 << 20;
    config.journal.queue_bytes_max = 128 * 1024;
    config.journal.group_bytes_max = 64 * 1024;
    let mut world = World::with_config(309, 1, config);
    let topic = world.create("t", 1, &[]);
    let partition = at(topic, 0);
    let (flood, modest) = (world.connect(0), world.connect(0));
    let filling = "x".repeat(10_000);
    let mut sent = 0;
    while world.clients[flood].receiving && sent < 1000 {
        world.send_produce(
            flood,
            Acks::All,
            &[put(partition, &format!("{sent}:{filling}"))],
        );
        world.perform_effects();
        sent += 1;
    }
    // 128 KiB, and what was under way when that was full.
    assert!((13..16).contains(&sent), "{sent}");
    world.send_produce(modest, Acks::All, &[put(partition, "modest")]);
    let mut answered = 0;
    let mut rounds = 0;
    while world.clients[modest].take_reply().is_none() {
        world.run_disks();
        world.carry();
        while let Some(reply) = world.clients[flood].take_reply() {
            assert_eq!(reply.receipts()[0].map(|_| ()), Ok(()));
            answered += 1;
        }
        while world.clients[flood].receiving && sent < 1000 {
            let value = format!("{sent}:{filling}");
            world.send_produce(flood, Acks::All, &[put(partition, &value)]);
            world.perform_effects();
            sent += 1;
        }
        rounds += 1;
        assert!(
            rounds < 20 && answered < 60,
            "{answered} of the flood come first"
        );
    }
    world.settle();
    let found = values_on(&mut world, 0, partition);
    let own = found.iter().filter_map(|value| value.split_once(':'));
    let numbers: Vec<i32> = own
        .map(|(number, _)| number.parse().expect("one"))
        .collect();
    assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
    assert_eq!(found.iter().filter(|value| *value == "modest").count(), 1);
}

#[test]
fn a_full_store_holds_up_only_who_writes_to_it() {
    // Through the owner, and through the other core.
    for (seed, core) in [(302, 1), (308, 0)] {
        let mut world = World::new(seed, 2);
        let topic = world.create("t", 8, &[]);
        let [full, free] = far_partitions(&mut world, topic);
        world.fill_journals(1);
        world.settle();
        world.fill_journal(1, 0);
        let clients = [0; 4].map(|_| world.connect(core));
        let puts = [
            vec![put(full, "held")],
            vec![put(free, "free")],
            vec![put(free, "free"), put(full, "held")],
            vec![put(free, "free")],
        ];
        for (client, puts) in clients.iter().zip(&puts) {
            world.send_produce(*client, Acks::All, puts);
            world.carry();
        }
        assert_eq!(world.log_end(1, full), 0);
        // A request for both waits unread with the owner, and batch by batch behind the other core.
        let taken_up = core == 0;
        assert_eq!(world.log_end(1, free), 2 + u64::from(taken_up));
        assert_eq!(world.clients[clients[2]].receiving, taken_up);
        world.settle();
        for client in clients {
            assert!(world.reply(client).receipts().iter().all(Result::is_ok));
        }
        assert_eq!(values(&mut world, full), ["held", "held"]);
        assert_eq!(values(&mut world, free), ["free", "free", "free"]);
    }
}

/// Requests for several full stores, from both sides: they wait for each in turn and all get through.
#[test]
fn requests_of_several_full_stores_get_through() {
    let mut config = small_config();
    config.limits.mailbox_requests_max = 8;
    let mut world = World::with_config(303, 3, config);
    let topic = world.create("t", 12, &[]);
    let clients: Vec<_> = [0, 0, 1, 1, 2].map(|core| world.connect(core)).into();
    let filling = "x".repeat(20_000);
    let (mut sent, mut answered) = (vec![0; 5], vec![0; 5]);
    let mut rounds = 0;
    while answered.iter().any(|count| *count < 60) {
        for (index, client) in clients.iter().enumerate() {
            while sent[index] < 60 && world.clients[*client].receiving {
                let value = format!("{index}:{}:{filling}", sent[index]);
                let puts: Vec<Put> = (0..12)
                    .step_by(index + 1)
                    .map(|n| put(at(topic, n), &value))
                    .collect();
                world.send_produce(*client, Acks::All, &puts);
                sent[index] += 1;
            }
        }
        world.carry();
        world.run_disks();
        world.pass_ms(5);
        for (index, client) in clients.iter().enumerate() {
            while let Some(reply) = world.clients[*client].take_reply() {
                assert!(
                    reply.receipts().iter().all(Result::is_ok),
                    "{:?}",
                    reply.receipts()
                );
                answered[index] += 1;
            }
        }
        rounds += 1;
        assert!(rounds < 10_000, "only {answered:?} were answered");
    }
    for partition in 0..12 {
        let found = values(&mut world, at(topic, partition));
        for index in (0..5).filter(|index| partition % (index + 1) == 0) {
            let prefix = format!("{index}:");
            let own = found.iter().filter_map(|value| value.strip_prefix(&prefix));
            let numbers: Vec<u32> = own
                .map(|rest| rest.split(':').next().expect("one").parse().expect("one"))
                .collect();
            assert_eq!(
                numbers,
                (0..60).collect::<Vec<_>>(),
                "{index} in {partition}"
            );
        }
    }
}

#[test]
fn what_waits_for_a_closed_connection_is_dropped() {
    let mut world = World::new(304, 2);
    let topic = world.create("t", 8, &[]);
    let [full, _] = far_partitions(&mut world, topic);
    world.fill_journals(1);
    let (gone, stays) = (world.connect(0), world.connect(0));
    for client in [gone, stays, gone] {
        world.send_produce(client, Acks::All, &[put(full, &client.to_string())]);
    }
    world.carry();
    assert!(world.cores[1].ledger.in_use_of(MemoryKind::Receive) > 0);
    world.disconnect(gone);
    world.settle();
    assert!(world.reply(stays).receipts()[0].is_ok());
    assert_eq!(values(&mut world, full), [stays.to_string()]);
    assert_eq!(world.cores[1].ledger.in_use_of(MemoryKind::Receive), 0);
    // The mailbox is free again.
    for _ in 0..10 {
        assert!(world.produce_one(stays, full, "x").is_ok());
    }
}

#[test]
fn what_waits_for_longer_than_its_request_may_is_not_appended() {
    let mut world = World::new(305, 2);
    let topic = world.create("t", 8, &[]);
    let [full, _] = far_partitions(&mut world, topic);
    world.fill_journals(1);
    let client = world.connect(0);
    let bytes = batch(&["late"]);
    let request = Request::Produce(ProduceRequest {
        acks: Acks::All,
        timeout_ms: 500,
        entries: vec![ProduceEntry {
            partition: full,
            resume: false,
            batch: &bytes,
        }],
    });
    world.send(client, &request);
    world.send_produce(client, Acks::All, &[put(full, "behind it")]);
    world.pass_ms_without_disks(1000);
    assert_eq!(world.reply(client).receipts(), [Err(ErrorCode::TimedOut)]);
    world.settle();
    assert_eq!(
        world.reply(client).receipts(),
        [Err(ErrorCode::ProduceOrder)]
    );
    assert_eq!(values(&mut world, full), Vec::<String>::new());
    assert_eq!(world.cores[1].ledger.in_use_of(MemoryKind::Receive), 0);
}

#[test]
fn what_waits_for_a_deleted_topic_is_told_so() {
    let mut world = World::new(306, 2);
    let topic = world.create("t", 8, &[]);
    let [full, _] = far_partitions(&mut world, topic);
    world.fill_journals(1);
    let client = world.connect(0);
    world.send_produce(client, Acks::All, &[put(full, "x")]);
    world.carry();
    let admin = world.connect(1);
    world.send_delete(admin, "t");
    world.settle();
    assert_eq!(
        world.reply(client).receipts(),
        [Err(ErrorCode::UnknownTopic)]
    );
    assert_eq!(world.cores[1].ledger.in_use_of(MemoryKind::Receive), 0);
}

#[test]
fn what_another_core_has_taken_up_is_finished_before_the_end() {
    let mut world = World::new(307, 2);
    let topic = world.create("t", 8, &[]);
    let [full, _] = far_partitions(&mut world, topic);
    world.fill_journals(1);
    let client = world.connect(0);
    world.send_produce(client, Acks::All, &[put(full, "x")]);
    world.carry();
    let now = world.now;
    for core in &mut world.cores {
        core.lane.begin_shutdown(now);
    }
    assert!(!world.cores[1].lane.is_drained());
    world.settle();
    assert!(world.reply(client).receipts()[0].is_ok());
    assert!(world.cores.iter().all(|core| core.lane.is_drained()));
}

/// Every partition needs memory of its own, which is more than its batch has bytes.
#[test]
fn many_partitions_that_are_written_a_little_are_paced_and_not_refused() {
    let mut config = small_config();
    config.memory.per_core_bytes = 6000 << 10;
    config.limits.core_in_flight_bytes_max = 4 << 20;
    config.limits.connection_in_flight_bytes_max = 2 << 20;
    config.journal.files_max = 8;
    let mut world = World::with_config(309, 1, config);
    const PARTITIONS: u32 = 300;
    let topic = world.create("t", PARTITIONS, &[]);
    let client = world.connect(0);
    let filling = "x".repeat(17_000);
    let (mut sent, mut answered) = (0, 0);
    let mut rounds = 0;
    while answered < 2 * PARTITIONS {
        while sent < 2 * PARTITIONS && world.clients[client].receiving {
            let put = put(at(topic, sent % PARTITIONS), &filling);
            world.send_produce(client, Acks::All, &[put]);
            world.carry();
            sent += 1;
        }
        world.run_disks();
        world.pass_ms(5);
        while let Some(reply) = world.clients[client].take_reply() {
            let entry = reply.produce().entries.remove(0);
            assert!(entry.result.is_ok(), "{:?}", entry.result);
            answered += 1;
        }
        rounds += 1;
        assert!(rounds < 20_000, "only {answered} of {sent} were answered");
    }
    for partition in 0..PARTITIONS {
        assert_eq!(world.log_end(0, at(topic, partition)), 2);
    }
}
