//! The retention guard as a user reads of it: which readers a topic names, how far each may have come, and what it
//! has missed.
//!
//! Owns what is certain of that. Settings and positions count from when they are asked for, and until something
//! later is answered; after a crash a position may be any that was ever reported. Only what is so at all times
//! in question is held against the broker.

use std::collections::BTreeMap;

use corelane_broker::config::LogDefaults;
use corelane_protocol::response::DescribedReader;
use corelane_protocol::{Offset, TopicId, TopicPartition};

use crate::keeping::Limits;
use crate::possible::Possible;

/// From deciding that records expire to deleting them, on a disk that is slow.
const DELETION_US: u64 = 8_000_000;

/// While a log start is being recorded, what its readers miss by it is counted already, and a report comes too late.
const MOVE_US: u64 = 1_000_000;
/// A broker takes the disk for full so long after it has room again.
const FULL_US: u64 = 8_000_000;

const MODE: &str = "retention.guard";
const READERS: &str = "retention.guard.readers";
const MS_MAX: &str = "retention.guard.max.ms";
const SEGMENT_BYTES: &str = "segment.bytes";
const BYTES_MAX: &str = "retention.guard.max.bytes";

/// What the settings of one topic may be.
#[derive(Debug)]
struct Terms {
    waits: Possible<bool>,
    readers: Possible<Vec<String>>,
    /// Somebody has asked for other readers: one that is named anew begins at 0.
    are_renamed: bool,
    ms_max: Possible<u64>,
    bytes_max: Possible<u64>,
    /// The longest that a segment may become.
    segment_bytes: u64,
}

/// A reader of one partition.
#[derive(Debug)]
struct Reader {
    positions: Possible<u64>,
    counted: Counted,
}

/// What was described of what a reader has missed.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    asked_us: u64,
    log_start: u64,
    expired: u64,
}

/// What waits for readers for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Every record from this offset on.
    pub(crate) from: u64,
    /// As long as none is older than this beyond its time.
    pub(crate) ms_max: u64,
    /// As long as the log is not larger than this beyond its size.
    pub(crate) bytes_max: u64,
    /// What is deleted at once at most.
    pub(crate) segment_bytes: u64,
}

/// See the module. Times in µs.
#[derive(Debug, Default)]
pub(crate) struct Guarding {
    topics: BTreeMap<TopicId, Terms>,
    readers: BTreeMap<(TopicPartition, String), Reader>,
    /// When the disk was full, and nobody was waited for.
    full: Vec<(u64, u64)>,
}

impl Held {
    /// Whether records of an age go all the same, from a log of a size of which a segment may be deleted in part.
    pub(crate) fn lets_go(self, limits: Limits, age_ms: u64, size: u64) -> bool {
        let size = size + self.segment_bytes;
        let is_late = limits
            .ms
            .is_some_and(|max| age_ms > max.saturating_add(self.ms_max));
        let is_large = limits
            .bytes
            .is_some_and(|max| size > max.saturating_add(self.bytes_max));
        is_late || is_large
    }
}

impl Terms {
    fn new(broker: &LogDefaults) -> Self {
        Self {
            waits: Possible::new(false),
            readers: Possible::new(Vec::new()),
            are_renamed: false,
            ms_max: Possible::new(broker.retention_guard_max_ms),
            bytes_max: Possible::new(broker.retention_guard_max_bytes),
            segment_bytes: broker.segment_bytes,
        }
    }

    /// Whether a reader is named at all times since `us`.
    fn names(&self, us: u64, reader: &str) -> bool {
        let mut lists = self.readers.since(us);
        lists.all(|list| list.iter().any(|name| name == reader))
    }
}

impl Reader {
    fn new() -> Self {
        Self {
            positions: Possible::new(0),
            counted: Counted::default(),
        }
    }

    fn furthest(&self, since_us: u64) -> u64 {
        self.positions.since(since_us).copied().max().unwrap_or(0)
    }
}

impl Guarding {
    /// A topic was made with these settings, which nobody has changed.
    pub(crate) fn made(
        &mut self,
        topic: TopicId,
        settings: &[(String, String)],
        broker: &LogDefaults,
    ) {
        let mut terms = Terms::new(broker);
        let own = settings.iter().find(|(key, _)| key == SEGMENT_BYTES);
        if let Some(bytes) = own.and_then(|(_, value)| value.parse().ok()) {
            terms.segment_bytes = bytes;
        }
        self.topics.insert(topic, terms);
        for (key, value) in settings {
            self.change_asked(0, topic, (key.as_str(), value.as_str()), broker);
        }
        if let Some(terms) = self.topics.get_mut(&topic) {
            terms.waits.settle();
            terms.readers.settle();
            terms.ms_max.settle();
            terms.bytes_max.settle();
        }
    }

