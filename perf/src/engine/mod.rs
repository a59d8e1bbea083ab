//! Doing a run: producers and consumers on the client's threads, and one that watches them.
//!
//! Owns the order of a run: what works is started, warmed up, counted, and drained. What is counted is decided by the
//! recorder, and when records are due by the schedule.

mod consuming;
mod monitor;
mod outcome;
mod producing;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corelane_bench::clock::Clock;
use corelane_client::{Client, Durability, Producer};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::control::Control;
use crate::error::PerfError;
use crate::manifest::Software;
use crate::recorder::{Recorder, Window};
use crate::result::{Consumed, DurabilityFrom, PerfResult};
use crate::schedule::Schedule;
use crate::session::{Session, UsedTopic};
use crate::stages::{Stages, Watch};
use crate::value::Values;
use crate::workload::{Kind, Workload};

/// Between the start of the threads and the first record.
const LEAD: Duration = Duration::from_millis(20);
/// How long answers are awaited after the end.
const DRAIN: Duration = Duration::from_secs(30);

/// What all that works on a run shares.
#[derive(Clone)]
struct Shared {
    clock: Clock,
    recorder: Arc<Mutex<Recorder>>,
    /// Becomes the time at which the run ends before its time.
    cancelled: watch::Receiver<Option<u64>>,
    topic: Arc<str>,
    /// Marks the run's records.
    run: u16,
    /// Whether a worker has given up.
    has_failed: Arc<AtomicBool>,
}

impl Shared {
    /// The clock starts now.
    fn new(
        window: Window,
        cancelled: watch::Receiver<Option<u64>>,
        topic: &UsedTopic,
        run: u16,
    ) -> Self {
        Self {
            clock: Clock::start(),
            recorder: Arc::new(Mutex::new(Recorder::new(window))),
            cancelled,
            topic: topic.name.as_str().into(),
            run,
            has_failed: Arc::default(),
        }
    }

    /// Has a worker work, on the runtime that the caller is on.
    fn spawn(&self, work: impl Future<Output = Result<(), PerfError>> + Send + 'static) -> Worker {
        let has_failed = Arc::clone(&self.has_failed);
        tokio::spawn(async move {
            let outcome = work.await;
            has_failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
            outcome
        })
    }

    fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.borrow().is_some()
    }
}

/// A producer or a consumer at work.
type Worker = JoinHandle<Result<(), PerfError>>;

/// A run that was started.
struct Started {
    shared: Shared,
    cancel: watch::Sender<Option<u64>>,
    /// They end by themselves once everything was sent and answered.
    producers: Vec<Worker>,
    /// They end when they are told that everything was read, or by themselves at the end of the time that counts.
    consumers: Vec<Worker>,
    finish: Option<watch::Sender<bool>>,
    /// Who asks the broker how long its stages take.
    stages: Option<Watch>,
}

/// What is measured of a run, beside what its recorder holds.
struct Measured {
    recorder: Arc<Mutex<Recorder>>,
    is_cut_short: bool,
    broker_cpu_ns_per_record: Option<f64>,
    client_cpu_ns_per_record: Option<f64>,
    stages: Option<Stages>,
}

/// Runs a load on a topic that is there.
pub(crate) fn run(
    session: &Session,
    workload: &Workload,
    topic: &UsedTopic,
    control: &mut Control<'_>,
) -> Result<PerfResult, PerfError> {
    let software = Software::look(session.data_dir());
    // Before anything is sent: it would be in vain if the endpoint did not answer.
    let stages = if workload.stages {
        let watch = Watch::open(session.admin()?, workload.kind, topic);
        Some(session.runtime().block_on(watch)?)
    } else {
        None
    };
    let mut consumed = None;
    let mut durability = None;
    let measured = match workload.kind {
        Kind::Consume => {
            let (filled, weakest) = consuming::fill(session, workload, topic, control)?;
            durability = Some(weakest.map_or_else(
                || (settings_durability(topic), DurabilityFrom::TopicSettings),
                |weakest| (weakest, DurabilityFrom::Receipts),
            ));
            let (measured, read) = consuming::run(session, workload, topic, stages, control)?;
            consumed = Some(Consumed {
                filled_records: filled,
                ..read
            });
            measured
        }
        Kind::Produce | Kind::Latency | Kind::EndToEnd => {
            let mut started = session.runtime().block_on(start(
                session.client(),
                workload,
                topic,
                session.tag(),
            ))?;
            started.stages = stages;
            monitor::watch(session, workload, started, control)?
        }
    };
    let mut manifest = outcome::manifest(session, workload, topic, software)?;
    let recorder = measured
        .recorder
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let durability = durability.or_else(|| Some((recorder.weakest()?, DurabilityFrom::Receipts)));
    let durability = outcome::require(durability, &recorder, workload)?;
    manifest.durability = durability.0.to_string();
    Ok(outcome::result(
        workload, &recorder, &measured, durability, consumed, manifest,
    ))
}

