//! What a producer does next: which batches go where, and when.
//!
//! Owns: the order of every partition in use, timers, requests in flight, and what follows from
//! answers, lost connections and metadata. `plan.rs` has the other half: filling requests.
//! Never: does I/O or reads a clock. Events come with the time since the producer started; effects
//! are collected, and the sender's task carries them out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::batch::BatchBuilder;
use corelane_protocol::response::{CoreAddress, Receipt};
use corelane_protocol::{AlignedBytes, ApiError, ErrorCode, TopicId};

use super::accumulator::{OpenBatch, Slot, SlotId};
use super::builders::Builders;
use super::delivery::{BatchReceipt, BatchResult, Completer, Completion};
use super::link::{Link, LinkId};
use super::order::{Answer, BatchNumber, ConnectionNumber, PartitionOrder, Settled};
use super::window::Hints;
use crate::backoff::{Backoff, Jitter};
use crate::cluster::{Route, TopicMetadata};
use crate::error::Error;

/// Names a produce request within its producer.
pub(crate) type RequestNumber = u64;

/// The settings that decide what is sent when.
#[derive(Debug, Clone)]
pub(crate) struct EngineSettings {
    pub(crate) linger: Duration,
    pub(crate) delivery_timeout: Duration,
    /// Request bytes in flight on one connection, at most.
    pub(crate) in_flight_bytes_max: u64,
    /// Batches of one request together, at most; a larger batch goes alone.
    pub(crate) request_bytes_max: u64,
    /// A batch that is not full is sent only while fewer than this many batches of its partition
    /// are in flight: under load it waits for company, and idle it leaves at once.
    pub(crate) partial_in_flight_max: usize,
    pub(crate) backoff: Backoff,
    pub(crate) seed: u64,
}

/// One entry of a produce request.
#[derive(Debug, Clone)]
pub(crate) struct SendEntry {
    pub(crate) slot: SlotId,
    pub(crate) number: BatchNumber,
    pub(crate) topic: TopicId,
    pub(crate) partition: u32,
    pub(crate) resume: bool,
    pub(crate) bytes: Arc<AlignedBytes>,
}

/// What the sender's task must do.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Open a connection; answer with `connected` or `connect_failed`.
    Connect { address: Arc<str> },
    /// Send a produce request; answer with `answered`, or `connection_lost`.
    Send {
        connection: ConnectionNumber,
        request: RequestNumber,
        entries: Vec<SendEntry>,
    },
    /// Turn a batch into bytes; answer with `encoded`.
    Encode {
        slot: SlotId,
        number: BatchNumber,
        builder: Box<BatchBuilder>,
    },
    /// Ask for a topic's partitions anew; answer with `metadata` or `metadata_failed`.
    Refresh { topic: Arc<str> },
    /// Let the rest of the client know where this partition is.
    Learn {
        topic: Arc<str>,
        partition: u32,
        route: Route,
    },
    /// Tell a batch's outcome and give its bytes back to the buffer.
    Settle {
        completer: Completer,
        buffer_bytes: usize,
        bytes: Option<Arc<AlignedBytes>>,
        result: BatchResult,
    },
}

/// A batch on its way.
#[derive(Debug)]
pub(super) struct Batch {
    completer: Completer,
    completion: Completion,
    buffer_bytes: usize,
    /// `None` while it is being encoded.
    pub(super) bytes: Option<Arc<AlignedBytes>>,
}

/// What the engine keeps for one partition.
#[derive(Debug)]
pub(super) struct SlotState {
    pub(super) slot: Arc<Slot>,
    pub(super) order: PartitionOrder<Batch, Error>,
    pub(super) topic_id: TopicId,
    pub(super) route: Option<Route>,
    /// Whether it stands in its link's queue.
    pub(super) queued: bool,
    timer: Option<Duration>,
}

