//! What a broker has to keep: where each log was said to begin, what somebody has asked to delete, and what the
//! settings of a topic permit to go.
//!
//! Owns the rules of retention as a user reads them, told by nothing that the broker computes: sizes are those of
//! all attempts that may be in the log, times the earliest at which a record can have been appended. So it never
//! blames a deletion that is right, and finds one that is clearly wrong.

use std::collections::BTreeMap;

use corelane_protocol::{Offset, TopicId, TopicPartition};

use crate::guarding::{Guarding, Held};

/// A batch may be padded to a block, and its stamp to eight bytes.
const PADDING_MAX: u64 = 4096 + 8;

/// What is to expire has done so after so long.
const SURELY_MS: u64 = 3_000;

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
    pub(crate) fn bounds(&self, from_us: u64, to_us: u64) -> (i64, i64) {
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
    /// It was acknowledged at, µs.
    pub(crate) acked_us: u64,
}

/// Where a log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    /// Up to where that is permitted.
    pub(crate) permitted: Offset,
    /// It is news, and nobody has asked for it.
    pub(crate) has_expired: bool,
    /// It would have waited for a reader, but for a cap.
    pub(crate) was_let_go: bool,
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
    /// The log began no later than it is known to at this time, µs.
    seen_us: u64,
    /// It may have lost its end last, µs.
    cut_us: Option<u64>,
    /// Its size as it was described last, and when that was asked, µs.
    described: Option<(u64, u64)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    pub(crate) wall: Wall,
    pub(crate) guarding: Guarding,
    limits: BTreeMap<TopicId, Limits>,
    /// What topics keep at most in the end, as they were last described.
    most: BTreeMap<TopicId, Limits>,
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

    /// A log may have lost its end.
    pub(crate) fn cut_back(&mut self, now_us: u64, partition: TopicPartition) {
        self.logs.entry(partition).or_default().cut_us = Some(now_us);
    }

    /// Whether a log may have lost its end since a time: what was asked before may be answered late.
    pub(crate) fn was_cut_since(&self, us: u64, partition: TopicPartition) -> bool {
        let log = self.logs.get(&partition);
        log.is_some_and(|log| log.cut_us.is_some_and(|cut_us| cut_us >= us))
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

    /// Where a log begins now, or has begun since it was asked.
    pub(crate) fn log_begins(
        &mut self,
        now_us: u64,
        asked_us: u64,
        partition: TopicPartition,
        log_start: Offset,
    ) -> Begun {
        let limits = self.limits.get(&partition.topic).copied();
        let log = self.logs.entry(partition).or_default();
        let begin = log_start.get();
        let seen_us = log.seen_us;
        log.seen_us = seen_us.max(asked_us);
        let mut begun = Begun {
            permitted: log_start,
            has_expired: false,
            was_let_go: false,
        };
        if begin <= log.log_start {
            return begun;
        }
        begun.has_expired = begin > log.asked && log.asked_all == 0;
        // Nothing is known of a topic whose creation had no answer yet.
        if let Some(limits) = limits.filter(|_| begun.has_expired) {
            let held = self.guarding.held(partition, seen_us);
            let (permitted, was_let_go) = log.permitted(&self.wall, now_us, limits, held, begin);
            begun.permitted = Offset::new(permitted);
            begun.was_let_go = was_let_go;
        }
        log.log_start = begin;
        while let Some(first) = log.batches.first_entry() {
            if first.key() + first.get().times.len() as u64 > begin {
                break;
            }
            let bytes = first.remove().bytes + PADDING_MAX;
            log.bytes = log.bytes.saturating_sub(bytes);
        }
        begun
    }

    /// A topic keeps no more than this for long, unless that is changed.
    pub(crate) fn keeps_at_most(&mut self, topic: TopicId, most: Limits) {
        self.most.insert(topic, most);
    }

    /// The size of a log as it is described, in answer to what was asked at `asked_us`.
    pub(crate) fn described(&mut self, partition: TopicPartition, asked_us: u64, bytes: u64) {
        self.logs.entry(partition).or_default().described = Some((asked_us, bytes));
    }

    /// The longest that any topic keeps records, of those that keep them no longer than `ms_max`, ms.
    pub(crate) fn longest_ms(&self, ms_max: u64) -> Option<u64> {
        let bounds = self.most.values().filter_map(|most| most.ms);
        bounds.filter(|ms| *ms <= ms_max).max()
    }

    /// A log that keeps more than it may, if nothing was appended after `quiet_us` and it has had `spare_ms`: records
    /// for longer, by the broker's clock, or bytes. Only what somebody has asked for since says so.
    pub(crate) fn overdue(&self, quiet_us: u64, spare_ms: u64) -> Option<(TopicPartition, String)> {
        let (_, last_ms) = self.wall.bounds(0, quiet_us);
        self.logs.iter().find_map(|(partition, log)| {
            let most = self.most.get(&partition.topic)?;
            let (asked_us, bytes) = log.described?;
            let (asked_ms, _) = self.wall.bounds(asked_us, asked_us);
            let idle_ms = u64::try_from(asked_ms - last_ms).unwrap_or(0);
            let is_late = most.ms.is_some_and(|ms| idle_ms > ms + spare_ms);
            if is_late && log.log_start < log.end {
                let at = log.log_start;
                return Some((
                    *partition,
                    format!("still begins at {at} after {idle_ms} ms"),
                ));
            }
            let is_settled = asked_us > quiet_us + spare_ms * 1000;
            let is_large = most.bytes.is_some_and(|most| bytes > most);
            (is_settled && is_large).then(|| (*partition, format!("still has {bytes} bytes")))
        })
    }

    /// Whether no log has more than it may keep in the end, apart from topics that keep records longer than `ms_max`.
    pub(crate) fn is_expired(&self, ms_max: u64) -> bool {
        self.logs.iter().all(|(partition, log)| {
            self.most.get(&partition.topic).is_none_or(|most| {
                let bytes = log.described.map_or(0, |(_, bytes)| bytes);
                let is_small = most.bytes.is_none_or(|most| bytes <= most);
                let is_gone = log.log_start >= log.end || most.ms.is_none_or(|ms| ms > ms_max);
                is_small && is_gone
            })
        })
    }

    /// Nobody looks at a topic any more.
    pub(crate) fn forget(&mut self, topic: TopicId) {
        self.most.remove(&topic);
    }

    /// Whether the first records of a log are there only because of the guard: retention by itself keeps what
    /// `limits` say.
    pub(crate) fn is_held(
        &self,
        now_us: u64,
        asked_us: u64,
        partition: TopicPartition,
        limits: Limits,
    ) -> bool {
        let (Some(held), Some(log)) = (
            self.guarding.held(partition, asked_us),
            self.logs.get(&partition),
        ) else {
            return false;
        };
        log.is_held(&self.wall, now_us, held, limits)
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
    /// Up to where the settings permit the log to begin, at most at `begin`; and whether a reader was waited for as
    /// long as that is to be.
    fn permitted(
        &self,
        wall: &Wall,
        now_us: u64,
        limits: Limits,
        held: Option<Held>,
        begin: u64,
    ) -> (u64, bool) {
        let (_, latest_ms) = wall.bounds(0, now_us);
        let mut left = self.bytes;
        let mut was_let_go = false;
        for (base, batch) in self.batches.range(..begin) {
            let size = left;
            left = left.saturating_sub(batch.bytes + PADDING_MAX);
            let end = base + batch.times.len() as u64;
            let is_too_much = limits.bytes.is_some_and(|max| left >= max);
            let (sent_ms, _) = wall.bounds(batch.sent_us, now_us);
            let age_ms = u64::try_from(latest_ms - sent_ms).unwrap_or(0);
            let is_too_old = limits.ms.is_some_and(|max| age_ms > max);
            let is_held = held.is_some_and(|held| end > held.from);
            let is_let_go = held.is_some_and(|held| held.lets_go(limits, age_ms, size));
            let may_expire = (is_too_much || is_too_old) && (!is_held || is_let_go);
            if end > self.asked && !may_expire {
                return (self.asked.max(*base), was_let_go);
            }
            was_let_go |= end > self.asked && is_held;
        }
        (begin, was_let_go)
    }

    /// Whether the first batch would have been deleted if no reader were waited for.
    fn is_held(&self, wall: &Wall, now_us: u64, held: Held, limits: Limits) -> bool {
        let (now_ms, _) = wall.bounds(now_us, now_us);
        let mut bytes = 0;
        let mut last_ms = None;
        for (base, batch) in &self.batches {
            if last_ms.is_none() && base + batch.times.len() as u64 <= held.from {
                return false;
            }
            // Its segment ends after so much at the latest.
            if bytes <= held.segment_bytes {
                last_ms = Some(wall.bounds(batch.sent_us, batch.acked_us).1);
            }
            bytes += batch.bytes;
        }
        let age_ms = last_ms.and_then(|last_ms| u64::try_from(now_ms - last_ms).ok());
        let is_ended = bytes > held.segment_bytes;
        let is_too_old = limits
            .ms
            .zip(age_ms)
            .is_some_and(|(max, age)| age > max + SURELY_MS);
        let is_too_much = limits
            .bytes
            .is_some_and(|max| bytes > max + 2 * held.segment_bytes);
        is_ended && (is_too_old || is_too_much)
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
                acked_us: number as u64 * 1_000_000,
            };
            keeping.acknowledged(partition(), Offset::new(number as u64 * 2), kept);
        }
        keeping
    }

    fn begins(mut keeping: Keeping, now_us: u64, at: u64) -> u64 {
        let begun = keeping.log_begins(now_us, 0, partition(), Offset::new(at));
        begun.permitted.get()
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
    fn what_is_kept_longer_or_larger_than_it_may_be_is_overdue() {
        let mut keeping = keeping(Limits::default());
        let (quiet_us, spare_ms) = (2_000_000, 500);
        let overdue = |keeping: &Keeping| keeping.overdue(quiet_us, spare_ms).is_some();
        keeping.described(partition(), u64::MAX / 2, 100);
        assert!(!overdue(&keeping));
        let most = Limits {
            bytes: Some(100),
            ms: Some(1_000),
        };
        keeping.keeps_at_most(TOPIC, most);
        keeping.described(partition(), 3_500_000, 100);
        assert!(!overdue(&keeping), "nobody has looked since");
        keeping.described(partition(), 3_501_000, 100);
        assert!(overdue(&keeping));
        keeping.log_begins(0, 0, partition(), Offset::new(6));
        keeping.described(partition(), 2_500_000, 101);
        assert!(!overdue(&keeping));
        assert!(!keeping.is_expired(1_000));
        keeping.described(partition(), 2_501_000, 101);
        assert!(overdue(&keeping));
        keeping.described(partition(), 2_502_000, 100);
        assert!(!overdue(&keeping));
        assert!(keeping.is_expired(1_000));
    }

    #[test]
    fn the_first_record_at_a_time_is_found_where_the_log_is() {
        let mut keeping = keeping(Limits::default());
        let find = |keeping: &Keeping, time, before| keeping.first_at(partition(), time, before);
        assert_eq!(find(&keeping, 101, 6), Some((2, 101)));
        assert_eq!(find(&keeping, 101, 2), None);
        assert_eq!(keeping.time_of(partition(), 3), Some(91));
        keeping.log_begins(0, 0, partition(), Offset::new(3));
        assert_eq!(find(&keeping, 90, 6), Some((3, 91)));
        assert_eq!(keeping.time_of(partition(), 1), None);
    }
}
