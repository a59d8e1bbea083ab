//! Why a measurement could not be made.

use std::io;
use std::path::Path;

use corelane_broker::runtime::{StartError, StopError};
use corelane_protocol::ApiError;

/// A measurement that could not be made. Refused records are no such error: they are counted.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A file, socket or ring did not do as told.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        error: io::Error,
    },
    /// The embedded broker does not start.
    #[error("the broker does not start: {0}")]
    Start(#[from] StartError),
    /// The embedded broker did not end in order.
    #[error("the broker did not end in order: {0:?}")]
    Stop(Vec<StopError>),
    /// The broker refused to prepare the measurement.
    #[error("the broker refuses {what}: {error}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Its answer.
        error: ApiError,
    },
    /// A peer does not speak as it should.
    #[error("{0}")]
    Protocol(String),
    /// The settings of the measurement exclude each other.
    #[error("{0}")]
    Settings(String),
    /// The relay's file of bytes that are never written again is full.
    #[error("the file of {bytes} bytes is full: measure for fewer seconds, or give --fresh-bytes")]
    FileFull {
        /// Its length.
        bytes: u64,
    },
}

impl BenchError {
    /// Turns an error of the system into one that says what was tried.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |error| Self::Io { what, error }
    }

    /// The same, of a file.
    pub fn file(verb: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        Self::io(format!("cannot {verb} {}", path.display()))
    }
}
