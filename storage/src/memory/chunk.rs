//! `Chunk`: an append-only buffer with one appender, and `AlignedSlice`: its published bytes, shared.
//!
//! The appender writes beyond the published length only; a slice covers bytes below it only. The published
//! length never goes down while a slice exists, so what a reader sees never changes. Everything belongs to
//! the core that made it: the counts are `Rc`.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, Range};
use std::rc::Rc;
use std::slice;

use super::ALIGNMENT;
use super::allocation::Allocation;
use super::buffer::AlignedBuf;

/// The memory that an appender and its readers share.
struct Shared {
    allocation: Allocation,
    /// Bytes below this are immutable for as long as the `Shared` has more than one owner.
    published: Cell<usize>,
}

/// The one appender of a piece of aligned memory.
///
/// `reserve` hands out the bytes after the published ones, the caller fills them, and `publish` makes them
/// visible to readers for good. A reservation that is not published leaves no trace.
pub struct Chunk {
    shared: Rc<Shared>,
    /// Bytes handed out by the last `reserve` and not published yet.
    reserved: usize,
}

impl Chunk {
    /// An empty chunk with room for at least `capacity` bytes, which hold anything before they are appended.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self::from_buf(AlignedBuf::with_any_contents(capacity))
    }

    /// An empty chunk in the memory of `buf`, whose old contents stay where nothing is appended.
    #[must_use]
    pub fn from_buf(buf: AlignedBuf) -> Self {
        let (allocation, _) = buf.into_parts();
        Self {
            shared: Rc::new(Shared {
                allocation,
                published: Cell::new(0),
            }),
            reserved: 0,
        }
    }

    /// The bytes it can hold, a multiple of `ALIGNMENT`.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.allocation.capacity()
    }

    /// The bytes published so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.published.get()
    }

    /// Whether nothing was published yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that can still be appended.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.capacity() - self.len()
    }

    /// The next `len` bytes after the published ones, or `None` if the chunk has no room for them.
    ///
    /// Their contents are unspecified. Replaces a reservation that was not published.
    pub fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.reserved = 0;
        if len > self.remaining() {
            return None;
        }
        self.reserved = len;
        let published = self.len();
        // SAFETY: `published + len` is within the initialised allocation. No slice reaches beyond
        // `published`, there is one appender and it is borrowed mutably, so the access is exclusive.
        Some(unsafe {
            slice::from_raw_parts_mut(self.shared.allocation.start().as_ptr().add(published), len)
        })
    }

    /// Makes the first `len` reserved bytes visible to readers, for good, and ends the reservation.
    ///
    /// # Panics
    /// If fewer bytes were reserved.
    pub fn publish(&mut self, len: usize) {
        assert!(
            len <= self.reserved,
            "published {len} of {} reserved bytes",
            self.reserved
        );
        self.reserved = 0;
        self.shared.published.set(self.len() + len);
    }

    /// Ends the reservation without publishing anything.
    pub fn abandon(&mut self) {
        self.reserved = 0;
    }

    /// Publishes zeros up to the next multiple of `alignment`, and says how many.
    ///
    /// # Panics
    /// If `alignment` does not divide `ALIGNMENT`.
    pub fn pad_to(&mut self, alignment: usize) -> usize {
        assert!(
            ALIGNMENT.is_multiple_of(alignment),
            "the capacity is a multiple of {ALIGNMENT} only"
        );
        let padding = self.len().next_multiple_of(alignment) - self.len();
        self.reserve(padding)
            .expect("the capacity is a multiple of the alignment")
            .fill(0);
        self.publish(padding);
        padding
    }

    /// Published bytes, shared with the chunk.
    ///
    /// # Panics
    /// If the range is not within the published bytes.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> AlignedSlice {
        assert!(
            range.start <= range.end && range.end <= self.len(),
            "{range:?} of {} published bytes",
            self.len()
        );
        AlignedSlice {
            shared: Rc::clone(&self.shared),
            start: range.start,
            end: range.end,
        }
    }

    /// Gives the memory back for reuse, or the chunk if a slice still reads it.
    ///
    /// # Errors
    /// The chunk itself.
    pub fn try_into_buf(self) -> Result<AlignedBuf, Self> {
        let reserved = self.reserved;
        into_buf(self.shared).map_err(|shared| Self { shared, reserved })
    }
}

