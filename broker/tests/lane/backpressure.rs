//! What is full refuses or waits, loses nothing, and goes on when there is room.

use corelane_protocol::request::{Acks, MetadataRequest};
use corelane_protocol::{ErrorCode, Request, RequestFlags};
use corelane_storage::memory::MemoryKind;

use crate::client::{Put, at, fetch_request, frame, produce_frame, put};
use crate::world::{World, small_config};

#[test]
fn a_full_journal_paces_senders_and_refuses_nobody() {
    let mut world = World::new(99, 1);
    let topic = world.create("t", 2, &[]);
    let (writer, reader) = (world.connect(0), world.connect(0));
    assert_eq!(world.produce_one(writer, at(topic, 0), "0"), Ok(0));
    world.fill_journals(0);
    for value in ["1", "2", "3"] {
        world.send_produce(writer, Acks::All, &[put(at(topic, 0), value)]);
    }
    world.carry();
    world.no_reply(writer);
    assert!(!world.clients[writer].receiving);
    assert_eq!(world.log_end(0, at(topic, 0)), 1);
    // Readers are not concerned.
    world.send_fetch(reader, fetch_request(&[(at(topic, 0), 0)], 0, 1));
    world.carry();
    assert_eq!(
        world.reply(reader).values(),
        [Ok(vec![(0, "0".to_owned())])]
    );
    world.settle();
    for _ in 0..3 {
        assert!(world.reply(writer).receipts()[0].is_ok());
    }
    assert!(world.clients[writer].receiving);
    assert_eq!(world.values(reader, at(topic, 0)), ["0", "1", "2", "3"]);
}

#[test]
fn a_sender_faster_than_the_disk_is_paced() {
    let mut world = World::new(98, 1);
    let topic = world.create("t", 4, &[]);
    let client = world.connect(0);
    let value = "x".repeat(50_000);
    let mut answered = 0;
    let mut sent = 0;
    let mut paused = 0;
    while answered < 400 {
        // It sends whenever it is let, and the disk does as much as it can only now and then.
        while sent < 400 && world.clients[client].receiving {
            world.send_produce(client, Acks::All, &[put(at(topic, sent % 4), &value)]);
            world.carry();
            sent += 1;
        }
        paused += 1;
        world.run_disks();
        world.pass_ms(5);
        while let Some(reply) = world.clients[client].take_reply() {
            assert_eq!(reply.receipts()[0].map(|_| ()), Ok(()));
            answered += 1;
        }
        assert!(paused < 10_000, "only {answered} were answered");
    }
    assert!(paused > 10);
}

#[test]
fn a_journal_that_stays_full_refuses_in_the_end_and_order_survives() {
    let mut world = World::new(100, 1);
    let topic = world.create("t", 2, &[]);
    let client = world.connect(0);
    assert_eq!(world.produce_one(client, at(topic, 0), "0"), Ok(0));
    world.fill_journals(0);
    for value in ["1", "2"] {
        world.send_produce(client, Acks::All, &[put(at(topic, 0), value)]);
    }
    world.pass_ms_without_disks(6000);
    let refused = Err(ErrorCode::Overloaded);
    assert_eq!(world.reply(client).receipts(), [refused]);
    assert_eq!(
        world.reply(client).receipts(),
        [Err(ErrorCode::ProduceOrder)]
    );
    // There is room again, but the first of the refused has not come back.
    world.settle();
    let late = world.produce_one(client, at(topic, 0), "3");
    assert_eq!(late, Err(ErrorCode::ProduceOrder));
    assert_eq!(world.produce_one(client, at(topic, 1), "elsewhere"), Ok(0));
    let resumed = Put {
        resume: true,
        ..put(at(topic, 0), "1")
    };
    world.send_produce(client, Acks::All, &[resumed]);
    world.send_produce(client, Acks::All, &[put(at(topic, 0), "2")]);
    world.settle();
    assert!(world.reply(client).receipts()[0].is_ok());
    assert!(world.reply(client).receipts()[0].is_ok());
    assert_eq!(world.values(client, at(topic, 0)), ["0", "1", "2"]);
}

