//! What compaction does, seen from outside: its files, and what it counts.

use corelane_storage::disk::memory::{Operation, OperationKind};

use super::World;
use crate::counters::Sometimes;

impl World {
    /// Follows the files of segments that are written anew.
    pub(super) fn follow_compaction(&mut self, operation: &Operation) {
        let path = &*operation.path;
        if operation.struck.is_some() || !path.ends_with(".log") {
            return;
        }
        match operation.kind {
            OperationKind::Open if is_compacted(path) && !self.is_compacting(path) => {
                let is_new = self.written_anew.insert(path.to_owned());
                if is_new {
                    self.compacting
                        .insert(dir_of(path).to_owned(), path.to_owned());
                }
            }
            OperationKind::RemoveFile => {
                let new = self.compacting.remove(dir_of(path));
                // If it is not the new file itself, it is one that this has taken the place of.
                if new.is_some_and(|new| new != path) {
                    self.history.reached(Sometimes::SegmentReplaced);
                }
            }
            _ => {}
        }
    }

    fn is_compacting(&self, path: &str) -> bool {
        self.compacting.contains_key(dir_of(path))
    }

    /// A broker's life is over.
    pub(super) fn compaction_ends(&mut self, broker: usize) {
        if !std::mem::take(&mut self.compacting).is_empty() {
            self.history.reached(Sometimes::CompactionInterrupted);
        }
        self.count_passes(broker);
    }

    /// Counts what the stores of a life have compacted.
    pub(super) fn count_passes(&mut self, broker: usize) {
        let process = self.machines[broker].process.as_ref();
        let (Some(process), Some(shared)) = (process, self.profile.compaction) else {
            return;
        };
        let meters = process.compaction();
        let counters = &mut self.history.counters;
        counters.add(Sometimes::CompactionEnded, meters.passes);
        counters.add(Sometimes::RecordsLeftOut, meters.records_removed);
        if self.profile.config.compaction.keys_bytes_max < shared.keys * KEY_BYTES {
            counters.add(Sometimes::CompactionInLittleMemory, meters.passes);
        }
    }
}

/// What a store takes a key for, bytes.
pub(crate) const KEY_BYTES: u64 = 64;

/// The directory of a file.
pub(super) fn dir_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// Whether compaction has written a segment's file: its name has a number beside the offset.
pub(super) fn is_compacted(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.ends_with(".log") && name.contains('-')
}
