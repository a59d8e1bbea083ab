//! `corelane topic`: one file per action.

mod add_partitions;
mod alter;
mod create;
mod delete;
mod delete_records;
mod describe;
mod list;

use clap::{Args, Subcommand};

use crate::failure::Failure;

#[derive(Debug, Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a topic
    Create(create::Arguments),
    /// List all topics
    List(list::Arguments),
    /// Show a topic's partitions and settings
    Describe(describe::Arguments),
    /// Change a topic's settings while it serves
    Alter(alter::Arguments),
    /// Give a topic more partitions
    AddPartitions(add_partitions::Arguments),
    /// Delete the oldest records of a partition
    DeleteRecords(delete_records::Arguments),
    /// Delete a topic and all its records
    Delete(delete::Arguments),
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.action {
        Action::Create(arguments) => create::run(arguments),
        Action::List(arguments) => list::run(&arguments),
        Action::Describe(arguments) => describe::run(&arguments),
        Action::Alter(arguments) => alter::run(arguments),
        Action::AddPartitions(arguments) => add_partitions::run(&arguments),
        Action::DeleteRecords(arguments) => delete_records::run(&arguments),
        Action::Delete(arguments) => delete::run(&arguments),
    }
}
