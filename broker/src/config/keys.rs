//! The table of keys: where each setting lives, its unit and its range.
//!
//! The file, the environment, the flags, the example's test and the cross checks all walk this one
//! table, so a key cannot be known to one of them only.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::compaction::{CleanupPolicy, format_share, parse_cleanup_policy, parse_share};
use super::value::{
    Limit, format_bytes, format_cores, format_millis, guard_mode_name, parse_address, parse_bool,
    parse_bytes, parse_cores, parse_count, parse_guard_mode, parse_millis, parse_timestamp_type,
};
use corelane_protocol::batch::TimestampType;
use corelane_storage::store::GuardMode;

use super::{BrokerConfig, CoreSelection, FRAME_OVERHEAD_BYTES, LogFormat, LogLevel};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const DAY_MS: u64 = 86_400_000;

/// Instead of an address: nothing listens.
const OFF: &str = "off";

/// One setting: its path (`section.key`, or `key` at the top of the file) and its place in the
/// configuration.
pub(super) struct Key {
    pub(super) path: &'static str,
    slot: fn(&mut BrokerConfig) -> Slot<'_>,
}

/// The place of a setting's value, by type.
enum Slot<'a> {
    Path(&'a mut PathBuf),
    Address(&'a mut SocketAddr),
    AddressOrOff(&'a mut Option<SocketAddr>),
    Host(&'a mut Option<String>),
    Cores(&'a mut CoreSelection),
    Flag(&'a mut bool),
    Format(&'a mut LogFormat),
    Level(&'a mut LogLevel),
    TimestampType(&'a mut TimestampType),
    Guard(&'a mut GuardMode),
    Cleanup(&'a mut CleanupPolicy),
    /// In thousandths.
    Share(&'a mut u16),
    Limit(&'a mut Limit, Unit),
    Number(Number<'a>, Unit, RangeInclusive<u64>),
}

enum Number<'a> {
    U16(&'a mut u16),
    U32(&'a mut u32),
    U64(&'a mut u64),
}

#[derive(Clone, Copy)]
enum Unit {
    Bytes,
    Millis,
    Count,
}

impl Key {
    /// Section of the file that holds the key; empty at the top.
    pub(super) fn section(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(section, _)| section)
    }

    /// Name of the key within its section.
    pub(super) fn name(&self) -> &'static str {
        self.path
            .split_once('.')
            .map_or(self.path, |(_, name)| name)
    }

    /// The environment variable that overrides the key.
    pub(super) fn environment_name(&self) -> String {
        format!("CORELANE_{}", self.path.replace('.', "_").to_uppercase())
    }

    /// Sets the value from its textual form; the error says what the value may be.
    pub(super) fn set(&self, config: &mut BrokerConfig, text: &str) -> Result<(), String> {
        match (self.slot)(config) {
            Slot::Path(path) if text.trim().is_empty() => {
                let _ = path;
                return Err("is empty; name a directory".to_owned());
            }
            Slot::Path(path) => *path = PathBuf::from(text),
            Slot::Address(address) => *address = parse_address(text)?,
            Slot::AddressOrOff(address) if text.trim() == OFF => *address = None,
            Slot::AddressOrOff(address) => {
                let parsed = parse_address(text);
                *address = Some(parsed.map_err(|problem| format!("{problem}, or \"{OFF}\""))?);
            }
            Slot::Host(host) => *host = parse_host(text)?,
            Slot::Cores(cores) => *cores = parse_cores(text)?,
            Slot::Flag(flag) => *flag = parse_bool(text)?,
            Slot::Format(format) => {
                let known = [LogFormat::Text, LogFormat::Json];
                *format = parse_name(text, &known, LogFormat::as_str)?;
            }
            Slot::Level(level) => {
                use LogLevel::{Debug, Error, Info, Trace, Warn};
                let known = [Error, Warn, Info, Debug, Trace];
                *level = parse_name(text, &known, LogLevel::as_str)?;
            }
            Slot::TimestampType(kind) => *kind = parse_timestamp_type(text)?,
            Slot::Guard(mode) => *mode = parse_guard_mode(text)?,
            Slot::Cleanup(policy) => *policy = parse_cleanup_policy(text)?,
            Slot::Share(thousandths) => *thousandths = parse_share(text)?,
            Slot::Limit(limit, unit) => *limit = Limit::parse(text, |text| unit.parse(text))?,
            Slot::Number(number, unit, range) => {
                let value = unit.parse(text)?;
                if !range.contains(&value) {
                    return Err(format!(
                        "`{text}` is out of range; choose between {} and {}",
                        unit.show(*range.start()),
                        unit.show(*range.end())
                    ));
                }
                number.store(value);
            }
        }
        Ok(())
    }

    /// The value in the textual form that [`Key::set`] reads.
    pub(super) fn show(&self, config: &BrokerConfig) -> String {
        // The slots borrow mutably so that one table serves both directions.
        let mut config = config.clone();
        match (self.slot)(&mut config) {
            Slot::Path(path) => path.display().to_string(),
            Slot::Address(address) => address.to_string(),
            Slot::AddressOrOff(address) => {
                address.map_or(OFF.to_owned(), |address| address.to_string())
            }
            Slot::Host(host) => host.clone().unwrap_or_default(),
            Slot::Cores(cores) => format_cores(cores),
            Slot::Flag(flag) => flag.to_string(),
            Slot::Format(format) => format.as_str().to_owned(),
            Slot::Level(level) => level.as_str().to_owned(),
            Slot::TimestampType(kind) => kind.as_str().to_owned(),
            Slot::Guard(mode) => guard_mode_name(*mode).to_owned(),
            Slot::Cleanup(policy) => policy.as_str().to_owned(),
            Slot::Share(thousandths) => format_share(*thousandths),
            Slot::Limit(Limit(None), _) => "-1".to_owned(),
            Slot::Limit(Limit(Some(value)), unit) => unit.show(*value),
            Slot::Number(number, unit, _) => unit.show(number.load()),
        }
    }
}

impl Number<'_> {
    fn load(&self) -> u64 {
        match self {
            Self::U16(value) => u64::from(**value),
            Self::U32(value) => u64::from(**value),
            Self::U64(value) => **value,
        }
    }

    /// `value` is within the key's range, which lies within the type's.
    fn store(self, value: u64) {
        match self {
            Self::U16(slot) => *slot = u16::try_from(value).expect("the key's range fits its type"),
            Self::U32(slot) => *slot = u32::try_from(value).expect("the key's range fits its type"),
            Self::U64(slot) => *slot = value,
        }
    }
}

impl Unit {
    fn parse(self, text: &str) -> Result<u64, String> {
        match self {
            Self::Bytes => parse_bytes(text),
            Self::Millis => parse_millis(text),
            Self::Count => parse_count(text),
        }
    }

    fn show(self, value: u64) -> String {
        match self {
            Self::Bytes => format_bytes(value),
            Self::Millis => format_millis(value),
            Self::Count => value.to_string(),
        }
    }
}

fn parse_host(text: &str) -> Result<Option<String>, String> {
    let text = text.trim();
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if text.len() > 253 || !text.chars().all(legal) {
        return Err(format!(
            "`{text}` is not a host name or address; write it without a port, or leave it empty"
        ));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn parse_name<T: Copy>(text: &str, known: &[T], name: fn(T) -> &'static str) -> Result<T, String> {
    let found = known.iter().find(|value| name(**value) == text.trim());
    found.copied().ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|value| name(*value)).collect();
        format!("`{text}` is not one of {}", names.join(", "))
    })
}

const fn key(path: &'static str, slot: fn(&mut BrokerConfig) -> Slot<'_>) -> Key {
    Key { path, slot }
}

fn bytes64(value: &mut u64, range: RangeInclusive<u64>) -> Slot<'_> {
    Slot::Number(Number::U64(value), Unit::Bytes, range)
}

fn bytes32(value: &mut u32, range: RangeInclusive<u64>) -> Slot<'_> {
    Slot::Number(Number::U32(value), Unit::Bytes, range)
}

fn count32(value: &mut u32, range: RangeInclusive<u64>) -> Slot<'_> {
    Slot::Number(Number::U32(value), Unit::Count, range)
}

fn millis32(value: &mut u32, range: RangeInclusive<u64>) -> Slot<'_> {
    Slot::Number(Number::U32(value), Unit::Millis, range)
}

/// Any time that fits the signed 64 bits of a timestamp.
fn millis64(value: &mut u64) -> Slot<'_> {
    let most = i64::MAX.unsigned_abs();
    Slot::Number(Number::U64(value), Unit::Millis, 0..=most)
}

/// Every key, in the order of the documented example.
pub(super) static KEYS: &[Key] = &[
    key("data_dir", |c| Slot::Path(&mut c.server.data_dir)),
    key("listen", |c| Slot::Address(&mut c.server.listen)),
    key("advertised_host", |c| {
        Slot::Host(&mut c.server.advertised_host)
    }),
    key("broker_id", |c| {
        count32(&mut c.server.broker_id, 0..=u64::from(u32::MAX - 1))
    }),
    key("cores", |c| Slot::Cores(&mut c.server.cores)),
    key("stores", |c| {
        Slot::Number(Number::U16(&mut c.server.stores), Unit::Count, 0..=1024)
    }),
    key("insecure", |c| Slot::Flag(&mut c.server.insecure)),
    key("shutdown_drain_ms", |c| {
        millis32(&mut c.server.shutdown_drain_ms, 0..=3_600_000)
    }),
    key("log.segment_bytes", |c| {
        bytes64(&mut c.log.segment_bytes, 64 * KIB..=2 * GIB)
    }),
    key("log.max_message_bytes", |c| {
        bytes32(&mut c.log.max_message_bytes, KIB..=256 * MIB)
    }),
    key("log.flush_messages", |c| {
        Slot::Number(
            Number::U64(&mut c.log.flush_messages),
            Unit::Count,
            0..=1 << 40,
        )
    }),
    key("log.flush_ms", |c| {
        Slot::Number(
            Number::U64(&mut c.log.flush_ms),
            Unit::Millis,
            0..=7 * DAY_MS,
        )
    }),
    key("log.segment_ms", |c| {
        let most = i64::MAX.unsigned_abs();
        Slot::Number(Number::U64(&mut c.log.segment_ms), Unit::Millis, 1..=most)
    }),
    key("log.retention_ms", |c| {
        Slot::Limit(&mut c.log.retention_ms, Unit::Millis)
    }),
    key("log.retention_bytes", |c| {
        Slot::Limit(&mut c.log.retention_bytes, Unit::Bytes)
    }),
    key("log.retention_guard", |c| {
        Slot::Guard(&mut c.log.retention_guard)
    }),
    key("log.retention_guard_max_ms", |c| {
        millis64(&mut c.log.retention_guard_max_ms)
    }),
    key("log.retention_guard_max_bytes", |c| {
        bytes64(&mut c.log.retention_guard_max_bytes, 0..=1024 * GIB)
    }),
    key("log.cleanup_policy", |c| {
        Slot::Cleanup(&mut c.log.cleanup_policy)
    }),
    key("log.min_compaction_lag_ms", |c| {
        millis64(&mut c.log.min_compaction_lag_ms)
    }),
    key("log.delete_retention_ms", |c| {
        millis64(&mut c.log.delete_retention_ms)
    }),
    key("log.min_cleanable_dirty_ratio", |c| {
        Slot::Share(&mut c.log.min_cleanable_dirty_ratio)
    }),
    key("log.message_timestamp_type", |c| {
        Slot::TimestampType(&mut c.log.message_timestamp_type)
    }),
    key("log.message_timestamp_before_max_ms", |c| {
        millis64(&mut c.log.message_timestamp_before_max_ms)
    }),
    key("log.message_timestamp_after_max_ms", |c| {
        millis64(&mut c.log.message_timestamp_after_max_ms)
    }),
    key("log.index_interval_bytes", |c| {
        bytes32(&mut c.log.index_interval_bytes, 4 * KIB..=64 * MIB)
    }),
    key("log.spill_bytes", |c| {
        bytes32(&mut c.log.spill_bytes, 4 * KIB..=64 * MIB)
    }),
    key("log.open_files_max", |c| {
        count32(&mut c.log.open_files_max, 8..=100_000)
    }),
    key("log.disk_reserve_bytes", |c| {
        bytes64(&mut c.log.disk_reserve_bytes, 0..=1024 * GIB)
    }),
    key("log.scrub_bytes_per_second", |c| {
        bytes64(&mut c.log.scrub_bytes_per_second, 0..=GIB)
    }),
    key("journal.file_bytes", |c| {
        bytes64(&mut c.journal.file_bytes, MIB..=4 * GIB)
    }),
    key("journal.files_max", |c| {
        count32(&mut c.journal.files_max, 2..=1024)
    }),
    key("journal.group_bytes_min", |c| {
        bytes32(&mut c.journal.group_bytes_min, 1..=256 * MIB)
    }),
    key("journal.group_bytes_max", |c| {
        bytes32(&mut c.journal.group_bytes_max, 64 * KIB..=256 * MIB)
    }),
    key("journal.groups_in_flight", |c| {
        count32(&mut c.journal.groups_in_flight, 1..=256)
    }),
    key("journal.straight_bytes_min", |c| {
        bytes32(&mut c.journal.straight_bytes_min, 4 * KIB..=GIB)
    }),
    key("journal.queue_bytes_max", |c| {
        bytes32(&mut c.journal.queue_bytes_max, 64 * KIB..=GIB)
    }),
    key("memory.per_core_bytes", |c| {
        bytes64(&mut c.memory.per_core_bytes, 64 * MIB..=1024 * GIB)
    }),
    key("memory.tail_cache_bytes", |c| {
        bytes64(&mut c.memory.tail_cache_bytes, 0..=256 * GIB)
    }),
    key("memory.read_cache_bytes", |c| {
        bytes64(&mut c.memory.read_cache_bytes, MIB..=256 * GIB)
    }),
    key("limits.frame_bytes_max", |c| {
        let least = 2 * u64::from(FRAME_OVERHEAD_BYTES);
        bytes32(&mut c.limits.frame_bytes_max, least..=256 * MIB)
    }),
    key("limits.connection_in_flight_bytes_max", |c| {
        bytes64(
            &mut c.limits.connection_in_flight_bytes_max,
            128 * KIB..=4 * GIB,
        )
    }),
    key("limits.connection_requests_max", |c| {
        count32(&mut c.limits.connection_requests_max, 1..=1_000_000)
    }),
    key("limits.connection_reply_bytes_max", |c| {
        bytes64(&mut c.limits.connection_reply_bytes_max, 64 * KIB..=4 * GIB)
    }),
    key("limits.core_in_flight_bytes_max", |c| {
        bytes64(&mut c.limits.core_in_flight_bytes_max, MIB..=256 * GIB)
    }),
    key("limits.connections_max", |c| {
        count32(&mut c.limits.connections_max, 1..=1_000_000)
    }),
    key("limits.frame_timeout_ms", |c| {
        millis32(&mut c.limits.frame_timeout_ms, 100..=DAY_MS)
    }),
    key("limits.reply_timeout_ms", |c| {
        millis32(&mut c.limits.reply_timeout_ms, 100..=DAY_MS)
    }),
    key("limits.topics_max", |c| {
        count32(&mut c.limits.topics_max, 1..=1_000_000)
    }),
    key("limits.topic_partitions_max", |c| {
        count32(&mut c.limits.topic_partitions_max, 1..=1_000_000)
    }),
    key("limits.partitions_max", |c| {
        count32(&mut c.limits.partitions_max, 1..=10_000_000)
    }),
    key("limits.fetch_bytes_max", |c| {
        bytes32(&mut c.limits.fetch_bytes_max, 4 * KIB..=GIB)
    }),
    key("limits.fetch_wait_ms_max", |c| {
        millis32(&mut c.limits.fetch_wait_ms_max, 0..=DAY_MS)
    }),
    key("limits.produce_timeout_ms_max", |c| {
        millis32(&mut c.limits.produce_timeout_ms_max, 100..=DAY_MS)
    }),
    key("limits.mailbox_requests_max", |c| {
        count32(&mut c.limits.mailbox_requests_max, 1..=1_000_000)
    }),
    key("limits.mailbox_bytes_max", |c| {
        bytes64(&mut c.limits.mailbox_bytes_max, MIB..=16 * GIB)
    }),
    key("groups.offsets_partitions", |c| {
        count32(&mut c.groups.offsets_partitions, 1..=1024)
    }),
    key("groups.session_timeout_ms_min", |c| {
        millis32(&mut c.groups.session_timeout_ms_min, 100..=DAY_MS)
    }),
    key("groups.session_timeout_ms_max", |c| {
        millis32(&mut c.groups.session_timeout_ms_max, 1000..=DAY_MS)
    }),
    key("groups.rebalance_timeout_ms_max", |c| {
        millis32(&mut c.groups.rebalance_timeout_ms_max, 1000..=7 * DAY_MS)
    }),
    key("groups.heartbeat_interval_ms_max", |c| {
        millis32(&mut c.groups.heartbeat_interval_ms_max, 50..=DAY_MS)
    }),
    key("groups.members_max", |c| {
        count32(&mut c.groups.members_max, 1..=1_000_000)
    }),
    key("groups.memory_bytes_max", |c| {
        bytes64(&mut c.groups.memory_bytes_max, MIB..=64 * GIB)
    }),
    key("groups.offsets_retention_ms", |c| {
        millis64(&mut c.groups.offsets_retention_ms)
    }),
    key("groups.snapshot_records_min", |c| {
        count32(&mut c.groups.snapshot_records_min, 1..=1_000_000_000)
    }),
    key("producers.expiration_ms", |c| {
        millis64(&mut c.producers.expiration_ms)
    }),
    key("producers.bytes_max", |c| {
        bytes64(&mut c.producers.bytes_max, MIB..=64 * GIB)
    }),
    key("compaction.keys_bytes_max", |c| {
        bytes64(&mut c.compaction.keys_bytes_max, MIB..=64 * GIB)
    }),
    key("compaction.bytes_per_second", |c| {
        bytes64(&mut c.compaction.bytes_per_second, 0..=GIB)
    }),
    key("admin.listen", |c| Slot::AddressOrOff(&mut c.admin.listen)),
    key("admin.partition_series_max", |c| {
        count32(&mut c.admin.partition_series_max, 0..=1_000_000)
    }),
    key("logging.format", |c| Slot::Format(&mut c.logging.format)),
    key("logging.level", |c| Slot::Level(&mut c.logging.level)),
];
