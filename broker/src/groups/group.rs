//! One group: its members, who holds which partition, and what was committed.
//!
//! Owns the rule that a partition has at most one holder: nobody but this file gives partitions to
//! members or takes them. Notes what has changed, and makes records of it at the end of a change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corelane_protocol::response::CommittedOffset;
use corelane_protocol::{Generation, MemberId, Timestamp, TopicId, TopicPartition};

use super::alarms::{Alarm, Alarms};
use super::assignors::Assignor;
use super::member::Member;
use super::partitions::PartitionSet;
use super::pattern::Pattern;
use super::record::{GENERATION_MAX, GroupRecord, GroupValue};
use super::{Now, Topics};

// As they are measured (docs/performance.md), and a little more.

/// Roughly the bytes of a group beside what is in it.
pub(super) const GROUP_BYTES: usize = 1_400;
/// Roughly the bytes of a partition that somebody is to hold, and holds.
pub(super) const PARTITION_BYTES: usize = OWNER_BYTES + TARGET_BYTES;
const OWNER_BYTES: usize = 110;
const TARGET_BYTES: usize = 28;
/// Roughly the bytes of a committed offset beside its metadata.
pub(super) const OFFSET_BYTES: usize = 128;

/// What there is of a group, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) memory_bytes: usize,
    pub(super) members: usize,
    pub(super) offsets: usize,
}

impl Tally {
    /// The sum after a part of it has changed.
    pub(super) fn with(self, before: Self, after: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes - before.memory_bytes + after.memory_bytes,
            members: self.members - before.members + after.members,
            offsets: self.offsets - before.offsets + after.offsets,
        }
    }
}

/// What has to be logged.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) group: bool,
    pub(super) members: BTreeSet<MemberId>,
    pub(super) offsets: BTreeSet<TopicPartition>,
}

/// A group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: Arc<str>,
    pub(super) generation: Generation,
    /// Since which the members' targets are what they are.
    pub(super) target_generation: Generation,
    pub(super) assignor: Assignor,
    pub(super) empty_since: Option<Timestamp>,
    pub(super) members: BTreeMap<MemberId, Member>,
    pub(super) instances: BTreeMap<String, MemberId>,
    /// Who may hold a partition, or has yet to let it go.
    pub(super) owners: BTreeMap<TopicPartition, MemberId>,
    pub(super) patterns: BTreeMap<String, Pattern>,
    /// The topics that members subscribe to, with their partitions, as of the last target.
    topics: BTreeMap<TopicId, u32>,
    /// The partitions of these topics, all together.
    partitions: usize,
    pub(super) offsets: BTreeMap<TopicPartition, CommittedOffset>,
    /// When the alarm of its expiry goes off.
    pub(super) expiry_us: Option<u64>,
    /// The last change of topics that it has looked at, as they are counted.
    pub(super) looked: u64,
    pub(super) changes: Changes,
    /// The log has a record of it.
    pub(super) logged: bool,
    /// What was counted of it last.
    pub(super) counted: Tally,
    pub(super) metadata_bytes: usize,
    members_bytes: usize,
    patterns_bytes: usize,
}

impl Group {
    /// A group that knows of the topics up to this change.
    pub(super) fn new(name: Arc<str>, looked: u64) -> Self {
        Self {
            name,
            generation: Generation::NONE,
            target_generation: Generation::NONE,
            assignor: Assignor::default(),
            empty_since: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            owners: BTreeMap::new(),
            patterns: BTreeMap::new(),
            topics: BTreeMap::new(),
            partitions: 0,
            offsets: BTreeMap::new(),
            expiry_us: None,
            looked,
            changes: Changes::default(),
            logged: false,
            counted: Tally::default(),
            metadata_bytes: 0,
            members_bytes: 0,
            patterns_bytes: 0,
        }
    }

    pub(super) fn value(&self) -> GroupValue {
        GroupValue {
            generation: self.generation,
            target_generation: self.target_generation,
            assignor: self.assignor.name().to_owned(),
            empty_since: self.empty_since,
        }
    }

    /// Adds a member that holds what is `assigned` to it and `revoking`; nobody else may hold any
    /// of it. Its pattern must be known.
    pub(super) fn add(&mut self, id: MemberId, member: Member, alarms: &mut Alarms) {
        if let Some(instance) = &member.subscription.instance {
            let before = self.instances.insert(instance.clone(), id);
            debug_assert_eq!(before, None, "two members have one instance name");
        }
        if let Some(text) = &member.subscription.pattern {
            self.pattern(text).members += 1;
        }
        for partition in member.assigned.iter().chain(member.revoking.iter()) {
            let before = self.owners.insert(partition, id);
            debug_assert_eq!(before, None, "{partition} has two owners");
        }
        self.members_bytes += member.cost();
        let before = self.members.insert(id, member);
        debug_assert!(before.is_none(), "a member was added twice");
        self.changes.members.insert(id);
        self.arm(id, alarms);
    }

