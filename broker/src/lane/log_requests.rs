//! DeleteRecords, ListOffsets and ReportPositions: what is asked of logs, of which some takes a while.
//!
//! Entries of other cores are gathered from them. What a log can answer at once is answered at once; a
//! deletion and a look-up by time become tasks of the store, some at a time. Nothing here waits.

use std::collections::{BTreeMap, VecDeque};

use corelane_protocol::request::{
    DeleteBefore, DeleteRecordsEntry, DeleteRecordsRequest, ListOffsetsEntry, ListOffsetsRequest,
    OffsetPosition, PositionEntry, ReportPositionsRequest,
};
use corelane_protocol::response::{
    CoreAddress, DeleteRecordsResponse, DeletedRecords, ListOffsetsResponse, ListedEntry,
    ListedOffset, ReportPositionsResponse, ReportedPosition,
};
use corelane_protocol::{ApiError, CoreId, ErrorCode, Offset, Timestamp, TopicPartition};
use corelane_storage::disk::Disk;

use super::effect::{LogAnswer, LogTask, LogTaskOf, LogToken};
use super::mail::{ForwardedReply, ForwardedRequest};
use super::parked::{ClientRequest, ForwardKind, GatherKind, GatherWait};
use super::partitions::{Home, LocalPartition};
use super::produce::{internal_topic, unknown_partition};
use super::slab::{Key, Slab};
use super::storage_errors::{delete_records_error, partition_error, read_error, report_error};
use super::{Effect, Lane, Mail, Now};

/// Tasks of logs that one core has out at a time. A look-up by time may unpack a batch, during which nothing else
/// happens on the core; so many of them may come between two turns.
const TASKS_IN_FLIGHT_MAX: usize = 8;

/// What is asked of logs of this core, and the tasks that wait for others to end.
pub(super) struct LogRequests {
    waits: Slab<LogWait>,
    queued: VecDeque<(LogToken, usize, LogTask)>,
    in_flight: usize,
}

impl LogRequests {
    pub(super) fn new() -> Self {
        Self {
            waits: Slab::new(),
            queued: VecDeque::new(),
            in_flight: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }
}

/// The entries of one request whose logs are this core's.
struct LogWait {
    asker: LogAsker,
    partitions: Vec<TopicPartition>,
    remaining: u32,
    results: LogResults,
}

/// Who is told.
pub(super) enum LogAsker {
    /// A request of a client of this core, of which these are some entries.
    Gather { gather: Key, entries: Vec<u32> },
    /// Another core.
    Core { core: CoreId, token: u64 },
}

/// What is asked, of logs that are this core's.
pub(super) enum LogQuestions {
    Offsets(Vec<ListOffsetsEntry>),
    Deletions(Vec<DeleteRecordsEntry>),
    /// How far a reader of this name has come.
    Positions(String, Vec<PositionEntry>),
}

/// The answers, in the order of the questions.
pub(super) enum LogResults {
    Offsets(Vec<Result<ListedOffset, ApiError>>),
    LogStarts(Vec<Result<Offset, ApiError>>),
}

/// What can be said to one question.
enum Said<T> {
    Now(Result<T, ApiError>),
    /// The store, by its index, has to do something first.
    Later(usize, LogTask),
}

impl<D: Disk> Lane<D> {
    pub(super) fn list_offsets(&mut self, client: ClientRequest, request: &ListOffsetsRequest) {
        let entries = request.entries.iter();
        let (split, owners) = self.split(client, entries.map(|entry| (entry.partition, *entry)));
        let results = request.entries.iter().zip(owners);
        let response = ListOffsetsResponse {
            entries: results
                .map(|(entry, (refusal, owner))| ListedEntry {
                    partition: entry.partition,
                    result: Err(refusal),
                    owner,
                })
                .collect(),
        };
        let kind = GatherKind::ListOffsets(response);
        self.gather(client, kind, split, LogQuestions::Offsets, |entries| {
            ForwardedRequest::ListOffsets { entries }
        });
    }

