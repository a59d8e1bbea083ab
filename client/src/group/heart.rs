//! The task that keeps a member in its group: carries out what the membership decides.
//!
//! Owns: the heartbeat that is under way and the clock. It goes on whatever the program and its listener do. Never:
//! decides about partitions.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::request::{
    GroupHeartbeatRequest, LeaveGroupRequest, MemberRef, PartitionsOfTopic, Subscription,
};
use corelane_protocol::response::HeartbeatAnswer;
use corelane_protocol::{Generation, MemberId, Request, Response, TopicPartition};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::effect::{Effect, Heartbeat, Standing, StepNumber};
use super::membership::Membership;
use super::steps::Step;
use super::{Group, new_member_id};
use crate::cluster::Repeat;
use crate::error::{Error, Result};

/// What the heart is told.
#[derive(Debug)]
pub(super) enum HeartEvent {
    StepDone(StepNumber),
    /// A commit was refused, since the coordinator does not know this member.
    Fenced(MemberId),
    /// A commit was refused, since the partition is not the member's.
    NotAssigned(TopicPartition),
    /// Send a heartbeat at once, and tell when it was answered.
    Beat(oneshot::Sender<()>),
    Rejoin,
    Close,
}

/// A heartbeat is given up after this part of a session, so that another may be sent in time.
const ATTEMPTS_IN_SESSION: u32 = 3;
const ATTEMPT_TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// The outcome of the heartbeat under way, with its number.
type Beating = Pin<Box<dyn Future<Output = (u64, Result<HeartbeatAnswer>)> + Send>>;
type Leaving = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Heart {
    group: Arc<Group>,
    membership: Membership,
    steps: mpsc::UnboundedSender<Step>,
    started: Instant,
    beating: Option<Beating>,
    leaving: Option<Leaving>,
    /// Who waits for the answer to a heartbeat that was not sent yet, and to the one under way.
    want_beat: Vec<oneshot::Sender<()>>,
    await_beat: Vec<oneshot::Sender<()>>,
    is_closing: bool,
}

/// The task. It ends once the member was closed and has left.
pub(super) async fn run(
    group: Arc<Group>,
    membership: Membership,
    mut events: mpsc::UnboundedReceiver<HeartEvent>,
    steps: mpsc::UnboundedSender<Step>,
) {
    let mut heart = Heart {
        group,
        membership,
        steps,
        started: Instant::now(),
        beating: None,
        leaving: None,
        want_beat: Vec::new(),
        await_beat: Vec::new(),
        is_closing: false,
    };
    loop {
        heart.act();
        if heart.is_closing && heart.membership.is_gone() {
            return;
        }
        let wake_at = heart.wake_at();
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => heart.take_event(event),
                None => return,
            },
            (number, outcome) = wait_for(&mut heart.beating) => {
                heart.beating = None;
                heart.take_outcome(number, outcome);
            }
            () = wait_for(&mut heart.leaving) => {
                heart.leaving = None;
                heart.membership.has_left();
            }
            () = sleep_until(wake_at) => {}
        }
    }
}