    /// Removes a member, which there is; what it has had is free.
    pub(super) fn remove(&mut self, id: MemberId, alarms: &mut Alarms) -> Member {
        let mut member = self
            .members
            .remove(&id)
            .expect("the caller has seen the member");
        if let Some(instance) = &member.subscription.instance {
            self.instances.remove(instance);
        }
        if let Some(text) = &member.subscription.pattern {
            self.drop_pattern(text);
        }
        for partition in member.assigned.iter().chain(member.revoking.iter()) {
            release(&mut self.owners, partition, id);
        }
        self.members_bytes -= member.cost();
        self.changes.members.insert(id);
        alarms.set(
            &mut member.alarm_us,
            None,
            Alarm::Member(self.name.clone(), id),
        );
        member
    }

    /// Gives a member another host and subscription. The pattern must be known.
    pub(super) fn describe_anew(&mut self, id: MemberId, change: impl FnOnce(&mut Member)) {
        let member = self
            .members
            .get_mut(&id)
            .expect("the caller has seen the member");
        let bytes = member.cost();
        let pattern = member.subscription.pattern.clone();
        change(member);
        let (after, now) = (member.cost(), member.subscription.pattern.clone());
        self.members_bytes = self.members_bytes - bytes + after;
        if pattern != now {
            if let Some(text) = now {
                self.pattern(&text).members += 1;
            }
            if let Some(text) = pattern {
                self.drop_pattern(&text);
            }
        }
        self.changes.members.insert(id);
    }

    /// Makes a pattern known.
    pub(super) fn keep_pattern(&mut self, text: &str, pattern: Pattern) {
        if !self.patterns.contains_key(text) {
            self.patterns_bytes += Pattern::cost(text);
            self.patterns.insert(text.to_owned(), pattern);
        }
    }

    pub(super) fn pattern(&mut self, text: &str) -> &mut Pattern {
        self.patterns
            .get_mut(text)
            .expect("patterns are made known before members have them")
    }

    fn drop_pattern(&mut self, text: &str) {
        let pattern = self.pattern(text);
        pattern.members -= 1;
        if pattern.members == 0 {
            self.patterns.remove(text);
            self.patterns_bytes -= Pattern::cost(text);
        }
    }

    /// The topics that members subscribe to, with their partitions, as of the last target.
    pub(super) fn topics(&self) -> &BTreeMap<TopicId, u32> {
        &self.topics
    }

    /// The partitions of these topics, all together.
    pub(super) fn partitions(&self) -> usize {
        self.partitions
    }

    pub(super) fn set_topics(&mut self, topics: BTreeMap<TopicId, u32>) {
        self.partitions = topics.values().map(|count| *count as usize).sum();
        self.topics = topics;
    }

    /// Raises the group's generation.
    pub(super) fn raise(&mut self) {
        let next = self.generation.get() + 1;
        self.generation = Generation::new(next).min(GENERATION_MAX);
        self.changes.group = true;
    }

    /// Raises the generation for a new target of each member.
    pub(super) fn retarget(&mut self, topics: &dyn Topics) {
        self.raise();
        self.target_generation = self.generation;
        self.aim(topics);
    }

    /// Brings a member closer to its target. It holds `owned`, and knows its generation.
    pub(super) fn reconcile(&mut self, id: MemberId, owned: &PartitionSet, now: Now) {
        let member = self
            .members
            .get_mut(&id)
            .expect("the caller has seen the member");
        let freed = member.revoking.minus(owned);
        if !freed.is_empty() {
            for partition in freed.iter() {
                release(&mut self.owners, partition, id);
            }
            member.revoking = member.revoking.and(owned);
            self.changes.members.insert(id);
        }
        let revoked = member.assigned.minus(&member.target);
        if !revoked.is_empty() {
            member.assigned = member.assigned.and(&member.target);
            if corelane_storage::planted!(RevokedGivenAtOnce) {
                revoked
                    .iter()
                    .for_each(|one| release(&mut self.owners, one, id));
            } else {
                member.revoking = member.revoking.plus(&revoked);
            }
            member.must_let_go(now);
            self.changes.members.insert(id);
        }
        if member.revoking.is_empty() {
            member.rebalance_deadline_us = None;
            self.give(id);
        }
    }

    /// Gives a member that has nothing to let go what it lacks and is free.
    fn give(&mut self, id: MemberId) {
        let (owners, member) = (&self.owners, &self.members[&id]);
        let lacking = member.target.minus(&member.assigned);
        let free = lacking
            .iter()
            .filter(|partition| !owners.contains_key(partition));
        let given = PartitionSet::new(free.collect());
        if given.is_empty() && member.generation >= self.target_generation {
            return;
        }
        self.renew(id);
        let member = self.members.get_mut(&id).expect("it was there before");
        for partition in given.iter() {
            let before = self.owners.insert(partition, id);
            debug_assert_eq!(before, None, "{partition} has two owners");
        }
        member.assigned = member.assigned.plus(&given);
    }

