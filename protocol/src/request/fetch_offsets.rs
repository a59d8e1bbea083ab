//! FetchOffsets: how far a group has come, as it was committed.

use crate::ids::TopicPartition;
use crate::wire::{DecodeError, Reader, Writer};

/// Asks how far a group has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchOffsetsRequest {
    /// The group.
    pub group: String,
    /// The partitions, each once, or all that the group has committed.
    pub partitions: Option<Vec<TopicPartition>>,
}

impl FetchOffsetsRequest {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            group: r.string()?,
            partitions: r.option(|r| r.list(20, |r| r.topic_partition()))?,
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.text(&self.group);
        w.option(self.partitions.as_ref(), |w, partitions| {
            w.list(partitions, |w, partition| w.topic_partition(*partition));
        });
    }
}
