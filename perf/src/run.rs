//! The short load: produce as fast as acknowledgements allow, read everything back, then measure
//! latency at a steady rate.

use corelane_client::{Client, Durability, NewTopic};
use serde::Serialize;

use crate::embedded::EmbeddedBroker;
use crate::error::PerfError;
use crate::manifest::Manifest;
use crate::report::Report;
use crate::{consume, latency, produce};

/// What is asked of the broker.
#[derive(Clone, Debug, Serialize)]
pub struct Load {
    /// Bytes of each value.
    pub value_bytes: usize,
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

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
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

/// Runs a load on a broker of its own and says what came of it.
///
/// # Errors
/// What kept it from being run at all. Records that were refused or lost are in the report.
pub fn run(load: &Load, mut on_phase: impl FnMut(Phase)) -> Result<Report, PerfError> {
    on_phase(Phase::Start);
    let broker = EmbeddedBroker::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(PerfError::Threads)?;
    let client = runtime.block_on(async {
        let client = Client::builder()
            .bootstrap([broker.address()])
            .client_name("corelane-perf");
        let client = client.connect().await?;
        for topic in [THROUGHPUT_TOPIC, LATENCY_TOPIC] {
            client
                .admin()
                .create_topic(NewTopic::new(topic, load.partitions))
                .await?;
        }
        Ok::<_, PerfError>(client)
    })?;

    on_phase(Phase::Produce);
    let produced = runtime.block_on(produce::run(&client, THROUGHPUT_TOPIC, load))?;
    on_phase(Phase::Consume);
    let consumed = runtime.block_on(consume::run(
        &client,
        THROUGHPUT_TOPIC,
        load,
        produced.everything,
    ))?;
    on_phase(Phase::Latency);
    let latency = latency::run(&runtime, &client, LATENCY_TOPIC, load)?;

    let manifest = Manifest::of(broker.data_dir());
    drop(client);
    broker.stop()?;
    Ok(Report {
        throughput_mb_s: produced.throughput.mb_s,
        latency_us: latency.percentiles,
        durability: produced.durability.min(latency.durability),
        errors: produced.errors + consumed.errors + latency.errors,
        produce: produced.throughput,
        consume: consumed.throughput,
        load: load.clone(),
        manifest,
    })
}

/// The weakest durability of some receipts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weakest(Option<Durability>);

impl Weakest {
    pub(crate) fn add(&mut self, durability: Durability) {
        self.0 = Some(self.0.map_or(durability, |weakest| weakest.min(durability)));
    }

    pub(crate) fn merge(&mut self, other: Self) {
        if let Some(durability) = other.0 {
            self.add(durability);
        }
    }

    /// The durability, if there was a receipt at all.
    pub(crate) fn confirmed(self, phase: &'static str) -> Result<Durability, PerfError> {
        self.0.ok_or(PerfError::NothingAcknowledged(phase))
    }
}
