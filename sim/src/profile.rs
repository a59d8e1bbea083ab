//! What one seed's world is like: its size, its limits, and which faults strike it how often.
//!
//! Everything is drawn from the seed. Each seed has only some of the faults, so that now and then a world has
//! much of one and nothing that would hide its effect.

use corelane_broker::config::{BrokerConfig, Limit};
use corelane_storage::testing::Random;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FaultKind {
    Kill,
    PowerLoss,
    OrderlyRestart,
    DiskError,
    DiskFull,
    SlowDisk,
    DropConnection,
    StallConnection,
    ClockJump,
    SlowCore,
    FlipBit,
    CorruptRead,
    Misdirect,
    LoseWrite,
}

/// What may be expected of a world's storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// Its devices do what they say: every promise holds.
    None,
    /// Segments are damaged at rest or on reads: what is damaged is reported, everything else holds.
    Segments,
    /// Devices lie about writes: an acknowledged tail may be gone, but nothing wrong is ever served.
    Lies,
}

/// The readers that guarded topics may name.
pub(crate) const READERS: [&str; 2] = ["audit", "billing"];

/// The setting that bounds how long records that were acknowledged from memory may be lost.
pub(crate) const FLUSH_MS: &str = "flush.ms";

/// The setting that says whether a topic is compacted.
pub(crate) const CLEANUP_POLICY: &str = "cleanup.policy";

/// The guard's modes, as often as they are drawn.
const MODES: [&str; 6] = ["wait", "wait", "wait", "wait", "warn", "off"];

/// The world of one seed.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) brokers: usize,
    pub(crate) cores: u16,
    pub(crate) config: BrokerConfig,
    pub(crate) faults: Vec<FaultKind>,
    /// The mean time between faults.
    pub(crate) fault_us: u64,
    pub(crate) damage: Damage,
    pub(crate) producers: usize,
    pub(crate) consumers: usize,
    /// Topics that are never deleted, and their partitions.
    pub(crate) topics: usize,
    pub(crate) partitions: u32,
    /// Topics that are made and deleted again and again.
    pub(crate) passing_topics: usize,
    /// Topics are given more partitions, up to so many.
    pub(crate) partitions_max: u32,
    /// Whether records are deleted because somebody asks for it.
    pub(crate) deletes: bool,
    /// Whether topics have settings of their own about what they keep, which change.
    pub(crate) expires: bool,
    /// Whether topics name readers for which retention waits.
    pub(crate) guards: bool,
    /// How many consumer groups there are, and members in each.
    pub(crate) groups: usize,
    pub(crate) members: usize,
    /// How topics are compacted, if some of them are.
    pub(crate) compaction: Option<CompactionProfile>,
    /// How many clients look offsets up.
    pub(crate) clerks: usize,
    /// The setting of a topic that is acknowledged from memory, if there is one.
    pub(crate) weak_topic: Option<(&'static str, &'static str)>,
    /// Whether a client without structure takes part.
    pub(crate) nonsense: bool,
    /// The mean pause of a producer between two requests.
    pub(crate) pause_us: u64,
    pub(crate) value_bytes_max: u64,
    pub(crate) latency_us: u64,
    pub(crate) disk_base_us: u64,
    pub(crate) disk_flush_us: u64,
    /// When the power goes for the first time, if that may be before the broker has ever served.
    pub(crate) first_power_off_us: Option<u64>,
}

