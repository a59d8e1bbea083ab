//! CreateTopics, DeleteTopics, AlterTopicConfigs, CreatePartitions and DescribeTopics.
//!
//! The last is gathered from the cores that own the partitions; the others are commands for the
//! controller, wherever it is.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::request::{
    AlterTopicConfigsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeTopicsRequest,
};
use corelane_protocol::response::{
    AlterTopicConfigsResponse, AlteredTopic, ConfigSource, CreatePartitionsResponse,
    CreateTopicsResponse, CreatedTopic, DeleteTopicsResponse, DeletedTopic, DescribeTopicsResponse,
    DescribedPartition, DescribedReader, DescribedTopic, ExtendedTopic, PartitionState, Response,
    TopicConfigEntry, TopicDescription,
};
use corelane_protocol::{ApiError, ApiKey, CoreId, Offset, PartitionIndex, TopicId};
use corelane_storage::disk::Disk;

use super::mail::ForwardedRequest;
use super::metadata::check_names;
use super::parked::{ClientRequest, ForwardKind, GatherKind, GatherWait};
use super::partitions::{LocalState, Place};
use super::slab::Key;
use super::{Lane, Mail, Topology};
use crate::controller::{Command, CommandReply};
use crate::metadata::{SettingSource, Topic};

impl<D: Disk> Lane<D> {
    pub(super) fn create_topics(&mut self, client: ClientRequest, request: CreateTopicsRequest) {
        if let Err(error) = check_names(request.topics.len()) {
            return self.answer_error(client, &error);
        }
        let command = Command::CreateTopics {
            topics: request.topics,
            validate_only: request.validate_only,
        };
        self.send_command(client, ApiKey::CreateTopics, command);
    }

    pub(super) fn delete_topics(&mut self, client: ClientRequest, request: DeleteTopicsRequest) {
        if let Err(error) = check_names(request.names.len()) {
            return self.answer_error(client, &error);
        }
        let names = request.names;
        self.send_command(
            client,
            ApiKey::DeleteTopics,
            Command::DeleteTopics { names },
        );
    }

    pub(super) fn alter_topics(
        &mut self,
        client: ClientRequest,
        request: AlterTopicConfigsRequest,
    ) {
        if let Err(error) = check_names(request.topics.len()) {
            return self.answer_error(client, &error);
        }
        let command = Command::AlterTopicConfigs {
            topics: request.topics,
            validate_only: request.validate_only,
        };
        self.send_command(client, ApiKey::AlterTopicConfigs, command);
    }

    pub(super) fn create_partitions(
        &mut self,
        client: ClientRequest,
        request: CreatePartitionsRequest,
    ) {
        if let Err(error) = check_names(request.topics.len()) {
            return self.answer_error(client, &error);
        }
        let command = Command::CreatePartitions {
            topics: request.topics,
            validate_only: request.validate_only,
        };
        self.send_command(client, ApiKey::CreatePartitions, command);
    }

    fn send_command(&mut self, client: ClientRequest, api: ApiKey, command: Command) {
        let to = Topology::CONTROLLER;
        if to != self.core
            && let Err(error) = self.reserve_mailbox(to, client.frame_bytes)
        {
            return self.answer_error(client, &error);
        }
        let gather = self.gathers.insert(GatherWait {
            client,
            remaining: 1,
            kind: GatherKind::Topics(api),
        });
        let token = gather.to_u64();
        if to == self.core {
            self.take_command(self.core, token, command);
        } else {
            self.post(to, Mail::Command { token, command });
        }
    }

    /// The controller has answered.
    pub(super) fn command_done(&mut self, token: u64, reply: Result<CommandReply, ApiError>) {
        if self.offsets_topic_made(token, &reply) || self.producer_ids_reserved(token, &reply) {
            return;
        }
        let wait = self
            .gathers
            .remove(Key::from_u64(token))
            .expect("a command is answered once");
        if Topology::CONTROLLER != self.core {
            self.release_mailbox(Topology::CONTROLLER, wait.client.frame_bytes);
        }
        let reply = match reply {
            Ok(reply) => reply.into_iter(),
            Err(error) => return self.answer_error(wait.client, &error),
        };
        let response = match wait.kind {
            GatherKind::Topics(ApiKey::CreateTopics) => {
                let topics = reply
                    .map(|(name, result)| CreatedTopic { name, result })
                    .collect();
                Response::CreateTopics(CreateTopicsResponse { topics })
            }
            GatherKind::Topics(ApiKey::DeleteTopics) => {
                let topics = reply
                    .map(|(name, result)| DeletedTopic { name, result })
                    .collect();
                Response::DeleteTopics(DeleteTopicsResponse { topics })
            }
            GatherKind::Topics(ApiKey::AlterTopicConfigs) => {
                let topics = reply
                    .map(|(name, result)| AlteredTopic { name, result })
                    .collect();
                Response::AlterTopicConfigs(AlterTopicConfigsResponse { topics })
            }
            GatherKind::Topics(ApiKey::CreatePartitions) => {
                let topics = reply
                    .map(|(name, result)| ExtendedTopic { name, result })
                    .collect();
                Response::CreatePartitions(CreatePartitionsResponse { topics })
            }
            _ => unreachable!("only these are commands"),
        };
        self.answer(wait.client, &response);
    }

