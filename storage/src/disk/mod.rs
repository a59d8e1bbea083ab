//! The seam between what decides about files and what reaches them: the `Disk` and `DiskFile` traits.
//!
//! Owns the contract that every implementation keeps. Never names a kernel interface: the io_uring disk and
//! the in-memory one with its faults live beside it. Every core has a disk of its own; a file that one
//! core's disk opened is used on that core only.
//!
//! # Rules of every implementation
//! - Paths are relative to the data directory, with `/` between their parts and none at either end; the data
//!   directory itself is the empty path.
//! - An operation begins when its future is first polled. Dropping the future from then on does not cancel
//!   it: its buffers belong to the operation until it completes.
//! - Operations in flight together complete in any order. What must happen in order is awaited in order.
//! - Written is not flushed. A write is durable when it was `Durable::Data`, or when a `flush` that began after
//!   its completion has succeeded. A name is durable when `sync_dir` of its directory has succeeded.
//! - After a failed write or flush nothing is known about what the file holds, and a later successful flush
//!   proves nothing: the caller stops using the file until it has reopened and checked it.

#[cfg(any(test, feature = "testing"))]
pub mod memory;
pub mod uring;

use std::io;

use futures_util::{StreamExt, stream};

use crate::memory::{ALIGNMENT, AlignedBuf, AlignedSlice};

/// The unit of writing, in bytes. Positions and lengths of reads and writes are multiples of it.
pub const BLOCK_BYTES: usize = 4096;

/// Flushes in flight where each of many files is flushed by itself.
const FLUSHES_IN_FLIGHT: usize = 16;

const _: () = assert!(ALIGNMENT.is_multiple_of(BLOCK_BYTES));

/// The most segments of one vectored write: what the kernel takes in one call.
pub const WRITE_SEGMENTS_MAX: usize = 1024;

/// The files of one data directory, as one core reaches them. A clone is another handle on the same disk.
pub trait Disk: Clone + 'static {
    /// An open file.
    type File: DiskFile;

    /// The unit of writing of this device, in bytes: a multiple of `BLOCK_BYTES`.
    fn block_bytes(&self) -> usize {
        BLOCK_BYTES
    }

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` if it is absent and may not be created, `AlreadyExists` if `create_new` finds it.
    fn open(
        &self,
        path: &str,
        options: OpenOptions,
    ) -> impl Future<Output = io::Result<Self::File>>;

    /// Makes a directory in one that exists.
    ///
    /// # Errors
    /// `AlreadyExists`, `NotFound` if the parent is absent.
    fn create_dir(&self, path: &str) -> impl Future<Output = io::Result<()>>;

    /// Removes a file's name. Whoever has the file open goes on using it.
    ///
    /// # Errors
    /// `NotFound`.
    fn remove_file(&self, path: &str) -> impl Future<Output = io::Result<()>>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotFound`, `DirectoryNotEmpty`.
    fn remove_dir(&self, path: &str) -> impl Future<Output = io::Result<()>>;

    /// Gives a file another name, replacing the file that has it.
    ///
    /// # Errors
    /// `NotFound`.
    fn rename(&self, from: &str, to: &str) -> impl Future<Output = io::Result<()>>;

    /// The entries of a directory, in ascending order of their names.
    ///
    /// # Errors
    /// `NotFound`.
    fn list(&self, dir: &str) -> impl Future<Output = io::Result<Vec<DirEntry>>>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// `NotFound`, or the device's error.
    fn sync_dir(&self, dir: &str) -> impl Future<Output = io::Result<()>>;

    /// Makes durable what `flush` of each of these files and `sync_dir` of each of these directories would, in any
    /// order. The results are in the order of `items`. A disk that can asks its device once for many of them, and an
    /// error is then that of all.
    fn sync_together(
        &self,
        items: &[Unsynced<'_, Self::File>],
    ) -> impl Future<Output = Vec<io::Result<()>>> {
        sync_each(self, items)
    }

    /// A file's length in bytes, or `None` if there is no such file or directory. A directory's is 0.
    ///
    /// # Errors
    /// The device's error.
    fn file_len(&self, path: &str) -> impl Future<Output = io::Result<Option<u64>>>;

    /// A clock that never goes back, in microseconds from any beginning. Only to measure by: nothing may be decided
    /// by it, so that what a store does never depends on how fast its disk is.
    fn now_us(&self) -> u64;

    /// The bytes that files may still take on the device.
    ///
    /// # Errors
    /// The device's error.
    fn free_bytes(&self) -> impl Future<Output = io::Result<u64>>;
}

