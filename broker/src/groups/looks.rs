//! Groups look at topics that have changed, some of them at a time.
//!
//! Owns whose turn it is. A change makes every group due, and they look one after the other in the
//! order of their names, from where the last look was, in a circle: however often topics change,
//! none is passed over. A group whose member sends a heartbeat meanwhile looks first, so that no
//! member is told of topics as they were.

use std::sync::Arc;

use corelane_protocol::TopicId;

use super::group::Group;
use super::{Allowance, Coordinator, GroupRecord, Now, Topics};

/// The steps that it takes to remove an offset, and to log that.
pub(super) const REMOVE_STEPS: usize = 4;

/// Which groups have yet to look.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// Counts the changes of topics.
    pub(super) change: u64,
    /// How many groups are still to be asked, beginning after `last`, in a circle.
    left: usize,
    /// The group that was asked last; none while the circle begins with the first group.
    last: Option<Arc<str>>,
}

impl Looks {
    /// Whether a group may have to look.
    pub(super) fn are_due(&self) -> bool {
        self.left > 0
    }

    /// There is a group more. It knows of the last change, and lies in the circle.
    pub(super) fn group_made(&mut self) {
        if self.left > 0 {
            self.left += 1;
        }
    }
}

impl Coordinator {
    /// Takes note that topics were made, deleted or extended. To be called after every such change;
    /// what follows of it is done by [`Coordinator::look`], and by [`Coordinator::tick`], which is
    /// due until all is done.
    pub fn topics_changed(&mut self) {
        self.looks.change += 1;
        self.looks.left = self.groups.len();
    }

    /// Lets groups look at the topics, as many as are allowed: those that subscribe to topics that
    /// have changed get new targets, and offsets of topics that are gone go.
    ///
    /// Returns what has changed by that, to be logged as after a request.
    pub fn look(
        &mut self,
        now: Now,
        topics: &dyn Topics,
        allowance: &mut Allowance,
    ) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        while !allowance.is_spent()
            && let Some(name) = self.next_to_look()
        {
            let steps = self.look_at(now, topics, &name, &mut records);
            allowance.spend(steps);
        }
        records
    }

    /// Lets the group look that is asked for something, if it has not yet.
    pub(super) fn look_first(
        &mut self,
        now: Now,
        topics: &dyn Topics,
        name: &str,
    ) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        if self.looks.are_due() && self.groups.contains_key(name) {
            self.look_at(now, topics, name, &mut records);
        }
        records
    }

    fn next_to_look(&mut self) -> Option<Arc<str>> {
        self.looks.left = self.looks.left.min(self.groups.len());
        if self.looks.left == 0 {
            return None;
        }
        self.looks.left -= 1;
        let last = self.looks.last.take();
        let next = self.group_after(last.as_ref());
        let next = next.or_else(|| self.group_after(None));
        if self.looks.left > 0 {
            self.looks.last.clone_from(&next);
        }
        next
    }

    /// Returns how many steps it took.
    fn look_at(
        &mut self,
        now: Now,
        topics: &dyn Topics,
        name: &str,
        records: &mut Vec<GroupRecord>,
    ) -> usize {
        let change = self.looks.change;
        if self.groups[name].looked == change {
            return 1;
        }
        self.change(now, name, records, |group, _, _| {
            group.looked = change;
            group.look(topics)
        })
    }
}

impl Group {
    /// Follows what topics have changed to. Returns how many steps it took.
    fn look(&mut self, topics: &dyn Topics) -> usize {
        let mut steps = 1 + self.members.len() + self.drop_offsets_of_gone_topics(topics);
        for pattern in self.patterns.values_mut() {
            pattern.look(topics);
            steps += pattern.seen;
        }
        steps += self.topics().len();
        if self.topics_differ(topics) {
            self.retarget(topics);
            steps += self.aim_steps();
        }
        steps
    }

    /// Returns how many steps it took.
    pub(super) fn drop_offsets_of_gone_topics(&mut self, topics: &dyn Topics) -> usize {
        let mut gone = Vec::new();
        let mut seen: Option<(TopicId, bool)> = None;
        for partition in self.offsets.keys() {
            let there = match seen {
                Some((topic, there)) if topic == partition.topic => there,
                _ => topics.name_of(partition.topic).is_some(),
            };
            seen = Some((partition.topic, there));
            if !there {
                gone.push(*partition);
            }
        }
        let steps = self.offsets.len() + gone.len() * REMOVE_STEPS;
        gone.into_iter()
            .for_each(|partition| self.remove_offset(partition));
        steps
    }
}
