//! Open segment files: opened when they are used, closed when too many are, or when nobody has used them for long.
//!
//! Owns the handles. Whoever uses a file holds a clone, so closing one here never takes it from anybody.

use std::collections::BTreeMap;

use corelane_protocol::{Offset, Timestamp};

use crate::store::PartitionHandle;

/// A file that nobody has used for so long is closed, and at the latest after twice as long.
const IDLE_MS: i64 = 60_000;

/// The most idle files that are closed at once.
const IDLE_AT_ONCE: usize = 64;

/// Names a segment of an open store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HandleKey {
    /// The partition.
    pub(crate) partition: PartitionHandle,
    /// The segment's base offset.
    pub(crate) base: Offset,
    /// The incarnation of its file: compaction puts another file in its place.
    pub(crate) incarnation: u64,
}

/// The open segment files of a store; the least recently used is closed first.
#[derive(Debug)]
pub(crate) struct SegmentHandles<F> {
    files_max: usize,
    uses: u64,
    files: BTreeMap<HandleKey, (u64, F)>,
    by_use: BTreeMap<u64, HandleKey>,
    /// When the present stretch of `IDLE_MS` began, and the uses until then.
    stretch: Option<(Timestamp, u64)>,
    /// Files whose last use is not after this one are idle.
    idle_upto: u64,
}

impl<F: Clone> SegmentHandles<F> {
    pub(crate) fn new(files_max: usize) -> Self {
        Self {
            files_max,
            uses: 0,
            files: BTreeMap::new(),
            by_use: BTreeMap::new(),
            stretch: None,
            idle_upto: 0,
        }
    }

    /// The file, if it is open.
    pub(crate) fn get(&mut self, key: HandleKey) -> Option<F> {
        let (last_use, file) = self.files.get_mut(&key)?;
        self.by_use.remove(last_use);
        self.uses += 1;
        *last_use = self.uses;
        self.by_use.insert(self.uses, key);
        Some(file.clone())
    }

    /// Keeps a file that was opened.
    pub(crate) fn insert(&mut self, key: HandleKey, file: F) {
        self.close(key);
        self.uses += 1;
        self.files.insert(key, (self.uses, file));
        self.by_use.insert(self.uses, key);
        while self.files.len() > self.files_max {
            let (_, oldest) = self.by_use.pop_first().expect("every file has a use");
            self.files.remove(&oldest);
        }
    }

    /// Lets go of files that were not used for a whole stretch of time, some at each call.
    pub(crate) fn close_idle(&mut self, now: Timestamp) {
        let passed = self.stretch.map(|(since, _)| now.get() - since.get());
        match (self.stretch, passed) {
            (Some(_), Some(0..IDLE_MS)) => {}
            (Some((_, uses)), Some(IDLE_MS..)) => {
                self.idle_upto = uses;
                self.stretch = Some((now, self.uses));
            }
            // The first call, or a clock that was set back.
            _ => self.stretch = Some((now, self.uses)),
        }
        for _ in 0..IDLE_AT_ONCE {
            let Some(oldest) = self.by_use.first_entry() else {
                break;
            };
            if *oldest.key() > self.idle_upto {
                break;
            }
            self.files.remove(&oldest.remove());
        }
    }

    /// How many files are open.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// Lets a file go.
    pub(crate) fn close(&mut self, key: HandleKey) {
        if let Some((last_use, _)) = self.files.remove(&key) {
            self.by_use.remove(&last_use);
        }
    }

    /// Lets all files of a partition go.
    pub(crate) fn close_partition(&mut self, partition: PartitionHandle) {
        self.close_below(HandleKey {
            partition,
            base: Offset::MAX,
            incarnation: 0,
        });
    }

    /// Lets the files of a partition's segments before this one go.
    pub(crate) fn close_below(&mut self, end: HandleKey) {
        let from = HandleKey {
            base: Offset::ZERO,
            incarnation: 0,
            ..end
        };
        let keys: Vec<HandleKey> = self.files.range(from..end).map(|(key, _)| *key).collect();
        for key in keys {
            self.close(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(partition: u32, base: u64) -> HandleKey {
        HandleKey {
            partition: PartitionHandle::new(partition, 0),
            base: Offset::new(base),
            incarnation: 1,
        }
    }

    #[test]
    fn the_least_recently_used_is_closed() {
        let mut handles = SegmentHandles::new(2);
        handles.insert(key(1, 0), "a");
        handles.insert(key(1, 9), "b");
        assert_eq!(handles.get(key(1, 0)), Some("a"));
        handles.insert(key(2, 0), "c");
        assert_eq!(handles.get(key(1, 9)), None);
        assert_eq!(
            (
                handles.get(key(1, 0)),
                handles.get(key(2, 0)),
                handles.files.len()
            ),
            (Some("a"), Some("c"), 2)
        );
        handles.close_partition(PartitionHandle::new(1, 0));
        assert_eq!((handles.get(key(1, 0)), handles.files.len()), (None, 1));
        handles.insert(key(3, 0), "d");
        handles.insert(key(4, 0), "e");
        assert_eq!((handles.get(key(2, 0)), handles.files.len()), (None, 2));
    }

    #[test]
    fn what_nobody_uses_for_long_is_closed_some_at_a_time() {
        let mut handles = SegmentHandles::new(1000);
        let at = |ms: i64| Timestamp::new(1_700_000_000_000 + ms);
        handles.close_idle(at(0));
        for partition in 0..100 {
            handles.insert(key(partition, 0), partition);
        }
        handles.close_idle(at(IDLE_MS));
        assert_eq!(handles.len(), 100, "they were used within this stretch");
        assert_eq!(handles.get(key(3, 0)), Some(3));
        handles.close_idle(at(2 * IDLE_MS - 1));
        assert_eq!(handles.len(), 100);
        handles.close_idle(at(2 * IDLE_MS));
        assert_eq!(handles.len(), 100 - IDLE_AT_ONCE);
        handles.close_idle(at(2 * IDLE_MS + 1));
        assert_eq!((handles.len(), handles.get(key(3, 0))), (1, Some(3)));
        // A clock that is set back begins a stretch, and closes nothing early.
        handles.close_idle(at(-IDLE_MS));
        handles.close_idle(at(-1));
        assert_eq!(handles.len(), 1);
        handles.close_idle(at(0));
        handles.close_idle(at(IDLE_MS));
        assert_eq!((handles.len(), handles.by_use.len()), (0, 0));
    }
}
