//! Produce: batches are appended and wait for their flush.
//!
//! Batches of this core's partitions are appended at once, in the order of the request; those of
//! other cores are forwarded, one message for each core. The request is answered when every batch
//! is settled, or its time is over.

use corelane_protocol::request::{Acks, ProduceEntry, ProduceRequest};
use corelane_protocol::response::{Durability, ProduceResponse, ProducedEntry, Receipt, Response};
use corelane_protocol::{ApiError, CoreId, ErrorCode, TopicPartition};
use corelane_storage::disk::Disk;
use corelane_storage::planted;
use corelane_storage::store::Appended;

use super::connection::REFUSED_PARTITIONS_MAX;
use super::dispatch::shutting_down;
use super::mail::{ForwardedBatch, ForwardedReply, ForwardedRequest};
use super::parked::{ForwardKind, Origin, ProduceWait};
use super::partitions::{Home, LocalState, WaitingProduce};
use super::slab::Key;
use super::storage_errors::append_error;
use super::times::check_times;
use super::{ConnectionId, Lane, Mail, Now};

/// Batches of one request for another core.
struct Group {
    to: CoreId,
    entries: Vec<u32>,
    batches: Vec<ForwardedBatch>,
}

impl<D: Disk> Lane<D> {
    pub(super) fn produce(&mut self, now: Now, origin: Origin, request: &ProduceRequest<'_>) {
        let wait_ms = request
            .timeout_ms
            .min(self.config.limits.produce_timeout_ms_max);
        let deadline_us = match origin {
            // Whether it is in the log has to be known before that is read again.
            Origin::Groups { .. } => u64::MAX,
            Origin::Client(_) | Origin::Core { .. } => now.monotonic_us + u64::from(wait_ms) * 1000,
        };
        let entries = request.entries.iter().map(|entry| ProducedEntry {
            partition: entry.partition,
            result: Err(ErrorCode::TimedOut.into()),
            owner: None,
        });
        let key = self.produces.insert(ProduceWait {
            origin,
            remaining: u32::try_from(request.entries.len())
                .expect("counted by 32 bits on the wire"),
            deadline_us,
            response: ProduceResponse {
                entries: entries.collect(),
            },
        });
        let mut groups = Vec::new();
        for (index, entry) in (0..).zip(&request.entries) {
            match self.partitions.find(entry.partition) {
                Home::Local(local) => {
                    self.append_or_pace(now, key, index, local, origin, request.acks, entry);
                }
                Home::Remote(core) => {
                    self.route_batch(key, index, core, origin, entry, &mut groups);
                }
                unknown => {
                    let error = unknown_partition(entry.partition, unknown);
                    self.settle_produce(key, index, Err(error));
                }
            }
        }
        for group in groups {
            self.forward_batches(key, group, request.acks, wait_ms);
        }
        self.finish_produce(key);
        self.plan_produce_check(now);
    }

