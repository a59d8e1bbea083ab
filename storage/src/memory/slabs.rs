//! The slabs of one thread: memory in huge pages, cut into runs of pages.
//!
//! Owns the mappings. A slab that nobody uses is kept for the next burst, within bounds, since memory that goes
//! back to the kernel costs a fault and zeros for each page when it is wanted again. Knows no caps: the ledger
//! says how much may be handed out. docs/decisions/memory-in-huge-pages.md says what this is worth.

use std::cell::RefCell;
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;

use super::ALIGNMENT;
use super::page_map::{PAGES, PageMap};
use super::preparer::Preparer;
use super::slab_memory::SlabMemory;

/// Free bytes that are kept whatever is in use.
const KEPT_BYTES_MIN: usize = 32 << 20;

/// A run of pages that was handed out.
#[derive(Debug)]
pub(super) struct Run {
    slab: usize,
    page: usize,
    pages: usize,
}

/// All slabs of one thread.
#[derive(Debug, Default)]
pub(super) struct Slabs {
    inner: RefCell<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By number, which its runs know; `None` where one was given back to the kernel.
    slabs: Vec<Option<Slab>>,
    used_pages: usize,
    free_pages: usize,
    /// Slabs of which nothing is used.
    idle: usize,
    /// Who makes slabs ready before they are needed.
    preparer: Option<Preparer>,
}

#[derive(Debug)]
struct Slab {
    map: PageMap,
    memory: SlabMemory,
}

thread_local! {
    static OF_THIS_THREAD: Rc<Slabs> = Rc::default();
}

/// Has memory of this thread made ready ahead of its use, by another thread, which runs where this one may run now. A
/// fault on a huge page takes long enough to be seen in latencies: 0.2 ms, or 6 where a host has to find the memory.
///
/// # Errors
/// The thread cannot be started.
pub fn prepare_ahead() -> io::Result<()> {
    if let Some(slabs) = Slabs::of_this_thread() {
        slabs.inner.borrow_mut().preparer = Some(Preparer::start()?);
    }
    Ok(())
}

impl Slabs {
    /// Those of this thread; `None` while it ends.
    pub(super) fn of_this_thread() -> Option<Rc<Self>> {
        OF_THIS_THREAD.try_with(Rc::clone).ok()
    }

    /// `bytes` at a multiple of `ALIGNMENT`, initialised with anything; `bytes` is such a multiple too. `None` if that
    /// is more than a slab has, or the kernel has no memory.
    pub(super) fn take(&self, bytes: usize) -> Option<(NonNull<u8>, Run)> {
        let pages = bytes / ALIGNMENT;
        if pages > PAGES {
            return None;
        }
        let mut inner = self.inner.borrow_mut();
        // The first that has room, so that the later ones come to be free.
        let found = inner.slabs.iter_mut().enumerate().find_map(|(slab, of)| {
            let page = of.as_mut()?.map.take(pages)?;
            Some((slab, page))
        });
        let (slab, page) = match found {
            Some(found) => found,
            None => inner.add(pages)?,
        };
        let of = inner.slabs[slab].as_ref().expect("it has room");
        let (start, was_idle) = (of.memory.page(page), of.map.free() + pages == PAGES);
        inner.used_pages += pages;
        inner.free_pages -= pages;
        inner.idle -= usize::from(was_idle);
        Some((start, Run { slab, page, pages }))
    }

    /// Takes a run back, and gives slabs that nobody uses to the kernel if too much is free.
    pub(super) fn give(&self, run: &Run) {
        let mut inner = self.inner.borrow_mut();
        let slab = inner.slabs[run.slab].as_mut();
        let map = &mut slab.expect("a slab with a run stays").map;
        map.give(run.page, run.pages);
        let is_idle = map.free() == PAGES;
        inner.used_pages -= run.pages;
        inner.free_pages += run.pages;
        inner.idle += usize::from(is_idle);
        let kept = inner.used_pages.max(KEPT_BYTES_MIN / ALIGNMENT);
        while inner.idle > 0 && inner.free_pages > kept {
            inner.remove_idle();
        }
    }

