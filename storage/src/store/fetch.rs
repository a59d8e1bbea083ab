//! What a read asks for and gives, and reads that memory can answer.
//!
//! Owns the decision between memory and disk. Does no I/O.

use corelane_protocol::{Offset, TopicPartition};

use super::ReadError;
use super::partition::{Partition, PartitionHandle, Status};
use super::state::State;
use crate::memory::ChunkSlice;
use crate::tail::ReadLimit;

/// Consecutive batches of a partition, as they were stored.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Their bytes, in order. The first batch may begin before the offset that was asked for.
    pub parts: Vec<ChunkSlice>,
    /// The sum of the parts.
    pub bytes: usize,
    /// The offset after the last record; the one asked for if there are none.
    pub next_offset: Offset,
}

impl Fetched {
    pub(super) fn nothing(at: Offset) -> Self {
        Self {
            parts: Vec::new(),
            bytes: 0,
            next_offset: at,
        }
    }
}

/// How a read is answered.
#[derive(Clone, Debug)]
pub enum Read {
    /// From memory, or with nothing because there is nothing yet.
    Ready(Fetched),
    /// From disk, by `Store::read_disk`.
    Disk(DiskRead),
}

/// A read that has to wait for the disk.
#[derive(Clone, Copy, Debug)]
pub struct DiskRead {
    pub(super) handle: PartitionHandle,
    pub(super) partition: TopicPartition,
    pub(super) from: Offset,
    pub(super) bytes_max: usize,
    pub(super) at_least_one: bool,
}

impl DiskRead {
    /// The partition that is read.
    #[must_use]
    pub fn partition(&self) -> TopicPartition {
        self.partition
    }

    /// The first offset that is wanted.
    #[must_use]
    pub fn from(&self) -> Offset {
        self.from
    }
}

impl State {
    /// Answers a read from memory, or says where it is answered.
    pub(crate) fn read(
        &self,
        handle: PartitionHandle,
        from: Offset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<Read, ReadError> {
        let partition = self
            .partitions
            .get(handle)
            .filter(|found| !found.flags.is_deleting)
            .ok_or(ReadError::PartitionGone)?;
        partition.expect_readable(from)?;
        let end = partition.high_watermark();
        if from == end.offset {
            return Ok(Read::Ready(Fetched::nothing(from)));
        }
        match partition.tail.read(
            from,
            ReadLimit {
                end,
                bytes_max,
                at_least_one,
            },
        ) {
            Some(found) => Ok(Read::Ready(Fetched {
                parts: found.parts,
                bytes: found.bytes,
                next_offset: found.next_offset,
            })),
            None => Ok(Read::Disk(DiskRead {
                handle,
                partition: partition.id,
                from,
                bytes_max,
                at_least_one,
            })),
        }
    }
}

impl Partition {
    /// Whether `from` is within what may be read, its end included.
    pub(super) fn expect_readable(&self, from: Offset) -> Result<(), ReadError> {
        if let Status::Failed(reason) = &self.status {
            return Err(ReadError::PartitionFailed(reason.clone()));
        }
        let (log_start, high_watermark) = (self.log_start, self.high_watermark().offset);
        let is_deleted = from < log_start && !crate::planted!(DeletedServed);
        if is_deleted || from > high_watermark {
            return Err(ReadError::OutOfRange {
                offset: from,
                log_start,
                high_watermark,
            });
        }
        Ok(())
    }
}
