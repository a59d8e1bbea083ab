//! The partitions that are looked for among thousands: those with the most traffic, and those that are not as they
//! should be.
//!
//! Decides from two states which of them these are. Counters alone would name those that were busy once.

use serde::Serialize;

use super::rows::Table;
use crate::admin::state::{BrokerState, PartitionState};

/// Rows of the busiest partitions.
const BUSIEST_MAX: usize = 20;

/// Rows of the partitions that are not as they should be.
const FAULTY_MAX: usize = 100;

/// States that are further apart say nothing about now, µs: nobody has looked in between.
const INTERVAL_US_MAX: u64 = 15_000_000;

/// The partitions with the most traffic between two states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::admin) struct Busiest {
    /// What lies between the states.
    over_us: u64,
    /// The busiest ones, that one first.
    first: Vec<Traffic>,
    /// How many have traffic.
    count: usize,
}

/// What a partition took in and gave out between two states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Traffic {
    /// Its place in the later state: of the topic, and of the partition in this.
    place: (usize, usize),
    records_in: u64,
    bytes_in: u64,
    records_out: u64,
    bytes_out: u64,
}

impl Traffic {
    fn between(place: (usize, usize), before: &PartitionState, after: &PartitionState) -> Self {
        Self {
            place,
            records_in: after.records_in.saturating_sub(before.records_in),
            bytes_in: after.bytes_in.saturating_sub(before.bytes_in),
            records_out: after.records_out.saturating_sub(before.records_out),
            bytes_out: after.bytes_out.saturating_sub(before.bytes_out),
        }
    }

    fn bytes(&self) -> u64 {
        self.bytes_in + self.bytes_out
    }
}

impl Busiest {
    /// The busiest partitions between two states of one life of a broker; nothing where these lie too far apart.
    pub(in crate::admin) fn between(earlier: &BrokerState, later: &BrokerState) -> Option<Self> {
        let over_us = later.taken_us.checked_sub(earlier.taken_us)?;
        if over_us == 0 || over_us > INTERVAL_US_MAX {
            return None;
        }
        let nothing = PartitionState::default();
        let mut busy = Vec::new();
        for (at, topic) in later.topics.iter().enumerate() {
            let known = earlier
                .topics
                .binary_search_by(|old| old.name.cmp(&topic.name));
            let before = known.ok().map(|index| &earlier.topics[index]);
            let before = before.filter(|old| old.id == topic.id);
            for (number, partition) in topic.partitions.iter().enumerate() {
                let old = before.and_then(|old| {
                    let found = old
                        .partitions
                        .binary_search_by_key(&partition.partition, |old| old.partition);
                    found.ok().map(|index| &old.partitions[index])
                });
                let traffic = Traffic::between((at, number), old.unwrap_or(&nothing), partition);
                if traffic.bytes() > 0 {
                    busy.push(traffic);
                }
            }
        }
        let count = busy.len();
        busy.sort_by_key(|traffic| std::cmp::Reverse(traffic.bytes()));
        busy.truncate(BUSIEST_MAX);
        Some(Self {
            over_us,
            first: busy,
            count,
        })
    }
}

const BUSIEST_COLUMNS: [&str; 8] = [
    "topic",
    "partition",
    "core",
    "store",
    "records_in",
    "bytes_in",
    "records_out",
    "bytes_out",
];

pub(super) type BusyRow<'a> = (&'a str, u32, u16, u16, u64, u64, u64, u64);

/// The busiest partitions as a table.
#[derive(Serialize)]
pub(super) struct BusiestTable<'a> {
    /// The time in which the rows' numbers came.
    over_us: u64,
    partitions: Table<BusyRow<'a>>,
}

/// The busiest partitions of a state as a table.
pub(super) fn busiest<'a>(state: &'a BrokerState, busiest: &Busiest) -> BusiestTable<'a> {
    let rows = busiest.first.iter().map(|traffic| {
        let (topic, partition) = traffic.place;
        let topic = &state.topics[topic];
        let partition = &topic.partitions[partition];
        (
            topic.name.as_str(),
            partition.partition,
            partition.core,
            partition.store,
            traffic.records_in,
            traffic.bytes_in,
            traffic.records_out,
            traffic.bytes_out,
        )
    });
    BusiestTable {
        over_us: busiest.over_us,
        partitions: Table::of_first(&BUSIEST_COLUMNS, rows.collect(), busiest.count),
    }
}

const FAULTY_COLUMNS: [&str; 6] = ["topic", "partition", "core", "store", "is_online", "damage"];

pub(super) type FaultyRow<'a> = (&'a str, u32, u16, u16, bool, u64);

