//! What goes in and out while a run goes on.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Watches a run, and can end it.
pub struct Control<'c> {
    /// Once it is set the run ends in order, with what was measured so far.
    pub stop: &'c AtomicBool,
    /// Is told several times a second how it goes, on the thread that runs it.
    pub observe: &'c mut dyn FnMut(&Progress),
}

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// What the machine could do at most is measured.
    Limit,
    /// The topic is looked at or made.
    Prepare,
    /// A topic without records is being filled.
    Fill,
    /// The load goes on and is not counted yet.
    WarmUp,
    /// It is counted.
    Measure,
    /// It is over, and answers are awaited.
    Drain,
}

/// How a run goes.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// For how long.
    pub elapsed: Duration,
    /// How long that will take, where it is known.
    pub of: Option<Duration>,
    /// Records acknowledged or read in this phase.
    pub records: u64,
    /// A second, lately.
    pub records_per_s: f64,
    /// Value bytes in 10^6 a second, lately.
    pub mb_s: f64,
    /// Of the latency lately, microseconds.
    pub p99_us: Option<u64>,
    /// Records that failed so far.
    pub errors: u64,
}

impl Progress {
    /// Nothing is known but what is done.
    pub(crate) fn of(phase: Phase) -> Self {
        Self {
            phase,
            elapsed: Duration::ZERO,
            of: None,
            records: 0,
            records_per_s: 0.0,
            mb_s: 0.0,
            p99_us: None,
            errors: 0,
        }
    }
}
