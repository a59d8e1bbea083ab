//! ListGroups: the groups that there are.

use crate::wire::{DecodeError, Reader, Writer};

/// Asks for all groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListGroupsRequest;

impl ListGroupsRequest {
    #[expect(
        clippy::unnecessary_wraps,
        reason = "read like every other request, of which this one has no fields"
    )]
    pub(super) const fn decode(_: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }

    pub(super) const fn encode(self, _: &mut Writer<'_>) {}
}
