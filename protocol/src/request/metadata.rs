//! Metadata: who serves which partition, and where.

use crate::wire::{DecodeError, NAMES_MAX, Reader, Writer};

/// Asks for brokers, cores and topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataRequest {
    /// The topics by name, or `None` for all. Names need not be valid: each is
    /// answered for itself.
    pub topics: Option<Vec<String>>,
}

impl MetadataRequest {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let topics = r.option(|r| r.list_up_to(2, NAMES_MAX, |r| r.string()))?;
        Ok(Self { topics })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.option(self.topics.as_ref(), |w, names| {
            w.names(names, |w, name| w.text(name))
        });
    }
}
