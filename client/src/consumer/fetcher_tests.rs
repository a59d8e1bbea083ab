//! The fetcher by itself: answers and times in, fetches and batches out.

use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::batch::{BatchBuilder, BatchBuilderConfig, RecordRef, Stamp};
use corelane_protocol::response::{
    BrokerMetadata, CoreAddress, FetchResponse, Fetched, FetchedEntry, PartitionMetadata,
    TopicPartitions,
};
use corelane_protocol::{
    ApiError, BrokerId, CoreId, ErrorCode, LeaderEpoch, Offset, PartitionIndex, Response,
    Timestamp, TopicId, TopicPartition,
};

use super::assigned::Assigned;
use super::fetcher::{FetchNumber, FetchSettings, Fetcher, Item, Question};
use super::place::Place;
use super::start::{Found, OnTruncation};
use crate::backoff::Backoff;
use crate::cluster::TopicMetadata;
use crate::connection::Frame;
use crate::error::{Error, ErrorKind};

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

/// A topic with one partition for each core given.
fn topic(cores: &[u16]) -> TopicMetadata {
    let core = |core: u16| CoreAddress {
        core: CoreId::new(core),
        host: "h".into(),
        port: core,
    };
    let broker = BrokerMetadata {
        id: BrokerId::new(1),
        cores: vec![core(0), core(1)],
        ..BrokerMetadata::default()
    };
    let partitions = (0..).zip(cores).map(|(index, core)| PartitionMetadata {
        partition: PartitionIndex::new(index),
        leader: BrokerId::new(1),
        core: CoreId::new(*core),
        ..PartitionMetadata::default()
    });
    let topic = TopicPartitions {
        id: TopicId::NIL,
        batch_bytes_max: 100_000,
        partitions: partitions.collect(),
        ..TopicPartitions::default()
    };
    TopicMetadata::new("t", &topic, &[broker], None).unwrap()
}

fn fetcher(cores: &[u16], reset_offsets: bool) -> Fetcher {
    let topic = topic(cores);
    let settings = FetchSettings {
        max_bytes: 1_000,
        max_partition_bytes: 500,
        buffer_bytes_max: 600,
        backoff: Backoff {
            min: ms(10),
            max: ms(10),
        },
        seed: 1,
        on_truncation: OnTruncation::Report,
        changing: false,
        tell_resets: false,
    };
    let assigned = (0..topic.partition_count())
        .map(|index| Assigned::new(&topic, index, topic.route(index).unwrap().clone()));
    Fetcher::new(settings, assigned.collect(), reset_offsets)
}

/// A fetch, as its number, its core, and the partitions with their offsets.
type Planned = (FetchNumber, u16, Vec<(u32, u64)>);

/// The fetches to send now.
fn plan(fetcher: &mut Fetcher, now: u64) -> Vec<Planned> {
    let plans = fetcher.plan(ms(now), |_| true);
    let lines = plans.into_iter().map(|plan| {
        let parts = plan.parts.iter().map(|part| (part.partition, part.offset));
        (plan.number, plan.route.core.get(), parts.collect())
    });
    lines.collect()
}

/// A stamped batch of `count` records from `base` on.
fn batch(base: u64, count: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchBuilderConfig::default()).unwrap();
    for _ in 0..count {
        let record = RecordRef {
            value: Some(b"0123456789"),
            ..RecordRef::default()
        };
        builder.try_push(record).unwrap();
    }
    let mut bytes = builder.finish().unwrap();
    let stamp = Stamp {
        topic: TopicId::NIL,
        partition: PartitionIndex::new(0),
        leader_epoch: LeaderEpoch::new(1),
        base_offset: Offset::new(base),
        append_time: Timestamp::new(0),
    };
    stamp.write(&mut bytes);
    bytes.to_vec()
}

type Answer = (Result<Vec<u8>, ErrorCode>, Option<u16>);

