//! `PageMap`: which pages of a slab are handed out.
//!
//! Owns a bit for each page, and finds runs of free ones. Never touches memory.

/// Pages of one slab.
pub(super) const PAGES: usize = 2048;
const WORD_BITS: usize = u64::BITS as usize;

/// The pages of one slab. A set bit is a page that is handed out.
#[derive(Debug)]
pub(super) struct PageMap {
    taken: [u64; PAGES / WORD_BITS],
    free: usize,
    /// No run of free pages is longer, so that most slabs without room are passed over at once.
    longest: usize,
}

impl PageMap {
    /// All pages free.
    pub(super) fn new() -> Self {
        Self {
            taken: [0; PAGES / WORD_BITS],
            free: PAGES,
            longest: PAGES,
        }
    }

    /// How many pages are free.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// Hands out the first run of `pages` free ones, at least 1. Returns its first page; `None` if there is none.
    pub(super) fn take(&mut self, pages: usize) -> Option<usize> {
        debug_assert!(pages > 0);
        if pages > self.longest {
            return None;
        }
        let (mut at, mut longest) = (0, 0);
        while at < PAGES {
            let start = self.next(at, PAGES, false);
            let end = self.next(start, PAGES.min(start + pages), true);
            if end - start == pages {
                self.flip(start, pages, true);
                self.free -= pages;
                return Some(start);
            }
            longest = longest.max(end - start);
            at = end;
        }
        self.longest = longest;
        None
    }

    /// Takes a run back that was handed out.
    ///
    /// # Panics
    /// If a page of it is free.
    pub(super) fn give(&mut self, start: usize, pages: usize) {
        self.flip(start, pages, false);
        self.free += pages;
        self.longest = self.free;
    }

    /// The first page from `at` on that is taken or, if not `taken`, free; `end` if there is none before it.
    fn next(&self, at: usize, end: usize, taken: bool) -> usize {
        let mut at = at;
        while at < end {
            let word = self.taken[at / WORD_BITS];
            let wanted = if taken { word } else { !word };
            let rest = wanted >> (at % WORD_BITS);
            if rest != 0 {
                return end.min(at + rest.trailing_zeros() as usize);
            }
            at = (at / WORD_BITS + 1) * WORD_BITS;
        }
        end
    }

    /// Marks a run that is not marked so.
    fn flip(&mut self, start: usize, pages: usize, taken: bool) {
        let end = start + pages;
        let mut at = start;
        while at < end {
            let (word, bit) = (at / WORD_BITS, at % WORD_BITS);
            let count = (WORD_BITS - bit).min(end - at);
            let mask = (u64::MAX >> (WORD_BITS - count)) << bit;
            let expected = if taken { 0 } else { mask };
            assert_eq!(
                self.taken[word] & mask,
                expected,
                "pages {start} to {end} of a slab are not what their owner takes them for"
            );
            self.taken[word] ^= mask;
            at += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn a_run_begins_at_the_first_place_that_holds_it() {
        let mut map = PageMap::new();
        assert_eq!(map.take(60), Some(0));
        assert_eq!(map.take(8), Some(60), "over the end of a word");
        assert_eq!(map.take(1), Some(68));
        map.give(60, 8);
        assert_eq!(map.take(9), Some(69), "the gap is too short");
        assert_eq!(map.take(8), Some(60));
        assert_eq!(map.free(), PAGES - 78);
    }

    #[test]
    fn a_slab_is_handed_out_whole_and_no_further() {
        let mut map = PageMap::new();
        assert_eq!(map.take(PAGES + 1), None);
        assert_eq!(map.take(PAGES), Some(0));
        assert_eq!((map.take(1), map.free()), (None, 0));
        map.give(0, PAGES);
        assert_eq!(map.take(PAGES), Some(0));
    }

    #[test]
    #[should_panic(expected = "not what their owner takes them for")]
    fn nothing_is_given_back_twice() {
        let mut map = PageMap::new();
        let start = map.take(70).expect("all are free");
        map.give(start, 70);
        map.give(start + 69, 1);
    }

    #[test]
    fn any_sequence_agrees_with_a_list_of_pages() {
        for seed in 0..if cfg!(miri) { 2 } else { 200 } {
            let mut random = Random::new(seed);
            let mut map = PageMap::new();
            let mut model = [false; PAGES];
            let mut runs: Vec<(usize, usize)> = Vec::new();
            let largest = [3, 40, 300, PAGES][random.index(4)];
            for _ in 0..300 {
                if random.below(5) < 3 {
                    let pages = 1 + random.index(largest);
                    let expected = (0..=PAGES - pages)
                        .find(|at| model[*at..at + pages].iter().all(|taken| !taken));
                    assert_eq!(map.take(pages), expected, "seed {seed}: {pages} pages");
                    if let Some(start) = expected {
                        model[start..start + pages].fill(true);
                        runs.push((start, pages));
                    }
                } else if !runs.is_empty() {
                    let (start, pages) = runs.swap_remove(random.index(runs.len()));
                    map.give(start, pages);
                    model[start..start + pages].fill(false);
                }
                let free = model.iter().filter(|taken| !**taken).count();
                assert_eq!(map.free(), free, "seed {seed}");
            }
        }
    }
}
