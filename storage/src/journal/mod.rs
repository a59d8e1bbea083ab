//! The journal: what makes an append durable.
//!
//! Owns the format of groups, the decision when the next one is written and what it holds, and which files
//! hold what. Never does I/O: the store's tasks write what is decided here. Belongs to the core that runs
//! the store.

mod files;
mod format;
mod group;
mod planner;

pub use format::{
    EXTENT_BYTES, Extent, FIRST_GROUP, GROUP_HEADER_BYTES, GROUP_MAGIC, GROUP_SEAL, GroupHeader,
    HeaderError, JOURNAL_MAGIC, JOURNAL_VERSION, JournalHeader, PART_BYTES, PART_IN_SEGMENT,
    PartEntry,
};

pub use files::{ChainPoint, FileId, JournalCheckpoint, JournalFile};

pub(crate) use files::{Arming, CheckpointEffects, JournalFiles, JournalLimits, Placement};
pub(crate) use group::{
    GroupPlace, PartFault, PartOrigin, PendingPart, PlannedPart, decode_directory, encode_group,
    group_bytes, plan_part, verify_extent, verify_part,
};
pub(crate) use planner::{CommitPlanner, PlannerLimits};

/// The path of a journal file.
#[must_use]
pub fn journal_path(store_dir: &str, number: u32) -> String {
    format!("{store_dir}/journal-{number:04}")
}

/// The number in the name of a journal file, if it is one's.
#[must_use]
pub fn journal_number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("journal-")?;
    (digits.len() >= 4 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}
