//! DescribeGroup: members, assignments and offsets of a group.

use crate::wire::{DecodeError, Reader, Writer};

/// Asks for members and offsets of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribeGroupRequest {
    /// The group.
    pub group: String,
}

impl DescribeGroupRequest {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { group: r.string()? })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.text(&self.group);
    }
}
