//! Fetch: reads batches, waiting for them if need be.

use crate::ids::{LeaderEpoch, Offset, TopicPartition};
use crate::wire::{DecodeError, Reader, Writer};

/// Asks for batches of several partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchRequest {
    /// How long to wait until `min_bytes` are there, ms.
    pub max_wait_ms: u32,
    /// Bytes of batches that are worth an answer before the wait ends.
    pub min_bytes: u32,
    /// Bytes of batches that the answer may hold; one batch larger than this is
    /// returned alone and whole.
    pub max_bytes: u32,
    /// The partitions.
    pub entries: Vec<FetchEntry>,
}

/// One partition, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchEntry {
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset wanted; the first batch returned may begin before it.
    pub offset: Offset,
    /// Bytes of this partition that the answer may hold.
    pub max_bytes: u32,
    /// The partition's leader epoch as the reader knows it, if it does.
    pub current_epoch: Option<LeaderEpoch>,
    /// The leader epoch of the last record before `offset` that the reader has read, if it knows: then it is told
    /// where what it read is not what the log holds any more.
    pub last_epoch: Option<LeaderEpoch>,
}

impl FetchEntry {
    /// An entry that says nothing of leader epochs.
    pub const fn new(partition: TopicPartition, offset: Offset, max_bytes: u32) -> Self {
        Self {
            partition,
            offset,
            max_bytes,
            current_epoch: None,
            last_epoch: None,
        }
    }
}

/// Bytes of one entry.
const ENTRY_BYTES: usize = 40;

impl FetchRequest {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (max_wait_ms, min_bytes, max_bytes) = (r.u32()?, r.u32()?, r.u32()?);
        let entries = r.list(ENTRY_BYTES, |r| {
            let partition = r.topic_partition()?;
            let max_bytes = r.u32()?;
            Ok(FetchEntry {
                partition,
                max_bytes,
                offset: r.offset()?,
                current_epoch: r.epoch_option()?,
                last_epoch: r.epoch_option()?,
            })
        })?;
        Ok(Self {
            max_wait_ms,
            min_bytes,
            max_bytes,
            entries,
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.u32(self.max_wait_ms);
        w.u32(self.min_bytes);
        w.u32(self.max_bytes);
        w.list(&self.entries, |w, entry| {
            w.topic_partition(entry.partition);
            w.u32(entry.max_bytes);
            w.offset(entry.offset);
            w.epoch_option(entry.current_epoch);
            w.epoch_option(entry.last_epoch);
        });
    }
}