fn answer(fetcher: &mut Fetcher, now: u64, number: FetchNumber, answers: &[Answer]) {
    let entries = answers.iter().map(|(result, owner)| FetchedEntry {
        partition: TopicPartition::new(TopicId::NIL, PartitionIndex::new(0)),
        result: match result {
            Ok(bytes) => Ok(Fetched {
                high_watermark: Offset::new(1_000),
                log_start_offset: Offset::ZERO,
                diverging: None,
                batches: bytes,
            }),
            Err(code) => Err(ApiError::from(*code)),
        },
        owner: owner.map(|core| CoreAddress {
            core: CoreId::new(core),
            host: "h".into(),
            port: core,
        }),
    });
    let response = Response::Fetch(FetchResponse {
        entries: entries.collect(),
    });
    let frame = Arc::new(Frame::of(&response));
    let Ok(Ok(Response::Fetch(response))) = frame.decode("h") else {
        panic!("a fetch answer");
    };
    fetcher.answered(ms(now), number, &frame, response.entries, None);
}

fn ok(bytes: Vec<u8>) -> Answer {
    (Ok(bytes), None)
}

fn refused(code: ErrorCode) -> Answer {
    (Err(code), None)
}

fn found_at(offset: u64) -> Found {
    Found {
        place: Place::new(offset, None),
        read_from: offset,
        latest: 1_000,
    }
}

/// Hands everything out, as (partition, end offset) or an error's kind.
fn take_all(fetcher: &mut Fetcher) -> Vec<Result<(usize, u64), ErrorKind>> {
    let mut items = Vec::new();
    loop {
        match fetcher.next_item() {
            Some(Item::Batch {
                id,
                end_offset,
                epoch,
                ..
            }) => {
                fetcher.handed_out(id, end_offset, epoch);
                items.push(Ok((id, end_offset)));
            }
            Some(Item::Failed(error) | Item::Jumped(_, error)) => {
                items.push(Err(error.kind()));
                return items;
            }
            None => return items,
        }
    }
}

#[test]
fn one_fetch_asks_one_core_for_all_its_partitions() {
    let mut fetcher = fetcher(&[0, 1, 0], false);
    let plans = plan(&mut fetcher, 0);
    assert_eq!(plans, [(0, 0, vec![(0, 0), (2, 0)]), (1, 1, vec![(1, 0)])]);
    fetcher.connected();
    assert!(plan(&mut fetcher, 1).is_empty(), "all are in flight");
}

#[test]
fn fetching_goes_on_while_batches_wait_to_be_handed_out() {
    let mut fetcher = fetcher(&[0], false);
    plan(&mut fetcher, 0);
    answer(
        &mut fetcher,
        1,
        0,
        &[ok([batch(0, 3), batch(3, 2)].concat())],
    );
    assert_eq!(plan(&mut fetcher, 1), [(1, 0, vec![(0, 5)])]);
    assert_eq!(
        fetcher.partitions[0].position.offset, 0,
        "nothing was handed out"
    );
    assert_eq!(take_all(&mut fetcher), [Ok((0, 3)), Ok((0, 5))]);
    assert_eq!(fetcher.partitions[0].position.offset, 5);
}

#[test]
fn no_more_is_fetched_than_the_buffer_holds() {
    let mut fetcher = fetcher(&[0], false);
    plan(&mut fetcher, 0);
    answer(
        &mut fetcher,
        1,
        0,
        &[ok([batch(0, 20), batch(20, 20)].concat())],
    );
    assert!(plan(&mut fetcher, 1).is_empty());
    assert!(fetcher.next_item().is_some());
    assert_eq!(plan(&mut fetcher, 1), [(1, 0, vec![(0, 40)])]);
}

#[test]
fn partitions_that_were_served_come_last() {
    let mut fetcher = fetcher(&[0, 0, 0], false);
    plan(&mut fetcher, 0);
    let answers = [ok(batch(0, 1)), ok(Vec::new()), ok(Vec::new())];
    answer(&mut fetcher, 1, 0, &answers);
    assert_eq!(
        plan(&mut fetcher, 1),
        [(1, 0, vec![(1, 0), (2, 0), (0, 1)])]
    );
}

#[test]
fn what_was_fetched_before_a_seek_is_thrown_away() {
    let mut fetcher = fetcher(&[0], false);
    plan(&mut fetcher, 0);
    answer(&mut fetcher, 1, 0, &[ok(batch(0, 3))]);
    assert_eq!(plan(&mut fetcher, 1).len(), 1);
    fetcher.seek(0, 100);
    assert_eq!(plan(&mut fetcher, 2), [(2, 0, vec![(0, 100)])]);
    answer(&mut fetcher, 3, 1, &[ok(batch(3, 3))]);
    assert!(take_all(&mut fetcher).is_empty());
    answer(&mut fetcher, 4, 2, &[ok(batch(100, 1))]);
    assert_eq!(take_all(&mut fetcher), [Ok((0, 101))]);
}

