//! What all acceptance tests share: the oracle, the world that runs stores and watches them, the plans of
//! what clients do, and the sessions in which they do it.

use std::ops::Range;

pub(crate) mod batches;
pub(crate) mod client;
pub(crate) mod event;
pub(crate) mod history;
pub(crate) mod inspect;
pub(crate) mod layout;
pub(crate) mod oracle;
pub(crate) mod plan;
pub(crate) mod session;
pub(crate) mod world;

/// The seeds that a test tries: one, or those that `CORELANE_CRASH_SEEDS` asks for.
pub(crate) fn seeds() -> Range<u64> {
    asked_for().unwrap_or(0..1)
}

/// Whether more than the usual, short choice is to be tried.
pub(crate) fn is_thorough() -> bool {
    asked_for().is_some()
}

/// A number of seeds, or a range of them: `20` or `7..9`.
fn asked_for() -> Option<Range<u64>> {
    let asked = std::env::var("CORELANE_CRASH_SEEDS").ok()?;
    let number = |text: &str| text.parse().expect("CORELANE_CRASH_SEEDS is N or A..B");
    Some(match asked.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&asked),
    })
}
