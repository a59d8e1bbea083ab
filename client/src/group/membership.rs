//! What a member of a group does when: heartbeats, letting go, taking, leaving.
//!
//! Owns: the member's generation, the partitions that it holds, and how long it may go on without the coordinator.
//! Sans-IO: answers and times go in, effects come out. Never: touches sockets, reads a clock or draws a random number.
//!
//! Partitions change hands in this order. An answer says all that the member may hold. What it holds beyond that is let
//! go first ([`Effect::Revoke`]); once that is done, a heartbeat says so at once. Only an answer to a heartbeat that
//! told of exactly what is held may give something new ([`Effect::Take`]). A partition counts as held from before it is read
//! until after it was let go, so that the coordinator never gives to another what this member may still read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::request::MemberRef;
use corelane_protocol::response::HeartbeatAnswer;
use corelane_protocol::{ErrorCode, Generation, MemberId, TopicPartition};

use super::effect::{
    Effect, Heartbeat, Loss, MembershipSettings, Partitions, Standing, StepNumber,
};
use crate::backoff::Jitter;
use crate::error::Error;

#[derive(Debug)]
enum Step {
    Revoke(BTreeSet<TopicPartition>),
    Lose,
}

#[derive(Debug)]
struct InFlight {
    number: u64,
    sent_at: Duration,
    /// What was held when it was sent, as [`Membership::held_version`] counts.
    held_version: u64,
}

#[derive(Debug)]
pub(super) struct Membership {
    settings: MembershipSettings,
    jitter: Jitter,
    standing: Standing,
    member: MemberRef,
    /// Everything that is read, or may still be worked on.
    held: Partitions,
    /// Changes with every change of what is held.
    held_version: u64,
    /// What the coordinator allows, if it has said so about what is held now.
    allowed: Option<Partitions>,
    steps: BTreeMap<StepNumber, Step>,
    next_step: StepNumber,
    in_flight: Option<InFlight>,
    next_heartbeat: u64,
    heartbeat_at: Duration,
    interval: Duration,
    failures: u32,
    /// From here on the coordinator may have given everything to others.
    session_until: Option<Duration>,
    is_leaving: bool,
    effects: VecDeque<Effect>,
}

/// Heartbeats do not come faster than this, whatever the coordinator says.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

