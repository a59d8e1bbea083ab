//! What may be handed out, and what counts as processed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::request::MemberRef;
use corelane_protocol::response::{
    BrokerMetadata, CoreAddress, PartitionMetadata, TopicPartitions,
};
use corelane_protocol::{Generation, MemberId, PartitionIndex, TopicId, TopicPartition};
use tokio::time::Instant;

use super::effect::Standing;
use super::membership_tests::part;
use super::shared::{Mark, Opened, Shared, State};
use crate::cluster::TopicMetadata;
use crate::consumer::{Found, Place};

fn mark(offset: u64) -> Mark {
    Place::new(offset, None).into()
}

/// A member of which nothing is known yet.
fn fresh() -> Shared {
    let member = MemberRef {
        id: MemberId::default(),
        generation: Generation::NONE,
    };
    Shared::new(member, Instant::now())
}

/// Begins to read a partition at an offset. Returns which taking this is.
fn read_from(state: &mut State, partition: TopicPartition, offset: u64) -> u64 {
    let broker = BrokerMetadata {
        cores: vec![CoreAddress::default()],
        ..BrokerMetadata::default()
    };
    let partitions = TopicPartitions {
        partitions: vec![PartitionMetadata::default()],
        ..TopicPartitions::default()
    };
    let topic = TopicMetadata::new("t", &partitions, &[broker], None).unwrap();
    let taken = state.take(&[(partition, "t".into())].into());
    let number = taken[&partition].0;
    let opened = Opened {
        topic: Arc::new(topic),
        start: Ok(Found {
            place: Place::new(offset, None),
            read_from: offset,
            latest: u64::MAX,
        }),
        committed: None,
    };
    state.opened(partition, number, opened);
    assert!(
        !state.hand_out(partition, number, mark(offset)),
        "not told to the listener"
    );
    state.partitions.get_mut(&partition).unwrap().is_announced = true;
    state.begin();
    number
}

#[test]
fn nothing_is_handed_out_of_what_goes_and_what_was_may_still_be_processed() {
    let shared = fresh();
    let mut state = shared.state();
    let number = read_from(&mut state, part(0), 5);
    assert!(state.hand_out(part(0), number, mark(8)));
    assert_eq!(
        state.uncommitted(None),
        [(part(0), mark(5))],
        "where it began"
    );
    let goes = BTreeSet::from([part(0)]);
    state.let_go(&goes);
    assert!(!state.hand_out(part(0), number, mark(9)));
    state.processed(part(0), number, mark(8));
    assert_eq!(state.uncommitted(Some(&goes)), [(part(0), mark(8))]);
    state.committed(part(0), 8);
    assert!(state.uncommitted(None).is_empty());
    state.remove(&goes);
    assert!(!state.hand_out(part(0), number, mark(9)));
}

#[test]
fn what_is_of_an_earlier_taking_counts_for_nothing() {
    let shared = fresh();
    let mut state = shared.state();
    let first = read_from(&mut state, part(0), 5);
    state.lose(&BTreeSet::from([part(0)]));
    let second = read_from(&mut state, part(0), 20);
    assert!(!state.hand_out(part(0), first, mark(8)));
    state.processed(part(0), first, mark(8));
    assert_eq!(state.uncommitted(None), [(part(0), mark(20))]);
    assert!(state.hand_out(part(0), second, mark(21)));
}

#[test]
fn only_what_was_handed_out_and_not_committed_is_missed() {
    let shared = fresh();
    let mut state = shared.state();
    let number = read_from(&mut state, part(0), 5);
    read_from(&mut state, part(1), 5);
    let committed = read_from(&mut state, part(2), 5);
    state.hand_out(part(0), number, mark(6));
    state.hand_out(part(2), committed, mark(6));
    state.committed(part(2), 6);
    state.lose(&BTreeSet::from([part(0), part(1), part(2)]));
    assert_eq!(state.lost_uncommitted, [("t".to_owned(), 0)].into());
}

#[test]
fn a_session_that_is_over_hands_nothing_out_before_the_heart_knows() {
    let shared = fresh();
    let mut state = shared.state();
    let now = Instant::now();
    assert!(!state.may_hand_out(now));
    state.session_until = Some(now + Duration::from_millis(5));
    assert!(state.may_hand_out(now + Duration::from_millis(4)));
    assert!(!state.may_hand_out(now + Duration::from_millis(5)));
}

#[test]
fn who_waits_for_records_is_never_overdue() {
    let shared = fresh();
    let mut state = shared.state();
    let (now, most) = (Instant::now(), Duration::from_millis(5));
    state.standing = Standing::Member;
    state.asks(true, now);
    assert_eq!(state.poll_overdue_at(most), None);
    state.asks(false, now);
    assert_eq!(state.poll_overdue_at(most), Some(now + most));
    state.standing = Standing::Joining;
    assert_eq!(state.poll_overdue_at(most), None);
}

/// A topic that was made anew may be held beside the one that had its name before.
#[test]
fn a_partition_is_found_by_its_name() {
    let shared = fresh();
    let mut state = shared.state();
    let id = |topic, partition| {
        TopicPartition::new(
            TopicId::from_bytes([topic; 16]),
            PartitionIndex::new(partition),
        )
    };
    let held = [
        (id(1, 0), "a"),
        (id(1, 7), "a"),
        (id(2, 3), "b"),
        (id(3, 1), "a"),
        (id(3, u32::MAX), "a"),
    ];
    state.take(&held.map(|(id, name)| (id, name.into())).into());
    let found = |topic, partition| state.find(topic, partition).map(|(id, _)| id);
    for (id, name) in held {
        assert_eq!(found(name, id.partition.get()), Some(id));
    }
    for (name, partition) in [("a", 3), ("b", 0), ("c", 0), ("", 0)] {
        assert_eq!(found(name, partition), None, "{name}-{partition}");
    }
    drop(state);
    assert!(fresh().state().find("a", 0).is_none());
}
