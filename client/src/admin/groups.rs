//! Requests about consumer groups.
//!
//! Owns: the public forms of groups, their members and their partitions. Never: joins a group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corelane_protocol::request::{DeleteGroupRequest, DescribeGroupRequest, ListGroupsRequest};
use corelane_protocol::response::{self, GroupState, NamedPartitions};
use corelane_protocol::{ApiKey, ErrorCode, MemberId, Request, Response, TopicId};

use super::Admin;
use crate::cluster::Repeat;
use crate::connection::unexpected;
use crate::error::{Error, Result};
use crate::group::{CommittedOffset, Coordinator, OffsetToCommit, commit, fetch};

/// A consumer group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// The name.
    pub name: String,
    /// What it is doing.
    pub state: GroupState,
    /// Its generation.
    pub generation: u32,
    /// How many members it has.
    pub members: u32,
    /// Of how many partitions it has committed an offset.
    pub offsets: u32,
}

/// What the broker says of one consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// The name.
    pub name: String,
    /// What it is doing.
    pub state: GroupState,
    /// Its generation, which every change of what members should hold raises.
    pub generation: u32,
    /// How partitions are assigned.
    pub assignor: String,
    /// Its members, in the order of their ids.
    pub members: Vec<GroupMemberDescription>,
    /// All partitions that have an offset or an owner, in the order of topic names.
    pub partitions: Vec<GroupPartitionDescription>,
}

/// A member of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMemberDescription {
    /// The member.
    pub id: MemberId,
    /// The name under which it is the same when it comes back.
    pub instance: Option<String>,
    /// The client's name.
    pub client: String,
    /// Where it connects from.
    pub host: String,
    /// The generation that it has reached.
    pub generation: u32,
    /// Topics that it subscribes to by name.
    pub topics: Vec<String>,
    /// Topics that it subscribes to by a regular expression.
    pub pattern: Option<String>,
    /// What it may hold now, as (topic, partition).
    pub assigned: Vec<(String, u32)>,
    /// What it is to hold in the end, as (topic, partition).
    pub target: Vec<(String, u32)>,
}

/// How a consumer group stands in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPartitionDescription {
    /// The topic's name; empty if the topic is gone.
    pub topic: String,
    /// The topic's identity.
    pub topic_id: TopicId,
    /// The partition's index.
    pub partition: u32,
    /// The member that holds it.
    pub owner: Option<MemberId>,
    /// What was committed.
    pub committed: Option<CommittedOffset>,
    /// The first offset that consumers cannot read yet, where that could be asked.
    pub high_watermark: Option<u64>,
    /// How many records the group has yet to read, where it has committed and the partition could be asked.
    pub lag: Option<u64>,
}

impl Admin {
    /// All consumer groups, in the order of their names.
    ///
    /// # Errors
    /// Connection errors after the request timeout.
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>> {
        let request = Request::ListGroups(ListGroupsRequest);
        let response = self
            .cluster
            .call(&request, Repeat::Safe, |frame, address| {
                let response = frame.decode(address)?;
                match response.map_err(|error| Error::refused("list groups", error))? {
                    Response::ListGroups(response) => Ok(response),
                    _ => Err(unexpected(address, ApiKey::ListGroups)),
                }
            })
            .await?;
        let listings = response.groups.into_iter().map(|listed| GroupListing {
            name: listed.group,
            state: listed.state,
            generation: listed.generation.get(),
            members: listed.members,
            offsets: listed.offsets,
        });
        Ok(listings.collect())
    }

