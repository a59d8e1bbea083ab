//! ListOffsets: where a log begins and ends.

use crate::ids::{Timestamp, TopicPartition};
use crate::wire::{DecodeError, Reader, Writer};

/// Asks for one offset of each entry's partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOffsetsRequest {
    /// The partitions.
    pub entries: Vec<ListOffsetsEntry>,
}

/// One partition, and which offset of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListOffsetsEntry {
    /// The partition.
    pub partition: TopicPartition,
    /// Which offset.
    pub position: OffsetPosition,
}

/// Which offset of a log; the numbers are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetPosition {
    /// The first record that is kept; on the wire -2.
    Earliest,
    /// The high watermark; on the wire -1.
    Latest,
    /// The first record at or after this time; on the wire its milliseconds,
    /// at least 0.
    Timestamp(Timestamp),
}

/// Bytes of one entry.
const ENTRY_BYTES: usize = 28;

impl ListOffsetsRequest {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let entries = r.list(ENTRY_BYTES, |r| {
            let partition = r.topic_partition()?;
            let position = match r.i64()? {
                -2 => OffsetPosition::Earliest,
                -1 => OffsetPosition::Latest,
                time if time >= 0 => OffsetPosition::Timestamp(Timestamp::new(time)),
                _ => return Err(r.invalid("position")),
            };
            Ok(ListOffsetsEntry {
                partition,
                position,
            })
        })?;
        Ok(Self { entries })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.list(&self.entries, |w, entry| {
            w.topic_partition(entry.partition);
            w.i64(match entry.position {
                OffsetPosition::Earliest => -2,
                OffsetPosition::Latest => -1,
                OffsetPosition::Timestamp(time) => time.get().max(0),
            });
        });
    }
}
