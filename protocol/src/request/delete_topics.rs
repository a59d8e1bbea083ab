//! DeleteTopics.

use crate::wire::{DecodeError, NAMES_MAX, Reader, Writer};

/// Asks to delete topics with all that is in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteTopicsRequest {
    /// The topics' names; each is answered for itself.
    pub names: Vec<String>,
}

impl DeleteTopicsRequest {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            names: r.list_up_to(2, NAMES_MAX, |r| r.string())?,
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.names(&self.names, |w, name| w.text(name));
    }
}
