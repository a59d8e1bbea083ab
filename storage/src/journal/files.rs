//! Which files the journal has, what each holds, and where the next group goes.
//!
//! Owns the chain (the next sequence, the last checksum) and the life of every file: free, armed (its header
//! and its place in the catalogue are durable), in use, and free again once every partition with a part in
//! it has that part in a flushed segment. How a file becomes ready is in `arming`. Pure; used on the core that
//! runs the store.

mod arming;

use std::collections::VecDeque;

pub(crate) use arming::{Arming, CheckpointEffects};

use super::format::{FIRST_GROUP, GROUP_HEADER_BYTES};
use crate::layout::BLOCK;

/// The incarnation of a journal file: names one use of it, for ever.
pub type FileId = u64;

/// The most files that are kept from being used while segments can be written instead.
const SPARE_FILES_MAX: usize = 8;

/// A journal that should hold fewer files at most is not emptied little by little.
const FILLING_FILES_MIN: usize = 4;

/// Bounds of the journal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JournalLimits {
    /// Bytes of each file.
    pub(crate) file_bytes: u64,
    /// The most files.
    pub(crate) files_max: usize,
    /// The most bytes of one group, padded.
    pub(crate) group_bytes_max: u64,
    /// The bytes to which groups are filled while more is waiting.
    pub(crate) group_bytes_target: u64,
}

impl JournalLimits {
    /// Bytes of files that batches may take which need `cost` bytes of parts.
    pub(crate) fn needed(&self, cost: u64) -> u64 {
        // Two groups in a row are fuller than the target together; each is padded to a block.
        let groups = 2 * cost / self.group_bytes_target + 4;
        cost + groups * (GROUP_HEADER_BYTES as u64 + BLOCK)
    }

    /// Bytes of an empty file that groups surely find room in.
    pub(crate) fn usable_of_file(&self) -> u64 {
        self.usable(self.file_bytes - FIRST_GROUP)
    }

    /// A file's last bytes are lost to a group that is too large for them.
    fn usable(&self, free: u64) -> u64 {
        free.saturating_sub(self.group_bytes_max)
    }
}

/// A file and its incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalFile {
    /// The number in its name.
    pub number: u32,
    /// Its incarnation.
    pub incarnation: FileId,
}

/// A boundary between two groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainPoint {
    /// Where the next group begins in the file, in bytes.
    pub position: u64,
    /// The next group's sequence.
    pub sequence: u64,
    /// The checksum of the group before.
    pub previous_checksum: u32,
}

/// Where a group goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) file: JournalFile,
    pub(crate) at: ChainPoint,
}

#[derive(Clone, Copy, Debug)]
struct InUse {
    file: JournalFile,
    /// Before its first group, or the first that a recovery read.
    first: ChainPoint,
    /// Partitions with a part in it that is not flushed.
    pins: usize,
    /// Groups being written to it.
    in_flight: usize,
}

/// What of the journal a checkpoint records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalCheckpoint {
    /// The files that hold groups or may be given some, in the order of their use.
    pub files: Vec<JournalFile>,
    /// Where a replay begins, in the first of them.
    pub start: ChainPoint,
}

/// The journal's files. See the module.
#[derive(Debug)]
pub(crate) struct JournalFiles {
    limits: JournalLimits,
    in_use: VecDeque<InUse>,
    armed: VecDeque<JournalFile>,
    /// Ready, but not in a durable checkpoint yet.
    arming: Vec<JournalFile>,
    /// Not needed any more, but still in the durable checkpoint.
    leaving: Vec<u32>,
    free: Vec<u32>,
    /// New ones that could not be written in full; they are tried again, and do not count until then.
    unfinished: Vec<u32>,
    /// Being written or given a header.
    preparing: usize,
    /// The last one that was tried could not be made ready.
    is_failing: bool,
    next_number: u32,
    next_incarnation: FileId,
    /// Where the next group goes; its position counts in the last file in use.
    end: ChainPoint,
}

impl JournalFiles {
    /// The files as a recovery found them. `in_use` holds them in the order of their use, each with the
    /// boundary at which its groups begin; `end` is where the log ends in the last of them.
    pub(crate) fn recovered(
        limits: JournalLimits,
        in_use: Vec<(JournalFile, ChainPoint)>,
        armed: Vec<JournalFile>,
        free: Vec<u32>,
        next_incarnation: FileId,
        end: ChainPoint,
    ) -> Self {
        let numbers = in_use
            .iter()
            .map(|(file, _)| file.number)
            .chain(armed.iter().map(|file| file.number));
        let next_number = numbers
            .chain(free.iter().copied())
            .max()
            .map_or(0, |number| number + 1);
        let in_use = in_use
            .into_iter()
            .map(|(file, first)| InUse {
                file,
                first,
                pins: 0,
                in_flight: 0,
            })
            .collect();
        Self {
            limits,
            in_use,
            armed: armed.into(),
            arming: Vec::new(),
            leaving: Vec::new(),
            free,
            unfinished: Vec::new(),
            preparing: 0,
            is_failing: false,
            next_number,
            next_incarnation,
            end,
        }
    }

