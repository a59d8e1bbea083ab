//! What comes in: lines to produce, and small texts of the command line.

pub(crate) mod escapes;
pub(crate) mod lines;
pub(crate) mod null_marker;
pub(crate) mod start;
