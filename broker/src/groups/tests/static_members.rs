//! Members with an instance name come back as the same.

use super::*;

fn client(n: u128, instance: &str) -> Client {
    let mut wish = wants(&["orders"]);
    wish.instance = Some(instance.to_owned());
    Client::new(n, wish)
}

fn two() -> (Bench, Client, Client) {
    let mut bench = Bench::new();
    bench.topics.create("orders", 4);
    let (mut a, mut b) = (client(1, "left"), client(2, "right"));
    bench.settle(&mut [&mut a, &mut b]);
    assert_eq!((a.owned.len(), b.owned.len()), (2, 2));
    (bench, a, b)
}

#[test]
fn who_returns_under_its_name_takes_over_without_a_rebalance() {
    let (mut bench, a, mut b) = two();
    let generation = bench.coordinator.groups["g"].generation;
    bench.leave(&a, true).expect("it has a name");
    let logged = bench.log.len();
    bench.beat(&mut b);
    assert_eq!(b.owned.len(), 2, "what the other one has stays its own");
    assert_eq!(bench.log.len(), logged);
    let mut again = client(3, "left");
    bench.beat(&mut again);
    assert_eq!(again.owned, a.owned);
    bench.beat(&mut b);
    assert_eq!(bench.coordinator.groups["g"].generation, generation);
    assert_eq!(
        bench.log.len(),
        logged + 2,
        "the old member's end, and the new one"
    );
    assert_eq!(code(bench.send(&a.request())), ErrorCode::UnknownMember);
    assert_eq!(bench.restart(), 0);
    assert_eq!(bench.beat(&mut again).assignment, None);
}

#[test]
fn a_name_in_use_is_refused() {
    let (mut bench, mut a, _) = two();
    assert_eq!(
        code(bench.send(&client(3, "left").request())),
        ErrorCode::InstanceInUse
    );
    assert_eq!(bench.coordinator.member_count(), 2);
    bench.beat(&mut a);
    bench.wait_ms(8_000);
    assert_eq!(
        code(bench.send(&client(3, "left").request())),
        ErrorCode::InstanceInUse
    );
    bench.wait_ms(1_000);
    bench.beat(&mut client(3, "left"));
}

#[test]
fn who_does_not_return_loses_its_partitions_with_its_session() {
    let (mut bench, a, mut b) = two();
    bench.leave(&a, true).expect("it has a name");
    bench
        .leave(&a, true)
        .expect("the answer may have been lost");
    bench.wait_ms(8_000);
    bench.beat(&mut b);
    bench.wait_ms(999);
    assert_eq!(b.owned.len(), 2);
    bench.wait_ms(1);
    bench.beat(&mut b);
    assert_eq!(b.owned.len(), 4);
    assert_eq!(bench.coordinator.member_count(), 1);
}

#[test]
fn who_is_away_neither_commits_nor_speaks() {
    let (mut bench, a, _) = two();
    bench.leave(&a, true).expect("it has a name");
    let partition = *a.owned.first().expect("it had two");
    let commit = bench.commit(Some(a.me), &[(partition, 5)]);
    assert_eq!(code(commit), ErrorCode::UnknownMember);
    assert_eq!(code(bench.send(&a.request())), ErrorCode::UnknownMember);
}

#[test]
fn the_same_member_may_come_back_itself() {
    let (mut bench, mut a, mut b) = two();
    let before = a.clone();
    bench.leave(&a, true).expect("it has a name");
    a.me.generation = Generation::NONE;
    a.owned.clear();
    bench.beat(&mut a);
    assert_eq!(a.owned, before.owned);
    assert!(a.me.generation > before.me.generation);
    let logged = bench.log.len();
    bench.settle(&mut [&mut a, &mut b]);
    assert_eq!(bench.log.len(), logged);
}

#[test]
fn partitions_of_who_is_away_can_become_others() {
    let (mut bench, a, mut b) = two();
    bench.leave(&a, true).expect("it has a name");
    let (mut c, mut d) = (client(3, "third"), client(4, "fourth"));
    bench.beat(&mut c);
    bench.beat(&mut d);
    // Nobody has to wait for the one that is away.
    bench.settle(&mut [&mut b, &mut c, &mut d]);
    let held = [&b, &c, &d].map(|one| one.owned.len());
    assert_eq!(held, [1, 1, 1]);
    let mut again = client(5, "left");
    bench.settle(&mut [&mut again, &mut b, &mut c, &mut d]);
    assert_eq!(again.owned.len(), 1);
    assert!(again.owned.is_subset(&a.owned));
}

#[test]
fn who_returns_with_other_wishes_makes_a_rebalance() {
    let (mut bench, a, mut b) = two();
    let topic = bench.topics.create("payments", 1);
    bench.leave(&a, true).expect("it has a name");
    let mut again = client(3, "left");
    again.subscription.topics = vec!["payments".to_owned()];
    bench.settle(&mut [&mut again, &mut b]);
    assert_eq!(again.owned, BTreeSet::from([at(topic, 0)]));
    assert_eq!(b.owned.len(), 4);
}

#[test]
fn only_who_has_a_name_returns_and_keeps_it() {
    let (mut bench, mut a, _) = two();
    let mut nameless = Client::new(9, wants(&["orders"]));
    bench.beat(&mut nameless);
    assert_eq!(
        code(bench.leave(&nameless, true)),
        ErrorCode::InvalidRequest
    );
    a.subscription.instance = Some("other".to_owned());
    let mut request = a.request();
    request.subscription = Some(a.subscription.clone());
    assert_eq!(code(bench.send(&request)), ErrorCode::InvalidRequest);
}

#[test]
fn a_pattern_outlives_the_member_that_is_replaced() {
    let mut bench = Bench::new();
    bench.topics.create("orders", 2);
    let mut wish = wants(&[]);
    wish.pattern = Some("ord.*".to_owned());
    wish.instance = Some("only".to_owned());
    let mut a = Client::new(1, wish.clone());
    bench.beat(&mut a);
    bench.leave(&a, true).expect("it has a name");
    let mut b = Client::new(2, wish);
    bench.beat(&mut b);
    assert_eq!(b.owned.len(), 2);
    bench.leave(&b, false).expect("it is a member");
    assert_eq!(bench.coordinator.group_count(), 0);
}
