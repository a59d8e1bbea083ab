//! Readers learn by leader epochs what a restart that was not in order has taken from them.

use corelane_protocol::request::{Acks, FetchEntry, FetchRequest, OffsetPosition};
use corelane_protocol::response::{DivergingEpoch, Fetched};
use corelane_protocol::{ErrorCode, LeaderEpoch, Offset, TopicPartition};

use crate::client::{at, fetch_request, put};
use crate::world::World;

/// The epoch and its end that a reader is told, and what it is given.
type Fetch = (Option<(u32, u64)>, Vec<(u64, String)>);

/// What a fetch is answered by a reader that knows this current epoch and that of its last record.
fn fetch(
    world: &mut World,
    client: usize,
    partition: TopicPartition,
    offset: u64,
    current: Option<u32>,
    last: Option<u32>,
) -> Result<Fetch, ErrorCode> {
    let entry = FetchEntry {
        current_epoch: current.map(LeaderEpoch::new),
        last_epoch: last.map(LeaderEpoch::new),
        ..FetchEntry::new(partition, Offset::new(offset), 1 << 20)
    };
    let request = FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 1 << 20,
        entries: vec![entry],
    };
    world.send_fetch(client, request);
    world.settle();
    let reply = world.reply(client);
    let mut values = reply.values();
    let entries = reply.fetch().entries;
    let told = match &entries[0].result {
        Ok(Fetched { diverging, .. }) => {
            diverging.map(|DivergingEpoch { epoch, end_offset }| (epoch.get(), end_offset.get()))
        }
        Err(error) => return Err(error.code),
    };
    Ok((told, values.remove(0).expect("a result that is read")))
}

/// A weak topic of which a crash has taken the records from 4 on; the partition, and a client of core 0.
fn cut_log(seed: u64) -> (World, TopicPartition, usize) {
    let mut world = World::new(seed, 2);
    let topic = world.create("weak", 2, &[("flush.messages", "4")]);
    let client = world.connect(0);
    for value in 0..6 {
        world.send_produce(
            client,
            Acks::Leader,
            &[put(at(topic, 0), &value.to_string())],
        );
        world.settle();
        let receipt = world.reply(client).receipts()[0].expect("it is acknowledged");
        assert_eq!(receipt.base_offset.get(), value);
    }
    let read = fetch(&mut world, client, at(topic, 0), 5, Some(0), Some(0));
    assert_eq!(read, Ok((None, vec![(5, "5".to_owned())])));
    let mut world = world.crash(2);
    let client = world.connect(0);
    (world, at(topic, 0), client)
}

#[test]
fn a_reader_beyond_the_end_is_told_and_never_given_other_records() {
    let (mut world, partition, client) = cut_log(400);
    let owners = world.owners(client, "weak").expect("it is there");
    // On the owner's port, and through another core.
    let through: Vec<_> = (0..2).map(|core| world.connect(core)).collect();
    assert!(through.len() > owners[0] as usize);
    for (round, client) in through.iter().cycle().take(6).enumerate() {
        let mut fetch =
            |offset, current, last| fetch(&mut world, *client, partition, offset, current, last);
        assert_eq!(
            fetch(6, Some(0), Some(0)),
            Err(ErrorCode::FencedLeaderEpoch)
        );
        assert_eq!(
            fetch(6, Some(2), Some(0)),
            Err(ErrorCode::UnknownLeaderEpoch)
        );
        assert_eq!(fetch(6, Some(1), Some(0)), Ok((Some((0, 4)), Vec::new())));
        assert_eq!(fetch(5, None, Some(0)), Ok((Some((0, 4)), Vec::new())));
        let (told, read) = fetch(4, Some(1), Some(0)).expect("both agree up to here");
        assert_eq!((told, read.len()), (None, round));
        assert_eq!(
            fetch(3, Some(1), Some(9)),
            Ok((Some((1, 4 + round as u64)), Vec::new()))
        );
        let receipt = world.produce_one(*client, partition, &format!("new {round}"));
        let receipt = receipt.expect("it is acknowledged");
        assert_eq!(receipt, 4 + round as u64);
    }
}

#[test]
fn a_long_poll_of_a_reader_beyond_the_end_is_answered_at_once() {
    let (mut world, partition, client) = cut_log(401);
    let mut request = fetch_request(&[(partition, 6)], 60_000, 1);
    request.entries[0].last_epoch = Some(LeaderEpoch::new(0));
    world.send_fetch(client, request);
    world.settle();
    let reply = world.reply(client);
    let entries = reply.fetch().entries;
    let fetched = entries[0].result.as_ref().expect("it is told");
    assert!(fetched.diverging.is_some());
}

#[test]
fn epochs_are_in_the_metadata_of_every_core_and_in_the_description() {
    let (mut world, partition, _) = cut_log(402);
    for core in 0..2 {
        let client = world.connect(core);
        let epochs = world.leader_epochs(client, "weak");
        assert_eq!(epochs, [1, 1]);
        let described = world.describe_partitions(client, "weak");
        let first = &described[0];
        assert_eq!(
            (first.leader_epoch.get(), first.epoch_start_offset.get()),
            (1, 4)
        );
        for (position, epoch) in [(OffsetPosition::Earliest, 0), (OffsetPosition::Latest, 1)] {
            let listed = world.listed(client, partition, position);
            assert_eq!(listed.expect("it is there").leader_epoch.get(), epoch);
        }
    }
    let mut world = world.close_and_restart(1);
    let client = world.connect(0);
    assert_eq!(
        world.leader_epochs(client, "weak"),
        [1, 1],
        "an orderly restart"
    );
    let topic = world.create("new", 1, &[]);
    let client = world.connect(0);
    world
        .produce_one(client, at(topic, 0), "a")
        .expect("a produce");
    assert_eq!(world.leader_epochs(client, "new"), [0]);
}
