//! The bytes of a journal file: its header block, a group's header, and the entries of a group's directory.
//!
//! Owns their layout, which `docs/data_dir.md` draws. Never decides whether a group counts: that is the
//! recovery's. Pure; used on the core that runs the store.

use corelane_protocol::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicPartition};
use uuid::Uuid;

use crate::layout::{
    BLOCK, HEADER_BYTES, get_16, get_u16, get_u32, get_u64, header_is_sound, put_u16, put_u32,
    put_u64, seal_header,
};
use crate::position::{LogPosition, is_data_position};

/// The first bytes of a journal file.
pub const JOURNAL_MAGIC: [u8; 8] = *b"CLJOURNL";
/// The first bytes of a group, little-endian.
pub const GROUP_MAGIC: u32 = u32::from_le_bytes(*b"CLGR");
/// The version of the journal's format that this code writes and reads.
pub const JOURNAL_VERSION: u16 = 1;
/// Where a journal file's first group is: after the header block.
pub const FIRST_GROUP: u64 = BLOCK;
/// Bytes of a group's header.
pub const GROUP_HEADER_BYTES: usize = HEADER_BYTES;
/// Bytes of a directory entry.
pub const PART_BYTES: usize = 80;

/// Group flag: a group without parts that only says what is durable.
pub const GROUP_SEAL: u16 = 1;
/// Part flag: the batches are in the segment's file, and the part's bytes are an `Extent` that says where they end.
pub const PART_IN_SEGMENT: u32 = 1;
/// Bytes of an extent.
pub const EXTENT_BYTES: usize = 24;

mod file_at {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 8;
    pub(super) const BLOCK_BYTES: usize = 12;
    pub(super) const STORE: usize = 16;
    pub(super) const INCARNATION: usize = 32;
    pub(super) const RECOVERY_EPOCH: usize = 40;
    pub(super) const FILE_BYTES: usize = 48;
    pub(super) const NUMBER: usize = 56;
    pub(super) const RESERVED: usize = 60;
}

mod group_at {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 4;
    pub(super) const FLAGS: usize = 6;
    pub(super) const LENGTH: usize = 8;
    pub(super) const BLOCKS: usize = 12;
    pub(super) const SEQUENCE: usize = 16;
    pub(super) const RECOVERY_EPOCH: usize = 24;
    pub(super) const INCARNATION: usize = 32;
    pub(super) const POSITION: usize = 40;
    pub(super) const DURABLE_UPTO: usize = 48;
    pub(super) const PREVIOUS_CHECKSUM: usize = 56;
    pub(super) const PART_COUNT: usize = 60;
    pub(super) const DIRECTORY_LENGTH: usize = 64;
    pub(super) const DIRECTORY_CHECKSUM: usize = 68;
    pub(super) const RESERVED: usize = 72;
    pub(super) const CHECKSUM: usize = 124;
}

mod part_at {
    pub(super) const TOPIC: usize = 0;
    pub(super) const PARTITION: usize = 16;
    pub(super) const FLAGS: usize = 20;
    pub(super) const LEADER_EPOCH: usize = 24;
    pub(super) const LENGTH: usize = 28;
    pub(super) const BASE_OFFSET: usize = 32;
    pub(super) const END_OFFSET: usize = 40;
    pub(super) const SEGMENT: usize = 48;
    pub(super) const POSITION: usize = 56;
    pub(super) const HIGH_WATERMARK: usize = 64;
    pub(super) const CHECKSUM: usize = 72;
    pub(super) const BATCH_COUNT: usize = 76;
}

mod extent_at {
    pub(super) const LENGTH: usize = 0;
    pub(super) const ZERO: usize = 4;
    pub(super) const INCARNATION: usize = 8;
    pub(super) const RESERVED: usize = 16;
    pub(super) const CHECKSUM: usize = 20;
}

