//! Idempotent producers: their numbers, and what is said of batches that come again.

use std::collections::BTreeSet;

use corelane_protocol::batch::set_producer;
use corelane_protocol::request::{Acks, InitProducerIdRequest};
use corelane_protocol::response::{Durability, ProducerIdentity};
use corelane_protocol::{
    ApiError, ErrorCode, ProducerEpoch, ProducerId, Request, Response, TopicPartition,
};

use crate::client::{Put, at, batch};
use crate::world::World;

/// One record of a producer.
fn of(producer: u64, epoch: u16, sequence: u32, partition: TopicPartition, value: &str) -> Put {
    let mut bytes = batch(&[value]);
    let (id, epoch) = (ProducerId::new(producer), ProducerEpoch::new(epoch));
    set_producer(&mut bytes, id, epoch, sequence);
    Put {
        batch: bytes,
        ..crate::client::put(partition, value)
    }
}

fn identity(world: &mut World, client: usize) -> Result<ProducerIdentity, ApiError> {
    let reply = world.ask(client, &Request::InitProducerId(InitProducerIdRequest));
    match reply.response() {
        Ok(Response::InitProducerId(response)) => response.result,
        other => panic!("not an answer to InitProducerId: {other:?}"),
    }
}

#[test]
fn every_producer_gets_a_number_of_its_own() {
    let mut world = World::new(1, 2);
    let mut given = BTreeSet::new();
    for life in 0..4 {
        for core in 0..2 {
            let client = world.connect(core);
            // More than a block.
            let count = if life == 0 { 1100 } else { 3 };
            for _ in 0..count {
                let identity = identity(&mut world, client).expect("there is room");
                assert_eq!((identity.producer_epoch.get(), identity.window), (0, 1024));
                assert!(
                    given.insert(identity.producer_id),
                    "{identity:?} was given before"
                );
            }
            world.disconnect(client);
        }
        world = match life % 2 {
            0 => world.crash(2),
            _ => world.close_and_restart(2),
        };
    }
}

#[test]
fn many_ask_at_the_same_time_and_one_of_them_is_gone() {
    let mut world = World::new(2, 2);
    let clients: Vec<_> = (0..5).map(|_| world.connect(1)).collect();
    for client in &clients {
        world.send(*client, &Request::InitProducerId(InitProducerIdRequest));
    }
    world.disconnect(clients[2]);
    world.settle();
    let mut given = BTreeSet::new();
    for (index, client) in clients.iter().enumerate().filter(|(index, _)| *index != 2) {
        let reply = world.reply(*client);
        let Ok(Response::InitProducerId(response)) = reply.response() else {
            panic!("client {index} has another answer");
        };
        assert!(given.insert(response.result.expect("there is room").producer_id));
    }
    assert_eq!(given.len(), 4);
}

#[test]
fn a_batch_that_comes_again_is_acknowledged_once_it_is_durable() {
    for core in 0..2 {
        let mut world = World::new(3, 2);
        let topic = world.create("t", 2, &[]);
        let to = at(topic, 0);
        let (first, second) = (world.connect(0), world.connect(core));
        let put = of(9, 0, 0, to, "a");
        world.send_produce(first, Acks::All, std::slice::from_ref(&put));
        world.carry();
        // The connection is lost with the answer; the batch comes again before its flush, behind it something new.
        world.disconnect(first);
        world.send_produce(second, Acks::All, &[put.clone(), of(9, 0, 1, to, "b")]);
        world.carry();
        world.no_reply(second);
        world.settle();
        let receipts = world.reply(second).receipts();
        let offsets = receipts.into_iter().map(|receipt| {
            let receipt = receipt.expect("a receipt");
            assert_eq!(receipt.durability, Durability::Durable);
            assert_eq!(receipt.replicas_flushed, 1);
            receipt.base_offset.get()
        });
        assert_eq!(offsets.collect::<Vec<_>>(), [0, 1]);
        // Long durable.
        world.send_produce(second, Acks::All, &[put]);
        world.settle();
        let receipt = world.reply(second).receipts().remove(0).expect("a receipt");
        assert_eq!(
            (receipt.base_offset.get(), receipt.durability),
            (0, Durability::Durable)
        );
        let reader = world.connect(0);
        assert_eq!(world.values(reader, to), ["a", "b"]);
    }
}

#[test]
fn a_batch_is_known_again_after_a_crash() {
    for cores in [1, 2] {
        let mut world = World::new(4, cores);
        let topic = world.create("t", 2, &[]);
        let to = at(topic, 1);
        let client = world.connect(0);
        world.send_produce(
            client,
            Acks::All,
            &[of(9, 3, 0, to, "a"), of(9, 3, 1, to, "b")],
        );
        world.settle();
        world.reply(client);
        let mut world = world.crash(3 - cores);
        let client = world.connect(0);
        world.send_produce(
            client,
            Acks::All,
            &[of(9, 3, 1, to, "b"), of(9, 3, 2, to, "c")],
        );
        world.settle();
        let receipts = world.reply(client).receipts();
        let offsets = receipts
            .into_iter()
            .map(|receipt| receipt.expect("a receipt").base_offset.get());
        assert_eq!(offsets.collect::<Vec<_>>(), [1, 2]);
        assert_eq!(world.values(client, to), ["a", "b", "c"]);
    }
}

#[test]
fn what_does_not_come_next_is_refused_with_all_that_follows_until_it_is_resumed() {
    let mut world = World::new(5, 1);
    let topic = world.create("t", 1, &[]);
    let to = at(topic, 0);
    let client = world.connect(0);
    let send = |world: &mut World, put: Put| {
        world.send_produce(client, Acks::All, &[put]);
        world.settle();
        let receipt = world.reply(client).receipts().remove(0);
        receipt.map(|receipt| receipt.base_offset.get())
    };
    let resumed = |put: Put| Put {
        resume: true,
        ..put
    };
    assert_eq!(send(&mut world, of(9, 0, 0, to, "a")), Ok(0));
    let gap = send(&mut world, of(9, 0, 2, to, "c"));
    assert_eq!(gap, Err(ErrorCode::OutOfOrderSequence));
    let behind = send(&mut world, of(9, 0, 1, to, "b"));
    assert_eq!(behind, Err(ErrorCode::ProduceOrder));
    assert_eq!(send(&mut world, resumed(of(9, 0, 1, to, "b"))), Ok(1));
    let unknown = send(&mut world, of(8, 0, 5, to, "x"));
    assert_eq!(unknown, Err(ErrorCode::UnknownProducer));
    assert_eq!(send(&mut world, resumed(of(9, 1, 0, to, "c"))), Ok(2));
    // What cannot be mended by sending it again holds nobody up.
    let fenced = send(&mut world, of(9, 0, 2, to, "late"));
    assert_eq!(fenced, Err(ErrorCode::ProducerFenced));
    assert_eq!(send(&mut world, of(9, 1, 1, to, "d")), Ok(3));
    assert_eq!(world.values(client, to), ["a", "b", "c", "d"]);
}

#[test]
fn a_weak_topic_acknowledges_what_is_known_from_memory() {
    let mut world = World::new(6, 1);
    let topic = world.create("t", 1, &[("flush.ms", "60000")]);
    let client = world.connect(0);
    for _ in 0..2 {
        world.send_produce(client, Acks::All, &[of(9, 0, 0, at(topic, 0), "a")]);
        world.carry();
        let receipt = world.reply(client).receipts().remove(0).expect("a receipt");
        assert_eq!(
            (receipt.base_offset.get(), receipt.durability),
            (0, Durability::Memory)
        );
    }
}
