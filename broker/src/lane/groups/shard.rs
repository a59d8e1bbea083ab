//! One partition of the internal topic: its groups' coordinator, and what waits for its log.
//!
//! A coordinator changes at once, in memory; what it says is told only when the records that it has given out until
//! then are durable. If one of them cannot be logged, whoever waits is told so, the coordinator is thrown away, and
//! what the log holds is read again.

use std::collections::VecDeque;

use corelane_protocol::response::ListedGroup;
use corelane_protocol::{ApiError, ErrorCode, Offset, PartitionIndex, TopicPartition};
use corelane_storage::disk::Disk;
use corelane_storage::memory::{Ledger, MemoryKind};
use corelane_storage::planted;

use super::topics::ShownTopics;
use super::{GroupAnswered, GroupAsker, GroupQuestion};
use crate::groups::{self, Allowance, Coordinator, GroupRecord};
use crate::lane::partitions::LocalState;
use crate::lane::slab::Key;
use crate::lane::{Lane, Now};

/// How long a log that took no record is left alone, in µs.
const RETRY_US: u64 = 500_000;

/// A snapshot is made once the log has so many times the records that still count.
const SNAPSHOT_FACTOR: usize = 4;

/// The groups of one partition.
pub(super) struct Shard {
    pub(super) partition: TopicPartition,
    pub(super) local: Key,
    pub(super) state: ShardState,
    /// Batches that were handed to the log so far.
    pub(super) appended: u64,
    /// How many of them are durable, or refused.
    pub(super) settled: u64,
    /// One of them was refused: so are all that follow, until the log was read again.
    pub(super) is_refusing: bool,
    /// Answers, and the batch that each waits for.
    waiting: VecDeque<(u64, GroupAsker, Result<GroupAnswered, ApiError>)>,
    /// Records that the log holds.
    pub(super) records_in_log: usize,
    /// No snapshot before the log holds so many.
    pub(super) snapshot_at: usize,
    /// So many records of a log are not worth a snapshot, however few of them still count.
    snapshot_records_min: usize,
    pub(super) snapshot: Option<Snapshot>,
    /// What the coordinator counts for in the ledger.
    ledger_bytes: usize,
}

/// Whether a shard serves.
pub(super) enum ShardState {
    /// Not yet, or not now; why, and when it is tried again, monotonic µs.
    Waiting {
        reason: ApiError,
        retry_us: Option<u64>,
    },
    /// The log is being read: from `next` on, up to `end`. Then groups are made of what was read.
    Loading {
        coordinator: Box<Coordinator>,
        next: Offset,
        end: Offset,
    },
    Serving(Box<Coordinator>),
}

/// A snapshot on its way into the log, whatever came before it to be deleted then.
pub(super) struct Snapshot {
    /// Its first and its last batch, as they are counted.
    pub(super) first: u64,
    pub(super) last: u64,
    /// Where it begins, once that is known.
    pub(super) base: Option<Offset>,
    /// Its records.
    pub(super) records: usize,
    /// Records that the log held when it was made, with its own.
    pub(super) in_log: usize,
}

impl ShardState {
    /// Whether the log was read, and groups have yet to be made of it.
    pub(super) fn is_read(&self) -> bool {
        matches!(self, Self::Loading { next, end, .. } if next >= end)
    }
}

impl Shard {
    pub(super) fn new(partition: TopicPartition, local: Key, snapshot_records_min: usize) -> Self {
        Self {
            partition,
            local,
            state: ShardState::Waiting {
                reason: ErrorCode::GroupLoading.into(),
                retry_us: None,
            },
            appended: 0,
            settled: 0,
            is_refusing: false,
            waiting: VecDeque::new(),
            records_in_log: 0,
            snapshot_at: snapshot_records_min,
            snapshot_records_min,
            snapshot: None,
            ledger_bytes: 0,
        }
    }

    /// The coordinator, or why there is none now.
    pub(super) fn serving(&self) -> Result<&Coordinator, ApiError> {
        match &self.state {
            ShardState::Serving(coordinator) => Ok(coordinator),
            ShardState::Loading { .. } => Err(ErrorCode::GroupLoading.into()),
            ShardState::Waiting { reason, .. } => Err(reason.clone()),
        }
    }

    pub(super) fn serving_mut(&mut self) -> Option<&mut Coordinator> {
        match &mut self.state {
            ShardState::Serving(coordinator) => Some(coordinator),
            ShardState::Loading { .. } | ShardState::Waiting { .. } => None,
        }
    }

    /// Its groups.
    pub(super) fn list(&self) -> Result<Vec<ListedGroup>, ApiError> {
        Ok(self.serving()?.list())
    }