    /// A setting may be another one from now on; an empty value is the broker's.
    pub(crate) fn change_asked(
        &mut self,
        now_us: u64,
        topic: TopicId,
        (key, value): (&str, &str),
        broker: &LogDefaults,
    ) {
        let Some(terms) = self.topics.get_mut(&topic) else {
            return;
        };
        let number = |default| value.parse().unwrap_or(default);
        match key {
            MODE => terms.waits.asked(now_us, value == "wait"),
            READERS => {
                let names = value.split(',').filter(|name| !name.is_empty());
                let names = names.map(str::to_owned).collect();
                terms.readers.asked(now_us, names);
                terms.are_renamed = now_us > 0;
            }
            MS_MAX => terms
                .ms_max
                .asked(now_us, number(broker.retention_guard_max_ms)),
            BYTES_MAX => terms
                .bytes_max
                .asked(now_us, number(broker.retention_guard_max_bytes)),
            SEGMENT_BYTES => {
                terms.segment_bytes = terms.segment_bytes.max(number(broker.segment_bytes));
            }
            _ => {}
        }
    }

    /// The setting that was to be changed last is.
    pub(crate) fn changed(&mut self, now_us: u64, topic: TopicId, key: &str) {
        let Some(terms) = self.topics.get_mut(&topic) else {
            return;
        };
        match key {
            MODE => terms.waits.answered(now_us),
            READERS => terms.readers.answered(now_us),
            MS_MAX => terms.ms_max.answered(now_us),
            BYTES_MAX => terms.bytes_max.answered(now_us),
            _ => {}
        }
    }

    fn reader(&mut self, partition: TopicPartition, reader: &str) -> &mut Reader {
        self.readers
            .entry((partition, reader.to_owned()))
            .or_insert_with(Reader::new)
    }

    /// A reader says how far it is.
    pub(crate) fn report_asked(
        &mut self,
        now_us: u64,
        partition: TopicPartition,
        reader: &str,
        position: u64,
    ) {
        let reader = self.reader(partition, reader);
        reader.positions.asked(now_us, position);
    }

    /// The broker has noted it.
    pub(crate) fn reported(&mut self, now_us: u64, partition: TopicPartition, reader: &str) {
        self.reader(partition, reader).positions.answered(now_us);
    }

    /// The broker has not noted it, for certain.
    pub(crate) fn report_refused(&mut self, partition: TopicPartition, reader: &str) {
        self.reader(partition, reader).positions.refused();
    }

    /// Whether a topic names a reader at all times since `us`.
    pub(crate) fn names(&self, us: u64, topic: TopicId, reader: &str) -> bool {
        let terms = self.topics.get(&topic);
        terms.is_some_and(|terms| terms.names(us, reader))
    }

    /// What was only in memory is gone.
    pub(crate) fn crashed(&mut self, now_us: u64) {
        for reader in self.readers.values_mut() {
            reader.positions.forgotten(now_us);
        }
    }

    /// The disk is full.
    pub(crate) fn filled(&mut self, now_us: u64) {
        self.full.push((now_us, u64::MAX));
    }

    /// The disk has room.
    pub(crate) fn emptied(&mut self, now_us: u64) {
        for (_, until) in &mut self.full {
            *until = (*until).min(now_us + FULL_US);
        }
    }

    /// Whether the disk may have been taken for full at any time since `us`.
    pub(crate) fn may_be_full(&self, us: u64) -> bool {
        self.full.iter().any(|(_, until)| *until >= us)
    }

    /// What the guard must have kept at all times since `seen_us`.
    pub(crate) fn held(&self, partition: TopicPartition, seen_us: u64) -> Option<Held> {
        let terms = self.topics.get(&partition.topic)?;
        let since_us = seen_us.saturating_sub(DELETION_US);
        if self.may_be_full(since_us) || terms.waits.since(since_us).any(|waits| !waits) {
            return None;
        }
        let named = terms.readers.since(since_us).next()?.iter();
        let certain = named.filter(|name| terms.names(since_us, name));
        let position = |name: &String| {
            let reader = self.readers.get(&(partition, name.clone()));
            reader.map_or(0, |reader| reader.furthest(since_us))
        };
        Some(Held {
            from: certain.map(position).min()?,
            ms_max: terms.ms_max.since(since_us).copied().min()?,
            bytes_max: terms.bytes_max.since(since_us).copied().min()?,
            segment_bytes: terms.segment_bytes,
        })
    }

