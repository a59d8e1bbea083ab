use corelane_protocol::{TopicId, TopicName};

use super::*;
use crate::metadata::OFFSETS_TOPIC;

fn parse(pairs: &[(&str, &str)]) -> Result<TopicSettings, ApiError> {
    TopicSettings::parse(pairs.iter().copied())
}

#[test]
fn settings_are_read_as_they_are_written() {
    let settings = parse(&[
        ("flush.ms", "1 s"),
        ("segment.bytes", "1 MiB"),
        ("max.message.bytes", "65536"),
        ("flush.messages", "100"),
        ("compression.type", "producer"),
    ])
    .expect("valid settings");
    let pairs = settings.to_pairs();
    assert_eq!(
        pairs,
        [
            ("segment.bytes", "1048576".to_owned()),
            ("max.message.bytes", "65536".to_owned()),
            ("flush.messages", "100".to_owned()),
            ("flush.ms", "1000".to_owned()),
        ]
    );
    let again = TopicSettings::parse(pairs.iter().map(|(key, value)| (*key, value.as_str())));
    assert_eq!(again, Ok(settings));
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    for (pairs, message) in [
        (
            &[("colour", "1")][..],
            "unknown setting \"colour\"; known are segment.bytes,",
        ),
        (
            &[("segment.bytes", "1")],
            "segment.bytes: choose between 64 KiB",
        ),
        (
            &[("segment.bytes", "big")],
            "segment.bytes: `big` is not a size",
        ),
        (&[("segment.ms", "0")], "segment.ms: write at least 1"),
        (
            &[("retention.ms", "-2")],
            "retention.ms: `-2` is not a duration",
        ),
        (&[("flush.ms", "-1")], "flush.ms: `-1` is not a duration"),
        (
            &[("flush.messages", "all")],
            "flush.messages: write a whole number",
        ),
        (
            &[("cleanup.policy", "keep")],
            "cleanup.policy: `keep` is no policy; choose delete, compact,",
        ),
        (
            &[("min.cleanable.dirty.ratio", "1.1")],
            "min.cleanable.dirty.ratio: `1.1` is no share",
        ),
        (
            &[("min.compaction.lag.ms", "-1")],
            "min.compaction.lag.ms: `-1` is not a duration",
        ),
        (
            &[("delete.retention.ms", "")],
            "delete.retention.ms: `` is not a duration",
        ),
        (
            &[("compression.type", "zstd")],
            "compression.type: batches are kept",
        ),
        (
            &[("flush.ms", "1"), ("flush.ms", "2")],
            "flush.ms is given twice",
        ),
    ] {
        let error = parse(pairs).expect_err(message);
        assert_eq!(error.code, ErrorCode::InvalidConfig);
        assert!(error.message.starts_with(message), "{}", error.message);
    }
    let config = BrokerConfig::default();
    let large = parse(&[("max.message.bytes", "1 GiB")]).expect("valid by itself");
    assert!(large.check(&config).is_err());
    let tight = parse(&[("max.message.bytes", "1 MiB"), ("segment.bytes", "1 MiB")]);
    assert!(tight.expect("valid by itself").check(&config).is_err());
}

#[test]
fn retention_follows_the_broker_unless_the_topic_has_its_own() {
    let mut config = BrokerConfig::default();
    let week = 7 * 86_400_000;
    let effective = |pairs: &[(&str, &str)], config: &BrokerConfig| {
        let settings = parse(pairs).expect("valid settings");
        assert_eq!(
            TopicSettings::parse(
                settings
                    .to_pairs()
                    .iter()
                    .map(|(key, value)| (*key, value.as_str()))
            ),
            Ok(settings.clone())
        );
        let effective = settings.effective(config);
        (
            effective.retention_ms,
            effective.retention_bytes,
            effective.segment_ms,
        )
    };
    assert_eq!(effective(&[], &config), (Some(week), None, week));
    let own = [
        ("retention.ms", "-1"),
        ("retention.bytes", "1 GiB"),
        ("segment.ms", "1 h"),
    ];
    assert_eq!(effective(&own, &config), (None, Some(1 << 30), 3_600_000));
    config.log.retention_bytes = Limit(Some(5));
    config.log.retention_ms = Limit(None);
    assert_eq!(effective(&[], &config), (None, Some(5), week));
    let unbounded = [("retention.bytes", "-1")];
    assert_eq!(effective(&unbounded, &config), (None, None, week));
}

#[test]
fn a_topic_is_weak_only_if_it_may_acknowledge_before_a_flush() {
    let mut config = BrokerConfig::default();
    let weak = |pairs: &[(&str, &str)], config: &BrokerConfig| {
        parse(pairs)
            .expect("valid settings")
            .effective(config)
            .is_weak()
    };
    assert!(!weak(&[], &config));
    assert!(!weak(&[("flush.messages", "1")], &config));
    assert!(!weak(
        &[("flush.messages", "0"), ("flush.ms", "0")],
        &config
    ));
    assert!(weak(&[("flush.messages", "2")], &config));
    assert!(weak(&[("flush.ms", "10")], &config));
    config.log.flush_ms = 100;
    assert!(weak(&[], &config));
    assert!(!weak(&[("flush.messages", "1")], &config));
    assert!(!weak(&[("flush.ms", "0")], &config));
}

