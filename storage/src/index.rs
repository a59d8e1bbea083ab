//! The sparse index of a segment, by offset and by time: one entry per so many bytes, in memory and in a file
//! beside it.
//!
//! Owns the entries and the layout of the file, which `docs/data_dir.md` draws. An index is derived: it
//! covers flushed batches only, may end before the segment does, and is rebuilt by a scan where it is
//! missing or damaged. Every entry is checked against the batch it points to before it is believed. Pure;
//! used on the core that runs the store.

use corelane_protocol::{Offset, Timestamp};

use crate::disk::BLOCK_BYTES;
use crate::layout::{get_u16, get_u32, get_u64, put_u16, put_u32, put_u64};
use crate::memory::AlignedBuf;
use crate::position::{LogPoint, LogPosition, SEGMENT_DATA};
use crate::times::SegmentTimes;

/// The first bytes of every block of an index file.
pub const INDEX_MAGIC: [u8; 8] = *b"CLINDEX\0";
/// The version of the index format that this code writes and reads.
pub const INDEX_VERSION: u16 = 1;
/// Entries of one block.
pub const BLOCK_ENTRIES: usize = (at::CHECKSUM - at::ENTRIES) / ENTRY_BYTES;

const ENTRY_BYTES: usize = 16;

mod at {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 8;
    pub(super) const COUNT: usize = 12;
    pub(super) const INCARNATION: usize = 16;
    pub(super) const BASE_OFFSET: usize = 24;
    pub(super) const BLOCK_NUMBER: usize = 32;
    pub(super) const ENTRIES: usize = 40;
    pub(super) const CHECKSUM: usize = super::BLOCK_BYTES - 4;
}

const _: () =
    assert!(BLOCK_ENTRIES == 253 && at::ENTRIES + BLOCK_ENTRIES * ENTRY_BYTES <= at::CHECKSUM);

/// A batch of the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Its base offset less the segment's.
    pub relative_offset: u32,
    /// Its position in the segment's file, in bytes.
    pub position: u32,
    /// The largest timestamp of the segment's records before it, so that whoever looks for a later one begins
    /// here.
    pub max_timestamp_before: Timestamp,
}

/// The entries of one segment, in order.
#[derive(Clone, Debug)]
pub struct SparseIndex {
    base: Offset,
    interval_bytes: u32,
    entries: Vec<IndexEntry>,
}

/// Which segment an index file must belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexIdentity {
    /// The segment's base offset.
    pub base: Offset,
    /// The segment file's incarnation.
    pub incarnation: u64,
}

impl SparseIndex {
    /// An index without entries for a segment, to be given one per `interval_bytes`.
    #[must_use]
    pub fn new(base: Offset, interval_bytes: u32) -> Self {
        Self {
            base,
            interval_bytes,
            entries: Vec::new(),
        }
    }

    /// The entries.
    #[must_use]
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// Notes a batch, later than those noted before, if it is far enough from the last entry.
    ///
    /// # Panics
    /// If the batch is not within 4 GiB and 2^32 offsets of the segment's start, which rolling ensures.
    pub fn note(&mut self, offset: Offset, position: u64, max_timestamp_before: Timestamp) {
        let last = self
            .entries
            .last()
            .map_or(SEGMENT_DATA, |entry| u64::from(entry.position));
        if position < last + u64::from(self.interval_bytes) {
            return;
        }
        let relative_offset =
            u32::try_from(offset.distance_from(self.base)).expect("a segment rolls before");
        let position = u32::try_from(position).expect("a segment rolls before");
        self.entries.push(IndexEntry {
            relative_offset,
            position,
            max_timestamp_before,
        });
    }

    /// The last known batch that does not begin after `offset`: the first of the segment if no entry does.
    #[must_use]
    pub fn floor(&self, offset: Offset) -> LogPoint {
        let relative = offset.distance_from(self.base);
        let known = self
            .entries
            .partition_point(|entry| u64::from(entry.relative_offset) <= relative);
        match known.checked_sub(1) {
            Some(index) => self.point(self.entries[index]),
            None => LogPoint::start_of(self.base),
        }
    }