    /// The incarnation that no file has had yet.
    pub(crate) fn next_incarnation(&self) -> FileId {
        self.next_incarnation
    }

    /// Takes the place of a group of so many bytes, a whole number of blocks, or nothing while no file has
    /// the room. `placed` must follow before the next call.
    ///
    /// # Panics
    /// If the group is larger than the limit.
    pub(crate) fn place(&mut self, bytes: u64) -> Option<Placement> {
        assert!(
            bytes.is_multiple_of(BLOCK) && bytes <= self.limits.group_bytes_max,
            "a group of {bytes} bytes"
        );
        if self.in_use.is_empty() || self.end.position + bytes > self.limits.file_bytes {
            let file = self.armed.pop_front()?;
            self.end.position = FIRST_GROUP;
            self.in_use.push_back(InUse {
                file,
                first: self.end,
                pins: 0,
                in_flight: 0,
            });
        }
        let active = self.in_use.back_mut().expect("a file was just put there");
        active.in_flight += 1;
        let placement = Placement {
            file: active.file,
            at: self.end,
        };
        self.end.position += bytes;
        self.end.sequence += 1;
        Some(placement)
    }

    /// Continues the chain with the checksum of the group that was placed last.
    pub(crate) fn placed(&mut self, checksum: u32) {
        self.end.previous_checksum = checksum;
    }

    /// A group's write has completed.
    pub(crate) fn written(&mut self, file: FileId) {
        self.file_mut(file).in_flight -= 1;
    }

    /// A partition has its first unflushed part in a file.
    pub(crate) fn pin(&mut self, file: FileId) {
        self.file_mut(file).pins += 1;
    }

    /// A partition has no unflushed part left in a file.
    pub(crate) fn unpin(&mut self, file: FileId) {
        self.file_mut(file).pins -= 1;
    }

    /// Gives up the oldest files that nothing needs.
    pub(crate) fn release(&mut self) {
        let unneeded = |file: &InUse| {
            file.is_unneeded() || (crate::planted!(JournalReleasedEarly) && file.in_flight == 0)
        };
        while self.in_use.len() > 1 && self.in_use.front().is_some_and(unneeded) {
            let oldest = self.in_use.pop_front().expect("there are several");
            self.leaving.push(oldest.file.number);
        }
    }

    /// The file that should be emptied next, if the journal holds more than it should, or could not be given
    /// another file: its oldest one.
    pub(crate) fn crowded(&self) -> Option<FileId> {
        let cannot_grow = !self.unfinished.is_empty() && self.armed.is_empty();
        let enough = if cannot_grow { 1 } else { self.enough() };
        if self.in_use.len() > enough {
            self.oldest()
        } else {
            None
        }
    }

    /// While the journal comes near what it should hold at most: its oldest file, and how many partitions should be
    /// written to their segments before the next file is begun. All of them together would be more than the device
    /// takes in before the journal is full, if each has about as much as the others.
    pub(crate) fn filling(&self) -> Option<(FileId, usize)> {
        let (in_use, enough) = (self.in_use.len(), self.enough());
        let oldest = self.in_use.front()?;
        let is_filling = enough >= FILLING_FILES_MIN && in_use > enough / 2 && in_use <= enough;
        is_filling.then(|| {
            let share = oldest.pins.div_ceil(enough - in_use + 1);
            (oldest.file.incarnation, share)
        })
    }

    /// How many files should be in use at most. The rest is room for what arrives while segments are written.
    fn enough(&self) -> usize {
        let spare = self.limits.files_max.div_ceil(2).min(SPARE_FILES_MAX);
        (self.limits.files_max - spare).max(1)
    }

    /// The oldest file in use.
    pub(crate) fn oldest(&self) -> Option<FileId> {
        self.in_use.front().map(|file| file.file.incarnation)
    }

    /// The newest file in use.
    pub(crate) fn newest(&self) -> Option<FileId> {
        self.in_use.back().map(|file| file.file.incarnation)
    }

    /// The oldest file in use, if the journal can have no other file before this one is given up.
    pub(crate) fn oldest_of_full(&self) -> Option<FileId> {
        let is_full = self.in_use.len() >= self.limits.files_max;
        if is_full { self.oldest() } else { None }
    }

    /// Its bounds.
    pub(crate) fn limits(&self) -> &JournalLimits {
        &self.limits
    }

    /// How many files hold groups.
    pub(crate) fn in_use(&self) -> usize {
        self.in_use.len()
    }

    /// How many files may take groups at once.
    pub(crate) fn armed(&self) -> usize {
        self.armed.len()
    }

