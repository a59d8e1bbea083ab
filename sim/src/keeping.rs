//! What a broker has to keep: where each log was said to begin, what somebody has asked to delete, and what the
//! settings of a topic permit to go.
//!
//! Owns the rules of retention as a user reads them, told by nothing that the broker computes: sizes are those of
//! all attempts that may be in the log, times the earliest at which a record can have been appended. So it never
//! blames a deletion that is right, and finds one that is clearly wrong.

use std::collections::BTreeMap;

use corelane_protocol::{Offset, TopicId, TopicPartition};

/// A batch may be padded to a block, and its stamp to eight bytes.
const PADDING_MAX: u64 = 4096 + 8;

/// The wall clock of the broker through all its jumps.
#[derive(Debug, Default)]
pub(crate) struct Wall {
    /// From when on which offset holds, µs and ms.
    jumps: Vec<(u64, i64)>,
}

impl Wall {
    pub(crate) fn jumped(&mut self, now_us: u64, offset_ms: i64) {
        self.jumps.push((now_us, offset_ms));
    }

    /// The least and the greatest that the clock has shown between two moments, ms after the beginning.
    fn bounds(&self, from_us: u64, to_us: u64) -> (i64, i64) {
        let begins = std::iter::once((0, 0)).chain(self.jumps.iter().copied());
        let ends = self.jumps.iter().map(|(us, _)| *us);
        let ends = ends.chain(std::iter::once(u64::MAX));
        let (mut least, mut greatest) = (i64::MAX, i64::MIN);
        for ((begin, offset_ms), end) in begins.zip(ends) {
            let (begin, end) = (begin.max(from_us), end.min(to_us));
            if begin <= end {
                least = least.min((begin / 1000) as i64 + offset_ms);
                greatest = greatest.max((end / 1000) as i64 + offset_ms);
            }
        }
        (least, greatest)
    }
}

/// The least that was ever asked to be kept of each partition of a topic; none for everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) bytes: Option<u64>,
    pub(crate) ms: Option<u64>,
}

impl Limits {
    fn least(self, other: Self) -> Self {
        let least = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
        Self {
            bytes: least(self.bytes, other.bytes),
            ms: least(self.ms, other.ms),
        }
    }
}

/// A batch that was acknowledged as durable.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The time of each record, ms.
    pub(crate) times: Vec<i64>,
    pub(crate) bytes: u64,
    /// It was sent for the first time at, µs.
    pub(crate) sent_us: u64,
}

#[derive(Debug, Default)]
struct Log {
    /// The furthest that was said.
    log_start: u64,
    /// Somebody has asked to delete what is below.
    asked: u64,
    /// Somebody has asked to delete everything, and did not learn how far that went.
    asked_all: u64,
    /// By the offset of the first record; none that is wholly below the log start.
    batches: BTreeMap<u64, Kept>,
    /// Bytes of all attempts that may be in the log, but for batches that have been dropped from `batches`.
    bytes: u64,
    /// The offset after the last record that was acknowledged as durable.
    end: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    pub(crate) wall: Wall,
    limits: BTreeMap<TopicId, Limits>,
    logs: BTreeMap<TopicPartition, Log>,
}

impl Keeping {
    /// From now on a topic may have these limits.
    pub(crate) fn limit(&mut self, topic: TopicId, limits: Limits) {
        let entry = self.limits.entry(topic).or_insert(limits);
        *entry = entry.least(limits);
    }

    /// A batch of so many bytes may be in a log from now on, or once more.
    pub(crate) fn attempted(&mut self, partition: TopicPartition, bytes: u64) {
        self.logs.entry(partition).or_default().bytes += bytes + PADDING_MAX;
    }

    /// An attempt was refused for certain.
    pub(crate) fn refused(&mut self, partition: TopicPartition, bytes: u64) {
        let log = self.logs.entry(partition).or_default();
        log.bytes = log.bytes.saturating_sub(bytes + PADDING_MAX);
    }

