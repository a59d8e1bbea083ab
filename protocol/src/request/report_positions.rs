//! ReportPositions: how far a named reader has come.

use crate::ids::{Offset, TopicPartition};
use crate::wire::{DecodeError, Reader, Writer};

/// Reports how far a reader has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportPositionsRequest {
    /// The reader, by a name that the topics know.
    pub reader: String,
    /// The partitions; each is answered for itself.
    pub entries: Vec<PositionEntry>,
}

/// One partition, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionEntry {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset of the next record that the reader wants: it needs nothing before it any more.
    pub position: Offset,
}

/// Bytes of one entry.
const ENTRY_BYTES: usize = 28;

impl ReportPositionsRequest {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let reader = r.string()?;
        let entries = r.list(ENTRY_BYTES, |r| {
            Ok(PositionEntry {
                partition: r.topic_partition()?,
                position: r.offset()?,
            })
        })?;
        Ok(Self { reader, entries })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.text(&self.reader);
        w.list(&self.entries, |w, entry| {
            w.topic_partition(entry.partition);
            w.offset(entry.position);
        });
    }
}
