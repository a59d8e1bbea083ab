//! AlterTopicConfigs: changes settings of topics that exist.

use crate::wire::{DecodeError, NAMES_MAX, Reader, Writer};

/// Asks for other settings of topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlterTopicConfigsRequest {
    /// The topics; each is answered for itself.
    pub topics: Vec<TopicAlteration>,
    /// Whether to check only, and change nothing.
    pub validate_only: bool,
}

/// What is to change of one topic: all of it, or nothing if any of it cannot be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicAlteration {
    /// The topic's name.
    pub name: String,
    /// Settings that get a value of the topic's own, as key and value.
    pub set: Vec<(String, String)>,
    /// Settings that follow the broker again.
    pub unset: Vec<String>,
}

impl AlterTopicConfigsRequest {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let validate_only = r.bool()?;
        let topics = r.list_up_to(10, NAMES_MAX, |r| {
            Ok(TopicAlteration {
                name: r.string()?,
                set: r.list_up_to(4, NAMES_MAX, |r| Ok((r.string()?, r.string()?)))?,
                unset: r.list_up_to(2, NAMES_MAX, |r| r.string())?,
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
            w.names(&topic.set, |w, (key, value)| {
                w.text(key);
                w.text(value);
            });
            w.names(&topic.unset, |w, key| w.text(key));
        });
    }
}
