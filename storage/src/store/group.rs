//! Which batches go into the next group, and what follows when it is durable.
//!
//! Owns the steps between a dirty partition and an acknowledged one. Does no I/O.

use std::io;

use corelane_protocol::TopicPartition;

use super::partition::{Partition, PartitionHandle};
use super::state::State;
use crate::journal::{
    EXTENT_BYTES, GROUP_HEADER_BYTES, GROUP_SEAL, GroupPlace, PART_BYTES, PartOrigin, Placement,
    PlannedPart, group_bytes, plan_part,
};
use crate::memory::AlignedSlice;
use crate::position::{LogPoint, LogPosition};
use crate::segment::HandleKey;
use crate::tail::TailChunk;

/// The most parts of a group that go straight to segments. Each is a flushed write of its own beside the group's, so only
/// parts do that are large among what waits: at least this fraction of it, or of the largest group.
const STRAIGHT_PARTS_MAX: usize = 4;

/// A group that has its place, to be encoded and written.
#[derive(Debug)]
pub(crate) struct PlannedGroup {
    pub(crate) parts: Vec<PlannedPart>,
    pub(crate) place: GroupPlace,
    pub(crate) placement: Placement,
    /// Its bytes in the file.
    pub(crate) padded_length: u64,
    /// What goes straight to segments' files.
    pub(crate) extents: Vec<PlannedExtent>,
    pub(crate) ticket: GroupTicket,
}

/// Blocks that a group writes to the file of a segment.
#[derive(Debug)]
pub(crate) struct PlannedExtent {
    pub(crate) key: HandleKey,
    pub(crate) partition: TopicPartition,
    pub(crate) position: LogPosition,
    pub(crate) blocks: AlignedSlice,
}

/// What is left of a group while it is being written.
#[derive(Debug)]
pub(crate) struct GroupTicket {
    placement: Placement,
    checksum: u32,
    /// Of its batches.
    bytes: usize,
    ends: Vec<PartEnd>,
}

impl GroupTicket {
    /// Where the group is in its file.
    pub(crate) fn position(&self) -> u64 {
        self.placement.at.position
    }
}

#[derive(Debug)]
struct PartEnd {
    partition: PartitionHandle,
    end: LogPoint,
}

/// A partition's share of a group that is being filled.
#[derive(Debug)]
struct Share {
    partition: PartitionHandle,
    journaled: LogPoint,
    batches: u32,
    bytes: usize,
    is_all: bool,
    /// The chunks whose blocks go to the segment's file.
    straight: Vec<LogPosition>,
}

/// What a partition's large parts may do: go straight to its segment.
#[derive(Clone, Copy, Debug)]
struct Straight {
    key: HandleKey,
    /// Of the segment's file.
    incarnation: u64,
    /// The file's room ends here.
    room: u64,
    bytes_min: u64,
}

impl Straight {
    /// Whether a part that begins at `from` may go straight: a whole chunk that takes no more.
    fn takes(&self, chunk: &TailChunk, from: LogPosition) -> bool {
        chunk.is_closed()
            && chunk.begins_a_block()
            && from <= chunk.first().position
            && self.has_room_for(chunk, from)
    }

    /// Whether what is in the chunk from `from` on is large enough, and its blocks have room in the file.
    fn has_room_for(&self, chunk: &TailChunk, from: LogPosition) -> bool {
        let (first, end) = (chunk.first().position.max(from), chunk.end().position);
        chunk.segment() == self.key.base
            && end.at - first.at >= self.bytes_min
            && chunk.blocks_end() <= self.room
    }
}

/// A group that is being filled.
#[derive(Debug)]
struct Filling {
    parts: Vec<PlannedPart>,
    extents: Vec<PlannedExtent>,
    /// Bytes left in the group.
    room: usize,
    /// Bytes left for what goes straight to segments.
    straight_room: usize,
}

impl Filling {
    fn new(group_bytes_max: usize) -> Self {
        Self {
            parts: Vec::new(),
            extents: Vec::new(),
            room: group_bytes_max.saturating_sub(GROUP_HEADER_BYTES),
            straight_room: group_bytes_max,
        }
    }

