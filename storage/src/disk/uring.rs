//! The disk of the machine: the `Disk` seam over the core's ring, with direct I/O.
//!
//! Owns the way from paths to open files. Completes short reads and writes, and never retries a failed one.
//! Runs on every core, each with its own ring; the files that it opens stay on that core.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{
    BLOCK_BYTES, DirEntry, Disk, DiskFile, Durable, OpenOptions, Unsynced, WriteData, sync_each,
};
use crate::memory::{ALIGNMENT, AlignedBuf};
use crate::ring::{Directory, Ring, RingFile};

/// From so many files and directories on, the whole filesystem is synced instead of each of them.
const FILESYSTEM_SYNC_MIN: usize = 8;

/// A sync of the filesystem that takes longer than this has written what others left there as well.
const FILESYSTEM_SYNC_LONG: Duration = Duration::from_millis(500);

/// So many times each file is synced by itself after one that took long.
const FILESYSTEM_SYNCS_AVOIDED: u32 = 64;

/// Makes the names of probe files differ between the cores of a process.
static PROBES: AtomicU32 = AtomicU32::new(0);

/// A data directory on a filesystem of this machine. A clone is another handle on it.
#[derive(Clone)]
pub struct UringDisk {
    inner: Rc<Inner>,
}

struct Inner {
    ring: Ring,
    root: PathBuf,
    directory: Directory,
    block_bytes: usize,
    is_direct: bool,
    /// So many times more the filesystem is not synced as a whole.
    avoided_syncs: Cell<u32>,
    /// What `now_us` counts from.
    beginning: Instant,
}

impl UringDisk {
    /// Opens a data directory that exists, and tries whether its filesystem can do direct I/O.
    ///
    /// # Errors
    /// Those of the filesystem; `Unsupported` if the device wants blocks or memory coarser than we align.
    pub async fn open(ring: &Ring, root: &Path) -> io::Result<Self> {
        let directory = Directory::open(root)?;
        let (is_direct, block_bytes) = probe(ring, &directory).await?;
        Ok(Self {
            inner: Rc::new(Inner {
                ring: ring.clone(),
                root: root.to_owned(),
                directory,
                block_bytes,
                is_direct,
                avoided_syncs: Cell::new(0),
                beginning: beginning(),
            }),
        })
    }

    /// Whether files bypass the page cache. Without, durable writes are as durable, but every byte is copied
    /// into the page cache and takes memory there.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.inner.is_direct
    }

    /// The data directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    fn name(path: &str) -> &str {
        if path.is_empty() { "." } else { path }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a clock to measure by, which nothing is decided by"
)]
fn beginning() -> Instant {
    Instant::now()
}

/// Whether the filesystem takes direct I/O, and the block that it wants.
async fn probe(ring: &Ring, directory: &Directory) -> io::Result<(bool, usize)> {
    let number = PROBES.fetch_add(1, Ordering::Relaxed);
    let name = format!(".direct-probe-{}-{number}", std::process::id());
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
    let opened = ring
        .open_file(directory, &name, flags | libc::O_DIRECT)
        .await;
    let file = match opened {
        Ok(file) => file,
        // Some filesystems make the file before they refuse the flag.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            let _ = ring.unlink(directory, &name, false).await;
            return Ok((false, BLOCK_BYTES));
        }
        Err(error) => return Err(error),
    };
    ring.unlink(directory, &name, false).await?;
    let status = file.status().await?;
    let wanted = status
        .direct_memory_alignment
        .max(status.direct_position_alignment) as usize;
    if wanted > ALIGNMENT {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "direct I/O wants blocks of {wanted} bytes, more than {ALIGNMENT}: put the data on another device"
            ),
        ));
    }
    let block = WriteData::from(AlignedBuf::zeroed(BLOCK_BYTES));
    match file.write_at(0, block, 0, Durable::Data).await.0 {
        Ok(_) => Ok((true, BLOCK_BYTES)),
        // The file could be opened for direct I/O, and that is all that a full disk lets us learn.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok((true, BLOCK_BYTES)),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok((false, BLOCK_BYTES)),
        Err(error) => Err(error),
    }
}

impl Disk for UringDisk {
    type File = UringFile;

    fn block_bytes(&self) -> usize {
        self.inner.block_bytes
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.inner.beginning.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    async fn open(&self, path: &str, options: OpenOptions) -> io::Result<UringFile> {
        let mut flags = libc::O_RDWR;
        if options.direct && self.inner.is_direct {
            flags |= libc::O_DIRECT;
        }
        if options.create || options.create_new {
            flags |= libc::O_CREAT;
        }
        if options.create_new {
            flags |= libc::O_EXCL;
        }
        let Inner {
            ring, directory, ..
        } = &*self.inner;
        let file = ring.open_file(directory, path, flags).await?;
        Ok(UringFile { file })
    }

    async fn create_dir(&self, path: &str) -> io::Result<()> {
        self.inner
            .ring
            .create_dir(&self.inner.directory, path)
            .await
    }

    async fn remove_file(&self, path: &str) -> io::Result<()> {
        self.inner
            .ring
            .unlink(&self.inner.directory, path, false)
            .await
    }

    async fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.inner
            .ring
            .unlink(&self.inner.directory, path, true)
            .await
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner
            .ring
            .rename(&self.inner.directory, from, to)
            .await
    }

