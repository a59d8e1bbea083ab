//! Partitions move from member to member, one member after the other.

use super::*;

fn bench(partitions: u32) -> Bench {
    let mut bench = Bench::new();
    bench.topics.create("orders", partitions);
    bench
}

fn client(n: u128) -> Client {
    Client::new(n, wants(&["orders"]))
}

#[test]
fn a_partition_is_given_only_after_it_was_let_go() {
    let mut bench = bench(4);
    let (mut a, mut b) = (client(1), client(2));
    bench.beat(&mut a);
    let answer = bench.beat(&mut b);
    assert!(b.owned.is_empty());
    assert_eq!(answer.heartbeat_interval_ms, 200, "it waits for others");
    // The first is told to let go, and does not at first.
    let told = bench.send(&a.request()).expect("it is a member");
    assert_eq!(told.generation, a.me.generation, "not before it has let go");
    let may_hold = flat(told.assignment.as_deref().expect("it holds too much"));
    assert_eq!(may_hold.len(), 2);
    assert_eq!(
        bench.send(&a.request()),
        Ok(told.clone()),
        "as long as it holds on"
    );
    bench.beat(&mut b);
    assert!(b.owned.is_empty());
    a.apply(&told);
    let answer = bench.beat(&mut a);
    assert_eq!(answer.generation, Generation::new(2));
    assert_eq!(answer.assignment, None);
    let answer = bench.beat(&mut b);
    assert_eq!(answer.heartbeat_interval_ms, 3_000);
    assert_eq!(b.owned.len(), 2);
    assert!(a.owned.is_disjoint(&b.owned));
}

#[test]
fn those_who_wait_get_what_is_free_first_and_the_rest_later() {
    let mut bench = bench(6);
    let (mut a, mut b, mut c) = (client(1), client(2), client(3));
    bench.settle(&mut [&mut a, &mut b]);
    bench.beat(&mut c);
    bench.beat(&mut a);
    bench.beat(&mut a);
    bench.beat(&mut c);
    assert_eq!(c.owned.len(), 1, "what the first has let go");
    let first = c.me.generation;
    bench.beat(&mut b);
    bench.beat(&mut b);
    bench.beat(&mut c);
    assert_eq!(c.owned.len(), 2);
    assert!(
        c.me.generation > first,
        "a generation stands for what was given with it"
    );
    let logged = bench.log.len();
    bench.beat(&mut a);
    bench.beat(&mut b);
    assert_eq!(bench.log.len(), logged, "the others need not follow");
}

#[test]
fn an_old_heartbeat_does_not_free_what_was_given_since() {
    let mut bench = bench(2);
    let (mut a, mut b) = (client(1), client(2));
    bench.beat(&mut a);
    bench.beat(&mut b);
    bench.beat(&mut a);
    // The second waits with nothing; this heartbeat of it stays under way for long.
    let late = b.request();
    bench.beat(&mut a);
    bench.beat(&mut b);
    assert_eq!(b.owned.len(), 1);
    // It wants something else now, and is told to let go of what it has.
    let mut request = b.request();
    request.subscription = Some(wants(&["payments"]));
    let told = bench.send(&request).expect("it is a member");
    assert_eq!(told.assignment, Some(Vec::new()));
    assert_eq!(told.generation, b.me.generation);
    // The late one says that it holds nothing, which was before.
    bench.send(&late).expect("an answer may have been lost");
    bench.beat(&mut a);
    assert_eq!(a.owned.len(), 1, "the other is still held");
    b.apply(&told);
    bench.beat(&mut b);
    bench.beat(&mut a);
    assert_eq!(a.owned.len(), 2);
}

#[test]
fn who_does_not_let_go_in_time_is_removed() {
    let mut bench = bench(2);
    let (mut a, mut b) = (client(1), client(2));
    bench.beat(&mut a);
    bench.beat(&mut b);
    let holds_on = a.request();
    for _ in 0..20 {
        bench.send(&holds_on).expect("it still has time");
        bench.beat(&mut b);
        assert!(b.owned.is_empty());
        bench.wait_ms(1_000);
    }
    assert_eq!(code(bench.send(&holds_on)), ErrorCode::UnknownMember);
    bench.beat(&mut b);
    assert_eq!(b.owned.len(), 2);
}

#[test]
fn who_lets_go_in_time_stays() {
    let mut bench = bench(2);
    let (mut a, mut b) = (client(1), client(2));
    bench.settle(&mut [&mut a, &mut b]);
    for _ in 0..10 {
        bench.wait_ms(5_000);
        bench.beat(&mut a);
        bench.beat(&mut b);
    }
    assert_eq!(bench.coordinator.member_count(), 2);
}

#[test]
fn a_partition_that_comes_back_while_it_is_let_go_is_given_anew() {
    let mut bench = bench(2);
    let (mut a, mut b) = (client(1), client(2));
    bench.beat(&mut a);
    bench.beat(&mut b);
    let told = bench.send(&a.request()).expect("it is a member");
    bench.leave(&b, false).expect("it is a member");
    // Both are its own again, but it may know already that one is not.
    let again = bench.send(&a.request()).expect("it is a member");
    assert_eq!(again.assignment, told.assignment);
    a.apply(&told);
    bench.beat(&mut a);
    assert_eq!(a.owned.len(), 2);
}

#[test]
fn more_members_than_partitions_is_fine() {
    let mut bench = bench(2);
    let (mut a, mut b, mut c) = (client(1), client(2), client(3));
    bench.settle(&mut [&mut a, &mut b, &mut c]);
    let mut held: Vec<usize> = [&a, &b, &c].map(|one| one.owned.len()).into();
    held.sort_unstable();
    assert_eq!(held, [0, 1, 1]);
    let spare = [&mut a, &mut b, &mut c]
        .into_iter()
        .find(|one| one.owned.is_empty());
    let answer = bench.beat(spare.expect("one has none"));
    assert_eq!(answer.heartbeat_interval_ms, 3_000);
    assert_eq!(answer.assignment, None);
}

#[test]
fn all_settle_on_the_generation_of_the_last_change() {
    let mut bench = bench(7);
    let mut clients: Vec<Client> = (1..=4).map(client).collect();
    let mut all: Vec<&mut Client> = clients.iter_mut().collect();
    bench.settle(&mut all);
    let target = bench.coordinator.groups["g"].target_generation;
    assert!(clients.iter().all(|one| one.me.generation >= target));
    let held: usize = clients.iter().map(|one| one.owned.len()).sum();
    assert_eq!(held, 7);
}

#[test]
fn others_hold_on_to_what_is_theirs_while_one_joins() {
    let mut bench = bench(9);
    let (mut a, mut b, mut c) = (client(1), client(2), client(3));
    bench.settle(&mut [&mut a, &mut b]);
    let before = [a.owned.clone(), b.owned.clone()];
    bench.settle(&mut [&mut c, &mut a, &mut b]);
    assert!(a.owned.is_subset(&before[0]) && b.owned.is_subset(&before[1]));
    assert_eq!([a.owned.len(), b.owned.len(), c.owned.len()], [3, 3, 3]);
}
