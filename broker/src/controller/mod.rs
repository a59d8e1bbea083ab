//! Turns commands about topics and producer ids into metadata records.
//!
//! Owns the rules: names, limits, settings, where partitions go. Never writes the log and never
//! changes an image; it sees one, and answers with records that fit it. Runs on core 0. Randomness
//! (the ids of new topics) is passed in.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::ids::TOPIC_NAME_BYTES_MAX;
use corelane_protocol::request::{NewTopic, TopicAlteration, TopicExtension};
use corelane_protocol::{ApiError, ErrorCode, PartitionIndex, StoreId, TopicId, TopicName};

use crate::config::{BrokerConfig, METADATA_COMMAND_BYTES_MAX};
use crate::metadata::{
    FEATURE_LEVEL, MetadataImage, MetadataRecord, OFFSETS_TOPIC, PLACEMENTS_PER_RECORD_MAX,
    PRODUCER_ID_BLOCK, Topic, TopicSettings, is_internal,
};

/// What a client asks the controller for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Make topics.
    CreateTopics {
        /// The topics, in the order of the request.
        topics: Vec<NewTopic>,
        /// Check only; topics that could be made are answered with the nil id.
        validate_only: bool,
    },
    /// Delete topics.
    DeleteTopics {
        /// Their names, in the order of the request.
        names: Vec<String>,
    },
    /// Change settings of topics.
    AlterTopicConfigs {
        /// The changes, in the order of the request.
        topics: Vec<TopicAlteration>,
        /// Check only.
        validate_only: bool,
    },
    /// Make the topic that keeps consumer groups, unless there is one.
    CreateOffsetsTopic,
    /// Reserve the next block of producer ids.
    ReserveProducerIds,
    /// Make more partitions of topics.
    CreatePartitions {
        /// The topics, in the order of the request.
        topics: Vec<TopicExtension>,
        /// Check only.
        validate_only: bool,
    },
}

/// The answer to each topic of a command, in its order: the topic's id, or why not.
pub type CommandReply = Vec<(String, Result<TopicId, ApiError>)>;

/// What a command comes to: records to be logged in one piece, and the answer once they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// To be logged and applied together; empty if nothing changes.
    pub records: Vec<MetadataRecord>,
    /// The answer.
    pub reply: CommandReply,
}

/// The rules of the controller. Holds no state of its own: what is, is in the image.
#[derive(Debug, Clone, Copy)]
pub struct Controller<'a> {
    config: &'a BrokerConfig,
    stores: u16,
    unfit: &'a UnfitStores,
}

/// The stores that are out of service until the broker starts again, and why.
pub type UnfitStores = BTreeMap<StoreId, String>;

impl<'a> Controller<'a> {
    /// A controller of a broker with `stores` stores, of which it leaves the `unfit` alone.
    ///
    /// # Panics
    /// With no store there is nowhere to put a partition.
    pub fn new(config: &'a BrokerConfig, stores: u16, unfit: &'a UnfitStores) -> Self {
        assert!(stores > 0, "a data directory has at least one store");
        Self {
            config,
            stores,
            unfit,
        }
    }

    /// Decides a command on the image as it is. `next_id` gives ids that were never used.
    pub fn command(
        &self,
        image: &MetadataImage,
        command: &Command,
        next_id: &mut dyn FnMut() -> TopicId,
    ) -> Decision {
        let mut plan = Plan::new(image, self.stores, self.unfit);
        let mut reply = CommandReply::new();
        match command {
            Command::CreateTopics {
                topics,
                validate_only,
            } => {
                for topic in topics {
                    let result = self.create(&mut plan, topic, next_id);
                    let shown = if *validate_only {
                        result.map(|_| TopicId::NIL)
                    } else {
                        result
                    };
                    reply.push((topic.name.clone(), shown));
                }
                if *validate_only {
                    plan.records.clear();
                }
            }
            Command::CreateOffsetsTopic => {
                let result = self.create_offsets_topic(&mut plan, next_id);
                reply.push((OFFSETS_TOPIC.to_owned(), result));
            }
            Command::ReserveProducerIds => plan.reserve_producer_ids(),
            Command::DeleteTopics { names } => {
                for name in names {
                    reply.push((name.clone(), plan.delete(name)));
                }
            }
            Command::AlterTopicConfigs {
                topics,
                validate_only,
            } => {
                for topic in topics {
                    reply.push((topic.name.clone(), self.alter(&mut plan, topic)));
                }
                if *validate_only {
                    plan.records.clear();
                }
            }
            Command::CreatePartitions {
                topics,
                validate_only,
            } => {
                for topic in topics {
                    reply.push((topic.name.clone(), self.extend(&mut plan, topic)));
                }
                if *validate_only {
                    plan.records.clear();
                }
            }
        }
        Decision {
            records: plan.records,
            reply,
        }
    }

