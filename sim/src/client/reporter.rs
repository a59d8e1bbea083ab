//! Reports how far the named readers of a topic have come: some are slow, some go back, some are gone for a while.
//!
//! One request is out at a time. It does not read: a position says what a reader needs no more, whether it had it
//! or not.

use std::collections::BTreeMap;

use corelane_protocol::request::{MetadataRequest, PositionEntry, ReportPositionsRequest};
use corelane_protocol::response::{ReportedPosition, Response};
use corelane_protocol::{
    ApiError, ErrorCode, Offset, PartitionIndex, Request, RequestFlags, TopicPartition,
};

use super::asked::LogAsked;
use super::link::Link;
use super::{Client, ClientEvent, Context, Reply};
use crate::counters::Sometimes;
use crate::profile::READERS;

/// A reader is gone for so long at most.
const AWAY_US: u64 = 20_000_000;

pub(crate) struct Reporter {
    topic: String,
    is_weak: bool,
    link: Link,
    partitions: Vec<TopicPartition>,
    /// What each reader said last that was noted.
    noted: BTreeMap<(&'static str, TopicPartition), u64>,
    /// Readers that say nothing before a time, µs.
    away: BTreeMap<&'static str, u64>,
    asked: Option<(u32, What)>,
    next_us: u64,
    pause_us: u64,
}

enum What {
    Partitions,
    /// The positions of a reader, each with what was known of its log.
    Report(&'static str, Vec<(LogAsked, u64)>),
}

impl Reporter {
    pub(crate) fn new(topic: String, is_weak: bool, pause_us: u64) -> Self {
        Self {
            topic,
            is_weak,
            link: Link::new(),
            partitions: Vec::new(),
            noted: BTreeMap::new(),
            away: BTreeMap::new(),
            asked: None,
            next_us: 0,
            pause_us,
        }
    }

    fn work(&mut self, context: &mut Context<'_>) {
        if self.link.tend(context) {
            self.asked = None;
        }
        let mut next = self.link.next_us(context.now_us);
        if self.link.open().is_some() && self.asked.is_none() && !context.is_draining {
            if self.next_us <= context.now_us {
                self.next_us = context.now_us + context.about(self.pause_us);
                self.ask(context);
            }
            next = next.min(self.next_us);
        }
        context.wake_at(next);
    }

    fn ask(&mut self, context: &mut Context<'_>) {
        if self.partitions.is_empty() || context.random.chance(1, 40) {
            let topics = Some(vec![self.topic.clone()]);
            let request = Request::Metadata(MetadataRequest { topics });
            let correlation = self.link.ask(context, RequestFlags::NONE, &request);
            self.asked = Some((correlation, What::Partitions));
            return;
        }
        let reader = READERS[context.random.index(READERS.len())];
        if self
            .away
            .get(reader)
            .is_some_and(|until| *until > context.now_us)
        {
            return;
        }
        if context.random.chance(1, 15) {
            let until = context.now_us + context.random.below(AWAY_US);
            self.away.insert(reader, until);
        }
        let mut told = Vec::new();
        for partition in self.partitions.clone() {
            if context.random.coin() {
                let log = context.ask_of(partition);
                let position = self.choose(context, reader, &log);
                let guarding = &mut context.history.keeping.guarding;
                guarding.report_asked(context.now_us, partition, reader, position);
                told.push((log, position));
            }
        }
        if told.is_empty() {
            return;
        }
        let entries = told.iter().map(|(log, position)| PositionEntry {
            partition: log.partition,
            position: Offset::new(*position),
        });
        let request = Request::ReportPositions(ReportPositionsRequest {
            reader: reader.to_owned(),
            entries: entries.collect(),
        });
        let correlation = self.link.ask(context, RequestFlags::NONE, &request);
        self.asked = Some((correlation, What::Report(reader, told)));
    }