    /// Members, assignments and offsets of a consumer group.
    ///
    /// # Errors
    /// `Refused` with `UnknownGroup`; connection errors after the request timeout.
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub async fn describe_group(&self, name: &str) -> Result<GroupDescription> {
        let request = Request::DescribeGroup(DescribeGroupRequest {
            group: name.to_owned(),
        });
        let context = format!("describe group {name}");
        let read = |response: Response<'_>| match response {
            Response::DescribeGroup(answer) => Some(answer),
            _ => None,
        };
        let group = self
            .coordinator()
            .call(&request, Repeat::Safe, &context, read)
            .await?;
        Ok(GroupDescription {
            name: name.to_owned(),
            state: group.state,
            generation: group.generation.get(),
            assignor: group.assignor,
            members: group.members.into_iter().map(member).collect(),
            partitions: group.partitions.into_iter().map(partition).collect(),
        })
    }

    /// Forgets a consumer group and its offsets; it must have no members.
    ///
    /// # Errors
    /// `Refused` with `UnknownGroup` or `GroupNotEmpty`; a lost connection leaves it unknown whether it was deleted.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the group deleted.
    pub async fn delete_group(&self, name: &str) -> Result<()> {
        let request = Request::DeleteGroup(DeleteGroupRequest {
            group: name.to_owned(),
        });
        let context = format!("delete group {name}");
        let read = |response: Response<'_>| match response {
            Response::DeleteGroup(answer) => Some(answer),
            _ => None,
        };
        self.coordinator()
            .call(&request, Repeat::UnlessSent, &context, read)
            .await
    }

    /// Everything that a consumer group has committed, in the order of topic names and partitions.
    ///
    /// # Errors
    /// `Refused` with `UnknownGroup`; connection errors after the request timeout.
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub async fn group_offsets(&self, group: &str) -> Result<Vec<CommittedOffset>> {
        let fetched = fetch(&self.coordinator(), group, None).await?;
        let topics = self.list_topics().await?.into_iter();
        let names: BTreeMap<TopicId, String> = topics.map(|topic| (topic.id, topic.name)).collect();
        let mut offsets: Vec<CommittedOffset> = fetched
            .into_iter()
            .filter_map(|entry| {
                let name = names.get(&entry.partition.topic).cloned();
                let committed = entry.committed?;
                Some(CommittedOffset::new(
                    name.unwrap_or_default(),
                    entry.partition,
                    committed,
                ))
            })
            .collect();
        let place = |offset: &CommittedOffset| (offset.topic_id, offset.partition);
        offsets.sort_by(|one, other| {
            let by_name = one.topic.cmp(&other.topic);
            by_name.then_with(|| place(one).cmp(&place(other)))
        });
        Ok(offsets)
    }

    /// Sets where a consumer group goes on; it must have no members. It need not exist before.
    ///
    /// # Errors
    /// `InvalidArgument` for a partition that is given twice; `Refused` with `UnknownTopic` or `GroupNotEmpty`, or for
    /// the first partition that is refused: others may have been set; connection errors after the request timeout.
    ///
    /// # Cancel safety
    /// Dropping the future may leave some offsets set.
    pub async fn commit_group_offsets(
        &self,
        group: &str,
        offsets: impl IntoIterator<Item = OffsetToCommit>,
    ) -> Result<()> {
        let offsets: Vec<OffsetToCommit> = offsets.into_iter().collect();
        let mut entries = Vec::with_capacity(offsets.len());
        let mut seen = BTreeSet::new();
        for offset in &offsets {
            let entry = offset.entry(self.cluster.topic(&offset.topic).await?.id);
            if !seen.insert(entry.partition) {
                let (topic, partition) = (&offset.topic, offset.partition);
                return Err(Error::invalid(format!(
                    "an offset of {topic}-{partition} is given twice"
                )));
            }
            entries.push(entry);
        }
        let outcomes = commit(&self.coordinator(), group, None, &entries).await?;
        for (offset, outcome) in offsets.iter().zip(outcomes) {
            if let Err(error) = outcome.result {
                let (topic, partition) = (&offset.topic, offset.partition);
                if error.code == ErrorCode::UnknownTopic {
                    self.cluster.forget(topic);
                }
                let context = format!("commit an offset of {topic}-{partition} for group {group}");
                return Err(Error::refused(context, error));
            }
        }
        Ok(())
    }

    fn coordinator(&self) -> Coordinator {
        Coordinator::new(Arc::clone(&self.cluster))
    }
}

fn member(member: response::DescribedMember) -> GroupMemberDescription {
    GroupMemberDescription {
        id: member.id,
        instance: member.instance,
        client: member.client,
        host: member.host,
        generation: member.generation.get(),
        topics: member.topics,
        pattern: member.pattern,
        assigned: by_name(member.assigned),
        target: by_name(member.target),
    }
}

fn by_name(topics: Vec<NamedPartitions>) -> Vec<(String, u32)> {
    let partitions = topics.into_iter().flat_map(|topic| {
        let indexes = topic.partitions.into_iter();
        indexes.map(move |index| (topic.name.clone(), index.get()))
    });
    partitions.collect()
}

fn partition(partition: response::GroupPartition) -> GroupPartitionDescription {
    let id = partition.partition;
    let lag = partition.lag();
    let committed = partition
        .committed
        .map(|committed| CommittedOffset::new(partition.name.clone(), id, committed));
    GroupPartitionDescription {
        topic: partition.name,
        topic_id: id.topic,
        partition: id.partition.get(),
        owner: partition.owner,
        committed,
        high_watermark: partition.high_watermark.map(|offset| offset.get()),
        lag,
    }
}
