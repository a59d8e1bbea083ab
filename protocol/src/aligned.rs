//! A growable buffer whose first byte lies at a multiple of 8.
//!
//! Batches are read in place, which asks for 8-byte alignment; a `Vec<u8>`
//! promises none. A client receives a frame into one of these, and the batches
//! in it are aligned, since they lie at multiples of 8 within the frame.

use std::fmt;
use std::ops::{Deref, DerefMut};

use rkyv::util::AlignedVec;

/// The alignment of [`AlignedBytes`], bytes.
pub const ALIGNMENT: usize = 8;

/// Bytes that begin at a multiple of 8.
#[derive(Clone, Default)]
pub struct AlignedBytes(AlignedVec<ALIGNMENT>);

impl AlignedBytes {
    /// An empty buffer; allocates nothing.
    pub fn new() -> Self {
        Self(AlignedVec::new())
    }

    /// An empty buffer with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(AlignedVec::with_capacity(bytes))
    }

    /// `bytes` zeros.
    pub fn zeroed(bytes: usize) -> Self {
        let mut buffer = Self::with_capacity(bytes);
        buffer.resize(bytes, 0);
        buffer
    }

    /// A copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut buffer = Self::with_capacity(bytes.len());
        buffer.extend_from_slice(bytes);
        buffer
    }

    /// Bytes that fit without another allocation.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Makes room for `additional` more bytes.
    pub fn reserve(&mut self, additional: usize) {
        self.0.reserve(additional);
    }

    /// Appends a copy of `bytes`.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Grows with `value`, or shrinks, to `length` bytes.
    pub fn resize(&mut self, length: usize, value: u8) {
        self.0.resize(length, value);
    }

    /// Forgets the content and keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.0.as_slice()
    }

    pub(crate) fn into_inner(self) -> AlignedVec<ALIGNMENT> {
        self.0
    }

    pub(crate) fn from_inner(inner: AlignedVec<ALIGNMENT>) -> Self {
        Self(inner)
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_slice()
    }
}

impl AsRef<[u8]> for AlignedBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl PartialEq for AlignedBytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for AlignedBytes {}

impl fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBytes({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_aligned() {
        for length in 1..200 {
            let bytes = AlignedBytes::copy_of(&vec![7; length]);
            assert_eq!(bytes.as_ptr().addr() % ALIGNMENT, 0);
            assert_eq!(&bytes[..], vec![7; length]);
        }
    }
}
