//! CreateTopics.

use crate::wire::{DecodeError, NAMES_MAX, Reader, Writer};

/// Asks for new topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateTopicsRequest {
    /// The topics; each is answered for itself.
    pub topics: Vec<NewTopic>,
    /// Whether to check only, and create nothing.
    pub validate_only: bool,
}

/// A topic to be created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name, not checked yet.
    pub name: String,
    /// Its number of partitions.
    pub partitions: u32,
    /// Its settings, as key and value.
    pub configs: Vec<(String, String)>,
}

impl CreateTopicsRequest {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let validate_only = r.bool()?;
        let topics = r.list_up_to(10, NAMES_MAX, |r| {
            let name = r.string()?;
            let partitions = r.u32()?;
            let configs = r.list_up_to(4, NAMES_MAX, |r| Ok((r.string()?, r.string()?)))?;
            Ok(NewTopic {
                name,
                partitions,
                configs,
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
            w.u32(topic.partitions);
            w.names(&topic.configs, |w, (key, value)| {
                w.text(key);
                w.text(value);
            });
        });
    }
}
