//! What is told of groups.

use std::collections::BTreeSet;

use corelane_protocol::request::DescribeGroupRequest;
use corelane_protocol::response::{
    DescribedMember, GroupDescription, GroupPartition, GroupState, ListedGroup,
};
use corelane_protocol::{ApiError, MemberId, TopicPartition};

use super::checks::check_group;
use super::group::Group;
use super::leave::no_such_group;
use super::member::Member;
use super::{Coordinator, Topics};

impl Coordinator {
    /// The groups in short, in the order of their names.
    pub fn list(&self) -> Vec<ListedGroup> {
        let list = |group: &Group| ListedGroup {
            group: group.name.to_string(),
            state: group.state(),
            generation: group.generation,
            members: group.members.len().try_into().unwrap_or(u32::MAX),
            offsets: group.offsets.len().try_into().unwrap_or(u32::MAX),
        };
        self.groups.values().map(list).collect()
    }

    /// Members, partitions and offsets of a group. High watermarks are left to the caller.
    ///
    /// # Errors
    /// `UnknownGroup`, and `InvalidRequest` for a name that no group can have.
    pub fn describe(
        &self,
        topics: &dyn Topics,
        request: &DescribeGroupRequest,
    ) -> Result<GroupDescription, ApiError> {
        check_group(&request.group)?;
        let group = self.groups.get(request.group.as_str());
        let group = group.ok_or_else(|| no_such_group(&request.group))?;
        let members = group.members.iter();
        Ok(GroupDescription {
            state: group.state(),
            generation: group.generation,
            assignor: group.assignor.name().to_owned(),
            members: members
                .map(|(id, member)| member.describe(*id, topics))
                .collect(),
            partitions: group.describe_partitions(topics),
        })
    }
}

impl Group {
    pub(super) fn state(&self) -> GroupState {
        let settled = |member: &Member| member.settled(self.target_generation);
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.members.values().all(settled) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    fn describe_partitions(&self, topics: &dyn Topics) -> Vec<GroupPartition> {
        let known: BTreeSet<&TopicPartition> =
            self.owners.keys().chain(self.offsets.keys()).collect();
        let describe = |partition: &TopicPartition| GroupPartition {
            name: topics
                .name_of(partition.topic)
                .unwrap_or_default()
                .to_owned(),
            partition: *partition,
            owner: self.owners.get(partition).copied(),
            committed: self.offsets.get(partition).cloned(),
            high_watermark: None,
        };
        let mut partitions: Vec<_> = known.into_iter().map(describe).collect();
        partitions.sort_by(|a, b| (&a.name, a.partition).cmp(&(&b.name, b.partition)));
        partitions
    }
}

impl Member {
    fn describe(&self, id: MemberId, topics: &dyn Topics) -> DescribedMember {
        DescribedMember {
            id,
            instance: self.subscription.instance.clone(),
            client: self.subscription.client.clone(),
            host: self.host.clone(),
            generation: self.generation,
            topics: self.subscription.topics.clone(),
            pattern: self.subscription.pattern.clone(),
            assigned: self.assigned.named(topics),
            target: self.target.named(topics),
        }
    }
}
