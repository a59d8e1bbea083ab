//! Members leave, and groups are deleted.

use corelane_protocol::request::{DeleteGroupRequest, LeaveGroupRequest};
use corelane_protocol::{ApiError, ErrorCode};

use super::checks::{check_group, invalid};
use super::heartbeat::stale;
use super::member::{Member, no_such_member};
use super::{Coordinator, Now, Outcome, Topics};

impl Coordinator {
    /// A member goes; what it has had is free. One that returns, which needs an instance name,
    /// keeps its partitions until its session is over, unless they become others' meanwhile.
    ///
    /// Its generation may be the one before: the answer that told it of its present one may have
    /// been lost.
    pub fn leave(
        &mut self,
        now: Now,
        topics: &dyn Topics,
        request: &LeaveGroupRequest,
    ) -> Outcome<()> {
        match self.check_leave(request) {
            Err(error) => return Outcome::refused(error),
            Ok(member) if member.away && request.returns => {
                return Outcome {
                    result: Ok(()),
                    records: Vec::new(),
                };
            }
            Ok(_) => {}
        }
        let id = request.member.id;
        let mut records = Vec::new();
        self.change(now, &request.group, &mut records, |group, alarms, _| {
            if !request.returns {
                group.remove(id, alarms);
                group.retarget(topics);
                return;
            }
            group.hold_nothing(id);
            let member = group.members.get_mut(&id).expect("the member was checked");
            member.away = true;
            member.seen(now);
            group.changes.members.insert(id);
            group.arm(id, alarms);
        });
        Outcome {
            result: Ok(()),
            records,
        }
    }

    fn check_leave(&self, request: &LeaveGroupRequest) -> Result<&Member, ApiError> {
        check_group(&request.group)?;
        let name = request.group.as_str();
        let group = self.groups.get(name);
        let member = group
            .and_then(|group| group.members.get(&request.member.id))
            .ok_or_else(|| no_such_member(name, request.member.id))?;
        let said = request.member.generation;
        if said != member.generation && said != member.previous {
            return Err(stale(name, request.member, member.generation));
        }
        if request.returns && member.subscription.instance.is_none() {
            return Err(invalid(
                "only a member with an instance name can return; leave for good, or join with one",
            ));
        }
        Ok(member)
    }

    /// Forgets a group without members, and its offsets.
    pub fn delete(&mut self, now: Now, request: &DeleteGroupRequest) -> Outcome<()> {
        let name = request.group.as_str();
        if let Err(error) = check_group(name) {
            return Outcome::refused(error);
        }
        match self.groups.get(name) {
            None => return Outcome::refused(no_such_group(name)),
            Some(group) if !group.members.is_empty() => {
                return Outcome::refused(not_empty(name, group.members.len()));
            }
            Some(_) => {}
        }
        let mut records = Vec::new();
        self.change(now, name, &mut records, |group, _, _| {
            group.remove_all_offsets()
        });
        Outcome {
            result: Ok(()),
            records,
        }
    }
}

pub(super) fn no_such_group(name: &str) -> ApiError {
    ApiError::new(
        ErrorCode::UnknownGroup,
        format!("there is no group {name:?}"),
    )
}

pub(super) fn not_empty(name: &str, members: usize) -> ApiError {
    ApiError::new(
        ErrorCode::GroupNotEmpty,
        format!("group {name:?} has {members} members"),
    )
}
