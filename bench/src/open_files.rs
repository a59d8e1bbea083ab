//! The limit of open files, which many connections need.
#![expect(unsafe_code, reason = "std has no call for resource limits")]

use crate::BenchError;

/// Room for `wanted` open files.
///
/// # Errors
/// The hard limit forbids it.
pub(crate) fn raise_limit(wanted: u64) -> Result<(), BenchError> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the call writes to `limit` only.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    if known && limit.rlim_cur >= wanted {
        return Ok(());
    }
    limit.rlim_cur = wanted;
    // SAFETY: the call reads `limit` only.
    let raised = known
        && wanted <= limit.rlim_max
        && unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0;
    if raised {
        return Ok(());
    }
    Err(BenchError::Settings(format!(
        "{wanted} open files are needed, and the hard limit is {}: raise it with ulimit -Hn",
        limit.rlim_max
    )))
}
