//! Which tails are written to their segments next, and what follows when they are.
//!
//! Owns the choice of partitions and blocks. Does no I/O.

use std::io;
use std::rc::Rc;

use corelane_protocol::TopicPartition;

use super::partition::{PartitionHandle, Status};
use super::state::State;
use crate::catalogue::{CatalogueRecord, FlushState, SealedSegment, producer_records};
use crate::index::{IndexIdentity, SparseIndex};
use crate::journal::FileId;
use crate::layout::{block_ceiling, block_floor};
use crate::memory::AlignedSlice;
use crate::position::{LogPosition, SEGMENT_DATA};

/// The most bytes of one partition in one round, so that rounds stay short.
const PARTITION_ROUND_BYTES: u64 = 16 << 20;

/// Blocks of one partition to be written to one segment file.
#[derive(Debug)]
pub(crate) struct SpillWork {
    pub(crate) handle: PartitionHandle,
    pub(crate) partition: TopicPartition,
    /// Where the blocks go.
    pub(crate) from: LogPosition,
    /// Each slice with its position; what is between them, groups have written.
    pub(crate) blocks: Vec<(u64, AlignedSlice)>,
    /// Where all of it ends.
    pub(crate) end: u64,
    /// Where the segment's log ends in memory, if it takes more.
    pub(crate) log_end: u64,
    /// The incarnation of the file, given now if `is_new_file`.
    pub(crate) incarnation: u64,
    pub(crate) is_new_file: bool,
    /// How long the file is, or is to be cut to if it `is_left`.
    pub(crate) file_bytes: u64,
    /// The file is as an earlier life has left it: `file_bytes` of it count.
    pub(crate) is_left: bool,
    pub(crate) has_directory: bool,
    /// Bytes that the file may come to have.
    pub(crate) segment_bytes: u64,
    /// What the partition's state is once they are flushed.
    pub(crate) state: FlushState,
    /// What producers have in what is then flushed and was not before.
    pub(crate) producers: Vec<CatalogueRecord>,
    /// If the segment is then complete: what it is.
    pub(crate) sealed: Option<SealedSegment>,
    /// Its index, if that is whole.
    pub(crate) index: Option<(IndexIdentity, SparseIndex)>,
}

/// What came of a work.
#[derive(Debug)]
pub(crate) enum SpillOutcome {
    /// The blocks are flushed, and so is the length of the file.
    Flushed { file_bytes: u64 },
    /// The device is full; nothing is known to be wrong.
    DiskFull,
    /// The file cannot be trusted any more.
    Failed { file: String, error: io::Error },
}

impl State {
    /// Looks whether the journal or the memory want partitions to be spilled, and queues them.
    pub(crate) fn plan_pressure(&mut self) {
        self.files.release();
        if let Some(file) = self.files.crowded()
            && self.forcing.is_none_or(|forcing| forcing < file)
        {
            self.forcing = Some(file);
            self.force_upto(file);
        }
        if self.wants_thinning()
            && let Some((file, partitions)) = self.files.filling()
        {
            self.thinned = self.files.newest();
            self.force(file, partitions);
        }
        if std::mem::take(&mut self.wants_memory) {
            self.evict();
            if let Some(file) = self.files.newest() {
                self.force_upto(file);
            }
        }
    }

    /// Damaged partitions that keep the journal from being reused, each with the reason.
    ///
    /// What the journal has of them is of no use to the store, but it is given up only once the catalogue
    /// says that they never serve again: otherwise a damaged file that is put back would make a partition
    /// come up without what the journal had.
    pub(crate) fn damaged_pinning(&self) -> Vec<(PartitionHandle, CatalogueRecord)> {
        let Some(file) = self.files.crowded() else {
            return Vec::new();
        };
        let found = self.partitions.iter().filter_map(|(handle, partition)| {
            let Status::Failed(reason) = &partition.status else {
                return None;
            };
            let pins = partition.pins.front().is_some_and(|pin| pin.file <= file);
            let record = CatalogueRecord::PartitionFailed {
                partition: partition.id,
                reason: format!("{reason}; the journal's part of it was given up"),
            };
            pins.then_some((handle, record))
        });
        found.collect()
    }

    /// The catalogue says that a damaged partition never serves again.
    pub(crate) fn given_up(&mut self, handle: PartitionHandle, record: &CatalogueRecord) {
        let CatalogueRecord::PartitionFailed { reason, .. } = record else {
            return;
        };
        let Some(partition) = self.partitions.get_mut(handle) else {
            return;
        };
        tracing::error!(partition = %partition.id, reason, "the partition is given up");
        let reason: Rc<str> = reason.as_str().into();
        partition.status = Status::Failed(Rc::clone(&reason));
        partition.given_up = Some(reason);
        for pin in partition.pins.drain(..) {
            self.files.unpin(pin.file);
        }
        self.files.release();
    }

