//! What a member of a group makes of the answers.

use corelane_protocol::response::{
    CommittedEntry, CoreAddress, FetchedOffset, HeartbeatAnswer, Response,
};
use corelane_protocol::{ApiError, ErrorCode, Generation, TopicId, TopicPartition};

use super::super::{Client, Context, Reply};
use super::{Asked, Ghost, Member, What};
use crate::counters::Sometimes;
use crate::grouping::{Partitions, Told};

/// The mean time that it takes to let go of a partition.
const LET_GO_US: u64 = 150_000;

impl Member {
    pub(super) fn reply(&mut self, context: &mut Context<'_>, reply: &Reply) {
        let name = self.name();
        let response = match reply.response() {
            Ok(response) => response,
            Err(problem) => return context.history.problem(format!("{name}: {problem}")),
        };
        if reply.correlation() == 0 {
            // The connection is refused, and closed.
            return;
        }
        let Some(asked) = self.asked.remove(&reply.correlation()) else {
            let problem = format!("{name}: answered {} unasked", reply.correlation());
            return context.history.problem(problem);
        };
        self.link.answered(context, !self.asked.is_empty());
        let mut owner = None;
        match (&asked.what, response) {
            (What::Topics, response) => self.looked(context, response),
            (What::Beat(owned), response) => {
                let result = response.and_then(|response| match response {
                    Response::GroupHeartbeat(answer) => {
                        owner = answer.owner;
                        answer.result
                    }
                    _ => Err(wrong()),
                });
                self.beaten(context, &asked, owned, result, owner);
            }
            (What::Commit(some), response) => {
                let result = response.and_then(|response| match response {
                    Response::CommitOffsets(answer) => {
                        owner = answer.owner;
                        answer.result
                    }
                    _ => Err(wrong()),
                });
                self.committed(context, &asked, some, result, owner);
            }
            (What::Fetch(partitions), response) => {
                let result = response.and_then(|response| match response {
                    Response::FetchOffsets(answer) => {
                        owner = answer.owner;
                        answer.result
                    }
                    _ => Err(wrong()),
                });
                self.fetched(context, &asked, partitions.as_deref(), result, owner);
            }
            (What::Leave, response) => {
                let result = response.and_then(|response| match response {
                    Response::LeaveGroup(answer) => {
                        owner = answer.owner;
                        answer.result
                    }
                    _ => Err(wrong()),
                });
                match result {
                    Ok(()) => context.history.reached(Sometimes::MemberLeft),
                    Err(error) if is_lost(error.code) => {}
                    Err(error) => self.refused(context, &error, owner),
                }
            }
        }
    }

    /// A heartbeat was answered.
    fn beaten(
        &mut self,
        context: &mut Context<'_>,
        asked: &Asked,
        owned: &Partitions,
        result: Result<HeartbeatAnswer, ApiError>,
        owner: Option<CoreAddress>,
    ) {
        let (now_us, pause_us) = (context.now_us, context.about(100_000));
        let is_own = |life: &&mut super::Life| life.member() == asked.member;
        let Some(life) = self.life.as_mut().filter(is_own) else {
            // It is somebody else by now.
            return;
        };
        life.is_beating = false;
        let answer = match result {
            Ok(answer) => answer,
            Err(error) if is_lost(error.code) => return self.lost(context, asked, &error),
            Err(error) if error.code == ErrorCode::InstanceInUse && self.instance.is_some() => {
                context.history.reached(Sometimes::InstanceInUse);
                life.beat_us = now_us + 200_000 + pause_us;
                return;
            }
            Err(error) => {
                life.beat_us = now_us + pause_us;
                return self.refused(context, &error, owner);
            }
        };
        let may = match &answer.assignment {
            None => owned.clone(),
            Some(topics) => {
                // A topic that is gone has no name.
                let lasting = topics
                    .iter()
                    .filter(|topic| !topic.name.is_empty() && !topic.name.starts_with('p'));
                lasting.for_each(|topic| context.history.grouping.lasts(topic.topic));
                let topics = topics.iter();
                topics
                    .flat_map(|of| {
                        of.partitions
                            .iter()
                            .map(|one| TopicPartition::new(of.topic, *one))
                    })
                    .collect()
            }
        };
        life.beat_us = now_us + u64::from(answer.heartbeat_interval_ms) * 1000;
        if life.generation == Generation::NONE {
            context.history.reached(Sometimes::MemberJoined);
            if std::mem::take(&mut self.returns) && !may.is_empty() {
                context.history.reached(Sometimes::InstanceReturned);
            }
        }
        let told = Told {
            id: life.id,
            instance: self.instance.as_deref(),
            is_join: life.generation == Generation::NONE,
            sent_us: asked.us,
            timeouts: self.parts.timeouts,
            generation: answer.generation.get(),
            may: &may,
        };
        let moved = context
            .history
            .grouping
            .told(now_us, self.parts.group, &told);
        life.generation = answer.generation;
        if asked.us + self.parts.timeouts.session_us <= now_us {
            // It comes too late to be relied on.
            context.history.grouping.gone(self.parts.group, life.id);
            life.forget(now_us);
        } else {
            life.heard_us = Some(asked.us);
            life.begins.extend(may.difference(&life.holds));
            life.letting = life.holds.difference(&may).copied().collect();
            life.holds.extend(&may);
            let mut takes_us = context.random.below(2 * LET_GO_US + 1);
            if !context.is_draining && context.random.chance(1, 30) {
                takes_us = context.random.below(2 * self.parts.timeouts.rebalance_us);
            }
            life.let_go_us = now_us + takes_us;
        }
        let (holds, letting) = (life.holds.len(), life.letting.len());
        let name = self.name();
        context.note(format_args!(
            "{name}: {} has generation {}, may hold {}, holds {holds}, lets go of {letting}",
            asked.member.id,
            answer.generation,
            may.len()
        ));
        match moved {
            Ok(0) => {}
            Ok(_) => context.history.reached(Sometimes::PartitionMoved),
            Err(problem) => context.history.problem(format!("{name}: {problem}")),
        }
    }

