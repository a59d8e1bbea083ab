//! The admin endpoint: what those who operate a broker see of it, over HTTP.
//!
//! Owns one thread of its own, pinned nowhere, and a listener. It shares nothing with the cores: it asks each
//! for a copy of its numbers by a message (`ask`), puts them together (`gather`, `cores`, `groups`, [`state`])
//! and shows them: `/metrics` for Prometheus (`families`, `exposition`), `/health` and `/ready` (`health`),
//! `/v1/state` as JSON, whole or in short (`query`, `summary`), and to people as a page that draws the latter (`page`).
//! What a core does for it is bounded in size and happens as seldom as `gather` allows, however often clients
//! ask. Nothing here can stop a core or the broker.

mod answer;
mod ask;
mod cores;
mod exposition;
mod families;
mod family;
mod fetch;
mod gather;
mod groups;
mod health;
mod page;
mod process;
mod query;
mod server;
pub mod state;
mod summary;

use std::sync::atomic::AtomicU64;

pub(crate) use ask::{Ask, AskSeat, CoreAnswer, RingMetrics, asks};
pub use families::families;
pub use family::{Family, Kind, Samples, Shown, Unit};
pub use fetch::fetch;
pub(crate) use gather::{About, Serving};
pub(crate) use server::{AdminEndpoint, bind};

/// Lines of the broker's log that could not be written, counted by whoever writes them.
pub static LOG_LINES_LOST: AtomicU64 = AtomicU64::new(0);
