//! The checker itself: takes events one by one, reports what can be judged at once, and judges
//! order and completeness at the end. Time is near-linear in the number of events: each event
//! costs a look-up, each complete read one walk over its partition.

mod finish;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasherDefault;
use std::ops::Range;

use corelane_protocol::ids::{LeaderEpoch, Offset, TopicPartition};

use crate::compaction::{Compaction, Fate};
use crate::digest::{Digest, DigestHasher};
use crate::event::{Event, OwnerNumber, ProducerNumber, ReaderNumber, RecordNumber};
use crate::numbered::Numbered;
use crate::partition::{Moment, PartitionHistory, Receipt, Sight};
use crate::reader::Read;
use crate::verdict::Verdict;
use crate::violation::Violation;

/// What a workload may expect beyond the promises that always hold.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Every record is in the log at most once. Set where all producers are idempotent; without them, a
    /// retry whose first attempt had arrived leaves a second copy, which is counted.
    pub no_duplicates: bool,
    /// All records of a key are in one partition. Unset for workloads that choose the partition.
    pub keys_stay_in_one_partition: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            no_duplicates: false,
            keys_stay_in_one_partition: true,
        }
    }
}

/// Judges one history.
#[derive(Debug)]
pub struct Checker {
    rules: Rules,
    now: Moment,
    records: Numbered<RecordHistory>,
    senders: Senders,
    idempotent: BTreeSet<ProducerNumber>,
    partitions: BTreeMap<TopicPartition, PartitionHistory>,
    reads: BTreeMap<(ReaderNumber, TopicPartition), Read>,
    verdict: Verdict,
}

#[derive(Debug)]
struct RecordHistory {
    sequence: u64,
    producer: ProducerNumber,
    key: Option<Digest>,
    content: Digest,
    receipt: Option<(TopicPartition, Offset)>,
    /// Where it was found first, while partitions are walked by offset.
    found: Option<(TopicPartition, Offset)>,
    failed: bool,
    /// An attempt to send it had no answer, so that a receipt may name a second copy.
    is_uncertain: bool,
    /// It has no value.
    is_tombstone: bool,
    /// From when on it may be gone by itself where the log is compacted.
    expires: Option<Moment>,
}

/// Who sent certain bytes. When several records have the same bytes, a copy in the log cannot be
/// told to be one or the other, so such records are judged by their receipts only.
#[derive(Clone, Copy, Debug)]
enum Sender {
    One(RecordNumber),
    Several,
}

/// By the bytes that were sent.
#[expect(
    clippy::disallowed_types,
    reason = "it is only looked up in, so that its order does not matter"
)]
type Senders = std::collections::HashMap<Digest, Sender, BuildHasherDefault<DigestHasher>>;

impl RecordHistory {
    fn fate(&self) -> Fate {
        Fate {
            key: self.key,
            sent: Moment(self.sequence),
            is_tombstone: self.is_tombstone,
            expires: self.expires,
        }
    }
}

/// The record of these bytes, if there is just one.
fn record_of(senders: &Senders, content: Digest) -> Option<RecordNumber> {
    match senders.get(&content) {
        Some(Sender::One(record)) => Some(*record),
        Some(Sender::Several) | None => None,
    }
}

