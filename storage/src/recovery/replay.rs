//! Putting the journal's parts back into the tails of their partitions.
//!
//! Owns the rules by which a part connects with what is in the segments and with the part before it. Pure;
//! used on the core that opens the store.

use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_protocol::{LeaderEpoch, Offset, TopicPartition};

use crate::catalogue::CatalogueImage;
use crate::epochs::EpochStart;
use crate::journal::{FileId, JournalFiles, PartEntry};
use crate::layout::block_ceiling;
use crate::position::{LogPoint, LogPosition};
use crate::segment::batches::{BatchPeek, peek, peek_sequence, peek_times};
use crate::store::{Partition, Readers, Status};
use crate::tail::ChunkPool;

/// The partitions of a store that is being opened.
pub(crate) struct Replay {
    pub(crate) partitions: BTreeMap<TopicPartition, Partition>,
    /// Bytes of batches that went into tails.
    pub(crate) bytes_recovered: u64,
    pool: ChunkPool,
    mark_interval: u64,
}

/// A part, and where it was found.
pub(crate) struct FoundPart<'a> {
    pub(crate) entry: &'a PartEntry,
    pub(crate) bytes: &'a [u8],
    pub(crate) file: FileId,
    /// For messages: the file's path and the group's position in it.
    pub(crate) path: &'a str,
    pub(crate) group_position: u64,
}

impl Replay {
    /// The partitions as the catalogue has them.
    pub(crate) fn new(image: &CatalogueImage, pool: ChunkPool, mark_interval: u32) -> Self {
        let partitions = image.partitions.iter().map(|(&id, found)| {
            let mut partition =
                Partition::new(id, found.config.clone(), found.flush, found.sealed.clone());
            if !crate::planted!(LogStartForgotten) {
                partition.log_start = found.log_start;
                partition.wanted_log_start = found.log_start;
            }
            partition.expired.clone_from(&found.expired);
            partition.epochs.clone_from(&found.epochs);
            partition.compaction.clone_from(&found.compaction);
            if !crate::planted!(ProducersForgotten) {
                partition.producers.clone_from(&found.producers);
                // What is said of them before a flush counts only with it; the journal has the rest.
                partition.producers.cut(found.flush.whole.offset);
            }
            // Which of them count is known once the partition is given its settings.
            partition.readers = Readers::new(found.readers.clone());
            if let Some(reason) = &found.failed {
                let reason: Rc<str> = reason.as_str().into();
                partition.status = Status::Failed(Rc::clone(&reason));
                partition.given_up = Some(reason);
            }
            (id, partition)
        });
        Self {
            partitions: partitions.collect(),
            bytes_recovered: 0,
            pool,
            mark_interval: u64::from(mark_interval),
        }
    }

    /// The partition of a part, if it needs the part's batches.
    pub(crate) fn wants(&self, entry: &PartEntry) -> Option<&Partition> {
        let partition = self.partitions.get(&entry.partition)?;
        let is_wanted = partition.given_up.is_none()
            && partition.status == Status::Online
            && entry.end_position() > partition.flush.flushed;
        is_wanted.then_some(partition)
    }

    /// Puts a verified part where it belongs. Parts of partitions that are gone are passed over.
    pub(crate) fn apply(&mut self, part: &FoundPart<'_>) {
        let Some(partition) = self.partitions.get_mut(&part.entry.partition) else {
            return;
        };
        if partition.given_up.is_some() || part.entry.end_position() <= partition.flush.flushed {
            return;
        }
        partition.pin(part.file, part.entry.end_position());
        if partition.status != Status::Online {
            return;
        }
        match replay_part(
            partition,
            part.entry,
            part.bytes,
            &mut self.pool,
            self.mark_interval,
        ) {
            Ok(bytes) => {
                self.bytes_recovered += bytes;
            }
            Err(reason) => {
                let reason = format!(
                    "{} is damaged at byte {}: {reason}",
                    part.path, part.group_position
                );
                fail(partition, reason);
            }
        }
    }

