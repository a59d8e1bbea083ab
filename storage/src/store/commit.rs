//! The commit task: writes groups to the journal, several at once, and acknowledges them in order.
//!
//! Owns the groups in flight and their buffers. What goes into a group is decided in `group`.

use std::io;
use std::pin::pin;
use std::rc::Rc;

use corelane_protocol::TopicPartition;
use futures_util::StreamExt;
use futures_util::future::{Either, join, join_all, select};
use futures_util::stream::FuturesOrdered;

use super::Store;
use super::group::{GroupTicket, PlannedExtent};
use super::reservation::Reservation;
use crate::disk::{Disk, DiskFile, Durable, WriteData};
use crate::journal::{encode_group, journal_path};
use crate::layout::block_ceiling;
use crate::memory::{AlignedBuf, AlignedSlice, Ledger, MemoryKind};
use crate::position::LogPosition;
use crate::segment::segment_path;

/// Buffers in which groups are built, kept for reuse: the one used last, still in the cache, first.
#[derive(Debug)]
pub(super) struct GroupBuffers {
    ledger: Rc<Ledger>,
    bytes: usize,
    free: Vec<(AlignedBuf, Reservation)>,
}

impl GroupBuffers {
    pub(super) fn new(ledger: Rc<Ledger>, group_bytes_max: usize) -> Self {
        Self {
            ledger,
            bytes: block_ceiling(group_bytes_max as u64) as usize,
            free: Vec::new(),
        }
    }

    /// A buffer of `len` bytes with any contents. Their number is bounded by the groups in flight.
    fn take(&mut self, len: usize) -> (AlignedBuf, Reservation) {
        if len <= self.bytes
            && let Some((mut buffer, reservation)) = self.free.pop()
        {
            buffer.set_len(len);
            return (buffer, reservation);
        }
        let mut buffer = AlignedBuf::with_any_contents(len.max(self.bytes));
        let kind = MemoryKind::Journal;
        let reservation = Reservation::unbounded(&self.ledger, kind, buffer.capacity());
        buffer.set_len(len);
        (buffer, reservation)
    }

    /// Takes back a buffer that was written; if the disk still holds it, it is freed when it lets go.
    fn give(&mut self, slice: AlignedSlice, reservation: Reservation) {
        if let Ok(buffer) = slice.try_into_buf()
            && buffer.capacity() == self.bytes
        {
            self.free.push((buffer, reservation));
        }
    }
}

/// A group that is on its way, or has arrived.
struct Written {
    ticket: GroupTicket,
    number: u32,
    /// When its write began, by the disk's clock.
    began_us: u64,
    buffer: AlignedSlice,
    reservation: Reservation,
    result: Result<(), WriteFault>,
}

/// A write of a group that failed: of itself, or of blocks that it wrote to a segment.
struct WriteFault {
    segment: Option<(TopicPartition, LogPosition)>,
    error: io::Error,
}

impl PlannedExtent {
    fn fault(&self, error: io::Error) -> WriteFault {
        WriteFault {
            segment: Some((self.partition, self.position)),
            error,
        }
    }
}

impl<D: Disk> Store<D> {
    /// Writes groups until the store is closed or fenced.
    pub(super) async fn run_commits(self: Rc<Self>) {
        let _work = self.begin_work();
        let mut writes = FuturesOrdered::new();
        loop {
            while let Some(write) = self.start_group() {
                if crate::planted!(AckOutOfOrder) {
                    writes.push_front(write);
                    continue;
                }
                writes.push_back(write);
            }
            if writes.is_empty() {
                if self.commits_have_ended() {
                    self.wake.idle.notify();
                    return;
                }
                self.wake.commit.notified().await;
                continue;
            }
            let woken = pin!(self.wake.commit.notified());
            if let Either::Left((Some(written), _)) = select(writes.next(), woken).await {
                self.finish_group(written);
            }
        }
    }

