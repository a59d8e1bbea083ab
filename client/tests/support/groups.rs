//! The coordinator of the broker in the tests: small, and in the order in which a real one gives partitions away.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::request::{
    CommitOffsetsRequest, FetchOffsetsRequest, GroupHeartbeatRequest, LeaveGroupRequest, MemberRef,
    Subscription,
};
use corelane_protocol::response::{
    CommittedEntry, CommittedOffset, DescribedMember, FetchedOffset, GroupAnswer, GroupDescription,
    GroupPartition, GroupState, HeartbeatAnswer, ListGroupsResponse, ListedGroup, NamedPartitions,
};
use corelane_protocol::{
    ApiError, ErrorCode, Generation, MemberId, Offset, PartitionIndex, Request, Response,
    Timestamp, TopicId, TopicPartition,
};

use super::Shared;
use super::state::State;

type Partitions = BTreeSet<TopicPartition>;

/// What happens to a request about a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupAction {
    Answer,
    Refuse(ErrorCode),
    /// Do it, and close the connection without an answer.
    AnswerLost,
    /// Close the connection.
    Close,
}

type Decide = Box<dyn FnMut(&Request<'_>) -> GroupAction + Send>;

/// All groups, and how the coordinator behaves.
pub(crate) struct Groups {
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) decide: Option<Decide>,
    /// The core that coordinates all groups.
    pub(crate) core: u16,
    pub(crate) interval_ms: u32,
    /// The cores on whose ports heartbeats arrived, in order.
    pub(crate) heartbeat_cores: Vec<u16>,
    joins: u64,
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            groups: BTreeMap::new(),
            decide: None,
            core: 0,
            interval_ms: 20,
            heartbeat_cores: Vec::new(),
            joins: 0,
        }
    }
}

#[derive(Default)]
pub(crate) struct Group {
    pub(crate) generation: u32,
    pub(crate) members: BTreeMap<MemberId, Member>,
    pub(crate) offsets: BTreeMap<TopicPartition, CommittedOffset>,
    /// Every commit of a partition, in order.
    pub(crate) commits: Vec<(TopicPartition, u64)>,
    /// Members that have left, in order, and whether they come back.
    pub(crate) left: Vec<(MemberId, bool)>,
}

pub(crate) struct Member {
    joined: u64,
    generation: u32,
    before: u32,
    subscription: Subscription,
    pub(crate) owned: Partitions,
    granted: Partitions,
    target: Partitions,
    is_away: bool,
}

/// The answer to a request about a group; `None` closes the connection.
pub(crate) fn answer(
    shared: &Shared,
    core: u16,
    request: &Request<'_>,
) -> Option<Response<'static>> {
    let mut state = shared.state();
    if matches!(request, Request::GroupHeartbeat(_)) {
        state.groups.heartbeat_cores.push(core);
    }
    let owning = state.groups.core;
    let owner = (owning != core).then(|| state.core_address(owning, shared.port(owning)));
    let mut decide = state.groups.decide.take();
    let action = match &mut decide {
        _ if owner.is_some() && state.strict => GroupAction::Refuse(ErrorCode::NotOwner),
        Some(decide) => decide(request),
        None => GroupAction::Answer,
    };
    state.groups.decide = decide;
    let refusal = match action {
        GroupAction::Close => return None,
        GroupAction::Refuse(code) => Some(ApiError::from(code)),
        GroupAction::Answer | GroupAction::AnswerLost => None,
    };
    macro_rules! answer {
        ($kind:ident, $result:expr) => {
            Response::$kind(GroupAnswer {
                result: match refusal {
                    Some(refusal) => Err(refusal),
                    None => $result,
                },
                owner,
            })
        };
    }
    let response = match request {
        Request::GroupHeartbeat(request) => {
            answer!(GroupHeartbeat, heartbeat(&mut state, request))
        }
        Request::LeaveGroup(request) => answer!(LeaveGroup, leave(&mut state, request)),
        Request::CommitOffsets(request) => answer!(CommitOffsets, commit(&mut state, request)),
        Request::FetchOffsets(request) => answer!(FetchOffsets, fetch(&state, request)),
        Request::ListGroups(_) => Response::ListGroups(list(&state)),
        Request::DescribeGroup(request) => {
            answer!(DescribeGroup, describe(&mut state, &request.group))
        }
        Request::DeleteGroup(request) => answer!(DeleteGroup, delete(&mut state, &request.group)),
        other => panic!("{other:?} is not about a group"),
    };
    (action != GroupAction::AnswerLost).then_some(response)
}