    /// Takes what the group has room for of a partition's batches.
    fn fill(
        &mut self,
        handle: PartitionHandle,
        partition: &Partition,
        straight: Option<Straight>,
    ) -> Share {
        let origin = PartOrigin {
            partition: partition.id,
            leader_epoch: partition.epochs.latest().epoch,
            high_watermark: partition.high_watermark().offset,
        };
        let mut share = Share {
            partition: handle,
            journaled: partition.journaled,
            batches: 0,
            bytes: 0,
            is_all: false,
            straight: Vec::new(),
        };
        for chunk in partition.tail.chunks_after(partition.journaled.position) {
            let from = share.journaled;
            let straight = straight.filter(|straight| straight.takes(chunk, from.position));
            let body_max = match straight {
                None => self.room.saturating_sub(PART_BYTES),
                Some(_) if self.straight_room == 0 => break,
                Some(_) if self.room < PART_BYTES + EXTENT_BYTES => break,
                Some(_) => usize::MAX,
            };
            let is_first = self.parts.is_empty();
            // Summed up as they came, if all of them are in this chunk.
            let whole = partition.pending.plan(origin, chunk, body_max);
            let whole = whole.filter(|_| share.batches == 0 && partition.pending_batches > 0);
            let part = whole.or_else(|| plan_part(origin, chunk, from, body_max, is_first));
            let Some(part) = part else {
                break;
            };
            share.batches += part.entry.batch_count;
            share.bytes += part.bytes;
            share.journaled = part.end;
            let is_whole_chunk = part.end == chunk.end();
            let Some(straight) = straight else {
                self.add(part);
                if is_whole_chunk {
                    continue;
                }
                break;
            };
            self.straight_room = self.straight_room.saturating_sub(part.bytes);
            share.straight.push(part.entry.position);
            self.add(part.in_segment(chunk, straight.incarnation));
            self.extents.push(PlannedExtent {
                key: straight.key,
                partition: partition.id,
                position: chunk.first().position,
                blocks: chunk.blocks(),
            });
            debug_assert!(self.extents.len() <= STRAIGHT_PARTS_MAX);
        }
        share.is_all = share.bytes == partition.pending_bytes;
        share
    }

    fn add(&mut self, part: PlannedPart) {
        self.room = self.room.saturating_sub(PART_BYTES + part.body_length());
        self.parts.push(part);
    }
}

impl Partition {
    /// Whether its large parts may go straight to a segment, and to which: one whose file is open, and has been flushed
    /// and recorded under its name, with room that has been flushed too.
    fn straight(
        &self,
        partition: PartitionHandle,
        bytes_min: usize,
        is_open: &mut dyn FnMut(HandleKey) -> bool,
    ) -> Option<Straight> {
        let key = HandleKey {
            partition,
            base: self.flush.flushed.segment,
            incarnation: self.flush.incarnation,
        };
        let is_possible = self.pending_bytes >= bytes_min
            && self.room > self.journaled.position.at
            && self.end.position.segment == key.base
            && self.refusal().is_none();
        (is_possible && is_open(key)).then_some(Straight {
            key,
            incarnation: self.flush.incarnation,
            room: self.room,
            bytes_min: bytes_min as u64,
        })
    }

    /// Ends the last chunk if it is large, so that it can go straight to its segment, or else what follows it.
    fn close_for(&mut self, straight: &Straight) {
        let journaled = self.journaled.position;
        let last = self.tail.last();
        if last.is_some_and(|last| straight.has_room_for(last, journaled)) {
            self.tail.close_last();
        }
    }
}

impl State {
    /// The next group, if one is due and the journal has the room. Large parts go straight to those segments whose
    /// files are open.
    pub(crate) fn plan_group(
        &mut self,
        is_open: &mut dyn FnMut(HandleKey) -> bool,
    ) -> Option<PlannedGroup> {
        if self.fenced.is_some() {
            return None;
        }
        if !self.planner.is_due() {
            return self.plan_seal();
        }
        let (parts, shares, extents) = self.fill_group(is_open);
        if parts.is_empty() {
            return None;
        }
        let body = parts.iter().map(PlannedPart::body_length).sum();
        let padded_length = group_bytes(parts.len(), body);
        let Some(placement) = self.files.place(padded_length) else {
            self.put_back(shares);
            return None;
        };
        let bytes = shares.iter().map(|share| share.bytes).sum();
        let ends = self.take_shares(shares, placement);
        self.planner.group_started(bytes);
        self.seal.is_wanted = true;
        self.seal.is_due = false;
        let mut group = self.planned(parts, 0, placement, padded_length, ends);
        group.ticket.bytes = bytes;
        for extent in &extents {
            self.meters.straight_parts += 1;
            self.meters.straight_bytes += extent.blocks.len() as u64;
        }
        group.extents = extents;
        Some(group)
    }

    /// A group that only says that everything before it is durable, once nothing else is going on.
    fn plan_seal(&mut self) -> Option<PlannedGroup> {
        if !(self.seal.is_due && self.seal.is_wanted && self.planner.is_idle()) {
            return None;
        }
        self.seal.is_due = false;
        let padded_length = group_bytes(0, 0);
        if !self
            .files
            .has_room_for(self.planner.unjournaled_cost() + padded_length)
        {
            return None;
        }
        let placement = self.files.place(padded_length)?;
        self.seal.is_wanted = false;
        Some(self.planned(Vec::new(), GROUP_SEAL, placement, padded_length, Vec::new()))
    }

