//! The log of a shard: read at start, appended to, and kept short by snapshots.
//!
//! A snapshot is everything that still counts, appended like any other change; once it is durable, what lies before
//! it is deleted. So the log of groups stays within a small multiple of what they are, and what a start reads with
//! it. A crash between the two leaves a log with both, which says the same.

use corelane_protocol::batch::{
    BatchBuilder, BatchBuilderConfig, DecompressLimit, PushError, RecordBatch, RecordRef, batches,
};
use corelane_protocol::request::{Acks, ProduceEntry, ProduceRequest};
use corelane_protocol::{
    AlignedBytes, ApiError, ErrorCode, Offset, PartitionIndex, Timestamp, TopicPartition,
};
use corelane_storage::disk::Disk;
use corelane_storage::planted;
use corelane_storage::store::{DeleteRecordsError, Fetched};

use super::shard::{ShardState, Snapshot};
use crate::groups::{Allowance, Coordinator, GroupRecord};
use crate::lane::effect::{LogAnswer, LogTask, LogTaskOf, LogToken};
use crate::lane::parked::Origin;
use crate::lane::storage_errors::{partition_error, read_error};
use crate::lane::{Effect, Lane, Now};

/// Bytes of a log that are read and taken up at a time: nothing else happens on the core meanwhile.
const READ_BYTES: usize = 256 * 1024;

/// A batch is closed once it has so many bytes.
const BATCH_BYTES: usize = 256 * 1024;

/// How long a log that could not be read is left alone, in µs.
const RETRY_US: u64 = 5_000_000;

impl<D: Disk> Lane<D> {
    /// Appends records of a shard, which come after all that were handed over before.
    pub(super) fn log_group_records(
        &mut self,
        now: Now,
        index: PartitionIndex,
        records: &[GroupRecord],
    ) {
        if records.is_empty() {
            return;
        }
        let bytes_max = self.config.limits.batch_bytes_max();
        let batches = match batches_of(records, now.wall, bytes_max) {
            Ok(batches) => batches,
            Err(error) => return self.refuse_group_changes(index, None, &error),
        };
        let (shard, _) = self.shard_and_topics(index);
        let partition = shard.partition;
        shard.records_in_log += records.len();
        for batch in batches {
            let (shard, _) = self.shard_and_topics(index);
            shard.appended += 1;
            let origin = Origin::Groups {
                shard: index,
                batch: shard.appended,
            };
            let request = ProduceRequest {
                acks: Acks::All,
                timeout_ms: u32::MAX,
                entries: vec![ProduceEntry {
                    partition,
                    resume: false,
                    batch: &batch,
                }],
            };
            self.produce(now, origin, &request);
        }
        self.count_group_memory(index);
    }

    /// Begins to read the log of a shard.
    pub(super) fn load_shard(
        &mut self,
        now: Now,
        index: PartitionIndex,
        allowance: &mut Allowance,
    ) {
        let batch_bytes_max = self.config.limits.batch_bytes_max();
        let partitions = self.groups.shards.len();
        let settings = self.config.groups.settings(partitions, batch_bytes_max);
        let Self {
            groups,
            partitions,
            stores,
            ..
        } = self;
        let shard = groups.shards.get_mut(&index).expect("named by the caller");
        let local = partitions
            .local(shard.local)
            .expect("looked up by the caller");
        match local.offsets(stores) {
            Ok(offsets) => {
                shard.is_refusing = false;
                shard.records_in_log = 0;
                shard.state = ShardState::Loading {
                    coordinator: Box::new(Coordinator::new(settings)),
                    next: offsets.log_start,
                    end: offsets.high_watermark,
                };
                self.read_on(now, index, allowance);
            }
            Err(error) => {
                shard.state = ShardState::Waiting {
                    reason: partition_error(&error),
                    retry_us: Some(now.monotonic_us + RETRY_US),
                };
            }
        }
    }

    /// Reads the next part of a log. Once there is none, its groups are made as far as is allowed, and served when
    /// all are.
    pub(super) fn read_on(&mut self, now: Now, index: PartitionIndex, allowance: &mut Allowance) {
        let (shard, topics) = self.shard_and_topics(index);
        let partition = shard.partition;
        let ShardState::Loading {
            coordinator,
            next,
            end,
        } = &mut shard.state
        else {
            unreachable!("only a log that is being read is read on");
        };
        if next < end {
            let from = *next;
            let local = shard.local;
            let local = self.partitions.local(local);
            let store = local.expect("the internal topic is not deleted").store;
            self.effects.push_back(Effect::LogTask {
                token: LogToken(LogTaskOf::Groups(index)),
                store,
                task: LogTask::Read {
                    partition,
                    from,
                    bytes_max: READ_BYTES,
                },
            });
            return;
        }
        let Some(records) = coordinator.loaded(now.into(), &topics, allowance) else {
            return self.count_group_memory(index);
        };
        tracing::debug!(%partition, records = shard.records_in_log, "consumer groups are loaded");
        let reason = ErrorCode::GroupLoading.into();
        let retry_us = None;
        let waiting = ShardState::Waiting { reason, retry_us };
        let loading = std::mem::replace(&mut shard.state, waiting);
        let ShardState::Loading { coordinator, .. } = loading else {
            unreachable!("just looked at");
        };
        shard.state = ShardState::Serving(coordinator);
        self.log_group_records(now, index, &records);
        self.count_group_memory(index);
        self.maybe_snapshot(now, index);
    }

