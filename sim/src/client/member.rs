//! A member of a consumer group: joins, holds what it is given, commits, leaves, crashes, comes back.
//!
//! It does not read: what it commits are numbers of their own. Some of what has crashed goes on as a ghost, which
//! commits and sends heartbeats late under its old name; some members are silent for longer than they may be, and some
//! of these do not notice.

mod answers;

use std::collections::BTreeMap;

use corelane_protocol::request::{
    CommitEntry, CommitOffsetsRequest, FetchOffsetsRequest, GroupHeartbeatRequest,
    LeaveGroupRequest, MemberRef, MetadataRequest, PartitionsOfTopic, Subscription,
};
use corelane_protocol::{
    Generation, MemberId, Offset, Request, RequestFlags, TopicId, TopicPartition,
};
use uuid::Uuid;

use super::link::Link;
use super::{Client, ClientEvent, Context};
use crate::grouping::{Partitions, Timeouts};

/// The mean pause between two commits.
const COMMIT_US: u64 = 400_000;

/// Partitions of one commit at most.
const COMMIT_MAX: usize = 4;

/// The pause between two looks at the topics, once all is to come to rest.
const LOOK_US: u64 = 2_000_000;

pub(crate) struct MemberParts {
    pub(crate) group: &'static str,
    pub(crate) number: usize,
    pub(crate) topics: Vec<String>,
    pub(crate) pattern: Option<String>,
    pub(crate) assignor: Option<String>,
    pub(crate) is_static: bool,
    pub(crate) no_forward: bool,
    pub(crate) timeouts: Timeouts,
}

pub(crate) struct Member {
    parts: MemberParts,
    instance: Option<String>,
    link: Link,
    life: Option<Life>,
    /// The id that it had last.
    last: Option<MemberId>,
    /// It begins a life then.
    begin_us: u64,
    look_us: u64,
    /// It has said that it returns under its instance name.
    returns: bool,
    ghost: Option<Ghost>,
    asked: BTreeMap<u32, Asked>,
}

/// One membership.
struct Life {
    id: MemberId,
    generation: Generation,
    holds: Partitions,
    /// What it will let go of, and when.
    letting: Partitions,
    let_go_us: u64,
    /// Of what it does not know yet where to go on.
    begins: Partitions,
    fetch_us: u64,
    beat_us: u64,
    commit_us: u64,
    silent_until_us: u64,
    /// When the last heartbeat that was answered was sent.
    heard_us: Option<u64>,
    is_beating: bool,
    is_committing: bool,
    is_fetching: bool,
    /// It does not notice that its session is over.
    is_careless: bool,
}

/// What a crash has left.
struct Ghost {
    member: MemberRef,
    holds: Partitions,
    at_us: u64,
}

/// A request in flight.
struct Asked {
    us: u64,
    member: MemberRef,
    what: What,
}

enum What {
    Beat(Partitions),
    /// The offset of each partition.
    Commit(Vec<(TopicPartition, u64)>),
    /// None: all that there are.
    Fetch(Option<Vec<TopicPartition>>),
    Leave,
    Topics,
}

impl Life {
    fn new(id: MemberId, now_us: u64, is_careless: bool) -> Self {
        Self {
            id,
            generation: Generation::NONE,
            holds: Partitions::new(),
            letting: Partitions::new(),
            let_go_us: 0,
            begins: Partitions::new(),
            fetch_us: 0,
            beat_us: now_us,
            commit_us: now_us,
            silent_until_us: 0,
            heard_us: None,
            is_beating: false,
            is_committing: false,
            is_fetching: false,
            is_careless,
        }
    }

    fn member(&self) -> MemberRef {
        MemberRef {
            id: self.id,
            generation: self.generation,
        }
    }

    /// What it was given is others' by now.
    fn forget(&mut self, now_us: u64) {
        self.generation = Generation::NONE;
        self.heard_us = None;
        self.holds.clear();
        self.letting.clear();
        self.begins.clear();
        self.beat_us = now_us;
    }
}

impl Member {
    pub(crate) fn new(parts: MemberParts) -> Self {
        let instance = parts.is_static.then(|| format!("i{}", parts.number));
        Self {
            parts,
            instance,
            link: Link::new(),
            life: None,
            last: None,
            begin_us: 0,
            look_us: 0,
            returns: false,
            ghost: None,
            asked: BTreeMap::new(),
        }
    }

