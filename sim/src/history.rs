//! What the clients of a run saw, given to the history checker as it happens.
//!
//! Owns the numbers of records and readers, and the problems that no history shows: a reply that cannot be
//! read, a topic that is gone, a run that does not end.

use std::collections::BTreeSet;

use corelane_checker::{
    Checker, Digest, Event, ProducerNumber, ReaderNumber, RecordNumber, Rules, Verdict,
};
use corelane_protocol::{Offset, TopicPartition};

use crate::client::{LogAsked, NewRecord};
use crate::compacting::Compacting;
use crate::counters::{Counters, Sometimes};
use crate::grouping::Grouping;
use crate::keeping::Keeping;
use crate::profile::Damage;

/// Problems that are kept. A run ends after the first few.
const PROBLEMS_MAX: usize = 20;

pub(crate) struct History {
    checker: Checker,
    records: u64,
    readers: u32,
    pub(crate) problems: Vec<String>,
    pub(crate) counters: Counters,
    pub(crate) keeping: Keeping,
    pub(crate) grouping: Grouping,
    pub(crate) compacting: Compacting,
    /// Partitions of which it is known that they may be compacted.
    compactable: BTreeSet<TopicPartition>,
    pub(crate) damage: Damage,
    /// A full disk is noticed before it is full.
    pub(crate) has_large_reserve: bool,
    /// A client was told that storage has failed: somebody should restart the broker.
    pub(crate) storage_failed: bool,
}

impl History {
    pub(crate) fn new(damage: Damage) -> Self {
        let rules = Rules {
            keys_stay_in_one_partition: false,
            ..Rules::default()
        };
        Self {
            checker: Checker::new(rules),
            records: 0,
            readers: 0,
            problems: Vec::new(),
            counters: Counters::default(),
            keeping: Keeping::default(),
            grouping: Grouping::new(damage == Damage::Lies),
            compacting: Compacting::default(),
            compactable: BTreeSet::new(),
            damage,
            has_large_reserve: false,
            storage_failed: false,
        }
    }

