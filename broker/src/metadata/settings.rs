//! The settings of a topic: which exist, what they may be, and what applies when one is absent.
//!
//! Names and meaning are Kafka's. Never decides what a setting does to a log; the store does.

use std::sync::Arc;

use corelane_protocol::batch::TimestampType;
use corelane_protocol::{ApiError, ErrorCode};
use corelane_storage::store::{GuardMode, RetentionGuard};

use super::setting_table::{MAX_MESSAGE_BYTES, SEGMENT_BYTES, SETTINGS, Setting};
use crate::config::{BrokerConfig, Limit, LogDefaults, TOPIC_CONFIG_VALUE_BYTES_MAX, format_bytes};

/// What a segment holds beside its batches: its header block and the padding of its last one.
const SEGMENT_OVERHEAD_BYTES: u64 = 8192;
/// The broker's setting that no batch may exceed.
const FRAME_BYTES_MAX: &str = "limits.frame_bytes_max";

/// The settings that a topic has of its own; absent ones follow the broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicSettings {
    /// Size at which a segment file is closed, in bytes.
    pub segment_bytes: Option<u64>,
    /// Largest batch, in bytes.
    pub max_message_bytes: Option<u32>,
    /// Records after which the log is flushed: 0 leaves it to `flush_ms`, 1 flushes every record
    /// before it is acknowledged, more acknowledges from memory.
    pub flush_messages: Option<u64>,
    /// Milliseconds after which the log is flushed; 0: before it is acknowledged.
    pub flush_ms: Option<u64>,
    /// Milliseconds after its first record at which a segment file is closed.
    pub segment_ms: Option<u64>,
    /// Milliseconds after which records are deleted.
    pub retention_ms: Option<Limit>,
    /// Bytes of a partition beyond which its oldest records are deleted.
    pub retention_bytes: Option<Limit>,
    /// Which time records have.
    pub timestamp_type: Option<TimestampType>,
    /// Milliseconds that a producer's time may be behind the broker's clock.
    pub timestamp_before_max_ms: Option<u64>,
    /// Milliseconds that a producer's time may be ahead of the broker's clock.
    pub timestamp_after_max_ms: Option<u64>,
    /// What retention does about records that a named reader has not read.
    pub guard: Option<GuardMode>,
    /// The readers that it knows by name.
    pub guard_readers: Option<Arc<[String]>>,
    /// Milliseconds that it waits longer than `retention_ms` at most.
    pub guard_max_ms: Option<u64>,
    /// Bytes that it keeps more than `retention_bytes` at most.
    pub guard_max_bytes: Option<u64>,
}

/// What applies to the partitions of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveSettings {
    /// Size at which a segment file is closed, in bytes.
    pub segment_bytes: u64,
    /// Largest batch, in bytes.
    pub max_message_bytes: u32,
    /// `None`, together with `flush_ms`: an append is acknowledged once it is flushed.
    pub flush_messages: Option<u64>,
    /// See `flush_messages`.
    pub flush_ms: Option<u64>,
    /// Milliseconds after its first record at which a segment file is closed.
    pub segment_ms: u64,
    /// Milliseconds after which records are deleted.
    pub retention_ms: Option<u64>,
    /// Bytes of a partition beyond which its oldest records are deleted.
    pub retention_bytes: Option<u64>,
    /// Which time records have.
    pub timestamp_type: TimestampType,
    /// Milliseconds that a producer's time may be behind the broker's clock.
    pub timestamp_before_max_ms: u64,
    /// Milliseconds that a producer's time may be ahead of the broker's clock.
    pub timestamp_after_max_ms: u64,
    /// What retention does about records that a named reader has not read.
    pub guard: RetentionGuard,
}

impl EffectiveSettings {
    /// Whether appends are acknowledged from memory.
    pub fn is_weak(&self) -> bool {
        self.flush_messages.is_some() || self.flush_ms.is_some()
    }
}

/// Where the value of a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingSource {
    /// The topic's own setting.
    Topic,
    /// The broker's configuration.
    Broker,
    /// The built-in default.
    Default,
}

/// One setting of a topic as it is described to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedSetting {
    /// Kafka's name of the setting.
    pub key: &'static str,
    /// The value that applies.
    pub value: String,
    /// Where it comes from.
    pub source: SettingSource,
    /// The setting that makes the value less than was set, if one does.
    pub bounded_by: Option<&'static str>,
}

impl TopicSettings {
    /// Reads settings as a client gives them: whole numbers, sizes such as `1 MiB`, durations such
    /// as `1 s`.
    ///
    /// # Errors
    /// `InvalidConfig` naming the first setting that is unknown or impossible.
    pub fn parse<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ApiError> {
        Self::default().altered(pairs, [])
    }

    /// The settings after a change: some get a value, some follow the broker again.
    ///
    /// # Errors
    /// `InvalidConfig` naming the first setting that is unknown, impossible or named twice.
    pub fn altered<'a>(
        &self,
        set: impl IntoIterator<Item = (&'a str, &'a str)>,
        unset: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, ApiError> {
        let mut settings = self.clone();
        let mut seen = Vec::new();
        let changes = set
            .into_iter()
            .map(|(key, value)| (key, Some(value)))
            .chain(unset.into_iter().map(|key| (key, None)));
        for (key, value) in changes {
            if seen.contains(&key) {
                return Err(invalid(format!("{key} is given twice")));
            }
            let setting = setting(key)?;
            match value {
                None => (setting.clear)(&mut settings),
                Some(value) if value.len() > TOPIC_CONFIG_VALUE_BYTES_MAX => {
                    return Err(invalid(format!("the value of {key} is too long")));
                }
                Some(value) => (setting.set)(&mut settings, value)
                    .map_err(|problem| invalid(format!("{key}: {problem}")))?,
            }
            seen.push(key);
        }
        Ok(settings)
    }

