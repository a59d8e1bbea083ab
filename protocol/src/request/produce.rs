//! Produce: appends batches.
//!
//! The body is a table of entries, then the batches in the same order, each at
//! a multiple of 8 from the frame's first byte.

use crate::api::ApiKey;
use crate::frame::{RequestFlags, RequestHeader};
use crate::ids::{CorrelationId, TopicPartition};
use crate::wire::{DecodeError, EncodeError, Reader};

/// When a produce is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Acks {
    /// At once, from memory; on the wire 0.
    None,
    /// When the leader has flushed it; on the wire 1.
    Leader,
    /// When every in-sync replica has flushed it; on the wire -1.
    All,
}

impl Acks {
    /// The number on the wire.
    pub const fn as_i16(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }

    /// The value with this number.
    pub const fn from_i16(number: i16) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Leader),
            -1 => Some(Self::All),
            _ => None,
        }
    }
}

/// Asks to append batches, at most one to each entry. A partition may occur
/// several times; its batches are appended in the order of the entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceRequest<'a> {
    /// When to answer.
    pub acks: Acks,
    /// How long the broker may take before it answers TimedOut, ms.
    pub timeout_ms: u32,
    /// The batches.
    pub entries: Vec<ProduceEntry<'a>>,
}

/// One batch and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceEntry<'a> {
    /// The partition.
    pub partition: TopicPartition,
    /// Whether the client has drained what was in flight for the partition and
    /// begins again in order (RESUME).
    pub resume: bool,
    /// The batch, unchecked; its length is a multiple of 8.
    pub batch: &'a [u8],
}

/// Bytes of one entry in the table.
const ENTRY_BYTES: usize = 28;
/// The entry's only flag.
const RESUME: u32 = 1;

impl ProduceRequest<'_> {
    /// Appends the frame up to the first batch; the caller sends the batches
    /// right after it, in the order of the entries.
    ///
    /// # Errors
    /// The frame is too long, or a batch is not padded; `out` is as it was then.
    pub fn encode_head(
        &self,
        correlation_id: CorrelationId,
        flags: RequestFlags,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let raw_bytes = self.entries.iter().map(|entry| entry.batch.len()).sum();
        RequestHeader::write_frame(
            out,
            ApiKey::Produce,
            correlation_id,
            flags,
            raw_bytes,
            |w| {
                w.i16(self.acks.as_i16());
                w.u16(0);
                w.u32(self.timeout_ms);
                w.list(&self.entries, |w, entry| {
                    w.topic_partition(entry.partition);
                    w.u32(if entry.resume { RESUME } else { 0 });
                    w.count(entry.batch.len());
                    if !entry.batch.len().is_multiple_of(8) {
                        w.fail(EncodeError::BatchNotPadded {
                            length: entry.batch.len(),
                        });
                    }
                });
                w.align();
            },
        )
    }
}

impl<'a> ProduceRequest<'a> {
    pub(super) fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let acks = Acks::from_i16(r.i16()?).ok_or_else(|| r.invalid("acks"))?;
        if r.u16()? != 0 {
            return Err(r.invalid("reserved field"));
        }
        let timeout_ms = r.u32()?;
        let count = r.count(ENTRY_BYTES)?;
        let mut table = r.clone();
        r.bytes(count * ENTRY_BYTES)?;
        r.align()?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let partition = table.topic_partition()?;
            let resume = match table.u32()? {
                0 => false,
                RESUME => true,
                _ => return Err(table.invalid("entry flag")),
            };
            let length = table.u32()? as usize;
            if !length.is_multiple_of(8) {
                return Err(table.invalid("batch length"));
            }
            entries.push(ProduceEntry {
                partition,
                resume,
                batch: r.bytes(length)?,
            });
        }
        Ok(Self {
            acks,
            timeout_ms,
            entries,
        })
    }
}
