//! One raw, aligned, initialised allocation.
//!
//! Owns the pointer and frees it. Never makes a reference to the bytes: its two owners, `AlignedBuf` and
//! the chunk, do so under their own rules.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::rc::Rc;

use super::slabs::{Run, Slabs};
use super::{ALIGNMENT, HUGE_PAGE_BYTES};

/// `capacity` initialised bytes, a multiple of `ALIGNMENT`, at an address that is one too.
pub(super) struct Allocation {
    start: NonNull<u8>,
    capacity: usize,
    home: Home,
}

/// Where an allocation goes back to.
enum Home {
    /// To the slabs of its thread.
    Slabs(Rc<Slabs>, Run),
    /// To the system: it is larger than a slab, no slab could be had, or its thread was about to end.
    System(Layout),
}

impl Allocation {
    /// At least `bytes` bytes with anything in them. Memory is taken here, so a size from outside is checked before.
    pub(super) fn with_any_contents(bytes: usize) -> Self {
        let capacity = bytes.max(1).next_multiple_of(ALIGNMENT);
        Self::in_slab(capacity).unwrap_or_else(|| Self::of_system(capacity))
    }

    /// At least `bytes` zeros.
    pub(super) fn zeroed(bytes: usize) -> Self {
        let allocation = Self::with_any_contents(bytes);
        if let Home::Slabs(..) = allocation.home {
            // SAFETY: `start` is valid for writes of `capacity` bytes, which nobody else has.
            unsafe {
                allocation
                    .start
                    .as_ptr()
                    .write_bytes(0, allocation.capacity)
            };
        }
        allocation
    }

    fn in_slab(capacity: usize) -> Option<Self> {
        let slabs = Slabs::of_this_thread()?;
        let (start, run) = slabs.take(capacity)?;
        Some(Self {
            start,
            capacity,
            home: Home::Slabs(slabs, run),
        })
    }

    /// Zeros.
    fn of_system(capacity: usize) -> Self {
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
        #[cfg(not(miri))]
        if capacity >= HUGE_PAGE_BYTES {
            // Asked before the memory is first touched. A refusal costs speed only, so it is not reported.
            // SAFETY: the range is our own allocation, and the advice does not change its contents.
            unsafe { libc::madvise(memory.cast(), capacity, libc::MADV_HUGEPAGE) };
        }
        // SAFETY: `start` is valid for writes of `capacity` bytes, which were just allocated for us alone.
        unsafe { memory.write_bytes(0, capacity) };
        Self {
            start,
            capacity,
            home: Home::System(layout),
        }
    }

    /// The first byte. Valid for reads and writes of `capacity` bytes, all of them initialised.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        match &self.home {
            Home::Slabs(slabs, run) => slabs.give(run),
            // SAFETY: `start` was allocated with this very layout, and dropping the owner ends every use of it.
            Home::System(layout) => unsafe { dealloc(self.start.as_ptr(), *layout) },
        }
    }
}
