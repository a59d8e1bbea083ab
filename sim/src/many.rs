//! Many seeds, on several threads: each seed is one thread's alone.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::counters::Counters;
use crate::run::{Outcome, run_seed};

/// Failing seeds that are kept in full.
const FAILURES_KEPT_MAX: usize = 100;

/// What many seeds came to.
#[derive(Debug, Default)]
pub struct Report {
    /// Seeds that were run.
    pub seeds: u64,
    /// Events of all of them.
    pub events: u64,
    /// Records that were sent.
    pub records: u64,
    /// Complete reads.
    pub reads: u64,
    /// Seeds that failed, in order.
    pub failed: Vec<Outcome>,
    /// How many failed, those not kept included.
    pub failures: u64,
    /// Seeds that were run twice, and came out the same.
    pub repeated: u64,
    /// What was reached.
    pub counters: Counters,
}

/// Runs seeds on `threads` threads, every `repeat`th of them twice (0 for none). `progress` is told of each.
pub fn run_many(
    seeds: Range<u64>,
    seconds: u64,
    threads: usize,
    repeat: u64,
    progress: impl Fn(&Outcome) + Sync,
) -> Report {
    let next = AtomicU64::new(seeds.start);
    let report = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let mut outcome = run_seed(seed, seconds, None);
                    let is_repeated = repeat > 0 && seed.is_multiple_of(repeat);
                    if is_repeated {
                        let again = run_seed(seed, seconds, None).hash;
                        if again != outcome.hash {
                            let problem = format!("hash: {:016x}, then {again:016x}", outcome.hash);
                            outcome.failures.push(problem);
                        }
                    }
                    progress(&outcome);
                    let mut report = report.lock().expect("no thread panics with it");
                    report.add(outcome, is_repeated);
                }
            });
        }
    });
    let mut report = report.into_inner().expect("no thread panics with it");
    report.failed.sort_by_key(|outcome| outcome.seed);
    report
}

impl Report {
    fn add(&mut self, outcome: Outcome, is_repeated: bool) {
        self.seeds += 1;
        self.events += outcome.events;
        self.records += outcome.verdict.counts.sent;
        self.reads += outcome.verdict.counts.reads;
        self.repeated += u64::from(is_repeated);
        self.counters.merge(&outcome.counters);
        if !outcome.failures.is_empty() {
            self.failures += 1;
            if self.failed.len() < FAILURES_KEPT_MAX {
                self.failed.push(outcome);
            }
        }
    }
}
