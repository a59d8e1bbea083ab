//! What a store and each of its partitions can be told.

use corelane_protocol::batch::BatchLimits;

use super::guard::RetentionGuard;
use crate::catalogue::CHECKPOINT_FILES_MAX;
use crate::journal::{CommitPlanner, FIRST_GROUP, JournalLimits, PlannerLimits, group_bytes};
use crate::layout::{BLOCK, block_ceiling};
use crate::position::SEGMENT_DATA;

/// Limits and thresholds of a store. Every size is in bytes.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Bytes of a journal file, a multiple of 4096 and large enough for the largest batch and group.
    pub journal_file_bytes: u64,
    /// The most journal files, from 2 to 128. A restart reads at most all of them.
    pub journal_files_max: u32,
    /// A commit group is filled up to this; a single larger batch is a group of its own.
    pub group_bytes_max: usize,
    /// While groups are in flight, the next one waits until so much is there.
    pub group_bytes_min: usize,
    /// The most groups being written at once.
    pub groups_in_flight: usize,
    /// From so many bytes of one partition on, a group leaves them out and writes them to their segment at the same
    /// moment, where that is possible and they are a quarter of what waits.
    pub straight_bytes_min: usize,
    /// `Store::has_room` says no while so many bytes of batches wait for the journal or are being written to it.
    pub queue_bytes_max: usize,
    /// From so many durable bytes on, a partition's tail is written to its segment.
    pub spill_bytes: u64,
    /// The most partitions that are written to their segments in one round, before the catalogue is.
    pub spill_partitions_max: usize,
    /// The most partitions whose segments are written at the same moment.
    pub spills_in_flight: usize,
    /// The largest single write to a segment.
    pub spill_write_bytes: usize,
    /// Steps in which a segment file takes its room on the device.
    pub segment_allocation_bytes: u64,
    /// One entry of a segment's index stands for so many bytes.
    pub index_interval_bytes: u32,
    /// The most segment files held open.
    pub open_files_max: usize,
    /// Bytes of one read from a segment, and how far ahead of a sequential reader is read.
    pub read_window_bytes: usize,
    /// About how many bytes of tails are kept in memory for readers although they are in segments.
    pub tail_cache_bytes: usize,
    /// Bytes of segment data that are kept in memory for readers.
    pub read_cache_bytes: usize,
    /// `close` leaves so much of the journal to be read by the next opening, rather than write a block to
    /// each segment.
    pub close_replay_bytes_max: u64,
    /// A group that only seals the last one is written after so many ms without an append.
    pub seal_after_ms: i64,
    /// Bytes of sealed segments that are read and verified in a second, all of them in turn; 0 for none.
    pub scrub_bytes_per_second: u64,
    /// While less room than this is left on the device, appends are refused; 0 for no such limit.
    pub disk_reserve_bytes: u64,
    /// About how much memory what partitions know of idempotent producers may take; beyond it new ones are refused.
    pub producers_bytes_max: usize,
    /// A producer that has appended nothing to a partition for so many ms is forgotten there.
    pub producer_expiration_ms: i64,
    /// About how much memory compaction may take for the keys that it knows at the same time; what has more keys is
    /// compacted in several passes.
    pub compaction_keys_bytes_max: usize,
    /// Bytes of segments that compaction may read in a second; 0 for no compaction.
    pub compaction_bytes_per_second: u64,
    /// What a batch may be.
    pub batch_limits: BatchLimits,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            journal_file_bytes: 64 << 20,
            journal_files_max: 8,
            group_bytes_max: 1 << 20,
            group_bytes_min: 256 << 10,
            groups_in_flight: 8,
            straight_bytes_min: 256 << 10,
            queue_bytes_max: 8 << 20,
            spill_bytes: 4 << 20,
            spill_partitions_max: 256,
            spills_in_flight: 16,
            spill_write_bytes: 1 << 20,
            segment_allocation_bytes: 64 << 20,
            index_interval_bytes: 64 << 10,
            open_files_max: 512,
            read_window_bytes: 1 << 20,
            tail_cache_bytes: 256 << 20,
            read_cache_bytes: 32 << 20,
            close_replay_bytes_max: 8 << 20,
            seal_after_ms: 100,
            scrub_bytes_per_second: 0,
            disk_reserve_bytes: 0,
            producers_bytes_max: 16 << 20,
            producer_expiration_ms: 86_400_000,
            compaction_keys_bytes_max: 16 << 20,
            compaction_bytes_per_second: 32 << 20,
            batch_limits: BatchLimits::default(),
        }
    }
}

