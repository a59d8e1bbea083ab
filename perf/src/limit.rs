//! What this machine could do at most with the same bytes, measured in turns with a run.
//!
//! Owns what is put beside which load, and the ratios. A produce is held against the relay of `corelane-bench`, which does
//! only what a perfect broker must, in both its forms; a consume against TCP over loopback with CRC32C. Half of each
//! yardstick's time comes before the run and half after it, so that drift of the machine touches all alike.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use corelane_bench::cpu::{self, Threads};
use corelane_bench::frames::{Batch, Frames};
use corelane_bench::latency::histogram;
use corelane_bench::limits::tcp;
use corelane_bench::relay::{self, Form, MEMORY_BYTES, Relay, THREAD};
use corelane_bench::scratch;
use corelane_bench::sender::{self, Outcome, Peer, Plan};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::control::{Control, Phase, Progress};
use crate::error::PerfError;
use crate::result::{Percentiles, PerfResult};
use crate::session::Session;
use crate::workload::{Kind, Workload};

/// The most bytes of the relay's file that is gone over again and again.
const RECYCLED_BYTES_MAX: u64 = 512 << 20;
/// Bytes of one write of the TCP yardstick.
const TCP_WRITE_BYTES: usize = 64 << 10;
/// What a batch of one record takes on top of its value, generously.
const BATCH_OVERHEAD_BYTES: u32 = 512;
/// How long the machine is left to end what it has begun before each part.
const SETTLE: Duration = Duration::from_secs(2);

/// The yardsticks of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Limit {
    /// What was measured beside the run.
    pub yardsticks: Vec<Yardstick>,
    /// Records in each of the relay's frames; 0 for TCP.
    pub records_per_frame: usize,
    /// Bytes of each frame, or of each write to TCP.
    pub frame_bytes: usize,
    /// Bytes of frames in flight, for a closed loop.
    pub in_flight_bytes: Option<usize>,
    /// Frames that are due each second, for an open loop.
    pub frames_per_s: Option<f64>,
    /// Where the relay wrote.
    pub directory: Option<String>,
}

/// One of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Yardstick {
    /// `relay, recycled`, `relay, fresh` or `TCP with CRC32C`.
    pub name: String,
    /// Seconds that were counted, half of them before the run and half after it.
    pub seconds: f64,
    /// Value bytes that became durable (TCP: bytes that arrived) in 10^6 a second.
    pub throughput_mb_s: f64,
    /// Records a second; `None` for TCP.
    pub records_per_s: Option<f64>,
    /// Open loop: from the time at which a frame was due; closed loop: from when it was sent. To its acknowledgement.
    pub latency_us: Option<Percentiles>,
    /// CPU of the whole machine less the sender's, nanoseconds for each record.
    pub cpu_ns_per_record: Option<f64>,
    /// Frames that the relay did not answer within 30 s of the end, or answered with what was not asked. They are in no
    /// other figure: with any of them the others say little.
    #[serde(default)]
    pub failed_frames: u64,
    /// The run's throughput to this one's.
    pub throughput_ratio: f64,
    /// The run's p50 to this one's, where both are of an open loop.
    pub p50_ratio: Option<f64>,
    /// The run's p99 to this one's, likewise.
    pub p99_ratio: Option<f64>,
}

/// Runs a load, and what it is held against before and after it.
///
/// # Errors
/// Those of [`Session::run`]; a yardstick that cannot be measured here.
pub fn run_with_limit(
    session: &Session,
    workload: &Workload,
    control: &mut Control<'_>,
) -> Result<PerfResult, PerfError> {
    workload.check()?;
    let parent = session.data_dir().map(Path::to_owned);
    let directory = scratch::directory(parent.as_deref())?;
    let mut gauges = Gauges::prepare(workload, directory.path())?;
    gauges.measure(control, false)?;
    let mut result = session.run(workload, control)?;
    gauges.measure(control, true)?;
    result.limit = Some(gauges.limit(&result));
    Ok(result)
}

/// What is measured, and what came of it so far.
struct Gauges<'w> {
    workload: &'w Workload,
    gauges: Vec<(Gauge, Tally)>,
    frames: Option<Frames>,
    directory: String,
}

enum Gauge {
    Relay(Relay),
    Tcp,
}

/// The sums of several parts.
struct Tally {
    seconds: f64,
    value_bytes: f64,
    records: f64,
    cpu_ns: f64,
    failed_frames: u64,
    latency_ns: Histogram<u64>,
}

