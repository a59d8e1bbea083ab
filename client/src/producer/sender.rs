//! The task that carries out what the engine decides.
//!
//! Owns: a producer's connections, its clock, and the events that come back. One task for each
//! producer, on the user's tokio runtime. Never: decides; the engine does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::batch::BatchBytes;
use corelane_protocol::request::{Acks, ProduceEntry, ProduceRequest};
use corelane_protocol::response::ProducerIdentity;
use corelane_protocol::{ApiKey, PartitionIndex, Request, Response, TopicPartition};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::accumulator::SlotId;
use super::delivery::Completion;
use super::engine::{Effect, EncodingNumber, Engine, EntryAnswer, RequestNumber, SendEntry};
use super::order::ConnectionNumber;
use super::shared::Shared;
use super::window::Hints;
use crate::cluster::TopicMetadata;
use crate::connection::{Connection, Frame, Outgoing, Reply, ReplyTo, unexpected};
use crate::error::{Error, Result};

/// What callers ask of the sender beside sending.
#[derive(Debug)]
pub(crate) enum Command {
    /// End lingering; give the completions of everything that is not settled.
    Flush(oneshot::Sender<Vec<Completion>>),
}

/// What comes back from the work that the sender started.
#[derive(Debug)]
enum Event {
    Connected(Connection),
    ConnectFailed(Arc<str>, Error),
    Encoded(SlotId, EncodingNumber, BatchBytes),
    Metadata(Arc<str>, Result<Arc<TopicMetadata>>),
    Identity(Result<ProducerIdentity>),
}

#[derive(Debug)]
pub(crate) struct Sender {
    shared: Arc<Shared>,
    engine: Engine,
    acks: Acks,
    request_timeout: Duration,
    connections: BTreeMap<ConnectionNumber, Connection>,
    next_connection: ConnectionNumber,
    commands: mpsc::UnboundedReceiver<Command>,
    replies: (mpsc::UnboundedSender<Reply>, mpsc::UnboundedReceiver<Reply>),
    events: (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>),
}

impl Sender {
    pub(crate) fn new(
        shared: Arc<Shared>,
        engine: Engine,
        acks: Acks,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        let request_timeout = shared.cluster.config().request_timeout;
        Self {
            shared,
            engine,
            acks,
            request_timeout,
            connections: BTreeMap::new(),
            next_connection: 0,
            commands,
            replies: mpsc::unbounded_channel(),
            events: mpsc::unbounded_channel(),
        }
    }

    /// Runs until the producer is closed and everything is settled.
    pub(crate) async fn run(mut self) {
        loop {
            let now = self.shared.now();
            self.take_in(now);
            self.carry_out_all(now);
            if self.shared.is_closed() && !self.shared.has_ready() && self.engine.is_idle() {
                return;
            }
            self.wait().await;
        }
    }

