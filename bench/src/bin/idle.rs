//! `idle`: what clients and partitions that do nothing cost. See docs/performance.md.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use corelane_bench::idle::{Settings, measure};
use corelane_bench::{BenchError, child};

/// Measures the memory of each idle connection and partition, and the CPU of a broker that has nothing to do.
#[derive(Parser)]
#[command(name = "idle")]
struct Arguments {
    /// Connections.
    #[arg(long, default_value_t = 5000)]
    connections: usize,
    /// Partitions.
    #[arg(long, default_value_t = 10_000)]
    partitions: u32,
    /// Seconds over which the idle broker is watched after each step.
    #[arg(long, default_value_t = 5.0)]
    idle_seconds: f64,
    /// Seconds, at most, that the machine is left to calm down after each step.
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
            eprintln!("idle: {error}");
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
        connections: arguments.connections,
        partitions: arguments.partitions,
        idle: seconds("--idle-seconds", arguments.idle_seconds)?,
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
