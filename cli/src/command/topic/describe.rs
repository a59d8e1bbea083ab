//! `corelane topic describe`.

use std::io;

use clap::Args;
use corelane_client::{ConfigEntry, PartitionDescription, PartitionState, TopicDescription};
use serde::Serialize;

use crate::command::{BrokerArguments, Format};
use crate::failure::Failure;
use crate::output::table::Column;
use crate::output::{json, line, table, units};
use crate::runtime::{block_on, connect, topic_failure};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The topic's name
    name: String,

    #[command(flatten)]
    broker: BrokerArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { name, broker } = arguments;
    let topic = block_on(async {
        let client = connect(broker).await?;
        let described = client.admin().describe_topics([name]).await;
        let topics = described.map_err(|error| topic_failure(name, &error))?;
        let topic = topics.into_iter().next();
        topic
            .ok_or_else(|| Failure::new(format_args!("the broker did not describe topic '{name}'")))
    })?;
    let printed = match broker.format {
        Format::Json => json::print(&Topic::from(topic)),
        Format::Table => print_tables(&topic),
    };
    printed.map_err(|error| Failure::writing(&error))
}

fn print_tables(topic: &TopicDescription) -> io::Result<()> {
    let records: u64 = topic.partitions.iter().map(records).sum();
    let size: u64 = topic
        .partitions
        .iter()
        .map(|partition| partition.size_bytes)
        .sum();
    line(format_args!("topic       {}", topic.name))?;
    line(format_args!("id          {}", topic.id))?;
    line(format_args!(
        "partitions  {}",
        units::count(topic.partitions.len() as u64)
    ))?;
    line(format_args!("records     {}", units::count(records)))?;
    line(format_args!("size        {}", units::bytes(size)))?;
    line(format_args!(""))?;

    let mut partitions = table::table(&[
        Column::Number("PARTITION"),
        Column::Number("CORE"),
        Column::Number("STORE"),
        Column::Number("EPOCH"),
        Column::Number("SINCE"),
        Column::Number("START"),
        Column::Number("HIGH WATERMARK"),
        Column::Number("END"),
        Column::Number("SIZE"),
        Column::Text("STATE"),
    ]);
    for partition in &topic.partitions {
        partitions.add_row([
            partition.partition.to_string(),
            partition.core.to_string(),
            partition.store.to_string(),
            partition.leader_epoch.to_string(),
            partition.epoch_start_offset.to_string(),
            partition.log_start_offset.to_string(),
            partition.high_watermark.to_string(),
            partition.log_end_offset.to_string(),
            units::bytes(partition.size_bytes),
            match &partition.state {
                PartitionState::Online if !partition.damage.is_empty() => "damaged".to_owned(),
                PartitionState::Online => "online".to_owned(),
                PartitionState::Failed(message) => format!("failed: {message}"),
            },
        ]);
    }
    table::print(&partitions)?;
    print_readers(topic)?;
    print_remarks(topic)?;
    if topic.configs.is_empty() {
        return Ok(());
    }
    line(format_args!(""))?;

    let columns = [
        Column::Text("SETTING"),
        Column::Text("VALUE"),
        Column::Text("SET BY"),
    ];
    let mut settings = table::table(&columns);
    for config in &topic.configs {
        let set_by = match &config.bounded_by {
            Some(bound) => format!("{}, bounded by {bound}", config.source),
            None => config.source.to_string(),
        };
        settings.add_row([&config.key, &config.value, &set_by]);
    }
    table::print(&settings)
}

/// The readers that the topic knows by name.
fn print_readers(topic: &TopicDescription) -> io::Result<()> {
    if topic
        .partitions
        .iter()
        .all(|partition| partition.readers.is_empty())
    {
        return Ok(());
    }
    line(format_args!(""))?;
    let mut readers = table::table(&[
        Column::Text("READER"),
        Column::Number("PARTITION"),
        Column::Number("POSITION"),
        Column::Number("LAG"),
        Column::Number("EXPIRED UNREAD"),
    ]);
    for partition in &topic.partitions {
        for reader in &partition.readers {
            readers.add_row([
                reader.name.clone(),
                partition.partition.to_string(),
                reader.position.to_string(),
                units::count(reader.lag),
                units::count(reader.expired_unread),
            ]);
        }
    }
    table::print(&readers)
}

