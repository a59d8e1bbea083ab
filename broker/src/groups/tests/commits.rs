//! Offsets are committed by those who may.

use corelane_protocol::request::DeleteGroupRequest;

use super::*;

fn two() -> (Bench, TopicId, Client, Client) {
    let mut bench = Bench::new();
    let topic = bench.topics.create("orders", 2);
    let wish = wants(&["orders"]);
    let (mut a, mut b) = (Client::new(1, wish.clone()), Client::new(2, wish));
    bench.settle(&mut [&mut a, &mut b]);
    (bench, topic, a, b)
}

fn only(results: Result<Vec<CommittedEntry>, ApiError>) -> Result<(), ErrorCode> {
    let mut entries = results.expect("the request as a whole is fine");
    assert_eq!(entries.len(), 1);
    entries.remove(0).result.map_err(|error| error.code)
}

fn first(client: &Client) -> TopicPartition {
    *client.owned.first().expect("it has one")
}

#[test]
fn a_member_commits_what_is_its_own() {
    let (mut bench, _, a, b) = two();
    assert_eq!(only(bench.commit(Some(a.me), &[(first(&a), 7)])), Ok(()));
    assert_eq!(bench.committed(first(&a)), Some(7));
    let not_its_own = bench.commit(Some(a.me), &[(first(&b), 7)]);
    assert_eq!(only(not_its_own), Err(ErrorCode::NotAssigned));
    assert_eq!(bench.committed(first(&b)), None);
    assert_eq!(only(bench.commit(Some(a.me), &[(first(&a), 3)])), Ok(()));
    assert_eq!(bench.committed(first(&a)), Some(3), "a member may go back");
}

#[test]
fn a_partition_is_asked_for_once() {
    let (bench, _, a, _) = two();
    let asked = FetchOffsetsRequest {
        group: "g".to_owned(),
        partitions: Some(vec![first(&a); 2]),
    };
    let refused = bench.coordinator.fetch_offsets(&asked);
    let refused = refused.expect_err("it would be answered twice");
    assert_eq!(refused.code, ErrorCode::InvalidRequest);
}

#[test]
fn a_member_commits_what_it_has_yet_to_let_go() {
    let mut bench = Bench::new();
    let topic = bench.topics.create("orders", 2);
    let wish = wants(&["orders"]);
    let (mut a, mut b) = (Client::new(1, wish.clone()), Client::new(2, wish));
    bench.beat(&mut a);
    bench.beat(&mut b);
    bench.send(&a.request()).expect("it is told to let go");
    for partition in [0, 1] {
        assert_eq!(
            only(bench.commit(Some(a.me), &[(at(topic, partition), 4)])),
            Ok(())
        );
    }
}

#[test]
fn another_generation_or_member_is_refused() {
    let (mut bench, _, a, _) = two();
    let mut other = a.me;
    other.generation = Generation::new(a.me.generation.get() - 1);
    let partition = first(&a);
    assert_eq!(
        code(bench.commit(Some(other), &[(partition, 7)])),
        ErrorCode::StaleGeneration
    );
    other.generation = Generation::NONE;
    assert_eq!(
        code(bench.commit(Some(other), &[(partition, 7)])),
        ErrorCode::StaleGeneration
    );
    other.id = member_id(77);
    assert_eq!(
        code(bench.commit(Some(other), &[(partition, 7)])),
        ErrorCode::UnknownMember
    );
    bench.wait_ms(60_000);
    assert_eq!(
        code(bench.commit(Some(a.me), &[(partition, 7)])),
        ErrorCode::UnknownMember
    );
    assert_eq!(bench.committed(partition), None);
}

#[test]
fn from_outside_only_while_there_are_no_members() {
    let mut bench = Bench::new();
    let topic = bench.topics.create("orders", 2);
    assert_eq!(only(bench.commit(None, &[(at(topic, 1), 9)])), Ok(()));
    assert_eq!(bench.log.len(), 2, "the group is made");
    assert_eq!(only(bench.commit(None, &[(at(topic, 1), 2)])), Ok(()));
    assert_eq!(bench.log.len(), 3);
    let mut a = Client::new(1, wants(&["orders"]));
    bench.beat(&mut a);
    assert_eq!(
        code(bench.commit(None, &[(at(topic, 1), 3)])),
        ErrorCode::GroupNotEmpty
    );
    bench.leave(&a, false).expect("it is a member");
    assert_eq!(only(bench.commit(None, &[(at(topic, 1), 3)])), Ok(()));
    assert_eq!(bench.committed(at(topic, 1)), Some(3));
}

