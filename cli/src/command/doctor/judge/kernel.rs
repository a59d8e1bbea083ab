//! The kernel, its io_uring, and what limits them.

use corelane_storage::ring::LEAST_KERNEL;

use super::{Check, Facts, Size};
use crate::command::doctor::facts::RingFacts;
use crate::output::units;

/// glommio refuses to make an executor below this limit of locked memory, in bytes.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;
/// What the rings of one core register at most, in bytes; it counts against the limit of the user.
const MEMLOCK_BYTES_PER_CORE: u64 = 3 * 64 * 1024;

const RAISE_MEMLOCK: &str =
    "raise it: LimitMEMLOCK=infinity in the service's unit, or `ulimit -l unlimited` as root";

pub(super) fn version(facts: &Facts) -> Check {
    const NAME: &str = "kernel";
    let parse = |text: &str| {
        let mut numbers = text.split(|character: char| !character.is_ascii_digit());
        Some((
            numbers.next()?.parse::<u32>().ok()?,
            numbers.next()?.parse::<u32>().ok()?,
        ))
    };
    let least = parse(LEAST_KERNEL).expect("the least kernel is a version");
    match parse(&facts.kernel) {
        Some(version) if version >= least => Check::ok(
            NAME,
            format!("Linux {}; {LEAST_KERNEL} is the least", facts.kernel),
        ),
        Some(_) => Check::problem(
            NAME,
            format!("Linux {}; {LEAST_KERNEL} is the least", facts.kernel),
            "run a newer kernel: Debian 12, Ubuntu 24.04 and RHEL 10 have one",
        ),
        None => Check::warning(
            NAME,
            format!("Linux {}, which is no version", facts.kernel),
            format!("make sure that it is Linux {LEAST_KERNEL} or newer"),
        ),
    }
}

pub(super) fn io_uring(facts: &Facts) -> Check {
    const NAME: &str = "io_uring";
    match &facts.ring {
        RingFacts::Works { .. } | RingFacts::Lacks { .. } => Check::ok(NAME, "there and allowed"),
        RingFacts::Unusable(problem) => Check::problem(
            NAME,
            problem,
            "Corelane does all of its I/O with io_uring: nothing else can stand in",
        ),
        RingFacts::NotPermitted => match facts.io_uring_disabled {
            Some(2) => Check::problem(
                NAME,
                "forbidden for everybody: the sysctl kernel.io_uring_disabled is 2",
                "as root: sysctl -w kernel.io_uring_disabled=0, and the same in /etc/sysctl.d/ to keep it",
            ),
            Some(1) => Check::problem(
                NAME,
                "forbidden for this user: the sysctl kernel.io_uring_disabled is 1",
                "as root: sysctl -w kernel.io_uring_disabled=0, or put this user into the group whose number is \
                 kernel.io_uring_group",
            ),
            _ if facts.has_seccomp_filter => Check::problem(
                NAME,
                "forbidden by a seccomp filter, as containers have one",
                "allow io_uring_setup, io_uring_enter and io_uring_register in its profile (docker run \
                 --security-opt seccomp=PROFILE)",
            ),
            _ => Check::problem(
                NAME,
                "forbidden, neither by sysctl nor by seccomp",
                "look for a security module (SELinux, AppArmor) that refuses it: its log names the rule",
            ),
        },
    }
}

/// The operations; nothing where there is no ring to ask.
pub(super) fn operations(facts: &Facts) -> Option<Check> {
    const NAME: &str = "io_uring operations";
    const ADVICE: &str = "run a newer kernel; a filter or security module may also hide them";
    let (operations, problem) = match &facts.ring {
        RingFacts::Works { operations, .. } => (operations, None),
        RingFacts::Lacks {
            operations,
            problem,
        } => (operations, Some(problem)),
        RingFacts::NotPermitted | RingFacts::Unusable(_) => return None,
    };
    let names = |there: bool| {
        let of = operations
            .iter()
            .filter(move |(_, is_there)| *is_there == there);
        of.map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    };
    let missing = names(false);
    Some(match problem {
        _ if !missing.is_empty() => Check::problem(NAME, format!("missing: {missing}"), ADVICE),
        Some(problem) => Check::problem(NAME, problem, ADVICE),
        None => Check::ok(
            NAME,
            format!("all {} that are needed: {}", operations.len(), names(true)),
        ),
    })
}

pub(super) fn extras(facts: &Facts) -> Option<Check> {
    const NAME: &str = "io_uring extras";
    let RingFacts::Works { fallbacks, .. } = &facts.ring else {
        return None;
    };
    Some(if fallbacks.is_empty() {
        Check::ok(NAME, "all of them")
    } else {
        Check::warning(
            NAME,
            fallbacks.join("; "),
            "everything works without; a newer kernel is faster",
        )
    })
}

pub(super) fn locked_memory(facts: &Facts, size: Size) -> Check {
    const NAME: &str = "locked memory";
    let Some(limit) = facts.memlock_bytes else {
        return Check::ok(NAME, "no limit");
    };
    let wanted = MEMLOCK_BYTES_MIN.max(size.cores * MEMLOCK_BYTES_PER_CORE);
    let found = format!("the limit is {}", units::bytes(limit));
    if limit < MEMLOCK_BYTES_MIN {
        let found = format!("{found}; {} is the least", units::bytes(MEMLOCK_BYTES_MIN));
        Check::problem(NAME, found, RAISE_MEMLOCK)
    } else if limit < wanted {
        let found = format!(
            "{found}; the rings of {} cores may need {}",
            size.cores,
            units::bytes(wanted)
        );
        Check::warning(NAME, found, RAISE_MEMLOCK)
    } else {
        Check::ok(NAME, found)
    }
}

pub(super) fn huge_pages(facts: &Facts) -> Check {
    const NAME: &str = "huge pages";
    match facts.huge_pages.as_deref() {
        Some("always") => Check::warning(
            NAME,
            "transparent huge pages are always used: memory may grow, and the kernel may stall to make them",
            "as root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        Some(setting) => Check::ok(NAME, format!("transparent huge pages: {setting}")),
        None => Check::ok(NAME, "the kernel has no transparent huge pages"),
    }
}
