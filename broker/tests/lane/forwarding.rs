//! A client may ask any core: requests are forwarded to the owner, or answered with its address.

use corelane_protocol::request::{Acks, ListOffsetsEntry, ListOffsetsRequest, OffsetPosition};
use corelane_protocol::{ErrorCode, Request, RequestFlags, Response};

use crate::client::{Put, at, fetch_request, frame, put};
use crate::world::{World, small_config};

#[test]
fn a_produce_to_another_core_is_forwarded_and_names_the_owner() {
    let mut world = World::new(80, 3);
    let topic = world.create("t", 6, &[]);
    let partition = world.partition_on("t", topic, 2);
    let client = world.connect(0);
    world.send_produce(client, Acks::All, &[put(partition, "a")]);
    world.carry();
    world.no_reply(client);
    world.settle();
    let reply = world.reply(client);
    assert_eq!(reply.owner(), Some(world.topology.cores[2].clone()));
    assert_eq!(
        reply.receipts()[0].map(|receipt| receipt.base_offset.get()),
        Ok(0)
    );
    assert_eq!(world.read_all(client, partition), [(0, "a".to_owned())]);
}

#[test]
fn a_client_may_refuse_to_be_forwarded() {
    let mut world = World::new(81, 2);
    let topic = world.create("t", 4, &[]);
    let (near, far) = (
        world.partition_on("t", topic, 0),
        world.partition_on("t", topic, 1),
    );
    let client = world.connect(0);
    let bytes = crate::client::produce_frame(1, Acks::All, &[put(near, "a"), put(far, "b")]);
    let mut flagged = bytes;
    flagged[12..16].copy_from_slice(&1_u32.to_le_bytes());
    world.receive(client, &flagged);
    world.settle();
    let entries = world.reply(client).produce().entries;
    assert!(entries[0].result.is_ok() && entries[0].owner.is_none());
    let code = entries[1].result.as_ref().map_err(|error| error.code);
    assert_eq!(code.expect_err("not forwarded"), ErrorCode::NotOwner);
    assert_eq!(entries[1].owner, Some(world.topology.cores[1].clone()));

    let request = Request::Fetch(fetch_request(&[(far, 0), (near, 0)], 10_000, 1));
    world.send_flagged(client, RequestFlags::NO_FORWARD, &request);
    world.settle();
    let values = world.reply(client).values();
    assert_eq!(
        values,
        [Err(ErrorCode::NotOwner), Ok(vec![(0, "a".to_owned())])]
    );

    let entries = vec![ListOffsetsEntry {
        partition: far,
        position: OffsetPosition::Latest,
    }];
    let request = Request::ListOffsets(ListOffsetsRequest { entries });
    world.send_flagged(client, RequestFlags::NO_FORWARD, &request);
    world.settle();
    let reply = world.reply(client);
    let Ok(Response::ListOffsets(listed)) = reply.response() else {
        panic!("not a list of offsets");
    };
    assert_eq!(
        listed.entries[0].owner,
        Some(world.topology.cores[1].clone())
    );
}

#[test]
fn a_produce_of_several_cores_is_answered_once_in_its_own_order() {
    let mut world = World::new(82, 3);
    let topic = world.create("t", 6, &[]);
    let client = world.connect(1);
    let owners = world.owners(client, "t").expect("a topic");
    let puts: Vec<_> = (0..6)
        .chain(0..6)
        .map(|n| put(at(topic, n), &format!("v{n}")))
        .collect();
    world.send_produce(client, Acks::All, &puts);
    world.settle();
    let reply = world.reply(client);
    for (index, entry) in reply.produce().entries.iter().enumerate() {
        let partition = index % 6;
        assert_eq!(entry.partition.partition.get() as usize, partition);
        let receipt = entry.result.as_ref().expect("a receipt");
        assert_eq!(receipt.base_offset.get() as usize, index / 6);
        let owner = entry.owner.as_ref().map(|address| address.core.get());
        assert_eq!(owner, Some(owners[partition]).filter(|owner| *owner != 1));
    }
    world.no_reply(client);
}

#[test]
fn pipelined_produces_through_another_core_keep_their_order() {
    let mut world = World::new(83, 2);
    let topic = world.create("t", 2, &[]);
    let partition = world.partition_on("t", topic, 1);
    let client = world.connect(0);
    for number in 0..50 {
        world.send_produce(client, Acks::All, &[put(partition, &number.to_string())]);
        if number % 7 == 0 {
            world.settle();
        }
    }
    world.settle();
    for offset in 0..50 {
        let receipt = world.reply(client).receipts().remove(0).expect("a receipt");
        assert_eq!(receipt.base_offset.get(), offset);
    }
    let expected: Vec<_> = (0..50).map(|number| (number, number.to_string())).collect();
    assert_eq!(world.read_all(client, partition), expected);
}

