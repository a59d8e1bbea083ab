//! Requests about topics, offsets, groups and the cluster.
//!
//! Owns: the public forms of topic listings and descriptions. Never: keeps state; each call asks.

mod commands;
mod groups;

use std::sync::Arc;

use corelane_protocol::request::{DescribeTopicsRequest, ListOffsetsEntry, OffsetPosition};
use corelane_protocol::response::{ConfigSource, ListedEntry, PartitionState};
use corelane_protocol::{
    ApiError, ApiKey, ErrorCode, PartitionIndex, Request, Response, Timestamp, TopicId,
    TopicPartition,
};

pub use self::commands::{DeleteUpTo, NewTopic, TopicAlteration};
pub use self::groups::{
    GroupDescription, GroupListing, GroupMemberDescription, GroupPartitionDescription,
};
use crate::cluster::{Cluster, Repeat};
use crate::connection::unexpected;
use crate::error::{Error, Result};
use crate::offsets;

/// Creates, changes, deletes and describes topics, asks for offsets, and looks after consumer groups.
#[derive(Debug, Clone)]
pub struct Admin {
    cluster: Arc<Cluster>,
}

/// A topic in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicListing {
    /// The name.
    pub name: String,
    /// The identity: a topic deleted and created again under one name has another.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: u32,
}

/// What the broker says of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// The name.
    pub name: String,
    /// The identity.
    pub id: TopicId,
    /// Its settings, and where each value comes from.
    pub configs: Vec<ConfigEntry>,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionDescription>,
}

/// One setting of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Who set it.
    pub source: ConfigSource,
    /// The setting that makes the value less than was set, if one does.
    pub bounded_by: Option<String>,
}

/// What the broker says of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    /// The index, from 0.
    pub partition: u32,
    /// The store that holds it.
    pub store: u16,
    /// The core that owns it.
    pub core: u16,
    /// The epoch of its leadership.
    pub leader_epoch: u32,
    /// The first offset that is kept.
    pub log_start_offset: u64,
    /// The first offset that consumers cannot read yet.
    pub high_watermark: u64,
    /// The offset of the next record.
    pub log_end_offset: u64,
    /// Its size on disk, in bytes.
    pub size_bytes: u64,
    /// Where the log ended when the leader epoch began. A broker that was not stopped in order begins a new one
    /// when it starts: records from there on that were acknowledged from memory before may be lost.
    pub epoch_start_offset: u64,
    /// Whether it can be used.
    pub state: PartitionState,
    /// Damage that costs only what it hit, the first few, each with file and position: reading that fails, what
    /// is around it can be read.
    pub damage: Vec<String>,
    /// The readers that the topic names (`retention.guard.readers`).
    pub readers: Vec<ReaderDescription>,
}

/// How far a named reader has come in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderDescription {
    /// Its name.
    pub name: String,
    /// The offset of the next record that it wants, as it reported it last; 0 if it never did.
    pub position: u64,
    /// Records that are there for it to read.
    pub lag: u64,
    /// Records that were deleted before it had come so far.
    pub expired_unread: u64,
}

/// Which offset of a partition to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first one that is kept.
    Earliest,
    /// The one that the next readable record will have (the high watermark).
    Latest,
    /// The first one at or after this time, in milliseconds since the Unix epoch.
    Timestamp(i64),
}

/// One answer of [`Admin::list_offsets`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetListing {
    /// The topic's name.
    pub topic: String,
    /// The partition's index.
    pub partition: u32,
    /// The offset asked for.
    pub offset: u64,
    /// The time of the record there, in milliseconds since the Unix epoch; -1 where the position
    /// asked for was not a time.
    pub timestamp_ms: i64,
    /// The leader epoch of the record there, or that the next record will have.
    pub leader_epoch: u32,
}

/// The brokers of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    /// The broker that decides about topics.
    pub controller: u32,
    /// All brokers.
    pub brokers: Vec<BrokerDescription>,
}

/// One broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerDescription {
    /// Its id.
    pub id: u32,
    /// Its bootstrap address, as `host:port`.
    pub address: String,
    /// The address of each core, as (core, `host:port`).
    pub cores: Vec<(u16, String)>,
}