const _: () = {
    assert!(extent_at::ZERO + 4 == extent_at::INCARNATION);
    assert!(extent_at::RESERVED + 4 == extent_at::CHECKSUM);
    assert!(extent_at::CHECKSUM + 4 == EXTENT_BYTES && EXTENT_BYTES.is_multiple_of(8));
    assert!(file_at::STORE + 16 == file_at::INCARNATION);
    assert!(file_at::RESERVED < HEADER_BYTES - 4);
    assert!(group_at::DIRECTORY_CHECKSUM + 4 == group_at::RESERVED);
    assert!(group_at::CHECKSUM + 4 == GROUP_HEADER_BYTES);
    assert!(part_at::TOPIC + 16 == part_at::PARTITION);
    assert!(part_at::BATCH_COUNT + 4 == PART_BYTES);
    // Parts follow the directory and hold batches, which are aligned to 8.
    assert!(GROUP_HEADER_BYTES.is_multiple_of(8) && PART_BYTES.is_multiple_of(8));
};

/// The header block of a journal file: which file of which store it is, and what its groups are seeded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalHeader {
    /// The store's identity.
    pub store: Uuid,
    /// Which use of the file this is; it grows with every file that is armed.
    pub incarnation: u64,
    /// The recovery epoch in which the file was armed.
    pub recovery_epoch: u64,
    /// The file's length in bytes.
    pub file_bytes: u64,
    /// The number in the file's name.
    pub number: u32,
}

/// Why the header of a journal file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The magic or the checksum is wrong.
    #[error("the header is damaged")]
    Damaged,
    /// Another version wrote it.
    #[error("the format version is {0}, this program knows {JOURNAL_VERSION}")]
    Version(u16),
}

impl JournalHeader {
    /// Writes the header into the first bytes of a block of zeros.
    ///
    /// # Panics
    /// If `block` is shorter than a header.
    pub fn encode(&self, block: &mut [u8]) {
        block[file_at::MAGIC..file_at::VERSION].copy_from_slice(&JOURNAL_MAGIC);
        put_u16(block, file_at::VERSION, JOURNAL_VERSION);
        put_u32(block, file_at::BLOCK_BYTES, BLOCK as u32);
        block[file_at::STORE..file_at::STORE + 16].copy_from_slice(self.store.as_bytes());
        put_u64(block, file_at::INCARNATION, self.incarnation);
        put_u64(block, file_at::RECOVERY_EPOCH, self.recovery_epoch);
        put_u64(block, file_at::FILE_BYTES, self.file_bytes);
        put_u32(block, file_at::NUMBER, self.number);
        seal_header(block, &[]);
    }

    /// Reads a header.
    ///
    /// # Errors
    /// `HeaderError`.
    pub fn decode(block: &[u8]) -> Result<Self, HeaderError> {
        if block.len() < HEADER_BYTES
            || block[..file_at::VERSION] != JOURNAL_MAGIC
            || !header_is_sound(block, &[])
        {
            return Err(HeaderError::Damaged);
        }
        let version = get_u16(block, file_at::VERSION);
        if version != JOURNAL_VERSION {
            return Err(HeaderError::Version(version));
        }
        Ok(Self {
            store: Uuid::from_bytes(get_16(block, file_at::STORE)),
            incarnation: get_u64(block, file_at::INCARNATION),
            recovery_epoch: get_u64(block, file_at::RECOVERY_EPOCH),
            file_bytes: get_u64(block, file_at::FILE_BYTES),
            number: get_u32(block, file_at::NUMBER),
        })
    }
}

/// A group's header. Its checksum is seeded with the store's UUID and covers the incarnation, the position
/// and the previous group's checksum, so a stale, misplaced or unchained group never verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// `GROUP_SEAL` or nothing.
    pub flags: u16,
    /// Bytes used: header, directory and parts, before the padding.
    pub length: u32,
    /// The group's place in the chain, from 1.
    pub sequence: u64,
    /// The recovery epoch in which it was written.
    pub recovery_epoch: u64,
    /// The incarnation of its file.
    pub incarnation: u64,
    /// Its position in the file, in bytes.
    pub position: u64,
    /// The newest group known to be durable when this one was built; 0 if none.
    pub durable_upto: u64,
    /// The header checksum of the group before it.
    pub previous_checksum: u32,
    /// Entries of the directory.
    pub part_count: u32,
    /// CRC32C of the directory.
    pub directory_checksum: u32,
}

impl GroupHeader {
    /// Bytes of the directory.
    #[must_use]
    pub fn directory_length(&self) -> usize {
        self.part_count as usize * PART_BYTES
    }

