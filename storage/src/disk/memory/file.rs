//! One file of the in-memory disk: what was written, what is durable, and everything in between.
//!
//! Owns the rules by which written bytes become durable, and by which a crash decides about the others.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use super::contents::{Block, BlockBytes, Contents, flipped};
use crate::disk::{BLOCK_BYTES, Durable};
use crate::testing::Random;

/// The unit that a device writes whole or not at all.
const SECTOR_BYTES: usize = 512;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// The order in which changes of one file took place.
type Sequence = u64;

pub(super) struct FileState {
    /// Where the file is, for faults and the trace.
    pub(super) path: Rc<str>,
    /// What reads see.
    written: Contents,
    /// What survives any crash.
    durable: Contents,
    /// Versions of blocks that were written and not flushed, oldest first.
    unflushed: BTreeMap<u64, Vec<(Sequence, Block)>>,
    /// Changes of the length that were not flushed, oldest first.
    lengths: Vec<(Sequence, Length)>,
    in_flight: Vec<InFlight>,
    sequence: Sequence,
    /// Bytes that the file takes on the device.
    allocated: u64,
}

#[derive(Clone, Copy)]
enum Length {
    AtLeast(u64),
    Exactly(u64),
}

/// A write that was begun and has not completed.
pub(super) struct InFlight {
    id: u64,
    begun: Sequence,
    first_block: u64,
    blocks: Vec<Block>,
    durable: Durable,
}

impl InFlight {
    fn end_block(&self) -> u64 {
        self.first_block + self.blocks.len() as u64
    }

    fn indexed(&self) -> impl Iterator<Item = (u64, &Block)> {
        (self.first_block..).zip(&self.blocks)
    }
}

/// What a crash makes of one write or change of length that was not durable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Lost,
    /// Sector by sector.
    Torn,
}

/// How a crash treats the unflushed writes of one file as a whole.
#[derive(Clone, Copy)]
enum Survival {
    AllLost,
    AllKept,
    /// Those before one of them, which is torn.
    Prefix(Sequence),
    EachSector,
    /// Each write on its own.
    Mixed,
}

