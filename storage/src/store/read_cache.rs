//! Segment data in memory for readers: what was read for one, ahead of it, or for another.
//!
//! Owns the windows, every batch of which is verified, and their bound. Never touches tails, so a reader of
//! old data cannot push out new data.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use corelane_protocol::Offset;

use super::fetch::Fetched;
use super::partition::PartitionHandle;
use super::reservation::Reservation;
use super::{Corruption, Notify};
use crate::memory::{AlignedSlice, ChunkSlice};
use crate::segment::batches::{BatchPeek, peek};

/// A run ends after so many bytes, so that a search does not walk far.
const RUN_BYTES: u64 = 64 << 10;

/// Consecutive batches without padding between them.
#[derive(Clone, Copy, Debug)]
struct Run {
    at: u64,
    end: u64,
    first: Offset,
    end_offset: Offset,
}

/// Verified batches of one segment, from one read.
#[derive(Debug)]
pub(super) struct Window {
    memory: AlignedSlice,
    /// The position in the file of the memory's first byte.
    start: u64,
    runs: Vec<Run>,
    /// Where the windows behind it begin, as far as that is known.
    pub(super) ahead: Vec<Offset>,
    /// Damage right after the last run.
    pub(super) damage: Option<Corruption>,
    reserved: Reservation,
}

impl Window {
    /// An empty window in memory of which byte 0 is byte `start` of the file.
    pub(super) fn new(memory: AlignedSlice, start: u64, reserved: Reservation) -> Self {
        Self {
            memory,
            start,
            runs: Vec::new(),
            ahead: Vec::new(),
            damage: None,
            reserved,
        }
    }

    /// Adds a verified batch behind those before.
    pub(super) fn push(&mut self, at: u64, batch: BatchPeek) {
        let end = at + u64::from(batch.length);
        match self.runs.last_mut() {
            Some(run) if run.end == at && run.end - run.at < RUN_BYTES => {
                run.end = end;
                run.end_offset = batch.end_offset;
            }
            _ => self.runs.push(Run {
                at,
                end,
                first: batch.base_offset,
                end_offset: batch.end_offset,
            }),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.reserved.bytes()
    }

    pub(super) fn first_offset(&self) -> Option<Offset> {
        self.runs.first().map(|run| run.first)
    }

    pub(super) fn end_offset(&self) -> Option<Offset> {
        self.runs.last().map(|run| run.end_offset)
    }

    /// Batches from the one that holds `from` on, which the window must hold.
    pub(super) fn read(&self, from: Offset, bytes_max: usize, at_least_one: bool) -> Fetched {
        let mut fetched = Fetched::nothing(from);
        let mut range: Option<(u64, u64)> = None;
        let first = self.runs.partition_point(|run| run.end_offset <= from);
        'runs: for run in &self.runs[first..] {
            if run.first >= from && fetched.bytes + (run.end - run.at) as usize <= bytes_max {
                self.extend(&mut fetched, &mut range, run.at, run.end);
                fetched.next_offset = run.end_offset;
                continue;
            }
            let mut at = run.at;
            while at < run.end {
                let batch = peek(&self.memory[(at - self.start) as usize..]);
                let end = at + u64::from(batch.length);
                if batch.end_offset > from {
                    let fits = fetched.bytes + batch.length as usize <= bytes_max;
                    if !(fits || at_least_one && fetched.bytes == 0) {
                        break 'runs;
                    }
                    self.extend(&mut fetched, &mut range, at, end);
                    fetched.next_offset = batch.end_offset;
                }
                at = end;
            }
        }
        self.cut(&mut fetched, range);
        fetched
    }

    /// Adds bytes to the part that is being gathered, or begins another.
    fn extend(&self, fetched: &mut Fetched, range: &mut Option<(u64, u64)>, at: u64, end: u64) {
        fetched.bytes += (end - at) as usize;
        match range {
            Some((_, last)) if *last == at => *last = end,
            _ => {
                let before = range.replace((at, end));
                self.cut(fetched, before);
            }
        }
    }

    fn cut(&self, fetched: &mut Fetched, range: Option<(u64, u64)>) {
        if let Some((from, to)) = range {
            let slice: ChunkSlice = self
                .memory
                .slice((from - self.start) as usize..(to - self.start) as usize);
            fetched.parts.push(slice);
        }
    }
}

/// Where a window is wanted: at a batch that holds an offset.
pub(super) type WindowKey = (PartitionHandle, Offset);