    /// Whether the journal has begun a file while it fills up, and some of the partitions that need its oldest one have
    /// not been told to spill for that.
    pub(crate) fn wants_thinning(&self) -> bool {
        self.files.newest() != self.thinned && self.files.filling().is_some()
    }

    /// Queues every partition that needs a journal file up to this one.
    pub(crate) fn force_upto(&mut self, file: FileId) {
        self.force(file, usize::MAX);
    }

    /// Queues partitions that need a journal file up to this one, at most so many that were not queued for it before.
    fn force(&mut self, file: FileId, partitions_max: usize) {
        let mut left = partitions_max;
        for handle in self.partitions.handles() {
            if left == 0 {
                break;
            }
            let Some(partition) = self.partitions.get_mut(handle) else {
                continue;
            };
            let needs = partition.pins.front().is_some_and(|pin| pin.file <= file);
            if needs && partition.refusal().is_none() {
                let is_told = partition.flags.forced_upto >= Some(file);
                left -= usize::from(!is_told);
                partition.flags.forced_upto = partition.flags.forced_upto.max(Some(file));
                self.queue_spill(handle);
            }
        }
    }

    /// The works of the next round.
    pub(crate) fn plan_spills(&mut self) -> Vec<SpillWork> {
        let mut works = Vec::new();
        if self.fenced.is_some() {
            return works;
        }
        for _ in 0..self.spill_queue.len() {
            if works.len() == self.config.spill_partitions_max {
                break;
            }
            let Some(handle) = self.spill_queue.pop_front() else {
                break;
            };
            let Some(partition) = self.partitions.get_mut(handle) else {
                continue;
            };
            partition.flags.is_spill_queued = false;
            let is_able = partition.refusal().is_none()
                && !partition.flags.is_deleting
                && !partition.flags.is_spilling;
            if is_able && let Some(work) = self.plan_spill(handle) {
                works.push(work);
            }
        }
        works
    }

    fn plan_spill(&mut self, handle: PartitionHandle) -> Option<SpillWork> {
        let incarnation = self.next_segment_incarnation();
        let interval = self.config.index_interval_bytes;
        let partition = self.partitions.get_mut(handle)?;
        if let Some(forced_upto) = partition.flags.forced_upto {
            let needed = partition
                .pins
                .iter()
                .take_while(|pin| pin.file <= forced_upto)
                .last();
            let durable = partition.durable.position;
            let blocks_end = LogPosition {
                at: block_floor(durable.at),
                ..durable
            };
            let last_chunk = partition.tail.last().map(|chunk| chunk.first().position);
            if needed.is_some_and(|pin| {
                pin.end > blocks_end && last_chunk.is_some_and(|first| first < pin.end)
            }) {
                // What is needed ends within a block. It is padded, and what follows begins at the next one.
                partition.tail.close_last();
            }
            if partition.durable != partition.end {
                // A weak partition's batches may wait for long, and the block with them.
                self.make_due(handle);
            }
        }
        let partition = self.partitions.get_mut(handle)?;
        let from = partition.flush.flushed;
        let spillable =
            partition
                .tail
                .spillable(from, partition.durable.position, PARTITION_ROUND_BYTES);
        let rolled = partition
            .rolled
            .front()
            .copied()
            .filter(|rolled| rolled.base == from.segment);
        let sealed_end = rolled.map(|rolled| block_ceiling(rolled.end.position.at));
        if spillable.end == from.at && sealed_end != Some(from.at) {
            return None;
        }
        let is_new_file = partition.flush.incarnation == 0;
        let incarnation = if is_new_file {
            incarnation
        } else {
            partition.flush.incarnation
        };
        let before = partition.flush.whole;
        let (whole, times) = spillable.whole.unwrap_or((before, partition.flush.times));
        let landmarks =
            partition
                .tail
                .landmarks(from.segment, before.position.at, whole.position.at);
        let index = partition
            .index
            .get_or_insert_with(|| Box::new(SparseIndex::new(from.segment, interval)));
        for mark in landmarks {
            index.note(mark.offset, mark.at, mark.times.max_timestamp);
        }
        if let Some(rolled) = rolled
            && sealed_end == Some(spillable.end)
            && rolled.end.offset != whole.offset
        {
            let reason = format!(
                "segment {} ends at offset {} in memory and at {} for its file, so what was recovered contradicts \
                 itself",
                rolled.base, rolled.end.offset, whole.offset
            );
            self.fence_partition(handle, reason);
            return None;
        }
        let high_watermark = partition.durable.offset;
        let mut state = FlushState {
            flushed: LogPosition {
                at: spillable.end,
                ..from
            },
            incarnation,
            whole,
            times,
            straddles: if spillable.whole.is_some() {
                spillable.is_ragged
            } else {
                partition.flush.straddles
            },
            high_watermark,
        };
        let (mut sealed, mut sealed_index) = (None, None);
        if let Some(rolled) = rolled
            && sealed_end == Some(spillable.end)
        {
            sealed = Some(SealedSegment {
                base: rolled.base,
                incarnation,
                is_compacted: false,
                end_offset: rolled.end.offset,
                data_end: rolled.end.position.at,
                file_bytes: spillable.end,
                max_timestamp: times.max_timestamp,
                last_append_time: times.last_append,
            });
            state = FlushState {
                high_watermark,
                ..FlushState::empty(rolled.end.offset)
            };
            if partition.flags.has_whole_index {
                sealed_index = Some((
                    IndexIdentity {
                        base: rolled.base,
                        incarnation,
                    },
                    index.as_ref().clone(),
                ));
            }
        }
        partition.flags.is_spilling = true;
        let told = match crate::planted!(ProducersNotRecorded) {
            true => before.offset,
            false => whole.offset,
        };
        let producers = producer_records(partition.id, &partition.producers, before.offset, told);
        let is_left = !is_new_file && !partition.flags.has_own_file;
        let file_bytes = if is_new_file {
            0
        } else if is_left {
            let by_groups = partition.tail.group_blocks_end(from.segment);
            let by_groups = by_groups.filter(|_| !crate::planted!(LeftExtentsCut));
            by_groups.map_or(from.at, |end| end.max(from.at))
        } else {
            partition.room
        };
        let log_end = partition.end.position;
        let log_end = (log_end.segment == from.segment).then_some(log_end.at);
        Some(SpillWork {
            handle,
            partition: partition.id,
            from,
            blocks: spillable.blocks,
            end: spillable.end,
            log_end: log_end.unwrap_or(0).max(spillable.end),
            incarnation,
            is_new_file,
            file_bytes,
            is_left,
            has_directory: partition.flags.has_directory,
            segment_bytes: partition.config.segment_bytes,
            state,
            producers: producers.collect(),
            sealed,
            index: sealed_index,
        })
    }

