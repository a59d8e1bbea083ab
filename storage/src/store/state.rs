//! What a store knows: everything that its decisions need, and nothing that does I/O.
//!
//! Owns the partitions, the planner, the journal's bookkeeping and the queues between them. The store's
//! tasks ask it what to do, do it, and tell it what came of it. Belongs to the core that runs the store.

use std::collections::VecDeque;
use std::rc::Rc;

use corelane_protocol::{Timestamp, TopicPartition};

use super::compact::Compaction;
use super::disk_reserve::Reserve;
use super::log_start::Trims;
use super::metrics::Meters;
use super::partition::{Partition, PartitionHandle, Status};
use super::partitions::Partitions;
use super::room::RoomWanted;
use super::scrub::Scrub;
use super::{Progress, StoreConfig};
use crate::catalogue::{
    CatalogueRecord, Checkpoint, FlushState, compaction_records, epoch_records, producer_records,
};
use crate::journal::{CheckpointEffects, CommitPlanner, FileId, JournalFiles};
use crate::memory::{Chunk, Ledger, LedgerFull};
use crate::tail::ChunkPool;

/// The state of an open store.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) partitions: Partitions,
    pub(crate) planner: CommitPlanner,
    pub(crate) files: JournalFiles,
    pub(crate) chain: Chain,
    pub(crate) pool: ChunkPool,
    /// Partitions to be written to their segments.
    pub(crate) spill_queue: VecDeque<PartitionHandle>,
    /// Partitions with flushed chunks still in memory, each once, in the order in which they were flushed.
    pub(crate) cache: VecDeque<PartitionHandle>,
    /// Weak partitions with records that wait to be flushed, each once.
    pub(crate) waiting: Vec<PartitionHandle>,
    pub(crate) seal: Seal,
    pub(crate) trims: Trims,
    /// The journal's oldest file, once the partitions that need it were told to spill.
    pub(crate) forcing: Option<FileId>,
    /// The journal's newest file when some of those partitions were told so last, before all were.
    pub(crate) thinned: Option<FileId>,
    /// Segment files made since the store was opened.
    pub(crate) segments_made: u64,
    /// Deleted partitions whose files are still being removed.
    pub(crate) removing: Vec<TopicPartition>,
    pub(crate) full: Full,
    pub(crate) reserve: Reserve,
    pub(crate) scrub: Scrub,
    pub(crate) compaction: Compaction,
    /// About what the producers of all partitions take in memory, bytes.
    pub(crate) producers_bytes: usize,
    pub(crate) meters: Meters,
    /// An append found no room in the journal since the last tick.
    pub(crate) wants_room: bool,
    /// The smallest room that was asked for in vain, until it is there and that was told.
    pub(crate) room_wanted: Option<RoomWanted>,
    /// An append found no memory since the last look.
    pub(crate) wants_memory: bool,
    pub(crate) is_closing: bool,
    pub(crate) fenced: Option<Rc<str>>,
    progress: VecDeque<PartitionHandle>,
    failures: Vec<Progress>,
    pub(crate) config: StoreConfig,
    pub(crate) ledger: Rc<Ledger>,
}

/// What is known of the chain of groups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    pub(crate) recovery_epoch: u64,
    pub(crate) epoch_first_sequence: u64,
    /// The newest group that is durable with all before it.
    pub(crate) durable_sequence: u64,
    pub(crate) durable_checksum: u32,
}

/// What the device has no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Full {
    /// Some segment could not be written when that was last tried.
    pub(crate) segments: bool,
    /// The catalogue took no records when that was last tried.
    pub(crate) catalogue: bool,
}

/// Whether the last group with data is known durable by a later one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seal {
    /// A group was written that no later one covers.
    pub(crate) is_wanted: bool,
    /// It is time.
    pub(crate) is_due: bool,
    /// When the last batch came.
    pub(crate) last_append: Option<Timestamp>,
}

impl State {
    pub(crate) fn new(
        config: StoreConfig,
        ledger: Rc<Ledger>,
        files: JournalFiles,
        chain: Chain,
    ) -> Self {
        Self {
            partitions: Partitions::default(),
            planner: CommitPlanner::new(config.planner_limits()),
            files,
            chain,
            pool: ChunkPool::new(Rc::clone(&ledger)),
            spill_queue: VecDeque::new(),
            cache: VecDeque::new(),
            waiting: Vec::new(),
            seal: Seal::default(),
            trims: Trims::default(),
            forcing: None,
            thinned: None,
            segments_made: 0,
            removing: Vec::new(),
            full: Full::default(),
            reserve: Reserve::default(),
            scrub: Scrub::default(),
            compaction: Compaction::default(),
            producers_bytes: 0,
            meters: Meters::default(),
            wants_room: false,
            room_wanted: None,
            wants_memory: false,
            is_closing: false,
            fenced: None,
            progress: VecDeque::new(),
            failures: Vec::new(),
            config,
            ledger,
        }
    }

