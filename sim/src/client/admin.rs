//! Makes topics, deletes some of them, makes them again, changes them, and holds the metadata against what it was told.
//!
//! One command is out at a time and nobody else touches its topics, so that it knows what has to be there: a
//! topic whose creation was acknowledged, or that was once seen, stays until its deletion is asked for. Its settings
//! are what was acknowledged last, and it never has fewer partitions than it had.

mod described;

use corelane_broker::config::LogDefaults;
use corelane_protocol::request::{
    AlterTopicConfigsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeTopicsRequest, MetadataRequest, NewTopic, TopicAlteration, TopicExtension,
};
use corelane_protocol::response::Response;
use corelane_protocol::{
    ApiError, ErrorCode, PartitionIndex, Request, RequestFlags, TopicId, TopicPartition,
};

use super::asked::LogAsked;
use super::link::Link;
use super::{Client, ClientEvent, Context, Reply};
use crate::counters::Sometimes;
use crate::keeping::Limits;
use crate::profile::CLEANUP_POLICY;

/// A topic as it is to be made.
#[derive(Clone)]
pub(crate) struct NewTopicParts {
    pub(crate) name: String,
    pub(crate) partitions: u32,
    /// It is given more partitions, up to so many.
    pub(crate) partitions_max: u32,
    pub(crate) configs: Vec<(String, String)>,
    /// What its settings are changed to now and then, each one of these; an empty value takes it back.
    pub(crate) changes: Vec<(String, String)>,
    /// It is deleted now and then.
    pub(crate) is_passing: bool,
}

impl NewTopicParts {
    /// Whether some policy that it has at any time deletes by age and size.
    fn may_delete(&self) -> bool {
        let all = || self.configs.iter().chain(&self.changes);
        let mut policies = all().filter(|(key, _)| key == CLEANUP_POLICY);
        policies.any(|(_, policy)| policy != "compact")
            || !self.configs.iter().any(|(key, _)| key == CLEANUP_POLICY)
    }
}

