//! Where each partition is, and what waits at those that this core owns.
//!
//! Owned by one core; follows the metadata image of that core.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use corelane_protocol::request::FetchEntry;
use corelane_protocol::response::DivergingEpoch;
use corelane_protocol::{
    ApiError, CoreId, ErrorCode, LeaderEpoch, Offset, Timestamp, TopicId, TopicPartition,
};

use super::meters::Traffic;
use super::slab::{Key, Slab};
use crate::metadata::EffectiveSettings;
use corelane_storage::disk::Disk;
use corelane_storage::store::{
    LogOffsets, PartitionError, PartitionHandle, Read, ReadError, Store,
};

/// Where a partition is, as a request learns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// This core owns it, under this key.
    Local(Key),
    /// That core owns it.
    Remote(CoreId),
    /// The topic does not exist.
    UnknownTopic,
    /// The topic has no such partition.
    UnknownPartition,
}

/// The partitions of all topics, by id.
pub(super) struct Partitions {
    slots: BTreeMap<TopicId, u32>,
    topics: Vec<Vec<Place>>,
    free: Vec<u32>,
    /// The topic that was looked up last: requests come in runs.
    last: Cell<Option<(TopicId, u32)>>,
    local: Slab<LocalPartition>,
}

/// The two homes that an existing partition can have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Local(Key),
    Remote(CoreId),
}

/// A partition that this core owns.
pub(super) struct LocalPartition {
    pub(super) id: TopicPartition,
    /// Whether it is of a topic of the broker's own.
    pub(super) is_internal: bool,
    /// Index of its store among the stores of this core.
    pub(super) store: usize,
    /// Its name in that store, once the store has it.
    pub(super) handle: Option<PartitionHandle>,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) settings: EffectiveSettings,
    pub(super) state: LocalState,
    /// The first offset that is kept, as of the last progress.
    pub(super) log_start: Offset,
    /// Produces that wait to be flushed, in the order of their offsets.
    pub(super) produces: VecDeque<WaitingProduce>,
    /// Fetches that wait for records.
    pub(super) fetches: BTreeSet<Key>,
    /// What it has taken in and given out.
    pub(super) traffic: Traffic,
}

/// Whether a partition serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LocalState {
    /// Its store is making it.
    Creating,
    /// It serves.
    Online,
    /// It takes no appends; why.
    Failed(String),
}

/// A batch that was appended and is not flushed.
#[derive(Debug)]
pub(super) struct WaitingProduce {
    pub(super) base_offset: Offset,
    /// The offset after its last record.
    pub(super) end_offset: Offset,
    pub(super) append_time: Timestamp,
    /// When it was appended, monotonic µs.
    pub(super) append_us: u64,
    /// The request, and its entry.
    pub(super) produce: Key,
    pub(super) entry: u32,
}

impl LocalPartition {
    /// Reads from the partition's log: `stores` are those of this core. One that its store could not make has
    /// no handle, and its store says why.
    pub(super) fn read<D: Disk>(
        &self,
        stores: &[Rc<Store<D>>],
        from: Offset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<Read, ReadError> {
        let store = &stores[self.store];
        match self.handle {
            Some(handle) => store.read_by_handle(handle, from, bytes_max, at_least_one),
            None => store.read(self.id, from, bytes_max, at_least_one),
        }
    }

    /// Compares what a reader knows of leader epochs with the partition's own. Where the reader has read what the
    /// log does not hold any more, that is the answer.
    pub(super) fn check_epochs<D: Disk>(
        &self,
        stores: &[Rc<Store<D>>],
        entry: &FetchEntry,
    ) -> Result<Option<DivergingEpoch>, ApiError> {
        if stores[self.store].unfit().is_some() {
            // Its epochs are not known here. The read says why.
            return Ok(None);
        }
        let known = self.leader_epoch;
        if let Some(current) = entry.current_epoch.filter(|current| *current != known) {
            let code = if current < known {
                ErrorCode::FencedLeaderEpoch
            } else {
                ErrorCode::UnknownLeaderEpoch
            };
            let message = format!("it was asked under epoch {current}, and is {known}");
            return Err(ApiError::new(code, message));
        }
        let (Some(last), Some(handle)) = (entry.last_epoch, self.handle) else {
            return Ok(None);
        };
        let diverging = stores[self.store].divergence(handle, last, entry.offset);
        Ok(diverging.map(|ended| DivergingEpoch {
            epoch: ended.epoch,
            end_offset: ended.end,
        }))
    }

    /// The leader epoch of the record at an offset, or that the next record will have.
    pub(super) fn epoch_at<D: Disk>(&self, stores: &[Rc<Store<D>>], offset: Offset) -> LeaderEpoch {
        let found = self
            .handle
            .and_then(|handle| stores[self.store].epoch_at(handle, offset));
        found.unwrap_or(self.leader_epoch)
    }

    /// The ends of the partition's log.
    pub(super) fn offsets<D: Disk>(
        &self,
        stores: &[Rc<Store<D>>],
    ) -> Result<LogOffsets, PartitionError> {
        let offsets = self
            .handle
            .map(|handle| stores[self.store].offsets_by_handle(handle));
        offsets.flatten().ok_or(PartitionError::Unknown(self.id))
    }

    /// Whether everything before an offset is durable.
    pub(super) fn is_durable<D: Disk>(&self, stores: &[Rc<Store<D>>], end: Offset) -> bool {
        let offsets = self.offsets(stores);
        offsets.is_ok_and(|offsets| offsets.durable_end >= end)
    }
}

impl Partitions {
    pub(super) fn new() -> Self {
        Self {
            slots: BTreeMap::new(),
            topics: Vec::new(),
            free: Vec::new(),
            last: Cell::new(None),
            local: Slab::new(),
        }
    }

