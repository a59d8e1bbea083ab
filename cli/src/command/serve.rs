//! `corelane serve`: reads the configuration, starts the broker on its cores, says `ready`, and
//! stops it on SIGTERM or SIGINT.

use std::io::{self, Write};
use std::path::Path;
use std::process;
use std::thread;

use clap::Args;
use corelane_broker::config::{LogFormat, LogLevel, LoggingConfig};
use corelane_broker::runtime::{self, StartError};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::filter::LevelFilter;

use super::configuration::ConfigurationArguments;
use super::data_dir::foreign_entry;
use crate::failure::Failure;
use crate::output::log::LogLines;

#[derive(Debug, Args)]
#[command(after_help = "\
Every setting of the configuration file can also be given in the environment, as CORELANE_<KEY> or
CORELANE_<SECTION>_<KEY>. Flags override the environment, which overrides the file.

Prints `ready HOST:PORT admin HOST:PORT` on standard output once clients are accepted, the second address
being that of metrics and health; logs go to standard error.
SIGTERM or SIGINT stops it cleanly; the same signal again stops it at once.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    configuration: ConfigurationArguments,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = arguments.configuration.load()?;
    start_logging(&config.logging);

    refuse_foreign(&config.server.data_dir)?;
    // Taken before the broker starts, so that a signal during a long recovery is not lost.
    let mut signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|error| Failure::new(format_args!("cannot wait for signals: {error}")))?;
    let running = runtime::serve(config).map_err(refused)?;

    let shutdown = running.shutdown_handle();
    thread::spawn(move || {
        for (times, signal) in signals.forever().enumerate() {
            if times > 0 {
                process::exit(128 + signal);
            }
            shutdown.shut_down();
            tracing::info!(signal, "stopping");
        }
    });

    let mut output = io::stdout().lock();
    let admin = running.admin();
    let admin = admin.map(|address| format!(" admin {address}"));
    let admin = admin.unwrap_or_default();
    writeln!(output, "ready {}{admin}", running.bootstrap())
        .and_then(|()| output.flush())
        .map_err(|error| Failure::writing(&error))?;
    drop(output);

    running.join().map_err(|problems| {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Failure::with_advice(
            format_args!("the broker did not end in order: {}", problems.join("; ")),
            "what was acknowledged is safe; the next start recovers it",
        )
    })
}

/// Refuses a directory that holds something else: a mistyped name must not fill it with ours.
fn refuse_foreign(data_dir: &Path) -> Result<(), Failure> {
    let Some(name) = foreign_entry(data_dir) else {
        return Ok(());
    };
    Err(Failure::with_advice(
        format_args!(
            "{} is no data directory, and not empty: it holds '{name}'",
            data_dir.display()
        ),
        "give an empty directory, one that does not exist yet, or one that a broker has made (--data-dir)",
    ))
}

/// A start that failed, with what to do about it where it is the machine's fault.
fn refused(error: StartError) -> Failure {
    const DOCTOR: &str = "`corelane doctor`, with the same flags, says what this machine lacks";
    match error {
        StartError::Listen { ref source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
            Failure::with_advice(
                error,
                "is another broker running? Choose another address with --listen (port 0 picks a free one)",
            )
        }
        StartError::AdminListen { ref source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
            Failure::with_advice(
                error,
                "is another broker running? Choose another address with --admin-listen (port 0 picks a free one, off \
                 turns it off)",
            )
        }
        StartError::DataDirectory { ref path, .. } => {
            let mut above = path.ancestors();
            match above.find(|above| above.exists()) {
                Some(above) if !above.is_dir() => {
                    Failure::new(format_args!("{} is not a directory", above.display()))
                }
                Some(above) => {
                    let advice = format!("check owner and mode of {}", above.display());
                    Failure::with_advice(error, advice)
                }
                None => Failure::with_advice(error, "check owner and mode of this directory"),
            }
        }
        StartError::Kernel(_)
        | StartError::Cores(_)
        | StartError::Listen { .. }
        | StartError::AdminListen { .. }
        | StartError::Core { .. } => Failure::with_advice(error, DOCTOR),
        _ => Failure::new(error),
    }
}

fn start_logging(logging: &LoggingConfig) {
    let level = match logging.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_writer(LogLines)
        .log_internal_errors(false)
        .with_max_level(level)
        .with_target(false);
    match logging.format {
        LogFormat::Json => subscriber.json().init(),
        LogFormat::Text => {
            subscriber
                .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
                .init();
        }
    }
}