impl Member {
    /// The partition is not the member's any more; nobody has told it.
    pub(crate) fn forget(&mut self, partition: TopicPartition) {
        self.owned.remove(&partition);
        self.granted.remove(&partition);
    }

    /// What no other member may have.
    fn holds(&self) -> impl Iterator<Item = &TopicPartition> {
        self.owned.union(&self.granted)
    }
}

impl State {
    pub(crate) fn group(&mut self, name: &str) -> &mut Group {
        self.groups.groups.entry(name.into()).or_default()
    }

    /// Decides what happens to each request about a group.
    pub(crate) fn on_group(
        &mut self,
        decide: impl FnMut(&Request<'_>) -> GroupAction + Send + 'static,
    ) {
        self.groups.decide = Some(Box::new(decide));
    }

    /// Forgets the members of a group, as after a session timeout.
    pub(crate) fn forget_members(&mut self, group: &str) {
        self.group(group).members.clear();
    }

    /// The id of a partition.
    pub(crate) fn id(&self, topic: &str, partition: u32) -> TopicPartition {
        TopicPartition::new(self.topics[topic].id, PartitionIndex::new(partition))
    }

    /// The offset that a group has committed.
    pub(crate) fn committed(&mut self, group: &str, topic: &str, partition: u32) -> Option<u64> {
        let id = self.id(topic, partition);
        let committed = self.group(group).offsets.get(&id)?;
        Some(committed.offset.get())
    }

    fn name_of(&self, partition: TopicPartition) -> String {
        let mut topics = self.topics.iter();
        let found = topics.find(|(_, topic)| topic.id == partition.topic);
        found.map(|(name, _)| name.clone()).unwrap_or_default()
    }

    fn subscribed(&self, wish: &Subscription) -> Partitions {
        let matches = |name: &str| {
            let prefix = wish
                .pattern
                .as_deref()
                .and_then(|pattern| pattern.strip_suffix(".*"));
            wish.topics.iter().any(|topic| topic == name)
                || prefix.is_some_and(|prefix| name.starts_with(prefix))
        };
        let topics = self.topics.iter().filter(|(name, _)| matches(name));
        topics
            .flat_map(|(_, topic)| {
                let indexes = 0..topic.partitions.len() as u32;
                indexes.map(|index| TopicPartition::new(topic.id, PartitionIndex::new(index)))
            })
            .collect()
    }

    /// Deals the partitions to the members in turn, in the order in which they joined.
    fn rebalance(&mut self, name: &str) {
        let mut order: Vec<(u64, MemberId)> = self
            .group(name)
            .members
            .iter()
            .map(|(id, member)| (member.joined, *id))
            .collect();
        order.sort();
        let mut targets: BTreeMap<MemberId, Partitions> = BTreeMap::new();
        let wishes: Vec<(MemberId, Partitions)> = order
            .iter()
            .map(|(_, id)| {
                let wish = self.groups.groups[name].members[id].subscription.clone();
                (*id, self.subscribed(&wish))
            })
            .collect();
        let all: Partitions = wishes
            .iter()
            .flat_map(|(_, wanted)| wanted)
            .copied()
            .collect();
        for (index, partition) in all.into_iter().enumerate() {
            let wanting = wishes
                .iter()
                .filter(|(_, wanted)| wanted.contains(&partition));
            let wanting: Vec<MemberId> = wanting.map(|(id, _)| *id).collect();
            let owner = wanting[index % wanting.len()];
            targets.entry(owner).or_default().insert(partition);
        }
        let group = self.group(name);
        let mut has_changed = false;
        for (id, member) in &mut group.members {
            let target = targets.remove(id).unwrap_or_default();
            has_changed |= target != member.target;
            member.target = target;
        }
        group.generation += u32::from(has_changed);
    }
}

fn heartbeat(
    state: &mut State,
    request: &GroupHeartbeatRequest,
) -> Result<HeartbeatAnswer, ApiError> {
    let MemberRef { id, generation } = request.member;
    if generation == Generation::NONE {
        join(state, request)?;
    }
    let interval_ms = state.groups.interval_ms;
    state.rebalance(&request.group);
    let group = state.group(&request.group);
    let mut others = Partitions::new();
    for (other, member) in &group.members {
        if *other != id {
            others.extend(member.holds());
        }
    }
    let group_generation = group.generation;
    let member = group.members.get_mut(&id).ok_or(ErrorCode::UnknownMember)?;
    let known = [Generation::NONE.get(), member.generation, member.before];
    if !known.contains(&generation.get()) {
        return Err(ErrorCode::StaleGeneration.into());
    }
    member.owned = request
        .owned
        .iter()
        .flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|partition| TopicPartition::new(topic.topic, *partition))
        })
        .collect();
    let twice = member.owned.intersection(&others).count();
    assert_eq!(twice, 0, "two members hold a partition");
    member.granted = member.target.difference(&others).copied().collect();
    member.before = generation.get();
    member.generation = group_generation;
    let (owned, granted) = (member.owned.clone(), member.granted.clone());
    Ok(HeartbeatAnswer {
        generation: Generation::new(group_generation),
        heartbeat_interval_ms: interval_ms,
        assignment: (owned != granted).then(|| named(state, &granted)),
    })
}

