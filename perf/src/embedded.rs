//! A broker on this machine's cores, with a data directory that goes away with it.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use corelane_broker::config::BrokerConfig;
use corelane_broker::runtime::{self, Running};
use tempfile::TempDir;

use crate::error::PerfError;

pub(crate) struct EmbeddedBroker {
    running: Running,
    directory: TempDir,
}

impl EmbeddedBroker {
    pub(crate) fn start() -> Result<Self, PerfError> {
        let parent = scratch();
        let directory = tempfile::Builder::new()
            .prefix("corelane-perf-")
            .tempdir_in(&parent);
        let directory = directory.map_err(|error| {
            let directory = parent.display().to_string();
            PerfError::Directory { directory, error }
        })?;
        let mut config = BrokerConfig::default();
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

/// Where the data goes: `TMPDIR` if somebody chose, and otherwise `/var/tmp`, which is on a disk
/// where `/tmp` may be memory, on which durability would be measured for nothing.
fn scratch() -> PathBuf {
    env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}