impl Membership {
    /// A member that joins.
    pub(super) fn new(settings: MembershipSettings, id: MemberId) -> Self {
        Self {
            jitter: Jitter::new(settings.seed),
            standing: Standing::Joining,
            member: MemberRef {
                id,
                generation: Generation::NONE,
            },
            held: Partitions::new(),
            held_version: 0,
            allowed: None,
            steps: BTreeMap::new(),
            next_step: 0,
            in_flight: None,
            next_heartbeat: 0,
            heartbeat_at: Duration::ZERO,
            interval: settings.session_timeout,
            failures: 0,
            session_until: None,
            is_leaving: false,
            effects: VecDeque::new(),
            settings,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    pub(super) fn member(&self) -> MemberRef {
        self.member
    }

    /// When the member has to stop by itself, unless the coordinator answers before.
    pub(super) fn session_until(&self) -> Option<Duration> {
        self.session_until
    }

    /// What to do next. `new_id` is the member's id if it has to join anew.
    pub(super) fn next_effect(
        &mut self,
        now: Duration,
        new_id: impl FnOnce() -> MemberId,
    ) -> Option<Effect> {
        if self.session_until.is_some_and(|until| now >= until) {
            self.fall_out(now, Loss::Unreachable, new_id);
        }
        if let Some(effect) = self.effects.pop_front() {
            return Some(effect);
        }
        if self.standing == Standing::Out || self.is_leaving {
            return None;
        }
        self.let_go_and_take();
        if let Some(effect) = self.effects.pop_front() {
            return Some(effect);
        }
        self.heartbeat_if_due(now)
    }

    /// When [`Membership::next_effect`] has to be asked again, if nothing happens before.
    pub(super) fn wake_at(&self) -> Option<Duration> {
        let heartbeat_at = self.may_send().then_some(self.heartbeat_at);
        match (heartbeat_at, self.session_until) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    fn let_go_and_take(&mut self) {
        let closing = self.standing == Standing::Closing;
        let excess: BTreeSet<TopicPartition> = match &self.allowed {
            _ if closing => self.held.keys().copied().collect(),
            Some(allowed) => {
                let held = self.held.keys().copied();
                held.filter(|partition| !allowed.contains_key(partition))
                    .collect()
            }
            None => BTreeSet::new(),
        };
        let is_let_go = |partition: &TopicPartition| {
            let mut steps = self.steps.values();
            steps.any(|step| matches!(step, Step::Revoke(these) if these.contains(partition)))
        };
        let to_revoke: BTreeSet<TopicPartition> = excess
            .iter()
            .copied()
            .filter(|partition| !is_let_go(partition))
            .collect();
        if !to_revoke.is_empty() {
            let number = self.step(Step::Revoke(to_revoke.clone()));
            self.effects.push_back(Effect::Revoke(number, to_revoke));
        }
        if !self.steps.is_empty() {
            return;
        }
        if closing {
            // Everything was let go.
            self.standing = Standing::Out;
            self.leave();
            return;
        }
        let Some(allowed) = &self.allowed else {
            return;
        };
        let to_take: Partitions = allowed
            .iter()
            .filter(|(partition, _)| !self.held.contains_key(partition))
            .map(|(partition, name)| (*partition, Arc::clone(name)))
            .collect();
        if !to_take.is_empty() {
            self.held.extend(to_take.clone());
            self.held_changed();
            // What is allowed is what is held now.
            self.allowed = Some(self.held.clone());
            self.effects.push_back(Effect::Take(to_take));
        }
    }

    /// Whether there may be a heartbeat once it is due.
    fn may_send(&self) -> bool {
        let is_member = match self.standing {
            Standing::Joining | Standing::Member => true,
            Standing::Closing => self.member.generation != Generation::NONE,
            Standing::Out => false,
        };
        is_member && !self.is_leaving && self.in_flight.is_none()
    }

    fn heartbeat_if_due(&mut self, now: Duration) -> Option<Effect> {
        if !self.may_send() || now < self.heartbeat_at {
            return None;
        }
        let number = self.next_heartbeat;
        self.next_heartbeat += 1;
        self.in_flight = Some(InFlight {
            number,
            sent_at: now,
            held_version: self.held_version,
        });
        Some(Effect::Heartbeat(Heartbeat {
            number,
            member: self.member,
            owned: self.held.keys().copied().collect(),
        }))
    }

    fn step(&mut self, step: Step) -> StepNumber {
        let number = self.next_step;
        self.next_step += 1;
        self.steps.insert(number, step);
        number
    }

    fn held_changed(&mut self) {
        self.held_version += 1;
        self.allowed = None;
        self.heartbeat_at = Duration::ZERO;
    }

    fn leave(&mut self) {
        self.in_flight = None;
        self.session_until = None;
        if self.member.generation != Generation::NONE {
            self.is_leaving = true;
            self.effects.push_back(Effect::Leave(self.member));
        }
        self.member.generation = Generation::NONE;
    }

    /// A heartbeat was answered.
    pub(super) fn answered(&mut self, number: u64, answer: HeartbeatAnswer) {
        let Some(sent) = self.in_flight.take_if(|sent| sent.number == number) else {
            return;
        };
        self.failures = 0;
        self.member.generation = answer.generation;
        if self.standing == Standing::Joining {
            self.standing = Standing::Member;
        }
        // The coordinator heard of the member when it was sent, or later.
        self.session_until = Some(sent.sent_at + self.settings.session_timeout);
        let interval = Duration::from_millis(u64::from(answer.heartbeat_interval_ms));
        let longest = (self.settings.session_timeout / 3).max(INTERVAL_MIN);
        self.interval = interval.clamp(INTERVAL_MIN, longest);
        if sent.held_version != self.held_version {
            // It is about what was held then. The next heartbeat, which is due, tells what is held now.
            return;
        }
        self.heartbeat_at = sent.sent_at + self.interval;
        self.allowed = Some(match answer.assignment {
            None => self.held.clone(),
            Some(topics) => {
                let mut allowed = Partitions::new();
                for topic in topics {
                    let name: Arc<str> = topic.name.into();
                    for partition in topic.partitions {
                        let partition = TopicPartition::new(topic.topic, partition);
                        allowed.insert(partition, Arc::clone(&name));
                    }
                }
                allowed
            }
        });
    }

    /// A heartbeat was refused, or its answer is lost. True if the coordinator does not take the member: it is out.
    pub(super) fn failed(
        &mut self,
        now: Duration,
        number: u64,
        error: &Error,
        new_id: impl FnOnce() -> MemberId,
    ) -> bool {
        if self
            .in_flight
            .take_if(|sent| sent.number == number)
            .is_none()
        {
            return false;
        }
        match error.code() {
            Some(ErrorCode::UnknownMember | ErrorCode::StaleGeneration) => {
                if self.member.generation == Generation::NONE {
                    // Not joined, so there is nothing to lose; it may have been asked too early.
                    self.later(now);
                }
                self.fall_out(now, Loss::Fenced, new_id);
                false
            }
            _ if error.is_retriable() => {
                self.later(now);
                false
            }
            _ => {
                self.lose_all(Loss::Refused);
                self.session_until = None;
                self.member.generation = Generation::NONE;
                self.standing = Standing::Out;
                true
            }
        }
    }

    fn later(&mut self, now: Duration) {
        self.failures += 1;
        let wait = self.settings.backoff.after(self.failures, &mut self.jitter);
        self.heartbeat_at = now + wait;
    }

    /// The coordinator has said elsewhere that it does not know the member.
    pub(super) fn fenced(
        &mut self,
        now: Duration,
        member: MemberId,
        new_id: impl FnOnce() -> MemberId,
    ) {
        if self.member.id == member && self.member.generation != Generation::NONE {
            self.fall_out(now, Loss::Fenced, new_id);
        }
    }

    /// The coordinator has said elsewhere that partitions are not the member's.
    pub(super) fn not_assigned(&mut self, partitions: &BTreeSet<TopicPartition>) {
        let lost: BTreeSet<TopicPartition> = partitions
            .iter()
            .copied()
            .filter(|partition| self.held.remove(partition).is_some())
            .collect();
        if !lost.is_empty() {
            self.held_changed();
            let number = self.step(Step::Lose);
            let effect = Effect::Lose(number, lost, Loss::NotAssigned);
            self.effects.push_back(effect);
        }
    }

    /// The member is none any more, as far as it knows: it joins anew, unless it was about to leave.
    fn fall_out(&mut self, now: Duration, loss: Loss, new_id: impl FnOnce() -> MemberId) {
        self.lose_all(loss);
        self.in_flight = None;
        self.session_until = None;
        self.member.generation = Generation::NONE;
        if !self.settings.has_instance {
            self.member.id = new_id();
        }
        if self.standing != Standing::Closing {
            self.standing = Standing::Joining;
        }
        // What failed before is not tried at once.
        self.heartbeat_at = match self.failures {
            0 => now,
            _ => self.heartbeat_at.max(now),
        };
    }

    fn lose_all(&mut self, loss: Loss) {
        let lost: BTreeSet<TopicPartition> = std::mem::take(&mut self.held).into_keys().collect();
        self.held_version += 1;
        self.allowed = None;
        if !lost.is_empty() {
            let number = self.step(Step::Lose);
            self.effects.push_back(Effect::Lose(number, lost, loss));
        }
    }

    /// The shell has done a step.
    pub(super) fn step_done(&mut self, number: StepNumber) {
        let Some(Step::Revoke(partitions)) = self.steps.remove(&number) else {
            return;
        };
        let before = self.held.len();
        self.held
            .retain(|partition, _| !partitions.contains(partition));
        if self.held.len() != before {
            self.held_changed();
        }
    }

    /// A heartbeat is to be sent at once.
    pub(super) fn heartbeat_now(&mut self) {
        self.heartbeat_at = Duration::ZERO;
    }

    /// The program has not asked for records for too long: the member makes room for others.
    pub(super) fn poll_overdue(&mut self) {
        if self.standing != Standing::Member {
            return;
        }
        self.lose_all(Loss::PollOverdue);
        self.standing = Standing::Out;
        self.leave();
    }

    /// The LeaveGroup is over, done or not.
    pub(super) fn has_left(&mut self) {
        self.is_leaving = false;
    }

    /// Joins again after it was out.
    pub(super) fn rejoin(&mut self, now: Duration, new_id: impl FnOnce() -> MemberId) {
        if self.standing != Standing::Out {
            return;
        }
        if !self.settings.has_instance {
            self.member.id = new_id();
        }
        self.standing = Standing::Joining;
        self.failures = 0;
        self.heartbeat_at = now;
    }

    /// Lets everything go and leaves for good; [`Membership::is_gone`] says when that is done.
    pub(super) fn close(&mut self) {
        if self.standing != Standing::Out {
            self.standing = Standing::Closing;
        }
    }

    /// Whether it is out and nothing is left to be done.
    pub(super) fn is_gone(&self) -> bool {
        self.standing == Standing::Out
            && !self.is_leaving
            && self.steps.is_empty()
            && self.effects.is_empty()
    }
}
