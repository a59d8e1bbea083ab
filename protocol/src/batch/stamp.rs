//! The stamp: what the broker adds in place, and checks on every read from disk.

use super::error::BatchError;
use super::layout::{
    APPEND_TIME, BASE_OFFSET, BATCH_CRC, CRC, LEADER_EPOCH, PARTITION, PREFIX_LEN, STAMP_CHECKSUM,
    STAMP_CHECKSUM_COVERS_FROM, STAMP_LEN, TOPIC, field, put,
};
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId, TopicPartition};

/// Where a batch belongs, and when it came there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// The term of the leader that appended it.
    pub leader_epoch: LeaderEpoch,
    /// The offset of its first record.
    pub base_offset: Offset,
    /// When the leader appended it.
    pub append_time: Timestamp,
}

impl Stamp {
    /// Writes the stamp into `batch`, copies the header's CRC into it and closes
    /// it with its checksum. The producer's bytes stay as they are.
    ///
    /// # Panics
    /// When `batch` is shorter than [`PREFIX_LEN`].
    pub fn write(&self, batch: &mut [u8]) {
        assert!(batch.len() >= PREFIX_LEN, "a batch has a header");
        let crc: [u8; 4] = field(batch, CRC);
        put(batch, BATCH_CRC, crc);
        put(batch, TOPIC, *self.topic.as_bytes());
        put(batch, PARTITION, self.partition.get().to_le_bytes());
        put(batch, LEADER_EPOCH, self.leader_epoch.get().to_le_bytes());
        put(batch, BASE_OFFSET, self.base_offset.get().to_le_bytes());
        put(batch, APPEND_TIME, self.append_time.get().to_le_bytes());
        let checksum = checksum(batch);
        put(batch, STAMP_CHECKSUM, checksum.to_le_bytes());
    }

    /// Reads the stamp of the batch that begins `batch`, which needs
    /// [`PREFIX_LEN`] bytes and no alignment. Verifies the stamp's checksum, and
    /// that it belongs to the header behind it.
    ///
    /// # Errors
    /// The batch was never stamped, its stamp is damaged, or it is another's.
    pub fn read(batch: &[u8]) -> Result<Self, BatchError> {
        if batch.len() < PREFIX_LEN {
            return Err(BatchError::Truncated {
                needed: PREFIX_LEN,
                length: batch.len(),
            });
        }
        let stored = u32::from_le_bytes(field(batch, STAMP_CHECKSUM));
        let computed = checksum(batch);
        if stored != computed {
            return Err(BatchError::StampChecksum { stored, computed });
        }
        let stamped = u32::from_le_bytes(field(batch, BATCH_CRC));
        let header = u32::from_le_bytes(field(batch, CRC));
        if stamped != header {
            return Err(BatchError::StampOfAnother { stamped, header });
        }
        let stamp = Self {
            topic: TopicId::from_bytes(field(batch, TOPIC)),
            partition: PartitionIndex::new(u32::from_le_bytes(field(batch, PARTITION))),
            leader_epoch: LeaderEpoch::new(u32::from_le_bytes(field(batch, LEADER_EPOCH))),
            base_offset: Offset::new(u64::from_le_bytes(field(batch, BASE_OFFSET))),
            append_time: Timestamp::new(i64::from_le_bytes(field(batch, APPEND_TIME))),
        };
        if stamp.base_offset > Offset::MAX {
            return Err(BatchError::StampValue);
        }
        Ok(stamp)
    }

    /// The topic and the partition.
    pub const fn topic_partition(&self) -> TopicPartition {
        TopicPartition::new(self.topic, self.partition)
    }
}

/// Whether padding, and no batch, begins here: the first eight bytes are zeros
/// (or all, where fewer are given). A stamped batch never begins with zeros,
/// since its stamp checksum is never 0. The next batch begins at the next
/// multiple of 4096 of the position in the segment file; whoever skips there
/// should see that all bytes up to it are 0, and that offsets connect.
pub fn is_padding(prefix: &[u8]) -> bool {
    prefix.iter().take(8).all(|byte| *byte == 0)
}

/// CRC32C of the stamp behind its checksum. 0 is written as 1, so that zeros
/// never pass for a stamp.
fn checksum(batch: &[u8]) -> u32 {
    crc32c::crc32c(&batch[STAMP_CHECKSUM_COVERS_FROM..STAMP_LEN]).max(1)
}
