//! Appending a batch: from a client's bytes to the end of the partition's tail, in one copy.
//!
//! Owns the order of the checks: whatever can be refused is refused before the log changes. Does no I/O.

use corelane_protocol::batch::{BatchError, BatchHeader, BatchLimits, Stamp, validate};
use corelane_protocol::{Offset, Timestamp};

use super::partition::{Partition, PartitionHandle};
use super::state::State;
use super::{AppendError, Appended};
use crate::journal::CommitPlanner;
use crate::memory::Chunk;
use crate::position::{LogPoint, LogPosition};
use crate::producers::Sequenced;
use crate::segment::batches::BatchTimes;
use crate::tail::TailChunk;

impl State {
    /// Appends a batch, unless its producer has appended it before. Nothing changes if it is refused.
    pub(crate) fn append(
        &mut self,
        handle: PartitionHandle,
        batch: &[u8],
        now: Timestamp,
    ) -> Result<Appended, AppendError> {
        let (limits, sequenced) = self.admit(handle, batch)?;
        if let Some(sequenced) = sequenced
            && let Some(known) = self.judge(handle, batch, &limits, &sequenced)?
        {
            return Ok(known);
        }
        self.make_room(handle, batch.len())?;
        let partition = self.partitions.get_mut(handle).expect("it was admitted");
        let header = publish(
            partition,
            batch,
            &limits,
            now,
            self.config.index_interval_bytes,
        )?;
        let base_offset = partition.end.offset;
        let end_offset = base_offset.advance(header.offsets_taken());
        let chunk = partition.tail.last().expect("the batch is in it");
        partition.end = chunk.end();
        partition.times = chunk.times();
        let mut start = partition.end;
        start.position.at -= batch.len() as u64;
        start.offset = base_offset;
        let is_first = partition.pending_batches == 0;
        partition.pending.push(chunk, start, is_first);
        debug_assert_eq!(partition.end.offset, end_offset);
        if let Some(sequenced) = sequenced {
            let settled = partition.flush.whole.offset;
            let before = partition.producers.bytes();
            partition
                .producers
                .appended(&sequenced, base_offset, now, settled);
            let after = partition.producers.bytes();
            self.producers_bytes = self.producers_bytes + after - before;
        }
        partition.pending_batches += 1;
        partition.pending_bytes += batch.len();
        self.planner.appended(batch.len());
        self.seal.last_append = Some(now);
        self.schedule(handle, batch.len(), u64::from(header.record_count), now);
        Ok(Appended {
            base_offset,
            end_offset,
            is_duplicate: false,
        })
    }

    /// Everything that can be refused before memory is taken.
    fn admit(
        &self,
        handle: PartitionHandle,
        batch: &[u8],
    ) -> Result<(BatchLimits, Option<Sequenced>), AppendError> {
        if let Some(reason) = &self.fenced {
            return Err(AppendError::StorageFailed(reason.clone()));
        }
        if self.is_closing {
            return Err(AppendError::Closing);
        }
        if self.reserve.is_touched {
            return Err(AppendError::DiskFull);
        }
        let partition = self.partitions.get(handle);
        let partition = partition
            .filter(|found| !found.flags.is_deleting)
            .ok_or(AppendError::PartitionGone)?;
        if let Some(reason) = partition.refusal() {
            return Err(AppendError::PartitionFailed(reason.clone()));
        }
        if partition.flags.awaits_epoch {
            return Err(AppendError::DiskFull);
        }
        let header = BatchHeader::parse(batch)?;
        let (total_length, length) = (header.total_length, batch.len());
        let batch_bytes_max = self
            .config
            .batch_limits
            .batch_bytes_max
            .min(partition.config.batch_bytes_max);
        if total_length > batch_bytes_max {
            return Err(BatchError::TooLarge {
                total_length,
                bytes_max: batch_bytes_max,
            }
            .into());
        }
        match length.cmp(&(total_length as usize)) {
            std::cmp::Ordering::Less => {
                return Err(BatchError::Truncated {
                    needed: total_length as usize,
                    length,
                }
                .into());
            }
            std::cmp::Ordering::Greater => {
                return Err(BatchError::Trailing {
                    total_length,
                    length,
                }
                .into());
            }
            std::cmp::Ordering::Equal => {}
        }
        if partition.end.offset.get() + header.offsets_taken() > Offset::MAX.get() {
            return Err(AppendError::PartitionFailed(
                "the partition has no offsets left".into(),
            ));
        }
        let cost = self.planner.unjournaled_cost() + CommitPlanner::cost(1, length);
        if !self.files.has_room_for(cost) {
            return Err(if self.is_disk_full() {
                AppendError::DiskFull
            } else {
                AppendError::JournalFull
            });
        }
        let limits = BatchLimits {
            batch_bytes_max,
            needs_keys: partition.config.compaction.is_some(),
            ..self.config.batch_limits
        };
        Ok((limits, Sequenced::of(&header)))
    }

