//! The bytes of a block log, which `docs/data_dir.md` draws.
//!
//! Pure: turns values into blocks and blocks into values, and never touches a file.

use uuid::Uuid;

use crate::disk::BLOCK_BYTES;
use crate::layout::{get_u16, get_u32, get_u64};
use crate::memory::AlignedBuf;

/// The first bytes of every block log.
pub const BLOCK_LOG_MAGIC: [u8; 8] = *b"CLBLKLOG";
/// The version of the format that this code writes and reads.
pub const BLOCK_LOG_VERSION: u16 = 1;
/// The most bytes of a checkpoint.
pub const CHECKPOINT_BYTES_MAX: usize = 2048;
/// The most bytes of a group, its header and the lengths of its records (4 bytes each) included.
pub const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

pub(super) const BLOCK: u64 = BLOCK_BYTES as u64;
/// Where the first group begins.
pub(crate) const FIRST_GROUP: u64 = 3 * BLOCK;
pub(super) const GROUP_HEADER_BYTES: usize = 40;

const GROUP_MAGIC: [u8; 4] = *b"CLBG";
const SUPERBLOCK_MAGIC: [u8; 4] = *b"CLSB";
const FLAG_CLEAN: u16 = 1;
const RECORD_LENGTH_BYTES: usize = 4;

mod header_at {
    pub(super) const VERSION: usize = 8;
    pub(super) const KIND: usize = 10;
    pub(super) const BLOCK_SIZE: usize = 12;
    pub(super) const IDENTITY: usize = 16;
    pub(super) const INCARNATION: usize = 32;
}

mod group_at {
    pub(super) const FLAGS: usize = 4;
    pub(super) const SEQUENCE: usize = 8;
    pub(super) const LENGTH: usize = 16;
    pub(super) const RECORD_COUNT: usize = 20;
    pub(super) const CHECKPOINT_LENGTH: usize = 24;
    pub(super) const PREVIOUS: usize = 28;
    pub(super) const BODY_CHECKSUM: usize = 32;
    pub(super) const CHECKSUM: usize = 36;
}

mod superblock_at {
    pub(super) const FLAGS: usize = 4;
    pub(super) const SEQUENCE: usize = 8;
    pub(super) const END: usize = 16;
    pub(super) const GROUP_CHECKSUM: usize = 24;
    pub(super) const CHECKPOINT_LENGTH: usize = 28;
    pub(super) const CHECKPOINT: usize = 32;
}

/// Where the checksum of a whole block is.
const BLOCK_CHECKSUM: usize = BLOCK_BYTES - 4;

const _: () = assert!(group_at::CHECKSUM + 4 == GROUP_HEADER_BYTES);
const _: () = assert!(superblock_at::CHECKPOINT + CHECKPOINT_BYTES_MAX <= BLOCK_CHECKSUM);
const _: () = assert!(header_at::INCARNATION + 8 <= BLOCK_CHECKSUM);
const _: () =
    assert!(GROUP_BYTES_MAX.is_multiple_of(BLOCK_BYTES) && GROUP_BYTES_MAX <= u32::MAX as usize);

/// What a block log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum BlockLogKind {
    /// A store's index of itself.
    Catalogue = 1,
    /// The cluster's metadata records.
    Metadata = 2,
}

impl BlockLogKind {
    fn from_number(number: u16) -> Option<Self> {
        [Self::Catalogue, Self::Metadata]
            .into_iter()
            .find(|kind| *kind as u16 == number)
    }
}

/// Block 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: BlockLogKind,
    pub(crate) identity: Uuid,
    pub(crate) incarnation: u64,
}

/// Why a header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderDefect {
    Damaged(&'static str),
    Version(u16),
}

impl Header {
    pub(crate) fn encode(&self) -> AlignedBuf {
        let mut block = AlignedBuf::zeroed(BLOCK_BYTES);
        block[..8].copy_from_slice(&BLOCK_LOG_MAGIC);
        put(
            &mut block,
            header_at::VERSION,
            BLOCK_LOG_VERSION.to_le_bytes(),
        );
        put(
            &mut block,
            header_at::KIND,
            (self.kind as u16).to_le_bytes(),
        );
        put(
            &mut block,
            header_at::BLOCK_SIZE,
            (BLOCK_BYTES as u32).to_le_bytes(),
        );
        put(&mut block, header_at::IDENTITY, self.identity.into_bytes());
        put(
            &mut block,
            header_at::INCARNATION,
            self.incarnation.to_le_bytes(),
        );
        let checksum = crc32c::crc32c(&block[..BLOCK_CHECKSUM]);
        put(&mut block, BLOCK_CHECKSUM, checksum.to_le_bytes());
        block
    }

