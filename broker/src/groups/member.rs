//! One member of a group.
//!
//! Owns what is kept of it, and what it is told. What it may hold is changed by its group alone,
//! which knows who holds what.

use corelane_protocol::request::Subscription;
use corelane_protocol::response::HeartbeatAnswer;
use corelane_protocol::{ApiError, ErrorCode, Generation, MemberId};

use super::assignors::Assignor;
use super::partitions::PartitionSet;
use super::record::MemberValue;
use super::settings::Settings;
use super::{Now, Topics};

/// Roughly the bytes of a member beside its texts and partitions.
const MEMBER_BYTES: usize = 1_000;

/// A member.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) subscription: Subscription,
    pub(super) host: String,
    /// What it was told last. A generation stands for what the member was given with it: within
    /// one, it only lets go.
    pub(super) generation: Generation,
    /// The one before; a member whose answer was lost still sends it.
    pub(super) previous: Generation,
    /// It has left and holds nothing, and will come back under its instance name.
    pub(super) away: bool,
    /// What it may hold.
    pub(super) assigned: PartitionSet,
    /// What it may not hold any more, and has not let go yet.
    pub(super) revoking: PartitionSet,
    /// What it is to hold in the end.
    pub(super) target: PartitionSet,
    pub(super) session_deadline_us: u64,
    /// Until when it has to let go of `revoking`.
    pub(super) rebalance_deadline_us: Option<u64>,
    /// When the alarm that is set for it goes off; not after its deadlines.
    pub(super) alarm_us: Option<u64>,
}

impl Member {
    pub(super) fn new(subscription: Subscription, host: &str, now: Now) -> Self {
        let mut member = Self {
            subscription,
            host: host.to_owned(),
            generation: Generation::NONE,
            previous: Generation::NONE,
            away: false,
            assigned: PartitionSet::default(),
            revoking: PartitionSet::default(),
            target: PartitionSet::default(),
            session_deadline_us: 0,
            rebalance_deadline_us: None,
            alarm_us: None,
        };
        member.seen(now);
        member
    }

    pub(super) fn from_value(value: MemberValue) -> Self {
        let revoking = PartitionSet::from_wire(&value.revoking);
        Self {
            generation: value.generation,
            previous: value.previous.min(value.generation),
            away: value.away,
            assigned: PartitionSet::from_wire(&value.assigned).minus(&revoking),
            revoking,
            ..Self::new(value.subscription, &value.host, Now::ZERO)
        }
    }

    pub(super) fn to_value(&self) -> MemberValue {
        MemberValue {
            subscription: self.subscription.clone(),
            host: self.host.clone(),
            generation: self.generation,
            previous: self.previous,
            away: self.away,
            assigned: self.assigned.to_wire(),
            revoking: self.revoking.to_wire(),
        }
    }

    /// It has been heard of: its session begins anew.
    pub(super) fn seen(&mut self, now: Now) {
        let of_it = if corelane_storage::planted!(SessionEndsEarly) {
            2
        } else {
            1
        };
        self.session_deadline_us = now.after_ms(self.subscription.session_timeout_ms / of_it);
    }

    /// Its time to let go begins anew.
    pub(super) fn must_let_go(&mut self, now: Now) {
        self.rebalance_deadline_us = Some(now.after_ms(self.subscription.rebalance_timeout_ms));
    }

    /// When it is removed unless something happens.
    pub(super) fn deadline_us(&self) -> u64 {
        self.rebalance_deadline_us
            .map_or(self.session_deadline_us, |us| {
                us.min(self.session_deadline_us)
            })
    }

    /// The assignor that it asks for.
    pub(super) fn assignor(&self) -> Assignor {
        let asked = self.subscription.assignor.as_deref();
        asked
            .and_then(|name| Assignor::find(name).ok())
            .unwrap_or_default()
    }

    /// Whether it holds what it should, and knows so, as of the target of `generation`.
    pub(super) fn settled(&self, generation: Generation) -> bool {
        self.generation >= generation && self.holds_target()
    }

    /// Whether it holds what it should and nothing else.
    pub(super) fn holds_target(&self) -> bool {
        self.revoking.is_empty() && self.assigned == self.target
    }

    /// Whether its next heartbeat is wanted soon: it waits for partitions that others have yet to
    /// let go, or others for what is free once it says again that it does not own it.
    fn wanted_soon(&self, owned: &PartitionSet) -> bool {
        match self.revoking.is_empty() {
            true => self.assigned != self.target,
            false => !self.revoking.minus(owned).is_empty(),
        }
    }

    /// What it is told when it says that it holds `owned`.
    pub(super) fn answer(
        &self,
        owned: &PartitionSet,
        settings: &Settings,
        topics: &dyn Topics,
    ) -> HeartbeatAnswer {
        let mut interval_ms =
            (self.subscription.session_timeout_ms / 3).min(settings.heartbeat_interval_ms_max);
        if self.wanted_soon(owned) {
            interval_ms = interval_ms.min(settings.heartbeat_interval_ms_waiting);
        }
        HeartbeatAnswer {
            generation: self.generation,
            heartbeat_interval_ms: interval_ms.max(1),
            assignment: (*owned != self.assigned).then(|| self.assigned.named(topics)),
        }
    }

    /// Roughly the bytes that it takes without its partitions.
    pub(super) fn cost(&self) -> usize {
        MEMBER_BYTES + self.host.len() + subscription_bytes(&self.subscription)
    }
}

/// Roughly the bytes of a subscription.
pub(super) fn subscription_bytes(subscription: &Subscription) -> usize {
    let topics: usize = subscription.topics.iter().map(|name| name.len() + 24).sum();
    let option = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    // The instance is also a key of the group's table of instances.
    topics
        + subscription.client.len()
        + option(&subscription.pattern)
        + option(&subscription.assignor)
        + 2 * option(&subscription.instance)
}

/// The refusal of a member that a group does not have.
pub(super) fn no_such_member(group: &str, id: MemberId) -> ApiError {
    ApiError::new(
        ErrorCode::UnknownMember,
        format!("group {group:?} has no member {id}"),
    )
}