    pub(super) fn delete_records(&mut self, client: ClientRequest, request: &DeleteRecordsRequest) {
        let entries = request.entries.iter();
        let (split, owners) = self.split(client, entries.map(|entry| (entry.partition, *entry)));
        let results = request.entries.iter().zip(owners);
        let response = DeleteRecordsResponse {
            entries: results
                .map(|(entry, (refusal, owner))| DeletedRecords {
                    partition: entry.partition,
                    result: Err(refusal),
                    owner,
                })
                .collect(),
        };
        let kind = GatherKind::DeleteRecords(response);
        self.gather(client, kind, split, LogQuestions::Deletions, |entries| {
            ForwardedRequest::DeleteRecords { entries }
        });
    }

    pub(super) fn report_positions(
        &mut self,
        client: ClientRequest,
        request: &ReportPositionsRequest,
    ) {
        let entries = request.entries.iter();
        let (split, owners) = self.split(client, entries.map(|entry| (entry.partition, *entry)));
        let results = request.entries.iter().zip(owners);
        let response = ReportPositionsResponse {
            entries: results
                .map(|(entry, (refusal, owner))| ReportedPosition {
                    partition: entry.partition,
                    result: Err(refusal),
                    owner,
                })
                .collect(),
        };
        let kind = GatherKind::ReportPositions(response);
        let questions = |entries| LogQuestions::Positions(request.reader.clone(), entries);
        self.gather(client, kind, split, questions, |entries| {
            let reader = request.reader.clone();
            ForwardedRequest::ReportPositions { reader, entries }
        });
    }

    /// Deals entries to the cores that own them; what each entry is answered if nobody does, and the owner
    /// that its answer names.
    fn split<T>(
        &self,
        client: ClientRequest,
        entries: impl Iterator<Item = (TopicPartition, T)>,
    ) -> (Split<T>, Vec<(ApiError, Option<CoreAddress>)>) {
        let mut split = Split::new();
        let mut owners = Vec::new();
        for (index, (partition, entry)) in (0..).zip(entries) {
            let (refusal, owner) = match self.partitions.find(partition) {
                Home::Local(_) => {
                    split.entry(self.core).or_default().push((index, entry));
                    (ErrorCode::Internal.into(), None)
                }
                Home::Remote(core) => {
                    if !client.no_forward {
                        split.entry(core).or_default().push((index, entry));
                    }
                    let owner = self.topology.address(core).clone();
                    (ErrorCode::NotOwner.into(), Some(owner))
                }
                unknown => (unknown_partition(partition, unknown), None),
            };
            owners.push((refusal, owner));
        }
        (split, owners)
    }

    /// Asks every core for its entries, and answers once all have said something.
    pub(super) fn gather<T>(
        &mut self,
        client: ClientRequest,
        kind: GatherKind,
        split: Split<T>,
        here: impl Fn(Vec<T>) -> LogQuestions,
        there: impl Fn(Vec<T>) -> ForwardedRequest,
    ) {
        let mut remaining = u32::try_from(split.len()).expect("cores are numbered by u16");
        // Held until everybody was asked, since some answer at once.
        remaining += 1;
        let gather = self.gathers.insert(GatherWait {
            client,
            remaining,
            kind,
        });
        for (core, entries) in split {
            let (indexes, entries) = entries.into_iter().unzip();
            if core == self.core {
                let asker = LogAsker::Gather {
                    gather,
                    entries: indexes,
                };
                self.ask_logs(asker, &here(entries));
                continue;
            }
            let kind = ForwardKind::Gather {
                gather,
                entries: indexes,
            };
            let forwarded = self.forward(client.connection, core, there(entries), kind);
            if let Err((ForwardKind::Gather { entries, .. }, error)) = forwarded {
                self.gather_refused(gather, &entries, &error);
            }
        }
        self.gathered_one(gather);
    }