impl FileState {
    pub(super) fn new(path: Rc<str>, contents: Contents) -> Self {
        let allocated = contents.len.next_multiple_of(BLOCK);
        Self {
            path,
            durable: contents.clone(),
            written: contents,
            unflushed: BTreeMap::new(),
            lengths: Vec::new(),
            in_flight: Vec::new(),
            sequence: 0,
            allocated,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.written.len
    }

    pub(super) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// How many bytes more the device needs for a file that reaches `end`.
    pub(super) fn growth(&self, end: u64) -> u64 {
        end.next_multiple_of(BLOCK).saturating_sub(self.allocated)
    }

    pub(super) fn written(&self) -> &Contents {
        &self.written
    }

    /// What `flush` makes durable if it begins now: every change up to this one.
    pub(super) fn flushable(&self) -> Sequence {
        self.sequence
    }

    /// Reads as a device does while it writes: sectors of a write in flight may be old or new.
    pub(super) fn read(&self, position: u64, buf: &mut [u8], random: &mut Random) -> usize {
        let count = self.written.read(position, buf);
        let first = position / BLOCK;
        for (index, new) in self.in_flight.iter().flat_map(InFlight::indexed) {
            let within = index
                .checked_sub(first)
                .map(|blocks| blocks as usize * BLOCK_BYTES);
            let Some(at) = within.filter(|at| *at < count) else {
                continue;
            };
            let end = count.min(at + BLOCK_BYTES);
            let mut old = BlockBytes::zeroed();
            old[..end - at].copy_from_slice(&buf[at..end]);
            buf[at..end].copy_from_slice(&torn(&old, new, random)[..end - at]);
        }
        count
    }

    /// Takes a write in. From here on a crash may find any of it on the device.
    ///
    /// # Panics
    /// If another write to one of these blocks is in flight: which of them wins is undefined.
    pub(super) fn begin_write(
        &mut self,
        id: u64,
        position: u64,
        blocks: Vec<Block>,
        durable: Durable,
    ) {
        let write = InFlight {
            id,
            begun: self.sequence,
            first_block: position / BLOCK,
            blocks,
            durable,
        };
        let overlaps = |other: &&InFlight| {
            other.first_block < write.end_block() && write.first_block < other.end_block()
        };
        if let Some(other) = self.in_flight.iter().find(overlaps) {
            panic!(
                "two writes in flight overlap in {}: blocks {}..{} and {}..{}",
                self.path,
                other.first_block,
                other.end_block(),
                write.first_block,
                write.end_block()
            );
        }
        self.in_flight.push(write);
    }

    pub(super) fn writes_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(super) fn end_of_write(&self, id: u64) -> u64 {
        let write = self
            .in_flight
            .iter()
            .find(|write| write.id == id)
            .expect("a write ends once");
        write.end_block() * BLOCK
    }

    pub(super) fn take_write(&mut self, id: u64) -> InFlight {
        let index = self
            .in_flight
            .iter()
            .position(|write| write.id == id)
            .expect("a write ends once");
        self.in_flight.remove(index)
    }

    /// The write has completed as it should.
    pub(super) fn complete_write(&mut self, write: InFlight) {
        let end = write.end_block() * BLOCK;
        self.sequence += 1;
        self.allocated = self.allocated.max(end);
        if end > self.written.len {
            self.lengths.push((self.sequence, Length::AtLeast(end)));
            self.written.extend(end);
        }
        if write.durable == Durable::Data {
            self.flush_lengths(write.begun);
            self.durable.extend(end);
        }
        for (index, block) in write.indexed() {
            self.written.set_block(index, block.clone());
            if write.durable == Durable::Data {
                // Older versions of the block cannot come back: no other write to it was in flight.
                self.durable.set_block(index, block.clone());
                self.unflushed.remove(&index);
            } else {
                self.unflushed
                    .entry(index)
                    .or_default()
                    .push((self.sequence, block.clone()));
            }
        }
    }

    /// The write has failed: any of its blocks may be on the device, and none is durable.
    pub(super) fn fail_write(&mut self, write: InFlight, random: &mut Random) {
        self.sequence += 1;
        for (index, block) in write.indexed() {
            if random.coin() {
                continue;
            }
            let end = (index + 1) * BLOCK;
            self.allocated = self.allocated.max(end);
            if end > self.written.len {
                self.lengths.push((self.sequence, Length::AtLeast(end)));
                self.written.extend(end);
            }
            self.written.set_block(index, block.clone());
            self.unflushed
                .entry(index)
                .or_default()
                .push((self.sequence, block.clone()));
        }
    }

    /// The write reached another place than the one it was meant for.
    pub(super) fn misdirected_to(mut write: InFlight, position: u64) -> InFlight {
        write.first_block = position / BLOCK;
        write
    }

    /// Whoever had writes in flight is gone: any of their blocks may be on the device, and none is durable.
    pub(super) fn abandon_writes(&mut self, random: &mut Random) {
        for write in std::mem::take(&mut self.in_flight) {
            self.fail_write(write, random);
        }
    }

    /// A flush that began at `begun` has succeeded.
    pub(super) fn complete_flush(&mut self, begun: Sequence) {
        self.flush_lengths(begun);
        for (index, versions) in &mut self.unflushed {
            let flushed = versions.partition_point(|(sequence, _)| *sequence <= begun);
            if let Some((_, newest)) = versions.drain(..flushed).next_back() {
                self.durable.set_block(*index, newest);
            }
        }
        self.unflushed.retain(|_, versions| !versions.is_empty());
    }

    /// A flush has failed: the device forgets its unflushed writes, except for what it happened to keep, and
    /// the kernel takes them for clean, so that the next flush succeeds without them. Reads may go on showing
    /// what is lost.
    pub(super) fn fail_flush(&mut self, random: &mut Random) {
        let stale_reads = random.coin();
        for (index, versions) in std::mem::take(&mut self.unflushed) {
            let (_, newest) = versions
                .last()
                .expect("a block with versions has a last one");
            if random.coin() {
                let kept = torn(&self.durable.block(index), newest, random);
                self.durable.set_block(index, kept);
            }
            if !stale_reads {
                self.written.set_block(index, self.durable.block(index));
            }
        }
        let lengths = std::mem::take(&mut self.lengths);
        if random.coin() {
            lengths
                .iter()
                .for_each(|(_, length)| self.durable.apply(*length));
        }
    }

    pub(super) fn allocate(&mut self, len: u64) {
        self.sequence += 1;
        self.allocated = self.allocated.max(len.next_multiple_of(BLOCK));
        if len > self.written.len {
            self.lengths.push((self.sequence, Length::AtLeast(len)));
            self.written.extend(len);
        }
    }

    pub(super) fn truncate(&mut self, len: u64) {
        self.sequence += 1;
        self.allocated = len.next_multiple_of(BLOCK);
        self.lengths.push((self.sequence, Length::Exactly(len)));
        let reached = self.written.written_from(len / BLOCK);
        self.written.truncate(len);
        for index in reached {
            let version = (self.sequence, self.written.block(index));
            self.unflushed.entry(index).or_default().push(version);
        }
    }

    /// Damages a byte wherever a version of it is kept.
    pub(super) fn flip_bit(&mut self, byte: u64, bit: u8) {
        self.written.flip_bit(byte, bit);
        self.durable.flip_bit(byte, bit);
        for (_, block) in self
            .unflushed
            .get_mut(&(byte / BLOCK))
            .into_iter()
            .flatten()
        {
            *block = flipped(block, (byte % BLOCK) as usize, bit);
        }
    }

    /// What the file holds after a crash: the durable part, and of everything else what `random` leaves.
    pub(super) fn survivor(&self, random: &mut Random) -> Contents {
        let mut survivor = self.durable.clone();
        let mut versions: BTreeMap<Sequence, Vec<(u64, &Block)>> = BTreeMap::new();
        for (index, block_versions) in &self.unflushed {
            for (sequence, block) in block_versions {
                versions.entry(*sequence).or_default().push((*index, block));
            }
        }
        let mut lengths: BTreeMap<Sequence, Length> = self.lengths.iter().copied().collect();
        for (sequence, write) in (self.sequence + 1..).zip(&self.in_flight) {
            versions.insert(sequence, write.indexed().collect());
            lengths.insert(sequence, Length::AtLeast(write.end_block() * BLOCK));
        }
        let newest = self.sequence + self.in_flight.len() as u64;
        let survival = Survival::draw(newest, random);
        let changes: BTreeSet<_> = versions.keys().chain(lengths.keys()).copied().collect();
        for sequence in changes {
            let fate = survival.fate(sequence, random);
            if let Some(length) = lengths.get(&sequence) {
                survivor.survive_length(*length, fate, random);
            }
            for (index, block) in versions.get(&sequence).into_iter().flatten() {
                survivor.survive_block(*index, block, fate, random);
            }
        }
        survivor.cut();
        survivor
    }

    fn flush_lengths(&mut self, begun: Sequence) {
        let flushed = self
            .lengths
            .partition_point(|(sequence, _)| *sequence <= begun);
        for (sequence, length) in self.lengths.drain(..flushed) {
            self.durable.apply(length);
            if let Length::Exactly(len) = length {
                // What was cut off for good cannot come back.
                for (_, versions) in self.unflushed.range_mut(len.div_ceil(BLOCK)..) {
                    versions.retain(|(version, _)| *version > sequence);
                }
            }
        }
    }
}

impl Contents {
    fn apply(&mut self, length: Length) {
        match length {
            Length::AtLeast(len) => self.extend(len),
            Length::Exactly(len) => self.truncate(len),
        }
    }

