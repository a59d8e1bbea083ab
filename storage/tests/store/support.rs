//! A machine with one disk, stores on it, and a memory of what they acknowledged.

use std::rc::Rc;

use corelane_protocol::batch::{BatchBuilder, BatchBuilderConfig, BatchLimits, RecordRef, batches};
use corelane_protocol::{Offset, PartitionIndex, StoreId, Timestamp, TopicId, TopicPartition};
use corelane_storage::disk::memory::{DiskImage, MemoryDisk};
use corelane_storage::memory::Ledger;
use corelane_storage::store::{
    Appended, Fetched, LogConfig, Progress, Read, ReadError, RecoveryReport, StoreConfig,
    StoreError,
};
use corelane_storage::testing::Executor;
use uuid::Uuid;

pub(crate) type Store = corelane_storage::Store<MemoryDisk>;

pub(crate) const STORE: &str = "store-0000";
pub(crate) const NOW: Timestamp = Timestamp::new(1_700_000_000_000);

/// Limits so small that a short run meets every one of them.
pub(crate) fn small_config() -> StoreConfig {
    StoreConfig {
        journal_file_bytes: 96 << 10,
        journal_files_max: 4,
        group_bytes_max: 16 << 10,
        group_bytes_min: 4 << 10,
        straight_bytes_min: 8 << 10,
        groups_in_flight: 3,
        queue_bytes_max: 8 << 20,
        spill_bytes: 16 << 10,
        spill_partitions_max: 8,
        spills_in_flight: 3,
        spill_write_bytes: 12 << 10,
        segment_allocation_bytes: 32 << 10,
        index_interval_bytes: 4 << 10,
        open_files_max: 3,
        read_window_bytes: 16 << 10,
        tail_cache_bytes: 256 << 10,
        read_cache_bytes: 64 << 10,
        close_replay_bytes_max: 8 << 10,
        seal_after_ms: 10,
        scrub_bytes_per_second: 0,
        disk_reserve_bytes: 0,
        producers_bytes_max: 1 << 20,
        producer_expiration_ms: 86_400_000,
        compaction_keys_bytes_max: 64 << 10,
        compaction_bytes_per_second: 1 << 30,
        batch_limits: BatchLimits {
            batch_bytes_max: 20_000,
            ..BatchLimits::default()
        },
    }
}

pub(crate) fn small_log() -> LogConfig {
    LogConfig {
        segment_bytes: 40 << 10,
        ..LogConfig::default()
    }
}

pub(crate) fn ledger() -> Rc<Ledger> {
    Rc::new(Ledger::new(16 << 20, 12 << 20))
}

pub(crate) fn topic(number: u128) -> TopicId {
    TopicId::new(Uuid::from_u128(
        0x7000_0000_0000_4000_8000_0000_0000_0000 + number,
    ))
}

pub(crate) fn partition(topic_number: u128, index: u32) -> TopicPartition {
    TopicPartition::new(topic(topic_number), PartitionIndex::new(index))
}

/// A batch whose records' values tell `name` and their number, padded to about `value_bytes` each.
pub(crate) fn batch(name: &str, records: u32, value_bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchBuilderConfig::default()).expect("no codec is needed");
    for record in 0..records {
        let mut value = format!("{name}/{record}/");
        while value.len() < value_bytes {
            value.push((b'a' + (value.len() % 26) as u8) as char);
        }
        let record = RecordRef {
            key: None,
            value: Some(value.as_bytes()),
            headers: &[],
            timestamp: NOW,
        };
        builder.try_push(record).expect("the batch has room");
    }
    builder.finish().expect("there are records").to_vec()
}

/// An executor and the disk that runs on it.
pub(crate) struct Machine {
    pub(crate) executor: Executor,
    pub(crate) disk: MemoryDisk,
}

impl Machine {
    pub(crate) fn new(seed: u64) -> Self {
        let executor = Executor::new(seed);
        let disk = MemoryDisk::new(&executor);
        Self { executor, disk }
    }

    pub(crate) fn from_image(seed: u64, image: &DiskImage) -> Self {
        let executor = Executor::new(seed);
        let disk = MemoryDisk::from_image(&executor, image);
        Self { executor, disk }
    }

