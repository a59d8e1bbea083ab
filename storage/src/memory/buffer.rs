//! `AlignedBuf`: memory with one owner, to be filled by code or by a direct read.
//!
//! Owns its bytes exclusively until it is frozen into an `AlignedSlice`. Belongs to the core that made it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::slice;

use super::allocation::Allocation;
use super::chunk::AlignedSlice;

/// An owned buffer whose address is a multiple of `ALIGNMENT`. Its bytes are always initialised.
///
/// Its length is what was asked for and may be any number; direct reads want a multiple of the block.
pub struct AlignedBuf {
    allocation: Allocation,
    len: usize,
}

impl AlignedBuf {
    /// `len` zero bytes.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        Self {
            allocation: Allocation::zeroed(len),
            len,
        }
    }

    /// `len` bytes that are to be written over: they hold anything, perhaps what another buffer once held.
    #[must_use]
    pub fn with_any_contents(len: usize) -> Self {
        Self {
            allocation: Allocation::with_any_contents(len),
            len,
        }
    }

    /// A copy of `bytes`.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut buffer = Self::zeroed(bytes.len());
        buffer.copy_from_slice(bytes);
        buffer
    }

    pub(super) fn from_allocation(allocation: Allocation, len: usize) -> Self {
        assert!(len <= allocation.capacity());
        Self { allocation, len }
    }

    pub(super) fn into_parts(self) -> (Allocation, usize) {
        (self.allocation, self.len)
    }

    /// The bytes that `set_len` may reach: the length rounded up to `ALIGNMENT`, or more.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.allocation.capacity()
    }

    /// Shows more or fewer of the buffer's bytes. Those that come into view hold whatever was there before.
    ///
    /// # Panics
    /// If `len` exceeds the capacity.
    pub fn set_len(&mut self, len: usize) {
        assert!(
            len <= self.capacity(),
            "a buffer of {} bytes cannot show {len}",
            self.capacity()
        );
        self.len = len;
    }

    /// Ends writing: the bytes become an immutable slice that is shared by reference count.
    #[must_use]
    pub fn freeze(self) -> AlignedSlice {
        AlignedSlice::from(self)
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` is within the initialised allocation, which nobody else refers to.
        unsafe { slice::from_raw_parts(self.allocation.start().as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` makes the access exclusive.
        unsafe { slice::from_raw_parts_mut(self.allocation.start().as_ptr(), self.len) }
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ALIGNMENT, HUGE_PAGE_BYTES};
    use super::*;

    #[test]
    fn a_new_buffer_is_aligned_and_zero() {
        for len in [0, 1, 511, 4096, 4097, HUGE_PAGE_BYTES] {
            let buffer = AlignedBuf::zeroed(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % ALIGNMENT, 0);
            assert!(buffer.iter().all(|byte| *byte == 0));
            assert!(buffer.capacity() >= len && buffer.capacity().is_multiple_of(ALIGNMENT));
        }
    }

    #[test]
    fn the_length_moves_within_the_capacity() {
        let mut buffer = AlignedBuf::copy_of(b"hello");
        buffer.set_len(4096);
        assert_eq!(&buffer[..6], b"hello\0");
        buffer.set_len(2);
        assert_eq!(&buffer[..], b"he");
    }

    #[test]
    #[should_panic(expected = "cannot show")]
    fn the_length_does_not_exceed_the_capacity() {
        AlignedBuf::zeroed(1).set_len(4097);
    }

    #[test]
    fn a_frozen_buffer_comes_back_once_it_is_not_shared() {
        let slice = AlignedBuf::copy_of(b"hello").freeze();
        let other = slice.slice(1..3);
        let slice = slice.try_into_buf().expect_err("`other` still reads it");
        assert_eq!(&other[..], b"el");
        drop(other);
        let mut buffer = slice.try_into_buf().expect("no other reader");
        buffer[0] = b'j';
        assert_eq!(&buffer[..5], b"jello");
    }
}
