//! A consumer that follows some partitions of a topic with long polls, one request in flight for each.

use std::collections::BTreeMap;

use corelane_checker::ReaderNumber;
use corelane_protocol::request::{FetchEntry, FetchRequest, MetadataRequest, OffsetPosition};
use corelane_protocol::response::{DivergingEpoch, FetchResponse, ListOffsetsResponse, Response};
use corelane_protocol::{
    ApiError, ErrorCode, LeaderEpoch, Offset, PartitionIndex, Request, RequestFlags, TopicPartition,
};

use super::asked::{self, LogAsked};
use super::link::Link;
use super::{Client, ClientEvent, Context, Reply};
use crate::counters::Sometimes;
use crate::network::ConnNumber;

/// Bytes of one fetch at most.
const FETCH_BYTES_MAX: u64 = 60_000;

pub(crate) struct Consumer {
    number: usize,
    topic: String,
    is_weak: bool,
    link: Link,
    metadata_asked: Option<u32>,
    metadata_us: u64,
    following: BTreeMap<TopicPartition, Following>,
    requests: BTreeMap<u32, Asked>,
    /// It has stopped reading until this time.
    stalled: Option<(ConnNumber, u64)>,
}

struct Following {
    reader: ReaderNumber,
    position: u64,
    current_epoch: Option<LeaderEpoch>,
    last_epoch: Option<LeaderEpoch>,
    is_asked: bool,
    /// Its position is not in the log: where that begins has to be asked.
    is_lost: bool,
    pause_until_us: u64,
}

/// A request in flight.
#[derive(Clone, Copy)]
struct Asked {
    log: LogAsked,
    /// Who asked.
    reader: ReaderNumber,
}

impl Consumer {
    pub(crate) fn new(number: usize, topic: String, is_weak: bool) -> Self {
        Self {
            number,
            topic,
            is_weak,
            link: Link::new(),
            metadata_asked: None,
            metadata_us: 0,
            following: BTreeMap::new(),
            requests: BTreeMap::new(),
            stalled: None,
        }
    }

    fn lose_connection(&mut self) {
        self.requests.clear();
        self.metadata_asked = None;
        self.stalled = None;
        for following in self.following.values_mut() {
            following.is_asked = false;
        }
    }

    fn work(&mut self, context: &mut Context<'_>) {
        if self.link.tend(context) {
            self.lose_connection();
        }
        let mut next = self.link.next_us(context.now_us);
        if let Some(conn) = self.link.open() {
            if let Some((stalled, until)) = self.stalled {
                if until <= context.now_us || context.is_draining {
                    self.stalled = None;
                    context.actions.push(super::Action::Read {
                        conn: stalled,
                        on: true,
                    });
                } else {
                    next = next.min(until);
                }
            } else if !context.is_draining && context.random.chance(1, 300) {
                let until = context.now_us + context.about(1_000_000);
                context.history.reached(Sometimes::ReaderStalled);
                context
                    .actions
                    .push(super::Action::Read { conn, on: false });
                self.stalled = Some((conn, until));
                next = next.min(until);
            }
            // Now and then there are more partitions.
            let wants_more = self.following.is_empty()
                || (!context.is_draining && context.random.chance(1, 300));
            if wants_more && self.metadata_asked.is_none() {
                if self.metadata_us <= context.now_us {
                    let topics = Some(vec![self.topic.clone()]);
                    let request = Request::Metadata(MetadataRequest { topics });
                    let asked = self.link.ask(context, RequestFlags::NONE, &request);
                    self.metadata_asked = Some(asked);
                } else {
                    next = next.min(self.metadata_us);
                }
            }
            next = next.min(self.poll(context));
        }
        context.wake_at(next);
    }

    /// Asks for what is not asked for; when to look again.
    fn poll(&mut self, context: &mut Context<'_>) -> u64 {
        let mut next = u64::MAX;
        let idle: Vec<_> = self
            .following
            .iter()
            .filter(|(_, following)| !following.is_asked)
            .map(|(partition, following)| (*partition, following.pause_until_us))
            .collect();
        for (partition, until) in idle {
            if until > context.now_us {
                next = next.min(until);
                continue;
            }
            let following = self.following.get_mut(&partition).expect("just listed");
            following.is_asked = true;
            let reader = following.reader;
            let request = if following.is_lost {
                asked::list(partition, OffsetPosition::Earliest)
            } else {
                ask_records(context, partition, following)
            };
            let correlation = self.link.ask(context, RequestFlags::NONE, &request);
            let asked = Asked {
                log: context.ask_of(partition),
                reader,
            };
            self.requests.insert(correlation, asked);
        }
        next
    }