/// What is worth a sentence of a partition: damage, and what a restart may have lost.
fn print_remarks(topic: &TopicDescription) -> io::Result<()> {
    let is_weak = topic.configs.iter().any(is_weak);
    let mut remarks = Vec::new();
    for partition in &topic.partitions {
        let number = partition.partition;
        remarks.extend(partition.damage.iter().map(|damage| {
            format!(
                "partition {number}: {damage}; a fetch of it is an error: restore the file from a copy, or seek past it"
            )
        }));
        if is_weak && partition.leader_epoch > 0 {
            let (epoch, since) = (partition.leader_epoch, partition.epoch_start_offset);
            remarks.push(format!(
                "partition {number}: epoch {epoch} began at offset {since} when the broker was started without having \
                 been stopped in order: records from there on that were acknowledged from memory before may be lost"
            ));
        }
    }
    if !remarks.is_empty() {
        line(format_args!(""))?;
    }
    remarks
        .iter()
        .try_for_each(|remark| line(format_args!("{remark}")))
}

/// Whether a setting lets records be acknowledged before they are flushed.
fn is_weak(config: &ConfigEntry) -> bool {
    match &*config.key {
        "flush.messages" => !matches!(&*config.value, "0" | "1"),
        "flush.ms" => config.value != "0",
        _ => false,
    }
}

/// Records that can be read.
fn records(partition: &PartitionDescription) -> u64 {
    partition
        .high_watermark
        .saturating_sub(partition.log_start_offset)
}

/// The stable form.
#[derive(Serialize)]
struct Topic {
    name: String,
    id: String,
    partitions: Vec<Partition>,
    configs: Vec<Config>,
}

#[derive(Serialize)]
struct Partition {
    partition: u32,
    core: u16,
    store: u16,
    leader_epoch: u32,
    /// Where the log ended when the leader epoch began.
    epoch_start_offset: u64,
    log_start_offset: u64,
    high_watermark: u64,
    log_end_offset: u64,
    size_bytes: u64,
    /// `online` or `failed`.
    state: &'static str,
    /// Why it failed.
    error: Option<String>,
    /// What of it is damaged, each with file and position.
    damage: Vec<String>,
    /// Those that the topic knows by name.
    readers: Vec<Reader>,
}

#[derive(Serialize)]
struct Reader {
    name: String,
    position: u64,
    lag: u64,
    expired_unread: u64,
}

#[derive(Serialize)]
struct Config {
    key: String,
    value: String,
    /// `topic`, `broker` or `default`.
    source: &'static str,
    /// The setting that makes the value less than was set.
    bounded_by: Option<String>,
}

impl From<TopicDescription> for Topic {
    fn from(topic: TopicDescription) -> Self {
        let configs = topic.configs.into_iter().map(|config| Config {
            key: config.key,
            value: config.value,
            source: config.source.as_str(),
            bounded_by: config.bounded_by,
        });
        Self {
            name: topic.name,
            id: topic.id.to_string(),
            partitions: topic.partitions.into_iter().map(Partition::from).collect(),
            configs: configs.collect(),
        }
    }
}

impl From<PartitionDescription> for Partition {
    fn from(partition: PartitionDescription) -> Self {
        let (state, error) = match partition.state {
            PartitionState::Online => ("online", None),
            PartitionState::Failed(message) => ("failed", Some(message)),
        };
        Self {
            partition: partition.partition,
            core: partition.core,
            store: partition.store,
            leader_epoch: partition.leader_epoch,
            epoch_start_offset: partition.epoch_start_offset,
            log_start_offset: partition.log_start_offset,
            high_watermark: partition.high_watermark,
            log_end_offset: partition.log_end_offset,
            size_bytes: partition.size_bytes,
            state,
            error,
            damage: partition.damage,
            readers: partition
                .readers
                .into_iter()
                .map(|reader| Reader {
                    name: reader.name,
                    position: reader.position,
                    lag: reader.lag,
                    expired_unread: reader.expired_unread,
                })
                .collect(),
        }
    }
}
