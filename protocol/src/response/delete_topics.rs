//! DeleteTopics: the id that each deleted topic had.

use crate::error::ApiError;
use crate::ids::TopicId;
use crate::wire::{DecodeError, Reader, Writer};

/// The answers, in the order of the request's names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteTopicsResponse {
    /// One for each name.
    pub topics: Vec<DeletedTopic>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedTopic {
    /// The name, as it was asked for.
    pub name: String,
    /// The id that it had, or why it was not deleted.
    pub result: Result<TopicId, ApiError>,
}

impl DeleteTopicsResponse {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let topics = r.list(6, |r| {
            Ok(DeletedTopic {
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
