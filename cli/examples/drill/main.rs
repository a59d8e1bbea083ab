//! Tries to break the promise on real input: every line of the file lists of all installed Debian
//! packages, keyed by package, goes through `corelane produce --receipts` while the broker is
//! killed, paused, cut off from power or damaged, or through producers whose connections are cut.
//! The checker then says whether every acknowledged line is there, in order, byte for byte.
//!
//! Run it by `scripts/crash_drill`, which builds it and says what it can do.

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/support/broker_process.rs"]
mod broker_process;
mod cuts;
mod cycles;
mod damage;
mod disk_reserve;
mod faults;
mod full_disk;
mod history;
mod input;
mod power;
mod proxy;
mod random;
mod reading;
mod stream;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use broker_process::Launcher;
use clap::{Parser, ValueEnum};

/// Tries to make a broker lose, change, repeat or reorder acknowledged records.
#[derive(Debug, Parser)]
#[command(name = "crash_drill", max_term_width = 100)]
pub(crate) struct Options {
    /// What is done to the broker
    #[arg(value_enum)]
    mode: Mode,

    /// How many times
    #[arg(long, default_value_t = 10)]
    cycles: u32,

    /// How many connections `cut` cuts; it kills the broker --cycles times between them
    #[arg(long, default_value_t = 2500, value_name = "N")]
    cuts: u64,

    /// The dice's seed; a random one is chosen and printed otherwise
    #[arg(long)]
    seed: Option<u64>,

    /// Produce at most this many lines
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    lines: usize,

    /// Produce the lists so many times over, each time with other values
    #[arg(long, default_value_t = 1, value_name = "N")]
    rounds: usize,

    /// Keep the data directory and the broker's log
    #[arg(long)]
    keep: bool,

    /// The corelane binary [default: the one built with this drill]
    #[arg(long, value_name = "PATH")]
    corelane: Option<PathBuf>,

    /// Where the drill may put its data; the filesystem must be on a disk
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    scratch: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// kill -9 and restart, in the middle of the stream
    Kill,
    /// Connections of several producers are cut at chosen moments, with kill -9 between
    Cut,
    /// SIGSTOP, wait, SIGCONT, sometimes killed while stopped
    Pause,
    /// Loss of power: a filesystem of its own is cut off hard and mounted again (needs root)
    Power,
    /// A filesystem of its own fills up, and has room again later (needs root)
    FullDisk,
    /// A filesystem of its own comes near its end under a broker that keeps a reserve (needs root)
    DiskReserve,
    /// Files truncated, bit-flipped and removed
    Damage,
}

/// The topic of a drill and how to reach it.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) corelane: PathBuf,
    pub(crate) broker: String,
    pub(crate) name: String,
}

/// Partitions of the drill's topic.
pub(crate) const PARTITIONS: u32 = 8;

/// Small files, so that a few MB of input roll segments and recycle journals many times.
pub(crate) const SETTINGS: [(&str, &str); 4] = [
    ("CORELANE_JOURNAL_FILE_BYTES", "8 MiB"),
    ("CORELANE_LIMITS_FRAME_BYTES_MAX", "1152 KiB"),
    ("CORELANE_LOG_MAX_MESSAGE_BYTES", "1 MiB"),
    ("CORELANE_LOG_SPILL_BYTES", "256 KiB"),
];
pub(crate) const TOPIC_SETTINGS: [&str; 1] = ["segment.bytes=1048576"];

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nDRILL FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let seed = options
        .seed
        .unwrap_or_else(|| u64::from(std::process::id()));
    let lines = input::package_file_lists(options.rounds, options.lines)?;
    println!(
        "{:?} drill: {} lines, seed {seed}",
        options.mode,
        lines.len()
    );
    let scratch = tempfile::Builder::new()
        .prefix("corelane-drill-")
        .disable_cleanup(options.keep)
        .tempdir_in(&options.scratch)
        .map_err(|error| format!("cannot use {}: {error}", options.scratch.display()))?;
    let corelane = corelane(options)?;
    let launcher = |data_dir: PathBuf| Launcher {
        corelane: corelane.clone(),
        data_dir,
        listen: "127.0.0.1:0".to_owned(),
        log: scratch.path().join("broker.log"),
        settings: SETTINGS
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
    };
    let random = random::Random::new(seed);
    let local = scratch.path().join("data");
    let outcome = match options.mode {
        Mode::Kill => {
            let fault = faults::Kill;
            cycles::run(launcher(local), fault, options.cycles, lines, random)
        }
        Mode::Cut => {
            let (cuts, kills) = (options.cuts, options.cycles);
            cuts::run(launcher(local), cuts, kills, lines, random)
        }
        Mode::Pause => {
            let fault = faults::Pause;
            cycles::run(launcher(local), fault, options.cycles, lines, random)
        }
        Mode::Power => power::Rig::build(scratch.path()).and_then(|rig| {
            let launcher = launcher(rig.data_dir());
            cycles::run(
                launcher,
                faults::PowerLoss(rig),
                options.cycles,
                lines,
                random,
            )
        }),
        Mode::FullDisk => full_disk::FullDisk::build(scratch.path()).and_then(|disk| {
            let launcher = launcher(disk.data_dir());
            cycles::run(launcher, disk, options.cycles, lines, random)
        }),
        Mode::DiskReserve => full_disk::FullDisk::build(scratch.path()).and_then(|disk| {
            let mut launcher = launcher(disk.data_dir());
            launcher.settings.push(disk_reserve::settings());
            let fault = disk_reserve::DiskReserve(disk);
            cycles::run(launcher, fault, options.cycles, lines, random)
        }),
        Mode::Damage => damage::run(&launcher(local), scratch.path(), lines, random),
    };
    if options.keep || outcome.is_err() {
        let kept = scratch.keep();
        println!("data and log are kept in {}", kept.display());
    }
    outcome
}

/// The binary that was built beside this one: `target/PROFILE/examples/drill` belongs to
/// `target/PROFILE/corelane`.
fn corelane(options: &Options) -> Result<PathBuf, String> {
    if let Some(path) = &options.corelane {
        return Ok(path.clone());
    }
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let built = this
        .parent()
        .and_then(Path::parent)
        .map(|profile| profile.join("corelane"));
    built.filter(|path| path.exists()).ok_or_else(|| {
        "corelane is not built beside this drill; use scripts/crash_drill".to_owned()
    })
}

/// Makes the drill's topic.
pub(crate) fn create_topic(corelane: &Path, broker: &str) -> Result<Topic, String> {
    let topic = Topic {
        corelane: corelane.to_owned(),
        broker: broker.to_owned(),
        name: "drill".to_owned(),
    };
    let mut command = Command::new(corelane);
    command
        .args(["topic", "create", &topic.name, "--broker", broker])
        .args(["--partitions", &PARTITIONS.to_string()]);
    for setting in TOPIC_SETTINGS {
        command.args(["--config", setting]);
    }
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(topic);
    }
    Err(format!(
        "cannot create the topic: {}",
        String::from_utf8_lossy(&output.stderr)
    ))
}
