//! What changes topics: each call is one command for the controller.
//!
//! Owns: the public forms of what is asked for. Never: repeats a command whose outcome is unknown.

use corelane_protocol::request::{
    AlterTopicConfigsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteBefore,
    DeleteRecordsEntry, DeleteRecordsRequest, DeleteTopicsRequest, TopicExtension,
};
use corelane_protocol::{
    ApiError, ApiKey, ErrorCode, Offset, PartitionIndex, Request, Response, TopicId,
    TopicPartition, request,
};

use super::Admin;
use crate::cluster::Repeat;
use crate::connection::unexpected;
use crate::error::{Error, Result};
use crate::reports::{Position, report};

/// A topic to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    name: String,
    partitions: u32,
    configs: Vec<(String, String)>,
}

impl NewTopic {
    /// A topic with this many partitions and the broker's default settings.
    pub fn new(name: impl Into<String>, partitions: u32) -> Self {
        Self {
            name: name.into(),
            partitions,
            configs: Vec::new(),
        }
    }

    /// Sets a topic setting, by Kafka's name (`retention.ms`, `segment.bytes`, `flush.ms` …).
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.push((key.into(), value.into()));
        self
    }
}

/// A change of a topic's settings: all of it happens, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicAlteration {
    name: String,
    set: Vec<(String, String)>,
    unset: Vec<String>,
}

impl TopicAlteration {
    /// A change of this topic, of nothing yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            set: Vec::new(),
            unset: Vec::new(),
        }
    }

    /// Gives a setting a value of the topic's own, by Kafka's name.
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.set.push((key.into(), value.into()));
        self
    }

    /// Lets a setting follow the broker's configuration again.
    pub fn unset(mut self, key: impl Into<String>) -> Self {
        self.unset.push(key.into());
        self
    }
}

/// Up to where records are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteUpTo {
    /// Everything before this offset.
    Offset(u64),
    /// Everything that can be read when the broker does it.
    End,
}

