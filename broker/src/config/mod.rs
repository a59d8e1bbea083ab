//! The broker's configuration: plain data, its keys, and how a file, the environment and flags
//! are read into it.
//!
//! Owns every key with its unit, range and default. Never opens a file, never reads the process's
//! environment: both come in as values. Read once before any core starts, then shared unchanged.
//!
//! `docs/corelane.example.toml` documents every key; a test holds it against this module.

mod compaction;
mod error;
mod groups;
mod keys;
mod limits;
mod load;
mod machine;
mod store;
mod value;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use corelane_protocol::batch::{BATCH_BYTES_MAX_DEFAULT, TimestampType};
use corelane_storage::store::GuardMode;

pub use compaction::{
    CleanupPolicy, CompactionConfig, format_share, parse_cleanup_policy, parse_share,
};
pub use error::{ConfigError, Origin};
pub use groups::GroupsConfig;
pub use limits::{
    ENTRIES_PER_REQUEST_MAX, FRAME_OVERHEAD_BYTES, Limits, METADATA_COMMAND_BYTES_MAX,
    METADATA_RECORD_BYTES_MAX, TOPIC_CONFIG_VALUE_BYTES_MAX, TOPICS_PER_REQUEST_MAX,
};
pub use load::{ConfigFile, ConfigSources};
pub use machine::Machine;
pub use value::{
    Limit, format_bytes, guard_mode_name, parse_bytes, parse_guard_mode, parse_millis,
    parse_timestamp_type,
};

/// All settings of one broker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BrokerConfig {
    /// Where it is, and what runs it.
    pub server: ServerConfig,
    /// Defaults of topics, and how logs are kept.
    pub log: LogDefaults,
    /// The journal of each store.
    pub journal: JournalConfig,
    /// The memory of each core.
    pub memory: MemoryConfig,
    /// What clients may ask for and a core may hold.
    pub limits: Limits,
    /// Consumer groups.
    pub groups: GroupsConfig,
    /// Idempotent producers.
    pub producers: ProducersConfig,
    /// Compaction by key.
    pub compaction: CompactionConfig,
    /// What those who operate it see.
    pub admin: AdminConfig,
    /// What the broker says about itself.
    pub logging: LoggingConfig,
}

/// The keys at the top of the file: identity, addresses, cores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Directory that holds everything the broker keeps.
    pub data_dir: PathBuf,
    /// The bootstrap address; every core also listens on a port of its own of the same address.
    pub listen: SocketAddr,
    /// Host that clients are told to connect to; `None`: the address of `listen`.
    pub advertised_host: Option<String>,
    /// Number of this broker.
    pub broker_id: u32,
    /// Cores that the broker runs on.
    pub cores: CoreSelection,
    /// Stores of a new data directory; 0: as many as cores. An existing one keeps its number.
    pub stores: u16,
    /// Allows to listen beyond loopback although nobody is authenticated.
    pub insecure: bool,
    /// Longest time that a shutdown waits for requests in flight, in milliseconds.
    pub shutdown_drain_ms: u32,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("corelane-data"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9500)),
            advertised_host: None,
            broker_id: 1,
            cores: CoreSelection::All,
            stores: 0,
            insecure: false,
            shutdown_drain_ms: 10_000,
        }
    }
}

/// Which cores the broker pins itself to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CoreSelection {
    /// Every core that this process may run on.
    #[default]
    All,
    /// The first so many of them; at least 1.
    Count(u16),
    /// Exactly these CPU numbers, in rising order.
    List(Vec<u16>),
}

const DAY_MS: u64 = 86_400_000;
const WEEK_MS: u64 = 7 * DAY_MS;

/// Defaults that a topic may override (Kafka's names with dots), and how segments are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDefaults {
    /// `segment.bytes`: size at which a partition's segment file is closed.
    pub segment_bytes: u64,
    /// `max.message.bytes`: largest batch of a topic, in bytes.
    pub max_message_bytes: u32,
    /// `flush.messages`: 0 leaves it to `flush_ms`, 1 answers a produce only once it is flushed; more
    /// answer it from memory and flush at the latest after so many records.
    pub flush_messages: u64,
    /// `flush.ms`: 0 answers a produce only once it is flushed, unless `flush_messages` is more than
    /// 1; more answer it from memory and flush at the latest after so many milliseconds.
    pub flush_ms: u64,
    /// `segment.ms`: milliseconds after its first record at which a segment file is closed.
    pub segment_ms: u64,
    /// `retention.ms`: milliseconds after which records are deleted, by the time at which the broker took
    /// them.
    pub retention_ms: Limit,
    /// `retention.bytes`: bytes of a partition beyond which its oldest records are deleted.
    pub retention_bytes: Limit,
    /// `retention.guard`: what retention does about records that a named reader has not read.
    pub retention_guard: GuardMode,
    /// `retention.guard.max.ms`: milliseconds that it waits for readers beyond `retention.ms`.
    pub retention_guard_max_ms: u64,
    /// `retention.guard.max.bytes`: bytes that it keeps for readers beyond `retention.bytes`.
    pub retention_guard_max_bytes: u64,
    /// `cleanup.policy`: what happens to old records.
    pub cleanup_policy: CleanupPolicy,
    /// `min.compaction.lag.ms`: milliseconds after its last record in which a segment file is not compacted.
    pub min_compaction_lag_ms: u64,
    /// `delete.retention.ms`: milliseconds for which a record without a value is kept after those that it deletes.
    pub delete_retention_ms: u64,
    /// `min.cleanable.dirty.ratio`, in thousandths: the share of closed segment files that must be new since the
    /// last time.
    pub min_cleanable_dirty_ratio: u16,
    /// `message.timestamp.type`: which time records have.
    pub message_timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: milliseconds that a producer's time may be behind the broker's
    /// clock.
    pub message_timestamp_before_max_ms: u64,
    /// `message.timestamp.after.max.ms`: milliseconds that a producer's time may be ahead of the broker's
    /// clock.
    pub message_timestamp_after_max_ms: u64,
    /// Distance of the entries of a segment's offset index, in bytes.
    pub index_interval_bytes: u32,
    /// Flushed bytes of a partition that are written to its segment file at once.
    pub spill_bytes: u32,
    /// Segment files that one store keeps open.
    pub open_files_max: u32,
    /// While less room than this is left on the disk, appends are refused; 0 for no such reserve.
    pub disk_reserve_bytes: u64,
    /// Bytes of closed segment files that each store reads again in a second to find damage; 0 for none.
    pub scrub_bytes_per_second: u64,
}

