//! The oracle: what every log must hold, from what the store acknowledged and from what it showed.
//!
//! Owns the rules. A batch is promised once it was reported durable, or once it could be read from a partition
//! that is not weak. A promised batch keeps its offsets and its bytes for ever; of the others a crash leaves the
//! first few, each whole. Never looks at a file.

use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_protocol::batch::Stamp;
use corelane_protocol::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use corelane_storage::store::{Appended, LogConfig, LogOffsets};

use super::batches;

/// The leader epoch of every append.
pub(crate) const EPOCH: LeaderEpoch = LeaderEpoch::new(3);

/// Whether a partition must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existence {
    /// It was asked for, and not confirmed.
    Creating,
    Exists,
    /// Its deletion was asked for, and not confirmed.
    Deleting,
    Deleted,
    /// Its creation or deletion failed.
    Undecided,
}

/// A batch as it must be stored.
#[derive(Clone)]
struct Entry {
    base: Offset,
    end: Offset,
    bytes: Rc<[u8]>,
}

/// What one partition must hold.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) store: usize,
    pub(crate) config: LogConfig,
    pub(crate) existence: Existence,
    entries: Vec<Entry>,
    /// Everything before this was reported durable.
    acknowledged: Offset,
    /// Everything before this could be read.
    readable: Offset,
}

/// All partitions there ever were.
#[derive(Clone, Default)]
pub(crate) struct Oracle {
    pub(crate) logs: BTreeMap<TopicPartition, Log>,
}

impl Oracle {
    /// The partitions that must be there.
    pub(crate) fn existing(&self) -> impl Iterator<Item = (TopicPartition, &Log)> {
        let logs = self.logs.iter();
        logs.filter(|(_, log)| log.existence == Existence::Exists)
            .map(|(partition, log)| (*partition, log))
    }

    /// Settles what a crash left open about which partitions exist.
    pub(crate) fn found(&mut self, store: usize, found: &[TopicPartition]) -> Result<(), String> {
        for partition in found {
            match self.logs.get(partition) {
                Some(log) if log.store == store && log.existence != Existence::Deleted => {}
                Some(log) => {
                    let (existence, place) = (log.existence, log.store);
                    return Err(format!(
                        "store {store} has {partition}: {existence:?} in store {place}"
                    ));
                }
                None => return Err(format!("store {store} has {partition}, which never was")),
            }
        }
        for (partition, log) in self.logs.iter_mut().filter(|(_, log)| log.store == store) {
            log.existence = match (log.existence, found.contains(partition)) {
                (Existence::Exists, false) => return Err(format!("{partition} is gone")),
                (Existence::Deleted, _) | (_, false) => Existence::Deleted,
                (_, true) => Existence::Exists,
            };
        }
        Ok(())
    }
}

impl Log {
    pub(crate) fn new(store: usize, config: LogConfig) -> Self {
        Self {
            store,
            config,
            existence: Existence::Creating,
            entries: Vec::new(),
            acknowledged: Offset::ZERO,
            readable: Offset::ZERO,
        }
    }

    /// The offset that the next record must get.
    pub(crate) fn end(&self) -> Offset {
        self.entries.last().map_or(Offset::ZERO, |entry| entry.end)
    }

    pub(crate) fn acknowledged(&self) -> Offset {
        self.acknowledged
    }

    /// What no crash may take.
    pub(crate) fn promised(&self) -> Offset {
        if self.config.is_weak() {
            self.acknowledged
        } else {
            self.acknowledged.max(self.readable)
        }
    }

    /// The base offset of each batch below `end`.
    pub(crate) fn bases(&self, end: Offset) -> Vec<Offset> {
        let entries = self.entries.iter().filter(|entry| entry.end <= end);
        entries.map(|entry| entry.base).collect()
    }

