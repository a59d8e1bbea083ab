//! Who runs what in this broker: cores, their addresses, and which core runs which store.
//!
//! Plain data, made once at start and equal on every core. Never changes while the broker runs.

use corelane_protocol::response::CoreAddress;
use corelane_protocol::{BrokerId, CoreId, StoreId};
use uuid::Uuid;

/// The broker as its cores and clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Number of this broker.
    pub broker_id: BrokerId,
    /// Identity of the cluster, made with its first data directory.
    pub cluster_id: Uuid,
    /// Host of the bootstrap address, as clients are told.
    pub host: String,
    /// Port of the bootstrap address.
    pub port: u16,
    /// The address of each core, by core number, without gaps.
    pub cores: Vec<CoreAddress>,
    /// The core that runs each store, by store number, without gaps.
    pub stores: Vec<CoreId>,
}

impl Topology {
    /// The core that decides about topics.
    pub const CONTROLLER: CoreId = CoreId::new(0);

    /// The core that runs a store; `None` for a store that this data directory does not have.
    pub fn core_of(&self, store: StoreId) -> Option<CoreId> {
        self.stores.get(usize::from(store.get())).copied()
    }

    /// The address of a core.
    ///
    /// # Panics
    /// If there is no such core.
    pub fn address(&self, core: CoreId) -> &CoreAddress {
        &self.cores[usize::from(core.get())]
    }

    /// The stores that a core runs, in the order of their numbers. A `Lane` takes its stores in
    /// this order.
    pub fn stores_of(&self, core: CoreId) -> impl Iterator<Item = StoreId> {
        let mine = self
            .stores
            .iter()
            .enumerate()
            .filter(move |(_, owner)| **owner == core);
        mine.map(|(index, _)| {
            StoreId::new(u16::try_from(index).expect("stores are numbered by u16"))
        })
    }
}
