//! Reading: from memory at once, from segment files by windows, ahead of whoever reads on.
//!
//! Owns the choice of where a read is answered, and the read-ahead task. How a window comes from a file is
//! in `read_window`.

use std::pin::pin;
use std::rc::Rc;

use corelane_protocol::{Offset, TopicPartition};
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;

use super::fetch::{DiskRead, Fetched, Read};
use super::partition::PartitionHandle;
use super::read_cache::{Window, WindowKey};
use super::read_window::Loaded;
use super::{ReadError, Store};
use crate::disk::Disk;

/// Windows being read ahead at once.
const AHEAD_IN_FLIGHT: usize = 4;

impl<D: Disk> Store<D> {
    /// Reads batches from the one that holds `from` on: `bytes_max` bytes at most, but the first one whole if
    /// `at_least_one`. Nothing at or above the high watermark is ever returned.
    ///
    /// # Errors
    /// `UnknownPartition`, `OutOfRange`, `PartitionFailed`.
    pub fn read(
        &self,
        partition: TopicPartition,
        from: Offset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<Read, ReadError> {
        let handle = self
            .partition_handle(partition)
            .ok_or(ReadError::UnknownPartition(partition))?;
        self.read_by_handle(handle, from, bytes_max, at_least_one)
    }

    /// `read` by handle.
    ///
    /// # Errors
    /// `PartitionGone`, `OutOfRange`, `PartitionFailed`.
    pub fn read_by_handle(
        &self,
        handle: PartitionHandle,
        from: Offset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<Read, ReadError> {
        let read = self
            .state
            .borrow()
            .read(handle, from, bytes_max, at_least_one)?;
        if let Read::Disk(wanted) = &read
            && let Some(fetched) = self.read_window(wanted)
        {
            return Ok(Read::Ready(fetched));
        }
        Ok(read)
    }

    /// Does a read that `read` could not answer from memory.
    ///
    /// # Errors
    /// `Corrupt` with the file and the position, `Io`, `MemoryFull`, or what `read` returns if things have
    /// changed meanwhile.
    pub async fn read_disk(self: &Rc<Self>, wanted: DiskRead) -> Result<Fetched, ReadError> {
        let _work = self.begin_work();
        let key = (wanted.handle, wanted.from);
        loop {
            self.expect_still_readable(&wanted)?;
            if let Some(fetched) = self.read_window(&wanted) {
                return Ok(fetched);
            }
            if self.read_cache.borrow_mut().begin(key) {
                break;
            }
            self.wake
                .loaded
                .until(|| !self.read_cache.borrow().is_loading(key))
                .await;
        }
        let guard = LoadGuard { store: self, key };
        let loaded = self.load(key).await;
        drop(guard);
        // Its records may be deleted since, and the file gone: whatever came of it, they are out of range.
        self.expect_still_readable(&wanted)?;
        match loaded? {
            Loaded::Window(window) => {
                self.read_cache
                    .borrow_mut()
                    .insert(wanted.handle, Rc::clone(&window));
                self.serve(&wanted, &window)
            }
            Loaded::Elsewhere => match self.read(
                wanted.partition,
                wanted.from,
                wanted.bytes_max,
                wanted.at_least_one,
            )? {
                Read::Ready(fetched) => Ok(fetched),
                Read::Disk(_) => Ok(Fetched::nothing(wanted.from)),
            },
        }
    }

    fn expect_still_readable(&self, wanted: &DiskRead) -> Result<(), ReadError> {
        let state = self.state.borrow();
        match state.partitions.get(wanted.handle) {
            Some(partition) => partition.expect_readable(wanted.from),
            None => Err(ReadError::UnknownPartition(wanted.partition)),
        }
    }

    /// Reads ahead of sequential readers until the store is closed or fenced.
    pub(super) async fn run_read_ahead(self: Rc<Self>) {
        let _work = self.begin_work();
        let mut loads = FuturesUnordered::new();
        loop {
            while loads.len() < AHEAD_IN_FLIGHT {
                let next = self.read_cache.borrow_mut().next_ahead();
                let Some(key) = next else { break };
                if self.read_cache.borrow_mut().begin(key) {
                    loads.push(self.load_ahead(key));
                }
            }
            if self.state.borrow().is_closing && loads.is_empty() {
                return;
            }
            let woken = pin!(self.wake.ahead.notified());
            if loads.is_empty() {
                woken.await;
            } else if let Either::Left(_) = select(loads.next(), woken).await {
                continue;
            }
        }
    }

    async fn load_ahead(&self, key: WindowKey) {
        let guard = LoadGuard { store: self, key };
        // A failure is the reader's to see, when it comes.
        if let Ok(Loaded::Window(window)) = self.load(key).await {
            self.read_cache.borrow_mut().insert_ahead(key.0, window);
        }
        drop(guard);
    }

    /// Answers from a window in memory.
    fn read_window(&self, wanted: &DiskRead) -> Option<Fetched> {
        let window = self.read_cache.borrow().find(wanted.handle, wanted.from)?;
        self.serve(wanted, &window).ok()
    }

    fn serve(&self, wanted: &DiskRead, window: &Window) -> Result<Fetched, ReadError> {
        let (Some(first), Some(end)) = (window.first_offset(), window.end_offset()) else {
            let damage = window
                .damage
                .clone()
                .expect("a window without batches has damage");
            return Err(damage.into());
        };
        let fetched = window.read(wanted.from, wanted.bytes_max, wanted.at_least_one);
        let upto = fetched.next_offset;
        self.read_cache
            .borrow_mut()
            .note_read(wanted.handle, end, upto);
        let is_past_half = fetched.next_offset.distance_from(first) * 2 >= end.distance_from(first);
        if is_past_half && window.damage.is_none() {
            self.want_ahead(wanted.handle, end, window);
        }
        Ok(fetched)
    }

    /// Has what follows a window read before it is wanted: the next window, and more while nobody else waits.
    fn want_ahead(&self, handle: PartitionHandle, end: Offset, window: &Window) {
        let further = window.ahead.iter().copied().filter(|start| *start > end);
        let mut is_any = false;
        for (index, start) in std::iter::once(end).chain(further).enumerate() {
            let mut cache = self.read_cache.borrow_mut();
            if !self.is_on_disk(handle, start) || index > 0 && !cache.has_room_ahead(window.bytes())
            {
                break;
            }
            is_any |= cache.want((handle, start));
        }
        if is_any {
            self.wake.ahead.notify();
        }
    }

    fn is_on_disk(&self, handle: PartitionHandle, offset: Offset) -> bool {
        let state = self.state.borrow();
        state.partitions.get(handle).is_some_and(|partition| {
            partition.segment_of(offset).is_some()
                && partition
                    .tail
                    .first()
                    .is_none_or(|first| offset < first.offset)
        })
    }
}

/// Says that a load has ended, also if its future is dropped.
struct LoadGuard<'a, D: Disk> {
    store: &'a Store<D>,
    key: WindowKey,
}

impl<D: Disk> Drop for LoadGuard<'_, D> {
    fn drop(&mut self) {
        self.store
            .read_cache
            .borrow_mut()
            .end(self.key, &self.store.wake.loaded);
    }
}