impl StoreConfig {
    /// Says what is impossible about these values, if anything is.
    ///
    /// # Errors
    /// A sentence that names the value and its bounds.
    pub fn check(&self) -> Result<(), String> {
        if !self.journal_file_bytes.is_multiple_of(BLOCK) {
            return Err(format!(
                "journal_file_bytes is {}, not a multiple of {BLOCK}",
                self.journal_file_bytes
            ));
        }
        // A journal with one empty file must take the largest batch, or nothing ever makes room for it.
        let limits = self.journal_limits();
        let largest = CommitPlanner::cost(1, self.batch_limits.batch_bytes_max as usize);
        let needed = FIRST_GROUP + limits.group_bytes_max + limits.needed(largest);
        if self.journal_file_bytes < needed {
            return Err(format!(
                "journal_file_bytes is {}, less than the {needed} that batches of {} bytes and groups of {} need",
                self.journal_file_bytes, self.batch_limits.batch_bytes_max, self.group_bytes_max
            ));
        }
        if !(2..=CHECKPOINT_FILES_MAX as u32).contains(&self.journal_files_max) {
            return Err(format!(
                "journal_files_max is {}, not from 2 to {CHECKPOINT_FILES_MAX}",
                self.journal_files_max
            ));
        }
        let at_least_one = [
            ("groups_in_flight", self.groups_in_flight),
            ("straight_bytes_min", self.straight_bytes_min),
            ("queue_bytes_max", self.queue_bytes_max),
            ("spill_partitions_max", self.spill_partitions_max),
            ("spills_in_flight", self.spills_in_flight),
            ("open_files_max", self.open_files_max),
            ("index_interval_bytes", self.index_interval_bytes as usize),
        ];
        if let Some((name, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{name} is 0"));
        }
        let at_least_a_block = [
            ("spill_write_bytes", self.spill_write_bytes as u64),
            ("segment_allocation_bytes", self.segment_allocation_bytes),
            ("read_window_bytes", self.read_window_bytes as u64),
        ];
        if let Some((name, value)) = at_least_a_block.iter().find(|(_, value)| *value < BLOCK) {
            return Err(format!("{name} is {value}, less than a block of {BLOCK}"));
        }
        Ok(())
    }

    pub(crate) fn journal_limits(&self) -> JournalLimits {
        JournalLimits {
            file_bytes: self.journal_file_bytes,
            files_max: self.journal_files_max as usize,
            group_bytes_max: self.largest_group(),
            group_bytes_target: block_ceiling(self.group_bytes_max as u64),
        }
    }

    pub(crate) fn planner_limits(&self) -> PlannerLimits {
        PlannerLimits {
            group_bytes_min: self.group_bytes_min,
            groups_in_flight: self.groups_in_flight,
        }
    }

    /// Bytes of a group at most, padded.
    fn largest_group(&self) -> u64 {
        let single = group_bytes(1, self.batch_limits.batch_bytes_max as usize);
        single.max(block_ceiling(self.group_bytes_max as u64))
    }
}

/// A partition's own settings, from its topic's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Bytes of a segment, from which on a new one begins: Kafka's `segment.bytes`.
    pub segment_bytes: u64,
    /// Kafka's `flush.messages`: acknowledged from memory, and flushed after so many records.
    pub flush_messages: Option<u64>,
    /// Kafka's `flush.ms`: acknowledged from memory, and flushed after so many ms.
    pub flush_ms: Option<u64>,
    /// Bytes of a batch at most: Kafka's `max.message.bytes`.
    pub batch_bytes_max: u32,
    /// ms after its first append, by the broker's clock, at which a segment takes no more: Kafka's `segment.ms`.
    pub segment_ms: Option<u64>,
    /// The oldest segments are deleted while so many bytes are left without them: Kafka's `retention.bytes`,
    /// for each partition.
    pub retention_bytes: Option<u64>,
    /// ms after its last append, by the broker's clock, at which a segment is deleted: Kafka's `retention.ms`.
    pub retention_ms: Option<u64>,
    /// What retention does about readers that have not come so far. It is not in the catalogue.
    pub guard: RetentionGuard,
    /// Whether and when only the last record of each key is kept. It is not in the catalogue.
    pub compaction: Option<CompactionConfig>,
}

/// How a log is compacted: of the records with the same key only the last one is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionConfig {
    /// ms after its last append, by the broker's clock, in which a segment is not compacted: Kafka's
    /// `min.compaction.lag.ms`.
    pub min_lag_ms: u64,
    /// ms for which a record without a value is kept after everything that it deletes is gone, so that whoever reads
    /// the log meanwhile learns of it: Kafka's `delete.retention.ms`.
    pub delete_retention_ms: u64,
    /// Thousandths of the complete segments' bytes that must be new since the last time: Kafka's
    /// `min.cleanable.dirty.ratio`.
    pub dirty_ratio_min: u16,
}

impl Default for CompactionConfig {
    fn default() -> Self {
        Self {
            min_lag_ms: 0,
            delete_retention_ms: 86_400_000,
            dirty_ratio_min: 500,
        }
    }
}

/// The largest segment: positions in an index have 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 2 << 30;

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            flush_messages: None,
            flush_ms: None,
            segment_ms: None,
            retention_bytes: None,
            retention_ms: None,
            guard: RetentionGuard::default(),
            compaction: None,
            batch_bytes_max: BatchLimits::default().batch_bytes_max,
        }
    }
}

impl LogConfig {
    /// Whether appends are acknowledged before they are flushed.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        self.flush_messages.is_some() || self.flush_ms.is_some()
    }

    /// Where a batch of `len` bytes that would begin at `at` starts a new segment instead.
    pub(crate) fn rolls(&self, at: u64, len: u64) -> bool {
        at > SEGMENT_DATA && at + len > self.segment_bytes.min(SEGMENT_BYTES_MAX)
    }
}
