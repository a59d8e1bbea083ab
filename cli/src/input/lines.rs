//! Splits a stream into pieces of whole lines, reading as much as one call gives: a line typed by
//! a person goes out at once, and a file goes out in large pieces.

use std::io::{self, Read};

use memchr::memchr_iter;

/// Bytes asked for by one read.
const READ_BYTES: usize = 256 * 1024;

/// A longer line is an error: no broker takes it, and it must not take all memory first.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Some whole lines.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    bytes: Vec<u8>,
    /// Where each line ends in `bytes`, without its newline.
    ends: Vec<usize>,
    /// The number of the first line, from 1.
    first_number: u64,
}

impl Piece {
    /// The lines with their numbers, without their newlines.
    pub(crate) fn lines(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.ends.iter().enumerate().map(|(index, &end)| {
            let start = if index == 0 {
                0
            } else {
                self.ends[index - 1] + 1
            };
            &self.bytes[start..end]
        })
    }

    /// The number of the first line, from 1.
    pub(crate) fn first_number(&self) -> u64 {
        self.first_number
    }
}

/// Reads pieces from a stream.
#[derive(Debug)]
pub(crate) struct LineReader<R> {
    stream: R,
    /// The beginning of a line whose end has not been read.
    begun: Vec<u8>,
    next_number: u64,
}

impl<R: Read> LineReader<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self {
            stream,
            begun: Vec::new(),
            next_number: 1,
        }
    }

    /// The next whole lines: at least one, or `None` at the end. A last line without a newline
    /// counts as a line.
    pub(crate) fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        let mut bytes = std::mem::take(&mut self.begun);
        loop {
            let searched = bytes.len();
            if searched > LINE_BYTES_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "line {} is longer than {LINE_BYTES_MAX} bytes",
                        self.next_number
                    ),
                ));
            }
            bytes.resize(searched + READ_BYTES, 0);
            let read = match self.stream.read(&mut bytes[searched..]) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    bytes.truncate(searched);
                    continue;
                }
                Err(error) => return Err(error),
            };
            bytes.truncate(searched + read);
            let mut ends: Vec<_> = memchr_iter(b'\n', &bytes[searched..])
                .map(|at| searched + at)
                .collect();
            match ends.last() {
                Some(&last) => self.begun = bytes.split_off(last + 1),
                None if read > 0 => continue,
                None if bytes.is_empty() => return Ok(None),
                None => ends.push(bytes.len()),
            }
            let first_number = self.next_number;
            self.next_number += ends.len() as u64;
            return Ok(Some(Piece {
                bytes,
                ends,
                first_number,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out its parts one read at a time.
    struct Parts(Vec<&'static [u8]>);

    impl Read for Parts {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let part = self.0.remove(0);
            buffer[..part.len()].copy_from_slice(part);
            Ok(part.len())
        }
    }

    fn read_all(parts: &[&'static [u8]]) -> Vec<(u64, Vec<u8>)> {
        let mut reader = LineReader::new(Parts(parts.to_vec()));
        let mut lines = Vec::new();
        while let Some(piece) = reader.next_piece().unwrap() {
            let numbers = piece.first_number()..;
            lines.extend(numbers.zip(piece.lines().map(<[u8]>::to_vec)));
        }
        lines
    }

    #[test]
    fn lines_are_numbered_and_whole_however_the_stream_is_cut() {
        let expected: Vec<(u64, Vec<u8>)> = vec![
            (1, b"one".to_vec()),
            (2, b"".to_vec()),
            (3, b"three\r".to_vec()),
        ];
        assert_eq!(read_all(&[b"one\n\nthree\r\n"]), expected);
        assert_eq!(read_all(&[b"one\n\nthree\r"]), expected);
        assert_eq!(
            read_all(&[b"o", b"ne", b"\n", b"\nthr", b"ee\r\n"]),
            expected
        );
        assert_eq!(read_all(&[b"one\n\nth", b"ree\r"]), expected);
    }

    #[test]
    fn nothing_is_no_line_and_a_newline_is_one() {
        assert_eq!(read_all(&[]), vec![]);
        assert_eq!(read_all(&[b"\n"]), vec![(1, vec![])]);
        assert_eq!(
            read_all(&[b"\n", b"x"]),
            vec![(1, vec![]), (2, b"x".to_vec())]
        );
    }

    #[test]
    fn a_line_comes_out_as_soon_as_it_is_whole() {
        let mut reader = LineReader::new(Parts(vec![b"one\ntw", b"o\n"]));
        let piece = reader.next_piece().unwrap().unwrap();
        assert_eq!(piece.lines().collect::<Vec<_>>(), [b"one"]);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut reader = LineReader::new(io::repeat(b'x'));
        let error = reader.next_piece().unwrap_err();
        assert!(
            error.to_string().contains("line 1 is longer than"),
            "{error}"
        );
    }
}