#[test]
fn a_paused_partition_is_not_fetched_and_keeps_its_position() {
    let mut fetcher = fetcher(&[0, 0], false);
    plan(&mut fetcher, 0);
    answer(&mut fetcher, 1, 0, &[ok(batch(0, 3)), ok(batch(0, 3))]);
    fetcher.pause(1);
    assert_eq!(take_all(&mut fetcher), [Ok((0, 3))]);
    assert_eq!(plan(&mut fetcher, 2), [(1, 0, vec![(0, 3)])]);
    fetcher.resume(1);
    assert_eq!(plan(&mut fetcher, 3), [(2, 0, vec![(1, 0)])]);
}

#[test]
fn a_refusal_that_passes_waits_before_it_is_repeated() {
    let mut fetcher = fetcher(&[0], false);
    plan(&mut fetcher, 0);
    answer(&mut fetcher, 1, 0, &[refused(ErrorCode::Overloaded)]);
    assert!(plan(&mut fetcher, 1).is_empty());
    let again = fetcher.wake_at().unwrap();
    assert!(again > ms(1) && again <= ms(11));
    assert_eq!(plan(&mut fetcher, 11).len(), 1);
    assert!(
        take_all(&mut fetcher).is_empty(),
        "nobody is bothered with it"
    );
}

#[test]
fn what_comes_due_between_the_plan_and_the_wait_is_not_slept_over() {
    let mut fetcher = fetcher(&[0], false);
    plan(&mut fetcher, 0);
    answer(&mut fetcher, 1, 0, &[refused(ErrorCode::Overloaded)]);
    let due = fetcher.partitions[0].not_before;
    let just_before = due - Duration::from_nanos(1);
    assert!(fetcher.plan(just_before, |_| true).is_empty());
    // By the time that the wait begins it is due, and nothing else will come.
    assert_eq!(fetcher.wake_at(), Some(due));
    assert_eq!(fetcher.plan(due, |_| true).len(), 1);
    assert_eq!(fetcher.wake_at(), None);
}

#[test]
fn a_redirect_is_followed_at_once() {
    let mut fetcher = fetcher(&[0], false);
    plan(&mut fetcher, 0);
    answer(&mut fetcher, 1, 0, &[(Err(ErrorCode::NotOwner), Some(1))]);
    assert_eq!(plan(&mut fetcher, 1), [(1, 1, vec![(0, 0)])]);
    answer(&mut fetcher, 2, 1, &[(Err(ErrorCode::NotOwner), Some(0))]);
    assert!(plan(&mut fetcher, 2).is_empty(), "but not round in circles");
}

#[test]
fn a_lost_connection_asks_where_the_topic_is() {
    let mut fetcher = fetcher(&[0, 0], false);
    plan(&mut fetcher, 0);
    let error = Error::ConnectionLost {
        address: "h:0".into(),
        reason: "reset".into(),
    };
    fetcher.request_failed(ms(1), 0, &error);
    assert_eq!(fetcher.take_questions(), [Question::Topic("t".into())]);
    assert!(plan(&mut fetcher, 50).is_empty());
    fetcher.located(ms(60), "t", Ok(&topic(&[1, 1])));
    assert_eq!(plan(&mut fetcher, 60), [(1, 1, vec![(0, 0), (1, 0)])]);
}

#[test]
fn an_offset_that_does_not_exist_is_reset_or_reported() {
    let mut asking = fetcher(&[0], true);
    plan(&mut asking, 0);
    answer(&mut asking, 1, 0, &[refused(ErrorCode::OffsetOutOfRange)]);
    let [Question::Reset { id: 0, generation }] = asking.take_questions()[..] else {
        panic!("where to go on");
    };
    assert!(plan(&mut asking, 1).is_empty());
    asking.reset(ms(2), 0, generation, Ok(found_at(44)));
    assert_eq!(plan(&mut asking, 2), [(1, 0, vec![(0, 44)])]);

    let mut failing = fetcher(&[0], false);
    plan(&mut failing, 0);
    answer(&mut failing, 1, 0, &[refused(ErrorCode::OffsetOutOfRange)]);
    assert_eq!(take_all(&mut failing), [Err(ErrorKind::Refused)]);
    assert!(plan(&mut failing, 9).is_empty());
    failing.seek(0, 3);
    assert_eq!(plan(&mut failing, 9), [(1, 0, vec![(0, 3)])]);
}