    fn create(
        &self,
        plan: &mut Plan<'_>,
        topic: &NewTopic,
        next_id: &mut dyn FnMut() -> TopicId,
    ) -> Result<TopicId, ApiError> {
        let name = TopicName::new(topic.name.as_str())
            .map_err(|problem| ApiError::new(ErrorCode::InvalidTopicName, problem.to_string()))?;
        check_not_internal(&topic.name)?;
        self.create_named(plan, topic, name, next_id)
    }

    /// The topic of consumer groups: whatever the broker's defaults are, nothing of it expires or is compacted, and
    /// everything is flushed.
    fn create_offsets_topic(
        &self,
        plan: &mut Plan<'_>,
        next_id: &mut dyn FnMut() -> TopicId,
    ) -> Result<TopicId, ApiError> {
        if let Some(topic) = plan.image.topic_named(OFFSETS_TOPIC) {
            return Ok(topic.id);
        }
        let batch_bytes = self.config.limits.batch_bytes_max();
        let segment_bytes = OFFSETS_SEGMENT_BYTES.max(2 * u64::from(batch_bytes));
        let settings = [
            ("segment.bytes", segment_bytes.to_string()),
            ("max.message.bytes", batch_bytes.to_string()),
            ("flush.messages", "0".to_owned()),
            ("flush.ms", "0".to_owned()),
            ("retention.ms", "-1".to_owned()),
            ("retention.bytes", "-1".to_owned()),
            ("cleanup.policy", "delete".to_owned()),
            ("message.timestamp.type", "CreateTime".to_owned()),
        ];
        let topic = NewTopic {
            name: OFFSETS_TOPIC.to_owned(),
            partitions: self.config.groups.offsets_partitions,
            configs: settings
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        };
        let name = TopicName::new(OFFSETS_TOPIC).expect("a valid name");
        self.create_named(plan, &topic, name, next_id)
    }

    fn create_named(
        &self,
        plan: &mut Plan<'_>,
        topic: &NewTopic,
        name: TopicName,
        next_id: &mut dyn FnMut() -> TopicId,
    ) -> Result<TopicId, ApiError> {
        if plan.exists(&topic.name) {
            let message = format!("there is a topic named {name}");
            return Err(ApiError::new(ErrorCode::TopicExists, message));
        }
        self.check_counts(plan, topic)?;
        plan.check_stores()?;
        let pairs = topic
            .configs
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()));
        let settings = TopicSettings::parse(pairs)?;
        settings.check(self.config)?;
        plan.check_room(&name, topic.partitions, &settings)?;
        let id = next_id();
        plan.create(id, name, topic.partitions, &settings);
        Ok(id)
    }

    /// Changes all that is asked of one topic, or nothing.
    fn alter(&self, plan: &mut Plan<'_>, change: &TopicAlteration) -> Result<TopicId, ApiError> {
        check_not_internal(&change.name)?;
        let topic = plan.existing(&change.name)?;
        let set = change
            .set
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()));
        let unset = change.unset.iter().map(String::as_str);
        let settings = topic.settings.altered(set, unset)?;
        settings.check(self.config)?;
        plan.alter(topic, &settings)?;
        Ok(topic.id)
    }

    fn extend(&self, plan: &mut Plan<'_>, wish: &TopicExtension) -> Result<TopicId, ApiError> {
        check_not_internal(&wish.name)?;
        let topic = plan.existing(&wish.name)?;
        let (has, most) = (
            topic.partition_count,
            self.config.limits.topic_partitions_max,
        );
        if wish.total <= has || wish.total > most {
            let message = format!(
                "topic {} has {has} partitions, and {} in all were asked for; ask for {} to {most} (limits.topic_partitions_max): partitions are only added",
                topic.name,
                wish.total,
                has + 1,
            );
            return Err(ApiError::new(ErrorCode::InvalidPartitions, message));
        }
        self.check_partitions(plan, wish.total - has)?;
        plan.check_stores()?;
        plan.extend(topic, wish.total)?;
        Ok(topic.id)
    }

    fn check_counts(&self, plan: &Plan<'_>, topic: &NewTopic) -> Result<(), ApiError> {
        let limits = &self.config.limits;
        let partitions = topic.partitions;
        if partitions == 0 || partitions > limits.topic_partitions_max {
            return Err(ApiError::new(
                ErrorCode::InvalidPartitions,
                format!(
                    "a topic has 1 to {} partitions (limits.topic_partitions_max), {partitions} were asked for",
                    limits.topic_partitions_max
                ),
            ));
        }
        let topics = plan.image.topic_count() + plan.created.len() - plan.deleted.len();
        if topics >= limits.topics_max as usize {
            return Err(ApiError::new(
                ErrorCode::TopicLimit,
                format!("there are {topics} topics, limits.topics_max of them"),
            ));
        }
        self.check_partitions(plan, partitions)
    }

    /// There must be room for so many more partitions.
    fn check_partitions(&self, plan: &Plan<'_>, more: u32) -> Result<(), ApiError> {
        let most = self.config.limits.partitions_max;
        if plan.partitions + more as usize <= most as usize {
            return Ok(());
        }
        let message = format!(
            "there are {} partitions and limits.partitions_max is {most}, too few for {more} more",
            plan.partitions
        );
        Err(ApiError::new(ErrorCode::TopicLimit, message))
    }
}

