//! Making a store, and opening one.
//!
//! Owns the order in which an opening changes the disk: nothing before everything was read, then the
//! journal's flush, the end of a discarded group, the new recovery epoch, and only then appends.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use corelane_protocol::{Offset, StoreId, TopicPartition};
use futures_util::future::try_join_all;
use futures_util::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use super::commit::GroupBuffers;
use super::index_load::IndexCache;
use super::maintain::{io_error, prewrite, write_header};
use super::read_cache::ReadCache;
use super::record::REWRITE_BYTES_MIN;
use super::state::{Chain, State};
use super::{
    AsyncLock, Corruption, LogConfig, Partition, RecoveryReport, Status, Store, StoreConfig,
    StoreError, Wakes,
};
use crate::block_log::{BlockLog, BlockLogError, BlockLogKind};
use crate::catalogue::{CatalogueImage, CatalogueRecord, Checkpoint, FlushState};
use crate::disk::{BLOCK_BYTES, Disk, DiskFile, Durable, OpenOptions, WriteData};
use crate::journal::{
    ChainPoint, FIRST_GROUP, JournalCheckpoint, JournalFile, JournalFiles, JournalHeader,
    journal_number, journal_path,
};
use crate::memory::{AlignedBuf, Ledger};
use crate::recovery::{Recovered, Source, recover};
use crate::segment::{SegmentHandles, segment_path};
use crate::tail::ChunkPool;

/// Journal files that a new store has.
const FIRST_FILES: u32 = 2;
/// Segments' files that are flushed at once by an opening.
const SEGMENT_FLUSHES_IN_FLIGHT: usize = 16;

impl<D: Disk> Store<D> {
    /// Makes an empty store in a directory that does not exist yet, whose parent does. Durable on return; a
    /// crash before leaves a directory without a catalogue, which a second call completes.
    ///
    /// # Errors
    /// `Io` (`AlreadyExists` if there is a store), `Config`.
    pub async fn create(
        disk: &D,
        dir: &str,
        id: StoreId,
        uuid: Uuid,
        config: &StoreConfig,
    ) -> Result<(), StoreError> {
        check(disk, config)?;
        tracing::debug!(%id, dir, "making a store");
        match disk.create_dir(dir).await {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result.map_err(io_error("making", dir))?,
        }
        let mut files = Vec::new();
        for number in 0..FIRST_FILES {
            let file = JournalFile {
                number,
                incarnation: u64::from(number) + 1,
            };
            create_journal_file(disk, dir, uuid, file, config.journal_file_bytes).await?;
            files.push(file);
        }
        disk.sync_dir(dir)
            .await
            .map_err(io_error("flushing", dir))?;
        let parent = dir.rsplit_once('/').map_or("", |(parent, _)| parent);
        disk.sync_dir(parent)
            .await
            .map_err(io_error("flushing", parent))?;
        let checkpoint = Checkpoint {
            recovery_epoch: 0,
            epoch_first_sequence: 1,
            next_incarnation: u64::from(FIRST_FILES) + 1,
            durable_sequence: 0,
            durable_checksum: 0,
            journal: JournalCheckpoint {
                files,
                start: ChainPoint {
                    position: FIRST_GROUP,
                    sequence: 1,
                    previous_checksum: 0,
                },
            },
        };
        let records: [Vec<u8>; 0] = [];
        let path = catalogue_path(dir);
        BlockLog::create(
            disk.clone(),
            &path,
            BlockLogKind::Catalogue,
            uuid,
            &records,
            &checkpoint.encode(),
        )
        .await
        .map(drop)
        .map_err(catalogue_error)
    }

