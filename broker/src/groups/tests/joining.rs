//! Members join, leave, are lost, and send their heartbeats again.

use super::*;

fn bench(partitions: u32) -> (Bench, TopicId) {
    let mut bench = Bench::new();
    let topic = bench.topics.create("orders", partitions);
    (bench, topic)
}

fn client(n: u128) -> Client {
    Client::new(n, wants(&["orders"]))
}

#[test]
fn the_first_member_gets_everything_at_once() {
    let (mut bench, topic) = bench(3);
    let mut a = client(1);
    let answer = bench.beat(&mut a);
    assert_eq!(answer.generation, Generation::new(1));
    assert_eq!(answer.heartbeat_interval_ms, 3_000);
    assert_eq!(
        a.owned,
        BTreeSet::from([at(topic, 0), at(topic, 1), at(topic, 2)])
    );
    let assignment = answer.assignment.expect("it did not hold them before");
    assert_eq!(assignment[0].name, "orders");
}

#[test]
fn a_heartbeat_that_changes_nothing_logs_nothing_and_says_none() {
    let (mut bench, _) = bench(3);
    let mut a = client(1);
    bench.beat(&mut a);
    assert_eq!(bench.log.len(), 2, "the group and the member");
    let answer = bench.beat(&mut a);
    assert_eq!(answer.assignment, None);
    let mut request = a.request();
    request.subscription = Some(a.subscription.clone());
    assert_eq!(bench.send(&request), Ok(answer));
    assert_eq!(bench.log.len(), 2);
}

#[test]
fn a_join_whose_answer_was_lost_is_answered_alike() {
    let (mut bench, _) = bench(3);
    let mut a = client(1);
    let lost = bench.send(&a.request());
    let logged = bench.log.len();
    assert_eq!(bench.send(&a.request()), lost);
    assert_eq!(bench.log.len(), logged);
    bench.beat(&mut a);
    assert_eq!(a.owned.len(), 3);
    assert_eq!(bench.coordinator.member_count(), 1);
}

#[test]
fn a_known_member_that_joins_again_keeps_its_generation() {
    let (mut bench, topic) = bench(2);
    let mut a = client(1);
    bench.beat(&mut a);
    let generation = a.me.generation;
    a.me.generation = Generation::NONE;
    a.owned.clear();
    let answer = bench.beat(&mut a);
    assert_eq!(answer.generation, generation);
    assert_eq!(a.owned, BTreeSet::from([at(topic, 0), at(topic, 1)]));
}

#[test]
fn what_a_member_lost_is_free_after_it_has_joined_again() {
    let (mut bench, topic) = bench(2);
    let (mut a, mut b) = (client(1), client(2));
    bench.beat(&mut a);
    bench.beat(&mut b);
    bench.beat(&mut a);
    // It was told to let go of one, forgets everything, and joins again.
    a.me.generation = Generation::NONE;
    a.owned.clear();
    let answer = bench.beat(&mut a);
    assert_eq!(
        answer.heartbeat_interval_ms, 200,
        "others wait for its next one"
    );
    assert_eq!(a.owned.len(), 1);
    bench.beat(&mut b);
    assert_eq!(
        b.owned.len(),
        0,
        "the join may be older than what the member holds"
    );
    bench.beat(&mut a);
    bench.beat(&mut b);
    assert_eq!(a.owned.len(), 1);
    assert_eq!(b.owned.len(), 1);
    assert!(!a.owned.contains(b.owned.first().expect("it has one")));
    assert!(b.owned.first().is_some_and(|one| one.topic == topic));
}

#[test]
fn the_generation_before_is_answered_again_while_nothing_foreign_is_held() {
    let (mut bench, topic) = bench(2);
    let (mut a, mut b) = (client(1), client(2));
    bench.beat(&mut a);
    bench.beat(&mut b);
    bench.beat(&mut a);
    let before = a.request();
    let lost = bench.send(&before).expect("it lets go");
    assert!(lost.generation > before.member.generation);
    assert_eq!(bench.send(&before), Ok(lost.clone()));
    let mut foreign = before.clone();
    foreign.owned = owned_on_wire(&BTreeSet::from([at(topic, 0), at(topic, 1)]));
    assert_eq!(code(bench.send(&foreign)), ErrorCode::StaleGeneration);
    let mut older = before;
    older.member.generation = Generation::new(lost.generation.get() + 1);
    assert_eq!(code(bench.send(&older)), ErrorCode::StaleGeneration);
    a.apply(&lost);
    bench.settle(&mut [&mut a, &mut b]);
}

