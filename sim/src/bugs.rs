//! Planted bugs: small deliberate faults of the product, switched on one at a time, each of which must be caught.
//!
//! They are the measure of the simulator: whatever it does not catch here it would not catch elsewhere.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use corelane_storage::planted::{Bug, plant};

use crate::run::run_seed;

/// How a bug was caught.
#[derive(Debug, Clone)]
pub struct Caught {
    /// The seed that failed.
    pub seed: u64,
    /// How many seeds were run until then.
    pub seeds: u64,
    /// What failed.
    pub failure: String,
}

/// One bug and what became of it.
#[derive(Debug, Clone)]
pub struct Hunt {
    /// The bug.
    pub bug: Bug,
    /// Absent if no seed failed.
    pub caught: Option<Caught>,
}

/// Runs seeds from `first` on with each bug until one fails, at most `seeds_max`.
pub fn hunt(
    bugs: &[Bug],
    first: u64,
    seeds_max: u64,
    seconds: u64,
    threads: usize,
    progress: impl Fn(&Hunt) + Sync,
) -> Vec<Hunt> {
    let next = AtomicUsize::new(0);
    let hunts = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(bug) = bugs.get(index).copied() else {
                        break;
                    };
                    let hunt = hunt_one(bug, first, seeds_max, seconds);
                    progress(&hunt);
                    let mut hunts = hunts.lock().expect("no thread panics with it");
                    hunts.push((index, hunt));
                }
            });
        }
    });
    let mut hunts = hunts.into_inner().expect("no thread panics with it");
    hunts.sort_by_key(|(index, _)| *index);
    hunts.into_iter().map(|(_, hunt)| hunt).collect()
}

fn hunt_one(bug: Bug, first: u64, seeds_max: u64, seconds: u64) -> Hunt {
    let seeds = AtomicU64::new(0);
    let caught = (first..first + seeds_max).find_map(|seed| {
        seeds.fetch_add(1, Ordering::Relaxed);
        plant(Some(bug));
        let outcome = run_seed(seed, seconds, None);
        plant(None);
        let failure = outcome.failures.into_iter().next()?;
        // A seed that fails without the bug as well has caught something else.
        if !run_seed(seed, seconds, None).failures.is_empty() {
            return None;
        }
        Some(Caught {
            seed,
            seeds: seeds.load(Ordering::Relaxed),
            failure,
        })
    });
    Hunt { bug, caught }
}
