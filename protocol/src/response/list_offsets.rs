//! ListOffsets: one offset for each entry.

use super::CoreAddress;
use crate::error::ApiError;
use crate::ids::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use crate::wire::{DecodeError, Reader, Writer};

/// The offsets, in the order of the request's entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOffsetsResponse {
    /// One for each entry.
    pub entries: Vec<ListedEntry>,
}

/// One partition's offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedEntry {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset, or why there is none.
    pub result: Result<ListedOffset, ApiError>,
    /// The core that owns the partition, where that is not the one that the
    /// request came to.
    pub owner: Option<CoreAddress>,
}

/// An offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset.
    pub offset: Offset,
    /// The time of the record there; -1 where the position was not a time.
    pub timestamp: Timestamp,
    /// The leader's term.
    pub leader_epoch: LeaderEpoch,
}

/// The fewest bytes of an entry: a partition, an error without message, no owner.
const ENTRY_BYTES_MIN: usize = 20 + 4 + 1;

impl ListOffsetsResponse {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let entries = r.list(ENTRY_BYTES_MIN, |r| {
            Ok(ListedEntry {
                partition: r.topic_partition()?,
                result: r.result(ListedOffset::decode)?,
                owner: r.option(CoreAddress::decode)?,
            })
        })?;
        Ok(Self { entries })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.list(&self.entries, |w, entry| {
            w.topic_partition(entry.partition);
            w.result(&entry.result, |w, listed| {
                w.offset(listed.offset);
                w.timestamp(listed.timestamp);
                w.u32(listed.leader_epoch.get());
            });
            w.option(entry.owner.as_ref(), |w, owner| owner.encode(w));
        });
    }
}

impl ListedOffset {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            offset: r.offset()?,
            timestamp: r.timestamp()?,
            leader_epoch: LeaderEpoch::new(r.u32()?),
        })
    }
}
