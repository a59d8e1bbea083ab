//! `corelane consume`: prints records, as fast as they come and as soon as they come.
//!
//! [`single`] reads partitions of one topic by itself; [`member`] shares the partitions of topics with
//! the other members of a consumer group. Both print by [`printer`].

mod member;
mod printer;
mod rebalance;
mod single;

use clap::Args;

use crate::command::{BrokerArguments, Format};
use crate::failure::Failure;
use crate::input::null_marker::NullMarker;
use crate::input::start::From;
use crate::output::print_format::PrintFormat;
use crate::runtime::block_on;

#[derive(Debug, Args)]
#[command(after_help = "\
FORMAT is printed for each record, with nothing appended:
  %t topic   %p partition   %o offset   %k key   %v value   %T time in ms since 1970
  \\n newline   \\t tab   %% percent sign   \\\\ backslash
`--print json` (or `--format json`) prints an object per line; bytes that are no UTF-8 appear there
as {\"base64\": \"…\"}, headers too, and null differs from empty. Records of one partition come in
order; partitions have no order among them.

A null value prints as nothing, or as the TEXT of --null-marker: give one that no value equals. JSON
has null for it either way. A null key prints as nothing outside of JSON.

With --group the partitions are shared with all who consume with that name, and where one ends or
is lost the others go on. What was written out is committed, and nothing else: after a crash some
records may be printed again, none is left out. Rebalances are told on standard error. --until-end
then ends once this member has read each partition that it holds up to the end that the partition
had when it got it. Ctrl-C and SIGTERM commit what was written out and leave the group.

Examples:
  corelane consume orders --until-end
  corelane consume orders --from -10 --partition 0 --print '%o %k: %v\\n'
  corelane consume orders --from @2026-01-31T08:00:00+01:00 --until-end
  corelane consume orders --from end --print json | jq .value
  corelane consume prices --until-end --print '%k=%v\\n' --null-marker NULL
  corelane consume orders payments --group billing
  corelane consume --pattern 'orders-.*' --group audit --from end --instance $HOSTNAME")]
pub(crate) struct Arguments {
    /// The topic's name; several with --group
    #[arg(value_name = "TOPIC", required_unless_present = "pattern")]
    topics: Vec<String>,

    /// Where to begin: start, end, an offset, -N for the last N records (of each partition), or @TIME
    /// for the first record at or after a time: 2026-01-31T08:00:00Z, or ms since 1970. With --group
    /// only where the group has committed nothing
    #[arg(
        long,
        value_name = "start|end|OFFSET|-N|@TIME",
        default_value = "start",
        allow_hyphen_values = true
    )]
    from: From,

    /// Read this partition only
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        conflicts_with = "group"
    )]
    partition: Option<u32>,

    /// Stop at what is the end now, instead of waiting for more
    #[arg(long)]
    until_end: bool,

    /// Stop after so many records
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max: Option<u64>,

    /// How each record is printed: a FORMAT, or json [default: the value and a newline]
    #[arg(long, value_name = "FORMAT|json")]
    print: Option<PrintFormat>,

    /// What a null value is printed as, outside of JSON; \t stands for a tab [default: nothing]
    #[arg(long, value_name = "TEXT")]
    null_marker: Option<NullMarker>,

    /// Report what was printed as read by the reader of this name, one of those in the topic's
    /// retention.guard.readers: retention then knows what it has read
    #[arg(long, value_name = "NAME", conflicts_with = "group")]
    reader: Option<String>,

    #[command(flatten)]
    group: GroupArguments,

    #[command(flatten)]
    broker: BrokerArguments,
}

/// What makes the command a member of a consumer group.
#[derive(Debug, Args)]
#[command(next_help_heading = "Consumer group")]
struct GroupArguments {
    /// Consume as a member of this group, and go on where the group has come to
    #[arg(id = "group", long = "group", value_name = "NAME")]
    name: Option<String>,

    /// Also consume all topics, of now and later, whose whole name matches
    #[arg(long, value_name = "REGEX", requires = "group")]
    pattern: Option<String>,

    /// The name under which this member is the same one when it comes back: until its session is over
    /// its partitions are kept for it
    #[arg(long, value_name = "NAME", requires = "group")]
    instance: Option<String>,

    /// How the group's partitions are dealt to its members: sticky, range, round-robin or cores
    /// [default: the broker's, sticky]
    #[arg(long, value_name = "NAME", requires = "group")]
    assignor: Option<String>,

    /// For how long the broker keeps the partitions for this member without hearing of it, in ms
    /// [default: 45000]
    #[arg(long, value_name = "MS", requires = "group")]
    session_timeout: Option<u64>,

    /// For how long printing may stand still (a pipe that nobody reads) before the partitions are given
    /// up, in ms [default: 300000]
    #[arg(long, value_name = "MS", requires = "group")]
    max_poll_interval: Option<u64>,
}

impl Arguments {
    /// How each record is printed.
    fn form(&self) -> PrintFormat {
        let form = match (&self.print, self.broker.format) {
            (Some(form), _) => form.clone(),
            (None, Format::Json) => PrintFormat::Json,
            (None, Format::Table) => PrintFormat::values_by_line(),
        };
        match &self.null_marker {
            Some(marker) => form.with_null_values_as(&marker.0),
            None => form,
        }
    }
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { topics, group, .. } = &arguments;
    if group.name.is_none() && topics.len() > 1 {
        return Err(Failure::Usage(format!(
            "{} topics are given, and only a member of a group consumes several: give --group NAME, or one topic",
            topics.len()
        )));
    }
    if arguments.max == Some(0) {
        return Ok(());
    }
    match arguments.group.name {
        Some(_) => block_on(member::consume(arguments)),
        None => block_on(single::consume(arguments)),
    }
}
