//! Looking at a data directory that was damaged: everything that is served must be right, and everything that
//! is not served must be reported.

use std::ops::Range;
use std::rc::Rc;

use corelane_protocol::{StoreId, TopicPartition};
use corelane_storage::disk::memory::{DiskImage, MemoryDisk, Operation};
use corelane_storage::memory::Ledger;
use corelane_storage::store::{LogState, Read, ReadError, Store};
use corelane_storage::testing::Executor;

use super::client::bytes_of;
use super::layout::Layout;
use super::oracle::{Existence, Log, Oracle};
use super::world::store_dir;

/// Something that was reported as damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) store: usize,
    /// The partition that is out of service or cannot be read in part, or the whole store.
    pub(crate) partition: Option<TopicPartition>,
    pub(crate) message: String,
}

/// What came of an inspection.
pub(crate) struct Inspection {
    pub(crate) findings: Vec<Finding>,
    /// What was done to the disk.
    pub(crate) operations: Vec<Operation>,
    /// Parts of groups that were read from segments.
    pub(crate) extents_replayed: u64,
}

/// Opens all stores of a data directory and reads everything.
///
/// # Errors
/// Something was served that never was there, or something is gone and nobody said so.
pub(crate) fn inspect(
    image: &DiskImage,
    layout: &Layout,
    oracle: &Oracle,
) -> Result<Inspection, String> {
    inspect_stores(image, layout, oracle, 0..layout.stores)
}

/// Opens some of the stores of a data directory and reads everything in them.
///
/// # Errors
/// As `inspect`.
pub(crate) fn inspect_stores(
    image: &DiskImage,
    layout: &Layout,
    oracle: &Oracle,
    stores: Range<usize>,
) -> Result<Inspection, String> {
    let executor = Executor::new(7);
    let disk = MemoryDisk::from_image(&executor, image);
    disk.start_trace();
    let inspected = executor.block_on(async {
        let (mut findings, mut extents) = (Vec::new(), 0);
        for store in stores {
            extents += inspect_store(&disk, layout, oracle, store, &mut findings).await?;
        }
        Ok((findings, extents))
    });
    inspected.map(|(findings, extents_replayed)| Inspection {
        findings,
        extents_replayed,
        operations: disk.take_trace(),
    })
}

/// Returns how many parts of groups were read from segments.
async fn inspect_store(
    disk: &MemoryDisk,
    layout: &Layout,
    oracle: &Oracle,
    index: usize,
    findings: &mut Vec<Finding>,
) -> Result<u64, String> {
    let mut report = |partition, message| {
        findings.push(Finding {
            store: index,
            partition,
            message,
        })
    };
    let ledger = Rc::new(Ledger::new(layout.memory_bytes, layout.memory_bytes_soft));
    let (dir, id) = (store_dir(index), StoreId::new(index as u16));
    let (store, opened) =
        match Store::open(disk.clone(), dir, id, layout.config.clone(), ledger).await {
            Ok(opened) => opened,
            Err(error) => {
                report(None, error.to_string());
                return Ok(0);
            }
        };
    if let Some(reason) = &opened.fenced {
        report(None, reason.clone());
    }
    let found = store.partitions();
    for partition in found.iter().filter(|_| opened.fenced.is_none()) {
        let existence = oracle.logs.get(partition).map(|log| log.existence);
        if existence.is_none_or(|existence| existence == Existence::Deleted) {
            return Err(format!("{partition} is there: {existence:?}"));
        }
    }
    for (partition, log) in oracle.existing().filter(|(_, log)| log.store == index) {
        if !found.contains(&partition) {
            if opened.fenced.is_some() {
                continue;
            }
            return Err(format!("{partition} is gone, and nothing says so"));
        }
        inspect_log(&store, partition, log, &mut report)
            .await
            .map_err(|what| format!("{partition}: {what}"))?;
    }
    Ok(opened.extents_replayed)
}

async fn inspect_log(
    store: &Rc<Store<MemoryDisk>>,
    partition: TopicPartition,
    log: &Log,
    report: &mut impl FnMut(Option<TopicPartition>, String),
) -> Result<(), String> {
    let description = store
        .describe(partition)
        .map_err(|error| error.to_string())?;
    let end = description.offsets.high_watermark;
    let is_online = match &description.state {
        LogState::Online => true,
        LogState::Failed(reason) => {
            report(Some(partition), reason.to_string());
            false
        }
    };
    if is_online && end < log.promised() || end > log.end() {
        let (promised, appended) = (log.promised(), log.end());
        return Err(format!(
            "the log ends at {end}, promised to {promised}, appended to {appended}; nothing says so"
        ));
    }
    let log_start = description.offsets.log_start;
    if is_online && log_start < log.log_start() {
        let known = log.log_start();
        return Err(format!(
            "the log starts at {log_start}, and started at {known}"
        ));
    }
    let bases = log.bases(end);
    let mut from = log_start;
    while from < end {
        let read = match store.read(partition, from, 24 << 10, true) {
            Ok(Read::Ready(fetched)) => Ok(fetched),
            Ok(Read::Disk(read)) => store.read_disk(read).await,
            Err(error) => Err(error),
        };
        match read {
            Ok(fetched) => {
                log.compare(from, &bytes_of(&fetched), fetched.next_offset)?;
                if fetched.next_offset <= from {
                    return Err(format!("a read from {from} gave nothing"));
                }
                from = fetched.next_offset;
            }
            Err(
                error @ (ReadError::Corrupt(_)
                | ReadError::Io { .. }
                | ReadError::PartitionFailed(_)),
            ) => {
                report(Some(partition), error.to_string());
                // Other data of the partition is still to be had.
                let next = bases.iter().find(|base| **base > from);
                from = next.copied().unwrap_or(end);
            }
            Err(error) => return Err(format!("a read from {from}: {error}")),
        }
    }
    Ok(())
}
