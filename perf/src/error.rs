//! Why there is no report.

use std::io;

use corelane_broker::runtime::{StartError, StopError};

/// Why a load could not be run. Refused records are no such error: they are counted in the report.
#[derive(Debug, thiserror::Error)]
pub enum PerfError {
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
    /// The embedded broker did not start.
    #[error("the embedded broker did not start: {0}")]
    Broker(#[from] StartError),
    /// The embedded broker did not end in order.
    #[error("the embedded broker did not end in order: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Stop(Vec<StopError>),
    /// The client could not do its part.
    #[error("{0}")]
    Client(#[from] corelane_client::Error),
    /// The executor of the client could not be started.
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
    /// Not a single record was acknowledged, so there is nothing to report, least of all a
    /// durability.
    #[error("no record was acknowledged in the {0} phase")]
    NothingAcknowledged(&'static str),
}
