//! The membership by itself: answers and times in, effects out.

use std::collections::BTreeSet;
use std::time::Duration;

use corelane_protocol::request::MemberRef;
use corelane_protocol::response::{HeartbeatAnswer, NamedPartitions};
use corelane_protocol::{ErrorCode, Generation, MemberId, PartitionIndex, TopicId, TopicPartition};

use super::effect::{Effect, Heartbeat, Loss, MembershipSettings, Standing};
use super::membership::Membership;
use crate::backoff::Backoff;
use crate::error::Error;

pub(super) const SESSION_MS: u64 = 300;

pub(super) fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

pub(super) fn id(number: u8) -> MemberId {
    MemberId::new(TopicId::from_bytes([number; 16]).get())
}

pub(super) fn part(index: u32) -> TopicPartition {
    TopicPartition::new(TopicId::NIL, PartitionIndex::new(index))
}

fn parts(indexes: &[u32]) -> BTreeSet<TopicPartition> {
    indexes.iter().map(|index| part(*index)).collect()
}

fn joining(has_instance: bool, seed: u64) -> Membership {
    joining_as(id(1), has_instance, seed)
}

pub(super) fn joining_as(id: MemberId, has_instance: bool, seed: u64) -> Membership {
    let settings = MembershipSettings {
        session_timeout: ms(SESSION_MS),
        has_instance,
        backoff: Backoff {
            min: ms(10),
            max: ms(10),
        },
        seed,
    };
    Membership::new(settings, id)
}

/// Everything to do now. A member that joins anew is number 2.
fn effects(member: &mut Membership, now: u64) -> Vec<Effect> {
    let mut effects = Vec::new();
    while let Some(effect) = member.next_effect(ms(now), || id(2)) {
        effects.push(effect);
    }
    effects
}

/// The heartbeat that is the last thing to do now.
fn beat(member: &mut Membership, now: u64) -> Heartbeat {
    match effects(member, now).pop() {
        Some(Effect::Heartbeat(beat)) => beat,
        other => panic!("a heartbeat, not {other:?}"),
    }
}

fn answer(generation: u32, assignment: Option<&[u32]>) -> HeartbeatAnswer {
    HeartbeatAnswer {
        generation: Generation::new(generation),
        heartbeat_interval_ms: 50,
        assignment: assignment.map(|indexes| named(&parts(indexes))),
    }
}

pub(super) fn named(partitions: &BTreeSet<TopicPartition>) -> Vec<NamedPartitions> {
    vec![NamedPartitions {
        topic: TopicId::NIL,
        name: "t".into(),
        partitions: partitions.iter().map(|part| part.partition).collect(),
    }]
}

pub(super) fn refusal(code: ErrorCode) -> Error {
    Error::refused("heartbeat", code.into())
}

pub(super) fn lost_connection() -> Error {
    Error::ConnectionLost {
        address: "h:0".into(),
        reason: "reset".into(),
    }
}

fn failed(member: &mut Membership, now: u64, number: u64, error: &Error) -> bool {
    member.failed(ms(now), number, error, || id(2))
}

/// A member that holds these partitions, told the coordinator so at 10 ms, and has nothing to do until 60 ms.
fn holding(indexes: &[u32], has_instance: bool) -> Membership {
    let mut member = joining(has_instance, 1);
    let joins = beat(&mut member, 0);
    assert_eq!(joins.member.generation, Generation::NONE);
    member.answered(joins.number, answer(1, Some(indexes)));
    let mut todo = effects(&mut member, 10);
    let Some(Effect::Heartbeat(told)) = todo.pop() else {
        panic!("what is taken is told at once");
    };
    let [Effect::Take(taken)] = &todo[..] else {
        panic!("it takes what it may: {todo:?}");
    };
    assert!(taken.keys().copied().eq(parts(indexes)));
    assert_eq!(told.owned, parts(indexes));
    member.answered(told.number, answer(1, None));
    assert_eq!(effects(&mut member, 20), []);
    member
}

/// The steps among the effects of a heartbeat with this assignment, at 60 ms.
fn told(member: &mut Membership, indexes: &[u32]) -> Vec<Effect> {
    let beat = beat(member, 60);
    member.answered(beat.number, answer(2, Some(indexes)));
    effects(member, 61)
}

#[test]
fn heartbeats_come_as_the_coordinator_says_and_tell_what_is_held() {
    let mut member = holding(&[0, 1], false);
    assert_eq!(member.standing(), Standing::Member);
    assert_eq!(member.wake_at(), Some(ms(60)));
    assert_eq!(
        member.session_until(),
        Some(ms(10 + SESSION_MS)),
        "from when it was sent"
    );
    let regular = beat(&mut member, 60);
    assert_eq!(regular.owned, parts(&[0, 1]));
    assert_eq!(effects(&mut member, 200), [], "one at a time");
    let generation = Generation::new(1);
    assert_eq!(
        regular.member,
        MemberRef {
            id: id(1),
            generation
        }
    );
}

