//! What a summary says of states that are made up.

use serde_json::{Value, json};

use super::*;
use crate::admin::state::{CompactionState, GroupPartitionState, PartitionState, RequestState};

fn shown(state: &BrokerState, topic: Option<&str>, group: Option<&str>) -> Value {
    let wanted = Wanted {
        topic: topic.map(str::to_owned),
        group: group.map(str::to_owned),
    };
    serde_json::to_value(Summary::new(state, None, &wanted, 2000)).expect("plain data")
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
fn compaction_is_what_its_partitions_add_up_to() {
    let mut prices = topic("prices", 3);
    let progress = |clean_bytes, dirty_bytes, is_stopped: bool| {
        Some(CompactionState {
            upto: 7,
            clean_bytes,
            dirty_bytes,
            is_running: !is_stopped,
            is_stopped,
        })
    };
    prices.partitions[0].compaction = progress(100, 20, false);
    prices.partitions[2].compaction = progress(30, 4, true);
    let state = BrokerState {
        topics: vec![topic("orders", 1), prices],
        ..BrokerState::default()
    };
    let summary = shown(&state, Some("prices"), None);
    let topics = [0, 1].map(|row| column(&summary["topics"], row, "compaction"));
    assert_eq!(topics, [Value::Null, json!([130, 24, 1, 1])]);
    let partitions = &summary["topic"]["partitions"];
    let partitions = [0, 1, 2].map(|row| column(partitions, row, "compaction"));
    let expected = [json!([100, 20, 1, 0]), Value::Null, json!([30, 4, 0, 1])];
    assert_eq!(partitions, expected);
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