    /// Stops every append for good: what the disk holds is not known any more.
    pub(crate) fn fence(&mut self, reason: String) {
        if self.fenced.is_none() {
            tracing::error!(reason, "the store is fenced");
            let reason: Rc<str> = reason.into();
            self.fenced = Some(Rc::clone(&reason));
            self.failures.push(Progress::Failed {
                partition: None,
                reason,
            });
        }
    }

    /// Stops the appends to a partition until the store is opened again.
    pub(crate) fn fence_partition(&mut self, handle: PartitionHandle, reason: String) {
        let Some(partition) = self.partitions.get_mut(handle) else {
            return;
        };
        if partition.status == Status::Online {
            tracing::error!(partition = %partition.id, reason, "the partition is fenced");
            let reason: Rc<str> = reason.into();
            partition.status = Status::Fenced(Rc::clone(&reason));
            self.failures.push(Progress::Failed {
                partition: Some(partition.id),
                reason,
            });
        }
    }

    /// Whether the device is full, so that a full journal cannot be emptied.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.full != Full::default()
    }

    /// Notes what the device has no room for, and says so when that changes.
    pub(crate) fn set_full(&mut self, full: Full) {
        let was_full = self.is_disk_full();
        self.full = full;
        match (was_full, self.is_disk_full()) {
            (false, true) => tracing::warn!(
                "the disk is full: appends are refused once the journal is; free space, or delete topics"
            ),
            (true, false) => tracing::info!("the disk has room again"),
            _ => {}
        }
    }

    /// Adds something to be told that is no progress of a log.
    pub(crate) fn tell(&mut self, event: Progress) {
        self.failures.push(event);
    }

    /// Notes that a partition's durable end or high watermark has moved.
    pub(crate) fn note_progress(&mut self, handle: PartitionHandle) {
        if let Some(partition) = self.partitions.get_mut(handle)
            && !partition.flags.has_progress
        {
            partition.flags.has_progress = true;
            self.progress.push_back(handle);
        }
    }

    pub(crate) fn has_progress(&self) -> bool {
        !self.progress.is_empty() || !self.failures.is_empty()
    }

    /// Moves what has changed since the last call into `out`.
    pub(crate) fn take_progress(&mut self, out: &mut Vec<Progress>) {
        if self.has_wanted_room() {
            self.room_wanted = None;
        }
        out.append(&mut self.failures);
        while let Some(handle) = self.progress.pop_front() {
            let Some(partition) = self.partitions.get_mut(handle) else {
                continue;
            };
            partition.flags.has_progress = false;
            out.push(Progress::Durable {
                partition: partition.id,
                handle,
                durable_end: partition.durable.offset,
                high_watermark: partition.high_watermark().offset,
            });
        }
    }

    /// An empty chunk for a tail; gives up a cached one for it if enough are cached.
    pub(crate) fn take_chunk(&mut self, capacity: usize) -> Result<Chunk, LedgerFull> {
        if self.is_cache_full() {
            // Of the same size as a rule, so that its memory is used again at once.
            self.evict_one();
            self.wants_memory |= self.ledger.is_above_soft();
        }
        loop {
            match self.pool.take(capacity) {
                Ok(chunk) => return Ok(chunk),
                Err(full) => {
                    if !self.evict_one() {
                        self.pool.collect();
                        return self.pool.take(capacity).map_err(|_| full);
                    }
                }
            }
        }
    }

    /// Whether what is kept only for readers should go: there is more of it than the configuration says, or memory is
    /// half used, which is below the ledger's soft threshold, from which on senders are slowed down.
    pub(crate) fn is_cache_full(&self) -> bool {
        let uses_half = self.ledger.in_use() >= self.ledger.cap() / 2;
        // A tail holds what the journal does until that is in a segment, in chunks with room for half as much again.
        let unwritten = self.files.replay_bytes() / 2 * 3;
        let kept = (self.pool.held() as u64).saturating_sub(unwritten);
        uses_half || self.ledger.is_above_soft() || kept > self.config.tail_cache_bytes as u64
    }

    /// Gives up cached chunks until no more are kept than should be.
    pub(crate) fn evict(&mut self) {
        self.pool.collect();
        while self.is_cache_full() && self.evict_one() {}
    }

    /// Gives up what is only kept because there is room, until so many bytes are free or nothing is left.
    pub(crate) fn evict_for(&mut self, bytes: usize) {
        while self.ledger.available() < bytes && self.evict_one() {}
        if self.ledger.available() < bytes {
            self.pool.collect();
        }
    }

    /// Gives up the oldest cached chunk.
    fn evict_one(&mut self) -> bool {
        while let Some(handle) = self.cache.pop_front() {
            let Some(partition) = self.partitions.get_mut(handle) else {
                continue;
            };
            partition.flags.is_cached = false;
            if let Some(chunk) = partition.tail.pop_flushed(partition.flush.flushed) {
                self.note_cached(handle);
                self.pool.give(chunk);
                return true;
            }
        }
        false
    }

    /// Notes that a partition has flushed chunks, if it has.
    pub(crate) fn note_cached(&mut self, handle: PartitionHandle) {
        if let Some(partition) = self.partitions.get_mut(handle)
            && !partition.flags.is_cached
            && partition.tail.has_flushed(partition.flush.flushed)
        {
            partition.flags.is_cached = true;
            self.cache.push_back(handle);
        }
    }

    /// Puts a partition into the queue of those to be spilled.
    pub(crate) fn queue_spill(&mut self, handle: PartitionHandle) {
        if let Some(partition) = self.partitions.get_mut(handle)
            && !partition.flags.is_spill_queued
        {
            partition.flags.is_spill_queued = true;
            self.spill_queue.push_back(handle);
        }
    }

    /// Bytes of segments that a replay would read now, because only groups tell of them.
    pub(crate) fn straight_replay_bytes(&self) -> u64 {
        let partitions = self.partitions.iter();
        partitions
            .map(|(_, partition)| partition.tail.group_bytes(partition.flush.flushed))
            .sum()
    }

    /// The checkpoint as of now, and what follows once it is durable.
    pub(crate) fn checkpoint(&self) -> (Checkpoint, CheckpointEffects) {
        let (journal, effects) = self.files.checkpoint();
        let checkpoint = Checkpoint {
            recovery_epoch: self.chain.recovery_epoch,
            epoch_first_sequence: self.chain.epoch_first_sequence,
            next_incarnation: self.files.next_incarnation(),
            durable_sequence: self.chain.durable_sequence,
            durable_checksum: self.chain.durable_checksum,
            journal,
        };
        (checkpoint, effects)
    }

    /// The fewest records that say what the catalogue says now.
    pub(crate) fn catalogue_records(&self) -> Vec<CatalogueRecord> {
        let mut records = Vec::new();
        for (_, partition) in self.partitions.iter() {
            records.extend(partition_records(partition));
        }
        for &partition in &self.removing {
            records.push(CatalogueRecord::PartitionCreated {
                partition,
                config: super::LogConfig::default(),
            });
            records.push(CatalogueRecord::PartitionDeleted { partition });
        }
        records
    }
}

