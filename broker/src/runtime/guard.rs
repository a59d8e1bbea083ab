//! What guards a broker: the lock on its data directory, and the end of the process when a core panics.

use std::fs::{self, File, TryLockError};
use std::io;
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
        create_durably(data_dir).map_err(failed)?;
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

/// Makes a directory and those above it that are missing, so that a power loss does not take their names.
fn create_durably(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.exists())
        .collect();
    fs::create_dir_all(path)?;
    for made in missing {
        let parent = match made.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(parent)?.sync_all()?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    const CHILD: &str = "CORELANE_TEST_PANICKING_CORE";

    /// In a process of its own, which is this test again.
    #[test]
    fn a_panic_on_a_core_ends_the_process_loudly() {
        if std::env::var_os(CHILD).is_some() {
            let core = std::thread::spawn(|| {
                let _guard = AbortOnPanic { core: 3 };
                panic!("an invariant is broken");
            });
            let _ = core.join();
            return;
        }
        let test = std::env::current_exe().expect("a test binary");
        let output = Command::new(test)
            .args(["--exact", "--nocapture"])
            .arg("runtime::guard::tests::a_panic_on_a_core_ends_the_process_loudly")
            .env(CHILD, "1")
            .output()
            .expect("it starts");
        assert_eq!(output.status.signal(), Some(libc::SIGABRT));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("an invariant is broken"), "{said}");
        assert!(said.contains("core 3 panicked"), "{said}");
    }

    #[test]
    fn a_lock_is_given_back_with_its_holder() {
        let dir = tempfile::tempdir().expect("a directory");
        let data_dir = dir.path().join("made/when/missing");
        let lock = DirectoryLock::acquire(&data_dir).expect("free");
        assert!(matches!(
            DirectoryLock::acquire(&data_dir),
            Err(StartError::Locked { .. })
        ));
        drop(lock);
        assert!(DirectoryLock::acquire(&data_dir).is_ok());
    }
}