    /// Asks logs of this core; the asker is told once all have answered, which may be at once.
    pub(super) fn ask_logs(&mut self, asker: LogAsker, questions: &LogQuestions) {
        let mut tasks = Vec::new();
        let (partitions, results) = match questions {
            LogQuestions::Offsets(entries) => {
                let said = entries.iter().map(|entry| self.say_offset(entry));
                let results = take_up(said, &mut tasks);
                let partitions = entries.iter().map(|entry| entry.partition);
                (partitions.collect(), LogResults::Offsets(results))
            }
            LogQuestions::Deletions(entries) => {
                let said = entries.iter().map(|entry| self.say_deletion(entry));
                let results = take_up(said, &mut tasks);
                let partitions = entries.iter().map(|entry| entry.partition);
                (partitions.collect(), LogResults::LogStarts(results))
            }
            LogQuestions::Positions(reader, entries) => {
                let noted = entries
                    .iter()
                    .map(|entry| self.note_position(reader, entry));
                let results = LogResults::LogStarts(noted.collect());
                let partitions = entries.iter().map(|entry| entry.partition);
                (partitions.collect(), results)
            }
        };
        if tasks.is_empty() {
            return self.tell(asker, results);
        }
        let wait = self.log_requests.waits.insert(LogWait {
            asker,
            partitions,
            remaining: u32::try_from(tasks.len()).expect("entries are counted by 32 bits"),
            results,
        });
        for (index, store, task) in tasks {
            let token = LogToken(LogTaskOf::Request { wait, index });
            self.log_requests.queued.push_back((token, store, task));
        }
        self.start_log_tasks();
    }

    /// A partition of this core whose store is in service.
    fn serving(&self, partition: TopicPartition) -> Result<&LocalPartition, ApiError> {
        let key = match self.partitions.find(partition) {
            Home::Local(key) => key,
            // Cores agree on who owns what.
            Home::Remote(_) => return Err(ErrorCode::NotOwner.into()),
            unknown => return Err(unknown_partition(partition, unknown)),
        };
        let local = self.partitions.local(key).expect("found under this key");
        match self.stores[local.store].unfit() {
            Some(reason) => Err(ApiError::new(ErrorCode::StorageFailed, &*reason)),
            None => Ok(local),
        }
    }

    fn say_offset(&self, entry: &ListOffsetsEntry) -> Said<ListedOffset> {
        let local = match self.serving(entry.partition) {
            Ok(local) => local,
            Err(error) => return Said::Now(Err(error)),
        };
        let offsets = match local.offsets(&self.stores) {
            Ok(offsets) => offsets,
            Err(error) => return Said::Now(Err(partition_error(&error))),
        };
        let offset = match entry.position {
            OffsetPosition::Earliest => offsets.log_start,
            OffsetPosition::Latest => offsets.high_watermark,
            OffsetPosition::Timestamp(time) => {
                let partition = entry.partition;
                return Said::Later(local.store, LogTask::FindTime { partition, time });
            }
        };
        Said::Now(Ok(ListedOffset {
            offset,
            timestamp: Timestamp::new(-1),
            leader_epoch: local.epoch_at(&self.stores, offset),
        }))
    }

    fn say_deletion(&self, entry: &DeleteRecordsEntry) -> Said<Offset> {
        let partition = entry.partition;
        let local = match self.serving(partition) {
            Ok(local) => local,
            Err(error) => return Said::Now(Err(error)),
        };
        if local.is_internal {
            return Said::Now(Err(internal_topic()));
        }
        let before = match entry.before {
            DeleteBefore::Offset(before) => before,
            DeleteBefore::HighWatermark => match local.offsets(&self.stores) {
                Ok(offsets) => offsets.high_watermark,
                Err(error) => return Said::Now(Err(partition_error(&error))),
            },
        };
        Said::Later(local.store, LogTask::DeleteRecords { partition, before })
    }

    /// Notes how far a reader has come in a partition of this core. Gives where the log starts.
    fn note_position(&self, reader: &str, entry: &PositionEntry) -> Result<Offset, ApiError> {
        let local = self.serving(entry.partition)?;
        let store = &self.stores[local.store];
        let noted = store.report_position(entry.partition, reader, entry.position);
        noted.map_err(|error| report_error(&error))?;
        let offsets = local.offsets(&self.stores);
        let offsets = offsets.map_err(|error| partition_error(&error))?;
        Ok(offsets.log_start)
    }

    fn start_log_tasks(&mut self) {
        while self.log_requests.in_flight < TASKS_IN_FLIGHT_MAX
            && let Some((token, store, task)) = self.log_requests.queued.pop_front()
        {
            self.log_requests.in_flight += 1;
            self.effects
                .push_back(Effect::LogTask { token, store, task });
        }
    }

