//! Why a broker does not start, or did not end in order.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use corelane_protocol::StoreId;
use corelane_storage::block_log::BlockLogError;
use corelane_storage::directory::DirectoryError;
use corelane_storage::ring::ProbeError;

use crate::lane::ReconcileError;
use crate::metadata::{ApplyError, RecordError};

/// Why a broker does not start. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used at all.
    #[error("data directory {}: {source}", path.display())]
    DataDirectory {
        /// The directory.
        path: PathBuf,
        /// The filesystem's answer.
        source: io::Error,
    },
    /// Another broker uses it.
    #[error(
        "data directory {} is in use by another broker: stop that one, or give another data_dir",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The kernel lacks something.
    #[error(transparent)]
    Kernel(#[from] ProbeError),
    /// The cores asked for are not there.
    #[error("cores: {0}")]
    Cores(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The address of the admin endpoint cannot be listened on.
    #[error("cannot listen on {address} for metrics and health: {source}")]
    AdminListen {
        /// The address.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A core's thread or ring does not start.
    #[error("core {core} does not start: {problem}")]
    Core {
        /// The core.
        core: usize,
        /// What happened.
        problem: String,
    },
    /// The directory's own file.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The configuration asks for another number of stores than there are.
    #[error(
        "the data directory has {found} stores and the configuration asks for {wanted}: the number is fixed when \
         a directory is made; set stores = 0 to take what is there"
    )]
    Stores {
        /// Stores of the directory.
        found: u16,
        /// Stores of the configuration.
        wanted: u16,
    },
    /// The metadata log.
    #[error("metadata log: {0}")]
    MetadataLog(#[from] BlockLogError),
    /// What a rewritten metadata log begins with.
    #[error(
        "metadata log: its checkpoint has {bytes} bytes, a position has 8; it was written by a newer version, start that"
    )]
    MetadataPosition {
        /// Length of the checkpoint.
        bytes: usize,
    },
    /// A record of the metadata log.
    #[error("metadata log, record {number}: {source}")]
    MetadataRecord {
        /// The record, counted from 1.
        number: usize,
        /// What is wrong.
        source: RecordError,
    },
    /// The records of the metadata log contradict each other.
    #[error("metadata log, record {number}: {source}")]
    MetadataImage {
        /// The record, counted from 1.
        number: usize,
        /// What is wrong.
        source: ApplyError,
    },
    /// A store.
    #[error("store {store}: {problem}")]
    Store {
        /// The store.
        store: StoreId,
        /// What is wrong.
        problem: String,
    },
    /// The metadata and the stores do not fit together.
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
}

/// What went wrong while a broker ended. What was acknowledged is safe all the same: the next start recovers.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// Some requests were not answered in time.
    #[error("core {core}: requests were still in flight after {patience_ms} ms and were given up")]
    NotDrained {
        /// The core.
        core: usize,
        /// How long they had.
        patience_ms: u32,
    },
    /// A store did not close in order.
    #[error("store {store} did not close in order: {problem}")]
    Store {
        /// The store.
        store: StoreId,
        /// What happened.
        problem: String,
    },
    /// The metadata log was not marked as clean.
    #[error("the metadata log was not marked as clean: {0}")]
    MetadataLog(String),
}