    pub(super) fn find(&self, partition: TopicPartition) -> Home {
        let slot = match self.last.get() {
            Some((topic, slot)) if topic == partition.topic => slot,
            _ => {
                let Some(slot) = self.slots.get(&partition.topic) else {
                    return Home::UnknownTopic;
                };
                self.last.set(Some((partition.topic, *slot)));
                *slot
            }
        };
        let places = &self.topics[slot as usize];
        match places.get(partition.partition.get() as usize) {
            Some(Place::Local(key)) => Home::Local(*key),
            Some(Place::Remote(core)) => Home::Remote(*core),
            None => Home::UnknownPartition,
        }
    }

    /// The places of a topic's partitions, by partition number.
    pub(super) fn places(&self, topic: TopicId) -> &[Place] {
        self.slots
            .get(&topic)
            .map_or(&[], |slot| &self.topics[*slot as usize])
    }

    /// Every topic's partitions, by partition number, from this topic on.
    pub(super) fn topics_from(&self, from: TopicId) -> impl Iterator<Item = (TopicId, &[Place])> {
        let slots = self.slots.range(from..);
        slots.map(|(id, slot)| (*id, self.topics[*slot as usize].as_slice()))
    }

    /// How many partitions this core owns.
    pub(super) fn local_count(&self) -> usize {
        self.local.len()
    }

    /// The partitions that this core owns.
    pub(super) fn locals(&self) -> impl Iterator<Item = (Key, &LocalPartition)> {
        self.local.iter()
    }

    pub(super) fn local(&self, key: Key) -> Option<&LocalPartition> {
        self.local.get(key)
    }

    pub(super) fn local_mut(&mut self, key: Key) -> Option<&mut LocalPartition> {
        self.local.get_mut(key)
    }

    /// The keys of all partitions that this core owns and that `wanted` picks.
    pub(super) fn local_keys(&self, wanted: impl Fn(&LocalPartition) -> bool) -> Vec<Key> {
        let chosen = self.local.iter().filter(|(_, partition)| wanted(partition));
        chosen.map(|(key, _)| key).collect()
    }

    /// The keys of a topic's partitions that this core owns.
    pub(super) fn local_keys_of(&self, topic: TopicId) -> Vec<Key> {
        let places = self.places(topic).iter();
        let local = places.filter_map(|place| match place {
            Place::Local(key) => Some(*key),
            Place::Remote(_) => None,
        });
        local.collect()
    }

    pub(super) fn add_local(&mut self, partition: LocalPartition) -> Key {
        self.local.insert(partition)
    }

    /// Adds a topic whose local partitions were added before.
    pub(super) fn add_topic(&mut self, topic: TopicId, places: Vec<Place>) {
        let slot = if let Some(slot) = self.free.pop() {
            self.topics[slot as usize] = places;
            slot
        } else {
            self.topics.push(places);
            u32::try_from(self.topics.len() - 1).expect("fewer topics than 2^32")
        };
        let before = self.slots.insert(topic, slot);
        debug_assert!(before.is_none(), "a topic is added once");
    }

    /// Adds the next partitions of a topic, of which the local ones were added before.
    pub(super) fn add_places(&mut self, topic: TopicId, places: Vec<Place>) {
        let slot = *self.slots.get(&topic).expect("the topic was added before");
        self.topics[slot as usize].extend(places);
    }

    /// Removes a topic; its local partitions, for those who wait at them.
    pub(super) fn remove_topic(&mut self, topic: TopicId) -> Vec<LocalPartition> {
        self.last.set(None);
        let Some(slot) = self.slots.remove(&topic) else {
            return Vec::new();
        };
        let places = std::mem::take(&mut self.topics[slot as usize]);
        self.free.push(slot);
        let local = places.into_iter().filter_map(|place| match place {
            Place::Local(key) => self.local.remove(key),
            Place::Remote(_) => None,
        });
        local.collect()
    }
}
