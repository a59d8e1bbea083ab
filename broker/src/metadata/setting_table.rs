//! The table of topic settings: the name of each, how it is read and shown, and where it lives.
//!
//! Reading, writing, describing and altering all walk this one table, so a setting cannot be known to
//! one of them only.

use corelane_protocol::TopicName;
use corelane_protocol::batch::TimestampType;
use corelane_storage::store::{READERS_MAX, SEGMENT_BYTES_MAX};

use super::TopicSettings;
use crate::config::{
    CleanupPolicy, Limit, LogDefaults, format_bytes, format_share, guard_mode_name, parse_bytes,
    parse_cleanup_policy, parse_guard_mode, parse_millis, parse_share, parse_timestamp_type,
};

pub(super) const SEGMENT_BYTES: &str = "segment.bytes";
pub(super) const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
/// The setting that says whether a topic is compacted by key.
pub(crate) const CLEANUP_POLICY: &str = "cleanup.policy";
/// The setting that bounds how late a producer's time may be.
pub(crate) const MESSAGE_TIMESTAMP_BEFORE_MAX_MS: &str = "message.timestamp.before.max.ms";
/// The setting that bounds how early a producer's time may be.
pub(crate) const MESSAGE_TIMESTAMP_AFTER_MAX_MS: &str = "message.timestamp.after.max.ms";

/// Least `segment.bytes`.
const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
/// Least `max.message.bytes`.
const MAX_MESSAGE_BYTES_MIN: u64 = 1024;

/// One setting.
pub(super) struct Setting {
    /// Kafka's name.
    pub(super) key: &'static str,
    /// Reads the topic's own value; the error says what it may be.
    pub(super) set: fn(&mut TopicSettings, &str) -> Result<(), String>,
    /// Forgets the topic's own value.
    pub(super) clear: fn(&mut TopicSettings),
    /// The topic's own value, in the form that `set` reads.
    pub(super) own: fn(&TopicSettings) -> Option<String>,
    /// The value of topics without one.
    pub(super) broker: fn(&LogDefaults) -> String,
}