    /// What the catalogue must say before a work's outcome counts.
    pub(crate) fn spill_records(work: &SpillWork) -> Vec<CatalogueRecord> {
        let partition = work.partition;
        let sealed = work
            .sealed
            .map(|segment| CatalogueRecord::SegmentSealed { partition, segment });
        let flushed = CatalogueRecord::PartitionFlushed {
            partition,
            state: work.state,
        };
        let producers = work.producers.iter().cloned();
        producers
            .chain(sealed)
            .chain(std::iter::once(flushed))
            .collect()
    }

    /// A work's blocks are flushed, and the catalogue says so.
    pub(crate) fn spilled(&mut self, work: &SpillWork, file_bytes: u64) {
        let handle = work.handle;
        let bytes: usize = work.blocks.iter().map(|(_, blocks)| blocks.len()).sum();
        self.meters.spills += 1;
        self.meters.spilled_bytes += bytes as u64;
        let Some(partition) = self.partitions.get_mut(handle) else {
            return;
        };
        partition.flags.is_spilling = false;
        partition.flags.has_directory = true;
        partition.flags.has_own_file = true;
        partition.flush = work.state;
        partition.room = if work.sealed.is_none() { file_bytes } else { 0 };
        let mut wants_trim = false;
        if let Some(sealed) = work.sealed {
            if sealed.end_offset <= partition.log_start {
                partition.expired.push(sealed);
                wants_trim = true;
            } else {
                partition.sealed.push(sealed);
            }
            partition.rolled.pop_front();
            partition.index = None;
            partition.flags.has_whole_index = true;
        }
        while let Some(file) = partition.pop_pin() {
            self.files.unpin(file);
        }
        let forced = partition.flags.forced_upto;
        if forced.is_some_and(|forced| partition.pins.front().is_none_or(|pin| pin.file > forced)) {
            partition.flags.forced_upto = None;
        }
        let has_more = partition.flags.forced_upto.is_some()
            || !partition.rolled.is_empty()
            || partition.unspilled_bytes() >= self.config.spill_bytes;
        if has_more {
            self.queue_spill(handle);
        }
        if wants_trim {
            self.queue_removal(handle);
        }
        self.note_cached(handle);
        self.files.release();
    }

    /// A work came to nothing.
    pub(crate) fn spill_failed(&mut self, work: &SpillWork, outcome: SpillOutcome) {
        if let Some(partition) = self.partitions.get_mut(work.handle) {
            partition.flags.is_spilling = false;
        }
        match outcome {
            SpillOutcome::Flushed { .. } => {}
            SpillOutcome::DiskFull => {
                self.queue_spill(work.handle);
            }
            SpillOutcome::Failed { file, error } => {
                self.fence_partition(work.handle, format!("writing {file} failed: {error}"));
            }
        }
    }

    /// A number that no segment file of this store has had: the recovery epoch, which grows with every
    /// opening, and a count.
    pub(super) fn next_segment_incarnation(&mut self) -> u64 {
        self.segments_made += 1;
        (self.chain.recovery_epoch << 32) + self.segments_made
    }
}

const _: () = assert!(SEGMENT_DATA <= PARTITION_ROUND_BYTES);
