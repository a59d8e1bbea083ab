//! Compaction: the passes over partitions, one at a time.
//!
//! Owns the order: the keys of what is new are read, then the segments are written anew from the first on, and then the
//! catalogue says up to where the log is compacted. A crash in between leaves segments of both kinds, which are as good,
//! and the pass is made again. Which records stay is decided in `compaction`; low priority: one read at a time, as fast
//! as ticks allow.

use std::collections::VecDeque;
use std::rc::Rc;

use corelane_protocol::batch::{DecompressLimit, RecordBatch, verify_crc};
use corelane_protocol::{Offset, Timestamp, TopicPartition};

use super::pace::{PIECE_BYTES, Pace};
use super::partition::PartitionHandle;
use super::read_window::{Segment, SegmentBytes};
use super::reservation::Reservation;
use super::segments::SegmentPlace;
use super::state::State;
use super::{ReadError, Store, StoreError};
use crate::catalogue::{CatalogueRecord, SealedSegment};
use crate::compaction::{KEY_BYTES, LatestOffsets, Plan, Rules, plan};
use crate::disk::Disk;
use crate::layout::{BLOCK, block_floor};
use crate::memory::MemoryKind;
use crate::position::LogPoint;
use crate::segment::batches::Check;
use crate::segment::walk::{Step, Stop};
use crate::times::elapsed_ms;

/// What failed for want of room or memory is tried again after so long.
const RETRY_AFTER_MS: u64 = 10_000;

/// Which partitions wait to be compacted, and how much may be read now.
#[derive(Debug, Default)]
pub(crate) struct Compaction {
    pub(super) pace: Pace,
    queue: VecDeque<PartitionHandle>,
    is_running: bool,
    /// There was no room or no memory then.
    failed_at: Option<Timestamp>,
}

impl Compaction {
    /// Adds what the time since the last call allows. Returns whether somebody waits for it.
    pub(super) fn give(&mut self, now: Timestamp, bytes_per_second: u64) -> bool {
        let may_read = self.pace.give(now, bytes_per_second);
        may_read && (self.is_running || !self.queue.is_empty())
    }
}

/// A pass over a partition.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) handle: PartitionHandle,
    pub(super) partition: TopicPartition,
    plan: Plan,
    now: Timestamp,
}

/// Why a pass comes to nothing.
#[derive(Debug)]
pub(super) enum PassError {
    /// The store ends, or the partition is deleted or not to be compacted any more, or is another than it was.
    Over,
    /// There is no room, or no memory: later there may be.
    Later(String),
    /// A segment is damaged or cannot be read.
    Damaged(String),
}

impl From<ReadError> for PassError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::MemoryFull(_) => Self::Later(error.to_string()),
            error => Self::Damaged(error.to_string()),
        }
    }
}

impl From<StoreError> for PassError {
    fn from(error: StoreError) -> Self {
        Self::Later(error.to_string())
    }
}

/// Batches of a segment, with the bytes in which they are.
pub(super) struct Piece {
    bytes: SegmentBytes,
    places: Vec<(u64, u64)>,
}

impl Piece {
    /// Each batch, and where it is in the file.
    pub(super) fn batches(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let places = self.places.iter();
        places.map(|(from, to)| {
            let bytes = self.bytes.range(*from, *to);
            (*from, bytes.expect("the walk was over them"))
        })
    }
}

/// A batch that was unpacked, and the memory for it.
pub(super) type Unpacked<'a> = (RecordBatch<&'a [u8]>, Reservation);

/// A segment that is read from its first batch on.
pub(super) struct Source<D: Disk> {
    segment: Segment,
    file: D::File,
    boundary: LogPoint,
    is_through: bool,
}

