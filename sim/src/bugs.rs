//! Planted bugs: small deliberate faults of the product, switched on one at a time, each of which must be caught.
//!
//! They are the measure of the simulator: whatever it does not catch here it would not catch elsewhere.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

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
///
/// Each thread has a bug of its own for as long as there are any; then it helps with those that are left.
pub fn hunt(
    bugs: &[Bug],
    first: u64,
    seeds_max: u64,
    seconds: u64,
    threads: usize,
    progress: impl Fn(&Hunt) + Sync,
) -> Vec<Hunt> {
    let seeds = first..first + seeds_max;
    let trails = bugs.iter().map(|bug| Trail::new(*bug, &seeds));
    let trails = Mutex::new(trails.collect::<Vec<_>>());
    let sound = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let taken = take(&mut trails.lock().expect("no thread panics with it"));
                    let Some((index, bug, seed)) = taken else {
                        break;
                    };
                    let failure = try_seed(bug, seed, seconds, &sound);
                    let mut trails = trails.lock().expect("no thread panics with it");
                    let trail = &mut trails[index];
                    trail.tried(seed, seed - first + 1, failure);
                    if trail.is_over() {
                        progress(&trail.hunt);
                    }
                }
            });
        }
    });
    let trails = trails.into_inner().expect("no thread panics with it");
    trails.into_iter().map(|trail| trail.hunt).collect()
}

/// A hunt under way.
struct Trail {
    hunt: Hunt,
    /// The seeds that are left.
    seeds: Range<u64>,
    /// Those that are being run.
    running: Vec<u64>,
}

impl Trail {
    fn new(bug: Bug, seeds: &Range<u64>) -> Self {
        Self {
            hunt: Hunt { bug, caught: None },
            seeds: seeds.clone(),
            running: Vec::new(),
        }
    }

    fn tried(&mut self, seed: u64, seeds: u64, failure: Option<String>) {
        self.running.retain(|running| *running != seed);
        let is_first = self
            .hunt
            .caught
            .as_ref()
            .is_none_or(|caught| seed < caught.seed);
        if let Some(failure) = failure.filter(|_| is_first) {
            self.hunt.caught = Some(Caught {
                seed,
                seeds,
                failure,
            });
            self.seeds.end = self.seeds.end.min(seed);
        }
    }

    fn is_over(&self) -> bool {
        self.seeds.is_empty() && self.running.is_empty()
    }
}

/// The next seed to run: of a bug that nobody hunts, or of the one that is hunted by the fewest.
fn take(trails: &mut [Trail]) -> Option<(usize, Bug, u64)> {
    let open = trails.iter_mut().enumerate();
    let open = open.filter(|(_, trail)| !trail.seeds.is_empty());
    let (index, trail) = open.min_by_key(|(_, trail)| trail.running.len())?;
    let seed = trail.seeds.next()?;
    trail.running.push(seed);
    Some((index, trail.hunt.bug, seed))
}

/// What fails with the bug at a seed. Which seeds fail without it is noted in `sound`.
fn try_seed(
    bug: Bug,
    seed: u64,
    seconds: u64,
    sound: &Mutex<BTreeMap<u64, bool>>,
) -> Option<String> {
    plant(Some(bug));
    let outcome = run_seed(seed, seconds, None);
    plant(None);
    let failure = outcome.failures.into_iter().next()?;
    // A seed that fails without the bug as well has caught something else.
    let known = || sound.lock().expect("no thread panics with it");
    let is_sound = known().get(&seed).copied();
    let is_sound = is_sound.unwrap_or_else(|| run_seed(seed, seconds, None).failures.is_empty());
    known().insert(seed, is_sound);
    is_sound.then_some(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_seed_that_fails_counts_whoever_ends_first() {
        let mut trails = [Bug::ALL[0], Bug::ALL[1]].map(|bug| Trail::new(bug, &(5..9)));
        let taken = |trails: &mut [Trail]| take(trails).map(|(index, _, seed)| (index, seed));
        assert_eq!(taken(&mut trails), Some((0, 5)));
        assert_eq!(taken(&mut trails), Some((1, 5)));
        trails[1].tried(5, 1, Some("at once".to_owned()));
        assert!(trails[1].is_over());
        for seed in [6, 7] {
            assert_eq!(taken(&mut trails), Some((0, seed)), "it helps");
        }
        trails[0].tried(7, 3, Some("late".to_owned()));
        trails[0].tried(6, 2, Some("early".to_owned()));
        assert_eq!(taken(&mut trails), None);
        assert!(!trails[0].is_over(), "seed 5 may fail yet");
        trails[0].tried(5, 1, None);
        assert!(trails[0].is_over());
        let caught = trails[0].hunt.caught.as_ref().expect("seed 6 failed");
        assert_eq!((caught.seed, caught.seeds), (6, 2));
    }
}