impl Drop for State {
    fn drop(&mut self) {
        for handle in self.partitions.handles() {
            let Some(partition) = self.partitions.get_mut(handle) else {
                continue;
            };
            for chunk in partition.tail.take() {
                self.pool.give(chunk);
            }
        }
    }
}

fn partition_records(partition: &Partition) -> Vec<CatalogueRecord> {
    let id = partition.id;
    let mut records = vec![CatalogueRecord::PartitionCreated {
        partition: id,
        config: partition.config.clone(),
    }];
    if partition.log_start > corelane_protocol::Offset::ZERO {
        records.push(CatalogueRecord::LogStartMoved {
            partition: id,
            log_start: partition.log_start,
        });
    }
    let segments = partition.expired.iter().chain(&partition.sealed);
    records.extend(segments.map(|&segment| segment.record(id)));
    if partition.flush != FlushState::empty(corelane_protocol::Offset::ZERO) {
        records.push(CatalogueRecord::PartitionFlushed {
            partition: id,
            state: partition.flush,
        });
    }
    records.extend(epoch_records(id, &partition.epochs));
    records.extend(partition.readers.records(id));
    let from = corelane_protocol::Offset::ZERO;
    let upto = partition.flush.whole.offset;
    records.extend(producer_records(id, &partition.producers, from, upto));
    records.extend(compaction_records(id, &partition.compaction));
    if let Some(reason) = &partition.given_up {
        records.push(CatalogueRecord::PartitionFailed {
            partition: id,
            reason: reason.to_string(),
        });
    }
    records
}
