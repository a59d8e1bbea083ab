//! Assignors by themselves: everything is assigned, it is balanced, and little moves.

use super::super::assignors::{Assignor, Problem, TopicShape};
use super::*;

const ALL: [&str; 4] = ["cores", "range", "round-robin", "sticky"];

/// A problem of topics of these sizes; each member subscribes to these topics.
fn problem(sizes: &[usize], members: &[Vec<usize>]) -> Problem {
    let mut first = 0;
    let shapes = sizes.iter().map(|count| {
        let shape = TopicShape {
            first,
            count: *count,
        };
        first += count;
        shape
    });
    let shapes: Vec<_> = shapes.collect();
    let mut classes: Vec<Vec<usize>> = Vec::new();
    let mut class_of = Vec::new();
    for wanted in members {
        let known = classes.iter().position(|class| class == wanted);
        class_of.push(known.unwrap_or(classes.len()));
        if known.is_none() {
            classes.push(wanted.clone());
        }
    }
    let mut problem = Problem::new(shapes, &classes, class_of);
    for (place, core) in problem.cores.iter_mut().enumerate() {
        *core = CoreId::new((place % 4) as u16);
    }
    problem
}

fn equal(partitions: usize, members: usize) -> Problem {
    problem(&[partitions], &vec![vec![0]; members])
}

fn assign(name: &str, problem: &Problem) -> Vec<Option<usize>> {
    Assignor::find(name).expect("there is one").assign(problem)
}

/// The same question, where everybody holds what it was assigned. Members from `gone` on have left.
fn again(mut next: Problem, owners: &[Option<usize>], gone: usize) -> Problem {
    for (place, owner) in owners.iter().enumerate() {
        next.current[place] = owner.filter(|member| *member < gone);
        next.held[place] = next.current[place].is_some();
    }
    next
}

fn loads(owners: &[Option<usize>], members: usize) -> Vec<usize> {
    let mut loads = vec![0; members];
    owners
        .iter()
        .flatten()
        .for_each(|member| loads[*member] += 1);
    loads
}

fn assert_even(owners: &[Option<usize>], members: usize) {
    assert!(owners.iter().all(Option::is_some));
    let loads = loads(owners, members);
    let most = loads.iter().max().expect("there are members");
    let least = loads.iter().min().expect("there are members");
    assert!(most - least <= 1, "{loads:?}");
}

fn moves(before: &[Option<usize>], after: &[Option<usize>]) -> usize {
    before.iter().zip(after).filter(|(a, b)| a != b).count()
}

#[test]
fn equal_members_get_equally_many() {
    for name in ALL {
        for (partitions, members) in [(0, 1), (1, 1), (7, 3), (3, 7), (64, 8), (101, 10)] {
            let owners = assign(name, &equal(partitions, members));
            assert_even(&owners, members);
        }
    }
}

#[test]
fn nobody_gets_what_it_does_not_want() {
    let mut random = Random(11);
    for round in 0..200 {
        let topics = 1 + random.below(6);
        let sizes: Vec<_> = (0..topics).map(|_| random.below(9)).collect();
        let members: Vec<Vec<usize>> = (0..random.below(7))
            .map(|_| (0..topics).filter(|_| random.one_in(2)).collect())
            .collect();
        let mut asked = problem(&sizes, &members);
        for place in 0..asked.partitions() {
            let holder = random.below(members.len() + 1);
            if holder < members.len() && asked.may_hold(holder, place) {
                asked.current[place] = Some(holder);
                asked.held[place] = random.one_in(2);
            }
        }
        for name in ALL {
            let owners = assign(name, &asked);
            for (place, owner) in owners.iter().enumerate() {
                let anybody = (0..members.len()).any(|member| asked.may_hold(member, place));
                assert_eq!(owner.is_some(), anybody, "{name}, round {round}");
                assert!(owner.is_none_or(|member| asked.may_hold(member, place)));
            }
            if name == "sticky" {
                assert_no_better_place(&asked, &owners);
            }
        }
    }
}

/// No single move makes it more even.
fn assert_no_better_place(asked: &Problem, owners: &[Option<usize>]) {
    let loads = loads(owners, asked.members());
    for (place, owner) in owners.iter().enumerate() {
        let Some(owner) = *owner else { continue };
        for member in (0..loads.len()).filter(|member| asked.may_hold(*member, place)) {
            assert!(loads[owner] <= loads[member] + 1, "{loads:?}");
        }
    }
}

#[test]
fn what_is_asked_again_is_answered_alike() {
    let mut random = Random(5);
    for _ in 0..100 {
        let topics = 1 + random.below(3);
        let sizes: Vec<_> = (0..topics).map(|_| random.below(20)).collect();
        let different = random.one_in(2);
        let all: Vec<usize> = (0..topics).collect();
        let wish = |random: &mut Random| match different {
            true => all.iter().copied().filter(|_| random.one_in(2)).collect(),
            false => all.clone(),
        };
        let members: Vec<Vec<usize>> = (0..1 + random.below(9))
            .map(|_| wish(&mut random))
            .collect();
        for name in ALL {
            let owners = assign(name, &problem(&sizes, &members));
            let next = again(problem(&sizes, &members), &owners, members.len());
            assert_eq!(assign(name, &next), owners, "{name}");
        }
    }
}

