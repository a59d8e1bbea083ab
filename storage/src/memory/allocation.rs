//! One raw, aligned, initialised allocation.
//!
//! Owns the pointer and frees it. Never makes a reference to the bytes: its two owners, `AlignedBuf` and
//! the chunk, do so under their own rules.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use super::{ALIGNMENT, HUGE_PAGE_BYTES};

/// `capacity` initialised bytes, a multiple of `ALIGNMENT`, at an address that is one too.
pub(super) struct Allocation {
    start: NonNull<u8>,
    layout: Layout,
}

impl Allocation {
    /// At least `bytes` zeros. Memory is taken here, so a size from outside is checked before.
    pub(super) fn zeroed(bytes: usize) -> Self {
        let capacity = bytes.max(1).next_multiple_of(ALIGNMENT);
        let alignment = if capacity >= HUGE_PAGE_BYTES {
            HUGE_PAGE_BYTES
        } else {
            ALIGNMENT
        };
        let layout = Layout::from_size_align(capacity, alignment)
            .expect("a buffer is smaller than the address space");
        // SAFETY: the layout's size is at least `ALIGNMENT`, so it is not zero.
        let memory = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(memory) else {
            handle_alloc_error(layout)
        };
        let allocation = Self { start, layout };
        if capacity >= HUGE_PAGE_BYTES {
            allocation.advise_huge_pages();
        }
        // SAFETY: `start` is valid for writes of `capacity` bytes, which were just allocated for us alone.
        unsafe { start.as_ptr().write_bytes(0, capacity) };
        allocation
    }

    /// The first byte. Valid for reads and writes of `capacity` bytes, all of them initialised.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(super) fn capacity(&self) -> usize {
        self.layout.size()
    }

    /// Asked before the memory is first touched. A refusal costs speed only, so it is not reported.
    #[cfg(not(miri))]
    fn advise_huge_pages(&self) {
        // SAFETY: the range is our own allocation, and the advice does not change its contents.
        unsafe {
            libc::madvise(
                self.start.as_ptr().cast(),
                self.capacity(),
                libc::MADV_HUGEPAGE,
            )
        };
    }

    #[cfg(miri)]
    fn advise_huge_pages(&self) {}
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: `start` was allocated with this very layout, and dropping the owner ends every use of it.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}
