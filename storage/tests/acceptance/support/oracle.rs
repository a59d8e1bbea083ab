//! The oracle: what every log must hold, from what the store acknowledged and from what it showed.
//!
//! Owns the rules. A batch is promised once it was reported durable, or once it could be read from a partition
//! that is not weak. A promised batch keeps its offsets and its bytes for ever; of the others a crash leaves the
//! first few, each whole. Never looks at a file.

use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_protocol::batch::Stamp;
use corelane_protocol::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use corelane_storage::epochs::EpochEnd;
use corelane_storage::store::{Appended, LogConfig, LogOffsets};

use super::batches;

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
    append_time: Timestamp,
    epoch: LeaderEpoch,
}

/// Somebody who read a log before a crash.
#[derive(Clone, Copy, Debug)]
struct Reader {
    /// The epoch of the last record that was read, and the offset after it.
    epoch: LeaderEpoch,
    offset: Offset,
    /// Everything before this is what was read.
    agrees: Offset,
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
    /// The highest log start that was seen or answered.
    log_start: Offset,
    /// The highest that was asked for.
    asked_log_start: Offset,
    /// The leader epoch since the last opening.
    epoch: LeaderEpoch,
    readers: Vec<Reader>,
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
            log_start: Offset::ZERO,
            asked_log_start: Offset::ZERO,
            epoch: LeaderEpoch::new(0),
            readers: Vec::new(),
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

    /// Nothing below is served any more.
    pub(crate) fn log_start(&self) -> Offset {
        self.log_start
    }

    /// The records below an offset are to be deleted.
    pub(crate) fn deleting(&mut self, before: Offset) {
        self.asked_log_start = self.asked_log_start.max(before);
    }

    /// The store says where the log starts, at a time: not before where it did, and not beyond what was asked
    /// for or what has expired.
    pub(crate) fn starts_at(&mut self, log_start: Offset, now: Timestamp) -> Result<(), String> {
        let (known, asked, end) = (self.log_start, self.asked_log_start, self.end());
        let mut expired = self
            .entries
            .iter()
            .filter(|entry| entry.end > asked.max(known) && entry.end <= log_start);
        let may_go = |entry: &Entry| {
            let age_ms = now.get().saturating_sub(entry.append_time.get());
            let is_old = |ms| age_ms > ms as i64;
            // A log that is kept to a size is not kept to nothing.
            let is_too_much = self.config.retention_bytes.is_some() && log_start < end;
            is_too_much || self.config.retention_ms.is_some_and(is_old)
        };
        let is_place = log_start <= asked.max(known) || self.is_boundary(log_start);
        if log_start < known || log_start > end || !is_place || !expired.all(may_go) {
            return Err(format!(
                "the log starts at {log_start}, it started at {known} and was asked to at {asked}; it ends at {end}"
            ));
        }
        self.log_start = log_start;
        Ok(())
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
            leader_epoch: self.epoch,
            base_offset: base,
            append_time,
        };
        let mut bytes = batch.to_vec();
        stamp.write(&mut bytes);
        self.entries.push(Entry {
            base,
            end,
            bytes: bytes.into(),
            append_time,
            epoch: self.epoch,
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
        let agrees = log_start <= log_end && high_watermark == log_end && durable_end == log_end;
        if !agrees || log_end < promised || log_end > end || !self.is_boundary(log_end) {
            return Err(format!(
                "recovered as {offsets:?}, promised to {promised}, appended to {end}"
            ));
        }
        // What has expired by now was decided by the clock of another session.
        self.starts_at(log_start, Timestamp::new(i64::MAX))?;
        self.note_reader();
        for reader in &mut self.readers {
            reader.agrees = reader.agrees.min(log_end);
        }
        self.entries.retain(|entry| entry.end <= log_end);
        (self.acknowledged, self.readable) = (log_end, log_end);
        Ok(())
    }

    /// Remembers whoever has read as far as was read, or was told that it is there.
    fn note_reader(&mut self) {
        for read in [self.readable, self.acknowledged] {
            let last = self
                .entries
                .binary_search_by_key(&read, |entry| entry.end)
                .map(|index| &self.entries[index]);
            if let Ok(last) = last {
                self.readers.push(Reader {
                    epoch: last.epoch,
                    offset: last.end,
                    agrees: last.end,
                });
            }
        }
    }

    /// The store was opened under this leader epoch. Whoever read what is gone must be told, and nobody else.
    pub(crate) fn reopened(
        &mut self,
        epoch: LeaderEpoch,
        was_clean: bool,
        divergence: impl Fn(LeaderEpoch, Offset) -> Option<EpochEnd>,
    ) -> Result<(), String> {
        let before = self.epoch;
        let follows = if was_clean {
            epoch == before
        } else {
            epoch > before
        };
        if !follows {
            return Err(format!(
                "leader epoch {epoch} follows {before}, clean: {was_clean}"
            ));
        }
        self.epoch = epoch;
        for reader in &self.readers {
            let told = divergence(reader.epoch, reader.offset);
            let is_right = match told {
                Some(told) => {
                    let (end, agrees) = (
                        told.end.max(self.log_start),
                        reader.agrees.max(self.log_start),
                    );
                    reader.agrees < reader.offset && end == agrees
                }
                None => reader.offset <= reader.agrees.max(self.log_start),
            };
            if !is_right {
                return Err(format!(
                    "{reader:?} is told {told:?}; the log starts at {}",
                    self.log_start
                ));
            }
        }
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