impl Default for LogDefaults {
    fn default() -> Self {
        Self {
            segment_bytes: 1024 * 1024 * 1024,
            max_message_bytes: BATCH_BYTES_MAX_DEFAULT,
            flush_messages: 0,
            flush_ms: 0,
            segment_ms: WEEK_MS,
            retention_ms: Limit(Some(WEEK_MS)),
            retention_bytes: Limit(None),
            retention_guard: GuardMode::Off,
            retention_guard_max_ms: DAY_MS,
            retention_guard_max_bytes: 1024 * 1024 * 1024,
            cleanup_policy: CleanupPolicy::Delete,
            min_compaction_lag_ms: 0,
            delete_retention_ms: DAY_MS,
            min_cleanable_dirty_ratio: 500,
            message_timestamp_type: TimestampType::Create,
            message_timestamp_before_max_ms: i64::MAX.unsigned_abs(),
            message_timestamp_after_max_ms: 3_600_000,
            index_interval_bytes: 64 * 1024,
            spill_bytes: 4 * 1024 * 1024,
            open_files_max: 512,
            disk_reserve_bytes: 0,
            scrub_bytes_per_second: 0,
        }
    }
}

/// What is remembered of idempotent producers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducersConfig {
    /// How long a partition remembers a producer that writes nothing to it, in milliseconds.
    pub expiration_ms: u64,
    /// Memory that what the partitions of one store remember may take, in bytes.
    pub bytes_max: u64,
}

impl Default for ProducersConfig {
    fn default() -> Self {
        Self {
            expiration_ms: DAY_MS,
            bytes_max: 16 * 1024 * 1024,
        }
    }
}

/// The journal of one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalConfig {
    /// Size of one journal file.
    pub file_bytes: u64,
    /// Journal files that a store may grow to.
    pub files_max: u32,
    /// Waiting bytes at which a further commit group starts while others are being written.
    pub group_bytes_min: u32,
    /// Largest commit group; a single larger batch makes a group of its own.
    pub group_bytes_max: u32,
    /// Commit groups that may be written at the same time.
    pub groups_in_flight: u32,
    /// Bytes of one partition in a commit group from which on they go straight to its segment.
    pub straight_bytes_min: u32,
    /// Bytes that wait to be written or are being written, beyond which senders wait for their turn.
    pub queue_bytes_max: u32,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            file_bytes: 64 * 1024 * 1024,
            files_max: 4,
            group_bytes_min: 256 * 1024,
            group_bytes_max: 1024 * 1024,
            groups_in_flight: 8,
            straight_bytes_min: 256 * 1024,
            queue_bytes_max: 8 * 1024 * 1024,
        }
    }
}

/// The memory of one core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryConfig {
    /// What tails, journals, receive buffers, read-ahead and unsent replies of one core may take
    /// together.
    pub per_core_bytes: u64,
    /// What of that each store keeps of tails that are in segments already, for readers that are a little behind.
    pub tail_cache_bytes: u64,
    /// What of that each store keeps of segments that were read, for readers that follow.
    pub read_cache_bytes: u64,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            per_core_bytes: 512 * 1024 * 1024,
            tail_cache_bytes: 256 * 1024 * 1024,
            read_cache_bytes: 32 * 1024 * 1024,
        }
    }
}

/// The admin endpoint: metrics, health and readiness over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// Its address; `None` for no endpoint.
    pub listen: Option<SocketAddr>,
    /// Partitions that have metrics of their own; topics always have.
    pub partition_series_max: u32,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9600))),
            partition_series_max: 10_000,
        }
    }
}

/// How the broker logs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoggingConfig {
    /// Form of a log line.
    pub format: LogFormat,
    /// Least level that is written.
    pub level: LogLevel,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Least level that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// What the broker could not do.
    Error,
    /// What someone should look at.
    Warn,
    /// Starts, stops, topics.
    #[default]
    Info,
    /// Connections and decisions.
    Debug,
    /// Every request.
    Trace,
}

impl LogFormat {
    /// The name that the configuration file uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl LogLevel {
    /// The name that the configuration file uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

#[cfg(test)]
mod tests;
