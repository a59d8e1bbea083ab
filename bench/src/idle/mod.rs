//! What a broker holds and does for clients and partitions that do nothing.
//!
//! Owns the measurement: a broker in a process of its own, with a core on each of two CPUs, whose memory is read before
//! and after connections are opened, asked something, and partitions are made and written to. What the kernel holds for
//! sockets is not the process's memory, and not in the figures.

mod report;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use report::{Report, Step};

use crate::broker::Control;
use crate::child::Child;
use crate::frames::Batch;
use crate::machine::Machine;
use crate::{BenchError, cpu, open_files, scratch};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Connections that are opened, in turns to the ports of all cores.
    pub connections: usize,
    /// Partitions of one topic.
    pub partitions: u32,
    /// Time over which the idle broker is watched after each step.
    pub idle: Duration,
    /// How long, at most, the machine is left to end what it has begun after each step.
    pub settle: Duration,
    /// Where to write; `None`: `TMPDIR` or `/var/tmp`.
    pub directory: Option<PathBuf>,
}

/// Files that this process has open besides the connections.
const OTHER_FILES: u64 = 200;
/// What the segments of all partitions may reserve on the disk together, bytes.
const SEGMENTS_BYTES: u64 = 6 << 30;
/// Bytes of the record that each partition gets.
const RECORD_BYTES: usize = 100;
/// Partitions that are written to with one request.
const PARTITIONS_AT_ONCE: usize = 100;

/// Measures.
///
/// # Errors
/// Whatever kept a step from being made.
pub fn measure(settings: &Settings) -> Result<Report, BenchError> {
    if settings.connections == 0 || settings.partitions == 0 {
        let text = "there must be connections and partitions";
        return Err(BenchError::Settings(text.into()));
    }
    open_files::raise_limit(settings.connections as u64 + OTHER_FILES)?;
    let directory = scratch::directory(settings.directory.as_deref())?;
    let machine = Machine::look(directory.path());
    let (first, second) = cpu::pair();
    let cpus = if first == second {
        vec![first]
    } else {
        vec![first, second]
    };
    let steps = steps(settings, &directory.path().join("data"), &cpus)?;
    Ok(Report::new(machine, cpus.len(), steps))
}

fn steps(settings: &Settings, data: &Path, cpus: &[usize]) -> Result<Vec<Step>, BenchError> {
    let child = Child::start(data, cpus)?;
    let mut control = Control::connect(child.address())?;
    let ports = control.core_addresses()?;
    let mut steps = Vec::new();
    let mut look = |name: &'static str, count: usize| {
        cpu::settle(settings.settle);
        steps.push(Step {
            name,
            count,
            memory_bytes: child.memory_bytes(),
            idle_cpu_percent: child.cpu_percent(settings.idle),
        });
    };
    look("nothing", 0);
    let addresses = ports.iter().cycle().take(settings.connections);
    let mut connections: Vec<Control> =
        addresses.map(Control::connect).collect::<Result<_, _>>()?;
    look("connections, silent", connections.len());
    for connection in &mut connections {
        connection.core_addresses()?;
    }
    look("connections, each answered once", connections.len());
    let segment_bytes = (SEGMENTS_BYTES / u64::from(settings.partitions)).clamp(64 << 10, 1 << 30);
    control.create_topic("idle", settings.partitions, Some(segment_bytes))?;
    look("partitions, empty", settings.partitions as usize);
    let topic = control.core_topic("idle")?;
    let batch = Batch::build(RECORD_BYTES, 64 << 10, 1)?;
    for partitions in topic.partitions.chunks(PARTITIONS_AT_ONCE) {
        control.produce(topic.id, partitions, &batch)?;
    }
    look(
        "partitions of one core, a record in each",
        topic.partitions.len(),
    );
    drop(connections);
    look("connections closed", settings.connections);
    drop(control);
    child.stop()?;
    Ok(steps)
}
