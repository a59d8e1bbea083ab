//! Scrubbing: sealed segments are read slowly, all of them in turn and for ever, and verified.
//!
//! Owns the rate, which ticks give, and what follows from damage: it is told and remembered, and nothing else
//! changes; a read of it is an error by itself, and what is around it can be read. An index that does not fit
//! its segment is removed, since it is derived. Low priority: one read at a time.

use std::rc::Rc;

use corelane_protocol::{Offset, TopicPartition};

use super::pace::{PIECE_BYTES, Pace};
use super::partition::PartitionHandle;
use super::read_window::Segment;
use super::state::State;
use super::{Progress, ReadError, Store};
use crate::disk::Disk;
use crate::index::{IndexEntry, IndexIdentity, SparseIndex};
use crate::layout::{BLOCK, block_floor};
use crate::position::LogPoint;
use crate::segment::batches::Check;
use crate::segment::walk::{Step, Stop};

/// Findings of one partition that are remembered.
const DAMAGE_MAX: usize = 16;

/// How far scrubbing is, and what it may read now.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    pub(super) pace: Pace,
    /// The segment that was looked at last.
    last: Option<(TopicPartition, Offset)>,
}

/// How the look at a segment ended.
enum Looked {
    /// All of it was read, or it is no part of the log any more, or it is damaged.
    Through,
    /// There is no memory for it now.
    NoMemory,
}

impl<D: Disk> Store<D> {
    /// Scrubs until the store is closed or fenced.
    pub(super) async fn run_scrub(self: Rc<Self>) {
        let _work = self.begin_work();
        if self.state.borrow().config.scrub_bytes_per_second == 0 {
            return;
        }
        while !self.has_ended() {
            let next = self.state.borrow_mut().next_to_scrub();
            let rests = match next {
                Some(segment) => matches!(self.scrub_segment(&segment).await, Looked::NoMemory),
                None => true,
            };
            if rests && !self.has_ended() {
                self.state.borrow_mut().scrub.pace.allowance = 0;
                self.wake.scrub.notified().await;
            }
        }
    }

    async fn scrub_segment(&self, segment: &Segment) -> Looked {
        let looked = self.verify_segment(segment).await;
        match looked {
            Ok(()) => Looked::Through,
            Err(ReadError::MemoryFull(_)) => Looked::NoMemory,
            Err(error) => {
                let mut state = self.state.borrow_mut();
                if state.has_segment(segment) && !state.is_closing {
                    state.found_damage(segment.handle, &error.to_string());
                    self.tell_news(&state);
                }
                Looked::Through
            }
        }
    }

    /// Reads all of a segment and verifies every batch, and its index.
    async fn verify_segment(&self, segment: &Segment) -> Result<(), ReadError> {
        let file = self.open_segment(segment).await?;
        let entries = self.index_file_entries(segment).await;
        let mut expected = entries.iter().peekable();
        let mut fits = true;
        let mut boundary = LogPoint::start_of(segment.place.base);
        let mut wanted = PIECE_BYTES;
        loop {
            let left = segment.place.flushed - block_floor(boundary.position.at);
            self.may_scrub(wanted.min(left)).await;
            if self.has_ended() || !self.state.borrow().has_segment(segment) {
                return Ok(());
            }
            let bytes = self
                .read_segment(segment, &file, boundary.position.at, wanted)
                .await?;
            self.state.borrow_mut().meters.scrubbed_bytes += bytes.bytes.len() as u64;
            let mut walk = segment.walk_from(&bytes, boundary);
            let stop = loop {
                match walk.step(Check::Whole) {
                    Step::Stop(stop) => break stop,
                    Step::Batch(at, batch) => {
                        let entry = expected.next_if(|entry| u64::from(entry.position) <= at);
                        fits &= entry.is_none_or(|entry| {
                            let relative = batch.base_offset.distance_from(segment.place.base);
                            (u64::from(entry.position), u64::from(entry.relative_offset))
                                == (at, relative)
                        });
                    }
                }
            };
            boundary.position.at = walk.at;
            boundary.offset = walk.expected;
            match stop {
                Stop::End => break,
                Stop::Incomplete(needed) => wanted = PIECE_BYTES.max(needed as u64 + BLOCK),
                Stop::Damaged(_) if crate::planted!(ScrubSkipsDamage) => return Ok(()),
                Stop::Damaged(reason) => {
                    return Err(self.corruption(segment, walk.at, reason).into());
                }
            }
        }
        self.state.borrow_mut().meters.scrubbed_segments += 1;
        if !(fits && expected.next().is_none()) {
            self.drop_index(segment).await;
        }
        Ok(())
    }

