//! Compaction by key: what may be missing from a log that keeps only the last record of each key, and what may not.
//!
//! Owns the offsets that readers were led past, and two rules. An offset may be without its record only if a later
//! record of the same key had been sent by then, or if it was a record without a value whose time may have been over.
//! And what is gone stays gone: nobody who begins to read afterwards is handed it again, nor, once a record without a
//! value is gone, anything that this had deleted.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::ids::{Offset, TopicPartition};

use crate::digest::Digest;
use crate::event::{ReaderNumber, RecordNumber};
use crate::partition::{Moment, PartitionHistory};
use crate::verdict::Verdict;
use crate::violation::Violation;

/// More offsets in a row than this without a record are taken for an error: each one is noted.
pub(crate) const GAP_MAX: u64 = 1 << 22;

/// An offset at which a reader found no record though it was handed what lies behind.
#[derive(Clone, Copy, Debug)]
struct Gone {
    at: Moment,
    reader: ReaderNumber,
}

/// What is known of a partition that may be compacted.
#[derive(Debug, Default)]
pub(crate) struct Compaction {
    /// Who was led past an offset first.
    gone: BTreeMap<Offset, Gone>,
    /// The last record without a value of each key that is known to be gone.
    buried: BTreeMap<Digest, (Offset, Moment)>,
}

impl Compaction {
    /// A reader was led past these offsets.
    pub(crate) fn pass_over(&mut self, from: Offset, to: Offset, reader: ReaderNumber, at: Moment) {
        for offset in from.get()..to.get() {
            let gone = Gone { at, reader };
            self.gone.entry(Offset::new(offset)).or_insert(gone);
        }
    }

    /// One of these offsets had a record without a value.
    pub(crate) fn bury(&mut self, key: Digest, offset: Offset, at: Moment) {
        let buried = self.buried.entry(key).or_insert((offset, at));
        if offset > buried.0 {
            *buried = (offset, at);
        }
    }

    /// A reader that began at `started` was handed a record: whether it, or what had deleted it, was gone by then. If
    /// so, the offset that was gone.
    pub(crate) fn came_back(
        &self,
        offset: Offset,
        key: Option<Digest>,
        started: Moment,
    ) -> Option<Offset> {
        if self.gone.get(&offset).is_some_and(|gone| gone.at < started) {
            return Some(offset);
        }
        let (deleted_by, at) = self.buried.get(&key?)?;
        (offset < *deleted_by && *at < started).then_some(*deleted_by)
    }
}

/// What the checker knows of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    pub(crate) key: Option<Digest>,
    /// When it was sent.
    pub(crate) sent: Moment,
    pub(crate) is_tombstone: bool,
    /// From when on it may be gone by itself.
    pub(crate) expires: Option<Moment>,
}

/// Judges every offset that readers were led past, from the last one on. `doubtful` are keys with a record of which nobody
/// knows whether it is in the log.
pub(crate) fn judge(
    partition: TopicPartition,
    history: &PartitionHistory,
    doubtful: &BTreeSet<Digest>,
    record_of: impl Fn(Digest) -> Option<RecordNumber>,
    fate_of: impl Fn(RecordNumber) -> Fate,
    verdict: &mut Verdict,
) {
    let Some(compaction) = history.compaction.as_ref() else {
        return;
    };
    let mut known: BTreeMap<Offset, (RecordNumber, bool)> = BTreeMap::new();
    let from_memory = history.from_memory.iter();
    known.extend(from_memory.map(|(offset, receipt)| (*offset, (receipt.record, false))));
    let sights = history.sights.iter();
    let seen =
        sights.filter_map(|(offset, sight)| Some((*offset, (record_of(sight.content)?, true))));
    known.extend(seen);
    let receipts = history.receipts.iter();
    known.extend(receipts.map(|(offset, receipt)| (*offset, (receipt.record, true))));
    // When the earliest of the records of each key that lie behind was sent.
    let mut later: BTreeMap<Digest, Moment> = BTreeMap::new();
    for (offset, (record, is_certain)) in known.into_iter().rev() {
        let fate = fate_of(record);
        let gone = compaction.gone.get(&offset);
        let owed = is_certain && !history.is_released && offset >= history.log_start;
        if let Some(gone) = gone.filter(|_| owed) {
            let before = |moment: &Moment| *moment < gone.at;
            let is_replaced = fate
                .key
                .is_some_and(|key| later.get(&key).is_some_and(before) || doubtful.contains(&key));
            let is_over = fate.is_tombstone && fate.expires.as_ref().is_some_and(before);
            if is_replaced {
                verdict.counts.compacted += 1;
            } else if is_over {
                verdict.counts.tombstones_gone += 1;
            } else if history.receipts.contains_key(&offset) {
                verdict.add(Violation::LostAcknowledged {
                    record,
                    partition,
                    offset,
                    reader: gone.reader,
                });
            } else {
                verdict.add(Violation::Vanished {
                    partition,
                    offset,
                    first: history.sights[&offset].reader,
                    second: gone.reader,
                });
            }
        }
        if let Some(key) = fate.key {
            let earliest = later.entry(key).or_insert(fate.sent);
            *earliest = fate.sent.min(*earliest);
        }
    }
}
