//! What a producer does next: which batches go where, and when.
//!
//! Owns: the order of every partition in use, timers, and requests in flight. `answers.rs` has what
//! follows from what comes back, `plan.rs` the filling of requests.
//! Never: does I/O or reads a clock. Events come with the time since the producer started; effects
//! are collected, and the sender's task carries them out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::batch::{BatchBuilder, BatchBytes, TimestampType};
use corelane_protocol::response::{CoreAddress, Receipt};
use corelane_protocol::{ApiError, TopicId};

use super::accumulator::{Slot, SlotId};
use super::batch::{Batch, Body};
use super::builders::Builders;
use super::delivery::{BatchResult, Completer, Completion};
use super::identification::Identification;
use super::link::{Link, LinkId};
use super::order::{BatchNumber, ConnectionNumber, PartitionOrder};
use crate::backoff::{Backoff, Jitter};
use crate::cluster::{Route, TopicMetadata};
use crate::error::Error;

/// Names a produce request within its producer.
pub(crate) type RequestNumber = u64;

/// Names a batch that is being encoded within its producer.
pub(crate) type EncodingNumber = u64;

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
    /// How old what is known of a topic may become while records are sent to it.
    pub(crate) metadata_max_age: Duration,
    /// Whether batches get sequence numbers, by which the broker knows them again.
    pub(crate) idempotent: bool,
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
    pub(crate) bytes: Arc<BatchBytes>,
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
        encoding: EncodingNumber,
        builder: Box<BatchBuilder>,
    },
    /// Ask for a topic's partitions anew; answer with `metadata` or `metadata_failed`.
    Refresh { topic: Arc<str> },
    /// Ask for a producer id; answer with `identified` or `identify_failed`.
    Identify,
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
        bytes: Option<Arc<BatchBytes>>,
        result: BatchResult,
    },
}

/// What the engine keeps for one partition.
#[derive(Debug)]
pub(super) struct SlotState {
    pub(super) slot: Arc<Slot>,
    pub(super) order: PartitionOrder<Batch, Error>,
    pub(super) topic_id: TopicId,
    /// What its batches must say of their records' times.
    pub(super) timestamp_type: TimestampType,
    pub(super) route: Option<Route>,
    /// The link of its route.
    pub(super) link: Option<LinkId>,
    /// The link in whose queue it stands. In queues of other links it is a leftover.
    pub(super) queued_at: Option<LinkId>,
    timer: Option<Duration>,
}