    /// Bytes that the group takes in the file: its length rounded up to a block.
    #[must_use]
    pub fn padded_length(&self) -> u64 {
        crate::layout::block_ceiling(u64::from(self.length))
    }

    /// Writes the header and returns its checksum, which the next group carries.
    ///
    /// # Panics
    /// If `group` is shorter than a header.
    pub fn encode(&self, store: Uuid, group: &mut [u8]) -> u32 {
        let header = &mut group[..GROUP_HEADER_BYTES];
        header.fill(0);
        put_u32(header, group_at::MAGIC, GROUP_MAGIC);
        put_u16(header, group_at::VERSION, JOURNAL_VERSION);
        put_u16(header, group_at::FLAGS, self.flags);
        put_u32(header, group_at::LENGTH, self.length);
        put_u32(
            header,
            group_at::BLOCKS,
            (self.padded_length() / BLOCK) as u32,
        );
        put_u64(header, group_at::SEQUENCE, self.sequence);
        put_u64(header, group_at::RECOVERY_EPOCH, self.recovery_epoch);
        put_u64(header, group_at::INCARNATION, self.incarnation);
        put_u64(header, group_at::POSITION, self.position);
        put_u64(header, group_at::DURABLE_UPTO, self.durable_upto);
        put_u32(header, group_at::PREVIOUS_CHECKSUM, self.previous_checksum);
        put_u32(header, group_at::PART_COUNT, self.part_count);
        put_u32(
            header,
            group_at::DIRECTORY_LENGTH,
            self.directory_length() as u32,
        );
        put_u32(
            header,
            group_at::DIRECTORY_CHECKSUM,
            self.directory_checksum,
        );
        seal_header(header, store.as_bytes());
        get_u32(header, group_at::CHECKSUM)
    }

    /// Reads a header that lies at `position` of the file with this incarnation.
    ///
    /// Returns it with its checksum, or `None` if there is no sound header of that place. A header whose
    /// lengths contradict each other is not sound.
    #[must_use]
    pub fn decode(
        store: Uuid,
        incarnation: u64,
        position: u64,
        bytes: &[u8],
    ) -> Option<(Self, u32)> {
        if bytes.len() < GROUP_HEADER_BYTES
            || get_u32(bytes, group_at::MAGIC) != GROUP_MAGIC
            || get_u16(bytes, group_at::VERSION) != JOURNAL_VERSION
            || get_u64(bytes, group_at::INCARNATION) != incarnation
            || get_u64(bytes, group_at::POSITION) != position
            || !header_is_sound(bytes, store.as_bytes())
        {
            return None;
        }
        let header = Self {
            flags: get_u16(bytes, group_at::FLAGS),
            length: get_u32(bytes, group_at::LENGTH),
            sequence: get_u64(bytes, group_at::SEQUENCE),
            recovery_epoch: get_u64(bytes, group_at::RECOVERY_EPOCH),
            incarnation,
            position,
            durable_upto: get_u64(bytes, group_at::DURABLE_UPTO),
            previous_checksum: get_u32(bytes, group_at::PREVIOUS_CHECKSUM),
            part_count: get_u32(bytes, group_at::PART_COUNT),
            directory_checksum: get_u32(bytes, group_at::DIRECTORY_CHECKSUM),
        };
        let directory = u64::from(header.part_count) * PART_BYTES as u64;
        let lengths_agree = u64::from(get_u32(bytes, group_at::DIRECTORY_LENGTH)) == directory
            && GROUP_HEADER_BYTES as u64 + directory <= u64::from(header.length)
            && u64::from(get_u32(bytes, group_at::BLOCKS)) * BLOCK == header.padded_length()
            && header.durable_upto < header.sequence;
        lengths_agree.then(|| (header, get_u32(bytes, group_at::CHECKSUM)))
    }
}

