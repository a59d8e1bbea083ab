//! Makes topics, deletes some of them, makes them again, and holds the metadata against what it was told.
//!
//! One command is out at a time and nobody else touches its topics, so that it knows what has to be there: a
//! topic whose creation was acknowledged, or that was once seen, stays until its deletion is asked for.

use corelane_protocol::request::{
    CreateTopicsRequest, DeleteTopicsRequest, DescribeTopicsRequest, MetadataRequest, NewTopic,
};
use corelane_protocol::response::Response;
use corelane_protocol::{
    ApiError, ErrorCode, PartitionIndex, Request, RequestFlags, TopicId, TopicPartition,
};

use super::link::Link;
use super::{Client, ClientEvent, Context, Reply};
use crate::counters::Sometimes;

/// A topic that the admin looks after.
pub(crate) struct OwnTopic {
    name: String,
    partitions: u32,
    configs: Vec<(String, String)>,
    /// It is deleted now and then.
    is_passing: bool,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Create,
    Delete,
    Look,
    Describe,
}

pub(crate) struct Admin {
    number: usize,
    topics: Vec<OwnTopic>,
    link: Link,
    asked: Option<(u32, usize, Command)>,
    next_us: u64,
    pause_us: u64,
    /// A store may be out of service for good, so that not every topic can be made.
    is_lenient: bool,
}

impl Admin {
    pub(crate) fn new(number: usize, pause_us: u64, is_lenient: bool) -> Self {
        Self {
            number,
            topics: Vec::new(),
            link: Link::new(),
            asked: None,
            next_us: 0,
            pause_us,
            is_lenient,
        }
    }

    pub(crate) fn add(
        &mut self,
        name: &str,
        partitions: u32,
        configs: Vec<(String, String)>,
        is_passing: bool,
    ) {
        self.topics.push(OwnTopic {
            name: name.to_owned(),
            partitions,
            configs,
            is_passing,
            state: TopicState::Absent,
            last: None,
            was_deleted: false,
        });
    }

    fn lose_connection(&mut self) {
        let Some((_, index, command)) = self.asked.take() else {
            return;
        };
        let topic = &mut self.topics[index];
        topic.state = match (command, topic.state) {
            (Command::Create, TopicState::Absent) => TopicState::MayExist,
            (Command::Delete, TopicState::Exists(id)) => TopicState::MayBeGone(id),
            (_, state) => state,
        };
    }

    fn work(&mut self, context: &mut Context<'_>) {
        if self.link.tend(context) {
            self.lose_connection();
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
            TopicState::Exists(_)
                if topic.is_passing && !context.is_draining && context.random.chance(1, 4) =>
            {
                Command::Delete
            }
            _ if context.random.chance(1, 4) => Command::Describe,
            _ => Command::Look,
        };
        let names = vec![topic.name.clone()];
        let request = match command {
            Command::Create => Request::CreateTopics(CreateTopicsRequest {
                topics: vec![NewTopic {
                    name: topic.name.clone(),
                    partitions: topic.partitions,
                    configs: topic.configs.clone(),
                }],
                validate_only: false,
            }),
            Command::Delete => {
                if let Some(id) = topic.last {
                    // From here on it may be gone at any time.
                    for index in 0..topic.partitions {
                        let index = PartitionIndex::new(index);
                        context.history.released(TopicPartition::new(id, index));
                    }
                }
                Request::DeleteTopics(DeleteTopicsRequest { names })
            }
            Command::Look => Request::Metadata(MetadataRequest {
                topics: Some(names),
            }),
            Command::Describe => Request::DescribeTopics(DescribeTopicsRequest {
                topics: Some(names),
            }),
        };
        let correlation = self.link.ask(context, RequestFlags::NONE, &request);
        self.asked = Some((correlation, index, command));
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
        let Some((correlation, index, command)) = self.asked else {
            return;
        };
        if reply.correlation() != correlation {
            // The refusal of the connection has no number.
            return;
        }
        self.asked = None;
        self.link.answered(context, false);
        let name = self.name();
        let result = match response {
            Ok(Response::CreateTopics(mut response)) => {
                response.topics.pop().map(|topic| topic.result)
            }
            Ok(Response::DeleteTopics(mut response)) => {
                response.topics.pop().map(|topic| topic.result)
            }
            Ok(Response::Metadata(mut response)) => {
                let topic = response.topics.pop();
                topic.map(|topic| topic.result.map(|topic| topic.id))
            }
            Ok(Response::DescribeTopics(mut response)) => {
                let topic = response.topics.pop();
                topic.map(|topic| topic.result.map(|topic| topic.id))
            }
            Ok(_) => return context.history.problem(format!("{name}: a wrong answer")),
            Err(error) => Some(Err(error)),
        };
        let Some(result) = result else {
            return context
                .history
                .problem(format!("{name}: an answer about nothing"));
        };
        let topic = &self.topics[index].name;
        context.note(format_args!("{name}: {command:?} {topic}: {result:?}"));
        match command {
            Command::Create => self.created(context, index, result),
            Command::Delete => self.deleted(context, index, result),
            Command::Look | Command::Describe => self.seen(context, index, result),
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
                    let problem = format!("{name}: {} was made again with its old id", topic.name);
                    context.history.problem(problem);
                }
                context.history.reached(Sometimes::TopicCreated);
                if topic.was_deleted {
                    context.history.reached(Sometimes::TopicMadeAgain);
                }
                topic.exists(id);
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
                    let problem = format!("{name}: creating {}: {code:?}: {error}", topic.name);
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
                topic.gone();
            }
            (Err(error), TopicState::MayBeGone(_)) if error.code == ErrorCode::UnknownTopic => {
                topic.gone();
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
                let problem = format!("{name}: deleting {} ({state:?}): {result:?}", topic.name);
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
            (Ok(id), TopicState::MayExist) => topic.exists(id),
            (Err(error), TopicState::MayBeGone(_)) if error.code == ErrorCode::UnknownTopic => {
                topic.gone();
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
                    topic.name
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

    fn exists(&mut self, id: TopicId) {
        self.state = TopicState::Exists(id);
        self.last = Some(id);
    }

    fn gone(&mut self) {
        self.state = TopicState::Absent;
        self.was_deleted = true;
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
                self.lose_connection();
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
            .map(|topic| format!("{} is {:?}", topic.name, topic.state))
            .collect();
        unsettled.join(", ")
    }
}
