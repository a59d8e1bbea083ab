//! CreateTopics: each topic's id.

use crate::error::ApiError;
use crate::ids::TopicId;
use crate::wire::{DecodeError, Reader, Writer};

/// The answers, in the order of the request's topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateTopicsResponse {
    /// One for each topic.
    pub topics: Vec<CreatedTopic>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// The name, as it was asked for.
    pub name: String,
    /// The id ([`TopicId::NIL`] where it was only validated), or why not.
    pub result: Result<TopicId, ApiError>,
}

impl CreateTopicsResponse {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let topics = r.list(6, |r| {
            Ok(CreatedTopic {
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
