//! What the machine says, as plain data. Never judges.
#![expect(
    unsafe_code,
    reason = "no library has a safe call for the clock's state"
)]

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};

use corelane_broker::config::BrokerConfig;
use corelane_broker::runtime::free_memory_bytes;
use corelane_storage::ring::{self, KernelVersion, ProbeError};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};

use super::directory::{self, DirectoryFacts};

/// Everything that is asked of the machine.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The kernel's release.
    pub(super) kernel: String,
    pub(super) ring: RingFacts,
    /// The sysctl `kernel.io_uring_disabled`, where the kernel has it.
    pub(super) io_uring_disabled: Option<u32>,
    /// Whether system calls of this process are filtered, as in most containers.
    pub(super) has_seccomp_filter: bool,
    /// The soft limit of locked memory in bytes; `None`: unlimited.
    pub(super) memlock_bytes: Option<u64>,
    /// The hard limit of open files; `None`: unlimited.
    pub(super) open_files: Option<u64>,
    /// The CPUs that this process may run on: affinity and cpuset.
    pub(super) cpus: Vec<usize>,
    /// How many CPUs' time it gets, after quotas.
    pub(super) parallelism: usize,
    /// Memory that is free for a new process, in bytes.
    pub(super) memory_bytes: Option<u64>,
    /// The data directory, or why it cannot be used.
    pub(super) directory: Result<DirectoryFacts, String>,
    /// Whether the bootstrap address can be bound.
    pub(super) listen: Result<(), ListenFault>,
    /// Whether the address of metrics and health can be bound; nothing if it is off.
    pub(super) admin: Option<Result<(), ListenFault>>,
    /// Whether the clock is synchronised; the error if that cannot be asked.
    pub(super) clock: Result<bool, String>,
    /// The chosen word of `transparent_hugepage/enabled`, where the kernel has it.
    pub(super) huge_pages: Option<String>,
}

/// What became of an io_uring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RingFacts {
    /// It works.
    Works {
        /// The operations that are needed, and whether each is there.
        operations: Vec<(&'static str, bool)>,
        /// What is missing beyond the least, a sentence each.
        fallbacks: Vec<&'static str>,
    },
    /// It works, and something that is needed is missing: the probe's words.
    Lacks {
        operations: Vec<(&'static str, bool)>,
        problem: String,
    },
    /// It is forbidden.
    NotPermitted,
    /// There is none: the probe's words.
    Unusable(String),
}

/// Why an address cannot be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ListenFault {
    InUse,
    /// The port is below `ip_unprivileged_port_start`.
    NotPermitted,
    /// It is no address of this machine.
    NotHere,
    Other(String),
}

/// Asks the machine.
pub(super) fn gather(config: &BrokerConfig) -> Facts {
    Facts {
        kernel: KernelVersion::running().to_string(),
        ring: ring_facts(),
        io_uring_disabled: read("/proc/sys/kernel/io_uring_disabled")
            .and_then(|text| text.trim().parse().ok()),
        has_seccomp_filter: field("/proc/self/status", "Seccomp:").is_some_and(|mode| mode == "2"),
        memlock_bytes: getrlimit(Resource::Memlock).current,
        open_files: getrlimit(Resource::Nofile).maximum,
        cpus: cpus(),
        parallelism: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: free_memory_bytes(),
        directory: directory::look(&config.server.data_dir),
        listen: listen(config.server.listen),
        admin: config.admin.listen.map(bind),
        clock: clock(),
        huge_pages: read("/sys/kernel/mm/transparent_hugepage/enabled")
            .and_then(|text| Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())),
    }
}

fn ring_facts() -> RingFacts {
    let operations = match ring::operations() {
        Ok(operations) => operations,
        Err(ProbeError::NotPermitted) => return RingFacts::NotPermitted,
        Err(error) => return RingFacts::Unusable(error.to_string()),
    };
    match ring::probe() {
        Ok(features) => RingFacts::Works {
            operations,
            fallbacks: features.fallbacks(),
        },
        Err(error) => RingFacts::Lacks {
            operations,
            problem: error.to_string(),
        },
    }
}

fn cpus() -> Vec<usize> {
    match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU)
            .filter(|cpu| set.is_set(*cpu))
            .collect(),
        // More CPUs than the set has room for: their number is what counts here.
        Err(_) => (0..std::thread::available_parallelism().map_or(1, usize::from)).collect(),
    }
}

fn listen(address: SocketAddr) -> Result<(), ListenFault> {
    bind(address)?;
    // Each core takes any free port besides.
    bind(SocketAddr::new(address.ip(), 0))
}

fn bind(address: SocketAddr) -> Result<(), ListenFault> {
    let bound = TcpListener::bind(address).map(drop);
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => ListenFault::InUse,
        io::ErrorKind::PermissionDenied => ListenFault::NotPermitted,
        io::ErrorKind::AddrNotAvailable => ListenFault::NotHere,
        _ => ListenFault::Other(error.to_string()),
    })
}

fn clock() -> Result<bool, String> {
    // SAFETY: all zeros is a `timex`; no mode is set, so that nothing is adjusted.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes to `state` only.
    if unsafe { libc::adjtimex(&raw mut state) } < 0 {
        return Err(io::Error::last_os_error().to_string());
    }
    Ok(state.status & libc::STA_UNSYNC == 0)
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// What follows a name at the beginning of a line.
fn field(path: &str, name: &str) -> Option<String> {
    let text = read(path)?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().to_owned())
}