    /// Waits for the next event; takes in the one that came.
    async fn wait(&mut self) {
        let now = self.shared.now();
        let wake_at = self.engine.wake_at(now);
        let deadline = self.shared.instant(wake_at.unwrap_or(now + IDLE_LOOK));
        tokio::select! {
            biased;
            Some(reply) = self.replies.1.recv() => self.take_reply(self.shared.now(), reply),
            Some(event) = self.events.1.recv() => self.take_event(self.shared.now(), event),
            Some(command) = self.commands.recv() => self.take_command(self.shared.now(), command),
            () = self.shared.wake.notified() => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }

    /// Takes in all that is there without waiting.
    fn take_in(&mut self, now: Duration) {
        while let Ok(reply) = self.replies.1.try_recv() {
            self.take_reply(now, reply);
        }
        while let Ok(event) = self.events.1.try_recv() {
            self.take_event(now, event);
        }
        for (topic, partition) in self.shared.take_ready() {
            let slot = &topic.slots[partition as usize];
            self.engine.records_waiting(now, slot, &topic.metadata);
        }
        self.engine.set_pressed(now, self.shared.callers_wait());
        while let Ok(command) = self.commands.try_recv() {
            self.take_command(now, command);
        }
    }

    fn take_command(&mut self, now: Duration, command: Command) {
        match command {
            Command::Flush(answer) => {
                // What was sent before the flush may have been announced just now.
                for (topic, partition) in self.shared.take_ready() {
                    let slot = &topic.slots[partition as usize];
                    self.engine.records_waiting(now, slot, &topic.metadata);
                }
                // The caller may have gone; its flush has happened all the same.
                let _ = answer.send(self.engine.flush(now));
            }
        }
    }

    fn take_event(&mut self, now: Duration, event: Event) {
        match event {
            Event::Connected(connection) => {
                let number = self.next_connection;
                self.next_connection += 1;
                let limit = u64::from(connection.greeting().connection_in_flight_bytes_max);
                self.engine.connected(connection.address(), number, limit);
                self.connections.insert(number, connection);
            }
            Event::ConnectFailed(address, error) => {
                tracing::debug!(%address, %error, "cannot connect");
                self.engine.connect_failed(now, &address, error);
            }
            Event::Encoded(slot, encoding, bytes) => {
                self.engine.encoded(now, slot, encoding, bytes);
            }
            Event::Identity(Ok(identity)) => {
                tracing::debug!(id = %identity.producer_id, window = identity.window, "identified");
                self.engine.identified(now, identity);
            }
            Event::Identity(Err(error)) => {
                tracing::debug!(%error, "no producer id");
                self.engine.identify_failed(now, &error);
            }
            Event::Metadata(name, result) => match result {
                Ok(topic) => {
                    self.shared.update_topic(&topic);
                    self.engine.metadata(now, &topic);
                }
                Err(error) => {
                    tracing::debug!(topic = %name, %error, "no metadata");
                    self.shared.forget_if_unknown(&name, &error);
                    self.engine.metadata_failed(now, &name, &error);
                }
            },
        }
    }

    fn take_reply(&mut self, now: Duration, reply: Reply) {
        let number = reply.token;
        let answered = reply.result.and_then(|frame| {
            let answer = self.read_answer(number, &frame)?;
            let hints = Hints {
                credit_bytes: frame.header.credit_bytes,
                throttle_ms: frame.header.throttle_ms,
            };
            Ok((answer, hints))
        });
        match answered {
            Ok((answer, hints)) => self.engine.answered(now, number, hints, answer),
            Err(error) => {
                if let Some(connection) = self.engine.request_failed(now, number, &error) {
                    tracing::debug!(%error, "the producer lost a connection");
                    self.connections.remove(&connection);
                }
            }
        }
    }

    fn read_answer(
        &self,
        number: RequestNumber,
        frame: &Frame,
    ) -> Result<Result<Vec<EntryAnswer>, corelane_protocol::ApiError>> {
        let address = "the broker";
        let response = match frame.decode(address)? {
            Ok(Response::Produce(response)) => response,
            Ok(_) => return Err(unexpected(address, ApiKey::Produce)),
            Err(error) => return Ok(Err(error)),
        };
        let expected = self.engine.entry_count(number);
        if expected.is_some_and(|count| count != response.entries.len()) {
            return Err(Error::Protocol {
                address: address.into(),
                reason: "a produce answer has another number of entries than its request".into(),
            });
        }
        let entries = response.entries.into_iter().map(|entry| EntryAnswer {
            result: entry.result,
            owner: entry.owner,
        });
        Ok(Ok(entries.collect()))
    }

    fn carry_out_all(&mut self, now: Duration) {
        loop {
            let effects = self.engine.step(now);
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.carry_out(now, effect);
            }
        }
    }