    /// A batch was appended.
    pub(crate) fn append(
        &mut self,
        partition: TopicPartition,
        batch: &[u8],
        appended: Appended,
        append_time: Timestamp,
    ) -> Result<(), String> {
        let base = self.end();
        let end = base.advance(batches::offsets_taken(batch));
        if (appended.base_offset, appended.end_offset) != (base, end) {
            return Err(format!(
                "a batch got {appended:?} in {partition}, not {base} to {end}"
            ));
        }
        let stamp = Stamp {
            topic: partition.topic,
            partition: partition.partition,
            leader_epoch: EPOCH,
            base_offset: base,
            append_time,
        };
        let mut bytes = batch.to_vec();
        stamp.write(&mut bytes);
        self.entries.push(Entry {
            base,
            end,
            bytes: bytes.into(),
        });
        if self.existence == Existence::Undecided {
            self.existence = Existence::Exists;
        }
        Ok(())
    }

    /// The store reported progress.
    pub(crate) fn progress(
        &mut self,
        durable_end: Offset,
        high_watermark: Offset,
    ) -> Result<(), String> {
        let weak_or_same = self.config.is_weak() || durable_end == high_watermark;
        let in_order = self.acknowledged <= durable_end
            && durable_end <= high_watermark
            && high_watermark <= self.end();
        if !(weak_or_same && in_order && self.is_boundary(durable_end)) {
            let (acknowledged, end) = (self.acknowledged, self.end());
            return Err(format!(
                "durable end {durable_end} and high watermark {high_watermark} were reported after {acknowledged}, the log ends at {end}"
            ));
        }
        self.acknowledged = durable_end;
        Ok(())
    }

    /// A read from `from` gave these bytes.
    pub(crate) fn read(
        &mut self,
        from: Offset,
        bytes: &[u8],
        next_offset: Offset,
    ) -> Result<(), String> {
        self.compare(from, bytes, next_offset)?;
        self.readable = self.readable.max(next_offset);
        Ok(())
    }

    /// Whether these bytes are what lies between the batch with `from` and `next_offset`.
    pub(crate) fn compare(
        &self,
        from: Offset,
        bytes: &[u8],
        next_offset: Offset,
    ) -> Result<(), String> {
        let first = self.entries.partition_point(|entry| entry.end <= from);
        let mut rest = bytes;
        let mut end = from;
        for entry in self.entries[first..]
            .iter()
            .take_while(|entry| entry.end <= next_offset)
        {
            let Some((batch, after)) = rest.split_at_checked(entry.bytes.len()) else {
                return Err(format!(
                    "a read from {from} to {next_offset} has {} bytes too few",
                    entry.bytes.len() - rest.len()
                ));
            };
            if batch != &entry.bytes[..] {
                let at = batch
                    .iter()
                    .zip(&entry.bytes[..])
                    .position(|(found, expected)| found != expected);
                return Err(format!(
                    "the batch at {} was read with another byte at {at:?} of its {}",
                    entry.base,
                    entry.bytes.len()
                ));
            }
            rest = after;
            end = entry.end;
        }
        if end != next_offset || !rest.is_empty() {
            return Err(format!(
                "a read from {from} claims to end at {next_offset} with {} bytes more than the batches to {end}",
                rest.len()
            ));
        }
        Ok(())
    }

    /// The store was closed, and so everything in it is durable.
    pub(crate) fn closed(&mut self) {
        self.acknowledged = self.end();
    }

    /// The store was opened and has this log. What a crash may have taken is forgotten, the rest is promised.
    pub(crate) fn recovered(&mut self, offsets: LogOffsets) -> Result<(), String> {
        let LogOffsets {
            log_start,
            high_watermark,
            log_end,
            durable_end,
        } = offsets;
        let (promised, end) = (self.promised(), self.end());
        let agrees =
            log_start == Offset::ZERO && high_watermark == log_end && durable_end == log_end;
        if !agrees || log_end < promised || log_end > end || !self.is_boundary(log_end) {
            return Err(format!(
                "recovered as {offsets:?}, promised to {promised}, appended to {end}"
            ));
        }
        self.entries.retain(|entry| entry.end <= log_end);
        (self.acknowledged, self.readable) = (log_end, log_end);
        Ok(())
    }

    fn is_boundary(&self, offset: Offset) -> bool {
        offset == Offset::ZERO
            || self
                .entries
                .binary_search_by_key(&offset, |entry| entry.end)
                .is_ok()
    }
}
