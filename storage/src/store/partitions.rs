//! The partitions of an open store.
//!
//! Owns the slab that holds them and the look-up by id. Handles of removed partitions stay invalid for ever.

use std::collections::BTreeMap;

use corelane_protocol::{TopicId, TopicPartition};

use super::partition::{Partition, PartitionHandle};

/// All partitions, by handle and by id.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_id: BTreeMap<TopicPartition, PartitionHandle>,
    /// Whose turn it is, by slot.
    turn: usize,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    // Boxed: a free slot is small, and growing the slab moves no partition.
    partition: Option<Box<Partition>>,
}

impl Partitions {
    /// Adds a partition whose id is not there yet.
    pub(crate) fn insert(&mut self, partition: Partition) -> PartitionHandle {
        let id = partition.id;
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot {
                    generation: 0,
                    partition: None,
                });
                (self.slots.len() - 1) as u32
            }
        };
        let slot = &mut self.slots[index as usize];
        slot.partition = Some(Box::new(partition));
        let handle = PartitionHandle::new(index, slot.generation);
        let before = self.by_id.insert(id, handle);
        assert!(before.is_none(), "a partition is added once");
        handle
    }

    /// Removes a partition; its handle is invalid from now on.
    pub(crate) fn remove(&mut self, handle: PartitionHandle) -> Option<Partition> {
        self.get(handle)?;
        let slot = &mut self.slots[handle.index()];
        slot.generation += 1;
        let partition = slot.partition.take().expect("it was just found");
        self.free.push(handle.index() as u32);
        self.by_id.remove(&partition.id);
        Some(*partition)
    }

    pub(crate) fn handle(&self, id: TopicPartition) -> Option<PartitionHandle> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn get(&self, handle: PartitionHandle) -> Option<&Partition> {
        let slot = self.slots.get(handle.index())?;
        if slot.generation == handle.generation() {
            slot.partition.as_deref()
        } else {
            None
        }
    }

    pub(crate) fn get_mut(&mut self, handle: PartitionHandle) -> Option<&mut Partition> {
        let slot = self.slots.get_mut(handle.index())?;
        if slot.generation == handle.generation() {
            slot.partition.as_deref_mut()
        } else {
            None
        }
    }

    /// All of them, in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PartitionHandle, &Partition)> {
        self.by_id.values().map(|handle| {
            (
                *handle,
                self.get(*handle).expect("the look-up names partitions"),
            )
        })
    }

    /// The handles of all, in the order of their ids.
    pub(crate) fn handles(&self) -> Vec<PartitionHandle> {
        self.by_id.values().copied().collect()
    }

    /// The next partition of an endless round over all of them.
    pub(crate) fn next_in_turn(&mut self) -> Option<PartitionHandle> {
        for _ in 0..self.slots.len() {
            let index = self.turn % self.slots.len();
            self.turn = index + 1;
            let slot = &self.slots[index];
            if slot.partition.is_some() {
                return Some(PartitionHandle::new(index as u32, slot.generation));
            }
        }
        None
    }

    /// The handles of a topic's partitions.
    pub(crate) fn of_topic(&self, topic: TopicId) -> Vec<PartitionHandle> {
        let from = TopicPartition::new(topic, corelane_protocol::PartitionIndex::new(0));
        let of_topic = self
            .by_id
            .range(from..)
            .take_while(|(id, _)| id.topic == topic);
        of_topic.map(|(_, handle)| *handle).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }
}
