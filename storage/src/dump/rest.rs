//! What is left of a file behind a place where nothing sound begins.
//!
//! Owns the difference between what is not written yet and what is damaged. A file that is written to is
//! extended with zeros and filled in whole blocks from front to back, so behind its written end there are
//! zeros or nothing.

use std::io;

use super::{Input, read_at};
use crate::layout::block_ceiling;

const PIECE_BYTES: usize = 256 * 1024;

/// The rest of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    /// Where the last block ends that holds anything but zeros; the place asked about if none does.
    pub(super) written_end: u64,
    /// Where the file ends.
    pub(super) file_end: u64,
}

/// Reads the file from `position` to its end.
pub(super) fn rest_of(input: &mut dyn Input, position: u64) -> io::Result<Rest> {
    let mut rest = Rest {
        written_end: position,
        file_end: position,
    };
    loop {
        let piece = read_at(input, rest.file_end, PIECE_BYTES)?;
        if piece.is_empty() {
            return Ok(rest);
        }
        if let Some(last) = piece.iter().rposition(|byte| *byte != 0) {
            rest.written_end = block_ceiling(rest.file_end + last as u64 + 1);
        }
        rest.file_end += piece.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn zeros_are_told_from_what_is_written() {
        let mut bytes = vec![0; 3 * PIECE_BYTES];
        let file_end = bytes.len() as u64;
        let ask =
            |bytes: &[u8], position| rest_of(&mut Cursor::new(bytes), position).expect("memory");
        let nothing = Rest {
            written_end: 4096,
            file_end,
        };
        assert_eq!(ask(&bytes, 4096), nothing);
        bytes[PIECE_BYTES + 5000] = 1;
        let written_end = (PIECE_BYTES + 8192) as u64;
        assert_eq!(
            ask(&bytes, 4096),
            Rest {
                written_end,
                file_end
            }
        );
        let behind = written_end;
        assert_eq!(ask(&bytes, behind).written_end, behind);
        assert_eq!(ask(&bytes, file_end + 9).file_end, file_end + 9);
    }
}
