//! Idempotent producers in a store: which batches are appended, which are known, and who is forgotten.
//!
//! Owns the limits on what is remembered of them. Does no I/O.

use corelane_protocol::batch::{BatchLimits, validate};
use corelane_protocol::{AlignedBytes, Timestamp};

use super::partition::PartitionHandle;
use super::state::State;
use super::{AppendError, Appended};
use crate::producers::{Sequenced, Verdict};

impl State {
    /// Whether a batch is known already, and where; nothing if it is to be appended.
    pub(super) fn judge(
        &self,
        handle: PartitionHandle,
        batch: &[u8],
        limits: &BatchLimits,
        sequenced: &Sequenced,
    ) -> Result<Option<Appended>, AppendError> {
        let partition = self.partitions.get(handle).expect("it was admitted");
        let verdict = match partition.producers.judge(sequenced) {
            Verdict::Known(_) if crate::planted!(SequenceNotChecked) => Verdict::Next,
            verdict => verdict,
        };
        match verdict {
            Verdict::Next => return Ok(None),
            Verdict::First if self.producers_bytes >= self.config.producers_bytes_max => {
                let bytes = self.producers_bytes;
                return Err(AppendError::ProducersFull { bytes });
            }
            Verdict::First => return Ok(None),
            Verdict::Known(_) | Verdict::Refused(_) => {}
        }
        // Nothing is said of a batch whose bytes may have changed on their way. It is checked aligned, as in the log.
        validate(&AlignedBytes::copy_of(batch), limits)?;
        match verdict {
            Verdict::Known(base_offset) => Ok(Some(Appended {
                base_offset,
                end_offset: base_offset.advance(u64::from(sequenced.records)),
                is_duplicate: true,
            })),
            Verdict::Refused(error) => Err(AppendError::Sequence(error)),
            Verdict::Next | Verdict::First => unreachable!("returned above"),
        }
    }

    /// Forgets the producers of a partition that have appended nothing for long, and more of the others while memory
    /// is scarce.
    pub(super) fn expire_producers(&mut self, handle: PartitionHandle, now: Timestamp) {
        let expiration = self.config.producer_expiration_ms;
        let is_full = self.producers_bytes >= self.config.producers_bytes_max;
        let Some(partition) = self.partitions.get_mut(handle) else {
            return;
        };
        let settled = partition.flush.whole.offset;
        let producers = &mut partition.producers;
        let before = producers.bytes();
        let since = Timestamp::new(now.get().saturating_sub(expiration));
        producers.expire(since);
        if is_full {
            producers.shrink(settled);
        }
        self.producers_bytes = self.producers_bytes + producers.bytes() - before;
    }

    /// Counts what all partitions know of producers.
    pub(super) fn count_producers(&mut self) {
        let partitions = self.partitions.iter();
        self.producers_bytes = partitions
            .map(|(_, partition)| partition.producers.bytes())
            .sum();
    }
}
