//! An orderly end answers what is in flight, refuses what is new, and ends.

use corelane_protocol::ErrorCode;
use corelane_protocol::request::Acks;

use crate::client::{at, fetch_request, put};
use crate::world::World;

fn begin(world: &mut World) {
    let now = world.now;
    for core in &mut world.cores {
        core.lane.begin_shutdown(now);
    }
}

fn drained(world: &World) -> bool {
    world.cores.iter().all(|core| core.lane.is_drained())
}

#[test]
fn what_is_in_flight_is_answered_and_connections_close() {
    let mut world = World::new(140, 2);
    let topic = world.create("t", 4, &[]);
    let (near, far) = (
        world.partition_on("t", topic, 0),
        world.partition_on("t", topic, 1),
    );
    let (writer, reader, idle) = (world.connect(0), world.connect(0), world.connect(1));
    world.send_produce(writer, Acks::All, &[put(near, "a"), put(far, "b")]);
    world.send_fetch(reader, fetch_request(&[(near, 0)], 60_000, 1));
    world.send_fetch(reader, fetch_request(&[(far, 0)], 60_000, 1));
    assert!(!drained(&world));
    begin(&mut world);
    assert!(!drained(&world));
    world.settle();
    assert!(world.reply(writer).receipts().iter().all(Result::is_ok));
    for _ in 0..2 {
        assert!(world.reply(reader).values()[0].is_ok());
    }
    for client in [writer, reader, idle] {
        assert!(world.clients[client].closed_by_broker);
    }
    assert!(drained(&world));
    let error = world.try_connect(0).expect_err("no new connections");
    assert_eq!(error.code, ErrorCode::ShuttingDown);
}

#[test]
fn what_is_new_is_refused() {
    let mut world = World::new(141, 1);
    let topic = world.create("t", 1, &[]);
    let client = world.connect(0);
    world.send_produce(client, Acks::All, &[put(at(topic, 0), "a")]);
    begin(&mut world);
    world.send_produce(client, Acks::All, &[put(at(topic, 0), "b")]);
    world.send_fetch(client, fetch_request(&[(at(topic, 0), 0)], 60_000, 1));
    world.settle();
    assert_eq!(
        world.reply(client).receipts(),
        [Err(ErrorCode::ShuttingDown)]
    );
    assert_eq!(world.reply(client).code(), Some(ErrorCode::ShuttingDown));
    assert!(world.reply(client).receipts()[0].is_ok());
    assert!(drained(&world));
}

#[test]
fn a_client_that_does_not_read_is_given_up_in_the_end() {
    let mut world = World::new(142, 1);
    let topic = world.create("t", 1, &[]);
    let client = world.connect(0);
    world
        .produce_one(client, at(topic, 0), "a")
        .expect("a produce");
    world.clients[client].reading = false;
    world.send_fetch(client, fetch_request(&[(at(topic, 0), 0)], 0, 1));
    begin(&mut world);
    world.settle();
    assert!(!drained(&world));
    world.pass_ms(9_999);
    assert!(!drained(&world));
    world.pass_ms(1);
    world.settle();
    assert!(drained(&world));
    assert_eq!(world.cores[0].lane.connections(), 0);
}

#[test]
fn idle_connections_are_closed_at_once_and_no_reply_is_cut_off() {
    let mut world = World::new(143, 1);
    let topic = world.create("t", 1, &[]);
    let clients: Vec<_> = (0..5).map(|_| world.connect(0)).collect();
    let [silent, idle, waiting, unfinished, recent] = clients[..] else {
        unreachable!("five clients");
    };
    for client in [idle, unfinished] {
        world
            .produce_one(client, at(topic, 0), "a")
            .expect("a produce");
    }
    world.pass_ms(1000);
    world.send_fetch(waiting, fetch_request(&[(at(topic, 0), 2)], 60_000, 1));
    world.receive(unfinished, &[1]);
    world.settle();
    world
        .produce_one(recent, at(topic, 0), "b")
        .expect("a produce");
    begin(&mut world);
    world.settle();
    for client in [silent, idle] {
        assert!(world.clients[client].closed_at_once);
    }
    for client in [waiting, unfinished, recent] {
        assert!(world.clients[client].closed_by_broker);
        assert!(!world.clients[client].closed_at_once);
    }
    assert!(world.reply(waiting).values()[0].is_ok());
    assert!(drained(&world));
}