/// Waits for what is under way; for ever if nothing is.
async fn wait_for<T>(under_way: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match under_way {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Heart {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn wake_at(&self) -> Option<Instant> {
        let membership = self.membership.wake_at().map(|at| self.started + at);
        let max_poll_interval = self.group.settings.max_poll_interval;
        let overdue = self.group.shared.state().poll_overdue_at(max_poll_interval);
        match (membership, overdue) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Does everything that is to be done now, and makes known where the member stands.
    fn act(&mut self) {
        self.look_at_polls();
        while let Some(effect) = self.membership.next_effect(self.now(), new_member_id) {
            self.carry_out(effect);
        }
        self.publish();
    }

    fn publish(&self) {
        let standing = self.membership.standing();
        let member = self.membership.member();
        let until = self.membership.session_until();
        let session_until = until.map(|until| self.started + until);
        self.group.shared.update(|state| {
            state.standing = standing;
            state.member = member;
            state.session_until = session_until;
        });
    }

    fn look_at_polls(&mut self) {
        let after = self.group.settings.max_poll_interval;
        let overdue = {
            let state = self.group.shared.state();
            let at = state.poll_overdue_at(after);
            at.is_some_and(|at| Instant::now() >= at)
        };
        if overdue && self.membership.standing() == Standing::Member {
            self.membership.poll_overdue();
            self.out(Error::PollOverdue {
                group: self.group.name.clone(),
                after,
            });
        }
    }

    fn out(&self, error: Error) {
        tracing::warn!(group = %self.group.name, %error, "the member is out of its group");
        self.group.shared.update(|state| state.out = Some(error));
    }

    fn carry_out(&mut self, effect: Effect) {
        let step = match effect {
            Effect::Heartbeat(beat) => {
                self.await_beat.append(&mut self.want_beat);
                self.beating = Some(Box::pin(beat_once(Arc::clone(&self.group), beat)));
                return;
            }
            Effect::Leave(member) => {
                self.beating = None;
                self.give_up_beats();
                self.leaving = Some(Box::pin(leave(Arc::clone(&self.group), member)));
                return;
            }
            Effect::Revoke(number, partitions) => {
                self.group.shared.update(|state| state.let_go(&partitions));
                Step::Revoke(number, partitions)
            }
            Effect::Take(partitions) => {
                let taken = self.group.shared.update(|state| state.take(&partitions));
                Step::Take(taken)
            }
            Effect::Lose(number, partitions, loss) => {
                tracing::warn!(group = %self.group.name, ?loss, "partitions were lost");
                let lost = self.group.shared.update(|state| state.lose(&partitions));
                Step::Lose(number, lost, loss)
            }
        };
        // Both tasks end together.
        let _ = self.steps.send(step);
    }

    /// There is no generation to catch up with.
    fn give_up_beats(&mut self) {
        self.await_beat.clear();
        self.want_beat.clear();
    }

    fn take_event(&mut self, event: HeartEvent) {
        match event {
            HeartEvent::StepDone(number) => self.membership.step_done(number),
            HeartEvent::Fenced(member) => {
                self.membership.fenced(self.now(), member, new_member_id);
            }
            HeartEvent::NotAssigned(partition) => {
                self.membership.not_assigned(&BTreeSet::from([partition]));
            }
            HeartEvent::Beat(reply) => {
                self.want_beat.push(reply);
                self.membership.heartbeat_now();
            }
            HeartEvent::Rejoin => {
                self.membership.rejoin(self.now(), new_member_id);
            }
            HeartEvent::Close => {
                self.is_closing = true;
                self.membership.close();
            }
        }
    }

    fn take_outcome(&mut self, number: u64, outcome: Result<HeartbeatAnswer>) {
        match outcome {
            Ok(answer) => {
                self.membership.answered(number, answer);
                self.group.shared.state().last_failure = None;
                // Whoever waited for the generation is to find it.
                self.publish();
                for waiting in self.await_beat.drain(..) {
                    // Whoever waited may have gone.
                    let _ = waiting.send(());
                }
            }
            Err(error) => {
                tracing::debug!(group = %self.group.name, %error, "a heartbeat failed");
                let now = self.now();
                let is_out = self.membership.failed(now, number, &error, new_member_id);
                if self.membership.member().generation == Generation::NONE {
                    self.give_up_beats();
                } else {
                    self.want_beat.append(&mut self.await_beat);
                }
                self.group.shared.state().last_failure = Some(error.clone());
                if is_out {
                    self.out(error);
                }
            }
        }
    }
}

async fn beat_once(group: Arc<Group>, beat: Heartbeat) -> (u64, Result<HeartbeatAnswer>) {
    let settings = &group.settings;
    let joins = beat.member.generation == Generation::NONE;
    let request = Request::GroupHeartbeat(GroupHeartbeatRequest {
        group: group.name.clone(),
        member: beat.member,
        subscription: joins.then(|| settings.subscription.clone()),
        owned: by_topic(&beat.owned),
    });
    let part = settings.session_timeout / ATTEMPTS_IN_SESSION;
    let timeout = part
        .max(ATTEMPT_TIMEOUT_MIN)
        .min(group.cluster.config().request_timeout);
    let context = format!("heartbeat of group {}", group.name);
    let read = |response: Response<'_>| match response {
        Response::GroupHeartbeat(answer) => Some(answer),
        _ => None,
    };
    let attempt = group.coordinator.attempt(&request, timeout, &context, read);
    (beat.number, attempt.await)
}

fn by_topic(owned: &BTreeSet<TopicPartition>) -> Vec<PartitionsOfTopic> {
    let mut topics: Vec<PartitionsOfTopic> = Vec::new();
    for partition in owned {
        match topics.last_mut() {
            Some(topic) if topic.topic == partition.topic => {
                topic.partitions.push(partition.partition);
            }
            _ => topics.push(PartitionsOfTopic {
                topic: partition.topic,
                partitions: vec![partition.partition],
            }),
        }
    }
    topics
}

/// Leaves, or has tried to: a member that cannot say so is missed after its session timeout.
async fn leave(group: Arc<Group>, member: MemberRef) {
    let Subscription { instance, .. } = &group.settings.subscription;
    let request = Request::LeaveGroup(LeaveGroupRequest {
        group: group.name.clone(),
        member,
        returns: instance.is_some(),
    });
    let context = format!("leave group {}", group.name);
    let read = |response: Response<'_>| match response {
        Response::LeaveGroup(answer) => Some(answer),
        _ => None,
    };
    let left = group
        .coordinator
        .call(&request, Repeat::Safe, &context, read)
        .await;
    if let Err(error) = left {
        tracing::debug!(group = %group.name, %error, "the group will miss the member after its session timeout");
    }
}

impl Group {
    pub(super) fn tell_heart(&self, event: HeartEvent) {
        // Without its heart the member is closed, and nothing has to be done any more.
        let _ = self.heart.send(event);
    }

    /// Has a heartbeat sent, for the member's generation of now. False if the member is none any more.
    pub(super) async fn catch_up(&self) -> bool {
        let (reply, answered) = oneshot::channel();
        self.tell_heart(HeartEvent::Beat(reply));
        let timeout = self.cluster.config().request_timeout;
        matches!(tokio::time::timeout(timeout, answered).await, Ok(Ok(())))
    }
}
