//! `Mapping`: page-aligned zeroed memory of its own, for what the kernel writes to at any time.
//!
//! Owns the pages. Never makes a reference to them: the kernel may be writing while we read elsewhere in
//! the same mapping, so everything goes through raw pointers. Belongs to one core.

use std::io;
use std::ptr::NonNull;

/// Anonymous private memory that is unmapped on drop.
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// `len` zero bytes, rounded up to pages; touched, so that no later write faults.
    pub(super) fn zeroed(len: usize, huge_pages: bool) -> io::Result<Self> {
        let len = len.next_multiple_of(4096);
        // SAFETY: a new anonymous mapping refers to no existing memory.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(memory.cast::<u8>()).expect("mmap never answers null");
        if huge_pages {
            // SAFETY: the range is the mapping made above. A refusal costs speed only.
            unsafe { libc::madvise(memory, len, libc::MADV_HUGEPAGE) };
        }
        // SAFETY: the mapping is writable for `len` bytes and nobody else knows of it yet.
        unsafe { start.as_ptr().write_bytes(0, len) };
        Ok(Self { start, len })
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and its owner drops it only when the kernel is done with it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