/// Every setting, in the order in which they are described.
pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        key: SEGMENT_BYTES,
        set: |topic, text| {
            topic.segment_bytes = Some(bytes(text, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)?);
            Ok(())
        },
        clear: |topic| topic.segment_bytes = None,
        own: |topic| shown(topic.segment_bytes),
        broker: |log| log.segment_bytes.to_string(),
    },
    Setting {
        key: MAX_MESSAGE_BYTES,
        set: |topic, text| {
            let value = bytes(text, MAX_MESSAGE_BYTES_MIN, u64::from(u32::MAX))?;
            topic.max_message_bytes = Some(u32::try_from(value).expect("checked by its range"));
            Ok(())
        },
        clear: |topic| topic.max_message_bytes = None,
        own: |topic| shown(topic.max_message_bytes),
        broker: |log| log.max_message_bytes.to_string(),
    },
    Setting {
        key: "flush.messages",
        set: |topic, text| {
            let count = text.trim().parse().map_err(|_| "write a whole number")?;
            topic.flush_messages = Some(count);
            Ok(())
        },
        clear: |topic| topic.flush_messages = None,
        own: |topic| shown(topic.flush_messages),
        broker: |log| log.flush_messages.to_string(),
    },
    Setting {
        key: "flush.ms",
        set: |topic, text| {
            topic.flush_ms = Some(parse_millis(text)?);
            Ok(())
        },
        clear: |topic| topic.flush_ms = None,
        own: |topic| shown(topic.flush_ms),
        broker: |log| log.flush_ms.to_string(),
    },
    Setting {
        key: "segment.ms",
        set: |topic, text| {
            let value = parse_millis(text)?;
            if value == 0 {
                return Err("write at least 1".to_owned());
            }
            topic.segment_ms = Some(value);
            Ok(())
        },
        clear: |topic| topic.segment_ms = None,
        own: |topic| shown(topic.segment_ms),
        broker: |log| log.segment_ms.to_string(),
    },
    Setting {
        key: "retention.ms",
        set: |topic, text| {
            topic.retention_ms = Some(Limit::parse(text, parse_millis)?);
            Ok(())
        },
        clear: |topic| topic.retention_ms = None,
        own: |topic| shown(topic.retention_ms),
        broker: |log| log.retention_ms.to_string(),
    },
    Setting {
        key: "retention.bytes",
        set: |topic, text| {
            topic.retention_bytes = Some(Limit::parse(text, parse_bytes)?);
            Ok(())
        },
        clear: |topic| topic.retention_bytes = None,
        own: |topic| shown(topic.retention_bytes),
        broker: |log| log.retention_bytes.to_string(),
    },
    Setting {
        key: "retention.guard",
        set: |topic, text| {
            topic.guard = Some(parse_guard_mode(text)?);
            Ok(())
        },
        clear: |topic| topic.guard = None,
        own: |topic| shown(topic.guard.map(guard_mode_name)),
        broker: |log| guard_mode_name(log.retention_guard).to_owned(),
    },
    Setting {
        key: "retention.guard.readers",
        set: |topic, text| {
            topic.guard_readers = Some(reader_names(text)?.into());
            Ok(())
        },
        clear: |topic| topic.guard_readers = None,
        own: |topic| {
            topic
                .guard_readers
                .as_ref()
                .map(|readers| readers.join(","))
        },
        broker: |_| String::new(),
    },
    Setting {
        key: "retention.guard.max.ms",
        set: |topic, text| {
            topic.guard_max_ms = Some(parse_millis(text)?);
            Ok(())
        },
        clear: |topic| topic.guard_max_ms = None,
        own: |topic| shown(topic.guard_max_ms),
        broker: |log| log.retention_guard_max_ms.to_string(),
    },
    Setting {
        key: "retention.guard.max.bytes",
        set: |topic, text| {
            topic.guard_max_bytes = Some(parse_bytes(text)?);
            Ok(())
        },
        clear: |topic| topic.guard_max_bytes = None,
        own: |topic| shown(topic.guard_max_bytes),
        broker: |log| log.retention_guard_max_bytes.to_string(),
    },
    Setting {
        key: CLEANUP_POLICY,
        set: |topic, text| {
            topic.cleanup_policy = Some(parse_cleanup_policy(text)?);
            Ok(())
        },
        clear: |topic| topic.cleanup_policy = None,
        own: |topic| shown(topic.cleanup_policy.map(CleanupPolicy::as_str)),
        broker: |log| log.cleanup_policy.as_str().to_owned(),
    },
    Setting {
        key: "min.compaction.lag.ms",
        set: |topic, text| {
            topic.min_compaction_lag_ms = Some(parse_millis(text)?);
            Ok(())
        },
        clear: |topic| topic.min_compaction_lag_ms = None,
        own: |topic| shown(topic.min_compaction_lag_ms),
        broker: |log| log.min_compaction_lag_ms.to_string(),
    },
    Setting {
        key: "delete.retention.ms",
        set: |topic, text| {
            topic.delete_retention_ms = Some(parse_millis(text)?);
            Ok(())
        },
        clear: |topic| topic.delete_retention_ms = None,
        own: |topic| shown(topic.delete_retention_ms),
        broker: |log| log.delete_retention_ms.to_string(),
    },
    Setting {
        key: "min.cleanable.dirty.ratio",
        set: |topic, text| {
            topic.min_cleanable_dirty_ratio = Some(parse_share(text)?);
            Ok(())
        },
        clear: |topic| topic.min_cleanable_dirty_ratio = None,
        own: |topic| topic.min_cleanable_dirty_ratio.map(format_share),
        broker: |log| format_share(log.min_cleanable_dirty_ratio),
    },
    Setting {
        key: "message.timestamp.type",
        set: |topic, text| {
            topic.timestamp_type = Some(parse_timestamp_type(text)?);
            Ok(())
        },
        clear: |topic| topic.timestamp_type = None,
        own: |topic| shown(topic.timestamp_type.map(TimestampType::as_str)),
        broker: |log| log.message_timestamp_type.as_str().to_owned(),
    },
    Setting {
        key: MESSAGE_TIMESTAMP_BEFORE_MAX_MS,
        set: |topic, text| {
            topic.timestamp_before_max_ms = Some(parse_millis(text)?);
            Ok(())
        },
        clear: |topic| topic.timestamp_before_max_ms = None,
        own: |topic| shown(topic.timestamp_before_max_ms),
        broker: |log| log.message_timestamp_before_max_ms.to_string(),
    },
    Setting {
        key: MESSAGE_TIMESTAMP_AFTER_MAX_MS,
        set: |topic, text| {
            topic.timestamp_after_max_ms = Some(parse_millis(text)?);
            Ok(())
        },
        clear: |topic| topic.timestamp_after_max_ms = None,
        own: |topic| shown(topic.timestamp_after_max_ms),
        broker: |log| log.message_timestamp_after_max_ms.to_string(),
    },
    Setting {
        key: "compression.type",
        set: |_, text| match text {
            "producer" => Ok(()),
            _ => Err(
                "batches are kept as producers send them; the only value is producer".to_owned(),
            ),
        },
        clear: |_| {},
        own: |_| None,
        broker: |_| "producer".to_owned(),
    },
];

/// The names of readers, separated by commas.
fn reader_names(text: &str) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::new();
    for name in text
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        // What a topic may be called, a reader may.
        TopicName::new(name).map_err(|_| {
            format!("{name:?} is no name: use 1 to 249 letters, digits, '.', '_' and '-'")
        })?;
        if names.iter().any(|known| known == name) {
            return Err(format!("{name} is named twice"));
        }
        names.push(name.to_owned());
    }
    if names.len() > READERS_MAX {
        return Err(format!("name at most {READERS_MAX} readers"));
    }
    Ok(names)
}

fn bytes(text: &str, least: u64, most: u64) -> Result<u64, String> {
    match parse_bytes(text)? {
        bytes if (least..=most).contains(&bytes) => Ok(bytes),
        _ => Err(format!(
            "choose between {} and {}",
            format_bytes(least),
            format_bytes(most)
        )),
    }
}

fn shown(value: Option<impl ToString>) -> Option<String> {
    value.map(|value| value.to_string())
}
