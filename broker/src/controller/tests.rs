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
        Controller::new(&self.config, 3, &self.unfit).command(&self.image, command, &mut next_id)
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

fn alter(name: &str, set: &[(&str, &str)], unset: &[&str]) -> TopicAlteration {
    let set = set
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    TopicAlteration {
        name: name.to_owned(),
        set: set.collect(),
        unset: unset.iter().map(|key| (*key).to_owned()).collect(),
    }
}

#[test]
fn settings_of_a_topic_are_changed_together_or_not_at_all() {
    let mut world = World::default();
    world.run(&create(&[("a", 1), ("b", 1)]));
    let command = |topics, validate_only| Command::AlterTopicConfigs {
        topics,
        validate_only,
    };
    let both = alter(
        "a",
        &[("segment.bytes", "1 MiB"), ("flush.ms", "5")],
        &["flush.messages"],
    );
    let checked = world.decide(&command(vec![both.clone()], true));
    assert_eq!(checked.records, []);
    assert_eq!(checked.reply[0].1, Ok(id(1)));
    assert_eq!(world.run(&command(vec![both.clone()], false)), [Ok(id(1))]);
    assert_eq!(world.decide(&command(vec![both], false)).records, []);

    let refused = [
        alter("a", &[("flush.ms", "6"), ("colour", "blue")], &[]),
        alter("a", &[("flush.ms", "6")], &["colour"]),
        alter("a", &[("flush.ms", "6")], &["flush.ms"]),
        alter(
            "a",
            &[("flush.ms", "6"), ("max.message.bytes", "1 MiB")],
            &[],
        ),
    ];
    for change in refused {
        let decision = world.decide(&command(vec![change.clone()], false));
        assert_eq!(decision.records, [], "{change:?}");
        let error = decision.reply[0].1.clone().expect_err("impossible");
        assert_eq!(error.code, ErrorCode::InvalidConfig, "{change:?}");
    }
    let changes = vec![
        alter("a", &[], &["flush.ms"]),
        alter("none", &[], &[]),
        alter("a", &[("flush.ms", "9")], &[]),
        alter("b", &[("flush.ms", "7")], &[]),
    ];
    assert_eq!(
        world.run(&command(changes, false)),
        [
            Ok(id(1)),
            Err(ErrorCode::UnknownTopic),
            Err(ErrorCode::InvalidRequest),
            Ok(id(2))
        ]
    );
    let settings = |name| {
        world
            .image
            .topic_named(name)
            .expect("a topic")
            .settings
            .to_pairs()
    };
    assert_eq!(settings("a"), [("segment.bytes", "1048576".to_owned())]);
    assert_eq!(settings("b"), [("flush.ms", "7".to_owned())]);
}

#[test]
fn topics_get_more_partitions_where_the_fewest_are() {
    let mut world = World::default();
    world.config.limits.topic_partitions_max = 8;
    world.config.limits.partitions_max = 12;
    world.run(&create(&[("a", 2), ("b", 1)]));
    let extend = |wishes: &[(&str, u32)], validate_only| Command::CreatePartitions {
        topics: wishes
            .iter()
            .map(|(name, total)| TopicExtension {
                name: (*name).to_owned(),
                total: *total,
            })
            .collect(),
        validate_only,
    };
    let checked = world.decide(&extend(&[("a", 6)], true));
    assert_eq!(
        (checked.records, checked.reply[0].1.clone()),
        (vec![], Ok(id(1)))
    );
    let wishes = [
        ("a", 6),
        ("a", 7),
        ("b", 1),
        ("b", 0),
        ("b", 9),
        ("none", 3),
    ];
    assert_eq!(
        world.run(&extend(&wishes, false)),
        [
            Ok(id(1)),
            Err(ErrorCode::InvalidRequest),
            Err(ErrorCode::InvalidPartitions),
            Err(ErrorCode::InvalidPartitions),
            Err(ErrorCode::InvalidPartitions),
            Err(ErrorCode::UnknownTopic)
        ]
    );
    let topic = world.image.topic_named("a").expect("a topic");
    let stores: Vec<_> = topic.partitions.iter().map(|at| at.store.get()).collect();
    assert_eq!(stores, [0, 1, 0, 1, 2, 0]);
    assert_eq!(
        world.run(&extend(&[("b", 7)], false)),
        [Err(ErrorCode::TopicLimit)]
    );
    assert_eq!(world.run(&extend(&[("b", 6)], false)), [Ok(id(2))]);
    for store in 0..3 {
        world.unfit.insert(StoreId::new(store), "gone".to_owned());
    }
    world.config.limits.partitions_max = 100;
    assert_eq!(
        world.run(&extend(&[("b", 8)], false)),
        [Err(ErrorCode::StorageFailed)]
    );
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
