//! Reading the blocks of segments that groups tell of.
//!
//! Owns the open files, and what is damage for certain: a group is begun only after the file, its name and its room
//! were flushed. What the blocks hold is judged like the group itself. A file that is there and cannot be read is no
//! damage: like a file of the journal, it keeps the store from opening, so that a later opening finds everything.

use std::collections::BTreeMap;
use std::io;

use corelane_protocol::TopicPartition;

use super::Source;
use crate::disk::{Disk, DiskFile, OpenOptions};
use crate::journal::{Extent, PartEntry, PartFault, verify_extent};
use crate::layout::{BLOCK, block_ceiling};
use crate::memory::AlignedBuf;
use crate::segment::{SegmentHeader, segment_path};
use crate::store::{Partition, StoreError};

/// Files held open: a partition has one that groups write to.
const OPEN_FILES_MAX: usize = 128;

/// The files that extents are read from.
pub(super) struct ExtentFiles<F> {
    open: BTreeMap<TopicPartition, F>,
}

impl<F: DiskFile> ExtentFiles<F> {
    pub(super) fn new() -> Self {
        Self {
            open: BTreeMap::new(),
        }
    }

    /// The batches of a part whose extent is this one, and the padding behind them.
    ///
    /// # Errors
    /// The disk's errors. `Ok(Err(fault))` if they are not there.
    pub(super) async fn read<D: Disk<File = F>>(
        &mut self,
        source: &Source<'_, D>,
        partition: &Partition,
        entry: &PartEntry,
        extent: &Extent,
    ) -> Result<Result<AlignedBuf, PartFault>, StoreError> {
        let path = segment_path(source.dir, entry.partition, entry.position.segment);
        let lost = |reason: String| Ok(Err(PartFault::Lost(format!("{path} {reason}"))));
        let flush = &partition.flush;
        if (flush.flushed.segment, flush.incarnation)
            != (entry.position.segment, extent.incarnation)
        {
            return lost("is not the file that the catalogue names".into());
        }
        let file = match self.open.get(&partition.id) {
            Some(file) => file,
            None => {
                let file = match open(source, partition, &path).await? {
                    Ok(file) => file,
                    Err(reason) => return lost(reason),
                };
                while self.open.len() >= OPEN_FILES_MAX {
                    self.open.pop_first();
                }
                self.open.entry(partition.id).or_insert(file)
            }
        };
        let io_error = |error| StoreError::io("reading", path.clone(), error);
        let len = block_ceiling(u64::from(extent.length));
        let bytes = file.len().await.map_err(io_error)?;
        if bytes < entry.position.at.saturating_add(len) {
            return lost(format!("is damaged at byte {bytes}: it ends here"));
        }
        let mut buffer = AlignedBuf::with_any_contents(len as usize);
        let mut is_again = false;
        loop {
            let (read, blocks) = file.read(entry.position.at, buffer).await;
            let count = read.map_err(io_error)?;
            match verify_extent(entry, extent, &blocks[..count]) {
                Ok(()) => return Ok(Ok(blocks)),
                // A read may go wrong, and what is not whole may end the log for everybody.
                Err(_) if !is_again => (buffer, is_again) = (blocks, true),
                Err((at, reason)) => {
                    let position = entry.position.at + at;
                    let what = format!("{path} is damaged at byte {position}: {reason}");
                    return Ok(Err(PartFault::DamagedExtent(what)));
                }
            }
        }
    }
}

/// Opens the segment's file of a partition.
///
/// # Errors
/// The disk's errors. `Ok(Err(reason))` if it is not there or another's.
async fn open<D: Disk>(
    source: &Source<'_, D>,
    partition: &Partition,
    path: &str,
) -> Result<Result<D::File, String>, StoreError> {
    let io_error = |error| StoreError::io("reading", path, error);
    let file = match source.disk.open(path, OpenOptions::EXISTING).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Err("is missing".into()));
        }
        result => result.map_err(io_error)?,
    };
    let (read, block) = file.read(0, AlignedBuf::zeroed(BLOCK as usize)).await;
    let count = read.map_err(io_error)?;
    let expected = SegmentHeader {
        store: source.store,
        partition: partition.id,
        base_offset: partition.flush.flushed.segment,
        incarnation: partition.flush.incarnation,
    };
    Ok(match SegmentHeader::decode(&block[..count]) {
        Ok(header) if header == expected => Ok(file),
        _ => Err("is damaged at byte 0: the header".into()),
    })
}
