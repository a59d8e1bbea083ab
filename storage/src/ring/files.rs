//! Files through the ring: open, read, write, flush and the operations on names.
//!
//! Owns open descriptors and their places in the ring's table of registered files, which saves the lookup
//! of the descriptor in each operation. Never retries and never completes a short operation: that is its
//! caller's. Belongs to the core of its ring.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use io_uring::{IoUring, opcode, squeue, types};

use crate::disk::{Durable, WriteData};
use crate::memory::{AlignedBuf, AlignedSlice};

use super::ring::Ring;

/// Says that a place of the table is empty.
const NO_FILE: RawFd = -1;

/// The places of the ring's table of registered files.
pub(super) struct FileTable {
    free: Vec<u32>,
}

impl FileTable {
    /// Without a table, or beyond its end, files are used by their descriptors.
    pub(super) fn register(uring: &IoUring, places: u32) -> Self {
        if places == 0 {
            return Self { free: Vec::new() };
        }
        let free = match uring.submitter().register_files_sparse(places) {
            Ok(()) => (0..places).rev().collect(),
            Err(error) => {
                tracing::warn!(
                    %error,
                    "files are not registered with the ring: each operation looks up its descriptor"
                );
                Vec::new()
            }
        };
        Self { free }
    }
}

/// An open file. A clone is another handle; the file closes when the last one and every operation are gone.
#[derive(Clone)]
pub struct RingFile {
    inner: Rc<OpenFile>,
}

struct OpenFile {
    ring: Ring,
    /// Taken only by `drop`.
    descriptor: Option<OwnedFd>,
    place: Option<u32>,
}

/// A directory that names are looked up in.
#[derive(Clone)]
pub struct Directory {
    descriptor: Rc<OwnedFd>,
}

/// What `Ring::status` tells about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Its length in bytes.
    pub len: u64,
    /// The alignment that direct I/O wants of memory, in bytes; 0 if the file cannot do direct I/O or the kernel
    /// (before 6.1) does not say.
    pub direct_memory_alignment: u32,
    /// The alignment that direct I/O wants of positions and lengths, in bytes; 0 likewise.
    pub direct_position_alignment: u32,
}

impl Directory {
    /// Opens a directory.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // SAFETY: `path` is a string that ends in zero and outlives the call.
        let descriptor = unsafe { libc::open(path.as_ptr(), flags) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just opened and belongs to nobody else.
        let descriptor = Rc::new(unsafe { OwnedFd::from_raw_fd(descriptor) });
        Ok(Self { descriptor })
    }

    fn fd(&self) -> types::Fd {
        types::Fd(self.descriptor.as_raw_fd())
    }

    /// Makes everything durable that was written to the directory's filesystem, by anybody. A thread of glommio's does
    /// it, for the ring cannot.
    ///
    /// # Errors
    /// Those of `syncfs(2)`, of others' writes too.
    pub async fn sync_filesystem(&self) -> io::Result<()> {
        let descriptor = self.descriptor.try_clone()?;
        glommio::executor()
            .spawn_blocking(move || Ok(rustix::fs::syncfs(&descriptor)?))
            .await
    }
}

/// A file that the kernel keeps open until this is dropped or the ring is taken apart.
pub struct HeldFile {
    ring: Ring,
    place: u32,
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        if self.ring.inner.update_file(self.place, NO_FILE).is_ok() {
            self.ring.inner.files.borrow_mut().free.push(self.place);
        }
    }
}

impl Ring {
    /// Lets the kernel keep `file` open for as long as this ring has operations in flight, even beyond the death
    /// of the process: a table of registered files is given up only when the last operation has ended. What
    /// hangs on the open file, such as its lock, lasts as long.
    ///
    /// # Errors
    /// `Unsupported` if the ring has no place left for registered files, or the kernel's answer.
    pub fn hold(&self, file: &impl AsFd) -> io::Result<HeldFile> {
        let place = self.inner.files.borrow_mut().free.pop();
        let place = place.ok_or(io::ErrorKind::Unsupported)?;
        let registered = self.inner.update_file(place, file.as_fd().as_raw_fd());
        if let Err(error) = registered {
            self.inner.files.borrow_mut().free.push(place);
            return Err(error);
        }
        Ok(HeldFile {
            ring: self.clone(),
            place,
        })
    }