    /// The member is none any more.
    fn lost(&mut self, context: &mut Context<'_>, asked: &Asked, error: &ApiError) {
        let (name, group) = (self.name(), self.parts.group);
        context.note(format_args!("{name}: {} is lost: {error}", asked.member.id));
        let Some(life) = self.life.take() else {
            return;
        };
        let grouping = &mut context.history.grouping;
        if asked.member.generation == Generation::NONE {
            return context
                .history
                .problem(format!("{name}: a join is refused: {error}"));
        }
        match grouping.lost(context.now_us, group, life.id, self.parts.timeouts) {
            Ok(()) => context.history.reached(Sometimes::MemberLost),
            Err(problem) => context
                .history
                .problem(format!("{name}: {problem}: {error}")),
        }
        self.last = None;
        self.begin_us = context.now_us + context.about(100_000);
        if !context.is_draining && context.random.coin() {
            self.ghost = Some(Ghost {
                member: asked.member,
                holds: life.holds,
                at_us: context.now_us,
            });
        }
    }

    fn committed(
        &mut self,
        context: &mut Context<'_>,
        asked: &Asked,
        some: &[(TopicPartition, u64)],
        result: Result<Vec<CommittedEntry>, ApiError>,
        owner: Option<CoreAddress>,
    ) {
        let (now_us, name, group) = (context.now_us, self.name(), self.parts.group);
        let id = asked.member.id;
        let life = self.life.as_mut().filter(|life| life.id == id);
        let is_own = life.is_some();
        if let Some(life) = life {
            life.is_committing = false;
        }
        let entries = match result {
            Ok(entries) => entries,
            Err(error) if is_lost(error.code) => {
                for one in some {
                    let grouping = &mut context.history.grouping;
                    let _ = grouping.commit_refused(now_us, asked.us, group, id, *one, false);
                }
                let life = self
                    .life
                    .as_mut()
                    .filter(|life| life.member() == asked.member);
                match life {
                    Some(_) if error.code == ErrorCode::UnknownMember => {
                        self.lost(context, asked, &error);
                    }
                    Some(life) => life.beat_us = now_us,
                    None if !is_own => context.history.reached(Sometimes::ZombieRefused),
                    None => {}
                }
                return;
            }
            Err(error) => return self.refused(context, &error, owner),
        };
        context.note(format_args!("{name}: {id} committed {some:?}"));
        if entries.len() != some.len() {
            return context
                .history
                .problem(format!("{name}: not as many entries as asked"));
        }
        for ((partition, offset), entry) in some.iter().zip(entries) {
            let (partition, offset) = (*partition, *offset);
            if entry.partition != partition {
                let problem = format!(
                    "{name}: an answer about {} for {partition}",
                    entry.partition
                );
                return context.history.problem(problem);
            }
            let grouping = &mut context.history.grouping;
            let judged = match entry.result {
                Ok(()) => grouping.committed(now_us, asked.us, group, id, partition, offset),
                Err(error) => {
                    let is_foreign = error.code == ErrorCode::NotAssigned;
                    let is_gone = matches!(
                        error.code,
                        ErrorCode::UnknownTopic | ErrorCode::UnknownPartition
                    );
                    let one = (partition, offset);
                    let refused =
                        grouping.commit_refused(now_us, asked.us, group, id, one, is_foreign);
                    if is_foreign && !is_own {
                        context.history.reached(Sometimes::ZombieRefused);
                    }
                    match refused {
                        Ok(()) if !is_foreign && !is_gone => Err(format!("{partition}: {error}")),
                        refused => refused,
                    }
                }
            };
            if let Err(problem) = judged {
                context.history.problem(format!("{name}: {problem}"));
            }
        }
    }