    /// Opens a store and recovers what it acknowledged. The caller then runs `tasks`.
    ///
    /// Damage does not keep it from opening unless the catalogue is damaged: see the report.
    ///
    /// # Errors
    /// `Io`, `Corrupt`, `Unsupported`, `Config`.
    pub async fn open(
        disk: D,
        dir: String,
        id: StoreId,
        config: StoreConfig,
        ledger: Rc<Ledger>,
    ) -> Result<(Rc<Self>, RecoveryReport), StoreError> {
        check(&disk, &config)?;
        let path = catalogue_path(&dir);
        let opened = BlockLog::open(disk.clone(), &path, BlockLogKind::Catalogue).await;
        let (catalogue, contents) = opened.map_err(catalogue_error)?;
        let image = replay_catalogue(&path, &contents.records)?;
        let checkpoint =
            Checkpoint::decode(&contents.checkpoint).map_err(|error| StoreError::Unsupported {
                file: path.clone(),
                reason: error.to_string(),
            })?;
        let uuid = contents.identity;
        let source = Source {
            disk: &disk,
            dir: &dir,
            store: uuid,
            image: &image,
            checkpoint: &checkpoint,
        };
        let pool = ChunkPool::new(Rc::clone(&ledger));
        let mut recovered = recover(source, pool, config.index_interval_bytes).await?;
        recovered.report.is_new = checkpoint.recovery_epoch == 0;
        recovered.report.was_clean = contents.is_clean || recovered.report.is_new;
        if recovered.report.fenced.is_none() && !crate::planted!(RecoveryNotFlushed) {
            // What was read may have been in a cache of the device only.
            let flushes = recovered
                .files
                .iter()
                .map(|(number, file)| flush_journal(&dir, *number, file));
            try_join_all(flushes).await?;
            flush_extents(&disk, &dir, &recovered).await?;
        }
        if recovered.report.discarded_from.is_some() && !crate::planted!(DiscardedTaken) {
            bury_discarded(&dir, &recovered).await?;
        }
        let free = free_files(&disk, &dir, &checkpoint).await?;
        if !recovered.report.was_clean {
            recovered.report.weak_losses = recovered.replay.weak_ends();
            if recovered.report.fenced.is_none() && !crate::planted!(LeaderEpochKept) {
                recovered.report.raised = recovered.replay.raise_epochs();
            }
        }
        let (mut state, files, mut report) =
            build_state(recovered, &checkpoint, &image, free, config, ledger);
        state.meters.weak_losses = report.weak_losses.len();
        let store = Rc::new(Self::assemble(
            disk,
            dir,
            id,
            uuid,
            state,
            Some(catalogue),
            files,
        ));
        store.start(&image, &mut report).await?;
        Ok((store, report))
    }

    /// A store that cannot be opened, so that whoever asks for its partitions learns why: every one of them
    /// is out of service. It touches no file, and its tasks end at once.
    pub fn out_of_service(
        disk: D,
        dir: String,
        id: StoreId,
        config: StoreConfig,
        ledger: Rc<Ledger>,
        partitions: &[(TopicPartition, LogConfig)],
        reason: &str,
    ) -> Rc<Self> {
        let end = ChainPoint {
            position: FIRST_GROUP,
            sequence: 1,
            previous_checksum: 0,
        };
        let limits = config.journal_limits();
        let files = JournalFiles::recovered(limits, Vec::new(), Vec::new(), Vec::new(), 1, end);
        let chain = Chain {
            recovery_epoch: 0,
            epoch_first_sequence: 1,
            durable_sequence: 0,
            durable_checksum: 0,
        };
        let mut state = State::new(config, ledger, files, chain);
        state.fence(reason.to_owned());
        for (partition, config) in partitions {
            let empty = FlushState::empty(Offset::ZERO);
            let mut partition = Partition::new(*partition, config.clone(), empty, Vec::new());
            partition.status = Status::Failed(reason.into());
            state.partitions.insert(partition);
        }
        let nobody = Uuid::nil();
        Rc::new(Self::assemble(
            disk,
            dir,
            id,
            nobody,
            state,
            None,
            BTreeMap::new(),
        ))
    }

    fn assemble(
        disk: D,
        dir: String,
        id: StoreId,
        uuid: Uuid,
        state: State,
        catalogue: Option<BlockLog<D>>,
        journal_files: BTreeMap<u32, D::File>,
    ) -> Self {
        let config = &state.config;
        Self {
            disk,
            dir,
            id,
            uuid,
            catalogue,
            catalogue_turn: AsyncLock::new(()),
            compact_at: Cell::new(REWRITE_BYTES_MIN),
            topics_turn: AsyncLock::new(()),
            journal_files: RefCell::new(journal_files),
            handles: RefCell::new(SegmentHandles::new(config.open_files_max)),
            read_cache: RefCell::new(ReadCache::new(config.read_cache_bytes)),
            indexes: RefCell::new(IndexCache::default()),
            buffers: RefCell::new(GroupBuffers::new(
                Rc::clone(&state.ledger),
                config.group_bytes_max,
            )),
            wake: Wakes::default(),
            work: Cell::new(0),
            is_closed: Cell::new(false),
            state: RefCell::new(state),
        }
    }