#[test]
fn each_entry_is_answered_for_itself() {
    let mut bench = Bench::new();
    let topic = bench.topics.create("orders", 2);
    let gone = TopicId::new(Uuid::from_u128(99));
    let entries = [
        (at(topic, 0), 1),
        (at(topic, 2), 1),
        (at(gone, 0), 1),
        (at(topic, 0), 5),
    ];
    let answered = bench.commit(None, &entries).expect("some are fine");
    let codes: Vec<_> = answered
        .iter()
        .map(|one| one.result.clone().map_err(|e| e.code))
        .collect();
    let expected = [
        Ok(()),
        Err(ErrorCode::UnknownPartition),
        Err(ErrorCode::UnknownTopic),
        Ok(()),
    ];
    assert_eq!(codes, expected);
    assert_eq!(
        bench.committed(at(topic, 0)),
        Some(5),
        "the last one counts"
    );
    assert_eq!(bench.coordinator.live_records(), 2);
}

#[test]
fn a_commit_of_nothing_makes_no_group() {
    let mut bench = Bench::new();
    assert_eq!(bench.commit(None, &[]), Ok(Vec::new()));
    let gone = TopicId::new(Uuid::from_u128(99));
    assert_eq!(
        only(bench.commit(None, &[(at(gone, 0), 1)])),
        Err(ErrorCode::UnknownTopic)
    );
    assert_eq!(bench.coordinator.group_count(), 0);
    assert!(bench.log.is_empty());
}

#[test]
fn metadata_is_kept_and_limited() {
    let mut bench = Bench::new();
    let topic = bench.topics.create("orders", 1);
    let mut request = CommitOffsetsRequest {
        group: "g".to_owned(),
        member: None,
        entries: vec![CommitEntry {
            partition: at(topic, 0),
            offset: Offset::new(4),
            leader_epoch: None,
            metadata: "x".repeat(4_097),
        }],
    };
    let outcome = bench.coordinator.commit(bench.now, &bench.topics, &request);
    assert_eq!(only(outcome.result), Err(ErrorCode::InvalidRequest));
    request.entries[0].metadata.pop();
    let outcome = bench.coordinator.commit(bench.now, &bench.topics, &request);
    assert_eq!(only(outcome.result), Ok(()));
    let all = FetchOffsetsRequest {
        group: "g".to_owned(),
        partitions: None,
    };
    let fetched = bench
        .coordinator
        .fetch_offsets(&all)
        .expect("the group is there");
    let committed = fetched[0].committed.as_ref().expect("it was committed");
    assert_eq!(
        (committed.metadata.len(), committed.time),
        (4_096, bench.now.wall)
    );
    assert_eq!(fetched.len(), 1);
}

#[test]
fn a_group_that_is_not_there_has_committed_nothing() {
    let mut bench = Bench::new();
    let topic = bench.topics.create("orders", 1);
    assert_eq!(bench.committed(at(topic, 0)), None);
    let all = FetchOffsetsRequest {
        group: "g".to_owned(),
        partitions: None,
    };
    assert_eq!(
        code(bench.coordinator.fetch_offsets(&all)),
        ErrorCode::UnknownGroup
    );
}

#[test]
fn a_group_without_members_is_deleted() {
    let (mut bench, topic, a, b) = two();
    assert_eq!(only(bench.commit(Some(a.me), &[(first(&a), 7)])), Ok(()));
    let request = DeleteGroupRequest {
        group: "g".to_owned(),
    };
    let outcome = bench.coordinator.delete(bench.now, &request);
    assert_eq!(code(outcome.result), ErrorCode::GroupNotEmpty);
    bench.leave(&a, false).expect("it is a member");
    bench.leave(&b, false).expect("it is a member");
    let outcome = bench.coordinator.delete(bench.now, &request);
    assert_eq!(outcome.result, Ok(()));
    assert_eq!(outcome.records.len(), 2);
    assert!(
        outcome
            .records
            .iter()
            .all(|record| record.value().is_none())
    );
    bench.log.extend(outcome.records);
    let outcome = bench.coordinator.delete(bench.now, &request);
    assert_eq!(code(outcome.result), ErrorCode::UnknownGroup);
    bench.restart();
    assert_eq!(bench.coordinator.group_count(), 0);
    assert_eq!(bench.committed(at(topic, 0)), None);
}