impl Tally {
    fn new() -> Self {
        Self {
            seconds: 0.0,
            value_bytes: 0.0,
            records: 0.0,
            cpu_ns: 0.0,
            failed_frames: 0,
            latency_ns: histogram(),
        }
    }

    fn add(&mut self, outcome: &Outcome, frames: &Frames) {
        let acks = outcome.acks as f64;
        self.seconds += outcome.seconds;
        self.value_bytes += acks * frames.value_bytes() as f64;
        self.records += acks * frames.records() as f64;
        self.cpu_ns += acks * outcome.cpu_ns_per_ack;
        self.failed_frames += outcome.errors + outcome.unanswered + outcome.stray_answers;
        self.latency_ns
            .add(&outcome.latency_ns)
            .expect("both have the same bounds");
    }
}

impl<'w> Gauges<'w> {
    fn prepare(workload: &'w Workload, directory: &Path) -> Result<Self, PerfError> {
        let mut gauges = Vec::new();
        let mut frames = None;
        if workload.kind == Kind::Consume {
            gauges.push(Gauge::Tcp);
        } else {
            let (relay_cpu, _) = cpu::pair();
            let part = workload.warm_up() + workload.duration() / 2;
            let fresh = relay::fresh_bytes(directory, part.as_secs_f64() + 0.5)?;
            let room = scratch::free_bytes(directory)? / 4;
            let recycled = RECYCLED_BYTES_MAX.min(room).max(MEMORY_BYTES as u64);
            let recycled = recycled / MEMORY_BYTES as u64 * MEMORY_BYTES as u64;
            for (form, bytes) in [(Form::Recycled, recycled), (Form::Fresh, fresh)] {
                gauges.push(Gauge::Relay(Relay::prepare(
                    form, directory, bytes, relay_cpu,
                )?));
            }
            frames = Some(frames_like(workload)?);
        }
        Ok(Self {
            workload,
            gauges: gauges
                .into_iter()
                .map(|gauge| (gauge, Tally::new()))
                .collect(),
            frames,
            directory: directory.display().to_string(),
        })
    }

    /// Measures each for half of its time, in the given order or the other way round. Ends early when the run should.
    fn measure(&mut self, control: &mut Control<'_>, backwards: bool) -> Result<(), PerfError> {
        let count = self.gauges.len();
        for place in 0..count {
            if control.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            (control.observe)(&Progress::of(Phase::Limit));
            cpu::settle(SETTLE);
            let place = if backwards { count - 1 - place } else { place };
            self.measure_one(place)?;
        }
        Ok(())
    }

    fn measure_one(&mut self, place: usize) -> Result<(), PerfError> {
        let duration = self.workload.duration() / 2;
        let (gauge, tally) = &mut self.gauges[place];
        match gauge {
            Gauge::Tcp => {
                let measured = tcp::measure(TCP_WRITE_BYTES, true, duration, cpu::pair())?;
                tally.seconds += duration.as_secs_f64();
                tally.value_bytes += measured.mb_s * 1e6 * duration.as_secs_f64();
            }
            Gauge::Relay(relay) => {
                let frames = self.frames.as_mut().expect("made for relays");
                let serving = relay.serve()?;
                let plan = Plan {
                    peer: Peer::Relay,
                    address: serving.address(),
                    pace: pace(self.workload, frames),
                    warm_up: self.workload.warm_up(),
                    duration,
                    cpu: cpu::pair().1,
                };
                let threads = Threads::named(std::process::id(), THREAD);
                let sent = sender::send(&plan, frames, &threads);
                // If the connection broke, the relay knows why.
                serving.finish()?;
                relay.clear();
                tally.add(&sent?, frames);
            }
        }
        Ok(())
    }

    fn limit(self, result: &PerfResult) -> Limit {
        let frames = self.frames.as_ref();
        let pace = frames.map(|frames| pace(self.workload, frames));
        let gauges = self
            .gauges
            .iter()
            .filter(|(_, tally)| tally.seconds > 0.0)
            .map(|(gauge, tally)| yardstick(gauge, tally, self.workload, result));
        Limit {
            yardsticks: gauges.collect(),
            records_per_frame: frames.map_or(0, Frames::records),
            frame_bytes: frames.map_or(TCP_WRITE_BYTES, Frames::frame_bytes),
            in_flight_bytes: pace.and_then(|pace| match pace {
                sender::Pace::Closed { window_bytes } => Some(window_bytes),
                sender::Pace::Open { .. } => None,
            }),
            frames_per_s: pace.and_then(|pace| match pace {
                sender::Pace::Closed { .. } => None,
                sender::Pace::Open { rate } => Some(rate),
            }),
            directory: frames.is_some().then_some(self.directory),
        }
    }
}

