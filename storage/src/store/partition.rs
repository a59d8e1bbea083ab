//! One partition's log: its ends, its tail in memory, its segments, and what it holds of the journal.
//!
//! Owns how far the log is published, in a group, durable and flushed, in this order. Never does I/O.
//! Belongs to the core that runs the store.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use corelane_protocol::{Offset, Timestamp, TopicPartition};

use super::guard::Readers;
use super::{LogConfig, LogOffsets};
use crate::catalogue::{FlushState, SealedSegment};
use crate::compaction::CompactionHistory;
use crate::epochs::EpochHistory;
use crate::index::SparseIndex;
use crate::journal::{FileId, PendingPart};
use crate::layout::block_ceiling;
use crate::position::{LogPoint, LogPosition, SEGMENT_DATA};
use crate::producers::Producers;
use crate::tail::Tail;
use crate::times::SegmentTimes;

/// Names a partition of an open store faster than its `TopicPartition`. Never valid for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionHandle {
    index: u32,
    generation: u32,
}

impl PartitionHandle {
    pub(crate) fn new(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    pub(super) fn index(self) -> usize {
        self.index as usize
    }

    pub(super) fn generation(self) -> u32 {
        self.generation
    }
}

/// Whether a partition serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It takes appends and reads.
    Online,
    /// A write to its segment failed: it takes reads only, until the store is opened again.
    Fenced(Rc<str>),
    /// Its log is damaged: it takes nothing.
    Failed(Rc<str>),
}

/// What a partition needs of a journal file: everything up to a place of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pin {
    pub(crate) file: FileId,
    pub(crate) end: LogPosition,
}

/// A segment that takes no more, but is not sealed in the catalogue yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RolledSegment {
    pub(crate) base: Offset,
    pub(crate) end: LogPoint,
}

/// A partition of an open store.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) id: TopicPartition,
    pub(crate) config: LogConfig,
    pub(crate) status: Status,
    /// Why the catalogue says that it never serves again, if it does.
    pub(crate) given_up: Option<Rc<str>>,
    /// Those who are known by name, and how far they have come.
    pub(crate) readers: Readers,
    /// Its leader epochs; the latest is that of every append.
    pub(crate) epochs: EpochHistory,
    /// Up to where it is compacted, and since when.
    pub(crate) compaction: CompactionHistory,
    /// The idempotent producers that have appended to it, up to its end.
    pub(crate) producers: Producers,
    /// After the last batch that was appended.
    pub(crate) end: LogPoint,
    /// After the last batch that is in a group.
    pub(crate) journaled: LogPoint,
    /// After the last batch that is known durable.
    pub(crate) durable: LogPoint,
    /// After the last batch that was readable as soon as it was appended.
    pub(crate) published: LogPoint,
    /// How far it is in its segment files, as the catalogue has it.
    pub(crate) flush: FlushState,
    /// Bytes that the file of the segment that is flushed is known to have for good, however much of them is written;
    /// 0 until it was flushed since the store was opened.
    pub(crate) room: u64,
    pub(crate) tail: Tail,
    /// The times of the batches of the segment that is appended to.
    pub(crate) times: SegmentTimes,
    /// The first offset that is kept, as the catalogue has it.
    pub(crate) log_start: Offset,
    /// Where the log start is to go; never below it.
    pub(crate) wanted_log_start: Offset,
    /// Sealed segments that reach beyond the log start.
    pub(crate) sealed: Vec<SealedSegment>,
    /// Those wholly below it, whose files are still to be removed.
    pub(crate) expired: Vec<SealedSegment>,
    pub(crate) rolled: VecDeque<RolledSegment>,
    /// Of the segment that is being flushed, from the first batch flushed since the store was opened.
    pub(crate) index: Option<Box<SparseIndex>>,
    pub(crate) pins: VecDeque<Pin>,
    /// Batches that are in no group yet.
    pub(crate) pending_batches: u32,
    pub(crate) pending_bytes: usize,
    pub(crate) pending: PendingPart,
    /// Records since the last commit that was due, of a weak partition.
    pub(crate) unflushed_records: u64,
    /// When the oldest of them came.
    pub(crate) unflushed_since: Option<Timestamp>,
    /// Damage that was found in it since the store was opened.
    pub(crate) damage: Vec<Rc<str>>,
    /// Readers that are writing an index file of a sealed segment.
    pub(crate) index_writes: Rc<Cell<usize>>,
    pub(crate) flags: Flags,
}

