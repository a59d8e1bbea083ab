//! The trace of a run: every event as a line, and a hash over all of them.
//!
//! Owns what two runs of one seed are compared by. Lines are made only to be hashed, unless somebody reads them.

use std::fmt::{Arguments, Write as _};

/// Those of 64-bit FNV-1a, which is taken by words instead of bytes here.
const FNV_OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// Takes a line of the trace.
pub type Reader = Box<dyn FnMut(&str)>;

/// What has happened so far.
pub(crate) struct Trace {
    hash: u64,
    events: u64,
    line: String,
    reader: Option<Reader>,
}

impl Trace {
    /// A trace whose lines go to `reader`, if there is one.
    pub(crate) fn new(reader: Option<Reader>) -> Self {
        Self {
            hash: FNV_OFFSET_BASIS,
            events: 0,
            line: String::new(),
            reader,
        }
    }

    /// Adds an event.
    pub(crate) fn event(&mut self, now_us: u64, what: Arguments<'_>) {
        self.line.clear();
        let (seconds, us) = (now_us / 1_000_000, now_us % 1_000_000);
        write!(self.line, "{seconds:>4}.{us:06} {what}").expect("a string takes everything");
        self.events += 1;
        self.hash = add(self.hash, self.line.as_bytes());
        if let Some(reader) = &mut self.reader {
            reader(&self.line);
        }
    }

    /// The hash over all events so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }
}

fn add(hash: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(hash, |hash, part| {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        let hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(FNV_PRIME);
        hash ^ (hash >> 32)
    })
}
