//! The load generator: a short, durable load on a broker of its own, and what it measured.
//!
//! Owns the workload, the clocks and the histograms. Never judges: it reports figures together with
//! what they were measured on, and the durability that the broker confirmed. It runs on threads of
//! its own beside the broker's cores.

mod consume;
mod embedded;
mod error;
mod latency;
mod manifest;
mod produce;
mod report;
mod run;
mod value;

pub use error::PerfError;
pub use manifest::Manifest;
pub use report::{LatencyReport, Report, Throughput};
pub use run::{Load, Phase, run};
