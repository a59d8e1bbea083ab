//! Topics that are compacted by key: how they are set, described, and which records they take.

use corelane_broker::config::CleanupPolicy;
use corelane_protocol::batch::{BatchBuilder, BatchBuilderConfig, Compression, RecordRef};
use corelane_protocol::request::{Acks, CommitEntry, CommitOffsetsRequest, OffsetPosition};
use corelane_protocol::response::ConfigSource;
use corelane_protocol::{
    ApiError, ErrorCode, Offset, Request, Response, Timestamp, TopicPartition,
};

use crate::client::{Put, at};
use crate::world::{World, small_config};

const COMPACT: [(&str, &str); 1] = [("cleanup.policy", "compact")];

/// A batch of records with these keys and values.
fn put(
    partition: TopicPartition,
    records: &[(Option<&str>, Option<&str>)],
    compression: Compression,
) -> Put {
    let config = BatchBuilderConfig {
        compression,
        ..BatchBuilderConfig::default()
    };
    let mut builder = BatchBuilder::new(config).expect("a codec");
    for (key, value) in records {
        let record = RecordRef {
            key: key.map(str::as_bytes),
            value: value.map(str::as_bytes),
            timestamp: Timestamp::new(1_700_000_000_000),
            ..RecordRef::default()
        };
        builder.try_push(record).expect("a small record");
    }
    Put {
        partition,
        batch: builder.finish().expect("a batch").to_vec(),
        resume: false,
    }
}

impl World {
    /// Produces a batch; its base offset, or why it is refused.
    fn produce_put(&mut self, client: usize, put: Put) -> Result<u64, ApiError> {
        self.send_produce(client, Acks::All, &[put]);
        self.settle();
        let produced = self.reply(client).produce().entries.remove(0);
        produced.result.map(|receipt| receipt.base_offset.get())
    }
}

#[test]
fn records_without_a_key_are_refused_whole_batches_at_a_time() {
    let mut world = World::new(430, 2);
    let topic = world.create("t", 2, &COMPACT);
    // Core 0 forwards: what the owner refuses is refused there too.
    for owner in [0, 1] {
        let partition = world.partition_on("t", topic, owner);
        let client = world.connect(0);
        let keyed = [(Some("a"), Some("1")), (Some(""), Some("2"))];
        let plain = |records: &[_]| put(partition, records, Compression::None);
        assert_eq!(world.produce_put(client, plain(&keyed)), Ok(0));
        // A record without a value deletes its key.
        let tombstone = plain(&[(Some("a"), None)]);
        assert_eq!(world.produce_put(client, tombstone), Ok(2));
        for (records, part) in [
            (&[(None, Some("x"))][..], "record 0 "),
            (&[(Some("a"), Some("x")), (None, None)], "record 1 "),
        ] {
            let error = world.produce_put(client, plain(records));
            let error = error.expect_err("a record without a key");
            assert_eq!(error.code, ErrorCode::InvalidRequest);
            assert!(!error.retriable() && !error.needs_resume());
            for part in [part, "has no key", "cleanup.policy"] {
                assert!(error.message.contains(part), "{error}");
            }
        }
        // Nothing of these batches was written, and what follows on the connection is taken.
        assert_eq!(world.produce_put(client, plain(&keyed)), Ok(3));
        // A compressed batch is not unpacked.
        let value = "x".repeat(2_000);
        let packed = put(partition, &[(None, Some(&value))], Compression::Lz4);
        assert_eq!(world.produce_put(client, packed), Ok(5));
    }
}

#[test]
fn a_topic_takes_records_without_a_key_as_its_policy_is_now() {
    let mut world = World::new(431, 2);
    let topic = world.create("t", 1, &[]);
    let partition = world.partition_on("t", topic, 0);
    let client = world.connect(1);
    let unkeyed = put(partition, &[(None, Some("x"))], Compression::None);
    let refused = Err(ErrorCode::InvalidRequest);
    let mut taken = 0;
    for policy in ["compact", "delete", "compact,delete"] {
        let default = world.produce_put(client, unkeyed.clone());
        assert_eq!(default.map_err(|error| error.code), Ok(taken));
        taken += 1;
        let set = [("cleanup.policy", policy)];
        world.alter(client, "t", &set, &[]).expect("a topic");
        let produced = world.produce_put(client, unkeyed.clone());
        let produced = produced.map_err(|error| error.code);
        if policy == "delete" {
            assert_eq!(produced, Ok(taken));
            taken += 1;
        } else {
            assert_eq!(produced, refused);
        }
        world
            .alter(client, "t", &[], &["cleanup.policy"])
            .expect("a topic");
    }
}