    /// Appends one batch to a partition of this core, or lets it wait until the store has room.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call of a hot path, not an interface"
    )]
    fn append_or_pace(
        &mut self,
        now: Now,
        produce: Key,
        index: u32,
        local: Key,
        origin: Origin,
        acks: Acks,
        entry: &ProduceEntry<'_>,
    ) {
        let partition = self.partitions.local(local).expect("found by the caller");
        let store = partition.store;
        if self.may_append(now, store, entry.batch.len()) {
            self.append(now, produce, index, local, origin, acks, entry);
        } else if let Err(error) = self.pace_batch(store, local, produce, index, acks, entry) {
            self.settle_produce(produce, index, Err(error));
        }
    }

    /// Appends one batch to a partition of this core.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call of a hot path, not an interface"
    )]
    pub(super) fn append(
        &mut self,
        now: Now,
        produce: Key,
        index: u32,
        local: Key,
        origin: Origin,
        acks: Acks,
        entry: &ProduceEntry<'_>,
    ) {
        match self.try_append(now, local, origin, entry) {
            Err(error) => self.settle_produce(produce, index, Err(error)),
            Ok(appended) => {
                let Appended {
                    base_offset,
                    end_offset,
                    is_duplicate,
                } = appended;
                let partition = self
                    .partitions
                    .local_mut(local)
                    .expect("found by the caller");
                let is_durable = is_duplicate && partition.is_durable(&self.stores, end_offset);
                let traffic = &mut partition.traffic;
                if is_duplicate {
                    traffic.duplicates_in += 1;
                } else {
                    traffic.batches_in += 1;
                    traffic.records_in += end_offset.distance_from(base_offset);
                    traffic.bytes_in += entry.batch.len() as u64;
                }
                let is_early = acks != Acks::None
                    && (planted!(AckBeforeFlush) || is_duplicate && planted!(DuplicateAckedEarly));
                let needs_flush = acks != Acks::None && !partition.settings.is_weak();
                if is_durable || is_early || !needs_flush {
                    let durability = match is_durable || is_early {
                        true => Durability::Durable,
                        false => Durability::Memory,
                    };
                    let receipt = Receipt {
                        base_offset,
                        append_time: now.wall,
                        log_start_offset: partition.log_start,
                        durability,
                        replicas_flushed: u8::from(is_durable),
                    };
                    if partition.settings.is_weak() {
                        // Its records are readable before they are flushed.
                        self.wake_fetches(local);
                    }
                    self.settle_produce(produce, index, Ok(receipt));
                } else {
                    let waiting = WaitingProduce {
                        base_offset,
                        end_offset,
                        append_time: now.wall,
                        append_us: now.monotonic_us,
                        produce,
                        entry: index,
                    };
                    // They are answered in the order of the log, in which one that is known already is not the last.
                    let later = match is_duplicate {
                        true => partition
                            .produces
                            .partition_point(|other| other.end_offset <= end_offset),
                        false => partition.produces.len(),
                    };
                    partition.produces.insert(later, waiting);
                }
            }
        }
    }

    fn try_append(
        &mut self,
        now: Now,
        local: Key,
        origin: Origin,
        entry: &ProduceEntry<'_>,
    ) -> Result<Appended, ApiError> {
        // What another core has taken up before it began to stop is still finished.
        if self.shutdown.is_some() && matches!(origin, Origin::Client(_)) {
            return Err(shutting_down());
        }
        if !self.admit_produce(origin, entry.partition, entry.resume) {
            return Err(ErrorCode::ProduceOrder.into());
        }
        let partition = self.partitions.local(local).expect("found by the caller");
        match &partition.state {
            LocalState::Online => {}
            LocalState::Creating => {
                let message = "the partition is still being made";
                return Err(ApiError::new(ErrorCode::Overloaded, message));
            }
            LocalState::Failed(message) => {
                return Err(ApiError::new(ErrorCode::StorageFailed, message.as_str()));
            }
        }
        if partition.is_internal && !matches!(origin, Origin::Groups { .. }) {
            return Err(internal_topic());
        }
        let most = partition.settings.max_message_bytes as usize;
        if entry.batch.len() > most {
            let message = format!("{} bytes, the topic takes {most}", entry.batch.len());
            return Err(ApiError::new(ErrorCode::BatchTooLarge, message));
        }
        check_times(entry.batch, &partition.settings, now.wall)?;
        let store = &self.stores[partition.store];
        let handle = partition
            .handle
            .expect("a partition that is online has a log");
        let appended = store
            .append_by_handle(handle, entry.batch, now.wall)
            .map_err(append_error)?;
        self.last_append_us = Some(now.monotonic_us);
        Ok(appended)
    }

    /// Puts a batch of another core's partition into that core's group, or refuses it.
    fn route_batch(
        &mut self,
        produce: Key,
        index: u32,
        core: CoreId,
        origin: Origin,
        entry: &ProduceEntry<'_>,
        groups: &mut Vec<Group>,
    ) {
        let owner = self.topology.address(core).clone();
        let wait = self
            .produces
            .get_mut(produce)
            .expect("inserted by the caller");
        wait.response.entries[index as usize].owner = Some(owner);
        let refusal = match origin {
            // Cores agree on who owns what, so that nothing is forwarded twice.
            Origin::Core { .. } | Origin::Groups { .. } => Some(ErrorCode::NotOwner),
            Origin::Client(client) if client.no_forward => Some(ErrorCode::NotOwner),
            Origin::Client(_) if self.shutdown.is_some() => Some(ErrorCode::ShuttingDown),
            Origin::Client(_) if !self.admit_produce(origin, entry.partition, entry.resume) => {
                Some(ErrorCode::ProduceOrder)
            }
            Origin::Client(_) => None,
        };
        if let Some(code) = refusal {
            return self.settle_produce(produce, index, Err(code.into()));
        }
        let group = match groups.iter_mut().position(|group| group.to == core) {
            Some(found) => &mut groups[found],
            None => {
                groups.push(Group {
                    to: core,
                    entries: Vec::new(),
                    batches: Vec::new(),
                });
                groups.last_mut().expect("just pushed")
            }
        };
        group.entries.push(index);
        group.batches.push(ForwardedBatch {
            partition: entry.partition,
            resume: entry.resume,
            batch: entry.batch.to_vec(),
        });
    }

    fn forward_batches(&mut self, produce: Key, group: Group, acks: Acks, timeout_ms: u32) {
        let Group {
            to,
            entries,
            batches,
        } = group;
        let request = ForwardedRequest::Produce {
            acks,
            timeout_ms,
            batches,
        };
        let source = self.produces.get(produce).map(|wait| wait.origin);
        let Some(Origin::Client(client)) = source else {
            unreachable!("only requests of clients are forwarded");
        };
        let kind = ForwardKind::Produce { produce, entries };
        if let Err((kind, error)) = self.forward(client.connection, to, request, kind) {
            let ForwardKind::Produce { entries, .. } = kind else {
                unreachable!("the kind comes back as it was given");
            };
            for index in entries {
                self.settle_produce(produce, index, Err(error.clone()));
            }
        }
    }

    /// The owning core has settled these batches.
    pub(super) fn forwarded_produce_done(
        &mut self,
        produce: Key,
        entries: &[u32],
        results: Vec<Result<Receipt, ApiError>>,
    ) {
        debug_assert_eq!(entries.len(), results.len(), "one result for each batch");
        let results: Vec<_> = match planted!(ForwardedReceiptsSwapped) {
            true => results.into_iter().rev().collect(),
            false => results,
        };
        for (index, result) in entries.iter().zip(results) {
            self.settle_produce(produce, *index, result);
        }
        self.finish_produce(produce);
    }

    /// Keeps the outcome of one batch. A produce that was answered meanwhile is gone.
    pub(super) fn settle_produce(
        &mut self,
        key: Key,
        index: u32,
        result: Result<Receipt, ApiError>,
    ) {
        let Some(wait) = self.produces.get_mut(key) else {
            return;
        };
        let entry = &mut wait.response.entries[index as usize];
        let refused = result.as_ref().is_err_and(ApiError::needs_resume);
        entry.result = result;
        wait.remaining -= 1;
        let (origin, partition) = (wait.origin, entry.partition);
        if refused {
            self.refuse_further(origin, partition);
        }
    }

    /// Answers a produce if every batch is settled.
    pub(super) fn finish_produce(&mut self, key: Key) {
        if self
            .produces
            .get(key)
            .is_some_and(|wait| wait.remaining == 0)
        {
            let wait = self.produces.remove(key).expect("just looked up");
            self.answer_produce(wait);
        }
    }

    /// Answers a produce as far as it is settled; the rest is timed out.
    pub(super) fn time_out_produce(&mut self, key: Key) {
        let Some(wait) = self.produces.remove(key) else {
            return;
        };
        for entry in &wait.response.entries {
            if let Err(error) = &entry.result
                && error.code == ErrorCode::TimedOut
            {
                self.refuse_further(wait.origin, entry.partition);
            }
        }
        self.answer_produce(wait);
    }

    fn answer_produce(&mut self, wait: ProduceWait) {
        match wait.origin {
            Origin::Client(client) => self.answer(client, &Response::Produce(wait.response)),
            Origin::Groups { shard, batch } => {
                let mut entries = wait.response.entries.into_iter();
                let entry = entries.next().expect("groups log one batch at a time");
                let base = entry.result.map(|receipt| receipt.base_offset);
                self.group_batch_logged(shard, batch, base);
            }
            Origin::Core { core, token, .. } => {
                let results = wait.response.entries.into_iter().map(|entry| entry.result);
                let reply = ForwardedReply::Produce(results.collect());
                self.post(core, Mail::ForwardReply { token, reply });
            }
        }
    }

    /// Whether a produce to a partition is in order after what was refused before it.
    fn admit_produce(&mut self, origin: Origin, partition: TopicPartition, resume: bool) -> bool {
        if planted!(OrderNotKept) {
            return true;
        }
        match origin {
            Origin::Client(client) => {
                let connection = self.connections.get_mut(client.connection);
                connection.is_none_or(|connection| connection.refused.admit(partition, resume))
            }
            Origin::Groups { shard, .. } => !self.refuses_groups(shard),
            Origin::Core { core, source, .. } => {
                let refused = self.foreign_refused.get_mut(&(core, source));
                refused.is_none_or(|refused| refused.admit(partition, resume))
            }
        }
    }

    /// Refuses what follows on the same connection to the same partition, until it is resumed.
    fn refuse_further(&mut self, origin: Origin, partition: TopicPartition) {
        match origin {
            Origin::Client(client) => {
                let Some(connection) = self.connections.get_mut(client.connection) else {
                    return;
                };
                connection.refused.insert(partition);
                if connection.refused.len() > REFUSED_PARTITIONS_MAX {
                    self.close_after_sending(client.connection);
                }
            }
            // Their shard refuses what follows once it is told.
            Origin::Groups { .. } => {}
            // Nothing follows on a connection that was closed.
            Origin::Core { source, .. } if source == ConnectionId::CLOSED => {}
            Origin::Core { core, source, .. } => {
                self.foreign_refused
                    .entry((core, source))
                    .or_default()
                    .insert(partition);
            }
        }
    }
}

/// Why the records of a topic of the broker's own are left alone.
pub(super) fn internal_topic() -> ApiError {
    let message = "the topic is the broker's own, and may be read only";
    ApiError::new(ErrorCode::InvalidRequest, message)
}

/// Why a partition cannot be found.
pub(super) fn unknown_partition(partition: TopicPartition, home: Home) -> ApiError {
    match home {
        Home::UnknownPartition => ApiError::new(
            ErrorCode::UnknownPartition,
            format!("the topic has no partition {}", partition.partition),
        ),
        _ => ApiError::new(
            ErrorCode::UnknownTopic,
            format!("there is no topic with the id {}", partition.topic),
        ),
    }
}