    pub(crate) fn decode(block: &[u8]) -> Result<Self, HeaderDefect> {
        if !block.starts_with(&BLOCK_LOG_MAGIC) {
            return Err(HeaderDefect::Damaged(
                "it does not begin as a block log does",
            ));
        }
        if get_u32(block, BLOCK_CHECKSUM) != crc32c::crc32c(&block[..BLOCK_CHECKSUM]) {
            return Err(HeaderDefect::Damaged(
                "the header does not match its checksum",
            ));
        }
        let version = get_u16(block, header_at::VERSION);
        if version != BLOCK_LOG_VERSION {
            return Err(HeaderDefect::Version(version));
        }
        if get_u32(block, header_at::BLOCK_SIZE) != BLOCK_BYTES as u32 {
            return Err(HeaderDefect::Damaged("the block size is not 4096"));
        }
        let kind = BlockLogKind::from_number(get_u16(block, header_at::KIND))
            .ok_or(HeaderDefect::Damaged("the kind of log is unknown"))?;
        let identity = Uuid::from_bytes(get(block, header_at::IDENTITY));
        Ok(Self {
            kind,
            identity,
            incarnation: get_u64(block, header_at::INCARNATION),
        })
    }

    /// The start of every checksum of something at `position`.
    fn seed(&self, position: u64) -> u32 {
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(self.identity.as_bytes());
        seed[16..24].copy_from_slice(&self.incarnation.to_le_bytes());
        seed[24..].copy_from_slice(&position.to_le_bytes());
        crc32c::crc32c(&seed)
    }
}

/// How far a log reaches: what the next group follows, and what a superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    /// The sequence of the last group; 0 before the first.
    pub(crate) sequence: u64,
    /// Where the last group ends, in bytes.
    pub(crate) end: u64,
    /// The last group's header checksum; 0 before the first.
    pub(crate) group_checksum: u32,
    pub(crate) is_clean: bool,
    pub(crate) checkpoint: Vec<u8>,
}

impl Superblock {
    /// A log without groups.
    pub(crate) fn empty() -> Self {
        Self {
            sequence: 0,
            end: FIRST_GROUP,
            group_checksum: 0,
            is_clean: false,
            checkpoint: Vec::new(),
        }
    }

    /// Where the superblock with `sequence` is, in bytes.
    pub(crate) fn position(sequence: u64) -> u64 {
        BLOCK * (1 + sequence % 2)
    }

    pub(crate) fn encode(&self, header: &Header) -> AlignedBuf {
        let mut block = AlignedBuf::zeroed(BLOCK_BYTES);
        block[..4].copy_from_slice(&SUPERBLOCK_MAGIC);
        put(
            &mut block,
            superblock_at::FLAGS,
            flags(self.is_clean).to_le_bytes(),
        );
        put(
            &mut block,
            superblock_at::SEQUENCE,
            self.sequence.to_le_bytes(),
        );
        put(&mut block, superblock_at::END, self.end.to_le_bytes());
        put(
            &mut block,
            superblock_at::GROUP_CHECKSUM,
            self.group_checksum.to_le_bytes(),
        );
        let checkpoint_length = self.checkpoint.len() as u32;
        put(
            &mut block,
            superblock_at::CHECKPOINT_LENGTH,
            checkpoint_length.to_le_bytes(),
        );
        block[superblock_at::CHECKPOINT..][..self.checkpoint.len()]
            .copy_from_slice(&self.checkpoint);
        let seed = header.seed(Self::position(self.sequence));
        let checksum = crc32c::crc32c_append(seed, &block[..BLOCK_CHECKSUM]);
        put(&mut block, BLOCK_CHECKSUM, checksum.to_le_bytes());
        block
    }