    /// Bytes of the journal that a replay would read now.
    pub(crate) fn replay_bytes(&self) -> u64 {
        let start = self.start();
        match self.in_use.len() {
            0 => 0,
            1 => self.end.position - start.position,
            files => {
                let first = self.limits.file_bytes - start.position;
                first + (files as u64 - 2) * self.limits.file_bytes + self.end.position
            }
        }
    }

    /// The share of the journal's capacity that holds groups which a replay would need.
    pub(crate) fn pressure(&self) -> f32 {
        let capacity = self.limits.files_max as u64 * self.limits.file_bytes;
        (self.replay_bytes() as f64 / capacity as f64) as f32
    }

    /// Whether batches that may need `cost` bytes of parts surely find room in the files that are ready.
    ///
    /// Whatever is accepted can then be journaled without any segment being written first. Without this, a
    /// full journal could wait for a block of a segment that waits for the journal.
    pub(crate) fn has_room_for(&self, cost: u64) -> bool {
        let active = match self.in_use.is_empty() {
            true => 0,
            false => self
                .limits
                .usable(self.limits.file_bytes - self.end.position),
        };
        self.limits.needed(cost) <= active + self.armed.len() as u64 * self.limits.usable_of_file()
    }

    fn start(&self) -> ChainPoint {
        match self.in_use.front() {
            None => ChainPoint {
                position: FIRST_GROUP,
                ..self.end
            },
            // Groups in flight may be lost, and then the replay ends here as well.
            Some(only) if self.in_use.len() == 1 && only.is_unneeded() => self.end,
            Some(oldest) => oldest.first,
        }
    }

    fn file_mut(&mut self, incarnation: FileId) -> &mut InUse {
        let found = self
            .in_use
            .iter_mut()
            .rev()
            .find(|file| file.file.incarnation == incarnation);
        found.expect("a file with parts or groups in flight is in use")
    }
}

