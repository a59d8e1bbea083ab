//! Opening a store, or putting it out of service where its files are not what they should be.
//!
//! One damaged store costs its own partitions, never the broker. Nothing of it is changed, so that
//! files that are put back serve at the next start. Runs on each core, once, for its own stores.

use std::io;
use std::rc::Rc;

use corelane_protocol::{PartitionIndex, StoreId, TopicPartition};
use corelane_storage::disk::Disk;
use corelane_storage::memory::Ledger;
use corelane_storage::store::{LogConfig, RecoveryReport, Store, StoreConfig, StoreError};

use super::found::tell_losses;
use super::records::log_config;
use crate::config::BrokerConfig;
use crate::metadata::MetadataImage;

/// Opens the store in `dir`. If its files are damaged or missing, the store is out of service and
/// has the partitions that `image` places in it; [`Store::unfit`] says why.
///
/// # Errors
/// What is not the fault of the store's files: the configuration, or the system's limits.
pub async fn open_store<D: Disk>(
    disk: &D,
    dir: &str,
    id: StoreId,
    settings: StoreConfig,
    ledger: &Rc<Ledger>,
    image: &MetadataImage,
    config: &BrokerConfig,
) -> Result<(Rc<Store<D>>, RecoveryReport), StoreError> {
    let opened = Store::open(
        disk.clone(),
        dir.to_owned(),
        id,
        settings.clone(),
        Rc::clone(ledger),
    );
    let (reason, report) = match opened.await {
        // It opened, and takes no appends; none of its partitions can be read.
        Ok((store, report)) => match report.fenced.clone() {
            Some(reason) => (reason, report),
            None => {
                tell_losses(&report, image, config);
                return Ok((store, report));
            }
        },
        Err(error) if is_damage(&error) => {
            let reason = error.to_string();
            let report = RecoveryReport {
                fenced: Some(reason.clone()),
                ..RecoveryReport::default()
            };
            (reason, report)
        }
        Err(error) => return Err(error),
    };
    let store = Store::out_of_service(
        disk.clone(),
        dir.to_owned(),
        id,
        settings,
        Rc::clone(ledger),
        &placed_in(id, image, config),
        &reason,
    );
    Ok((store, report))
}

/// Whether the store's files are to blame, so that another try would find the same.
fn is_damage(error: &StoreError) -> bool {
    match error {
        StoreError::Corrupt(_) | StoreError::Unsupported { .. } => true,
        StoreError::Io { source, .. } => {
            let is_missing = matches!(
                source.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::IsADirectory
                    | io::ErrorKind::UnexpectedEof
            );
            is_missing || source.raw_os_error() == Some(libc::EIO)
        }
        StoreError::Config(_) | StoreError::Fenced(_) | StoreError::Closed => false,
    }
}

fn placed_in(
    store: StoreId,
    image: &MetadataImage,
    config: &BrokerConfig,
) -> Vec<(TopicPartition, LogConfig)> {
    let mut placed = Vec::new();
    for topic in image.topics() {
        let settings = log_config(&topic.effective(config));
        for (index, placement) in (0..).zip(&topic.partitions) {
            if placement.store == store {
                let partition = TopicPartition::new(topic.id, PartitionIndex::new(index));
                placed.push((partition, settings.clone()));
            }
        }
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_files_themselves_put_a_store_out_of_service() {
        let io = |errno| StoreError::Io {
            operation: "reading",
            file: "store-0000/catalogue".to_owned(),
            source: Rc::new(io::Error::from_raw_os_error(errno)),
        };
        for errno in [libc::ENOENT, libc::ENOTDIR, libc::EIO] {
            assert!(is_damage(&io(errno)), "{errno}");
        }
        for errno in [libc::ENOMEM, libc::EMFILE, libc::EACCES, libc::ENOSPC] {
            assert!(!is_damage(&io(errno)), "{errno}");
        }
        assert!(!is_damage(&StoreError::Config("no".to_owned())));
    }
}
