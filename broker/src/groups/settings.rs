//! The limits of consumer groups.
//!
//! Owns the numbers that a coordinator is made with. Names in messages are those of the
//! configuration (`groups.members_max` and so on).

/// What groups may ask for, and how much is kept for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The shortest session timeout that a member may ask for, in ms.
    pub session_timeout_ms_min: u32,
    /// The longest session timeout that a member may ask for, in ms.
    pub session_timeout_ms_max: u32,
    /// The longest rebalance timeout that a member may ask for, in ms.
    pub rebalance_timeout_ms_max: u32,
    /// The longest time between two heartbeats of a member, in ms; a third of its session timeout
    /// where that is less.
    pub heartbeat_interval_ms_max: u32,
    /// The time between two heartbeats of a member that waits for partitions of others, in ms.
    pub heartbeat_interval_ms_waiting: u32,
    /// The most members of one group.
    pub group_members_max: usize,
    /// The most bytes of state that one coordinator keeps, as it estimates them.
    pub memory_bytes_max: usize,
    /// How long the offsets of a group without members are kept, in ms.
    pub offsets_retention_ms: u64,
    /// The most bytes of text beside a committed offset.
    pub metadata_bytes_max: usize,
    /// The most bytes of names and pattern in one subscription.
    pub subscription_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            session_timeout_ms_min: 1_000,
            session_timeout_ms_max: 1_800_000,
            rebalance_timeout_ms_max: 3_600_000,
            heartbeat_interval_ms_max: 3_000,
            heartbeat_interval_ms_waiting: 200,
            group_members_max: 5_000,
            memory_bytes_max: 256 << 20,
            offsets_retention_ms: 7 * 24 * 3_600_000,
            metadata_bytes_max: 4_096,
            subscription_bytes_max: 256 << 10,
        }
    }
}