impl Profile {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let damage = match random.below(10) {
            0 | 1 => Damage::Segments,
            2 => Damage::Lies,
            _ => Damage::None,
        };
        let cores = 1 + random.below(4) as u16;
        let partitions = 1 + random.below(5) as u32;
        let mut profile = Self {
            brokers: 1,
            cores,
            config: config(cores, random),
            faults: faults(damage, random),
            fault_us: 200_000 << random.below(5),
            damage,
            producers: 1 + random.index(4),
            consumers: 1 + random.index(4),
            topics: 1 + random.index(2),
            partitions,
            partitions_max: partitions + random.below(4) as u32,
            deletes: random.chance(1, 3),
            expires: random.chance(1, 3),
            guards: false,
            compaction: None,
            groups: 0,
            members: 0,
            clerks: random.index(3),
            passing_topics: random.index(3),
            weak_topic: [
                None,
                None,
                None,
                None,
                Some(("flush.messages", "50")),
                Some((FLUSH_MS, "200")),
            ][random.index(6)],
            nonsense: random.chance(1, 3),
            pause_us: 5_000 << random.below(4),
            value_bytes_max: [50, 500, 3_000][random.index(3)],
            latency_us: 20 << random.below(7),
            disk_base_us: 10 << random.below(4),
            disk_flush_us: 20 << random.below(8),
            first_power_off_us: None,
        };
        // Drawn beside the rest of the sequence, which stays what it is.
        let mut beside = random.clone();
        if profile.faults.contains(&FaultKind::PowerLoss) && beside.chance(1, 16) {
            profile.first_power_off_us = Some(beside.below(20_000));
        }
        profile.guards = beside.chance(1, 4);
        if beside.chance(1, 3) {
            profile.groups = 1 + beside.index(2);
            profile.members = 2 + beside.index(3);
            profile.config.groups.offsets_partitions = 1 + beside.below(3) as u32;
            profile.config.groups.snapshot_records_min = 8 << (2 * beside.below(4));
        }
        if beside.chance(1, 2) {
            let keys = 4 << beside.below(7);
            profile.compaction = Some(CompactionProfile {
                keys,
                delete_retention_ms: [500, 2_000, 8_000, 120_000][beside.index(4)],
            });
            let compaction = &mut profile.config.compaction;
            compaction.bytes_per_second = (256 * 1024) << (2 * beside.below(3));
            if beside.chance(1, 3) {
                compaction.keys_bytes_max = keys * 16 * (1 + beside.below(3));
            }
        }
        profile
    }
}

/// What topics that are compacted have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CompactionProfile {
    /// Keys of each partition.
    pub(crate) keys: u64,
    pub(crate) delete_retention_ms: u64,
}

/// Settings of a topic, by their names.
type Settings = Vec<(String, String)>;

/// Settings of a topic that is compacted: from its creation on, and what they may change to.
pub(crate) fn compaction(random: &mut Random, profile: CompactionProfile) -> (Settings, Settings) {
    let (mut settings, mut changes) = (Vec::new(), Vec::new());
    let pair = |key: &str, value: String| (key.to_owned(), value);
    let policy = |value: &str| pair(CLEANUP_POLICY, value.to_owned());
    match random.below(6) {
        0..=2 => settings.push(policy("compact")),
        3 => settings.push(policy("compact,delete")),
        4 => {
            settings.push(policy("compact"));
            changes.extend(["delete", "compact", "compact"].map(policy));
        }
        _ => changes.extend(["compact", "compact", ""].map(policy)),
    }
    settings.push(pair("segment.ms", (500 << random.below(4)).to_string()));
    settings.push(pair(
        "segment.bytes",
        (65_536 << random.below(2)).to_string(),
    ));
    let retention_ms = profile.delete_retention_ms;
    settings.push(pair("delete.retention.ms", retention_ms.to_string()));
    let ratio = ["0", "0.1", "0.5"][random.index(3)];
    settings.push(pair("min.cleanable.dirty.ratio", ratio.to_owned()));
    if random.chance(1, 3) {
        let lag_ms = 300 << random.below(4);
        changes.push(pair("min.compaction.lag.ms", lag_ms.to_string()));
        changes.push(pair("min.compaction.lag.ms", String::new()));
    }
    (settings, changes)
}

/// Settings of one topic about what it keeps, drawn anew each time; the first few for its creation.
pub(crate) fn expiry(random: &mut Random) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut setting = |key: &str, value: u64| settings.push((key.to_owned(), value.to_string()));
    if random.coin() {
        setting("retention.ms", 500 << random.below(6));
    }
    if random.coin() {
        setting("retention.bytes", 32_768 << random.below(5));
    }
    if random.coin() {
        setting("segment.ms", 200 << random.below(6));
    }
    if random.chance(1, 4) {
        setting("segment.bytes", 65_536 << random.below(3));
    }
    settings
}

/// Settings of a topic whose readers are looked at: something to expire, and who is waited for how long.
pub(crate) fn guard(random: &mut Random) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut setting = |key: &str, value: String| settings.push((key.to_owned(), value));
    let by = random.below(3);
    if by != 0 {
        setting("retention.ms", (500_u64 << random.below(4)).to_string());
    }
    if by != 1 {
        setting(
            "retention.bytes",
            (32_768_u64 << random.below(3)).to_string(),
        );
    }
    setting("segment.bytes", 65_536.to_string());
    setting("segment.ms", (200_u64 << random.below(4)).to_string());
    setting(
        "retention.guard",
        MODES[random.index(MODES.len())].to_owned(),
    );
    let readers = if random.coin() {
        READERS.join(",")
    } else {
        READERS[0].to_owned()
    };
    setting("retention.guard.readers", readers);
    setting(
        "retention.guard.max.ms",
        (500_u64 << random.below(6)).to_string(),
    );
    setting(
        "retention.guard.max.bytes",
        (65_536_u64 << random.below(6)).to_string(),
    );
    settings
}

