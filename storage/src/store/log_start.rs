//! Moving the log start: records below it are deleted, by a request or because they expired.
//!
//! Owns the order that makes this final: the records are durable, then the log start is, and only then
//! nobody is served what is below, and files go. What removes the files is in `removal`.

use std::rc::Rc;

use corelane_protocol::{Offset, Timestamp, TopicPartition};

use super::guard::{ReaderState, are_readers_due};
use super::partition::{PartitionHandle, Status};
use super::state::State;
use super::{DeleteRecordsError, Store, StoreError};
use crate::catalogue::CatalogueRecord;
use crate::disk::Disk;
use crate::position::SEGMENT_DATA;
use crate::times::elapsed_ms;

/// The most log starts that are moved by one change of the catalogue.
const MOVES_MAX: usize = 1024;
/// What could not be done is tried again after so long.
const RETRY_AFTER_MS: u64 = 1000;

/// What waits for the log start to be moved, or for files to be removed.
#[derive(Debug, Default)]
pub(crate) struct Trims {
    /// Partitions whose log start is to be moved, each once.
    pub(super) moves: std::collections::VecDeque<PartitionHandle>,
    /// Partitions with files to be removed, each once.
    pub(super) removals: std::collections::VecDeque<PartitionHandle>,
    /// Partitions whose latest leader epoch is not durable yet, each once.
    pub(super) epochs: Vec<PartitionHandle>,
    /// Partitions with positions of readers that are to be recorded, each once.
    pub(super) readers: Vec<PartitionHandle>,
    /// It is time to record them.
    pub(super) are_readers_due: bool,
    pub(super) readers_recorded_at: Option<Timestamp>,
    /// The time of the last tick.
    pub(super) now: Option<Timestamp>,
    /// When what failed was last tried again.
    retried_at: Option<Timestamp>,
    /// How often a log start could not be moved, and why the last time.
    failures: u64,
    failure: Option<StoreError>,
}

impl Trims {
    pub(super) fn is_idle(&self) -> bool {
        self.moves.is_empty() && self.removals.is_empty() && self.epochs.is_empty()
    }

    /// Whether what failed should be tried again.
    pub(super) fn is_retry_due(&mut self, now: Timestamp) -> bool {
        let is_due = !self.is_idle()
            && self
                .retried_at
                .is_none_or(|last| now < last || elapsed_ms(last, now) >= RETRY_AFTER_MS);
        if is_due {
            self.retried_at = Some(now);
        }
        is_due
    }
}

/// A log start that is to be moved, and who has not read what lies below.
struct Move {
    handle: PartitionHandle,
    partition: TopicPartition,
    log_start: Offset,
    unread: Vec<(String, ReaderState)>,
}

impl Move {
    /// What is recorded of it: all at once, so that nothing is counted twice or not at all.
    fn records(&self) -> impl Iterator<Item = CatalogueRecord> {
        let partition = self.partition;
        let moved = CatalogueRecord::LogStartMoved {
            partition,
            log_start: self.log_start,
        };
        let unread = self.unread.iter();
        std::iter::once(moved).chain(
            unread.map(move |(reader, state)| CatalogueRecord::ReaderAt {
                partition,
                reader: reader.clone(),
                state: *state,
            }),
        )
    }
}

impl Trims {
    /// Whether positions of readers should be recorded.
    pub(super) fn are_positions_due(&mut self, now: Timestamp) -> bool {
        if self.readers.is_empty() || !are_readers_due(&mut self.readers_recorded_at, now) {
            return false;
        }
        self.are_readers_due = true;
        true
    }
}