#[test]
fn what_goes_is_let_go_and_told_before_anything_is_taken() {
    let mut member = holding(&[0, 1], false);
    let todo = told(&mut member, &[1, 2]);
    let [Effect::Revoke(step, revoked)] = &todo[..] else {
        panic!("only that: {todo:?}");
    };
    assert_eq!(revoked, &parts(&[0]));
    let meanwhile = beat(&mut member, 110);
    assert_eq!(
        meanwhile.owned,
        parts(&[0, 1]),
        "it is held until it was let go"
    );
    member.step_done(*step);
    member.answered(meanwhile.number, answer(2, Some(&[1, 2])));
    let told = beat(&mut member, 111);
    assert_eq!(told.owned, parts(&[1]), "at once");
    member.answered(told.number, answer(2, Some(&[1, 2])));
    let todo = effects(&mut member, 112);
    assert!(matches!(&todo[0], Effect::Take(taken) if taken.keys().copied().eq(parts(&[2]))));
    assert!(matches!(&todo[1], Effect::Heartbeat(beat) if beat.owned == parts(&[1, 2])));
}

#[test]
fn an_answer_to_what_was_held_before_gives_nothing() {
    let mut member = holding(&[0], false);
    let todo = told(&mut member, &[]);
    let [Effect::Revoke(step, _)] = &todo[..] else {
        panic!("{todo:?}");
    };
    let before = beat(&mut member, 110);
    member.step_done(*step);
    // The coordinator has changed its mind, about a member that still held it.
    member.answered(before.number, answer(3, None));
    let todo = effects(&mut member, 111);
    let [Effect::Heartbeat(now)] = &todo[..] else {
        panic!("it says first that it let go: {todo:?}");
    };
    assert!(now.owned.is_empty());
    member.answered(now.number, answer(3, Some(&[0])));
    assert!(matches!(effects(&mut member, 112)[0], Effect::Take(..)));
}

#[test]
fn more_may_go_while_some_is_on_its_way() {
    let mut member = holding(&[0, 1, 2], false);
    let todo = told(&mut member, &[1, 2]);
    assert!(matches!(&todo[..], [Effect::Revoke(0..9, gone)] if *gone == parts(&[0])));
    let meanwhile = beat(&mut member, 110);
    member.answered(meanwhile.number, answer(3, Some(&[2])));
    let todo = effects(&mut member, 111);
    assert!(
        matches!(&todo[..], [Effect::Revoke(_, gone)] if *gone == parts(&[1])),
        "no partition goes twice: {todo:?}"
    );
}

#[test]
fn what_is_being_taken_may_go_again() {
    let mut member = joining(false, 1);
    let joins = beat(&mut member, 0);
    member.answered(joins.number, answer(1, Some(&[0])));
    let told = beat(&mut member, 1);
    member.answered(told.number, answer(2, Some(&[])));
    let todo = effects(&mut member, 2);
    assert!(matches!(&todo[..], [Effect::Revoke(_, gone)] if *gone == parts(&[0])));
}

#[test]
fn an_answer_that_is_lost_is_asked_for_again() {
    let mut member = holding(&[0], false);
    let first = beat(&mut member, 60);
    assert!(!failed(&mut member, 70, first.number, &lost_connection()));
    let again = member.wake_at().unwrap();
    assert!(again > ms(70) && again <= ms(80));
    let second = beat(&mut member, 80);
    assert_eq!((second.member, second.owned), (first.member, first.owned));
    assert!(
        !failed(&mut member, 81, first.number, &lost_connection()),
        "it is of no interest"
    );
    member.answered(second.number, answer(1, None));
    assert_eq!(member.session_until(), Some(ms(80 + SESSION_MS)));
}

#[test]
fn who_is_fenced_loses_everything_and_joins_anew() {
    for code in [ErrorCode::UnknownMember, ErrorCode::StaleGeneration] {
        for (has_instance, next) in [(false, id(2)), (true, id(1))] {
            let mut member = holding(&[0, 1], has_instance);
            let fenced = beat(&mut member, 60);
            assert!(!failed(&mut member, 61, fenced.number, &refusal(code)));
            let todo = effects(&mut member, 61);
            let [
                Effect::Lose(step, lost, Loss::Fenced),
                Effect::Heartbeat(joins),
            ] = &todo[..]
            else {
                panic!("{todo:?}");
            };
            assert_eq!(lost, &parts(&[0, 1]));
            let generation = Generation::NONE;
            assert_eq!(
                joins.member,
                MemberRef {
                    id: next,
                    generation
                }
            );
            assert!(joins.owned.is_empty());
            member.answered(joins.number, answer(7, Some(&[0])));
            assert_eq!(
                effects(&mut member, 62),
                [],
                "nothing is taken before the loss is told"
            );
            member.step_done(*step);
            assert!(matches!(effects(&mut member, 63)[0], Effect::Take(..)));
        }
    }
}

#[test]
fn a_loss_makes_steps_under_way_void() {
    let mut member = holding(&[0, 1], false);
    let todo = told(&mut member, &[1]);
    let [Effect::Revoke(step, _)] = &todo[..] else {
        panic!("{todo:?}");
    };
    member.fenced(ms(70), id(1), || id(2));
    member.fenced(ms(70), id(1), || id(3));
    let todo = effects(&mut member, 70);
    assert!(matches!(&todo[0], Effect::Lose(_, lost, Loss::Fenced) if *lost == parts(&[0, 1])));
    assert!(matches!(&todo[1], Effect::Heartbeat(joins) if joins.member.id == id(2)));
    member.step_done(*step);
    assert_eq!(effects(&mut member, 71), [], "it had lost that already");
}

