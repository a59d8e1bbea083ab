//! What happened between two states of a broker.
//!
//! Pure: whoever has the states computes what is shown.

use corelane_broker::admin::state::{
    BrokerState, CoreState, Counts, PartitionState, Phase, StoreState, TopicState,
};
use serde::Serialize;

/// A turn of a core's driver that comes later than this counts as a stall, µs.
const STALL_US: u64 = 10_000;

/// A broker over an interval. Rates are per second, sizes bytes, times µs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct View {
    pub(super) version: String,
    pub(super) bootstrap: String,
    pub(super) phase: Phase,
    pub(super) uptime_us: u64,
    pub(super) interval_us: u64,
    pub(super) resident_bytes: u64,
    pub(super) total: Total,
    pub(super) cores: Vec<CoreRates>,
    pub(super) topics: Vec<TopicRates>,
    /// What somebody should look at.
    pub(super) problems: Vec<String>,
}

/// All cores together.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub(super) struct Total {
    pub(super) bytes_in: f64,
    pub(super) bytes_out: f64,
    pub(super) records_in: f64,
    pub(super) records_out: f64,
    pub(super) requests: f64,
    pub(super) errors: f64,
    pub(super) connections: u64,
    pub(super) partitions: u64,
    pub(super) size_bytes: u64,
    pub(super) produce_p50_us: Option<u64>,
    pub(super) produce_p99_us: Option<u64>,
    /// Bytes of segment files that compaction reads.
    pub(super) compaction_read: f64,
    /// Bytes of segment files that it writes in their place.
    pub(super) compaction_written: f64,
    /// Records that it leaves out.
    pub(super) compaction_records_removed: f64,
}

