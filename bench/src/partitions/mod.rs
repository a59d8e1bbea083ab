//! What partitions cost: the same load over few and many, and what a broker with many of them takes and needs.
//!
//! Owns the measurement. The broker is a process of its own ([`crate::child`]), so that its memory, handles and CPU
//! are its own, and so that it can be killed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use corelane_protocol::request::Acks;
use serde::Serialize;

use crate::broker::{Control, LANE_THREADS};
use crate::child::Child;
use crate::clock::Clock;
use crate::cpu::{self, Threads};
use crate::frames::{Batch, Frames};
use crate::machine::Machine;
use crate::sender::{Outcome, Pace, Peer, Plan, send};
use crate::series::median;
use crate::table::{figure, table};
use crate::{BenchError, scratch};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Numbers of partitions; the first is what the others are held against.
    pub counts: Vec<u32>,
    /// Rounds of each load.
    pub rounds: usize,
    /// Measured time of each run.
    pub duration: Duration,
    /// Time over which an idle broker is watched.
    pub idle: Duration,
    /// What the segments of all partitions of a topic may reserve on the disk together, bytes; `None`: as the broker's
    /// defaults have it.
    pub segments_bytes: Option<u64>,
    /// How long, at most, the machine is left to end what it has begun before each run.
    pub settle: Duration,
    /// Where to write; `None`: `TMPDIR` or `/var/tmp`.
    pub directory: Option<PathBuf>,
}

/// A load that is spread over the partitions.
struct LoadKind {
    name: &'static str,
    batch_bytes: u32,
    batch_records: usize,
    in_flight_bytes: usize,
}

impl Settings {
    /// `segment.bytes` of a topic of so many partitions.
    fn segment_bytes(&self, partitions: u32) -> Option<u64> {
        /// The broker's bounds.
        const BOUNDS: (u64, u64) = (64 << 10, 1 << 30);
        let total = self.segments_bytes?;
        Some((total / u64::from(partitions)).clamp(BOUNDS.0, BOUNDS.1))
    }
}

/// Bytes of a record's value.
const RECORD_BYTES: usize = 1000;
/// Requests of the load of single records that are in flight.
const SINGLE_IN_FLIGHT: usize = 2000;

const LOADS: [LoadKind; 2] = [
    LoadKind {
        name: "one record a request, 2,000 in flight",
        batch_bytes: 65_536,
        batch_records: 1,
        in_flight_bytes: 0,
    },
    LoadKind {
        name: "16 KB batches, 64 MB in flight",
        batch_bytes: 16_384,
        batch_records: usize::MAX,
        in_flight_bytes: 64 << 20,
    },
];

/// What a broker with so many partitions takes and needs.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// Partitions, all of one topic.
    pub partitions: u32,
    /// Its `segment.bytes`, if that is not the broker's default.
    pub segment_bytes: Option<u64>,
    /// From the request that makes the topic to its answer, seconds.
    pub creation_s: f64,
    /// Resident memory of a broker with one core before, bytes.
    pub empty_memory_bytes: u64,
    /// What that grew by for each partition, none of which was written to, bytes.
    pub memory_bytes_per_partition: f64,
    /// Handles that the broker held before, and after.
    pub handles: (usize, usize),
    /// CPU of all the broker's threads while nothing happened, per cent of one core.
    pub idle_cpu_percent: f64,
    /// From the start of the process to the first accepted connection after an orderly end, seconds.
    pub clean_restart_s: f64,
    /// The same after a kill in the middle of the load of single records, seconds.
    pub crash_restart_s: f64,
    /// Resident memory after that load, bytes.
    pub loaded_memory_bytes: u64,
    /// Handles after that load.
    pub loaded_handles: usize,
}

/// One load over one number of partitions.
#[derive(Clone, Debug, Serialize)]
pub struct Spread {
    /// The load.
    pub load: &'static str,
    /// Partitions that the requests went to in turn.
    pub partitions: usize,
    /// One for each round.
    pub rounds: Vec<Outcome>,
    /// Median of 10^6 value bytes a second.
    pub mb_s: f64,
    /// Median of acknowledgements a second.
    pub acks_s: f64,
    /// Median CPU, the whole machine's less the sender's, nanoseconds per request.
    pub cpu_ns_per_ack: f64,
    /// Median within the rounds of the throughput against the first number of partitions.
    pub throughput_ratio: f64,
}

