//! ListGroups: the groups that there are.

use std::fmt;

use crate::ids::Generation;
use crate::wire::{DecodeError, Reader, Writer};

/// All groups, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListGroupsResponse {
    /// The groups.
    pub groups: Vec<ListedGroup>,
}

/// One group, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its name.
    pub group: String,
    /// What it is doing.
    pub state: GroupState,
    /// Its generation.
    pub generation: Generation,
    /// How many members it has.
    pub members: u32,
    /// Partitions with a committed offset.
    pub offsets: u32,
}

/// What a group is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum GroupState {
    /// It has no members.
    Empty = 0,
    /// Members take or let go of partitions.
    Reconciling = 1,
    /// Every member holds what it should.
    Stable = 2,
}

impl GroupState {
    fn from_u8(number: u8) -> Option<Self> {
        [Self::Empty, Self::Reconciling, Self::Stable]
            .into_iter()
            .find(|state| *state as u8 == number)
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::from_u8(r.u8()?).ok_or_else(|| r.invalid("group state"))
    }

    pub(super) fn encode(self, w: &mut Writer<'_>) {
        w.u8(self as u8);
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Empty => "empty",
            Self::Reconciling => "reconciling",
            Self::Stable => "stable",
        })
    }
}

/// The fewest bytes of an entry.
const ENTRY_BYTES_MIN: usize = 2 + 1 + 4 + 4 + 4;

impl ListGroupsResponse {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let groups = r.list(ENTRY_BYTES_MIN, |r| {
            Ok(ListedGroup {
                group: r.string()?,
                state: GroupState::decode(r)?,
                generation: Generation::new(r.u32()?),
                members: r.u32()?,
                offsets: r.u32()?,
            })
        })?;
        Ok(Self { groups })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.list(&self.groups, |w, group| {
            w.text(&group.group);
            group.state.encode(w);
            w.u32(group.generation.get());
            w.u32(group.members);
            w.u32(group.offsets);
        });
    }
}