fn join(state: &mut State, request: &GroupHeartbeatRequest) -> Result<(), ApiError> {
    let id = request.member.id;
    let wish = request.subscription.clone();
    let subscription = wish.ok_or(ErrorCode::InvalidRequest)?;
    assert!(request.owned.is_empty(), "who joins holds nothing");
    let group = state
        .groups
        .groups
        .entry(request.group.clone())
        .or_default();
    let mut joined = state.groups.joins;
    state.groups.joins += 1;
    if let Some(instance) = &subscription.instance {
        let mut members = group.members.iter();
        let same =
            members.find(|(_, member)| member.subscription.instance == Some(instance.clone()));
        if let Some((other, member)) = same.map(|(id, member)| (*id, member)) {
            if !member.is_away && other != id {
                return Err(ErrorCode::InstanceInUse.into());
            }
            joined = member.joined;
            group.members.remove(&other);
        }
    }
    let member = Member {
        joined,
        generation: 0,
        before: 0,
        subscription,
        owned: Partitions::new(),
        granted: Partitions::new(),
        target: Partitions::new(),
        is_away: false,
    };
    group.members.insert(id, member);
    Ok(())
}

fn leave(state: &mut State, request: &LeaveGroupRequest) -> Result<(), ApiError> {
    let group = state.group(&request.group);
    let id = request.member.id;
    let member = group.members.get_mut(&id).ok_or(ErrorCode::UnknownMember)?;
    if request.returns {
        assert!(member.subscription.instance.is_some());
        member.is_away = true;
    } else {
        group.members.remove(&id);
    }
    group.left.push((id, request.returns));
    Ok(())
}

fn commit(
    state: &mut State,
    request: &CommitOffsetsRequest,
) -> Result<Vec<CommittedEntry>, ApiError> {
    let known: BTreeSet<TopicId> = state.topics.values().map(|topic| topic.id).collect();
    let group = state.group(&request.group);
    let held: Option<Partitions> = match request.member {
        None if !group.members.is_empty() => return Err(ErrorCode::GroupNotEmpty.into()),
        None => None,
        Some(MemberRef { id, generation }) => {
            let member = group.members.get(&id).ok_or(ErrorCode::UnknownMember)?;
            if member.generation != generation.get() {
                return Err(ErrorCode::StaleGeneration.into());
            }
            Some(member.holds().copied().collect())
        }
    };
    let entries = request.entries.iter().map(|entry| {
        let partition = entry.partition;
        if !known.contains(&partition.topic) {
            let result = Err(ErrorCode::UnknownTopic.into());
            return CommittedEntry { partition, result };
        }
        if held.as_ref().is_some_and(|held| !held.contains(&partition)) {
            let result = Err(ErrorCode::NotAssigned.into());
            return CommittedEntry { partition, result };
        }
        let committed = CommittedOffset {
            offset: entry.offset,
            leader_epoch: entry.leader_epoch,
            time: Timestamp::new(1_000),
            metadata: entry.metadata.clone(),
        };
        group.offsets.insert(partition, committed);
        group.commits.push((partition, entry.offset.get()));
        CommittedEntry {
            partition,
            result: Ok(()),
        }
    });
    Ok(entries.collect())
}

