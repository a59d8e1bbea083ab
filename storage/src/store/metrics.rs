//! What a store counts and times, and what it says about itself to whoever watches it.
//!
//! Owns numbers only. They cost an addition where something happens, and are copied out when they are asked for.

use corelane_protocol::{LeaderEpoch, Offset, StoreId, TopicPartition};

use super::partition::Partition;
use super::state::State;
use super::{LogOffsets, ReaderState, Store};
use crate::disk::Disk;
use crate::distribution::Distribution;
use crate::position::SEGMENT_DATA;

/// What the store has done since it was opened.
#[derive(Debug)]
pub(crate) struct Meters {
    /// Bytes of groups in the journal, with their padding.
    group_bytes: Distribution,
    /// From the first batch that was due after the group before, until the group was built, µs.
    group_wait: Distribution,
    /// From the beginning of a group's durable write to its end, µs.
    group_write: Distribution,
    /// When the first batch became due that is in no group, by the disk's clock.
    waiting_since_us: Option<u64>,
    pub(crate) groups_in_flight: usize,
    pub(crate) straight_parts: u64,
    pub(crate) straight_bytes: u64,
    pub(crate) spills: u64,
    pub(crate) spilled_bytes: u64,
    pub(crate) scrubbed_bytes: u64,
    pub(crate) scrubbed_segments: u64,
    pub(crate) damage_found: u64,
    pub(crate) compaction: CompactionMeters,
    /// Weak partitions that may have lost records at the opening.
    pub(crate) weak_losses: usize,
}

/// What compaction has done since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionMeters {
    /// Passes over a partition that have ended.
    pub passes: u64,
    /// Bytes of segments that were read, to learn their keys and to write them anew.
    pub read_bytes: u64,
    /// Bytes of segments that were written in their place.
    pub written_bytes: u64,
    /// Records that were left out.
    pub records_removed: u64,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            group_bytes: Distribution::of_bytes(),
            group_wait: Distribution::of_micros(),
            group_write: Distribution::of_micros(),
            waiting_since_us: None,
            groups_in_flight: 0,
            straight_parts: 0,
            straight_bytes: 0,
            spills: 0,
            spilled_bytes: 0,
            scrubbed_bytes: 0,
            scrubbed_segments: 0,
            damage_found: 0,
            compaction: CompactionMeters::default(),
            weak_losses: 0,
        }
    }
}

impl Meters {
    /// A group of so many bytes was built, and its write begins.
    pub(crate) fn group_started(&mut self, now_us: u64, bytes: u64, has_more: bool) {
        self.group_bytes.record(bytes);
        if let Some(since) = self.waiting_since_us.take() {
            self.group_wait.record(now_us.saturating_sub(since));
        }
        self.waiting_since_us = has_more.then_some(now_us);
        self.groups_in_flight += 1;
    }

    /// A group's write has ended, and is durable.
    pub(crate) fn group_written(&mut self, began_us: u64, now_us: u64) {
        self.group_write.record(now_us.saturating_sub(began_us));
    }
}

/// What a store is like now, and what it has done since it was opened. Plain data; sizes in bytes, times in µs.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    /// The store.
    pub id: StoreId,
    /// Why it takes no appends, if it does not: it is out of service, or was fenced.
    pub fenced: Option<String>,
    /// Segments or the catalogue find no room on the disk.
    pub is_disk_full: bool,
    /// The disk has less room than the reserve.
    pub is_reserve_touched: bool,
    /// Partitions that it has.
    pub partitions: usize,
    /// Journal files that hold groups.
    pub journal_files_in_use: usize,
    /// Journal files that may take groups at once.
    pub journal_files_armed: usize,
    /// Journal files that it may grow to.
    pub journal_files_max: usize,
    /// Bytes of one of them.
    pub journal_file_bytes: u64,
    /// Bytes of the journal that a restart would replay.
    pub journal_replay_bytes: u64,
    /// Groups that are being written.
    pub groups_in_flight: usize,
    /// Bytes of batches that are due and in no group yet.
    pub waiting_bytes: usize,
    /// Sizes of groups.
    pub group_bytes: Distribution,
    /// How long the first batch of each group waited for it.
    pub group_wait: Distribution,
    /// How long the durable write of each group took.
    pub group_write: Distribution,
    /// Parts of groups that went straight to segment files.
    pub straight_parts: u64,
    /// Bytes of them.
    pub straight_bytes: u64,
    /// Writes of tails to segment files.
    pub spills: u64,
    /// Bytes of them.
    pub spilled_bytes: u64,
    /// Segment files that are open.
    pub segment_handles: usize,
    /// Segment files that were read to find damage.
    pub scrubbed_segments: u64,
    /// Bytes of them.
    pub scrubbed_bytes: u64,
    /// Places that were found damaged.
    pub damage_found: u64,
    /// What compaction has done.
    pub compaction: CompactionMeters,
    /// Weak partitions that may have lost acknowledged records when the store was opened.
    pub weak_losses: usize,
    /// About what its partitions know of idempotent producers takes in memory.
    pub producers_bytes: usize,
}

