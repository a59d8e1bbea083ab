//! `Store`: the partitions of one store, and everything that is done to them.
//!
//! Owns the API that a core's lane calls, and the tasks that do the store's I/O. Every call that decides
//! (`append`, `read`, `offsets`, `take_progress`) is synchronous; what waits for the disk is a future. One
//! core at a time runs a store; nothing here is `Send`. Never reads a clock: time comes as an argument.

mod append;
mod close;
mod commit;
mod compact;
mod compact_write;
mod config;
mod configure;
mod disk_reserve;
mod epochs;
mod error;
mod fetch;
mod group;
mod guard;
mod index_load;
mod log_start;
mod maintain;
mod metrics;
mod notify;
mod open;
mod pace;
mod partition;
mod partitions;
mod producers;
mod read;
mod read_cache;
mod read_window;
mod record;
mod removal;
mod report;
mod reservation;
mod retention;
mod room;
mod scrub;
mod segments;
mod spill;
mod spill_plan;
mod state;
mod time_search;
mod topics;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_protocol::{Offset, StoreId, Timestamp, TopicPartition};
use futures_util::future::LocalBoxFuture;
use uuid::Uuid;

pub use config::{CompactionConfig, LogConfig, SEGMENT_BYTES_MAX, StoreConfig};
pub use error::{
    AppendError, Corruption, DeleteRecordsError, PartitionError, ReadError, ReportError, StoreError,
};
pub use fetch::{DiskRead, Fetched, Read};
pub use guard::{GuardMode, READERS_MAX, ReaderState, RetentionGuard, Unread};
pub use metrics::{CompactionMeters, CompactionProgress, PartitionMetrics, StoreMetrics};
pub use partition::PartitionHandle;
pub use report::RecoveryReport;

pub(crate) use guard::Readers;
pub(crate) use notify::{AsyncLock, Notify};
pub(crate) use partition::{Partition, Status};

use state::State;

use crate::block_log::BlockLog;
use crate::disk::Disk;
use crate::epochs::EpochStart;
use crate::memory::Ledger;
use crate::segment::SegmentHandles;
use commit::GroupBuffers;
use index_load::IndexCache;
use read_cache::ReadCache;

/// One store, opened. See the module.
pub struct Store<D: Disk> {
    disk: D,
    dir: String,
    id: StoreId,
    uuid: Uuid,
    state: RefCell<State>,
    /// Absent in a store that is out of service from the start: then it is fenced.
    catalogue: Option<BlockLog<D>>,
    /// Whose turn it is to change the catalogue.
    catalogue_turn: AsyncLock<()>,
    /// A catalogue of fewer bytes is not rewritten.
    compact_at: Cell<u64>,
    /// Whose turn it is to create or delete partitions.
    topics_turn: AsyncLock<()>,
    /// The open journal files, by number.
    journal_files: RefCell<BTreeMap<u32, D::File>>,
    handles: RefCell<SegmentHandles<D::File>>,
    read_cache: RefCell<ReadCache>,
    indexes: RefCell<IndexCache>,
    buffers: RefCell<GroupBuffers>,
    wake: Wakes,
    /// Tasks and reads that use the disk now.
    work: Cell<usize>,
    /// The clean mark is on disk, and nothing may follow it.
    is_closed: Cell<bool>,
}

/// The events that the store's tasks and callers wait for.
#[derive(Debug, Default)]
struct Wakes {
    /// A group may be due.
    commit: Notify,
    /// A segment may have to be written.
    spill: Notify,
    /// A journal file may have to be made ready.
    journal: Notify,
    /// There is progress to report.
    progress: Notify,
    /// A window was loaded from disk.
    loaded: Notify,
    /// A window is wanted ahead of a reader.
    ahead: Notify,
    /// More may be scrubbed.
    scrub: Notify,
    /// More may be compacted.
    compact: Notify,
    /// The device's room is to be looked at.
    reserve: Notify,
    /// A log start may have to be moved, or files to be removed.
    trim: Notify,
    /// Something that `close` or a deletion waits for may have ended.
    idle: Notify,
}

/// Where an appended batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The offset after its last record.
    pub end_offset: Offset,
    /// Whether it was appended before, and its idempotent producer has sent it again: nothing has changed then.
    pub is_duplicate: bool,
}

