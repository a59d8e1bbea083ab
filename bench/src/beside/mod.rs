//! A broker beside the relay: the same bytes, batches, window and seconds, in turns, on the same two cores.
//!
//! Owns the rounds. In each round every contender runs once, and each round begins with the next one, so that
//! drift of the machine touches all alike.

mod report;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corelane_protocol::PartitionIndex;
use corelane_protocol::TopicId;
use corelane_protocol::request::Acks;

use crate::broker::{Control, Embedded, LANE_THREADS};
use crate::cpu::{self, Threads};
use crate::frames::{Batch, Frames};
use crate::machine::Machine;
use crate::relay::{self, Form, MEMORY_BYTES, Relay, THREAD};
use crate::sender::{Outcome, Pace, Peer, Plan, send};
use crate::{BenchError, scratch};

pub use report::{Contender, Load, Median, Ratio, Report};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A broker that runs already, and its process if its lanes' own CPU time is wanted; otherwise one is embedded.
    pub broker: Option<(SocketAddr, Option<u32>)>,
    /// Partitions of the topic.
    pub partitions: u32,
    /// Bytes of a record's value.
    pub record_bytes: usize,
    /// Bytes of a batch, at most.
    pub batch_bytes: u32,
    /// Records of a batch, at most.
    pub batch_records: usize,
    /// When frames are sent.
    pub pace: InFlight,
    /// When the broker answers.
    pub acks: Acks,
    /// Rounds.
    pub rounds: usize,
    /// Not measured, at the beginning of each run.
    pub warm_up: Duration,
    /// Measured time of each run.
    pub duration: Duration,
    /// Forms of the relay.
    pub forms: Vec<Form>,
    /// Bytes of the file that is gone over again and again.
    pub recycled_bytes: u64,
    /// Bytes of the file that is not; 0: enough.
    pub fresh_bytes: u64,
    /// How long, at most, the machine is left to end what it has begun before each run.
    pub settle: Duration,
    /// Where to write; `None`: `TMPDIR` or `/var/tmp`.
    pub directory: Option<PathBuf>,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum InFlight {
    /// So many bytes of frames are in flight.
    Bytes(usize),
    /// So many requests are in flight.
    Requests(usize),
    /// So many requests a second are due, whatever is in flight.
    Rate(f64),
}

impl InFlight {
    fn pace(self, frame_bytes: usize) -> Pace {
        match self {
            Self::Bytes(window_bytes) => Pace::Closed { window_bytes },
            Self::Requests(count) => Pace::Closed {
                window_bytes: count * frame_bytes,
            },
            Self::Rate(rate) => Pace::Open { rate },
        }
    }
}

/// Measures. `progress` is told of each run as it ends.
///
/// # Errors
/// Whatever kept a run from being made. Refused requests are counted instead.
pub fn measure(
    settings: &Settings,
    mut progress: impl FnMut(&str, usize, &Outcome),
) -> Result<Report, BenchError> {
    check(settings)?;
    let directory = scratch::directory(settings.directory.as_deref())?;
    let machine = Machine::look(directory.path());
    let (server_cpu, sender_cpu) = cpu::pair();
    let batch = Batch::build(
        settings.record_bytes,
        settings.batch_bytes,
        settings.batch_records,
    )?;
    let relays = prepare_relays(settings, directory.path(), server_cpu)?;
    let embedded = match settings.broker {
        None => Some(Embedded::start(Some(directory.path()), server_cpu)?),
        Some(_) => None,
    };
    let target = match (settings.broker, &embedded) {
        (Some((address, process)), _) => Target { address, process },
        (None, Some(embedded)) => Target {
            address: embedded.address(),
            process: Some(std::process::id()),
        },
        (None, None) => unreachable!("one of both is there"),
    };
    let mut rounds = Rounds {
        settings,
        sender_cpu,
        batch,
        relays,
        target,
        background: Vec::new(),
    };
    let names = rounds.names();
    let mut contenders: Vec<Contender> = names.iter().map(|name| Contender::new(name)).collect();
    for round in 0..settings.rounds {
        for turn in 0..names.len() {
            let index = (round + turn) % names.len();
            let outcome = rounds.run(index)?;
            progress(&names[index], round, &outcome);
            contenders[index].rounds.push(outcome);
        }
    }
    let load = rounds.load()?;
    let background = std::mem::take(&mut rounds.background);
    if let Some(embedded) = embedded {
        embedded.stop()?;
    }
    Ok(Report::new(machine, load, background, contenders))
}

fn check(settings: &Settings) -> Result<(), BenchError> {
    let problem = match settings.pace {
        _ if settings.rounds == 0 => "there must be at least one round",
        _ if settings.partitions == 0 => "there must be at least one partition",
        _ if settings.duration.is_zero() => "a run must take some time",
        InFlight::Rate(rate) if rate.is_nan() || rate <= 0.0 => "the rate must be more than 0",
        InFlight::Requests(0) => "at least one request must be in flight",
        _ => return Ok(()),
    };
    Err(BenchError::Settings(problem.into()))
}