/// The partitions that take no appends or in which damage was found, by topic and number.
pub(super) fn faulty(state: &BrokerState) -> Table<FaultyRow<'_>> {
    let all = state.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(move |partition| (topic.name.as_str(), partition))
    });
    let mut faulty = all.filter(|(_, partition)| !partition.is_online || partition.damage > 0);
    let first = faulty.by_ref().take(FAULTY_MAX).map(|(topic, partition)| {
        (
            topic,
            partition.partition,
            partition.core,
            partition.store,
            partition.is_online,
            partition.damage,
        )
    });
    let first: Vec<_> = first.collect();
    let count = first.len() + faulty.count();
    Table::of_first(&FAULTY_COLUMNS, first, count)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::admin::state::TopicState;

    /// A broker with one topic, so many µs after its start, whose partitions took in so many bytes.
    fn state(taken_us: u64, id: &str, bytes_in: &[u64]) -> BrokerState {
        let partitions = (0..)
            .zip(bytes_in)
            .map(|(partition, bytes)| PartitionState {
                partition,
                core: partition as u16 % 2,
                is_online: true,
                bytes_in: *bytes,
                ..PartitionState::default()
            });
        BrokerState {
            taken_us,
            topics: vec![TopicState {
                id: id.to_owned(),
                name: "orders".to_owned(),
                partitions: partitions.collect(),
            }],
            ..BrokerState::default()
        }
    }

    fn shown(earlier: &BrokerState, later: &BrokerState) -> Value {
        let found = Busiest::between(earlier, later);
        let table = found.map(|found| busiest(later, &found));
        serde_json::to_value(table).expect("plain data")
    }

    /// The numbers of the busiest partitions, and what came in.
    fn busy(shown: &Value) -> Vec<(u64, u64)> {
        let rows = shown["partitions"]["rows"].as_array().expect("rows");
        let number = |value: &Value| value.as_u64().expect("a number");
        let of = rows.iter().map(|row| (number(&row[1]), number(&row[5])));
        of.collect()
    }

    #[test]
    fn the_busiest_are_those_with_the_most_traffic_since_the_state_before() {
        // The first one was busy once.
        let before = state(1_000_000, "a", &[9_000_000, 10, 0]);
        let after = state(1_500_000, "a", &[9_000_000, 17, 50, 3]);
        let shown = shown(&before, &after);
        assert_eq!(busy(&shown), [(2, 50), (1, 7), (3, 3)]);
        assert_eq!(shown["over_us"], 500_000);
        assert_eq!(shown["partitions"]["left_out"], 0);
        assert_eq!(
            shown["partitions"]["rows"][0],
            json!(["orders", 2, 0, 0, 0, 50, 0, 0])
        );
    }

    #[test]
    fn a_topic_that_was_made_anew_counts_from_nothing() {
        let before = state(1_000_000, "a", &[100, 0]);
        let after = state(2_000_000, "b", &[40, 60]);
        assert_eq!(busy(&shown(&before, &after)), [(1, 60), (0, 40)]);
    }

    #[test]
    fn there_are_so_many_at_most_and_none_where_nobody_looked() {
        let (idle, busy_ones) = (vec![0; 1000], vec![1; 1000]);
        let (before, after) = (
            state(1_000_000, "a", &idle),
            state(2_000_000, "a", &busy_ones),
        );
        let table = shown(&before, &after);
        assert_eq!(busy(&table).len(), BUSIEST_MAX);
        assert_eq!(table["partitions"]["left_out"], 1000 - BUSIEST_MAX);
        assert_eq!(Busiest::between(&after, &before), None);
        assert_eq!(Busiest::between(&after, &after), None);
        let long_after = state(17_000_001, "a", &busy_ones);
        assert_eq!(Busiest::between(&after, &long_after), None);
    }

    #[test]
    fn partitions_that_are_not_as_they_should_be_are_named() {
        let mut state = state(1, "a", &vec![0; 10_000]);
        state.topics[0].partitions[7_341].damage = 2;
        state.topics[0].partitions[9_999].is_online = false;
        let table = serde_json::to_value(faulty(&state)).expect("plain data");
        let expected = json!([
            ["orders", 7341, 1, 0, true, 2],
            ["orders", 9999, 1, 0, false, 0]
        ]);
        assert_eq!(table["rows"], expected);
        for partition in &mut state.topics[0].partitions {
            partition.is_online = false;
        }
        let table = serde_json::to_value(faulty(&state)).expect("plain data");
        assert_eq!(table["rows"].as_array().map(Vec::len), Some(FAULTY_MAX));
        assert_eq!(table["left_out"], 10_000 - FAULTY_MAX);
    }
}