    /// Makes the partition's last chunk one that takes `len` bytes, in a new segment if this one is full.
    fn make_room(&mut self, handle: PartitionHandle, len: usize) -> Result<(), AppendError> {
        let is_scarce = self.ledger.is_above_soft();
        let partition = self.partitions.get_mut(handle).expect("it was admitted");
        let next = partition.next_position(len);
        let offsets = partition.end.offset.distance_from(next.segment);
        let rolls = partition.config.rolls(next.at, len as u64) || offsets > u64::from(u32::MAX);
        if !rolls && partition.tail.open_chunk(next.segment, len).is_some() {
            return Ok(());
        }
        let capacity = partition.tail.next_capacity(len, is_scarce);
        let least = partition.tail.next_capacity(len, true);
        let taken = match self.take_chunk(capacity) {
            Err(_) if least < capacity => self.take_chunk(least),
            taken => taken,
        };
        let memory = match taken {
            Ok(memory) => memory,
            Err(full) => {
                self.wants_memory = true;
                return Err(full.into());
            }
        };
        let partition = self.partitions.get_mut(handle).expect("it was admitted");
        begin_chunk(partition, rolls, next, memory);
        Ok(())
    }

    /// Sees to it that the batch is committed: at once, or as a weak partition's settings say.
    fn schedule(&mut self, handle: PartitionHandle, bytes: usize, records: u64, now: Timestamp) {
        let partition = self.partitions.get_mut(handle).expect("it was admitted");
        if partition.flags.is_dirty {
            self.planner.grew(bytes);
        } else if !partition.config.is_weak() {
            self.make_due(handle);
        } else {
            partition.unflushed_records += records;
            if partition
                .config
                .flush_messages
                .is_some_and(|limit| partition.unflushed_records >= limit)
            {
                self.make_due(handle);
            } else {
                partition.unflushed_since.get_or_insert(now);
                if !std::mem::replace(&mut partition.flags.is_waiting, true) {
                    self.waiting.push(handle);
                }
            }
        }
        if let Some(partition) = self.partitions.get_mut(handle)
            && partition.config.is_weak()
        {
            partition.published = partition.end;
            self.note_progress(handle);
        }
    }

    /// Queues all batches of a partition that are in no group yet.
    pub(crate) fn make_due(&mut self, handle: PartitionHandle) {
        let Some(partition) = self.partitions.get_mut(handle) else {
            return;
        };
        partition.unflushed_records = 0;
        partition.unflushed_since = None;
        if !partition.flags.is_dirty && partition.pending_bytes > 0 {
            partition.flags.is_dirty = true;
            self.planner.enqueue(handle, partition.pending_bytes);
        }
    }
}

/// Adds an empty chunk to the tail.
fn begin_chunk(partition: &mut Partition, rolls: bool, next: LogPosition, memory: Chunk) {
    if rolls {
        partition.roll();
        let start = partition.end;
        partition.tail.push(start, partition.times, memory);
    } else {
        partition.tail.close_last();
        let start = LogPoint {
            position: next,
            offset: partition.end.offset,
        };
        partition.tail.push(start, partition.times, memory);
    }
}

/// Copies the batch into the last chunk, checks it there, and makes it part of the log.
fn publish(
    partition: &mut Partition,
    batch: &[u8],
    limits: &BatchLimits,
    now: Timestamp,
    mark_interval: u32,
) -> Result<BatchHeader, BatchError> {
    let base_offset = partition.end.offset;
    let leader_epoch = partition.epochs.latest().epoch;
    let chunk: &mut TailChunk = partition.tail.last_mut().expect("room was made");
    let room = chunk.reserve(batch.len());
    room.copy_from_slice(batch);
    let header = match validate(room, limits) {
        Ok(header) => header,
        Err(error) => {
            chunk.abandon();
            return Err(error);
        }
    };
    let stamp = Stamp {
        topic: partition.id.topic,
        partition: partition.id.partition,
        leader_epoch,
        base_offset,
        append_time: now,
    };
    stamp.write(room);
    chunk.publish(
        batch.len(),
        base_offset.advance(header.offsets_taken()),
        BatchTimes::new(&header, now),
        u64::from(mark_interval),
    );
    Ok(header)
}
