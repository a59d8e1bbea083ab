//! A broker on this machine's cores, with a data directory that goes away with it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use corelane_bench::broker::{config_in, unusual_settings};
use corelane_bench::scratch;
use corelane_broker::runtime::{self, Running};
use tempfile::TempDir;

use crate::error::PerfError;

/// A broker with the default settings and those of the environment, as `corelane serve` takes them.
pub(crate) struct EmbeddedBroker {
    running: Running,
    directory: TempDir,
    /// What it leaves free on the disk, bytes.
    disk_reserve_bytes: u64,
}

impl EmbeddedBroker {
    /// Starts it; with an admin endpoint if one is wanted, or the environment has one.
    pub(crate) fn start(wants_admin: bool) -> Result<Self, PerfError> {
        let parent = scratch::parent();
        let directory = tempfile::Builder::new()
            .prefix("corelane-perf-")
            .tempdir_in(&parent);
        let directory = directory.map_err(|error| {
            let directory = parent.display().to_string();
            PerfError::Directory { directory, error }
        })?;
        let config = config_in(&directory.path().join("data"));
        let mut config = config.map_err(|error| PerfError::Settings(error.to_string()))?;
        if wants_admin {
            let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            config.admin.listen.get_or_insert(anywhere);
        }
        Ok(Self {
            disk_reserve_bytes: config.log.disk_reserve_bytes,
            running: runtime::serve(config)?,
            directory,
        })
    }

    pub(crate) fn address(&self) -> String {
        self.running.bootstrap().to_string()
    }

    pub(crate) fn admin(&self) -> Option<String> {
        self.running.admin().map(|address| address.to_string())
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.directory.path()
    }

    /// How much room there is on its disk, in words: a broker without any refuses records for want of it.
    pub(crate) fn room(&self) -> Option<String> {
        let free = scratch::free_bytes(self.data_dir()).ok()?;
        let gb = |bytes: u64| bytes as f64 / 1e9;
        let kept = match self.disk_reserve_bytes {
            0 => String::new(),
            reserve => format!(", of which it uses none of the last {:.2} GB", gb(reserve)),
        };
        Some(format!(
            "the broker's disk has {:.2} GB free{kept}",
            gb(free)
        ))
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