/// What the engine keeps for one topic.
#[derive(Debug, Default)]
struct TopicState {
    slots: Vec<SlotId>,
    refresh: Refresh,
    failures: u32,
    last_error: Option<Error>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Refresh {
    #[default]
    No,
    At(Duration),
    Asked,
}

/// One produce request in flight.
#[derive(Debug)]
pub(super) struct RequestInFlight {
    pub(super) link: LinkId,
    pub(super) connection: ConnectionNumber,
    pub(super) bytes: u64,
    pub(super) entries: Vec<(SlotId, BatchNumber)>,
}

/// One entry of a produce answer.
#[derive(Debug)]
pub(crate) struct EntryAnswer {
    pub(crate) result: Result<Receipt, ApiError>,
    pub(crate) owner: Option<CoreAddress>,
}

#[derive(Debug)]
pub(crate) struct Engine {
    pub(super) settings: EngineSettings,
    pub(super) builders: Arc<Builders>,
    /// By slot id; `None` for partitions that nothing was sent to.
    pub(super) slots: Vec<Option<SlotState>>,
    topics: BTreeMap<Arc<str>, TopicState>,
    pub(super) links: Vec<Link>,
    pub(super) requests: BTreeMap<RequestNumber, RequestInFlight>,
    pub(super) next_request: RequestNumber,
    timers: BTreeSet<(Duration, SlotId)>,
    /// The one address to use, whatever redirects say.
    only_address: Option<Arc<str>>,
    pub(super) jitter: Jitter,
    /// The callers wait for buffer space: lingering is over.
    pub(super) pressed: bool,
    pub(super) effects: Vec<Effect>,
}

impl Engine {
    pub(crate) fn new(
        settings: EngineSettings,
        builders: Arc<Builders>,
        only_address: Option<Arc<str>>,
    ) -> Self {
        Self {
            jitter: Jitter::new(settings.seed),
            settings,
            builders,
            slots: Vec::new(),
            topics: BTreeMap::new(),
            links: Vec::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            timers: BTreeSet::new(),
            only_address,
            pressed: false,
            effects: Vec::new(),
        }
    }

    /// What to do now. Call it after events, until it gives nothing.
    pub(crate) fn step(&mut self, now: Duration) -> Vec<Effect> {
        self.fire_timers(now);
        self.fill_links(now);
        self.ask_for_metadata(now);
        std::mem::take(&mut self.effects)
    }

    /// When to step next if no event comes before.
    pub(crate) fn wake_at(&self, now: Duration) -> Option<Duration> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let links = self.links.iter().filter_map(|link| link.wake_at(now)).min();
        let refreshes = self
            .topics
            .values()
            .filter_map(|topic| match topic.refresh {
                Refresh::At(at) => Some(at),
                _ => None,
            });
        [timer, links, refreshes.min()].into_iter().flatten().min()
    }

    /// Whether every batch that the engine knows of is settled.
    pub(crate) fn is_idle(&self) -> bool {
        self.slots
            .iter()
            .flatten()
            .all(|state| state.order.is_empty() && state.slot.lock().is_empty())
    }

    /// Callers have put records into a partition.
    pub(crate) fn records_waiting(
        &mut self,
        now: Duration,
        slot: &Arc<Slot>,
        topic: &TopicMetadata,
    ) {
        if self.slots.len() <= slot.id {
            self.slots.resize_with(slot.id + 1, || None);
        }
        if self.slots[slot.id].is_none() {
            self.slots[slot.id] = Some(SlotState {
                slot: Arc::clone(slot),
                order: PartitionOrder::new(),
                topic_id: topic.id,
                route: topic.route(slot.partition).cloned(),
                queued: false,
                timer: None,
            });
            let state = self.topics.entry(Arc::clone(&slot.topic)).or_default();
            state.slots.push(slot.id);
        }
        slot.lock().looked_at();
        self.enqueue(slot.id, now);
    }

    /// A produce request failed without an answer: its connection is of no more use. Returns that
    /// connection, or `None` if the engine has given it up already.
    pub(crate) fn request_failed(
        &mut self,
        now: Duration,
        number: RequestNumber,
        error: &Error,
    ) -> Option<ConnectionNumber> {
        let connection = self.requests.get(&number)?.connection;
        self.connection_lost(now, connection, error);
        Some(connection)
    }

    /// How many batches a request in flight carries.
    pub(crate) fn entry_count(&self, number: RequestNumber) -> Option<usize> {
        self.requests
            .get(&number)
            .map(|request| request.entries.len())
    }

    /// Callers wait for buffer space (or no longer do): what lingers is sent.
    pub(crate) fn set_pressed(&mut self, now: Duration, pressed: bool) {
        if pressed && !self.pressed {
            for id in 0..self.slots.len() {
                self.enqueue(id, now);
            }
        }
        self.pressed = pressed;
    }

