//! Lanes under anything that connections can do: requests in any order, frames cut anywhere, bytes without sense,
//! clients that do not read, disks and mail that stand still.
//!
//! Input: a byte. If it is odd, the rest is a stream, given to one broker whole and to another in pieces, whose
//! lengths its first bytes say: both must refuse and answer the same. If it is even, the rest is events; at the
//! end everything goes on, and nothing may be left in any core.

use std::collections::BTreeSet;
use std::rc::Rc;

use corelane_broker::config::BrokerConfig;
use corelane_protocol::request::{
    Acks, ApiVersionsRequest, DeleteBefore, DeleteRecordsEntry, DeleteRecordsRequest,
    DescribeTopicsRequest, ListOffsetsEntry, ListOffsetsRequest, MetadataRequest, OffsetPosition,
};
use corelane_protocol::{
    ErrorCode, Offset, PartitionIndex, Request, RequestFlags, RequestHeader, Timestamp, TopicId,
    TopicPartition,
};
use corelane_storage::disk::memory::{DiskImage, MemoryDisk};
use corelane_storage::memory::MemoryKind;
use corelane_storage::testing::Executor;
use uuid::Uuid;

use crate::bytes::Bytes;
use crate::client::{Put, alteration, batch, extension, fetch_request, frame, produce_frame, put};
use crate::world::{World, small_config};

const CORES: u16 = 2;
const STORES: u16 = 2;
const PARTITIONS: u32 = 3;
const EVENTS_MAX: usize = 200;
const CLIENTS_MAX: usize = 6;

thread_local! {
    static START: Start = Start::new();
}

/// A broker with a topic, from which every run begins.
struct Start {
    image: DiskImage,
    metadata_log: Vec<Vec<u8>>,
    topic: TopicId,
}

impl Start {
    fn new() -> Self {
        let mut world = World::begin(DiskImage::default(), Vec::new());
        let topic = world.create("t", PARTITIONS, &[("segment.bytes", "256 KiB")]);
        let client = world.connect(0);
        for partition in 0..PARTITIONS {
            let place = TopicPartition::new(topic, PartitionIndex::new(partition));
            world.produce_one(client, place, "first").expect("room");
        }
        world.disconnect(client);
        world.settle();
        Self {
            image: world.disk.image(),
            metadata_log: world.metadata_log.clone(),
            topic,
        }
    }

    fn world(&self) -> World {
        World::begin(self.image.clone(), self.metadata_log.clone())
    }
}

impl World {
    fn begin(image: DiskImage, metadata_log: Vec<Vec<u8>>) -> Self {
        let config = config();
        let executor = Executor::new(1).without_a_word();
        let disk = MemoryDisk::from_image(&executor, &image);
        if image.files().is_empty() {
            Self::create_stores(&executor, &disk, STORES, &config);
        }
        Self::start(executor, disk, CORES, STORES, config, metadata_log, 1)
    }
}

/// Limits that few events reach.
fn config() -> BrokerConfig {
    let mut config = small_config();
    config.limits.connections_max = 4;
    config.limits.connection_requests_max = 5;
    config.limits.mailbox_requests_max = 4;
    config.limits.frame_bytes_max = 72 * 1024;
    config.limits.connection_in_flight_bytes_max = 128 * 1024;
    config.limits.connection_reply_bytes_max = 64 * 1024;
    config.limits.core_in_flight_bytes_max = 128 * 1024;
    config.log.max_message_bytes = 4 * 1024;
    config.journal.group_bytes_max = 16 * 1024;
    config.journal.file_bytes = 256 * 1024;
    config.log.spill_bytes = 8 * 1024;
    config
}

pub(crate) fn run(input: &[u8]) {
    let mut input = Bytes::new(input);
    let is_stream = input.u8() & 1 == 1;
    START.with(|start| {
        if is_stream {
            cut_anywhere(start, &mut input);
        } else {
            storm(start, &mut input);
        }
    });
}

/// What a client learns of its requests: correlation id, request, and whether it was refused as a whole.
type Answers = BTreeSet<(u32, u16, u16)>;

fn cut_anywhere(start: &Start, input: &mut Bytes<'_>) {
    let pieces: Vec<usize> = input
        .take(8)
        .iter()
        .map(|byte| *byte as usize + 1)
        .collect();
    let stream = input.rest();
    if pieces.is_empty() {
        return;
    }
    let whole = answers(start, |world, client| world.receive(client, stream));
    let cut = answers(start, |world, client| {
        let mut rest = stream;
        for length in pieces.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*length).min(rest.len()));
            world.receive(client, piece);
            rest = after;
        }
    });
    assert_eq!(whole, cut);
}

