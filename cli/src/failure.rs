//! How a command fails: what happened, why, and what to do, in words for a person.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use corelane_broker::config::{ConfigError, Origin};

use crate::output::say;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was tried and did not work.
    Failed {
        /// What did not work, and why.
        message: String,
        /// What to do about it, where that is known and the message does not say so.
        advice: Option<String>,
    },
    /// The command line asks for something impossible that only the command itself could notice.
    Usage(String),
    /// A setting cannot be used, wherever it was written.
    Configuration {
        /// Which, where, and why.
        message: String,
        /// Whether it was a flag, which `--help` explains.
        is_flag: bool,
    },
    /// Everything has been said already; only the exit code is left.
    Reported,
    /// A signal ended it in order, and everything has been said.
    Interrupted(i32),
    /// Whoever read our output has gone: end quietly.
    BrokenPipe,
}

impl Failure {
    pub(crate) fn new(message: impl Display) -> Self {
        Self::Failed {
            message: message.to_string(),
            advice: None,
        }
    }

    pub(crate) fn with_advice(message: impl Display, advice: impl Display) -> Self {
        Self::Failed {
            message: message.to_string(),
            advice: Some(advice.to_string()),
        }
    }

    pub(crate) fn configuration(error: ConfigError) -> Self {
        Self::Configuration {
            is_flag: matches!(error.origin, Origin::Flag(_)),
            message: error.to_string(),
        }
    }

    /// A failure to write to standard output.
    pub(crate) fn writing(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::BrokenPipe;
        }
        Self::new(format_args!("cannot write to standard output: {error}"))
    }

    /// Prints it and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Failed { message, advice } => {
                say(format_args!("error: {message}"));
                if let Some(advice) = advice {
                    say(format_args!("  help: {advice}"));
                }
                ExitCode::from(1)
            }
            Self::Usage(message) => {
                say(format_args!(
                    "error: {message}\n\nFor more information, try '--help'."
                ));
                ExitCode::from(2)
            }
            Self::Configuration { message, is_flag } => {
                say(format_args!("error: configuration: {message}"));
                say(format_args!(
                    "\nFor more information, {}.",
                    if is_flag {
                        "try '--help'"
                    } else {
                        "see docs/corelane.example.toml: every setting with its unit and default"
                    }
                ));
                ExitCode::from(2)
            }
            Self::Reported => ExitCode::from(1),
            // As a shell says of a program that a signal ended.
            Self::Interrupted(signal) => ExitCode::from(128 + u8::try_from(signal).unwrap_or(0)),
            Self::BrokenPipe => ExitCode::SUCCESS,
        }
    }
}
