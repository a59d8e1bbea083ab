//! What to fetch next, and what was fetched.
//!
//! Owns: the position of every assigned partition, which fetches are in flight, and the batches that
//! arrived and were not handed out. Sans-IO: events come with the time since the consumer started,
//! and `plan` says what to ask for. Never: touches sockets or reads a clock.

mod changes;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::batch::{BatchHeader, Stamp, batches};
use corelane_protocol::response::{Fetched, FetchedEntry};
use corelane_protocol::{ApiError, ErrorCode, TopicId};

use super::assigned::{Assigned, Status};
use super::place::Place;
use super::records::BatchBytes;
use super::start::{Found, OnTruncation};
use crate::backoff::{Backoff, Jitter};
use crate::cluster::{Route, TopicMetadata};
use crate::connection::Frame;
use crate::error::Error;

/// Index into the consumer's assigned partitions.
pub(crate) type PartitionId = usize;

/// Names a fetch request within its consumer.
pub(super) type FetchNumber = u64;

/// The settings that decide what is fetched when.
#[derive(Debug, Clone)]
pub(super) struct FetchSettings {
    /// Bytes asked for in one request, over all its partitions.
    pub(super) max_bytes: u32,
    /// Bytes asked for of one partition.
    pub(super) max_partition_bytes: u32,
    /// No more is fetched while this many bytes wait to be handed out.
    pub(super) buffer_bytes_max: usize,
    pub(super) backoff: Backoff,
    pub(super) on_truncation: OnTruncation,
    /// Partitions come and go: with all of those failed that there are, others may come.
    pub(super) changing: bool,
    /// Tell of an offset that did not exist and was set anew.
    pub(super) tell_resets: bool,
    pub(super) seed: u64,
}

/// Partitions in one fetch request, far below what a broker refuses.
const PARTS_MAX: usize = 4 * 1024;

/// One partition's part in a fetch request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FetchPart {
    pub(super) id: PartitionId,
    pub(super) topic: TopicId,
    pub(super) partition: u32,
    pub(super) offset: u64,
    pub(super) max_bytes: u32,
    /// The partition's leader epoch as it is known.
    pub(super) current_epoch: Option<u32>,
    /// That of the last record that was read.
    pub(super) last_epoch: Option<u32>,
}

/// A fetch request to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FetchPlan {
    pub(super) number: FetchNumber,
    pub(super) route: Route,
    pub(super) parts: Vec<FetchPart>,
}

/// What has to be found out before a partition can go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// The topic's partitions and their places.
    Topic(Arc<str>),
    /// Where to go on after an offset that does not exist.
    Reset { id: PartitionId, generation: u64 },
    /// Where the log ends now: it may be shorter than when the end of reading was found.
    End(PartitionId),
}

/// A batch, or a failure, to be handed out.
#[derive(Debug)]
pub(super) enum Item {
    Batch {
        id: PartitionId,
        bytes: BatchBytes,
        end_offset: u64,
        epoch: u32,
    },
    /// Its position moved by itself.
    Jumped(PartitionId, Error),
    Failed(Error),
}

#[derive(Debug)]
struct Buffered {
    id: PartitionId,
    generation: u64,
    bytes: BatchBytes,
    end_offset: u64,
    epoch: u32,
}

#[derive(Debug)]
struct InFlight {
    /// The partitions asked for, with their generations.
    parts: Vec<(PartitionId, u64)>,
}

#[derive(Debug)]
pub(super) struct Fetcher {
    settings: FetchSettings,
    pub(super) partitions: Vec<Assigned>,
    in_flight: BTreeMap<FetchNumber, InFlight>,
    next_number: FetchNumber,
    served_count: u64,
    buffered: VecDeque<Buffered>,
    buffered_bytes: usize,
    /// Positions that moved by themselves, since what was there is gone; told before anything that is in its place.
    jumps: VecDeque<(PartitionId, Error)>,
    failures: VecDeque<(PartitionId, Error)>,
    questions: Vec<Question>,
    /// What to do about an offset that does not exist: fail, or ask where to go on.
    reset_offsets: bool,
    jitter: Jitter,
    /// Something changed since the last plan.
    dirty: bool,
    /// When that was: what was not due then is still to be planned.
    planned_at: Duration,
}