/// An entry of a group's directory: consecutive batches of one partition, and where they belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartEntry {
    /// The partition.
    pub partition: TopicPartition,
    /// `PART_IN_SEGMENT` or nothing.
    pub flags: u32,
    /// The leader epoch of the last batch.
    pub leader_epoch: LeaderEpoch,
    /// Bytes of the part in the group, a multiple of 8 and never 0: those of its batches, or of the extent.
    pub length: u32,
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The offset after its last record.
    pub end_offset: Offset,
    /// Where its first byte belongs: the segment and the position in its file.
    pub position: LogPosition,
    /// The partition's high watermark when the group was built; it may lag.
    pub high_watermark: Offset,
    /// CRC32C of the first 8 bytes of each batch: its stamp's checksum and its CRC.
    pub checksum: u32,
    /// Batches of the part.
    pub batch_count: u32,
}

impl PartEntry {
    /// Writes the entry.
    ///
    /// # Panics
    /// If `entry` is shorter than one.
    pub fn encode(&self, entry: &mut [u8]) {
        entry[part_at::TOPIC..part_at::PARTITION].copy_from_slice(self.partition.topic.as_bytes());
        put_u32(entry, part_at::PARTITION, self.partition.partition.get());
        put_u32(entry, part_at::FLAGS, self.flags);
        put_u32(entry, part_at::LEADER_EPOCH, self.leader_epoch.get());
        put_u32(entry, part_at::LENGTH, self.length);
        put_u64(entry, part_at::BASE_OFFSET, self.base_offset.get());
        put_u64(entry, part_at::END_OFFSET, self.end_offset.get());
        put_u64(entry, part_at::SEGMENT, self.position.segment.get());
        put_u64(entry, part_at::POSITION, self.position.at);
        put_u64(entry, part_at::HIGH_WATERMARK, self.high_watermark.get());
        put_u32(entry, part_at::CHECKSUM, self.checksum);
        put_u32(entry, part_at::BATCH_COUNT, self.batch_count);
    }

    /// Reads an entry; whether it makes sense is for the recovery to say.
    ///
    /// # Panics
    /// If `entry` is shorter than one.
    #[must_use]
    pub fn decode(entry: &[u8]) -> Self {
        Self {
            partition: TopicPartition::new(
                TopicId::from_bytes(get_16(entry, part_at::TOPIC)),
                PartitionIndex::new(get_u32(entry, part_at::PARTITION)),
            ),
            flags: get_u32(entry, part_at::FLAGS),
            leader_epoch: LeaderEpoch::new(get_u32(entry, part_at::LEADER_EPOCH)),
            length: get_u32(entry, part_at::LENGTH),
            base_offset: Offset::new(get_u64(entry, part_at::BASE_OFFSET)),
            end_offset: Offset::new(get_u64(entry, part_at::END_OFFSET)),
            position: LogPosition {
                segment: Offset::new(get_u64(entry, part_at::SEGMENT)),
                at: get_u64(entry, part_at::POSITION),
            },
            high_watermark: Offset::new(get_u64(entry, part_at::HIGH_WATERMARK)),
            checksum: get_u32(entry, part_at::CHECKSUM),
            batch_count: get_u32(entry, part_at::BATCH_COUNT),
        }
    }

    /// Whether it lies where a segment has data, so that [`end_position`](Self::end_position) is one as well.
    #[must_use]
    pub fn has_a_place(&self) -> bool {
        let at = self.position.at;
        let end = at.saturating_add(u64::from(self.length));
        is_data_position(at) && is_data_position(end)
    }

    /// Whether its batches are in the segment's file already.
    #[must_use]
    pub fn is_in_segment(&self) -> bool {
        self.flags == PART_IN_SEGMENT
    }

    /// Where the part ends. If its batches are in the segment's file, this is a place among them: what is counted as
    /// flushed reaches beyond it if it reaches beyond their beginning at all.
    #[must_use]
    pub fn end_position(&self) -> LogPosition {
        LogPosition {
            segment: self.position.segment,
            at: self.position.at + u64::from(self.length),
        }
    }
}

/// What a group holds of a part whose batches are in the segment's file. They begin there where the directory says,
/// at a block's first byte, and their last block is padded: it holds nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of the batches, without the padding; never 0.
    pub length: u32,
    /// The incarnation of the segment's file.
    pub incarnation: u64,
}