    fn fetched(
        &mut self,
        context: &mut Context<'_>,
        asked: &Asked,
        partitions: Option<&[TopicPartition]>,
        result: Result<Vec<FetchedOffset>, ApiError>,
        owner: Option<CoreAddress>,
    ) {
        let (now_us, name, group) = (context.now_us, self.name(), self.parts.group);
        if let Some(life) = self.life.as_mut().filter(|life| life.id == asked.member.id) {
            life.is_fetching = false;
        }
        let entries = match result {
            Ok(entries) => entries,
            Err(error) if error.code == ErrorCode::UnknownGroup && partitions.is_none() => {
                Vec::new()
            }
            Err(error) => {
                if let Some(life) = self.life.as_mut().filter(|life| life.id == asked.member.id) {
                    // It asks again, for what it still holds.
                    let again = partitions.into_iter().flatten();
                    let again = again.filter(|partition| life.holds.contains(partition));
                    life.begins.extend(again);
                    life.fetch_us = now_us + 100_000;
                }
                return self.refused(context, &error, owner);
            }
        };
        let named: Vec<_> = entries.iter().map(|entry| entry.partition).collect();
        if partitions.is_some_and(|partitions| partitions != named) {
            return context
                .history
                .problem(format!("{name}: other partitions than asked for"));
        }
        let mut found: Vec<_> = entries
            .into_iter()
            .map(|entry| {
                (
                    entry.partition,
                    entry.committed.map(|committed| committed.offset.get()),
                )
            })
            .collect();
        if partitions.is_none() {
            let all = context.history.grouping.committed_partitions(group);
            let missing = all
                .into_iter()
                .filter(|partition| !named.contains(partition));
            found.extend(missing.map(|partition| (partition, None)));
        }
        context.note(format_args!("{name}: committed are {found:?}"));
        for (partition, offset) in found {
            let grouping = &mut context.history.grouping;
            let judged = grouping.fetched(now_us, asked.us, group, partition, offset);
            if let Err(problem) = judged {
                context.history.problem(format!("{name}: {problem}"));
            }
        }
    }

    /// What partitions there are.
    fn looked(&self, context: &mut Context<'_>, response: Result<Response<'_>, ApiError>) {
        let Ok(Response::Metadata(response)) = response else {
            return;
        };
        for topic in response.topics {
            let found: Option<(TopicId, u32)> = match topic.result {
                Ok(found) => Some((found.id, found.partitions.len() as u32)),
                Err(_) => None,
            };
            context.history.grouping.topic_seen(&topic.name, found);
        }
    }

    /// Something could not be done now.
    fn refused(&mut self, context: &mut Context<'_>, error: &ApiError, owner: Option<CoreAddress>) {
        let name = self.name();
        context.note(format_args!("{name}: refused: {error}"));
        match error.code {
            ErrorCode::Overloaded | ErrorCode::ShuttingDown | ErrorCode::TimedOut => {}
            ErrorCode::GroupLoading => context.history.reached(Sometimes::GroupLoading),
            ErrorCode::DiskFull => context.history.reached(Sometimes::GroupNotLogged),
            ErrorCode::StorageFailed => context.history.storage_failed = true,
            ErrorCode::CorruptData if context.may_be_damaged() => {}
            ErrorCode::NotOwner if self.parts.no_forward => {
                self.link.core = owner.map(|owner| owner.core.get());
                if self.link.core.is_none() {
                    let problem = format!("{name}: not the owner, and no address");
                    context.history.problem(problem);
                }
                self.link.close(context);
                self.lose_connection();
            }
            code => context
                .history
                .problem(format!("{name}: {code:?}: {error}")),
        }
    }
}

/// Whether the member is not, or not as it takes itself for.
fn is_lost(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::UnknownMember | ErrorCode::StaleGeneration)
}

fn wrong() -> ApiError {
    ApiError::new(ErrorCode::Internal, "an answer to something else")
}
