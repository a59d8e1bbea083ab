//! Consumer groups in the state of a broker.

use serde::{Deserialize, Serialize};

/// The consumer groups of a core, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CoreGroupsState {
    /// Groups that it coordinates.
    pub groups: u64,
    /// Their members.
    pub members: u64,
    /// Committed offsets that it keeps.
    pub offsets: u64,
    /// Partitions of the internal topic of groups that it serves.
    pub shards_serving: u64,
    /// Those whose log is being read, or will be.
    pub shards_loading: u64,
    /// Those whose log could not be read or written; it is tried again.
    pub shards_failed: u64,
    /// Changes of groups that raised their generation.
    pub generations: u64,
    /// Members that were removed because their session or their time to let go of partitions was over.
    pub members_expired: u64,
    /// Committed offsets that were accepted.
    pub commits: u64,
    /// Committed offsets that were refused.
    pub commits_refused: u64,
}

/// A consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GroupState {
    /// Its name.
    pub name: String,
    /// The core that coordinates it.
    pub core: u16,
    /// What its members do: `empty` (there are none), `reconciling` or `stable`.
    pub state: String,
    /// Its generation.
    pub generation: u32,
    /// How many members it has.
    pub members: u64,
    /// The partitions that it has committed offsets of, by topic name and number.
    pub partitions: Vec<GroupPartitionState>,
}

/// How far a group has come in a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GroupPartitionState {
    /// Name of the topic.
    pub topic: String,
    /// Number of the partition.
    pub partition: u32,
    /// The offset of the next record that the group wants.
    pub committed: u64,
    /// Records from there to the end of what may be read; nothing where that end is not known.
    pub lag: Option<u64>,
}

impl GroupState {
    /// Its partitions, by topic.
    pub fn topics(&self) -> impl Iterator<Item = &[GroupPartitionState]> {
        self.partitions.chunk_by(|a, b| a.topic == b.topic)
    }
}
