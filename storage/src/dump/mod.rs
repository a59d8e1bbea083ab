//! `dump`: prints any file of a data directory, for people.
//!
//! Recognises a file by its magic, and prints as far as the file makes sense. Only reads, and shares no state
//! with a running broker. Called by the command line, on any thread.

mod block_log;

use std::io::{self, Read, Seek, Write};

use crate::block_log::BLOCK_LOG_MAGIC;
use crate::disk::BLOCK_BYTES;

/// Why a file could not be printed to its end.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// Reading or printing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
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

/// Prints what `input` holds, a line for each part.
///
/// # Errors
/// `DumpError`, after everything before the damage was printed.
pub fn dump(input: &mut dyn Input, out: &mut dyn Write) -> Result<(), DumpError> {
    let start = read_at(input, 0, BLOCK_BYTES)?;
    let mut magic = [0; 8];
    let known = start.len().min(magic.len());
    magic[..known].copy_from_slice(&start[..known]);
    match magic {
        BLOCK_LOG_MAGIC => block_log::dump(input, &start, out),
        _ => Err(DumpError::Unknown(magic)),
    }
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