    /// When it is to be looked at again, monotonic µs.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        match &self.state {
            ShardState::Serving(coordinator) => coordinator.next_deadline(),
            ShardState::Waiting { retry_us, .. } => *retry_us,
            ShardState::Loading { .. } => self.state.is_read().then_some(0),
        }
    }

    fn count_memory(&mut self, ledger: &Ledger) {
        let bytes = match &self.state {
            ShardState::Serving(coordinator) | ShardState::Loading { coordinator, .. } => {
                coordinator.memory_bytes()
            }
            ShardState::Waiting { .. } => 0,
        };
        let before = std::mem::replace(&mut self.ledger_bytes, bytes);
        // What coordinators may hold is bounded by a setting of its own.
        ledger.reserve_unbounded(MemoryKind::Groups, bytes.saturating_sub(before));
        ledger.release(MemoryKind::Groups, before.saturating_sub(bytes));
    }

    /// Whether so much of the log is outdated that a snapshot should take its place.
    pub(super) fn wants_snapshot(&self) -> bool {
        let ShardState::Serving(coordinator) = &self.state else {
            return false;
        };
        self.snapshot.is_none()
            && !self.is_refusing
            && self.records_in_log >= self.snapshot_at
            && self.records_in_log >= SNAPSHOT_FACTOR * coordinator.live_records()
    }

    /// What came before a snapshot is deleted.
    pub(super) fn end_snapshot(&mut self) {
        if let Some(snapshot) = self.snapshot.take() {
            self.records_in_log = self.records_in_log - snapshot.in_log + snapshot.records;
        }
        self.snapshot_at = self.snapshot_records_min;
    }

    /// What came before a snapshot could not be deleted: the next one is due after so many more records.
    pub(super) fn give_up_snapshot(&mut self) {
        self.snapshot = None;
        self.snapshot_at = self.records_in_log + self.snapshot_records_min;
    }
}

impl From<Now> for groups::Now {
    fn from(now: Now) -> Self {
        Self {
            wall: now.wall,
            monotonic_us: now.monotonic_us,
        }
    }
}

impl<D: Disk> Lane<D> {
    /// A shard, and the topics as its coordinator sees them.
    pub(super) fn shard_and_topics(
        &mut self,
        index: PartitionIndex,
    ) -> (&mut Shard, ShownTopics<'_>) {
        let topics = ShownTopics {
            image: &self.image,
            hidden: &self.hidden,
            growing: &self.growing,
            partitions: &self.partitions,
            core: self.core,
        };
        let shard = self.groups.shards.get_mut(&index);
        (
            shard.expect("shards stay for as long as their topic"),
            topics,
        )
    }

    /// Lets the coordinator of one partition answer; the answer is told once what it rests on is durable.
    pub(super) fn coordinate(
        &mut self,
        now: Now,
        index: PartitionIndex,
        asker: GroupAsker,
        host: &str,
        question: &GroupQuestion,
    ) {
        if !self.groups.shards.contains_key(&index) {
            self.count_refused_commits(question.commits());
            // The topic has just been made, and is followed at the end of this event.
            return self.tell_group(asker, Err(ErrorCode::GroupLoading.into()));
        }
        let (shard, topics) = self.shard_and_topics(index);
        if let Err(reason) = shard.serving() {
            self.count_refused_commits(question.commits());
            return self.tell_group(asker, Err(reason));
        }
        let coordinator = shard.serving_mut().expect("just asked");
        let (answer, records) = ask(coordinator, now.into(), &topics, host, question);
        if answer.is_err() {
            self.count_refused_commits(question.commits());
        }
        self.count_generations(&records);
        self.log_group_records(now, index, &records);
        let (shard, _) = self.shard_and_topics(index);
        if let Err(reason) = shard.serving()
            && !planted!(GroupRefusalIgnored)
        {
            // The records were refused at once.
            self.count_refused_commits(question.commits());
            return self.tell_group(asker, Err(reason));
        }
        let (shard, _) = self.shard_and_topics(index);
        if shard.settled == shard.appended || planted!(GroupToldBeforeDurable) {
            self.tell_group(asker, answer);
        } else {
            let awaited = shard.appended;
            shard.waiting.push_back((awaited, asker, answer));
        }
        self.maybe_snapshot(now, index);
    }

    /// A batch of a shard is durable from `base` on, or was refused.
    pub(in crate::lane) fn group_batch_logged(
        &mut self,
        index: PartitionIndex,
        batch: u64,
        result: Result<Offset, ApiError>,
    ) {
        let (shard, _) = self.shard_and_topics(index);
        shard.settled += 1;
        debug_assert!(
            shard.settled <= shard.appended,
            "batch {batch} is settled twice"
        );
        match result {
            Ok(base) => {
                if let Some(snapshot) = &mut shard.snapshot
                    && snapshot.first == batch
                {
                    snapshot.base = Some(base);
                }
                while let (shard, _) = self.shard_and_topics(index)
                    && shard
                        .waiting
                        .front()
                        .is_some_and(|(awaited, ..)| *awaited <= batch)
                {
                    let (_, asker, answer) = shard.waiting.pop_front().expect("just looked at");
                    self.tell_group(asker, answer);
                }
                self.snapshot_logged(index, batch);
            }
            Err(error) => self.refuse_group_changes(index, Some(batch), &error),
        }
    }