    fn commits_have_ended(&self) -> bool {
        let state = self.state.borrow();
        state.fenced.is_some() || (state.is_closing && state.planner.is_idle())
    }

    /// Builds the next group, if one is due, and returns its write.
    fn start_group(&self) -> Option<impl Future<Output = Written> + use<D>> {
        let mut state = self.state.borrow_mut();
        let mut handles = self.handles.borrow_mut();
        let mut group = state.plan_group(&mut |key| handles.get(key).is_some())?;
        let extents: Vec<_> = group
            .extents
            .drain(..)
            .map(|extent| {
                let file = handles.get(extent.key).expect("it is open");
                (file, extent)
            })
            .collect();
        let number = group.placement.file.number;
        let len = group.padded_length as usize;
        let (mut buffer, reservation) = self.buffers.borrow_mut().take(len);
        let checksum = encode_group(self.uuid, group.place, &group.parts, &mut buffer);
        state.group_encoded(&mut group.ticket, checksum);
        let began_us = self.disk.now_us();
        let has_more = state.planner.has_due();
        state
            .meters
            .group_started(began_us, group.padded_length, has_more);
        self.tell_news(&state);
        if state.files.crowded().is_some() || state.wants_thinning() {
            self.wake.spill.notify();
        }
        if state.files.wants_work() {
            self.wake.journal.notify();
        }
        let file = self
            .journal_files
            .borrow()
            .get(&number)
            .expect("a file with a place is open")
            .clone();
        let position = group.placement.at.position;
        let buffer = buffer.freeze();
        let ticket = group.ticket;
        let durable = if crate::planted!(FlushSkipped) {
            Durable::No
        } else {
            Durable::Data
        };
        Some(async move {
            let writes = extents.iter().map(|(file, extent)| {
                let data = WriteData::from(extent.blocks.clone());
                let durable = if crate::planted!(ExtentNotFlushed) {
                    Durable::No
                } else {
                    durable
                };
                file.write(extent.position.at, data, durable)
            });
            let group = file.write(position, WriteData::from(buffer.clone()), durable);
            // All of them come to an end, also if one fails.
            let (group, written) = join(group, join_all(writes)).await;
            let group = group.map_err(|error| WriteFault {
                segment: None,
                error,
            });
            let written = written.into_iter().zip(&extents);
            let result = written.fold(group, |result, (written, (_, extent))| {
                result.and(written.map_err(|error| extent.fault(error)))
            });
            Written {
                ticket,
                number,
                began_us,
                buffer,
                reservation,
                result,
            }
        })
    }

    /// Acknowledges a group, or fences the store.
    fn finish_group(&self, written: Written) {
        self.buffers
            .borrow_mut()
            .give(written.buffer, written.reservation);
        let mut state = self.state.borrow_mut();
        state.meters.groups_in_flight -= 1;
        if written.result.is_ok() {
            let now_us = self.disk.now_us();
            state.meters.group_written(written.began_us, now_us);
        }
        match written.result {
            Ok(()) if state.fenced.is_none() => state.group_durable(written.ticket),
            Ok(()) => {}
            Err(_) if crate::planted!(WriteErrorIgnored) => state.group_durable(written.ticket),
            Err(fault) => {
                let (file, position) = match fault.segment {
                    Some((partition, at)) => {
                        (segment_path(&self.dir, partition, at.segment), at.at)
                    }
                    None => (
                        journal_path(&self.dir, written.number),
                        written.ticket.position(),
                    ),
                };
                state.group_failed(&file, position, &fault.error);
            }
        }
        self.tell_news(&state);
        if !state.spill_queue.is_empty() {
            self.wake.spill.notify();
        }
        if !state.trims.is_idle() {
            self.wake.trim.notify();
        }
        if state.files.wants_work() {
            self.wake.journal.notify();
        }
        let is_fenced = state.fenced.is_some();
        drop(state);
        if is_fenced {
            self.wake_all();
        }
        self.wake.idle.notify();
    }
}
