//! What the data directory and its filesystem can do, found by writing one small file that has no name.

use std::fs::{self, File, TryLockError};
use std::io::{self, IoSlice};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corelane_storage::directory::{self, DIRECTORY_FILE};
use corelane_storage::disk::BLOCK_BYTES;
use corelane_storage::memory::AlignedBuf;
use rustix::fs::{OFlags, statfs};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};

use crate::command::data_dir::foreign_entry;

/// Durable writes that are tried.
const WRITES: u64 = 16;

/// A data directory, or the place where one would be made.
#[derive(Clone, Debug)]
pub(super) struct DirectoryFacts {
    /// Where it is.
    pub(super) path: PathBuf,
    /// The directory above that exists, if this one does not yet.
    pub(super) parent: Option<PathBuf>,
    /// The stores of a directory that a broker has made.
    pub(super) stores: Option<u16>,
    /// Bytes of its journals.
    pub(super) journal_bytes: u64,
    /// Something else in a directory that no broker has made.
    pub(super) foreign: Option<String>,
    /// Whether a broker is using it, and the process it named.
    pub(super) user: Option<String>,
    /// The filesystem's number, as `statfs` gives it.
    pub(super) filesystem: u64,
    /// Bytes that this user may still take.
    pub(super) free_bytes: u64,
    /// Whether files can still be made there.
    pub(super) has_inodes: bool,
    /// Whether files can bypass the page cache.
    pub(super) is_direct: bool,
    /// The median of some durable writes, or why there are none.
    pub(super) durable_write: Result<Duration, String>,
}

/// Looks at a data directory.
///
/// # Errors
/// Why it cannot be used, in words.
pub(super) fn look(path: &Path) -> Result<DirectoryFacts, String> {
    let path = &std::path::absolute(path).map_err(|error| error.to_string())?;
    let existing = existing(path)?;
    let said = |what: &str, error: io::Error| format!("{}: {what}: {error}", existing.display());
    let status = statfs(&existing).map_err(|error| said("cannot be looked at", error.into()))?;
    let (file, is_direct) =
        probe_file(&existing).map_err(|error| said("a file cannot be made there", error))?;
    Ok(DirectoryFacts {
        path: path.to_owned(),
        parent: (existing != *path).then(|| existing.clone()),
        stores: stores(path),
        journal_bytes: journal_bytes(path),
        foreign: foreign_entry(path),
        user: user(path),
        filesystem: status.f_type as u64,
        free_bytes: status.f_bavail.saturating_mul(status.f_bsize as u64),
        // Filesystems that make inodes as they need them say that they have none at all.
        has_inodes: status.f_files == 0 || status.f_ffree > 0,
        is_direct,
        durable_write: durable_write(&file).map_err(|error| error.to_string()),
    })
}

/// The nearest directory that exists.
fn existing(path: &Path) -> Result<PathBuf, String> {
    let mut ancestors = path.ancestors();
    let found = ancestors.find(|ancestor| !ancestor.as_os_str().is_empty() && ancestor.exists());
    let found = found.unwrap_or(Path::new("."));
    if found.is_dir() {
        Ok(found.to_owned())
    } else {
        Err(format!("{} is no directory", found.display()))
    }
}

/// A file without a name, and whether it bypasses the page cache.
fn probe_file(directory: &Path) -> io::Result<(File, bool)> {
    let path = directory.join(format!(".corelane-doctor-{}", std::process::id()));
    let open = |flags: OFlags| {
        let opened = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .custom_flags(flags.bits() as i32)
            .open(&path);
        // Some filesystems make the file before they refuse the flag.
        match (opened, fs::remove_file(&path)) {
            (Ok(_), Err(error)) => Err(error),
            (opened, _) => opened,
        }
    };
    match open(OFlags::DIRECT) {
        // Taking the flag is not enough: some refuse the write.
        Ok(file) => match write_block(&file, 0, ReadWriteFlags::empty()) {
            Ok(()) => Ok((file, true)),
            Err(Errno::INVAL) => Ok((open(OFlags::empty())?, false)),
            Err(error) => Err(error.into()),
        },
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            Ok((open(OFlags::empty())?, false))
        }
        Err(error) => Err(error),
    }
}

fn write_block(file: &File, position: u64, flags: ReadWriteFlags) -> Result<(), Errno> {
    let block = AlignedBuf::zeroed(BLOCK_BYTES);
    match pwritev2(file, &[IoSlice::new(&block)], position, flags)? {
        BLOCK_BYTES => Ok(()),
        _ => Err(Errno::NOSPC),
    }
}

/// The median of durable writes to room that was written before, as a journal's is.
#[expect(
    clippy::disallowed_methods,
    reason = "how long the device takes is what is asked"
)]
fn durable_write(file: &File) -> Result<Duration, Errno> {
    for number in 0..WRITES {
        write_block(file, number * BLOCK_BYTES as u64, ReadWriteFlags::empty())?;
    }
    rustix::fs::fdatasync(file)?;
    let mut times = Vec::new();
    for number in 0..WRITES {
        let started = Instant::now();
        write_block(file, number * BLOCK_BYTES as u64, ReadWriteFlags::DSYNC)?;
        times.push(started.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

fn stores(path: &Path) -> Option<u16> {
    let bytes = fs::read(path.join(DIRECTORY_FILE)).ok()?;
    let (identity, is_ready) = directory::decode(&bytes).ok()?;
    is_ready.then_some(identity.stores)
}

fn journal_bytes(path: &Path) -> u64 {
    let entries = |path: &Path, start: &'static str| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.filter(move |entry| entry.file_name().to_string_lossy().starts_with(start))
    };
    entries(path, "store-")
        .flat_map(|store| entries(&store.path(), "journal-"))
        .filter_map(|file| Some(file.metadata().ok()?.len()))
        .sum()
}

/// The broker that holds the directory's lock.
fn user(path: &Path) -> Option<String> {
    let path = path.join("LOCK");
    let file = File::open(&path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            Some(format!("process {}", holder.trim()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_leaves_nothing_behind() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let data = directory.path().join("not/there/yet");
        let facts = look(&data).unwrap();
        assert_eq!(facts.path, data);
        assert_eq!(facts.parent.as_deref(), Some(directory.path()));
        assert_eq!((facts.stores, facts.user), (None, None));
        assert!(facts.durable_write.unwrap() > Duration::ZERO);
        assert!(facts.free_bytes > 0 && facts.has_inodes);
        let left = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 0);

        fs::write(directory.path().join("file"), "x").unwrap();
        let problem = look(&directory.path().join("file/data")).unwrap_err();
        assert!(problem.ends_with("file is no directory"), "{problem}");
    }

    #[test]
    fn a_directory_in_use_names_its_user() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        fs::write(directory.path().join("LOCK"), "4711\n").unwrap();
        assert_eq!(look(directory.path()).unwrap().user, None);
        let lock = File::open(directory.path().join("LOCK")).unwrap();
        lock.try_lock().unwrap();
        assert_eq!(
            look(directory.path()).unwrap().user.as_deref(),
            Some("process 4711")
        );
    }
}
