//! The trace of a run: every event as a line, and a hash over all of them.
//!
//! Owns what two runs of one seed are compared by. What happens often is hashed as values, and made a line only if
//! somebody reads it; what is rare is hashed as its line.

use std::fmt::{Arguments, Write as _};
use std::hash::{Hash, Hasher};

/// Those of 64-bit FNV-1a, which is taken by words instead of bytes here.
const FNV_OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// Takes a line of the trace.
pub type Reader = Box<dyn FnMut(&str)>;

/// Adds what happens often, with `format!`'s arguments, to the trace of `$at`, at its time.
macro_rules! happens {
    ($at:expr, $what:literal $(, $value:expr)+ $(,)?) => {{
        let now_us = $at.now_us;
        $at.trace.begin(now_us, $what);
        $($at.trace.add(&$value);)+
        if $at.trace.is_read() {
            $at.trace.show(now_us, format_args!($what $(, $value)+));
        }
    }};
}
pub(crate) use happens;

/// What has happened so far.
pub(crate) struct Trace {
    hash: Fnv,
    events: u64,
    line: String,
    reader: Option<Reader>,
}

impl Trace {
    /// A trace whose lines go to `reader`, if there is one.
    pub(crate) fn new(reader: Option<Reader>) -> Self {
        Self {
            hash: Fnv(FNV_OFFSET_BASIS),
            events: 0,
            line: String::new(),
            reader,
        }
    }

    /// Adds an event that is rare.
    pub(crate) fn event(&mut self, now_us: u64, what: Arguments<'_>) {
        self.write(now_us, what);
        self.events += 1;
        self.hash.write(self.line.as_bytes());
        if let Some(reader) = &mut self.reader {
            reader(&self.line);
        }
    }

    /// Begins an event of this kind, whose values follow: see `happens`.
    pub(crate) fn begin(&mut self, now_us: u64, what: &'static str) {
        self.events += 1;
        self.hash.write_u64(now_us);
        self.hash.write(what.as_bytes());
    }

    pub(crate) fn add(&mut self, value: &impl Hash) {
        value.hash(&mut self.hash);
    }

    /// Whether somebody reads the lines.
    pub(crate) fn is_read(&self) -> bool {
        self.reader.is_some()
    }

    /// Shows the event that was begun.
    pub(crate) fn show(&mut self, now_us: u64, what: Arguments<'_>) {
        self.write(now_us, what);
        if let Some(reader) = &mut self.reader {
            reader(&self.line);
        }
    }

    fn write(&mut self, now_us: u64, what: Arguments<'_>) {
        self.line.clear();
        let (seconds, us) = (now_us / 1_000_000, now_us % 1_000_000);
        write!(self.line, "{seconds:>4}.{us:06} {what}").expect("a string takes everything");
    }

    /// The hash over all events so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// How many events there were.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }
}

/// See the constants.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let hash = (self.0 ^ word).wrapping_mul(FNV_PRIME);
        self.0 = hash ^ (hash >> 32);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    struct World {
        now_us: u64,
        trace: Trace,
    }

    fn run(reader: Option<Reader>, bytes: usize) -> u64 {
        let trace = Trace::new(reader);
        let mut world = World { now_us: 7, trace };
        happens!(world, "{} bytes reach {:?}", bytes, "core 1");
        world.now_us = 1_000_008;
        world.trace.event(world.now_us, format_args!("it ends"));
        assert_eq!(world.trace.events(), 2);
        world.trace.hash()
    }

    #[test]
    fn a_reader_sees_every_line_and_changes_no_hash() {
        let lines = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&lines);
        let read = run(
            Some(Box::new(move |line| {
                seen.borrow_mut().push(line.to_owned())
            })),
            5,
        );
        let expected = [
            "   0.000007 5 bytes reach \"core 1\"",
            "   1.000008 it ends",
        ];
        assert_eq!(*lines.borrow(), expected);
        assert_eq!(run(None, 5), read);
    }

    #[test]
    fn a_value_changes_the_hash() {
        assert_ne!(run(None, 5), run(None, 6));
    }
}
