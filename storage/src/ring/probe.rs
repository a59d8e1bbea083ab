//! What the running kernel can do, asked before anything depends on it.
//!
//! Owns the list of what is needed, and of what is missed only in speed, each with a name and what to
//! change. Never guesses from a version number: it tries. Runs once, on the thread that starts the broker.

use std::fmt;
use std::io;
use std::time::Duration;

use io_uring::{IoUring, Probe, opcode, types};
use thiserror::Error;

use super::buffers::{BufferConfig, BufferPool};
use super::slots::MESSAGE;

/// The oldest Linux that has what cannot be done without.
pub const LEAST_KERNEL: &str = "6.1";

/// What the kernel has beyond the least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features {
    /// Receive buffers that are filled piece by piece. Linux 6.12.
    pub incremental_buffers: bool,
    /// A wait for several completions that is bounded after the first. Linux 6.12.
    pub minimum_wait: bool,
    /// Messages from ring to ring.
    pub message_ring: bool,
    /// Truncation through the ring. Linux 6.9.
    pub truncate: bool,
}

impl Features {
    /// What each missing feature means, in a sentence for the log. Empty on a kernel that has them all.
    #[must_use]
    pub fn fallbacks(&self) -> Vec<&'static str> {
        let mut fallbacks = Vec::new();
        if !self.incremental_buffers {
            fallbacks.push(
                "incremental receive buffers (Linux 6.12) are missing: every arrival takes a whole buffer",
            );
        }
        if !self.minimum_wait {
            fallbacks.push(
                "the minimum wait (Linux 6.12) is missing: completions are not gathered, small requests cost more CPU",
            );
        }
        if !self.message_ring {
            fallbacks.push(
                "messages between rings do not work: cores wake each other by eventfd, forwarded requests take longer",
            );
        }
        if !self.truncate {
            fallbacks.push(
                "truncation through the ring (Linux 6.9) is missing: a helper thread does it",
            );
        }
        fallbacks
    }
}

/// Why the broker cannot run on this kernel, and what to change.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// `EPERM`.
    #[error(
        "io_uring is not permitted: set the sysctl kernel.io_uring_disabled to 0, or in a container allow \
         io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile"
    )]
    NotPermitted,
    /// `ENOSYS`.
    #[error(
        "io_uring is missing: the kernel was built without it, or a container's seccomp profile hides \
         io_uring_setup, io_uring_enter and io_uring_register"
    )]
    Missing,
    /// `EINVAL`.
    #[error("Linux {running} is too old: {LEAST_KERNEL} or newer is needed ({what})")]
    TooOld {
        /// The running kernel.
        running: KernelVersion,
        /// What it lacks.
        what: &'static str,
    },
    /// `ENOMEM`.
    #[error(
        "the limit of locked memory is too small for io_uring: raise it (ulimit -l, or LimitMEMLOCK= of the service)"
    )]
    LockedMemory,
    /// Anything else.
    #[error("io_uring does not start: {0}")]
    Other(#[source] io::Error),
}

/// A kernel's version as it names itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelVersion(String);

