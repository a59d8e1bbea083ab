//! The header block of a segment file.
//!
//! Owns its layout, which `docs/data_dir.md` draws. Pure; used on the core that runs the store.

use corelane_protocol::{Offset, PartitionIndex, TopicId, TopicPartition};
use uuid::Uuid;

use crate::layout::{
    BLOCK, HEADER_BYTES, get_16, get_u16, get_u32, get_u64, header_is_sound, put_u16, put_u32,
    put_u64, seal_header,
};

/// The first bytes of a segment file.
pub const SEGMENT_MAGIC: [u8; 8] = *b"CLSEGMNT";
/// The version of the segment format that this code writes and reads.
pub const SEGMENT_VERSION: u16 = 1;

mod at {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 8;
    pub(super) const BLOCK_BYTES: usize = 12;
    pub(super) const STORE: usize = 16;
    pub(super) const TOPIC: usize = 32;
    pub(super) const PARTITION: usize = 48;
    pub(super) const BASE_OFFSET: usize = 56;
    pub(super) const INCARNATION: usize = 64;
    pub(super) const RESERVED: usize = 72;
}

const _: () = assert!(at::TOPIC + 16 == at::PARTITION && at::RESERVED < HEADER_BYTES - 4);

/// Which segment of which partition a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The store's identity.
    pub store: Uuid,
    /// The partition.
    pub partition: TopicPartition,
    /// The offset of the segment's first record.
    pub base_offset: Offset,
    /// Which making of the file it is; the catalogue names the one that counts.
    pub incarnation: u64,
}

/// Why the header of a segment file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentHeaderError {
    /// The magic or the checksum is wrong.
    #[error("the header is damaged")]
    Damaged,
    /// Another version wrote it.
    #[error("the format version is {0}, this program knows {SEGMENT_VERSION}")]
    Version(u16),
}

impl SegmentHeader {
    /// Writes the header into the first bytes of a block of zeros.
    ///
    /// # Panics
    /// If `block` is shorter than a header.
    pub fn encode(&self, block: &mut [u8]) {
        block[at::MAGIC..at::VERSION].copy_from_slice(&SEGMENT_MAGIC);
        put_u16(block, at::VERSION, SEGMENT_VERSION);
        put_u32(block, at::BLOCK_BYTES, BLOCK as u32);
        block[at::STORE..at::STORE + 16].copy_from_slice(self.store.as_bytes());
        block[at::TOPIC..at::PARTITION].copy_from_slice(self.partition.topic.as_bytes());
        put_u32(block, at::PARTITION, self.partition.partition.get());
        put_u64(block, at::BASE_OFFSET, self.base_offset.get());
        put_u64(block, at::INCARNATION, self.incarnation);
        seal_header(block, &[]);
    }

    /// Reads a header.
    ///
    /// # Errors
    /// `SegmentHeaderError`.
    pub fn decode(block: &[u8]) -> Result<Self, SegmentHeaderError> {
        if block.len() < HEADER_BYTES
            || block[..at::VERSION] != SEGMENT_MAGIC
            || !header_is_sound(block, &[])
        {
            return Err(SegmentHeaderError::Damaged);
        }
        let version = get_u16(block, at::VERSION);
        if version != SEGMENT_VERSION {
            return Err(SegmentHeaderError::Version(version));
        }
        Ok(Self {
            store: Uuid::from_bytes(get_16(block, at::STORE)),
            partition: TopicPartition::new(
                TopicId::from_bytes(get_16(block, at::TOPIC)),
                PartitionIndex::new(get_u32(block, at::PARTITION)),
            ),
            base_offset: Offset::new(get_u64(block, at::BASE_OFFSET)),
            incarnation: get_u64(block, at::INCARNATION),
        })
    }
}

/// The path of a partition's directory.
#[must_use]
pub fn partition_dir(store_dir: &str, partition: TopicPartition) -> String {
    format!("{store_dir}/{}/{}", partition.topic, partition.partition)
}

/// The path of a topic's directory.
#[must_use]
pub fn topic_dir(store_dir: &str, topic: TopicId) -> String {
    format!("{store_dir}/{topic}")
}

