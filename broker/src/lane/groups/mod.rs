//! Consumer groups: which core coordinates one, and what it is asked.
//!
//! A group belongs to the partition of the internal topic [`OFFSETS_TOPIC`] that its name hashes to, and to the
//! core that owns this partition: whatever the group is told lies in that log before it is told. Requests that
//! come to another core are forwarded. `shard` keeps the coordinators of this core and their logs, `list` and
//! `describe` put answers of several cores together. The rules of groups are in [`crate::groups`].

mod describe;
mod list;
mod log;
mod question;
mod report;
mod shard;
mod topics;
mod turns;

use std::collections::BTreeMap;

use corelane_protocol::{
    ApiError, ApiKey, CoreId, ErrorCode, PartitionIndex, TopicPartition, partition_for_key,
};
use corelane_storage::disk::Disk;

use super::mail::{ForwardedReply, ForwardedRequest};
use super::parked::{ClientRequest, ForwardKind};
use super::partitions::Home;
use super::{Lane, Mail, Now, Topology};
use crate::controller::{Command, CommandReply};
use crate::metadata::OFFSETS_TOPIC;
pub(super) use describe::note_end;
pub use question::{GroupAnswered, GroupQuestion};
pub use report::{GroupPiece, GroupPlace, GroupTopicPiece, GroupsMetrics, GroupsPiece};
use shard::Shard;

/// The name under which a core asks the controller for the internal topic.
const CREATION_TOKEN: u64 = u64::MAX;

/// The groups that one core coordinates.
#[derive(Default)]
pub(super) struct Groups {
    /// By partition of the internal topic: those that this core owns.
    shards: BTreeMap<PartitionIndex, Shard>,
    /// The controller was asked for the internal topic.
    creating: bool,
    /// Why it could not be made when that was tried last.
    creation_failed: Option<ApiError>,
    /// Topics have changed: coordinators begin to look at them within this event.
    pub(super) topics_changed: bool,
    /// The shard that is the first to do what is due, after an event that did not come to all of them.
    first_in_turn: PartitionIndex,
}

/// Who asks about a group.
#[derive(Debug, Clone, Copy)]
pub(super) enum GroupAsker {
    /// A client of this core.
    Client(ClientRequest),
    /// Another core, for a client of its own.
    Core { core: CoreId, token: u64 },
}

impl<D: Disk> Lane<D> {
    /// A client asks about a group.
    pub(super) fn ask_group(&mut self, now: Now, client: ClientRequest, question: GroupQuestion) {
        let connection = self.connections.get(client.connection);
        let host = connection.map_or_else(String::new, |from| from.peer.ip().to_string());
        match self.coordinator_of(question.group()) {
            Coordinated::Nowhere => match question.asked_of_nothing() {
                Some(answer) => self.answer_group(client, answer, None),
                None => {
                    self.make_offsets_topic();
                    let error = self.groups.creation_failed.clone();
                    let error = error.unwrap_or_else(|| ErrorCode::GroupLoading.into());
                    self.answer_group(client, Err(error), None);
                }
            },
            Coordinated::Here(partition) => {
                let asker = GroupAsker::Client(client);
                self.coordinate(now, partition, asker, &host, &question);
            }
            Coordinated::At(core) if client.no_forward => {
                self.answer_group(client, Err(ErrorCode::NotOwner.into()), Some(core));
            }
            Coordinated::At(core) => {
                let question = Box::new(question);
                let request = ForwardedRequest::Group { host, question };
                let kind = ForwardKind::Group { client };
                if let Err((_, error)) = self.forward(client.connection, core, request, kind) {
                    self.answer_group(client, Err(error), Some(core));
                }
            }
        }
    }

