//! `corelane topic create`.

use clap::Args;
use corelane_client::NewTopic;
use corelane_protocol::ErrorCode;
use serde::Serialize;

use crate::command::{BrokerArguments, Format};
use crate::failure::Failure;
use crate::output::{json, line, units};
use crate::runtime::{block_on, connect};

#[derive(Debug, Args)]
#[command(after_help = "\
Settings, by Kafka's names:
  segment.bytes       size at which a segment file is closed, in bytes
  max.message.bytes   largest batch of records, in bytes
  flush.messages      acknowledge from memory, and flush at least after this many records
  flush.ms            acknowledge from memory, and flush at least after this many milliseconds
  compression.type    producer: batches are kept as they were sent, whatever their compression
  segment.ms          a segment file is closed so long after its first record
  retention.ms        records are deleted so long after the broker took them; -1: never
  retention.bytes     the oldest records of a partition beyond so many bytes are deleted; -1: none
  retention.guard     records that a named reader has not read: off, warn, or wait for it up to a cap
  retention.guard.readers    the names, separated by commas (see consume --reader)
  retention.guard.max.ms, retention.guard.max.bytes    the caps
  cleanup.policy      what happens to old records: delete them by the above (the default), compact (keep the
                      last record of each key for ever), or compact,delete
  min.compaction.lag.ms      a segment file is not compacted so long after its last record
  delete.retention.ms        a record without a value, which deletes its key, is kept for so long
  min.cleanable.dirty.ratio  from 0 to 1: how much of a partition must be new before it is compacted again
  message.timestamp.type
                      CreateTime, the producer's, or LogAppendTime, when the broker took the record
  message.timestamp.before.max.ms, message.timestamp.after.max.ms
                      how far a producer's time may be behind or ahead of the broker's clock
Without flush.messages and flush.ms, a record is acknowledged when it is durable. Topics that are compacted
refuse records without a key; only segment files that are closed (segment.ms, segment.bytes) are compacted.")]
pub(super) struct Arguments {
    /// The topic's name: letters, digits, '.', '_' and '-'
    name: String,

    /// Number of partitions
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    partitions: u32,

    /// A setting of the topic; may be repeated
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = parse_setting)]
    configs: Vec<(String, String)>,

    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Serialize)]
struct Created {
    name: String,
    id: String,
    partitions: u32,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments {
        name,
        partitions,
        configs,
        broker,
    } = arguments;
    let topic = NewTopic::new(&name, partitions);
    let topic = configs
        .into_iter()
        .fold(topic, |topic, (key, value)| topic.config(key, value));
    let id = block_on(async {
        let client = connect(&broker).await?;
        client
            .admin()
            .create_topic(topic)
            .await
            .map_err(|error| match error.code() {
                Some(ErrorCode::TopicExists) => Failure::with_advice(
                    format_args!("topic '{name}' exists already"),
                    format_args!(
                        "see it with `corelane topic describe {name}`, or choose another name"
                    ),
                ),
                _ => Failure::new(error),
            })
    })?;
    let printed = match broker.format {
        Format::Json => json::print(&Created {
            name,
            id: id.to_string(),
            partitions,
        }),
        Format::Table => {
            let noun = if partitions == 1 {
                "partition"
            } else {
                "partitions"
            };
            let partitions = units::count(partitions.into());
            line(format_args!(
                "created topic {name} with {partitions} {noun} ({id})"
            ))
        }
    };
    printed.map_err(|error| Failure::writing(&error))
}

pub(super) fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a setting has the form key=value".to_owned()),
    }
}
