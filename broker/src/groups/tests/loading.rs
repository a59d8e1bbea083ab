//! A coordinator is thrown away, and another one reads the log.

use super::super::MemberValue;
use super::*;

fn trio(partitions: u32) -> (Bench, [Client; 3]) {
    let mut bench = Bench::new();
    bench.topics.create("orders", partitions);
    let mut clients = [1, 2, 3].map(|n| Client::new(n, wants(&["orders"])));
    let [a, b, c] = &mut clients;
    bench.settle(&mut [a, b, c]);
    (bench, clients)
}

fn change_member(records: &mut [GroupRecord], id: MemberId, change: impl Fn(&mut MemberValue)) {
    for record in records {
        match record {
            GroupRecord::Member {
                member,
                value: Some(value),
                ..
            } if *member == id => change(value),
            _ => {}
        }
    }
}

#[test]
fn members_go_on_as_they_were() {
    let (mut bench, mut clients) = trio(10);
    let before = clients.clone();
    assert_eq!(bench.restart(), 0, "nothing has changed");
    for (client, before) in clients.iter_mut().zip(&before) {
        let answer = bench.beat(client);
        assert_eq!(answer.assignment, None);
        assert_eq!(client.me, before.me);
    }
    assert_eq!(bench.restart(), 0);
}

#[test]
fn timers_begin_anew() {
    let (mut bench, _) = trio(3);
    bench.pass_ms(8_999);
    bench.restart();
    bench.wait_ms(8_999);
    assert_eq!(bench.coordinator.member_count(), 3);
    bench.wait_ms(1);
    assert_eq!(bench.coordinator.member_count(), 0);
}

#[test]
fn partitions_that_were_being_let_go_stay_so() {
    let mut bench = Bench::new();
    bench.topics.create("orders", 4);
    let (mut a, mut b) = (
        Client::new(1, wants(&["orders"])),
        Client::new(2, wants(&["orders"])),
    );
    bench.beat(&mut a);
    bench.beat(&mut b);
    bench.send(&a.request()).expect("it is told to let go");
    bench.restart();
    bench.beat(&mut b);
    assert!(b.owned.is_empty(), "the first still holds everything");
    bench.settle(&mut [&mut a, &mut b]);
    assert_eq!((a.owned.len(), b.owned.len()), (2, 2));
}

#[test]
fn topics_that_changed_meanwhile_are_seen() {
    let (mut bench, mut clients) = trio(6);
    bench.topics.extend("orders", 9);
    assert_eq!(bench.restart(), 1);
    let [a, b, c] = &mut clients;
    bench.settle(&mut [a, b, c]);
    assert!(clients.iter().all(|client| client.owned.len() == 3));
    bench
        .commit(
            Some(clients[0].me),
            &[(*clients[0].owned.first().expect("three"), 1)],
        )
        .expect("it is its own");
    bench.topics.delete("orders");
    assert_eq!(bench.restart(), 2, "the group's generation, and the offset");
    let [a, b, c] = &mut clients;
    bench.settle(&mut [a, b, c]);
    assert!(clients.iter().all(|client| client.owned.is_empty()));
}

#[test]
fn a_log_in_which_two_hold_one_partition_fences_one() {
    let (bench, clients) = trio(3);
    let mut records: Vec<_> = bench.coordinator.snapshot().collect();
    let stolen = owned_on_wire(&clients[0].owned);
    change_member(&mut records, clients[1].me.id, |value| {
        value.assigned.clone_from(&stolen);
    });
    let mut bench = Bench {
        log: records,
        ..bench
    };
    bench.restart();
    assert_eq!(bench.coordinator.member_count(), 2);
    assert_eq!(
        code(bench.send(&clients[1].request())),
        ErrorCode::UnknownMember
    );
    bench.restart();
    let [mut a, _, mut c] = clients;
    bench.settle(&mut [&mut a, &mut c]);
    assert_eq!(a.owned.len() + c.owned.len(), 3);
}

#[test]
fn a_pattern_that_this_version_does_not_take_fences_its_member() {
    let (bench, clients) = trio(3);
    let mut records: Vec<_> = bench.coordinator.snapshot().collect();
    change_member(&mut records, clients[2].me.id, |value| {
        value.subscription.pattern = Some("(".to_owned());
    });
    let mut bench = Bench {
        log: records,
        ..bench
    };
    bench.restart();
    assert_eq!(bench.coordinator.member_count(), 2);
}

#[test]
fn a_log_that_has_lost_its_group_still_has_members_and_offsets() {
    let (mut bench, clients) = trio(3);
    let partition = *clients[0].owned.first().expect("it has one");
    bench
        .commit(Some(clients[0].me), &[(partition, 3)])
        .expect("it is its own");
    let lost = |record: &GroupRecord| !matches!(record, GroupRecord::Group { .. });
    bench.log = bench.coordinator.snapshot().filter(lost).collect();
    assert_eq!(bench.restart(), 1);
    assert_eq!(bench.coordinator.member_count(), 3);
    assert_eq!(bench.committed(partition), Some(3));
    let newest = clients.iter().map(|client| client.me.generation).max();
    assert!(Some(bench.coordinator.groups["g"].generation) >= newest);
}

#[test]
fn a_snapshot_makes_the_same_coordinator() {
    let (mut bench, clients) = trio(5);
    let partition = *clients[2].owned.first().expect("it has one");
    bench
        .commit(Some(clients[2].me), &[(partition, 3)])
        .expect("it is its own");
    let snapshot: Vec<_> = bench.coordinator.snapshot().collect();
    assert_eq!(snapshot.len(), bench.coordinator.live_records());
    let bytes = bench.coordinator.memory_bytes();
    bench.log.clone_from(&snapshot);
    assert_eq!(bench.restart(), 0);
    assert_eq!(bench.coordinator.snapshot().collect::<Vec<_>>(), snapshot);
    assert_eq!(bench.coordinator.memory_bytes(), bytes);
}

#[test]
fn what_is_told_of_a_group_is_the_same_before_and_after() {
    let (mut bench, clients) = trio(5);
    let partition = *clients[2].owned.first().expect("it has one");
    bench
        .commit(Some(clients[2].me), &[(partition, 3)])
        .expect("it is its own");
    let request = corelane_protocol::request::DescribeGroupRequest {
        group: "g".to_owned(),
    };
    let before = bench
        .coordinator
        .describe(&bench.topics, &request)
        .expect("it is there");
    assert_eq!(
        before.state,
        corelane_protocol::response::GroupState::Stable
    );
    assert_eq!(before.assignor, "sticky");
    assert_eq!((before.members.len(), before.partitions.len()), (3, 5));
    assert!(
        before
            .partitions
            .iter()
            .all(|one| one.owner.is_some() && one.name == "orders")
    );
    assert!(
        before
            .members
            .iter()
            .all(|member| member.assigned == member.target)
    );
    let listed = bench.coordinator.list();
    assert_eq!((listed[0].members, listed[0].offsets), (3, 1));
    let committed: Vec<_> = bench.coordinator.committed_offsets().collect();
    assert_eq!(committed, [("g", partition, Offset::new(3))]);
    bench.restart();
    assert_eq!(
        bench.coordinator.describe(&bench.topics, &request),
        Ok(before)
    );
    assert_eq!(bench.coordinator.list(), listed);
}