/// What the engine keeps for one topic.
#[derive(Debug, Default)]
pub(super) struct TopicState {
    pub(super) slots: Vec<SlotId>,
    /// The broker is being asked for it.
    pub(super) asked: bool,
    /// When what is known of it was learnt.
    pub(super) learnt_at: Duration,
    pub(super) failures: u32,
    pub(super) last_error: Option<Error>,
    /// It did not exist when it was last asked for.
    pub(super) is_gone: bool,
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
    pub(super) topics: BTreeMap<Arc<str>, TopicState>,
    /// When to ask for which topic.
    pub(super) refresh_at: BTreeMap<Arc<str>, Duration>,
    /// When to look next which topics were learnt too long ago.
    next_age_look: Duration,
    pub(super) links: Vec<Link>,
    pub(super) requests: BTreeMap<RequestNumber, RequestInFlight>,
    pub(super) next_request: RequestNumber,
    pub(super) next_encoding: EncodingNumber,
    pub(super) identification: Identification,
    timers: BTreeSet<(Duration, SlotId)>,
    /// The one address to use, whatever redirects say.
    pub(super) only_address: Option<Arc<str>>,
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
            refresh_at: BTreeMap::new(),
            next_age_look: Duration::ZERO,
            links: Vec::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            next_encoding: 0,
            identification: Identification::default(),
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
        self.look_for_aged_metadata(now);
        self.ask_for_metadata(now);
        self.ask_for_identity(now);
        std::mem::take(&mut self.effects)
    }

    /// When to step next if no event comes before.
    pub(crate) fn wake_at(&self, now: Duration) -> Option<Duration> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let links = self.links.iter().filter_map(|link| link.wake_at(now)).min();
        let refresh = self.refresh_at.values().min().copied();
        let identity = self.identification.wake_at();
        let times = [timer, links, refresh, identity];
        times.into_iter().flatten().min()
    }

    /// Whether every batch that the engine knows of is settled.
    pub(crate) fn is_idle(&self) -> bool {
        self.slots.iter().flatten().all(SlotState::is_idle)
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
                order: PartitionOrder::new(self.settings.idempotent),
                topic_id: topic.id,
                timestamp_type: topic.timestamp_type,
                route: None,
                link: None,
                queued_at: None,
                timer: None,
            });
            self.set_route(slot.id, topic.route(slot.partition).cloned());
            let state = self
                .topics
                .entry(Arc::clone(&slot.topic))
                .or_insert_with(|| TopicState {
                    learnt_at: now,
                    ..TopicState::default()
                });
            state.slots.push(slot.id);
        } else if self
            .topics
            .get(&topic.name)
            .is_some_and(|state| state.is_gone)
        {
            // Callers have asked for it and were told that it exists by now.
            self.metadata(now, topic);
        }
        if self.settings.idempotent && self.identification.newest().is_none() {
            self.identification.want(now);
        }
        slot.lock().looked_at();
        self.enqueue(slot.id, now);
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
            completions.extend(
                state
                    .order
                    .batches()
                    .map(|batch| batch.ticket.completion.clone()),
            );
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
        encoding: EncodingNumber,
        bytes: BatchBytes,
    ) {
        if let Some(state) = &mut self.slots[id] {
            let is_it = |batch: &&mut Batch| matches!(batch.body, Body::Encoding(number) if number == encoding);
            // Gone if its deadline passed meanwhile.
            if let Some(batch) = state.order.waiting_mut().rev().find(is_it) {
                batch.body = Body::Encoded(Arc::new(bytes));
            }
        }
        self.enqueue(id, now);
    }

    /// Has the topic of this partition asked for, at `at` or before.
    pub(super) fn want_metadata(&mut self, id: SlotId, at: Duration) {
        let Some(state) = &self.slots[id] else {
            return;
        };
        let name = &state.slot.topic;
        let topic = self.topics.get(name).expect("a slot's topic is known");
        if !topic.asked && !self.refresh_at.contains_key(name) {
            self.refresh_at.insert(Arc::clone(name), at);
        }
    }

    /// Has topics asked for whose metadata has become old: they may have more partitions by now. Looked at
    /// often enough, not on every step.
    fn look_for_aged_metadata(&mut self, now: Duration) {
        if now < self.next_age_look {
            return;
        }
        let max_age = self.settings.metadata_max_age;
        self.next_age_look = now + max_age / 8;
        for (name, topic) in &self.topics {
            if !topic.asked && topic.learnt_at + max_age <= now {
                self.refresh_at.entry(Arc::clone(name)).or_insert(now);
            }
        }
    }

    /// Asks for the topics that are due, unless nothing waits for them any more.
    fn ask_for_metadata(&mut self, now: Duration) {
        if self.refresh_at.values().all(|at| *at > now) {
            return;
        }
        let due = self.refresh_at.iter().filter(|(_, at)| **at <= now);
        let due: Vec<Arc<str>> = due.map(|(name, _)| Arc::clone(name)).collect();
        for name in due {
            self.refresh_at.remove(&name);
            let topic = self
                .topics
                .get_mut(&name)
                .expect("only known topics are asked for");
            let slots = topic.slots.iter().filter_map(|id| self.slots[*id].as_ref());
            if slots.into_iter().any(|state| !state.is_idle()) {
                topic.asked = true;
                self.effects.push(Effect::Refresh { topic: name });
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
        for sealed in unsent.into_iter().flatten() {
            let deadline = sealed.ticket.opened_at + self.settings.delivery_timeout;
            state.order.push(Batch::unsent(sealed), deadline);
        }
        let mut settled = Vec::new();
        state.order.expire(now, &mut settled);
        for outcome in settled {
            self.settle(id, outcome);
        }
    }

    /// Moves what callers put in, and was not sent, into the partition's order without encoding it:
    /// it is about to be settled.
    pub(super) fn take_unsent(&mut self, id: SlotId, now: Duration) {
        let Some(state) = &mut self.slots[id] else {
            return;
        };
        let unsent = state.slot.lock().take_opened_until(Duration::MAX);
        for sealed in unsent {
            let deadline = now + self.settings.delivery_timeout;
            state.order.push(Batch::unsent(sealed), deadline);
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
}

impl SlotState {
    fn is_idle(&self) -> bool {
        self.order.is_empty() && self.slot.lock().is_empty()
    }
}
