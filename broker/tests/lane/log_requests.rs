//! Records are deleted and found by time, on whichever core their logs are.

use corelane_protocol::request::{
    DeleteBefore, DeleteRecordsEntry, DeleteRecordsRequest, ListOffsetsEntry, ListOffsetsRequest,
    OffsetPosition,
};
use corelane_protocol::{
    ErrorCode, Offset, Request, RequestFlags, Response, Timestamp, TopicPartition,
};

use crate::client::{Put, at, fetch_request, put};
use crate::world::{World, small_config};
use corelane_protocol::request::Acks;

fn deletion(entries: &[(TopicPartition, DeleteBefore)]) -> Request<'static> {
    let entries = entries
        .iter()
        .map(|(partition, before)| DeleteRecordsEntry {
            partition: *partition,
            before: *before,
        });
    Request::DeleteRecords(DeleteRecordsRequest {
        entries: entries.collect(),
    })
}

fn before(offset: u64) -> DeleteBefore {
    DeleteBefore::Offset(Offset::new(offset))
}

impl World {
    /// Deletes records; the log starts, or why not.
    fn delete_records(
        &mut self,
        client: usize,
        entries: &[(TopicPartition, DeleteBefore)],
    ) -> Vec<Result<u64, ErrorCode>> {
        let reply = self.ask(client, &deletion(entries));
        let Ok(Response::DeleteRecords(response)) = reply.response() else {
            panic!("not an answer to a deletion of records");
        };
        let results = response.entries.into_iter().map(|entry| entry.result);
        results
            .map(|result| result.map(Offset::get).map_err(|error| error.code))
            .collect()
    }

    /// The offsets and times of the first records at or after these times.
    fn find_times(
        &mut self,
        client: usize,
        asked: &[(TopicPartition, i64)],
    ) -> Vec<Result<(u64, i64), ErrorCode>> {
        let entries = asked.iter().map(|(partition, time)| ListOffsetsEntry {
            partition: *partition,
            position: OffsetPosition::Timestamp(Timestamp::new(*time)),
        });
        let request = Request::ListOffsets(ListOffsetsRequest {
            entries: entries.collect(),
        });
        let reply = self.ask(client, &request);
        let Ok(Response::ListOffsets(response)) = reply.response() else {
            panic!("not a list of offsets");
        };
        let results = response.entries.into_iter().map(|entry| entry.result);
        results
            .map(|result| match result {
                Ok(listed) => Ok((listed.offset.get(), listed.timestamp.get())),
                Err(error) => Err(error.code),
            })
            .collect()
    }
}

#[test]
fn records_are_deleted_on_every_core_and_stay_so_after_a_crash() {
    let mut world = World::new(80, 3);
    let topic = world.create("t", 6, &[]);
    let client = world.connect(0);
    for index in 0..6 {
        for _ in 0..10 {
            assert!(world.produce_one(client, at(topic, index), "x").is_ok());
        }
    }
    let entries: Vec<_> = (0..6)
        .map(|index| (at(topic, index), before(u64::from(index) + 2)))
        .collect();
    let starts = world.delete_records(client, &entries);
    assert_eq!(starts, [2, 3, 4, 5, 6, 7].map(Ok));
    // Deleting less changes nothing; more than there is, or elsewhere, is refused for itself alone.
    let results = world.delete_records(
        client,
        &[
            (at(topic, 0), before(1)),
            (at(topic, 1), before(11)),
            (at(topic, 7), before(1)),
            (at(corelane_protocol::TopicId::NIL, 0), before(1)),
            (at(topic, 2), DeleteBefore::HighWatermark),
        ],
    );
    assert_eq!(
        results,
        [
            Ok(2),
            Err(ErrorCode::OffsetOutOfRange),
            Err(ErrorCode::UnknownPartition),
            Err(ErrorCode::UnknownTopic),
            Ok(10)
        ]
    );
    world.send_fetch(client, fetch_request(&[(at(topic, 0), 1)], 0, 0));
    world.settle();
    let refused = world.reply(client).values().remove(0);
    assert_eq!(refused, Err(ErrorCode::OffsetOutOfRange));

    let mut world = world.crash(2);
    let client = world.connect(1);
    for (index, start) in [2, 3, 10, 5, 6, 7].into_iter().enumerate() {
        let partition = at(topic, u32::try_from(index).expect("few"));
        let earliest = world.list_offset(client, partition, OffsetPosition::Earliest);
        assert_eq!(earliest, Ok(start), "partition {index}");
        assert_eq!(world.produce_one(client, partition, "y"), Ok(10));
    }
}

