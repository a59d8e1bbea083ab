//! The state in short, small enough to be asked for every second: what the page shows.
//!
//! Topics and groups are rows of numbers that their partitions add up to, and so many at most. Only of one topic and
//! of one group, as is wished, are the partitions there. Columns are named once for all rows, by the names that the
//! fields have in the whole state.

mod rows;

use serde::Serialize;

use self::rows::{GroupPartitionRow, GroupRow, PartitionRow, Parts, Table, TopicRow};
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
    pub(super) fn new(state: &'a BrokerState, wanted: &Wanted, patience_ms: u128) -> Self {
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
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::admin::state::{GroupPartitionState, PartitionState, RequestState};

    fn shown(state: &BrokerState, topic: Option<&str>, group: Option<&str>) -> Value {
        let wanted = Wanted {
            topic: topic.map(str::to_owned),
            group: group.map(str::to_owned),
        };
        serde_json::to_value(Summary::new(state, &wanted, 2000)).expect("plain data")
    }

    /// A topic whose partitions have as many records as their number says, and one more.
    fn topic(name: &str, partitions: u32) -> TopicState {
        let partition = |partition: u32| PartitionState {
            partition,
            is_online: partition != 1,
            high_watermark: u64::from(partition) + 11,
            log_start: 10,
            records_in: u64::from(partition) + 1,
            bytes_out: 100,
            ..PartitionState::default()
        };
        TopicState {
            name: name.to_owned(),
            partitions: (0..partitions).map(partition).collect(),
            ..TopicState::default()
        }
    }

    fn group(name: &str, lags: &[Option<u64>]) -> GroupState {
        let partitions = (0..).zip(lags).map(|(partition, lag)| GroupPartitionState {
            topic: "orders".to_owned(),
            partition,
            committed: 5,
            lag: *lag,
        });
        GroupState {
            name: name.to_owned(),
            state: "stable".to_owned(),
            members: 2,
            partitions: partitions.collect(),
            ..GroupState::default()
        }
    }

    fn column(table: &Value, row: usize, name: &str) -> Value {
        let columns = table["columns"].as_array().expect("columns");
        let at = columns
            .iter()
            .position(|column| column == name)
            .expect(name);
        assert_eq!(
            table["rows"][row].as_array().map(Vec::len),
            Some(columns.len())
        );
        table["rows"][row][at].clone()
    }

    #[test]
    fn rows_are_what_partitions_add_up_to() {
        let state = BrokerState {
            phase: Phase::Serving,
            topics: vec![topic("orders", 3), topic("payments", 1)],
            groups: vec![
                group("billing", &[Some(4), None, Some(9)]),
                group("idle", &[]),
            ],
            ..BrokerState::default()
        };
        let summary = shown(&state, None, None);
        let orders = |name| column(&summary["topics"], 0, name);
        assert_eq!(orders("name"), "orders");
        let numbers = [
            "partitions",
            "partitions_offline",
            "records",
            "records_in",
            "bytes_out",
        ];
        assert_eq!(numbers.map(orders), [3, 1, 6, 6, 300].map(Value::from));
        let billing = |name| column(&summary["groups"], 0, name);
        let numbers = [
            "members",
            "topics",
            "partitions",
            "lag",
            "lag_max",
            "lag_unknown",
        ];
        assert_eq!(numbers.map(billing), [2, 1, 3, 13, 9, 1].map(Value::from));
        assert_eq!(summary["total"]["partitions"], 4);
        assert_eq!(summary["total"]["records_in"], 7);
        assert_eq!(
            (&summary["topic"], &summary["group"]),
            (&Value::Null, &Value::Null)
        );
    }

    #[test]
    fn partitions_are_those_of_what_was_asked_for() {
        let state = BrokerState {
            topics: vec![topic("orders", 3), topic("payments", 2)],
            groups: vec![group("billing", &[Some(4), None])],
            ..BrokerState::default()
        };
        let summary = shown(&state, Some("payments"), Some("billing"));
        assert_eq!(summary["topic"]["name"], "payments");
        let partitions = &summary["topic"]["partitions"];
        assert_eq!(column(partitions, 1, "is_online"), false);
        assert_eq!(column(partitions, 1, "high_watermark"), 12);
        let partitions = &summary["group"]["partitions"];
        assert_eq!(
            partitions["rows"],
            json!([["orders", 0, 5, 4], ["orders", 1, 5, null]])
        );
        let nothing = shown(&state, Some("clicks"), Some("clicks"));
        assert_eq!(
            (&nothing["topic"], &nothing["group"]),
            (&Value::Null, &Value::Null)
        );
    }

    #[test]
    fn what_is_beyond_is_counted_and_in_the_totals() {
        let topics = (0..10_007).map(|number| topic(&format!("topic-{number:05}"), 1));
        let state = BrokerState {
            topics: topics.collect(),
            ..BrokerState::default()
        };
        let summary = shown(&state, None, None);
        let topics = &summary["topics"];
        assert_eq!(topics["rows"].as_array().map(Vec::len), Some(10_000));
        assert_eq!(topics["left_out"], 7);
        assert_eq!(summary["total"]["topics"], 10_007);
        assert_eq!(summary["total"]["records_in"], 10_007);
        // Even then it is no larger than a page may ask for every second.
        let bytes = serde_json::to_vec(&summary).expect("plain data").len();
        assert!(bytes < 1_000_000, "{bytes}");
    }

    #[test]
    fn cores_have_the_times_of_their_produces_and_stores() {
        let times = |us: u64, count: u64| Counts {
            sum: us * count,
            steps: vec![(us, count)],
        };
        let request = |api: &str, count: u64| RequestState {
            api: api.to_owned(),
            times: times(300, count),
            errors: vec![("Overloaded".to_owned(), 2), ("DiskFull".to_owned(), 1)],
        };
        let store = |store: u16, core: u16, us: u64| StoreState {
            store,
            core,
            group_write: times(us, 5),
            ..StoreState::default()
        };
        let mut core = CoreState {
            core: 1,
            requests: vec![request("Metadata", 1), request("Produce", 40)],
            ..CoreState::default()
        };
        core.ring.turn_times = Counts {
            sum: 0,
            steps: vec![(10, 7), (10_000, 1), (20_000, 3)],
        };
        let state = BrokerState {
            cores: vec![core],
            stores: vec![store(0, 0, 1), store(1, 1, 20), store(2, 1, 10)],
            ..BrokerState::default()
        };
        let summary = shown(&state, None, None);
        let core = &summary["cores"][0];
        assert_eq!(
            core["flush"],
            json!({"sum": 150, "steps": [[10, 5], [20, 5]]})
        );
        assert_eq!(core["produce"]["steps"], json!([[300, 40]]));
        assert_eq!(
            (&core["requests"], &core["errors"]),
            (&json!(41), &json!(6))
        );
        assert_eq!(core["stalls"], 3);
    }

    #[test]
    fn what_is_wrong_and_what_has_to_be_known_is_there() {
        let mut state = BrokerState {
            phase: Phase::Serving,
            silent_cores: vec![3],
            stores: vec![StoreState::default(), StoreState::default()],
            ..BrokerState::default()
        };
        state.stores[0].fenced = Some("I/O error".to_owned());
        state.stores[1].store = 1;
        state.stores[1].damage_found = 2;
        let summary = shown(&state, None, None);
        let text = |list: &Value, at: usize| list[at].as_str().expect("a sentence").to_owned();
        assert!(text(&summary["problems"], 0).starts_with("core 3 has not answered"));
        assert!(text(&summary["problems"], 1).contains("store 0 takes no appends: I/O error"));
        assert!(text(&summary["notices"], 0).starts_with("store 1: 2 places"));
    }
}
