//! What the kernel says about this process.

use std::fs;

use super::state::ProcessState;

/// Bytes of a page, and clock ticks of a second, on every architecture that is supported.
const PAGE_BYTES: u64 = 4096;
const TICK_US: u64 = 10_000;

/// What cannot be read is 0.
pub(super) fn look() -> ProcessState {
    let resident = fs::read_to_string("/proc/self/statm").ok();
    let resident = resident.and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let files = fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    ProcessState {
        cpu_us: cpu_ticks(&stat).unwrap_or(0) * TICK_US,
        resident_bytes: resident.unwrap_or(0) * PAGE_BYTES,
        open_files: files,
        open_files_max: limit.current.unwrap_or(u64::MAX),
    }
}

/// User and system time: the 14th and 15th field, of which the second is a name that may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_files() {
        let found = look();
        assert!(found.resident_bytes > 1 << 20, "{found:?}");
        assert!(found.open_files >= 3 && found.open_files_max >= found.open_files);
    }

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 0 0 20 0 3 0 100 1000 50";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(cpu_ticks("no such thing"), None);
    }
}
