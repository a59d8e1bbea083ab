//! What a core's thread begins with: glommio's executor, and the core's ring on it.
//!
//! Owns how both are made, and the patience with memory that the kernel has not given back yet.

use std::io;
use std::time::Duration;

use corelane_storage::ring::{Features, PREEMPT_TIMER, ProbeError, Ring, RingConfig};
use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement, ReactorErrorKind};

use super::StartError;

/// What glommio keeps for its own direct I/O, which is never used: as little as it takes. It counts against
/// the limit of locked memory.
const GLOMMIO_IO_BYTES: usize = 64 * 1024;

/// Locked memory of a broker that was killed a moment ago is given back some ms after its process is gone. A
/// start that comes at once tries again so often, so long apart.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// The executor of a core, on the thread that it is to run on.
pub(super) fn make(core: usize, cpu: usize) -> Result<LocalExecutor, StartError> {
    let attempt = || {
        LocalExecutorBuilder::new(Placement::Fixed(cpu))
            .name("core")
            .preempt_timer(PREEMPT_TIMER)
            .io_memory(GLOMMIO_IO_BYTES)
            .make()
            .map_err(|error| explain(core, error))
    };
    patiently(attempt)
}

/// The ring of a core, on its executor. May block the thread, which has nothing else to do yet.
pub(super) fn start_ring(core: usize, features: &Features) -> Result<Ring, StartError> {
    patiently(|| {
        Ring::start(RingConfig::default(), features).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOMEM) => ProbeError::LockedMemory.into(),
            _ => failed(core, &error),
        })
    })
}

/// Repeats what fails for want of locked memory.
pub(super) fn patiently<T, E: IsOutOfMemory>(
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    for _ in 1..TRIES {
        match attempt() {
            Err(error) if error.is_out_of_memory() => std::thread::sleep(PAUSE),
            result => return result,
        }
    }
    attempt()
}

/// Whether more locked memory would help.
pub(super) trait IsOutOfMemory {
    fn is_out_of_memory(&self) -> bool;
}

impl IsOutOfMemory for ProbeError {
    fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::LockedMemory)
    }
}

impl IsOutOfMemory for StartError {
    fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Kernel(ProbeError::LockedMemory))
    }
}

fn explain(core: usize, error: GlommioError<()>) -> StartError {
    if let GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(..)) = error {
        return ProbeError::LockedMemory.into();
    }
    let error = io::Error::from(error);
    let is_memory = error.raw_os_error() == Some(libc::ENOMEM)
        || error.kind() == io::ErrorKind::OutOfMemory
        || error.to_string().contains("MemLockLimit");
    if is_memory {
        return ProbeError::LockedMemory.into();
    }
    failed(core, &error)
}

fn failed(core: usize, error: &io::Error) -> StartError {
    StartError::Core {
        core,
        problem: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_comes_back_is_waited_for() {
        let mut attempts = 0;
        let made = patiently(|| {
            attempts += 1;
            if attempts < 3 {
                Err(ProbeError::LockedMemory)
            } else {
                Ok(attempts)
            }
        });
        assert_eq!(made.expect("it came back"), 3);
    }

    #[test]
    fn other_failures_are_told_at_once() {
        let mut attempts = 0;
        let refused = patiently(|| -> Result<(), _> {
            attempts += 1;
            Err(ProbeError::NotPermitted)
        });
        assert!(refused.is_err());
        assert_eq!(attempts, 1);
    }

    #[test]
    fn glommios_complaint_about_locked_memory_is_ours() {
        let complaint = GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(1, 2));
        let text = explain(0, complaint).to_string();
        assert!(text.contains("ulimit -l"), "{text}");
    }
}
