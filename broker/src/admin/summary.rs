//! The state in short, small enough to be asked for every second: what the page shows.
//!
//! Topics and groups are rows of numbers that their partitions add up to, and so many at most. Only of one topic and
//! of one group, as is wished, are the partitions there. Columns are named once for all rows, by the names that the
//! fields have in the whole state.

mod rows;
mod standouts;

use serde::Serialize;

use self::rows::{GroupPartitionRow, GroupRow, PartitionRow, Parts, Table, TopicRow};
pub(super) use self::standouts::Busiest;
use self::standouts::{BusiestTable, FaultyRow};
use super::health::{notices, readiness};
use super::query::Wanted;
use super::state::{
    BrokerState, CoreGroupsState, CoreState, Counts, GroupState, Phase, ProcessState, StoreState,
    TopicState,
};

/// A turn of a core's driver that comes later than this counts as a stall, µs.
const STALL_US: u64 = 10_000;

/// A broker in short.
#[derive(Serialize)]
pub(super) struct Summary<'a> {
    version: &'a str,
    broker_id: u32,
    cluster_id: &'a str,
    bootstrap: &'a str,
    phase: Phase,
    started_ms: i64,
    taken_us: u64,
    process: ProcessState,
    silent_cores: &'a [u16],
    /// Why it does not serve everything, and what to do about it: what `/ready` says.
    problems: Vec<String>,
    /// What somebody should know although everything is served.
    notices: Vec<String>,
    cores: Vec<CoreSummary<'a>>,
    stores: Vec<StoreSummary<'a>>,
    /// All topics together, those that are left out among them.
    total: Total,
    topics: Table<TopicRow<'a>>,
    groups: Table<GroupRow<'a>>,
    /// The partitions with the most traffic lately; nothing before there are two states to compare.
    busiest: Option<BusiestTable<'a>>,
    /// Partitions that are not as they should be.
    faulty: Table<FaultyRow<'a>>,
    /// The topic that was asked for, if there is one.
    topic: Option<Parts<'a, PartitionRow>>,
    /// The group that was asked for, if there is one.
    group: Option<Parts<'a, GroupPartitionRow<'a>>>,
}

#[derive(Serialize)]
struct CoreSummary<'a> {
    core: u16,
    cpu_us: u64,
    connections: u64,
    received_bytes: u64,
    sent_bytes: u64,
    in_flight_bytes: u64,
    reply_bytes: u64,
    waiting_produces: u64,
    waiting_fetches: u64,
    paced_waiting: u64,
    mail_queued: u64,
    /// Requests of all kinds that were answered.
    requests: u64,
    /// Errors of all kinds.
    errors: u64,
    /// Turns that came late.
    stalls: u64,
    /// From taking a produce up to answering it.
    produce: Option<&'a Counts>,
    /// The flushed writes of all its stores.
    flush: Counts,
    memory_cap: u64,
    memory: &'a [(String, u64)],
    partitions: u64,
    groups: CoreGroupsState,
}

#[derive(Serialize)]
struct StoreSummary<'a> {
    store: u16,
    core: u16,
    fenced: Option<&'a str>,
    is_disk_full: bool,
    is_reserve_touched: bool,
    partitions: u64,
    journal_replay_bytes: u64,
    groups_in_flight: u64,
    waiting_bytes: u64,
    damage_found: u64,
    compaction_passes: u64,
    compaction_read_bytes: u64,
    compaction_written_bytes: u64,
    compaction_records_removed: u64,
    weak_losses: u64,
}

#[derive(Default, Serialize)]
struct Total {
    topics: u64,
    partitions: u64,
    partitions_offline: u64,
    size_bytes: u64,
    records_in: u64,
    bytes_in: u64,
    records_out: u64,
    bytes_out: u64,
    groups: u64,
    members: u64,
}