    pub(crate) fn acknowledged(&mut self, partition: TopicPartition, base: Offset, batch: Kept) {
        let log = self.logs.entry(partition).or_default();
        let end = base.get() + batch.times.len() as u64;
        log.end = log.end.max(end);
        if end > log.log_start {
            log.batches.insert(base.get(), batch);
        } else {
            log.bytes = log.bytes.saturating_sub(batch.bytes + PADDING_MAX);
        }
    }

    /// The furthest log start that was said.
    pub(crate) fn log_start(&self, partition: TopicPartition) -> Offset {
        let log = self.logs.get(&partition);
        Offset::new(log.map_or(0, |log| log.log_start))
    }

    /// The offset after the last record that was acknowledged as durable.
    pub(crate) fn end(&self, partition: TopicPartition) -> u64 {
        self.logs.get(&partition).map_or(0, |log| log.end)
    }

    /// Somebody asks to delete what is below an offset, or everything.
    pub(crate) fn deletion_asked(&mut self, partition: TopicPartition, before: Option<u64>) {
        let log = self.logs.entry(partition).or_default();
        match before {
            Some(before) => log.asked = log.asked.max(before),
            None => log.asked_all += 1,
        }
    }

    /// A deletion has gone so far.
    pub(crate) fn deletion_ended(
        &mut self,
        partition: TopicPartition,
        before: Option<u64>,
        log_start: u64,
    ) {
        let log = self.logs.entry(partition).or_default();
        if before.is_none() {
            log.asked_all -= 1;
            log.asked = log.asked.max(log_start);
        }
    }

    /// Where a log begins now: up to where that is permitted, and whether it is news that nobody has asked for.
    pub(crate) fn log_begins(
        &mut self,
        now_us: u64,
        partition: TopicPartition,
        log_start: Offset,
    ) -> (Offset, bool) {
        let limits = self.limits.get(&partition.topic).copied();
        let log = self.logs.entry(partition).or_default();
        let begin = log_start.get();
        if begin <= log.log_start {
            return (log_start, false);
        }
        let has_expired = begin > log.asked && log.asked_all == 0;
        // Nothing is known of a topic whose creation had no answer yet.
        let permitted = match limits {
            Some(limits) if has_expired => log.permitted(&self.wall, now_us, limits, begin),
            _ => begin,
        };
        log.log_start = begin;
        while let Some(first) = log.batches.first_entry() {
            if first.key() + first.get().times.len() as u64 > begin {
                break;
            }
            let bytes = first.remove().bytes + PADDING_MAX;
            log.bytes = log.bytes.saturating_sub(bytes);
        }
        (Offset::new(permitted), has_expired)
    }

    /// A record at or after a time and before an offset, if one that is not below the log start was acknowledged.
    pub(crate) fn first_at(
        &self,
        partition: TopicPartition,
        time: i64,
        before: u64,
    ) -> Option<(u64, i64)> {
        let log = self.logs.get(&partition)?;
        let batches = log.batches.range(..before);
        let mut records = batches
            .flat_map(|(base, batch)| (*base..).zip(batch.times.iter().copied()))
            .filter(|(offset, _)| (log.log_start..before).contains(offset));
        records.find(|(_, found)| *found >= time)
    }

    /// The time of a record, if it was acknowledged and is not below the log start.
    pub(crate) fn time_of(&self, partition: TopicPartition, offset: u64) -> Option<i64> {
        let log = self.logs.get(&partition)?;
        let (base, batch) = log.batches.range(..=offset).next_back()?;
        batch.times.get((offset - base) as usize).copied()
    }
}