    fn reply(&mut self, context: &mut Context<'_>, reply: &Reply) {
        let correlation = reply.correlation();
        let response = match reply.response() {
            Ok(response) => response,
            Err(problem) => {
                return context
                    .history
                    .problem(format!("{}: {problem}", self.name()));
            }
        };
        if self.metadata_asked == Some(correlation) {
            self.metadata_asked = None;
            self.take_metadata(context, response);
        } else if let Some(asked) = self.requests.remove(&correlation) {
            let partition = asked.log.partition;
            let pause_us = context.about(if context.is_draining { 100 } else { 20_000 });
            // What was asked before the partition was let go is answered too, and it may be followed anew by then.
            let following = self.following.get_mut(&partition);
            let Some(following) = following.filter(|following| following.reader == asked.reader)
            else {
                return self.answered(context);
            };
            following.is_asked = false;
            following.pause_until_us = context.now_us + pause_us;
            match response {
                Ok(Response::Fetch(response)) => self.fetched(context, asked, &response),
                Ok(Response::ListOffsets(response)) => {
                    self.log_begins(context, asked, response);
                }
                Ok(_) => context
                    .history
                    .problem(format!("{}: a wrong answer", self.name())),
                Err(error) => self.refused(context, partition, &error),
            }
        } else if correlation != 0 {
            context
                .history
                .problem(format!("{}: answered {correlation} again", self.name()));
        }
        self.answered(context);
    }

    fn answered(&mut self, context: &mut Context<'_>) {
        let awaits_more = !self.requests.is_empty() || self.metadata_asked.is_some();
        self.link.answered(context, awaits_more);
    }

    fn take_metadata(
        &mut self,
        context: &mut Context<'_>,
        response: Result<Response<'_>, ApiError>,
    ) {
        self.metadata_us = context.now_us + 20_000 + context.about(200_000);
        let Ok(Response::Metadata(mut response)) = response else {
            return;
        };
        let Some(Ok(topic)) = response.topics.pop().map(|topic| topic.result) else {
            return;
        };
        let count = topic.partitions.len();
        for _ in 0..=context.random.index(3) {
            let index = context.random.index(count) as u32;
            let partition = TopicPartition::new(topic.id, PartitionIndex::new(index));
            let epoch = topic.partitions[index as usize].leader_epoch;
            context.history.partition_found(&self.topic, partition);
            self.following
                .entry(partition)
                .or_insert_with(|| Following {
                    reader: context.history.read_started(partition, 0),
                    position: 0,
                    current_epoch: Some(epoch),
                    last_epoch: None,
                    is_asked: false,
                    is_lost: false,
                    pause_until_us: 0,
                });
        }
    }

    fn fetched(&mut self, context: &mut Context<'_>, asked: Asked, response: &FetchResponse<'_>) {
        let (name, partition) = (self.name(), asked.log.partition);
        let [entry] = response.entries.as_slice() else {
            return context.history.problem(format!("{name}: not one entry"));
        };
        if entry.partition != partition {
            let problem = format!("{name}: asked for {partition}, got {}", entry.partition);
            return context.history.problem(problem);
        }
        let fetched = match &entry.result {
            Ok(fetched) => fetched,
            Err(error) => return self.refused(context, partition, error),
        };
        let keeping = &context.history.keeping;
        if keeping.was_cut_since(asked.log.us, partition) {
            // It tells of what is gone, and was on its way when that was lost.
            return;
        }
        if let Some(diverging) = fetched.diverging {
            return self.told(context, partition, diverging);
        }
        if !fetched.batches.is_empty() && context.now_us - asked.log.us > 100_000 {
            context.history.reached(Sometimes::LongPollWoken);
        }
        let following = self
            .following
            .get_mut(&partition)
            .expect("it was asked for");
        let (reader, position) = (following.reader, following.position);
        if position < asked.log.log_start.get() {
            let problem = format!(
                "{name}: served {partition} at {position}, and the log began at {} before it asked",
                asked.log.log_start
            );
            return context.history.problem(problem);
        }
        context.log_begins(&asked.log, fetched.log_start_offset);
        context
            .history
            .fetched(context.now_us, reader, partition, fetched.high_watermark);
        if context.is_draining && fetched.batches.is_empty() {
            // Polls that were forwarded take the room of others in the mailbox, who may have much to read yet.
            following.pause_until_us = context.now_us + 100_000;
        }
        let history = &mut *context.history;
        let served = super::frames::records(fetched.batches, position, |offset, content| {
            history.polled(reader, partition, offset, content);
        });
        match served {
            Ok(served) => {
                context.served(reader, partition, &served);
                let up_to = served.position;
                context.note(format_args!("{name}: {partition} up to {up_to}"));
                following.position = up_to;
                following.last_epoch = served.last_epoch.or(following.last_epoch);
            }
            Err(problem) => {
                let problem = format!("{name}: served {partition} after {position}: {problem}");
                context.history.problem(problem);
            }
        }
    }

    /// What was read beyond an offset is gone: reading goes on there.
    fn told(
        &mut self,
        context: &mut Context<'_>,
        partition: TopicPartition,
        diverging: DivergingEpoch,
    ) {
        let name = self.name();
        let following = self
            .following
            .get_mut(&partition)
            .expect("it was asked for");
        let (position, end) = (following.position, diverging.end_offset.get());
        context.note(format_args!(
            "{name}: {partition} is told at {position}: {diverging:?}"
        ));
        context.history.reached(Sometimes::ReaderTold);
        let is_expected = self.is_weak || context.may_be_damaged();
        if !is_expected || (end >= position && following.last_epoch == Some(diverging.epoch)) {
            let problem = format!("{name}: {partition} at {position} is told {diverging:?}");
            context.history.problem(problem);
        }
        following.position = end.min(position);
        following.last_epoch = Some(diverging.epoch);
        following.reader = context.history.read_started(partition, following.position);
    }

