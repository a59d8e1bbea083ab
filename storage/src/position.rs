//! Places in a partition's log.
//!
//! Owns the order of places. A place names the segment by its base offset and a byte of its file, whether
//! that byte is on disk yet or only in memory.

use std::fmt;

use corelane_protocol::Offset;

/// Where a segment file's first batch is: after the header block.
pub const SEGMENT_DATA: u64 = crate::layout::BLOCK;

/// Whether data of a segment may begin or end there: an index has positions of 32 bits.
pub(crate) fn is_data_position(at: u64) -> bool {
    (SEGMENT_DATA..=u64::from(u32::MAX)).contains(&at)
}

/// A byte of a partition's log. Segments follow each other in the order of their base offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    /// The base offset of the segment.
    pub segment: Offset,
    /// The position in the segment's file, in bytes.
    pub at: u64,
}

impl LogPosition {
    /// Where the first batch of a segment goes.
    #[must_use]
    pub fn start_of(segment: Offset) -> Self {
        Self {
            segment,
            at: SEGMENT_DATA,
        }
    }
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} of segment {}", self.at, self.segment)
    }
}

/// A boundary between two batches: the place, and the offset of the record that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPoint {
    /// The place after the last batch before the boundary.
    pub position: LogPosition,
    /// The offset of the next record.
    pub offset: Offset,
}

impl LogPoint {
    /// The boundary before the first batch of a segment.
    #[must_use]
    pub fn start_of(segment: Offset) -> Self {
        Self {
            position: LogPosition::start_of(segment),
            offset: segment,
        }
    }
}