/// Where the partition waits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags {
    /// In the commit planner's queue.
    pub(crate) is_dirty: bool,
    /// In the queue of those to be spilled.
    pub(crate) is_spill_queued: bool,
    /// To be spilled until it needs no file up to this one, by padding its last block if need be.
    pub(crate) forced_upto: Option<FileId>,
    /// In the queue of those whose log start is to be moved.
    pub(crate) is_move_queued: bool,
    /// In the queue of those whose files are to be removed.
    pub(crate) is_removal_queued: bool,
    /// The catalogue is being told of its log start.
    pub(crate) is_moving: bool,
    /// Files of it are being removed.
    pub(crate) is_removing: bool,
    /// In the queue of those to be compacted.
    pub(crate) is_compaction_queued: bool,
    /// It is being compacted.
    pub(crate) is_compacting: bool,
    /// The catalogue is being told of a segment that compaction wrote: its log start stays where it is.
    pub(crate) is_replacing: bool,
    /// It is not compacted until the store is opened again, since it is damaged.
    pub(crate) is_not_compactable: bool,
    /// What compactions that were interrupted left in its directory is removed.
    pub(crate) is_swept: bool,
    /// A spill of it is running.
    pub(crate) is_spilling: bool,
    /// It is being deleted: it takes nothing and is not spilled any more.
    pub(crate) is_deleting: bool,
    /// `index` begins with the segment's first batch.
    pub(crate) has_whole_index: bool,
    /// In the queue of progress to be reported.
    pub(crate) has_progress: bool,
    /// In the queue of those with flushed chunks in memory.
    pub(crate) is_cached: bool,
    /// Among the weak ones with records that wait to be flushed.
    pub(crate) is_waiting: bool,
    /// Its directory exists durably.
    pub(crate) has_directory: bool,
    /// Its latest leader epoch is not durable yet: it takes nothing until it is.
    pub(crate) awaits_epoch: bool,
    /// The file of the segment that is flushed was written to since the store was opened.
    pub(crate) has_own_file: bool,
}

impl Partition {
    /// A partition as the catalogue has it, with nothing in memory.
    pub(crate) fn new(
        id: TopicPartition,
        config: LogConfig,
        flush: FlushState,
        sealed: Vec<SealedSegment>,
    ) -> Self {
        let mut readers = Readers::default();
        readers.follow(&config.guard);
        Self {
            id,
            config,
            status: Status::Online,
            given_up: None,
            readers,
            epochs: EpochHistory::default(),
            compaction: CompactionHistory::default(),
            producers: Producers::default(),
            end: flush.whole,
            journaled: flush.whole,
            durable: flush.whole,
            published: flush.whole,
            flush,
            room: 0,
            tail: Tail::default(),
            times: flush.times,
            log_start: Offset::ZERO,
            wanted_log_start: Offset::ZERO,
            sealed,
            expired: Vec::new(),
            rolled: VecDeque::new(),
            index: None,
            pins: VecDeque::new(),
            pending_batches: 0,
            pending_bytes: 0,
            pending: PendingPart::default(),
            unflushed_records: 0,
            unflushed_since: None,
            damage: Vec::new(),
            index_writes: Rc::default(),
            flags: Flags {
                has_directory: flush.incarnation != 0,
                has_whole_index: flush.flushed.at == SEGMENT_DATA,
                ..Flags::default()
            },
        }
    }