impl<D: Disk> Store<D> {
    /// Deletes the records of a partition below an offset, which must not be beyond its high watermark. Durable
    /// on return: from then on nothing below is served again, whatever happens. Files go later.
    ///
    /// Returns the log start, which is beyond `before` if it was already.
    ///
    /// # Errors
    /// `DeleteRecordsError`. After an error of the store the records may be deleted all the same.
    pub async fn delete_records(
        &self,
        partition: TopicPartition,
        before: Offset,
    ) -> Result<Offset, DeleteRecordsError> {
        self.expect_open()?;
        let handle = self
            .partition_handle(partition)
            .ok_or(DeleteRecordsError::UnknownPartition(partition))?;
        let _work = self.begin_work();
        let failures = {
            let mut state = self.state.borrow_mut();
            state.expect_deletable(handle, before)?;
            let wanted = if crate::planted!(DeletedTooFar) {
                state
                    .partitions
                    .get(handle)
                    .map_or(before, |partition| partition.high_watermark().offset)
            } else {
                before
            };
            state.want_log_start(handle, wanted);
            if state.planner.is_due() {
                self.wake.commit.notify();
            }
            if !state.spill_queue.is_empty() {
                self.wake.spill.notify();
            }
            state.trims.failures
        };
        self.wake.trim.notify();
        let mut outcome = None;
        self.wake
            .idle
            .until(|| {
                let state = self.state.borrow();
                outcome = state.log_start_outcome(handle, partition, before, failures);
                outcome.is_some()
            })
            .await;
        outcome.expect("it was waited for")
    }

    /// Moves log starts, removes files and records what a full disk has put off until the store is closed or fenced.
    pub(super) async fn run_trims(self: Rc<Self>) {
        let _work = self.begin_work();
        loop {
            if self.has_ended() {
                return;
            }
            let mut has_recorded = self.retry_epochs().await;
            has_recorded |= self.record_due_readers().await;
            let has_moved = self.move_log_starts().await;
            let has_removed = self.remove_expired().await;
            if !(has_recorded || has_moved || has_removed || self.has_ended()) {
                self.wake.trim.notified().await;
            }
        }
    }

    /// Moves the log starts that wait for it. Returns whether there were any.
    async fn move_log_starts(&self) -> bool {
        let moves = self.state.borrow_mut().plan_moves();
        if moves.is_empty() {
            return false;
        }
        let records = moves.iter().flat_map(Move::records);
        let records: Vec<_> = records.collect();
        let recorded = if crate::planted!(LogStartNotRecorded) {
            Ok(())
        } else {
            self.record(&records).await
        };
        let is_recorded = recorded.is_ok();
        {
            let mut state = self.state.borrow_mut();
            for moved in &moves {
                if let Some(partition) = state.partitions.get_mut(moved.handle) {
                    partition.flags.is_moving = false;
                }
            }
            match recorded {
                Ok(()) => {
                    for moved in moves {
                        state.unread_expired(moved.handle, moved.unread);
                        state.log_start_moved(moved.handle, moved.log_start);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "log starts could not be moved");
                    for moved in &moves {
                        state.queue_move(moved.handle);
                    }
                    state.trims.failures += 1;
                    state.trims.failure = Some(error);
                }
            }
            self.tell_news(&state);
        }
        self.wake.idle.notify();
        is_recorded
    }
}

impl State {
    fn expect_deletable(
        &self,
        handle: PartitionHandle,
        before: Offset,
    ) -> Result<(), DeleteRecordsError> {
        let partition = self
            .partitions
            .get(handle)
            .expect("the caller has looked it up");
        if let Status::Failed(reason) = &partition.status {
            return Err(DeleteRecordsError::PartitionFailed(reason.clone()));
        }
        let high_watermark = partition.high_watermark().offset;
        if before > high_watermark {
            return Err(DeleteRecordsError::OutOfRange {
                before,
                log_start: partition.log_start,
                high_watermark,
            });
        }
        Ok(())
    }

    /// Asks for the records below an offset to be deleted. If those are all, the segment that is appended to
    /// takes no more, so that its file can go as well.
    pub(super) fn want_log_start(&mut self, handle: PartitionHandle, before: Offset) {
        let Some(partition) = self.partitions.get_mut(handle) else {
            return;
        };
        assert!(before <= partition.high_watermark().offset);
        partition.wanted_log_start = partition.wanted_log_start.max(before);
        if partition.wanted_log_start > partition.durable.offset {
            self.make_due(handle);
        }
        self.roll_deleted(handle);
        self.queue_move(handle);
    }

