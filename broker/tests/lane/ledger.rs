//! The memory of a core under every kind of load at once, most of it by clients that do not read: the ledger stays
//! within its cap at every moment, and whoever does not read is given up.

use corelane_protocol::request::{
    Acks, DescribeTopicsRequest, FetchRequest, ListOffsetsEntry, ListOffsetsRequest,
    MetadataRequest, OffsetPosition,
};
use corelane_protocol::{ErrorCode, Request, TopicPartition};
use corelane_storage::memory::MemoryKind;
use corelane_storage::testing::Random;

use crate::client::{at, fetch_request, frame, produce_frame, put};
use crate::world::{World, small_config};

const PARTITIONS: u32 = 4;

/// Answers that cannot be refused, and that are made before the next look at the ledger: those of what a core has
/// taken up, in bytes.
const BESIDE_CAP_BYTES: usize = 512 * 1024;

fn world(seed: u64) -> World {
    let mut config = small_config();
    config.memory.per_core_bytes = 10 << 20;
    config.memory.read_cache_bytes = 1 << 20;
    config.limits.core_in_flight_bytes_max = 2 << 20;
    config.limits.reply_timeout_ms = 10_000;
    config.limits.connections_max = 200;
    World::with_config(seed, 2, config)
}

fn expect_within_cap(world: &World, what: &str) {
    for core in &world.cores {
        let (in_use, cap) = (core.ledger.in_use(), core.ledger.cap());
        let kinds = MemoryKind::ALL.map(|kind| (kind, core.ledger.in_use_of(kind)));
        assert!(
            in_use <= cap + BESIDE_CAP_BYTES,
            "after {what}: {in_use} of {cap} bytes, {kinds:?}"
        );
    }
}

/// One thing that a client does; its name.
fn act(
    world: &mut World,
    random: &mut Random,
    client: usize,
    place: TopicPartition,
) -> &'static str {
    match random.below(9) {
        0..=2 => {
            let value = "x".repeat(100 + random.below(100_000) as usize);
            world.send_produce(client, Acks::All, &[put(place, &value)]);
            "a produce"
        }
        3 | 4 => {
            let entries: Vec<_> = (0..PARTITIONS)
                .map(|index| (at(place.topic, index), 0))
                .collect();
            let fetch = FetchRequest {
                max_bytes: 4 << 20,
                ..fetch_request(&entries, 100, 1)
            };
            for _ in 0..4 {
                world.send_fetch(client, fetch.clone());
            }
            "fetches"
        }
        5 => {
            let value = "x".repeat(120_000);
            let frame = produce_frame(1, Acks::All, &[put(place, &value)]);
            world.receive(client, &frame[..1000 + random.below(100_000) as usize]);
            "a part of a frame"
        }
        6 => {
            let entries = vec![
                ListOffsetsEntry {
                    partition: place,
                    position: OffsetPosition::Latest,
                };
                2000
            ];
            world.send(
                client,
                &Request::ListOffsets(ListOffsetsRequest { entries }),
            );
            "a list of offsets"
        }
        _ => {
            let describe = Request::DescribeTopics(DescribeTopicsRequest { topics: None });
            let metadata = Request::Metadata(MetadataRequest { topics: None });
            let flags = corelane_protocol::RequestFlags::NONE;
            let frames = [frame(1, flags, &describe), frame(2, flags, &metadata)].concat();
            world.receive(client, &frames.repeat(20));
            "questions about topics"
        }
    }
}