    /// Gives a member a generation that it has not had.
    pub(super) fn renew(&mut self, id: MemberId) {
        let is_kept = corelane_storage::planted!(GenerationNotRaised);
        if self.members[&id].generation >= self.generation && !is_kept {
            self.raise();
        }
        let member = self
            .members
            .get_mut(&id)
            .expect("the caller has seen the member");
        member.previous = member.generation;
        member.generation = self.generation;
        if corelane_storage::planted!(GenerationNotLogged) {
            return;
        }
        self.changes.members.insert(id);
    }

    /// Notes that a member holds nothing any more: what is not its own by the target is free.
    pub(super) fn hold_nothing(&mut self, id: MemberId) {
        let member = self
            .members
            .get_mut(&id)
            .expect("the caller has seen the member");
        let lost = member.assigned.minus(&member.target);
        for partition in lost.iter().chain(member.revoking.iter()) {
            release(&mut self.owners, partition, id);
        }
        if !lost.is_empty() || !member.revoking.is_empty() {
            member.assigned = member.assigned.and(&member.target);
            member.revoking = PartitionSet::default();
            self.changes.members.insert(id);
        }
        member.rebalance_deadline_us = None;
    }

    /// Sees to it that an alarm goes off no later than the member's deadline.
    pub(super) fn arm(&mut self, id: MemberId, alarms: &mut Alarms) {
        let member = self
            .members
            .get_mut(&id)
            .expect("the caller has seen the member");
        let deadline_us = member.deadline_us();
        if member.alarm_us.is_none_or(|us| us > deadline_us) {
            let alarm = Alarm::Member(self.name.clone(), id);
            alarms.set(&mut member.alarm_us, Some(deadline_us), alarm);
        }
    }

    /// Notes since when it has had no members.
    pub(super) fn note_emptiness(&mut self, now: Now) {
        if self.members.is_empty() != self.empty_since.is_some() {
            self.empty_since = self.members.is_empty().then_some(now.wall);
            self.changes.group = true;
        }
    }

    /// Removes a committed offset, if there is one.
    pub(super) fn remove_offset(&mut self, partition: TopicPartition) {
        if let Some(committed) = self.offsets.remove(&partition) {
            self.metadata_bytes -= committed.metadata.len();
            self.changes.offsets.insert(partition);
        }
    }

    /// What there is of it, from sums that are kept.
    pub(super) fn tally(&self) -> Tally {
        Tally {
            memory_bytes: GROUP_BYTES
                + 2 * self.name.len()
                + self.members_bytes
                + self.patterns_bytes
                + self.owners.len() * OWNER_BYTES
                + self.partitions * TARGET_BYTES
                + self.offsets.len() * OFFSET_BYTES
                + self.metadata_bytes,
            members: self.members.len(),
            offsets: self.offsets.len(),
        }
    }

    /// Makes records of what has changed, as it is now.
    pub(super) fn take_records(&mut self, forgotten: bool, records: &mut Vec<GroupRecord>) {
        let changes = std::mem::take(&mut self.changes);
        if forgotten && self.logged {
            self.logged = false;
            records.push(self.group_record(None));
        } else if !forgotten && (changes.group || !self.logged) {
            self.logged = true;
            records.push(self.group_record(Some(self.value())));
        }
        records.extend(changes.members.into_iter().map(|id| self.member_record(id)));
        records.extend(
            changes
                .offsets
                .into_iter()
                .map(|one| self.offset_record(one)),
        );
    }

    /// A record of everything that there is.
    pub(super) fn all_records(&self) -> impl Iterator<Item = GroupRecord> + '_ {
        std::iter::once_with(|| self.group_record(Some(self.value())))
            .chain(self.members.keys().map(|id| self.member_record(*id)))
            .chain(self.offsets.keys().map(|one| self.offset_record(*one)))
    }

    fn group_record(&self, value: Option<GroupValue>) -> GroupRecord {
        GroupRecord::Group {
            group: self.name.to_string(),
            value,
        }
    }

    fn member_record(&self, id: MemberId) -> GroupRecord {
        GroupRecord::Member {
            group: self.name.to_string(),
            member: id,
            value: self
                .members
                .get(&id)
                .map(|member| Box::new(member.to_value())),
        }
    }

    fn offset_record(&self, partition: TopicPartition) -> GroupRecord {
        GroupRecord::Offset {
            group: self.name.to_string(),
            partition,
            value: self.offsets.get(&partition).cloned(),
        }
    }
}

/// Notes that a partition that the member had is free.
pub(super) fn release(
    owners: &mut BTreeMap<TopicPartition, MemberId>,
    partition: TopicPartition,
    member: MemberId,
) {
    let owner = owners.remove(&partition);
    debug_assert_eq!(
        owner,
        Some(member),
        "{partition} was freed by who did not have it"
    );
}
