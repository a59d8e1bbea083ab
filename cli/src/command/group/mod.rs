//! `corelane group`: one file per action.

mod delete;
mod describe;
mod list;
mod plan;
mod reset_offsets;

use clap::{Args, Subcommand};
use corelane_client::Error;
use corelane_protocol::ErrorCode;

use crate::failure::Failure;

#[derive(Debug, Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all consumer groups
    List(list::Arguments),
    /// Show a group's members, and how far it has come in each partition
    Describe(describe::Arguments),
    /// Set from where a group without members goes on
    ResetOffsets(reset_offsets::Arguments),
    /// Forget a group without members, and how far it has come
    Delete(delete::Arguments),
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.action {
        Action::List(arguments) => list::run(&arguments),
        Action::Describe(arguments) => describe::run(&arguments),
        Action::ResetOffsets(arguments) => reset_offsets::run(&arguments),
        Action::Delete(arguments) => delete::run(&arguments),
    }
}

/// A failure of a request about one group.
fn group_failure(group: &str, error: &Error) -> Failure {
    match error.code() {
        Some(ErrorCode::UnknownGroup) => Failure::with_advice(
            format_args!("there is no group '{group}'"),
            "see all with `corelane group list`; a group appears with its first member or offset",
        ),
        Some(ErrorCode::GroupNotEmpty) => has_members(group),
        _ => Failure::new(error),
    }
}

/// The group has members, and must not.
fn has_members(group: &str) -> Failure {
    Failure::with_advice(
        format_args!("group '{group}' has members"),
        format_args!(
            "stop them first, or wait until their sessions are over; `corelane group describe {group}` shows them"
        ),
    )
}
