//! The settings of a topic: which exist, what they may be, and what applies when one is absent.
//!
//! Names and meaning are Kafka's. Never decides what a setting does to a log; the store does.

use std::sync::Arc;

use corelane_protocol::batch::TimestampType;
use corelane_protocol::{ApiError, ErrorCode};
use corelane_storage::store::{CompactionConfig, GuardMode, RetentionGuard};

use super::setting_table::{MAX_MESSAGE_BYTES, SEGMENT_BYTES, SETTINGS, Setting};
use super::{Topic, is_internal};
use crate::config::{
    BrokerConfig, CleanupPolicy, Limit, LogDefaults, TOPIC_CONFIG_VALUE_BYTES_MAX, format_bytes,
};

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
    /// What happens to old records.
    pub cleanup_policy: Option<CleanupPolicy>,
    /// Milliseconds after its last record in which a segment file is not compacted.
    pub min_compaction_lag_ms: Option<u64>,
    /// Milliseconds for which a record without a value is kept after those that it deletes.
    pub delete_retention_ms: Option<u64>,
    /// The share of closed segment files that must be new since they were compacted, in thousandths.
    pub min_cleanable_dirty_ratio: Option<u16>,
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
    /// Milliseconds after which records are deleted, where the policy deletes.
    pub retention_ms: Option<u64>,
    /// Bytes of a partition beyond which its oldest records are deleted, where the policy deletes.
    pub retention_bytes: Option<u64>,
    /// What happens to old records.
    pub cleanup_policy: CleanupPolicy,
    /// How they are compacted, where the policy compacts.
    pub compaction: CompactionConfig,
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
            cleanup_policy: self.cleanup_policy.unwrap_or(log.cleanup_policy),
            compaction: CompactionConfig {
                min_lag_ms: self
                    .min_compaction_lag_ms
                    .unwrap_or(log.min_compaction_lag_ms),
                delete_retention_ms: self.delete_retention_ms.unwrap_or(log.delete_retention_ms),
                dirty_ratio_min: self
                    .min_cleanable_dirty_ratio
                    .unwrap_or(log.min_cleanable_dirty_ratio),
            },
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

impl Topic {
    /// What applies to its partitions, given the broker's configuration. A topic of the broker's own is never
    /// compacted, whatever the defaults of topics are: it writes snapshots of itself.
    pub fn effective(&self, config: &BrokerConfig) -> EffectiveSettings {
        let mut effective = self.settings.effective(config);
        if is_internal(self.name.as_str()) {
            effective.cleanup_policy = CleanupPolicy::Delete;
        }
        effective
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
mod tests;
