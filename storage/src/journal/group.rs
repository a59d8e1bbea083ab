//! Groups: what one write of the journal holds, built from tails and taken apart again by a replay.
//!
//! Owns the packing of parts into a group and the checks of what comes back. Never does I/O. Pure; used on
//! the core that runs the store.

use corelane_protocol::{LeaderEpoch, Offset, TopicPartition};
use uuid::Uuid;

use super::format::{
    EXTENT_BYTES, Extent, GROUP_HEADER_BYTES, GroupHeader, PART_BYTES, PART_IN_SEGMENT, PartEntry,
};
use crate::layout::block_ceiling;
use crate::memory::AlignedSlice;
use crate::position::LogPoint;
use crate::segment::batches::{Check, Found, find};
use crate::tail::TailChunk;

/// A part that a group will hold.
#[derive(Debug)]
pub(crate) struct PlannedPart {
    /// What the directory says of it.
    pub(crate) entry: PartEntry,
    /// What the group holds of it.
    pub(crate) body: PartBody,
    /// Bytes of its batches.
    pub(crate) bytes: usize,
    /// The boundary after it.
    pub(crate) end: LogPoint,
}

/// What a group holds of a part.
#[derive(Debug)]
pub(crate) enum PartBody {
    /// Its batches, in the tail.
    Batches(AlignedSlice),
    /// Where they are in the segment's file, to which they go at the same time.
    InSegment(Extent),
}

impl PlannedPart {
    /// Bytes of it in the group.
    pub(crate) fn body_length(&self) -> usize {
        self.entry.length as usize
    }

    /// The same part, a whole closed chunk, of which the group holds only where it is in the segment's file with this
    /// incarnation.
    pub(crate) fn in_segment(mut self, chunk: &TailChunk, incarnation: u64) -> Self {
        assert!(chunk.is_closed() && chunk.first().position == self.entry.position);
        assert_eq!(self.end, chunk.end());
        let extent = Extent {
            length: self.entry.length,
            incarnation,
        };
        self.entry.flags = PART_IN_SEGMENT;
        self.entry.length = EXTENT_BYTES as u32;
        self.body = PartBody::InSegment(extent);
        self
    }
}

/// What a part says of its partition besides its batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartOrigin {
    /// The partition.
    pub(crate) partition: TopicPartition,
    /// The newest leader epoch it has stamped.
    pub(crate) leader_epoch: LeaderEpoch,
    /// Its high watermark.
    pub(crate) high_watermark: Offset,
}

/// The batches of a partition that are in no group yet, summed up as they come, while one part can hold them.
///
/// So a part of a partition that trickles is planned without another look at its batches.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PendingPart {
    start: Option<LogPoint>,
    checksum: u32,
    batch_count: u32,
}

impl PendingPart {
    /// Adds a batch that begins at `at` in the last chunk. `is_first` says that no other is pending.
    pub(crate) fn push(&mut self, chunk: &TailChunk, at: LogPoint, is_first: bool) {
        if is_first {
            *self = Self {
                start: Some(at),
                checksum: 0,
                batch_count: 0,
            };
        } else if chunk.first() == at {
            // Those before are in another chunk.
            self.start = None;
        }
        if self.start.is_some() {
            self.checksum = crc32c::crc32c_append(self.checksum, chunk.batch_sums(at.position.at));
            self.batch_count += 1;
        }
    }

    /// Some of them went into a group, and not all.
    pub(crate) fn split(&mut self) {
        self.start = None;
    }

    /// All of them as one part, if they are one and not larger than `bytes_max`.
    pub(crate) fn plan(
        &self,
        origin: PartOrigin,
        chunk: &TailChunk,
        bytes_max: usize,
    ) -> Option<PlannedPart> {
        // A refused batch may have begun the chunk, and left it empty behind the one that holds them.
        let start = self
            .start
            .filter(|start| start.position >= chunk.first().position)?;
        let end = chunk.end();
        let length = end.position.at - start.position.at;
        (length <= bytes_max as u64)
            .then(|| planned(origin, chunk, start, end, self.checksum, self.batch_count))
    }
}