impl<D: Disk> Store<D> {
    /// Compacts until the store is closed or fenced.
    pub(super) async fn run_compaction(self: Rc<Self>) {
        let _work = self.begin_work();
        if self.state.borrow().config.compaction_bytes_per_second == 0 {
            return;
        }
        while !self.has_ended() {
            let next = self.state.borrow_mut().begin_pass();
            let Some(pass) = next else {
                self.wake.compact.notified().await;
                continue;
            };
            let ended = self.compact(&pass).await;
            self.state.borrow_mut().end_pass(&pass, ended);
            self.tell_news(&self.state.borrow());
            self.wake.idle.notify();
        }
    }

    async fn compact(&self, pass: &Pass) -> Result<(), PassError> {
        self.sweep(pass).await?;
        let (_reserved, rules) = self.learn(pass).await?;
        let mut next = Offset::ZERO;
        while let Some(first) = self.next_source(pass, &rules, next) {
            next = self.write_anew(pass, &rules, first).await?;
        }
        let partition = pass.partition;
        let (upto, at) = (rules.upto, pass.now);
        let compacted = CatalogueRecord::CompactedUpto {
            partition,
            upto,
            at,
        };
        self.record(&[compacted]).await?;
        let mut state = self.state.borrow_mut();
        if let Some(partition) = state.partitions.get_mut(pass.handle) {
            let noted = partition.compaction.note(upto, at);
            noted.expect("a pass goes on where the one before ended");
        }
        state.meters.compaction.passes += 1;
        Ok(())
    }