    /// Sends all there is without lingering; returns the completions of every batch not settled.
    pub(crate) fn flush(&mut self, now: Duration) -> Vec<Completion> {
        let mut completions = Vec::new();
        for id in 0..self.slots.len() {
            let Some(state) = &self.slots[id] else {
                continue;
            };
            completions.extend(state.order.batches().map(|batch| batch.completion.clone()));
            state.slot.lock().force(&mut completions);
            self.enqueue(id, now);
        }
        completions
    }

    /// A batch was turned into bytes.
    pub(crate) fn encoded(
        &mut self,
        now: Duration,
        id: SlotId,
        number: BatchNumber,
        bytes: AlignedBytes,
    ) {
        if let Some(state) = &mut self.slots[id] {
            // Gone if its deadline passed meanwhile.
            if let Some(batch) = state.order.waiting_mut(number) {
                batch.bytes = Some(Arc::new(bytes));
            }
        }
        self.enqueue(id, now);
    }

    /// A connection asked for is open.
    pub(crate) fn connected(
        &mut self,
        address: &str,
        connection: ConnectionNumber,
        in_flight_bytes_max: u64,
    ) {
        let limit = self
            .settings
            .in_flight_bytes_max
            .min(in_flight_bytes_max.max(1));
        if let Some(link) = self.links.iter_mut().find(|link| &*link.address == address) {
            link.connected(connection, limit);
        }
    }

    /// A connection asked for could not be made.
    pub(crate) fn connect_failed(&mut self, now: Duration, address: &str, error: Error) {
        let Some(index) = self.links.iter().position(|link| &*link.address == address) else {
            return;
        };
        self.links[index].failed(now, error, &self.settings.backoff, &mut self.jitter);
        // The partitions may be served elsewhere by now.
        for id in self.links[index].queue.clone() {
            self.want_metadata(id, now);
        }
    }

    /// A connection ended; nothing that was sent on it will be answered.
    pub(crate) fn connection_lost(
        &mut self,
        now: Duration,
        connection: ConnectionNumber,
        error: &Error,
    ) {
        let Some(index) = self
            .links
            .iter()
            .position(|link| link.is_connection(connection))
        else {
            return;
        };
        self.links[index].failed(now, error.clone(), &self.settings.backoff, &mut self.jitter);
        let lost: Vec<RequestNumber> = self
            .requests
            .iter()
            .filter(|(_, request)| request.connection == connection)
            .map(|(number, _)| *number)
            .collect();
        let mut affected = BTreeSet::new();
        for number in lost {
            let request = self.requests.remove(&number).expect("it was just listed");
            affected.extend(request.entries.into_iter().map(|(id, _)| id));
        }
        for id in affected {
            if let Some(state) = &mut self.slots[id] {
                state.order.connection_lost(
                    now,
                    connection,
                    error,
                    &self.settings.backoff,
                    &mut self.jitter,
                );
            }
            self.want_metadata(id, now);
            self.enqueue(id, now);
        }
    }

    /// The broker answered a request. `answer` has as many entries as the request, or is the
    /// refusal of the whole.
    pub(crate) fn answered(
        &mut self,
        now: Duration,
        number: RequestNumber,
        hints: Hints,
        answer: Result<Vec<EntryAnswer>, ApiError>,
    ) {
        let Some(request) = self.requests.remove(&number) else {
            return;
        };
        self.links[request.link].answered(now, request.bytes, hints);
        match answer {
            Ok(answers) => {
                assert_eq!(
                    answers.len(),
                    request.entries.len(),
                    "checked when it was decoded"
                );
                for ((id, batch), answer) in request.entries.into_iter().zip(answers) {
                    self.entry_answered(now, id, batch, answer);
                }
            }
            Err(error) => {
                for (id, batch) in request.entries {
                    let result = Err(error.clone());
                    self.entry_answered(
                        now,
                        id,
                        batch,
                        EntryAnswer {
                            result,
                            owner: None,
                        },
                    );
                }
            }
        }
    }