    /// The ring cannot list a directory: a thread of glommio's does, so that the core does not wait for it.
    async fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        let path = self.inner.root.join(dir);
        glommio::executor()
            .spawn_blocking(move || list(&path))
            .await
    }

    async fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let Inner {
            ring, directory, ..
        } = &*self.inner;
        let opened = ring.open_file(directory, Self::name(dir), flags).await?;
        opened.sync_all().await
    }

    /// One flush of the device and one commit of the filesystem's journal for all, by `syncfs(2)`. It also waits for
    /// what others have written to the filesystem: where that was much, files are synced one by one for a while.
    async fn sync_together(&self, items: &[Unsynced<'_, UringFile>]) -> Vec<io::Result<()>> {
        let avoided = self.inner.avoided_syncs.get();
        if items.len() < FILESYSTEM_SYNC_MIN || avoided > 0 {
            self.inner.avoided_syncs.set(avoided.saturating_sub(1));
            return sync_each(self, items).await;
        }
        let began = self.now_us();
        let synced = self.inner.directory.sync_filesystem().await;
        let took = Duration::from_micros(self.now_us().saturating_sub(began));
        if took > FILESYSTEM_SYNC_LONG {
            self.inner.avoided_syncs.set(FILESYSTEM_SYNCS_AVOIDED);
        }
        if let Err(error) = &synced
            && matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        {
            // What is ours has its room since it was written: somebody else's does not have it.
            return sync_each(self, items).await;
        }
        let result = || match &synced {
            Ok(()) => Ok(()),
            Err(error) => Err(again(error)),
        };
        items.iter().map(|_| result()).collect()
    }

    async fn file_len(&self, path: &str) -> io::Result<Option<u64>> {
        let Inner {
            ring, directory, ..
        } = &*self.inner;
        match ring.status(directory, Self::name(path)).await {
            Ok(status) if status.is_dir => Ok(Some(0)),
            Ok(status) => Ok(Some(status.len)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The ring cannot ask for it: a thread of glommio's does.
    async fn free_bytes(&self) -> io::Result<u64> {
        let root = self.inner.root.clone();
        glommio::executor()
            .spawn_blocking(move || free_bytes(&root))
            .await
    }
}

/// The same error for somebody else.
fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// What the filesystem leaves to users without privileges.
fn free_bytes(root: &Path) -> io::Result<u64> {
    let status = rustix::fs::statvfs(root)?;
    Ok(status.f_bavail.saturating_mul(status.f_frsize))
}

fn list(path: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Removed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let is_dir = metadata.is_dir();
        entries.push(DirEntry {
            // Every name of ours is ASCII; another one only has to differ from all of them.
            name: entry.file_name().to_string_lossy().into_owned(),
            is_dir,
            len: if is_dir { 0 } else { metadata.len() },
        });
    }
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

/// An open file of a `UringDisk`. A clone is another handle on it.
#[derive(Clone)]
pub struct UringFile {
    file: RingFile,
}

impl DiskFile for UringFile {
    async fn read(&self, position: u64, mut buf: AlignedBuf) -> (io::Result<usize>, AlignedBuf) {
        assert_whole_blocks(position, buf.len());
        let mut done = 0;
        while done < buf.len() {
            let (result, returned) = self.file.read_at(position + done as u64, buf, done).await;
            buf = returned;
            match result {
                Ok(bytes) => {
                    done += bytes;
                    // Nothing, or part of a block: the end of the file.
                    if bytes == 0 || !done.is_multiple_of(BLOCK_BYTES) {
                        break;
                    }
                }
                Err(error) => return (Err(error), buf),
            }
        }
        (Ok(done), buf)
    }

    async fn write(&self, position: u64, mut data: WriteData, durable: Durable) -> io::Result<()> {
        assert_whole_blocks(position, data.len());
        let mut done = 0;
        loop {
            let (result, returned) = self
                .file
                .write_at(position + done as u64, data, done, durable)
                .await;
            data = returned;
            let bytes = result?;
            if done + bytes == data.len() {
                return Ok(());
            }
            // A direct write goes on at a block: what was begun of one is written again.
            let whole = (done + bytes) / BLOCK_BYTES * BLOCK_BYTES;
            if whole == done {
                return Err(io::ErrorKind::WriteZero.into());
            }
            done = whole;
        }
    }

    async fn flush(&self) -> io::Result<()> {
        self.file.sync_data().await
    }

    async fn allocate(&self, len: u64) -> io::Result<()> {
        match self.file.allocate(len).await {
            // A filesystem that cannot take room in advance: the file gets its length, and may fill up later.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                if self.len().await? < len {
                    self.file.truncate(len).await?;
                }
                Ok(())
            }
            result => result,
        }
    }

    async fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len).await
    }

    async fn len(&self) -> io::Result<u64> {
        self.file.status().await.map(|status| status.len)
    }
}

fn assert_whole_blocks(position: u64, len: usize) {
    let is_whole = position.is_multiple_of(BLOCK_BYTES as u64) && len.is_multiple_of(BLOCK_BYTES);
    assert!(is_whole, "{len} bytes at {position} are not whole blocks");
}
