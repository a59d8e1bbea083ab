//! A member that lets go late, gives up, and comes back.

use super::*;

/// What a member knows of itself.
#[derive(Debug, Clone)]
pub(super) struct Actor {
    pub(super) group: String,
    pub(super) me: MemberRef,
    pub(super) wish: Subscription,
    /// The broker may not know of it yet.
    pub(super) wish_changed: bool,
    pub(super) owned: BTreeSet<TopicPartition>,
    /// What it was told to let go and still holds.
    pub(super) must_go: BTreeSet<TopicPartition>,
    /// What it was given and has not taken yet.
    pub(super) given: BTreeSet<TopicPartition>,
    /// The request that it waits for, and what it has said to own.
    pub(super) waits_for: Option<(u64, BTreeSet<TopicPartition>)>,
    /// It is gone, and hears nothing.
    pub(super) gone: bool,
}

impl Actor {
    pub(super) fn new(id: MemberId, group: &str, wish: Subscription) -> Self {
        Self {
            group: group.to_owned(),
            me: MemberRef {
                id,
                generation: Generation::NONE,
            },
            wish,
            wish_changed: false,
            owned: BTreeSet::new(),
            must_go: BTreeSet::new(),
            given: BTreeSet::new(),
            waits_for: None,
            gone: false,
        }
    }

    pub(super) fn beat(&mut self, number: u64) -> GroupHeartbeatRequest {
        self.waits_for = Some((number, self.owned.clone()));
        let says = self.wish_changed || self.me.generation == Generation::NONE;
        GroupHeartbeatRequest {
            group: self.group.clone(),
            member: self.me,
            subscription: says.then(|| self.wish.clone()),
            owned: owned_on_wire(&self.owned),
        }
    }

    /// Learns what it may hold. Takes and lets go when it likes.
    pub(super) fn told(&mut self, number: u64, answer: &Result<HeartbeatAnswer, ApiError>) {
        let Some((_, said)) = self
            .waits_for
            .take_if(|(waits_for, _)| *waits_for == number)
        else {
            return;
        };
        match answer {
            Ok(answer) => {
                self.me.generation = answer.generation;
                self.wish_changed = false;
                let may_hold = answer.assignment.as_deref().map_or(said, flat);
                self.given = may_hold.difference(&self.owned).copied().collect();
                self.must_go = self.owned.difference(&may_hold).copied().collect();
            }
            Err(error) => match error.code {
                ErrorCode::UnknownMember | ErrorCode::StaleGeneration => {
                    self.owned.clear();
                    self.must_go.clear();
                    self.given.clear();
                    self.me.generation = Generation::NONE;
                }
                ErrorCode::InstanceInUse => {}
                code => panic!("refused by {code:?}: {error}"),
            },
        }
    }

    pub(super) fn take_up(&mut self) {
        self.owned.append(&mut self.given);
    }

    pub(super) fn let_go(&mut self, partition: TopicPartition) {
        self.must_go.remove(&partition);
        self.owned.remove(&partition);
    }
}
