//! Heartbeats: a member joins, stays, and is told what it may hold.
//!
//! Owns which heartbeats are believed. One with the member's generation is; one with the
//! generation before, or with none from a member that is known, is answered again.

use corelane_protocol::request::{GroupHeartbeatRequest, MemberRef, Subscription};
use corelane_protocol::response::HeartbeatAnswer;
use corelane_protocol::{ApiError, ErrorCode, Generation, MemberId};

use super::alarms::Alarms;
use super::checks::{check_group, check_subscription, host_kept, invalid};
use super::group::{GROUP_BYTES, Group, PARTITION_BYTES};
use super::member::{Member, no_such_member, subscription_bytes};
use super::partitions::PartitionSet;
use super::pattern::Pattern;
use super::{Coordinator, Now, Outcome, Topics};

/// A heartbeat as it was checked.
struct Beat<'a> {
    now: Now,
    topics: &'a dyn Topics,
    host: &'a str,
    group: &'a str,
    member: MemberRef,
    subscription: Option<Subscription>,
    /// The compiled pattern of the subscription, where the group has not got it yet.
    pattern: Option<Pattern>,
    owned: PartitionSet,
}

/// What a heartbeat of a known member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It knows its generation: what it says of its partitions counts.
    Present,
    /// It may not know the last answer yet.
    Again,
}

impl Coordinator {
    /// A member joins (with no generation), or stays.
    ///
    /// A heartbeat may be sent again. With the member's generation, partitions that it had to let
    /// go and does not own any more are free, and it is given others. With the generation before,
    /// while it owns nothing that is not its own, and with none from a member that is known, it is
    /// told what it may hold now; what it does not own any more is free with the heartbeat after
    /// that, since a request that was under way for long may be older than what the member knows.
    pub fn heartbeat(
        &mut self,
        now: Now,
        topics: &dyn Topics,
        host: &str,
        request: &GroupHeartbeatRequest,
    ) -> Outcome<HeartbeatAnswer> {
        let looked = self.look_first(now, topics, &request.group);
        let mut outcome = self.checked_heartbeat(now, topics, host, request);
        outcome.records.splice(0..0, looked);
        outcome
    }

    fn checked_heartbeat(
        &mut self,
        now: Now,
        topics: &dyn Topics,
        host: &str,
        request: &GroupHeartbeatRequest,
    ) -> Outcome<HeartbeatAnswer> {
        match self.check_beat(now, topics, host, request) {
            Err(error) => Outcome::refused(error),
            Ok(beat) => match self.known(&beat) {
                Some(member) => match standing(beat.group, member, &beat) {
                    Err(error) => Outcome::refused(error),
                    Ok(standing) => self.stay(beat, standing),
                },
                None if beat.member.generation == Generation::NONE => self.join(beat),
                None => Outcome::refused(no_such_member(beat.group, beat.member.id)),
            },
        }
    }

    fn known(&self, beat: &Beat<'_>) -> Option<&Member> {
        self.groups.get(beat.group)?.members.get(&beat.member.id)
    }

