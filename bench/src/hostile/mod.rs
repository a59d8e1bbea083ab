//! What an innocent client feels of hostile ones.
//!
//! Owns the measurement: a broker in a process of its own on one CPU, and on the other a client that produces
//! durable records at a steady rate, without and with each attack, in turns.

mod attacks;
mod report;
mod requests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use corelane_protocol::request::Acks;
use serde::Serialize;

pub use attacks::Attack;
use attacks::{SLOW_CONNECTIONS, Target, under};
pub use report::{Report, Suffered};

use crate::broker::{Control, CoreTopic, LANE_THREADS};
use crate::child::Child;
use crate::cpu::{self, Threads};
use crate::frames::{Batch, Frames};
use crate::machine::Machine;
use crate::open_files;
use crate::sender::{Outcome, Pace, Peer, Plan, connect, send_over};
use crate::{BenchError, scratch};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is done to the broker beside [`Attack::Nobody`] and [`Attack::NoBroker`], which all are held against.
    pub attacks: Vec<Attack>,
    /// Rounds, each of which runs every attack once.
    pub rounds: usize,
    /// Measured time of each run.
    pub duration: Duration,
    /// Records a second of the innocent client.
    pub rate: f64,
    /// Partitions that these go to in turn.
    pub partitions: u32,
    /// How long, at most, the machine is left to calm down before each run.
    pub settle: Duration,
    /// Where to write; `None`: `TMPDIR` or `/var/tmp`.
    pub directory: Option<PathBuf>,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// What the innocent client felt.
    pub innocent: Outcome,
    /// What the attack did, a second: requests, connections or bytes.
    pub attack_steps_s: f64,
    /// The most memory that the broker ever held, bytes.
    pub memory_peak_bytes: u64,
    /// Cores that were busy just before.
    pub busy_before: f64,
}

/// Bytes of a record of the innocent client.
const RECORD_BYTES: usize = 1000;
/// Bytes of a batch of the topic that is fetched from, and how many it has.
const FULL_BATCH_BYTES: u32 = 512 << 10;
const FULL_BATCHES: usize = 128;
/// Partitions of the topics that are fetched from and flooded.
const HOSTILE_PARTITIONS: u32 = 4;
const WARM_UP: Duration = Duration::from_millis(500);

/// Measures.
///
/// # Errors
/// Whatever kept a run from being made. Refused requests of the innocent client are counted instead.
pub fn measure(settings: &Settings) -> Result<Report, BenchError> {
    if settings.rounds == 0 || settings.partitions == 0 {
        let text = "there must be rounds and partitions";
        return Err(BenchError::Settings(text.into()));
    }
    open_files::raise_limit(SLOW_CONNECTIONS as u64 + 500)?;
    let directory = scratch::directory(settings.directory.as_deref())?;
    let machine = Machine::look(directory.path());
    let given = settings.attacks.iter().copied();
    let given = given.filter(|attack| !matches!(attack, Attack::Nobody | Attack::NoBroker));
    let attacks: Vec<Attack> = [Attack::Nobody, Attack::NoBroker]
        .into_iter()
        .chain(given)
        .collect();
    let mut rounds = vec![Vec::new(); attacks.len()];
    for round in 0..settings.rounds {
        for turn in 0..attacks.len() {
            let index = (round + turn) % attacks.len();
            let data = directory.path().join("data");
            let outcome = run(settings, &data, attacks[index]);
            // What is left is removed with the directory.
            let _ = std::fs::remove_dir_all(&data);
            rounds[index].push(outcome?);
        }
    }
    Ok(Report::new(
        machine,
        settings,
        attacks.into_iter().zip(rounds),
    ))
}

/// One attack against a new broker: what an earlier one left to be written would burden the next.
fn run(settings: &Settings, data: &Path, attack: Attack) -> Result<Round, BenchError> {
    let (server_cpu, client_cpu) = cpu::pair();
    let child = Child::start(data, &[server_cpu])?;
    let mut control = Control::connect(child.address())?;
    let mut topic = |name, partitions| {
        control.create_topic(name, partitions, None)?;
        control.core_topic(name)
    };
    let innocent = topic("innocent", settings.partitions)?;
    let target = Target {
        full: topic("full", HOSTILE_PARTITIONS)?,
        flooded: topic("flooded", HOSTILE_PARTITIONS)?,
        cpu: client_cpu,
    };
    fill(&mut control, &target.full)?;
    let batch = Batch::build(RECORD_BYTES, 64 << 10, 1)?;
    let mut frames = Frames::produce(innocent.id, innocent.partitions, &batch, Acks::All)?;
    let plan = Plan {
        peer: Peer::Broker,
        address: innocent.address,
        pace: Pace::Open {
            rate: settings.rate,
        },
        warm_up: WARM_UP,
        duration: settings.duration,
        cpu: client_cpu,
    };
    let threads = Threads::named(child.id(), LANE_THREADS);
    let busy_before = cpu::settle(settings.settle);
    // The innocent client was there first: what a new one waits for among attackers is another question.
    let socket = connect(&plan)?;
    let (innocent, attack_steps_s) = under(attack, &target, || {
        send_over(socket, &plan, &mut frames, &threads)
    })?;
    let memory_peak_bytes = child.memory_peak_bytes();
    // A core that panicked makes this fail.
    child.stop()?;
    Ok(Round {
        innocent,
        attack_steps_s,
        memory_peak_bytes,
        busy_before,
    })
}

/// Fills a topic with something to fetch.
fn fill(control: &mut Control, topic: &CoreTopic) -> Result<(), BenchError> {
    let batch = Batch::build(RECORD_BYTES, FULL_BATCH_BYTES, usize::MAX)?;
    for partition in topic.partitions.iter().cycle().take(FULL_BATCHES) {
        control.produce(topic.id, std::slice::from_ref(partition), &batch)?;
    }
    Ok(())
}
