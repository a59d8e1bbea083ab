//! What guards a broker: the lock on its data directory, and the end of the process when a core panics.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::StartError;

/// The file whose lock says that a broker uses the directory.
const LOCK_FILE: &str = "LOCK";

/// How long a start waits for a lock whose holder is dead, and how often it looks.
const DEAD_HOLDER_PATIENCE: Duration = Duration::from_secs(10);
const DEAD_HOLDER_PAUSE: Duration = Duration::from_millis(5);

/// Holds the data directory for this process; the kernel gives it back when the process ends, however it ends.
///
/// The lock belongs to the open file, not to the process. Every core's ring holds that file too
/// (`Ring::hold`), because a killed process's writes may still be on their way to the disk when its parent
/// learns of its death: the lock is free only after the last of them has ended, so that none can land on
/// what a new broker writes.
pub(super) struct DirectoryLock {
    file: Arc<File>,
}

impl DirectoryLock {
    /// Makes the directory if it is not there, and locks it. Waits a while for a holder that is dead.
    pub(super) fn acquire(data_dir: &Path) -> Result<Self, StartError> {
        let failed = |source| StartError::DataDirectory {
            path: data_dir.to_owned(),
            source,
        };
        create_durably(data_dir).map_err(failed)?;
        let file = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(data_dir.join(LOCK_FILE))
            .map_err(failed)?;
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(source)) => return Err(failed(source)),
                Err(TryLockError::WouldBlock) => {
                    if waited >= DEAD_HOLDER_PATIENCE || holder_is_alive(&file) {
                        return Err(StartError::Locked {
                            path: data_dir.to_owned(),
                        });
                    }
                }
            }
            if waited.is_zero() {
                tracing::info!("waiting for the last writes of a broker that was killed");
            }
            std::thread::sleep(DEAD_HOLDER_PAUSE);
            waited += DEAD_HOLDER_PAUSE;
        }
        // The lock is what counts. Without the number, somebody who comes too early waits in vain.
        if let Err(error) = write_holder(&file) {
            tracing::warn!(%error, "the number of this process could not be written into {LOCK_FILE}");
        }
        Ok(Self {
            file: Arc::new(file),
        })
    }

    /// The open file that the lock belongs to.
    pub(super) fn file(&self) -> Arc<File> {
        self.file.clone()
    }
}

/// Leaves this process's number in the lock file, for `holder_is_alive` and for people.
fn write_holder(file: &File) -> io::Result<()> {
    let text = format!("{}\n", std::process::id());
    // In this order the file keeps its block, of which a full disk has no other.
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)
}

/// Whether the process that holds the lock still runs, as far as can be told. Where the number in the file
/// belongs to another process by now, the answer is a wrong yes, and the start is refused as ever.
fn holder_is_alive(file: &File) -> bool {
    let mut text = [0; 16];
    let length = file.read_at(&mut text, 0).unwrap_or(0);
    let holder = str::from_utf8(&text[..length])
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok());
    let Some(holder) = holder else { return true };
    let Ok(status) = fs::read_to_string(format!("/proc/{holder}/stat")) else {
        return false;
    };
    // "pid (name) state …", where the name may hold anything.
    let state = status
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest.trim_start());
    !state.starts_with(['Z', 'X'])
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

    #[test]
    fn a_start_waits_for_the_last_writes_of_a_dead_holder() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut child = Command::new("true").spawn().expect("it starts");
        let dead = child.id();
        child.wait().expect("it ends");
        let lock = DirectoryLock::acquire(dir.path()).expect("free");
        // As if `dead` had been killed, and the kernel still held its file for a write in flight.
        let held = lock.file();
        held.set_len(0).expect("writable");
        held.write_all_at(format!("{dead}\n").as_bytes(), 0)
            .expect("writable");
        drop(lock);
        let release = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(held);
        });
        assert!(DirectoryLock::acquire(dir.path()).is_ok());
        release.join().expect("it ends");
    }
}
