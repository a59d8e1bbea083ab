//! What goes out: tables for people, JSON for programs, records in a form of the user's choice.

pub(crate) mod json;
pub(crate) mod log;
pub(crate) mod print_format;
pub(crate) mod table;
pub(crate) mod units;

use std::fmt::Arguments;
use std::io::{self, Write};

/// Prints one line on standard output.
pub(crate) fn line(text: Arguments<'_>) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Says something on standard error. That nobody can hear it is no reason to end, as `eprintln!` would.
pub(crate) fn say(text: Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