    /// Something that may not happen, whatever the faults.
    pub(crate) fn problem(&mut self, what: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(what);
        }
    }

    pub(crate) fn reached(&mut self, what: Sometimes) {
        self.counters.reached(what);
    }

    /// A broker has died or ended in order: what it has not taken up by now it never will.
    pub(crate) fn broker_ended(&mut self, now_us: u64) {
        if self.grouping.broker_ended(now_us) {
            self.reached(Sometimes::MovingAtEnd);
        }
    }

    /// Records about to be sent for the first time, in this order; the number of the first.
    pub(crate) fn sent(&mut self, now_us: u64, producer: u32, records: &[NewRecord]) -> u64 {
        let first = self.records;
        for (record, new) in (first..).map(RecordNumber).zip(records) {
            self.checker.observe(Event::Sent {
                record,
                producer: ProducerNumber(producer),
                key: new.key.as_deref().map(Digest::of_key),
                content: new.content(),
            });
            if new.is_tombstone {
                self.checker.observe(Event::Tombstone { record });
                self.compacting.sent(now_us, record);
            }
        }
        self.records += records.len() as u64;
        first
    }

    /// What a producer sends is to be in the log once.
    pub(crate) fn idempotent(&mut self, producer: u32) {
        let producer = ProducerNumber(producer);
        self.checker.observe(Event::Idempotent { producer });
    }

    pub(crate) fn acknowledged(
        &mut self,
        first: u64,
        count: u64,
        partition: TopicPartition,
        base: Offset,
        durable: bool,
    ) {
        for index in 0..count {
            self.checker.observe(Event::Acknowledged {
                record: RecordNumber(first + index),
                partition,
                offset: base.advance(index),
                durable,
            });
        }
    }

    /// Nobody will learn more about these records: refused for certain, or unknown.
    pub(crate) fn given_up(&mut self, first: u64, count: u64, is_certain: bool) {
        for record in first..first + count {
            let record = RecordNumber(record);
            self.checker.observe(if is_certain {
                Event::Failed { record }
            } else {
                Event::Unknown { record }
            });
        }
    }

    /// An attempt to send these records had no definite answer.
    pub(crate) fn unknown(&mut self, first: u64, count: u64) {
        self.given_up(first, count, false);
    }

    pub(crate) fn read_started(&mut self, partition: TopicPartition, from: u64) -> ReaderNumber {
        let reader = ReaderNumber(self.readers);
        self.readers += 1;
        let from = Offset::new(from);
        self.checker.observe(Event::ReadStarted {
            reader,
            partition,
            from,
        });
        reader
    }

    pub(crate) fn fetched(
        &mut self,
        now_us: u64,
        reader: ReaderNumber,
        partition: TopicPartition,
        high_watermark: Offset,
    ) {
        while let Some(record) = self.compacting.expired(now_us, &self.keeping.wall) {
            self.checker.observe(Event::Expirable { record });
        }
        self.checker.observe(Event::Fetched {
            reader,
            partition,
            high_watermark,
        });
    }

    pub(crate) fn polled(
        &mut self,
        reader: ReaderNumber,
        partition: TopicPartition,
        offset: Offset,
        content: Digest,
    ) {
        self.checker.observe(Event::Polled {
            reader,
            partition,
            offset,
            content,
        });
    }

    /// What a reader was served ends without a record.
    pub(crate) fn read_through(
        &mut self,
        reader: ReaderNumber,
        partition: TopicPartition,
        to: Offset,
    ) {
        self.checker.observe(Event::ReadThrough {
            reader,
            partition,
            to,
        });
    }

    /// A topic has this partition.
    pub(crate) fn partition_found(&mut self, topic: &str, partition: TopicPartition) {
        if self.compacting.may_compact(topic) && self.compactable.insert(partition) {
            self.checker.observe(Event::Compactable { partition });
        }
    }

    pub(crate) fn may_compact(&self, partition: TopicPartition) -> bool {
        self.compactable.contains(&partition)
    }

    pub(crate) fn read_ended(&mut self, reader: ReaderNumber, partition: TopicPartition) {
        self.checker.observe(Event::ReadEnded { reader, partition });
    }

    /// Nothing more is promised of a partition.
    pub(crate) fn released(&mut self, partition: TopicPartition) {
        self.checker.observe(Event::Released { partition });
    }

    /// An unclean restart has cut a weak partition back.
    pub(crate) fn cut_back(&mut self, now_us: u64, partition: TopicPartition, to: u64) {
        self.keeping.cut_back(now_us, partition);
        let to = Offset::new(to);
        self.checker.observe(Event::CutBack { partition, to });
    }

    /// The broker said where a log begins, in an answer to something that was asked before.
    pub(crate) fn log_begins(&mut self, now_us: u64, asked: &LogAsked, log_start: Offset) {
        let partition = asked.partition;
        let begun = self
            .keeping
            .log_begins(now_us, asked.us, partition, log_start);
        if begun.has_expired {
            self.reached(Sometimes::RecordsExpired);
        }
        if begun.was_let_go {
            self.reached(Sometimes::GuardLetGo);
        }
        let before = begun.permitted;
        self.checker.observe(Event::Deletable { partition, before });
        self.checker.observe(Event::LogStart {
            partition,
            log_start,
            at_least: asked.log_start,
        });
    }

    /// What a reader was to be handed next is deleted: it goes on where the log begins.
    pub(crate) fn read_moved(
        &mut self,
        reader: ReaderNumber,
        partition: TopicPartition,
        to: Offset,
    ) {
        self.reached(Sometimes::ReaderLeftBehind);
        self.checker.observe(Event::ReadMoved {
            reader,
            partition,
            to,
        });
    }

    /// What was acknowledged from memory is to be there from now on.
    pub(crate) fn settled(&mut self, partition: TopicPartition) {
        self.checker.observe(Event::Settled { partition });
    }

    /// Judges everything.
    pub(crate) fn finish(self) -> (Vec<String>, Counters, Verdict) {
        let mut counters = self.counters;
        let verdict = self.checker.finish();
        counters.add(Sometimes::Duplicated, verdict.counts.duplicates);
        counters.add(Sometimes::ReplacedMissed, verdict.counts.compacted);
        counters.add(Sometimes::TombstoneGone, verdict.counts.tombstones_gone);
        (self.problems, counters, verdict)
    }
}
