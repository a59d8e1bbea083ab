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
use super::batch::Batch;
use super::delivery::BatchReceipt;
use super::engine::{Effect, Engine, EntryAnswer, RequestNumber, SlotState};
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
                let answer = Answer::Retry {
                    error: error.clone(),
                    needs_resume: false,
                    maybe_written: false,
                    redirected: false,
                };
                self.take_answer(now, id, batch, answer);
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
                let mut settled = Vec::new();
                state.order.connection_lost(
                    now,
                    connection,
                    error,
                    &self.settings.backoff,
                    &mut self.jitter,
                    &mut settled,
                );
                self.settle_all(id, settled);
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
                    self.entry_answered(now, id, batch, answer, Refused::Alone);
                }
            }
            Err(error) => {
                for (id, batch) in request.entries {
                    let answer = EntryAnswer {
                        result: Err(error.clone()),
                        owner: None,
                    };
                    self.entry_answered(now, id, batch, answer, Refused::WithItsRequest);
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
        refused: Refused,
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
        let (answer, stale) = judge(&state.slot, entry.result, redirected, may_split, refused);
        self.take_answer(now, id, number, answer);
        if stale {
            self.want_metadata(id, now);
        }
        self.enqueue(id, now);
    }

    /// Takes what an answer means for its batch, and settles what that decides.
    fn take_answer(
        &mut self,
        now: Duration,
        id: SlotId,
        number: BatchNumber,
        answer: Answer<BatchReceipt, Error>,
    ) {
        let Some(state) = &mut self.slots[id] else {
            return;
        };
        let (backoff, jitter) = (&self.settings.backoff, &mut self.jitter);
        let mut settled = Vec::new();
        let order = &mut state.order;
        order.answered(now, number, answer, backoff, jitter, &mut settled);
        if order.take_has_lost() {
            tracing::warn!(
                topic = %state.slot.topic,
                partition = state.slot.partition,
                "the broker has lost records that it had acknowledged: with acks 0, or flush.messages or flush.ms of the topic, it may; what comes after them is sent again"
            );
        }
        self.settle_all(id, settled);
    }

    fn settle_all(&mut self, id: SlotId, settled: Vec<Settled<Batch, BatchReceipt, Error>>) {
        for outcome in settled {
            self.settle(id, outcome);
        }
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
        state.is_gone = false;
        for id in state.slots.clone() {
            let Some(state) = &mut self.slots[id] else {
                continue;
            };
            if state.topic_id != topic.id {
                state.topic_id = topic.id;
                state.order.partition_changed();
            }
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
        state.is_gone = true;
        for id in state.slots.clone() {
            self.fail_waiting(id, now, error);
        }
    }

    /// Nothing that waits in a partition can be delivered.
    pub(super) fn fail_waiting(&mut self, id: SlotId, now: Duration, error: &Error) {
        self.take_unsent(id, now);
        if let Some(state) = &mut self.slots[id] {
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
            Settled::WrittenBefore(batch, _) => {
                let what = what.to_string();
                (batch, Err(Error::OffsetUnknown { what }))
            }
            Settled::Doubtful(batch, error) => {
                let (what, cause) = (what.to_string(), Box::new(error));
                (batch, Err(Error::RefusedInDoubt { what, cause }))
            }
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
        let of_identity = || self.identification.last_error.clone();
        of_link
            .or_else(|| topic.last_error.clone())
            .or_else(of_identity)
    }
}

/// What of a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// The batch, by whoever owns its partition.
    Alone,
    /// The whole request: nobody has looked at its batches.
    WithItsRequest,
}

/// What a broker's word on one batch means for it, and whether it shows that our view of the topic
/// is stale.
fn judge(
    slot: &Slot,
    result: Result<Receipt, ApiError>,
    redirected: bool,
    may_split: bool,
    refused: Refused,
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
    let needs_resume = code.needs_resume() && refused == Refused::Alone;
    let answer = match code {
        ErrorCode::DuplicateSequence => Answer::WrittenBefore(error),
        ErrorCode::OutOfOrderSequence => Answer::OutOfSequence(error),
        ErrorCode::UnknownProducer => Answer::Forgotten(error),
        _ if code.retriable() || unknown_here || may_split => Answer::Retry {
            error,
            needs_resume,
            maybe_written: code == ErrorCode::TimedOut,
            redirected: redirected && code == ErrorCode::NotOwner,
        },
        _ => Answer::Failed {
            maybe_written: error.is_outcome_unknown(),
            error,
            needs_resume,
        },
    };
    (answer, stale)
}
