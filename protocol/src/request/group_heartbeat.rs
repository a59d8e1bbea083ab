//! GroupHeartbeat: a member of a consumer group joins, stays, and says what it holds.

use super::MemberRef;
use crate::ids::{Generation, MemberId};
use crate::wire::{DecodeError, NAMES_MAX, Reader, Writer};
use crate::{PartitionIndex, TopicId};

/// Joins a group, or stays in it. Sent every so often, as the answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupHeartbeatRequest {
    /// The group.
    pub group: String,
    /// The member, and its generation; [`Generation::NONE`] joins.
    pub member: MemberRef,
    /// What the member wants; needed to join, and later where it has changed.
    pub subscription: Option<Subscription>,
    /// The partitions that the member holds: none that it has let go, all that it has taken.
    pub owned: Vec<PartitionsOfTopic>,
}

/// What a member wants of a group, and what the group may expect of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The name under which a member that comes back is the same one (static membership).
    pub instance: Option<String>,
    /// The client's name, for people.
    pub client: String,
    /// How long the group waits for a heartbeat, in ms.
    pub session_timeout_ms: u32,
    /// How long the group waits for partitions to be let go, in ms.
    pub rebalance_timeout_ms: u32,
    /// Topics by name; those that do not exist count once they do.
    pub topics: Vec<String>,
    /// Topics by a regular expression that has to match the whole name.
    pub pattern: Option<String>,
    /// How partitions are to be assigned; the broker's default without.
    pub assignor: Option<String>,
}

/// Some partitions of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionsOfTopic {
    /// The topic.
    pub topic: TopicId,
    /// The partitions, each once.
    pub partitions: Vec<PartitionIndex>,
}

impl GroupHeartbeatRequest {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            group: r.string()?,
            member: MemberRef::decode(r)?,
            subscription: r.option(Subscription::decode)?,
            owned: r.list_up_to(
                PartitionsOfTopic::BYTES_MIN,
                NAMES_MAX,
                PartitionsOfTopic::decode,
            )?,
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.text(&self.group);
        self.member.encode(w);
        w.option(self.subscription.as_ref(), |w, wish| wish.encode(w));
        w.names(&self.owned, |w, owned| owned.encode(w));
    }
}

impl Subscription {
    /// Reads it from where [`Subscription::encode`] has written it.
    ///
    /// # Errors
    /// Bytes that do not follow the layout.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            instance: r.option(|r| r.string())?,
            client: r.string()?,
            session_timeout_ms: r.u32()?,
            rebalance_timeout_ms: r.u32()?,
            topics: r.list_up_to(2, NAMES_MAX, |r| r.string())?,
            pattern: r.option(|r| r.string())?,
            assignor: r.option(|r| r.string())?,
        })
    }

    /// Appends it.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.option(self.instance.as_ref(), |w, name| w.text(name));
        w.text(&self.client);
        w.u32(self.session_timeout_ms);
        w.u32(self.rebalance_timeout_ms);
        w.names(&self.topics, |w, name| w.text(name));
        w.option(self.pattern.as_ref(), |w, pattern| w.text(pattern));
        w.option(self.assignor.as_ref(), |w, name| w.text(name));
    }
}

impl PartitionsOfTopic {
    /// The fewest bytes: a topic and a count.
    pub const BYTES_MIN: usize = 20;

    /// Reads it from where [`PartitionsOfTopic::encode`] has written it.
    ///
    /// # Errors
    /// Bytes that do not follow the layout.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            topic: r.topic_id()?,
            partitions: r.list(4, |r| r.u32().map(PartitionIndex::new))?,
        })
    }

    /// Appends it.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.topic_id(self.topic);
        w.list(&self.partitions, |w, partition| w.u32(partition.get()));
    }
}

impl MemberRef {
    /// Reads it from where [`MemberRef::encode`] has written it.
    ///
    /// # Errors
    /// Bytes that do not follow the layout.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: MemberId::new(r.uuid()?),
            generation: Generation::new(r.u32()?),
        })
    }

    /// Appends it.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.uuid(self.id.get());
        w.u32(self.generation.get());
    }
}
