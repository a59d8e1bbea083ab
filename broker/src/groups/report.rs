//! What watches groups sees of them, some at a time.

use std::ops::Bound;

use corelane_protocol::response::GroupState;
use corelane_protocol::{Generation, Offset, TopicPartition};

use super::Coordinator;
use super::group::Group;

/// A look at one group.
#[derive(Debug, Clone, Copy)]
pub struct GroupView<'a>(&'a Group);

impl Coordinator {
    /// The groups from this name on, in the order of their names.
    pub fn groups_from(&self, name: &str) -> impl Iterator<Item = GroupView<'_>> {
        let from = (Bound::Included(name), Bound::Unbounded);
        self.groups
            .range::<str, _>(from)
            .map(|(_, group)| GroupView(group))
    }

    /// How many committed offsets all groups have together.
    pub fn offset_count(&self) -> usize {
        self.total.offsets
    }
}

impl<'a> GroupView<'a> {
    /// Its name.
    pub fn name(self) -> &'a str {
        &self.0.name
    }

    /// What its members do. Every member is looked at, and whatever each of them holds.
    pub fn state(self) -> GroupState {
        self.0.state()
    }

    /// Its generation.
    pub fn generation(self) -> Generation {
        self.0.generation
    }

    /// How many members it has.
    pub fn member_count(self) -> usize {
        self.0.members.len()
    }

    /// How many partitions its members hold.
    pub fn held_count(self) -> usize {
        self.0.owners.len()
    }

    /// The committed offsets from this partition on, in the order of topics and partitions.
    pub fn offsets_from(
        self,
        partition: TopicPartition,
    ) -> impl Iterator<Item = (TopicPartition, Offset)> + 'a {
        let offsets = self.0.offsets.range(partition..);
        offsets.map(|(partition, committed)| (*partition, committed.offset))
    }
}
