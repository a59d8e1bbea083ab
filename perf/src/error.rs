//! Why there is no result.

use std::io;

use corelane_bench::BenchError;
use corelane_broker::runtime::{StartError, StopError};

/// Why a load could not be run. Refused records are no such error: they are counted in the result.
#[derive(Debug, thiserror::Error)]
pub enum PerfError {
    /// A workload that cannot work.
    #[error("{0}")]
    Workload(String),
    /// No directory for the broker's data.
    #[error(
        "cannot make a temporary directory in {directory}: {error}; set TMPDIR to a directory on a disk"
    )]
    Directory {
        /// Where it was tried.
        directory: String,
        /// Why it failed.
        error: io::Error,
    },
    /// A setting of the environment that the embedded broker does not take.
    #[error("the embedded broker's settings: {0}")]
    Settings(String),
    /// The embedded broker did not start.
    #[error("the embedded broker did not start: {0}")]
    Broker(#[from] StartError),
    /// The embedded broker did not end in order.
    #[error("the embedded broker did not end in order: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Stop(Vec<StopError>),
    /// The client could not do its part.
    #[error("{0}")]
    Client(#[from] corelane_client::Error),
    /// The broker's stages were asked for, and its admin endpoint does not say them.
    #[error("the admin endpoint {admin} does not show the broker's stages: {problem}")]
    Admin {
        /// Its address.
        admin: String,
        /// What happened.
        problem: String,
    },
    /// The executor of the client could not be started.
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
    /// What this machine could do at most could not be measured.
    #[error("the limit of this machine cannot be measured: {0}")]
    Limit(#[from] BenchError),
    /// Not a single record was acknowledged or read in the time that counts, so there is nothing to report, least of
    /// all a durability.
    #[error("nothing to report: {what}{}", first_error.as_ref().map_or_else(String::new, |error| format!("; the first error: {error}")))]
    NothingMeasured {
        /// What did not happen.
        what: String,
        /// The first error of a record, if there was one.
        first_error: Option<String>,
    },
    /// A file of the result could not be written.
    #[error("cannot write {path}: {error}")]
    Output {
        /// The file or directory.
        path: String,
        /// Why it failed.
        error: io::Error,
    },
}
