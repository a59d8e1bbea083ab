//! Reads every topic from its beginning to its end once everything is healed.
//!
//! These are the complete reads by which the checker finds what is missing.

use std::collections::VecDeque;

use corelane_checker::ReaderNumber;
use corelane_protocol::request::{FetchEntry, FetchRequest, MetadataRequest, OffsetPosition};
use corelane_protocol::response::{FetchResponse, ListOffsetsResponse, Response};
use corelane_protocol::{
    ApiError, ErrorCode, Offset, PartitionIndex, Request, RequestFlags, TopicPartition,
};

use super::asked::{self, LogAsked};
use super::link::Link;
use super::{Client, ClientEvent, Context, Reply};
use crate::counters::Sometimes;

pub(crate) struct Verifier {
    link: Link,
    /// Topics to look up.
    topics: VecDeque<String>,
    /// Partitions to read.
    partitions: VecDeque<TopicPartition>,
    reading: Option<Reading>,
    asked: Option<u32>,
    pause_until_us: u64,
    /// How often the partition that is read was not there.
    waits: u32,
    /// The partition is read for the second time.
    is_second: bool,
    /// Where each partition ended.
    ends: Vec<(TopicPartition, u64)>,
}

/// Waits of 20 ms after which a partition does not come any more.
const WAITS_MAX: u32 = 500;

struct Reading {
    partition: TopicPartition,
    reader: ReaderNumber,
    position: u64,
    /// The log begins beyond its position, and it has to be asked where.
    is_lost: bool,
    /// What was known when it asked last.
    asked: LogAsked,
}

impl Verifier {
    pub(crate) fn new(topics: impl IntoIterator<Item = String>) -> Self {
        Self {
            link: Link::new(),
            topics: topics.into_iter().collect(),
            partitions: VecDeque::new(),
            reading: None,
            asked: None,
            pause_until_us: 0,
            waits: 0,
            is_second: false,
            ends: Vec::new(),
        }
    }

    fn work(&mut self, context: &mut Context<'_>) {
        if self.link.tend(context) {
            self.asked = None;
        }
        let mut next = self.link.next_us(context.now_us);
        if self.link.open().is_some() && self.asked.is_none() && !self.is_done() {
            if self.pause_until_us > context.now_us {
                next = next.min(self.pause_until_us);
            } else {
                self.ask(context);
            }
        }
        context.wake_at(next);
    }

    fn ask(&mut self, context: &mut Context<'_>) {
        if self.reading.is_none()
            && let Some(partition) = self.partitions.front()
        {
            self.reading = Some(Reading {
                partition: *partition,
                reader: context.history.read_started(*partition, 0),
                position: 0,
                is_lost: true,
                asked: context.ask_of(*partition),
            });
        }
        if let Some(reading) = &mut self.reading {
            reading.asked = context.ask_of(reading.partition);
        }
        let request = match &self.reading {
            Some(reading) if reading.is_lost => {
                asked::list(reading.partition, OffsetPosition::Earliest)
            }
            Some(reading) => Request::Fetch(FetchRequest {
                max_wait_ms: 0,
                min_bytes: 0,
                max_bytes: 60_000,
                entries: vec![FetchEntry::new(
                    reading.partition,
                    Offset::new(reading.position),
                    60_000,
                )],
            }),
            None => {
                let topic = self
                    .topics
                    .front()
                    .expect("something is to be done")
                    .clone();
                let topics = Some(vec![topic]);
                Request::Metadata(MetadataRequest { topics })
            }
        };
        self.asked = Some(self.link.ask(context, RequestFlags::NONE, &request));
    }

    fn reply(&mut self, context: &mut Context<'_>, reply: &Reply) {
        if self.asked != Some(reply.correlation()) {
            return;
        }
        self.asked = None;
        self.link.answered(context, false);
        match reply.response() {
            Err(problem) => context
                .history
                .problem(format!("{}: {problem}", self.name())),
            Ok(Ok(Response::Fetch(response))) => self.fetched(context, &response),
            Ok(Ok(Response::ListOffsets(response))) => self.log_begins(context, response),
            Ok(Ok(Response::Metadata(mut response))) => {
                match response.topics.pop().map(|topic| topic.result) {
                    Some(Ok(topic)) => {
                        let name = self.topics.front().expect("it was asked for");
                        for index in 0..topic.partitions.len() {
                            let index = PartitionIndex::new(index as u32);
                            let partition = TopicPartition::new(topic.id, index);
                            context.history.partition_found(name, partition);
                            self.partitions.push_back(partition);
                        }
                    }
                    // A store that is out of service may have kept it from being made.
                    _ if context.may_be_damaged() => {}
                    other => {
                        let problem =
                            format!("{}: {:?}: {other:?}", self.name(), self.topics.front());
                        context.history.problem(problem);
                    }
                }
                self.topics.pop_front();
            }
            Ok(Ok(_)) => context
                .history
                .problem(format!("{}: a wrong answer", self.name())),
            Ok(Err(error)) => self.refused(context, &error),
        }
    }

