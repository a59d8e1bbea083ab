//! LeaveGroup and DeleteGroup: done, or why not.

use super::GroupAnswer;
use crate::wire::{DecodeError, Reader, Writer};

/// The answer to LeaveGroup and to DeleteGroup.
pub type GroupDoneResponse = GroupAnswer<()>;

impl GroupDoneResponse {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::decode_with(r, |_| Ok(()))
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        self.encode_with(w, |_, ()| {});
    }
}