/// One core.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(super) struct CoreRates {
    pub(super) core: u16,
    /// The share of one CPU that its thread used.
    pub(super) cpu: f64,
    /// Bytes received of clients.
    pub(super) bytes_in: f64,
    /// Bytes sent to clients.
    pub(super) bytes_out: f64,
    pub(super) requests: f64,
    pub(super) errors: f64,
    pub(super) produce_p50_us: Option<u64>,
    pub(super) produce_p99_us: Option<u64>,
    pub(super) flush_p99_us: Option<u64>,
    /// Produces, connections and batches that wait.
    pub(super) queue: u64,
    pub(super) connections: u64,
    pub(super) partitions: u64,
    pub(super) memory_bytes: u64,
    pub(super) memory_cap: u64,
    pub(super) stalls: u64,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(super) struct TopicRates {
    pub(super) name: String,
    pub(super) records_in: f64,
    pub(super) bytes_in: f64,
    pub(super) records_out: f64,
    pub(super) bytes_out: f64,
    pub(super) records: u64,
    pub(super) size_bytes: u64,
    /// Where it is compacted: the share of its closed segments that has come since.
    pub(super) to_compact: Option<f64>,
    pub(super) partitions: Vec<PartitionRates>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(super) struct PartitionRates {
    pub(super) partition: u32,
    pub(super) core: u16,
    pub(super) is_online: bool,
    pub(super) log_start: u64,
    pub(super) high_watermark: u64,
    pub(super) size_bytes: u64,
    pub(super) segments: u64,
    pub(super) records_in: f64,
    pub(super) bytes_in: f64,
    pub(super) records_out: f64,
    pub(super) bytes_out: f64,
}

impl TopicRates {
    /// What topics are ordered by first.
    pub(super) fn traffic(&self) -> f64 {
        self.bytes_in + self.bytes_out
    }
}

/// What happened between two states; nothing if the broker was started anew in between.
pub(super) fn between(earlier: &BrokerState, later: &BrokerState) -> Option<View> {
    let interval_us = later.taken_us.checked_sub(earlier.taken_us)?;
    if interval_us == 0 || earlier.started_ms != later.started_ms {
        return None;
    }
    let pace = Pace {
        seconds: interval_us as f64 / 1e6,
    };
    let cores: Vec<CoreRates> = later
        .cores
        .iter()
        .map(|core| {
            let before = earlier.cores.iter().find(|old| old.core == core.core);
            core_rates(pace, before, core, earlier, later)
        })
        .collect();
    let topics: Vec<TopicRates> = later
        .topics
        .iter()
        .map(|topic| {
            let known = earlier
                .topics
                .binary_search_by(|old| old.name.cmp(&topic.name));
            let before = known.ok().map(|index| &earlier.topics[index]);
            topic_rates(pace, before.filter(|old| old.id == topic.id), topic)
        })
        .collect();
    Some(View {
        version: later.version.clone(),
        bootstrap: later.bootstrap.clone(),
        phase: later.phase,
        uptime_us: later.taken_us,
        interval_us,
        resident_bytes: later.process.resident_bytes,
        total: total(pace, earlier, later, &cores, &topics),
        problems: problems(later),
        cores,
        topics,
    })
}

#[derive(Clone, Copy)]
struct Pace {
    seconds: f64,
}

impl Pace {
    /// How much a counter grew, per second.
    fn of(self, before: u64, after: u64) -> f64 {
        after.saturating_sub(before) as f64 / self.seconds
    }
}

fn core_rates(
    pace: Pace,
    before: Option<&CoreState>,
    core: &CoreState,
    earlier: &BrokerState,
    later: &BrokerState,
) -> CoreRates {
    let nothing = CoreState::default();
    let before = before.unwrap_or(&nothing);
    let produces = request_times(core, "Produce").since(&request_times(before, "Produce"));
    let flushes = flush_times(later, core.core).since(&flush_times(earlier, core.core));
    let stalls = |core: &CoreState| core.ring.turn_times.above(STALL_US);
    CoreRates {
        core: core.core,
        cpu: pace.of(before.cpu_us, core.cpu_us) / 1e6,
        bytes_in: pace.of(before.received_bytes, core.received_bytes),
        bytes_out: pace.of(before.sent_bytes, core.sent_bytes),
        requests: pace.of(requests(before), requests(core)),
        errors: pace.of(errors(before), errors(core)),
        produce_p50_us: produces.quantile(0.5),
        produce_p99_us: produces.quantile(0.99),
        flush_p99_us: flushes.quantile(0.99),
        queue: core.waiting_produces + core.paced_waiting,
        connections: core.connections,
        partitions: core.partitions,
        memory_bytes: core.memory.iter().map(|(_, bytes)| bytes).sum(),
        memory_cap: core.memory_cap,
        stalls: stalls(core).saturating_sub(stalls(before)),
    }
}

fn request_times(core: &CoreState, api: &str) -> Counts {
    let found = core.requests.iter().find(|request| request.api == api);
    found
        .map(|request| request.times.clone())
        .unwrap_or_default()
}

fn flush_times(state: &BrokerState, core: u16) -> Counts {
    let mut times = Counts::default();
    for store in state.stores.iter().filter(|store| store.core == core) {
        times.add(&store.group_write);
    }
    times
}

fn requests(core: &CoreState) -> u64 {
    let counts = core.requests.iter().map(|request| request.times.count());
    counts.sum()
}

fn errors(core: &CoreState) -> u64 {
    let of_requests = core.requests.iter().flat_map(|request| &request.errors);
    of_requests.map(|(_, count)| count).sum()
}

fn topic_rates(pace: Pace, before: Option<&TopicState>, topic: &TopicState) -> TopicRates {
    let partitions: Vec<PartitionRates> = topic
        .partitions
        .iter()
        .map(|partition| {
            let known = before.and_then(|old| {
                let found = old
                    .partitions
                    .binary_search_by_key(&partition.partition, |old| old.partition);
                found.ok().map(|index| &old.partitions[index])
            });
            partition_rates(pace, known, partition)
        })
        .collect();
    let sum = |of: fn(&PartitionRates) -> f64| partitions.iter().map(of).sum();
    TopicRates {
        name: topic.name.clone(),
        records_in: sum(|p| p.records_in),
        bytes_in: sum(|p| p.bytes_in),
        records_out: sum(|p| p.records_out),
        bytes_out: sum(|p| p.bytes_out),
        records: topic.sum(|p| p.high_watermark.saturating_sub(p.log_start)),
        size_bytes: topic.sum(|p| p.size_bytes),
        to_compact: to_compact(topic),
        partitions,
    }
}

fn to_compact(topic: &TopicState) -> Option<f64> {
    let compacted = || topic.partitions.iter().filter_map(|it| it.compaction);
    compacted().next()?;
    let dirty: u64 = compacted().map(|it| it.dirty_bytes).sum();
    let all: u64 = compacted().map(|it| it.clean_bytes + it.dirty_bytes).sum();
    Some(dirty as f64 / all.max(1) as f64)
}

fn partition_rates(
    pace: Pace,
    before: Option<&PartitionState>,
    partition: &PartitionState,
) -> PartitionRates {
    let nothing = PartitionState::default();
    let before = before.unwrap_or(&nothing);
    PartitionRates {
        partition: partition.partition,
        core: partition.core,
        is_online: partition.is_online,
        log_start: partition.log_start,
        high_watermark: partition.high_watermark,
        size_bytes: partition.size_bytes,
        segments: partition.segments,
        records_in: pace.of(before.records_in, partition.records_in),
        bytes_in: pace.of(before.bytes_in, partition.bytes_in),
        records_out: pace.of(before.records_out, partition.records_out),
        bytes_out: pace.of(before.bytes_out, partition.bytes_out),
    }
}

fn total(
    pace: Pace,
    earlier: &BrokerState,
    later: &BrokerState,
    cores: &[CoreRates],
    topics: &[TopicRates],
) -> Total {
    let all = |state: &BrokerState| {
        let mut times = Counts::default();
        for core in &state.cores {
            times.add(&request_times(core, "Produce"));
        }
        times
    };
    let produces = all(later).since(&all(earlier));
    let sum = |of: fn(&CoreRates) -> f64| cores.iter().map(of).sum();
    let stores = |of: fn(&StoreState) -> u64| {
        let all = |state: &BrokerState| state.stores.iter().map(of).sum();
        pace.of(all(earlier), all(later))
    };
    Total {
        bytes_in: sum(|core| core.bytes_in),
        bytes_out: sum(|core| core.bytes_out),
        records_in: topics.iter().map(|topic| topic.records_in).sum(),
        records_out: topics.iter().map(|topic| topic.records_out).sum(),
        requests: sum(|core| core.requests),
        errors: sum(|core| core.errors),
        connections: cores.iter().map(|core| core.connections).sum(),
        partitions: cores.iter().map(|core| core.partitions).sum(),
        size_bytes: topics.iter().map(|topic| topic.size_bytes).sum(),
        produce_p50_us: produces.quantile(0.5),
        produce_p99_us: produces.quantile(0.99),
        compaction_read: stores(|store| store.compaction_read_bytes),
        compaction_written: stores(|store| store.compaction_written_bytes),
        compaction_records_removed: stores(|store| store.compaction_records_removed),
    }
}

fn problems(state: &BrokerState) -> Vec<String> {
    let silent = state.silent_cores.iter();
    let mut problems: Vec<String> = silent
        .map(|core| format!("core {core} does not answer"))
        .collect();
    for store in &state.stores {
        let number = store.store;
        if let Some(reason) = &store.fenced {
            problems.push(format!("store {number} takes no appends: {reason}"));
        } else if store.is_disk_full {
            problems.push(format!("store {number}: the disk is full"));
        } else if store.is_reserve_touched {
            problems.push(format!(
                "store {number} takes no appends: the disk has less room than its reserve"
            ));
        }
        if store.damage_found > 0 {
            let found = store.damage_found;
            problems.push(format!("store {number}: {found} damaged places were found"));
        }
    }
    problems
}

#[cfg(test)]
pub(super) mod tests {
    use corelane_broker::admin::state::{CompactionState, RequestState};

    use super::*;

    /// A broker with two cores and two topics, after so many seconds of a steady load.
    pub(crate) fn state(seconds: u64) -> BrokerState {
        let counts = |us: u64, per_second: u64| Counts {
            sum: us * per_second * seconds,
            steps: vec![(us, per_second * seconds)],
        };
        let core = |number: u16| CoreState {
            core: number,
            cpu_us: 250_000 * (u64::from(number) + 1) * seconds,
            received_bytes: 50_000_000 * seconds,
            sent_bytes: 100_000_000 * seconds,
            connections: 8,
            partitions: 3,
            memory_cap: 512 << 20,
            memory: vec![("tail".to_owned(), 128 << 20)],
            requests: vec![RequestState {
                api: "Produce".to_owned(),
                times: counts(359, 1000),
                errors: vec![("Overloaded".to_owned(), 2 * seconds)],
            }],
            ..CoreState::default()
        };
        let store = |number: u16| StoreState {
            store: number,
            core: number,
            group_write: counts(831, 500),
            compaction_read_bytes: 3_000_000 * seconds,
            compaction_written_bytes: 20_000 * seconds,
            compaction_records_removed: 900 * seconds,
            ..StoreState::default()
        };
        let topic = |name: &str, weight: u64, partitions: u32| TopicState {
            id: name.to_owned(),
            name: name.to_owned(),
            partitions: (0..partitions)
                .map(|partition| PartitionState {
                    partition,
                    core: (partition % 2) as u16,
                    is_online: true,
                    high_watermark: 1000 * weight * seconds,
                    size_bytes: 1_000_000 * weight * seconds,
                    segments: 1,
                    records_in: 1000 * weight * seconds,
                    bytes_in: 1_000_000 * weight * seconds,
                    records_out: 2000 * weight * seconds,
                    bytes_out: 2_000_000 * weight * seconds,
                    ..PartitionState::default()
                })
                .collect(),
        };
        BrokerState {
            version: "0.1.0".to_owned(),
            bootstrap: "127.0.0.1:9500".to_owned(),
            phase: Phase::Serving,
            started_ms: 1,
            taken_us: 1_000_000 * seconds,
            cores: vec![core(0), core(1)],
            stores: vec![store(0), store(1)],
            topics: vec![topic("orders", 9, 4), topic("payments", 30, 2)],
            ..BrokerState::default()
        }
    }

    fn near(value: f64, expected: f64) -> bool {
        (value - expected).abs() < expected / 1e6 + 1e-9
    }

    #[test]
    fn rates_are_what_came_in_between_per_second() {
        let view = between(&state(10), &state(12)).expect("the same life");
        assert_eq!(view.interval_us, 2_000_000);
        let core = &view.cores[1];
        assert!(near(core.cpu, 0.5) && near(core.bytes_in, 5e7) && near(core.requests, 1000.0));
        assert!(near(core.errors, 2.0));
        assert_eq!(
            (core.produce_p50_us, core.flush_p99_us),
            (Some(359), Some(831))
        );
        let orders = &view.topics[0];
        assert!(near(orders.records_in, 36_000.0) && near(orders.bytes_out, 72e6));
        assert_eq!(orders.records, 4 * 9000 * 12);
        assert!(near(view.total.records_in, 96_000.0));
        assert_eq!(view.total.partitions, 6);
        assert!(near(view.total.compaction_read, 6e6) && near(view.total.compaction_written, 4e4));
        assert!(near(view.total.compaction_records_removed, 1800.0));
        assert!(view.problems.is_empty());
    }

    #[test]
    fn a_broker_that_was_started_anew_has_no_rates_yet() {
        let mut later = state(12);
        later.started_ms = 2;
        assert_eq!(between(&state(10), &later), None);
        assert_eq!(between(&state(10), &state(9)), None);
        assert_eq!(between(&state(10), &state(10)), None);
    }

    #[test]
    fn a_topic_that_was_made_anew_counts_from_nothing() {
        let mut earlier = state(10);
        earlier.topics[0].id = "another".to_owned();
        let view = between(&earlier, &state(12)).expect("the same life");
        assert!(near(view.topics[0].records_in, 6.0 * 36_000.0));
    }

    #[test]
    fn what_is_to_be_compacted_is_a_share_of_closed_segments() {
        let mut later = state(12);
        for (partition, dirty_bytes) in [(0, 300), (1, 0)] {
            later.topics[1].partitions[partition].compaction = Some(CompactionState {
                clean_bytes: 350,
                dirty_bytes,
                ..CompactionState::default()
            });
        }
        let view = between(&state(10), &later).expect("the same life");
        let shares: Vec<_> = view.topics.iter().map(|it| it.to_compact).collect();
        assert_eq!(shares, [None, Some(0.3)]);
    }

    #[test]
    fn problems_are_said() {
        let mut later = state(12);
        later.silent_cores = vec![3];
        later.stores[1].fenced = Some("I/O error".to_owned());
        let view = between(&state(10), &later).expect("the same life");
        let expected = [
            "core 3 does not answer",
            "store 1 takes no appends: I/O error",
        ];
        assert_eq!(view.problems, expected);
    }
}