#[test]
fn a_resume_that_is_refused_must_be_resumed_again() {
    let mut world = World::new(101, 2);
    let topic = world.create("t", 2, &[]);
    let partition = world.partition_on("t", topic, 1);
    let client = world.connect(0);
    let puts = || {
        let first = Put {
            resume: true,
            ..put(partition, "x")
        };
        [first, put(partition, "y")]
    };
    for _ in 0..3 {
        world.fill_journals(1);
        world.send_produce(client, Acks::All, &puts());
        world.pass_ms_without_disks(6000);
        let outcomes = world.reply(client).receipts();
        let refused = [Err(ErrorCode::Overloaded), Err(ErrorCode::ProduceOrder)];
        assert_eq!(outcomes, refused);
        world.settle();
    }
    world.send_produce(client, Acks::All, &puts());
    world.settle();
    assert!(world.reply(client).receipts().iter().all(Result::is_ok));
}

#[test]
fn in_flight_bytes_pause_a_connection_and_answers_resume_it() {
    let mut world = World::new(102, 1);
    let topic = world.create("t", 1, &[]);
    let client = world.connect(0);
    let value = "x".repeat(60_000);
    let stream: Vec<u8> = (0..20)
        .flat_map(|n| produce_frame(n, Acks::All, &[put(at(topic, 0), &value)]))
        .collect();
    // The shell hands over what it had received, however much that is.
    world.receive(client, &stream);
    world.carry();
    assert!(!world.clients[client].receiving);
    assert_eq!(
        world.log_end(0, at(topic, 0)),
        8,
        "512 KiB hold eight requests"
    );
    world.settle();
    for number in 0..20 {
        let reply = world.reply(client);
        assert_eq!(reply.correlation(), number);
        assert!(reply.receipts()[0].is_ok());
    }
    assert!(world.clients[client].receiving);
}

#[test]
fn credit_tells_what_may_still_be_sent() {
    let mut world = World::new(103, 1);
    let topic = world.create("t", 1, &[]);
    let client = world.connect(0);
    let value = "x".repeat(60_000);
    let first = produce_frame(1, Acks::All, &[put(at(topic, 0), &value)]);
    world.receive(client, &first);
    let metadata = Request::Metadata(MetadataRequest::default());
    world.receive(client, &frame(2, RequestFlags::NONE, &metadata));
    world.carry();
    let reply = world.reply(client);
    assert_eq!(reply.correlation(), 2);
    let expected = 512 * 1024 - u32::try_from(first.len()).expect("a small frame");
    assert_eq!(reply.header.credit_bytes, expected);
}

#[test]
fn a_client_that_does_not_read_is_not_served_without_bound() {
    let mut world = World::new(104, 1);
    let topic = world.create("t", 1, &[]);
    let (writer, reader) = (world.connect(0), world.connect(0));
    let value = "x".repeat(100_000);
    for _ in 0..4 {
        world
            .produce_one(writer, at(topic, 0), &value)
            .expect("a produce");
    }
    world.clients[reader].reading = false;
    let fetch = Request::Fetch(fetch_request(&[(at(topic, 0), 0)], 0, 1));
    let stream: Vec<u8> = (0..100)
        .flat_map(|n| frame(n, RequestFlags::NONE, &fetch))
        .collect();
    world.receive(reader, &stream);
    world.settle();
    let unread = world.clients[reader].unread.len();
    assert!(unread < 2 * 512 * 1024, "{unread} bytes wait");
    assert!(!world.clients[reader].receiving);
    // Others are not concerned.
    assert!(world.produce_one(writer, at(topic, 0), "x").is_ok());
    // Once it reads, all is answered.
    world.start_reading(reader);
    world.settle();
    for number in 0..100 {
        assert_eq!(world.reply(reader).correlation(), number);
    }
    assert!(world.clients[reader].receiving);
    assert_eq!(world.cores[0].ledger.in_use_of(MemoryKind::Reply), 0);
}

#[test]
fn woken_long_polls_of_a_client_that_does_not_read_wait() {
    let mut world = World::new(105, 1);
    let topic = world.create("t", 1, &[]);
    let (writer, reader) = (world.connect(0), world.connect(0));
    world.clients[reader].reading = false;
    for _ in 0..50 {
        world.send_fetch(reader, fetch_request(&[(at(topic, 0), 0)], 60_000, 1));
    }
    let value = "x".repeat(100_000);
    world
        .produce_one(writer, at(topic, 0), &value)
        .expect("a produce");
    world.settle();
    let unread = world.clients[reader].unread.len();
    assert!((100_000..700_000).contains(&unread), "{unread} bytes wait");
    world.start_reading(reader);
    world.settle();
    for _ in 0..50 {
        assert_eq!(
            world.reply(reader).values()[0].as_ref().map(Vec::len),
            Ok(1)
        );
    }
    // A client that goes away takes the waiting ones along.
    world.clients[reader].reading = false;
    for _ in 0..50 {
        world.send_fetch(reader, fetch_request(&[(at(topic, 0), 0)], 60_000, 1));
    }
    world.settle();
    world.disconnect(reader);
    world.settle();
    assert!(world.produce_one(writer, at(topic, 0), "x").is_ok());
}

