//! Order: what one producer sent to one partition stays in the order in which it was sent.
//!
//! A retry can put a record into the log twice. The promise is then about first copies: a consumer
//! that ignores what it has seen reads every producer's records in order. Receipts have an order
//! of their own, since each names one copy.

use std::collections::BTreeMap;

use corelane_protocol::ids::{TopicId, TopicPartition};

use crate::digest::Digest;
use crate::event::{ProducerNumber, RecordNumber};
use crate::verdict::Verdict;
use crate::violation::Violation;

/// The latest record of each producer met so far, while a partition is walked by offset.
#[derive(Debug, Default)]
pub(crate) struct OrderWalk {
    latest: BTreeMap<ProducerNumber, (u64, RecordNumber)>,
}

impl OrderWalk {
    /// Takes the record at the next offset. `sequence` is its place among all records sent.
    /// Returns the record that was sent later and has been met already, if there is one.
    pub(crate) fn meet(
        &mut self,
        producer: ProducerNumber,
        sequence: u64,
        record: RecordNumber,
    ) -> Option<RecordNumber> {
        let latest = self.latest.entry(producer).or_insert((sequence, record));
        if sequence < latest.0 {
            return Some(latest.1);
        }
        *latest = (sequence, record);
        None
    }
}

/// Which partition each key lives in.
#[derive(Debug, Default)]
pub(crate) struct KeyHomes {
    homes: BTreeMap<(TopicId, Digest), TopicPartition>,
}

impl KeyHomes {
    pub(crate) fn find(
        &mut self,
        key: Digest,
        record: RecordNumber,
        partition: TopicPartition,
        verdict: &mut Verdict,
    ) {
        let home = *self
            .homes
            .entry((partition.topic, key))
            .or_insert(partition);
        if home != partition {
            verdict.add(Violation::KeyInTwoPartitions {
                record,
                first: home,
                second: partition,
            });
        }
    }
}