    pub(super) fn describe_topics(
        &mut self,
        client: ClientRequest,
        request: DescribeTopicsRequest,
    ) {
        if let Some(names) = &request.topics
            && let Err(error) = check_names(names.len())
        {
            return self.answer_error(client, &error);
        }
        let names = request.topics.unwrap_or_else(|| {
            let visible = self
                .image
                .topics()
                .filter(|topic| !self.hidden.contains_key(&topic.id));
            visible
                .map(|topic| topic.name.as_str().to_owned())
                .collect()
        });
        let mut response = DescribeTopicsResponse::default();
        let mut positions: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
        let mut remote: BTreeMap<CoreId, BTreeSet<TopicId>> = BTreeMap::new();
        for name in names {
            let result = self.visible_topic(&name).map(|topic| {
                positions
                    .entry(topic.id)
                    .or_default()
                    .push(response.topics.len());
                for place in self.partitions.places(topic.id) {
                    if let Place::Remote(core) = place {
                        remote.entry(*core).or_default().insert(topic.id);
                    }
                }
                self.topic_description(topic)
            });
            response.topics.push(DescribedTopic { name, result });
        }
        if remote.is_empty() {
            return self.answer(client, &Response::DescribeTopics(response));
        }
        let gather = self.gathers.insert(GatherWait {
            client,
            remaining: u32::try_from(remote.len()).expect("cores are numbered by u16"),
            kind: GatherKind::Describe {
                response,
                positions,
            },
        });
        for (to, topics) in remote {
            let topics = topics.into_iter().collect();
            let request = ForwardedRequest::Describe { topics };
            let entries = Vec::new();
            let kind = ForwardKind::Gather { gather, entries };
            if self.forward(client.connection, to, request, kind).is_err() {
                // The partitions of that core stay described as not answered for.
                self.gathered_descriptions(gather, Vec::new());
            }
        }
    }

    /// The partitions of these topics that this core owns.
    pub(super) fn describe_local(&self, topics: &[TopicId]) -> Vec<(TopicId, DescribedPartition)> {
        let mut described = Vec::new();
        for topic in topics.iter().filter_map(|id| self.image.topic(*id)) {
            for (index, place) in self.partitions.places(topic.id).iter().enumerate() {
                if let Place::Local(key) = place {
                    described.push((topic.id, self.describe_partition(topic, index, *key)));
                }
            }
        }
        described
    }

    /// A topic with the partitions of this core; the others are still to be asked for.
    fn topic_description(&self, topic: &Topic) -> TopicDescription {
        let settings = topic.settings.describe(&self.config).into_iter();
        let places = self.partitions.places(topic.id).iter().enumerate();
        let places = places.take(self.shown_partitions(topic));
        TopicDescription {
            id: topic.id,
            configs: settings
                .map(|setting| TopicConfigEntry {
                    key: setting.key.to_owned(),
                    value: setting.value,
                    source: match setting.source {
                        SettingSource::Topic => ConfigSource::Topic,
                        SettingSource::Broker => ConfigSource::Broker,
                        SettingSource::Default => ConfigSource::Default,
                    },
                    bounded_by: setting.bounded_by.map(str::to_owned),
                })
                .collect(),
            partitions: places
                .map(|(index, place)| match place {
                    Place::Local(key) => self.describe_partition(topic, index, *key),
                    Place::Remote(core) => {
                        let message = "its core is too busy to describe it; ask again";
                        describe_unanswered(topic, index, *core, message)
                    }
                })
                .collect(),
        }
    }

    fn describe_partition(&self, topic: &Topic, index: usize, key: Key) -> DescribedPartition {
        let local = self
            .partitions
            .local(key)
            .expect("a place of an existing topic");
        let mut described = match &local.state {
            LocalState::Failed(message) => describe_unanswered(topic, index, self.core, message),
            LocalState::Creating => {
                describe_unanswered(topic, index, self.core, "it is still being made")
            }
            LocalState::Online => {
                let mut online = describe_unanswered(topic, index, self.core, "");
                online.state = PartitionState::Online;
                online
            }
        };
        if let Ok(description) = self.stores[local.store].describe(local.id) {
            described.log_start_offset = description.offsets.log_start;
            described.high_watermark = description.offsets.high_watermark;
            described.log_end_offset = description.offsets.log_end;
            described.size_bytes = description.size_bytes;
            if let Some(latest) = description.epochs.last() {
                described.epoch_start_offset = latest.start;
            }
            let damage = description.damage.iter();
            described.damage = damage.map(ToString::to_string).collect();
            let readers = description.readers.into_iter();
            described.readers = readers
                .map(|(name, state)| DescribedReader {
                    name,
                    position: state.position,
                    expired_unread: state.expired_unread,
                })
                .collect();
        }
        described
    }
}

/// A partition of which nothing is known but where it is.
fn describe_unanswered(
    topic: &Topic,
    index: usize,
    core: CoreId,
    message: &str,
) -> DescribedPartition {
    let placement = topic.partitions[index];
    DescribedPartition {
        partition: PartitionIndex::new(u32::try_from(index).expect("counted by 32 bits")),
        store: placement.store,
        core,
        leader_epoch: placement.leader_epoch,
        log_start_offset: Offset::ZERO,
        high_watermark: Offset::ZERO,
        log_end_offset: Offset::ZERO,
        size_bytes: 0,
        epoch_start_offset: Offset::ZERO,
        damage: Vec::new(),
        readers: Vec::new(),
        state: PartitionState::Failed(message.to_owned()),
    }
}
