//! What happens by time alone: sessions end, partitions were not let go in time, offsets expire.
//! What is left to be done from before is done as well.

use std::collections::BTreeMap;
use std::sync::Arc;

use corelane_protocol::MemberId;

use super::alarms::Alarm;
use super::group::Group;
use super::looks::REMOVE_STEPS;
use super::{Allowance, Coordinator, GroupRecord, Now, Settings, Topics};

/// The steps that an alarm takes by itself.
const ALARM_STEPS: usize = 4;

impl Coordinator {
    /// Does what is due: members that were not heard of for their session timeout, or have not let
    /// go for their rebalance timeout, are removed, and offsets of groups that have had neither
    /// members nor commits for as long as they are kept go; groups look at topics that have
    /// changed. What is not allowed any more stays due. To be called at
    /// [`Coordinator::next_deadline`]; earlier or later does no harm.
    pub fn tick(
        &mut self,
        now: Now,
        topics: &dyn Topics,
        allowance: &mut Allowance,
    ) -> Vec<GroupRecord> {
        let mut records = self.look(now, topics, allowance);
        let mut late: BTreeMap<Arc<str>, Vec<MemberId>> = BTreeMap::new();
        while !allowance.is_spent()
            && let Some(alarm) = self.alarms.take_due(now.monotonic_us)
        {
            allowance.spend(ALARM_STEPS);
            match alarm {
                Alarm::Member(name, id) => {
                    if self.is_late(now, &name, id) {
                        if !late.contains_key(&name) {
                            allowance.spend(self.groups[&name].aim_steps());
                        }
                        late.entry(name).or_default().push(id);
                    }
                }
                Alarm::Expiry(name) => {
                    allowance.spend(self.groups[&name].offsets.len() * REMOVE_STEPS);
                    self.expire(now, &name, &mut records);
                }
            }
        }
        for (name, members) in late {
            self.change(now, &name, &mut records, |group, alarms, _| {
                for id in members {
                    group.remove(id, alarms);
                }
                group.retarget(topics);
            });
        }
        records
    }

    /// Whether a member whose alarm went off has to go. Otherwise its alarm is set anew.
    fn is_late(&mut self, now: Now, name: &str, id: MemberId) -> bool {
        let group = self
            .groups
            .get_mut(name)
            .expect("alarms go with their groups");
        let member = group
            .members
            .get_mut(&id)
            .expect("alarms go with their members");
        member.alarm_us = None;
        let late = member.deadline_us() <= now.monotonic_us;
        if !late {
            group.arm(id, &mut self.alarms);
        }
        late
    }

    fn expire(&mut self, now: Now, name: &str, records: &mut Vec<GroupRecord>) {
        self.change(now, name, records, |group, _, settings| {
            // If it is not over by the wall clock, or by a commit, it is looked at again then.
            group.expiry_us = None;
            if group
                .expiry(now, settings)
                .is_some_and(|at| at <= now.monotonic_us)
            {
                group.remove_all_offsets();
            }
        });
    }
}

impl Group {
    /// When it will have had neither members nor commits for as long as offsets are kept; `None`
    /// while it has members.
    pub(super) fn expiry(&self, now: Now, settings: &Settings) -> Option<u64> {
        let committed = self.offsets.values().map(|committed| committed.time);
        let used = committed.chain([self.empty_since?]).max()?;
        let idle_ms = now
            .wall
            .get()
            .saturating_sub(used.get())
            .max(0)
            .unsigned_abs();
        let left_ms = settings.offsets_retention_ms.saturating_sub(idle_ms);
        Some(
            now.monotonic_us
                .saturating_add(left_ms.saturating_mul(1000)),
        )
    }
}