/// Takes consecutive batches of one chunk, from the boundary `from` on.
///
/// At most `bytes_max`, but at least one batch if `at_least_one`; nothing if that is not possible.
pub(crate) fn plan_part(
    origin: PartOrigin,
    chunk: &TailChunk,
    from: LogPoint,
    bytes_max: usize,
    at_least_one: bool,
) -> Option<PlannedPart> {
    let start = if from.position < chunk.first().position {
        chunk.first()
    } else {
        from
    };
    let (mut end, mut checksum, mut batch_count) = (start, 0, 0);
    for (at, batch) in chunk.batches_from(start.position.at) {
        let after = at + u64::from(batch.length);
        if after - start.position.at > bytes_max as u64 && !(at_least_one && batch_count == 0) {
            break;
        }
        checksum = crc32c::crc32c_append(checksum, chunk.batch_sums(at));
        batch_count += 1;
        end.position.at = after;
        end.offset = batch.end_offset;
    }
    (batch_count > 0).then(|| planned(origin, chunk, start, end, checksum, batch_count))
}

fn planned(
    origin: PartOrigin,
    chunk: &TailChunk,
    start: LogPoint,
    end: LogPoint,
    checksum: u32,
    batch_count: u32,
) -> PlannedPart {
    PlannedPart {
        entry: PartEntry {
            partition: origin.partition,
            flags: 0,
            leader_epoch: origin.leader_epoch,
            length: (end.position.at - start.position.at) as u32,
            base_offset: start.offset,
            end_offset: end.offset,
            position: start.position,
            high_watermark: origin.high_watermark,
            checksum,
            batch_count,
        },
        body: PartBody::Batches(chunk.slice(start.position.at, end.position.at)),
        bytes: (end.position.at - start.position.at) as usize,
        end,
    }
}

/// Bytes that a group with so many parts and bytes of batches takes in the file.
pub(crate) fn group_bytes(parts: usize, body: usize) -> u64 {
    block_ceiling((GROUP_HEADER_BYTES + parts * PART_BYTES + body) as u64)
}

/// A group's place in the chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupPlace {
    pub(crate) flags: u16,
    pub(crate) sequence: u64,
    pub(crate) recovery_epoch: u64,
    pub(crate) incarnation: u64,
    pub(crate) position: u64,
    pub(crate) durable_upto: u64,
    pub(crate) previous_checksum: u32,
}

/// Writes a group into `buffer`, which has its padded length. Returns its checksum.
///
/// # Panics
/// If the buffer has another length.
pub(crate) fn encode_group(
    store: Uuid,
    place: GroupPlace,
    parts: &[PlannedPart],
    buffer: &mut [u8],
) -> u32 {
    let body: usize = parts.iter().map(PlannedPart::body_length).sum();
    let body_at = GROUP_HEADER_BYTES + parts.len() * PART_BYTES;
    assert_eq!(buffer.len() as u64, group_bytes(parts.len(), body));
    let (directory, mut rest) = buffer[GROUP_HEADER_BYTES..].split_at_mut(parts.len() * PART_BYTES);
    for (part, entry) in parts.iter().zip(directory.chunks_exact_mut(PART_BYTES)) {
        part.entry.encode(entry);
        let (target, after) = rest.split_at_mut(part.body_length());
        match &part.body {
            PartBody::Batches(bytes) => target.copy_from_slice(bytes),
            PartBody::InSegment(extent) => extent.encode(entry, target),
        }
        rest = after;
    }
    rest.fill(0);
    let header = GroupHeader {
        flags: place.flags,
        length: (body_at + body) as u32,
        sequence: place.sequence,
        recovery_epoch: place.recovery_epoch,
        incarnation: place.incarnation,
        position: place.position,
        durable_upto: place.durable_upto,
        previous_checksum: place.previous_checksum,
        part_count: parts.len() as u32,
        directory_checksum: crc32c::crc32c(directory),
    };
    header.encode(store, buffer)
}

