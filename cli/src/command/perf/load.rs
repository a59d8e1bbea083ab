//! The options of a load, and running it.

use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use clap::{Args, ValueEnum};
use corelane_perf::{
    Acks, Compression, Control, Kind, Options, Payload, PerfError, PerfResult, Session, Target,
    Workload, output,
};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::progress::Progress;
use super::report;
use crate::command::Format;
use crate::command::names::{AcksName, CompressionName};
use crate::failure::Failure;
use crate::output::{json, units};

#[derive(Debug, Args)]
#[command(after_help = "\
Without --broker a broker serves that is started on this machine's cores, with a temporary data
directory (in TMPDIR, or /var/tmp) and the settings of the environment (CORELANE_...); it and the
load share the cores. Numbers of bytes take units: 64KiB, 1MB.

The load goes on for a second (--warm-up) before anything is counted. Ctrl-C ends it in order and
reports what was measured so far. Exit code 0 says that no record failed.

With --out, result.json, report.html (a page with plots), latency.hlog (HdrHistogram's interval
log) and series.csv are written.
docs/load_generator.md says how each figure is counted.")]
pub(super) struct Arguments {
    #[command(flatten)]
    target: TargetArguments,

    #[command(flatten)]
    options: OptionArguments,

    /// Measure as well what this machine could do at most with the same bytes, half of it before
    /// the load and half after it; it takes three times as long
    #[arg(long)]
    with_limit: bool,

    #[command(flatten)]
    stages: StageArguments,

    #[command(flatten)]
    output: OutputArguments,
}

/// Which broker is measured.
#[derive(Debug, Args)]
pub(super) struct TargetArguments {
    /// Measure the broker with this address, instead of one of its own
    #[arg(long, value_name = "HOST:PORT")]
    broker: Option<String>,
}

/// Whether the broker is asked how long its stages take, and where.
#[derive(Debug, Args)]
pub(super) struct StageArguments {
    /// Show as well how long the broker's stages took while it was counted: queue, hop, journal wait, write
    /// and flush, reply
    #[arg(long)]
    pub(super) stages: bool,

    /// With --broker and --stages: that broker's admin endpoint (admin.listen)
    #[arg(long, value_name = "HOST:PORT", requires = "broker")]
    admin: Option<String>,
}

impl TargetArguments {
    /// The broker, with its admin endpoint if a load wants to know its stages.
    pub(super) fn target(self, admin: Option<String>, stages: bool) -> Result<Target, Failure> {
        let Some(broker) = self.broker else {
            return Ok(Target::Embedded { stages });
        };
        match (stages, &admin) {
            (true, None) => Err(Failure::Usage(
                "--stages are asked of the broker's admin endpoint, which --broker does not tell: name it with --admin \
                 HOST:PORT (its admin.listen, 127.0.0.1:9600 unless configured)"
                    .to_owned(),
            )),
            (false, Some(_)) => Err(Failure::Usage(
                "--admin is only asked for --stages: add --stages, or leave out --admin".to_owned(),
            )),
            _ => Ok(Target::Address { broker, admin }),
        }
    }
}

impl StageArguments {
    /// What it adds to the options of a load.
    pub(super) fn options(&self) -> Options {
        Options {
            stages: self.stages.then_some(true),
            ..Options::default()
        }
    }

    /// The admin endpoint.
    pub(super) fn into_admin(self) -> Option<String> {
        self.admin
    }
}

/// What is printed and written.
#[derive(Debug, Args)]
pub(super) struct OutputArguments {
    /// What is printed: tables for people, or JSON with stable keys for programs
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    pub(super) format: Format,

    /// Write the result's files into this directory
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
}

/// The options of a load.
#[derive(Debug, Args)]
pub(super) struct OptionArguments {
    /// The topic; made if it is absent. Default: one of its own, deleted afterwards
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,

    /// Partitions of the topic, 1 to 10,000; 4 if it is made and none is given
    #[arg(long, value_name = "N")]
    partitions: Option<u32>,

    /// Producers, and consumers, at the same time, 1 to 64, each with connections of its own
    #[arg(long, value_name = "N")]
    connections: Option<u32>,

    /// Size of each value; 1000 if none is given
    #[arg(long, value_name = "BYTES", value_parser = bytes_u32)]
    record_size: Option<u32>,

    /// Size at which a batch is full; 64 KiB if none is given
    #[arg(long, value_name = "BYTES", value_parser = bytes_u32)]
    batch_bytes: Option<u32>,

    /// What a producer may have sent without acknowledgement; 8 MiB if none is given
    #[arg(long, value_name = "BYTES", value_parser = bytes_u64)]
    in_flight_bytes: Option<u64>,

    /// How long a batch that is not full waits for company; 0 if none is given
    #[arg(long, value_name = "MS")]
    linger: Option<f64>,

    /// Records a second over all producers; without it produce is a closed loop, and latency and
    /// end-to-end take 5000. Of a sweep the first that is tried
    #[arg(long, value_name = "RECORDS_PER_S")]
    rate: Option<u64>,

    /// How long it is counted; 10 s if none is given
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,

    /// How long the load goes on before it is counted; 1 s if none is given
    #[arg(long, value_name = "SECONDS")]
    warm_up: Option<f64>,

    /// What to wait for: nothing, the leader's disk, or every in-sync replica's (the default)
    #[arg(long, value_enum, value_name = "A")]
    acks: Option<AcksName>,

    /// Give records one of so many keys, which decides the partition; none if not given
    #[arg(long, value_name = "N")]
    keys: Option<u32>,

    /// What values hold: random bytes (the default), zeros, or lines of a log
    #[arg(long, value_enum, value_name = "P")]
    payload: Option<PayloadName>,