/// The path of a segment's file.
#[must_use]
pub fn segment_path(store_dir: &str, partition: TopicPartition, base: Offset) -> String {
    format!(
        "{}/{:020}.log",
        partition_dir(store_dir, partition),
        base.get()
    )
}

/// The path of a file that compaction wrote in the place of those of one or more segments. An original and every
/// file that is made in its place have different names, so that none is ever in the place of another.
#[must_use]
pub fn compacted_path(
    store_dir: &str,
    partition: TopicPartition,
    base: Offset,
    incarnation: u64,
) -> String {
    format!(
        "{}/{:020}-{incarnation:016x}.log",
        partition_dir(store_dir, partition),
        base.get()
    )
}

/// The path of the index file beside a segment's file.
#[must_use]
pub fn index_beside(segment_path: &str) -> String {
    let name = segment_path.strip_suffix(".log").unwrap_or(segment_path);
    format!("{name}.index")
}

/// What the name of a segment's or an index's file says: the base offset, and the incarnation if compaction wrote it.
#[must_use]
pub fn parse_file_name(name: &str) -> Option<(Offset, Option<u64>)> {
    let stem = name.strip_suffix(".log").or(name.strip_suffix(".index"))?;
    let (base, incarnation) = match stem.split_once('-') {
        Some((base, incarnation)) => (base, Some(incarnation)),
        None => (stem, None),
    };
    let is_digits = base.len() == 20 && base.bytes().all(|byte| byte.is_ascii_digit());
    let base = base.parse().ok().filter(|_| is_digits)?;
    let incarnation = match incarnation {
        None => None,
        Some(digits) if digits.len() == 16 => Some(u64::from_str_radix(digits, 16).ok()?),
        Some(_) => return None,
    };
    Some((Offset::new(base), incarnation))
}

/// The path of a segment's index file.
#[must_use]
pub fn index_path(store_dir: &str, partition: TopicPartition, base: Offset) -> String {
    format!(
        "{}/{:020}.index",
        partition_dir(store_dir, partition),
        base.get()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_as_written_and_every_flip_shows() {
        let header = SegmentHeader {
            store: Uuid::from_u128(3),
            partition: TopicPartition::new(TopicId::from_bytes([9; 16]), PartitionIndex::new(4)),
            base_offset: Offset::new(77),
            incarnation: 5,
        };
        let mut block = [0; 4096];
        header.encode(&mut block);
        assert_eq!(SegmentHeader::decode(&block), Ok(header));
        for bit in 0..HEADER_BYTES * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&block).is_err(), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn names_say_what_they_are_of() {
        let partition = TopicPartition::new(TopicId::from_bytes([0; 16]), PartitionIndex::new(12));
        let base = Offset::new(42);
        let compacted = compacted_path("store-0001", partition, base, 0x1_0000_0002);
        assert_eq!(
            compacted,
            "store-0001/00000000-0000-0000-0000-000000000000/12/00000000000000000042-0000000100000002.log"
        );
        let original = segment_path("store-0001", partition, base);
        assert_eq!(
            index_beside(&original),
            index_path("store-0001", partition, base)
        );
        let name = |path: &str| path.rsplit_once('/').map(|(_, name)| name.to_owned());
        let parsed = |path: &str| parse_file_name(&name(path).expect("it has a directory"));
        assert_eq!(parsed(&original), Some((base, None)));
        assert_eq!(
            parsed(&index_beside(&compacted)),
            Some((base, Some(0x1_0000_0002)))
        );
        for foreign in [
            "42.log",
            "notes.log",
            "00000000000000000042.txt",
            "00000000000000000042-2.log",
        ] {
            assert_eq!(parse_file_name(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn paths_sort_like_offsets() {
        let partition = TopicPartition::new(TopicId::from_bytes([0; 16]), PartitionIndex::new(12));
        assert_eq!(
            segment_path("store-0001", partition, Offset::new(42)),
            "store-0001/00000000-0000-0000-0000-000000000000/12/00000000000000000042.log"
        );
    }
}
