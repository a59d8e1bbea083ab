//! The one binary: parses the command line, runs a command, and turns its outcome into an exit
//! code: 0 done, 1 failed, 2 used wrongly.

#![deny(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "they end the program where nobody can read what it prints; see `output`"
)]

mod command;
mod failure;
mod input;
mod interrupt;
mod output;
mod runtime;
mod watch;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match command::run(command::CommandLine::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