    /// A store has done what a shard wanted of its log.
    pub(in crate::lane) fn group_log_done(
        &mut self,
        now: Now,
        index: PartitionIndex,
        answer: LogAnswer,
    ) {
        if !self.groups.shards.contains_key(&index) {
            return;
        }
        match answer {
            LogAnswer::Read(Ok(fetched)) => match self.take_up(index, &fetched) {
                Ok(()) => self.read_on(now, index, &mut Allowance::of_event()),
                Err(error) => self.load_failed(now, index, error),
            },
            LogAnswer::Read(Err(error)) => self.load_failed(now, index, read_error(&error)),
            LogAnswer::LogStart(result) => self.snapshot_done(index, result),
            LogAnswer::Found(_) => unreachable!("no shard looks for a time"),
        }
    }

    /// Takes up what was read of a log.
    fn take_up(&mut self, index: PartitionIndex, fetched: &Fetched) -> Result<(), ApiError> {
        let mut bytes = AlignedBytes::new();
        for part in &fetched.parts {
            bytes.extend_from_slice(part);
        }
        let limit = DecompressLimit::default();
        let (shard, _) = self.shard_and_topics(index);
        let ShardState::Loading {
            coordinator,
            next,
            end,
        } = &mut shard.state
        else {
            unreachable!("only a log that is being read is asked for more");
        };
        for batch in batches(&bytes) {
            let batch = batch.map_err(|error| unreadable(shard.partition, *next, &error))?;
            let batch = RecordBatch::parse(batch, &limit);
            let batch = batch.map_err(|error| unreadable(shard.partition, *next, &error))?;
            for record in batch.records().filter(|record| record.offset >= *next) {
                let change = GroupRecord::decode(record.key.unwrap_or_default(), record.value);
                let change =
                    change.map_err(|error| unreadable(shard.partition, record.offset, &error))?;
                if planted!(GroupLoadSkipsLast) && record.offset.advance(1) == *end {
                    break;
                }
                coordinator.replay(change);
                shard.records_in_log += 1;
            }
        }
        *next = fetched.next_offset;
        self.count_group_memory(index);
        Ok(())
    }

    /// A log could not be read: its groups are out of service until it can be.
    fn load_failed(&mut self, now: Now, index: PartitionIndex, error: ApiError) {
        let (shard, _) = self.shard_and_topics(index);
        tracing::error!(partition = %shard.partition, %error, "consumer groups cannot be loaded");
        shard.state = ShardState::Waiting {
            reason: error,
            retry_us: Some(now.monotonic_us + RETRY_US),
        };
        self.count_group_memory(index);
    }

    /// Appends a snapshot if too much of a log does not count any more.
    pub(super) fn maybe_snapshot(&mut self, now: Now, index: PartitionIndex) {
        let (shard, _) = self.shard_and_topics(index);
        if !shard.wants_snapshot() {
            return;
        }
        let coordinator = shard.serving().expect("only who serves wants one");
        let mut records: Vec<_> = coordinator.snapshot().collect();
        if planted!(SnapshotForgetsOffsets) {
            records.retain(|record| !matches!(record, GroupRecord::Offset { .. }));
        }
        let first = shard.appended + 1;
        self.log_group_records(now, index, &records);
        let (shard, _) = self.shard_and_topics(index);
        if shard.is_refusing || shard.appended < first {
            return;
        }
        shard.snapshot = Some(Snapshot {
            first,
            last: shard.appended,
            base: None,
            records: records.len(),
            in_log: shard.records_in_log,
        });
    }

