//! A coordinator is read back from its log, and written out in short.
//!
//! Owns what is done about a log that does not fit: nothing that was read may break the rule that
//! a partition has one holder. A member that cannot stay as it is, is removed, and joins again.

use std::ops::Bound;
use std::sync::Arc;

use corelane_protocol::{Generation, MemberId};

use super::alarms::Alarms;
use super::assignors::Assignor;
use super::group::{Changes, Group};
use super::member::Member;
use super::pattern::Pattern;
use super::record::{GroupRecord, GroupValue};
use super::{Allowance, Coordinator, Now, Topics};

/// The steps that it takes to compile a pattern.
const COMPILE_STEPS: usize = 4_000;

/// How far groups were made of what was read.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// The last group that was made.
    last: Option<Arc<str>>,
    /// What has changed by that.
    records: Vec<GroupRecord>,
}

impl Coordinator {
    /// Takes up a record of the log, in the order of the log. Only before
    /// [`Coordinator::loaded`].
    pub fn replay(&mut self, record: GroupRecord) {
        let (GroupRecord::Group { group, .. }
        | GroupRecord::Member { group, .. }
        | GroupRecord::Offset { group, .. }) = &record;
        let name = group.clone();
        self.make_group(&name);
        let group = self.groups.get_mut(name.as_str()).expect("it was made");
        match record {
            GroupRecord::Group { value, .. } => group.replay(value),
            GroupRecord::Member { member, value, .. } => match value {
                Some(value) => {
                    group.members.insert(member, Member::from_value(*value));
                }
                None => {
                    group.members.remove(&member);
                }
            },
            GroupRecord::Offset {
                partition, value, ..
            } => {
                group.remove_offset(partition);
                if let Some(committed) = value {
                    group.put_offset(partition, committed);
                }
            }
        }
        if !group.logged && group.members.is_empty() && group.offsets.is_empty() {
            self.groups.remove(name.as_str());
        }
    }

    /// The whole log was read: members go on as they were, with their timers begun anew. What does
    /// not fit what there is now (topics that are gone, above all) is put right; `topics` must be
    /// all that there are.
    ///
    /// Returns what has changed by that, to be logged as after a request; `None` if it is not done
    /// within what is allowed: then it goes on with the next call. Nothing else is asked before,
    /// but [`Coordinator::topics_changed`] is told of changes in between.
    pub fn loaded(
        &mut self,
        now: Now,
        topics: &dyn Topics,
        allowance: &mut Allowance,
    ) -> Option<Vec<GroupRecord>> {
        let Load {
            mut last,
            mut records,
        } = std::mem::take(&mut self.load);
        while let Some(name) = self.group_after(last.as_ref()) {
            if allowance.is_spent() {
                self.load = Load { last, records };
                return None;
            }
            let steps = self.change(now, &name, &mut records, |group, alarms, _| {
                group.load(now, topics, alarms)
            });
            allowance.spend(steps);
            last = Some(name);
        }
        // It may have taken a while: nobody's session is over by it.
        let members = self
            .groups
            .values_mut()
            .flat_map(|group| group.members.values_mut());
        members.for_each(|member| member.begin_anew(now));
        Some(records)
    }

    /// The first group after another, in the order of their names.
    pub(super) fn group_after(&self, last: Option<&Arc<str>>) -> Option<Arc<str>> {
        let after = last.map_or(Bound::Unbounded, |name| Bound::Excluded(&**name));
        let mut later = self.groups.range::<str, _>((after, Bound::Unbounded));
        later.next().map(|(name, _)| name.clone())
    }

    /// Records of everything that is alive: a log of these alone makes the same coordinator.
    pub fn snapshot(&self) -> impl Iterator<Item = GroupRecord> + '_ {
        self.groups.values().flat_map(Group::all_records)
    }
}

impl Group {
    /// Makes a group of what was read of it. Returns how many steps it took.
    fn load(&mut self, now: Now, topics: &dyn Topics, alarms: &mut Alarms) -> usize {
        self.changes = Changes::default();
        let mut steps = 1 + self.members.len();
        let removed = self.enlist(now, topics, alarms);
        steps += self.drop_offsets_of_gone_topics(topics);
        if self.members.is_empty() && !removed {
            return steps;
        }
        self.aim(topics);
        if removed || !self.members.values().all(Member::holds_target) {
            self.raise();
            self.target_generation = self.generation;
        }
        let patterns = self.patterns.values();
        steps += patterns
            .map(|pattern| COMPILE_STEPS + pattern.seen)
            .sum::<usize>();
        steps + self.aim_steps()
    }

    fn replay(&mut self, value: Option<GroupValue>) {
        self.logged = value.is_some();
        match value {
            Some(value) => {
                self.generation = value.generation;
                self.target_generation = value.target_generation.min(value.generation);
                self.assignor = Assignor::find(&value.assignor).unwrap_or_default();
                self.empty_since = value.empty_since;
            }
            None => {
                self.generation = Generation::NONE;
                self.target_generation = Generation::NONE;
                self.assignor = Assignor::default();
                self.empty_since = None;
            }
        }
    }

    /// Makes members of what was read. Says whether some could not stay.
    fn enlist(&mut self, now: Now, topics: &dyn Topics, alarms: &mut Alarms) -> bool {
        let read: Vec<_> = std::mem::take(&mut self.members).into_iter().collect();
        let mut removed = false;
        for (id, mut member) in read {
            if member.generation > self.generation {
                // The log has lost a record of the group; generations must not come again.
                self.generation = member.generation;
                self.changes.group = true;
            }
            if !self.fits(&member, topics) {
                removed = true;
                self.changes.members.insert(id);
                continue;
            }
            member.begin_anew(now);
            self.enlist_one(id, member, alarms);
        }
        removed
    }

    fn enlist_one(&mut self, id: MemberId, member: Member, alarms: &mut Alarms) {
        let unchanged = !self.changes.members.contains(&id);
        self.add(id, member, alarms);
        if unchanged {
            self.changes.members.remove(&id);
        }
    }

    /// Whether a member can stay beside those that were enlisted before. Its pattern is made
    /// known.
    fn fits(&mut self, member: &Member, topics: &dyn Topics) -> bool {
        let wanted = &member.subscription;
        let taken = |name| self.instances.contains_key(name);
        if wanted.instance.as_ref().is_some_and(taken) {
            return false;
        }
        let mut partitions = member.assigned.iter().chain(member.revoking.iter());
        if partitions.any(|partition| self.owners.contains_key(&partition)) {
            return false;
        }
        let Some(text) = &wanted.pattern else {
            return true;
        };
        if self.patterns.contains_key(text) {
            return true;
        }
        // Another version may have taken a pattern that this one does not.
        match Pattern::compile(text, topics) {
            Ok(pattern) => {
                self.keep_pattern(text, pattern);
                true
            }
            Err(_) => false,
        }
    }
}

impl Member {
    /// Its timers begin anew.
    fn begin_anew(&mut self, now: Now) {
        if !corelane_storage::planted!(SessionsNotBegunAnew) {
            self.seen(now);
        }
        if !self.revoking.is_empty() {
            self.must_let_go(now);
        }
    }
}
