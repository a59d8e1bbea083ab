//! The metadata log on disk: opened on core 0 before anything else, appended to by its controller.
//!
//! Owns when the log is rewritten: once it is many times as long as what it adds up to. Never decides what is
//! in it.

use std::cell::Cell;
use std::io;

use corelane_storage::block_log::{BlockLog, BlockLogContents, BlockLogError, BlockLogKind};
use corelane_storage::directory::DirectoryIdentity;
use corelane_storage::disk::Disk;

use super::StartError;
use crate::lane::TaskFailure;
use crate::metadata::{MetadataImage, MetadataRecord};

const DIRECTORY: &str = "metadata";
const PATH: &str = "metadata/log";

/// A log of so many records is not worth rewriting.
const REWRITE_RECORDS_MIN: u64 = 1024;

/// A longer log is rewritten once it has so many times the records that are needed.
const REWRITE_FACTOR: u64 = 4;

/// The open log.
pub struct MetadataLog<D: Disk> {
    log: BlockLog<D>,
    /// Records in the file.
    records: Cell<u64>,
    /// A rewriting that failed is tried again once the file has so many records.
    rewrite_at: Cell<u64>,
}

/// What a rewritten log consists of.
pub struct Rewriting {
    records: Vec<Vec<u8>>,
    checkpoint: [u8; 8],
}

impl<D: Disk> MetadataLog<D> {
    fn new(log: BlockLog<D>, records: u64) -> Self {
        Self {
            log,
            records: Cell::new(records),
            rewrite_at: Cell::new(REWRITE_RECORDS_MIN),
        }
    }

    /// Makes an empty log in a new data directory.
    ///
    /// # Errors
    /// Those of the disk and the block log.
    pub async fn create(disk: &D, identity: &DirectoryIdentity) -> Result<Self, StartError> {
        let failed = |source: io::Error| StartError::Directory(source.into());
        disk.create_dir(DIRECTORY).await.map_err(failed)?;
        let no_records: [&[u8]; 0] = [];
        let log = BlockLog::create(
            disk.clone(),
            PATH,
            BlockLogKind::Metadata,
            identity.directory,
            &no_records,
            &[],
        )
        .await?;
        disk.sync_dir(DIRECTORY).await.map_err(failed)?;
        disk.sync_dir("").await.map_err(failed)?;
        Ok(Self::new(log, 0))
    }

    /// Opens the log, adds up its records, and rewrites it if it is long.
    ///
    /// # Errors
    /// Those of the block log, and a record that does not follow the ones before.
    pub async fn open(disk: &D) -> Result<(Self, MetadataImage), StartError> {
        let (log, contents) = BlockLog::open(disk.clone(), PATH, BlockLogKind::Metadata).await?;
        let image = add_up(&contents)?;
        tracing::info!(
            records = contents.records.len(),
            position = image.records_applied(),
            topics = image.topic_count(),
            partitions = image.partition_count(),
            clean = contents.is_clean,
            "metadata log"
        );
        let log = Self::new(log, contents.records.len() as u64);
        if let Some(rewriting) = log.rewriting(&image) {
            log.rewrite(rewriting).await;
        }
        Ok((log, image))
    }

    /// Appends records, all or none of them. Durable on return. Records that free room may use what is kept
    /// for them on a full disk.
    ///
    /// # Errors
    /// `TaskFailure`, which says whether the disk is full and nothing has changed.
    pub async fn append(&self, records: &[Vec<u8>], frees_room: bool) -> Result<(), TaskFailure> {
        let appended = if frees_room {
            self.log.append_from_reserve(records, None).await
        } else {
            self.log.append(records, None).await
        };
        match appended {
            Ok(()) => {
                self.records.set(self.records.get() + records.len() as u64);
                Ok(())
            }
            Err(error) if error.is_disk_full() && !self.log.is_poisoned().await => {
                Err(TaskFailure::DiskFull(error.to_string()))
            }
            Err(error) => Err(TaskFailure::Failed(error.to_string())),
        }
    }

    /// Marks the log as cleanly ended. Durable on return.
    ///
    /// # Errors
    /// Those of the block log.
    pub async fn mark_clean(&self) -> Result<(), BlockLogError> {
        self.log.mark_clean(None).await
    }

    /// What to rewrite the log with, if it is long. `image` is what it adds up to.
    pub fn rewriting(&self, image: &MetadataImage) -> Option<Rewriting> {
        let needed = image.snapshot_records();
        let records = self.records.get();
        if records <= self.rewrite_at.get().max(REWRITE_FACTOR * needed) {
            return None;
        }
        let before = image.records_applied() - needed;
        let records = image.snapshot();
        Some(Rewriting {
            records: records.iter().map(MetadataRecord::encode).collect(),
            checkpoint: before.to_le_bytes(),
        })
    }