#[test]
fn a_seek_wins_over_a_reset_that_is_under_way() {
    let mut fetcher = fetcher(&[0], true);
    plan(&mut fetcher, 0);
    answer(&mut fetcher, 1, 0, &[refused(ErrorCode::OffsetOutOfRange)]);
    let [Question::Reset { id, generation }] = fetcher.take_questions()[..] else {
        panic!("where to go on");
    };
    fetcher.seek(id, 7);
    fetcher.reset(ms(2), id, generation, Ok(found_at(44)));
    assert_eq!(plan(&mut fetcher, 2), [(1, 0, vec![(0, 7)])]);
}

#[test]
fn damage_stops_its_partition_and_no_other() {
    let mut fetcher = fetcher(&[0, 0], false);
    plan(&mut fetcher, 0);
    let mut damaged = [batch(0, 2), batch(2, 2)].concat();
    let second = batch(0, 2).len();
    damaged[second + 50] ^= 1;
    answer(&mut fetcher, 1, 0, &[ok(damaged), ok(batch(0, 1))]);
    let items = take_all(&mut fetcher);
    assert_eq!(items, [Ok((0, 2)), Ok((1, 1)), Err(ErrorKind::Corrupt)]);
    assert_eq!(plan(&mut fetcher, 2), [(1, 0, vec![(1, 1)])]);
}

#[test]
fn nothing_is_fetched_behind_the_end() {
    let mut fetcher = fetcher(&[0], false);
    fetcher.partitions[0].end = Some(3);
    plan(&mut fetcher, 0);
    answer(&mut fetcher, 1, 0, &[ok(batch(0, 3))]);
    assert!(plan(&mut fetcher, 1).is_empty());
    assert!(!fetcher.is_done());
    assert_eq!(take_all(&mut fetcher), [Ok((0, 3))]);
    assert!(fetcher.is_done());
}

#[test]
fn partitions_come_and_go_while_fetches_are_under_way() {
    let mut fetcher = fetcher(&[0, 0], false);
    plan(&mut fetcher, 0);
    answer(&mut fetcher, 1, 0, &[ok(batch(0, 3)), ok(batch(0, 3))]);
    assert_eq!(plan(&mut fetcher, 1), [(1, 0, vec![(0, 3), (1, 3)])]);
    fetcher.remove(0);
    assert_eq!(
        take_all(&mut fetcher),
        [Ok((1, 3))],
        "nothing more of what is gone"
    );
    let topic = topic(&[0, 0, 0]);
    let mut assigned = Assigned::new(&topic, 2, topic.route(2).unwrap().clone());
    assigned.begin_at(found_at(7));
    assert_eq!(fetcher.add(assigned), 0, "in the free place");
    assert_eq!(fetcher.find("t", 0), None);
    assert_eq!(fetcher.find("t", 2), Some(0));
    assert_eq!(plan(&mut fetcher, 2), [(2, 0, vec![(2, 7)])]);
    // What was asked for the partition before is not taken for the one of now.
    answer(&mut fetcher, 3, 1, &[ok(batch(3, 3)), ok(batch(3, 3))]);
    assert_eq!(take_all(&mut fetcher), [Ok((1, 6))]);
    answer(&mut fetcher, 4, 2, &[ok(batch(7, 1))]);
    assert_eq!(take_all(&mut fetcher), [Ok((0, 8))]);
    fetcher.remove(0);
    fetcher.remove(1);
    assert!(plan(&mut fetcher, 5).is_empty());
    assert!(take_all(&mut fetcher).is_empty());
}

#[test]
fn what_failed_and_is_gone_is_not_told() {
    let mut fetcher = fetcher(&[0, 0], false);
    plan(&mut fetcher, 0);
    let refused = refused(ErrorCode::OffsetOutOfRange);
    answer(&mut fetcher, 1, 0, &[refused.clone(), refused]);
    fetcher.remove(1);
    assert_eq!(take_all(&mut fetcher), [Err(ErrorKind::Refused)]);
    fetcher.remove(0);
    assert!(take_all(&mut fetcher).is_empty());
}
