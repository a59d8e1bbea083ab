//! The retention guard: named readers, how far they have come, and expiry that looks at them.
//!
//! Owns the positions that readers report and the count of what expired before they had it. A position that is
//! kept may lag what was reported: then expiry is later, or counts more, and after a crash a reader that had just
//! gone back may have to say so again. It is never one that nobody reported. Readers are named by the topic, so
//! that their number is bounded, and waiting for them is too, so that one that is gone cannot fill the disk. Does
//! no I/O: what is to be kept is recorded in `log_start`'s task.

use std::collections::BTreeMap;
use std::sync::Arc;

use corelane_protocol::{Offset, Timestamp, TopicPartition};

use super::partition::{Partition, PartitionHandle, Status};
use super::state::State;
use super::{Progress, ReportError, Store, StoreError};
use crate::catalogue::CatalogueRecord;
use crate::disk::Disk;
use crate::times::elapsed_ms;

/// The most readers that one partition can be told of.
pub const READERS_MAX: usize = 16;
/// What a partition's guard has to say is said so often at most.
const SAY_EVERY_MS: u64 = 60_000;
/// Positions are recorded so often at most.
const RECORD_EVERY_MS: u64 = 5_000;
/// The most partitions whose positions are recorded by one change of the catalogue.
const PARTITIONS_PER_RECORDING: usize = 512;

/// What expiry does about records that a named reader has not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GuardMode {
    /// It deletes them, and counts them.
    #[default]
    Off,
    /// It also says so.
    Warn,
    /// It waits for the reader, up to a cap, and then does.
    Wait,
}

/// How a partition's expiry looks at readers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionGuard {
    /// What it does.
    pub mode: GuardMode,
    /// The readers.
    pub readers: Arc<[String]>,
    /// It waits so many ms longer than `retention_ms` at most.
    pub ms_max: u64,
    /// It keeps so many bytes more than `retention_bytes` at most.
    pub bytes_max: u64,
}

/// How far a named reader has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderState {
    /// The offset of the next record that it wants; 0 if it never said so.
    pub position: Offset,
    /// Records that were deleted before it had come so far.
    pub expired_unread: u64,
}

/// The readers of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readers {
    pub(crate) states: BTreeMap<String, ReaderState>,
    /// In the queue of those whose positions are to be recorded.
    is_queued: bool,
    /// When something was said last.
    said_at: Option<Timestamp>,
}

impl Readers {
    pub(crate) fn new(states: BTreeMap<String, ReaderState>) -> Self {
        Self {
            states,
            ..Self::default()
        }
    }

    /// Knows these readers from now on and no others.
    pub(crate) fn follow(&mut self, guard: &RetentionGuard) {
        self.states
            .retain(|name, _| guard.readers.iter().any(|reader| reader == name));
        for name in guard.readers.iter() {
            self.states.entry(name.clone()).or_default();
        }
    }

    /// The log ends here: nobody has read more, whatever was reported of records that are gone.
    pub(crate) fn cut_back(&mut self, end: Offset) {
        for state in self.states.values_mut() {
            state.position = if crate::planted!(ReaderForgotten) {
                end
            } else {
                state.position.min(end)
            };
        }
    }

    /// The records that give the catalogue what is known.
    pub(crate) fn records(
        &self,
        partition: TopicPartition,
    ) -> impl Iterator<Item = CatalogueRecord> {
        let states = self.states.iter();
        states.map(move |(name, state)| CatalogueRecord::ReaderAt {
            partition,
            reader: name.clone(),
            state: *state,
        })
    }

    /// The readers that have not come to an offset, each with how many records it lacks of those from `log_start`
    /// on.
    fn behind(&self, log_start: Offset, upto: Offset) -> impl Iterator<Item = (&str, u64)> {
        self.states.iter().filter_map(move |(name, state)| {
            let from = state.position.max(log_start);
            (from < upto).then(|| (&**name, upto.distance_from(from)))
        })
    }

