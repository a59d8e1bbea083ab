//! DescribeGroup: members, assignments and offsets of a group.

use super::{CommittedOffset, GroupAnswer, GroupState, NamedPartitions};
use crate::ids::{Generation, MemberId, Offset, TopicPartition};
use crate::wire::{DecodeError, Reader, Writer};

/// The answer to DescribeGroup.
pub type DescribeGroupResponse = GroupAnswer<GroupDescription>;

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// What it is doing.
    pub state: GroupState,
    /// Its generation, which every change of what members should hold raises.
    pub generation: Generation,
    /// How partitions are assigned.
    pub assignor: String,
    /// Its members, in the order of their ids.
    pub members: Vec<DescribedMember>,
    /// Its partitions: all that have an offset or an owner, in the order of topic names.
    pub partitions: Vec<GroupPartition>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// The member.
    pub id: MemberId,
    /// The name under which it is the same when it comes back.
    pub instance: Option<String>,
    /// The client's name.
    pub client: String,
    /// Where it connects from.
    pub host: String,
    /// The generation that it has reached.
    pub generation: Generation,
    /// Topics that it subscribes to by name.
    pub topics: Vec<String>,
    /// Topics that it subscribes to by a regular expression.
    pub pattern: Option<String>,
    /// What it may hold now.
    pub assigned: Vec<NamedPartitions>,
    /// What it is to hold in the end.
    pub target: Vec<NamedPartitions>,
}

/// How a group stands in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPartition {
    /// The topic's name; empty where the topic is gone.
    pub name: String,
    /// The partition.
    pub partition: TopicPartition,
    /// The member that holds it.
    pub owner: Option<MemberId>,
    /// What was committed.
    pub committed: Option<CommittedOffset>,
    /// Where records end that consumers may read, where that could be asked.
    pub high_watermark: Option<Offset>,
}

impl GroupPartition {
    /// How many records the group has yet to read, where it has committed and the partition could
    /// be asked.
    pub fn lag(&self) -> Option<u64> {
        let committed = self.committed.as_ref()?.offset;
        let end = self.high_watermark?;
        Some(end.get().saturating_sub(committed.get()))
    }
}

/// The fewest bytes of a member: an id, empty texts and lists.
const MEMBER_BYTES_MIN: usize = 16 + 1 + 2 + 2 + 4 + 4 + 1 + 4 + 4;
/// The fewest bytes of a partition: an empty name, the partition, nothing known.
const PARTITION_BYTES_MIN: usize = 2 + 20 + 1 + 1 + 1;

impl DescribeGroupResponse {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::decode_with(r, |r| {
            Ok(GroupDescription {
                state: GroupState::decode(r)?,
                generation: Generation::new(r.u32()?),
                assignor: r.string()?,
                members: r.list(MEMBER_BYTES_MIN, DescribedMember::decode)?,
                partitions: r.list(PARTITION_BYTES_MIN, GroupPartition::decode)?,
            })
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        self.encode_with(w, |w, group| {
            group.state.encode(w);
            w.u32(group.generation.get());
            w.text(&group.assignor);
            w.list(&group.members, |w, member| member.encode(w));
            w.list(&group.partitions, |w, partition| partition.encode(w));
        });
    }
}

impl DescribedMember {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: MemberId::new(r.uuid()?),
            instance: r.option(|r| r.string())?,
            client: r.string()?,
            host: r.string()?,
            generation: Generation::new(r.u32()?),
            topics: r.list(2, |r| r.string())?,
            pattern: r.option(|r| r.string())?,
            assigned: r.list(NamedPartitions::BYTES_MIN, NamedPartitions::decode)?,
            target: r.list(NamedPartitions::BYTES_MIN, NamedPartitions::decode)?,
        })
    }

    fn encode(&self, w: &mut Writer<'_>) {
        w.uuid(self.id.get());
        w.option(self.instance.as_ref(), |w, name| w.text(name));
        w.text(&self.client);
        w.text(&self.host);
        w.u32(self.generation.get());
        w.list(&self.topics, |w, name| w.text(name));
        w.option(self.pattern.as_ref(), |w, pattern| w.text(pattern));
        w.list(&self.assigned, |w, topic| topic.encode(w));
        w.list(&self.target, |w, topic| topic.encode(w));
    }
}

impl GroupPartition {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: r.string()?,
            partition: r.topic_partition()?,
            owner: r.option(|r| r.uuid().map(MemberId::new))?,
            committed: r.option(CommittedOffset::decode)?,
            high_watermark: r.option(|r| r.offset())?,
        })
    }

    fn encode(&self, w: &mut Writer<'_>) {
        w.text(&self.name);
        w.topic_partition(self.partition);
        w.option(self.owner.as_ref(), |w, owner| w.uuid(owner.get()));
        w.option(self.committed.as_ref(), |w, committed| committed.encode(w));
        w.option(self.high_watermark.as_ref(), |w, offset| w.offset(*offset));
    }
}
