//! ReportPositions: what is left for the reader of each partition.

use super::CoreAddress;
use crate::error::ApiError;
use crate::ids::{Offset, TopicPartition};
use crate::wire::{DecodeError, Reader, Writer};

/// The answers, in the order of the request's entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportPositionsResponse {
    /// One for each entry.
    pub entries: Vec<ReportedPosition>,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedPosition {
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset that is kept, or why the position was not noted.
    pub result: Result<Offset, ApiError>,
    /// The core that owns the partition, where that is not the one that the
    /// request came to.
    pub owner: Option<CoreAddress>,
}

/// The fewest bytes of an entry: a partition, an error without message, no owner.
const ENTRY_BYTES_MIN: usize = 20 + 4 + 1;

impl ReportPositionsResponse {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let entries = r.list(ENTRY_BYTES_MIN, |r| {
            Ok(ReportedPosition {
                partition: r.topic_partition()?,
                result: r.result(|r| r.offset())?,
                owner: r.option(CoreAddress::decode)?,
            })
        })?;
        Ok(Self { entries })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.list(&self.entries, |w, entry| {
            w.topic_partition(entry.partition);
            w.result(&entry.result, |w, offset| w.offset(*offset));
            w.option(entry.owner.as_ref(), |w, owner| owner.encode(w));
        });
    }
}
