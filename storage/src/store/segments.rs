//! Finding and opening the segment files of a partition.
//!
//! Owns the look-up from an offset to a segment and the check of a file's header when it is opened.

use std::io;

use corelane_protocol::{Offset, TopicPartition};

use super::partition::Partition;
use super::{Corruption, Store};
use crate::catalogue::SealedSegment;
use crate::disk::{Disk, DiskFile, OpenOptions};
use crate::layout::BLOCK;
use crate::memory::AlignedBuf;
use crate::segment::{HandleKey, SegmentHeader};

/// What is flushed of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentPlace {
    pub(crate) base: Offset,
    pub(crate) incarnation: u64,
    /// Bytes of the file that count, a multiple of the block.
    pub(crate) flushed: u64,
    /// The offset after the last batch that is wholly below.
    pub(crate) end_offset: Offset,
    /// Whether it takes no more.
    pub(crate) is_sealed: bool,
    /// Whether compaction wrote its file.
    pub(crate) is_compacted: bool,
}

impl SegmentPlace {
    /// Of a segment that takes no more.
    pub(crate) fn of_sealed(sealed: &SealedSegment) -> Self {
        Self {
            base: sealed.base,
            incarnation: sealed.incarnation,
            flushed: sealed.file_bytes,
            end_offset: sealed.end_offset,
            is_sealed: true,
            is_compacted: sealed.is_compacted,
        }
    }
}

impl Partition {
    /// Whether a complete segment is part of the log, and its file the one that it was.
    pub(crate) fn has_sealed(&self, place: &SegmentPlace) -> bool {
        let mut sealed = self.sealed.iter();
        sealed.any(|found| (found.base, found.incarnation) == (place.base, place.incarnation))
    }

    /// The segment whose file holds the batch with `offset`, if a file does.
    pub(crate) fn segment_of(&self, offset: Offset) -> Option<SegmentPlace> {
        let after = self
            .sealed
            .partition_point(|segment| segment.end_offset <= offset);
        if let Some(sealed) = self.sealed.get(after) {
            return (offset >= sealed.base).then(|| SegmentPlace::of_sealed(sealed));
        }
        let flush = &self.flush;
        (flush.incarnation != 0 && offset >= flush.flushed.segment && offset < flush.whole.offset)
            .then_some(SegmentPlace {
                base: flush.flushed.segment,
                incarnation: flush.incarnation,
                flushed: flush.flushed.at,
                end_offset: flush.whole.offset,
                is_sealed: false,
                is_compacted: false,
            })
    }
}

/// Why a segment file cannot be used.
#[derive(Debug)]
pub(crate) enum SegmentError {
    /// The disk refused.
    Io(io::Error),
    /// It is not the file that the catalogue names.
    Corrupt(Corruption),
}

impl<D: Disk> Store<D> {
    /// The open file of a segment, which is at this path.
    pub(super) async fn segment_file(
        &self,
        partition: TopicPartition,
        key: HandleKey,
        path: &str,
    ) -> Result<D::File, SegmentError> {
        let open = self.handles.borrow_mut().get(key);
        if let Some(file) = open {
            return Ok(file);
        }
        let corrupt = |reason: &str| {
            SegmentError::Corrupt(Corruption {
                file: path.to_owned(),
                position: 0,
                reason: reason.to_owned(),
            })
        };
        let file = match self.disk.open(path, OpenOptions::EXISTING).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(corrupt("the file is missing"));
            }
            result => result.map_err(SegmentError::Io)?,
        };
        let (read, block) = file.read(0, AlignedBuf::zeroed(BLOCK as usize)).await;
        if read.map_err(SegmentError::Io)? < BLOCK as usize {
            return Err(corrupt("the file is shorter than its header"));
        }
        let expected = SegmentHeader {
            store: self.uuid,
            partition,
            base_offset: key.base,
            incarnation: key.incarnation,
        };
        match SegmentHeader::decode(&block) {
            Ok(header) if header == expected => {}
            Ok(_) => return Err(corrupt("the header is another segment's")),
            Err(error) => return Err(corrupt(&error.to_string())),
        }
        self.handles.borrow_mut().insert(key, file.clone());
        Ok(file)
    }
}
