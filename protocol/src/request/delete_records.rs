//! DeleteRecords: gives up the oldest records of partitions.

use crate::ids::{Offset, TopicPartition};
use crate::wire::{DecodeError, Reader, Writer};

/// Asks to delete records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRecordsRequest {
    /// The partitions; each is answered for itself.
    pub entries: Vec<DeleteRecordsEntry>,
}

/// One partition, and up to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeleteRecordsEntry {
    /// The partition.
    pub partition: TopicPartition,
    /// What is kept begins here.
    pub before: DeleteBefore,
}

/// Up to where records are deleted; the number is Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteBefore {
    /// Everything that can be read now; on the wire -1.
    HighWatermark,
    /// Everything before this offset; on the wire the offset.
    Offset(Offset),
}

/// Bytes of one entry.
const ENTRY_BYTES: usize = 28;

impl DeleteRecordsRequest {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let entries = r.list(ENTRY_BYTES, |r| {
            let partition = r.topic_partition()?;
            let before = match r.i64()? {
                -1 => DeleteBefore::HighWatermark,
                offset => match u64::try_from(offset) {
                    Ok(offset) => DeleteBefore::Offset(Offset::new(offset)),
                    Err(_) => return Err(r.invalid("offset")),
                },
            };
            Ok(DeleteRecordsEntry { partition, before })
        })?;
        Ok(Self { entries })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.list(&self.entries, |w, entry| {
            w.topic_partition(entry.partition);
            match entry.before {
                DeleteBefore::HighWatermark => w.i64(-1),
                DeleteBefore::Offset(offset) => w.offset(offset),
            }
        });
    }
}
