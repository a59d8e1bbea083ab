//! How stores are configured and shared out over cores: everything tiny, so that a short run reaches all.

use corelane_protocol::batch::BatchLimits;
use corelane_storage::store::StoreConfig;

const BLOCK: u64 = 4096;

/// The stores of a data directory, and the cores that run them.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) stores: usize,
    /// Each core has a ledger of its own and opens its stores one after the other; cores open at once.
    pub(crate) cores: usize,
    /// Which core gets the first store.
    pub(crate) rotation: usize,
    pub(crate) config: StoreConfig,
    /// The cap of each core's ledger, in bytes.
    pub(crate) memory_bytes: usize,
    /// From so many bytes on, flushed data is dropped from memory.
    pub(crate) memory_bytes_soft: usize,
}

impl Layout {
    /// Batches of a few KB, journal files that hold a handful of groups, segments of a few batches.
    pub(crate) fn tiny(stores: usize, cores: usize) -> Self {
        Self {
            stores,
            cores,
            rotation: 0,
            config: tiny_config(4096),
            memory_bytes: 4 << 20,
            memory_bytes_soft: 96 << 10,
        }
    }

    /// As small as can be: for damage at every byte.
    pub(crate) fn smallest(stores: usize) -> Self {
        let mut config = tiny_config(1024);
        config.group_bytes_max = 4096;
        config.journal_file_bytes = 8 * BLOCK;
        Self {
            config,
            ..Self::tiny(stores, 1)
        }
    }

    /// The same for batches of more than the largest chunk of a tail, 1 MiB.
    pub(crate) fn large_batches(stores: usize, cores: usize) -> Self {
        let mut config = tiny_config(1_300_000);
        config.group_bytes_max = 256 << 10;
        config.group_bytes_min = 64 << 10;
        config.spill_bytes = 512 << 10;
        config.spill_write_bytes = 512 << 10;
        config.segment_allocation_bytes = 1 << 20;
        config.read_window_bytes = 128 << 10;
        config.read_cache_bytes = 256 << 10;
        Self {
            config,
            memory_bytes: 64 << 20,
            memory_bytes_soft: 4 << 20,
            ..Self::tiny(stores, cores)
        }
    }

    /// The same with segments' files that stay open, and from a few KB on batches go straight to them.
    pub(crate) fn straight(stores: usize, cores: usize) -> Self {
        let mut layout = Self::tiny(stores, cores);
        layout.config.straight_bytes_min = 2000;
        layout.config.group_bytes_max = 16 << 10;
        layout.config.journal_file_bytes = 18 * BLOCK;
        layout.config.open_files_max = 16;
        layout
    }

    /// As small as can be, and of two records together everything goes straight to where it stays.
    pub(crate) fn smallest_straight(stores: usize) -> Self {
        let mut layout = Self::smallest(stores);
        layout.config.straight_bytes_min = 500;
        layout.config.spill_bytes = 12 << 10;
        layout.config.open_files_max = 16;
        layout.config.close_replay_bytes_max = 1 << 20;
        layout
    }

    /// Which core runs a store.
    pub(crate) fn core_of(&self, store: usize) -> usize {
        (store + self.rotation) % self.cores
    }
}

fn tiny_config(batch_bytes_max: u32) -> StoreConfig {
    let largest_group = (u64::from(batch_bytes_max) + 1024).next_multiple_of(BLOCK);
    StoreConfig {
        journal_file_bytes: 2 * BLOCK + 4 * largest_group,
        journal_files_max: 3,
        group_bytes_max: 8192,
        group_bytes_min: 2048,
        groups_in_flight: 3,
        straight_bytes_min: 4000,
        queue_bytes_max: 8 << 20,
        spill_bytes: 8192,
        spill_partitions_max: 4,
        spills_in_flight: 2,
        spill_write_bytes: 8192,
        segment_allocation_bytes: 16 << 10,
        index_interval_bytes: 4096,
        open_files_max: 2,
        read_window_bytes: 8192,
        tail_cache_bytes: 256 << 20,
        read_cache_bytes: 32 << 10,
        close_replay_bytes_max: 12 << 10,
        seal_after_ms: 5,
        scrub_bytes_per_second: 0,
        disk_reserve_bytes: 0,
        producers_bytes_max: 1 << 20,
        producer_expiration_ms: 86_400_000,
        compaction_keys_bytes_max: 64 << 10,
        compaction_bytes_per_second: 1 << 30,
        batch_limits: BatchLimits {
            batch_bytes_max,
            ..BatchLimits::default()
        },
    }
}
