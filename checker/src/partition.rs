//! What is known of one partition: who was acknowledged where, and what readers saw there.

use std::collections::BTreeMap;

use corelane_protocol::ids::{LeaderEpoch, Offset};

use crate::compaction::Compaction;
use crate::digest::Digest;
use crate::event::{OwnerNumber, ReaderNumber, RecordNumber};

/// The position of an event in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) u64);

/// A durable receipt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receipt {
    pub(crate) record: RecordNumber,
    pub(crate) content: Digest,
    pub(crate) at: Moment,
    /// Whether a complete read, begun after the receipt, has looked at this offset.
    pub(crate) verified: bool,
}

/// The first sight of an offset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight {
    pub(crate) content: Digest,
    pub(crate) reader: ReaderNumber,
    pub(crate) at: Moment,
}

#[derive(Debug, Default)]
pub(crate) struct PartitionHistory {
    /// Nothing is promised of it any more.
    pub(crate) is_released: bool,
    /// Who owned it in each term.
    pub(crate) owners: BTreeMap<LeaderEpoch, OwnerNumber>,
    pub(crate) receipts: BTreeMap<Offset, Receipt>,
    /// Receipts that promise nothing yet.
    pub(crate) from_memory: BTreeMap<Offset, Receipt>,
    pub(crate) sights: BTreeMap<Offset, Sight>,
    /// The furthest log start that was said. What is below may be missing.
    pub(crate) log_start: Offset,
    /// What is below may be deleted.
    pub(crate) deletable: Offset,
    /// What is known of its compaction, if that is permitted.
    pub(crate) compaction: Option<Compaction>,
}

impl PartitionHistory {
    /// Below it the first copy of a record may be gone that nobody has read.
    pub(crate) fn unread_below(&self, offset: Offset) -> Offset {
        match self.compaction {
            Some(_) => offset,
            None => offset.min(self.log_start),
        }
    }

    /// The first offset that no reader has seen, of a log that had a record at each.
    pub(crate) fn first_unseen(&self) -> Offset {
        let seen = self.sights.keys().zip(0_u64..);
        let gap = seen
            .into_iter()
            .find(|(offset, count)| offset.get() != *count);
        Offset::new(gap.map_or(self.sights.len() as u64, |(_, count)| count))
    }
}