impl Fetcher {
    pub(super) fn new(
        settings: FetchSettings,
        partitions: Vec<Assigned>,
        reset_offsets: bool,
    ) -> Self {
        Self {
            jitter: Jitter::new(settings.seed),
            settings,
            partitions,
            in_flight: BTreeMap::new(),
            next_number: 0,
            served_count: 0,
            buffered: VecDeque::new(),
            buffered_bytes: 0,
            jumps: VecDeque::new(),
            failures: VecDeque::new(),
            questions: Vec::new(),
            reset_offsets,
            dirty: true,
            planned_at: Duration::ZERO,
        }
    }

    /// The fetches to send now. `can_send` says whether a route's connection is open.
    pub(super) fn plan(
        &mut self,
        now: Duration,
        mut can_send: impl FnMut(&Route) -> bool,
    ) -> Vec<FetchPlan> {
        if !self.dirty || self.buffered_bytes >= self.settings.buffer_bytes_max {
            return Vec::new();
        }
        self.dirty = false;
        self.planned_at = now;
        let mut ready: Vec<PartitionId> = (0..self.partitions.len())
            .filter(|id| {
                self.partitions[*id].wants_fetch() && self.partitions[*id].not_before <= now
            })
            .collect();
        ready.sort_by_key(|id| self.partitions[*id].last_served);
        let mut by_route: BTreeMap<Route, Vec<PartitionId>> = BTreeMap::new();
        for id in ready {
            by_route
                .entry(self.partitions[id].route.clone())
                .or_default()
                .push(id);
        }
        let mut plans = Vec::new();
        for (route, ids) in by_route {
            if can_send(&route) {
                let parts = ids.chunks(PARTS_MAX);
                plans.extend(parts.map(|ids| self.plan_route(route.clone(), ids)));
            }
        }
        plans
    }

    fn plan_route(&mut self, route: Route, ids: &[PartitionId]) -> FetchPlan {
        let number = self.next_number;
        self.next_number += 1;
        let mut parts = Vec::with_capacity(ids.len());
        let mut generations = Vec::with_capacity(ids.len());
        for &id in ids {
            let assigned = &mut self.partitions[id];
            assigned.status = Status::InFlight;
            generations.push((id, assigned.generation));
            parts.push(FetchPart {
                id,
                topic: assigned.topic_id,
                partition: assigned.partition,
                offset: assigned.fetched.offset,
                max_bytes: self
                    .settings
                    .max_partition_bytes
                    .min(self.settings.max_bytes),
                current_epoch: assigned.leader_epoch,
                last_epoch: assigned.fetched.epoch,
            });
        }
        self.in_flight
            .insert(number, InFlight { parts: generations });
        FetchPlan {
            number,
            route,
            parts,
        }
    }