    /// Reads the keys of what is new, as many as there is memory for.
    async fn learn(&self, pass: &Pass) -> Result<(Reservation, Rules), PassError> {
        let Plan { from, upto } = pass.plan;
        let (ledger, bytes_max, limit) = {
            let state = self.state.borrow();
            let config = &state.config;
            (
                Rc::clone(&state.ledger),
                config.compaction_keys_bytes_max,
                unpack_limit(&state),
            )
        };
        let records = usize::try_from(upto.distance_from(from)).unwrap_or(usize::MAX);
        let bytes = records.saturating_mul(KEY_BYTES).min(bytes_max);
        let reserved = Reservation::new(&ledger, MemoryKind::Compaction, bytes);
        let reserved = reserved.map_err(|full| PassError::Later(full.to_string()))?;
        let mut latest = LatestOffsets::new(self.uuid, bytes);
        let mut known = from;
        'segments: while known < upto {
            let mut source = self.open_source(pass, known).await?;
            let end = source.segment.place.end_offset;
            while let Some(piece) = self.next_piece(pass, &mut source).await? {
                for (at, bytes) in piece.batches() {
                    let unpacked = self.unpack(&source, at, bytes, &limit)?;
                    let Some((batch, _reserved)) = unpacked else {
                        continue;
                    };
                    for record in &batch {
                        let is_new = record.offset >= from;
                        if is_new
                            && let Some(key) = record.key
                            && !latest.note(key, record.offset)
                        {
                            known = if crate::planted!(PartTakenForWhole) {
                                upto
                            } else {
                                record.offset
                            };
                            break 'segments;
                        }
                    }
                }
            }
            known = end;
        }
        let state = self.state.borrow();
        let found = state.partitions.get(pass.handle).ok_or(PassError::Over)?;
        let config = found.config.compaction.ok_or(PassError::Over)?;
        let retention_ms = config.delete_retention_ms;
        let rules = Rules {
            latest,
            upto: known,
            log_start: found.log_start,
            tombstones_upto: found.compaction.compacted_since(retention_ms, pass.now),
        };
        Ok((reserved, rules))
    }

    /// A batch that can be unpacked, and the memory for it. Nothing where only its producer knows what it is: nobody looks
    /// into a compressed batch when it is appended.
    ///
    /// # Errors
    /// `Damaged` if it is not what was written; `Later`.
    pub(super) fn unpack<'a>(
        &self,
        source: &Source<D>,
        at: u64,
        bytes: &'a [u8],
        limit: &DecompressLimit,
    ) -> Result<Option<Unpacked<'a>>, PassError> {
        let header = verify_crc(bytes).map_err(|error| {
            let damage = self.corruption(&source.segment, at, error.to_string());
            PassError::Damaged(damage.to_string())
        })?;
        let needed = header.uncompressed_length as usize + bytes.len();
        let reserved = Reservation::new(&self.ledger(), MemoryKind::Compaction, needed);
        let reserved = reserved.map_err(|full| PassError::Later(full.to_string()))?;
        Ok(RecordBatch::parse(bytes, limit)
            .ok()
            .map(|batch| (batch, reserved)))
    }

    /// The next segment to be written anew, as the log has it now: the first that begins at or behind an offset.
    pub(super) fn next_source(
        &self,
        pass: &Pass,
        rules: &Rules,
        from: Offset,
    ) -> Option<SealedSegment> {
        let state = self.state.borrow();
        let sealed = &state.partitions.get(pass.handle)?.sealed;
        let next = sealed.get(sealed.partition_point(|segment| segment.base < from));
        next.filter(|segment| segment.base < rules.upto).copied()
    }

    /// The complete segment that holds an offset.
    pub(super) async fn open_source(
        &self,
        pass: &Pass,
        offset: Offset,
    ) -> Result<Source<D>, PassError> {
        let place = {
            let state = self.state.borrow();
            let found = state.partitions.get(pass.handle).ok_or(PassError::Over)?;
            let place = found.segment_of(offset.max(found.log_start));
            place.filter(|place| place.is_sealed)
        };
        // Retention may have taken it.
        let place = place.ok_or(PassError::Over)?;
        self.open_place(pass, place).await
    }

    pub(super) async fn open_place(
        &self,
        pass: &Pass,
        place: SegmentPlace,
    ) -> Result<Source<D>, PassError> {
        let segment = Segment {
            handle: pass.handle,
            partition: pass.partition,
            place,
        };
        let opened = self.open_segment(&segment).await;
        let file = opened.map_err(|error| self.why_not(&segment, error))?;
        Ok(Source {
            boundary: LogPoint::start_of(place.base),
            segment,
            file,
            is_through: false,
        })
    }

    /// The next batches of a segment; nothing behind the last.
    pub(super) async fn next_piece(
        &self,
        pass: &Pass,
        source: &mut Source<D>,
    ) -> Result<Option<Piece>, PassError> {
        let segment = &source.segment;
        let mut wanted = PIECE_BYTES;
        while !source.is_through {
            let left = segment.place.flushed - block_floor(source.boundary.position.at);
            self.may_compact(pass, wanted.min(left)).await?;
            let at = source.boundary.position.at;
            let read = self.read_segment(segment, &source.file, at, wanted).await;
            let bytes = read.map_err(|error| self.why_not(segment, error))?;
            let read_bytes = bytes.bytes.len() as u64;
            self.state.borrow_mut().meters.compaction.read_bytes += read_bytes;
            let mut places = Vec::new();
            let mut walk = segment.walk_from(&bytes, source.boundary);
            let stop = loop {
                source.boundary.position.at = walk.at;
                source.boundary.offset = walk.expected;
                match walk.step(Check::Stamp) {
                    Step::Stop(stop) => break stop,
                    Step::Batch(at, batch) if bytes.range(at, walk.at).is_none() => {
                        // Its header is here, and not all of it.
                        let skipped = (at - source.boundary.position.at) as usize;
                        break Stop::Incomplete(skipped + batch.length as usize);
                    }
                    Step::Batch(at, _) => places.push((at, walk.at)),
                }
            };
            match stop {
                Stop::End => source.is_through = true,
                Stop::Incomplete(needed) => wanted = PIECE_BYTES.max(needed as u64 + 2 * BLOCK),
                Stop::Damaged(reason) => {
                    let damage = self.corruption(segment, walk.at, reason);
                    return Err(PassError::Damaged(damage.to_string()));
                }
            }
            if !places.is_empty() {
                return Ok(Some(Piece { bytes, places }));
            }
        }
        Ok(None)
    }

    /// What a segment that cannot be read means: retention may have taken it meanwhile.
    fn why_not(&self, segment: &Segment, error: ReadError) -> PassError {
        if self.is_current(segment) {
            error.into()
        } else {
            PassError::Over
        }
    }

    /// Waits until so many bytes may be read.
    async fn may_compact(&self, pass: &Pass, bytes: u64) -> Result<(), PassError> {
        loop {
            {
                let mut state = self.state.borrow_mut();
                state.expect_compacting(pass)?;
                if state.compaction.pace.take(bytes) {
                    return Ok(());
                }
            }
            self.wake.compact.notified().await;
        }
    }
}