    /// A batch is durable: if it was the last of a snapshot, what lies before that is deleted.
    pub(super) fn snapshot_logged(&mut self, index: PartitionIndex, batch: u64) {
        let (shard, _) = self.shard_and_topics(index);
        let Some(snapshot) = shard.snapshot.as_ref().filter(|it| it.last == batch) else {
            return;
        };
        let before = snapshot.base.expect("its first batch was logged before");
        let before = before.advance(if planted!(SnapshotDeletesTooMuch) {
            2
        } else {
            0
        });
        let (partition, local) = (shard.partition, shard.local);
        let local = self.partitions.local(local);
        let store = local.expect("the internal topic is not deleted").store;
        self.effects.push_back(Effect::LogTask {
            token: LogToken(LogTaskOf::Groups(index)),
            store,
            task: LogTask::DeleteRecords { partition, before },
        });
    }

    fn snapshot_done(&mut self, index: PartitionIndex, result: Result<Offset, DeleteRecordsError>) {
        let (shard, _) = self.shard_and_topics(index);
        match result {
            Ok(log_start) => {
                shard.end_snapshot();
                let local = shard.local;
                if let Some(local) = self.partitions.local_mut(local) {
                    local.log_start = log_start;
                }
            }
            Err(error) => {
                tracing::warn!(
                    partition = %shard.partition,
                    %error,
                    "what a snapshot of consumer groups replaces was not deleted"
                );
                shard.give_up_snapshot();
            }
        }
    }
}

/// Records in batches, of at least one record and at most `bytes_max` bytes each.
///
/// # Errors
/// A record alone has more: a member with very many partitions, or a broker that takes small frames only.
fn batches_of(
    records: &[GroupRecord],
    time: Timestamp,
    bytes_max: u32,
) -> Result<Vec<AlignedBytes>, ApiError> {
    let mut builder = BatchBuilder::new(BatchBuilderConfig {
        bytes_max,
        ..BatchBuilderConfig::default()
    })
    .expect("nothing is compressed");
    let mut finished = Vec::new();
    let mut finish = |builder: &mut BatchBuilder| {
        finished.push(builder.finish().expect("it has a record"));
        builder.clear();
    };
    for record in records {
        let (key, value) = (record.key(), record.value());
        let record = RecordRef {
            key: Some(&key),
            value: value.as_deref(),
            headers: &[],
            timestamp: time.max(Timestamp::new(0)),
        };
        let mut pushed = builder.try_push(record);
        if pushed == Err(PushError::Full) && !builder.is_empty() {
            finish(&mut builder);
            pushed = builder.try_push(record);
        }
        if let Err(error) = pushed {
            let message = format!(
                "a change of the group fits no batch: {error}; raise limits.frame_bytes_max"
            );
            return Err(ApiError::new(ErrorCode::GroupLimit, message));
        }
        if builder.estimated_bytes() >= BATCH_BYTES {
            finish(&mut builder);
        }
    }
    if !builder.is_empty() {
        finish(&mut builder);
    }
    Ok(finished)
}

/// The log holds what this broker cannot take up.
fn unreadable(
    partition: TopicPartition,
    offset: Offset,
    problem: &dyn std::fmt::Display,
) -> ApiError {
    let message = format!("the log of consumer groups {partition} at offset {offset}: {problem}");
    ApiError::new(ErrorCode::CorruptData, message)
}

#[cfg(test)]
mod tests {
    use corelane_protocol::TopicId;
    use corelane_protocol::response::CommittedOffset;

    use super::*;

    fn record(partition: u32, metadata_bytes: usize) -> GroupRecord {
        GroupRecord::Offset {
            group: "g".to_owned(),
            partition: TopicPartition::new(
                TopicId::from_bytes([7; 16]),
                PartitionIndex::new(partition),
            ),
            value: Some(CommittedOffset {
                offset: Offset::new(1),
                leader_epoch: None,
                time: Timestamp::new(2),
                metadata: "m".repeat(metadata_bytes),
            }),
        }
    }

    #[test]
    fn records_are_dealt_to_batches_and_none_is_left_out() {
        let records: Vec<_> = (0..40).map(|index| record(index, 300)).collect();
        let made = batches_of(&records, Timestamp::new(1), 2048).expect("each of them fits");
        assert!(made.len() > 5);
        let mut found = Vec::new();
        for batch in &made {
            assert!(batch.len() <= 2048);
            let batch = RecordBatch::parse_unstamped(&batch[..], &DecompressLimit::default());
            for record in batch.expect("a sound batch").records() {
                let key = record.key.expect("every record has one");
                found.push(GroupRecord::decode(key, record.value).expect("as it was written"));
            }
        }
        assert_eq!(found, records);
    }

    #[test]
    fn a_record_that_fits_no_batch_is_refused() {
        let records = [record(0, 10), record(1, 4000), record(2, 10)];
        let refused = batches_of(&records, Timestamp::new(1), 2048);
        let refused = refused.expect_err("it is too large").code;
        assert_eq!(refused, ErrorCode::GroupLimit);
    }
}