impl Deref for Chunk {
    type Target = [u8];

    /// The published bytes.
    fn deref(&self) -> &[u8] {
        published_bytes(&self.shared, 0, self.len())
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} of {} bytes)", self.len(), self.capacity())
    }
}

/// An immutable range of aligned memory, shared by reference count: published bytes of a `Chunk`, or a
/// frozen `AlignedBuf`. Cloning and narrowing copy no bytes.
#[derive(Clone)]
pub struct AlignedSlice {
    shared: Rc<Shared>,
    start: usize,
    end: usize,
}

/// Published bytes of a chunk. The same type as a frozen buffer: a reader need not know the difference.
pub type ChunkSlice = AlignedSlice;

impl AlignedSlice {
    /// A part of this slice; the range counts from its start.
    ///
    /// # Panics
    /// If the range is not within the slice.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.len(),
            "{range:?} of {} bytes",
            self.len()
        );
        Self {
            shared: Rc::clone(&self.shared),
            start: self.start + range.start,
            end: self.start + range.end,
        }
    }

    /// Whether address and length are multiples of `block_bytes`, as a direct write needs.
    #[must_use]
    pub fn is_block_aligned(&self, block_bytes: usize) -> bool {
        (self.as_ptr() as usize).is_multiple_of(block_bytes)
            && self.len().is_multiple_of(block_bytes)
    }

    /// Gives the whole memory back for reuse, or the slice if the chunk or another slice still uses it.
    ///
    /// # Errors
    /// The slice itself.
    pub fn try_into_buf(self) -> Result<AlignedBuf, Self> {
        let (start, end) = (self.start, self.end);
        into_buf(self.shared).map_err(|shared| Self { shared, start, end })
    }
}

impl From<AlignedBuf> for AlignedSlice {
    fn from(buf: AlignedBuf) -> Self {
        let (allocation, len) = buf.into_parts();
        Self {
            shared: Rc::new(Shared {
                allocation,
                published: Cell::new(len),
            }),
            start: 0,
            end: len,
        }
    }
}

impl Deref for AlignedSlice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        published_bytes(&self.shared, self.start, self.end)
    }
}

impl fmt::Debug for AlignedSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedSlice({} bytes)", self.len())
    }
}

fn published_bytes(shared: &Shared, start: usize, end: usize) -> &[u8] {
    assert!(start <= end && end <= shared.published.get());
    // SAFETY: the range is below the published length, so it is initialised and within the allocation, and
    // the appender, which writes beyond that length only, never touches it again.
    unsafe { slice::from_raw_parts(shared.allocation.start().as_ptr().add(start), end - start) }
}