    /// Makes the new recovery epoch durable and then the raised leader epochs, and finishes what a crash interrupted.
    ///
    /// A disk that has been full through so many openings that the catalogue's reserve is used up lets it
    /// take no appends, but what there is can be read.
    async fn start(
        &self,
        image: &CatalogueImage,
        report: &mut RecoveryReport,
    ) -> Result<(), StoreError> {
        if self.state.borrow().fenced.is_some() {
            return Ok(());
        }
        match self.record_from_reserve(&[]).await {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::StorageFull => {
                let reason = "the disk has no room for a block of the catalogue: free space on it, and restart";
                self.fence(reason.to_owned());
                report.fenced = Some(reason.to_owned());
                return Ok(());
            }
            recorded => recorded?,
        }
        match self.record_epochs().await {
            Err(error) if error.is_disk_full() => {
                let partitions = self.state.borrow().trims.epochs.len();
                tracing::warn!(
                    partitions,
                    "the disk has no room for leader epochs: these partitions take no appends until it has"
                );
            }
            recorded => recorded?,
        }
        if !image.deleted.is_empty()
            && let Err(error) = self.remove_deleted(&image.deleted).await
        {
            // They stay in the catalogue as deleted, and the next opening tries again.
            tracing::warn!(%error, "files of deleted topics could not be removed");
        }
        Ok(())
    }
}

fn check<D: Disk>(disk: &D, config: &StoreConfig) -> Result<(), StoreError> {
    config.check().map_err(StoreError::Config)?;
    match disk.block_bytes() {
        BLOCK_BYTES => Ok(()),
        bytes => Err(StoreError::Config(format!(
            "the device writes blocks of {bytes} bytes, not of {BLOCK_BYTES}"
        ))),
    }
}

/// The path of a store's catalogue.
pub(super) fn catalogue_path(dir: &str) -> String {
    format!("{dir}/catalogue")
}

async fn create_journal_file<D: Disk>(
    disk: &D,
    dir: &str,
    store: Uuid,
    file: JournalFile,
    file_bytes: u64,
) -> Result<(), StoreError> {
    let path = journal_path(dir, file.number);
    let opened = disk
        .open(&path, OpenOptions::CREATE)
        .await
        .map_err(io_error("making", &path))?;
    prewrite(&opened, file_bytes)
        .await
        .map_err(io_error("writing", &path))?;
    let header = JournalHeader {
        store,
        incarnation: file.incarnation,
        recovery_epoch: 0,
        file_bytes,
        number: file.number,
    };
    write_header(&opened, header)
        .await
        .map_err(io_error("writing", &path))
}

async fn flush_journal<F: DiskFile>(dir: &str, number: u32, file: &F) -> Result<(), StoreError> {
    file.flush()
        .await
        .map_err(io_error("flushing", &journal_path(dir, number)))
}

/// Flushes the segments' files that groups tell of, for the same reason.
async fn flush_extents<D: Disk>(
    disk: &D,
    dir: &str,
    recovered: &Recovered<D::File>,
) -> Result<(), StoreError> {
    let partitions = recovered.replay.partitions.values();
    let paths = partitions.filter_map(|partition| {
        let segment = partition.flush.flushed.segment;
        let written = partition.tail.group_blocks_end(segment);
        written.map(|_| segment_path(dir, partition.id, segment))
    });
    let flushes = stream::iter(paths).map(|path| async move {
        let file = disk.open(&path, OpenOptions::EXISTING).await;
        let file = file.map_err(io_error("opening", &path))?;
        file.flush().await.map_err(io_error("flushing", &path))
    });
    let flushes = flushes.buffered(SEGMENT_FLUSHES_IN_FLIGHT);
    flushes.try_collect().await
}