    /// How far a reader is: somewhat further than before mostly, never beyond what was acknowledged as durable.
    fn choose(&self, context: &mut Context<'_>, reader: &'static str, log: &LogAsked) -> u64 {
        let last = self.noted.get(&(reader, log.partition));
        let last = last.copied().unwrap_or(0).min(log.end);
        let ahead = log.end - last;
        match context.random.below(16) {
            0 => log.log_start.get().min(log.end),
            1 => context.random.below(last + 1),
            2..=5 => log.end,
            6..=9 => last + context.random.below(ahead + 1),
            _ => last + context.random.below(ahead.min(100) + 1),
        }
    }

    fn reply(&mut self, context: &mut Context<'_>, reply: &Reply) {
        let name = self.name();
        let response = match reply.response() {
            Ok(response) => response,
            Err(problem) => return context.history.problem(format!("{name}: {problem}")),
        };
        let asked = self
            .asked
            .take_if(|(correlation, _)| *correlation == reply.correlation());
        let Some((_, what)) = asked else {
            return;
        };
        self.link.answered(context, false);
        match (response, what) {
            (Ok(Response::Metadata(mut response)), What::Partitions) => {
                if let Some(Ok(topic)) = response.topics.pop().map(|topic| topic.result) {
                    let count = topic.partitions.len() as u32;
                    let partition =
                        |index| TopicPartition::new(topic.id, PartitionIndex::new(index));
                    self.partitions = (0..count).map(partition).collect();
                }
            }
            (Ok(Response::ReportPositions(response)), What::Report(reader, told))
                if response.entries.len() == told.len() =>
            {
                for (told, entry) in told.into_iter().zip(response.entries) {
                    self.noted(context, reader, told, entry);
                }
            }
            (Err(error), What::Report(reader, told)) => {
                for (log, _) in told {
                    self.refused(context, reader, &log, &error);
                }
            }
            (Err(_), What::Partitions) => {}
            _ => context.history.problem(format!("{name}: a wrong answer")),
        }
    }

    fn noted(
        &mut self,
        context: &mut Context<'_>,
        reader: &'static str,
        (log, position): (LogAsked, u64),
        entry: ReportedPosition,
    ) {
        let (name, partition) = (self.name(), log.partition);
        if entry.partition != partition {
            let problem = format!(
                "{name}: an answer about {} for {partition}",
                entry.partition
            );
            return context.history.problem(problem);
        }
        let log_start = match entry.result {
            Ok(log_start) => log_start,
            Err(error) => return self.refused(context, reader, &log, &error),
        };
        context.note(format_args!(
            "{name}: {partition}: {reader} is at {position}"
        ));
        let guarding = &mut context.history.keeping.guarding;
        guarding.reported(context.now_us, partition, reader);
        context.log_begins(&log, log_start);
        let before = self.noted.insert((reader, partition), position);
        if before.is_some_and(|before| before > position) {
            context.history.reached(Sometimes::ReaderWentBack);
        }
    }

    fn refused(
        &mut self,
        context: &mut Context<'_>,
        reader: &'static str,
        log: &LogAsked,
        error: &ApiError,
    ) {
        let (name, partition) = (self.name(), log.partition);
        context.note(format_args!(
            "{name}: {partition}: {reader} is refused: {error}"
        ));
        let guarding = &mut context.history.keeping.guarding;
        let is_named = guarding.names(log.us, partition.topic, reader);
        if error.code == ErrorCode::TimedOut {
            // It may come through yet.
            return;
        }
        guarding.report_refused(partition, reader);
        match error.code {
            ErrorCode::Overloaded | ErrorCode::ShuttingDown => {}
            ErrorCode::UnknownTopic | ErrorCode::UnknownPartition => self.partitions.clear(),
            ErrorCode::StorageFailed => context.history.storage_failed = true,
            ErrorCode::InvalidRequest if !is_named => {
                context.history.reached(Sometimes::ReaderUnnamed);
            }
            ErrorCode::OffsetOutOfRange if self.is_weak || context.may_be_damaged() => {}
            code => {
                let problem = format!("{name}: {partition}: {reader}: {code:?}: {error}");
                context.history.problem(problem);
            }
        }
    }
}

impl Client for Reporter {
    fn name(&self) -> String {
        format!("reporter of {}", self.topic)
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
        true
    }

    fn waits_for(&self) -> String {
        String::new()
    }
}