fn prepare_relays(
    settings: &Settings,
    directory: &Path,
    cpu: usize,
) -> Result<Vec<Relay>, BenchError> {
    let seconds = (settings.warm_up + settings.duration).as_secs_f64() + 0.5;
    let relays = settings.forms.iter().map(|form| {
        let bytes = match (form, settings.fresh_bytes) {
            (Form::Recycled, _) => {
                settings.recycled_bytes / MEMORY_BYTES as u64 * MEMORY_BYTES as u64
            }
            (Form::Fresh, 0) => relay::fresh_bytes(directory, seconds)?,
            (Form::Fresh, bytes) => bytes,
        };
        Relay::prepare(*form, directory, bytes, cpu)
    });
    relays.collect()
}

struct Target {
    address: SocketAddr,
    process: Option<u32>,
}

struct Rounds<'a> {
    settings: &'a Settings,
    sender_cpu: usize,
    batch: Batch,
    relays: Vec<Relay>,
    target: Target,
    /// Cores that were busy before each run.
    background: Vec<f64>,
}

impl Rounds<'_> {
    /// The relays' names, then the broker's.
    fn names(&self) -> Vec<String> {
        let relays = self.relays.iter();
        let relays = relays.map(|relay| format!("relay, {}", relay.form().as_str()));
        relays.chain(["broker".to_owned()]).collect()
    }

    fn run(&mut self, index: usize) -> Result<Outcome, BenchError> {
        if index == self.relays.len() {
            return self.run_broker();
        }
        let relay = &self.relays[index];
        let mut frames = Frames::relay_for(&self.batch)?;
        let serving = relay.serve()?;
        self.background.push(cpu::settle(self.settings.settle));
        let threads = Threads::named(std::process::id(), THREAD);
        let plan = self.plan(Peer::Relay, serving.address(), frames.frame_bytes());
        let sent = send(&plan, &mut frames, &threads);
        // If the connection broke, the relay knows why.
        serving.finish()?;
        relay.clear();
        sent
    }

    /// Every run has a topic of its own, which is deleted afterwards: no run finds what another left.
    fn run_broker(&mut self) -> Result<Outcome, BenchError> {
        let name = format!("beside-{}", unique());
        let mut control = Control::connect(self.target.address)?;
        control.create_topic(&name, self.settings.partitions, None)?;
        let topic = control.core_topic(&name)?;
        let partitions = topic.partitions.iter().map(|partition| partition.get());
        let mut frames = self.frames(topic.id, partitions.collect())?;
        self.background.push(cpu::settle(self.settings.settle));
        let threads = self
            .target
            .process
            .map_or_else(Threads::default, |process| {
                Threads::named(process, LANE_THREADS)
            });
        let plan = self.plan(Peer::Broker, topic.address, frames.frame_bytes());
        let sent = send(&plan, &mut frames, &threads);
        control.delete_topic(&name)?;
        sent
    }

    fn frames(&self, topic: TopicId, partitions: Vec<u32>) -> Result<Frames, BenchError> {
        let partitions = partitions.into_iter().map(PartitionIndex::new).collect();
        Frames::produce(topic, partitions, &self.batch, self.settings.acks)
    }

    fn plan(&self, peer: Peer, address: SocketAddr, frame_bytes: usize) -> Plan {
        Plan {
            peer,
            address,
            pace: self.settings.pace.pace(frame_bytes),
            warm_up: self.settings.warm_up,
            duration: self.settings.duration,
            cpu: self.sender_cpu,
        }
    }

    fn load(&self) -> Result<Load, BenchError> {
        let frames = self.frames(TopicId::from_bytes([1; 16]), vec![0])?;
        let (in_flight_bytes, rate) = match self.settings.pace.pace(frames.frame_bytes()) {
            Pace::Closed { window_bytes } => (Some(window_bytes), None),
            Pace::Open { rate } => (None, Some(rate)),
        };
        Ok(Load {
            partitions: self.settings.partitions,
            record_bytes: self.settings.record_bytes,
            records_per_request: frames.records(),
            frame_bytes: frames.frame_bytes(),
            in_flight_bytes,
            rate,
            acks: self.settings.acks.as_i16(),
            rounds: self.settings.rounds,
            seconds: self.settings.duration.as_secs_f64(),
            is_embedded: self.settings.broker.is_none(),
        })
    }
}

/// A part of a topic's name that no other run uses.
#[expect(
    clippy::disallowed_methods,
    reason = "a broker that runs already may have topics of earlier measurements"
)]
fn unique() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
