//! CommitOffsets: what was noted.

use super::GroupAnswer;
use crate::error::ApiError;
use crate::ids::TopicPartition;
use crate::wire::{DecodeError, Reader, Writer};

/// One outcome for each entry, in the order of the request.
pub type CommitOffsetsResponse = GroupAnswer<Vec<CommittedEntry>>;

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedEntry {
    /// The partition.
    pub partition: TopicPartition,
    /// That its offset is durable, or why it was not noted.
    pub result: Result<(), ApiError>,
}

/// The fewest bytes of an entry.
const ENTRY_BYTES_MIN: usize = 20 + 2;

impl CommitOffsetsResponse {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::decode_with(r, |r| {
            r.list(ENTRY_BYTES_MIN, |r| {
                Ok(CommittedEntry {
                    partition: r.topic_partition()?,
                    result: r.result(|_| Ok(()))?,
                })
            })
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        self.encode_with(w, |w, entries| {
            w.list(entries, |w, entry| {
                w.topic_partition(entry.partition);
                w.result(&entry.result, |_, ()| {});
            });
        });
    }
}