#[test]
fn settings_of_compaction_are_changed_live_and_kept() {
    let mut world = World::new(432, 2);
    world.create("t", 2, &[("cleanup.policy", "delete,compact")]);
    let client = world.connect(1);
    let own = |value: &str| (value.to_owned(), ConfigSource::Topic);
    let default = |value: &str| (value.to_owned(), ConfigSource::Default);
    for (key, set, shown, without) in [
        ("cleanup.policy", "compact", "compact", "delete"),
        ("min.compaction.lag.ms", "2 h", "7200000", "0"),
        ("delete.retention.ms", "1 s", "1000", "86400000"),
        ("min.cleanable.dirty.ratio", "0.10", "0.1", "0.5"),
    ] {
        let before = match key {
            "cleanup.policy" => own("compact,delete"),
            _ => default(without),
        };
        assert_eq!(world.setting(client, "t", key), before);
        world
            .alter(client, "t", &[(key, set)], &[])
            .expect("a setting that exists");
        assert_eq!(world.setting(client, "t", key), own(shown));
    }
    for (key, value, part) in [
        ("cleanup.policy", "remove", "choose delete, compact, or"),
        ("cleanup.policy", "", "choose delete, compact, or"),
        ("min.cleanable.dirty.ratio", "2", "from 0 to 1"),
        ("min.cleanable.dirty.ratio", "0.1234", "three decimals"),
        ("min.compaction.lag.ms", "soon", "not a duration"),
    ] {
        let error = world.alter(client, "t", &[(key, value)], &[]);
        let error = error.expect_err(value);
        assert_eq!(error.code, ErrorCode::InvalidConfig);
        assert!(
            error.message.contains(key) && error.message.contains(part),
            "{error}"
        );
    }
    let mut world = world.crash(1);
    let client = world.connect(0);
    let kept = world.setting(client, "t", "cleanup.policy");
    assert_eq!(kept, own("compact"));
    world
        .alter(client, "t", &[], &["cleanup.policy"])
        .expect("a topic");
    let followed = world.setting(client, "t", "cleanup.policy");
    assert_eq!(followed, default("delete"));
}

#[test]
fn nothing_of_a_compacted_topic_expires_unless_its_policy_deletes_too() {
    let mut world = World::new(433, 1);
    let expiring = [("retention.ms", "10 s"), ("segment.ms", "5 s")];
    let with = |policy| [expiring[0], expiring[1], ("cleanup.policy", policy)];
    let topics = [("kept", "compact"), ("expired", "compact,delete")];
    let topics = topics.map(|(name, policy)| world.create(name, 1, &with(policy)));
    let client = world.connect(0);
    for topic in topics {
        let partition = at(topic, 0);
        let keyed = put(partition, &[(Some("a"), Some("1"))], Compression::None);
        assert_eq!(world.produce_put(client, keyed), Ok(0));
    }
    world.pass_ms(60_000);
    for (topic, earliest) in topics.into_iter().zip([0, 1]) {
        let partition = at(topic, 0);
        let found = world.list_offset(client, partition, OffsetPosition::Earliest);
        assert_eq!(found, Ok(earliest));
    }
    // From now on it does.
    let both = [("cleanup.policy", "compact,delete")];
    world.alter(client, "kept", &both, &[]).expect("a topic");
    world.pass_ms(60_000);
    let found = world.list_offset(client, at(topics[0], 0), OffsetPosition::Earliest);
    assert_eq!(found, Ok(1));
}

#[test]
fn groups_are_kept_where_topics_are_compacted_by_default() {
    let mut config = small_config();
    config.log.cleanup_policy = CleanupPolicy::Compact;
    let mut world = World::with_config(434, 1, config);
    let topic = world.create("t", 1, &[]);
    let client = world.connect(0);
    let broker = |value: &str| (value.to_owned(), ConfigSource::Broker);
    assert_eq!(
        world.setting(client, "t", "cleanup.policy"),
        broker("compact")
    );
    let entry = CommitEntry {
        partition: at(topic, 0),
        offset: Offset::ZERO,
        leader_epoch: None,
        metadata: String::new(),
    };
    let commit = Request::CommitOffsets(CommitOffsetsRequest {
        group: "g".to_owned(),
        member: None,
        entries: vec![entry],
    });
    let committed = |world: &mut World| {
        let reply = world.ask(client, &commit);
        let Ok(Response::CommitOffsets(answer)) = reply.response() else {
            panic!("not an answer to a commit: {:?}", reply.response());
        };
        let entries = answer.result.map_err(|error| error.code)?;
        let noted = entries.into_iter().map(|entry| entry.result);
        noted.collect::<Result<(), _>>().map_err(|error| error.code)
    };
    // The topic of groups is made with the first one.
    assert_eq!(committed(&mut world), Err(ErrorCode::GroupLoading));
    world.pass_ms(1_000);
    assert_eq!(committed(&mut world), Ok(()));
    let kept = world.setting(client, "__offsets", "cleanup.policy");
    assert_eq!(kept, ("delete".to_owned(), ConfigSource::Topic));
}
