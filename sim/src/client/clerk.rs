//! Asks where logs begin and end, looks offsets up by time, and deletes records.
//!
//! One request is out at a time. What a look-up by time found is judged once the clerk knows where the log begins
//! after it, since records may be deleted meanwhile.

use corelane_protocol::request::{
    DeleteBefore, DeleteRecordsEntry, DeleteRecordsRequest, MetadataRequest, OffsetPosition,
};
use corelane_protocol::response::{ListedOffset, Response};
use corelane_protocol::{
    ApiError, ErrorCode, Offset, PartitionIndex, Request, RequestFlags, Timestamp, TopicPartition,
};

use super::asked::{self, LogAsked};
use super::link::Link;
use super::producer::{JITTER_MS, TIME_MS};
use super::{Client, ClientEvent, Context, Reply};
use crate::counters::Sometimes;

pub(crate) struct Clerk {
    number: usize,
    topic: String,
    is_weak: bool,
    /// It may delete records.
    deletes: bool,
    link: Link,
    partitions: Vec<TopicPartition>,
    asked: Option<(u32, Asked)>,
    /// A look-up by time that is not judged yet.
    found: Option<Found>,
    next_us: u64,
    pause_us: u64,
}

/// What was asked, and what was known then.
#[derive(Clone, Copy, Debug)]
struct Asked {
    log: LogAsked,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Partitions,
    Earliest,
    Latest,
    Time(i64),
    /// To delete what is below an offset, or everything.
    Deletion(Option<u64>),
}

#[derive(Clone, Copy)]
struct Found {
    partition: TopicPartition,
    time: i64,
    /// None if no record is that late.
    listed: Option<(u64, i64)>,
    /// The offset after the last durable record when it was asked.
    end: u64,
}

impl Clerk {
    pub(crate) fn new(
        number: usize,
        topic: String,
        is_weak: bool,
        deletes: bool,
        pause_us: u64,
    ) -> Self {
        Self {
            number,
            topic,
            is_weak,
            deletes,
            link: Link::new(),
            partitions: Vec::new(),
            asked: None,
            found: None,
            next_us: 0,
            pause_us,
        }
    }

    fn work(&mut self, context: &mut Context<'_>) {
        if self.link.tend(context) {
            self.asked = None;
        }
        let mut next = self.link.next_us(context.now_us);
        let has_work = !context.is_draining || self.found.is_some();
        if self.link.open().is_some() && self.asked.is_none() && has_work {
            if self.next_us <= context.now_us {
                self.ask(context);
                self.next_us = context.now_us + context.about(self.pause_us);
            } else {
                next = next.min(self.next_us);
            }
        }
        context.wake_at(next);
    }

    fn ask(&mut self, context: &mut Context<'_>) {
        let (partition, what) = match &self.found {
            Some(found) => (found.partition, What::Earliest),
            None if self.partitions.is_empty() || context.random.chance(1, 30) => {
                let topics = Some(vec![self.topic.clone()]);
                let request = Request::Metadata(MetadataRequest { topics });
                let nothing = TopicPartition::new(Default::default(), PartitionIndex::new(0));
                return self.send(context, nothing, What::Partitions, &request);
            }
            None => {
                let partition = self.partitions[context.random.index(self.partitions.len())];
                (partition, self.choose(context, partition))
            }
        };
        let list = |position| asked::list(partition, position);
        let request = match what {
            What::Partitions => unreachable!("asked above"),
            What::Earliest => list(OffsetPosition::Earliest),
            What::Latest => list(OffsetPosition::Latest),
            What::Time(time) => list(OffsetPosition::Timestamp(Timestamp::new(time))),
            What::Deletion(before) => {
                context.history.keeping.deletion_asked(partition, before);
                let before = before.map_or(DeleteBefore::HighWatermark, |before| {
                    DeleteBefore::Offset(Offset::new(before))
                });
                let entries = vec![DeleteRecordsEntry { partition, before }];
                Request::DeleteRecords(DeleteRecordsRequest { entries })
            }
        };
        self.send(context, partition, what, &request);
    }