/// What one partition's log is like now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionMetrics {
    /// The ends of its log.
    pub offsets: LogOffsets,
    /// Bytes of its batches, on disk or in memory.
    pub size_bytes: u64,
    /// Segments, the one that is written to among them.
    pub segments: usize,
    /// Whether it takes appends.
    pub is_online: bool,
    /// Places in it that were found damaged.
    pub damage: usize,
    /// The leader epoch of what is appended to it.
    pub leader_epoch: LeaderEpoch,
    /// How far compaction has come with it; nothing of a log that is not compacted.
    pub compaction: Option<CompactionProgress>,
}

/// How far compaction by key has come with a log. Only complete segments are compacted, so only these are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionProgress {
    /// Up to here the log is compacted.
    pub upto: Offset,
    /// Bytes of segments that are compacted.
    pub clean_bytes: u64,
    /// Bytes of segments that have come since. Their share of all is what `dirty_ratio_min` is compared with.
    pub dirty_bytes: u64,
    /// Whether a pass over it is under way.
    pub is_running: bool,
    /// Whether it is not compacted until the store is opened again, since a pass failed on what the log holds.
    pub is_stopped: bool,
}

fn compaction_progress(partition: &Partition) -> Option<CompactionProgress> {
    partition.config.compaction?;
    let upto = partition.compaction.upto();
    let bytes = |is_clean: bool| {
        let segments = partition.sealed.iter();
        let counted = segments.filter(|segment| (segment.end_offset <= upto) == is_clean);
        counted.map(|segment| segment.data_end - SEGMENT_DATA).sum()
    };
    Some(CompactionProgress {
        upto,
        clean_bytes: bytes(true),
        dirty_bytes: bytes(false),
        is_running: partition.flags.is_compacting,
        is_stopped: partition.flags.is_not_compactable,
    })
}

impl<D: Disk> Store<D> {
    /// What a partition's log is like now; nothing of one that the store does not have.
    pub fn partition_metrics(&self, partition: TopicPartition) -> Option<PartitionMetrics> {
        let handle = self.partition_handle(partition)?;
        let state = self.state.borrow();
        let found = state.partitions.get(handle)?;
        Some(PartitionMetrics {
            offsets: found.offsets(),
            size_bytes: found.size_bytes(),
            segments: found.sealed.len() + found.rolled.len() + 1,
            is_online: found.refusal().is_none() && state.fenced.is_none(),
            damage: found.damage.len(),
            leader_epoch: found.epochs.latest().epoch,
            compaction: compaction_progress(found),
        })
    }

    /// How far the named readers of a partition have come, by name.
    pub fn reader_states(&self, partition: TopicPartition) -> Vec<(String, ReaderState)> {
        let handle = self.partition_handle(partition);
        let state = self.state.borrow();
        let found = handle.and_then(|handle| state.partitions.get(handle));
        let readers = found.into_iter().flat_map(|found| &found.readers.states);
        readers
            .map(|(name, state)| (name.clone(), *state))
            .collect()
    }

    /// What it is like now, and what it has done since it was opened.
    pub fn metrics(&self) -> StoreMetrics {
        let state = self.state.borrow();
        let meters = &state.meters;
        let limits = state.files.limits();
        StoreMetrics {
            id: self.id,
            fenced: state.fenced.as_deref().map(str::to_owned),
            is_disk_full: state.is_disk_full(),
            is_reserve_touched: state.reserve.is_touched,
            partitions: state.partitions.len(),
            journal_files_in_use: state.files.in_use(),
            journal_files_armed: state.files.armed(),
            journal_files_max: limits.files_max,
            journal_file_bytes: limits.file_bytes,
            journal_replay_bytes: state.files.replay_bytes(),
            groups_in_flight: meters.groups_in_flight,
            waiting_bytes: state.planner.dirty_bytes(),
            group_bytes: meters.group_bytes.clone(),
            group_wait: meters.group_wait.clone(),
            group_write: meters.group_write.clone(),
            straight_parts: meters.straight_parts,
            straight_bytes: meters.straight_bytes,
            spills: meters.spills,
            spilled_bytes: meters.spilled_bytes,
            segment_handles: self.handles.borrow().len(),
            scrubbed_segments: meters.scrubbed_segments,
            scrubbed_bytes: meters.scrubbed_bytes,
            damage_found: meters.damage_found,
            compaction: meters.compaction,
            weak_losses: meters.weak_losses,
            producers_bytes: state.producers_bytes,
        }
    }

    /// Notes since when batches wait for a group, if any do.
    pub(super) fn note_waiting(&self, state: &mut State) {
        if state.meters.waiting_since_us.is_none() && state.planner.has_due() {
            state.meters.waiting_since_us = Some(self.disk.now_us());
        }
    }
}