    fn check_beat<'a>(
        &self,
        now: Now,
        topics: &'a dyn Topics,
        host: &'a str,
        request: &'a GroupHeartbeatRequest,
    ) -> Result<Beat<'a>, ApiError> {
        check_group(&request.group)?;
        let wanted = request.subscription.as_ref();
        let subscription = wanted
            .map(|s| check_subscription(s, &self.settings))
            .transpose()?;
        if subscription.is_none() && request.member.generation == Generation::NONE {
            return Err(invalid(
                "a member joins with a subscription; this one has none",
            ));
        }
        let group = self.groups.get(request.group.as_str());
        let text = subscription
            .as_ref()
            .and_then(|wanted| wanted.pattern.as_ref());
        let new = text.filter(|text| group.is_none_or(|g| !g.patterns.contains_key(*text)));
        Ok(Beat {
            now,
            topics,
            host: host_kept(host),
            group: &request.group,
            member: request.member,
            pattern: new.map(|text| Pattern::compile(text, topics)).transpose()?,
            subscription,
            owned: PartitionSet::from_wire(&request.owned),
        })
    }

    fn join(&mut self, mut beat: Beat<'_>) -> Outcome<HeartbeatAnswer> {
        let subscription = beat.subscription.take().expect("a join has one");
        let predecessor = match self.predecessor(beat.group, &subscription) {
            Ok(found) => found,
            Err(error) => return Outcome::refused(error),
        };
        if let Err(error) = self.admit(&beat, &subscription, predecessor) {
            return Outcome::refused(error);
        }
        self.make_group(beat.group);
        let id = beat.member.id;
        let mut records = Vec::new();
        let answer = self.change(
            beat.now,
            beat.group,
            &mut records,
            |group, alarms, settings| {
                if let (Some(text), Some(pattern)) = (&subscription.pattern, beat.pattern.take()) {
                    group.keep_pattern(text, pattern);
                }
                let mut member = Member::new(subscription, beat.host, beat.now);
                let rebalance = match predecessor {
                    None => true,
                    Some(old) => {
                        let old = group.hand_over(old, &mut member, alarms);
                        !same_wish(&old, &member.subscription)
                    }
                };
                group.add(id, member, alarms);
                if rebalance {
                    group.retarget(beat.topics);
                }
                group.reconcile(id, &beat.owned, beat.now);
                group.arm(id, alarms);
                group.members[&id].answer(&beat.owned, settings, beat.topics)
            },
        );
        Outcome {
            result: Ok(answer),
            records,
        }
    }

    fn stay(&mut self, mut beat: Beat<'_>, standing: Standing) -> Outcome<HeartbeatAnswer> {
        let id = beat.member.id;
        if let Err(error) = self.check_change(&beat) {
            return Outcome::refused(error);
        }
        let mut records = Vec::new();
        let answer = self.change(
            beat.now,
            beat.group,
            &mut records,
            |group, alarms, settings| {
                if group.take_up(&mut beat) {
                    group.retarget(beat.topics);
                }
                let member = group
                    .members
                    .get_mut(&id)
                    .expect("the caller has seen the member");
                member.seen(beat.now);
                if member.away {
                    member.away = false;
                    // What it has had in its former life is given to it anew.
                    group.renew(id);
                }
                if standing == Standing::Present {
                    group.reconcile(id, &beat.owned, beat.now);
                }
                group.arm(id, alarms);
                group.members[&id].answer(&beat.owned, settings, beat.topics)
            },
        );
        Outcome {
            result: Ok(answer),
            records,
        }
    }

    /// The member that is away and whose instance name the new one has.
    fn predecessor(
        &self,
        group: &str,
        wanted: &Subscription,
    ) -> Result<Option<MemberId>, ApiError> {
        let Some((group, instance)) = self.groups.get(group).zip(wanted.instance.as_ref()) else {
            return Ok(None);
        };
        match group.instances.get(instance) {
            Some(other) if !group.members[other].away => Err(ApiError::new(
                ErrorCode::InstanceInUse,
                format!(
                    "member {other} of group {:?} has the name {instance:?}",
                    group.name
                ),
            )),
            other => Ok(other.copied()),
        }
    }

    /// # Errors
    /// The limits have no room for a new member.
    fn admit(
        &self,
        beat: &Beat<'_>,
        wanted: &Subscription,
        predecessor: Option<MemberId>,
    ) -> Result<(), ApiError> {
        let group = self.groups.get(beat.group);
        let most = self.settings.group_members_max;
        if predecessor.is_none() && group.map_or(0, |group| group.members.len()) >= most {
            return Err(ApiError::new(
                ErrorCode::GroupLimit,
                format!(
                    "group {:?} has {most} members (groups.members_max)",
                    beat.group
                ),
            ));
        }
        let mut bytes = Member::new(wanted.clone(), beat.host, beat.now).cost();
        if group.is_none() {
            bytes += GROUP_BYTES + 2 * beat.group.len();
        }
        if let Some((group, old)) = group.zip(predecessor) {
            bytes = bytes.saturating_sub(group.members[&old].cost());
        }
        self.check_memory(bytes + added_bytes(beat, wanted, group))
    }

    /// # Errors
    /// The member may not have another instance name, and a larger subscription needs room.
    fn check_change(&self, beat: &Beat<'_>) -> Result<(), ApiError> {
        let (Some(wanted), Some(member)) = (&beat.subscription, self.known(beat)) else {
            return Ok(());
        };
        let old = &member.subscription;
        if wanted.instance != old.instance {
            return Err(invalid(format!(
                "member {} has the instance name {:?}, which cannot become {:?}; leave, and join \
                 as another member",
                beat.member.id, old.instance, wanted.instance
            )));
        }
        if wanted == old {
            return Ok(());
        }
        let more = subscription_bytes(wanted).saturating_sub(subscription_bytes(old));
        self.check_memory(more + added_bytes(beat, wanted, self.groups.get(beat.group)))
    }

    /// # Errors
    /// There is no room for so many bytes more.
    pub(super) fn check_memory(&self, more: usize) -> Result<(), ApiError> {
        let (now, most) = (self.total.memory_bytes, self.settings.memory_bytes_max);
        if more == 0 || now.saturating_add(more) <= most {
            return Ok(());
        }
        Err(ApiError::new(
            ErrorCode::GroupLimit,
            format!(
                "the groups that are kept together with this one take {now} bytes, and {more} \
                 more would exceed the {most} allowed (groups.memory_bytes_max)"
            ),
        ))
    }
}

