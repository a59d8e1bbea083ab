//! The state that the metadata log adds up to.
//!
//! Every core holds one and applies the same records in the same order. Never fails on a record
//! that the controller made from an equal image; a record that does not fit means that the log
//! is damaged or was written by a newer version.

use std::collections::BTreeMap;

use corelane_protocol::{LeaderEpoch, PartitionIndex, StoreId, TopicId, TopicName, TopicPartition};

use super::{FEATURE_LEVEL, MetadataRecord, TopicSettings};

/// Topics by name and id, where their partitions are, and which producer ids are taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataImage {
    feature_level: u16,
    records: u64,
    producer_ids_end: u64,
    names: BTreeMap<String, TopicId>,
    topics: BTreeMap<TopicId, Topic>,
    partitions: usize,
    /// Partitions of each store, by its number, up to the last store that has any.
    store_partitions: Vec<u32>,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its identity.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Its own settings.
    pub settings: TopicSettings,
    /// Its partitions by number. Complete once all records of the topic's creation are applied.
    pub partitions: Vec<Placement>,
    /// How many partitions the topic is to have.
    pub partition_count: u32,
}

/// Where a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The store that keeps it.
    pub store: StoreId,
    /// The term of its leader.
    pub leader_epoch: LeaderEpoch,
}

/// A record that does not fit the image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The log was written by a newer version.
    #[error(
        "the metadata log has feature level {found}, this version knows up to {known}; start a newer version"
    )]
    FeatureLevel {
        /// Level of the log.
        found: u16,
        /// Level of this build.
        known: u16,
    },
    /// A topic is created although its id or name exists.
    #[error("topic {name} ({id}) is created twice")]
    TopicExists {
        /// Its id.
        id: TopicId,
        /// Its name.
        name: TopicName,
    },
    /// A record names a topic that does not exist.
    #[error("the record is about topic {id}, which does not exist")]
    UnknownTopic {
        /// The id.
        id: TopicId,
    },
    /// Partitions are placed out of order or beyond the topic's count.
    #[error("partition {first} of topic {id} is placed where partition {expected} was expected")]
    Placement {
        /// The topic.
        id: TopicId,
        /// First partition of the record.
        first: PartitionIndex,
        /// First partition that has no place yet.
        expected: u32,
    },
    /// A topic is extended to fewer partitions than it has, or before all that it has are placed.
    #[error("topic {id} is extended to {partitions} partitions, it was to have {expected}")]
    Extension {
        /// The topic.
        id: TopicId,
        /// Partitions of the record.
        partitions: u32,
        /// Partitions before.
        expected: u32,
    },
    /// Producer ids are reserved a second time.
    #[error("producer ids are reserved up to {end}, and were up to {expected}")]
    ProducerIds {
        /// The end of the record.
        end: u64,
        /// The end before.
        expected: u64,
    },
    /// A topic's settings are not what this version wrote.
    #[error("the settings of topic {id} cannot be used: {problem}")]
    Settings {
        /// The topic.
        id: TopicId,
        /// What is wrong.
        problem: String,
    },
}

impl MetadataImage {
    /// The image of an empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// An image without topics, at a position of the log: so many records came before.
    pub fn at_position(records: u64) -> Self {
        Self {
            records,
            ..Self::default()
        }
    }

    /// The level of record forms that the log has declared; 0 before its first record.
    pub fn feature_level(&self) -> u16 {
        self.feature_level
    }

    /// How many records were applied: the position in the log. A log that is rewritten keeps it.
    pub fn records_applied(&self) -> u64 {
        self.records
    }

    /// The first producer id that was not reserved yet.
    pub fn producer_ids_end(&self) -> u64 {
        self.producer_ids_end
    }