impl<'a> Summary<'a> {
    /// `busiest` is what this state was compared with an earlier one for, if there is one.
    pub(super) fn new(
        state: &'a BrokerState,
        busiest: Option<&Busiest>,
        wanted: &Wanted,
        patience_ms: u128,
    ) -> Self {
        let topic = wanted
            .topic
            .as_deref()
            .and_then(|name| find_topic(state, name));
        let group = wanted
            .group
            .as_deref()
            .and_then(|name| find_group(state, name));
        Self {
            version: &state.version,
            broker_id: state.broker_id,
            cluster_id: &state.cluster_id,
            bootstrap: &state.bootstrap,
            phase: state.phase,
            started_ms: state.started_ms,
            taken_us: state.taken_us,
            process: state.process,
            silent_cores: &state.silent_cores,
            problems: readiness(state, patience_ms).into_problems(),
            notices: notices(state),
            cores: state
                .cores
                .iter()
                .map(|core| core_summary(core, state))
                .collect(),
            stores: state.stores.iter().map(store_summary).collect(),
            total: total(state),
            topics: rows::topics(&state.topics),
            groups: rows::groups(&state.groups),
            busiest: busiest.map(|busiest| standouts::busiest(state, busiest)),
            faulty: standouts::faulty(state),
            topic: topic.map(|topic| Parts {
                name: &topic.name,
                partitions: rows::partitions(&topic.partitions),
            }),
            group: group.map(|group| Parts {
                name: &group.name,
                partitions: rows::group_partitions(&group.partitions),
            }),
        }
    }
}

fn find_topic<'a>(state: &'a BrokerState, name: &str) -> Option<&'a TopicState> {
    let found = state
        .topics
        .binary_search_by(|topic| topic.name.as_str().cmp(name));
    found.ok().map(|index| &state.topics[index])
}

fn find_group<'a>(state: &'a BrokerState, name: &str) -> Option<&'a GroupState> {
    let found = state
        .groups
        .binary_search_by(|group| group.name.as_str().cmp(name));
    found.ok().map(|index| &state.groups[index])
}

fn core_summary<'a>(core: &'a CoreState, state: &BrokerState) -> CoreSummary<'a> {
    let mut flush = Counts::default();
    for store in state.stores.iter().filter(|store| store.core == core.core) {
        flush.add(&store.group_write);
    }
    let errors = core.requests.iter().flat_map(|request| &request.errors);
    let produce = core
        .requests
        .iter()
        .find(|request| request.api == "Produce");
    CoreSummary {
        core: core.core,
        cpu_us: core.cpu_us,
        connections: core.connections,
        received_bytes: core.received_bytes,
        sent_bytes: core.sent_bytes,
        in_flight_bytes: core.in_flight_bytes,
        reply_bytes: core.reply_bytes,
        waiting_produces: core.waiting_produces,
        waiting_fetches: core.waiting_fetches,
        paced_waiting: core.paced_waiting,
        mail_queued: core.mail_queued,
        requests: core
            .requests
            .iter()
            .map(|request| request.times.count())
            .sum(),
        errors: errors.map(|(_, count)| count).sum(),
        stalls: core.ring.turn_times.above(STALL_US),
        produce: produce.map(|request| &request.times),
        flush,
        memory_cap: core.memory_cap,
        memory: &core.memory,
        partitions: core.partitions,
        groups: core.groups,
    }
}

fn store_summary(store: &StoreState) -> StoreSummary<'_> {
    StoreSummary {
        store: store.store,
        core: store.core,
        fenced: store.fenced.as_deref(),
        is_disk_full: store.is_disk_full,
        is_reserve_touched: store.is_reserve_touched,
        partitions: store.partitions,
        journal_replay_bytes: store.journal_replay_bytes,
        groups_in_flight: store.groups_in_flight,
        waiting_bytes: store.waiting_bytes,
        damage_found: store.damage_found,
        compaction_passes: store.compaction_passes,
        compaction_read_bytes: store.compaction_read_bytes,
        compaction_written_bytes: store.compaction_written_bytes,
        compaction_records_removed: store.compaction_records_removed,
        weak_losses: store.weak_losses,
    }
}

fn total(state: &BrokerState) -> Total {
    let mut total = Total {
        topics: state.topics.len() as u64,
        groups: state.groups.len() as u64,
        members: state.groups.iter().map(|group| group.members).sum(),
        ..Total::default()
    };
    for partition in state.topics.iter().flat_map(|topic| &topic.partitions) {
        total.partitions += 1;
        total.partitions_offline += u64::from(!partition.is_online);
        total.size_bytes += partition.size_bytes;
        total.records_in += partition.records_in;
        total.bytes_in += partition.bytes_in;
        total.records_out += partition.records_out;
        total.bytes_out += partition.bytes_out;
    }
    total
}

#[cfg(test)]
mod tests;