/// What comes of a stream: the answers, and whether the broker closed the connection.
fn answers(start: &Start, send: impl FnOnce(&mut World, usize)) -> (Answers, bool) {
    let mut world = start.world();
    let client = world.connect(0);
    send(&mut world, client);
    world.settle();
    // Fetches that wait are answered, and unfinished frames end the connection.
    world.pass_ms(120_000);
    world.settle();
    let mut answers = Answers::new();
    while let Some(reply) = world.clients[client].take_reply() {
        let code = reply.code().map_or(0, ErrorCode::as_u16);
        answers.insert((reply.correlation(), reply.header.api_key, code));
    }
    (answers, world.clients[client].closed_by_broker)
}

fn storm(start: &Start, input: &mut Bytes<'_>) {
    let mut world = start.world();
    let mut correlation = 0;
    for _ in 0..EVENTS_MAX {
        if input.is_empty() {
            break;
        }
        event(start, &mut world, input, &mut correlation);
    }
    end(world);
}

fn event(start: &Start, world: &mut World, input: &mut Bytes<'_>, correlation: &mut u32) {
    let open: Vec<usize> = (0..world.clients.len())
        .filter(|client| world.clients[*client].open)
        .collect();
    let kind = input.u8() % 16;
    if open.is_empty() || kind == 0 {
        if open.len() < CLIENTS_MAX {
            let _ = world.try_connect(input.u8().into_core());
        }
        return;
    }
    let client = *input.one_of(&open);
    match kind {
        1..=6 => {
            *correlation += 1;
            let mut frame = request(start, input, *correlation);
            match kind {
                4 => frame.truncate(input.within(0..frame.len())),
                5 => {
                    let at = input.within(0..frame.len().min(1 << 16));
                    frame[at] ^= input.u8();
                }
                _ => {}
            }
            world.receive(client, &frame);
        }
        7 => {
            let length = usize::from(input.u8());
            world.receive(client, input.take(length));
        }
        8 => world.disconnect(client),
        9 if world.clients[client].reading => world.clients[client].reading = false,
        9 => world.start_reading(client),
        10 => {
            world.carry();
        }
        11 => {
            world.deliver_mail();
        }
        12 => world.run_disks(),
        13 => world.pass_ms(u64::from(input.u16())),
        14 => world.pass_ms_without_disks(u64::from(input.u8()) * 50),
        _ => world.settle(),
    }
    // As the shell does after every event.
    world.perform_effects();
}

trait IntoCore {
    fn into_core(self) -> u16;
}

impl IntoCore for u8 {
    fn into_core(self) -> u16 {
        u16::from(self) % CORES
    }
}

/// A request of any kind, as a frame.
fn request(start: &Start, input: &mut Bytes<'_>, correlation: u32) -> Vec<u8> {
    let kind = input.u8();
    let flags = if kind & 128 == 0 {
        RequestFlags::NONE
    } else {
        RequestFlags::NO_FORWARD
    };
    let names = ["t", "u", "", "no/name"];
    let request = match kind % 12 {
        0 | 1 => return produce(start, input, correlation),
        2 | 3 => {
            let entries: Vec<_> = (0..input.within(1..4))
                .map(|_| (partition(start, input), u64::from(input.u8())))
                .collect();
            let mut fetch =
                fetch_request(&entries, u32::from(input.u16()), 1 + u32::from(input.u16()));
            fetch.max_bytes = 1 + u32::from(input.u16());
            Request::Fetch(fetch)
        }
        4 => Request::ListOffsets(ListOffsetsRequest {
            entries: (0..input.within(0..3))
                .map(|_| ListOffsetsEntry {
                    partition: partition(start, input),
                    position: match input.u8() % 3 {
                        0 => OffsetPosition::Earliest,
                        1 => OffsetPosition::Latest,
                        _ => OffsetPosition::Timestamp(Timestamp::new(1_700_000_000_000)),
                    },
                })
                .collect(),
        }),
        5 => {
            let name = (*input.one_of(&names)).to_owned();
            let partitions = input.u8() % 5;
            return create(correlation, &name, u32::from(partitions));
        }
        6 => {
            let names = vec![(*input.one_of(&names)).to_owned()];
            Request::DeleteTopics(corelane_protocol::request::DeleteTopicsRequest { names })
        }
        7 => Request::DescribeTopics(DescribeTopicsRequest { topics: None }),
        8 => {
            let keys = ["flush.ms", "retention.bytes", "max.message.bytes", "x"];
            let values = ["1", "1000", "-1", "4 KiB"];
            let name = input.one_of::<&str>(&names);
            let key = input.one_of::<&str>(&keys);
            let value = input.one_of::<&str>(&values);
            if input.u8() & 1 == 0 {
                alteration(name, &[(key, value)], &[])
            } else {
                alteration(name, &[], &[key])
            }
        }
        9 => extension(input.one_of::<&str>(&names), u32::from(input.u8() % 8)),
        10 => Request::DeleteRecords(DeleteRecordsRequest {
            entries: vec![DeleteRecordsEntry {
                partition: partition(start, input),
                before: match input.u8() {
                    255 => DeleteBefore::HighWatermark,
                    before => DeleteBefore::Offset(Offset::new(u64::from(before))),
                },
            }],
        }),
        _ if kind & 64 == 0 => Request::Metadata(MetadataRequest { topics: None }),
        _ => Request::ApiVersions(ApiVersionsRequest {
            client_name: "fuzz".to_owned(),
            client_version: String::new(),
        }),
    };
    frame(correlation, flags, &request)
}