/// The directory of a group whose header is sound, or nothing if it is damaged.
///
/// `group` holds the group from its header on, as far as it could be read.
pub(crate) fn decode_directory(header: &GroupHeader, group: &[u8]) -> Option<Vec<PartEntry>> {
    let directory =
        group.get(GROUP_HEADER_BYTES..GROUP_HEADER_BYTES + header.directory_length())?;
    if crc32c::crc32c(directory) != header.directory_checksum {
        return None;
    }
    let parts: Vec<PartEntry> = directory
        .chunks_exact(PART_BYTES)
        .map(PartEntry::decode)
        .collect();
    let body: u64 = parts.iter().map(|part| u64::from(part.length)).sum();
    let length = (GROUP_HEADER_BYTES + directory.len()) as u64 + body;
    let is_sound = length == u64::from(header.length) && parts.iter().all(PartEntry::has_a_place);
    is_sound.then_some(parts)
}

/// Why a part of a group cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PartFault {
    /// It was written by a newer version, whose flags are these.
    Unsupported(u32),
    /// Its bytes are not what was written: the position within the part, and the reason.
    Damaged(u64, String),
    /// Its blocks in a segment's file are not what was written: all that is to be said of it.
    DamagedExtent(String),
    /// It is in a segment's file that is not what it must have been before the group was begun: all that is to be said
    /// of it.
    Lost(String),
}

/// Verifies what a group holds of a part against its directory entry, batch by batch if it holds these.
///
/// # Errors
/// The first fault found.
pub(crate) fn verify_part(entry: &PartEntry, bytes: &[u8]) -> Result<(), PartFault> {
    match entry.flags {
        0 => verify_batches(entry, bytes, Check::Whole)
            .map_err(|(at, reason)| PartFault::Damaged(at, reason)),
        PART_IN_SEGMENT => match Extent::decode(entry, bytes) {
            Some(_) => Ok(()),
            None => Err(PartFault::Damaged(0, "no extent of this part".into())),
        },
        flags => Err(PartFault::Unsupported(flags)),
    }
}

/// Verifies the blocks of a segment's file that an extent names.
///
/// # Errors
/// The first fault found: its position within the blocks, and the reason.
pub(crate) fn verify_extent(
    entry: &PartEntry,
    extent: &Extent,
    blocks: &[u8],
) -> Result<(), (u64, String)> {
    let length = extent.length as usize;
    let (Some(batches), Some(padding)) = (blocks.get(..length), blocks.get(length..)) else {
        return Err((blocks.len() as u64, "the file ends here".into()));
    };
    let check = match crate::planted!(ExtentNotVerified) {
        true => Check::Stamp,
        false => Check::Whole,
    };
    verify_batches(entry, batches, check)?;
    if padding.iter().any(|byte| *byte != 0) {
        let reason = "the last block is not padded with zeros".into();
        return Err((length as u64, reason));
    }
    Ok(())
}

fn verify_batches(entry: &PartEntry, bytes: &[u8], check: Check) -> Result<(), (u64, String)> {
    let (mut at, mut offset, mut checksum, mut batch_count) = (0, entry.base_offset, 0, 0);
    let damaged = |at: usize, reason: String| Err((at as u64, reason));
    while at < bytes.len() {
        // The position within the segment decides what padding would be, and there is none within a part.
        let place = entry.position.at + at as u64;
        let batch = match find(entry.partition, place, &bytes[at..], check) {
            Found::Batch(batch) => batch,
            Found::Padding(_) => return damaged(at, "zeros instead of a batch".into()),
            Found::Incomplete(_) => return damaged(at, "the batch is longer than its part".into()),
            Found::Damaged(reason) => return damaged(at, reason),
        };
        if batch.base_offset != offset {
            return damaged(
                at,
                format!("offset {} instead of {offset}", batch.base_offset),
            );
        }
        checksum = crc32c::crc32c_append(checksum, &bytes[at..at + 8]);
        batch_count += 1;
        offset = batch.end_offset;
        at += batch.length as usize;
    }
    if (offset, checksum, batch_count) != (entry.end_offset, entry.checksum, entry.batch_count) {
        return damaged(at, "the batches are not those of the directory".into());
    }
    Ok(())
}