fn yardstick(gauge: &Gauge, tally: &Tally, workload: &Workload, result: &PerfResult) -> Yardstick {
    let throughput_mb_s = tally.value_bytes / 1e6 / tally.seconds;
    let mut latency_us = histogram();
    for value in tally.latency_ns.iter_recorded() {
        // A part of a microsecond counts as a whole one, as in the run.
        let us = value.value_iterated_to().div_ceil(1000);
        latency_us.saturating_record_n(us, value.count_at_value());
    }
    let latency_us = Percentiles::of(&latency_us);
    let is_relay = matches!(gauge, Gauge::Relay(_));
    let ratio = |of: fn(&Percentiles) -> u64| {
        let (run, limit) = (result.latency_us.as_ref()?, latency_us.as_ref()?);
        (workload.is_open_loop() && of(limit) > 0).then(|| of(run) as f64 / of(limit) as f64)
    };
    Yardstick {
        name: match gauge {
            Gauge::Relay(relay) => format!("relay, {}", relay.form().as_str()),
            Gauge::Tcp => "TCP with CRC32C".to_owned(),
        },
        seconds: tally.seconds,
        throughput_mb_s,
        records_per_s: is_relay.then(|| tally.records / tally.seconds),
        cpu_ns_per_record: (tally.records > 0.0).then(|| tally.cpu_ns / tally.records),
        failed_frames: tally.failed_frames,
        throughput_ratio: if throughput_mb_s > 0.0 {
            result.throughput_mb_s / throughput_mb_s
        } else {
            0.0
        },
        p50_ratio: ratio(|latency| latency.p50),
        p99_ratio: ratio(|latency| latency.p99),
        latency_us,
    }
}

/// Frames of as many records as a batch of the run has: full ones in a closed loop, and in an open one those that come
/// while a batch waits.
fn frames_like(workload: &Workload) -> Result<Frames, PerfError> {
    let batch_bytes = workload
        .batch_bytes
        .max(workload.record_size + BATCH_OVERHEAD_BYTES);
    let batch = Batch::build(
        workload.record_size as usize,
        batch_bytes,
        records_max(workload),
    )?;
    Ok(Frames::relay_for(&batch)?)
}

fn records_max(workload: &Workload) -> usize {
    match workload.rate {
        None => usize::MAX,
        Some(rate) => {
            let rate = rate as f64 / f64::from(workload.connections);
            ((rate * workload.linger_ms / 1e3) as usize).max(1)
        }
    }
}

fn pace(workload: &Workload, frames: &Frames) -> sender::Pace {
    match workload.rate {
        None => {
            let window = workload.in_flight_bytes * u64::from(workload.connections);
            let window = usize::try_from(window).unwrap_or(usize::MAX);
            sender::Pace::Closed {
                window_bytes: window.max(frames.frame_bytes()),
            }
        }
        Some(rate) => sender::Pace::Open {
            rate: rate as f64 / frames.records() as f64,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relay_gets_batches_as_the_run_sends_them() {
        let full = frames_like(&Workload::new(Kind::Produce)).unwrap();
        assert!((60..=66).contains(&full.records()), "{}", full.records());
        assert!(full.frame_bytes() > 60_000);
        let one = frames_like(&Workload::new(Kind::Latency)).unwrap();
        assert_eq!((one.records(), one.value_bytes()), (1, 1000));
        let gathered = Workload {
            rate: Some(40_000),
            connections: 2,
            linger_ms: 1.0,
            ..Workload::new(Kind::Produce)
        };
        assert_eq!(frames_like(&gathered).unwrap().records(), 20);
        let large = Workload {
            record_size: 200_000,
            ..Workload::new(Kind::Produce)
        };
        assert_eq!(frames_like(&large).unwrap().records(), 1);
    }

    #[test]
    fn the_relay_is_paced_as_the_run_is() {
        let closed = Workload {
            connections: 3,
            ..Workload::new(Kind::Produce)
        };
        let frames = frames_like(&closed).unwrap();
        let sender::Pace::Closed { window_bytes } = pace(&closed, &frames) else {
            panic!("a closed loop");
        };
        assert_eq!(window_bytes, 3 * (8 << 20));
        let open = Workload {
            rate: Some(40_000),
            linger_ms: 1.0,
            ..Workload::new(Kind::Produce)
        };
        let frames = frames_like(&open).unwrap();
        let sender::Pace::Open { rate } = pace(&open, &frames) else {
            panic!("an open loop");
        };
        assert_eq!(rate, 1000.0, "frames of 40 records");
    }
}
