//! `corelane serve`: reads the configuration, starts the broker on its cores, says `ready`, and
//! stops it on SIGTERM or SIGINT.

use std::io::{self, Write};
use std::process;
use std::thread;

use clap::Args;
use corelane_broker::config::{LogFormat, LogLevel, LoggingConfig};
use corelane_broker::runtime::{self, StartError};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::filter::LevelFilter;

use super::configuration::ConfigurationArguments;
use crate::failure::Failure;
use crate::output::log::LogLines;

#[derive(Debug, Args)]
#[command(after_help = "\
Every setting of the configuration file can also be given in the environment, as CORELANE_<KEY> or
CORELANE_<SECTION>_<KEY>. Flags override the environment, which overrides the file.

Prints `ready HOST:PORT` on standard output once clients are accepted; logs go to standard error.
SIGTERM or SIGINT stops it cleanly; the same signal again stops it at once.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    configuration: ConfigurationArguments,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = arguments.configuration.load()?;
    start_logging(&config.logging);

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
    writeln!(output, "ready {}", running.bootstrap())
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

/// A start that failed, with the way to learn more where it is the machine's fault.
fn refused(error: StartError) -> Failure {
    match error {
        StartError::DataDirectory { .. }
        | StartError::Kernel(_)
        | StartError::Cores(_)
        | StartError::Listen { .. }
        | StartError::Core { .. } => Failure::with_advice(
            error,
            "`corelane doctor`, with the same flags, says what this machine lacks",
        ),
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