    fn entry_answered(
        &mut self,
        now: Duration,
        id: SlotId,
        number: BatchNumber,
        entry: EntryAnswer,
    ) {
        let Some(state) = &mut self.slots[id] else {
            return;
        };
        let mut redirected = false;
        if let (Some(owner), Some(route)) = (&entry.owner, &state.route) {
            let better = route.redirected(owner, self.only_address.as_ref());
            if better != *route {
                redirected = true;
                state.route = Some(better.clone());
                self.effects.push(Effect::Learn {
                    topic: Arc::clone(&state.slot.topic),
                    partition: state.slot.partition,
                    route: better,
                });
            }
        }
        let (answer, stale) = judge(&state.slot, entry.result, redirected);
        let settings = &self.settings;
        let settled =
            state
                .order
                .answered(now, number, answer, &settings.backoff, &mut self.jitter);
        if stale {
            self.want_metadata(id, now);
        }
        if let Some(outcome) = settled {
            self.settle(id, outcome);
        }
        self.requeue(id, now);
    }

    /// A topic's partitions, asked for by `Refresh`.
    pub(crate) fn metadata(&mut self, now: Duration, topic: &TopicMetadata) {
        let Some(state) = self.topics.get_mut(&topic.name) else {
            return;
        };
        state.refresh = Refresh::No;
        state.failures = 0;
        state.last_error = None;
        for id in state.slots.clone() {
            if let Some(state) = &mut self.slots[id] {
                state.topic_id = topic.id;
                state.route = topic.route(state.slot.partition).cloned();
                if state.route.is_none() {
                    self.want_metadata(id, now + self.settings.backoff.max);
                }
            }
            self.requeue(id, now);
        }
    }

    /// A topic's partitions could not be had. Without the topic its records cannot be delivered.
    pub(crate) fn metadata_failed(&mut self, now: Duration, topic: &str, error: &Error) {
        let Some(state) = self.topics.get_mut(topic) else {
            return;
        };
        state.failures += 1;
        let wait = self
            .settings
            .backoff
            .after(state.failures, &mut self.jitter);
        state.refresh = Refresh::At(now + wait);
        state.last_error = Some(error.clone());
        if error.code() != Some(ErrorCode::UnknownTopic) {
            return;
        }
        state.refresh = Refresh::No;
        for id in state.slots.clone() {
            self.take_unsent(id, now);
            let Some(state) = &mut self.slots[id] else {
                continue;
            };
            for batch in state.order.drain_waiting() {
                self.settle(id, Settled::Failed(batch, error.clone()));
            }
        }
    }

    /// Has the topic of this partition asked for, at `at` or before.
    fn want_metadata(&mut self, id: SlotId, at: Duration) {
        let Some(state) = &self.slots[id] else {
            return;
        };
        let topic = self
            .topics
            .get_mut(&state.slot.topic)
            .expect("a slot's topic is known");
        if topic.refresh == Refresh::No {
            topic.refresh = Refresh::At(at);
        }
    }

    fn ask_for_metadata(&mut self, now: Duration) {
        for (name, topic) in &mut self.topics {
            if matches!(topic.refresh, Refresh::At(at) if at <= now) {
                topic.refresh = Refresh::Asked;
                self.effects.push(Effect::Refresh {
                    topic: Arc::clone(name),
                });
            }
        }
    }

    fn fire_timers(&mut self, now: Duration) {
        while let Some(&(at, id)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            let Some(state) = &mut self.slots[id] else {
                continue;
            };
            state.timer = None;
            self.expire(id, now);
            self.enqueue(id, now);
        }
    }

    fn expire(&mut self, id: SlotId, now: Duration) {
        let state = self.slots[id]
            .as_mut()
            .expect("only slots in use have timers");
        let overdue = now.checked_sub(self.settings.delivery_timeout);
        let unsent = overdue.map(|until| state.slot.lock().take_opened_until(until));
        for open in unsent.into_iter().flatten() {
            let deadline = open.opened_at + self.settings.delivery_timeout;
            let (batch, _) = Batch::from_open(open);
            state.order.push(batch, deadline);
        }
        let mut settled = Vec::new();
        state.order.expire(now, &mut settled);
        for outcome in settled {
            self.settle(id, outcome);
        }
    }

    /// Moves what callers put in, and was not sent, into the partition's order without encoding it:
    /// it is about to be settled.
    fn take_unsent(&mut self, id: SlotId, now: Duration) {
        let Some(state) = &mut self.slots[id] else {
            return;
        };
        let unsent = state.slot.lock().take_opened_until(Duration::MAX);
        for open in unsent {
            let (batch, _) = Batch::from_open(open);
            state
                .order
                .push(batch, now + self.settings.delivery_timeout);
        }
    }