    /// The topic of this id.
    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id)
    }

    /// The topic of this name. Any text may be asked for.
    pub fn topic_named(&self, name: &str) -> Option<&Topic> {
        self.topics.get(self.names.get(name)?)
    }

    /// All topics, in the order of their names.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.names.values().map(|id| &self.topics[id])
    }

    /// Number of topics.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Number of partitions of all topics.
    pub fn partition_count(&self) -> usize {
        self.partitions
    }

    /// Partitions that a store keeps.
    pub fn store_partitions(&self, store: StoreId) -> u32 {
        let index = usize::from(store.get());
        self.store_partitions.get(index).copied().unwrap_or(0)
    }

    /// Applies the next record of the log.
    ///
    /// # Errors
    /// The record does not fit; the image is unchanged.
    pub fn apply(&mut self, record: &MetadataRecord) -> Result<(), ApplyError> {
        match record {
            MetadataRecord::FeatureLevel { level } => {
                if *level > FEATURE_LEVEL {
                    return Err(ApplyError::FeatureLevel {
                        found: *level,
                        known: FEATURE_LEVEL,
                    });
                }
                self.feature_level = *level;
            }
            MetadataRecord::TopicCreated {
                id,
                name,
                partitions,
                settings,
            } => self.apply_created(*id, name, *partitions, settings)?,
            MetadataRecord::PartitionsPlaced {
                topic,
                first,
                stores,
            } => self.apply_placed(*topic, *first, stores)?,
            MetadataRecord::TopicDeleted { id } => self.apply_deleted(*id)?,
            MetadataRecord::TopicExtended { id, partitions } => {
                self.apply_extended(*id, *partitions)?;
            }
            MetadataRecord::ProducerIdsReserved { end } => {
                if *end <= self.producer_ids_end {
                    return Err(ApplyError::ProducerIds {
                        end: *end,
                        expected: self.producer_ids_end,
                    });
                }
                self.producer_ids_end = *end;
            }
            MetadataRecord::TopicConfigChanged { id, settings } => {
                let settings = parse_settings(*id, settings)?;
                let topic = self.topics.get_mut(id);
                topic.ok_or(ApplyError::UnknownTopic { id: *id })?.settings = settings;
            }
        }
        self.records += 1;
        Ok(())
    }

    /// Notes the leader epoch of a partition as the store has it that keeps it. No record of the log says it.
    pub fn set_leader_epoch(&mut self, partition: TopicPartition, epoch: LeaderEpoch) {
        let topic = self.topics.get_mut(&partition.topic);
        let index = partition.partition.get() as usize;
        if let Some(placement) = topic.and_then(|topic| topic.partitions.get_mut(index)) {
            placement.leader_epoch = epoch;
        }
    }

    fn apply_created(
        &mut self,
        id: TopicId,
        name: &TopicName,
        partitions: u32,
        settings: &[(String, String)],
    ) -> Result<(), ApplyError> {
        if self.topics.contains_key(&id) || self.names.contains_key(name.as_str()) {
            return Err(ApplyError::TopicExists {
                id,
                name: name.clone(),
            });
        }
        let settings = parse_settings(id, settings)?;
        self.names.insert(name.as_str().to_owned(), id);
        self.topics.insert(
            id,
            Topic {
                id,
                name: name.clone(),
                settings,
                partitions: Vec::new(),
                partition_count: partitions,
            },
        );
        Ok(())
    }

    fn apply_extended(&mut self, id: TopicId, partitions: u32) -> Result<(), ApplyError> {
        let topic = self.topics.get_mut(&id);
        let topic = topic.ok_or(ApplyError::UnknownTopic { id })?;
        let expected = topic.partition_count;
        if partitions <= expected || topic.partitions.len() != expected as usize {
            return Err(ApplyError::Extension {
                id,
                partitions,
                expected,
            });
        }
        topic.partition_count = partitions;
        Ok(())
    }

    fn apply_placed(
        &mut self,
        id: TopicId,
        first: PartitionIndex,
        stores: &[StoreId],
    ) -> Result<(), ApplyError> {
        let topic = self
            .topics
            .get_mut(&id)
            .ok_or(ApplyError::UnknownTopic { id })?;
        let placed = topic.partitions.len();
        if first.get() as usize != placed || placed + stores.len() > topic.partition_count as usize
        {
            return Err(ApplyError::Placement {
                id,
                first,
                expected: u32::try_from(placed).expect("at most partition_count"),
            });
        }
        for store in stores {
            topic.partitions.push(Placement {
                store: *store,
                leader_epoch: LeaderEpoch::new(0),
            });
            let index = usize::from(store.get());
            if self.store_partitions.len() <= index {
                self.store_partitions.resize(index + 1, 0);
            }
            self.store_partitions[index] += 1;
        }
        self.partitions += stores.len();
        Ok(())
    }

    fn apply_deleted(&mut self, id: TopicId) -> Result<(), ApplyError> {
        let topic = self
            .topics
            .remove(&id)
            .ok_or(ApplyError::UnknownTopic { id })?;
        let named = self.names.remove(topic.name.as_str());
        debug_assert_eq!(named, Some(id), "each topic has its name");
        for placement in &topic.partitions {
            self.store_partitions[usize::from(placement.store.get())] -= 1;
        }
        while self.store_partitions.last() == Some(&0) {
            self.store_partitions.pop();
        }
        self.partitions -= topic.partitions.len();
        Ok(())
    }
}