    /// Opens `path` below `directory` with the flags of `openat(2)`; a new file is readable by its group.
    ///
    /// # Errors
    /// Those of `openat(2)`.
    pub async fn open_file(
        &self,
        directory: &Directory,
        path: &str,
        flags: i32,
    ) -> io::Result<RingFile> {
        let name = CString::new(path)?;
        let entry = opcode::OpenAt::new(directory.fd(), name.as_ptr())
            .flags(flags | libc::O_CLOEXEC)
            .mode(0o640)
            .build();
        // SAFETY: the operation owns the name, whose bytes are on the heap, and the directory's descriptor.
        let op = unsafe { self.submit(entry, (name, directory.clone())) };
        let descriptor = op.await.0?;
        // SAFETY: the kernel has just opened the descriptor for us. (Were this future dropped before, it would stay
        // open: an open is never abandoned but at the end of the process.)
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) };
        Ok(RingFile::new(self.clone(), descriptor))
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// Those of `mkdirat(2)`.
    pub async fn create_dir(&self, directory: &Directory, path: &str) -> io::Result<()> {
        let name = CString::new(path)?;
        let entry = opcode::MkDirAt::new(directory.fd(), name.as_ptr())
            .mode(0o750)
            .build();
        // SAFETY: the operation owns the name, whose bytes are on the heap, and the directory's descriptor.
        let op = unsafe { self.submit(entry, (name, directory.clone())) };
        op.await.0.map(drop)
    }

    /// Removes a name; that of a directory if `is_dir`.
    ///
    /// # Errors
    /// Those of `unlinkat(2)`.
    pub async fn unlink(&self, directory: &Directory, path: &str, is_dir: bool) -> io::Result<()> {
        let name = CString::new(path)?;
        let entry = opcode::UnlinkAt::new(directory.fd(), name.as_ptr())
            .flags(if is_dir { libc::AT_REMOVEDIR } else { 0 })
            .build();
        // SAFETY: the operation owns the name, whose bytes are on the heap, and the directory's descriptor.
        let op = unsafe { self.submit(entry, (name, directory.clone())) };
        op.await.0.map(drop)
    }

    /// Gives a file another name, replacing the file that has it.
    ///
    /// # Errors
    /// Those of `renameat(2)`.
    pub async fn rename(&self, directory: &Directory, from: &str, to: &str) -> io::Result<()> {
        let names = (CString::new(from)?, CString::new(to)?);
        let fd = directory.fd();
        let entry = opcode::RenameAt::new(fd, names.0.as_ptr(), fd, names.1.as_ptr()).build();
        // SAFETY: the operation owns the names, whose bytes are on the heap, and the directory's descriptor.
        let op = unsafe { self.submit(entry, (names, directory.clone())) };
        op.await.0.map(drop)
    }

    /// What the file of this name is; the directory itself if `path` is empty.
    ///
    /// # Errors
    /// Those of `statx(2)`.
    pub async fn status(&self, directory: &Directory, path: &str) -> io::Result<FileStatus> {
        let name = CString::new(path)?;
        self.statx(directory.fd(), name, directory.clone()).await
    }

    async fn statx<T: 'static>(
        &self,
        fd: types::Fd,
        name: CString,
        owner: T,
    ) -> io::Result<FileStatus> {
        /// From `linux/stat.h`, Linux 6.1; libc has it on some targets only.
        const STATX_DIOALIGN: u32 = 0x2000;
        let mut status = Box::new(MaybeUninit::<libc::statx>::zeroed());
        let entry = opcode::Statx::new(fd, name.as_ptr(), status.as_mut_ptr().cast())
            .flags(libc::AT_EMPTY_PATH)
            .mask(libc::STATX_BASIC_STATS | STATX_DIOALIGN)
            .build();
        // SAFETY: the operation owns the name and the result, both on the heap, and whatever keeps `fd` open.
        let op = unsafe { self.submit(entry, (name, status, owner)) };
        let (result, (_, status, _)) = op.await;
        result?;
        // SAFETY: every bit pattern is a `statx`, it began as zeros, and the kernel has filled it in.
        let status = unsafe { status.assume_init() };
        let kind = u32::from(status.stx_mode) & libc::S_IFMT;
        Ok(FileStatus {
            is_dir: kind == libc::S_IFDIR,
            len: status.stx_size,
            direct_memory_alignment: status.stx_dio_mem_align,
            direct_position_alignment: status.stx_dio_offset_align,
        })
    }
}

