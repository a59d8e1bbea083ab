//! Produce: what happened to each batch.

use std::fmt;

use super::CoreAddress;
use crate::error::ApiError;
use crate::ids::{Offset, Timestamp, TopicPartition};
use crate::wire::{DecodeError, Reader, Writer};

/// The answers, in the order of the request's entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceResponse {
    /// One for each batch.
    pub entries: Vec<ProducedEntry>,
}

/// What happened to one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducedEntry {
    /// The partition.
    pub partition: TopicPartition,
    /// The receipt, or why it was refused.
    pub result: Result<Receipt, ApiError>,
    /// The core that owns the partition, where that is not the one that the
    /// request came to.
    pub owner: Option<CoreAddress>,
}

/// Where a batch is, and how safe it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The offset of the batch's first record; the others follow it.
    pub base_offset: Offset,
    /// When the broker appended it.
    pub append_time: Timestamp,
    /// The first offset that the partition keeps.
    pub log_start_offset: Offset,
    /// What the batch would survive.
    pub durability: Durability,
    /// How many replicas have flushed it, the leader included.
    pub replicas_flushed: u8,
}

/// What an acknowledged batch would survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Durability {
    /// It is in the leader's memory: nothing is promised.
    Memory = 0,
    /// It is flushed on the leader: it survives power loss.
    Durable = 1,
    /// It is flushed on every in-sync replica: it survives the leader.
    Replicated = 2,
}

impl Durability {
    /// The word in receipts and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Durable => "durable",
            Self::Replicated => "replicated",
        }
    }

    const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Memory),
            1 => Some(Self::Durable),
            2 => Some(Self::Replicated),
            _ => None,
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The fewest bytes of an entry: a partition, an error without message, no owner.
const ENTRY_BYTES_MIN: usize = 20 + 4 + 1;

impl ProduceResponse {
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let entries = r.list(ENTRY_BYTES_MIN, |r| {
            Ok(ProducedEntry {
                partition: r.topic_partition()?,
                result: r.result(Receipt::decode)?,
                owner: r.option(CoreAddress::decode)?,
            })
        })?;
        Ok(Self { entries })
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.list(&self.entries, |w, entry| {
            w.topic_partition(entry.partition);
            w.result(&entry.result, |w, receipt| receipt.encode(w));
            w.option(entry.owner.as_ref(), |w, owner| owner.encode(w));
        });
    }
}

impl Receipt {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            base_offset: r.offset()?,
            append_time: r.timestamp()?,
            log_start_offset: r.offset()?,
            durability: Durability::from_u8(r.u8()?).ok_or_else(|| r.invalid("durability"))?,
            replicas_flushed: r.u8()?,
        })
    }

    fn encode(&self, w: &mut Writer<'_>) {
        w.offset(self.base_offset);
        w.timestamp(self.append_time);
        w.offset(self.log_start_offset);
        w.u8(self.durability as u8);
        w.u8(self.replicas_flushed);
    }
}