#[test]
fn a_session_ends_by_itself() {
    let mut member = holding(&[0], false);
    let mut now = 60;
    while now < 10 + SESSION_MS {
        assert_eq!(member.standing(), Standing::Member);
        let beat = beat(&mut member, now);
        assert!(!failed(&mut member, now, beat.number, &lost_connection()));
        now = u64::try_from(member.wake_at().unwrap().as_millis()).unwrap() + 1;
    }
    let todo = effects(&mut member, 10 + SESSION_MS);
    assert!(matches!(&todo[0], Effect::Lose(_, lost, Loss::Unreachable) if *lost == parts(&[0])));
    assert_eq!(member.standing(), Standing::Joining);
    assert_eq!(member.session_until(), None);
}

#[test]
fn who_is_refused_is_out_until_it_is_told_to_join() {
    let mut member = joining(false, 1);
    let joins = beat(&mut member, 0);
    assert!(failed(
        &mut member,
        1,
        joins.number,
        &refusal(ErrorCode::GroupLimit)
    ));
    assert_eq!(effects(&mut member, 1_000), []);
    assert_eq!(member.wake_at(), None);
    member.rejoin(ms(2_000), || id(2));
    assert_eq!(beat(&mut member, 2_000).member.id, id(2));
}

#[test]
fn a_member_that_is_unknown_before_it_has_joined_is_patient() {
    let mut member = joining(false, 1);
    let joins = beat(&mut member, 0);
    assert!(!failed(
        &mut member,
        1,
        joins.number,
        &refusal(ErrorCode::UnknownMember)
    ));
    assert_eq!(effects(&mut member, 1), []);
    assert_eq!(beat(&mut member, 11).member.generation, Generation::NONE);
}

#[test]
fn a_program_that_does_not_ask_makes_room() {
    let mut member = holding(&[0], false);
    let under_way = beat(&mut member, 60);
    member.poll_overdue();
    let todo = effects(&mut member, 70);
    let [
        Effect::Lose(step, _, Loss::PollOverdue),
        Effect::Leave(left),
    ] = &todo[..]
    else {
        panic!("{todo:?}");
    };
    assert_eq!((left.id, left.generation), (id(1), Generation::new(1)));
    member.answered(under_way.number, answer(1, None));
    member.step_done(*step);
    member.rejoin(ms(80), || id(2));
    assert_eq!(effects(&mut member, 80), [], "not before it has left");
    member.has_left();
    assert_eq!(beat(&mut member, 81).member.id, id(2));
}

#[test]
fn a_partition_that_is_not_the_members_is_lost_alone() {
    let mut member = holding(&[0, 1], false);
    member.not_assigned(&parts(&[1, 5]));
    let todo = effects(&mut member, 30);
    assert!(matches!(&todo[0], Effect::Lose(_, lost, Loss::NotAssigned) if *lost == parts(&[1])));
    assert!(matches!(&todo[1], Effect::Heartbeat(beat) if beat.owned == parts(&[0])));
}

#[test]
fn closing_lets_everything_go_and_then_leaves() {
    let mut member = holding(&[0, 1], false);
    member.close();
    let todo = effects(&mut member, 30);
    let [Effect::Revoke(step, gone)] = &todo[..] else {
        panic!("{todo:?}");
    };
    assert_eq!(gone, &parts(&[0, 1]));
    let meanwhile = beat(&mut member, 60);
    member.answered(meanwhile.number, answer(2, Some(&[0, 1, 2])));
    assert_eq!(effects(&mut member, 61), [], "nothing more is taken");
    member.step_done(*step);
    assert!(matches!(effects(&mut member, 62)[..], [Effect::Leave(_)]));
    assert!(!member.is_gone());
    member.has_left();
    assert!(member.is_gone());
}

#[test]
fn who_is_fenced_while_closing_has_nothing_to_leave() {
    let mut member = holding(&[0], false);
    member.close();
    effects(&mut member, 30);
    let meanwhile = beat(&mut member, 60);
    failed(
        &mut member,
        61,
        meanwhile.number,
        &refusal(ErrorCode::UnknownMember),
    );
    let todo = effects(&mut member, 61);
    let [Effect::Lose(lost, ..)] = &todo[..] else {
        panic!("{todo:?}");
    };
    assert!(!member.is_gone(), "the listener is not done");
    assert_eq!(member.wake_at(), None, "and nothing else is waited for");
    member.step_done(lost - 1);
    member.step_done(*lost);
    assert_eq!(effects(&mut member, 62), []);
    assert!(member.is_gone());
    assert_eq!(member.wake_at(), None);
    let mut unjoined = joining(false, 1);
    unjoined.close();
    assert_eq!(effects(&mut unjoined, 0), []);
    assert!(unjoined.is_gone());
}
