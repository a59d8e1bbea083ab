//! What lanes count adds up to what was asked of them, exactly.

use std::collections::BTreeMap;

use corelane_broker::lane::{LaneMetrics, RequestMetrics, Traffic};
use corelane_protocol::request::{Acks, OffsetPosition};
use corelane_protocol::{ErrorCode, PartitionIndex, TopicId, TopicPartition};
use corelane_storage::disk::memory::{Fault, OperationKind};

use crate::client::{at, batch, fetch_request, put};
use crate::world::{World, small_config};

fn metrics(world: &World, core: usize) -> LaneMetrics {
    world.cores[core].lane.metrics()
}

fn request(metrics: &LaneMetrics, api: &str) -> RequestMetrics {
    let mut requests = metrics.requests.iter();
    let found = requests.find(|request| request.api == api);
    found.expect("every request is listed").clone()
}

fn stage_count(metrics: &LaneMetrics, api: &str, stage: &str) -> u64 {
    let mut stages = metrics.stages.iter();
    let found = stages.find(|(of, name, _)| (*of, *name) == (api, stage));
    found.expect("every stage is listed").2.count()
}

/// All partitions of a core, asked for piece by piece, by topic name and number; and the number of pieces.
fn partitions(world: &World, core: usize) -> (BTreeMap<(String, u32), Traffic>, usize) {
    let mut found = BTreeMap::new();
    let mut pieces = 0;
    let mut from = Some(TopicPartition::new(TopicId::NIL, PartitionIndex::new(0)));
    while let Some(next) = from {
        let piece = world.cores[core].lane.partition_metrics(next);
        pieces += 1;
        for topic in &piece.topics {
            for partition in &topic.partitions {
                let key = (topic.name.clone(), partition.index.get());
                let before = found.insert(key, partition.traffic);
                assert!(before.is_none(), "a partition comes once");
            }
        }
        from = piece.next;
    }
    (found, pieces)
}

#[test]
fn produces_and_fetches_are_counted_where_they_happen() {
    let mut world = World::new(300, 1);
    let topic = world.create("t", 2, &[]);
    let client = world.connect(0);
    let bytes = batch(&["a", "b", "c"]).len() as u64;
    for _ in 0..2 {
        let three = crate::client::Put {
            partition: at(topic, 1),
            resume: false,
            batch: batch(&["a", "b", "c"]),
        };
        world.send_produce(client, Acks::All, &[three]);
        world.settle();
        world.reply(client).receipts().remove(0).expect("a receipt");
    }
    // From within the second batch on: one record is what was asked for, the whole batch is what is sent.
    world.send_fetch(client, fetch_request(&[(at(topic, 1), 5)], 0, 1));
    world.settle();
    world.reply(client);

    let (found, _) = partitions(&world, 0);
    let expected = Traffic {
        batches_in: 2,
        records_in: 6,
        bytes_in: 2 * bytes,
        duplicates_in: 0,
        records_out: 1,
        bytes_out: bytes,
    };
    assert_eq!(found[&("t".to_owned(), 1)], expected);
    assert_eq!(found[&("t".to_owned(), 0)], Traffic::default());

    let metrics = metrics(&world, 0);
    assert_eq!(request(&metrics, "Produce").times.count(), 2);
    assert_eq!(request(&metrics, "Fetch").times.count(), 1);
    assert!(request(&metrics, "Produce").errors.is_empty());
    assert_eq!(stage_count(&metrics, "Produce", "queue"), 2);
    assert_eq!(stage_count(&metrics, "Produce", "flush"), 2);
    assert_eq!(stage_count(&metrics, "Produce", "forward"), 0);
    assert_eq!(stage_count(&metrics, "Fetch", "wait"), 0);
    assert_eq!((metrics.topics, metrics.partitions), (1, 2));
    assert_eq!(metrics.in_flight_bytes, 0);
    let groups: u64 = metrics.stores.iter().map(|s| s.group_bytes.count()).sum();
    assert_eq!(groups, 2, "each batch came when the journal was idle");
    let waits: u64 = metrics.stores.iter().map(|s| s.group_wait.count()).sum();
    assert_eq!(waits, 2);
}

#[test]
fn bytes_on_the_wire_are_counted_both_ways() {
    let mut world = World::new(301, 1);
    world.create("t", 1, &[]);
    let before = metrics(&world, 0);
    let client = world.connect(0);
    let frame = crate::client::produce_frame(7, Acks::All, &[]);
    world.receive(client, &frame[..10]);
    world.receive(client, &frame[10..]);
    world.settle();
    world.reply(client);
    let after = metrics(&world, 0);
    assert_eq!(
        after.received_bytes - before.received_bytes,
        frame.len() as u64
    );
    assert!(after.sent_bytes > before.sent_bytes);
    assert_eq!(after.sends.count() - before.sends.count(), 1);
    assert_eq!(after.connections_opened - before.connections_opened, 1);
    assert_eq!(after.reply_bytes, 0);
}

