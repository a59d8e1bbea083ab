//! LeaveGroup: a member goes, and its partitions are free.

use super::MemberRef;
use crate::wire::{DecodeError, Reader, Writer};

/// Leaves a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveGroupRequest {
    /// The group.
    pub group: String,
    /// The member.
    pub member: MemberRef,
    /// It will come back: what it has stays its own until its session is over. Only for members
    /// with an instance name.
    pub returns: bool,
}

impl LeaveGroupRequest {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            group: r.string()?,
            member: MemberRef::decode(r)?,
            returns: r.bool()?,
        })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.text(&self.group);
        self.member.encode(w);
        w.bool(self.returns);
    }
}
