//! CommitOffsets: how far a group has come.

use super::MemberRef;
use crate::ids::{LeaderEpoch, Offset, TopicPartition};
use crate::wire::{DecodeError, Reader, Writer};

/// Notes how far a group has come, durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitOffsetsRequest {
    /// The group.
    pub group: String,
    /// The member that has come so far. Without, the group must have no members: positions are set
    /// from outside.
    pub member: Option<MemberRef>,
    /// The partitions, each once; each is answered for itself.
    pub entries: Vec<CommitEntry>,
}

/// One partition, and how far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitEntry {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset of the next record to be read.
    pub offset: Offset,
    /// The leader epoch of the record before it, where that is known.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Whatever the client wants to keep beside it, in at most 4,096 bytes.
    pub metadata: String,
}

/// The fewest bytes of an entry.
const ENTRY_BYTES_MIN: usize = 20 + 8 + 4 + 2;

impl CommitOffsetsRequest {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            group: r.string()?,
            member: r.option(MemberRef::decode)?,
            entries: r.list(ENTRY_BYTES_MIN, |r| {
                Ok(CommitEntry {
                    partition: r.topic_partition()?,
                    offset: r.offset()?,
                    leader_epoch: r.epoch_option()?,
                    metadata: r.string()?,
                })
            })?,
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.text(&self.group);
        w.option(self.member.as_ref(), |w, member| member.encode(w));
        w.list(&self.entries, |w, entry| {
            w.topic_partition(entry.partition);
            w.offset(entry.offset);
            w.epoch_option(entry.leader_epoch);
            w.text(&entry.metadata);
        });
    }
}