fn create(correlation: u32, name: &str, partitions: u32) -> Vec<u8> {
    use corelane_protocol::request::{CreateTopicsRequest, NewTopic};
    let request = Request::CreateTopics(CreateTopicsRequest {
        topics: vec![NewTopic {
            name: name.to_owned(),
            partitions,
            configs: Vec::new(),
        }],
        validate_only: false,
    });
    frame(correlation, RequestFlags::NONE, &request)
}

fn partition(start: &Start, input: &mut Bytes<'_>) -> TopicPartition {
    let choice = input.u8();
    let topic = if choice < 240 {
        start.topic
    } else {
        TopicId::new(Uuid::from_u128(u128::from(choice)))
    };
    TopicPartition::new(
        topic,
        PartitionIndex::new(u32::from(choice) % (PARTITIONS + 1)),
    )
}

fn produce(start: &Start, input: &mut Bytes<'_>, correlation: u32) -> Vec<u8> {
    let acks = *input.one_of(&[Acks::All, Acks::Leader, Acks::None]);
    let puts: Vec<_> = (0..input.within(1..4))
        .map(|_| {
            let place = partition(start, input);
            let shape = input.u8();
            let value = "v".repeat(usize::from(shape % 32) * 150);
            let mut put = Put {
                resume: shape & 64 != 0,
                ..put(place, &value)
            };
            if shape & 128 != 0 {
                let at = input.within(0..put.batch.len());
                put.batch[at] ^= 1 << (shape % 8);
            }
            put
        })
        .collect();
    produce_frame(correlation, acks, &puts)
}

/// Everything goes on, and ends.
fn end(mut world: World) {
    for client in 0..world.clients.len() {
        if world.clients[client].open && !world.clients[client].reading {
            world.start_reading(client);
        }
    }
    world.settle();
    // Longer than any fetch or produce waits, and than an unfinished frame may take.
    world.pass_ms(200_000);
    world.settle();
    for client in 0..world.clients.len() {
        while let Some(reply) = world.clients[client].take_reply() {
            let _ = reply.response();
        }
        if world.clients[client].open {
            assert!(
                world.clients[client].receiving,
                "nothing holds a client up any more"
            );
            world.disconnect(client);
        }
    }
    world.settle();
    for core in &mut world.cores {
        assert_eq!(core.ledger.in_use_of(MemoryKind::Reply), 0);
        assert_eq!(core.lane.connections(), 0);
        core.lane.begin_shutdown(world.now);
        assert!(core.lane.is_drained(), "something is left");
    }
    let stores: Vec<_> = world
        .cores
        .iter()
        .flat_map(|core| core.stores.iter().map(Rc::clone))
        .collect();
    world.executor.block_on(async {
        for store in stores {
            store.close().await.expect("nothing is wrong with the disk");
        }
    });
}

/// A stream of whole frames, and events of each kind.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    START.with(|start| {
        let place = TopicPartition::new(start.topic, PartitionIndex::new(0));
        let mut stream = Vec::new();
        for correlation in 1..4 {
            stream.extend(produce_frame(
                correlation,
                Acks::All,
                &[put(place, "value")],
            ));
        }
        let fetch = Request::Fetch(fetch_request(&[(place, 0)], 10, 1));
        stream.extend(frame(4, RequestFlags::NONE, &fetch));
        let describe = Request::DescribeTopics(DescribeTopicsRequest { topics: None });
        stream.extend(frame(5, RequestFlags::NONE, &describe));
        stream.extend(create(6, "u", 2));
        let mut seeds = Vec::new();
        for pieces in [[255; 8], [0; 8], [3, 15, 0, 100, 7, 30, 15, 1]] {
            seeds.push([&[1], &pieces[..], &stream].concat());
        }
        let mut nonsense = stream.clone();
        nonsense.truncate(RequestHeader::LEN + 40);
        nonsense.extend(batch(&["x"]));
        seeds.push([&[1], &[9; 8][..], &nonsense].concat());
        for kind in 0..12 {
            let mut seed = vec![0, 0, 0, 0, 1];
            for event in 1..16 {
                seed.extend([event, 0, kind, 1, 2, 3, 4, 5]);
            }
            seeds.push(seed);
        }
        seeds
    })
}
