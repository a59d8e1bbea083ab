//! What the user changes while it runs: positions, pauses, and which partitions there are.

use std::time::Duration;

use super::{Fetcher, PartitionId};
use crate::consumer::assigned::{Assigned, Status};
use crate::consumer::place::Place;
use crate::consumer::start::Found;

impl Fetcher {
    /// Reads one more partition. Its id is that of a partition that was removed, if there is one.
    pub(in crate::consumer) fn add(&mut self, mut assigned: Assigned) -> PartitionId {
        self.dirty = true;
        let is_free = |known: &Assigned| known.status == Status::Removed;
        match self.partitions.iter().position(is_free) {
            Some(id) => {
                // What is on its way for the partition that was here is not taken for this one's.
                assigned.generation = self.partitions[id].generation + 1;
                self.partitions[id] = assigned;
                id
            }
            None => {
                self.partitions.push(assigned);
                self.partitions.len() - 1
            }
        }
    }

    /// Reads a partition no more: nothing of it is handed out from here on.
    pub(in crate::consumer) fn remove(&mut self, id: PartitionId) {
        self.throw_away(id);
        self.partitions[id].status = Status::Removed;
        self.jumps.retain(|(of, _)| *of != id);
        self.failures.retain(|(of, _)| *of != id);
    }

    /// Goes on at `offset`; what was fetched before is thrown away, and a failure is forgotten.
    pub(in crate::consumer) fn seek(&mut self, id: PartitionId, offset: u64) {
        self.seek_to(
            id,
            Found {
                place: Place::new(offset, None),
                read_from: offset,
                latest: u64::MAX,
            },
        );
    }

    /// `seek` to a place that was found.
    pub(in crate::consumer) fn seek_to(&mut self, id: PartitionId, found: Found) {
        let assigned = &mut self.partitions[id];
        assigned.position = found.place;
        assigned.read_from = found.read_from;
        self.throw_away(id);
        self.partitions[id].status = Status::Idle;
    }

    pub(in crate::consumer) fn pause(&mut self, id: PartitionId) {
        self.partitions[id].paused = true;
        self.throw_away(id);
    }

    pub(in crate::consumer) fn resume(&mut self, id: PartitionId) {
        let assigned = &mut self.partitions[id];
        assigned.paused = false;
        if assigned.status == Status::Failed {
            assigned.status = Status::Idle;
        }
        self.dirty = true;
    }

    /// Forgets what was fetched and not handed out, and what is in flight.
    pub(super) fn throw_away(&mut self, id: PartitionId) {
        let assigned = &mut self.partitions[id];
        assigned.generation += 1;
        assigned.fetched = assigned.position;
        assigned.not_before = Duration::ZERO;
        if assigned.status == Status::InFlight || assigned.status == Status::Resetting {
            assigned.status = Status::Idle;
        }
        let buffered_bytes = &mut self.buffered_bytes;
        self.buffered.retain(|buffered| {
            let kept = buffered.id != id;
            if !kept {
                *buffered_bytes -= buffered.bytes.range.len();
            }
            kept
        });
        self.dirty = true;
    }
}
