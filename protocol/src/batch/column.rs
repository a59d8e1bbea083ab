//! Byte strings while they are collected, one after the other, as they are
//! archived. Owns its buffers, and uses them again for the next batch.

use super::archive::{Archive, BlobsAt, EndsAt, ItemsAt, put_items};

/// The longest blob whose ends are narrow.
const NARROW_BYTES_MAX: usize = u16::MAX as usize;

/// Rows, nulls among them.
#[derive(Debug, Default)]
pub(super) struct Column {
    /// Where each row ends.
    ends: Vec<u32>,
    /// A bit for each row up to the last null, or for every row.
    nulls: Vec<u8>,
    /// The rows, behind `front` bytes that are left free.
    bytes: Vec<u8>,
    front: usize,
}

/// What a column has more than it holds: rows, their bytes, and whether one of
/// them is null.
#[derive(Clone, Copy, Default)]
pub(super) struct Extra {
    pub(super) rows: usize,
    pub(super) bytes: usize,
    pub(super) any_null: bool,
}

impl Extra {
    #[inline]
    pub(super) fn add(&mut self, row: Option<&[u8]>) {
        self.rows += 1;
        self.bytes += row.map_or(0, <[u8]>::len);
        self.any_null |= row.is_none();
    }
}

impl Column {
    pub(super) const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all rows.
    const fn row_bytes(&self) -> usize {
        self.bytes.len() - self.front
    }

    #[inline]
    pub(super) fn push(&mut self, row: Option<&[u8]>) {
        match row {
            Some(bytes) => self.bytes.extend_from_slice(bytes),
            None => self.mark_null(self.len()),
        }
        self.ends.push(self.row_bytes() as u32);
    }

    /// Adds nulls until there are `rows` rows.
    pub(super) fn fill_with_nulls(&mut self, rows: usize) {
        for row in self.len()..rows {
            self.mark_null(row);
        }
        self.ends.resize(rows, self.row_bytes() as u32);
    }

    fn mark_null(&mut self, row: usize) {
        if self.nulls.len() <= row / 8 {
            self.nulls.resize(row / 8 + 1, 0);
        }
        self.nulls[row / 8] |= 1 << (row % 8);
    }

    /// Bytes in the archive with `extra`.
    #[inline]
    pub(super) fn bytes_with(&self, extra: &Extra) -> usize {
        let (rows, bytes) = (self.len() + extra.rows, self.row_bytes() + extra.bytes);
        let any_null = !self.nulls.is_empty() || extra.any_null;
        rows * end_width(bytes) + if any_null { rows.div_ceil(8) } else { 0 } + bytes
    }

    /// Marks for every row, or none where no row is null.
    fn null_marks(&mut self) -> &[u8] {
        if !self.nulls.is_empty() {
            self.nulls.resize(self.ends.len().div_ceil(8), 0);
        }
        &self.nulls
    }

    /// Appends the rows to an archive.
    pub(super) fn archive(&mut self, archive: &mut Archive<'_>) -> BlobsAt {
        let is_wide = end_width(self.row_bytes()) == WIDE;
        let items = if is_wide {
            archive.items(wide(&self.ends))
        } else {
            archive.items(narrow(&self.ends))
        };
        BlobsAt {
            ends: EndsAt { is_wide, items },
            nulls: archive.bytes(self.null_marks()),
            bytes: archive.bytes(&self.bytes[self.front..]),
        }
    }

    /// Takes the rows out, with ends, null marks and `prefix` free bytes in front of them, as they lie
    /// in an archive: the memory, the index of its first byte that counts, and where everything is
    /// from there. The rows stay where they are if enough bytes were left free before them.
    pub(super) fn take_out(&mut self, prefix: usize) -> (Vec<u8>, usize, BlobsAt) {
        let (rows, row_bytes) = (self.len(), self.row_bytes());
        let is_wide = end_width(row_bytes) == WIDE;
        let null_bytes = self.null_marks().len();
        let nulls_at = prefix + rows * end_width(row_bytes);
        let bytes_at = nulls_at + null_bytes;
        let mut memory = std::mem::take(&mut self.bytes);
        let mut front = self.front;
        if bytes_at > front {
            memory.resize(bytes_at + row_bytes, 0);
            memory.copy_within(front..front + row_bytes, bytes_at);
            front = bytes_at;
            // So that the rows of batches like this one need not be moved.
            self.front = bytes_at + bytes_at / 8;
        }
        let begin = front - bytes_at;
        let head = &mut memory[begin..front];
        if is_wide {
            put_items(&mut head[prefix..nulls_at], wide(&self.ends));
        } else {
            put_items(&mut head[prefix..nulls_at], narrow(&self.ends));
        }
        head[nulls_at..].copy_from_slice(&self.nulls);
        let at = |at, count| ItemsAt { at, count };
        let places = BlobsAt {
            ends: EndsAt {
                is_wide,
                items: at(prefix, rows),
            },
            nulls: at(nulls_at, null_bytes),
            bytes: at(bytes_at, row_bytes),
        };
        (memory, begin, places)
    }

    pub(super) fn clear(&mut self) {
        self.ends.clear();
        self.nulls.clear();
        self.bytes.truncate(self.front);
    }

    /// Collects in other memory from now on; there are no rows.
    pub(super) fn collect_in(&mut self, memory: Vec<u8>) {
        debug_assert!(self.ends.is_empty());
        self.bytes = memory;
        self.bytes.clear();
        self.bytes.resize(self.front, 0);
    }
}

/// Bytes of a wide end.
const WIDE: usize = 4;

/// Bytes of each end where all rows together have `row_bytes`.
const fn end_width(row_bytes: usize) -> usize {
    if row_bytes <= NARROW_BYTES_MAX {
        2
    } else {
        WIDE
    }
}

fn narrow(ends: &[u32]) -> impl ExactSizeIterator<Item = [u8; 2]> {
    ends.iter().map(|end| (*end as u16).to_le_bytes())
}

fn wide(ends: &[u32]) -> impl ExactSizeIterator<Item = [u8; WIDE]> {
    ends.iter().map(|end| end.to_le_bytes())
}
