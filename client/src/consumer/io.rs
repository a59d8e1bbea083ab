//! The consumer's connections and clock: carries out what the fetcher plans.
//!
//! Owns: one connection for each address in use, and the events that come back. Never: decides what
//! to fetch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::request::{FetchEntry, FetchRequest};
use corelane_protocol::{
    ApiKey, LeaderEpoch, Offset, PartitionIndex, Request, Response, TopicPartition,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::FetchParameters;
use super::assigned::Assigned;
use super::fetcher::{FetchPlan, Fetcher, PartitionId, Question};
use super::start::{Asked, Found, OffsetReset, Start, find};
use crate::cluster::{Cluster, TopicMetadata};
use crate::connection::{Connection, Frame, Outgoing, Reply, ReplyTo, unexpected};
use crate::error::{Error, Result};

#[derive(Debug)]
enum Link {
    Opening,
    Up(Connection),
}

/// What comes back from the work that was started in the background.
#[derive(Debug)]
enum Event {
    Opened(Arc<str>, Result<Connection>),
    Topic(Arc<str>, Result<Arc<TopicMetadata>>),
    Reset {
        id: PartitionId,
        generation: u64,
        result: Result<Found>,
    },
    End {
        id: PartitionId,
        result: Result<Found>,
    },
}

#[derive(Debug)]
pub(super) struct FetchIo {
    cluster: Arc<Cluster>,
    parameters: FetchParameters,
    started: Instant,
    links: BTreeMap<Arc<str>, Link>,
    replies: (mpsc::UnboundedSender<Reply>, mpsc::UnboundedReceiver<Reply>),
    events: (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>),
}

impl FetchIo {
    pub(super) fn new(cluster: Arc<Cluster>, parameters: FetchParameters) -> Self {
        Self {
            cluster,
            parameters,
            started: Instant::now(),
            links: BTreeMap::new(),
            replies: mpsc::unbounded_channel(),
            events: mpsc::unbounded_channel(),
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Takes in what arrived, and sends what the fetcher wants. Never waits.
    pub(super) fn turn(&mut self, fetcher: &mut Fetcher) {
        let now = self.now();
        while let Ok(reply) = self.replies.1.try_recv() {
            self.take_reply(now, fetcher, reply);
        }
        while let Ok(event) = self.events.1.try_recv() {
            self.take_event(now, fetcher, event);
        }
        let links = &mut self.links;
        let mut to_open = Vec::new();
        let plans = fetcher.plan(now, |route| match links.get(&route.address) {
            Some(Link::Up(connection)) if connection.is_open() => true,
            Some(Link::Opening) => false,
            _ => {
                links.insert(Arc::clone(&route.address), Link::Opening);
                to_open.push(Arc::clone(&route.address));
                false
            }
        });
        for address in to_open {
            self.open(address);
        }
        for plan in plans {
            self.send(now, fetcher, &plan);
        }
        for question in fetcher.take_questions() {
            self.ask(fetcher, question);
        }
    }

    /// Waits until something arrived or is due, at most until `deadline`. Cancel safe.
    pub(super) async fn wait(&mut self, fetcher: &mut Fetcher, deadline: Option<Instant>) {
        let now = self.now();
        let due = fetcher
            .wake_at()
            .map_or(now + IDLE_LOOK, |at| at.min(now + IDLE_LOOK));
        let due = self.started + due;
        let until = deadline.map_or(due, |deadline| deadline.min(due));
        tokio::select! {
            biased;
            Some(reply) = self.replies.1.recv() => {
                let now = self.now();
                self.take_reply(now, fetcher, reply);
            }
            Some(event) = self.events.1.recv() => {
                let now = self.now();
                self.take_event(now, fetcher, event);
            }
            () = tokio::time::sleep_until(until) => {}
        }
    }

    fn take_reply(&mut self, now: Duration, fetcher: &mut Fetcher, reply: Reply) {
        let number = reply.token;
        let outcome = reply
            .result
            .map(Arc::new)
            .and_then(|frame| self.read_answer(now, fetcher, number, &frame));
        if let Err(error) = outcome {
            tracing::debug!(%error, "a fetch failed");
            fetcher.request_failed(now, number, &error);
        }
    }

    fn read_answer(
        &self,
        now: Duration,
        fetcher: &mut Fetcher,
        number: u64,
        frame: &Arc<Frame>,
    ) -> Result<()> {
        let address = "the broker";
        let response = match frame.decode(address)? {
            Ok(Response::Fetch(response)) => response,
            Ok(_) => return Err(unexpected(address, ApiKey::Fetch)),
            Err(error) => return Err(Error::refused("fetch", error)),
        };
        if fetcher
            .part_count(number)
            .is_some_and(|count| count != response.entries.len())
        {
            return Err(Error::Protocol {
                address: address.into(),
                reason: "a fetch answer has another number of entries than its request".into(),
            });
        }
        let only = self.cluster.only_address();
        fetcher.answered(now, number, frame, response.entries, only.as_ref());
        Ok(())
    }

    fn take_event(&mut self, now: Duration, fetcher: &mut Fetcher, event: Event) {
        match event {
            Event::Opened(address, Ok(connection)) => {
                self.links.insert(address, Link::Up(connection));
                fetcher.connected();
            }
            Event::Opened(address, Err(error)) => {
                tracing::debug!(%address, %error, "cannot connect");
                self.links.remove(&address);
                fetcher.connect_failed(now, &address);
            }
            Event::Topic(name, result) => {
                fetcher.located(now, &name, result.as_ref().map(|topic| &**topic));
            }
            Event::Reset {
                id,
                generation,
                result,
            } => fetcher.reset(now, id, generation, result),
            Event::End { id, result } => fetcher.ended(id, result),
        }
    }

    fn open(&self, address: Arc<str>) {
        let events = self.events.0.clone();
        let config = self.cluster.config().connection.clone();
        tokio::spawn(async move {
            let opened = Connection::open(Arc::clone(&address), &config).await;
            // The consumer may have gone; the connection closes with the event.
            let _ = events.send(Event::Opened(address, opened));
        });
    }

    fn send(&mut self, now: Duration, fetcher: &mut Fetcher, plan: &FetchPlan) {
        let entries = plan.parts.iter().map(|part| FetchEntry {
            partition: TopicPartition::new(part.topic, PartitionIndex::new(part.partition)),
            offset: Offset::new(part.offset),
            max_bytes: part.max_bytes,
            current_epoch: part.current_epoch.map(LeaderEpoch::new),
            last_epoch: part.last_epoch.map(LeaderEpoch::new),
        });
        let request = Request::Fetch(FetchRequest {
            max_wait_ms: self.parameters.max_wait_ms,
            min_bytes: self.parameters.min_bytes,
            max_bytes: self.parameters.max_bytes,
            entries: entries.collect(),
        });
        let outgoing = Outgoing {
            request: &request,
            batches: Vec::new(),
            timeout: self.cluster.config().request_timeout,
        };
        let reply = ReplyTo::Queue {
            queue: self.replies.0.clone(),
            token: plan.number,
        };
        let submitted = match self.links.get(&plan.route.address) {
            Some(Link::Up(connection)) => connection.submit(outgoing, reply),
            _ => Err(Error::Closed { what: "connection" }),
        };
        if let Err(error) = submitted {
            self.links.remove(&plan.route.address);
            fetcher.request_failed(now, plan.number, &error);
        }
    }

    fn ask(&self, fetcher: &Fetcher, question: Question) {
        let events = self.events.0.clone();
        let cluster = Arc::clone(&self.cluster);
        match question {
            Question::Topic(name) => drop(tokio::spawn(async move {
                let result = cluster.refresh(&name).await;
                // The consumer may have gone before the answer: nobody needs it then.
                let _ = events.send(Event::Topic(name, result));
            })),
            Question::Reset { id, generation } => {
                let start = match self.parameters.offset_reset {
                    OffsetReset::Latest => Start::Latest,
                    _ => Start::Earliest,
                };
                self.find(&fetcher.partitions[id], start, move |result| Event::Reset {
                    id,
                    generation,
                    result,
                });
            }
            Question::End(id) => {
                self.find(&fetcher.partitions[id], Start::Latest, move |result| {
                    Event::End { id, result }
                });
            }
        }
    }
}

impl FetchIo {
    /// Finds out what a start means for a partition.
    fn find(
        &self,
        assigned: &Assigned,
        start: Start,
        event: impl FnOnce(Result<Found>) -> Event + Send + 'static,
    ) {
        let (events, cluster) = (self.events.0.clone(), Arc::clone(&self.cluster));
        let (name, topic) = (Arc::clone(&assigned.topic), assigned.topic_id);
        let partition = assigned.partition;
        drop(tokio::spawn(async move {
            let asked = Asked {
                name: &name,
                topic,
                partition,
            };
            let found = find(&cluster, &[(asked, start)]).await;
            // The consumer may have gone before the answer: nobody needs it then.
            let _ = events.send(event(found.map(|found| found[0])));
        }));
    }
}

/// How long the consumer sleeps when nothing is to come.
const IDLE_LOOK: Duration = Duration::from_secs(60);