/// A topic that the admin looks after.
struct OwnTopic {
    parts: NewTopicParts,
    /// It has so many at least.
    partitions: u32,
    /// Its own settings; none where a change had no answer.
    settings: Option<Vec<(String, String)>>,
    /// Until then such a change may still arrive, even at a topic that was made in between.
    late_change_us: u64,
    state: TopicState,
    /// The id that it had last.
    last: Option<TopicId>,
    was_deleted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TopicState {
    Absent,
    Exists(TopicId),
    /// A creation had no answer.
    MayExist,
    /// A deletion had no answer.
    MayBeGone(TopicId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Command {
    Create,
    Delete,
    Look,
    Describe,
    Alter(String, String),
    Extend(u32),
}

/// A command in flight, and what was known of the topic's logs when it left.
struct Asked {
    correlation: u32,
    index: usize,
    command: Command,
    logs: Vec<LogAsked>,
}

/// How long a request may be on its way whose connection is gone: in the network, in a mailbox, behind a slow core.
const LATE_US: u64 = 30_000_000;

pub(crate) struct Admin {
    number: usize,
    topics: Vec<OwnTopic>,
    link: Link,
    asked: Option<Asked>,
    next_us: u64,
    pause_us: u64,
    /// A store may be out of service for good, so that not every topic can be made.
    is_lenient: bool,
    /// What topics without settings of their own have.
    broker: LogDefaults,
}

impl Admin {
    pub(crate) fn new(number: usize, pause_us: u64, is_lenient: bool, broker: LogDefaults) -> Self {
        Self {
            number,
            topics: Vec::new(),
            link: Link::new(),
            asked: None,
            next_us: 0,
            pause_us,
            is_lenient,
            broker,
        }
    }

    pub(crate) fn add(&mut self, parts: NewTopicParts) {
        self.topics.push(OwnTopic {
            partitions: parts.partitions,
            settings: Some(parts.configs.clone()),
            late_change_us: 0,
            parts,
            state: TopicState::Absent,
            last: None,
            was_deleted: false,
        });
    }

    fn lose_connection(&mut self, now_us: u64) {
        let Some(Asked { index, command, .. }) = self.asked.take() else {
            return;
        };
        let topic = &mut self.topics[index];
        match (command, topic.state) {
            (Command::Create, TopicState::Absent) => topic.state = TopicState::MayExist,
            (Command::Delete, TopicState::Exists(id)) => topic.state = TopicState::MayBeGone(id),
            (Command::Alter(..), _) => {
                topic.settings = None;
                topic.late_change_us = now_us + LATE_US;
            }
            _ => {}
        }
    }

    fn work(&mut self, context: &mut Context<'_>) {
        if self.link.tend(context) {
            self.lose_connection(context.now_us);
        }
        let mut next = self.link.next_us(context.now_us);
        if self.link.open().is_some() && self.asked.is_none() {
            if self.next_us <= context.now_us {
                self.command(context);
                self.next_us = context.now_us + context.about(self.pause_us);
            }
            next = next.min(self.next_us);
        }
        context.wake_at(next);
    }

    fn command(&mut self, context: &mut Context<'_>) {
        let unfinished = self.topics.iter().position(|topic| !topic.is_settled());
        let index = match unfinished {
            Some(index) if context.is_draining || context.random.coin() => index,
            _ => context.random.index(self.topics.len()),
        };
        let topic = &self.topics[index];
        let command = match topic.state {
            TopicState::Absent => Command::Create,
            TopicState::MayExist if context.random.coin() => Command::Create,
            TopicState::MayBeGone(_) if context.random.coin() => Command::Delete,
            TopicState::Exists(_) if !context.is_draining => topic.change(context),
            _ if context.random.chance(1, 4) => Command::Describe,
            _ => Command::Look,
        };
        let request = topic.request(context, &command, &self.broker);
        let correlation = self.link.ask(context, RequestFlags::NONE, &request);
        let topic = &self.topics[index];
        self.asked = Some(Asked {
            correlation,
            index,
            command,
            logs: topic.logs().map(|log| context.ask_of(log)).collect(),
        });
    }

    fn reply(&mut self, context: &mut Context<'_>, reply: &Reply) {
        let response = match reply.response() {
            Ok(response) => response,
            Err(problem) => {
                return context
                    .history
                    .problem(format!("{}: {problem}", self.name()));
            }
        };
        // The refusal of the connection has no number.
        let asked = self
            .asked
            .take_if(|asked| asked.correlation == reply.correlation());
        let Some(asked) = asked else {
            return;
        };
        self.link.answered(context, false);
        let (index, command) = (asked.index, asked.command.clone());
        let name = self.name();
        let result = match response {
            Ok(Response::CreateTopics(mut response)) => {
                response.topics.pop().map(|topic| topic.result)
            }
            Ok(Response::DeleteTopics(mut response)) => {
                response.topics.pop().map(|topic| topic.result)
            }
            Ok(Response::Metadata(mut response)) => {
                let topic = response.topics.pop().map(|topic| topic.result);
                if let Some(Ok(topic)) = &topic {
                    self.counted(context, index, topic.partitions.len());
                }
                topic.map(|result| result.map(|topic| topic.id))
            }
            Ok(Response::DescribeTopics(mut response)) => {
                let topic = response.topics.pop().map(|topic| topic.result);
                if let Some(Ok(description)) = &topic {
                    self.described(context, &asked, description);
                }
                topic.map(|result| result.map(|topic| topic.id))
            }
            Ok(Response::AlterTopicConfigs(mut response)) => {
                response.topics.pop().map(|topic| topic.result)
            }
            Ok(Response::CreatePartitions(mut response)) => {
                response.topics.pop().map(|topic| topic.result)
            }
            Ok(_) => return context.history.problem(format!("{name}: a wrong answer")),
            Err(error) => Some(Err(error)),
        };
        let Some(result) = result else {
            return context
                .history
                .problem(format!("{name}: an answer about nothing"));
        };
        let topic = &self.topics[index].parts.name;
        context.note(format_args!("{name}: {command:?} {topic}: {result:?}"));
        match command {
            Command::Create => self.created(context, index, result),
            Command::Delete => self.deleted(context, index, result),
            Command::Look | Command::Describe => self.seen(context, index, result),
            Command::Alter(key, value) => self.altered(context, index, (key, value), result),
            Command::Extend(total) => self.extended(context, index, total, result),
        }
    }

    /// A topic's partitions never become fewer.
    fn counted(&mut self, context: &mut Context<'_>, index: usize, count: usize) {
        let name = self.name();
        let topic = &mut self.topics[index];
        let count = count as u32;
        if count < topic.partitions && matches!(topic.state, TopicState::Exists(_)) {
            let problem = format!(
                "{name}: {} has {count} partitions, and had {}",
                topic.parts.name, topic.partitions
            );
            context.history.problem(problem);
        }
        topic.partitions = topic.partitions.max(count);
    }

    /// Whether a refusal of a change says nothing but that it may have come through.
    fn is_doubtful(context: &mut Context<'_>, error: &ApiError) -> bool {
        context.history.storage_failed |= error.code == ErrorCode::StorageFailed;
        matches!(
            error.code,
            ErrorCode::StorageFailed
                | ErrorCode::ShuttingDown
                | ErrorCode::Overloaded
                | ErrorCode::DiskFull
                | ErrorCode::TimedOut
        )
    }

    fn altered(
        &mut self,
        context: &mut Context<'_>,
        index: usize,
        (key, value): (String, String),
        result: Result<TopicId, ApiError>,
    ) {
        let name = self.name();
        let topic = &mut self.topics[index];
        match result {
            Ok(_) => {
                context.history.reached(Sometimes::TopicAltered);
                if let Some(id) = topic.last {
                    let guarding = &mut context.history.keeping.guarding;
                    guarding.changed(context.now_us, id, &key);
                }
                if let Some(settings) = &mut topic.settings {
                    settings.retain(|(own, _)| *own != key);
                    if !value.is_empty() {
                        settings.push((key, value));
                    }
                }
            }
            Err(error) if Self::is_doubtful(context, &error) => topic.settings = None,
            Err(error) => {
                let topic = &topic.parts.name;
                let problem = format!("{name}: giving {topic} {key}={value}: {error}");
                context.history.problem(problem);
            }
        }
    }

    fn extended(
        &mut self,
        context: &mut Context<'_>,
        index: usize,
        total: u32,
        result: Result<TopicId, ApiError>,
    ) {
        let name = self.name();
        let topic = &mut self.topics[index];
        match result {
            Ok(_) => {
                context.history.reached(Sometimes::PartitionsAdded);
                topic.partitions = topic.partitions.max(total);
            }
            Err(error) if Self::is_doubtful(context, &error) => {}
            // An earlier attempt had no answer and has come through.
            Err(error) if error.code == ErrorCode::InvalidPartitions => {}
            Err(error) => {
                let topic = &topic.parts.name;
                let problem = format!("{name}: giving {topic} {total} partitions: {error}");
                context.history.problem(problem);
            }
        }
    }

    fn created(
        &mut self,
        context: &mut Context<'_>,
        index: usize,
        result: Result<TopicId, ApiError>,
    ) {
        let name = self.name();
        let topic = &mut self.topics[index];
        match result {
            Ok(id) => {
                if topic.last == Some(id) {
                    let problem = format!(
                        "{name}: {} was made again with its old id",
                        topic.parts.name
                    );
                    context.history.problem(problem);
                }
                context.history.reached(Sometimes::TopicCreated);
                if topic.was_deleted {
                    context.history.reached(Sometimes::TopicMadeAgain);
                }
                topic.exists(context, id, &self.broker);
            }
            Err(error) => match error.code {
                ErrorCode::TopicExists if topic.state == TopicState::MayExist => {}
                // It may have been logged before the log or a store failed.
                ErrorCode::StorageFailed | ErrorCode::ShuttingDown => {
                    context.history.storage_failed |= error.code == ErrorCode::StorageFailed;
                    topic.state = TopicState::MayExist;
                }
                ErrorCode::Overloaded | ErrorCode::DiskFull => {
                    context.history.reached(Sometimes::RefusedDiskFull);
                }
                code => {
                    let problem =
                        format!("{name}: creating {}: {code:?}: {error}", topic.parts.name);
                    context.history.problem(problem);
                }
            },
        }
    }

    fn deleted(
        &mut self,
        context: &mut Context<'_>,
        index: usize,
        result: Result<TopicId, ApiError>,
    ) {
        let name = self.name();
        let topic = &mut self.topics[index];
        match (result, topic.state) {
            (Ok(id), TopicState::Exists(own) | TopicState::MayBeGone(own)) if id == own => {
                context.history.reached(Sometimes::TopicDeleted);
                topic.gone(context.now_us);
            }
            (Err(error), TopicState::MayBeGone(_)) if error.code == ErrorCode::UnknownTopic => {
                topic.gone(context.now_us);
            }
            (Err(error), TopicState::Exists(id) | TopicState::MayBeGone(id))
                if matches!(
                    error.code,
                    ErrorCode::StorageFailed
                        | ErrorCode::ShuttingDown
                        | ErrorCode::Overloaded
                        | ErrorCode::DiskFull
                ) =>
            {
                context.history.storage_failed |= error.code == ErrorCode::StorageFailed;
                topic.state = TopicState::MayBeGone(id);
            }
            (result, state) => {
                let problem = format!(
                    "{name}: deleting {} ({state:?}): {result:?}",
                    topic.parts.name
                );
                context.history.problem(problem);
            }
        }
    }

    fn seen(&mut self, context: &mut Context<'_>, index: usize, result: Result<TopicId, ApiError>) {
        let name = self.name();
        let topic = &mut self.topics[index];
        match (result, topic.state) {
            (Ok(id), TopicState::Exists(own)) if id == own => {}
            (Ok(id), TopicState::MayBeGone(own)) if id == own => {}
            (Ok(id), TopicState::MayExist) => topic.exists(context, id, &self.broker),
            (Err(error), TopicState::MayBeGone(_)) if error.code == ErrorCode::UnknownTopic => {
                topic.gone(context.now_us);
            }
            (Err(error), TopicState::MayExist) if error.code == ErrorCode::UnknownTopic => {}
            (Err(error), _)
                if matches!(
                    error.code,
                    ErrorCode::ShuttingDown | ErrorCode::Overloaded | ErrorCode::TimedOut
                ) => {}
            (result, state) => {
                let problem = format!(
                    "{name}: {} should be {state:?}, and the broker says {result:?}",
                    topic.parts.name
                );
                context.history.problem(problem);
            }
        }
    }
}

impl OwnTopic {
    fn is_settled(&self) -> bool {
        matches!(self.state, TopicState::Exists(_))
    }

    fn exists(&mut self, context: &mut Context<'_>, id: TopicId, broker: &LogDefaults) {
        self.state = TopicState::Exists(id);
        self.last = Some(id);
        let keeping = &mut context.history.keeping;
        if self.parts.may_delete() {
            keeping.limit(id, limits(&self.parts.configs, broker));
        } else {
            keeping.limit(id, Limits::default());
        }
        keeping.guarding.made(id, &self.parts.configs, broker);
    }

    /// Its partitions, if it is known.
    fn logs(&self) -> impl Iterator<Item = TopicPartition> + use<> {
        let (id, count) = (self.last, self.partitions);
        let index = move |index| id.map(|id| TopicPartition::new(id, PartitionIndex::new(index)));
        (0..count).filter_map(index)
    }

    /// What is done next with a topic that exists.
    fn change(&self, context: &mut Context<'_>) -> Command {
        match context.random.below(16) {
            0..=3 if self.parts.is_passing => Command::Delete,
            4..=6 if !self.parts.changes.is_empty() => {
                let index = context.random.index(self.parts.changes.len());
                let (key, value) = self.parts.changes[index].clone();
                Command::Alter(key, value)
            }
            7 if self.partitions < self.parts.partitions_max => {
                Command::Extend(self.partitions + 1)
            }
            8..=10 => Command::Describe,
            _ => Command::Look,
        }
    }

    fn request(
        &self,
        context: &mut Context<'_>,
        command: &Command,
        broker: &LogDefaults,
    ) -> Request<'static> {
        let name = self.parts.name.clone();
        match command {
            Command::Create => Request::CreateTopics(CreateTopicsRequest {
                topics: vec![NewTopic {
                    name,
                    partitions: self.parts.partitions,
                    configs: self.parts.configs.clone(),
                }],
                validate_only: false,
            }),
            Command::Delete => {
                if let Some(id) = self.last {
                    context.history.keeping.forget(id);
                }
                // From here on it may be gone at any time, with partitions that nobody knows of yet.
                for index in 0..self.parts.partitions_max {
                    if let Some(id) = self.last {
                        let partition = TopicPartition::new(id, PartitionIndex::new(index));
                        context.history.released(partition);
                    }
                }
                Request::DeleteTopics(DeleteTopicsRequest { names: vec![name] })
            }
            Command::Look => Request::Metadata(MetadataRequest {
                topics: Some(vec![name]),
            }),
            Command::Describe => Request::DescribeTopics(DescribeTopicsRequest {
                topics: Some(vec![name]),
            }),
            Command::Alter(key, value) => {
                if let Some(id) = self.last {
                    let changed = [(key.clone(), value.clone())];
                    let (mut limits, all) = (Limits::default(), limits(&changed, broker));
                    match key.as_str() {
                        "retention.ms" => limits.ms = all.ms,
                        "retention.bytes" => limits.bytes = all.bytes,
                        _ => {}
                    }
                    if (key.as_str(), value.as_str()) == (CLEANUP_POLICY, "compact") {
                        context.history.compacting.permit(&self.parts.name);
                        for index in 0..self.parts.partitions_max {
                            let partition = TopicPartition::new(id, PartitionIndex::new(index));
                            let name = &self.parts.name;
                            context.history.partition_found(name, partition);
                        }
                    }
                    let keeping = &mut context.history.keeping;
                    if self.parts.may_delete() {
                        keeping.limit(id, limits);
                    }
                    let changed = (key.as_str(), value.as_str());
                    let guarding = &mut keeping.guarding;
                    guarding.change_asked(context.now_us, id, changed, broker);
                }
                let (set, unset) = match value.is_empty() {
                    true => (Vec::new(), vec![key.clone()]),
                    false => (vec![(key.clone(), value.clone())], Vec::new()),
                };
                Request::AlterTopicConfigs(AlterTopicConfigsRequest {
                    topics: vec![TopicAlteration { name, set, unset }],
                    validate_only: false,
                })
            }
            Command::Extend(total) => Request::CreatePartitions(CreatePartitionsRequest {
                topics: vec![TopicExtension {
                    name,
                    total: *total,
                }],
                validate_only: false,
            }),
        }
    }

    fn gone(&mut self, now_us: u64) {
        self.partitions = self.parts.partitions;
        let is_certain = self.late_change_us <= now_us;
        self.settings = is_certain.then(|| self.parts.configs.clone());
        self.state = TopicState::Absent;
        self.was_deleted = true;
    }
}

/// What topics with these settings keep.
fn limits(settings: &[(String, String)], broker: &LogDefaults) -> Limits {
    let own = |key: &str| {
        let own = settings.iter().find(|(own, _)| own == key)?;
        own.1.parse().ok()
    };
    Limits {
        bytes: own("retention.bytes").or(broker.retention_bytes.0),
        ms: own("retention.ms").or(broker.retention_ms.0),
    }
}

impl Client for Admin {
    fn name(&self) -> String {
        format!("admin {}", self.number)
    }

    fn handle(&mut self, context: &mut Context<'_>, event: ClientEvent) {
        match event {
            ClientEvent::Wake => {}
            ClientEvent::Connected(conn) => self.link.connected(conn),
            ClientEvent::Closed(conn) if self.link.is(conn) => {
                self.link.closed(context);
                self.lose_connection(context.now_us);
            }
            ClientEvent::Reply(conn, reply) if self.link.is(conn) => self.reply(context, &reply),
            ClientEvent::Closed(_) | ClientEvent::Reply(..) => return,
        }
        self.work(context);
    }

    fn is_done(&self) -> bool {
        self.is_lenient || (self.topics.iter().all(OwnTopic::is_settled) && self.asked.is_none())
    }

    fn waits_for(&self) -> String {
        let unsettled = self.topics.iter().filter(|topic| !topic.is_settled());
        let unsettled: Vec<_> = unsettled
            .map(|topic| format!("{} is {:?}", topic.parts.name, topic.state))
            .collect();
        unsettled.join(", ")
    }
}
