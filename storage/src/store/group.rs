//! Which batches go into the next group, and what follows when it is durable.
//!
//! Owns the steps between a dirty partition and an acknowledged one. Does no I/O.

use std::io;

use super::partition::PartitionHandle;
use super::state::State;
use crate::journal::{
    GROUP_HEADER_BYTES, GROUP_SEAL, GroupPlace, PART_BYTES, PartOrigin, Placement, PlannedPart,
    group_bytes, plan_part,
};
use crate::position::LogPoint;

/// A group that has its place, to be encoded and written.
#[derive(Debug)]
pub(crate) struct PlannedGroup {
    pub(crate) parts: Vec<PlannedPart>,
    pub(crate) place: GroupPlace,
    pub(crate) placement: Placement,
    /// Its bytes in the file.
    pub(crate) padded_length: u64,
    pub(crate) ticket: GroupTicket,
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
}

impl State {
    /// The next group, if one is due and the journal has the room.
    pub(crate) fn plan_group(&mut self) -> Option<PlannedGroup> {
        if self.fenced.is_some() {
            return None;
        }
        if !self.planner.is_due() {
            return self.plan_seal();
        }
        let (parts, shares) = self.fill_group();
        if parts.is_empty() {
            return None;
        }
        let body = parts.iter().map(|part| part.bytes.len()).sum();
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
            ticket: GroupTicket {
                placement,
                checksum: 0,
                bytes: 0,
                ends,
            },
        }
    }

    /// Takes dirty partitions in turn until the group is full.
    fn fill_group(&mut self) -> (Vec<PlannedPart>, Vec<Share>) {
        let (mut parts, mut shares) = (Vec::new(), Vec::new());
        let mut room = self
            .config
            .group_bytes_max
            .saturating_sub(GROUP_HEADER_BYTES);
        while let Some(handle) = self.planner.next() {
            let Some(partition) = self.partitions.get(handle) else {
                continue;
            };
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
            };
            let last = partition.tail.last();
            let whole = last.and_then(|chunk| {
                let part = partition
                    .pending
                    .plan(origin, chunk, room.saturating_sub(PART_BYTES));
                part.filter(|_| partition.pending_batches > 0)
            });
            if let Some(part) = whole {
                room -= PART_BYTES + part.bytes.len();
                share.batches = part.entry.batch_count;
                share.bytes = part.bytes.len();
                share.journaled = part.end;
                share.is_all = true;
                debug_assert_eq!(
                    (share.batches, share.bytes),
                    (partition.pending_batches, partition.pending_bytes)
                );
                parts.push(part);
                shares.push(share);
                continue;
            }
            for chunk in partition.tail.chunks_after(partition.journaled.position) {
                let is_first = parts.is_empty();
                let Some(part) = plan_part(
                    origin,
                    chunk,
                    share.journaled,
                    room.saturating_sub(PART_BYTES),
                    is_first,
                ) else {
                    break;
                };
                room = room.saturating_sub(PART_BYTES + part.bytes.len());
                share.batches += part.entry.batch_count;
                share.bytes += part.bytes.len();
                share.journaled = part.end;
                let is_whole_chunk = part.end == chunk.end();
                parts.push(part);
                if !is_whole_chunk {
                    break;
                }
            }
            share.is_all = share.bytes == partition.pending_bytes;
            let is_full = !share.is_all;
            shares.push(share);
            if is_full {
                break;
            }
        }
        (parts, shares)
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
    pub(crate) fn group_failed(&mut self, file: &str, ticket: &GroupTicket, error: &io::Error) {
        let position = ticket.placement.at.position;
        self.fence(format!(
            "writing a group to {file} at byte {position} failed: {error}"
        ));
    }
}
