//! What happens by time alone: sessions end, partitions were not let go in time, offsets expire.

use std::collections::BTreeMap;
use std::sync::Arc;

use corelane_protocol::MemberId;

use super::alarms::Alarm;
use super::{Coordinator, GroupRecord, Now, Topics};

impl Coordinator {
    /// Does what is due: members that were not heard of for their session timeout, or have not let
    /// go for their rebalance timeout, are removed, and offsets of groups that have had neither
    /// members nor commits for as long as they are kept go. To be called at
    /// [`Coordinator::next_deadline`]; earlier or later does no harm.
    pub fn tick(&mut self, now: Now, topics: &dyn Topics) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        let mut late: BTreeMap<Arc<str>, Vec<MemberId>> = BTreeMap::new();
        while let Some(alarm) = self.alarms.take_due(now.monotonic_us) {
            match alarm {
                Alarm::Member(name, id) => {
                    if self.is_late(now, &name, id) {
                        late.entry(name).or_default().push(id);
                    }
                }
                Alarm::Expiry(name) => self.expire(now, &name, &mut records),
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