    /// A store has done what was asked of a log.
    pub fn log_task_done(&mut self, now: Now, token: LogToken, answer: LogAnswer) {
        self.meters.begin_event(now);
        let (token, index) = match token.0 {
            LogTaskOf::Request { wait, index } => (wait, index as usize),
            LogTaskOf::Groups(shard) => {
                self.group_log_done(now, shard, answer);
                return self.finish_event(now);
            }
        };
        self.log_requests.in_flight -= 1;
        self.start_log_tasks();
        let wait = self.log_requests.waits.get(token);
        let partition = wait.expect("a task is reported once").partitions[index];
        let listed = match answer {
            LogAnswer::LogStart(result) => {
                let result = result.map_err(|error| delete_records_error(&error));
                if let (Ok(log_start), Home::Local(key)) =
                    (&result, self.partitions.find(partition))
                    && let Some(local) = self.partitions.local_mut(key)
                {
                    local.log_start = *log_start;
                }
                Err(result)
            }
            LogAnswer::Found(Err(error)) => Ok(Err(read_error(&error))),
            LogAnswer::Found(Ok(found)) => Ok(self.listed_by_time(partition, found)),
            LogAnswer::Read(_) => unreachable!("no request asks for this"),
        };
        let wait = self.log_requests.waits.get_mut(token);
        let wait = wait.expect("just looked up");
        match (&mut wait.results, listed) {
            (LogResults::Offsets(results), Ok(result)) => results[index] = result,
            (LogResults::LogStarts(results), Err(result)) => results[index] = result,
            _ => unreachable!("a log answers what it was asked"),
        }
        wait.remaining -= 1;
        if wait.remaining == 0 {
            let done = self.log_requests.waits.remove(token);
            let LogWait { asker, results, .. } = done.expect("just looked up");
            self.tell(asker, results);
        }
        self.finish_event(now);
    }

    /// The answer to a look-up by time: where no record is that late, where the next one will be.
    fn listed_by_time(
        &self,
        partition: TopicPartition,
        found: Option<(Offset, Timestamp)>,
    ) -> Result<ListedOffset, ApiError> {
        let local = self.serving(partition)?;
        let (offset, timestamp) = match found {
            Some(found) => found,
            None => {
                let offsets = local.offsets(&self.stores);
                let offsets = offsets.map_err(|error| partition_error(&error))?;
                (offsets.high_watermark, Timestamp::new(-1))
            }
        };
        Ok(ListedOffset {
            offset,
            timestamp,
            leader_epoch: local.epoch_at(&self.stores, offset),
        })
    }

    fn tell(&mut self, asker: LogAsker, results: LogResults) {
        match (asker, results) {
            (LogAsker::Gather { gather, entries }, LogResults::Offsets(results)) => {
                self.gathered_offsets(gather, &entries, results);
            }
            (LogAsker::Gather { gather, entries }, LogResults::LogStarts(results)) => {
                self.gathered_log_starts(gather, &entries, results);
            }
            (LogAsker::Core { core, token }, LogResults::Offsets(results)) => {
                let reply = ForwardedReply::ListOffsets(results);
                self.post(core, Mail::ForwardReply { token, reply });
            }
            (LogAsker::Core { core, token }, LogResults::LogStarts(results)) => {
                let reply = ForwardedReply::LogStarts(results);
                self.post(core, Mail::ForwardReply { token, reply });
            }
        }
    }
}

/// Entries by the core that owns them, each with its place in the request.
type Split<T> = BTreeMap<CoreId, Vec<(u32, T)>>;

/// What was said at once; what has to be done first goes to `tasks`, and its result is filled in later.
fn take_up<T>(
    said: impl Iterator<Item = Said<T>>,
    tasks: &mut Vec<(u32, usize, LogTask)>,
) -> Vec<Result<T, ApiError>> {
    let results = (0..).zip(said).map(|(index, said)| match said {
        Said::Now(result) => result,
        Said::Later(store, task) => {
            tasks.push((index, store, task));
            Err(ErrorCode::Internal.into())
        }
    });
    results.collect()
}
