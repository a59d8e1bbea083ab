//! `hostile`: what an innocent client feels of hostile ones. See docs/performance.md.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use corelane_bench::hostile::{Attack, Settings, measure};
use corelane_bench::{BenchError, child};

/// Measures how long an innocent client's durable records take, without and beside hostile clients.
#[derive(Parser)]
#[command(name = "hostile")]
struct Arguments {
    /// What is done to the broker [default: everything].
    #[arg(long, value_enum, value_delimiter = ',')]
    attacks: Vec<Attack>,
    /// Rounds of all attacks; figures are medians over them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measured seconds of each run.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Records a second of the innocent client.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Partitions that these go to in turn.
    #[arg(long, default_value_t = 16)]
    partitions: u32,
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
            eprintln!("hostile: {error}");
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
    let attacks = match &arguments.attacks[..] {
        [] => Attack::value_variants(),
        given => given,
    };
    let report = measure(&Settings {
        attacks: attacks.to_vec(),
        rounds: arguments.rounds,
        duration: seconds("--seconds", arguments.seconds)?,
        rate: arguments.rate,
        partitions: arguments.partitions,
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