#[test]
fn a_long_poll_through_another_core_wakes_on_append() {
    let mut world = World::new(84, 2);
    let topic = world.create("t", 2, &[]);
    let partition = world.partition_on("t", topic, 1);
    let (reader, writer) = (world.connect(0), world.connect(1));
    world.send_fetch(reader, fetch_request(&[(partition, 0)], 10_000, 1));
    world.settle();
    world.no_reply(reader);
    world
        .produce_one(writer, partition, "a")
        .expect("a produce");
    let reply = world.reply(reader);
    assert_eq!(reply.values(), [Ok(vec![(0, "a".to_owned())])]);
    assert_eq!(
        reply.fetch().entries[0].owner,
        Some(world.topology.cores[1].clone())
    );
    world.send_fetch(reader, fetch_request(&[(partition, 1)], 300, 1));
    world.pass_ms(300);
    world.settle();
    assert_eq!(world.reply(reader).values(), [Ok(vec![])]);
}

#[test]
fn a_fetch_of_several_cores_is_served_by_the_first_entrys_owner() {
    let mut world = World::new(85, 3);
    let topic = world.create("t", 3, &[]);
    let partitions: Vec<_> = (0..3).map(|n| world.partition_on("t", topic, n)).collect();
    for (number, partition) in (0..).zip(&partitions) {
        let writer = world.connect(number);
        world
            .produce_one(writer, *partition, "x")
            .expect("a produce");
    }
    let client = world.connect(0);
    let entries: Vec<_> = [1, 2, 0, 1].iter().map(|n| (partitions[*n], 0)).collect();
    world.send_fetch(client, fetch_request(&entries, 10_000, 1 << 20));
    world.settle();
    let reply = world.reply(client);
    let found = Ok(vec![(0, "x".to_owned())]);
    let refused = Err(ErrorCode::NotOwner);
    assert_eq!(
        reply.values(),
        [found.clone(), refused.clone(), refused, found]
    );
    let owners: Vec<_> = reply
        .fetch()
        .entries
        .iter()
        .map(|e| e.owner.as_ref().map(|o| o.core.get()))
        .collect();
    assert_eq!(owners, [Some(1), Some(2), Some(0), Some(1)]);
}

#[test]
fn offsets_are_gathered_from_every_core() {
    let mut world = World::new(86, 3);
    let topic = world.create("t", 6, &[]);
    let client = world.connect(1);
    let puts: Vec<_> = (0..6)
        .flat_map(|n| (0..n).map(move |_| n))
        .map(|n| put(at(topic, n), "x"))
        .collect();
    world.send_produce(client, Acks::All, &puts);
    world.settle();
    world.reply(client);
    let mut entries: Vec<_> = (0..6)
        .map(|n| ListOffsetsEntry {
            partition: at(topic, n),
            position: OffsetPosition::Latest,
        })
        .collect();
    entries.push(ListOffsetsEntry {
        partition: at(topic, 6),
        position: OffsetPosition::Latest,
    });
    let reply = world.ask(
        client,
        &Request::ListOffsets(ListOffsetsRequest { entries }),
    );
    let Ok(Response::ListOffsets(listed)) = reply.response() else {
        panic!("not a list of offsets");
    };
    let offsets: Vec<_> = listed
        .entries
        .iter()
        .map(|e| e.result.as_ref().map(|l| l.offset.get()).ok())
        .collect();
    assert_eq!(
        offsets,
        [Some(0), Some(1), Some(2), Some(3), Some(4), Some(5), None]
    );
}

#[test]
fn a_full_mailbox_paces_senders_and_order_survives() {
    let mut config = small_config();
    config.limits.mailbox_requests_max = 4;
    let mut world = World::with_config(87, 2, config);
    let topic = world.create("t", 2, &[]);
    let partition = world.partition_on("t", topic, 1);
    let near = world.partition_on("t", topic, 0);
    let (client, other) = (world.connect(0), world.connect(0));
    for number in 0..6 {
        world.send_produce(client, Acks::All, &[put(partition, &number.to_string())]);
    }
    world.carry_one_way(0, 0);
    assert!(!world.clients[client].receiving);
    world.no_reply(client);
    // Whoever asks this core alone is not held up.
    assert!(world.clients[other].receiving);
    world.send_produce(other, Acks::All, &[put(near, "near")]);
    assert_eq!(world.log_end(0, near), 1);
    world.settle();
    for offset in 0..6 {
        let receipt = world.reply(client).receipts()[0].expect("a receipt");
        assert_eq!(receipt.base_offset.get(), offset);
    }
    assert!(world.clients[client].receiving);
    assert!(world.mail_on_its_way_max <= 2);
}