    fn planned(
        &self,
        parts: Vec<PlannedPart>,
        flags: u16,
        placement: Placement,
        padded_length: u64,
        ends: Vec<PartEnd>,
    ) -> PlannedGroup {
        let place = GroupPlace {
            flags,
            sequence: placement.at.sequence,
            recovery_epoch: self.chain.recovery_epoch,
            incarnation: placement.file.incarnation,
            position: placement.at.position,
            durable_upto: match crate::planted!(DurableUptoTooHigh) {
                true => placement.at.sequence,
                false => self.chain.durable_sequence,
            },
            previous_checksum: placement.at.previous_checksum,
        };
        PlannedGroup {
            parts,
            place,
            placement,
            padded_length,
            extents: Vec::new(),
            ticket: GroupTicket {
                placement,
                checksum: 0,
                bytes: 0,
                ends,
            },
        }
    }

    /// Takes dirty partitions in turn until the group is full.
    fn fill_group(
        &mut self,
        is_open: &mut dyn FnMut(HandleKey) -> bool,
    ) -> (Vec<PlannedPart>, Vec<Share>, Vec<PlannedExtent>) {
        let mut filling = Filling::new(self.config.group_bytes_max);
        let mut shares = Vec::new();
        let bytes_min = self.straight_bytes_min();
        while let Some(handle) = self.planner.next() {
            let Some(partition) = self.partitions.get_mut(handle) else {
                continue;
            };
            let straight = partition.straight(handle, bytes_min, is_open);
            if let Some(straight) = straight {
                partition.close_for(&straight);
            }
            let share = filling.fill(handle, partition, straight);
            let is_full = !share.is_all;
            shares.push(share);
            if is_full {
                break;
            }
        }
        (filling.parts, shares, filling.extents)
    }

    /// From so many bytes on, a part of the next group may go straight to its segment.
    fn straight_bytes_min(&self) -> usize {
        let waiting = self.planner.dirty_bytes();
        let share = waiting.min(self.config.group_bytes_max);
        let share = share.div_ceil(STRAIGHT_PARTS_MAX);
        self.config.straight_bytes_min.max(share)
    }

    /// The group has no place: everything stays as it was.
    fn put_back(&mut self, shares: Vec<Share>) {
        for share in shares.into_iter().rev() {
            self.planner.requeue_first(share.partition);
        }
    }

    /// The group has its place: its batches are journaled as far as the partitions are concerned.
    fn take_shares(&mut self, shares: Vec<Share>, placement: Placement) -> Vec<PartEnd> {
        let mut ends = Vec::with_capacity(shares.len());
        for share in shares {
            let partition = self
                .partitions
                .get_mut(share.partition)
                .expect("it was there when the group was filled");
            if !share.is_all {
                self.planner.requeue(share.partition);
            }
            partition.flags.is_dirty = !share.is_all;
            if share.bytes == 0 {
                continue;
            }
            partition.journaled = share.journaled;
            partition.pending_batches -= share.batches;
            partition.pending_bytes -= share.bytes;
            partition.pending.split();
            for first in share.straight {
                partition.tail.leave_to_group(first);
            }
            self.planner.journaled(share.batches, share.bytes);
            if partition.pin(placement.file.incarnation, share.journaled.position) {
                self.files.pin(placement.file.incarnation);
            }
            ends.push(PartEnd {
                partition: share.partition,
                end: share.journaled,
            });
        }
        ends
    }

    /// Continues the chain behind a group that was encoded.
    pub(crate) fn group_encoded(&mut self, ticket: &mut GroupTicket, checksum: u32) {
        ticket.checksum = checksum;
        self.files.placed(checksum);
    }

    /// A group is durable, and so are all before it: groups are given back in their order.
    pub(crate) fn group_durable(&mut self, ticket: GroupTicket) {
        let sequence = ticket.placement.at.sequence;
        assert_eq!(
            sequence,
            self.chain.durable_sequence + 1,
            "groups are acknowledged in order"
        );
        self.chain.durable_sequence = sequence;
        self.chain.durable_checksum = ticket.checksum;
        self.files.written(ticket.placement.file.incarnation);
        for part in &ticket.ends {
            // The partition may have been deleted meanwhile.
            let Some(partition) = self.partitions.get_mut(part.partition) else {
                continue;
            };
            assert!(
                partition.durable.offset < part.end.offset
                    && partition.end.offset >= part.end.offset
            );
            partition.durable = part.end;
            let is_large = partition.unspilled_bytes() >= self.config.spill_bytes;
            let wants_spill = partition.flags.forced_upto.is_some()
                || ((is_large || partition.has_durable_roll()) && partition.refusal().is_none());
            let wants_move = partition.wants_move();
            if wants_spill {
                self.queue_spill(part.partition);
            }
            if wants_move {
                self.queue_move(part.partition);
            }
            self.note_progress(part.partition);
        }
        if !ticket.ends.is_empty() {
            self.planner.group_done(ticket.bytes);
        }
        self.files.release();
    }

    /// A group could not be written: nothing after it can be acknowledged, ever.
    pub(crate) fn group_failed(&mut self, file: &str, position: u64, error: &io::Error) {
        self.fence(format!(
            "writing a group to {file} at byte {position} failed: {error}"
        ));
    }
}