    /// The superblock at `position`, or `None` if there is no valid one.
    pub(crate) fn decode(block: &[u8], position: u64, header: &Header) -> Option<Self> {
        let checksum = crc32c::crc32c_append(header.seed(position), &block[..BLOCK_CHECKSUM]);
        if !block.starts_with(&SUPERBLOCK_MAGIC) || get_u32(block, BLOCK_CHECKSUM) != checksum {
            return None;
        }
        let sequence = get_u64(block, superblock_at::SEQUENCE);
        let end = get_u64(block, superblock_at::END);
        let checkpoint_length = get_u32(block, superblock_at::CHECKPOINT_LENGTH) as usize;
        let is_plausible = Self::position(sequence) == position
            && end >= FIRST_GROUP
            && end.is_multiple_of(BLOCK)
            && checkpoint_length <= CHECKPOINT_BYTES_MAX;
        is_plausible.then(|| Self {
            sequence,
            end,
            group_checksum: get_u32(block, superblock_at::GROUP_CHECKSUM),
            is_clean: get_u16(block, superblock_at::FLAGS) & FLAG_CLEAN != 0,
            checkpoint: block[superblock_at::CHECKPOINT..][..checkpoint_length].to_vec(),
        })
    }
}

/// The bytes that a group of these records takes, without its padding.
pub(super) fn group_length(checkpoint: &[u8], records: &[impl AsRef<[u8]>]) -> usize {
    let records = records
        .iter()
        .map(|record| RECORD_LENGTH_BYTES + record.as_ref().len());
    GROUP_HEADER_BYTES + checkpoint.len() + records.sum::<usize>()
}

/// The group that follows `before`, and how far the log reaches with it.
///
/// # Panics
/// If the checkpoint or the group is too large: the caller has checked.
pub(super) fn encode_group(
    header: &Header,
    before: &Superblock,
    records: &[impl AsRef<[u8]>],
    checkpoint: &[u8],
    is_clean: bool,
) -> (AlignedBuf, Superblock) {
    let length = group_length(checkpoint, records);
    assert!(length <= GROUP_BYTES_MAX && checkpoint.len() <= CHECKPOINT_BYTES_MAX);
    let sequence = before.sequence + 1;
    let mut group = AlignedBuf::zeroed(length.next_multiple_of(BLOCK_BYTES));
    let mut at = GROUP_HEADER_BYTES;
    let mut append = |bytes: &[u8]| {
        group[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    append(checkpoint);
    for record in records {
        append(&(record.as_ref().len() as u32).to_le_bytes());
        append(record.as_ref());
    }
    debug_assert_eq!(at, length);
    let body_checksum = crc32c::crc32c(&group[GROUP_HEADER_BYTES..]);
    group[..4].copy_from_slice(&GROUP_MAGIC);
    put(&mut group, group_at::FLAGS, flags(is_clean).to_le_bytes());
    put(&mut group, group_at::SEQUENCE, sequence.to_le_bytes());
    put(&mut group, group_at::LENGTH, (length as u32).to_le_bytes());
    put(
        &mut group,
        group_at::RECORD_COUNT,
        (records.len() as u32).to_le_bytes(),
    );
    put(
        &mut group,
        group_at::CHECKPOINT_LENGTH,
        (checkpoint.len() as u32).to_le_bytes(),
    );
    put(
        &mut group,
        group_at::PREVIOUS,
        before.group_checksum.to_le_bytes(),
    );
    put(
        &mut group,
        group_at::BODY_CHECKSUM,
        body_checksum.to_le_bytes(),
    );
    let group_checksum =
        crc32c::crc32c_append(header.seed(before.end), &group[..group_at::CHECKSUM]);
    put(&mut group, group_at::CHECKSUM, group_checksum.to_le_bytes());
    let end = before.end + group.len() as u64;
    (
        group,
        Superblock {
            sequence,
            end,
            group_checksum,
            is_clean,
            checkpoint: checkpoint.to_vec(),
        },
    )
}

/// A group's header, once it is known to be the one that belongs at its position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupHeader {
    pub(crate) sequence: u64,
    pub(crate) is_clean: bool,
    pub(crate) record_count: u32,
    length: usize,
    checkpoint_length: usize,
    body_checksum: u32,
    checksum: u32,
}

impl GroupHeader {
    /// Reads the header of the group that follows `before` from the group's first block.
    pub(crate) fn decode(
        block: &[u8],
        header: &Header,
        before: &Superblock,
    ) -> Result<Self, &'static str> {
        let checksum = crc32c::crc32c_append(header.seed(before.end), &block[..group_at::CHECKSUM]);
        if !block.starts_with(&GROUP_MAGIC) || get_u32(block, group_at::CHECKSUM) != checksum {
            return Err("the group's header does not match its checksum");
        }
        let group = Self {
            sequence: get_u64(block, group_at::SEQUENCE),
            is_clean: get_u16(block, group_at::FLAGS) & FLAG_CLEAN != 0,
            record_count: get_u32(block, group_at::RECORD_COUNT),
            length: get_u32(block, group_at::LENGTH) as usize,
            checkpoint_length: get_u32(block, group_at::CHECKPOINT_LENGTH) as usize,
            body_checksum: get_u32(block, group_at::BODY_CHECKSUM),
            checksum,
        };
        if group.sequence != before.sequence + 1
            || get_u32(block, group_at::PREVIOUS) != before.group_checksum
        {
            return Err("the group does not follow the one before");
        }
        let length_min = GROUP_HEADER_BYTES + group.checkpoint_length;
        if group.checkpoint_length > CHECKPOINT_BYTES_MAX
            || !(length_min..=GROUP_BYTES_MAX).contains(&group.length)
        {
            return Err("the group's lengths are impossible");
        }
        Ok(group)
    }

    /// The bytes of the whole group, a multiple of the block.
    pub(crate) fn padded_length(&self) -> usize {
        self.length.next_multiple_of(BLOCK_BYTES)
    }

    /// Checks the whole group and takes it apart: how far the log reaches with it, and its records.
    pub(crate) fn decode_body<'a>(
        &self,
        group: &'a [u8],
        before: &Superblock,
    ) -> Result<(Superblock, Vec<&'a [u8]>), &'static str> {
        assert_eq!(group.len(), self.padded_length());
        if crc32c::crc32c(&group[GROUP_HEADER_BYTES..]) != self.body_checksum {
            return Err("the group does not match its checksum");
        }
        let (checkpoint, mut rest) =
            group[GROUP_HEADER_BYTES..self.length].split_at(self.checkpoint_length);
        let mut records = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk() {
            let length = u32::from_le_bytes(*length) as usize;
            let (record, after) = after
                .split_at_checked(length)
                .ok_or("a record reaches beyond its group")?;
            records.push(record);
            rest = after;
        }
        if !rest.is_empty() || records.len() != self.record_count as usize {
            return Err("the group's records do not fill it");
        }
        let reached = Superblock {
            sequence: self.sequence,
            end: before.end + group.len() as u64,
            group_checksum: self.checksum,
            is_clean: self.is_clean,
            checkpoint: checkpoint.to_vec(),
        };
        Ok((reached, records))
    }
}