    /// Bytes that are mapped and not handed out.
    #[cfg(test)]
    fn free_bytes(&self) -> usize {
        self.inner.borrow().free_pages * ALIGNMENT
    }
}

impl Inner {
    /// Maps a slab and finds the place of so many pages in it.
    fn add(&mut self, pages: usize) -> Option<(usize, usize)> {
        let prepared = self.preparer.as_mut().and_then(Preparer::take);
        let memory = match prepared {
            Some(memory) => memory,
            None => SlabMemory::new()?,
        };
        let mut added = Slab {
            map: PageMap::new(),
            memory,
        };
        let page = added.map.take(pages).expect("a slab holds them");
        self.free_pages += PAGES;
        self.idle += 1;
        let slab = match self.slabs.iter().position(Option::is_none) {
            Some(slab) => slab,
            None => {
                self.slabs.push(None);
                self.slabs.len() - 1
            }
        };
        self.slabs[slab] = Some(added);
        Some((slab, page))
    }

    /// Gives the last idle slab back to the kernel.
    fn remove_idle(&mut self) {
        let is_idle = |slab: &Option<Slab>| matches!(slab, Some(slab) if slab.map.free() == PAGES);
        if let Some(last) = self.slabs.iter().rposition(is_idle) {
            self.slabs[last] = None;
            self.free_pages -= PAGES;
            self.idle -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::HUGE_PAGE_BYTES;
    use super::super::slab_memory::SLAB_BYTES;
    use super::*;
    use crate::testing::Random;

    #[test]
    fn runs_never_overlap_and_keep_what_is_written() {
        let slabs = Slabs::default();
        let mut random = Random::new(7);
        let mut held: Vec<(NonNull<u8>, Run, u8)> = Vec::new();
        for step in 0..if cfg!(miri) { 40 } else { 2000 } {
            if random.below(2) == 0 {
                let bytes = ALIGNMENT * (1 + random.index(64));
                let (start, run) = slabs.take(bytes).expect("there is memory");
                assert_eq!(start.as_ptr() as usize % ALIGNMENT, 0);
                // SAFETY: the run is ours.
                unsafe { start.as_ptr().write_bytes(step as u8, bytes) };
                held.push((start, run, step as u8));
            } else if !held.is_empty() {
                let (start, run, byte) = held.swap_remove(random.index(held.len()));
                // SAFETY: the run is ours, and was written in full.
                let bytes =
                    unsafe { std::slice::from_raw_parts(start.as_ptr(), run.pages * ALIGNMENT) };
                assert!(bytes.iter().all(|found| *found == byte), "step {step}");
                slabs.give(&run);
            }
        }
        let used: usize = held.iter().map(|(_, run, _)| run.pages).sum();
        assert_eq!(slabs.inner.borrow().used_pages, used);
    }

    #[test]
    fn a_slab_is_aligned_for_huge_pages_and_bounds_a_run() {
        let slabs = Slabs::default();
        let (start, run) = slabs.take(SLAB_BYTES).expect("there is memory");
        assert!(cfg!(miri) || (start.as_ptr() as usize).is_multiple_of(HUGE_PAGE_BYTES));
        slabs.give(&run);
        assert!(slabs.take(SLAB_BYTES + ALIGNMENT).is_none());
    }

    #[test]
    fn what_is_free_stays_in_proportion_to_what_is_used() {
        let slabs = Slabs::default();
        let take = || slabs.take(SLAB_BYTES).expect("there is memory").1;
        let mut runs: Vec<Run> = (0..16).map(|_| take()).collect();
        assert_eq!(slabs.free_bytes(), 0);
        for run in runs.drain(8..) {
            slabs.give(&run);
        }
        assert_eq!(slabs.free_bytes(), 8 * SLAB_BYTES, "as much as is used");
        for run in runs.drain(..) {
            slabs.give(&run);
        }
        assert_eq!(slabs.free_bytes(), KEPT_BYTES_MIN, "for the next burst");
        let again: Vec<Run> = (0..16).map(|_| take()).collect();
        assert_eq!(
            slabs.inner.borrow().slabs.len(),
            16,
            "numbers are used again"
        );
        again.iter().for_each(|run| slabs.give(run));
    }
}
