//! What the answers to requests about consumer groups have in common.

use super::CoreAddress;
use crate::error::ApiError;
use crate::ids::{PartitionIndex, TopicId};
use crate::wire::{DecodeError, Reader, Writer};

/// An answer about one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupAnswer<T> {
    /// The answer, or why there is none.
    pub result: Result<T, ApiError>,
    /// The core that coordinates the group, where that is not the one that the request came to.
    pub owner: Option<CoreAddress>,
}

impl<T> GroupAnswer<T> {
    pub(super) fn decode_with(
        r: &mut Reader<'_>,
        value: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>,
    ) -> Result<Self, DecodeError> {
        Ok(Self {
            result: r.result(value)?,
            owner: r.option(CoreAddress::decode)?,
        })
    }

    pub(super) fn encode_with(&self, w: &mut Writer<'_>, value: impl FnOnce(&mut Writer<'_>, &T)) {
        w.result(&self.result, value);
        w.option(self.owner.as_ref(), |w, owner| owner.encode(w));
    }
}

/// Partitions of one topic, with the topic's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPartitions {
    /// The topic.
    pub topic: TopicId,
    /// Its name.
    pub name: String,
    /// The partitions, in order.
    pub partitions: Vec<PartitionIndex>,
}

impl NamedPartitions {
    /// The fewest bytes: a topic, an empty name, a count.
    pub(super) const BYTES_MIN: usize = 16 + 2 + 4;

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            topic: r.topic_id()?,
            name: r.string()?,
            partitions: r.list(4, |r| r.u32().map(PartitionIndex::new))?,
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.topic_id(self.topic);
        w.text(&self.name);
        w.list(&self.partitions, |w, partition| w.u32(partition.get()));
    }
}
