//! How a journal file becomes ready for groups, and the checkpoints that say so.
//!
//! Owns the number of files that should be ready, and the order: a file is prepared, a checkpoint names it, and
//! only then is it armed; it is free again only after a checkpoint without it. Does no I/O.

use super::{JournalCheckpoint, JournalFile, JournalFiles};

/// What changes once a checkpoint is durable.
#[derive(Debug)]
#[must_use]
pub(crate) struct CheckpointEffects {
    freed: Vec<u32>,
    armed: Vec<JournalFile>,
}

/// A file to be made ready for groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arming {
    pub(crate) file: JournalFile,
    /// Whether the file is new, and is to be written in full first.
    pub(crate) is_new: bool,
}

impl JournalFiles {
    /// The file to make ready next, if one is wanted: a new one only if no checkpoint would free one that was used.
    /// `prepared` or `preparation_failed` must follow.
    pub(crate) fn next_arming(&mut self) -> Option<Arming> {
        let awaits_checkpoint = self.free.is_empty() && !self.leaving.is_empty();
        if self.ready() >= self.wanted_ready() || awaits_checkpoint {
            return None;
        }
        let is_new = self.free.is_empty();
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.files() < self.limits.files_max => {
                self.unfinished.pop().unwrap_or_else(|| {
                    self.next_number += 1;
                    self.next_number - 1
                })
            }
            None => return None,
        };
        self.preparing += 1;
        let incarnation = self.next_incarnation;
        self.next_incarnation += 1;
        Some(Arming {
            file: JournalFile {
                number,
                incarnation,
            },
            is_new,
        })
    }

    /// A file's header is durable; it may be used once a checkpoint names it.
    pub(crate) fn prepared(&mut self, file: JournalFile) {
        self.preparing -= 1;
        self.is_failing = false;
        self.arming.push(file);
    }

    /// A file could not be made ready. Returns whether that is news: the one tried before could.
    pub(crate) fn preparation_failed(&mut self, arming: Arming) -> bool {
        self.preparing -= 1;
        if arming.is_new {
            self.unfinished.push(arming.file.number);
        } else {
            self.free.push(arming.file.number);
        }
        !std::mem::replace(&mut self.is_failing, true)
    }

    /// Whether a file wants to be made ready, or a checkpoint to be made for one.
    pub(crate) fn wants_work(&self) -> bool {
        let can_arm = !self.free.is_empty() || self.files() < self.limits.files_max;
        self.wants_checkpoint() || (self.ready() < self.wanted_ready() && can_arm)
    }

    /// Whether a checkpoint would free or arm a file.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        let wants_free = self.free.is_empty() && self.ready() < self.wanted_ready();
        !self.arming.is_empty() || (!self.leaving.is_empty() && wants_free)
    }

    /// What a checkpoint records now, and what follows once it is durable.
    pub(crate) fn checkpoint(&self) -> (JournalCheckpoint, CheckpointEffects) {
        let used = self.in_use.iter().map(|file| file.file);
        let files = used
            .chain(self.armed.iter().copied())
            .chain(self.arming.iter().copied())
            .collect();
        let effects = CheckpointEffects {
            freed: self.leaving.clone(),
            armed: self.arming.clone(),
        };
        (
            JournalCheckpoint {
                files,
                start: self.start(),
            },
            effects,
        )
    }

    /// A checkpoint is durable.
    pub(crate) fn checkpointed(&mut self, effects: CheckpointEffects) {
        self.leaving
            .retain(|number| !effects.freed.contains(number));
        self.free.extend(effects.freed);
        self.arming.retain(|file| !effects.armed.contains(file));
        self.armed.extend(effects.armed);
    }

    /// How many files should be ready. A new one is written in full, which may take as long as it takes to fill one:
    /// with a single one ready, a journal that grows would stand still meanwhile. One that was never used stays small.
    fn wanted_ready(&self) -> usize {
        let is_unused = self.free.is_empty() && self.in_use.is_empty();
        if is_unused { 1 } else { 2 }
    }

    /// How many files are ready, or are being made so.
    fn ready(&self) -> usize {
        self.armed.len() + self.arming.len() + self.preparing
    }

    fn files(&self) -> usize {
        self.in_use.len()
            + self.armed.len()
            + self.arming.len()
            + self.leaving.len()
            + self.free.len()
            + self.preparing
    }
}
