//! The process's limit of open files: raised to what is allowed, since each connection takes one.
#![expect(unsafe_code, reason = "std has no call for resource limits")]

/// Raises the soft limit to the hard one, and returns it. Nothing is reported: accepting says so if it is short.
pub(super) fn raise_limit() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the call writes to `limit` only.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return 0;
    }
    let raised = libc::rlimit {
        rlim_cur: limit.rlim_max,
        ..limit
    };
    // SAFETY: the call reads `raised` only.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
        raised.rlim_cur
    } else {
        limit.rlim_cur
    }
}