impl Admin {
    /// Creates a topic; it can be used once this returns.
    ///
    /// # Errors
    /// `Refused` with `TopicExists`, `InvalidTopicName`, `InvalidPartitions`, `InvalidConfig` or
    /// `TopicLimit`; a lost connection leaves it unknown whether the topic was created.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the topic created.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<TopicId> {
        self.create(topic, false).await
    }

    /// Checks whether a topic could be created, and creates nothing.
    ///
    /// # Errors
    /// As [`Admin::create_topic`].
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub async fn validate_topic(&self, topic: NewTopic) -> Result<()> {
        self.create(topic, true).await.map(drop)
    }

    async fn create(&self, topic: NewTopic, validate_only: bool) -> Result<TopicId> {
        let name = topic.name.clone();
        let request = Request::CreateTopics(CreateTopicsRequest {
            topics: vec![request::NewTopic {
                name: topic.name,
                partitions: topic.partitions,
                configs: topic.configs,
            }],
            validate_only,
        });
        self.command(&format!("create topic {name}"), &name, &request)
            .await
    }

    /// Changes a topic's settings; they apply to every partition once this returns, without a restart.
    ///
    /// # Errors
    /// `Refused` with `UnknownTopic`, or `InvalidConfig` for the first setting that is unknown or
    /// impossible: then nothing is changed. A lost connection leaves it unknown whether it was changed.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the topic changed.
    pub async fn alter_topic(&self, change: TopicAlteration) -> Result<()> {
        self.alter(change, false).await
    }

    /// Checks whether a topic's settings could be changed, and changes nothing.
    ///
    /// # Errors
    /// As [`Admin::alter_topic`].
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub async fn validate_alteration(&self, change: TopicAlteration) -> Result<()> {
        self.alter(change, true).await
    }

    async fn alter(&self, change: TopicAlteration, validate_only: bool) -> Result<()> {
        let name = change.name.clone();
        let request = Request::AlterTopicConfigs(AlterTopicConfigsRequest {
            topics: vec![request::TopicAlteration {
                name: change.name,
                set: change.set,
                unset: change.unset,
            }],
            validate_only,
        });
        let context = format!("alter topic {name}");
        self.command(&context, &name, &request).await.map(drop)
    }

    /// Gives a topic more partitions: `total` in all. Those that it has stay as they are, and so do their
    /// records; a record of one key may go to another partition from then on.
    ///
    /// Producers learn of the new partitions when they next ask for metadata
    /// ([`ProducerBuilder::metadata_max_age`](crate::ProducerBuilder::metadata_max_age)). A consumer reads
    /// what it was built with.
    ///
    /// # Errors
    /// `Refused` with `UnknownTopic`, `TopicLimit`, or `InvalidPartitions` if `total` is not more than the
    /// topic has; a lost connection leaves it unknown whether they were added.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the partitions added.
    pub async fn add_partitions(&self, topic: &str, total: u32) -> Result<()> {
        self.extend(topic, total, false).await
    }

    /// Checks whether a topic could have `total` partitions, and adds none.
    ///
    /// # Errors
    /// As [`Admin::add_partitions`].
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub async fn validate_partitions(&self, topic: &str, total: u32) -> Result<()> {
        self.extend(topic, total, true).await
    }

    async fn extend(&self, topic: &str, total: u32, validate_only: bool) -> Result<()> {
        let request = Request::CreatePartitions(CreatePartitionsRequest {
            topics: vec![TopicExtension {
                name: topic.to_owned(),
                total,
            }],
            validate_only,
        });
        let context = format!("add partitions to topic {topic}");
        self.command(&context, topic, &request).await.map(drop)
    }

    /// Deletes the oldest records of a partition: everything before `before`. Returns the first offset
    /// that is kept, which may be higher already. It is durable on return; disk space is given back soon
    /// after, by whole segments.
    ///
    /// # Errors
    /// `Refused` with `UnknownTopic`, `UnknownPartition`, or `OffsetOutOfRange` beyond what can be read.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the records deleted.
    pub async fn delete_records(
        &self,
        topic: &str,
        partition: u32,
        before: DeleteUpTo,
    ) -> Result<u64> {
        let context = format!("delete records of {topic}-{partition}");
        let id = self.cluster.topic(topic).await?.id;
        let request = Request::DeleteRecords(DeleteRecordsRequest {
            entries: vec![DeleteRecordsEntry {
                partition: TopicPartition::new(id, PartitionIndex::new(partition)),
                before: match before {
                    DeleteUpTo::Offset(offset) => DeleteBefore::Offset(Offset::new(offset)),
                    DeleteUpTo::End => DeleteBefore::HighWatermark,
                },
            }],
        });
        let call = self.cluster.call(&request, Repeat::Safe, |frame, address| {
            let response = frame
                .decode(address)?
                .map_err(|error| Error::refused(&context, error))?;
            let Response::DeleteRecords(response) = response else {
                return Err(unexpected(address, ApiKey::DeleteRecords));
            };
            let entry = response.entries.into_iter().next();
            let entry = entry.ok_or_else(|| unexpected(address, ApiKey::DeleteRecords))?;
            let deleted = entry.result;
            deleted.map_err(|error| Error::refused(&context, error))
        });
        let deleted = call.await;
        if let Err(error) = &deleted
            && error.code() == Some(ErrorCode::UnknownTopic)
        {
            self.cluster.forget(topic);
        }
        deleted.map(Offset::get)
    }

    /// Reports how far a named reader has come, as (topic, partition, offset of the next record that it wants): it
    /// needs nothing before that any more. The topics name the readers that they know in `retention.guard.readers`.
    ///
    /// The broker keeps positions a few seconds behind: after a crash it may know an earlier one.
    ///
    /// # Errors
    /// `Refused` with `UnknownTopic`, `UnknownPartition`, `InvalidRequest` for a reader that a topic does not name,
    /// or `OffsetOutOfRange` beyond what can be read.
    ///
    /// # Cancel safety
    /// Dropping the future may leave some positions reported.
    pub async fn report_positions<S: AsRef<str>>(
        &self,
        reader: &str,
        positions: impl IntoIterator<Item = (S, u32, u64)>,
    ) -> Result<()> {
        let positions: Vec<_> = positions.into_iter().collect();
        let mut named = Vec::with_capacity(positions.len());
        for (topic, partition, offset) in &positions {
            named.push(Position {
                topic: topic.as_ref(),
                id: self.cluster.topic(topic.as_ref()).await?.id,
                partition: *partition,
                offset: *offset,
            });
        }
        let reported = report(&self.cluster, reader, &named).await;
        if let Err(error) = &reported
            && error.code() == Some(ErrorCode::UnknownTopic)
        {
            for position in &named {
                self.cluster.forget(position.topic);
            }
        }
        reported
    }

    /// Deletes a topic and everything in it. Returns the identity that it had.
    ///
    /// # Errors
    /// `Refused` with `UnknownTopic`; a lost connection leaves it unknown whether it was deleted.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the topic deleted.
    pub async fn delete_topic(&self, name: &str) -> Result<TopicId> {
        let request = Request::DeleteTopics(DeleteTopicsRequest {
            names: vec![name.to_owned()],
        });
        self.command(&format!("delete topic {name}"), name, &request)
            .await
    }

    /// Sends a command about one topic, and forgets what was known of the topic once it is done.
    async fn command(&self, context: &str, topic: &str, command: &Request<'_>) -> Result<TopicId> {
        let id = self
            .cluster
            .call(command, Repeat::UnlessSent, |frame, address| {
                let response = frame
                    .decode(address)?
                    .map_err(|error| Error::refused(context, error))?;
                only_result(response)
                    .ok_or_else(|| unexpected(address, command.api_key()))?
                    .map_err(|error| Error::refused(context, error))
            })
            .await?;
        self.cluster.forget(topic);
        Ok(id)
    }
}

/// What came of the one topic of a command.
fn only_result(response: Response<'_>) -> Option<std::result::Result<TopicId, ApiError>> {
    match response {
        Response::CreateTopics(response) => {
            response.topics.into_iter().next().map(|topic| topic.result)
        }
        Response::AlterTopicConfigs(response) => {
            response.topics.into_iter().next().map(|topic| topic.result)
        }
        Response::CreatePartitions(response) => {
            response.topics.into_iter().next().map(|topic| topic.result)
        }
        Response::DeleteTopics(response) => {
            response.topics.into_iter().next().map(|topic| topic.result)
        }
        _ => None,
    }
}
