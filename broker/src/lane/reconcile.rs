//! Before a core serves: its stores are made to hold what the metadata says.
//!
//! A crash between a record of the metadata log and what stores do about it leaves partitions that
//! are missing, or whose topic is gone. Runs on each core, once, for its own stores.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use corelane_protocol::{CoreId, PartitionIndex, StoreId, TopicPartition};
use corelane_storage::disk::Disk;

use super::Topology;
use super::records::log_config;
use crate::config::BrokerConfig;
use crate::metadata::MetadataImage;
use corelane_storage::store::{Store, StoreError};

/// What was found and done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Partitions of this core's stores.
    pub partitions: usize,
    /// Partitions of stores that are out of service; nothing is done there.
    pub unfit: usize,
    /// Partitions that the metadata has and a store had not.
    pub created: usize,
    /// Topics that a store had and the metadata has not.
    pub deleted: usize,
    /// Partitions that a store has although the metadata places them elsewhere; they are left
    /// alone, and not served.
    pub strays: usize,
}

/// Why a core cannot serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReconcileError {
    /// The metadata and the data directory are not of one piece.
    #[error(
        "topic {topic} has partition {partition} in store {store}, and this data directory has {stores} stores; the metadata log belongs to another data directory"
    )]
    NoSuchStore {
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: usize,
        /// The store that it is placed in.
        store: StoreId,
        /// Stores of the data directory.
        stores: usize,
    },
    /// A store failed.
    #[error("store {store}: {problem}")]
    Store {
        /// The store.
        store: StoreId,
        /// What happened.
        problem: String,
    },
}

/// Makes the stores of `core` (in the order of [`Topology::stores_of`]) hold what `image` says.
///
/// # Errors
/// The metadata does not fit the data directory, or a store failed.
pub async fn reconcile<D: Disk>(
    image: &MetadataImage,
    config: &BrokerConfig,
    topology: &Topology,
    core: CoreId,
    stores: &[Rc<Store<D>>],
) -> Result<Reconciled, ReconcileError> {
    let mut wanted: BTreeMap<StoreId, Vec<_>> = BTreeMap::new();
    for topic in image.topics() {
        let settings = log_config(&topic.effective(config));
        for (index, placement) in topic.partitions.iter().enumerate() {
            if topology.core_of(placement.store).is_none() {
                return Err(ReconcileError::NoSuchStore {
                    topic: topic.name.as_str().to_owned(),
                    partition: index,
                    store: placement.store,
                    stores: topology.stores.len(),
                });
            }
            let number = u32::try_from(index).expect("counted by 32 bits");
            let partition = TopicPartition::new(topic.id, PartitionIndex::new(number));
            wanted
                .entry(placement.store)
                .or_default()
                .push((partition, settings.clone()));
        }
    }
    let mut done = Reconciled::default();
    for (id, store) in topology.stores_of(core).zip(stores) {
        let wanted = wanted.remove(&id).unwrap_or_default();
        if store.unfit().is_some() {
            done.unfit += wanted.len();
            continue;
        }
        let failed = |error: StoreError| ReconcileError::Store {
            store: id,
            problem: error.to_string(),
        };
        let existing: BTreeSet<_> = store.partitions().into_iter().collect();
        let expected: BTreeSet<_> = wanted.iter().map(|(partition, _)| *partition).collect();
        let mut gone = BTreeSet::new();
        for partition in existing.difference(&expected) {
            if image.topic(partition.topic).is_none() {
                gone.insert(partition.topic);
            } else {
                tracing::warn!(store = %id, %partition, "the metadata places this partition elsewhere");
                done.strays += 1;
            }
        }
        // What a full disk refuses is done later, when the lane finds that it is not done.
        for topic in gone {
            match store.delete_topic(topic).await {
                Ok(()) => done.deleted += 1,
                Err(error) if error.is_disk_full() => {
                    tracing::warn!(store = %id, %topic, %error, "a deleted topic's partitions are still there");
                }
                Err(error) => return Err(failed(error)),
            }
        }
        done.partitions += wanted.len();
        let missing = expected.difference(&existing).count();
        match store.create_partitions(&wanted).await {
            Ok(()) => done.created += missing,
            Err(error) if error.is_disk_full() => {
                tracing::warn!(store = %id, missing, %error, "partitions are missing until there is room");
            }
            Err(error) => return Err(failed(error)),
        }
        // They may have changed since the partition was made: by an alteration, or a default of the broker.
        for (partition, settings) in wanted {
            if existing.contains(&partition) {
                let configured = store.configure(partition, settings);
                configured.expect("the store listed this partition");
            }
        }
    }
    Ok(done)
}
