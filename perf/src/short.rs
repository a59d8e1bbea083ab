//! The short load, for a first look: produce as fast as acknowledgements allow, read everything back, then measure
//! latency at a steady rate.

use corelane_client::{Durability, NewTopic};
use serde::Serialize;

use crate::control::{Control, Progress};
use crate::error::PerfError;
use crate::manifest::Software;
use crate::read_back;
use crate::result::{Percentiles, PerfResult, durability_word};
use crate::session::{Session, Target};
use crate::value::Values;
use crate::workload::{Kind, Workload};

/// What is asked of the broker.
#[derive(Clone, Debug, Serialize)]
pub struct Load {
    /// Bytes of each value.
    pub value_bytes: u32,
    /// Partitions of the topic.
    pub partitions: u32,
    /// Largest batch of records, in bytes.
    pub batch_bytes: u32,
    /// Producers, and consumers, that work at the same time.
    pub clients: u32,
    /// Seconds of load before anything is counted, in each phase.
    pub warm_up_seconds: u32,
    /// Seconds of the produce phase that are counted.
    pub produce_seconds: u32,
    /// Records a second while latency is measured, over all producers.
    pub latency_rate: u32,
    /// Seconds of the latency phase that are counted.
    pub latency_seconds: u32,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            value_bytes: 1000,
            partitions: 4,
            batch_bytes: 64 * 1024,
            clients: 2,
            warm_up_seconds: 1,
            produce_seconds: 4,
            latency_rate: 5000,
            latency_seconds: 4,
        }
    }
}

/// The result of the short load. It cannot be made without the durability that the broker confirmed.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Produced value bytes acknowledged, in 10^6 bytes a second: the broker kept as busy as the
    /// client can.
    pub throughput_mb_s: f64,
    /// From the intended send time of each record to its receipt, in microseconds, at a steady rate
    /// (open loop): a stall counts for every record that it delayed.
    pub latency_us: Percentiles,
    /// The weakest durability of any receipt of the whole load.
    #[serde(with = "durability_word")]
    pub durability: Durability,
    /// Records that were refused, not answered in time, or not read back.
    pub errors: u64,
    /// The produce phase.
    pub produce: Throughput,
    /// The consume phase: all records of the produce phase read back from the start.
    pub consume: Throughput,
    /// What was asked of the broker.
    pub load: Load,
    /// What it was measured on.
    pub manifest: Software,
}

/// Count over time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Throughput {
    /// Records acknowledged or read.
    pub records: u64,
    /// Their value bytes.
    pub value_bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// Value bytes in 10^6 bytes a second.
    pub mb_s: f64,
    /// Records a second.
    pub records_s: f64,
}

impl Throughput {
    pub(crate) fn new(records: u64, value_bytes: u64, seconds: f64) -> Self {
        Self {
            records,
            value_bytes,
            seconds,
            mb_s: value_bytes as f64 / 1e6 / seconds,
            records_s: records as f64 / seconds,
        }
    }
}

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShortPhase {
    /// The broker is being started.
    Start,
    /// Records are produced.
    Produce,
    /// They are read back.
    Consume,
    /// Latency is measured.
    Latency,
}

/// The topic of the throughput phases, and the one of the latency phase.
const THROUGHPUT_TOPIC: &str = "perf-throughput";
const LATENCY_TOPIC: &str = "perf-latency";

/// Runs the short load on a broker of its own and says what came of it.
///
/// # Errors
/// What kept it from being run at all. Records that were refused or lost are in the report.
pub fn run_short(load: &Load, mut on_phase: impl FnMut(ShortPhase)) -> Result<Report, PerfError> {
    on_phase(ShortPhase::Start);
    let session = Session::open(&Target::Embedded { stages: false })?;
    let manifest = Software::look(session.data_dir());
    let run = |kind, topic: &str, rate: Option<u32>, seconds: u32| {
        let workload = Workload {
            topic: Some(topic.to_owned()),
            partitions: Some(load.partitions),
            connections: load.clients,
            record_size: load.value_bytes,
            batch_bytes: load.batch_bytes,
            rate: rate.map(u64::from),
            duration_s: seconds.into(),
            warm_up_s: load.warm_up_seconds.into(),
            ..Workload::new(kind)
        };
        run_quietly(&session, &workload)
    };
    for topic in [THROUGHPUT_TOPIC, LATENCY_TOPIC] {
        let topic = NewTopic::new(topic, load.partitions);
        session
            .runtime()
            .block_on(session.client().admin().create_topic(topic))?;
    }

    on_phase(ShortPhase::Produce);
    let produced = run(Kind::Produce, THROUGHPUT_TOPIC, None, load.produce_seconds)?;
    on_phase(ShortPhase::Consume);
    let values = Values::new(&produced.manifest.workload);
    let consumed = read_back::run(
        session.client(),
        THROUGHPUT_TOPIC,
        load,
        &values,
        produced.acknowledged,
    );
    let consumed = session.runtime().block_on(consumed)?;
    on_phase(ShortPhase::Latency);
    let rate = Some(load.latency_rate);
    let latency = run(Kind::Latency, LATENCY_TOPIC, rate, load.latency_seconds)?;
    session.close()?;

    let latency_us = latency
        .latency_us
        .ok_or_else(|| PerfError::NothingMeasured {
            what: "no record of the latency phase was acknowledged".into(),
            first_error: latency.first_error,
        })?;
    Ok(Report {
        throughput_mb_s: produced.throughput_mb_s,
        latency_us,
        durability: produced.durability.min(latency.durability),
        errors: produced.errors + consumed.errors + latency.errors,
        produce: Throughput::new(produced.records, produced.value_bytes, produced.seconds),
        consume: consumed.throughput,
        load: load.clone(),
        manifest,
    })
}

fn run_quietly(session: &Session, workload: &Workload) -> Result<PerfResult, PerfError> {
    let mut control = Control {
        stop: &false.into(),
        observe: &mut |_: &Progress| {},
    };
    session.run(workload, &mut control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughput_is_count_over_time() {
        let throughput = Throughput::new(2_000, 2_000_000, 0.5);
        assert_eq!((throughput.mb_s, throughput.records_s), (4.0, 4_000.0));
    }
}