    /// The end of what readers may see: what is durable, and what was appended while the partition was weak.
    ///
    /// It never goes back, whatever the settings become.
    pub(crate) fn high_watermark(&self) -> LogPoint {
        if crate::planted!(HighWatermarkEarly) {
            return self.end;
        }
        if self.published.offset > self.durable.offset {
            self.published
        } else {
            self.durable
        }
    }

    /// The ends of the log.
    pub(crate) fn offsets(&self) -> LogOffsets {
        LogOffsets {
            log_start: self.log_start,
            high_watermark: self.high_watermark().offset,
            log_end: self.end.offset,
            durable_end: self.durable.offset,
        }
    }

    /// Where the next batch goes, before a roll is considered.
    pub(crate) fn next_position(&self, len: usize) -> LogPosition {
        let open = self.tail.last().is_some_and(|chunk| {
            chunk.segment() == self.end.position.segment && chunk.has_room(len)
        });
        let at = if open {
            self.end.position.at
        } else {
            block_ceiling(self.end.position.at)
        };
        LogPosition {
            segment: self.end.position.segment,
            at,
        }
    }

    /// Ends the segment that is appended to, and begins the next one.
    pub(crate) fn roll(&mut self) {
        self.tail.close_last();
        self.rolled.push_back(RolledSegment {
            base: self.end.position.segment,
            end: self.end,
        });
        self.end.position = LogPosition::start_of(self.end.offset);
        self.times = SegmentTimes::NONE;
    }

    /// Whether the log start can be moved to where it is wanted: everything below is durable.
    pub(crate) fn wants_move(&self) -> bool {
        self.wanted_log_start > self.log_start && self.wanted_log_start <= self.durable.offset
    }

    /// Whether a segment takes no more and can be sealed.
    pub(crate) fn has_durable_roll(&self) -> bool {
        let rolled = self.rolled.front();
        rolled.is_some_and(|rolled| rolled.end.offset <= self.durable.offset)
    }

    /// Durable bytes that are in no segment file yet.
    pub(crate) fn unspilled_bytes(&self) -> u64 {
        let mut bytes = 0;
        let mut at = self.flush.flushed;
        for rolled in &self.rolled {
            if self.durable.position.segment <= rolled.base {
                break;
            }
            bytes += rolled.end.position.at.saturating_sub(at.at);
            at = LogPosition::start_of(rolled.end.offset);
        }
        bytes + self.durable.position.at.saturating_sub(at.at)
    }

    /// Notes that a file holds a part that ends at `end`. Returns whether it is the first in that file.
    pub(crate) fn pin(&mut self, file: FileId, end: LogPosition) -> bool {
        match self.pins.back_mut() {
            Some(last) if last.file == file => {
                last.end = last.end.max(end);
                false
            }
            _ => {
                self.pins.push_back(Pin { file, end });
                true
            }
        }
    }

    /// Takes the next file of which nothing is needed any more.
    pub(crate) fn pop_pin(&mut self) -> Option<FileId> {
        let first = self.pins.front()?;
        if first.end <= self.flush.flushed {
            self.pins.pop_front().map(|pin| pin.file)
        } else {
            None
        }
    }

    /// Bytes of the whole log.
    pub(crate) fn size_bytes(&self) -> u64 {
        let sealed: u64 = self
            .sealed
            .iter()
            .map(|segment| segment.data_end - SEGMENT_DATA)
            .sum();
        let rolled: u64 = self
            .rolled
            .iter()
            .map(|segment| segment.end.position.at - SEGMENT_DATA)
            .sum();
        sealed + rolled + self.end.position.at - SEGMENT_DATA
    }

    /// Why it takes no appends, if it does not.
    pub(crate) fn refusal(&self) -> Option<&Rc<str>> {
        match &self.status {
            Status::Online => None,
            Status::Fenced(reason) | Status::Failed(reason) => Some(reason),
        }
    }
}