    fn choose(&self, context: &mut Context<'_>, partition: TopicPartition) -> What {
        let (begin, end) = (
            context.history.keeping.log_start(partition).get(),
            context.history.keeping.end(partition),
        );
        match context.random.below(12) {
            0 => What::Earliest,
            1 => What::Latest,
            2..=4 if self.deletes && context.random.chance(1, 40) => What::Deletion(None),
            2..=4 if self.deletes && end > begin => {
                let most = if context.random.coin() {
                    end - begin
                } else {
                    (end - begin).min(20)
                };
                What::Deletion(Some(begin + 1 + context.random.below(most)))
            }
            _ => {
                let span = context.now_us / 1000 + JITTER_MS;
                let back = context.random.below(span.min(10_000) + 1);
                What::Time(TIME_MS + (span - back) as i64)
            }
        }
    }

    fn send(
        &mut self,
        context: &mut Context<'_>,
        partition: TopicPartition,
        what: What,
        request: &Request<'_>,
    ) {
        let asked = Asked {
            log: context.ask_of(partition),
            what,
        };
        let correlation = self.link.ask(context, RequestFlags::NONE, request);
        self.asked = Some((correlation, asked));
    }

    fn reply(&mut self, context: &mut Context<'_>, reply: &Reply) {
        let name = self.name();
        let response = match reply.response() {
            Ok(response) => response,
            Err(problem) => return context.history.problem(format!("{name}: {problem}")),
        };
        let Some((_, asked)) = self
            .asked
            .take_if(|(correlation, _)| *correlation == reply.correlation())
        else {
            return;
        };
        self.link.answered(context, false);
        match (response, asked.what) {
            (Err(error), _) => self.refused(context, asked, &error),
            (Ok(Response::Metadata(mut response)), What::Partitions) => {
                if let Some(Ok(topic)) = response.topics.pop().map(|topic| topic.result) {
                    let count = topic.partitions.len() as u32;
                    let partition =
                        |index| TopicPartition::new(topic.id, PartitionIndex::new(index));
                    self.partitions = (0..count).map(partition).collect();
                    for partition in &self.partitions {
                        context.history.partition_found(&self.topic, *partition);
                    }
                }
            }
            (Ok(Response::ListOffsets(response)), _) => match asked::listed(response) {
                Ok(listed) => self.listed(context, asked, listed),
                Err(error) => self.refused(context, asked, &error),
            },
            (Ok(Response::DeleteRecords(mut response)), What::Deletion(before)) => {
                match response.entries.pop().map(|entry| entry.result) {
                    Some(Ok(log_start)) => self.deleted(context, asked, before, log_start),
                    Some(Err(error)) => self.refused(context, asked, &error),
                    None => context.history.problem(format!("{name}: no entry")),
                }
            }
            _ => context.history.problem(format!("{name}: a wrong answer")),
        }
    }

    fn listed(&mut self, context: &mut Context<'_>, asked: Asked, listed: ListedOffset) {
        let (partition, offset) = (asked.log.partition, listed.offset);
        context.note(format_args!(
            "{}: {partition}: {:?}: {offset}",
            self.name(),
            asked.what
        ));
        match asked.what {
            What::Earliest => {
                context.log_begins(&asked.log, offset);
                if let Some(found) = self.found.take_if(|found| found.partition == partition) {
                    self.judge(context, found);
                }
            }
            What::Latest if offset.get() < asked.log.end && !context.may_be_damaged() => {
                let problem = format!(
                    "{}: {partition} ends at {offset}, and a record before {} was acknowledged",
                    self.name(),
                    asked.log.end
                );
                context.history.problem(problem);
            }
            What::Time(time) => {
                let found_ms = listed.timestamp.get();
                self.found = Some(Found {
                    partition,
                    time,
                    listed: (found_ms >= 0).then_some((offset.get(), found_ms)),
                    end: asked.log.end,
                });
                self.next_us = 0;
            }
            _ => {}
        }
    }

