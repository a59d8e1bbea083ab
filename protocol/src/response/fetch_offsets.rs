//! FetchOffsets: what a group has committed.

use super::GroupAnswer;
use crate::ids::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use crate::wire::{DecodeError, Reader, Writer};

/// The partitions asked for, in order; or all that have an offset.
pub type FetchOffsetsResponse = GroupAnswer<Vec<FetchedOffset>>;

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffset {
    /// The partition.
    pub partition: TopicPartition,
    /// What was committed, if anything.
    pub committed: Option<CommittedOffset>,
}

/// How far a group has come in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The offset of the next record to be read.
    pub offset: Offset,
    /// The leader epoch of the record before it, where the client has said it.
    pub leader_epoch: Option<LeaderEpoch>,
    /// When it was committed, by the broker's clock.
    pub time: Timestamp,
    /// What the client keeps beside it.
    pub metadata: String,
}

/// The fewest bytes of an entry.
const ENTRY_BYTES_MIN: usize = 20 + 1;

impl FetchOffsetsResponse {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::decode_with(r, |r| {
            r.list(ENTRY_BYTES_MIN, |r| {
                Ok(FetchedOffset {
                    partition: r.topic_partition()?,
                    committed: r.option(CommittedOffset::decode)?,
                })
            })
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        self.encode_with(w, |w, entries| {
            w.list(entries, |w, entry| {
                w.topic_partition(entry.partition);
                w.option(entry.committed.as_ref(), |w, committed| committed.encode(w));
            });
        });
    }
}

impl CommittedOffset {
    /// Reads it from where [`CommittedOffset::encode`] has written it.
    ///
    /// # Errors
    /// Bytes that do not follow the layout.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            offset: r.offset()?,
            leader_epoch: r.epoch_option()?,
            time: r.timestamp()?,
            metadata: r.string()?,
        })
    }

    /// Appends it.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.offset(self.offset);
        w.epoch_option(self.leader_epoch);
        w.timestamp(self.time);
        w.text(&self.metadata);
    }
}