/// Segments of the topic of consumer groups are small: what snapshots replace goes soon.
const OFFSETS_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Topics of the broker's own are left alone.
fn check_not_internal(name: &str) -> Result<(), ApiError> {
    if !is_internal(name) {
        return Ok(());
    }
    let message = format!("topic {name} is the broker's own: it keeps consumer groups");
    Err(ApiError::new(ErrorCode::InvalidRequest, message))
}

/// What the image will be once the records so far are applied, as far as the rules need to know.
struct Plan<'a> {
    image: &'a MetadataImage,
    unfit: &'a UnfitStores,
    created: BTreeSet<String>,
    deleted: BTreeSet<String>,
    /// Topics that the request has changed already.
    changed: BTreeSet<TopicId>,
    partitions: usize,
    /// Partitions of each store that is in service.
    store_partitions: BTreeMap<StoreId, u32>,
    records: Vec<MetadataRecord>,
    /// At least the bytes of the records.
    record_bytes: usize,
}

/// Bytes of a record beside texts and placements, at most.
const RECORD_OVERHEAD_BYTES: usize = 64;

impl<'a> Plan<'a> {
    fn new(image: &'a MetadataImage, stores: u16, unfit: &'a UnfitStores) -> Self {
        let fit = (0..stores)
            .map(StoreId::new)
            .filter(|store| !unfit.contains_key(store));
        let counts = fit.map(|store| (store, image.store_partitions(store)));
        Self {
            image,
            unfit,
            created: BTreeSet::new(),
            deleted: BTreeSet::new(),
            changed: BTreeSet::new(),
            partitions: image.partition_count(),
            store_partitions: counts.collect(),
            records: Vec::new(),
            record_bytes: 0,
        }
    }

    /// There must be a store to put partitions in.
    fn check_stores(&self) -> Result<(), ApiError> {
        if !self.store_partitions.is_empty() {
            return Ok(());
        }
        let reasons: Vec<_> = self.unfit.values().map(String::as_str).collect();
        let message = format!("every store is out of service: {}", reasons.join("; "));
        Err(ApiError::new(ErrorCode::StorageFailed, message))
    }

    /// Takes room for a topic's records in what is written to the log in one piece.
    fn check_room(
        &mut self,
        name: &TopicName,
        partitions: u32,
        settings: &TopicSettings,
    ) -> Result<(), ApiError> {
        let texts = settings_bytes(settings);
        let overhead = 2 * RECORD_OVERHEAD_BYTES;
        self.take_room(name.as_str().len() + texts + overhead + placement_bytes(partitions))
    }