#[test]
fn refusals_are_counted_by_request_and_code() {
    let mut world = World::new(302, 1);
    let topic = world.create("t", 1, &[]);
    let client = world.connect(0);
    let nowhere = at(topic, 9);
    world.send_produce(client, Acks::All, &[put(nowhere, "a"), put(nowhere, "b")]);
    world.settle();
    world.reply(client);
    world.send_fetch(client, fetch_request(&[(at(topic, 0), 77)], 0, 1));
    world.settle();
    world.reply(client);
    let latest = world.list_offset(client, nowhere, OffsetPosition::Latest);
    assert_eq!(latest, Err(ErrorCode::UnknownPartition));
    let metrics = metrics(&world, 0);
    let errors = |api| request(&metrics, api).errors;
    assert_eq!(errors("Produce"), [("UnknownPartition".to_owned(), 2)]);
    assert_eq!(errors("Fetch"), [("OffsetOutOfRange".to_owned(), 1)]);
    assert_eq!(errors("ListOffsets"), [("UnknownPartition".to_owned(), 1)]);
}

#[test]
fn a_forwarded_request_is_timed_at_both_cores_and_counted_at_one() {
    let mut world = World::new(303, 2);
    let topic = world.create("t", 4, &[]);
    let far = world.partition_on("t", topic, 1);
    let client = world.connect(0);
    let before = metrics(&world, 1);
    world.send_produce(client, Acks::All, &[put(far, "a")]);
    world.settle();
    world.reply(client).receipts().remove(0).expect("a receipt");
    let (near_core, far_core) = (metrics(&world, 0), metrics(&world, 1));
    assert_eq!(request(&near_core, "Produce").times.count(), 1);
    assert_eq!(request(&far_core, "Produce").times.count(), 0);
    assert_eq!(stage_count(&near_core, "Produce", "forward"), 1);
    assert_eq!(stage_count(&near_core, "Produce", "flush"), 0);
    let flushes = stage_count(&far_core, "Produce", "flush");
    assert_eq!(flushes - stage_count(&before, "Produce", "flush"), 1);
    let index = far.partition.get();
    assert_eq!(
        partitions(&world, 1).0[&("t".to_owned(), index)].records_in,
        1
    );
    assert_eq!(near_core.mailboxes[0].requests, 0);
}

#[test]
fn a_fetch_that_waits_is_timed_while_it_does() {
    let mut world = World::new(304, 1);
    let topic = world.create("t", 1, &[]);
    let (reader, writer) = (world.connect(0), world.connect(0));
    world.send_fetch(reader, fetch_request(&[(at(topic, 0), 0)], 10_000, 1));
    world.settle();
    assert_eq!(metrics(&world, 0).waiting_fetches, 1);
    world.pass_ms(250);
    world
        .produce_one(writer, at(topic, 0), "a")
        .expect("a produce");
    world.settle();
    world.reply(reader);
    let metrics = metrics(&world, 0);
    assert_eq!(metrics.waiting_fetches, 0);
    let mut stages = metrics.stages.iter();
    let wait = stages.find(|(api, stage, _)| (*api, *stage) == ("Fetch", "wait"));
    let times = &wait.expect("it is listed").2;
    assert_eq!(times.count(), 1);
    assert!(times.sum() >= 250_000, "{} µs", times.sum());
    assert!(request(&metrics, "Fetch").times.sum() >= 250_000);
}

#[test]
fn many_partitions_come_in_pieces() {
    let mut config = small_config();
    config.limits.partitions_max = 3000;
    let mut world = World::with_config(305, 2, config);
    world.create("many", 1500, &[]);
    world.create("few", 3, &[]);
    let mut count = 0;
    for core in 0..2 {
        let (found, pieces) = partitions(&world, core);
        assert_eq!(found.len(), metrics(&world, core).partitions);
        assert!(pieces >= found.len().div_ceil(256), "{pieces} pieces");
        count += found.len();
    }
    assert_eq!(count, 1503);
}

#[test]
fn a_fenced_store_says_so() {
    let mut world = World::new(306, 1);
    let topic = world.create("t", 2, &[]);
    let client = world.connect(0);
    let fenced = |world: &World| {
        let stores = metrics(world, 0).stores;
        stores.iter().filter(|s| s.fenced.is_some()).count()
    };
    assert_eq!(fenced(&world), 0);
    let fault = Fault::io_error().on(OperationKind::Write).forever();
    world
        .disk
        .inject(fault.in_path(|path| path.contains("journal")));
    world.send_produce(client, Acks::All, &[put(at(topic, 0), "a")]);
    world.settle();
    assert_eq!(
        world.reply(client).receipts(),
        [Err(ErrorCode::StorageFailed)]
    );
    assert_eq!(fenced(&world), 1);
    let errors = request(&metrics(&world, 0), "Produce").errors;
    assert_eq!(errors, [("StorageFailed".to_owned(), 1)]);
}