/// What the topic's settings let a receipt say at least.
fn settings_durability(topic: &UsedTopic) -> Durability {
    let is_zero = |key| topic.setting(key).is_none_or(|value| value == "0");
    if is_zero("flush.messages") && is_zero("flush.ms") {
        Durability::Durable
    } else {
        Durability::Memory
    }
}

async fn build_producer(client: &Client, workload: &Workload) -> Result<Producer, PerfError> {
    let producer = client
        .producer()
        .acks(workload.acks.into())
        .linger(workload.linger())
        .batch_bytes(workload.batch_bytes)
        .buffer_bytes(outcome::buffer_bytes(workload) as usize)
        .in_flight_bytes(workload.in_flight_bytes)
        .idempotent(workload.idempotent)
        .compression(workload.compression.into());
    Ok(producer.build().await?)
}

/// Starts the producers of a run, and for end-to-end its consumers before them.
async fn start(
    client: &Client,
    workload: &Workload,
    topic: &UsedTopic,
    run: u16,
) -> Result<Started, PerfError> {
    let mut producers = Vec::new();
    for _ in 0..workload.connections {
        let producer = build_producer(client, workload).await?;
        // Connects and learns the topic before the clock runs.
        producer.partition_count(&topic.name).await?;
        producers.push(producer);
    }
    let consumers = match workload.kind {
        Kind::EndToEnd => consuming::at_end(client, workload, topic).await?,
        _ => Vec::new(),
    };

    let start_ns = LEAD.as_nanos() as u64;
    let from_ns = start_ns + workload.warm_up().as_nanos() as u64;
    let to_ns = from_ns + workload.duration().as_nanos() as u64;
    let (cancel, cancelled) = watch::channel(None);
    let (finish, finished) = watch::channel(false);
    let shared = Shared::new(Window { from_ns, to_ns }, cancelled, topic, run);
    let schedule = |index| Schedule {
        rate: workload.rate.unwrap_or(1),
        producers: workload.connections.into(),
        index,
        start_ns,
        end_ns: to_ns,
    };
    let values = Values::new(workload);
    let consumers = consumers.into_iter().map(|consumer| {
        let reading = consuming::EndToEnd {
            shared: shared.clone(),
            values: values.clone(),
            schedule: schedule(0),
            finished: finished.clone(),
        };
        shared.spawn(reading.run(consumer))
    });
    let consumers = consumers.collect();
    let producers = producers.into_iter().enumerate().map(|(index, producer)| {
        let sending = producing::Sending {
            shared: shared.clone(),
            producer,
            index: index as u8,
            values: values.clone(),
            is_end_to_end: workload.kind == Kind::EndToEnd,
        };
        match workload.rate {
            Some(_) => shared.spawn(sending.open(schedule(index as u64))),
            None => {
                let until = producing::Until {
                    end_ns: to_ns,
                    records: u64::MAX,
                };
                shared.spawn(sending.closed(until, workload.in_flight_bytes))
            }
        }
    });
    Ok(Started {
        producers: producers.collect(),
        consumers,
        finish: (workload.kind == Kind::EndToEnd).then_some(finish),
        stages: None,
        shared,
        cancel,
    })
}