impl RingFile {
    fn new(ring: Ring, descriptor: OwnedFd) -> Self {
        let place = ring.inner.files.borrow_mut().free.pop();
        let place = place.filter(|place| {
            let updated = ring.inner.update_file(*place, descriptor.as_raw_fd());
            if updated.is_err() {
                ring.inner.files.borrow_mut().free.push(*place);
            }
            updated.is_ok()
        });
        Self {
            inner: Rc::new(OpenFile {
                ring,
                descriptor: Some(descriptor),
                place,
            }),
        }
    }

    fn descriptor(&self) -> RawFd {
        self.inner
            .descriptor
            .as_ref()
            .expect("it is open until it is dropped")
            .as_raw_fd()
    }

    /// The number that names this file in an operation, and the flag that says in which table it is.
    fn target(&self) -> (types::Fd, squeue::Flags) {
        match self.inner.place {
            Some(place) => (types::Fd(place as i32), squeue::Flags::FIXED_FILE),
            None => (types::Fd(self.descriptor()), squeue::Flags::empty()),
        }
    }

    /// Reads from `position` into `buffer` behind its first `skip` bytes; may be short.
    ///
    /// # Errors
    /// Those of `pread(2)`.
    pub async fn read_at(
        &self,
        position: u64,
        mut buffer: AlignedBuf,
        skip: usize,
    ) -> (io::Result<usize>, AlignedBuf) {
        let (fd, flags) = self.target();
        let rest = &mut buffer[skip..];
        let len = u32::try_from(rest.len()).expect("a read is smaller than 4 GiB");
        let entry = opcode::Read::new(fd, rest.as_mut_ptr(), len)
            .offset(position)
            .build()
            .flags(flags);
        // SAFETY: the operation owns the buffer, whose bytes are on the heap, and a handle that keeps the file open.
        let op = unsafe { self.inner.ring.submit(entry, (buffer, self.clone())) };
        let (result, (buffer, _)) = op.await;
        (result.map(|bytes| bytes as usize), buffer)
    }

    /// Writes `data` at `position`, less its first `skip` bytes; may be short. With `durable`, the write is on
    /// the device when it completes (`RWF_DSYNC`). The data comes back in any case.
    ///
    /// # Errors
    /// Those of `pwritev2(2)`.
    pub async fn write_at(
        &self,
        position: u64,
        data: WriteData,
        skip: usize,
        durable: Durable,
    ) -> (io::Result<usize>, WriteData) {
        let vectors = vectors(data.segments(), skip);
        let rw_flags = match durable {
            Durable::Data => libc::RWF_DSYNC,
            Durable::No => 0,
        };
        let (fd, flags) = self.target();
        let entry = match &vectors[..] {
            [one] => {
                let len = u32::try_from(one.iov_len).expect("a write is smaller than 4 GiB");
                opcode::Write::new(fd, one.iov_base.cast_const().cast(), len)
                    .offset(position)
                    .rw_flags(rw_flags)
                    .build()
            }
            many => opcode::Writev::new(fd, many.as_ptr(), many.len() as u32)
                .offset(position)
                .rw_flags(rw_flags)
                .build(),
        };
        let entry = entry.flags(flags);
        // SAFETY: the operation owns the vectors, the data they point into (immutable, on the heap), and a handle
        // that keeps the file open.
        let op = unsafe { self.inner.ring.submit(entry, (vectors, data, self.clone())) };
        let (result, (_, data, _)) = op.await;
        (result.map(|bytes| bytes as usize), data)
    }