    /// The last known batch that begins behind `from` and not more than `bytes` behind it.
    #[must_use]
    pub fn last_within(&self, from: LogPoint, bytes: u64) -> Option<LogPoint> {
        let end = from.position.at + bytes;
        let known = self
            .entries
            .partition_point(|entry| u64::from(entry.position) <= end);
        let last = self.entries[..known].last()?;
        (u64::from(last.position) > from.position.at).then(|| self.point(*last))
    }

    /// The last known batch with no record at or after `timestamp` before it: the first of the segment if
    /// that is so of no other.
    #[must_use]
    pub fn time_floor(&self, timestamp: Timestamp) -> LogPoint {
        let known = self
            .entries
            .partition_point(|entry| entry.max_timestamp_before < timestamp);
        match known.checked_sub(1) {
            Some(index) => self.point(self.entries[index]),
            None => LogPoint::start_of(self.base),
        }
    }

    /// The largest timestamp before the last batch known.
    #[must_use]
    pub fn last_max_timestamp(&self) -> Timestamp {
        self.entries
            .last()
            .map_or(SegmentTimes::NONE.max_timestamp, |entry| {
                entry.max_timestamp_before
            })
    }

    /// The last batch known: where a scan goes on.
    #[must_use]
    pub fn last(&self) -> LogPoint {
        self.entries
            .last()
            .map_or(LogPoint::start_of(self.base), |entry| self.point(*entry))
    }

    /// Puts the entries of the segment's earlier part before these.
    pub fn prepend(&mut self, earlier: &Self) {
        let first = self
            .entries
            .first()
            .map_or(u32::MAX, |entry| entry.position);
        let kept = earlier
            .entries
            .iter()
            .copied()
            .filter(|entry| entry.position < first);
        let mut entries: Vec<IndexEntry> = kept.collect();
        entries.append(&mut self.entries);
        self.entries = entries;
    }

    /// The file's contents.
    #[must_use]
    pub fn encode(&self, identity: IndexIdentity) -> AlignedBuf {
        let blocks = self.entries.len().div_ceil(BLOCK_ENTRIES).max(1);
        let mut file = AlignedBuf::zeroed(blocks * BLOCK_BYTES);
        for (number, block) in file.chunks_mut(BLOCK_BYTES).enumerate() {
            let from = number * BLOCK_ENTRIES;
            let to = self.entries.len().min(from + BLOCK_ENTRIES);
            encode_block(block, identity, number as u32, &self.entries[from..to]);
        }
        file
    }

    /// Reads a file as far as it is sound: an index that may end early, or be empty.
    ///
    /// Entries that go back or lie outside of a file of `segment_bytes` end it too.
    #[must_use]
    pub fn decode(
        identity: IndexIdentity,
        interval_bytes: u32,
        segment_bytes: u64,
        file: &[u8],
    ) -> Self {
        let mut index = Self::new(identity.base, interval_bytes);
        let mut last = IndexEntry {
            relative_offset: 0,
            position: SEGMENT_DATA as u32,
            max_timestamp_before: SegmentTimes::NONE.max_timestamp,
        };
        for (number, block) in file.chunks_exact(BLOCK_BYTES).enumerate() {
            let Some(count) = sound_block(block, identity, number as u32) else {
                break;
            };
            for entry in block_entries(block, count) {
                let goes_on = entry.relative_offset > last.relative_offset
                    && entry.position > last.position
                    && entry.max_timestamp_before >= last.max_timestamp_before
                    && u64::from(entry.position) < segment_bytes;
                if !goes_on {
                    return index;
                }
                index.entries.push(entry);
                last = entry;
            }
        }
        index
    }

    fn point(&self, entry: IndexEntry) -> LogPoint {
        LogPoint {
            position: LogPosition {
                segment: self.base,
                at: u64::from(entry.position),
            },
            offset: self.base.advance(u64::from(entry.relative_offset)),
        }
    }
}