#[test]
fn an_unknown_member_is_told_so() {
    let (mut bench, _) = bench(2);
    let mut a = client(1);
    a.me.generation = Generation::new(4);
    assert_eq!(code(bench.send(&a.request())), ErrorCode::UnknownMember);
    assert_eq!(code(bench.leave(&a, false)), ErrorCode::UnknownMember);
    assert!(bench.log.is_empty());
    assert_eq!(bench.coordinator.group_count(), 0);
}

#[test]
fn a_join_needs_a_subscription() {
    let (mut bench, _) = bench(2);
    let mut request = client(1).request();
    request.subscription = None;
    assert_eq!(code(bench.send(&request)), ErrorCode::InvalidRequest);
}

#[test]
fn a_member_that_leaves_frees_what_it_had() {
    let (mut bench, _) = bench(4);
    let (mut a, mut b) = (client(1), client(2));
    bench.settle(&mut [&mut a, &mut b]);
    assert_eq!((a.owned.len(), b.owned.len()), (2, 2));
    bench.leave(&a, false).expect("it is a member");
    bench.beat(&mut b);
    assert_eq!(b.owned.len(), 4);
    assert_eq!(code(bench.send(&a.request())), ErrorCode::UnknownMember);
}

#[test]
fn a_leave_from_a_former_life_is_refused() {
    let (mut bench, _) = bench(4);
    let (mut a, mut b) = (client(1), client(2));
    bench.settle(&mut [&mut a, &mut b]);
    let former = a.clone();
    bench.leave(&a, false).expect("it is a member");
    a.me.generation = Generation::NONE;
    a.owned.clear();
    bench.settle(&mut [&mut a, &mut b]);
    assert_eq!(
        code(bench.leave(&former, false)),
        ErrorCode::StaleGeneration
    );
    bench.beat(&mut a);
}

#[test]
fn a_member_whose_answer_was_lost_can_leave() {
    let (mut bench, _) = bench(4);
    let a = client(1);
    bench.send(&a.request()).expect("it joins");
    bench
        .leave(&a, false)
        .expect("the generation before will do");
    assert_eq!(bench.coordinator.group_count(), 0);
}

#[test]
fn a_silent_member_is_removed_after_its_session() {
    let (mut bench, _) = bench(4);
    let (mut a, mut b) = (client(1), client(2));
    bench.settle(&mut [&mut a, &mut b]);
    bench.wait_ms(5_000);
    bench.beat(&mut b);
    assert_eq!(bench.wait_ms(3_999), 0);
    assert_eq!(bench.coordinator.member_count(), 2);
    assert!(bench.wait_ms(1) > 0);
    assert_eq!(bench.coordinator.member_count(), 1);
    bench.beat(&mut b);
    assert_eq!(b.owned.len(), 4);
    assert_eq!(code(bench.send(&a.request())), ErrorCode::UnknownMember);
}

#[test]
fn the_next_deadline_is_that_of_the_first_session_to_end() {
    let (mut bench, _) = bench(4);
    assert_eq!(bench.coordinator.next_deadline(), None);
    let mut a = client(1);
    bench.beat(&mut a);
    assert_eq!(
        bench.coordinator.next_deadline(),
        Some(bench.now.monotonic_us + 9_000_000)
    );
    bench.pass_ms(4_000);
    bench.beat(&mut a);
    bench.wait_ms(5_000);
    assert_eq!(bench.coordinator.member_count(), 1);
    assert_eq!(
        bench.coordinator.next_deadline(),
        Some(bench.now.monotonic_us + 4_000_000)
    );
}
