//! Compaction: of the records with the same key only the last one is kept.
//!
//! Owns what decides: which segments are read for their keys and written anew, and which records stay. Pure;
//! `store::compact` reads and writes. The order of everything that is kept, and every offset, stays as it was.

mod history;
mod keys;
mod plan;

pub use history::{COMPACTED_ENTRIES_MAX, CompactionHistory};
pub(crate) use keys::{KEY_BYTES, LatestOffsets};
pub(crate) use plan::{Plan, SOURCES_MAX, fits_behind, plan};

use corelane_protocol::Offset;
use corelane_protocol::batch::RecordView;

/// Which records stay.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The last offset of each key below `upto`, of those that were read.
    pub(crate) latest: LatestOffsets,
    /// Nothing is known of keys from here on, and everything there stays.
    pub(crate) upto: Offset,
    /// Records below are deleted.
    pub(crate) log_start: Offset,
    /// Below it everything that a record without a value deletes has been gone for long enough.
    pub(crate) tombstones_upto: Offset,
}

impl Rules {
    /// Whether a record stays.
    pub(crate) fn keeps(&self, record: &RecordView<'_>) -> bool {
        if record.offset < self.log_start {
            return false;
        }
        let Some(key) = record.key else {
            // It was in a compressed batch, which the broker does not look into.
            return true;
        };
        if record.offset >= self.upto {
            return true;
        }
        let last = self.latest.get(key);
        let is_latest =
            last.is_none_or(|last| (last <= record.offset) != crate::planted!(LatestLeftOut));
        let may_be_over =
            record.offset < self.tombstones_upto || crate::planted!(TombstoneDroppedEarly);
        let is_over = record.value.is_none() && may_be_over;
        is_latest && !is_over
    }
}