/// What a guard's settings change to, one at a time.
pub(crate) fn guard_changes(random: &mut Random) -> Vec<(String, String)> {
    let mut changes = guard(random);
    changes.retain(|(key, _)| key.starts_with("retention.guard") && !key.ends_with("readers"));
    changes.push(("retention.guard".to_owned(), "wait".to_owned()));
    if random.chance(1, 3) {
        let readers = ["", READERS[0], READERS[1]][random.index(3)];
        changes.push(("retention.guard.readers".to_owned(), readers.to_owned()));
    }
    changes
}

fn faults(damage: Damage, random: &mut Random) -> Vec<FaultKind> {
    let honest = [
        FaultKind::Kill,
        FaultKind::PowerLoss,
        FaultKind::PowerLoss,
        FaultKind::OrderlyRestart,
        FaultKind::DiskError,
        FaultKind::DiskFull,
        FaultKind::SlowDisk,
        FaultKind::DropConnection,
        FaultKind::StallConnection,
        FaultKind::ClockJump,
        FaultKind::SlowCore,
    ];
    let mut kinds: Vec<_> = honest.into_iter().filter(|_| random.coin()).collect();
    match damage {
        Damage::None => {}
        Damage::Segments => kinds.extend([FaultKind::FlipBit, FaultKind::CorruptRead]),
        Damage::Lies => kinds.extend([
            FaultKind::Misdirect,
            FaultKind::LoseWrite,
            FaultKind::PowerLoss,
        ]),
    }
    kinds
}

/// As many clients as a world has at most: an admin, four producers, four consumers, two clerks, one without structure,
/// five reporters, eight members of groups, and the verifier. They stay connected when they are done, so each needs a place of its own.
const CLIENTS_MAX: u32 = 26;

/// A small configuration: its limits are reached.
fn config(cores: u16, random: &mut Random) -> BrokerConfig {
    const KIB: u64 = 1024;
    let mut config = BrokerConfig::default();
    let frame_kib = [96, 128, 256][random.index(3)];
    let frame = u32::try_from(frame_kib * KIB).expect("a small number");
    config.server.stores = cores + random.below(3) as u16;
    config.server.shutdown_drain_ms = 2_000;
    config.limits.frame_bytes_max = frame;
    config.limits.connection_in_flight_bytes_max = u64::from(frame) * (1 + random.below(3));
    config.limits.connection_reply_bytes_max = (64 * KIB) << random.below(4);
    config.limits.connection_requests_max = 4 << random.below(6);
    config.limits.core_in_flight_bytes_max = (512 * KIB) << random.below(4);
    config.limits.connections_max = CLIENTS_MAX << random.below(3);
    config.limits.mailbox_requests_max = 2 << random.below(6);
    config.limits.mailbox_bytes_max = (128 * KIB) << random.below(4);
    config.log.max_message_bytes = frame - 64 * KIB as u32;
    // No jump of the clock has a producer forgotten that might send something again.
    config.producers.expiration_ms = 315_360_000_000;
    config.journal.group_bytes_max = 32 * KIB as u32;
    config.journal.group_bytes_min = 4 * KIB as u32;
    config.journal.straight_bytes_min = 4 * KIB as u32;
    config.journal.groups_in_flight = 1 << random.below(4);
    config.journal.queue_bytes_max = 1 << (16 + random.below(7));
    config.journal.file_bytes = (512 * KIB) << random.below(2);
    config.journal.files_max = 2 + random.below(3) as u32;
    config.log.segment_bytes = (64 * KIB) << random.below(4);
    config.log.spill_bytes = (8 * KIB as u32) << random.below(4);
    config.log.index_interval_bytes = 4096;
    config.log.open_files_max = 2 << random.below(5);
    config.log.scrub_bytes_per_second = [0, 0, 1024 * KIB, 4 * 1024 * KIB][random.index(4)];
    config.log.disk_reserve_bytes = [0, 0, 100_000, 100_000_000][random.index(4)];
    if random.chance(1, 6) {
        config.log.retention_ms = Limit(Some(2_000 + random.below(60_000)));
    }
    if random.chance(1, 6) {
        config.log.retention_bytes = Limit(Some((64 * KIB) << random.below(5)));
    }
    if random.chance(1, 6) {
        config.log.segment_ms = 300 + random.below(10_000);
    }
    config.memory.per_core_bytes = 16 * 1024 * KIB;
    config.memory.read_cache_bytes = 256 * KIB;
    config
}
