//! The metadata log on disk: opened on core 0 before anything else, appended to by its controller.

use std::io;

use corelane_storage::block_log::{BlockLog, BlockLogContents, BlockLogKind};
use corelane_storage::directory::DirectoryIdentity;
use corelane_storage::disk::Disk;

use super::StartError;
use crate::metadata::{MetadataImage, MetadataRecord};

const DIRECTORY: &str = "metadata";
const PATH: &str = "metadata/log";

/// Makes an empty log in a new data directory.
pub(super) async fn create<D: Disk>(
    disk: &D,
    identity: &DirectoryIdentity,
) -> Result<BlockLog<D>, StartError> {
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
    Ok(log)
}

/// Opens the log and adds up its records.
pub(super) async fn open<D: Disk>(disk: &D) -> Result<(BlockLog<D>, MetadataImage), StartError> {
    let (log, contents) = BlockLog::open(disk.clone(), PATH, BlockLogKind::Metadata).await?;
    let image = add_up(&contents)?;
    tracing::info!(
        records = contents.records.len(),
        topics = image.topic_count(),
        partitions = image.partition_count(),
        clean = contents.is_clean,
        "metadata log"
    );
    Ok((log, image))
}

fn add_up(contents: &BlockLogContents) -> Result<MetadataImage, StartError> {
    let mut image = MetadataImage::new();
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
