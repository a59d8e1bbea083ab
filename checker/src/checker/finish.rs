//! What needs the whole history: order, second copies, what compaction has left out, and what nobody looked for.

use std::collections::BTreeSet;

use super::{Checker, RecordHistory, Sender, record_of};
use crate::compaction;
use crate::order::{KeyHomes, OrderWalk};
use crate::violation::Violation;

impl Checker {
    /// Nothing is missing but what compaction may leave out.
    pub(super) fn judge_compaction(&mut self) {
        let mut partitions = self.partitions.values();
        if partitions.all(|history| history.compaction.is_none()) {
            return;
        }
        let records = self.records.iter();
        let is_doubtful = |history: &&RecordHistory| {
            !history.failed && history.receipt.is_none() && history.found.is_none()
        };
        let doubtful = records
            .filter(is_doubtful)
            .filter_map(|history| history.key);
        let doubtful: BTreeSet<_> = doubtful.collect();
        for (&partition, history) in &self.partitions {
            compaction::judge(
                partition,
                history,
                &doubtful,
                |content| record_of(&self.senders, content),
                |record| self.records.get(record).expect("it was sent").fate(),
                &mut self.verdict,
            );
        }
    }

    /// First copies in order, second copies, keys at home, nothing that was refused.
    pub(super) fn judge_reads_by_offset(&mut self) {
        let mut homes = KeyHomes::default();
        for (&partition, partition_history) in &self.partitions {
            let mut walk = OrderWalk::default();
            let unseen = partition_history.first_unseen();
            for (&offset, sight) in &partition_history.sights {
                let Some(&Sender::One(record)) = self.senders.get(&sight.content) else {
                    continue;
                };
                let history = self.records.get_mut(record).expect("it was sent");
                if history.failed {
                    let refused = Violation::FailedButRead {
                        record,
                        partition,
                        offset,
                    };
                    self.verdict.add(refused);
                }
                if let Some(key) = history
                    .key
                    .filter(|_| self.rules.keys_stay_in_one_partition)
                {
                    homes.find(key, record, partition, &mut self.verdict);
                }
                // A later find is a second copy.
                if let Some((_, first)) = history.found {
                    self.verdict.counts.duplicates += 1;
                    if self.rules.no_duplicates || self.idempotent.contains(&history.producer) {
                        let second = offset;
                        self.verdict.add(Violation::Duplicate {
                            record,
                            partition,
                            first,
                            second,
                        });
                    }
                    continue;
                }
                history.found = Some((partition, offset));
                // The first copy may have been deleted or left out before anybody read it.
                if history.is_uncertain && unseen < partition_history.unread_below(offset) {
                    continue;
                }
                if let Some(overtaken_by) = walk.meet(history.producer, history.sequence, record) {
                    let violation = Violation::ReadOutOfOrder {
                        partition,
                        offset,
                        record,
                        overtaken_by,
                    };
                    self.verdict.add(violation);
                }
            }
        }
    }

    /// Receipts in order, and each one looked for by a complete read.
    pub(super) fn judge_receipts_by_offset(&mut self) {
        for (&partition, partition_history) in &self.partitions {
            let mut walk = OrderWalk::default();
            for (&offset, receipt) in &partition_history.receipts {
                let record = receipt.record;
                let history = self.records.get(record).expect("it was sent");
                let is_certain = !history.is_uncertain;
                if is_certain
                    && let Some(overtaken_by) =
                        walk.meet(history.producer, history.sequence, record)
                {
                    self.verdict.add(Violation::AcknowledgedOutOfOrder {
                        partition,
                        offset,
                        record,
                        overtaken_by,
                    });
                }
                let is_deleted = offset < partition_history.log_start;
                if !(receipt.verified || is_deleted || partition_history.is_released) {
                    self.verdict.add(Violation::NeverReadBack {
                        record,
                        partition,
                        offset,
                    });
                }
            }
        }
    }
}