    /// What has to be asked elsewhere.
    pub(super) fn take_questions(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.questions)
    }

    /// How many partitions a fetch in flight asks for.
    pub(super) fn part_count(&self, number: FetchNumber) -> Option<usize> {
        self.in_flight
            .get(&number)
            .map(|request| request.parts.len())
    }

    /// A fetch was answered. Answers to fetches that were given up change nothing.
    pub(super) fn answered(
        &mut self,
        now: Duration,
        number: FetchNumber,
        frame: &Arc<Frame>,
        entries: Vec<FetchedEntry<'_>>,
        only_address: Option<&Arc<str>>,
    ) {
        let Some(request) = self.in_flight.remove(&number) else {
            return;
        };
        self.dirty = true;
        assert_eq!(
            entries.len(),
            request.parts.len(),
            "checked when it was decoded"
        );
        for ((id, generation), entry) in request.parts.into_iter().zip(entries) {
            let assigned = &mut self.partitions[id];
            if assigned.generation != generation || assigned.status != Status::InFlight {
                continue;
            }
            assigned.status = Status::Idle;
            if let Some(owner) = &entry.owner {
                assigned.route = assigned.route.redirected(owner, only_address);
            }
            match entry.result {
                Ok(Fetched {
                    diverging: Some(diverging),
                    ..
                }) => self.truncate(id, diverging.epoch.get(), diverging.end_offset.get()),
                Ok(fetched) => self.take_fetched(id, frame, &fetched),
                Err(error) => self.take_refusal(now, id, error, entry.owner.is_some()),
            }
        }
    }

    /// A fetch was refused as a whole, or its connection was lost.
    pub(super) fn request_failed(&mut self, now: Duration, number: FetchNumber, error: &Error) {
        let Some(request) = self.in_flight.remove(&number) else {
            return;
        };
        self.dirty = true;
        for (id, generation) in request.parts {
            let assigned = &mut self.partitions[id];
            if assigned.generation != generation || assigned.status != Status::InFlight {
                continue;
            }
            assigned.status = Status::Idle;
            if error.is_retriable() {
                self.try_later(now, id);
                self.locate(id);
            } else {
                self.fail(id, error.clone());
            }
        }
    }

    /// Connecting to a route failed: its partitions wait, and may be elsewhere by now.
    pub(super) fn connect_failed(&mut self, now: Duration, address: &str) {
        self.dirty = true;
        for id in 0..self.partitions.len() {
            if &*self.partitions[id].route.address == address
                && self.partitions[id].status == Status::Idle
            {
                self.try_later(now, id);
                self.locate(id);
            }
        }
    }

    /// A connection is open.
    pub(super) fn connected(&mut self) {
        self.dirty = true;
    }

    fn take_fetched(&mut self, id: PartitionId, frame: &Arc<Frame>, fetched: &Fetched<'_>) {
        let assigned = &mut self.partitions[id];
        assigned.failures = 0;
        assigned.high_watermark = Some(fetched.high_watermark.get());
        if !fetched.batches.is_empty() {
            self.served_count += 1;
            assigned.last_served = self.served_count;
        }
        let frame_start = frame.bytes().as_ptr().addr();
        for batch in batches(fetched.batches) {
            let assigned = &mut self.partitions[id];
            // Only what is needed to go on fetching; the whole check comes when it is handed out.
            let ends = batch.and_then(|bytes| Ok((bytes, end_of(bytes)?)));
            let (bytes, (end_offset, epoch)) = match ends {
                Ok(ends) => ends,
                Err(error) => {
                    let error = Error::CorruptBatch {
                        topic: assigned.topic.to_string(),
                        partition: assigned.partition,
                        offset: assigned.fetched.offset,
                        reason: error.to_string(),
                    };
                    self.fail(id, error);
                    return;
                }
            };
            if end_offset <= assigned.fetched.offset {
                continue;
            }
            assigned.fetched.advance(end_offset, epoch);
            let start = bytes.as_ptr().addr() - frame_start;
            self.buffered_bytes += bytes.len();
            self.buffered.push_back(Buffered {
                id,
                generation: assigned.generation,
                bytes: BatchBytes {
                    frame: Arc::clone(frame),
                    range: start..start + bytes.len(),
                },
                end_offset,
                epoch,
            });
        }
    }

    fn take_refusal(&mut self, now: Duration, id: PartitionId, error: ApiError, owner_told: bool) {
        let assigned = &mut self.partitions[id];
        let context = format!(
            "fetch from {}-{} at offset {}",
            assigned.topic, assigned.partition, assigned.fetched.offset
        );
        match error.code {
            ErrorCode::OffsetOutOfRange if self.reset_offsets => {
                assigned.status = Status::Resetting;
                let generation = assigned.generation;
                self.questions.push(Question::Reset { id, generation });
            }
            ErrorCode::NotOwner if owner_told => {
                assigned.failures += 1;
                if assigned.failures > 1 {
                    self.try_later(now, id);
                }
            }
            ErrorCode::FencedLeaderEpoch if assigned.failures == 0 => {
                // The metadata that is asked for now says which one it is.
                assigned.failures += 1;
                self.locate(id);
            }
            ErrorCode::NotOwner
            | ErrorCode::UnknownTopic
            | ErrorCode::UnknownPartition
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch => {
                self.try_later(now, id);
                self.locate(id);
            }
            code if code.retriable() => self.try_later(now, id),
            _ => self.fail(id, Error::refused(context, error)),
        }
    }

    /// The log was cut back behind what was read: reading goes on where both agree.
    fn truncate(&mut self, id: PartitionId, epoch: u32, end_offset: u64) {
        let assigned = &mut self.partitions[id];
        let agreed = assigned.fetched.agreement(epoch, end_offset);
        if agreed > assigned.position.offset {
            // What was fetched and not handed out is fetched anew.
            return self.throw_away(id);
        }
        let (from, to) = (agreed.max(assigned.read_from), assigned.position.offset);
        assigned.position = Place::new(agreed, Some(epoch));
        assigned.read_from = assigned.read_from.min(agreed);
        self.throw_away(id);
        if from == to {
            // Nobody has seen what is gone.
            return;
        }
        let assigned = &mut self.partitions[id];
        let error = Error::LogTruncated {
            topic: assigned.topic.to_string(),
            partition: assigned.partition,
            from,
            to,
        };
        if self.settings.on_truncation == OnTruncation::Stop {
            assigned.status = Status::Failed;
            assigned.failure = Some(error.clone());
        }
        self.jumps.push_back((id, error));
    }

    fn try_later(&mut self, now: Duration, id: PartitionId) {
        let assigned = &mut self.partitions[id];
        assigned.failures += 1;
        assigned.not_before = now
            + self
                .settings
                .backoff
                .after(assigned.failures, &mut self.jitter);
    }

    fn locate(&mut self, id: PartitionId) {
        let assigned = &mut self.partitions[id];
        assigned.status = Status::Locating;
        let question = Question::Topic(Arc::clone(&assigned.topic));
        if !self.questions.contains(&question) {
            self.questions.push(question);
        }
    }

    pub(super) fn fail(&mut self, id: PartitionId, error: Error) {
        let assigned = &mut self.partitions[id];
        assigned.status = Status::Failed;
        assigned.failure = Some(error.clone());
        self.failures.push_back((id, error));
        self.dirty = true;
    }

    /// A batch that was handed out turned out to be damaged: its partition stops there.
    pub(super) fn damaged(&mut self, id: PartitionId, error: Error) -> Error {
        self.throw_away(id);
        let assigned = &mut self.partitions[id];
        assigned.status = Status::Failed;
        assigned.failure = Some(error.clone());
        error
    }

    /// The answer to [`Question::Topic`].
    pub(super) fn located(
        &mut self,
        now: Duration,
        name: &str,
        result: Result<&TopicMetadata, &Error>,
    ) {
        self.dirty = true;
        for id in 0..self.partitions.len() {
            let assigned = &mut self.partitions[id];
            if &*assigned.topic != name || assigned.status != Status::Locating {
                continue;
            }
            assigned.status = Status::Idle;
            match result {
                Ok(topic) if topic.id == assigned.topic_id => match topic.route(assigned.partition)
                {
                    Some(route) => {
                        assigned.route = route.clone();
                        let epoch = topic.epoch(assigned.partition);
                        if assigned.leader_epoch != epoch && assigned.end.is_some() {
                            self.questions.push(Question::End(id));
                        }
                        assigned.leader_epoch = epoch;
                    }
                    None => self.try_later(now, id),
                },
                Ok(_) => {
                    let message =
                        "it was deleted and created again; its offsets have a new meaning";
                    let error = ApiError::new(ErrorCode::UnknownTopic, message);
                    self.fail(id, Error::refused(format!("topic {name}"), error));
                }
                Err(error) if error.is_retriable() => {
                    self.try_later(now, id);
                    self.partitions[id].status = Status::Idle;
                }
                Err(error) => self.fail(id, error.clone()),
            }
        }
    }

    /// The answer to [`Question::Reset`].
    pub(super) fn reset(
        &mut self,
        now: Duration,
        id: PartitionId,
        generation: u64,
        result: Result<Found, Error>,
    ) {
        let assigned = &mut self.partitions[id];
        if assigned.generation != generation || assigned.status != Status::Resetting {
            return;
        }
        self.dirty = true;
        assigned.status = Status::Idle;
        match result {
            Ok(found) => {
                let error = Error::OffsetReset {
                    topic: assigned.topic.to_string(),
                    partition: assigned.partition,
                    from: assigned.position.offset,
                    to: found.place.offset,
                };
                self.seek_to(id, found);
                if self.settings.tell_resets {
                    self.jumps.push_back((id, error));
                }
            }
            Err(error) if error.is_retriable() => self.try_later(now, id),
            Err(error) => self.fail(id, error),
        }
    }

    /// The answer to [`Question::End`]: what is gone need not be waited for.
    pub(super) fn ended(&mut self, id: PartitionId, result: Result<Found, Error>) {
        let assigned = &mut self.partitions[id];
        match (result, &mut assigned.end) {
            (Ok(found), Some(end)) => *end = (*end).min(found.latest),
            (Ok(_), None) => {}
            // The request has taken its time to fail.
            (Err(error), _) if error.is_retriable() => self.questions.push(Question::End(id)),
            (Err(error), _) => self.fail(id, error),
        }
        self.dirty = true;
    }

    /// The next batch or failure to hand out; the position moves behind the batch.
    pub(super) fn next_item(&mut self) -> Option<Item> {
        if let Some((id, error)) = self.jumps.pop_front() {
            return Some(Item::Jumped(id, error));
        }
        while let Some(buffered) = self.buffered.pop_front() {
            let was_full = self.buffered_bytes >= self.settings.buffer_bytes_max;
            self.buffered_bytes -= buffered.bytes.range.len();
            // What did not fit before may fit now.
            self.dirty |= was_full;
            if self.partitions[buffered.id].generation != buffered.generation {
                continue;
            }
            return Some(Item::Batch {
                id: buffered.id,
                bytes: buffered.bytes,
                end_offset: buffered.end_offset,
                epoch: buffered.epoch,
            });
        }
        if let Some((_, error)) = self.failures.pop_front() {
            return Some(Item::Failed(error));
        }
        // With nothing left that could give a record, waiting would never end: say why, again.
        let any_left = self
            .partitions
            .iter()
            .any(|assigned| assigned.status != Status::Failed);
        if any_left || self.settings.changing || self.is_done() {
            return None;
        }
        let failure = self
            .partitions
            .iter()
            .find_map(|assigned| assigned.failure.clone());
        failure.map(Item::Failed)
    }

    /// A batch was handed out: reading goes on behind it.
    pub(super) fn handed_out(&mut self, id: PartitionId, end_offset: u64, epoch: u32) {
        self.partitions[id].position.advance(end_offset, epoch);
    }

    /// Whether every partition has reached its end, or failed on the way and the user was told.
    pub(super) fn is_done(&self) -> bool {
        let is_done = |assigned: &Assigned| match assigned.end {
            Some(end) => assigned.position.offset >= end || assigned.status == Status::Failed,
            None => false,
        };
        self.jumps.is_empty() && self.failures.is_empty() && self.partitions.iter().all(is_done)
    }

    /// When a partition that waits may be fetched again: perhaps by now, if it was not when the last plan was made.
    pub(super) fn wake_at(&mut self) -> Option<Duration> {
        let waiting = self
            .partitions
            .iter()
            .filter(|assigned| assigned.wants_fetch());
        let at = waiting
            .map(|assigned| assigned.not_before)
            .filter(|at| *at > self.planned_at)
            .min();
        if at.is_some() {
            self.dirty = true;
        }
        at
    }

    pub(super) fn find(&self, topic: &str, partition: u32) -> Option<PartitionId> {
        self.partitions.iter().position(|assigned| {
            assigned.partition == partition
                && &*assigned.topic == topic
                && assigned.status != Status::Removed
        })
    }
}

/// Where the log goes on behind a batch, and the batch's leader epoch.
fn end_of(batch: &[u8]) -> Result<(u64, u32), corelane_protocol::batch::BatchError> {
    let stamp = Stamp::read(batch)?;
    let header = BatchHeader::parse(batch)?;
    let end_offset = stamp.base_offset.advance(header.offsets_taken());
    Ok((end_offset.get(), stamp.leader_epoch.get()))
}