impl Group {
    /// Removes a member that is away for one that takes its place. Returns what it wanted.
    fn hand_over(&mut self, old: MemberId, to: &mut Member, alarms: &mut Alarms) -> Subscription {
        // The old member may be the last that has the pattern of the new one.
        let text = to.subscription.pattern.clone();
        text.iter().for_each(|text| self.pattern(text).members += 1);
        let old = self.remove(old, alarms);
        text.iter().for_each(|text| self.pattern(text).members -= 1);
        to.generation = old.generation;
        to.assigned = old.assigned;
        to.target = old.target;
        old.subscription
    }

    /// Takes up where a member connects from and what it wants. Says whether members need new
    /// targets for it.
    fn take_up(&mut self, beat: &mut Beat<'_>) -> bool {
        let id = beat.member.id;
        let old = &self.members[&id];
        let wanted = beat
            .subscription
            .take()
            .filter(|wanted| *wanted != old.subscription);
        if wanted.is_none() && old.host == beat.host {
            return false;
        }
        let rebalance = wanted
            .as_ref()
            .is_some_and(|new| !same_wish(&old.subscription, new));
        let text = wanted.as_ref().and_then(|wanted| wanted.pattern.clone());
        if let (Some(text), Some(pattern)) = (text, beat.pattern.take()) {
            self.keep_pattern(&text, pattern);
        }
        self.describe_anew(id, |member| {
            beat.host.clone_into(&mut member.host);
            if let Some(wanted) = wanted {
                member.subscription = wanted;
            }
        });
        rebalance
    }
}

/// # Errors
/// The member is not what the heartbeat takes it for.
fn standing(group: &str, member: &Member, beat: &Beat<'_>) -> Result<Standing, ApiError> {
    let generation = beat.member.generation;
    if generation == Generation::NONE {
        return Ok(Standing::Again);
    }
    if member.away {
        return Err(no_such_member(group, beat.member.id));
    }
    if generation == member.generation {
        return Ok(Standing::Present);
    }
    let foreign = beat.owned.minus(&member.assigned).minus(&member.revoking);
    if generation == member.previous && foreign.is_empty() {
        return Ok(Standing::Again);
    }
    Err(stale(group, beat.member, member.generation))
}

/// The refusal of a member whose generation is another.
pub(super) fn stale(group: &str, member: MemberRef, present: Generation) -> ApiError {
    ApiError::new(
        ErrorCode::StaleGeneration,
        format!(
            "member {} of group {group:?} says generation {}, and has generation {present}",
            member.id, member.generation
        ),
    )
}

/// Whether nobody's target depends on which of the two it is.
fn same_wish(a: &Subscription, b: &Subscription) -> bool {
    (&a.topics, &a.pattern, &a.assignor) == (&b.topics, &b.pattern, &b.assignor)
}

/// Roughly the bytes that a subscription adds to a group: a pattern and partitions that the group
/// has not had.
fn added_bytes(beat: &Beat<'_>, wanted: &Subscription, group: Option<&Group>) -> usize {
    let named = wanted
        .topics
        .iter()
        .filter_map(|name| beat.topics.by_name(name));
    let matched = beat.pattern.iter().flat_map(|pattern| &pattern.topics);
    let matched = matched.filter_map(|id| beat.topics.by_name(beat.topics.name_of(*id)?));
    let new = |id| group.is_none_or(|group| !group.topics().contains_key(&id));
    let partitions: usize = named
        .chain(matched)
        .filter(|(id, _)| new(*id))
        .map(|(_, count)| count as usize)
        .sum();
    let pattern = match (&wanted.pattern, &beat.pattern) {
        (Some(text), Some(_)) => Pattern::cost(text),
        _ => 0,
    };
    pattern + partitions * PARTITION_BYTES
}
