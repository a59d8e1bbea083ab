//! The load generator: loads on a broker, and what they measured.
//!
//! Owns the workload (what), the schedule (when, pure), the engine (doing), the recorder and the result (counting), and
//! the files that a result is written to. Never judges: it reports figures together with what they were measured on, and
//! the durability that the broker confirmed. It runs on threads of its own beside the broker's cores.
//!
//! A [`Session`] is an open way to a broker; each [`Session::run`] turns a [`Workload`] into a [`PerfResult`], so that
//! runs can take turns with each other and with anything else.

mod compare;
mod control;
mod embedded;
mod engine;
mod error;
pub mod html;
mod limit;
mod manifest;
mod options;
pub mod output;
mod processor_time;
mod read_back;
mod recorder;
mod result;
mod rounds;
mod scenario;
mod schedule;
mod session;
mod short;
mod stages;
mod sweep;
mod value;
mod workload;

pub use corelane_bench::table::grouped;

pub use compare::{Comparison, Figure, compare};
pub use control::{Control, Phase, Progress};
pub use error::PerfError;
pub use limit::{Limit, Yardstick, run_with_limit};
pub use manifest::{Broker, ClientSettings, Manifest, Pinning, Software, Topic};
pub use options::Options;
pub use result::{
    Consumed, CurvePoint, DurabilityFrom, Interval, Pace, Percentiles, PerfResult, RESULT_VERSION,
};
pub use rounds::{Rounds, RoundsFigure, compare_rounds};
pub use scenario::{RunOutcome, Scenario, ScenarioOutcome};
pub use session::{Session, Target};
pub use short::{Load, Report, ShortPhase, Throughput, run_short};
pub use stages::{StageTimes, Stages};
pub use sweep::{Bound, Step, Sweep, sweep};
pub use workload::{Acks, Compression, Kind, Payload, Workload};
