//! Who used how much CPU.
//!
//! Owns the accounting: the machine as a whole from its idle time (precise where ticks are stopped on idle
//! cores, in steps of 10 ms), single threads from the scheduler's own sums. Never attributes: what the machine
//! did less what the sender did is the broker's or the relay's *and everybody else's*, so a figure means
//! something on a quiet machine only.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::clock::Clock;

/// Nanoseconds of one unit in `/proc/stat`.
const STAT_UNIT_NS: u64 = 10_000_000;

/// CPU time used so far.
#[derive(Clone, Debug)]
pub struct Snapshot {
    wall_ns: u64,
    not_used_ns: u64,
    cores: u64,
    caller_ns: u64,
    watched_ns: u64,
}

/// CPU time used between two snapshots, nanoseconds.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Used {
    /// Wall time between them.
    pub wall_ns: u64,
    /// The whole machine, kernel threads and interrupts included.
    pub machine_ns: u64,
    /// The thread that took the snapshots.
    pub caller_ns: u64,
    /// The watched threads.
    pub watched_ns: u64,
}

impl Used {
    /// What the machine did beside the caller.
    #[must_use]
    pub fn others_ns(&self) -> u64 {
        self.machine_ns.saturating_sub(self.caller_ns)
    }
}

impl Snapshot {
    /// Takes one, on the thread that is to be told apart.
    #[must_use]
    pub fn take(clock: &Clock, watched: &Threads) -> Self {
        let (not_used_ns, cores) = not_used();
        Self {
            wall_ns: clock.ns(),
            not_used_ns,
            cores,
            caller_ns: run_time("/proc/thread-self/schedstat"),
            watched_ns: watched.run_time_ns(),
        }
    }

    /// What was used since an earlier one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Used {
        let wall_ns = self.wall_ns - earlier.wall_ns;
        let not_used = self.not_used_ns.saturating_sub(earlier.not_used_ns);
        Used {
            wall_ns,
            machine_ns: (wall_ns * self.cores).saturating_sub(not_used),
            caller_ns: self.caller_ns.saturating_sub(earlier.caller_ns),
            watched_ns: self.watched_ns.saturating_sub(earlier.watched_ns),
        }
    }
}

/// Idle, waiting and stolen time of all cores, and how many there are.
fn not_used() -> (u64, u64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let mut lines = text.lines().filter(|line| line.starts_with("cpu"));
    let total: u64 = lines.next().map_or(0, |line| {
        let fields: Vec<u64> = line
            .split_ascii_whitespace()
            .skip(1)
            .map_while(|field| field.parse().ok())
            .collect();
        [3, 4, 7]
            .iter()
            .filter_map(|index| fields.get(*index))
            .sum()
    });
    (total * STAT_UNIT_NS, lines.count() as u64)
}

fn run_time(path: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let first = text.split_ascii_whitespace().next();
    first.and_then(|field| field.parse().ok()).unwrap_or(0)
}

/// Threads whose own time is of interest.
#[derive(Clone, Debug, Default)]
pub struct Threads {
    paths: Vec<PathBuf>,
}

impl Threads {
    /// The threads of a process whose names begin with `prefix`.
    #[must_use]
    pub fn named(process: u32, prefix: &str) -> Self {
        let tasks = fs::read_dir(format!("/proc/{process}/task"));
        let paths = tasks
            .into_iter()
            .flatten()
            .flatten()
            .map(|task| task.path());
        let paths = paths.filter(|path| {
            fs::read_to_string(path.join("comm")).is_ok_and(|name| name.starts_with(prefix))
        });
        Self {
            paths: paths.collect(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.paths.len()
    }

    /// The time that they have run, nanoseconds.
    #[must_use]
    pub fn run_time_ns(&self) -> u64 {
        let times = self.paths.iter().map(|path| {
            let path = path.join("schedstat");
            run_time(&path.to_string_lossy())
        });
        times.sum()
    }
}

/// Pins the calling thread to a CPU. Says whether that worked.
pub fn pin(cpu: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
}

/// Two CPUs of this process: one to be measured, one to send from. The same one where there is no other.
#[must_use]
pub fn pair() -> (usize, usize) {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let first = cores.first().map_or(0, |core| core.id);
    (first, cores.get(1).map_or(first, |core| core.id))
}

/// Waits until the machine does next to nothing, so that what one measurement left behind does not burden the
/// next; at most for `patience`. Returns how many cores were still busy in the last tenth of a second.
pub fn settle(patience: Duration) -> f64 {
    const STEP: Duration = Duration::from_millis(100);
    let clock = Clock::start();
    let nobody = Threads::default();
    let mut last = Snapshot::take(&clock, &nobody);
    loop {
        thread::sleep(STEP);
        let now = Snapshot::take(&clock, &nobody);
        let used = now.since(&last);
        let busy = used.machine_ns as f64 / used.wall_ns as f64;
        if busy < 0.1 || clock.elapsed() >= patience {
            return busy;
        }
        last = now;
    }
}

/// The load average over the last minute.
#[must_use]
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_ascii_whitespace().next();
    first.and_then(|field| field.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_the_caller_is_seen_and_told_apart() {
        let clock = Clock::start();
        let nobody = Threads::default();
        let before = Snapshot::take(&clock, &nobody);
        let mut sum = 0_u64;
        while clock.elapsed() < Duration::from_millis(300) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        // Gives the scheduler a reason to add up.
        thread::yield_now();
        let used = Snapshot::take(&clock, &nobody).since(&before);
        assert!(used.caller_ns > 0 && used.machine_ns > 0, "{used:?}");
        assert!(used.caller_ns <= used.wall_ns + 10_000_000, "{used:?}");
        assert_eq!(used.watched_ns, 0);
    }

    #[test]
    fn threads_are_found_by_name() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = thread::Builder::new().name("wanted-1".into());
        let thread = thread.spawn(move || stopped.recv()).unwrap();
        while Threads::named(std::process::id(), "wanted-").count() == 0 {
            thread::yield_now();
        }
        assert_eq!(Threads::named(std::process::id(), "absent-").count(), 0);
        drop(stop);
        thread.join().unwrap().unwrap_err();
    }
}