    /// What a coordinator has changed could not be logged: it is thrown away, and whoever waits for this batch or a
    /// later one is told so. No batch: the change did not come so far.
    pub(super) fn refuse_group_changes(
        &mut self,
        index: PartitionIndex,
        batch: Option<u64>,
        error: &ApiError,
    ) {
        let now_us = self.meters.now_us;
        let (shard, _) = self.shard_and_topics(index);
        tracing::warn!(partition = %shard.partition, %error, "a change of consumer groups was not logged");
        shard.is_refusing = true;
        shard.snapshot = None;
        shard.state = ShardState::Waiting {
            reason: told(error),
            retry_us: Some(now_us + RETRY_US),
        };
        // It may be refused at once, while batches before it are still being written.
        let before = match batch {
            Some(batch) => shard
                .waiting
                .partition_point(|(awaited, ..)| *awaited < batch),
            None => shard.waiting.len(),
        };
        let waiting = shard.waiting.split_off(before);
        for (_, asker, answer) in waiting {
            if let Ok(GroupAnswered::Committed(entries)) = &answer {
                self.count_refused_commits(entries.len());
            }
            self.tell_group(asker, Err(told(error)));
        }
        self.count_group_memory(index);
    }

    /// After each change of a coordinator: what it holds is counted.
    pub(super) fn count_group_memory(&mut self, index: PartitionIndex) {
        let Self { groups, ledger, .. } = self;
        let shard = groups.shards.get_mut(&index);
        shard.expect("named by the caller").count_memory(ledger);
    }

    /// Lets a shard that does not serve begin to read its log, if that may be now, or go on making groups of it.
    pub(super) fn advance_shard(
        &mut self,
        now: Now,
        index: PartitionIndex,
        allowance: &mut Allowance,
    ) {
        let Some(shard) = self.groups.shards.get_mut(&index) else {
            return;
        };
        if shard.state.is_read() {
            return self.read_on(now, index, allowance);
        }
        let ShardState::Waiting { reason, retry_us } = &mut shard.state else {
            return;
        };
        if retry_us.is_some_and(|retry_us| retry_us > now.monotonic_us) {
            return;
        }
        if shard.settled < shard.appended {
            // The log is not read before it is known what it holds.
            *retry_us = Some(now.monotonic_us + RETRY_US);
            return;
        }
        let Some(local) = self.partitions.local(shard.local) else {
            return;
        };
        *retry_us = None;
        match &local.state {
            LocalState::Creating => {}
            LocalState::Failed(message) => {
                *reason = ApiError::new(ErrorCode::StorageFailed, message.as_str());
            }
            LocalState::Online => self.load_shard(now, index, allowance),
        }
    }

    /// Whether a shard takes up nothing until its log was read again.
    pub(in crate::lane) fn refuses_groups(&self, index: PartitionIndex) -> bool {
        let shard = self.groups.shards.get(&index);
        shard.is_none_or(|shard| shard.is_refusing)
    }
}

/// What those are told who wait for a batch that was refused.
fn told(error: &ApiError) -> ApiError {
    match error.code {
        // It was refused because one before it was.
        ErrorCode::ProduceOrder => ErrorCode::GroupLoading.into(),
        _ => error.clone(),
    }
}

/// The answer, and the records that it rests on.
fn ask(
    coordinator: &mut Coordinator,
    now: groups::Now,
    topics: &ShownTopics<'_>,
    host: &str,
    question: &GroupQuestion,
) -> (Result<GroupAnswered, ApiError>, Vec<GroupRecord>) {
    match question {
        GroupQuestion::Heartbeat(request) => {
            let outcome = coordinator.heartbeat(now, topics, host, request);
            (
                outcome.result.map(GroupAnswered::Heartbeat),
                outcome.records,
            )
        }
        GroupQuestion::Leave(request) => {
            let outcome = coordinator.leave(now, topics, request);
            (
                outcome.result.map(|()| GroupAnswered::Done),
                outcome.records,
            )
        }
        GroupQuestion::Commit(request) => {
            let outcome = coordinator.commit(now, topics, request);
            (
                outcome.result.map(GroupAnswered::Committed),
                outcome.records,
            )
        }
        GroupQuestion::Offsets(request) => {
            let offsets = coordinator.fetch_offsets(request);
            (offsets.map(GroupAnswered::Offsets), Vec::new())
        }
        GroupQuestion::Describe(request) => {
            let described = coordinator.describe(topics, request);
            (described.map(GroupAnswered::Described), Vec::new())
        }
        GroupQuestion::Delete(request) => {
            let outcome = coordinator.delete(now, request);
            (
                outcome.result.map(|()| GroupAnswered::Done),
                outcome.records,
            )
        }
    }
}
