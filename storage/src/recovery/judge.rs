//! What the bytes at a place of the journal are, and what follows from it.
//!
//! Owns the rules by which a group counts: it is where the chain expects it, all of it is what was written;
//! and if it is not, whether that is the end of the log or damage. Pure; used on the core that opens the
//! store.

use uuid::Uuid;

use crate::journal::{
    ChainPoint, FileId, GroupHeader, PartEntry, PartFault, decode_directory, verify_part,
};
use crate::layout::BLOCK;

/// What the chain expects of the next group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) store: Uuid,
    /// The recovery epoch of the checkpoint.
    pub(crate) recovery_epoch: u64,
    /// The first group of that epoch.
    pub(crate) epoch_first_sequence: u64,
    /// The recovery epoch of the group before.
    pub(crate) last_epoch: u64,
    /// The sequence and the checksum before it; the position is its own.
    pub(crate) point: ChainPoint,
}

impl Expected {
    /// The header of the expected group in the bytes at its place, if it is there.
    pub(crate) fn header(&self, incarnation: FileId, bytes: &[u8]) -> Option<(GroupHeader, u32)> {
        let (header, checksum) =
            GroupHeader::decode(self.store, incarnation, self.point.position, bytes)?;
        let epoch_fits = if header.sequence >= self.epoch_first_sequence {
            header.recovery_epoch == self.recovery_epoch
        } else {
            header.recovery_epoch < self.recovery_epoch && header.recovery_epoch >= self.last_epoch
        };
        let is_any_taken = crate::planted!(StaleGroupAccepted) || crate::planted!(DiscardedTaken);
        let chains = header.previous_checksum == self.point.previous_checksum;
        let follows =
            header.sequence == self.point.sequence && (chains && epoch_fits || is_any_taken);
        follows.then_some((header, checksum))
    }
}

/// What a group turned out to be, whose header is the expected one.
#[derive(Debug)]
pub(crate) enum GroupState {
    /// Its directory, and the parts that are not what was written: their index and the fault.
    Readable(Vec<PartEntry>, Vec<(usize, PartFault)>),
    /// Its directory is damaged.
    Unreadable,
}

/// Checks all of a group whose header is the expected one.
pub(crate) fn examine(header: &GroupHeader, group: &[u8]) -> GroupState {
    let Some(parts) = decode_directory(header, group) else {
        return GroupState::Unreadable;
    };
    let mut faults = Vec::new();
    for (index, (part, range)) in parts.iter().zip(part_ranges(header, &parts)).enumerate() {
        let verified = match group.get(range) {
            Some(bytes) => verify_part(part, bytes),
            None => Err(PartFault::Damaged(0, "the file ends before it".into())),
        };
        if let Err(fault) = verified {
            faults.push((index, fault));
        }
    }
    GroupState::Readable(parts, faults)
}

/// Where each part's bytes are in the group.
pub(crate) fn part_ranges(
    header: &GroupHeader,
    parts: &[PartEntry],
) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut at = crate::journal::GROUP_HEADER_BYTES + header.directory_length();
    parts.iter().map(move |part| {
        let from = at;
        at += part.length as usize;
        from..at
    })
}

/// What follows from a group that is not, or not wholly, what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It was never acknowledged: the log ends before it.
    EndOfLog,
    /// It was acknowledged, so this is damage. Its directory tells whose.
    DamagedParts,
    /// It was acknowledged, and nothing tells whose batches it held.
    DamagedStore,
}

/// Judges a bad group by the newest sequence that is known to have been durable.
pub(crate) fn judge(sequence: u64, known_durable: u64, is_directory_readable: bool) -> Judgement {
    if sequence > known_durable {
        Judgement::EndOfLog
    } else if is_directory_readable {
        Judgement::DamagedParts
    } else {
        Judgement::DamagedStore
    }
}

/// What the sound group headers in a file say about what came before them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Testimony {
    /// The newest sequence that one of them calls durable.
    pub(crate) durable_upto: u64,
    /// The newest recovery epoch in which one of them was written.
    pub(crate) recovery_epoch: u64,
}

impl Testimony {
    /// Both taken together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            durable_upto: self.durable_upto.max(other.durable_upto),
            recovery_epoch: self.recovery_epoch.max(other.recovery_epoch),
        }
    }
}

/// What the groups in these bytes of a file say.
///
/// Groups from before an earlier recovery may be among them. What they say is below every sequence that has
/// been written since, because that recovery discarded them for it.
pub(crate) fn testimony(store: Uuid, incarnation: FileId, start: u64, bytes: &[u8]) -> Testimony {
    let blocks = bytes.chunks_exact(BLOCK as usize).enumerate();
    let headers = blocks.filter_map(|(index, block)| {
        let position = start + index as u64 * BLOCK;
        GroupHeader::decode(store, incarnation, position, block)
    });
    headers
        .map(|(header, _)| Testimony {
            durable_upto: header.durable_upto,
            recovery_epoch: header.recovery_epoch,
        })
        .fold(Testimony::default(), Testimony::and)
}