impl KernelVersion {
    /// That of the running kernel.
    #[must_use]
    pub fn running() -> Self {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
        Self(release.map_or_else(
            |_| "of an unknown version".to_owned(),
            |release| release.trim().to_owned(),
        ))
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The operations that there is no substitute for.
const OPERATIONS: [(u8, &str); 17] = [
    (opcode::Accept::CODE, "accept"),
    (opcode::Recv::CODE, "recv"),
    (opcode::Send::CODE, "send"),
    (opcode::SendMsg::CODE, "sendmsg"),
    (opcode::Read::CODE, "read"),
    (opcode::Write::CODE, "write"),
    (opcode::Writev::CODE, "writev"),
    (opcode::Fsync::CODE, "fsync"),
    (opcode::Fallocate::CODE, "fallocate"),
    (opcode::OpenAt::CODE, "openat"),
    (opcode::Close::CODE, "close"),
    (opcode::Statx::CODE, "statx"),
    (opcode::UnlinkAt::CODE, "unlinkat"),
    (opcode::MkDirAt::CODE, "mkdirat"),
    (opcode::RenameAt::CODE, "renameat"),
    (opcode::Timeout::CODE, "timeout"),
    (opcode::AsyncCancel::CODE, "async_cancel"),
];

/// What there is a substitute for, by name.
pub const SUBSTITUTED: [&str; 4] = [INCREMENTAL_BUFFERS, MINIMUM_WAIT, MESSAGE_RING, TRUNCATE];
const INCREMENTAL_BUFFERS: &str = "incremental buffers";
const MINIMUM_WAIT: &str = "minimum wait";
const MESSAGE_RING: &str = "msg_ring";
const TRUNCATE: &str = "ftruncate";

/// The operations that there is no substitute for, by name, and whether the kernel has each.
///
/// # Errors
/// `ProbeError` if there is no ring to ask.
pub fn operations() -> Result<Vec<(&'static str, bool)>, ProbeError> {
    let there = ask(&small_ring()?)?;
    let operations = OPERATIONS.iter();
    Ok(operations
        .map(|(code, name)| (*name, there.is_supported(*code)))
        .collect())
}

/// Tries what a core's ring needs.
///
/// # Errors
/// `ProbeError`, whose text says what to change.
pub fn probe() -> Result<Features, ProbeError> {
    probe_without(&[])
}

/// As `probe`, and as if the kernel lacked these as well, by the names of [`operations`] and [`SUBSTITUTED`]:
/// what happens on an older kernel can be tried on any.
///
/// # Errors
/// `ProbeError`, whose text says what to change.
pub fn probe_without(missing: &[&str]) -> Result<Features, ProbeError> {
    let mut ring = small_ring()?;
    let operations = ask(&ring)?;
    let may_use = |name: &str| !missing.contains(&name);
    for (code, name) in OPERATIONS {
        if !operations.is_supported(code) || !may_use(name) {
            return Err(too_old(name));
        }
    }
    turn(&mut ring)?;
    let plain = BufferConfig {
        count: 1,
        bytes: 4096,
        incremental: false,
    };
    let incremental = BufferConfig {
        incremental: true,
        ..plain
    };
    let incremental_buffers =
        may_use(INCREMENTAL_BUFFERS) && BufferPool::register(&ring, incremental).is_ok();
    if !incremental_buffers {
        BufferPool::register(&ring, plain)
            .map_err(|error| classify(error, "provided buffer rings"))?;
    }
    let message_ring = may_use(MESSAGE_RING)
        && operations.is_supported(opcode::MsgRingData::CODE)
        && message_arrives(&mut ring, &mut small_ring()?);
    Ok(Features {
        incremental_buffers,
        minimum_wait: may_use(MINIMUM_WAIT) && ring.params().is_feature_min_timeout(),
        message_ring,
        truncate: may_use(TRUNCATE) && operations.is_supported(opcode::Ftruncate::CODE),
    })
}

fn small_ring() -> Result<IoUring, ProbeError> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all();
    builder
        .build(8)
        .map_err(|error| classify(error, "the flags SINGLE_ISSUER and DEFER_TASKRUN"))
}

/// Asks the kernel for its operations.
fn ask(ring: &IoUring) -> Result<Probe, ProbeError> {
    let mut operations = Probe::new();
    ring.submitter()
        .register_probe(&mut operations)
        .map_err(|error| classify(error, "it cannot list its operations"))?;
    Ok(operations)
}

/// Lets the kernel do something: it may permit to make a ring, and not to enter it.
fn turn(ring: &mut IoUring) -> Result<(), ProbeError> {
    let entry = opcode::Nop::new().build();
    // SAFETY: the entry refers to no memory.
    let pushed = unsafe { ring.submission().push(&entry) };
    pushed.expect("a fresh queue has room");
    ring.submit_and_wait(1)
        .map_err(|error| classify(error, "it does not take operations"))?;
    let completed = ring.completion().count();
    debug_assert_eq!(completed, 1, "what was waited for is there");
    Ok(())
}

/// Whether a message from one ring shows up in the other.
fn message_arrives(from: &mut IoUring, to: &mut IoUring) -> bool {
    use std::os::fd::AsRawFd;
    let entry = opcode::MsgRingData::new(types::Fd(to.as_raw_fd()), 0, MESSAGE, None).build();
    // SAFETY: the entry refers to no memory, and its descriptor stays open in this function.
    if unsafe { from.submission().push(&entry) }.is_err() {
        return false;
    }
    let patience = types::Timespec::from(Duration::from_secs(1));
    let arguments = types::SubmitArgs::new().timespec(&patience);
    let sent = from.submitter().submit_with_args(1, &arguments).is_ok()
        && from.completion().all(|sent| sent.result() == 0);
    sent && to.submitter().submit_with_args(1, &arguments).is_ok()
        && to
            .completion()
            .any(|message| message.user_data() == MESSAGE)
}

fn classify(error: io::Error, what: &'static str) -> ProbeError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => ProbeError::NotPermitted,
        Some(libc::ENOSYS) => ProbeError::Missing,
        Some(libc::EINVAL) => too_old(what),
        Some(libc::ENOMEM) => ProbeError::LockedMemory,
        _ => ProbeError::Other(error),
    }
}

fn too_old(what: &'static str) -> ProbeError {
    ProbeError::TooOld {
        running: KernelVersion::running(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_says_what_to_change() {
        let refuse = |code| classify(io::Error::from_raw_os_error(code), "something").to_string();
        assert!(refuse(libc::EPERM).contains("kernel.io_uring_disabled"));
        assert!(refuse(libc::ENOSYS).contains("seccomp"));
        assert!(refuse(libc::EINVAL).contains(LEAST_KERNEL));
        assert!(refuse(libc::ENOMEM).contains("ulimit -l"));
    }

    #[test]
    fn a_kernel_without_extras_gets_a_sentence_for_each() {
        let features = Features {
            incremental_buffers: false,
            minimum_wait: false,
            message_ring: false,
            truncate: false,
        };
        assert_eq!(features.fallbacks().len(), 4);
    }

    #[test]
    fn this_kernel_is_accepted() {
        let operations = operations().expect("the tests run on Linux with io_uring");
        assert!(operations.iter().all(|(_, is_there)| *is_there));
        let features = probe().expect("the tests run on Linux 6.1 or newer with io_uring");
        assert!(features.fallbacks().len() <= 4);
    }
}
