//! What a core does before it serves: it opens the directory, the metadata log and its stores.

use std::rc::Rc;

use corelane_protocol::StoreId;
use corelane_storage::directory::{self, DirectoryIdentity, Opened};
use corelane_storage::disk::Disk;
use corelane_storage::memory::Ledger;
use corelane_storage::store::{RecoveryReport, Store, StoreError};
use uuid::Uuid;

use super::StartError;
use super::link::{Loaded, Recover};
use super::metadata_log::MetadataLog;
use crate::config::BrokerConfig;
use crate::lane;
use crate::metadata::MetadataImage;

/// The share of a core's memory from which on it slows its senders down.
const SOFT_SHARE: (usize, usize) = (3, 4);

/// Opens or makes what the whole broker shares. On core 0.
pub(super) async fn load<D: Disk>(
    disk: &D,
    config: &BrokerConfig,
    cores: usize,
) -> Result<(Loaded, MetadataLog<D>), StartError> {
    let wanted = config.server.stores;
    let stores = if wanted == 0 {
        u16::try_from(cores).expect("cores are numbered by u16")
    } else {
        wanted
    };
    match directory::open(disk, new_identity(stores)).await? {
        Opened::New(identity) => {
            let log = MetadataLog::create(disk, &identity).await?;
            let loaded = Loaded {
                identity,
                is_new: true,
                image: MetadataImage::new(),
            };
            Ok((loaded, log))
        }
        Opened::Existing(identity) => {
            if wanted != 0 && wanted != identity.stores {
                return Err(StartError::Stores {
                    found: identity.stores,
                    wanted,
                });
            }
            let (log, image) = MetadataLog::open(disk).await?;
            let loaded = Loaded {
                identity,
                is_new: false,
                image,
            };
            Ok((loaded, log))
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "identities are made here and passed in"
)]
fn new_identity(stores: u16) -> DirectoryIdentity {
    DirectoryIdentity {
        cluster: Uuid::new_v4(),
        directory: Uuid::new_v4(),
        stores,
    }
}

/// The memory of one core.
pub(super) fn ledger(config: &BrokerConfig) -> Rc<Ledger> {
    let cap = usize::try_from(config.memory.per_core_bytes).unwrap_or(usize::MAX);
    let (part, whole) = SOFT_SHARE;
    Rc::new(Ledger::new(cap, cap / whole * part))
}

/// Opens a store, which is made before if the directory is new. A damaged one is put out of service.
pub(super) async fn open_store<D: Disk>(
    disk: &D,
    id: StoreId,
    recover: &Recover,
    config: &BrokerConfig,
    ledger: &Rc<Ledger>,
) -> Result<Rc<Store<D>>, StartError> {
    let dir = format!("store-{:04}", id.get());
    let failed = |error: StoreError| StartError::Store {
        store: id,
        problem: error.to_string(),
    };
    let settings = config.store_config();
    if recover.is_new {
        Store::create(disk, &dir, id, new_store_identity(), &settings)
            .await
            .map_err(failed)?;
    }
    let image = &recover.image;
    let (store, report) = lane::open_store(disk, &dir, id, settings, ledger, image, config)
        .await
        .map_err(failed)?;
    match store.unfit() {
        None => log_recovery(id, &report),
        Some(problem) => {
            let partitions = store.partitions().len();
            tracing::error!(
                store = %id,
                partitions,
                %problem,
                "the store is out of service; all others serve. Put back what is missing or damaged, and restart"
            );
        }
    }
    Ok(store)
}

fn log_recovery(store: StoreId, report: &RecoveryReport) {
    tracing::info!(%store, "store opened: {report}");
    for warning in &report.warnings {
        tracing::warn!(%store, "{warning}");
    }
    for (partition, problem) in &report.failed {
        tracing::error!(%store, %partition, problem, "a partition is out of service");
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "identities are made here and passed in"
)]
fn new_store_identity() -> Uuid {
    Uuid::new_v4()
}