    fn work(&mut self, context: &mut Context<'_>) {
        if context.history.grouping.is_over {
            return;
        }
        if self.link.tend(context) {
            self.lose_connection();
        }
        let mut next = self.link.next_us(context.now_us);
        self.notice(context);
        if self.link.open().is_some() {
            next = next.min(self.go_on(context));
        }
        if let Some(heard_us) = self.life.as_ref().and_then(|life| life.heard_us) {
            let over_us = heard_us + self.parts.timeouts.session_us;
            if over_us > context.now_us {
                next = next.min(over_us);
            }
        }
        context.wake_at(next);
    }

    fn lose_connection(&mut self) {
        self.asked.clear();
        if let Some(life) = &mut self.life {
            life.is_beating = false;
            life.is_committing = false;
            life.is_fetching = false;
        }
    }

    /// A member whose session is over takes itself for lost.
    fn notice(&mut self, context: &mut Context<'_>) {
        let session_us = self.parts.timeouts.session_us;
        let now_us = context.now_us;
        let Some(life) = &mut self.life else {
            return;
        };
        let is_over = life.heard_us.is_some_and(|us| us + session_us <= now_us);
        if !is_over || (!context.is_draining && (life.is_careless || life.silent_until_us > now_us))
        {
            return;
        }
        let (name, id) = (self.parts.group, life.id);
        context.history.grouping.gone(name, id);
        let ghost = Ghost {
            member: life.member(),
            holds: life.holds.clone(),
            at_us: now_us,
        };
        life.forget(now_us);
        // What it has sent is answered for nobody.
        let is_beating = life.is_beating;
        if is_beating {
            self.link.close(context);
            self.lose_connection();
        }
        if context.is_draining || context.random.coin() {
            return;
        }
        if context.random.coin() {
            self.ghost = Some(ghost);
            self.last = None;
        }
        self.life = None;
        self.begin_us = now_us;
    }

    /// Whatever is due; when to look again.
    fn go_on(&mut self, context: &mut Context<'_>) -> u64 {
        let now_us = context.now_us;
        let mut next = self.look(context);
        if let Some(ghost) = &self.ghost {
            if ghost.at_us <= now_us {
                self.haunt(context);
            } else {
                next = next.min(ghost.at_us);
            }
        }
        if self.life.is_none() {
            if self.begin_us > now_us && !context.is_draining {
                return next.min(self.begin_us);
            }
            self.begin(context);
        }
        let is_draining = context.is_draining;
        let Some(life) = &mut self.life else {
            return next;
        };
        if life.silent_until_us > now_us && !is_draining {
            return next.min(life.silent_until_us);
        }
        if !life.letting.is_empty() && !life.is_beating {
            if life.let_go_us <= now_us || is_draining {
                let letting = std::mem::take(&mut life.letting);
                life.holds.retain(|partition| !letting.contains(partition));
                life.begins.retain(|partition| !letting.contains(partition));
                life.beat_us = now_us;
            } else {
                next = next.min(life.let_go_us);
            }
        }
        if !life.is_beating {
            if life.beat_us <= now_us {
                if !is_draining && self.falter(context) {
                    return next.min(now_us + 1);
                }
                self.beat(context);
            } else {
                next = next.min(life.beat_us);
            }
        }
        self.fetch_begins(context);
        next.min(self.commit_some(context))
    }

    fn begin(&mut self, context: &mut Context<'_>) {
        // Without an id kept, and while something goes about under the old one, it is somebody else.
        let is_free = self.ghost.is_none() && !context.is_draining;
        let kept = self.last.filter(|_| is_free && context.random.chance(1, 4));
        let id = kept.unwrap_or_else(|| {
            let mut bytes = [0; 16];
            context.random.fill(&mut bytes);
            MemberId::new(Uuid::from_bytes(bytes))
        });
        let is_careless = context.random.chance(1, 4);
        self.last = Some(id);
        self.life = Some(Life::new(id, context.now_us, is_careless));
    }