impl Log {
    /// Up to where the settings permit the log to begin, at most at `begin`.
    fn permitted(&self, wall: &Wall, now_us: u64, limits: Limits, begin: u64) -> u64 {
        let (_, latest_ms) = wall.bounds(0, now_us);
        let mut left = self.bytes;
        for (base, batch) in self.batches.range(..begin) {
            left = left.saturating_sub(batch.bytes + PADDING_MAX);
            let end = base + batch.times.len() as u64;
            let is_too_much = limits.bytes.is_some_and(|max| left >= max);
            let (sent_ms, _) = wall.bounds(batch.sent_us, now_us);
            let age_ms = latest_ms - sent_ms;
            let is_too_old = limits
                .ms
                .is_some_and(|max| u64::try_from(age_ms).is_ok_and(|age| age > max));
            if end > self.asked && !is_too_much && !is_too_old {
                return self.asked.max(*base);
            }
        }
        begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_protocol::PartitionIndex;

    const TOPIC: TopicId = TopicId::from_bytes([7; 16]);

    fn partition() -> TopicPartition {
        TopicPartition::new(TOPIC, PartitionIndex::new(0))
    }

    /// Three batches of two records, sent a second after another, all of them 10,000 bytes on disk.
    fn keeping(limits: Limits) -> Keeping {
        let mut keeping = Keeping::default();
        keeping.limit(TOPIC, limits);
        for number in 0..3 {
            let bytes = 10_000 - PADDING_MAX;
            keeping.attempted(partition(), bytes);
            let kept = Kept {
                times: vec![100 + number, 90 + number],
                bytes,
                sent_us: number as u64 * 1_000_000,
            };
            keeping.acknowledged(partition(), Offset::new(number as u64 * 2), kept);
        }
        keeping
    }

    fn begins(mut keeping: Keeping, now_us: u64, at: u64) -> u64 {
        let (permitted, _) = keeping.log_begins(now_us, partition(), Offset::new(at));
        permitted.get()
    }

    #[test]
    fn only_what_was_asked_for_may_go_without_limits() {
        assert_eq!(begins(keeping(Limits::default()), u64::MAX / 2, 6), 0);
        let mut asked = keeping(Limits::default());
        asked.deletion_asked(partition(), Some(3));
        assert_eq!(begins(asked, 0, 6), 3);
        let mut all = keeping(Limits::default());
        all.deletion_asked(partition(), None);
        assert_eq!(begins(all, 0, 6), 6);
    }

    #[test]
    fn bytes_have_to_be_left() {
        let limits = |bytes| Limits {
            bytes: Some(bytes),
            ms: None,
        };
        assert_eq!(begins(keeping(limits(20_000)), 0, 2), 2);
        assert_eq!(begins(keeping(limits(20_001)), 0, 2), 0);
        assert_eq!(begins(keeping(limits(10_000)), 0, 6), 4);
    }

    #[test]
    fn what_is_too_old_may_go_by_a_clock_that_jumps() {
        let limits = Limits {
            bytes: None,
            ms: Some(1_500),
        };
        assert_eq!(begins(keeping(limits), 2_600_000, 6), 4);
        let mut ahead = keeping(limits);
        ahead.wall.jumped(2_100_000, 60_000);
        assert_eq!(begins(ahead, 2_200_000, 6), 6);
        // It had been ahead before, so that what came later may look young.
        let mut back = keeping(limits);
        back.wall.jumped(2_100_000, -60_000);
        assert_eq!(begins(back, 2_200_000, 6), 6);
    }

    #[test]
    fn the_first_record_at_a_time_is_found_where_the_log_is() {
        let mut keeping = keeping(Limits::default());
        let find = |keeping: &Keeping, time, before| keeping.first_at(partition(), time, before);
        assert_eq!(find(&keeping, 101, 6), Some((2, 101)));
        assert_eq!(find(&keeping, 101, 2), None);
        assert_eq!(keeping.time_of(partition(), 3), Some(91));
        keeping.log_begins(0, partition(), Offset::new(3));
        assert_eq!(find(&keeping, 90, 6), Some((3, 91)));
        assert_eq!(keeping.time_of(partition(), 1), None);
    }
}