/// What was measured, on what.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Changes with the meaning of the other fields.
    pub version: u32,
    /// Where it was measured.
    pub machine: Machine,
    /// One for each number of partitions.
    pub costs: Vec<Cost>,
    /// One for each load and number of partitions.
    pub spreads: Vec<Spread>,
    /// Requests that were refused, not answered, or answered twice.
    pub errors: u64,
}

/// Measures.
///
/// # Errors
/// Whatever kept a run from being made. Refused requests are counted instead.
pub fn measure(settings: &Settings) -> Result<Report, BenchError> {
    if settings.counts.is_empty() || settings.counts.contains(&0) || settings.rounds == 0 {
        let text = "there must be rounds and numbers of partitions, none of them 0";
        return Err(BenchError::Settings(text.into()));
    }
    let directory = scratch::directory(settings.directory.as_deref())?;
    let machine = Machine::look(directory.path());
    let costs = settings.counts.iter().map(|count| {
        let data = directory.path().join(format!("cost-{count}"));
        let cost = cost(settings, &data, *count);
        // What is left is removed with the directory.
        let _ = std::fs::remove_dir_all(&data);
        cost
    });
    let costs: Vec<Cost> = costs.collect::<Result<_, _>>()?;
    let spreads = spread(settings, &directory.path().join("spread"))?;
    let runs = spreads.iter().flat_map(|spread| &spread.rounds);
    let errors = runs.map(|run| run.errors + run.unanswered + run.stray_answers);
    Ok(Report {
        version: 1,
        machine,
        errors: errors.sum(),
        costs,
        spreads,
    })
}

fn cost(settings: &Settings, data: &Path, partitions: u32) -> Result<Cost, BenchError> {
    let (server_cpu, sender_cpu) = cpu::pair();
    let child = Child::start(data, &[server_cpu])?;
    let (empty_memory_bytes, empty_handles) = (child.memory_bytes(), child.handles());
    let mut control = Control::connect(child.address())?;
    let clock = Clock::start();
    control.create_topic("cost", partitions, settings.segment_bytes(partitions))?;
    let creation_s = clock.elapsed().as_secs_f64();
    cpu::settle(settings.settle);
    let memory_bytes = child.memory_bytes();
    let handles = (empty_handles, child.handles());
    let idle_cpu_percent = child.cpu_percent(settings.idle);
    drop(control);
    child.stop()?;

    let clock = Clock::start();
    let child = Child::start(data, &[server_cpu])?;
    let mut control = Control::connect(child.address())?;
    let clean_restart_s = clock.elapsed().as_secs_f64();
    let run = Run {
        child: &child,
        sender_cpu,
        duration: settings.duration,
        settle: settings.settle,
    };
    run.send(&LOADS[0], &mut control, "cost")?;
    let (loaded_memory_bytes, loaded_handles) = (child.memory_bytes(), child.handles());
    child.kill()?;

    let clock = Clock::start();
    let child = Child::start(data, &[server_cpu])?;
    Control::connect(child.address())?;
    let crash_restart_s = clock.elapsed().as_secs_f64();
    child.stop()?;
    let growth = memory_bytes.saturating_sub(empty_memory_bytes);
    Ok(Cost {
        partitions,
        segment_bytes: settings.segment_bytes(partitions),
        creation_s,
        empty_memory_bytes,
        memory_bytes_per_partition: growth as f64 / f64::from(partitions),
        handles,
        idle_cpu_percent,
        clean_restart_s,
        crash_restart_s,
        loaded_memory_bytes,
        loaded_handles,
    })
}

/// All numbers of partitions in turns, each run with a broker of its own: what a load over many partitions leaves to be
/// written to segments would burden the next one.
fn spread(settings: &Settings, data: &Path) -> Result<Vec<Spread>, BenchError> {
    let mut spreads = Vec::new();
    for load in &LOADS {
        let mut rounds = vec![Vec::new(); settings.counts.len()];
        for round in 0..settings.rounds {
            for turn in 0..settings.counts.len() {
                let index = (round + turn) % settings.counts.len();
                let outcome = spread_once(settings, data, load, settings.counts[index]);
                // What is left is removed with the directory above.
                let _ = std::fs::remove_dir_all(data);
                rounds[index].push(outcome?);
            }
        }
        spreads.extend(sum_up(load.name, &settings.counts, rounds));
    }
    Ok(spreads)
}

