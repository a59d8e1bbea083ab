//! Whether the segment files that the catalogue names are there, and long enough.
//!
//! Owns this one question. What is in them is checked when it is read.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::replay::{Replay, fail};
use crate::disk::Disk;
use crate::segment::segment_path;
use crate::store::{Partition, StoreError};

/// Questions to the disk in flight.
const QUESTIONS_IN_FLIGHT: usize = 32;

/// Takes every partition out of service that lacks a file, or the end of one.
pub(super) async fn check_segments<D: Disk>(
    disk: &D,
    dir: &str,
    replay: &mut Replay,
) -> Result<(), StoreError> {
    let needed: Vec<_> = replay
        .partitions
        .values()
        .flat_map(|partition| needed_files(dir, partition))
        .collect();
    let answers = stream::iter(needed).map(|(id, path, bytes)| async move {
        let len = disk
            .file_len(&path)
            .await
            .map_err(|error| StoreError::io("reading", path.clone(), error))?;
        Ok::<_, StoreError>((id, path, bytes, len))
    });
    let answers: Vec<_> = answers.buffered(QUESTIONS_IN_FLIGHT).try_collect().await?;
    for (id, path, bytes, len) in answers {
        let partition = replay.partitions.get_mut(&id).expect("it was asked for");
        match len {
            None => fail(partition, format!("{path} is missing")),
            Some(len) if len < bytes => {
                fail(
                    partition,
                    format!(
                        "{path} is damaged at byte {len}: the file ends here, {bytes} bytes were written"
                    ),
                );
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn needed_files(
    dir: &str,
    partition: &Partition,
) -> Vec<(corelane_protocol::TopicPartition, String, u64)> {
    let sealed = partition
        .sealed
        .iter()
        .map(|segment| (segment.path(dir, partition.id), segment.file_bytes));
    let flushed = partition.flush.flushed;
    let active = (partition.flush.incarnation != 0).then(|| {
        let path = segment_path(dir, partition.id, flushed.segment);
        (path, flushed.at)
    });
    let files = sealed.chain(active);
    files
        .map(|(path, bytes)| (partition.id, path, bytes))
        .collect()
}
