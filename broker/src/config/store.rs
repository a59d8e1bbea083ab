//! What each store is told, from the broker's configuration.

use corelane_protocol::batch::BatchLimits;
use corelane_storage::store::StoreConfig;

use super::BrokerConfig;

impl BrokerConfig {
    /// The configuration of each store.
    pub fn store_config(&self) -> StoreConfig {
        let (log, journal) = (&self.log, &self.journal);
        let bytes = |value: u32| usize::try_from(value).expect("a 64-bit machine");
        StoreConfig {
            journal_file_bytes: journal.file_bytes,
            journal_files_max: journal.files_max,
            group_bytes_max: bytes(journal.group_bytes_max),
            group_bytes_min: bytes(journal.group_bytes_min),
            groups_in_flight: bytes(journal.groups_in_flight),
            straight_bytes_min: bytes(journal.straight_bytes_min),
            queue_bytes_max: bytes(journal.queue_bytes_max),
            spill_bytes: u64::from(log.spill_bytes),
            index_interval_bytes: log.index_interval_bytes,
            open_files_max: bytes(log.open_files_max),
            disk_reserve_bytes: log.disk_reserve_bytes,
            scrub_bytes_per_second: log.scrub_bytes_per_second,
            tail_cache_bytes: usize::try_from(self.memory.tail_cache_bytes)
                .expect("a 64-bit machine"),
            read_cache_bytes: usize::try_from(self.memory.read_cache_bytes)
                .expect("a 64-bit machine"),
            producers_bytes_max: usize::try_from(self.producers.bytes_max)
                .expect("a 64-bit machine"),
            producer_expiration_ms: i64::try_from(self.producers.expiration_ms).unwrap_or(i64::MAX),
            compaction_keys_bytes_max: usize::try_from(self.compaction.keys_bytes_max)
                .expect("a 64-bit machine"),
            compaction_bytes_per_second: self.compaction.bytes_per_second,
            batch_limits: BatchLimits {
                batch_bytes_max: self.limits.batch_bytes_max(),
                ..BatchLimits::default()
            },
            ..StoreConfig::default()
        }
    }
}