    /// Takes a partition out of service, because a part of it is damaged.
    pub(crate) fn fail(&mut self, part: &FoundPart<'_>, reason: String) {
        let Some(partition) = self.partitions.get_mut(&part.entry.partition) else {
            return;
        };
        if partition.given_up.is_some() || part.entry.end_position() <= partition.flush.flushed {
            return;
        }
        partition.pin(part.file, part.entry.end_position());
        fail(partition, reason);
    }

    /// The journal was read to its end: settles every partition's ends.
    pub(crate) fn finish(&mut self) {
        for partition in self.partitions.values_mut() {
            if partition.status == Status::Online
                && partition.flush.straddles
                && partition.tail.is_empty()
            {
                let whole = partition.flush.whole;
                fail(
                    partition,
                    format!(
                        "the journal does not have the batch at offset {} ({}), which was acknowledged",
                        whole.offset, whole.position
                    ),
                );
            }
            if partition.status == Status::Online && partition.end.offset < partition.log_start {
                let (end, log_start) = (partition.end.offset, partition.log_start);
                fail(
                    partition,
                    format!(
                        "the journal ends at offset {end} of the partition, below its log start {log_start}, so \
                         records that were acknowledged are missing"
                    ),
                );
            }
            partition.journaled = partition.end;
            partition.durable = partition.end;
        }
    }

    /// Where the logs of weak partitions end: what was acknowledged from memory after that is gone.
    pub(crate) fn weak_ends(&self) -> Vec<(TopicPartition, Offset)> {
        let partitions = self.partitions.values();
        let weak = partitions
            .filter(|partition| partition.config.is_weak() && partition.status == Status::Online);
        weak.map(|partition| (partition.id, partition.end.offset))
            .collect()
    }

    /// Begins a new leader epoch in every partition that may serve again, and cuts the positions of readers back to
    /// its start, in memory only: it counts once the catalogue has it. One that is out of service now may come back after an orderly end, so it gets one too.
    pub(crate) fn raise_epochs(&mut self) -> Vec<(TopicPartition, EpochStart)> {
        let partitions = self.partitions.values_mut();
        let raised = partitions.filter(|partition| partition.given_up.is_none());
        let raised = raised.map(|partition| {
            let latest = partition.epochs.latest();
            let begun = EpochStart {
                epoch: LeaderEpoch::new(latest.epoch.get() + 1),
                start: partition.end.offset.max(latest.start),
            };
            let begins = partition.epochs.begin(begun);
            begins.expect("it is later than the latest, and begins no earlier");
            partition.flags.awaits_epoch = true;
            partition.readers.cut_back(begun.start);
            (partition.id, begun)
        });
        raised.collect()
    }

    /// Hands over the partitions and the pool, and pins what they need in the journal.
    pub(crate) fn into_parts(self, files: &mut JournalFiles) -> (Vec<Partition>, ChunkPool) {
        let partitions: Vec<Partition> = self.partitions.into_values().collect();
        for pin in partitions.iter().flat_map(|partition| &partition.pins) {
            files.pin(pin.file);
        }
        (partitions, self.pool)
    }
}

/// Takes a partition out of service.
pub(crate) fn fail(partition: &mut Partition, reason: String) {
    if partition.status == Status::Online {
        partition.status = Status::Failed(reason.into());
    }
}

/// Appends the part's batches that are not in the segment files. Returns their bytes.
fn replay_part(
    partition: &mut Partition,
    entry: &PartEntry,
    bytes: &[u8],
    pool: &mut ChunkPool,
    mark_interval: u64,
) -> Result<u64, String> {
    if entry.is_in_segment() {
        begin_extent(partition, entry, bytes, pool)?;
    }
    let (mut at, mut recovered) = (0, 0);
    while at < bytes.len() {
        let batch = peek(&bytes[at..]);
        let range = at..at + batch.length as usize;
        let position = LogPosition {
            at: entry.position.at + at as u64,
            ..entry.position
        };
        let end = LogPosition {
            at: position.at + u64::from(batch.length),
            ..position
        };
        if end > partition.flush.flushed {
            connect(partition, position, &batch)?;
            append(
                partition,
                position,
                batch,
                &bytes[range.clone()],
                pool,
                mark_interval,
            );
            recovered += u64::from(batch.length);
        }
        at = range.end;
    }
    if entry.is_in_segment() {
        partition.tail.close_last();
        partition.tail.leave_to_group(entry.position);
    }
    Ok(recovered)
}