impl Checker {
    /// An empty history.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            now: Moment(0),
            records: Numbered::default(),
            senders: Senders::default(),
            idempotent: BTreeSet::new(),
            partitions: BTreeMap::new(),
            reads: BTreeMap::new(),
            verdict: Verdict::default(),
        }
    }

    /// Takes the next event.
    pub fn observe(&mut self, event: Event) {
        self.now.0 += 1;
        match event {
            Event::Sent {
                record,
                producer,
                key,
                content,
            } => {
                self.sent(record, producer, key, content);
            }
            Event::Idempotent { producer } => {
                self.idempotent.insert(producer);
            }
            Event::Acknowledged {
                record,
                partition,
                offset,
                durable,
            } => {
                self.acknowledged(record, partition, offset, durable);
            }
            Event::Failed { record } => self.failed(record),
            Event::Unknown { record } => self.unknown(record),
            Event::ReadStarted {
                reader,
                partition,
                from,
            } => {
                let read = Read::new(reader, partition, self.now, from);
                if self.reads.insert((reader, partition), read).is_some() {
                    self.bad_history(format!("reader {} starts twice in {partition}", reader.0));
                }
            }
            Event::Polled {
                reader,
                partition,
                offset,
                content,
            } => {
                self.polled(reader, partition, offset, content);
            }
            Event::ReadEnded { reader, partition } => self.read_ended(reader, partition),
            Event::Fetched {
                reader,
                partition,
                high_watermark,
            } => match self.reads.get_mut(&(reader, partition)) {
                Some(read) => read.answered(high_watermark),
                None => {
                    self.bad_history(format!("reader {} polls {partition} unstarted", reader.0))
                }
            },
            Event::Owned {
                partition,
                epoch,
                owner,
            } => self.owned(partition, epoch, owner),
            Event::Released { partition } => {
                self.partitions.entry(partition).or_default().is_released = true;
            }
            Event::CutBack { partition, to } => self.cut_back(partition, to),
            Event::LogStart {
                partition,
                log_start,
                at_least,
            } => self.log_start(partition, log_start, at_least),
            Event::Deletable { partition, before } => {
                let history = self.partitions.entry(partition).or_default();
                history.deletable = history.deletable.max(before);
            }
            Event::ReadMoved {
                reader,
                partition,
                to,
            } => self.read_moved(reader, partition, to),
            Event::Settled { partition } => self.settled(partition),
            Event::Tombstone { record } => match self.records.get_mut(record) {
                Some(history) => history.is_tombstone = true,
                None => self.bad_history(format!("record {} has no value, unsent", record.0)),
            },
            Event::Expirable { record } => match self.records.get_mut(record) {
                Some(history) if history.is_tombstone => {
                    history.expires.get_or_insert(self.now);
                }
                _ => self.bad_history(format!("record {} expires and has a value", record.0)),
            },
            Event::Compactable { partition } => {
                let history = self.partitions.entry(partition).or_default();
                history.compaction.get_or_insert_with(Compaction::default);
            }
            Event::ReadThrough {
                reader,
                partition,
                to,
            } => self.read_through(reader, partition, to),
        }
    }

    /// Judges what needs the whole history and gives the verdict.
    pub fn finish(mut self) -> Verdict {
        self.judge_reads_by_offset();
        self.judge_receipts_by_offset();
        self.judge_compaction();
        self.verdict
    }

    fn sent(
        &mut self,
        record: RecordNumber,
        producer: ProducerNumber,
        key: Option<Digest>,
        content: Digest,
    ) {
        self.verdict.counts.sent += 1;
        let sequence = self.now.0;
        let history = RecordHistory {
            sequence,
            producer,
            key,
            content,
            receipt: None,
            found: None,
            failed: false,
            is_uncertain: false,
            is_tombstone: false,
            expires: None,
        };
        if self.records.insert(record, history).is_some() {
            self.bad_history(format!("record {} is sent twice", record.0));
        }
        self.senders
            .entry(content)
            .and_modify(|sender| *sender = Sender::Several)
            .or_insert(Sender::One(record));
    }

    fn acknowledged(
        &mut self,
        record: RecordNumber,
        partition: TopicPartition,
        offset: Offset,
        durable: bool,
    ) {
        let Some(history) = self.records.get_mut(record) else {
            return self.bad_history(format!(
                "record {} is acknowledged but never sent",
                record.0
            ));
        };
        if history.failed {
            return self.bad_history(format!("record {} is acknowledged and refused", record.0));
        }
        match history.receipt.replace((partition, offset)) {
            Some(first) if first != (partition, offset) => {
                let second = (partition, offset);
                self.verdict.add(Violation::AcknowledgedTwice {
                    record,
                    first,
                    second,
                });
                return;
            }
            Some(_) => return,
            None if durable => self.verdict.counts.acknowledged_durable += 1,
            None => self.verdict.counts.acknowledged_memory += 1,
        }
        let receipt = Receipt {
            record,
            content: history.content,
            at: self.now,
            verified: false,
        };
        // A receipt from memory may be taken back by a crash, and its offset given to another.
        if !durable {
            let history = self.partitions.entry(partition).or_default();
            history.from_memory.insert(offset, receipt);
            return;
        }
        self.promised(partition, offset, receipt);
    }

    /// A record has to be there from now on.
    fn promised(&mut self, partition: TopicPartition, offset: Offset, receipt: Receipt) {
        let Receipt {
            record, content, ..
        } = receipt;
        let partition_history = self.partitions.entry(partition).or_default();
        let log_start = partition_history.log_start;
        if offset < log_start && offset >= partition_history.deletable {
            self.verdict.add(Violation::DeletedTooMuch {
                record,
                partition,
                offset,
                log_start,
            });
        }
        if let Some(earlier) = partition_history.receipts.insert(offset, receipt) {
            let (first, second) = (earlier.record, record);
            self.verdict.add(Violation::OffsetIssuedTwice {
                partition,
                offset,
                first,
                second,
            });
        }
        if partition_history
            .sights
            .get(&offset)
            .is_some_and(|sight| sight.content != content)
        {
            self.verdict.add(Violation::AcknowledgedContentDiffers {
                record,
                partition,
                offset,
            });
        }
    }

    fn failed(&mut self, record: RecordNumber) {
        match self.records.get_mut(record) {
            Some(history) if history.receipt.is_none() => {
                history.failed = true;
                self.verdict.counts.failed += 1;
            }
            Some(_) => self.bad_history(format!("record {} is refused after a receipt", record.0)),
            None => self.bad_history(format!("record {} is refused but never sent", record.0)),
        }
    }

    fn unknown(&mut self, record: RecordNumber) {
        let Some(history) = self.records.get_mut(record) else {
            return self.bad_history(format!("record {} is unknown but never sent", record.0));
        };
        if !std::mem::replace(&mut history.is_uncertain, true) {
            self.verdict.counts.unknown += 1;
        }
    }

    fn polled(
        &mut self,
        reader: ReaderNumber,
        partition: TopicPartition,
        offset: Offset,
        content: Digest,
    ) {
        self.verdict.counts.polled += 1;
        let Some(read) = self.reads.get_mut(&(reader, partition)) else {
            return self.bad_history(format!("reader {} polls {partition} unstarted", reader.0));
        };
        let mut history = self.partitions.entry(partition).or_default();
        let may_skip = history.compaction.is_some();
        let skipped = read.poll(offset, may_skip, &mut self.verdict);
        let started = read.started();
        if let Some(compaction) = &history.compaction {
            let record = record_of(&self.senders, content);
            let key = record.and_then(|record| self.records.get(record)?.key);
            if let Some(gone) = compaction.came_back(offset, key, started) {
                self.verdict.add(Violation::CameBack {
                    partition,
                    offset,
                    reader,
                    gone,
                });
            }
        }
        if let Some(skipped) = skipped {
            self.passed_over(reader, partition, skipped);
            history = self.partitions.entry(partition).or_default();
        }
        let sight = history.sights.entry(offset);
        // The first sight of these bytes was judged, and so was every receipt that came later.
        if let Entry::Occupied(first) = &sight
            && first.get().content == content
        {
            return;
        }
        let receipt = history.receipts.get(&offset);
        if let Some(receipt) = receipt.filter(|receipt| receipt.content != content) {
            let record = receipt.record;
            self.verdict.add(Violation::AcknowledgedContentDiffers {
                record,
                partition,
                offset,
            });
        }
        match sight {
            Entry::Occupied(sight) => {
                let (first, second) = (sight.get().reader, reader);
                self.verdict.add(Violation::TwoContents {
                    partition,
                    offset,
                    first,
                    second,
                });
            }
            Entry::Vacant(unseen) => {
                self.verdict.counts.offsets_read += 1;
                unseen.insert(Sight {
                    content,
                    reader,
                    at: self.now,
                });
            }
        }
        if !self.senders.contains_key(&content) {
            self.verdict
                .add(Violation::NobodySent { partition, offset });
        }
    }

    fn read_through(&mut self, reader: ReaderNumber, partition: TopicPartition, to: Offset) {
        let Some(read) = self.reads.get_mut(&(reader, partition)) else {
            return self.bad_history(format!("reader {} reads {partition} unstarted", reader.0));
        };
        let history = self.partitions.entry(partition).or_default();
        let may_skip = history.compaction.is_some();
        if let Some(skipped) = read.through(to, may_skip, &mut self.verdict) {
            self.passed_over(reader, partition, skipped);
        }
    }

    /// A reader was led past offsets of a partition that may be compacted.
    fn passed_over(
        &mut self,
        reader: ReaderNumber,
        partition: TopicPartition,
        skipped: Range<Offset>,
    ) {
        let now = self.now;
        let history = self.partitions.entry(partition).or_default();
        let Some(compaction) = &mut history.compaction else {
            return;
        };
        compaction.pass_over(skipped.start, skipped.end, reader, now);
        let sights = history.sights.range(skipped.clone());
        let seen = sights.filter_map(|(offset, sight)| {
            Some((*offset, record_of(&self.senders, sight.content)?))
        });
        let receipts = history.receipts.range(skipped);
        let promised = receipts.map(|(offset, receipt)| (*offset, receipt.record));
        for (offset, record) in seen.chain(promised) {
            let known = self.records.get(record).expect("it was sent");
            if let Some(key) = known.key.filter(|_| known.is_tombstone) {
                compaction.bury(key, offset, now);
            }
        }
    }

    fn read_ended(&mut self, reader: ReaderNumber, partition: TopicPartition) {
        let Some(read) = self.reads.remove(&(reader, partition)) else {
            return self.bad_history(format!("reader {} ends {partition} unstarted", reader.0));
        };
        self.verdict.counts.reads += 1;
        read.end(
            self.partitions.entry(partition).or_default(),
            &mut self.verdict,
        );
    }

    fn owned(&mut self, partition: TopicPartition, epoch: LeaderEpoch, owner: OwnerNumber) {
        let history = self.partitions.entry(partition).or_default();
        let first = *history.owners.entry(epoch).or_insert(owner);
        if first != owner {
            self.verdict.add(Violation::TwoOwners {
                partition,
                epoch,
                first,
                second: owner,
            });
        }
    }

    /// What lies from `to` on was never promised, and its offsets are issued anew.
    fn cut_back(&mut self, partition: TopicPartition, to: Offset) {
        let history = self.partitions.entry(partition).or_default();
        history.from_memory.split_off(&to);
        let lost = history.sights.split_off(&to);
        self.verdict.counts.cut_back += lost.len() as u64;
    }

    fn log_start(&mut self, partition: TopicPartition, log_start: Offset, at_least: Offset) {
        if log_start < at_least {
            self.verdict.add(Violation::LogStartBack {
                partition,
                log_start,
                at_least,
            });
        }
        let history = self.partitions.entry(partition).or_default();
        let kept = history.log_start.max(history.deletable);
        if log_start > kept && !history.is_released {
            for (&offset, receipt) in history.receipts.range(kept..log_start) {
                let record = receipt.record;
                self.verdict.add(Violation::DeletedTooMuch {
                    record,
                    partition,
                    offset,
                    log_start,
                });
            }
        }
        history.log_start = history.log_start.max(log_start);
    }

    fn read_moved(&mut self, reader: ReaderNumber, partition: TopicPartition, to: Offset) {
        let history = self.partitions.entry(partition).or_default();
        let log_start = history.log_start;
        match self.reads.get_mut(&(reader, partition)) {
            Some(read) if to <= log_start => read.moved(to),
            Some(_) => self.bad_history(format!(
                "reader {} of {partition} goes on at {}, and the log start is {}",
                reader.0,
                to.get(),
                log_start.get()
            )),
            None => self.bad_history(format!(
                "reader {} moves in {partition} unstarted",
                reader.0
            )),
        }
    }

    /// Receipts from memory have become promises.
    fn settled(&mut self, partition: TopicPartition) {
        let history = self.partitions.entry(partition).or_default();
        for (offset, receipt) in std::mem::take(&mut history.from_memory) {
            let at = self.now;
            self.promised(partition, offset, Receipt { at, ..receipt });
        }
    }

    fn bad_history(&mut self, what: String) {
        self.verdict.add(Violation::BadHistory(what));
    }
}