#[test]
fn the_ledger_stays_within_its_cap_under_every_load() {
    let (mut full, mut given_up) = (0, 0);
    for seed in 0..6 {
        let mut world = world(seed);
        let mut random = world.executor.random();
        let topic = world.create("t", PARTITIONS, &[("segment.bytes", "256 KiB")]);
        world.create("wide", 2000, &[]);
        for step in 0..1500 {
            let open: Vec<usize> = (0..world.clients.len())
                .filter(|client| world.clients[*client].open)
                .collect();
            let what = match random.below(10) {
                _ if open.is_empty() => {
                    world.connect(0);
                    "a connection"
                }
                0 if open.len() < 150 => {
                    let client = world.connect(random.below(2) as u16);
                    world.clients[client].reading = random.below(8) == 0;
                    "a connection"
                }
                1 => {
                    world.run_disks();
                    "the disks"
                }
                2 => {
                    world.carry();
                    "mail"
                }
                3 if step % 20 == 0 => {
                    world.pass_ms(random.below(2000));
                    "time"
                }
                _ => {
                    let client = open[random.below(open.len() as u64) as usize];
                    let place = at(topic, random.below(u64::from(PARTITIONS)) as u32);
                    act(&mut world, &mut random, client, place)
                }
            };
            world.perform_effects();
            expect_within_cap(&world, what);
            full += usize::from(
                world
                    .cores
                    .iter()
                    .any(|core| core.ledger.available() < 1 << 20),
            );
        }
        // Nobody reads any more: all who have something to read are given up.
        world.pass_ms(60_000);
        world.settle();
        for client in 0..world.clients.len() {
            // What is closed in order waits for its last replies to be read, in the shell.
            if world.clients[client].open && world.clients[client].closed_by_broker {
                world.disconnect(client);
            }
        }
        given_up += world
            .clients
            .iter()
            .filter(|client| client.closed_at_once)
            .count();
        for core in &world.cores {
            assert_eq!(core.ledger.in_use_of(MemoryKind::Reply), 0);
        }
        let probe = world.connect(1);
        let place = at(topic, 0);
        world
            .produce_one(probe, place, "innocent")
            .expect("there is room again");
    }
    assert!(full > 50, "memory was never full: {full}");
    assert!(given_up > 50, "nobody was given up: {given_up}");
}

/// Answers about topics are made one at a time for each connection, and the rest as they are read.
#[test]
fn questions_about_topics_are_answered_as_they_are_read() {
    let mut world = world(77);
    world.create("wide", 5000, &[]);
    let client = world.connect(0);
    world.clients[client].reading = false;
    for _ in 0..50 {
        world.send(client, &Request::Metadata(MetadataRequest { topics: None }));
    }
    world.settle();
    let unread = world.clients[client].unread.len();
    assert!(
        (5000 * 14..2 * 5000 * 14 + 70_000).contains(&unread),
        "{unread}"
    );
    world.start_reading(client);
    world.settle();
    for _ in 0..50 {
        assert_eq!(world.reply(client).code(), None);
    }
    world.no_reply(client);
}

/// A client that reads a little now and then is not given up; one that does not is.
#[test]
fn whoever_takes_in_nothing_for_too_long_is_closed() {
    let mut world = world(78);
    world.create("wide", 3000, &[]);
    let [slow, stuck, idle] = [0, 1, 0].map(|core| world.connect(core));
    for client in [slow, stuck] {
        world.clients[client].reading = false;
        world.send(client, &Request::Metadata(MetadataRequest { topics: None }));
    }
    world.send(
        idle,
        &Request::Metadata(MetadataRequest {
            topics: Some(Vec::new()),
        }),
    );
    world.settle();
    for _ in 0..8 {
        world.pass_ms(5000);
        let now = world.now;
        let connection = world.clients[slow].connection;
        world.clients[slow].unread.drain(..10);
        world.cores[0].lane.sent(now, connection, 10);
    }
    world.settle();
    assert!(world.clients[slow].open && world.clients[idle].open);
    assert!(!world.clients[stuck].open && world.clients[stuck].closed_at_once);
    let unread = |core: usize| world.cores[core].lane.metrics().connections_unread;
    assert_eq!([unread(0), unread(1)], [0, 1]);
    assert_eq!(world.reply(idle).code(), None);
    let error = world
        .try_create(idle, "wide", 1, &[])
        .expect_err("it exists");
    assert_eq!(error.code, ErrorCode::TopicExists);
}