/// Something that happened since it was last asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More of a partition is durable, or may be read, or is deleted.
    Durable {
        /// The partition.
        partition: TopicPartition,
        /// The same.
        handle: PartitionHandle,
        /// Everything before this offset is durable.
        durable_end: Offset,
        /// Everything before this offset may be read.
        high_watermark: Offset,
    },
    /// A partition, or the whole store, takes no more appends; what was not durable stays unacknowledged.
    Failed {
        /// The partition, or the whole store.
        partition: Option<TopicPartition>,
        /// Why.
        reason: Rc<str>,
    },
    /// Records expired, or are to, before a named reader had them; said now and then.
    Unread {
        /// The partition.
        partition: TopicPartition,
        /// Who lacks how many.
        unread: Unread,
    },
    /// Something that a partition has on disk is damaged. Reads of it are refused, everything else goes on.
    Damaged {
        /// The partition.
        partition: TopicPartition,
        /// What, with file and position.
        reason: Rc<str>,
    },
}

/// The ends of a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOffsets {
    /// The first offset that is kept.
    pub log_start: Offset,
    /// The end of what may be read.
    pub high_watermark: Offset,
    /// The offset of the next record.
    pub log_end: Offset,
    /// The end of what is durable.
    pub durable_end: Offset,
}

/// What a partition looks like to somebody who operates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDescription {
    /// The ends of its log.
    pub offsets: LogOffsets,
    /// Bytes of its batches, on disk or in memory.
    pub size_bytes: u64,
    /// Whether it serves.
    pub state: LogState,
    /// Its named readers.
    pub readers: Vec<(String, ReaderState)>,
    /// Its leader epochs, oldest first: those that have records from the log start on, and the latest.
    pub epochs: Vec<EpochStart>,
    /// Damage that was found in it since the store was opened, the first few: each with file and position. Reads
    /// of it are refused, what is around it is served.
    pub damage: Vec<Rc<str>>,
}

/// Whether a partition serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogState {
    /// It does.
    Online,
    /// It does not take appends; the reason.
    Failed(Rc<str>),
}

/// How full a store is; senders should be slowed down as a value nears 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pressure {
    /// The share of the journal that is in use.
    pub journal: f32,
    /// The share of the core's memory that is in use.
    pub memory: f32,
}