    /// Keeps the earliest time at which this partition needs a look. A timer that fires early costs
    /// a look; so one that is set is only ever moved forward.
    pub(super) fn set_timer(&mut self, id: SlotId, now: Duration) {
        let Some(state) = &mut self.slots[id] else {
            return;
        };
        let linger = if self.pressed {
            Duration::ZERO
        } else {
            self.settings.linger
        };
        let unsent = state
            .slot
            .lock()
            .wake_at(now, linger, self.settings.delivery_timeout);
        let Some(at) = [state.order.wake_at(now), unsent]
            .into_iter()
            .flatten()
            .min()
        else {
            return;
        };
        if state.timer.is_some_and(|set| set <= at) {
            return;
        }
        if let Some(set) = state.timer.replace(at) {
            self.timers.remove(&(set, id));
        }
        self.timers.insert((at, id));
    }

    fn settle(&mut self, id: SlotId, outcome: Settled<Batch, BatchReceipt, Error>) {
        let state = self.slots[id]
            .as_ref()
            .expect("only slots in use have batches");
        let what = format_args!("produce to {}-{}", state.slot.topic, state.slot.partition);
        let after = self.settings.delivery_timeout;
        let (batch, result) = match outcome {
            Settled::Written(batch, receipt) => (batch, Ok(receipt)),
            Settled::Failed(batch, error) => (batch, Err(error)),
            Settled::Expired(batch, cause) => {
                let cause = cause.or_else(|| self.obstacle(state)).map(Box::new);
                let what = what.to_string();
                (batch, Err(Error::TimedOut { what, after, cause }))
            }
            Settled::Unknown(batch, cause) => {
                let cause = cause.or_else(|| self.obstacle(state)).map(Box::new);
                let what = what.to_string();
                (batch, Err(Error::OutcomeUnknown { what, after, cause }))
            }
        };
        self.effects.push(Effect::Settle {
            completer: batch.completer,
            buffer_bytes: batch.buffer_bytes,
            bytes: batch.bytes,
            result,
        });
    }

    /// What has kept a partition's batches from leaving, for the message of a timeout.
    fn obstacle(&self, state: &SlotState) -> Option<Error> {
        let topic = self.topics.get(&state.slot.topic)?;
        let route = state.route.as_ref()?;
        let link = self.links.iter().find(|link| link.address == route.address);
        link.and_then(|link| link.last_error.clone())
            .or_else(|| topic.last_error.clone())
    }
}

impl Batch {
    pub(super) fn from_open(open: OpenBatch) -> (Self, Box<BatchBuilder>) {
        let batch = Self {
            completer: open.completer,
            completion: open.completion,
            buffer_bytes: open.buffer_bytes,
            bytes: None,
        };
        (batch, open.builder)
    }
}

/// What a broker's word on one batch means for it, and whether it shows that our view of the topic
/// is stale.
fn judge(
    slot: &Slot,
    result: Result<Receipt, ApiError>,
    redirected: bool,
) -> (Answer<BatchReceipt, Error>, bool) {
    let error = match result {
        Ok(receipt) => {
            let receipt = BatchReceipt {
                topic: Arc::clone(&slot.topic),
                partition: slot.partition,
                base_offset: receipt.base_offset.get(),
                timestamp_ms: receipt.append_time.get(),
                durability: receipt.durability,
                replicas_flushed: receipt.replicas_flushed,
            };
            return (Answer::Written(receipt), false);
        }
        Err(error) => error,
    };
    let code = error.code;
    let unknown_here = matches!(code, ErrorCode::UnknownTopic | ErrorCode::UnknownPartition);
    let stale = unknown_here || (code == ErrorCode::NotOwner && !redirected);
    let error = Error::refused(
        format!("produce to {}-{}", slot.topic, slot.partition),
        error,
    );
    if !code.retriable() && !unknown_here {
        return (Answer::Failed(error), stale);
    }
    let answer = Answer::Retry {
        error,
        maybe_written: code == ErrorCode::TimedOut,
        redirected: redirected && code == ErrorCode::NotOwner,
    };
    (answer, stale)
}