    /// Now and then something goes wrong with a member. Says whether it does.
    fn falter(&mut self, context: &mut Context<'_>) -> bool {
        let (name, session_us) = (self.name(), self.parts.timeouts.session_us);
        let Some(life) = self
            .life
            .as_mut()
            .filter(|life| life.generation != Generation::NONE)
        else {
            return false;
        };
        let (member, holds) = (life.member(), life.holds.clone());
        match context.random.below(90) {
            0 | 1 => {
                context.note(format_args!("{name}: crashes"));
                context.history.grouping.gone(self.parts.group, member.id);
                if context.random.coin() {
                    let at_us = context.now_us + context.random.below(2 * session_us);
                    self.ghost = Some(Ghost {
                        member,
                        holds,
                        at_us,
                    });
                    self.last = None;
                }
                self.link.close(context);
                self.lose_connection();
            }
            2 | 3 => {
                let returns = self.parts.is_static && context.random.chance(3, 4);
                context.note(format_args!("{name}: leaves, returns {returns}"));
                context.history.grouping.gone(self.parts.group, member.id);
                let request = Request::LeaveGroup(LeaveGroupRequest {
                    group: self.parts.group.to_owned(),
                    member,
                    returns,
                });
                self.ask(context, member, What::Leave, &request);
                self.last = None;
                self.returns = returns;
            }
            4 | 5 => {
                life.silent_until_us = context.now_us + context.random.below(2 * session_us);
                let until_us = life.silent_until_us;
                context.note(format_args!("{name}: is silent until {until_us}"));
                return true;
            }
            _ => return false,
        }
        self.life = None;
        self.begin_us = context.now_us + context.random.below(session_us * 3 / 2);
        true
    }

    fn subscription(&self) -> Subscription {
        let ms = |us: u64| u32::try_from(us / 1000).expect("some seconds");
        Subscription {
            instance: self.instance.clone(),
            client: format!("member-{}", self.parts.number),
            session_timeout_ms: ms(self.parts.timeouts.session_us),
            rebalance_timeout_ms: ms(self.parts.timeouts.rebalance_us),
            topics: self.parts.topics.clone(),
            pattern: self.parts.pattern.clone(),
            assignor: self.parts.assignor.clone(),
        }
    }

    fn beat(&mut self, context: &mut Context<'_>) {
        let Some(life) = &mut self.life else {
            return;
        };
        life.is_beating = true;
        let (member, owned) = (life.member(), life.holds.clone());
        let group = self.parts.group;
        context
            .history
            .grouping
            .beats(context.now_us, group, member.id, &owned);
        self.send_beat(context, member, owned);
    }

    fn send_beat(&mut self, context: &mut Context<'_>, member: MemberRef, owned: Partitions) {
        let says_all = member.generation == Generation::NONE || context.random.chance(1, 10);
        let request = Request::GroupHeartbeat(GroupHeartbeatRequest {
            group: self.parts.group.to_owned(),
            member,
            subscription: says_all.then(|| self.subscription()),
            owned: to_wire(&owned),
        });
        self.ask(context, member, What::Beat(owned), &request);
    }

    /// Asks where to go on in what it has just been given.
    fn fetch_begins(&mut self, context: &mut Context<'_>) {
        let Some(life) = &mut self.life else {
            return;
        };
        if life.is_fetching
            || life.fetch_us > context.now_us
            || (life.begins.is_empty() && !context.random.chance(1, 40))
        {
            return;
        }
        life.is_fetching = true;
        let member = life.member();
        let begins = std::mem::take(&mut life.begins);
        let partitions: Vec<_> = match begins.is_empty() {
            true => context
                .history
                .grouping
                .committed_partitions(self.parts.group),
            false => begins.into_iter().collect(),
        };
        let partitions = (!partitions.is_empty()).then_some(partitions);
        let request = Request::FetchOffsets(FetchOffsetsRequest {
            group: self.parts.group.to_owned(),
            partitions: partitions.clone(),
        });
        self.ask(context, member, What::Fetch(partitions), &request);
    }