    /// Whether it is time to say something again.
    fn may_say(&mut self, now: Timestamp) -> bool {
        let is_due = self
            .said_at
            .is_none_or(|last| now < last || elapsed_ms(last, now) >= SAY_EVERY_MS);
        if is_due {
            self.said_at = Some(now);
        }
        is_due
    }
}

/// Records that expired, or are to, before a reader had them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The reader.
    pub reader: String,
    /// How many of the records it lacks.
    pub records: u64,
    /// How many it has missed in all.
    pub expired_unread: u64,
    /// Expiry waits for it; otherwise they are deleted.
    pub is_waited_for: bool,
}

impl Partition {
    /// Whether the guard keeps records up to an offset although they have expired: `late_ms` after their time, and
    /// with so many bytes more than there should be.
    pub(super) fn is_guarded(&self, upto: Offset, late_ms: u64, excess_bytes: u64) -> bool {
        let guard = &self.config.guard;
        let is_within_caps = late_ms <= guard.ms_max && excess_bytes <= guard.bytes_max;
        guard.mode == GuardMode::Wait
            && !crate::planted!(GuardIgnored)
            && (is_within_caps || crate::planted!(GuardNeverEnds))
            && self.readers.behind(self.log_start, upto).next().is_some()
    }

    /// The states of the readers that lose records when the log starts at an offset.
    pub(super) fn unread_below(&self, log_start: Offset) -> Vec<(String, ReaderState)> {
        let behind = self.readers.behind(self.log_start, log_start);
        let behind = behind.filter(|_| !crate::planted!(UnreadNotCounted));
        let lost = behind.map(|(name, records)| {
            let mut state = self.readers.states[name];
            state.expired_unread += records;
            (name.to_owned(), state)
        });
        lost.collect()
    }
}

impl State {
    /// Says that expiry waits for the readers that have not come to an offset.
    pub(super) fn say_waiting(&mut self, handle: PartitionHandle, upto: Offset, now: Timestamp) {
        let Some(partition) = self.partitions.get_mut(handle) else {
            return;
        };
        if !partition.readers.may_say(now) {
            return;
        }
        let log_start = partition.log_start;
        let behind = partition.readers.behind(log_start, upto);
        let unread: Vec<_> = behind
            .map(|(name, records)| Unread {
                reader: name.to_owned(),
                records,
                expired_unread: partition.readers.states[name].expired_unread,
                is_waited_for: true,
            })
            .collect();
        let partition = partition.id;
        for unread in unread {
            self.tell(Progress::Unread { partition, unread });
        }
    }

    /// Counts what readers have lost, and says it unless nobody wants to hear of it.
    pub(super) fn unread_expired(
        &mut self,
        handle: PartitionHandle,
        lost: Vec<(String, ReaderState)>,
    ) {
        let now = self.trims.now.unwrap_or(Timestamp::new(0));
        let Some(partition) = self.partitions.get_mut(handle) else {
            return;
        };
        let is_said = partition.config.guard.mode != GuardMode::Off
            && !lost.is_empty()
            && partition.readers.may_say(now);
        let mut unread = Vec::new();
        for (name, state) in lost {
            let Some(known) = partition.readers.states.get_mut(&name) else {
                continue;
            };
            let records = state.expired_unread.saturating_sub(known.expired_unread);
            known.expired_unread = state.expired_unread;
            unread.push(Unread {
                reader: name,
                records,
                expired_unread: state.expired_unread,
                is_waited_for: false,
            });
        }
        let partition = partition.id;
        for unread in unread.into_iter().filter(|_| is_said) {
            self.tell(Progress::Unread { partition, unread });
        }
    }

