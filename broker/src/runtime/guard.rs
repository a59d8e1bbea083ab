//! What guards a broker: the lock on its data directory, and the end of the process when a core panics.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use super::StartError;

/// The file whose lock says that a broker uses the directory.
const LOCK_FILE: &str = "LOCK";

/// Holds the data directory for this process; the kernel gives it back when the process ends, however it ends.
pub(super) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Makes the directory if it is not there, and locks it.
    pub(super) fn acquire(data_dir: &Path) -> Result<Self, StartError> {
        let failed = |source| StartError::DataDirectory {
            path: data_dir.to_owned(),
            source,
        };
        fs::create_dir_all(data_dir).map_err(failed)?;
        let file = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(data_dir.join(LOCK_FILE))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StartError::Locked {
                path: data_dir.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

/// Ends the process if its thread panics. A core that is gone leaves requests of other cores unanswered for
/// ever and its stores in an unknown state; a restart recovers, half a broker does not.
pub(super) struct AbortOnPanic {
    pub(super) core: usize,
}

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(core = self.core, "a core panicked; the broker ends");
            eprintln!(
                "corelane: core {} panicked (see above); the broker ends now and recovers when it is started again",
                self.core
            );
            std::process::abort();
        }
    }
}