/// The memory, if `shared` is its last owner; its length is then the whole capacity.
fn into_buf(shared: Rc<Shared>) -> Result<AlignedBuf, Rc<Shared>> {
    let shared = Rc::try_unwrap(shared)?;
    let capacity = shared.allocation.capacity();
    Ok(AlignedBuf::from_allocation(shared.allocation, capacity))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    fn append(chunk: &mut Chunk, bytes: &[u8]) {
        chunk
            .reserve(bytes.len())
            .expect("room")
            .copy_from_slice(bytes);
        chunk.publish(bytes.len());
    }

    #[test]
    fn readers_keep_what_they_saw_while_the_chunk_grows() {
        let mut chunk = Chunk::with_capacity(10);
        append(&mut chunk, b"first ");
        let first = chunk.slice(0..6);
        let seen: &[u8] = &first;
        let room = chunk.reserve(6).expect("room");
        room.copy_from_slice(b"second");
        assert_eq!(seen, b"first ");
        chunk.publish(6);
        let both = chunk.slice(0..12);
        assert_eq!(seen, b"first ");
        drop(chunk);
        assert_eq!(&both[..], b"first second");
        assert_eq!(&both.slice(6..12).slice(1..3)[..], b"ec");
    }

    #[test]
    fn an_abandoned_reservation_leaves_no_trace() {
        let mut chunk = Chunk::with_capacity(4096);
        append(&mut chunk, b"kept");
        chunk.reserve(100).expect("room").fill(0xff);
        chunk.abandon();
        chunk.reserve(100).expect("room").fill(0xee);
        append(&mut chunk, b"next");
        assert_eq!(&chunk[..], b"keptnext");
    }

    #[test]
    fn a_full_chunk_refuses() {
        let mut chunk = Chunk::with_capacity(4096);
        assert!(chunk.reserve(4097).is_none());
        append(&mut chunk, &[1; 4096]);
        assert_eq!(chunk.remaining(), 0);
        assert!(chunk.reserve(1).is_none());
        assert!(chunk.reserve(0).is_some());
    }

    #[test]
    #[should_panic(expected = "reserved bytes")]
    fn only_reserved_bytes_can_be_published() {
        let mut chunk = Chunk::with_capacity(4096);
        let _ = chunk.reserve(10);
        chunk.publish(11);
    }

    #[test]
    #[should_panic(expected = "reserved bytes")]
    fn a_refused_reservation_cannot_be_published() {
        let mut chunk = Chunk::with_capacity(4096);
        let _ = chunk.reserve(10);
        assert!(chunk.reserve(5000).is_none());
        chunk.publish(1);
    }

    #[test]
    #[should_panic(expected = "published bytes")]
    fn reserved_bytes_are_not_readable() {
        let mut chunk = Chunk::with_capacity(4096);
        let _ = chunk.reserve(10);
        let _ = chunk.slice(0..1);
    }

    #[test]
    fn padding_is_zero_even_in_reused_memory() {
        let mut dirty = AlignedBuf::zeroed(8192);
        dirty.fill(0xff);
        let mut chunk = Chunk::from_buf(dirty);
        append(&mut chunk, b"abc");
        assert_eq!(chunk.pad_to(8), 5);
        assert_eq!(chunk.pad_to(4096), 4088);
        assert_eq!(chunk.pad_to(4096), 0);
        assert_eq!(chunk.len(), 4096);
        assert!(chunk[3..].iter().all(|byte| *byte == 0));
        assert!(chunk.slice(0..4096).is_block_aligned(4096));
        assert!(!chunk.slice(8..4096).is_block_aligned(4096));
    }

    #[test]
    fn memory_comes_back_once_nobody_reads_it() {
        let mut chunk = Chunk::with_capacity(4096);
        append(&mut chunk, b"abc");
        let reader = chunk.slice(0..3);
        let chunk = chunk.try_into_buf().expect_err("a reader is left");
        assert_eq!(&reader[..], b"abc");
        let reader = reader.try_into_buf().expect_err("the appender is left");
        drop(reader);
        let buffer = chunk.try_into_buf().expect("nobody is left");
        assert_eq!(buffer.len(), 4096);
        assert_eq!(&buffer[..3], b"abc");
    }

    #[test]
    fn any_life_of_a_chunk_keeps_what_was_published() {
        let lives = if cfg!(miri) { 3 } else { 300 };
        for seed in 0..lives {
            let mut random = Random::new(seed);
            let mut chunk = Chunk::with_capacity(1 + random.index(3 * ALIGNMENT));
            let mut published = Vec::new();
            let mut readers: Vec<(AlignedSlice, Vec<u8>)> = Vec::new();
            for _ in 0..60 {
                match random.below(8) {
                    0..4 => {
                        let mut bytes = vec![0; random.index(700)];
                        random.fill(&mut bytes);
                        let Some(room) = chunk.reserve(bytes.len()) else {
                            continue;
                        };
                        room.copy_from_slice(&bytes);
                        let count = random.index(bytes.len() + 1);
                        chunk.publish(count);
                        published.extend_from_slice(&bytes[..count]);
                    }
                    4 => {
                        let padding = chunk.pad_to(512);
                        published.resize(published.len() + padding, 0);
                    }
                    5 | 6 => {
                        let from = random.index(published.len() + 1);
                        let to = from + random.index(published.len() - from + 1);
                        readers.push((chunk.slice(from..to), published[from..to].to_vec()));
                    }
                    _ if readers.is_empty() => {}
                    _ => drop(readers.swap_remove(random.index(readers.len()))),
                }
                assert_eq!(&chunk[..], published, "seed {seed}");
            }
            drop(chunk);
            assert!(
                readers
                    .iter()
                    .all(|(reader, expected)| reader[..] == expected[..]),
                "seed {seed}"
            );
        }
    }
}
