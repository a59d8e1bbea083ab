//! Turns commands about topics into metadata records.
//!
//! Owns the rules: names, limits, settings, where partitions go. Never writes the log and never
//! changes an image; it sees one, and answers with records that fit it. Runs on core 0. Randomness
//! (the ids of new topics) is passed in.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::ids::TOPIC_NAME_BYTES_MAX;
use corelane_protocol::request::NewTopic;
use corelane_protocol::{ApiError, ErrorCode, PartitionIndex, StoreId, TopicId, TopicName};

use crate::config::{BrokerConfig, METADATA_COMMAND_BYTES_MAX};
use crate::metadata::{
    FEATURE_LEVEL, MetadataImage, MetadataRecord, PLACEMENTS_PER_RECORD_MAX, TopicSettings,
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
            Command::DeleteTopics { names } => {
                for name in names {
                    reply.push((name.clone(), plan.delete(name)));
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
        if plan.partitions + partitions as usize > limits.partitions_max as usize {
            return Err(ApiError::new(
                ErrorCode::TopicLimit,
                format!(
                    "there are {} partitions and limits.partitions_max is {}, too few for {partitions} more",
                    plan.partitions, limits.partitions_max
                ),
            ));
        }
        Ok(())
    }
}

/// What the image will be once the records so far are applied, as far as the rules need to know.
struct Plan<'a> {
    image: &'a MetadataImage,
    unfit: &'a UnfitStores,
    created: BTreeSet<String>,
    deleted: BTreeSet<String>,
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
        let pairs = settings.to_pairs().into_iter();
        let texts: usize = pairs.map(|(key, value)| key.len() + value.len() + 4).sum();
        let placements = partitions.div_ceil(PLACEMENTS_PER_RECORD_MAX) as usize;
        let bytes = name.as_str().len()
            + texts
            + 2 * partitions as usize
            + (2 + placements) * RECORD_OVERHEAD_BYTES;
        self.take_room(bytes)
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

    fn create(&mut self, id: TopicId, name: TopicName, partitions: u32, settings: &TopicSettings) {
        if self.image.feature_level() == 0 && self.records.is_empty() {
            let level = FEATURE_LEVEL;
            self.records.push(MetadataRecord::FeatureLevel { level });
        }
        self.created.insert(name.as_str().to_owned());
        let pairs = settings.to_pairs().into_iter();
        self.records.push(MetadataRecord::TopicCreated {
            id,
            name,
            partitions,
            settings: pairs.map(|(key, value)| (key.to_owned(), value)).collect(),
        });
        let mut first = 0;
        while first < partitions {
            let count = (partitions - first).min(PLACEMENTS_PER_RECORD_MAX);
            let stores = (0..count).map(|_| self.place()).collect();
            self.records.push(MetadataRecord::PartitionsPlaced {
                topic: id,
                first: PartitionIndex::new(first),
                stores,
            });
            first += count;
        }
        self.partitions += partitions as usize;
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

    fn delete(&mut self, name: &str) -> Result<TopicId, ApiError> {
        let topic = self
            .image
            .topic_named(name)
            .filter(|_| !self.deleted.contains(name));
        let Some(topic) = topic else {
            let shown: String = name.chars().take(TOPIC_NAME_BYTES_MAX).collect();
            let message = format!("there is no topic named {shown:?}");
            return Err(ApiError::new(ErrorCode::UnknownTopic, message));
        };
        self.take_room(RECORD_OVERHEAD_BYTES)?;
        self.deleted.insert(name.to_owned());
        self.partitions -= topic.partitions.len();
        self.records
            .push(MetadataRecord::TopicDeleted { id: topic.id });
        Ok(topic.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image and the ids that its topics will get, numbered from 1.
    #[derive(Default)]
    struct World {
        config: BrokerConfig,
        image: MetadataImage,
        unfit: UnfitStores,
        ids: u8,
    }

    impl World {
        fn decide(&mut self, command: &Command) -> Decision {
            let ids = &mut self.ids;
            let mut next_id = || {
                *ids += 1;
                TopicId::from_bytes([*ids; 16])
            };
            Controller::new(&self.config, 3, &self.unfit).command(
                &self.image,
                command,
                &mut next_id,
            )
        }

        /// Decides and applies; the codes of the answers.
        fn run(&mut self, command: &Command) -> Vec<Result<TopicId, ErrorCode>> {
            let decision = self.decide(command);
            for record in &decision.records {
                self.image.apply(record).expect("a decided record fits");
            }
            let results = decision.reply.into_iter().map(|(_, result)| result);
            results
                .map(|result| result.map_err(|error| error.code))
                .collect()
        }
    }

    fn create(topics: &[(&str, u32)]) -> Command {
        let topics = topics.iter().map(|(name, partitions)| NewTopic {
            name: (*name).to_owned(),
            partitions: *partitions,
            configs: vec![],
        });
        Command::CreateTopics {
            topics: topics.collect(),
            validate_only: false,
        }
    }

    fn delete(names: &[&str]) -> Command {
        Command::DeleteTopics {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn id(number: u8) -> TopicId {
        TopicId::from_bytes([number; 16])
    }

    #[test]
    fn partitions_go_where_the_fewest_are() {
        let mut world = World::default();
        assert_eq!(
            world.run(&create(&[("a", 4), ("b", 1)])),
            [Ok(id(1)), Ok(id(2))]
        );
        let stores = |world: &World, name: &str| -> Vec<u16> {
            let topic = world.image.topic_named(name).expect("a topic");
            topic
                .partitions
                .iter()
                .map(|placement| placement.store.get())
                .collect()
        };
        assert_eq!(stores(&world, "a"), [0, 1, 2, 0]);
        assert_eq!(stores(&world, "b"), [1]);
        assert_eq!(world.run(&delete(&["a"])), [Ok(id(1))]);
        assert_eq!(world.run(&create(&[("c", 3)])), [Ok(id(3))]);
        assert_eq!(stores(&world, "c"), [0, 2, 0]);
    }

    #[test]
    fn the_first_record_declares_the_feature_level_once() {
        let mut world = World::default();
        let first = world.decide(&create(&[("a", 1), ("b", 1)])).records;
        let levels = |records: &[MetadataRecord]| {
            let is_level = |r: &&MetadataRecord| matches!(r, MetadataRecord::FeatureLevel { .. });
            records.iter().filter(is_level).count()
        };
        assert_eq!(levels(&first), 1);
        assert!(matches!(
            first[0],
            MetadataRecord::FeatureLevel {
                level: FEATURE_LEVEL
            }
        ));
        world.run(&create(&[("a", 1)]));
        assert_eq!(levels(&world.decide(&create(&[("b", 1)])).records), 0);
    }

    #[test]
    fn many_partitions_are_placed_in_several_records() {
        let mut world = World::default();
        world.run(&create(&[("wide", 10_000)]));
        assert_eq!(world.image.partition_count(), 10_000);
        assert_eq!(world.image.store_partitions(StoreId::new(0)), 3334);
    }

    #[test]
    fn a_command_adds_a_bounded_number_of_bytes_to_the_log() {
        let mut world = World::default();
        world.config.limits.topic_partitions_max = 1_000_000;
        world.config.limits.partitions_max = 10_000_000;
        let topics: Vec<_> = (0..10).map(|number| format!("t{number}")).collect();
        let wide: Vec<_> = topics.iter().map(|name| (name.as_str(), 800_000)).collect();
        let decision = world.decide(&create(&wide));
        let bytes: usize = decision.records.iter().map(|r| r.encode().len()).sum();
        assert!(bytes <= METADATA_COMMAND_BYTES_MAX);
        let refused = decision
            .reply
            .iter()
            .filter(|(_, result)| result.is_err())
            .count();
        assert_eq!(refused, 8);
    }

    #[test]
    fn each_topic_is_refused_for_its_own_reason() {
        let mut world = World::default();
        world.config.limits.topics_max = 3;
        world.config.limits.topic_partitions_max = 5;
        world.config.limits.partitions_max = 6;
        let results = world.run(&create(&[
            ("a", 1),
            ("a", 1),
            ("b/c", 1),
            ("none", 0),
            ("wide", 6),
            ("b", 5),
            ("full", 1),
        ]));
        assert_eq!(
            results,
            [
                Ok(id(1)),
                Err(ErrorCode::TopicExists),
                Err(ErrorCode::InvalidTopicName),
                Err(ErrorCode::InvalidPartitions),
                Err(ErrorCode::InvalidPartitions),
                Ok(id(2)),
                Err(ErrorCode::TopicLimit),
            ]
        );
        assert_eq!(
            world.run(&delete(&["b", "b", "zzz"])),
            [
                Ok(id(2)),
                Err(ErrorCode::UnknownTopic),
                Err(ErrorCode::UnknownTopic)
            ]
        );
        let results = world.run(&create(&[("b", 1), ("c", 1), ("d", 1)]));
        assert_eq!(results, [Ok(id(3)), Ok(id(4)), Err(ErrorCode::TopicLimit)]);
    }

    #[test]
    fn settings_are_checked_and_kept() {
        let mut world = World::default();
        let with = |value: &str| Command::CreateTopics {
            topics: vec![NewTopic {
                name: "a".to_owned(),
                partitions: 1,
                configs: vec![("segment.bytes".to_owned(), value.to_owned())],
            }],
            validate_only: false,
        };
        assert_eq!(world.run(&with("1")), [Err(ErrorCode::InvalidConfig)]);
        assert_eq!(world.run(&with("1 MiB")), [Ok(id(1))]);
        let topic = world.image.topic_named("a").expect("a topic");
        assert_eq!(topic.settings.segment_bytes, Some(1 << 20));
    }

    #[test]
    fn stores_that_are_out_of_service_are_left_alone() {
        let mut world = World::default();
        assert_eq!(world.run(&create(&[("a", 3), ("b", 1)])).len(), 2);
        let reason = "store-0001/catalogue is damaged at byte 20";
        world.unfit.insert(StoreId::new(1), reason.to_owned());
        assert_eq!(world.run(&create(&[("c", 4)])), [Ok(id(3))]);
        let topic = world.image.topic_named("c").expect("a topic");
        assert!(
            topic
                .partitions
                .iter()
                .all(|at| at.store != StoreId::new(1))
        );
        // What is there of a deleted topic goes when the store comes back.
        let results = world.run(&delete(&["a", "b", "c"]));
        assert_eq!(results, [Ok(id(1)), Ok(id(2)), Ok(id(3))]);
        for store in [0, 2] {
            world.unfit.insert(StoreId::new(store), "gone".to_owned());
        }
        let refusal = world.decide(&create(&[("d", 1)])).reply.remove(0).1;
        let refusal = refusal.expect_err("there is no store");
        assert_eq!(refusal.code, ErrorCode::StorageFailed);
        assert!(refusal.message.contains(reason), "{}", refusal.message);
    }

    #[test]
    fn validation_alone_changes_nothing() {
        let mut world = World::default();
        let Command::CreateTopics { topics, .. } = create(&[("a", 1), ("", 1)]) else {
            unreachable!("create makes a create command");
        };
        let decision = world.decide(&Command::CreateTopics {
            topics,
            validate_only: true,
        });
        assert!(decision.records.is_empty());
        assert_eq!(decision.reply[0].1, Ok(TopicId::NIL));
        assert!(decision.reply[1].1.is_err());
    }
}