    /// The log's beginning, for a reader whose position is not in it.
    fn log_begins(
        &mut self,
        context: &mut Context<'_>,
        asked: Asked,
        response: ListOffsetsResponse,
    ) {
        let partition = asked.log.partition;
        let listed = match asked::listed(response) {
            Ok(listed) => listed,
            Err(error) => return self.refused(context, partition, &error),
        };
        context.log_begins(&asked.log, listed.offset);
        let name = self.name();
        let following = self
            .following
            .get_mut(&partition)
            .expect("it was asked for");
        following.is_lost = false;
        following.pause_until_us = 0;
        let begin = listed.offset.get();
        if begin > following.position {
            context
                .history
                .read_moved(following.reader, partition, listed.offset);
        } else if self.is_weak || context.may_be_damaged() {
            // The log was cut back behind its reader: it begins again.
            following.reader = context.history.read_started(partition, begin);
        } else {
            let position = following.position;
            let problem = format!("{name}: {partition} at {position} is beyond the end");
            return context.history.problem(problem);
        }
        following.position = begin;
        following.last_epoch = None;
        context.note(format_args!("{name}: {partition} goes on at {begin}"));
    }

    fn refused(&mut self, context: &mut Context<'_>, partition: TopicPartition, error: &ApiError) {
        let pause_us = context.about(if context.is_draining { 10_000 } else { 300_000 });
        let name = self.name();
        context.note(format_args!("{name}: {partition} is refused: {error}"));
        let following = self
            .following
            .get_mut(&partition)
            .expect("it was asked for");
        following.pause_until_us = context.now_us + pause_us;
        match error.code {
            ErrorCode::Overloaded | ErrorCode::ShuttingDown | ErrorCode::TimedOut => {}
            ErrorCode::FencedLeaderEpoch => {
                context.history.reached(Sometimes::EpochFenced);
                following.current_epoch = None;
            }
            ErrorCode::StorageFailed => {
                context.history.reached(Sometimes::RefusedStorageFailed);
                context.history.storage_failed = true;
            }
            ErrorCode::CorruptData => {
                context.history.reached(Sometimes::CorruptionReported);
                if !context.may_be_damaged() {
                    context
                        .history
                        .problem(format!("{name}: nothing was damaged, but: {error}"));
                }
            }
            ErrorCode::UnknownTopic | ErrorCode::UnknownPartition => {
                context.history.reached(Sometimes::TopicUnknown);
                let topic = partition.topic;
                self.following
                    .retain(|partition, _| partition.topic != topic);
                self.metadata_us = context.now_us + pause_us;
            }
            ErrorCode::OffsetOutOfRange => {
                following.is_lost = true;
                following.pause_until_us = 0;
            }
            code => {
                let position = following.position;
                let problem = format!("{name}: {partition} at {position}: {code:?}: {error}");
                context.history.problem(problem);
            }
        }
    }
}

/// In the end it hurries, as a small fetch at a time may take longer than there is; and it waits less, as polls that
/// were forwarded take the room of others in the mailbox.
fn ask_records(
    context: &mut Context<'_>,
    partition: TopicPartition,
    following: &Following,
) -> Request<'static> {
    let (most, wait_ms) = if context.is_draining {
        (FETCH_BYTES_MAX / 4, 50)
    } else {
        (1 + context.random.below(FETCH_BYTES_MAX), 1_500)
    };
    Request::Fetch(FetchRequest {
        max_wait_ms: context.random.below(wait_ms) as u32,
        min_bytes: 1 + context.random.below(4_000) as u32,
        max_bytes: most as u32,
        entries: vec![FetchEntry {
            current_epoch: following.current_epoch,
            last_epoch: following.last_epoch,
            ..FetchEntry::new(partition, Offset::new(following.position), most as u32)
        }],
    })
}

impl Client for Consumer {
    fn name(&self) -> String {
        format!("consumer {} of {}", self.number, self.topic)
    }

    fn handle(&mut self, context: &mut Context<'_>, event: ClientEvent) {
        match event {
            ClientEvent::Wake => {}
            ClientEvent::Connected(conn) => self.link.connected(conn),
            ClientEvent::Closed(conn) if self.link.is(conn) => {
                self.link.closed(context);
                self.lose_connection();
            }
            ClientEvent::Reply(conn, reply) if self.link.is(conn) => self.reply(context, &reply),
            ClientEvent::Closed(_) | ClientEvent::Reply(..) => return,
        }
        self.work(context);
    }

    fn is_done(&self) -> bool {
        true
    }

    fn waits_for(&self) -> String {
        String::new()
    }

    fn positions(&self) -> Vec<(TopicPartition, u64)> {
        let following = self.following.iter();
        following
            .map(|(partition, following)| (*partition, following.position))
            .collect()
    }
}