/// The windows of a store.
#[derive(Debug, Default)]
pub(super) struct ReadCache {
    bytes_max: usize,
    bytes: usize,
    /// By the offset after their last record.
    windows: BTreeMap<WindowKey, Rc<Window>>,
    /// Oldest first, but for those of which somebody has read the end.
    order: VecDeque<WindowKey>,
    /// Those, the first of them first. They go before others do.
    finished: VecDeque<WindowKey>,
    loading: BTreeSet<WindowKey>,
    /// Those of the windows that nobody has come to.
    unread: BTreeSet<WindowKey>,
    /// Wanted ahead of a reader.
    ahead: VecDeque<WindowKey>,
}

/// The most windows that wait to be read ahead; beyond that readers fetch for themselves.
const AHEAD_MAX: usize = 64;

impl ReadCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            ..Self::default()
        }
    }

    /// The window that holds `offset`, if there is one.
    pub(super) fn find(&self, partition: PartitionHandle, offset: Offset) -> Option<Rc<Window>> {
        let after = (partition, offset.advance(1));
        let ((found, _), window) = self.windows.range(after..).next()?;
        let holds =
            *found == partition && window.first_offset().is_some_and(|first| first <= offset);
        holds.then(|| Rc::clone(window))
    }

    /// Keeps a window, in the place of older ones.
    pub(super) fn insert(&mut self, partition: PartitionHandle, window: Rc<Window>) {
        let Some(end) = window.end_offset() else {
            return;
        };
        self.bytes += window.reserved.bytes();
        if let Some(before) = self.windows.insert((partition, end), window) {
            self.bytes -= before.reserved.bytes();
        } else {
            self.order.push_back((partition, end));
        }
        while self.bytes > self.bytes_max && self.windows.len() > 1 {
            self.drop_oldest();
        }
    }

    /// Frees a window. Returns whether there was one.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let oldest = self.finished.pop_front();
        let Some(oldest) = oldest.or_else(|| self.order.pop_front()) else {
            return false;
        };
        self.unread.remove(&oldest);
        if let Some(window) = self.windows.remove(&oldest) {
            self.bytes -= window.reserved.bytes();
        }
        true
    }

    /// Forgets a partition.
    pub(super) fn forget(&mut self, partition: PartitionHandle) {
        self.forget_below(partition, Offset::MAX);
    }

    /// Forgets what a partition has before an offset.
    pub(super) fn forget_below(&mut self, partition: PartitionHandle, end: Offset) {
        let is_kept = |key: &WindowKey| key.0 != partition || key.1 > end;
        self.order.retain(is_kept);
        self.finished.retain(is_kept);
        self.ahead.retain(is_kept);
        self.unread.retain(is_kept);
        let gone: Vec<WindowKey> = self
            .windows
            .keys()
            .copied()
            .filter(|key| !is_kept(key))
            .collect();
        for key in gone {
            if let Some(window) = self.windows.remove(&key) {
                self.bytes -= window.reserved.bytes();
            }
        }
    }

    /// Begins to load a window, unless it is being loaded.
    pub(super) fn begin(&mut self, key: WindowKey) -> bool {
        self.loading.insert(key)
    }

    pub(super) fn is_loading(&self, key: WindowKey) -> bool {
        self.loading.contains(&key)
    }

    /// A load has ended, however.
    pub(super) fn end(&mut self, key: WindowKey, loaded: &Notify) {
        self.loading.remove(&key);
        loaded.notify();
    }

    /// Asks for a window before somebody reads it.
    pub(super) fn want(&mut self, key: WindowKey) -> bool {
        let known = self.find(key.0, key.1).is_some()
            || self.loading.contains(&key)
            || self.ahead.contains(&key);
        if known || self.ahead.len() == AHEAD_MAX {
            return false;
        }
        self.ahead.push_back(key);
        true
    }

    /// Whether a reader may have more than its next window read ahead. What nobody has come to yet takes half of
    /// the memory at most, so that it is not pushed out before.
    pub(super) fn has_room_ahead(&self, window_bytes: usize) -> bool {
        let windows = self.unread.len() + self.ahead.len() + self.loading.len() + 1;
        2 * windows * window_bytes <= self.bytes_max
    }

    /// A window that was read ahead is kept until somebody comes to it.
    pub(super) fn insert_ahead(&mut self, partition: PartitionHandle, window: Rc<Window>) {
        if let Some(end) = window.end_offset() {
            self.unread.insert((partition, end));
            self.insert(partition, window);
        }
    }

    /// Somebody has read of the window that ends there, up to this offset.
    pub(super) fn note_read(&mut self, partition: PartitionHandle, end: Offset, upto: Offset) {
        let key = (partition, end);
        self.unread.remove(&key);
        if upto >= end
            && let Some(place) = self.order.iter().position(|kept| *kept == key)
        {
            self.order.remove(place);
            self.finished.push_back(key);
        }
    }

    /// The window to read ahead next.
    pub(super) fn next_ahead(&mut self) -> Option<WindowKey> {
        self.ahead.pop_front()
    }
}
