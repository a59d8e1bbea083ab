//! ApiVersions and Metadata: what this broker speaks, who serves which partition, and where.

use corelane_protocol::request::{ApiVersionsRequest, MetadataRequest};
use corelane_protocol::response::{
    ApiVersionsResponse, BrokerMetadata, MetadataResponse, PartitionMetadata, Response,
    SupportedApi, TopicMetadata, TopicPartitions,
};
use corelane_protocol::{ApiError, ApiKey, ErrorCode, PartitionIndex, versions};
use corelane_storage::disk::Disk;

use super::Lane;
use super::parked::ClientRequest;
use crate::config::TOPICS_PER_REQUEST_MAX;
use crate::metadata::Topic;

impl<D: Disk> Lane<D> {
    pub(super) fn api_versions(&mut self, client: ClientRequest, request: &ApiVersionsRequest) {
        let connection = self.connections.get(client.connection);
        tracing::debug!(
            core = %self.core,
            connection = %super::ConnectionId::from(client.connection),
            peer = connection.map(|connection| tracing::field::display(connection.peer)),
            name = request.client_name,
            version = request.client_version,
            "client"
        );
        let limits = &self.config.limits;
        let response = ApiVersionsResponse {
            broker_version: env!("CARGO_PKG_VERSION").to_owned(),
            broker_id: self.topology.broker_id,
            cluster_id: self.topology.cluster_id,
            apis: ApiKey::ALL
                .iter()
                .map(|api| SupportedApi {
                    api_key: api.as_u16(),
                    version_min: *versions(*api).start(),
                    version_max: *versions(*api).end(),
                })
                .collect(),
            frame_bytes_max: limits.frame_bytes_max,
            batch_bytes_max: self.config.log.max_message_bytes,
            connection_in_flight_bytes_max: u32::try_from(limits.connection_in_flight_bytes_max)
                .unwrap_or(u32::MAX),
        };
        self.answer(client, &Response::ApiVersions(response));
    }

    pub(super) fn metadata(&mut self, client: ClientRequest, request: MetadataRequest) {
        let topics = match request.topics {
            None => self
                .image
                .topics()
                .filter(|topic| !self.hidden.contains_key(&topic.id))
                .map(|topic| TopicMetadata {
                    name: topic.name.as_str().to_owned(),
                    result: Ok(self.topic_partitions(topic)),
                })
                .collect(),
            Some(names) => {
                if let Err(error) = check_names(names.len()) {
                    return self.answer_error(client, &error);
                }
                let described = names.into_iter().map(|name| TopicMetadata {
                    result: self
                        .visible_topic(&name)
                        .map(|topic| self.topic_partitions(topic)),
                    name,
                });
                described.collect()
            }
        };
        let response = MetadataResponse {
            brokers: vec![BrokerMetadata {
                id: self.topology.broker_id,
                host: self.topology.host.clone(),
                port: self.topology.port,
                cores: self.topology.cores.clone(),
            }],
            controller: self.topology.broker_id,
            topics,
        };
        self.answer(client, &Response::Metadata(response));
    }

    /// A topic that clients may know of.
    pub(super) fn visible_topic(&self, name: &str) -> Result<&Topic, ApiError> {
        let topic = self.image.topic_named(name);
        topic
            .filter(|topic| !self.hidden.contains_key(&topic.id))
            .ok_or_else(|| {
                let shown: String = name.chars().take(64).collect();
                ApiError::new(
                    ErrorCode::UnknownTopic,
                    format!("there is no topic named {shown:?}"),
                )
            })
    }

    /// How many of a topic's partitions clients may know of.
    pub(super) fn shown_partitions(&self, topic: &Topic) -> usize {
        let growing = self.growing.get(&topic.id);
        growing.map_or(topic.partitions.len(), |growing| growing.shown)
    }

    fn topic_partitions(&self, topic: &Topic) -> TopicPartitions {
        let partitions = (0..)
            .zip(&topic.partitions[..self.shown_partitions(topic)])
            .map(|(index, placement)| PartitionMetadata {
                partition: PartitionIndex::new(index),
                leader: self.topology.broker_id,
                core: self
                    .topology
                    .core_of(placement.store)
                    .expect("checked when it was placed"),
                leader_epoch: placement.leader_epoch,
            });
        let settings = topic.effective(&self.config);
        TopicPartitions {
            id: topic.id,
            timestamp_type: settings.timestamp_type,
            batch_bytes_max: settings.max_message_bytes,
            partitions: partitions.collect(),
        }
    }
}

/// A request names a bounded number of topics.
pub(super) fn check_names(count: usize) -> Result<(), ApiError> {
    if count <= TOPICS_PER_REQUEST_MAX {
        return Ok(());
    }
    let message = format!("{count} topics in one request, at most {TOPICS_PER_REQUEST_MAX} may be");
    Err(ApiError::new(ErrorCode::InvalidRequest, message))
}