#[test]
fn a_core_shares_its_in_flight_bytes_among_connections() {
    let mut config = small_config();
    config.limits.core_in_flight_bytes_max = 1024 * 1024;
    config.journal.file_bytes = 16 << 20;
    let mut world = World::with_config(106, 1, config);
    let topic = world.create("t", 1, &[]);
    let clients: Vec<_> = (0..20).map(|_| world.connect(0)).collect();
    let value = "x".repeat(100_000);
    for client in &clients {
        for number in 0..4 {
            world.receive(
                *client,
                &produce_frame(number, Acks::All, &[put(at(topic, 0), &value)]),
            );
        }
    }
    world.carry();
    assert_eq!(
        world.log_end(0, at(topic, 0)),
        10,
        "1 MiB holds ten requests"
    );
    world.settle();
    for client in clients {
        for number in 0..4 {
            let reply = world.reply(client);
            assert_eq!(reply.correlation(), number);
            assert!(reply.receipts()[0].is_ok());
        }
    }
}

#[test]
fn a_waiting_connection_that_closes_does_not_hold_the_others_up() {
    let mut config = small_config();
    config.limits.core_in_flight_bytes_max = 600 * 1024;
    config.limits.connection_in_flight_bytes_max = 600 * 1024;
    let mut world = World::with_config(107, 1, config);
    let topic = world.create("t", 1, &[]);
    let clients: Vec<_> = (0..4).map(|_| world.connect(0)).collect();
    let value = "x".repeat(100_000);
    let stream: Vec<u8> = (0..6)
        .flat_map(|n| produce_frame(n, Acks::All, &[put(at(topic, 0), &value)]))
        .collect();
    for client in &clients {
        world.receive(*client, &stream);
    }
    world.disconnect(clients[1]);
    world.disconnect(clients[0]);
    world.settle();
    for client in &clients[2..] {
        for number in 0..6 {
            assert_eq!(world.reply(*client).correlation(), number);
        }
    }
}

#[test]
fn unfinished_requests_cannot_take_all_memory() {
    let mut config = small_config();
    config.memory.per_core_bytes = 64 << 20;
    config.journal.files_max = 2;
    let mut world = World::with_config(108, 1, config);
    let topic = world.create("t", 1, &[]);
    let honest = world.connect(0);
    let mut bytes = frame(
        1,
        RequestFlags::NONE,
        &Request::Metadata(MetadataRequest::default()),
    );
    bytes[..4].copy_from_slice(&(200_000_u32).to_le_bytes());
    bytes.resize(150_000, 0);
    let mut refused = 0;
    for _ in 0..1000 {
        let client = world.connect(0);
        world.receive(client, &bytes);
        world.settle();
        if world.clients[client].closed_by_broker {
            assert_eq!(world.reply(client).code(), Some(ErrorCode::Overloaded));
            refused += 1;
        }
        let ledger = &world.cores[0].ledger;
        assert!(ledger.in_use() <= ledger.cap());
    }
    assert!(refused > 0);
    // Whoever asks small things in whole pieces is still answered.
    let latest = corelane_protocol::request::OffsetPosition::Latest;
    assert_eq!(world.list_offset(honest, at(topic, 0), latest), Ok(0));
}

#[test]
fn many_small_requests_wait_for_each_other() {
    let mut config = small_config();
    config.limits.connection_requests_max = 10;
    let mut world = World::with_config(109, 1, config);
    let topic = world.create("t", 1, &[]);
    let client = world.connect(0);
    let stream: Vec<u8> = (0..100)
        .flat_map(|n| produce_frame(n, Acks::All, &[put(at(topic, 0), "x")]))
        .collect();
    world.receive(client, &stream);
    world.carry();
    assert_eq!(world.log_end(0, at(topic, 0)), 10);
    world.settle();
    for number in 0..100 {
        assert_eq!(world.reply(client).correlation(), number);
    }
}