fn spread_once(
    settings: &Settings,
    data: &Path,
    load: &LoadKind,
    partitions: u32,
) -> Result<Outcome, BenchError> {
    let (server_cpu, sender_cpu) = cpu::pair();
    let child = Child::start(data, &[server_cpu])?;
    let mut control = Control::connect(child.address())?;
    control.create_topic("spread", partitions, settings.segment_bytes(partitions))?;
    let run = Run {
        child: &child,
        sender_cpu,
        duration: settings.duration,
        settle: settings.settle,
    };
    let outcome = run.send(load, &mut control, "spread");
    child.kill()?;
    outcome
}

fn sum_up(
    load: &'static str,
    counts: &[u32],
    rounds: Vec<Vec<Outcome>>,
) -> impl Iterator<Item = Spread> {
    let reference: Vec<f64> = rounds[0].iter().map(|outcome| outcome.mb_s).collect();
    let of_counts = counts.iter().copied().zip(rounds);
    of_counts.map(move |(partitions, rounds)| {
        let of = |figure: fn(&Outcome) -> f64| median(rounds.iter().map(figure));
        let ratios = rounds.iter().zip(&reference);
        Spread {
            load,
            partitions: partitions as usize,
            mb_s: of(|outcome| outcome.mb_s),
            acks_s: of(|outcome| outcome.acks_s),
            cpu_ns_per_ack: of(|outcome| outcome.cpu_ns_per_ack),
            throughput_ratio: median(ratios.map(|(outcome, first)| outcome.mb_s / first)),
            rounds,
        }
    })
}

struct Run<'a> {
    child: &'a Child,
    sender_cpu: usize,
    duration: Duration,
    settle: Duration,
}

impl Run<'_> {
    fn send(
        &self,
        load: &LoadKind,
        control: &mut Control,
        topic: &str,
    ) -> Result<Outcome, BenchError> {
        let batch = Batch::build(RECORD_BYTES, load.batch_bytes, load.batch_records)?;
        let topic = control.core_topic(topic)?;
        let mut frames = Frames::produce(topic.id, topic.partitions, &batch, Acks::All)?;
        cpu::settle(self.settle);
        let window_bytes = match load.in_flight_bytes {
            0 => SINGLE_IN_FLIGHT * frames.frame_bytes(),
            bytes => bytes,
        };
        let plan = Plan {
            peer: Peer::Broker,
            address: topic.address,
            pace: Pace::Closed { window_bytes },
            warm_up: Duration::from_millis(500),
            duration: self.duration,
            cpu: self.sender_cpu,
        };
        let threads = Threads::named(self.child.id(), LANE_THREADS);
        send(&plan, &mut frames, &threads)
    }
}

impl Report {
    /// As tables for people.
    #[must_use]
    pub fn text(&self) -> String {
        let headings = [
            "partitions",
            "creation s",
            "memory B each",
            "handles",
            "idle CPU %",
            "clean restart s",
            "crash restart s",
            "memory loaded MB",
            "handles loaded",
        ];
        let mut costs = table(&headings);
        for cost in &self.costs {
            costs.add_row([
                cost.partitions.to_string(),
                figure(cost.creation_s),
                figure(cost.memory_bytes_per_partition),
                format!(
                    "{} + {}",
                    cost.handles.0,
                    cost.handles.1 - cost.handles.0.min(cost.handles.1)
                ),
                figure(cost.idle_cpu_percent),
                figure(cost.clean_restart_s),
                figure(cost.crash_restart_s),
                figure(cost.loaded_memory_bytes as f64 / 1e6),
                cost.loaded_handles.to_string(),
            ]);
        }
        let headings = [
            "load",
            "partitions",
            "MB/s",
            "acks/s",
            "CPU ns/ack",
            "against the first",
        ];
        let mut spreads = table(&headings);
        for spread in &self.spreads {
            spreads.add_row([
                spread.load.to_owned(),
                spread.partitions.to_string(),
                figure(spread.mb_s),
                figure(spread.acks_s),
                figure(spread.cpu_ns_per_ack),
                format!("{:.2} ×", spread.throughput_ratio),
            ]);
        }
        let machine = self.machine.line();
        format!(
            "{machine}\n\n{costs}\n\n{spreads}\n\nerrors: {}",
            self.errors
        )
    }
}
