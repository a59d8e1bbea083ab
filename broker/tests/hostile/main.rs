//! Hostile clients against a whole broker on the running kernel: whatever they do, an innocent client's records
//! are acknowledged and read back, memory stays within what was configured, and nothing panics.
//!
//! A core that panics ends the process, and so the test.

mod absurd;
mod floods;
mod slow;
mod storm;
mod unread;

/// The client and the broker of the tests that are not hostile.
#[allow(dead_code, reason = "a part of it is used")]
#[path = "../serve/support.rs"]
mod support;
mod witness;