    /// The reading goes on where the log begins, unless it is further.
    fn log_begins(&mut self, context: &mut Context<'_>, response: ListOffsetsResponse) {
        let log_start = match asked::listed(response) {
            Ok(listed) => listed.offset,
            Err(error) => return self.refused(context, &error),
        };
        let reading = self.reading.as_mut().expect("it is for a partition");
        let partition = reading.partition;
        context.log_begins(&reading.asked, log_start);
        reading.is_lost = false;
        if log_start.get() > reading.position {
            reading.position = log_start.get();
            context
                .history
                .read_moved(reading.reader, partition, log_start);
        }
    }

    fn fetched(&mut self, context: &mut Context<'_>, response: &FetchResponse<'_>) {
        let name = self.name();
        let reading = self.reading.as_mut().expect("a fetch is for a partition");
        let partition = reading.partition;
        let fetched = match &response.entries[0].result {
            Ok(fetched) => *fetched,
            Err(error) => {
                let error = error.clone();
                return self.refused(context, &error);
            }
        };
        let (reader, position) = (reading.reader, reading.position);
        context.log_begins(&reading.asked, fetched.log_start_offset);
        context
            .history
            .fetched(context.now_us, reader, partition, fetched.high_watermark);
        let history = &mut *context.history;
        let served = super::frames::records(fetched.batches, position, |offset, content| {
            history.polled(reader, partition, offset, content);
        });
        let served = match served {
            Ok(served) => served,
            Err(problem) => {
                let problem = format!("{name}: served {partition} after {position}: {problem}");
                return context.history.problem(problem);
            }
        };
        context.served(reader, partition, &served);
        let position = served.position;
        context.note(format_args!("{name}: {partition} up to {position}"));
        reading.position = position;
        if position >= fetched.high_watermark.get() {
            context.history.read_ended(reader, partition);
            self.ends.push((partition, position));
            // What is gone from a compacted log for the first reader has to be gone for a second one.
            let may_compact = context.history.may_compact(partition);
            if may_compact && !std::mem::replace(&mut self.is_second, true) {
                self.reading = None;
            } else {
                self.next_partition();
            }
        }
    }

    fn refused(&mut self, context: &mut Context<'_>, error: &ApiError) {
        self.pause_until_us = context.now_us + 20_000;
        if error.code.retriable() {
            return;
        }
        if error.code == ErrorCode::StorageFailed && !context.may_be_damaged() {
            // What has failed before the end is restarted.
            context.history.storage_failed = true;
            return;
        }
        if error.code == ErrorCode::UnknownPartition {
            context.history.reached(Sometimes::VerifierWaited);
            // A store that had no room for it makes it within a second of there being some; what is never made never
            // lets the verifier end, unless a store may be out of service for good.
            self.waits += 1;
            if self.waits > WAITS_MAX
                && context.may_be_damaged()
                && let Some(reading) = &self.reading
            {
                context.history.released(reading.partition);
                self.next_partition();
            }
            return;
        }
        if error.code == ErrorCode::UnknownTopic
            && context.may_be_damaged()
            && let Some(reading) = &self.reading
        {
            // Where stores may be out of service nobody waits until every deletion that was asked for has come through.
            context.history.released(reading.partition);
            return self.next_partition();
        }
        if error.code == ErrorCode::OffsetOutOfRange
            && let Some(reading) = &mut self.reading
            && !std::mem::replace(&mut reading.is_lost, true)
        {
            // Records expire also now.
            return;
        }
        let is_reported = matches!(
            error.code,
            ErrorCode::CorruptData | ErrorCode::StorageFailed
        );
        if let Some(reading) = &self.reading
            && is_reported
            && context.may_be_damaged()
        {
            // The broker says that it cannot keep its promise, which is what it owes.
            context.history.reached(Sometimes::CorruptionReported);
            context.history.released(reading.partition);
            return self.next_partition();
        }
        let what = self
            .reading
            .as_ref()
            .map(|reading| (reading.partition, reading.position));
        let problem = format!("{}: {what:?}: {error}", self.name());
        context.history.problem(problem);
        self.next_partition();
    }

    fn next_partition(&mut self) {
        self.waits = 0;
        self.is_second = false;
        self.reading = None;
        self.partitions.pop_front();
    }
}

impl Client for Verifier {
    fn name(&self) -> String {
        "verifier".to_owned()
    }

    fn handle(&mut self, context: &mut Context<'_>, event: ClientEvent) {
        match event {
            ClientEvent::Wake => {}
            ClientEvent::Connected(conn) => self.link.connected(conn),
            ClientEvent::Closed(conn) if self.link.is(conn) => {
                self.link.closed(context);
                self.asked = None;
            }
            ClientEvent::Reply(conn, reply) if self.link.is(conn) => self.reply(context, &reply),
            ClientEvent::Closed(_) | ClientEvent::Reply(..) => return,
        }
        self.work(context);
    }

    fn is_done(&self) -> bool {
        self.topics.is_empty() && self.partitions.is_empty()
    }

    fn waits_for(&self) -> String {
        format!("{:?} {:?}", self.topics, self.partitions)
    }

    fn positions(&self) -> Vec<(TopicPartition, u64)> {
        self.ends.clone()
    }
}
