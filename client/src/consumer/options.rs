//! How records are fetched: the settings that consumers and members of groups have in common.

use std::sync::Arc;
use std::time::Duration;

use super::FetchParameters;
use super::assigned::Assigned;
use super::fetcher::{FetchSettings, Fetcher};
use super::source::RecordSource;
use super::start::{OffsetReset, OnTruncation};
use crate::cluster::Cluster;
use crate::error::{Error, Result};

/// See the builders' methods of the same names.
#[derive(Debug, Clone)]
pub(crate) struct FetchOptions {
    pub(crate) max_wait: Duration,
    pub(crate) min_bytes: u32,
    pub(crate) max_bytes: u32,
    pub(crate) max_partition_bytes: u32,
    pub(crate) buffer_bytes: usize,
    pub(crate) offset_reset: OffsetReset,
    pub(crate) on_truncation: OnTruncation,
    pub(crate) seed: Option<u64>,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: 4 * 1024 * 1024,
            max_partition_bytes: 1024 * 1024,
            buffer_bytes: 8 * 1024 * 1024,
            offset_reset: OffsetReset::default(),
            on_truncation: OnTruncation::default(),
            seed: None,
        }
    }
}

impl FetchOptions {
    pub(crate) fn check(&self, cluster: &Cluster) -> Result<()> {
        if self.max_bytes == 0 || self.max_partition_bytes == 0 || self.buffer_bytes == 0 {
            return Err(Error::invalid(
                "max_bytes, max_partition_bytes and buffer_bytes must be more than 0",
            ));
        }
        if self.min_bytes > self.max_bytes {
            return Err(Error::invalid("min_bytes must not exceed max_bytes"));
        }
        if self.max_wait >= cluster.config().request_timeout {
            return Err(Error::invalid(
                "max_wait must be shorter than the client's request_timeout",
            ));
        }
        Ok(())
    }

    /// A source of these partitions' records, and of no others.
    pub(super) fn open_fixed(
        &self,
        cluster: &Arc<Cluster>,
        partitions: Vec<Assigned>,
    ) -> RecordSource {
        self.open(cluster, partitions, false)
    }

    /// A source of records whose partitions come and go. It tells of offsets that were set anew.
    pub(crate) fn open_changing(&self, cluster: &Arc<Cluster>) -> RecordSource {
        self.open(cluster, Vec::new(), true)
    }

    fn open(
        &self,
        cluster: &Arc<Cluster>,
        partitions: Vec<Assigned>,
        changing: bool,
    ) -> RecordSource {
        let settings = FetchSettings {
            max_bytes: self.max_bytes,
            max_partition_bytes: self.max_partition_bytes,
            buffer_bytes_max: self.buffer_bytes,
            backoff: cluster.config().backoff,
            on_truncation: self.on_truncation,
            changing,
            tell_resets: changing,
            seed: self.seed.unwrap_or_else(|| cluster.next_seed()),
        };
        let parameters = FetchParameters {
            max_wait_ms: u32::try_from(self.max_wait.as_millis()).unwrap_or(u32::MAX),
            min_bytes: self.min_bytes,
            max_bytes: self.max_bytes,
            offset_reset: self.offset_reset,
        };
        let fetcher = Fetcher::new(settings, partitions, self.offset_reset != OffsetReset::Fail);
        RecordSource::new(Arc::clone(cluster), fetcher, parameters)
    }
}
