//! CreatePartitions: more partitions for topics that exist.

use crate::wire::{DecodeError, NAMES_MAX, Reader, Writer};

/// Asks for more partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreatePartitionsRequest {
    /// The topics; each is answered for itself.
    pub topics: Vec<TopicExtension>,
    /// Whether to check only, and create nothing.
    pub validate_only: bool,
}

/// A topic that is to have more partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicExtension {
    /// Its name.
    pub name: String,
    /// The partitions that it is to have in all; more than it has.
    pub total: u32,
}

impl CreatePartitionsRequest {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let validate_only = r.bool()?;
        let topics = r.list_up_to(6, NAMES_MAX, |r| {
            Ok(TopicExtension {
                name: r.string()?,
                total: r.u32()?,
            })
        })?;
        Ok(Self {
            topics,
            validate_only,
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.bool(self.validate_only);
        w.names(&self.topics, |w, topic| {
            w.text(&topic.name);
            w.u32(topic.total);
        });
    }
}
