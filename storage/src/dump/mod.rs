//! `dump`: prints any file of a data directory, for people.
//!
//! Recognises a file by its magic, and prints as far as the file makes sense. Only reads, and shares no state
//! with a running broker. Called by the command line, on any thread.

mod block_log;
mod catalogue;
mod index;
mod journal;
mod rest;
mod segment;

use std::io::{self, Read, Seek, Write};

use crate::block_log::BLOCK_LOG_MAGIC;
use crate::directory::{self, DIRECTORY_MAGIC, DirectoryError};
use crate::disk::BLOCK_BYTES;
use crate::index::INDEX_MAGIC;
use crate::journal::JOURNAL_MAGIC;
use crate::segment::SEGMENT_MAGIC;
use rest::{Rest, rest_of};

/// Why a file could not be printed to its end.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// Reading or printing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is a `corelane.dir` that this release cannot read.
    #[error(transparent)]
    Directory(DirectoryError),
    /// It is none of ours.
    #[error("this is no file of a Corelane data directory: it begins with {0:02x?}")]
    Unknown([u8; 8]),
    /// It is damaged where printing ended.
    #[error("damaged at byte {position}: {what}")]
    Damaged {
        /// Where in the file, in bytes.
        position: u64,
        /// What is wrong there.
        what: &'static str,
    },
}

/// What a file can be printed from.
pub trait Input: Read + Seek {}

impl<T: Read + Seek> Input for T {}

/// Says a record in words, if it understands it.
pub type RecordWords<'a> = &'a dyn Fn(&[u8]) -> Option<String>;

/// Prints what `input` holds, a line for each part; the records of the cluster's metadata in hexadecimal.
///
/// # Errors
/// `DumpError`, after everything before the damage was printed.
pub fn dump(input: &mut dyn Input, out: &mut dyn Write) -> Result<(), DumpError> {
    dump_with(input, out, &|_| None)
}

/// Prints what `input` holds, a line for each part. The records of the cluster's metadata are not known here:
/// `metadata_words` says them.
///
/// A file that a broker is writing to may end in what is not written yet: it is said, and no error.
///
/// # Errors
/// `DumpError`, after everything before the damage was printed.
pub fn dump_with(
    input: &mut dyn Input,
    out: &mut dyn Write,
    metadata_words: RecordWords<'_>,
) -> Result<(), DumpError> {
    let start = read_at(input, 0, BLOCK_BYTES)?;
    let mut magic = [0; 8];
    let known = start.len().min(magic.len());
    magic[..known].copy_from_slice(&start[..known]);
    match magic {
        DIRECTORY_MAGIC => dump_directory(&start, out),
        BLOCK_LOG_MAGIC => block_log::dump(input, &start, out, metadata_words),
        JOURNAL_MAGIC => journal::dump(input, &start, out),
        SEGMENT_MAGIC => segment::dump(input, &start, out),
        INDEX_MAGIC => index::dump(input, out),
        _ => dump_zeros(input, magic, out),
    }
}

/// A journal or segment file is zeros before it is used, and a crash may leave of a new one no more than its name.
fn dump_zeros(input: &mut dyn Input, magic: [u8; 8], out: &mut dyn Write) -> Result<(), DumpError> {
    let Rest {
        written_end,
        file_end,
    } = rest_of(input, 0)?;
    if written_end > 0 {
        return Err(DumpError::Unknown(magic));
    }
    match file_end {
        0 => writeln!(out, "nothing is written yet: the file is empty")?,
        _ => writeln!(
            out,
            "nothing is written yet: {file_end} bytes, all of them zero"
        )?,
    }
    Ok(())
}

fn dump_directory(start: &[u8], out: &mut dyn Write) -> Result<(), DumpError> {
    let (identity, is_ready) = directory::decode(start).map_err(|error| match error {
        DirectoryError::Damaged { position, what } => DumpError::Damaged { position, what },
        error => DumpError::Directory(error),
    })?;
    let state = if is_ready { "ready" } else { "unfinished" };
    writeln!(
        out,
        "data directory: {state}, stores {}, directory {}, cluster {}",
        identity.stores, identity.directory, identity.cluster
    )?;
    Ok(())
}

/// `len` bytes at `position`; fewer at the end of the file.
fn read_at(input: &mut dyn Input, position: u64, len: usize) -> io::Result<Vec<u8>> {
    input.seek(io::SeekFrom::Start(position))?;
    let mut bytes = Vec::new();
    input.take(len as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Bytes in hexadecimal, shortened if there are many.
fn hex(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 64;
    let shown: String = bytes
        .iter()
        .take(SHOWN_MAX)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if bytes.len() > SHOWN_MAX {
        format!("{shown}… ({} bytes)", bytes.len())
    } else {
        shown
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use uuid::Uuid;

    use super::*;
    use crate::directory::{DIRECTORY_FILE, DirectoryIdentity};
    use crate::disk::memory::MemoryDisk;
    use crate::testing::Executor;

    #[test]
    fn the_identity_of_a_data_directory_is_printed() {
        let executor = Executor::new(1);
        let disk = MemoryDisk::new(&executor);
        let (cluster, directory) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let identity = DirectoryIdentity {
            cluster,
            directory,
            stores: 3,
        };
        executor
            .block_on(directory::open(&disk, identity))
            .expect("a new directory");
        let bytes = disk.image().read(DIRECTORY_FILE).expect("it was written");
        let mut out = Vec::new();
        dump(&mut Cursor::new(&bytes), &mut out).expect("it is sound");
        let expected = format!(
            "data directory: unfinished, stores 3, directory {directory}, cluster {cluster}\n"
        );
        assert_eq!(String::from_utf8_lossy(&out), expected);
        let cut = dump(&mut Cursor::new(&bytes[..50]), &mut out);
        assert!(matches!(cut, Err(DumpError::Damaged { position: 50, .. })));
    }

    #[test]
    fn other_files_are_named_as_such() {
        for bytes in [&b"x"[..], b"something else altogether"] {
            let result = dump(&mut Cursor::new(bytes), &mut Vec::new());
            assert!(matches!(result, Err(DumpError::Unknown(_))));
        }
    }

    #[test]
    fn a_file_before_its_first_use_is_no_stranger() {
        let mut bytes = vec![0; 3 * BLOCK_BYTES];
        let mut out = Vec::new();
        dump(&mut Cursor::new(&bytes), &mut out).expect("nothing is wrong");
        assert_eq!(
            String::from_utf8_lossy(&out),
            "nothing is written yet: 12288 bytes, all of them zero\n"
        );
        out.clear();
        dump(&mut Cursor::new(b""), &mut out).expect("nothing is wrong");
        assert_eq!(
            String::from_utf8_lossy(&out),
            "nothing is written yet: the file is empty\n"
        );
        bytes[2 * BLOCK_BYTES] = 1;
        let result = dump(&mut Cursor::new(&bytes), &mut Vec::new());
        assert!(matches!(result, Err(DumpError::Unknown([0, ..]))));
    }
}