    /// Makes written data durable, and the length that reading it needs (`fdatasync`).
    ///
    /// # Errors
    /// Those of `fdatasync(2)`.
    pub async fn sync_data(&self) -> io::Result<()> {
        let (fd, flags) = self.target();
        let entry = opcode::Fsync::new(fd)
            .flags(types::FsyncFlags::DATASYNC)
            .build()
            .flags(flags);
        self.run(entry).await
    }

    /// Makes everything about the file durable, the names in a directory among it (`fsync`).
    ///
    /// # Errors
    /// Those of `fsync(2)`.
    pub async fn sync_all(&self) -> io::Result<()> {
        let (fd, flags) = self.target();
        self.run(opcode::Fsync::new(fd).build().flags(flags)).await
    }

    /// Takes room for the first `len` bytes and makes the file at least that long.
    ///
    /// # Errors
    /// Those of `fallocate(2)`.
    pub async fn allocate(&self, len: u64) -> io::Result<()> {
        let (fd, flags) = self.target();
        self.run(opcode::Fallocate::new(fd, len).build().flags(flags))
            .await
    }

    /// Makes the file `len` bytes long.
    ///
    /// # Errors
    /// Those of `ftruncate(2)`.
    pub async fn truncate(&self, len: u64) -> io::Result<()> {
        if self.inner.ring.features().truncate {
            let (fd, flags) = self.target();
            return self
                .run(opcode::Ftruncate::new(fd, len).build().flags(flags))
                .await;
        }
        let file = self.clone();
        let len = i64::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        // Linux before 6.9: a thread of glommio's does it. The handle stays here, so that the file is open while it does.
        let descriptor = file.descriptor();
        glommio::executor()
            .spawn_blocking(move || {
                // SAFETY: the descriptor is kept open by `file` until this has run; it refers to no memory.
                match unsafe { libc::ftruncate(descriptor, len) } {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            })
            .await
    }

    /// What the file is.
    ///
    /// # Errors
    /// Those of `statx(2)`.
    pub async fn status(&self) -> io::Result<FileStatus> {
        let fd = types::Fd(self.descriptor());
        self.inner
            .ring
            .statx(fd, CString::default(), self.clone())
            .await
    }

    /// An operation that refers to no memory.
    async fn run(&self, entry: squeue::Entry) -> io::Result<()> {
        // SAFETY: the operation owns a handle that keeps the file open; the callers' entries refer to no memory.
        let op = unsafe { self.inner.ring.submit(entry, self.clone()) };
        op.await.0.map(drop)
    }
}

/// What `segments` hold beyond their first `skip` bytes, as the kernel wants it told.
fn vectors(segments: &[AlignedSlice], mut skip: usize) -> Vec<libc::iovec> {
    let mut vectors = Vec::with_capacity(segments.len());
    for segment in segments {
        let skipped = skip.min(segment.len());
        skip -= skipped;
        let rest = &segment[skipped..];
        if !rest.is_empty() {
            vectors.push(libc::iovec {
                iov_base: rest.as_ptr().cast_mut().cast(),
                iov_len: rest.len(),
            });
        }
    }
    vectors
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let Some(descriptor) = self.descriptor.take() else {
            return;
        };
        if self.ring.inner.closing.get() {
            return;
        }
        if let Some(place) = self.place
            && self.ring.inner.update_file(place, NO_FILE).is_ok()
        {
            self.ring.inner.files.borrow_mut().free.push(place);
        }
        self.ring.close_descriptor(descriptor);
    }
}
