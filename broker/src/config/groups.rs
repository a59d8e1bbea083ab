//! Settings of consumer groups.

use crate::groups::Settings;

/// What consumer groups may ask for, and what is kept of them. See `docs/corelane.example.toml` for each key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupsConfig {
    /// Partitions of the internal topic, when it is made: groups are spread over them, and so over the cores.
    pub offsets_partitions: u32,
    /// Shortest time without a heartbeat after which a member may ask to be given up, in milliseconds.
    pub session_timeout_ms_min: u32,
    /// Longest such time, in milliseconds.
    pub session_timeout_ms_max: u32,
    /// Longest time that a member may ask for to let go of partitions, in milliseconds.
    pub rebalance_timeout_ms_max: u32,
    /// Longest time between two heartbeats that members are told, in milliseconds.
    pub heartbeat_interval_ms_max: u32,
    /// Members of one group.
    pub members_max: u32,
    /// Memory that the groups of one core may take, in bytes.
    pub memory_bytes_max: u64,
    /// How long offsets are kept once a group has no members, in milliseconds.
    pub offsets_retention_ms: u64,
    /// Records that a log of groups holds at least before a snapshot takes their place.
    pub snapshot_records_min: u32,
}

impl Default for GroupsConfig {
    fn default() -> Self {
        Self {
            offsets_partitions: 16,
            session_timeout_ms_min: 500,
            session_timeout_ms_max: 1_800_000,
            rebalance_timeout_ms_max: 86_400_000,
            heartbeat_interval_ms_max: 3000,
            members_max: 10_000,
            memory_bytes_max: 64 * 1024 * 1024,
            offsets_retention_ms: 7 * 86_400_000,
            snapshot_records_min: 4096,
        }
    }
}

impl GroupsConfig {
    /// What the coordinator of one partition is told, of so many on its core, which share the memory, on a broker
    /// that takes batches of so many bytes: its records have to fit.
    pub fn settings(&self, partitions: usize, batch_bytes_max: u32) -> Settings {
        let defaults = Settings::default();
        let most = usize::try_from(self.memory_bytes_max).expect("a 64-bit machine");
        Settings {
            session_timeout_ms_min: self.session_timeout_ms_min,
            session_timeout_ms_max: self.session_timeout_ms_max,
            rebalance_timeout_ms_max: self.rebalance_timeout_ms_max,
            heartbeat_interval_ms_max: self.heartbeat_interval_ms_max,
            group_members_max: self.members_max as usize,
            memory_bytes_max: most / partitions.max(1),
            offsets_retention_ms: self.offsets_retention_ms,
            subscription_bytes_max: defaults
                .subscription_bytes_max
                .min(batch_bytes_max as usize / 4),
            ..defaults
        }
    }
}