    /// Another core asks about a group that this core coordinates.
    pub(super) fn forwarded_group(
        &mut self,
        now: Now,
        core: CoreId,
        token: u64,
        host: &str,
        question: &GroupQuestion,
    ) {
        let asker = GroupAsker::Core { core, token };
        match self.coordinator_of(question.group()) {
            Coordinated::Here(partition) => {
                self.coordinate(now, partition, asker, host, question);
            }
            // Cores agree on who owns what, but for a topic that was just made.
            Coordinated::Nowhere | Coordinated::At(_) => {
                self.tell_group(asker, Err(ErrorCode::GroupLoading.into()));
            }
        }
    }

    /// The core that coordinates a group has answered a client of this one.
    pub(super) fn forwarded_group_done(
        &mut self,
        client: ClientRequest,
        from: CoreId,
        answer: Result<GroupAnswered, ApiError>,
    ) {
        self.answer_group(client, answer, Some(from));
    }

    /// Tells whoever has asked.
    fn tell_group(&mut self, asker: GroupAsker, answer: Result<GroupAnswered, ApiError>) {
        self.count_commits(&answer);
        match asker {
            GroupAsker::Client(client) => self.answer_group(client, answer, None),
            GroupAsker::Core { core, token } => {
                let reply = ForwardedReply::Group(Box::new(answer));
                self.post(core, Mail::ForwardReply { token, reply });
            }
        }
    }

    /// Answers a client, and names the core that coordinates the group where that is another one.
    fn answer_group(
        &mut self,
        client: ClientRequest,
        answer: Result<GroupAnswered, ApiError>,
        owner: Option<CoreId>,
    ) {
        let owner = owner.map(|core| self.topology.address(core).clone());
        match answer {
            Ok(GroupAnswered::Described(description)) => {
                self.describe_positions(client, description, owner);
            }
            answer => {
                let api = ApiKey::from_u16(client.api_key).expect("it was decoded");
                self.answer(client, &question::response(api, answer, owner));
            }
        }
    }

    fn coordinator_of(&self, group: &str) -> Coordinated {
        let Some(topic) = self.image.topic_named(OFFSETS_TOPIC) else {
            return Coordinated::Nowhere;
        };
        if self.hidden.contains_key(&topic.id) {
            return Coordinated::Nowhere;
        }
        let partition = partition_for_key(group.as_bytes(), topic.partition_count);
        let partition = TopicPartition::new(topic.id, PartitionIndex::new(partition));
        match self.partitions.find(partition) {
            Home::Local(_) => Coordinated::Here(partition.partition),
            Home::Remote(core) => Coordinated::At(core),
            Home::UnknownTopic | Home::UnknownPartition => Coordinated::Nowhere,
        }
    }

    /// Has the internal topic made, once.
    fn make_offsets_topic(&mut self) {
        if std::mem::replace(&mut self.groups.creating, true) {
            return;
        }
        self.groups.creation_failed = None;
        let (token, command) = (CREATION_TOKEN, Command::CreateOffsetsTopic);
        if self.core == Topology::CONTROLLER {
            self.take_command(self.core, token, command);
        } else {
            self.post(Topology::CONTROLLER, Mail::Command { token, command });
        }
    }

    /// Whether an answer of the controller is to this module, which then has it.
    pub(super) fn offsets_topic_made(
        &mut self,
        token: u64,
        reply: &Result<CommandReply, ApiError>,
    ) -> bool {
        if token != CREATION_TOKEN {
            return false;
        }
        self.groups.creating = false;
        let failed = match reply {
            Ok(topics) => topics.iter().find_map(|(_, result)| result.as_ref().err()),
            Err(error) => Some(error),
        };
        self.groups.creation_failed = failed.cloned();
        if let Some(error) = failed {
            tracing::warn!(%error, "the topic of consumer groups could not be made");
        }
        true
    }
}

/// Where a group is coordinated.
enum Coordinated {
    /// There has been no group yet.
    Nowhere,
    /// On this core, with this partition's groups.
    Here(PartitionIndex),
    /// There.
    At(CoreId),
}