fn flags(is_clean: bool) -> u16 {
    if is_clean { FLAG_CLEAN } else { 0 }
}

fn put<const N: usize>(block: &mut [u8], at: usize, bytes: [u8; N]) {
    block[at..at + N].copy_from_slice(&bytes);
}

fn get<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    block[at..at + N].try_into().expect("the range has N bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        kind: BlockLogKind::Catalogue,
        identity: Uuid::from_u128(7),
        incarnation: 3,
    };
    const NO_RECORDS: [&[u8]; 0] = [];

    /// A group with other header bytes, whose checksums fit them.
    fn forged(change: impl FnOnce(&mut [u8])) -> AlignedBuf {
        let (mut group, _) = encode_group(
            &HEADER,
            &Superblock::empty(),
            &[b"one", b"two"],
            b"point",
            false,
        );
        change(&mut group);
        let body_checksum = crc32c::crc32c(&group[GROUP_HEADER_BYTES..]);
        put(
            &mut group,
            group_at::BODY_CHECKSUM,
            body_checksum.to_le_bytes(),
        );
        let checksum =
            crc32c::crc32c_append(HEADER.seed(FIRST_GROUP), &group[..group_at::CHECKSUM]);
        put(&mut group, group_at::CHECKSUM, checksum.to_le_bytes());
        group
    }

    fn decoded(group: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
        let before = Superblock::empty();
        let header = GroupHeader::decode(&group[..BLOCK_BYTES], &HEADER, &before)?;
        let whole = group
            .get(..header.padded_length())
            .ok_or("shorter than it says")?;
        let (_, records) = header.decode_body(whole, &before)?;
        Ok(records.into_iter().map(<[u8]>::to_vec).collect())
    }

    #[test]
    fn a_header_keeps_its_values() {
        assert_eq!(Header::decode(&HEADER.encode()), Ok(HEADER));
    }

    #[test]
    fn another_version_is_named() {
        let mut block = HEADER.encode();
        put(&mut block, header_at::VERSION, 2_u16.to_le_bytes());
        let checksum = crc32c::crc32c(&block[..BLOCK_CHECKSUM]);
        put(&mut block, BLOCK_CHECKSUM, checksum.to_le_bytes());
        assert_eq!(Header::decode(&block), Err(HeaderDefect::Version(2)));
    }

    #[test]
    fn a_group_and_its_superblock_keep_their_values() {
        let checkpoint = [9; CHECKPOINT_BYTES_MAX];
        let (group, reached) = encode_group(
            &HEADER,
            &Superblock::empty(),
            &[b"one", &b""[..]],
            &checkpoint,
            true,
        );
        assert_eq!(decoded(&group), Ok(vec![b"one".to_vec(), Vec::new()]));
        assert_eq!(
            (reached.sequence, reached.end, reached.is_clean),
            (1, FIRST_GROUP + BLOCK, true)
        );
        let block = reached.encode(&HEADER);
        assert_eq!(
            Superblock::decode(&block, 2 * BLOCK, &HEADER),
            Some(reached)
        );
        assert_eq!(Superblock::decode(&block, BLOCK, &HEADER), None);
    }

    #[test]
    fn a_group_belongs_to_one_place_of_one_log_after_one_other() {
        let (group, _) = encode_group(&HEADER, &Superblock::empty(), &NO_RECORDS, b"", false);
        let refused = |header: Header, before: Superblock| {
            GroupHeader::decode(&group, &header, &before).is_err()
        };
        assert!(!refused(HEADER, Superblock::empty()));
        assert!(refused(
            Header {
                incarnation: 4,
                ..HEADER
            },
            Superblock::empty()
        ));
        assert!(refused(
            Header {
                identity: Uuid::nil(),
                ..HEADER
            },
            Superblock::empty()
        ));
        assert!(refused(
            HEADER,
            Superblock {
                end: FIRST_GROUP + BLOCK,
                ..Superblock::empty()
            }
        ));
        assert!(refused(
            HEADER,
            Superblock {
                sequence: 1,
                ..Superblock::empty()
            }
        ));
        assert!(refused(
            HEADER,
            Superblock {
                group_checksum: 1,
                ..Superblock::empty()
            }
        ));
    }

    #[test]
    fn absurd_lengths_of_a_group_are_refused() {
        for length in [0, 39, 44, GROUP_BYTES_MAX as u32 + 1, 1 << 31, u32::MAX] {
            let group = forged(|group| put(group, group_at::LENGTH, length.to_le_bytes()));
            assert!(decoded(&group).is_err(), "{length}");
        }
        for length in [CHECKPOINT_BYTES_MAX as u32 + 1, 1 << 31, u32::MAX] {
            let group =
                forged(|group| put(group, group_at::CHECKPOINT_LENGTH, length.to_le_bytes()));
            assert!(decoded(&group).is_err(), "{length}");
        }
    }

    #[test]
    fn absurd_records_of_a_group_are_refused() {
        let record_at = GROUP_HEADER_BYTES + b"point".len();
        for length in [2, 4, 100, 1 << 31, u32::MAX] {
            let group = forged(|group| put(group, record_at, length.to_le_bytes()));
            assert!(decoded(&group).is_err(), "{length}");
        }
        for count in [0, 1, 3, u32::MAX] {
            let group = forged(|group| put(group, group_at::RECORD_COUNT, count.to_le_bytes()));
            assert!(decoded(&group).is_err(), "{count}");
        }
    }

    #[test]
    fn absurd_superblocks_are_refused() {
        let forged = |change: &dyn Fn(&mut [u8])| {
            let mut block = Superblock {
                sequence: 2,
                ..Superblock::empty()
            }
            .encode(&HEADER);
            change(&mut block);
            let checksum = crc32c::crc32c_append(HEADER.seed(BLOCK), &block[..BLOCK_CHECKSUM]);
            put(&mut block, BLOCK_CHECKSUM, checksum.to_le_bytes());
            Superblock::decode(&block, BLOCK, &HEADER)
        };
        assert!(forged(&|_| {}).is_some());
        assert!(
            forged(&|block| put(block, superblock_at::SEQUENCE, 3_u64.to_le_bytes())).is_none()
        );
        for end in [0, FIRST_GROUP - BLOCK, FIRST_GROUP + 1, u64::MAX] {
            assert!(
                forged(&|block| put(block, superblock_at::END, end.to_le_bytes())).is_none(),
                "{end}"
            );
        }
        for length in [CHECKPOINT_BYTES_MAX as u32 + 1, u32::MAX] {
            let forged = forged(&|block| {
                put(
                    block,
                    superblock_at::CHECKPOINT_LENGTH,
                    length.to_le_bytes(),
                )
            });
            assert!(forged.is_none(), "{length}");
        }
    }
}
