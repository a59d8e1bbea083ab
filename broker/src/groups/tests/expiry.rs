//! Offsets and groups go when nobody has used them for long, and with their topics.

use super::*;

const DAY_MS: u64 = 24 * 3_600_000;

fn bench() -> (Bench, TopicId) {
    let mut bench = Bench::new();
    let topic = bench.topics.create("orders", 2);
    (bench, topic)
}

#[test]
fn offsets_of_a_group_without_members_expire() {
    let (mut bench, topic) = bench();
    let mut a = Client::new(1, wants(&["orders"]));
    bench.beat(&mut a);
    bench
        .commit(Some(a.me), &[(at(topic, 0), 5)])
        .expect("it is its own");
    bench.wait_ms(8_000);
    bench.leave(&a, false).expect("it is a member");
    assert_eq!(bench.wait_ms(7 * DAY_MS - 1), 0);
    assert_eq!(bench.committed(at(topic, 0)), Some(5));
    assert_eq!(
        bench.coordinator.next_deadline(),
        Some(bench.now.monotonic_us + 1_000)
    );
    assert_eq!(bench.wait_ms(1), 2, "the group and its offset");
    assert_eq!(bench.coordinator.group_count(), 0);
    assert_eq!(bench.coordinator.next_deadline(), None);
    assert_eq!(bench.coordinator.memory_bytes(), 0);
}

#[test]
fn a_commit_from_outside_begins_the_time_anew() {
    let (mut bench, topic) = bench();
    bench
        .commit(None, &[(at(topic, 0), 5)])
        .expect("there are no members");
    bench.wait_ms(5 * DAY_MS);
    bench
        .commit(None, &[(at(topic, 1), 5)])
        .expect("there are no members");
    bench.wait_ms(5 * DAY_MS);
    assert_eq!(bench.committed(at(topic, 0)), Some(5));
    bench.wait_ms(2 * DAY_MS);
    assert_eq!(bench.committed(at(topic, 0)), None);
}

#[test]
fn a_group_with_members_does_not_expire() {
    let (mut bench, topic) = bench();
    bench
        .commit(None, &[(at(topic, 0), 5)])
        .expect("there are no members");
    bench.wait_ms(6 * DAY_MS);
    let mut a = Client::new(1, wants(&["orders"]));
    bench.beat(&mut a);
    for _ in 0..30 {
        bench.pass_ms(DAY_MS);
        bench.beat(&mut a);
        bench.wait_ms(0);
    }
    assert_eq!(bench.committed(at(topic, 0)), Some(5));
}

#[test]
fn a_restart_does_not_prolong_it() {
    let (mut bench, topic) = bench();
    bench
        .commit(None, &[(at(topic, 0), 5)])
        .expect("there are no members");
    bench.wait_ms(6 * DAY_MS);
    bench.now.monotonic_us = 17;
    assert_eq!(bench.restart(), 0);
    bench.wait_ms(DAY_MS - 1);
    assert_eq!(bench.committed(at(topic, 0)), Some(5));
    bench.wait_ms(1);
    assert_eq!(bench.committed(at(topic, 0)), None);
}

#[test]
fn a_group_without_members_and_offsets_is_forgotten() {
    let (mut bench, _) = bench();
    let mut a = Client::new(1, wants(&["orders"]));
    bench.beat(&mut a);
    bench.leave(&a, false).expect("it is a member");
    assert_eq!(bench.coordinator.group_count(), 0);
    assert_eq!(bench.coordinator.memory_bytes(), 0);
    assert_eq!(bench.coordinator.next_deadline(), None);
    bench.restart();
    assert_eq!(bench.coordinator.live_records(), 0);
}

#[test]
fn offsets_go_with_their_topic() {
    let (mut bench, topic) = bench();
    let other = bench.topics.create("payments", 1);
    bench
        .commit(
            None,
            &[(at(topic, 0), 5), (at(topic, 1), 5), (at(other, 0), 6)],
        )
        .expect("none");
    assert_eq!(bench.topics_changed(), 0);
    bench.topics.delete("orders");
    assert_eq!(bench.topics_changed(), 2);
    assert_eq!(bench.committed(at(topic, 0)), None);
    assert_eq!(bench.committed(at(other, 0)), Some(6));
    // A new topic of the same name is another one.
    bench.topics.create("orders", 2);
    bench.topics.delete("payments");
    assert_eq!(
        bench.topics_changed(),
        2,
        "the offset, and the group with it"
    );
    assert_eq!(bench.coordinator.group_count(), 0);
}