    /// Holds what is described of a partition's readers against what is known since it was asked for. A log that may
    /// have been cut back takes positions with it. Returns how many records were counted as missed since the last
    /// description.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn described(
        &mut self,
        asked_us: u64,
        (partition, may_be_cut): (TopicPartition, bool),
        log_start: Offset,
        readers: &[DescribedReader],
    ) -> Result<u64, String> {
        let Some(terms) = self.topics.get(&partition.topic) else {
            return Ok(0);
        };
        let is_told = |list: &Vec<String>| {
            let mut names = list.iter();
            list.len() == readers.len() && names.all(|name| readers.iter().any(|r| r.name == *name))
        };
        if !terms.readers.since(asked_us).any(is_told) {
            let known: Vec<_> = terms.readers.since(asked_us).collect();
            return Err(format!("named are {known:?}, described {readers:?}"));
        }
        let mut missed = 0;
        for told in readers {
            let key = (partition, told.name.clone());
            let reader = self.readers.entry(key).or_insert_with(Reader::new);
            let position = told.position.get();
            let may_be = |at: &u64| *at == position || (may_be_cut && *at > position);
            let may_be_new = terms.are_renamed && position == 0;
            if !may_be_new && !reader.positions.since(asked_us).any(may_be) {
                let known: Vec<_> = reader.positions.since(asked_us).collect();
                return Err(format!("reported were {known:?}, described is {told:?}"));
            }
            let last = reader.counted;
            reader.counted = Counted {
                asked_us,
                log_start: log_start.get(),
                expired: told.expired_unread,
            };
            if !terms.names(last.asked_us, &told.name) {
                continue;
            }
            let positions = reader.positions.since(last.asked_us);
            let lost = |position: u64| log_start.get().saturating_sub(position.max(last.log_start));
            let least = lost(positions.copied().max().unwrap_or(0));
            let since_us = last.asked_us.saturating_sub(MOVE_US);
            let nearest = reader.positions.since(since_us).copied().min().unwrap_or(0);
            let most = lost(if may_be_cut || terms.are_renamed {
                0
            } else {
                nearest
            });
            let more = told.expired_unread.checked_sub(last.expired);
            match more.filter(|more| (least..=most).contains(more)) {
                Some(more) => missed += more,
                None => {
                    return Err(format!(
                        "{told:?} of a log that begins at {log_start}: {last:?} was described before, so that it has \
                         missed {least} to {most} more"
                    ));
                }
            }
        }
        Ok(missed)
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

    fn guarding() -> Guarding {
        let settings = [(MODE, "wait"), (READERS, "a,b"), (MS_MAX, "500")];
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mut guarding = Guarding::default();
        guarding.made(TOPIC, &settings, &LogDefaults::default());
        guarding
    }

    fn report(guarding: &mut Guarding, now_us: u64, reader: &str, position: u64) {
        guarding.report_asked(now_us, partition(), reader, position);
        guarding.reported(now_us + 1, partition(), reader);
    }

    fn from(guarding: &Guarding, us: u64) -> Option<u64> {
        let held = guarding.held(partition(), us + DELETION_US);
        held.map(|held| held.from)
    }

    fn told(name: &str, position: u64, expired_unread: u64) -> DescribedReader {
        DescribedReader {
            name: name.to_owned(),
            position: Offset::new(position),
            expired_unread,
        }
    }

    #[test]
    fn the_slowest_reader_holds_as_long_as_nobody_may_have_changed_that() {
        let mut guarding = guarding();
        assert_eq!(from(&guarding, 0), Some(0));
        report(&mut guarding, 10, "a", 100);
        report(&mut guarding, 20, "b", 50);
        assert_eq!(from(&guarding, 30), Some(50));
        report(&mut guarding, 40, "b", 30);
        assert_eq!(
            (from(&guarding, 41), from(&guarding, 42)),
            (Some(50), Some(30))
        );
        guarding.crashed(60);
        assert_eq!(from(&guarding, 70), Some(50));
        guarding.filled(80);
        assert_eq!(from(&guarding, 90), None);
        guarding.emptied(100);
        assert_eq!(from(&guarding, 101 + FULL_US), Some(50));
        guarding.change_asked(200 + FULL_US, TOPIC, (MODE, "off"), &LogDefaults::default());
        assert_eq!(from(&guarding, 201 + FULL_US), None);
    }

    #[test]
    fn what_is_missed_is_counted_once() {
        let mut guarding = guarding();
        report(&mut guarding, 10, "a", 100);
        let mut described = |us, start, a: DescribedReader, b: DescribedReader| {
            let log = (partition(), false);
            guarding.described(2 * MOVE_US + us, log, Offset::new(start), &[a, b])
        };
        let b = |expired| told("b", 0, expired);
        assert_eq!(described(20, 50, told("a", 100, 0), b(50)), Ok(50));
        assert_eq!(described(30, 120, told("a", 100, 20), b(120)), Ok(90));
        for wrong in [19, 21, 120] {
            let told = told("a", 100, wrong);
            assert!(described(40, 120, told, b(120)).is_err(), "{wrong}");
        }
        let there = told("a", 101, 20);
        assert!(described(50, 120, there, b(120)).is_err());
    }

    /// A log start was on its way to 50 when the reader said that it has come to 100.
    #[test]
    fn a_report_may_come_too_late_for_what_is_being_deleted() {
        for (reported_us, may_count) in [(2 * MOVE_US, true), (10, false)] {
            let mut guarding = guarding();
            report(&mut guarding, reported_us, "a", 100);
            let mut described = |us, start, missed| {
                let log = (partition(), false);
                let readers = [told("a", 100, missed), told("b", 0, start)];
                guarding.described(us, log, Offset::new(start), &readers)
            };
            assert_eq!(described(2 * MOVE_US + 10, 0, 0), Ok(0));
            let counted = described(2 * MOVE_US + 20, 50, 50);
            assert_eq!(counted.is_ok(), may_count, "{counted:?}");
        }
    }
}