    pub(crate) fn create(&self, dir: &str, config: &StoreConfig) {
        let uuid = Uuid::from_u128(
            0xc0de_0000_0000_4000_8000_0000_0000_0000 + u128::from(dir.as_bytes()[dir.len() - 1]),
        );
        let created = Store::create(&self.disk, dir, StoreId::new(0), uuid, config);
        self.executor.block_on(created).expect("the disk is empty");
    }

    /// Opens a store and runs its tasks.
    pub(crate) fn open(
        &self,
        dir: &str,
        config: StoreConfig,
    ) -> Result<(Rc<Store>, RecoveryReport), StoreError> {
        self.open_with(dir, config, ledger())
    }

    pub(crate) fn open_with(
        &self,
        dir: &str,
        config: StoreConfig,
        ledger: Rc<Ledger>,
    ) -> Result<(Rc<Store>, RecoveryReport), StoreError> {
        let opened = Store::open(
            self.disk.clone(),
            dir.to_owned(),
            StoreId::new(0),
            config,
            ledger,
        );
        let (store, report) = self.executor.block_on(opened)?;
        self.run(&store);
        Ok((store, report))
    }

    pub(crate) fn run(&self, store: &Rc<Store>) {
        for task in store.tasks() {
            self.executor.spawn(task);
        }
    }

    /// A new store with these partitions.
    pub(crate) fn store_with(
        &self,
        config: StoreConfig,
        partitions: &[(TopicPartition, LogConfig)],
    ) -> Rc<Store> {
        self.create(STORE, &config);
        let (store, _) = self.open(STORE, config).expect("it was just made");
        self.executor
            .block_on(store.create_partitions(partitions))
            .expect("the disk works");
        store
    }

    /// Runs until nothing happens any more without new input.
    pub(crate) fn settle(&self) {
        self.executor.run_until_stalled();
    }

    /// Everything of a partition from an offset to the high watermark.
    pub(crate) fn read_all(
        &self,
        store: &Rc<Store>,
        of: TopicPartition,
        from: Offset,
    ) -> Result<Vec<u8>, ReadError> {
        self.executor.block_on(read_all(store, of, from, 10_000))
    }
}

pub(crate) async fn read_all(
    store: &Rc<Store>,
    of: TopicPartition,
    from: Offset,
    bytes_max: usize,
) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    let mut next = from;
    loop {
        let fetched = read_once(store, of, next, bytes_max).await?;
        if fetched.bytes == 0 {
            return Ok(bytes);
        }
        assert_eq!(
            fetched.bytes,
            fetched.parts.iter().map(|part| part.len()).sum::<usize>()
        );
        for part in &fetched.parts {
            bytes.extend_from_slice(part);
        }
        assert!(fetched.next_offset > next);
        next = fetched.next_offset;
    }
}

pub(crate) async fn read_once(
    store: &Rc<Store>,
    of: TopicPartition,
    from: Offset,
    bytes_max: usize,
) -> Result<Fetched, ReadError> {
    match store.read(of, from, bytes_max, true)? {
        Read::Ready(fetched) => Ok(fetched),
        Read::Disk(read) => store.read_disk(read).await,
    }
}

/// Appends at a fixed time.
pub(crate) fn append(store: &Store, to: TopicPartition, batch: &[u8]) -> Appended {
    store.append(to, batch, NOW).expect("the store takes it")
}

/// A batch as it should come back: the producer's bytes, without the stamp.
pub(crate) fn payloads(bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    for batch in batches(bytes) {
        let batch = batch.expect("whole batches");
        let stamp = corelane_protocol::batch::Stamp::read(batch).expect("a stamp");
        found.push((stamp.base_offset.get(), batch[48..].to_vec()));
    }
    found
}

/// What progress says of a partition since the last call.
pub(crate) fn durable_end(store: &Store, of: TopicPartition) -> Offset {
    let mut progress = Vec::new();
    store.take_progress(&mut progress);
    drop(progress);
    store.offsets(of).expect("the partition exists").durable_end
}

pub(crate) fn progress(store: &Store) -> Vec<Progress> {
    let mut progress = Vec::new();
    store.take_progress(&mut progress);
    progress
}