#[test]
fn the_largest_batch_fits_its_segment() {
    let settings = parse(&[("segment.bytes", "64 KiB")]).expect("valid settings");
    let effective = settings.effective(&BrokerConfig::default());
    assert_eq!(effective.max_message_bytes, 56 * 1024);
}

#[test]
fn a_value_that_is_less_than_was_set_says_what_bounds_it() {
    let mut config = BrokerConfig::default();
    let described = |pairs: &[(&str, &str)], config: &BrokerConfig| {
        let settings = parse(pairs).expect("valid settings");
        let mut described = settings.describe(config);
        described.retain(|row| row.bounded_by.is_some() || row.key == MAX_MESSAGE_BYTES);
        assert_eq!(described.len(), 1, "nothing else is bounded");
        described.remove(0)
    };
    let small = described(&[("segment.bytes", "64 KiB")], &config);
    assert_eq!(
        (&*small.value, small.bounded_by),
        ("57344", Some("segment.bytes"))
    );
    assert_eq!(small.source, SettingSource::Default);
    let usual = described(&[], &config);
    assert_eq!((&*usual.value, usual.bounded_by), ("1048588", None));
    config.limits.frame_bytes_max = 1024 * 1024;
    let framed = described(&[("max.message.bytes", "1 MiB")], &config);
    assert_eq!(
        (&*framed.value, framed.bounded_by),
        ("983040", Some("limits.frame_bytes_max"))
    );
}

#[test]
fn descriptions_say_where_a_value_comes_from() {
    let mut config = BrokerConfig::default();
    config.log.flush_ms = 100;
    let settings = parse(&[("flush.messages", "1")]).expect("valid settings");
    let described = settings.describe(&config);
    let source = |key| {
        described
            .iter()
            .find(|row| row.key == key)
            .expect("described")
            .source
    };
    assert_eq!(source("flush.messages"), SettingSource::Topic);
    assert_eq!(source("flush.ms"), SettingSource::Broker);
    assert_eq!(source("segment.bytes"), SettingSource::Default);
}

#[test]
fn compaction_follows_the_broker_unless_the_topic_has_its_own() {
    let mut config = BrokerConfig::default();
    let effective = |pairs: &[(&str, &str)], config: &BrokerConfig| {
        let settings = parse(pairs).expect("valid settings");
        let pairs = settings.to_pairs();
        let again = TopicSettings::parse(pairs.iter().map(|(key, value)| (*key, value.as_str())));
        assert_eq!(again, Ok(settings.clone()));
        let effective = settings.effective(config);
        (effective.cleanup_policy, effective.compaction)
    };
    let defaults = CompactionConfig::default();
    assert_eq!(effective(&[], &config), (CleanupPolicy::Delete, defaults));
    let own = [
        ("cleanup.policy", "delete,compact"),
        ("min.compaction.lag.ms", "1 h"),
        ("delete.retention.ms", "0"),
        ("min.cleanable.dirty.ratio", "0.05"),
    ];
    let compaction = CompactionConfig {
        min_lag_ms: 3_600_000,
        delete_retention_ms: 0,
        dirty_ratio_min: 50,
    };
    let both = (CleanupPolicy::CompactAndDelete, compaction);
    assert_eq!(effective(&own, &config), both);
    config.log.cleanup_policy = CleanupPolicy::Compact;
    config.log.min_compaction_lag_ms = 7;
    let followed = CompactionConfig {
        min_lag_ms: 7,
        ..defaults
    };
    let compacted = (CleanupPolicy::Compact, followed);
    assert_eq!(effective(&[], &config), compacted);
    assert_eq!(effective(&own, &config), both);
    let kept = effective(&[("cleanup.policy", "delete")], &config);
    assert_eq!(kept, (CleanupPolicy::Delete, followed));
    // Described in one form, with who has set it.
    let described = parse(&own[..1]).expect("valid").describe(&config);
    for (key, value, source) in [
        ("cleanup.policy", "compact,delete", SettingSource::Topic),
        ("min.compaction.lag.ms", "7", SettingSource::Broker),
        ("delete.retention.ms", "86400000", SettingSource::Default),
        ("min.cleanable.dirty.ratio", "0.5", SettingSource::Default),
    ] {
        let row = described.iter().find(|row| row.key == key);
        let row = row.expect("described");
        assert_eq!((&*row.value, row.source), (value, source), "{key}");
    }
}

#[test]
fn topics_of_the_brokers_own_are_never_compacted() {
    let mut config = BrokerConfig::default();
    config.log.cleanup_policy = CleanupPolicy::Compact;
    let topic = |name: &str| Topic {
        id: TopicId::NIL,
        name: TopicName::new(name).expect("a name"),
        partition_count: 0,
        settings: TopicSettings::default(),
        partitions: Vec::new(),
    };
    let policy = |name| topic(name).effective(&config).cleanup_policy;
    assert_eq!(policy("orders"), CleanupPolicy::Compact);
    assert_eq!(policy(OFFSETS_TOPIC), CleanupPolicy::Delete);
}