    fn carry_out(&mut self, now: Duration, effect: Effect) {
        match effect {
            Effect::Send {
                connection,
                request,
                entries,
            } => self.send(now, connection, request, &entries),
            Effect::Settle {
                completer,
                buffer_bytes,
                bytes,
                result,
            } => {
                completer.complete(result);
                self.shared.release(buffer_bytes);
                if let Some(bytes) = bytes {
                    self.shared.builders.give_back_bytes(bytes);
                }
            }
            Effect::Connect { address } => {
                let events = self.events.0.clone();
                let config = self.shared.cluster.config().connection.clone();
                tokio::spawn(async move {
                    let opened = Connection::open(Arc::clone(&address), &config).await;
                    // The sender may have ended meanwhile; the connection closes with the event.
                    let _ = events.send(match opened {
                        Ok(connection) => Event::Connected(connection),
                        Err(error) => Event::ConnectFailed(address, error),
                    });
                });
            }
            Effect::Encode {
                slot,
                encoding,
                builder,
            } => {
                let events = self.events.0.clone();
                let builders = Arc::clone(&self.shared.builders);
                tokio::task::spawn_blocking(move || {
                    let bytes = builders.encode(builder);
                    // The sender has ended only if the batch was given up.
                    let _ = events.send(Event::Encoded(slot, encoding, bytes));
                });
            }
            Effect::Refresh { topic } => {
                let events = self.events.0.clone();
                let cluster = Arc::clone(&self.shared.cluster);
                tokio::spawn(async move {
                    let result = cluster.refresh(&topic).await;
                    // The sender has ended only if nothing needs the answer.
                    let _ = events.send(Event::Metadata(topic, result));
                });
            }
            Effect::Identify => {
                let events = self.events.0.clone();
                let cluster = Arc::clone(&self.shared.cluster);
                tokio::spawn(async move {
                    let result = cluster.producer_identity().await;
                    // The sender has ended only if nothing needs the answer.
                    let _ = events.send(Event::Identity(result));
                });
            }
            Effect::Learn {
                topic,
                partition,
                route,
            } => {
                self.shared.cluster.learn(&topic, partition, route);
            }
        }
    }

    fn send(
        &mut self,
        now: Duration,
        number: ConnectionNumber,
        request: RequestNumber,
        entries: &[SendEntry],
    ) {
        let table = entries.iter().map(|entry| ProduceEntry {
            partition: TopicPartition::new(entry.topic, PartitionIndex::new(entry.partition)),
            resume: entry.resume,
            batch: &entry.bytes,
        });
        // The broker gives up before the connection is given up, so that its answer still counts.
        let timeout = self.request_timeout * 3 / 4;
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let produce = Request::Produce(ProduceRequest {
            acks: self.acks,
            timeout_ms,
            entries: table.collect(),
        });
        let outgoing = Outgoing {
            request: &produce,
            batches: entries
                .iter()
                .map(|entry| Arc::clone(&entry.bytes))
                .collect(),
            timeout: self.request_timeout,
        };
        let reply = ReplyTo::Queue {
            queue: self.replies.0.clone(),
            token: request,
        };
        let submitted = match self.connections.get(&number) {
            Some(connection) => connection.submit(outgoing, reply),
            None => Err(Error::Closed { what: "connection" }),
        };
        match submitted {
            Ok(bytes) => tracing::trace!(request, bytes, batches = entries.len(), "produce"),
            Err(error) => {
                self.connections.remove(&number);
                self.engine.send_failed(now, request, number, &error);
            }
        }
    }
}

impl Drop for Sender {
    /// The task ended, or its runtime did: nobody is left who would send what callers put in.
    fn drop(&mut self) {
        self.shared.close();
        self.shared.discard();
    }
}

/// How long the sender sleeps when nothing is to come.
const IDLE_LOOK: Duration = Duration::from_secs(60);

impl Shared {
    /// The instant of a time since the producer started.
    fn instant(&self, time: Duration) -> Instant {
        self.started + time
    }
}
