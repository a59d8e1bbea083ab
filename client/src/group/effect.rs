//! What a membership is made with, and what it says is to be done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::TopicPartition;
use corelane_protocol::request::MemberRef;

use crate::backoff::Backoff;

/// Partitions, with the names of their topics.
pub(super) type Partitions = BTreeMap<TopicPartition, Arc<str>>;

/// Names a piece of work on partitions that the shell does in the order in which it was asked; what is taken waits for
/// what is let go or lost before.
pub(super) type StepNumber = u64;

/// What decides about a member's times.
#[derive(Debug, Clone)]
pub(super) struct MembershipSettings {
    /// How long the coordinator keeps partitions for a member that it does not hear of.
    pub(super) session_timeout: Duration,
    /// Whether the member has a name under which it comes back; it keeps its id then.
    pub(super) has_instance: bool,
    pub(super) backoff: Backoff,
    pub(super) seed: u64,
}

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Send a heartbeat, and give its outcome to `Membership::answered` or `Membership::failed`. It takes the place
    /// of one that was sent before.
    Heartbeat(Heartbeat),
    /// Let these go: hand nothing out of them any more, have done with what was handed out, commit, tell the listener.
    Revoke(StepNumber, BTreeSet<TopicPartition>),
    /// Find out where to begin, tell the listener, begin to read; each as soon as it can be.
    Take(Partitions),
    /// Hand nothing out of these any more: others may have them by now. Tell the listener.
    Lose(StepNumber, BTreeSet<TopicPartition>, Loss),
    /// Send a LeaveGroup, and call `Membership::has_left` when that is over. No heartbeat is sent until then.
    Leave(MemberRef),
}

/// A heartbeat to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heartbeat {
    pub(super) number: u64,
    pub(super) member: MemberRef,
    pub(super) owned: BTreeSet<TopicPartition>,
}

/// Why partitions were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// The coordinator does not know the member, or not in this generation.
    Fenced,
    /// The coordinator could not be asked for as long as a session lasts.
    Unreachable,
    /// The coordinator says that the partition is not the member's.
    NotAssigned,
    /// The program did not ask for records for too long.
    PollOverdue,
    /// The coordinator refuses the member.
    Refused,
}

/// Where the member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has no generation yet.
    Joining,
    Member,
    /// It lets everything go, to leave.
    Closing,
    /// It sends nothing until `Membership::rejoin`.
    Out,
}
