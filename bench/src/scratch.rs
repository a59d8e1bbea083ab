//! A directory for measurements, on a disk and not in memory, that goes away afterwards.

use std::env;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use corelane_storage::memory::AlignedBuf;
use tempfile::TempDir;

use crate::BenchError;

/// Bytes of one write while a file is being written before it is measured.
const STEP_BYTES: usize = 4 << 20;

/// Where data goes unless somebody says: `TMPDIR`, and otherwise `/var/tmp`, which is on a disk where `/tmp` may be memory,
/// on which durability would be measured for nothing.
#[must_use]
pub fn parent() -> PathBuf {
    env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

/// Makes a directory in `parent`; without one where [`parent()`] says.
///
/// # Errors
/// It cannot be made.
pub fn directory(parent: Option<&Path>) -> Result<TempDir, BenchError> {
    let parent = parent.map_or_else(self::parent, PathBuf::from);
    let made = tempfile::Builder::new()
        .prefix("corelane-bench-")
        .tempdir_in(&parent);
    made.map_err(BenchError::file("make a directory in", &parent))
}

/// Opens a file for direct reads and writes, and makes it if it is missing.
///
/// # Errors
/// Among others where the filesystem has no direct I/O, as tmpfs on older kernels.
pub fn open_direct(path: &Path) -> Result<File, BenchError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let opened = options.custom_flags(libc::O_DIRECT).open(path);
    opened.map_err(BenchError::file("open for direct I/O", path))
}

/// A file of `bytes` bytes that were all written and flushed once.
///
/// # Errors
/// The disk is full, or refuses.
pub fn written(path: &Path, bytes: u64) -> Result<File, BenchError> {
    let file = reserved(path, bytes)?;
    let mut block = AlignedBuf::zeroed(STEP_BYTES);
    block.fill(0x5a);
    let mut at = 0;
    while at < bytes {
        let step = (bytes - at).min(STEP_BYTES as u64) as usize;
        let wrote = file.write_all_at(&block[..step], at);
        wrote.map_err(BenchError::file("write", path))?;
        at += step as u64;
    }
    file.sync_all().map_err(BenchError::file("flush", path))?;
    Ok(file)
}

/// A file that has room for `bytes` bytes, none of which was ever written.
///
/// # Errors
/// The disk is full, or the filesystem cannot reserve.
pub fn reserved(path: &Path, bytes: u64) -> Result<File, BenchError> {
    let file = open_direct(path)?;
    allocate(&file, bytes).map_err(BenchError::file("reserve room for", path))?;
    file.sync_all().map_err(BenchError::file("flush", path))?;
    Ok(file)
}

#[expect(unsafe_code, reason = "std does not wrap fallocate")]
fn allocate(file: &File, bytes: u64) -> std::io::Result<()> {
    // SAFETY: a call on a descriptor that is open, without pointers.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes as libc::off_t) };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Bytes that an unprivileged user may still write to the filesystem of `directory`, from `df`.
///
/// # Errors
/// `df` is missing or says nothing.
pub fn free_bytes(directory: &Path) -> Result<u64, BenchError> {
    let mut command = std::process::Command::new("df");
    command
        .args(["--output=avail", "--block-size=1"])
        .arg(directory);
    let output = command.output().map_err(BenchError::io("cannot run df"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let bytes = text
        .lines()
        .nth(1)
        .and_then(|line| line.trim().parse().ok());
    bytes.ok_or_else(|| {
        let _ = std::io::stderr().write_all(&output.stderr);
        BenchError::Protocol("df does not say how much room there is".into())
    })
}