    fn survive_length(&mut self, length: Length, fate: Fate, random: &mut Random) {
        match (fate, length) {
            (Fate::Lost, _) => {}
            (Fate::Kept, _) => self.apply(length),
            (Fate::Torn, Length::AtLeast(len)) => {
                let more_blocks = len.saturating_sub(self.len).div_ceil(BLOCK);
                let grown =
                    self.len.next_multiple_of(BLOCK) + random.below(more_blocks + 1) * BLOCK;
                self.extend(grown.min(len));
            }
            (Fate::Torn, Length::Exactly(_)) => {
                if random.coin() {
                    self.apply(length);
                }
            }
        }
    }

    fn survive_block(&mut self, index: u64, new: &Block, fate: Fate, random: &mut Random) {
        let block = match fate {
            Fate::Lost => return,
            Fate::Kept => new.clone(),
            Fate::Torn => torn(&self.block(index), new, random),
        };
        self.set_block(index, block);
    }

    /// Drops what lies beyond the length: blocks may have survived without it.
    fn cut(&mut self) {
        self.truncate(self.len);
    }
}

impl Survival {
    fn draw(newest: Sequence, random: &mut Random) -> Self {
        match random.below(8) {
            0 => Self::AllLost,
            1 => Self::AllKept,
            2 | 3 => Self::Prefix(random.below(newest + 1)),
            4 | 5 => Self::EachSector,
            _ => Self::Mixed,
        }
    }

    fn fate(self, sequence: Sequence, random: &mut Random) -> Fate {
        match self {
            Self::AllLost => Fate::Lost,
            Self::AllKept => Fate::Kept,
            Self::Prefix(torn) if sequence < torn => Fate::Kept,
            Self::Prefix(torn) if sequence > torn => Fate::Lost,
            Self::Prefix(_) | Self::EachSector => Fate::Torn,
            Self::Mixed => [Fate::Kept, Fate::Lost, Fate::Torn][random.index(3)],
        }
    }
}

/// A block of which each sector is the old or the new one.
fn torn(old: &BlockBytes, new: &BlockBytes, random: &mut Random) -> Block {
    let mut block = old.clone();
    let sectors = block.chunks_mut(SECTOR_BYTES);
    for (sector, new) in sectors.zip(new.chunks(SECTOR_BYTES)) {
        if random.coin() {
            sector.copy_from_slice(new);
        }
    }
    Arc::new(block)
}