#[test]
fn a_join_moves_no_more_than_the_share_of_the_new_member() {
    for (partitions, members) in [(12, 3), (100, 9), (7, 7), (1_000, 999)] {
        let before = assign("sticky", &equal(partitions, members));
        let asked = again(equal(partitions, members + 1), &before, members);
        let after = assign("sticky", &asked);
        assert_even(&after, members + 1);
        assert_eq!(moves(&before, &after), partitions / (members + 1));
    }
}

#[test]
fn a_leave_moves_only_what_the_member_had() {
    for (partitions, members) in [(12, 3), (100, 9), (7, 7), (1_000, 1_000)] {
        let before = assign("sticky", &equal(partitions, members));
        let left = loads(&before, members)[members - 1];
        let asked = again(equal(partitions, members - 1), &before, members - 1);
        let after = assign("sticky", &asked);
        assert_even(&after, members - 1);
        assert_eq!(moves(&before, &after), left);
    }
}

#[test]
fn new_partitions_move_nothing() {
    let before = assign("sticky", &equal(10, 3));
    let mut asked = equal(14, 3);
    asked.current[..10].copy_from_slice(&before);
    asked.held[..10].fill(true);
    let after = assign("sticky", &asked);
    assert_even(&after, 3);
    assert_eq!(after[..10], before);
}

#[test]
fn a_thousand_partitions_of_one_go_to_a_thousand_members() {
    let alone = vec![Some(0); 1_000];
    let asked = again(equal(1_000, 1_000), &alone, 1);
    let after = assign("sticky", &asked);
    assert_even(&after, 1_000);
    assert_eq!(moves(&alone, &after), 999);
}

#[test]
fn what_is_not_held_yet_moves_before_what_is() {
    let mut asked = equal(4, 2);
    asked.current = vec![Some(0); 4];
    asked.held = vec![false, true, true, false];
    let owners = assign("sticky", &asked);
    assert_eq!(owners, [Some(1), Some(0), Some(0), Some(1)]);
}

#[test]
fn members_with_different_wishes_share_as_evenly_as_they_can() {
    // The first wants both topics, the second only the larger one.
    let owners = assign("sticky", &problem(&[2, 6], &[vec![0, 1], vec![1]]));
    assert_eq!(loads(&owners, 2), [4, 4]);
    let owners = assign("sticky", &problem(&[6, 2], &[vec![0, 1], vec![1]]));
    assert_eq!(loads(&owners, 2), [6, 2]);
}

#[test]
fn range_gives_neighbours_and_the_same_numbers_of_each_topic() {
    let both = vec![vec![0, 1]; 2];
    let owners = assign("range", &problem(&[3, 3], &both));
    let one = [Some(0), Some(0), Some(1)];
    assert_eq!(owners, [one, one].concat());
    let owners = assign("range", &problem(&[3, 2], &[vec![0], vec![0, 1]]));
    assert_eq!(owners, [Some(0), Some(0), Some(1), Some(1), Some(1)]);
}

#[test]
fn round_robin_goes_in_a_circle() {
    let both = vec![vec![0, 1]; 3];
    let owners = assign("round-robin", &problem(&[2, 3], &both));
    assert_eq!(owners, [Some(0), Some(1), Some(2), Some(0), Some(1)]);
    let owners = assign(
        "round-robin",
        &problem(&[2, 3], &[vec![0, 1], vec![1], vec![0, 1]]),
    );
    assert_eq!(owners, [Some(0), Some(2), Some(0), Some(1), Some(2)]);
}

/// On how many cores members are, all together; partitions are dealt to four cores.
fn spread(owners: &[Option<usize>]) -> usize {
    let pairs: BTreeSet<_> = owners
        .iter()
        .enumerate()
        .map(|(place, m)| (place % 4, m))
        .collect();
    pairs.len()
}

#[test]
fn cores_keeps_members_on_few_cores() {
    for (partitions, members) in [(16, 4), (64, 8), (40, 5), (24, 2), (13, 3), (1_000, 37)] {
        let before = assign("cores", &equal(partitions, members));
        assert_even(&before, members);
        assert!(
            spread(&before) < 4 + members,
            "{} for {members}",
            spread(&before)
        );
        let asked = again(equal(partitions, members + 1), &before, members);
        let after = assign("cores", &asked);
        assert_even(&after, members + 1);
        assert!(spread(&after) <= 4 + members);
        let sticky = assign("sticky", &asked);
        assert!(spread(&after) <= spread(&sticky));
    }
    assert_eq!(
        spread(&assign("cores", &equal(16, 4))),
        4,
        "one core for each"
    );
    assert_eq!(spread(&assign("cores", &equal(64, 8))), 8);
}

#[test]
fn the_assignor_with_most_votes_is_used() {
    use Assignor::{Cores, Range, RoundRobin, Sticky};
    let elect = |votes: &[Assignor], in_use| Assignor::elect(votes.iter().copied(), in_use);
    assert_eq!(elect(&[], Range), Range);
    assert_eq!(elect(&[Sticky], Range), Sticky);
    assert_eq!(elect(&[Sticky, Range], Range), Range);
    assert_eq!(elect(&[Sticky, RoundRobin], Range), RoundRobin, "by name");
    assert_eq!(elect(&[Sticky, Cores, Sticky], Cores), Sticky);
    let error = Assignor::find("none").expect_err("there is none");
    assert!(error.message.contains("cores, range, round-robin, sticky"));
}