    /// Ends the segment that is appended to, if all of its records are deleted or to be.
    pub(super) fn roll_deleted(&mut self, handle: PartitionHandle) {
        let is_deleted = self.partitions.get(handle).is_some_and(|partition| {
            partition.wanted_log_start >= partition.end.offset
                && partition.end.offset > partition.end.position.segment
        });
        if is_deleted {
            self.roll_now(handle);
        }
    }

    /// Ends the segment that is appended to before it is full, unless it has no batch.
    pub(super) fn roll_now(&mut self, handle: PartitionHandle) {
        let Some(partition) = self.partitions.get_mut(handle) else {
            return;
        };
        if partition.refusal().is_some() || partition.end.position.at <= SEGMENT_DATA {
            return;
        }
        partition.roll();
        self.make_due(handle);
        self.queue_rolled(handle);
    }

    /// Queues a partition to be spilled if a segment of it can be sealed.
    pub(super) fn queue_rolled(&mut self, handle: PartitionHandle) {
        let can_seal = self
            .partitions
            .get(handle)
            .is_some_and(|partition| partition.has_durable_roll() && partition.refusal().is_none());
        if can_seal {
            self.queue_spill(handle);
        }
    }

    /// Notes that a partition's log start is to be moved, once what it deletes is durable.
    pub(super) fn queue_move(&mut self, handle: PartitionHandle) {
        if let Some(partition) = self.partitions.get_mut(handle)
            && partition.wants_move()
            && !std::mem::replace(&mut partition.flags.is_move_queued, true)
        {
            self.trims.moves.push_back(handle);
        }
    }

    /// Notes that files of a partition are to be removed.
    pub(super) fn queue_removal(&mut self, handle: PartitionHandle) {
        if let Some(partition) = self.partitions.get_mut(handle)
            && !partition.expired.is_empty()
            && !std::mem::replace(&mut partition.flags.is_removal_queued, true)
        {
            self.trims.removals.push_back(handle);
        }
    }

    /// The next log starts to be moved.
    fn plan_moves(&mut self) -> Vec<Move> {
        let mut moves = Vec::new();
        while moves.len() < MOVES_MAX
            && let Some(handle) = self.trims.moves.pop_front()
        {
            let Some(partition) = self.partitions.get_mut(handle) else {
                continue;
            };
            partition.flags.is_move_queued = false;
            if partition.flags.is_deleting
                || partition.flags.is_replacing
                || !partition.wants_move()
            {
                continue;
            }
            partition.flags.is_moving = true;
            moves.push(Move {
                handle,
                partition: partition.id,
                log_start: partition.wanted_log_start,
                unread: partition.unread_below(partition.wanted_log_start),
            });
        }
        moves
    }

    /// The catalogue says where a log start is now.
    fn log_start_moved(&mut self, handle: PartitionHandle, log_start: Offset) {
        let Some(partition) = self.partitions.get_mut(handle) else {
            return;
        };
        assert!(log_start >= partition.log_start, "a log start goes forward");
        partition.log_start = log_start;
        partition.epochs.trim(log_start);
        let kept = partition
            .sealed
            .partition_point(|segment| segment.end_offset <= log_start);
        partition.expired.extend(partition.sealed.drain(..kept));
        self.note_progress(handle);
        // More may have been asked for meanwhile.
        self.queue_move(handle);
        self.queue_removal(handle);
    }

    fn log_start_outcome(
        &self,
        handle: PartitionHandle,
        id: TopicPartition,
        before: Offset,
        failures: u64,
    ) -> Option<Result<Offset, DeleteRecordsError>> {
        let partition = self.partitions.get(handle);
        let Some(partition) = partition.filter(|partition| !partition.flags.is_deleting) else {
            return Some(Err(DeleteRecordsError::UnknownPartition(id)));
        };
        if partition.log_start >= before {
            return Some(Ok(partition.log_start));
        }
        let error = if let Some(reason) = &self.fenced {
            StoreError::Fenced(reason.clone())
        } else if self.is_closing {
            StoreError::Closed
        } else if self.trims.failures > failures {
            self.trims.failure.clone().expect("it was counted")
        } else {
            return None;
        };
        Some(Err(error.into()))
    }
}
