//! What all acceptance tests share: the oracle, the world that runs stores and watches them, the plans of
//! what clients do, and the sessions in which they do it.

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

/// The seeds that a test tries: one, or as many as `CORELANE_CRASH_SEEDS` says.
pub(crate) fn seeds() -> std::ops::Range<u64> {
    0..asked_for().unwrap_or(1)
}

/// Whether more than the usual, short choice is to be tried.
pub(crate) fn is_thorough() -> bool {
    asked_for().is_some()
}

fn asked_for() -> Option<u64> {
    let asked = std::env::var("CORELANE_CRASH_SEEDS").ok()?;
    Some(asked.parse().expect("CORELANE_CRASH_SEEDS is a number"))
}