    fn report(
        &mut self,
        id: TopicPartition,
        reader: &str,
        position: Offset,
    ) -> Result<(), ReportError> {
        let handle = self.partitions.handle(id);
        let handle = handle.ok_or(ReportError::UnknownPartition(id))?;
        let partition = self.partitions.get_mut(handle);
        let partition = partition.filter(|found| !found.flags.is_deleting);
        let partition = partition.ok_or(ReportError::UnknownPartition(id))?;
        if let Status::Failed(reason) = &partition.status {
            return Err(ReportError::PartitionFailed(reason.clone()));
        }
        let high_watermark = partition.high_watermark().offset;
        let state = partition.readers.states.get_mut(reader);
        let state = state.ok_or_else(|| ReportError::UnknownReader(reader.to_owned()))?;
        if position > high_watermark {
            return Err(ReportError::OutOfRange {
                position,
                high_watermark,
            });
        }
        if position > state.position || !crate::planted!(ReaderNotTakenBack) {
            state.position = position;
        }
        if !std::mem::replace(&mut partition.readers.is_queued, true) {
            self.trims.readers.push(handle);
        }
        Ok(())
    }

    /// The next positions to be recorded. Their partitions are not deleted meanwhile.
    fn plan_readers(&mut self) -> Vec<(PartitionHandle, Vec<CatalogueRecord>)> {
        let count = self.trims.readers.len().min(PARTITIONS_PER_RECORDING);
        let mut planned = Vec::new();
        for handle in self.trims.readers.drain(..count) {
            let Some(partition) = self.partitions.get_mut(handle) else {
                continue;
            };
            partition.readers.is_queued = false;
            if partition.flags.is_deleting {
                continue;
            }
            partition.flags.is_moving = true;
            let records = partition.readers.records(partition.id);
            planned.push((handle, records.collect()));
        }
        planned
    }
}

impl<D: Disk> Store<D> {
    /// Notes how far a named reader has come in a partition. It is kept in memory and recorded a few seconds later,
    /// so that a crash may leave one that was reported before.
    ///
    /// # Errors
    /// `ReportError`; nothing has changed then.
    pub fn report_position(
        &self,
        partition: TopicPartition,
        reader: &str,
        position: Offset,
    ) -> Result<(), ReportError> {
        self.state.borrow_mut().report(partition, reader, position)
    }

    /// Records the positions that were reported.
    ///
    /// # Errors
    /// A full disk, after which they are recorded with the next ones; anything else fences the store.
    pub(super) async fn record_readers(&self) -> Result<bool, StoreError> {
        let mut has_recorded = false;
        loop {
            let planned = self.state.borrow_mut().plan_readers();
            if planned.is_empty() {
                return Ok(has_recorded);
            }
            has_recorded = true;
            let records = planned.iter().flat_map(|(_, records)| records.clone());
            let records: Vec<_> = records.collect();
            let recorded = self.record(&records).await;
            {
                let state = &mut *self.state.borrow_mut();
                for (handle, _) in &planned {
                    if let Some(partition) = state.partitions.get_mut(*handle) {
                        partition.flags.is_moving = false;
                        if recorded.is_err() {
                            partition.readers.is_queued = true;
                            state.trims.readers.push(*handle);
                        }
                    }
                }
            }
            self.wake.idle.notify();
            recorded?;
        }
    }

    /// Records positions if it is time. Returns whether there were any.
    pub(super) async fn record_due_readers(&self) -> bool {
        if !std::mem::take(&mut self.state.borrow_mut().trims.are_readers_due) {
            return false;
        }
        match self.record_readers().await {
            Ok(has_recorded) => has_recorded,
            Err(error) => {
                tracing::warn!(%error, "positions of readers could not be recorded; it is tried again");
                false
            }
        }
    }
}

/// Whether positions should be recorded.
pub(super) fn are_readers_due(last: &mut Option<Timestamp>, now: Timestamp) -> bool {
    let is_due = last.is_none_or(|last| now < last || elapsed_ms(last, now) >= RECORD_EVERY_MS);
    if is_due {
        *last = Some(now);
    }
    is_due
}
