//! What this machine has: asks the kernel, never decides.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::cores;
use crate::config::Machine;

/// Where control groups are mounted, of version 2.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// What this machine gives to this process.
#[must_use]
pub fn this_machine() -> Machine {
    let cpus = cores::available().len();
    Machine {
        memory_bytes: memory_field("MemTotal:").map(|all| all.min(control_group_bytes())),
        // Unlimited is as many as the kernel numbers.
        open_files: Some(getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)),
        cpus: (cpus > 0).then_some(cpus),
    }
}

/// Memory that is free for a new process, in bytes, within what the control group may take.
#[must_use]
pub fn free_memory_bytes() -> Option<u64> {
    memory_field("MemAvailable:").map(|free| free.min(control_group_bytes()))
}

/// A line of `/proc/meminfo`, in bytes.
fn memory_field(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = value.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// The most memory that this process's control group and those around it may take; `u64::MAX` without a limit.
fn control_group_bytes() -> u64 {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = |dir: String| {
        let text = fs::read_to_string(dir + "/memory.max").ok()?;
        text.trim().parse::<u64>().ok()
    };
    let limits = control_group_dirs(&groups).into_iter().filter_map(limit);
    limits.min().unwrap_or(u64::MAX)
}

/// The directories of a process's control group and of those around it, from what `/proc/self/cgroup` says.
fn control_group_dirs(groups: &str) -> Vec<String> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let mut path = own.unwrap_or("/").trim_end_matches('/');
    let mut dirs = vec![format!("{CONTROL_GROUPS}{path}")];
    while let Some((around, _)) = path.rsplit_once('/') {
        path = around;
        dirs.push(format!("{CONTROL_GROUPS}{path}"));
    }
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_bound_by_its_control_group_and_all_around_it() {
        let found = control_group_dirs("1:name=x:/\n0::/system.slice/corelane.service\n");
        let expected = [
            "/sys/fs/cgroup/system.slice/corelane.service",
            "/sys/fs/cgroup/system.slice",
            "/sys/fs/cgroup",
        ];
        assert_eq!(found, expected);
        assert_eq!(control_group_dirs("0::/\n"), ["/sys/fs/cgroup"]);
        assert_eq!(control_group_dirs(""), ["/sys/fs/cgroup"]);
    }

    #[test]
    fn this_machine_has_memory_files_and_cpus() {
        let found = this_machine();
        assert!(found.memory_bytes.is_some_and(|bytes| bytes > 1 << 20));
        assert!(found.open_files.is_some_and(|files| files > 2));
        assert!(found.cpus.is_some_and(|cpus| cpus > 0));
        assert!(free_memory_bytes() <= found.memory_bytes);
    }
}
