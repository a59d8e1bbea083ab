//! CreatePartitions: each topic's id.

use crate::error::ApiError;
use crate::ids::TopicId;
use crate::wire::{DecodeError, Reader, Writer};

/// The answers, in the order of the request's topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreatePartitionsResponse {
    /// One for each topic.
    pub topics: Vec<ExtendedTopic>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedTopic {
    /// The name, as it was asked for.
    pub name: String,
    /// The topic's id, or why it got no more partitions.
    pub result: Result<TopicId, ApiError>,
}

impl CreatePartitionsResponse {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let topics = r.list(6, |r| {
            Ok(ExtendedTopic {
                name: r.string()?,
                result: r.result(|r| r.topic_id())?,
            })
        })?;
        Ok(Self { topics })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.list(&self.topics, |w, topic| {
            w.text(&topic.name);
            w.result(&topic.result, |w, id| w.topic_id(*id));
        });
    }
}
