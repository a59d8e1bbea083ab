//! Open segment files: opened when they are used, closed when too many are.
//!
//! Owns the handles. Whoever uses a file holds a clone, so closing one here never takes it from anybody.

use std::collections::BTreeMap;

use corelane_protocol::Offset;

use crate::store::PartitionHandle;

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
}

impl<F: Clone> SegmentHandles<F> {
    pub(crate) fn new(files_max: usize) -> Self {
        Self {
            files_max,
            uses: 0,
            files: BTreeMap::new(),
            by_use: BTreeMap::new(),
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
}
