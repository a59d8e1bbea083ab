//! The client against a broker in this process that misbehaves on demand, by behaviour.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

#[path = "../support/mod.rs"]
mod support;

mod administration;
mod backpressure;
mod batch_call;
mod connecting;
mod consuming;
mod delivery;
mod group_offsets;
mod groups;
mod idempotence;
mod limits;
mod retries;
mod routing;
