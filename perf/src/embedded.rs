//! A broker on this machine's cores, with a data directory that goes away with it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use corelane_bench::broker::{configured, unusual_settings};
use corelane_bench::scratch;
use corelane_broker::runtime::{self, Running};
use tempfile::TempDir;

use crate::error::PerfError;

/// A broker with the default settings and those of the environment, as `corelane serve` takes them.
pub(crate) struct EmbeddedBroker {
    running: Running,
    directory: TempDir,
}

impl EmbeddedBroker {
    pub(crate) fn start() -> Result<Self, PerfError> {
        let settings = |error: &dyn std::fmt::Display| PerfError::Settings(error.to_string());
        let mut config = configured().map_err(|error| settings(&error))?;
        let parent = scratch::parent();
        let directory = tempfile::Builder::new()
            .prefix("corelane-perf-")
            .tempdir_in(&parent);
        let directory = directory.map_err(|error| {
            let directory = parent.display().to_string();
            PerfError::Directory { directory, error }
        })?;
        config.server.data_dir = directory.path().join("data");
        config.server.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        config.admin.listen = None;
        Ok(Self {
            running: runtime::serve(config)?,
            directory,
        })
    }

    pub(crate) fn address(&self) -> String {
        self.running.bootstrap().to_string()
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.directory.path()
    }

    /// What is not the default.
    pub(crate) fn settings() -> Vec<String> {
        unusual_settings()
    }

    /// Stops it cleanly and removes its data.
    pub(crate) fn stop(self) -> Result<(), PerfError> {
        self.running.shutdown_handle().shut_down();
        self.running.join().map_err(PerfError::Stop)?;
        let path = self.directory.path().display().to_string();
        self.directory
            .close()
            .map_err(|error| PerfError::Directory {
                directory: path,
                error,
            })
    }
}