    /// Commits some of what it holds, if it is time; when it is.
    fn commit_some(&mut self, context: &mut Context<'_>) -> u64 {
        let pause_us = context.about(COMMIT_US);
        let Some(life) = &mut self.life else {
            return u64::MAX;
        };
        if life.is_committing || life.holds.is_empty() || context.is_draining {
            return u64::MAX;
        }
        if life.commit_us > context.now_us {
            return life.commit_us;
        }
        life.is_committing = true;
        life.commit_us = context.now_us + pause_us;
        let (member, holds) = (life.member(), life.holds.clone());
        self.commit(context, member, &holds);
        u64::MAX
    }

    fn commit(&mut self, context: &mut Context<'_>, member: MemberRef, holds: &Partitions) {
        let first = context.random.index(holds.len().max(1));
        let some = holds
            .iter()
            .cycle()
            .skip(first)
            .take(holds.len().min(COMMIT_MAX));
        let grouping = &mut context.history.grouping;
        let some = some.map(|partition| {
            let offset = grouping.number();
            grouping.commits(context.now_us, self.parts.group, *partition, offset);
            (*partition, offset)
        });
        let some: Vec<_> = some.collect();
        let entries = some.iter().map(|(partition, offset)| CommitEntry {
            partition: *partition,
            offset: Offset::new(*offset),
            leader_epoch: None,
            metadata: String::new(),
        });
        let request = Request::CommitOffsets(CommitOffsetsRequest {
            group: self.parts.group.to_owned(),
            member: Some(member),
            entries: entries.collect(),
        });
        self.ask(context, member, What::Commit(some), &request);
    }

    /// What is left of a crash commits, or sends a heartbeat.
    fn haunt(&mut self, context: &mut Context<'_>) {
        let Some(ghost) = self.ghost.take() else {
            return;
        };
        if ghost.holds.is_empty() || context.random.chance(1, 4) {
            self.send_beat(context, ghost.member, ghost.holds);
        } else {
            self.commit(context, ghost.member, &ghost.holds);
        }
    }

    /// Once all is to come to rest, asks what partitions there are; when to ask again.
    fn look(&mut self, context: &mut Context<'_>) -> u64 {
        if !context.is_draining || self.parts.number > 0 {
            return u64::MAX;
        }
        if self.look_us <= context.now_us {
            self.look_us = context.now_us + LOOK_US;
            let topics = Some(self.parts.topics.clone());
            let topics = topics.filter(|topics| !topics.is_empty());
            let request = Request::Metadata(MetadataRequest { topics });
            let nobody = MemberRef {
                id: MemberId::new(Uuid::nil()),
                generation: Generation::NONE,
            };
            self.ask(context, nobody, What::Topics, &request);
        }
        self.look_us
    }

    fn ask(
        &mut self,
        context: &mut Context<'_>,
        member: MemberRef,
        what: What,
        request: &Request<'_>,
    ) {
        let flags = match what {
            What::Topics => RequestFlags::NONE,
            _ if self.parts.no_forward => RequestFlags::NO_FORWARD,
            _ => RequestFlags::NONE,
        };
        let correlation = self.link.ask(context, flags, request);
        let us = context.now_us;
        self.asked.insert(correlation, Asked { us, member, what });
    }
}

/// Partitions by topic.
fn to_wire(partitions: &Partitions) -> Vec<PartitionsOfTopic> {
    let mut topics: BTreeMap<TopicId, Vec<_>> = BTreeMap::new();
    for one in partitions {
        topics.entry(one.topic).or_default().push(one.partition);
    }
    let topics = topics.into_iter();
    topics
        .map(|(topic, partitions)| PartitionsOfTopic { topic, partitions })
        .collect()
}

impl Client for Member {
    fn name(&self) -> String {
        format!("member {} of {}", self.parts.number, self.parts.group)
    }

    fn handle(&mut self, context: &mut Context<'_>, event: ClientEvent) {
        match event {
            ClientEvent::Wake => {}
            ClientEvent::Connected(conn) => self.link.connected(conn),
            ClientEvent::Closed(conn) if self.link.is(conn) => {
                self.link.closed(context);
                self.lose_connection();
            }
            ClientEvent::Reply(conn, reply) if self.link.is(conn) => self.reply(context, &reply),
            ClientEvent::Closed(_) | ClientEvent::Reply(..) => return,
        }
        self.work(context);
    }

    fn is_done(&self) -> bool {
        true
    }

    fn waits_for(&self) -> String {
        String::new()
    }
}