    /// How batches are compressed; not at all if not given
    #[arg(long, value_enum, value_name = "C")]
    compression: Option<CompressionName>,

    /// Whether the broker knows batches again that are sent again; true if none is given
    #[arg(long, value_name = "true|false", hide_possible_values = true)]
    idempotent: Option<bool>,

    /// Bytes of values that consume fills a topic without records with; 256 MB if none is given
    #[arg(long, value_name = "BYTES", value_parser = bytes_u64)]
    fill_bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PayloadName {
    Random,
    Zeros,
    Text,
}

impl From<PayloadName> for Payload {
    fn from(name: PayloadName) -> Self {
        match name {
            PayloadName::Random => Self::Random,
            PayloadName::Zeros => Self::Zeros,
            PayloadName::Text => Self::Text,
        }
    }
}

fn bytes_u64(text: &str) -> Result<u64, String> {
    corelane_broker::config::parse_bytes(text)
}

fn bytes_u32(text: &str) -> Result<u32, String> {
    let bytes = bytes_u64(text)?;
    u32::try_from(bytes).map_err(|_| format!("it has to be less than {}", 1_u64 << 32))
}

impl OptionArguments {
    pub(super) fn options(&self) -> Options {
        Options {
            topic: self.topic.clone(),
            partitions: self.partitions,
            connections: self.connections,
            record_size: self.record_size,
            batch_bytes: self.batch_bytes,
            in_flight_bytes: self.in_flight_bytes,
            linger: self.linger,
            rate: self.rate,
            duration: self.duration,
            warm_up: self.warm_up,
            acks: self.acks.map(Acks::from),
            fill_bytes: self.fill_bytes,
            keys: self.keys,
            payload: self.payload.map(Payload::from),
            compression: self.compression.map(Compression::from),
            idempotent: self.idempotent,
            stages: None,
        }
    }
}

/// Runs a load from the command line to its report.
pub(super) fn run(kind: Kind, arguments: Arguments) -> Result<(), Failure> {
    let options = arguments.options.options();
    options.check(kind).map_err(failure)?;
    let workload = options.apply(Workload::new(kind));
    let workload = arguments.stages.options().apply(workload);
    workload.check().map_err(failure)?;
    let admin = arguments.stages.into_admin();
    let target = arguments.target.target(admin, workload.stages)?;
    let (format, out) = (arguments.output.format, arguments.output.out);
    if let Some(directory) = &out {
        output::prepare(directory).map_err(failure)?;
    }
    let with_limit = arguments.with_limit;
    let result = with_session(&target, |session, control, _| {
        if with_limit {
            corelane_perf::run_with_limit(session, &workload, control)
        } else {
            session.run(&workload, control)
        }
    })?;
    if let Some(directory) = &out {
        output::write(directory, &result).map_err(failure)?;
    }
    let printed = match format {
        Format::Json => json::print(&result),
        Format::Table => report::print(&result),
    };
    printed.map_err(|error| Failure::writing(&error))?;
    judge(&result)
}

/// Opens a session, does something with it, and closes it in order. Signals end what is done with it.
pub(super) fn with_session<T>(
    target: &Target,
    work: impl FnOnce(&Session, &mut Control<'_>, &Progress) -> Result<T, PerfError>,
) -> Result<T, Failure> {
    let stop = listen()?;
    let progress = Progress::start();
    progress.say(match target {
        Target::Embedded { .. } => "starting a broker",
        Target::Address { .. } => "connecting",
    });
    let session = Session::open(target);
    let session = session.inspect_err(|_| progress.clear()).map_err(failure)?;
    let mut control = Control {
        stop: &stop,
        observe: &mut |now| progress.show(now),
    };
    let outcome = work(&session, &mut control, &progress);
    progress.say("stopping");
    let closed = session.close();
    progress.clear();
    let outcome = outcome.map_err(failure)?;
    closed.map_err(failure)?;
    Ok(outcome)
}

/// Failed records make the command fail, after everything was printed.
pub(super) fn judge(result: &PerfResult) -> Result<(), Failure> {
    if result.errors == 0 {
        return Ok(());
    }
    let kinds = result.errors_by_kind.iter();
    let kinds = kinds.map(|(kind, count)| format!("{kind}: {}", units::count(*count)));
    let kinds: Vec<_> = kinds.collect();
    Err(Failure::new(format_args!(
        "{} records failed ({}); the first: {}",
        units::count(result.errors),
        kinds.join(", "),
        result.first_error.as_deref().unwrap_or("unknown")
    )))
}

pub(super) fn failure(error: PerfError) -> Failure {
    match error {
        PerfError::Workload(message) => Failure::Usage(message),
        PerfError::Client(corelane_client::Error::Connect { address, reason }) => {
            Failure::with_advice(
                format_args!("cannot connect to {address}: {reason}"),
                "start a broker with `corelane serve`, or leave out --broker to measure one of its own",
            )
        }
        error @ PerfError::Admin { .. } => Failure::with_advice(
            error,
            "name the admin.listen of the broker that is measured with --admin, or leave out --stages",
        ),
        PerfError::Client(corelane_client::Error::InvalidArgument(message)) => {
            Failure::Usage(message)
        }
        error => Failure::new(error),
    }
}

/// Becomes true when a signal asks for the end. A second one ends the program at once.
fn listen() -> Result<Arc<AtomicBool>, Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::new(format_args!("cannot wait for signals: {error}")))?;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    thread::spawn(move || {
        for signal in signals.forever() {
            if asked.swap(true, Ordering::Relaxed) {
                process::exit(128 + signal);
            }
        }
    });
    Ok(stop)
}