fn encode_block(block: &mut [u8], identity: IndexIdentity, number: u32, entries: &[IndexEntry]) {
    block[at::MAGIC..at::VERSION].copy_from_slice(&INDEX_MAGIC);
    put_u16(block, at::VERSION, INDEX_VERSION);
    put_u32(block, at::COUNT, entries.len() as u32);
    put_u64(block, at::INCARNATION, identity.incarnation);
    put_u64(block, at::BASE_OFFSET, identity.base.get());
    put_u32(block, at::BLOCK_NUMBER, number);
    for (index, entry) in entries.iter().enumerate() {
        let at = at::ENTRIES + index * ENTRY_BYTES;
        put_u32(block, at, entry.relative_offset);
        put_u32(block, at + 4, entry.position);
        put_u64(block, at + 8, entry.max_timestamp_before.get() as u64);
    }
    let checksum = crc32c::crc32c(&block[..at::CHECKSUM]);
    put_u32(block, at::CHECKSUM, checksum);
}

/// The identity that a block of an index file claims and its entries, if it is sound. For `dump`.
#[must_use]
pub fn decode_block(block: &[u8]) -> Option<(IndexIdentity, u32, Vec<IndexEntry>)> {
    if block.len() != BLOCK_BYTES {
        return None;
    }
    let identity = IndexIdentity {
        base: Offset::new(get_u64(block, at::BASE_OFFSET)),
        incarnation: get_u64(block, at::INCARNATION),
    };
    let number = get_u32(block, at::BLOCK_NUMBER);
    let count = sound_block(block, identity, number)?;
    Some((identity, number, block_entries(block, count).collect()))
}

fn sound_block(block: &[u8], identity: IndexIdentity, number: u32) -> Option<usize> {
    let count = get_u32(block, at::COUNT) as usize;
    let sound = block[..at::VERSION] == INDEX_MAGIC
        && get_u16(block, at::VERSION) == INDEX_VERSION
        && get_u64(block, at::INCARNATION) == identity.incarnation
        && get_u64(block, at::BASE_OFFSET) == identity.base.get()
        && get_u32(block, at::BLOCK_NUMBER) == number
        && count <= BLOCK_ENTRIES
        && get_u32(block, at::CHECKSUM) == crc32c::crc32c(&block[..at::CHECKSUM]);
    sound.then_some(count)
}