impl Extent {
    /// Writes the extent of the part with this directory entry, which its checksum covers too.
    ///
    /// # Panics
    /// If `bytes` are not `EXTENT_BYTES`, or the entry is not `PART_BYTES`.
    pub fn encode(&self, entry: &[u8], bytes: &mut [u8]) {
        assert_eq!((entry.len(), bytes.len()), (PART_BYTES, EXTENT_BYTES));
        bytes.fill(0);
        put_u32(bytes, extent_at::LENGTH, self.length);
        put_u64(bytes, extent_at::INCARNATION, self.incarnation);
        put_u32(bytes, extent_at::CHECKSUM, Self::checksum(entry, bytes));
    }

    /// Reads the extent of a part, or nothing if it is not the one that was written for it.
    #[must_use]
    pub fn decode(part: &PartEntry, bytes: &[u8]) -> Option<Self> {
        let mut entry = [0; PART_BYTES];
        part.encode(&mut entry);
        let is_sound = bytes.len() == EXTENT_BYTES
            && part.has_a_place()
            && get_u32(bytes, extent_at::CHECKSUM) == Self::checksum(&entry, bytes)
            && part.position.at.is_multiple_of(BLOCK)
            && get_u32(bytes, extent_at::LENGTH) > 0
            && is_data_position(part.position.at + u64::from(get_u32(bytes, extent_at::LENGTH)));
        is_sound.then(|| Self {
            length: get_u32(bytes, extent_at::LENGTH),
            incarnation: get_u64(bytes, extent_at::INCARNATION),
        })
    }

    fn checksum(entry: &[u8], bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(entry), &bytes[..extent_at::CHECKSUM])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> GroupHeader {
        GroupHeader {
            flags: GROUP_SEAL,
            length: 128 + 160 + 5000,
            sequence: 9,
            recovery_epoch: 3,
            incarnation: 5,
            position: 8192,
            durable_upto: 7,
            previous_checksum: 0xdead_beef,
            part_count: 2,
            directory_checksum: 77,
        }
    }

    #[test]
    fn a_group_header_is_read_only_at_its_own_place() {
        let store = Uuid::from_u128(1);
        let mut bytes = [0; GROUP_HEADER_BYTES];
        let checksum = header().encode(store, &mut bytes);
        assert_eq!(
            GroupHeader::decode(store, 5, 8192, &bytes),
            Some((header(), checksum))
        );
        assert_eq!(
            GroupHeader::decode(Uuid::from_u128(2), 5, 8192, &bytes),
            None
        );
        assert_eq!(GroupHeader::decode(store, 6, 8192, &bytes), None);
        assert_eq!(GroupHeader::decode(store, 5, 4096, &bytes), None);
        assert_eq!(GroupHeader::decode(store, 5, 8192, &bytes[..127]), None);
        for bit in 0..GROUP_HEADER_BYTES * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                GroupHeader::decode(store, 5, 8192, &bytes),
                None,
                "bit {bit}"
            );
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_part_entry_reads_as_written() {
        let entry = PartEntry {
            partition: TopicPartition::new(TopicId::from_bytes([7; 16]), PartitionIndex::new(8)),
            flags: 0,
            leader_epoch: LeaderEpoch::new(2),
            length: 4000,
            base_offset: Offset::new(100),
            end_offset: Offset::new(140),
            position: LogPosition {
                segment: Offset::new(50),
                at: 12_288,
            },
            high_watermark: Offset::new(90),
            checksum: 1,
            batch_count: 3,
        };
        let mut bytes = [0; PART_BYTES];
        entry.encode(&mut bytes);
        assert_eq!(PartEntry::decode(&bytes), entry);
        assert_eq!(
            entry.end_position(),
            LogPosition {
                segment: Offset::new(50),
                at: 16_288
            }
        );
    }

    #[test]
    fn a_file_header_reads_as_written_and_every_flip_shows() {
        let header = JournalHeader {
            store: Uuid::from_u128(3),
            incarnation: 4,
            recovery_epoch: 2,
            file_bytes: 1 << 26,
            number: 1,
        };
        let mut block = [0; 4096];
        header.encode(&mut block);
        assert_eq!(JournalHeader::decode(&block), Ok(header));
        for bit in 0..HEADER_BYTES * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(JournalHeader::decode(&block).is_err(), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