/// What a batch may be once it is unpacked.
pub(super) fn unpack_limit(state: &State) -> DecompressLimit {
    let limits = &state.config.batch_limits;
    DecompressLimit {
        bytes_max: limits.uncompressed_bytes_max,
        ratio_max: limits.uncompressed_ratio_max,
    }
}

impl State {
    /// Queues a partition whose log is to be compacted.
    pub(super) fn look_for_compaction(&mut self, handle: PartitionHandle, now: Timestamp) {
        let is_too_soon = |failed| elapsed_ms(failed, now) < RETRY_AFTER_MS && now >= failed;
        if self.config.compaction_bytes_per_second == 0
            || self.compaction.failed_at.is_some_and(is_too_soon)
        {
            return;
        }
        let Some(partition) = self.partitions.get_mut(handle) else {
            return;
        };
        let flags = &mut partition.flags;
        if flags.is_compaction_queued || flags.is_compacting || flags.is_not_compactable {
            return;
        }
        let due = partition
            .config
            .compaction
            .and_then(|config| plan(&partition.sealed, &partition.compaction, &config, now));
        if due.is_some() {
            flags.is_compaction_queued = true;
            self.compaction.queue.push_back(handle);
        }
    }

    /// The pass that is due next.
    fn begin_pass(&mut self) -> Option<Pass> {
        let now = self.trims.now?;
        while let Some(handle) = self.compaction.queue.pop_front() {
            let Some(partition) = self.partitions.get_mut(handle) else {
                continue;
            };
            partition.flags.is_compaction_queued = false;
            if partition.flags.is_deleting || partition.refusal().is_some() {
                continue;
            }
            let due = partition
                .config
                .compaction
                .and_then(|config| plan(&partition.sealed, &partition.compaction, &config, now));
            if let Some(plan) = due {
                partition.flags.is_compacting = true;
                self.compaction.is_running = true;
                return Some(Pass {
                    handle,
                    partition: partition.id,
                    plan,
                    now,
                });
            }
        }
        None
    }

    fn end_pass(&mut self, pass: &Pass, ended: Result<(), PassError>) {
        self.compaction.is_running = false;
        if let Some(partition) = self.partitions.get_mut(pass.handle) {
            partition.flags.is_compacting = false;
        }
        let partition = pass.partition;
        match ended {
            Ok(()) | Err(PassError::Over) => {}
            Err(PassError::Later(reason)) => {
                tracing::warn!(%partition, reason, "compaction is tried again later");
                self.compaction.failed_at = Some(pass.now);
            }
            Err(PassError::Damaged(reason)) => {
                tracing::error!(
                    %partition,
                    reason,
                    "the partition is not compacted until the store is opened again"
                );
                if let Some(partition) = self.partitions.get_mut(pass.handle) {
                    partition.flags.is_not_compactable = true;
                }
                self.found_damage(pass.handle, &reason);
            }
        }
    }

    /// That the pass may go on.
    pub(super) fn expect_compacting(&self, pass: &Pass) -> Result<(), PassError> {
        let partition = self.partitions.get(pass.handle);
        let goes_on = partition.is_some_and(|partition| {
            partition.config.compaction.is_some()
                && !partition.flags.is_deleting
                && partition.refusal().is_none()
        });
        if goes_on && !self.is_closing && self.fenced.is_none() {
            Ok(())
        } else {
            Err(PassError::Over)
        }
    }
}
