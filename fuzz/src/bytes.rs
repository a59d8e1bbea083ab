//! Reads decisions off the front of an input. Beyond its end everything is 0.

use std::ops::Range;

/// What is left of an input.
pub(crate) struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next bytes; fewer at the end.
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.take(usize::MAX)
    }

    pub(crate) fn number<const N: usize>(&mut self) -> u64 {
        let mut bytes = [0; 8];
        let taken = self.take(N);
        bytes[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(bytes)
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.number::<1>() as u8
    }

    pub(crate) fn u16(&mut self) -> u16 {
        self.number::<2>() as u16
    }

    pub(crate) fn u32(&mut self) -> u32 {
        self.number::<4>() as u32
    }

    /// A number within a range that is not empty and has at most 2^16 numbers.
    pub(crate) fn within(&mut self, range: Range<usize>) -> usize {
        let width = range.len();
        let number = if width <= 256 {
            usize::from(self.u8())
        } else {
            usize::from(self.u16())
        };
        range.start + number % width
    }

    /// One of several things.
    pub(crate) fn one_of<'b, T>(&mut self, things: &'b [T]) -> &'b T {
        &things[self.within(0..things.len())]
    }
}