impl Admin {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }

    /// All topics, in the order of their names.
    ///
    /// # Errors
    /// Connection errors after the request timeout.
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub async fn list_topics(&self) -> Result<Vec<TopicListing>> {
        let response = self.cluster.metadata(None).await?;
        let mut listings = Vec::with_capacity(response.topics.len());
        for topic in response.topics {
            let partitions = topic
                .result
                .map_err(|error| Error::refused(format!("topic {}", topic.name), error))?;
            listings.push(TopicListing {
                name: topic.name,
                id: partitions.id,
                partitions: partitions.partitions.len() as u32,
            });
        }
        listings.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(listings)
    }

    /// What the broker says of the named topics, in the order asked.
    ///
    /// # Errors
    /// `Refused` with `UnknownTopic` if one does not exist; connection errors after the request
    /// timeout.
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub async fn describe_topics<S: Into<String>>(
        &self,
        names: impl IntoIterator<Item = S>,
    ) -> Result<Vec<TopicDescription>> {
        self.describe(Some(names.into_iter().map(Into::into).collect()))
            .await
    }

    /// What the broker says of all topics, in the order of their names.
    ///
    /// # Errors
    /// Connection errors after the request timeout.
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub async fn describe_all_topics(&self) -> Result<Vec<TopicDescription>> {
        let mut topics = self.describe(None).await?;
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(topics)
    }

    async fn describe(&self, topics: Option<Vec<String>>) -> Result<Vec<TopicDescription>> {
        let request = Request::DescribeTopics(DescribeTopicsRequest { topics });
        let response = self
            .cluster
            .call(&request, Repeat::Safe, |frame, address| {
                let response = frame.decode(address)?;
                match response.map_err(|error| Error::refused("describe topics", error))? {
                    Response::DescribeTopics(response) => Ok(response),
                    _ => Err(unexpected(address, ApiKey::DescribeTopics)),
                }
            })
            .await?;
        let described = response.topics.into_iter().map(|topic| {
            let context = || format!("describe topic {}", topic.name);
            let result = topic
                .result
                .map_err(|error| Error::refused(context(), error))?;
            Ok(description(topic.name, result))
        });
        described.collect()
    }

    /// The offsets asked for, in the order asked, as (topic, partition, which offset).
    ///
    /// # Errors
    /// `Refused` for the first one that the broker refuses; connection errors after the request
    /// timeout.
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub async fn list_offsets<S: Into<String>>(
        &self,
        entries: impl IntoIterator<Item = (S, u32, OffsetSpec)>,
    ) -> Result<Vec<OffsetListing>> {
        let mut names = Vec::new();
        let mut asked = Vec::new();
        for (topic, partition, spec) in entries {
            let topic: String = topic.into();
            let id = self.cluster.topic(&topic).await?.id;
            let partition_index = PartitionIndex::new(partition);
            asked.push(ListOffsetsEntry {
                partition: TopicPartition::new(id, partition_index),
                position: match spec {
                    OffsetSpec::Earliest => OffsetPosition::Earliest,
                    OffsetSpec::Latest => OffsetPosition::Latest,
                    OffsetSpec::Timestamp(time) => OffsetPosition::Timestamp(Timestamp::new(time)),
                },
            });
            names.push((topic, partition));
        }
        let answers = offsets::list(&self.cluster, &asked).await?;
        let listings = names
            .into_iter()
            .zip(answers)
            .map(|((topic, partition), answer)| self.listing(topic, partition, answer));
        listings.collect()
    }

    fn listing(&self, topic: String, partition: u32, answer: ListedEntry) -> Result<OffsetListing> {
        let listed = answer.result.map_err(|error: ApiError| {
            if error.code == ErrorCode::UnknownTopic {
                self.cluster.forget(&topic);
            }
            Error::refused(format!("list offsets of {topic}-{partition}"), error)
        })?;
        Ok(OffsetListing {
            topic,
            partition,
            offset: listed.offset.get(),
            timestamp_ms: listed.timestamp.get(),
            leader_epoch: listed.leader_epoch.get(),
        })
    }

    /// The brokers and their addresses.
    ///
    /// # Errors
    /// Connection errors after the request timeout.
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription> {
        let response = self.cluster.metadata(Some(Vec::new())).await?;
        let brokers = response.brokers.iter().map(|broker| BrokerDescription {
            id: broker.id.get(),
            address: format!("{}:{}", broker.host, broker.port),
            cores: broker
                .cores
                .iter()
                .map(|core| (core.core.get(), core.to_string()))
                .collect(),
        });
        Ok(ClusterDescription {
            controller: response.controller.get(),
            brokers: brokers.collect(),
        })
    }
}

fn description(
    name: String,
    topic: corelane_protocol::response::TopicDescription,
) -> TopicDescription {
    let configs = topic.configs.into_iter().map(|config| ConfigEntry {
        key: config.key,
        value: config.value,
        source: config.source,
        bounded_by: config.bounded_by,
    });
    let partitions = topic
        .partitions
        .into_iter()
        .map(|partition| PartitionDescription {
            partition: partition.partition.get(),
            store: partition.store.get(),
            core: partition.core.get(),
            leader_epoch: partition.leader_epoch.get(),
            log_start_offset: partition.log_start_offset.get(),
            high_watermark: partition.high_watermark.get(),
            log_end_offset: partition.log_end_offset.get(),
            size_bytes: partition.size_bytes,
            epoch_start_offset: partition.epoch_start_offset.get(),
            state: partition.state,
            damage: partition.damage,
            readers: partition
                .readers
                .into_iter()
                .map(|reader| ReaderDescription {
                    lag: partition
                        .high_watermark
                        .get()
                        .saturating_sub(reader.position.max(partition.log_start_offset).get()),
                    name: reader.name,
                    position: reader.position.get(),
                    expired_unread: reader.expired_unread,
                })
                .collect(),
        });
    TopicDescription {
        name,
        id: topic.id,
        configs: configs.collect(),
        partitions: partitions.collect(),
    }
}