/// Makes a chunk that holds all of a part whose blocks are in the segment's file, and nothing else.
fn begin_extent(
    partition: &mut Partition,
    entry: &PartEntry,
    bytes: &[u8],
    pool: &mut ChunkPool,
) -> Result<(), String> {
    connect(partition, entry.position, &peek(bytes))?;
    partition.tail.close_last();
    let first = LogPoint {
        position: entry.position,
        offset: entry.base_offset,
    };
    let memory = pool.take_unbounded(block_ceiling(bytes.len() as u64) as usize);
    partition.tail.push(first, partition.times, memory);
    Ok(())
}

/// Whether a batch at this position is the next one of the log.
fn connect(
    partition: &mut Partition,
    position: LogPosition,
    batch: &BatchPeek,
) -> Result<(), String> {
    let end = partition.end;
    let place = if position.segment != end.position.segment {
        // A roll: the new segment's name is the offset that follows.
        let is_next = !(partition.tail.is_empty() && partition.flush.straddles);
        is_next.then(|| LogPosition::start_of(end.offset))
    } else if !partition.tail.is_empty() {
        let padded = LogPosition {
            at: block_ceiling(end.position.at),
            ..end.position
        };
        Some(if position == padded {
            padded
        } else {
            end.position
        })
    } else if partition.flush.straddles {
        Some(end.position)
    } else {
        Some(partition.flush.flushed)
    };
    if place != Some(position) || batch.base_offset != end.offset {
        return Err(format!(
            "offset {} at {position} of the partition does not follow offset {} at {}",
            batch.base_offset, end.offset, end.position
        ));
    }
    if position.segment != end.position.segment {
        partition.roll();
    }
    Ok(())
}

/// Appends a batch to the tail, at its recorded position.
fn append(
    partition: &mut Partition,
    position: LogPosition,
    batch: BatchPeek,
    bytes: &[u8],
    pool: &mut ChunkPool,
    mark_interval: u64,
) {
    let len = bytes.len();
    let follows = |end: LogPoint| end.position == position;
    let is_contiguous = partition
        .tail
        .last()
        .is_some_and(|chunk| follows(chunk.end()) && !chunk.is_closed());
    let has_room = partition
        .tail
        .last()
        .is_some_and(|chunk| chunk.has_room(len));
    if is_contiguous && !has_room && !position.at.is_multiple_of(crate::layout::BLOCK) {
        // The chunk that held both before may have been larger; the block that they share has one home.
        let chunk = partition
            .tail
            .last_mut()
            .expect("there is one that it follows");
        let memory = pool.take_unbounded((chunk.capacity() + len).next_power_of_two());
        let old = chunk.grow(memory);
        pool.give_memory(old);
    } else if !(is_contiguous && has_room) {
        partition.tail.close_last();
        let first = LogPoint {
            position,
            offset: batch.base_offset,
        };
        // A chunk that begins within a block needs room for what is before it.
        let skipped = (position.at % crate::layout::BLOCK) as usize;
        let memory = pool.take_unbounded(partition.tail.next_capacity(len + skipped, false));
        partition.tail.push(first, partition.times, memory);
    }
    let chunk = partition.tail.last_mut().expect("it was just made sure of");
    chunk.reserve(len).copy_from_slice(bytes);
    let times = peek_times(bytes);
    chunk.publish(len, batch.end_offset, times, mark_interval);
    partition.end = chunk.end();
    partition.times = chunk.times();
    if let Some(sequenced) = peek_sequence(bytes) {
        let settled = partition.flush.whole.offset;
        let (producers, base) = (&mut partition.producers, batch.base_offset);
        producers.appended(&sequenced, base, times.append_time, settled);
    }
}