/// What is to be made durable together with others.
#[derive(Debug)]
pub enum Unsynced<'a, F> {
    /// What was written to a file.
    File(&'a F),
    /// The names in a directory.
    Directory(&'a str),
}

/// `Disk::sync_together`, one by one.
async fn sync_each<D: Disk>(disk: &D, items: &[Unsynced<'_, D::File>]) -> Vec<io::Result<()>> {
    let synced = items.iter().map(|item| async move {
        match item {
            Unsynced::File(file) => file.flush().await,
            Unsynced::Directory(dir) => disk.sync_dir(dir).await,
        }
    });
    stream::iter(synced)
        .buffered(FLUSHES_IN_FLIGHT)
        .collect()
        .await
}

/// An open file. A clone is another handle on it; it closes when the last one and every operation are gone.
#[expect(
    clippy::len_without_is_empty,
    reason = "asking the device whether a file is empty is no query of its own"
)]
pub trait DiskFile: Clone + 'static {
    /// Fills `buf` from `position`, both multiples of the block. Short only at the end of the file.
    ///
    /// # Errors
    /// The device's error. The buffer comes back in any case, with unspecified contents after an error.
    fn read(
        &self,
        position: u64,
        buf: AlignedBuf,
    ) -> impl Future<Output = (io::Result<usize>, AlignedBuf)>;

    /// Writes all of `data` at `position`, a multiple of the block, making the file longer if need be.
    ///
    /// # Errors
    /// The device's error, `StorageFull` among them. Any part of the data may then have been written.
    fn write(
        &self,
        position: u64,
        data: WriteData,
        durable: Durable,
    ) -> impl Future<Output = io::Result<()>>;

    /// Makes durable what was written by writes that had completed when this began, and the length that
    /// reading it needs.
    ///
    /// # Errors
    /// The device's error.
    fn flush(&self) -> impl Future<Output = io::Result<()>>;

    /// Takes room for the file's first `len` bytes and makes it at least that long; new bytes read as zero.
    ///
    /// # Errors
    /// `StorageFull`.
    fn allocate(&self, len: u64) -> impl Future<Output = io::Result<()>>;

    /// Makes the file `len` bytes long.
    ///
    /// # Errors
    /// The device's error.
    fn truncate(&self, len: u64) -> impl Future<Output = io::Result<()>>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// The device's error.
    fn len(&self) -> impl Future<Output = io::Result<u64>>;
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Makes the file if it is absent.
    pub create: bool,
    /// Makes the file, and refuses one that exists.
    pub create_new: bool,
    /// Bypasses the page cache.
    pub direct: bool,
}

impl OpenOptions {
    /// A file that exists.
    pub const EXISTING: Self = Self {
        create: false,
        create_new: false,
        direct: true,
    };
    /// A file that exists, or a new one.
    pub const CREATE: Self = Self {
        create: true,
        create_new: false,
        direct: true,
    };
    /// A new file, which must not exist.
    pub const CREATE_NEW: Self = Self {
        create: true,
        create_new: true,
        direct: true,
    };
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The last part of its path.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Its length in bytes; 0 for a directory.
    pub len: u64,
}

/// Whether a write is durable once it has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// Only after a later flush.
    No,
    /// At once, with the length that reading it needs (`RWF_DSYNC`).
    Data,
}

/// What one write takes: shared slices, each a whole number of blocks at a block-aligned address.
#[derive(Clone, Debug)]
pub struct WriteData {
    segments: Vec<AlignedSlice>,
    len: usize,
}

impl WriteData {
    /// The segments, to be written one after the other.
    ///
    /// # Panics
    /// If there is none or more than `WRITE_SEGMENTS_MAX`, or one is empty or not a whole number of aligned
    /// blocks.
    #[must_use]
    pub fn new(segments: Vec<AlignedSlice>) -> Self {
        assert!(
            !segments.is_empty() && segments.len() <= WRITE_SEGMENTS_MAX,
            "{} segments",
            segments.len()
        );
        for segment in &segments {
            let whole_blocks = !segment.is_empty() && segment.is_block_aligned(BLOCK_BYTES);
            assert!(
                whole_blocks,
                "{} bytes at {:p} are not whole blocks",
                segment.len(),
                segment.as_ptr()
            );
        }
        let len = segments.iter().map(|segment| segment.len()).sum();
        Self { segments, len }
    }

    /// The segments in order.
    #[must_use]
    pub fn segments(&self) -> &[AlignedSlice] {
        &self.segments
    }

    /// The bytes of all segments, a multiple of `BLOCK_BYTES` and never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }
}

impl From<AlignedSlice> for WriteData {
    fn from(slice: AlignedSlice) -> Self {
        Self::new(vec![slice])
    }
}

impl From<AlignedBuf> for WriteData {
    fn from(buf: AlignedBuf) -> Self {
        Self::from(buf.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Chunk;

    #[test]
    fn a_write_takes_blocks_of_chunks_and_buffers() {
        let mut chunk = Chunk::with_capacity(3 * BLOCK_BYTES);
        let _ = chunk.reserve(3 * BLOCK_BYTES);
        chunk.publish(3 * BLOCK_BYTES);
        let middle = chunk.slice(BLOCK_BYTES..2 * BLOCK_BYTES);
        let data = WriteData::new(vec![middle, AlignedBuf::zeroed(BLOCK_BYTES).freeze()]);
        assert_eq!((data.len(), data.segments().len()), (2 * BLOCK_BYTES, 2));
    }

    #[test]
    #[should_panic(expected = "not whole blocks")]
    fn a_write_refuses_part_of_a_block() {
        let _ = WriteData::from(AlignedBuf::zeroed(BLOCK_BYTES + 8));
    }

    #[test]
    #[should_panic(expected = "not whole blocks")]
    fn a_write_refuses_an_address_within_a_block() {
        let slice = AlignedBuf::zeroed(2 * BLOCK_BYTES).freeze();
        let _ = WriteData::from(slice.slice(512..512 + BLOCK_BYTES));
    }

    #[test]
    #[should_panic(expected = "0 segments")]
    fn a_write_of_nothing_is_a_bug() {
        let _ = WriteData::new(Vec::new());
    }
}
