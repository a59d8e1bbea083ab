//! The memory of one slab: a mapping of its own.
//!
//! Owns the pages. Never makes a reference to them.

use std::ptr::NonNull;

use super::page_map::PAGES;
use super::{ALIGNMENT, HUGE_PAGE_BYTES};

/// Bytes of one slab: several huge pages, so that what does not divide one wastes little.
pub(super) const SLAB_BYTES: usize = PAGES * ALIGNMENT;

/// The pages of one slab, zero at first, in huge pages where the kernel has them. Those that are not touched take no
/// memory.
#[derive(Debug)]
pub(super) struct SlabMemory {
    start: NonNull<u8>,
}

// SAFETY: it is memory and nothing else; who has it is the only one to use it.
unsafe impl Send for SlabMemory {}

impl SlabMemory {
    /// The address of a page.
    pub(super) fn page(&self, page: usize) -> NonNull<u8> {
        assert!(page < PAGES);
        // SAFETY: the page is within the mapping.
        unsafe { self.start.add(page * ALIGNMENT) }
    }
}

#[cfg(not(miri))]
impl SlabMemory {
    /// `None` if the kernel refuses.
    pub(super) fn new() -> Option<Self> {
        let wanted = SLAB_BYTES + HUGE_PAGE_BYTES;
        // SAFETY: a new anonymous mapping refers to no existing memory.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                wanted,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return None;
        }
        let memory = memory.cast::<u8>();
        let before = memory.align_offset(HUGE_PAGE_BYTES);
        // SAFETY: both parts are within the mapping and do not overlap what is kept; the advice does not change
        // contents. A refusal costs address space and speed only.
        let start = unsafe {
            let start = memory.add(before);
            unmap(memory, before);
            unmap(start.add(SLAB_BYTES), wanted - before - SLAB_BYTES);
            libc::madvise(start.cast(), SLAB_BYTES, libc::MADV_HUGEPAGE);
            start
        };
        Some(Self {
            start: NonNull::new(start).expect("mmap never answers null"),
        })
    }
}

#[cfg(not(miri))]
impl SlabMemory {
    /// Takes all of its memory now. A kernel that cannot (before Linux 5.14) leaves it to whoever touches it first.
    pub(super) fn touch(&mut self) {
        for huge_page in 0..SLAB_BYTES / HUGE_PAGE_BYTES {
            // SAFETY: the range is within the mapping, and contents stay as they are.
            unsafe {
                let start = self.start.add(huge_page * HUGE_PAGE_BYTES);
                libc::madvise(
                    start.as_ptr().cast(),
                    HUGE_PAGE_BYTES,
                    libc::MADV_POPULATE_WRITE,
                )
            };
        }
    }
}

/// # Safety
/// The pages are mapped, and nobody uses them.
#[cfg(not(miri))]
unsafe fn unmap(start: *mut u8, bytes: usize) {
    if bytes > 0 {
        // SAFETY: as the caller says.
        unsafe { libc::munmap(start.cast(), bytes) };
    }
}

#[cfg(not(miri))]
impl Drop for SlabMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and a slab goes only when all of its runs have come back.
        unsafe { unmap(self.start.as_ptr(), SLAB_BYTES) };
    }
}

/// The same without the kernel.
#[cfg(miri)]
mod without_kernel {
    use std::alloc::{Layout, alloc_zeroed, dealloc};

    use super::{ALIGNMENT, NonNull, SLAB_BYTES, SlabMemory};

    const LAYOUT: Layout = match Layout::from_size_align(SLAB_BYTES, ALIGNMENT) {
        Ok(layout) => layout,
        Err(_) => panic!("a slab has a layout"),
    };

    impl SlabMemory {
        pub(in super::super) fn new() -> Option<Self> {
            // SAFETY: the layout is not empty.
            let start = NonNull::new(unsafe { alloc_zeroed(LAYOUT) })?;
            Some(Self { start })
        }

        pub(in super::super) fn touch(&mut self) {}
    }

    impl Drop for SlabMemory {
        fn drop(&mut self) {
            // SAFETY: it was allocated so, and all of its runs have come back.
            unsafe { dealloc(self.start.as_ptr(), LAYOUT) };
        }
    }
}