/// Overwrites the header of the group that ended the log, durably.
///
/// It may be sound though the rest is torn, and the group that takes its sequence may find room in the next
/// file only. A later recovery would then meet the old one where it looks first.
async fn bury_discarded<F: DiskFile>(
    dir: &str,
    recovered: &Recovered<F>,
) -> Result<(), StoreError> {
    let (file, _) = recovered.in_use.last().expect("a group was found in it");
    let opened = recovered
        .files
        .iter()
        .find(|(number, _)| *number == file.number);
    let (number, opened) = opened.expect("every file in use is open");
    let zeros = WriteData::from(AlignedBuf::zeroed(BLOCK_BYTES));
    let written = opened
        .write(recovered.end.position, zeros, Durable::Data)
        .await;
    written.map_err(io_error("writing", &journal_path(dir, *number)))
}

fn replay_catalogue(path: &str, records: &[Vec<u8>]) -> Result<CatalogueImage, StoreError> {
    let mut image = CatalogueImage::default();
    for (index, record) in records.iter().enumerate() {
        let record = CatalogueRecord::decode(record).map_err(|error| StoreError::Unsupported {
            file: path.to_owned(),
            reason: format!("record {index}: {error}"),
        })?;
        image.apply(record).map_err(|what| Corruption {
            file: path.to_owned(),
            position: 0,
            reason: format!("record {index}: {what}"),
        })?;
    }
    Ok(image)
}

/// The journal files that the checkpoint does not name: left by a crash, or not needed any more.
async fn free_files<D: Disk>(
    disk: &D,
    dir: &str,
    checkpoint: &Checkpoint,
) -> Result<Vec<u32>, StoreError> {
    let entries = disk.list(dir).await.map_err(io_error("listing", dir))?;
    let numbers = entries
        .iter()
        .filter(|entry| !entry.is_dir)
        .filter_map(|entry| journal_number(&entry.name));
    let is_free = |number: &u32| {
        !checkpoint
            .journal
            .files
            .iter()
            .any(|file| file.number == *number)
    };
    Ok(numbers.filter(is_free).collect())
}

type Built<F> = (State, BTreeMap<u32, F>, RecoveryReport);

fn build_state<F>(
    recovered: Recovered<F>,
    checkpoint: &Checkpoint,
    image: &CatalogueImage,
    free: Vec<u32>,
    config: StoreConfig,
    ledger: Rc<Ledger>,
) -> Built<F> {
    let end = recovered.end;
    let limits = config.journal_limits();
    let next_incarnation = checkpoint.next_incarnation;
    let mut files = JournalFiles::recovered(
        limits,
        recovered.in_use,
        recovered.armed,
        free,
        next_incarnation,
        end,
    );
    let chain = Chain {
        recovery_epoch: checkpoint.recovery_epoch + u64::from(!crate::planted!(EpochNotRaised)),
        epoch_first_sequence: end.sequence,
        durable_sequence: end.sequence - 1,
        durable_checksum: end.previous_checksum,
    };
    let report = recovered.report;
    let (partitions, pool) = recovered.replay.into_parts(&mut files);
    let mut state = State::new(config, ledger, files, chain);
    state.pool = pool;
    state.removing.clone_from(&image.deleted);
    state.files.release();
    if let Some(reason) = &report.fenced {
        state.fence(reason.clone());
    }
    for partition in partitions {
        let is_large = partition.unspilled_bytes() >= state.config.spill_bytes
            && partition.refusal().is_none();
        let awaits_epoch = partition.flags.awaits_epoch;
        let handle = state.partitions.insert(partition);
        if awaits_epoch {
            state.trims.epochs.push(handle);
        }
        if is_large {
            state.queue_spill(handle);
        }
        state.queue_rolled(handle);
        state.queue_removal(handle);
    }
    state.count_producers();
    let journal_files = recovered.files.into_iter().collect();
    (state, journal_files, report)
}

fn catalogue_error(error: BlockLogError) -> StoreError {
    let message = error.to_string();
    match error {
        BlockLogError::Io { file, source } => StoreError::io("opening", file, source),
        BlockLogError::Corrupt {
            file,
            position,
            what,
        } => Corruption {
            file,
            position,
            reason: what.to_owned(),
        }
        .into(),
        BlockLogError::Version { file, .. } | BlockLogError::Kind { file, .. } => {
            StoreError::Unsupported {
                file,
                reason: message,
            }
        }
        BlockLogError::Poisoned { .. } | BlockLogError::TooLarge { .. } => {
            StoreError::Fenced(message.into())
        }
    }
}