    /// Replaces the log. One that could not be is used as it is, or takes no more records and says so.
    pub async fn rewrite(&self, rewriting: Rewriting) {
        let Rewriting {
            records,
            checkpoint,
        } = rewriting;
        let before = self.records.get();
        match self.log.rewrite(&records, &checkpoint).await {
            Ok(()) => {
                self.records.set(records.len() as u64);
                self.rewrite_at.set(REWRITE_RECORDS_MIN);
                tracing::info!(before, after = records.len(), "metadata log rewritten");
            }
            Err(error) => {
                self.rewrite_at.set(2 * before);
                tracing::warn!(%error, "the metadata log could not be rewritten");
            }
        }
    }
}

/// The checkpoint of a rewritten log says how many records there were before its first one.
fn add_up(contents: &BlockLogContents) -> Result<MetadataImage, StartError> {
    let before = match contents.checkpoint.as_slice() {
        [] => 0,
        bytes => {
            let bytes = bytes
                .try_into()
                .map_err(|_| StartError::MetadataPosition { bytes: bytes.len() })?;
            u64::from_le_bytes(bytes)
        }
    };
    let mut image = MetadataImage::at_position(before);
    for (index, bytes) in contents.records.iter().enumerate() {
        let number = index + 1;
        let record = MetadataRecord::decode(bytes)
            .map_err(|source| StartError::MetadataRecord { number, source })?;
        image
            .apply(&record)
            .map_err(|source| StartError::MetadataImage { number, source })?;
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use corelane_protocol::{PartitionIndex, StoreId, TopicId, TopicName};
    use corelane_storage::disk::memory::{DiskImage, Fault, MemoryDisk};
    use corelane_storage::testing::Executor;
    use uuid::Uuid;

    use super::*;

    /// The records of a topic that is made, and of one that is deleted.
    fn churn(number: u64, is_kept: bool) -> Vec<MetadataRecord> {
        let id = TopicId::new(Uuid::from_u128(u128::from(number) + 1));
        let mut records = vec![
            MetadataRecord::TopicCreated {
                id,
                name: TopicName::new(format!("t{number}")).expect("a valid name"),
                partitions: 1,
                settings: vec![],
            },
            MetadataRecord::PartitionsPlaced {
                topic: id,
                first: PartitionIndex::new(0),
                stores: vec![StoreId::new(0)],
            },
        ];
        if !is_kept {
            records.push(MetadataRecord::TopicDeleted { id });
        }
        records
    }

    fn identity() -> DirectoryIdentity {
        DirectoryIdentity {
            cluster: Uuid::from_u128(1),
            directory: Uuid::from_u128(2),
            stores: 1,
        }
    }

    async fn log_and_apply(
        log: &MetadataLog<MemoryDisk>,
        image: &mut MetadataImage,
        records: &[MetadataRecord],
    ) {
        let encoded: Vec<_> = records.iter().map(MetadataRecord::encode).collect();
        log.append(&encoded, false).await.expect("a healthy disk");
        for record in records {
            image.apply(record).expect("it fits");
        }
    }

    /// A log that is to be rewritten when it is opened, and what it adds up to.
    fn long_log() -> (DiskImage, MetadataImage) {
        let executor = Executor::new(1);
        let disk = MemoryDisk::new(&executor);
        let mut image = MetadataImage::new();
        executor.block_on(async {
            let log = MetadataLog::create(&disk, &identity()).await.expect("new");
            for round in 0..20 {
                let topics = (0..20).flat_map(|n| churn(round * 20 + n, n == 3));
                let records: Vec<_> = topics.collect();
                log_and_apply(&log, &mut image, &records).await;
            }
        });
        assert_eq!(image.topic_count(), 20);
        (disk.image(), image)
    }

    fn open(disk: &DiskImage) -> (Executor, MemoryDisk, MetadataLog<MemoryDisk>, MetadataImage) {
        let executor = Executor::new(2);
        let disk = MemoryDisk::from_image(&executor, disk);
        let (log, image) = executor
            .block_on(MetadataLog::open(&disk))
            .expect("a sound log");
        (executor, disk, log, image)
    }

    #[test]
    fn a_long_log_is_rewritten_and_its_positions_go_on() {
        let (long, expected) = long_log();
        let (executor, disk, log, mut image) = open(&long);
        assert_eq!(image, expected);
        assert_eq!(log.records.get(), expected.snapshot_records());
        let more = churn(9000, true);
        executor.block_on(log_and_apply(&log, &mut image, &more));
        assert_eq!(image.records_applied(), expected.records_applied() + 2);
        // A power loss, and one more: what was rewritten is not long.
        for seed in 0..2 {
            let (_, _, log, again) = open(&disk.crash(seed));
            assert_eq!(again, image);
            assert_eq!(log.records.get(), image.snapshot_records());
        }
        let length = |disk: &DiskImage| disk.read(PATH).expect("it exists").len();
        assert!(length(&disk.image()) < length(&long));
    }

    #[test]
    fn a_log_is_rewritten_while_it_is_used() {
        let executor = Executor::new(3);
        let disk = MemoryDisk::new(&executor);
        let mut image = MetadataImage::new();
        let mut rewritten = 0;
        executor.block_on(async {
            let log = MetadataLog::create(&disk, &identity()).await.expect("new");
            for number in 0..2000 {
                log_and_apply(&log, &mut image, &churn(number, number % 500 == 0)).await;
                if let Some(rewriting) = log.rewriting(&image) {
                    log.rewrite(rewriting).await;
                    rewritten += 1;
                }
            }
        });
        assert_eq!(rewritten, 5);
        assert_eq!(open(&disk.crash(3)).3, image);
    }

    #[test]
    fn a_short_log_and_one_that_is_all_needed_stay() {
        let executor = Executor::new(4);
        let disk = MemoryDisk::new(&executor);
        executor.block_on(async {
            let log = MetadataLog::create(&disk, &identity()).await.expect("new");
            let mut image = MetadataImage::new();
            for number in 0..340 {
                log_and_apply(&log, &mut image, &churn(number, false)).await;
                assert!(log.rewriting(&image).is_none(), "{number}");
            }
            let kept: Vec<_> = (1000..2000)
                .flat_map(|number| churn(number, true))
                .collect();
            log_and_apply(&log, &mut image, &kept).await;
            assert!(log.rewriting(&image).is_none());
        });
    }

    #[test]
    fn a_crash_at_every_step_of_a_rewriting_keeps_the_image() {
        let (long, expected) = long_log();
        let mut rewritten = 0;
        for step in 0.. {
            let executor = Executor::new(step);
            let disk = MemoryDisk::from_image(&executor, &long);
            disk.halt_at(step);
            let opened = executor.try_block_on(MetadataLog::open(&disk));
            let image = disk.crash(step);
            executor.crash();
            let length = image.read(PATH).expect("it exists").len();
            rewritten += u32::from(length < long.read(PATH).expect("it exists").len());
            assert_eq!(open(&image).3, expected, "step {step}");
            if opened.is_some() {
                break;
            }
        }
        assert!(rewritten > 1, "only the last step rewrote");
    }

    /// Nothing but deletions finds room, the log is not rewritten, and both go on once there is some.
    #[test]
    fn a_full_disk_refuses_all_but_deletions_and_is_over_by_itself() {
        let executor = Executor::new(5);
        let disk = MemoryDisk::new(&executor);
        let mut image = MetadataImage::new();
        executor.block_on(async {
            let log = MetadataLog::create(&disk, &identity()).await.expect("new");
            for round in 0..20 {
                let records: Vec<_> = (0..20)
                    .flat_map(|n| churn(round * 20 + n, n == 3))
                    .collect();
                log_and_apply(&log, &mut image, &records).await;
            }
            disk.set_capacity(Some(disk.allocated()));
            let rewriting = log.rewriting(&image).expect("it is long");
            log.rewrite(rewriting).await;
            assert!(log.rewriting(&image).is_none(), "not before it has grown");
            assert_eq!(disk.files().len(), 1, "nothing is left of the attempt");

            let mut number = 1000;
            let refused = loop {
                let records = churn(number, true);
                let encoded: Vec<_> = records.iter().map(MetadataRecord::encode).collect();
                match log.append(&encoded, false).await {
                    Ok(()) => records
                        .iter()
                        .for_each(|record| image.apply(record).expect("it fits")),
                    Err(refused) => break refused,
                }
                number += 1;
            };
            assert!(matches!(refused, TaskFailure::DiskFull(_)), "{refused}");
            let id = TopicId::new(Uuid::from_u128(4));
            let deleted = MetadataRecord::TopicDeleted { id };
            let encoded = [deleted.encode()];
            log.append(&encoded, true).await.expect("it makes room");
            image.apply(&deleted).expect("it fits");

            disk.set_capacity(None);
            log_and_apply(&log, &mut image, &churn(number, true)).await;
            log.mark_clean().await.expect("there is room");
        });
        assert_eq!(open(&disk.crash(1)).3, image);
    }

    #[test]
    fn an_error_at_every_step_of_a_rewriting_keeps_the_image() {
        let (long, expected) = long_log();
        for errno in [libc::EIO, libc::ENOSPC] {
            for step in 0.. {
                let executor = Executor::new(step);
                let disk = MemoryDisk::from_image(&executor, &long);
                disk.inject(Fault::error(errno).at(step));
                let opened = executor.block_on(MetadataLog::open(&disk));
                let is_beyond = disk.operations() <= step;
                disk.clear_faults();
                let mut again = expected.clone();
                if let Ok((log, image)) = opened {
                    assert_eq!(image, expected, "step {step}");
                    // It goes on, or says that it cannot.
                    let records = churn(9000, true);
                    let encoded: Vec<_> = records.iter().map(MetadataRecord::encode).collect();
                    if executor.block_on(log.append(&encoded, false)).is_ok() {
                        for record in &records {
                            again.apply(record).expect("it fits");
                        }
                    }
                }
                executor.crash();
                let found = open(&disk.crash(step)).3;
                assert_eq!(found, again, "errno {errno}, step {step}");
                if is_beyond {
                    break;
                }
            }
        }
    }
}
