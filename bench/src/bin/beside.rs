//! `beside`: the broker and the relay in turns, and how far they are apart. See docs/performance.md.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use corelane_bench::beside::{InFlight, Settings, measure};
use corelane_bench::relay::Form;
use corelane_protocol::request::Acks;

/// Runs a broker and the relay in turns under the same load from a raw sender, and prints medians and ratios.
#[derive(Parser)]
#[command(name = "beside")]
struct Arguments {
    /// A broker that runs already [default: one is started on the first core].
    #[arg(long, value_name = "HOST:PORT")]
    broker: Option<SocketAddr>,
    /// That broker's process, for its lanes' own CPU time.
    #[arg(long, requires = "broker")]
    broker_pid: Option<u32>,
    /// Partitions of the topic; requests go to those of one core in turn.
    #[arg(long, default_value_t = 1)]
    partitions: u32,
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 1000)]
    record_bytes: usize,
    /// Bytes of a batch, at most.
    #[arg(long, default_value_t = 65_536)]
    batch_bytes: u32,
    /// Records of a batch, at most; 1 for a record a request.
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    batch_records: usize,
    /// Bytes in flight.
    #[arg(long, default_value_t = 8 << 20)]
    in_flight_bytes: usize,
    /// Requests in flight, instead of bytes.
    #[arg(long, conflicts_with = "in_flight_bytes")]
    in_flight: Option<usize>,
    /// Requests that are due each second, whatever is in flight (open loop).
    #[arg(long, conflicts_with_all = ["in_flight_bytes", "in_flight"])]
    rate: Option<f64>,
    /// When the broker answers.
    #[arg(long, value_enum, default_value_t = WhenToAnswer::All)]
    acks: WhenToAnswer,
    /// Rounds; figures are medians over them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measured seconds of each run.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seconds before that, which are not measured: a new broker may take its memory in them.
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// Forms of the relay.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Form::Recycled, Form::Fresh])]
    relay: Vec<Form>,
    /// Bytes of the relay's file whose blocks are written again.
    #[arg(long, default_value_t = 512 << 20)]
    recycled_bytes: u64,
    /// Bytes of the relay's file whose blocks are not; 0: enough.
    #[arg(long, default_value_t = 0)]
    fresh_bytes: u64,
    /// Directory to write in [default: TMPDIR, or /var/tmp].
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WhenToAnswer {
    /// From memory.
    #[value(name = "0")]
    None,
    /// When the leader has flushed it.
    #[value(name = "1")]
    Leader,
    /// When every in-sync replica has flushed it.
    All,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(settings) = settings(&arguments) else {
        eprintln!("beside: --seconds and --warm-up must be numbers from 0 on");
        return ExitCode::from(2);
    };
    let measured = measure(&settings, |name, round, run| {
        eprintln!(
            "round {}: {name}: {:.0} MB/s, {:.0} acks/s",
            round + 1,
            run.mb_s,
            run.acks_s
        );
    });
    match measured {
        Ok(report) => {
            match arguments.format {
                Format::Table => println!("{}", report.text()),
                Format::Json => {
                    let json = serde_json::to_string_pretty(&report);
                    println!("{}", json.expect("figures and names become JSON"));
                }
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("beside: {error}");
            ExitCode::FAILURE
        }
    }
}

fn settings(arguments: &Arguments) -> Option<Settings> {
    let pace = match (arguments.rate, arguments.in_flight) {
        (Some(rate), _) => InFlight::Rate(rate),
        (None, Some(count)) => InFlight::Requests(count),
        (None, None) => InFlight::Bytes(arguments.in_flight_bytes),
    };
    Some(Settings {
        broker: arguments
            .broker
            .map(|address| (address, arguments.broker_pid)),
        partitions: arguments.partitions,
        record_bytes: arguments.record_bytes,
        batch_bytes: arguments.batch_bytes,
        batch_records: arguments.batch_records,
        pace,
        acks: match arguments.acks {
            WhenToAnswer::None => Acks::None,
            WhenToAnswer::Leader => Acks::Leader,
            WhenToAnswer::All => Acks::All,
        },
        rounds: arguments.rounds,
        warm_up: Duration::try_from_secs_f64(arguments.warm_up).ok()?,
        duration: Duration::try_from_secs_f64(arguments.seconds).ok()?,
        forms: arguments.relay.clone(),
        recycled_bytes: arguments.recycled_bytes,
        fresh_bytes: arguments.fresh_bytes,
        settle: Duration::from_secs(3),
        directory: arguments.directory.clone(),
    })
}