fn fetch(state: &State, request: &FetchOffsetsRequest) -> Result<Vec<FetchedOffset>, ApiError> {
    let group = state.groups.groups.get(&request.group);
    let asked = match (&request.partitions, group) {
        (Some(asked), _) => asked.clone(),
        (None, Some(group)) => group.offsets.keys().copied().collect(),
        (None, None) => return Err(ErrorCode::UnknownGroup.into()),
    };
    let fetched = asked.into_iter().map(|partition| FetchedOffset {
        partition,
        committed: group.and_then(|group| group.offsets.get(&partition).cloned()),
    });
    Ok(fetched.collect())
}

fn list(state: &State) -> ListGroupsResponse {
    let groups = state.groups.groups.iter().map(|(name, group)| ListedGroup {
        group: name.clone(),
        state: group_state(group),
        generation: Generation::new(group.generation),
        members: group.members.len() as u32,
        offsets: group.offsets.len() as u32,
    });
    ListGroupsResponse {
        groups: groups.collect(),
    }
}

fn group_state(group: &Group) -> GroupState {
    let mut members = group.members.values();
    match group.members.is_empty() {
        true => GroupState::Empty,
        false if members.all(|member| member.owned == member.target) => GroupState::Stable,
        false => GroupState::Reconciling,
    }
}

fn describe(state: &mut State, name: &str) -> Result<GroupDescription, ApiError> {
    let group = state
        .groups
        .groups
        .get(name)
        .ok_or(ErrorCode::UnknownGroup)?;
    let members = group.members.iter().map(|(id, member)| DescribedMember {
        id: *id,
        instance: member.subscription.instance.clone(),
        client: member.subscription.client.clone(),
        host: "127.0.0.1".into(),
        generation: Generation::new(member.generation),
        topics: member.subscription.topics.clone(),
        pattern: member.subscription.pattern.clone(),
        assigned: named(state, &member.granted),
        target: named(state, &member.target),
    });
    let members = members.collect();
    let held = group.members.values().flat_map(Member::holds);
    let known: Partitions = group.offsets.keys().chain(held).copied().collect();
    let partitions = known.into_iter().map(|partition| {
        let mut members = group.members.iter();
        let owner = members.find(|(_, member)| member.owned.contains(&partition));
        let topic = state
            .topics
            .values()
            .find(|topic| topic.id == partition.topic);
        let end = topic.map(|topic| topic.partitions[partition.partition.get() as usize].end());
        GroupPartition {
            name: state.name_of(partition),
            partition,
            owner: owner.map(|(id, _)| *id),
            committed: group.offsets.get(&partition).cloned(),
            high_watermark: end.map(Offset::new),
        }
    });
    Ok(GroupDescription {
        state: group_state(group),
        generation: Generation::new(group.generation),
        assignor: "in turn".into(),
        members,
        partitions: partitions.collect(),
    })
}

fn delete(state: &mut State, name: &str) -> Result<(), ApiError> {
    let group = state
        .groups
        .groups
        .get(name)
        .ok_or(ErrorCode::UnknownGroup)?;
    if !group.members.is_empty() {
        return Err(ErrorCode::GroupNotEmpty.into());
    }
    state.groups.groups.remove(name);
    Ok(())
}

fn named(state: &State, partitions: &Partitions) -> Vec<NamedPartitions> {
    let mut topics: Vec<NamedPartitions> = Vec::new();
    for partition in partitions {
        match topics.last_mut() {
            Some(topic) if topic.topic == partition.topic => {
                topic.partitions.push(partition.partition);
            }
            _ => topics.push(NamedPartitions {
                topic: partition.topic,
                name: state.name_of(*partition),
                partitions: vec![partition.partition],
            }),
        }
    }
    topics
}