fn block_entries(block: &[u8], count: usize) -> impl Iterator<Item = IndexEntry> {
    (0..count).map(|index| {
        let at = at::ENTRIES + index * ENTRY_BYTES;
        IndexEntry {
            relative_offset: get_u32(block, at),
            position: get_u32(block, at + 4),
            max_timestamp_before: Timestamp::new(get_u64(block, at + 8) as i64),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: IndexIdentity = IndexIdentity {
        base: Offset::new(1000),
        incarnation: 3,
    };

    /// The largest timestamp before a batch: the records' times jump back with every fourth.
    fn before(batch: u64) -> Timestamp {
        Timestamp::new(7 * (batch / 4 * 4) as i64)
    }

    /// Batches of 10 records and 1,000 bytes, noted from the first on.
    fn index(batches: u64) -> SparseIndex {
        let mut index = SparseIndex::new(IDENTITY.base, 4000);
        for batch in 0..batches {
            let offset = Offset::new(1000 + batch * 10);
            index.note(offset, SEGMENT_DATA + batch * 1000, before(batch));
        }
        index
    }

    #[test]
    fn an_entry_per_interval_is_kept() {
        let index = index(10);
        assert_eq!(
            index.entries(),
            [
                IndexEntry {
                    relative_offset: 40,
                    position: 8096,
                    max_timestamp_before: before(4),
                },
                IndexEntry {
                    relative_offset: 80,
                    position: 12_096,
                    max_timestamp_before: before(8),
                }
            ]
        );
    }

    #[test]
    fn a_search_finds_the_entry_before() {
        let index = index(10);
        let at = |offset| index.floor(Offset::new(offset)).position.at;
        assert_eq!(
            (at(1000), at(1039), at(1040), at(1079), at(1099)),
            (SEGMENT_DATA, SEGMENT_DATA, 8096, 8096, 12_096)
        );
        assert_eq!(index.last().offset, Offset::new(1080));
        assert_eq!(
            SparseIndex::new(Offset::ZERO, 1).last(),
            LogPoint::start_of(Offset::ZERO)
        );
    }

    #[test]
    fn a_piece_ends_at_the_last_batch_known_within_its_length() {
        let index = index(20);
        let start = LogPoint::start_of(IDENTITY.base);
        let within = |from, bytes| index.last_within(from, bytes).map(|end| end.position.at);
        assert_eq!(within(start, 3999), None);
        assert_eq!(within(start, 4000), Some(8096));
        assert_eq!(within(start, 9000), Some(12_096));
        let later = index.floor(Offset::new(1080));
        assert_eq!(later.position.at, 12_096);
        assert_eq!(within(later, 3999), None);
        assert_eq!(within(later, 1 << 30), Some(20_096));
        assert_eq!(within(index.last(), 1 << 30), None);
    }

    #[test]
    fn a_search_by_time_begins_where_nothing_before_is_late_enough() {
        let index = index(10);
        let at = |time| index.time_floor(Timestamp::new(time)).position.at;
        assert_eq!(
            (at(0), at(28), at(29), at(56), at(57), at(1000)),
            (SEGMENT_DATA, SEGMENT_DATA, 8096, 8096, 12_096, 12_096)
        );
        assert_eq!(index.last_max_timestamp(), before(8));
    }

    #[test]
    fn a_file_of_several_blocks_reads_as_written() {
        let index = index(10_000);
        assert!(index.entries().len() > 4 * BLOCK_ENTRIES);
        let file = index.encode(IDENTITY);
        let read = SparseIndex::decode(IDENTITY, 4000, 1 << 30, &file);
        assert_eq!(read.entries(), index.entries());
        let shorter = SparseIndex::decode(IDENTITY, 4000, 1 << 30, &file[..2 * BLOCK_BYTES + 7]);
        assert_eq!(shorter.entries(), &index.entries()[..2 * BLOCK_ENTRIES]);
    }

    #[test]
    fn another_segments_file_and_wild_entries_are_not_believed() {
        let file = index(100).encode(IDENTITY);
        let decode = |identity, bytes| {
            SparseIndex::decode(identity, 4000, bytes, &file)
                .entries()
                .len()
        };
        assert_eq!(decode(IDENTITY, 1 << 30), 24);
        assert_eq!(
            decode(
                IndexIdentity {
                    incarnation: 4,
                    ..IDENTITY
                },
                1 << 30
            ),
            0
        );
        assert_eq!(
            decode(
                IndexIdentity {
                    base: Offset::new(1),
                    ..IDENTITY
                },
                1 << 30
            ),
            0
        );
        assert_eq!(decode(IDENTITY, 12_000), 1);
    }

    #[test]
    fn a_flipped_block_ends_the_index() {
        let whole = index(1000);
        let mut file = whole.encode(IDENTITY);
        for bit in (0..BLOCK_BYTES * 8).step_by(7) {
            file[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                SparseIndex::decode(IDENTITY, 4000, 1 << 30, &file).entries(),
                []
            );
            file[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn an_earlier_part_goes_before() {
        let whole = index(100);
        let mut later = SparseIndex::new(IDENTITY.base, 4000);
        for batch in 50..100 {
            let offset = Offset::new(1000 + batch * 10);
            later.note(offset, SEGMENT_DATA + batch * 1000, before(batch));
        }
        let mut earlier = index(60);
        let known_from = later.entries()[0];
        later.prepend(&earlier);
        assert!(
            later
                .entries()
                .windows(2)
                .all(|pair| pair[0].position < pair[1].position)
        );
        assert!(later.entries().contains(&known_from));
        assert_eq!(
            later.floor(Offset::new(1040)),
            whole.floor(Offset::new(1040))
        );
        earlier.prepend(&SparseIndex::new(IDENTITY.base, 4000));
        assert!(!earlier.entries().is_empty());
    }
}