    fn take_room(&mut self, bytes: usize) -> Result<(), ApiError> {
        if self.record_bytes + bytes > METADATA_COMMAND_BYTES_MAX {
            let message = format!(
                "one request may change {METADATA_COMMAND_BYTES_MAX} bytes of metadata; ask for fewer topics or partitions at a time"
            );
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
        self.record_bytes += bytes;
        Ok(())
    }

    fn exists(&self, name: &str) -> bool {
        self.created.contains(name)
            || (self.image.topic_named(name).is_some() && !self.deleted.contains(name))
    }

    /// The first record of a log says of which form its records are.
    fn declare_level(&mut self) {
        if self.image.feature_level() == 0 && self.records.is_empty() {
            let level = FEATURE_LEVEL;
            self.records.push(MetadataRecord::FeatureLevel { level });
        }
    }

    fn reserve_producer_ids(&mut self) {
        self.declare_level();
        let end = self.image.producer_ids_end() + PRODUCER_ID_BLOCK;
        self.records
            .push(MetadataRecord::ProducerIdsReserved { end });
    }

    fn create(&mut self, id: TopicId, name: TopicName, partitions: u32, settings: &TopicSettings) {
        self.declare_level();
        self.created.insert(name.as_str().to_owned());
        self.records.push(MetadataRecord::TopicCreated {
            id,
            name,
            partitions,
            settings: owned_pairs(settings),
        });
        self.place_partitions(id, 0, partitions);
    }

    fn extend(&mut self, topic: &Topic, total: u32) -> Result<(), ApiError> {
        self.change_once(topic)?;
        let first = topic.partition_count;
        self.take_room(RECORD_OVERHEAD_BYTES + placement_bytes(total - first))?;
        self.records.push(MetadataRecord::TopicExtended {
            id: topic.id,
            partitions: total,
        });
        self.place_partitions(topic.id, first, total);
        Ok(())
    }

    /// Finds a place for a topic's partitions from `first` up to `end`.
    fn place_partitions(&mut self, topic: TopicId, mut first: u32, end: u32) {
        self.partitions += (end - first) as usize;
        while first < end {
            let count = (end - first).min(PLACEMENTS_PER_RECORD_MAX);
            let stores = (0..count).map(|_| self.place()).collect();
            self.records.push(MetadataRecord::PartitionsPlaced {
                topic,
                first: PartitionIndex::new(first),
                stores,
            });
            first += count;
        }
    }

    /// Takes the store in service with the fewest partitions, the lowest number among equals.
    fn place(&mut self) -> StoreId {
        let fewest = self
            .store_partitions
            .iter_mut()
            .min_by_key(|(_, count)| **count);
        let (store, count) = fewest.expect("checked before a topic is made");
        *count += 1;
        *store
    }

    /// A topic that exists and that the request has not deleted.
    fn existing(&self, name: &str) -> Result<&'a Topic, ApiError> {
        let topic = self
            .image
            .topic_named(name)
            .filter(|_| !self.deleted.contains(name));
        topic.ok_or_else(|| {
            let shown: String = name.chars().take(TOPIC_NAME_BYTES_MAX).collect();
            let message = format!("there is no topic named {shown:?}");
            ApiError::new(ErrorCode::UnknownTopic, message)
        })
    }

    /// A topic is changed once by a request: which of several wishes counts is not guessed.
    fn change_once(&mut self, topic: &Topic) -> Result<(), ApiError> {
        if self.changed.insert(topic.id) {
            return Ok(());
        }
        let message = format!(
            "topic {} is named twice; ask once for all of it",
            topic.name
        );
        Err(ApiError::new(ErrorCode::InvalidRequest, message))
    }

    fn alter(&mut self, topic: &Topic, settings: &TopicSettings) -> Result<(), ApiError> {
        self.change_once(topic)?;
        if topic.settings == *settings {
            return Ok(());
        }
        self.take_room(RECORD_OVERHEAD_BYTES + settings_bytes(settings))?;
        self.records.push(MetadataRecord::TopicConfigChanged {
            id: topic.id,
            settings: owned_pairs(settings),
        });
        Ok(())
    }

    fn delete(&mut self, name: &str) -> Result<TopicId, ApiError> {
        check_not_internal(name)?;
        let topic = self.existing(name)?;
        self.take_room(RECORD_OVERHEAD_BYTES)?;
        self.deleted.insert(name.to_owned());
        self.partitions -= topic.partitions.len();
        self.records
            .push(MetadataRecord::TopicDeleted { id: topic.id });
        Ok(topic.id)
    }
}

fn owned_pairs(settings: &TopicSettings) -> Vec<(String, String)> {
    let pairs = settings.to_pairs().into_iter();
    pairs.map(|(key, value)| (key.to_owned(), value)).collect()
}

/// At least the bytes of the records that place so many partitions.
fn placement_bytes(partitions: u32) -> usize {
    let records = partitions.div_ceil(PLACEMENTS_PER_RECORD_MAX) as usize;
    2 * partitions as usize + records * RECORD_OVERHEAD_BYTES
}

/// Bytes of a topic's own settings in a record.
fn settings_bytes(settings: &TopicSettings) -> usize {
    let pairs = settings.to_pairs().into_iter();
    pairs.map(|(key, value)| key.len() + value.len() + 4).sum()
}

#[cfg(test)]
mod tests;
