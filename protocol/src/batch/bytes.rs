//! The bytes of a batch where they were built.
//!
//! A batch is built in place: its values are collected where they will be sent
//! from, and what goes before them is written into room that was left there. So
//! its first byte lies anywhere in its memory: it can be sent and changed, and
//! must be copied before its records are read.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::aligned::AlignedBytes;

/// A batch that was built, and its memory.
#[derive(Default)]
pub struct BatchBytes {
    memory: Vec<u8>,
    /// Index of the batch's first byte; what is before it means nothing.
    begin: usize,
}

impl BatchBytes {
    /// The batch that begins at `memory[begin]`.
    pub(super) fn new(memory: Vec<u8>, begin: usize) -> Self {
        debug_assert!(begin <= memory.len());
        Self { memory, begin }
    }

    /// A copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self::new(bytes.to_vec(), 0)
    }

    /// A copy whose records can be read in place.
    pub fn to_aligned(&self) -> AlignedBytes {
        AlignedBytes::copy_of(self)
    }

    /// Bytes of its memory.
    pub fn capacity(&self) -> usize {
        self.memory.capacity()
    }

    /// Its memory, for another batch.
    pub(super) fn into_memory(self) -> Vec<u8> {
        self.memory
    }

    /// Appends zeros until it is as long as batches are.
    pub(super) fn pad(&mut self, alignment: usize) {
        let padded = self.len().next_multiple_of(alignment);
        self.memory.resize(self.begin + padded, 0);
    }
}

impl Clone for BatchBytes {
    fn clone(&self) -> Self {
        Self::copy_of(self)
    }
}

impl Deref for BatchBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.begin..]
    }
}

impl DerefMut for BatchBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.begin..]
    }
}

impl AsRef<[u8]> for BatchBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for BatchBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for BatchBytes {}

impl fmt::Debug for BatchBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BatchBytes({} bytes)", self.len())
    }
}