    /// Checks the settings against each other and the broker's limits.
    ///
    /// # Errors
    /// `InvalidConfig` saying what does not fit.
    pub fn check(&self, config: &BrokerConfig) -> Result<(), ApiError> {
        if let Some(batch) = self.max_message_bytes {
            let most = config.limits.batch_bytes_max();
            if batch > most {
                return Err(invalid(format!(
                    "{MAX_MESSAGE_BYTES}: {batch} is more than a request can hold ({}); raise limits.frame_bytes_max on the broker",
                    format_bytes(u64::from(most))
                )));
            }
            let segment = self.segment_bytes.unwrap_or(config.log.segment_bytes);
            if u64::from(batch) + SEGMENT_OVERHEAD_BYTES > segment {
                return Err(invalid(format!(
                    "{MAX_MESSAGE_BYTES}: {batch} does not fit a segment of {segment} bytes with its 8 KiB of overhead; lower it or raise {SEGMENT_BYTES}"
                )));
            }
        }
        Ok(())
    }

    /// The settings as pairs, in a fixed order, in the form that [`TopicSettings::parse`] reads.
    pub fn to_pairs(&self) -> Vec<(&'static str, String)> {
        let own = SETTINGS
            .iter()
            .map(|setting| (setting.key, (setting.own)(self)));
        own.filter_map(|(key, value)| Some((key, value?))).collect()
    }

    /// What applies, given the broker's configuration.
    pub fn effective(&self, config: &BrokerConfig) -> EffectiveSettings {
        let log = &config.log;
        let segment_bytes = self.segment_bytes.unwrap_or(log.segment_bytes);
        let (max_message_bytes, _) = self.max_message_bytes(config);
        let messages = self.flush_messages.unwrap_or(log.flush_messages);
        let ms = self.flush_ms.unwrap_or(log.flush_ms);
        EffectiveSettings {
            segment_bytes,
            max_message_bytes,
            flush_messages: (messages > 1).then_some(messages),
            flush_ms: (ms > 0 && messages != 1).then_some(ms),
            segment_ms: self.segment_ms.unwrap_or(log.segment_ms),
            retention_ms: self.retention_ms.unwrap_or(log.retention_ms).0,
            retention_bytes: self.retention_bytes.unwrap_or(log.retention_bytes).0,
            timestamp_type: self.timestamp_type.unwrap_or(log.message_timestamp_type),
            timestamp_before_max_ms: self
                .timestamp_before_max_ms
                .unwrap_or(log.message_timestamp_before_max_ms),
            timestamp_after_max_ms: self
                .timestamp_after_max_ms
                .unwrap_or(log.message_timestamp_after_max_ms),
            guard: RetentionGuard {
                mode: self.guard.unwrap_or(log.retention_guard),
                readers: self.guard_readers.clone().unwrap_or_default(),
                ms_max: self.guard_max_ms.unwrap_or(log.retention_guard_max_ms),
                bytes_max: self
                    .guard_max_bytes
                    .unwrap_or(log.retention_guard_max_bytes),
            },
        }
    }

    /// The largest batch that applies, and the setting that makes it less than was set, if one does: a
    /// smaller segment lowers what was not set by hand, and a broker whose frames were made smaller
    /// since lowers what was.
    fn max_message_bytes(&self, config: &BrokerConfig) -> (u32, Option<&'static str>) {
        let segment_bytes = self.segment_bytes.unwrap_or(config.log.segment_bytes);
        let fits_segment =
            u32::try_from(segment_bytes - SEGMENT_OVERHEAD_BYTES).unwrap_or(u32::MAX);
        let fits_frame = config.limits.batch_bytes_max();
        let set = self
            .max_message_bytes
            .unwrap_or(config.log.max_message_bytes);
        if set <= fits_segment.min(fits_frame) {
            (set, None)
        } else if fits_segment <= fits_frame {
            (fits_segment, Some(SEGMENT_BYTES))
        } else {
            (fits_frame, Some(FRAME_BYTES_MAX))
        }
    }

    /// Every setting with the value that applies and where it comes from.
    pub fn describe(&self, config: &BrokerConfig) -> Vec<DescribedSetting> {
        let built_in = LogDefaults::default();
        let described = SETTINGS.iter().map(|setting| {
            let own = (setting.own)(self);
            let broker = (setting.broker)(&config.log);
            let source = if own.is_some() {
                SettingSource::Topic
            } else if broker != (setting.broker)(&built_in) {
                SettingSource::Broker
            } else {
                SettingSource::Default
            };
            let (value, bounded_by) = if setting.key == MAX_MESSAGE_BYTES {
                let (bytes, bounded_by) = self.max_message_bytes(config);
                (bytes.to_string(), bounded_by)
            } else {
                (own.unwrap_or(broker), None)
            };
            DescribedSetting {
                key: setting.key,
                value,
                source,
                bounded_by,
            }
        });
        described.collect()
    }
}

/// The setting of this name.
fn setting(key: &str) -> Result<&'static Setting, ApiError> {
    let known = SETTINGS.iter().find(|setting| setting.key == key);
    known.ok_or_else(|| {
        let shown: String = key.chars().take(64).collect();
        let names: Vec<_> = SETTINGS.iter().map(|setting| setting.key).collect();
        invalid(format!(
            "unknown setting {shown:?}; known are {}",
            names.join(", ")
        ))
    })
}

fn invalid(message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidConfig, message)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