impl InUse {
    fn is_unneeded(&self) -> bool {
        self.pins == 0 && self.in_flight == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: u64 = 16 * BLOCK;

    fn limits(files_max: usize) -> JournalLimits {
        JournalLimits {
            file_bytes: FILE,
            files_max,
            group_bytes_max: 4 * BLOCK,
            group_bytes_target: 4 * BLOCK,
        }
    }

    fn files(files_max: usize) -> JournalFiles {
        let armed = vec![
            JournalFile {
                number: 0,
                incarnation: 1,
            },
            JournalFile {
                number: 1,
                incarnation: 2,
            },
        ];
        let end = ChainPoint {
            position: 0,
            sequence: 1,
            previous_checksum: 0,
        };
        JournalFiles::recovered(limits(files_max), Vec::new(), armed, Vec::new(), 3, end)
    }

    fn write(files: &mut JournalFiles, blocks: u64) -> Option<Placement> {
        let placement = files.place(blocks * BLOCK)?;
        files.placed(placement.at.sequence as u32 * 100);
        files.written(placement.file.incarnation);
        Some(placement)
    }

    #[test]
    fn groups_follow_each_other_and_never_span_files() {
        let mut files = files(4);
        let first = write(&mut files, 4).expect("room");
        assert_eq!(
            (first.file.number, first.at.position, first.at.sequence),
            (0, BLOCK, 1)
        );
        let second = write(&mut files, 4).expect("room");
        assert_eq!(
            (second.at.position, second.at.previous_checksum),
            (5 * BLOCK, 100)
        );
        write(&mut files, 4).expect("room");
        let fourth = write(&mut files, 4).expect("room");
        assert_eq!(
            (fourth.file.number, fourth.at.position, fourth.at.sequence),
            (1, BLOCK, 4)
        );
        assert_eq!(fourth.at.previous_checksum, 300);
        for _ in 0..2 {
            write(&mut files, 4).expect("room");
        }
        assert_eq!(write(&mut files, 4), None);
        assert_eq!(
            files.end.sequence, 7,
            "a group without a place takes no sequence"
        );
        assert!(write(&mut files, 3).is_some(), "a smaller one still fits");
    }

    #[test]
    fn a_file_is_reused_only_after_a_checkpoint_without_it() {
        let mut files = files(3);
        for _ in 0..4 {
            let placement = write(&mut files, 4).expect("room");
            files.pin(placement.file.incarnation);
        }
        files.unpin(1);
        files.unpin(1);
        files.release();
        assert_eq!(
            files.checkpoint().0.files.len(),
            2,
            "one part of the first file is not flushed"
        );
        files.unpin(1);
        files.release();
        let (checkpoint, effects) = files.checkpoint();
        assert_eq!(
            checkpoint.files,
            [JournalFile {
                number: 1,
                incarnation: 2
            }]
        );
        assert_eq!(
            (checkpoint.start.position, checkpoint.start.sequence),
            (BLOCK, 4)
        );
        assert_eq!(
            files.next_arming(),
            None,
            "none is made while one may be freed"
        );
        assert!(files.wants_checkpoint());
        files.checkpointed(effects);
        let recycled = files.next_arming().expect("nothing is armed");
        assert_eq!(
            recycled,
            Arming {
                file: JournalFile {
                    number: 0,
                    incarnation: 3
                },
                is_new: false
            }
        );
        files.prepared(recycled.file);
        assert!(files.wants_checkpoint(), "the file is not in a checkpoint");
        let new = files.next_arming().expect("a second one is wanted");
        assert_eq!(
            new,
            Arming {
                file: JournalFile {
                    number: 2,
                    incarnation: 4
                },
                is_new: true
            }
        );
        files.prepared(new.file);
        let (checkpoint, effects) = files.checkpoint();
        assert_eq!(
            checkpoint
                .files
                .iter()
                .map(|file| file.incarnation)
                .collect::<Vec<_>>(),
            [2, 3, 4]
        );
        files.checkpointed(effects);
        assert_eq!(files.next_arming(), None);
        for _ in 0..2 + 6 {
            write(&mut files, 4).expect("three files have room");
        }
        assert_eq!(write(&mut files, 4), None);
        assert_eq!(files.next_arming(), None, "the number of files is bounded");
    }

    #[test]
    fn a_journal_that_is_written_has_two_files_ready() {
        let mut files = files(8);
        assert_eq!(files.next_arming(), None);
        write(&mut files, 4).expect("room");
        let second = files.next_arming().expect("one is left");
        assert_eq!(files.next_arming(), None);
        files.prepared(second.file);
        let (_, effects) = files.checkpoint();
        files.checkpointed(effects);
        assert_eq!((files.armed(), files.wants_work()), (2, false));
    }

    #[test]
    fn a_file_that_cannot_be_made_is_news_once() {
        let mut files = files(4);
        for _ in 0..5 {
            write(&mut files, 4).expect("room");
        }
        let attempt = |files: &mut JournalFiles| files.next_arming().expect("none is ready");
        let first = attempt(&mut files);
        assert!(files.preparation_failed(first));
        let second = attempt(&mut files);
        assert_eq!(second.file.number, first.file.number, "it is tried again");
        assert!(!files.preparation_failed(second));
        let third = attempt(&mut files);
        files.prepared(third.file);
        let (_, effects) = files.checkpoint();
        files.checkpointed(effects);
        for _ in 0..4 {
            write(&mut files, 4).expect("room");
        }
        let fourth = attempt(&mut files);
        assert!(files.preparation_failed(fourth), "it had worked meanwhile");
    }

    #[test]
    fn an_empty_active_file_needs_no_replay() {
        let mut files = files(4);
        assert_eq!(
            files.checkpoint().0.start,
            ChainPoint {
                position: BLOCK,
                sequence: 1,
                previous_checksum: 0
            }
        );
        let placement = files.place(BLOCK).expect("room");
        files.placed(9);
        files.pin(placement.file.incarnation);
        files.written(placement.file.incarnation);
        assert_eq!(
            (files.checkpoint().0.start.sequence, files.replay_bytes()),
            (1, BLOCK)
        );
        files.unpin(placement.file.incarnation);
        let start = files.checkpoint().0.start;
        assert_eq!(
            start,
            ChainPoint {
                position: 2 * BLOCK,
                sequence: 2,
                previous_checksum: 9
            }
        );
        assert_eq!(files.replay_bytes(), 0);
    }

    #[test]
    fn what_is_admitted_always_finds_a_place() {
        let mut random = crate::testing::Random::new(7);
        for _ in 0..200 {
            let mut files = files(2);
            let mut waiting: Vec<u64> = Vec::new();
            let mut refused = 0;
            while refused < 20 {
                let batch = 8 * (15 + random.below(1500));
                let cost: u64 = waiting.iter().map(|bytes| bytes + 80).sum();
                if files.has_room_for(cost + batch + 80) {
                    waiting.push(batch);
                } else {
                    refused += 1;
                }
                while !waiting.is_empty() && (random.chance(1, 3) || refused > 0) {
                    // As many as fit the target, each a part of its own at worst.
                    let mut taken = 0;
                    let mut bytes = 128;
                    while taken < waiting.len()
                        && (taken == 0 || bytes + waiting[taken] + 80 <= 4 * BLOCK)
                    {
                        bytes += waiting[taken] + 80;
                        taken += 1;
                    }
                    waiting.drain(..taken);
                    let place = write(&mut files, bytes.div_ceil(BLOCK));
                    assert!(place.is_some(), "an admitted group has no place");
                }
            }
            assert!(
                files.replay_bytes() > FILE / 2,
                "half of the room was refused"
            );
        }
    }
}
