//! A client that begins a request and does not finish it is let go; one that is idle is not.

use corelane_protocol::request::{Acks, MetadataRequest};
use corelane_protocol::{Request, RequestFlags};
use corelane_storage::memory::MemoryKind;

use crate::client::{at, fetch_request, frame, produce_frame, put};
use crate::world::{World, small_config};

const TIMEOUT_MS: u64 = 1000;

fn world(seed: u64) -> World {
    let mut config = small_config();
    config.limits.frame_timeout_ms = TIMEOUT_MS as u32;
    World::with_config(seed, 1, config)
}

fn request() -> Vec<u8> {
    let request = Request::Metadata(MetadataRequest::default());
    frame(1, RequestFlags::NONE, &request)
}

#[test]
fn a_half_frame_is_waited_for_a_while() {
    for (seed, sent) in [(200, 1), (201, 10), (202, request().len() - 1)] {
        let mut world = world(seed);
        let client = world.connect(0);
        world.receive(client, &request());
        world.pass_ms(10 * TIMEOUT_MS);
        assert_eq!(world.reply(client).correlation(), 1);
        world.receive(client, &request()[..sent]);
        world.pass_ms(TIMEOUT_MS - 1);
        assert!(!world.clients[client].closed_by_broker, "{sent} bytes");
        world.pass_ms(1);
        assert!(world.clients[client].closed_by_broker, "{sent} bytes");
        assert_eq!(world.cores[0].lane.connections(), 0);
        assert_eq!(world.cores[0].lane.next_deadline(), None);
    }
}

#[test]
fn bytes_that_trickle_in_do_not_win_time() {
    let mut world = world(203);
    let client = world.connect(0);
    for byte in &request()[..10] {
        world.receive(client, &[*byte]);
        world.pass_ms(TIMEOUT_MS / 10);
    }
    assert!(world.clients[client].closed_by_broker);
}

#[test]
fn each_frame_has_its_own_time() {
    let mut world = world(204);
    let client = world.connect(0);
    let (head, tail) = (&request()[..7], &request()[7..]);
    world.receive(client, head);
    for _ in 0..20 {
        world.pass_ms(TIMEOUT_MS * 3 / 4);
        world.receive(client, &[tail, head].concat());
    }
    world.receive(client, tail);
    world.pass_ms(10 * TIMEOUT_MS);
    for _ in 0..21 {
        assert_eq!(world.reply(client).correlation(), 1);
    }
    assert!(!world.clients[client].closed_by_broker);
}

#[test]
fn a_client_that_never_asks_is_let_go() {
    let mut world = world(205);
    let (silent, asking) = (world.connect(0), world.connect(0));
    world.pass_ms(TIMEOUT_MS / 2);
    world.receive(asking, &request());
    world.pass_ms(TIMEOUT_MS / 2);
    assert!(world.clients[silent].closed_by_broker);
    world.pass_ms(10 * TIMEOUT_MS);
    assert!(!world.clients[asking].closed_by_broker);
    // Whoever was idle is served as before.
    world.reply(asking);
    world.receive(asking, &request());
    world.settle();
    assert_eq!(world.reply(asking).correlation(), 1);
}

#[test]
fn a_client_that_waits_for_its_answer_owes_nothing() {
    let mut world = world(206);
    let topic = world.create("t", 1, &[]);
    let client = world.connect(0);
    world.send_fetch(client, fetch_request(&[(at(topic, 0), 0)], 60_000, 1));
    world.pass_ms(20 * TIMEOUT_MS);
    world.no_reply(client);
    assert!(!world.clients[client].closed_by_broker);
}

#[test]
fn time_in_which_the_broker_did_not_receive_does_not_count() {
    let mut world = world(207);
    let topic = world.create("t", 1, &[]);
    let client = world.connect(0);
    world.clients[client].reading = false;
    let value = "x".repeat(100_000);
    let mut stream = Vec::new();
    for number in 0..6 {
        stream.extend(produce_frame(
            number,
            Acks::All,
            &[put(at(topic, 0), &value)],
        ));
    }
    // The last frame waits for the others, and then for its own end.
    let cut = stream.len() - 10;
    world.receive(client, &stream[..cut]);
    world.carry();
    assert!(!world.clients[client].receiving);
    for _ in 0..5 {
        world.now.monotonic_us += TIMEOUT_MS * 1000;
        let now = world.now;
        world.cores[0].lane.tick(now);
        world.carry();
        assert!(!world.clients[client].closed_by_broker);
    }
    world.settle();
    assert!(world.clients[client].receiving);
    world.pass_ms(TIMEOUT_MS / 2);
    assert!(!world.clients[client].closed_by_broker);
    world.pass_ms(2 * TIMEOUT_MS);
    assert!(world.clients[client].closed_by_broker);
    // What was answered before is still sent.
    world.start_reading(client);
    for number in 0..5 {
        assert_eq!(world.reply(client).correlation(), number);
    }
    world.settle();
    let ledger = &world.cores[0].ledger;
    assert_eq!(ledger.in_use_of(MemoryKind::Reply), 0);
}
