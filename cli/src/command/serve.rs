//! `corelane serve`: reads the configuration, starts the broker on its cores, says `ready`, and
//! stops it on SIGTERM or SIGINT.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process;
use std::thread;

use clap::Args;
use corelane_broker::config::{
    BrokerConfig, ConfigFile, ConfigSources, LogFormat, LogLevel, LoggingConfig,
};
use corelane_broker::runtime;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::filter::LevelFilter;

use crate::failure::Failure;

#[derive(Debug, Args)]
#[command(after_help = "\
Every setting of the configuration file can also be given in the environment, as CORELANE_<KEY> or
CORELANE_<SECTION>_<KEY>. Flags override the environment, which overrides the file.

Prints `ready HOST:PORT` on standard output once clients are accepted; logs go to standard error.
SIGTERM or SIGINT stops it cleanly; the same signal again stops it at once.")]
pub(crate) struct Arguments {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Directory that holds everything the broker keeps [default: corelane-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,

    /// Bootstrap address; port 0 picks a free one [default: 127.0.0.1:9500]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,

    /// Number of cores to run on, or a list of CPU numbers such as 0,2,3 [default: all]
    #[arg(long, value_name = "N|LIST")]
    cores: Option<String>,

    /// Accept clients beyond this machine although nobody is authenticated
    #[arg(long)]
    insecure: bool,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = configuration(arguments)?;
    start_logging(&config.logging);

    // Taken before the broker starts, so that a signal during a long recovery is not lost.
    let mut signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|error| Failure::new(format_args!("cannot wait for signals: {error}")))?;
    let running = runtime::serve(config).map_err(Failure::new)?;

    let shutdown = running.shutdown_handle();
    thread::spawn(move || {
        for (times, signal) in signals.forever().enumerate() {
            if times > 0 {
                process::exit(128 + signal);
            }
            tracing::info!(signal, "stopping");
            shutdown.shut_down();
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

fn configuration(arguments: Arguments) -> Result<BrokerConfig, Failure> {
    let file = arguments.config.map(read_file).transpose()?;
    let insecure = arguments.insecure.then(|| "true".to_owned());
    let flags = [
        ("--data-dir", "data_dir", arguments.data_dir),
        ("--listen", "listen", arguments.listen),
        ("--cores", "cores", arguments.cores),
        ("--insecure", "insecure", insecure),
    ];
    let flags = flags
        .into_iter()
        .filter_map(|(flag, key, value)| Some((flag, key, value?)));
    let sources = ConfigSources {
        file,
        // A name or value that is not Unicode can be no setting of ours.
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        flags: flags.collect(),
    };
    BrokerConfig::load(&sources).map_err(|error| Failure::Usage(format!("configuration: {error}")))
}

fn read_file(path: PathBuf) -> Result<ConfigFile, Failure> {
    let name = path.display().to_string();
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(ConfigFile { name, text }),
        Err(error) => Err(Failure::new(format_args!(
            "cannot read configuration {name}: {error}"
        ))),
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
        .with_writer(io::stderr)
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
