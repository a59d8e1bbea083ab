//! What follows from what comes back: the part of the engine that takes answers, lost connections and
//! metadata.
//!
//! Owns: the meaning of each answer for its batch, and the outcome that callers are told. Never: sends;
//! it queues partitions for `plan.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::response::Receipt;
use corelane_protocol::{ApiError, ErrorCode};

use super::accumulator::{Slot, SlotId, Ticket};
use super::delivery::BatchReceipt;
use super::engine::{Batch, Effect, Engine, EntryAnswer, RequestNumber, SlotState};
use super::order::{Answer, BatchNumber, ConnectionNumber, Settled};
use super::window::Hints;
use crate::cluster::TopicMetadata;
use crate::error::Error;

impl Engine {
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

    /// A produce request could not be handed to its connection, which has ended: no broker has any
    /// of it.
    pub(crate) fn send_failed(
        &mut self,
        now: Duration,
        number: RequestNumber,
        connection: ConnectionNumber,
        error: &Error,
    ) {
        if let Some(request) = self.requests.remove(&number) {
            for (id, batch) in request.entries {
                if let Some(state) = &mut self.slots[id] {
                    let answer = Answer::<BatchReceipt, Error>::Retry {
                        error: error.clone(),
                        maybe_written: false,
                        redirected: false,
                    };
                    let (backoff, jitter) = (&self.settings.backoff, &mut self.jitter);
                    let settled = state.order.answered(now, batch, answer, backoff, jitter);
                    assert!(settled.is_none(), "what can be sent again is not settled");
                }
                self.want_metadata(id, now);
                self.enqueue(id, now);
            }
        }
        self.connection_lost(now, connection, error);
    }

    /// How many batches a request in flight carries.
    pub(crate) fn entry_count(&self, number: RequestNumber) -> Option<usize> {
        self.requests
            .get(&number)
            .map(|request| request.entries.len())
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
                self.effects.push(Effect::Learn {
                    topic: Arc::clone(&state.slot.topic),
                    partition: state.slot.partition,
                    route: better.clone(),
                });
                self.set_route(id, Some(better));
            }
        }
        let state = self.slots[id].as_mut().expect("looked up above");
        let mut may_split = false;
        if let Err(error) = &entry.result
            && error.code == ErrorCode::BatchTooLarge
            && let Some(batch) = state.order.in_flight_mut(number)
        {
            // The topic takes less than it did: its records may fit smaller batches.
            may_split = batch.record_count() > 1;
            batch.is_too_large = true;
        }
        let (answer, stale) = judge(&state.slot, entry.result, redirected, may_split);
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
        self.enqueue(id, now);
    }

    /// A topic's partitions, asked for by `Refresh`.
    pub(crate) fn metadata(&mut self, now: Duration, topic: &TopicMetadata) {
        let Some(state) = self.topics.get_mut(&topic.name) else {
            return;
        };
        state.asked = false;
        state.learnt_at = now;
        state.failures = 0;
        state.last_error = None;
        for id in state.slots.clone() {
            let Some(state) = &mut self.slots[id] else {
                continue;
            };
            state.topic_id = topic.id;
            state.timestamp_type = topic.timestamp_type;
            let route = topic.route(state.slot.partition).cloned();
            if route.is_none() {
                self.want_metadata(id, now + self.settings.backoff.max);
            }
            self.set_route(id, route);
            self.enqueue(id, now);
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
        state.asked = false;
        state.last_error = Some(error.clone());
        if error.code() != Some(ErrorCode::UnknownTopic) {
            self.refresh_at.insert(topic.into(), now + wait);
            return;
        }
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

    pub(super) fn settle(&mut self, id: SlotId, outcome: Settled<Batch, BatchReceipt, Error>) {
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
        let Ticket {
            completer,
            buffer_bytes,
            ..
        } = batch.ticket;
        self.effects.push(Effect::Settle {
            completer,
            buffer_bytes,
            bytes: batch.body.into_bytes(),
            result,
        });
    }

    /// What has kept a partition's batches from leaving, for the message of a timeout.
    fn obstacle(&self, state: &SlotState) -> Option<Error> {
        let topic = self.topics.get(&state.slot.topic)?;
        let link = state.link.map(|index| &self.links[index]);
        let of_link = link.and_then(|link| link.last_error.clone());
        of_link.or_else(|| topic.last_error.clone())
    }
}

/// What a broker's word on one batch means for it, and whether it shows that our view of the topic
/// is stale.
fn judge(
    slot: &Slot,
    result: Result<Receipt, ApiError>,
    redirected: bool,
    may_split: bool,
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
    let stale = unknown_here
        || matches!(
            code,
            ErrorCode::TimestampTypeMismatch | ErrorCode::BatchTooLarge
        )
        || (code == ErrorCode::NotOwner && !redirected);
    let error = Error::refused(
        format!("produce to {}-{}", slot.topic, slot.partition),
        error,
    );
    if !code.retriable() && !unknown_here && !may_split {
        let needs_resume = code.needs_resume();
        let failed = Answer::Failed {
            error,
            needs_resume,
        };
        return (failed, stale);
    }
    let answer = Answer::Retry {
        error,
        maybe_written: code == ErrorCode::TimedOut,
        redirected: redirected && code == ErrorCode::NotOwner,
    };
    (answer, stale)
}