fn parse_settings(id: TopicId, pairs: &[(String, String)]) -> Result<TopicSettings, ApplyError> {
    let pairs = pairs
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    TopicSettings::parse(pairs).map_err(|error| ApplyError::Settings {
        id,
        problem: error.message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> TopicId {
        TopicId::from_bytes([number; 16])
    }

    fn created(number: u8, name: &str, partitions: u32) -> MetadataRecord {
        MetadataRecord::TopicCreated {
            id: id(number),
            name: TopicName::new(name).expect("a valid name"),
            partitions,
            settings: vec![],
        }
    }

    fn placed(number: u8, first: u32, stores: &[u16]) -> MetadataRecord {
        MetadataRecord::PartitionsPlaced {
            topic: id(number),
            first: PartitionIndex::new(first),
            stores: stores.iter().copied().map(StoreId::new).collect(),
        }
    }

    fn changed(number: u8, key: &str, value: &str) -> MetadataRecord {
        MetadataRecord::TopicConfigChanged {
            id: id(number),
            settings: vec![(key.to_owned(), value.to_owned())],
        }
    }

    fn extended(number: u8, partitions: u32) -> MetadataRecord {
        MetadataRecord::TopicExtended {
            id: id(number),
            partitions,
        }
    }

    fn image(records: &[MetadataRecord]) -> MetadataImage {
        let mut image = MetadataImage::new();
        for record in records {
            image.apply(record).expect("records that fit");
        }
        image
    }

    #[test]
    fn topics_come_and_go() {
        let mut image = image(&[
            MetadataRecord::FeatureLevel { level: 1 },
            created(1, "b", 3),
            placed(1, 0, &[0, 2]),
            placed(1, 2, &[0]),
            created(2, "a", 1),
            placed(2, 0, &[2]),
        ]);
        assert_eq!(image.records_applied(), 6);
        assert_eq!(image.feature_level(), 1);
        let names: Vec<_> = image.topics().map(|topic| topic.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(image.partition_count(), 4);
        assert_eq!(
            [0, 1, 2, 9].map(|n| image.store_partitions(StoreId::new(n))),
            [2, 0, 2, 0]
        );

        image
            .apply(&MetadataRecord::TopicDeleted { id: id(1) })
            .expect("an existing topic");
        assert_eq!(image.topic(id(1)), None);
        assert_eq!(image.topic_named("b"), None);
        assert_eq!(image.partition_count(), 1);
        assert_eq!(
            [0, 1, 2].map(|n| image.store_partitions(StoreId::new(n))),
            [0, 0, 1]
        );

        image
            .apply(&created(3, "b", 1))
            .expect("the name is free again");
        assert_eq!(image.topic_named("b").map(|topic| topic.id), Some(id(3)));
    }

    #[test]
    fn topics_grow_and_never_shrink() {
        let mut image = image(&[created(1, "a", 2), placed(1, 0, &[0, 1])]);
        for partitions in [0, 1, 2] {
            assert!(image.apply(&extended(1, partitions)).is_err());
        }
        for record in [extended(1, 5), placed(1, 2, &[2, 0, 1])] {
            image.apply(&record).expect("it fits");
        }
        assert!(image.apply(&placed(1, 5, &[0])).is_err());
        assert_eq!(image.partition_count(), 5);
        assert_eq!(
            [0, 1, 2].map(|n| image.store_partitions(StoreId::new(n))),
            [2, 2, 1]
        );
    }

    #[test]
    fn a_change_of_settings_replaces_all_of_them() {
        let mut image = image(&[created(1, "a", 1), changed(1, "flush.ms", "7")]);
        assert_eq!(
            image.topic(id(1)).expect("a topic").settings.flush_ms,
            Some(7)
        );
        image
            .apply(&changed(1, "segment.bytes", "1 MiB"))
            .expect("a topic that exists");
        let settings = &image.topic(id(1)).expect("a topic").settings;
        assert_eq!(
            (settings.flush_ms, settings.segment_bytes),
            (None, Some(1 << 20))
        );
    }

    #[test]
    fn records_that_do_not_fit_change_nothing() {
        let mut image = image(&[created(1, "a", 2), placed(1, 0, &[0])]);
        let before = image.clone();
        for record in [
            created(1, "other", 1),
            created(2, "a", 1),
            placed(1, 0, &[0]),
            placed(1, 2, &[0]),
            placed(1, 1, &[0, 0]),
            placed(2, 0, &[0]),
            MetadataRecord::TopicDeleted { id: id(2) },
            changed(2, "segment.bytes", "1 MiB"),
            extended(1, 3),
            extended(2, 9),
            changed(1, "segment.bytes", "1"),
            MetadataRecord::FeatureLevel {
                level: FEATURE_LEVEL + 1,
            },
            MetadataRecord::TopicCreated {
                id: id(3),
                name: TopicName::new("c").expect("a valid name"),
                partitions: 1,
                settings: vec![("colour".to_owned(), "blue".to_owned())],
            },
        ] {
            assert!(image.apply(&record).is_err(), "{record:?}");
            assert_eq!(image, before, "{record:?}");
        }
    }
}