    /// Whether a look-up by time found the first record that is that late.
    fn judge(&self, context: &mut Context<'_>, found: Found) {
        let Found {
            partition,
            time,
            listed,
            end,
        } = found;
        if self.is_weak || context.may_be_damaged() {
            // Offsets may have been issued anew.
            return;
        }
        let name = self.name();
        context.history.reached(match listed {
            Some(_) => Sometimes::OffsetFoundByTime,
            None => Sometimes::NothingThatLate,
        });
        if let Some((offset, found_ms)) = listed {
            let known = context.history.keeping.time_of(partition, offset);
            if found_ms < time || known.is_some_and(|known| known != found_ms) {
                let problem = format!(
                    "{name}: {partition}: looked for time {time}, got offset {offset} of time {found_ms}, \
                     which was sent with {known:?}"
                );
                context.history.problem(problem);
            }
        }
        if context.history.may_compact(partition) {
            // What was acknowledged may have been replaced.
            return;
        }
        let before = listed.map_or(end, |(offset, _)| offset);
        if let Some((earlier, its)) = context.history.keeping.first_at(partition, time, before) {
            let problem = format!(
                "{name}: {partition}: looked for time {time}, got {listed:?}, and offset {earlier} of time {its} is \
                 before it"
            );
            context.history.problem(problem);
        }
    }

    fn deleted(
        &mut self,
        context: &mut Context<'_>,
        asked: Asked,
        before: Option<u64>,
        log_start: Offset,
    ) {
        let (name, partition) = (self.name(), asked.log.partition);
        context.note(format_args!(
            "{name}: {partition}: deleted before {before:?}, begins at {log_start}"
        ));
        context.history.reached(Sometimes::RecordsDeleted);
        if before.is_some_and(|before| log_start.get() < before) {
            let problem =
                format!("{name}: {partition}: deleted before {before:?}, begins at {log_start}");
            context.history.problem(problem);
        }
        context.log_begins(&asked.log, log_start);
        context
            .history
            .keeping
            .deletion_ended(partition, before, log_start.get());
    }

    fn refused(&mut self, context: &mut Context<'_>, asked: Asked, error: &ApiError) {
        let (name, partition) = (self.name(), asked.log.partition);
        context.note(format_args!(
            "{name}: {partition}: {:?} is refused: {error}",
            asked.what
        ));
        self.next_us = context.now_us + context.about(200_000);
        match error.code {
            ErrorCode::Overloaded
            | ErrorCode::ShuttingDown
            | ErrorCode::TimedOut
            | ErrorCode::DiskFull => {}
            ErrorCode::UnknownTopic | ErrorCode::UnknownPartition => {
                self.partitions.clear();
                self.found = None;
            }
            ErrorCode::StorageFailed => {
                context.history.storage_failed = true;
                if context.may_be_damaged() {
                    self.found = None;
                }
            }
            ErrorCode::CorruptData if context.may_be_damaged() => self.found = None,
            // A log that was cut back may end before what is to be deleted.
            ErrorCode::OffsetOutOfRange
                if matches!(asked.what, What::Deletion(_))
                    && (self.is_weak || context.may_be_damaged()) => {}
            code => {
                let what = asked.what;
                let problem = format!("{name}: {partition}: {what:?}: {code:?}: {error}");
                context.history.problem(problem);
            }
        }
    }
}

impl Client for Clerk {
    fn name(&self) -> String {
        format!("clerk {} of {}", self.number, self.topic)
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
        self.found.is_none()
    }

    fn waits_for(&self) -> String {
        "where a log begins after a look-up by time".to_owned()
    }
}
