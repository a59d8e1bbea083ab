//! Splitting fetched bytes into batches.

use super::error::BatchError;
use super::header::BatchHeader;

/// The batches in `bytes`, one after the other, as a fetch response carries
/// them. Only lengths are looked at; each batch still is to be parsed. After an
/// error there is nothing more.
pub const fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { rest: bytes }
}

/// See [`batches`].
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Batches<'a> {
    /// The bytes of the batches that are still to come.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<&'a [u8], BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.rest);
        let needed = match BatchHeader::parse(bytes) {
            Ok(header) => header.total_length as usize,
            Err(error) => return Some(Err(error)),
        };
        let Some((batch, rest)) = bytes.split_at_checked(needed) else {
            return Some(Err(BatchError::Truncated {
                needed,
                length: bytes.len(),
            }));
        };
        self.rest = rest;
        Some(Ok(batch))
    }
}
