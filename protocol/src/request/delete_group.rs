//! DeleteGroup: a group without members is forgotten.

use crate::wire::{DecodeError, Reader, Writer};

/// Forgets a group and its offsets; it must have no members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteGroupRequest {
    /// The group.
    pub group: String,
}

impl DeleteGroupRequest {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { group: r.string()? })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.text(&self.group);
    }
}
