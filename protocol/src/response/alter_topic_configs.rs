//! AlterTopicConfigs: each topic's id.

use crate::error::ApiError;
use crate::ids::TopicId;
use crate::wire::{DecodeError, Reader, Writer};

/// The answers, in the order of the request's topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlterTopicConfigsResponse {
    /// One for each topic.
    pub topics: Vec<AlteredTopic>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlteredTopic {
    /// The name, as it was asked for.
    pub name: String,
    /// The topic's id, or why nothing of it was changed.
    pub result: Result<TopicId, ApiError>,
}

impl AlterTopicConfigsResponse {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let topics = r.list(6, |r| {
            Ok(AlteredTopic {
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