#[test]
fn a_mailbox_full_of_long_polls_refuses_and_order_survives() {
    let mut config = small_config();
    config.limits.mailbox_requests_max = 3;
    let mut world = World::with_config(79, 2, config);
    let topic = world.create("t", 2, &[]);
    let partition = world.partition_on("t", topic, 1);
    let (client, reader) = (world.connect(0), world.connect(0));
    for _ in 0..3 {
        world.send_fetch(reader, fetch_request(&[(partition, 0)], 5_000, 1));
    }
    for number in 0..3 {
        world.send_produce(client, Acks::All, &[put(partition, &number.to_string())]);
    }
    world.settle();
    let refused: Vec<_> = (0..3)
        .map(|_| world.reply(client).receipts().remove(0))
        .collect();
    assert_eq!(refused[0], Err(ErrorCode::Overloaded));
    assert_eq!(
        refused[1..],
        [Err(ErrorCode::ProduceOrder), Err(ErrorCode::ProduceOrder)]
    );
    world.pass_ms(5_000);
    assert_eq!(
        world.produce_one(client, partition, "late"),
        Err(ErrorCode::ProduceOrder)
    );
    let resumed = Put {
        resume: true,
        ..put(partition, "0")
    };
    world.send_produce(
        client,
        Acks::All,
        &[resumed, put(partition, "1"), put(partition, "2")],
    );
    world.settle();
    assert!(world.reply(client).receipts().iter().all(Result::is_ok));
    assert_eq!(world.values(client, partition), ["0", "1", "2"]);
}

#[test]
fn long_polls_of_a_closed_connection_end_on_the_other_core_too() {
    let mut config = small_config();
    config.limits.mailbox_requests_max = 5;
    let mut world = World::with_config(88, 2, config);
    let topic = world.create("t", 2, &[]);
    let partition = world.partition_on("t", topic, 1);
    let client = world.connect(0);
    for _ in 0..5 {
        world.send_fetch(client, fetch_request(&[(partition, 0)], 60_000, 1));
    }
    world.settle();
    world.disconnect(client);
    world.settle();
    // The mailbox is free again.
    let other = world.connect(0);
    assert!(world.produce_one(other, partition, "x").is_ok());
}

#[test]
fn a_refusal_by_the_owner_holds_for_what_was_forwarded_after_it() {
    let mut world = World::new(89, 2);
    let topic = world.create("t", 2, &[]);
    let partition = world.partition_on("t", topic, 1);
    let (client, other) = (world.connect(0), world.connect(0));
    world.fill_journals(1);
    world.send_produce(client, Acks::All, &[put(partition, "a")]);
    world.send_produce(client, Acks::All, &[put(partition, "b")]);
    // The owner loses its patience, refuses both and then writes its journal out, before the first core
    // hears of it.
    world.carry_one_way(0, 1);
    for _ in 0..6 {
        world.now.monotonic_us += 1_000_000;
        world.tick(1..2);
    }
    world.run_disks();
    world.send_produce(client, Acks::All, &[put(partition, "c")]);
    world.send_produce(other, Acks::All, &[put(partition, "other")]);
    world.settle();
    let outcomes: Vec<_> = (0..3)
        .map(|_| world.reply(client).receipts().remove(0))
        .collect();
    assert_eq!(outcomes[0], Err(ErrorCode::Overloaded));
    assert_eq!(
        outcomes[1..],
        [Err(ErrorCode::ProduceOrder), Err(ErrorCode::ProduceOrder)]
    );
    assert!(
        world.reply(other).receipts()[0].is_ok(),
        "another connection is not concerned"
    );
    let again: Vec<_> = ["a", "b", "c"]
        .iter()
        .enumerate()
        .map(|(index, value)| Put {
            resume: index == 0,
            ..put(partition, value)
        })
        .collect();
    world.send_produce(client, Acks::All, &again);
    world.settle();
    assert!(world.reply(client).receipts().iter().all(Result::is_ok));
    assert_eq!(world.values(client, partition), ["other", "a", "b", "c"]);
}

#[test]
fn requests_of_a_connection_may_be_answered_out_of_order() {
    let mut world = World::new(90, 2);
    let topic = world.create("t", 2, &[]);
    let (near, far) = (
        world.partition_on("t", topic, 0),
        world.partition_on("t", topic, 1),
    );
    let client = world.connect(0);
    let mut stream = frame(
        100,
        RequestFlags::NONE,
        &Request::Fetch(fetch_request(&[(far, 0)], 60_000, 1)),
    );
    stream.extend(crate::client::produce_frame(
        101,
        Acks::All,
        &[put(near, "a")],
    ));
    world.receive(client, &stream);
    world.settle();
    assert_eq!(world.reply(client).correlation(), 101);
    world.no_reply(client);
}