    /// What the segment's index file says, as far as it is sound.
    async fn index_file_entries(&self, segment: &Segment) -> Vec<IndexEntry> {
        let base = segment.place.base;
        let identity = IndexIdentity {
            base,
            incarnation: segment.place.incarnation,
        };
        let path = self.index_path(segment);
        let bytes = self.read_index_file(&path).await;
        let interval = self.state.borrow().config.index_interval_bytes;
        let index = SparseIndex::decode(identity, interval, segment.place.flushed, &bytes);
        index.entries().to_vec()
    }

    /// Removes an index that does not fit its segment; the next reader makes another one.
    async fn drop_index(&self, segment: &Segment) {
        let Some(_writing) = self.begin_index_write(segment) else {
            return;
        };
        let path = self.index_path(segment);
        tracing::warn!(path, "the index does not fit its segment, and is removed");
        if let Err(error) = self.disk.remove_file(&path).await {
            tracing::warn!(path, %error, "the index could not be removed");
        }
        self.indexes.borrow_mut().forget(segment.handle);
    }

    /// Waits until so many bytes may be read.
    async fn may_scrub(&self, bytes: u64) {
        loop {
            {
                let mut state = self.state.borrow_mut();
                let ended = state.is_closing || state.fenced.is_some();
                if ended || state.scrub.pace.take(bytes) {
                    return;
                }
            }
            self.wake.scrub.notified().await;
        }
    }
}

impl State {
    /// The sealed segment after the one that was looked at last; the first one after the last of all.
    fn next_to_scrub(&mut self) -> Option<Segment> {
        let last = self.scrub.last;
        let candidates = self.partitions.iter().filter_map(|(handle, partition)| {
            if partition.flags.is_deleting {
                return None;
            }
            let after = match last {
                Some((id, _)) if partition.id < id => return None,
                Some((id, base)) if partition.id == id => Some(base),
                _ => None,
            };
            let sealed = &partition.sealed;
            let index = after.map_or(0, |base| {
                sealed.partition_point(|segment| segment.base <= base)
            });
            let segment = sealed.get(index)?;
            let place = partition.segment_of(segment.base)?;
            Some(Segment {
                handle,
                partition: partition.id,
                place,
            })
        });
        let mut candidates = candidates;
        let found = candidates.next();
        drop(candidates);
        self.scrub.last = found
            .as_ref()
            .map(|segment| (segment.partition, segment.place.base));
        found
    }

    fn has_segment(&self, segment: &Segment) -> bool {
        let partition = self.partitions.get(segment.handle);
        partition.is_some_and(|partition| {
            partition.has_sealed(&segment.place) && !partition.flags.is_deleting
        })
    }

    /// Remembers damage, and tells it once.
    pub(super) fn found_damage(&mut self, handle: PartitionHandle, reason: &str) {
        let Some(partition) = self.partitions.get_mut(handle) else {
            return;
        };
        let is_known = partition.damage.iter().any(|known| &**known == reason);
        if is_known || partition.damage.len() == DAMAGE_MAX {
            return;
        }
        let reason: Rc<str> = reason.into();
        partition.damage.push(Rc::clone(&reason));
        let partition = partition.id;
        self.meters.damage_found += 1;
        self.tell(Progress::Damaged { partition, reason });
    }
}