#[test]
fn a_client_that_wants_no_forwarding_is_told_the_owner() {
    let mut world = World::new(81, 2);
    let topic = world.create("t", 2, &[]);
    let partition = world.partition_on("t", topic, 1);
    let client = world.connect(0);
    let request = deletion(&[(partition, DeleteBefore::HighWatermark)]);
    world.send_flagged(client, RequestFlags::NO_FORWARD, &request);
    world.settle();
    let reply = world.reply(client);
    let Ok(Response::DeleteRecords(response)) = reply.response() else {
        panic!("not an answer to a deletion of records");
    };
    let entry = &response.entries[0];
    let refused = entry.result.as_ref().expect_err("another core has it");
    assert_eq!(refused.code, ErrorCode::NotOwner);
    assert_eq!(entry.owner.as_ref().map(|owner| owner.core.get()), Some(1));
}

#[test]
fn records_are_found_by_time_on_every_core() {
    let mut world = World::new(82, 2);
    let set = [("message.timestamp.type", "LogAppendTime")];
    let topic = world.create("t", 2, &set);
    let partitions = [0, 1].map(|core| world.partition_on("t", topic, core));
    let client = world.connect(0);
    let begin = world.now.wall.get();
    for number in 0..5 {
        for partition in partitions {
            let mut put = put(partition, "x");
            let kind = corelane_protocol::batch::TimestampType::LogAppend;
            corelane_protocol::batch::set_timestamp_type(&mut put.batch, kind);
            world.send_produce(client, Acks::All, &[put]);
            world.settle();
            let receipt = world.reply(client).receipts().remove(0);
            assert_eq!(receipt.map(|receipt| receipt.base_offset.get()), Ok(number));
        }
        world.pass_ms(1000);
    }
    let [here, there] = partitions;
    let asked = [
        (here, begin),
        (there, begin + 1),
        (here, begin + 2000),
        (there, begin + 4001),
        (at(topic, 9), 0),
    ];
    assert_eq!(
        world.find_times(client, &asked),
        [
            Ok((0, begin)),
            Ok((1, begin + 1000)),
            Ok((2, begin + 2000)),
            Ok((5, -1)),
            Err(ErrorCode::UnknownPartition)
        ]
    );
    assert_eq!(world.delete_records(client, &[(there, before(3))]), [Ok(3)]);
    let found = world.find_times(client, &[(there, begin)]);
    assert_eq!(found, [Ok((3, begin + 3000))]);
}

#[test]
fn old_records_expire_on_an_idle_broker() {
    let mut world = World::new(83, 2);
    let topic = world.create("t", 2, &[("retention.ms", "10 s"), ("segment.ms", "5 s")]);
    let kept = world.create("kept", 1, &[("retention.ms", "-1")]);
    let client = world.connect(0);
    for partition in [at(topic, 0), at(topic, 1), at(kept, 0)] {
        assert_eq!(world.produce_one(client, partition, "x"), Ok(0));
    }
    world.pass_ms(60_000);
    for (partition, earliest) in [(at(topic, 0), 1), (at(topic, 1), 1), (at(kept, 0), 0)] {
        let found = world.list_offset(client, partition, OffsetPosition::Earliest);
        assert_eq!(found, Ok(earliest), "{partition}");
    }
    // A longer time spares what comes from then on.
    world
        .alter(client, "t", &[("retention.ms", "1 h")], &[])
        .expect("a topic");
    assert_eq!(world.produce_one(client, at(topic, 0), "y"), Ok(1));
    world.pass_ms(60_000);
    let found = world.list_offset(client, at(topic, 0), OffsetPosition::Earliest);
    assert_eq!(found, Ok(1));
}

#[test]
fn produces_are_refused_below_the_reserve_of_the_disk_and_taken_again_above_it() {
    let mut config = small_config();
    config.log.disk_reserve_bytes = 1 << 20;
    let mut world = World::with_config(84, 1, config);
    let topic = world.create("t", 1, &[]);
    let partition = at(topic, 0);
    let client = world.connect(0);
    assert_eq!(world.produce_one(client, partition, "x"), Ok(0));
    let taken = world.disk.allocated();
    world.disk.set_capacity(Some(taken + (1 << 19)));
    world.pass_ms(2_000);
    assert_eq!(
        world.produce_one(client, partition, "y"),
        Err(ErrorCode::DiskFull)
    );
    // Reads, metadata and deletions go on.
    assert_eq!(world.read_all(client, partition).len(), 1);
    assert_eq!(
        world.delete_records(client, &[(partition, before(1))]),
        [Ok(1)]
    );
    world.disk.set_capacity(None);
    world.pass_ms(2_000);
    let again = Put {
        resume: true,
        ..put(partition, "z")
    };
    world.send_produce(client, Acks::All, &[again]);
    world.settle();
    let receipt = world.reply(client).receipts().remove(0);
    assert_eq!(receipt.map(|receipt| receipt.base_offset.get()), Ok(1));
}