impl<D: Disk> Store<D> {
    /// The loops that write what was appended. The caller runs them until they end, which they do after
    /// `close`, or when the store is fenced.
    pub fn tasks(self: &Rc<Self>) -> Vec<LocalBoxFuture<'static, ()>> {
        vec![
            Box::pin(Rc::clone(self).run_commits()),
            Box::pin(Rc::clone(self).run_spills()),
            Box::pin(Rc::clone(self).run_journal()),
            Box::pin(Rc::clone(self).run_read_ahead()),
            Box::pin(Rc::clone(self).run_trims()),
            Box::pin(Rc::clone(self).run_reserve()),
            Box::pin(Rc::clone(self).run_scrub()),
            Box::pin(Rc::clone(self).run_compaction()),
        ]
    }

    /// The store's number in its data directory.
    pub fn id(&self) -> StoreId {
        self.id
    }

    /// The store's identity.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Why the store could not be opened, if it was made by [`Store::out_of_service`].
    pub fn unfit(&self) -> Option<Rc<str>> {
        match self.catalogue {
            Some(_) => None,
            None => self.state.borrow().fenced.clone(),
        }
    }

    /// A name for a partition that is quicker to look up than its id.
    pub fn partition_handle(&self, partition: TopicPartition) -> Option<PartitionHandle> {
        let state = self.state.borrow();
        let handle = state.partitions.handle(partition)?;
        let is_deleting = state
            .partitions
            .get(handle)
            .is_some_and(|partition| partition.flags.is_deleting);
        (!is_deleting).then_some(handle)
    }

    /// The partitions of the store, in the order of their ids.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        self.state
            .borrow()
            .partitions
            .iter()
            .map(|(_, partition)| partition.id)
            .collect()
    }

    /// Appends a batch to a partition, in memory; it is durable once `Progress` says so.
    ///
    /// # Errors
    /// `AppendError`; nothing has changed then.
    pub fn append(
        &self,
        partition: TopicPartition,
        batch: &[u8],
        now: Timestamp,
    ) -> Result<Appended, AppendError> {
        let handle = self
            .partition_handle(partition)
            .ok_or(AppendError::UnknownPartition(partition))?;
        self.append_by_handle(handle, batch, now)
    }

    /// `append` by handle.
    ///
    /// # Errors
    /// `AppendError`; nothing has changed then.
    pub fn append_by_handle(
        &self,
        handle: PartitionHandle,
        batch: &[u8],
        now: Timestamp,
    ) -> Result<Appended, AppendError> {
        let mut state = self.state.borrow_mut();
        let result = state.append(handle, batch, now);
        self.note_waiting(&mut state);
        if state.planner.is_due() {
            self.wake.commit.notify();
        }
        let is_journal_full = matches!(
            result,
            Err(AppendError::JournalFull | AppendError::DiskFull)
        );
        state.wants_room |= is_journal_full;
        if state.wants_memory || is_journal_full {
            self.wake.spill.notify();
        }
        self.tell_news(&state);
        result
    }

    /// Tells the store the time: for weak topics' `flush.ms`, for sealing an idle journal, for what expires, and
    /// to try again what a full disk or memory put off. To be called every 10 to 100 ms while anything happens,
    /// and every second or so while nothing does, since records expire then too.
    pub fn tick(&self, now: Timestamp) {
        let mut state = self.state.borrow_mut();
        let was_fenced = state.fenced.is_some();
        self.handles.borrow_mut().close_idle(now);
        state.tick(now);
        if state.fenced.is_some() && !was_fenced {
            drop(state);
            self.wake_all();
            return;
        }
        self.note_waiting(&mut state);
        if state.planner.is_due() || state.seal.is_due {
            self.wake.commit.notify();
        }
        if state.wants_memory || state.is_disk_full() {
            self.wake.spill.notify();
            self.wake.journal.notify();
        }
        state.trims.now = Some(now);
        if state.trims.is_retry_due(now) | state.trims.are_positions_due(now) {
            self.wake.trim.notify();
        }
        let scrub_rate = state.config.scrub_bytes_per_second;
        if state.scrub.pace.give(now, scrub_rate) {
            self.wake.scrub.notify();
        }
        let compaction_rate = state.config.compaction_bytes_per_second;
        if state.compaction.give(now, compaction_rate) {
            self.wake.compact.notify();
        }
        if state.reserve.is_look_due(now) {
            self.wake.reserve.notify();
        }
        if state.look_for_expired(now) {
            self.wake.trim.notify();
            self.wake.spill.notify();
        }
        if state.files.wants_work() {
            // A file could not be made ready before.
            self.wake.journal.notify();
        }
    }

    /// Moves what happened since the last call into `out`. Whoever waits for room asks for it again then.
    pub fn take_progress(&self, out: &mut Vec<Progress>) {
        self.state.borrow_mut().take_progress(out);
    }

    /// The ends of a partition's log.
    ///
    /// # Errors
    /// `Unknown`.
    pub fn offsets(&self, partition: TopicPartition) -> Result<LogOffsets, PartitionError> {
        self.partition_handle(partition)
            .and_then(|handle| self.offsets_by_handle(handle))
            .ok_or(PartitionError::Unknown(partition))
    }

    /// `offsets` by handle; nothing if the partition was deleted.
    pub fn offsets_by_handle(&self, handle: PartitionHandle) -> Option<LogOffsets> {
        let state = self.state.borrow();
        let found = state.partitions.get(handle)?;
        (!found.flags.is_deleting).then(|| found.offsets())
    }

    /// What a partition looks like.
    ///
    /// # Errors
    /// `Unknown`.
    pub fn describe(&self, partition: TopicPartition) -> Result<LogDescription, PartitionError> {
        let handle = self
            .partition_handle(partition)
            .ok_or(PartitionError::Unknown(partition))?;
        let state = self.state.borrow();
        let found = state
            .partitions
            .get(handle)
            .ok_or(PartitionError::Unknown(partition))?;
        let refusal = found.refusal().or(state.fenced.as_ref());
        Ok(LogDescription {
            offsets: found.offsets(),
            size_bytes: found.size_bytes(),
            state: refusal.map_or(LogState::Online, |reason| {
                LogState::Failed(Rc::clone(reason))
            }),
            readers: {
                let readers = found.readers.states.iter();
                readers
                    .map(|(name, state)| (name.clone(), *state))
                    .collect()
            },
            epochs: found.epochs.starts().to_vec(),
            damage: found.damage.clone(),
        })
    }

    /// How full the store is.
    pub fn pressure(&self) -> Pressure {
        let state = self.state.borrow();
        Pressure {
            journal: state.files.pressure(),
            memory: state.ledger.pressure(),
        }
    }

    /// The ledger that the store reserves its memory in.
    pub fn ledger(&self) -> Rc<Ledger> {
        Rc::clone(&self.state.borrow().ledger)
    }

    /// Stops every append, and says so to whoever waits.
    fn fence(&self, reason: String) {
        self.state.borrow_mut().fence(reason);
        self.wake_all();
    }

    fn wake_all(&self) {
        self.wake.commit.notify();
        self.wake.spill.notify();
        self.wake.journal.notify();
        self.wake.progress.notify();
        self.wake.ahead.notify();
        self.wake.trim.notify();
        self.wake.reserve.notify();
        self.wake.scrub.notify();
        self.wake.compact.notify();
        self.wake.idle.notify();
    }
}
