//! Several memberships against a small coordinator, in a world where requests, answers and connections get lost.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::response::HeartbeatAnswer;
use corelane_protocol::{ErrorCode, Generation, MemberId, TopicPartition};

use super::effect::{Effect, Heartbeat, StepNumber};
use super::membership::Membership;
use super::membership_tests::{
    SESSION_MS, id, joining_as, lost_connection, ms, named, part, refusal,
};
use crate::backoff::Jitter;
use crate::error::Error;

/// What a coordinator knows of a member.
struct Known {
    owned: BTreeSet<TopicPartition>,
    granted: BTreeSet<TopicPartition>,
    expires_at: u64,
}

/// Deals six partitions to its members in turn.
#[derive(Default)]
struct Coordinator {
    members: BTreeMap<MemberId, Known>,
}

const PARTITIONS: u32 = 6;

impl Coordinator {
    fn expire(&mut self, now: u64) {
        self.members.retain(|_, known| now < known.expires_at);
    }

    fn heartbeat(&mut self, now: u64, beat: &Heartbeat) -> Result<HeartbeatAnswer, ErrorCode> {
        let me = beat.member.id;
        if beat.member.generation == Generation::NONE {
            assert!(beat.owned.is_empty());
        } else if !self.members.contains_key(&me) {
            return Err(ErrorCode::UnknownMember);
        }
        let fresh = || Known {
            owned: BTreeSet::new(),
            granted: BTreeSet::new(),
            expires_at: 0,
        };
        self.members.entry(me).or_insert_with(fresh);
        let place = self
            .members
            .keys()
            .position(|id| *id == me)
            .expect("just added");
        let count = self.members.len();
        let target = (0..PARTITIONS).filter(|index| *index as usize % count == place);
        let target: BTreeSet<TopicPartition> = target.map(part).collect();
        let others = self.members.iter().filter(|(id, _)| **id != me);
        let taken: BTreeSet<TopicPartition> = others
            .flat_map(|(_, known)| known.owned.union(&known.granted))
            .copied()
            .collect();
        let known = self.members.get_mut(&me).expect("just added");
        known.owned = beat.owned.clone();
        known.granted = target.difference(&taken).copied().collect();
        known.expires_at = now + SESSION_MS;
        Ok(HeartbeatAnswer {
            generation: Generation::new(count as u32),
            heartbeat_interval_ms: 40,
            assignment: (known.granted != known.owned).then(|| named(&known.granted)),
        })
    }
}

/// What happens to a member later.
enum Later {
    Arrives(Heartbeat),
    Answered(u64, HeartbeatAnswer),
    Failed(u64, Error),
    StepDone(StepNumber, BTreeSet<TopicPartition>),
    Left(MemberId),
}

/// A member in a world where things get lost.
struct Living {
    membership: Membership,
    /// What it may be reading, or working on.
    held: BTreeSet<TopicPartition>,
    later: Vec<(u64, Later)>,
    cut_off_until: u64,
    dice: Jitter,
    ids: u8,
}

impl Living {
    fn new(number: u8, seed: u64) -> Self {
        Self {
            membership: joining_as(id(number), false, seed),
            held: BTreeSet::new(),
            later: Vec::new(),
            cut_off_until: 0,
            dice: Jitter::new(seed),
            ids: number,
        }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice.next() % sides
    }

    fn happens(&mut self, now: u64, coordinator: &mut Coordinator, faults: bool) {
        let (due, later) = std::mem::take(&mut self.later)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.later = later;
        let due: Vec<(u64, Later)> = due;
        for (_, event) in due {
            self.take(now, event, coordinator, faults);
        }
        if faults && self.roll(400) == 0 {
            self.cut_off_until = now + self.roll(2 * SESSION_MS);
        }
        loop {
            let fresh = self.ids.wrapping_add(10);
            let mut used = false;
            let effect = self.membership.next_effect(ms(now), || {
                used = true;
                id(fresh)
            });
            if used {
                self.ids = fresh;
            }
            let Some(effect) = effect else {
                return;
            };
            self.carry_out(now, effect);
        }
    }

    fn take(&mut self, now: u64, event: Later, coordinator: &mut Coordinator, faults: bool) {
        match event {
            Later::Arrives(beat) => {
                let arrives = now >= self.cut_off_until && !(faults && self.roll(10) == 0);
                let result = arrives.then(|| coordinator.heartbeat(now, &beat));
                let returns = now >= self.cut_off_until && !(faults && self.roll(10) == 0);
                let number = beat.number;
                let after = 1 + self.roll(4);
                let event = match result.filter(|_| returns) {
                    Some(Ok(answer)) => (now + after, Later::Answered(number, answer)),
                    Some(Err(code)) => (now + after, Later::Failed(number, refusal(code))),
                    None => (now + 50, Later::Failed(number, lost_connection())),
                };
                self.later.push(event);
            }
            Later::Answered(number, answer) => self.membership.answered(number, answer),
            Later::Failed(number, error) => {
                let fresh = self.ids.wrapping_add(10);
                let before = self.membership.member().id;
                self.membership
                    .failed(ms(now), number, &error, || id(fresh));
                if self.membership.member().id != before {
                    self.ids = fresh;
                }
            }
            Later::StepDone(number, let_go) => {
                self.held.retain(|part| !let_go.contains(part));
                self.membership.step_done(number);
            }
            Later::Left(member) => {
                coordinator.members.remove(&member);
                self.membership.has_left();
            }
        }
    }

    fn carry_out(&mut self, now: u64, effect: Effect) {
        let soon = now + 1 + self.roll(30);
        let later = match effect {
            Effect::Heartbeat(beat) => Later::Arrives(beat),
            Effect::Revoke(number, gone) => Later::StepDone(number, gone),
            Effect::Take(taken) => {
                let before = self.held.len();
                self.held.extend(taken.keys().copied());
                assert_eq!(
                    self.held.len(),
                    before + taken.len(),
                    "nothing is taken twice"
                );
                return;
            }
            Effect::Lose(number, lost, _) => {
                self.held.retain(|part| !lost.contains(part));
                Later::StepDone(number, BTreeSet::new())
            }
            Effect::Leave(member) => Later::Left(member.id),
        };
        // Steps are done in order.
        let last_step = self
            .later
            .iter()
            .filter_map(|(at, event)| matches!(event, Later::StepDone(..)).then_some(*at));
        let at = match &later {
            Later::StepDone(..) => soon.max(last_step.max().unwrap_or(0)),
            _ => now + 1 + soon % 4,
        };
        self.later.push((at, later));
    }
}

#[test]
fn no_two_members_hold_a_partition_and_in_the_end_each_is_held() {
    for seed in 0..30 {
        let mut coordinator = Coordinator::default();
        let mut members: Vec<Living> = (0..3)
            .map(|number| Living::new(number, seed * 3 + u64::from(number) + 1))
            .collect();
        for now in 0..4_000 {
            let faults = now < 2_500;
            for (index, member) in members.iter_mut().enumerate() {
                // They join one after the other.
                if now >= index as u64 * 400 {
                    member.happens(now, &mut coordinator, faults);
                }
            }
            let mut held = BTreeSet::new();
            for part in members.iter().flat_map(|member| &member.held) {
                assert!(
                    held.insert(*part),
                    "seed {seed}, {now} ms: {part} is held twice"
                );
            }
            coordinator.expire(now);
            if now == 3_999 {
                assert_eq!(held.len(), PARTITIONS as usize, "seed {seed}");
                let shares = members.iter().map(|member| member.held.len());
                assert!(shares.eq([2; 3]), "seed {seed}");
            }
        }
    }
}
