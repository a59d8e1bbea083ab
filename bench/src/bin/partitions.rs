//! `partitions`: what few and many partitions cost. See docs/performance.md.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use corelane_bench::partitions::{Settings, measure};
use corelane_bench::{BenchError, child};

/// Measures the same load over few and many partitions, and what a broker with so many takes: memory, handles,
/// idle CPU, the time to make them, and the time to start again.
#[derive(Parser)]
#[command(name = "partitions")]
struct Arguments {
    /// Numbers of partitions; the first is what the others are held against.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 1000, 10_000])]
    counts: Vec<u32>,
    /// Rounds of each load; figures are medians over them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measured seconds of each run.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seconds over which an idle broker is watched.
    #[arg(long, default_value_t = 3.0)]
    idle_seconds: f64,
    /// What the segments of all partitions of a topic may reserve on the disk together, bytes: decides their
    /// segment.bytes. 0: the broker's default.
    #[arg(long, default_value_t = 6 << 30)]
    segments_bytes: u64,
    /// Seconds, at most, that the machine is left to calm down before each run.
    #[arg(long, default_value_t = 3.0)]
    settle_seconds: f64,
    /// Directory to write in [default: TMPDIR, or /var/tmp].
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Serve a broker in this directory until standard input ends: how this program starts itself.
    #[arg(long, hide = true)]
    serve: Option<PathBuf>,
    #[arg(long, hide = true, value_delimiter = ',')]
    serve_cpus: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("partitions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), BenchError> {
    if let Some(directory) = &arguments.serve {
        return child::serve(directory, &arguments.serve_cpus);
    }
    let seconds = |name: &str, seconds: f64| {
        let duration = Duration::try_from_secs_f64(seconds);
        duration.map_err(|error| BenchError::Settings(format!("{name}: {error}")))
    };
    let report = measure(&Settings {
        counts: arguments.counts.clone(),
        rounds: arguments.rounds,
        duration: seconds("--seconds", arguments.seconds)?,
        idle: seconds("--idle-seconds", arguments.idle_seconds)?,
        segments_bytes: Some(arguments.segments_bytes).filter(|bytes| *bytes > 0),
        settle: seconds("--settle-seconds", arguments.settle_seconds)?,
        directory: arguments.directory.clone(),
    })?;
    match arguments.format {
        Format::Table => println!("{}", report.text()),
        Format::Json => {
            let json = serde_json::to_string_pretty(&report);
            println!("{}", json.expect("figures and names become JSON"));
        }
    }
    Ok(())
}
