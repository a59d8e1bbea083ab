//! The broker around the coordinator, and the reference.

use super::actor::Actor;
use super::*;

/// A request that may arrive, and arrive again.
#[derive(Debug, Clone)]
pub(super) enum Sent {
    Beat(GroupHeartbeatRequest),
    Leave(LeaveGroupRequest),
    Commit(CommitOffsetsRequest),
}

/// An answer that waits until the log is durable up to `length`.
#[derive(Debug)]
struct Parked {
    length: usize,
    actor: usize,
    number: u64,
    answer: Result<HeartbeatAnswer, ApiError>,
}

/// A committed offset as of a length of the log; `None` when its topic was deleted.
pub(super) type Commit = (usize, String, TopicPartition, Option<u64>);

#[derive(Debug)]
pub(super) struct World {
    pub(super) seed: u64,
    /// Members take what they were told only some time later.
    lazy: bool,
    random: Random,
    pub(super) bench: Bench,
    durable: usize,
    /// Where batches of the log end.
    ends: Vec<usize>,
    pub(super) actors: Vec<Actor>,
    parked: Vec<Parked>,
    pub(super) late: Vec<Sent>,
    pub(super) commits: Vec<Commit>,
    pub(super) numbers: u64,
    names: u32,
}

pub(super) const GROUPS: [&str; 2] = ["one", "two"];

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut bench = Bench::new();
        bench.topics.create("a", 5);
        bench.topics.create("b", 3);
        Self {
            seed,
            lazy: seed % 4 == 3,
            random: Random(seed),
            bench,
            durable: 0,
            ends: Vec::new(),
            actors: Vec::new(),
            parked: Vec::new(),
            late: Vec::new(),
            commits: Vec::new(),
            numbers: 0,
            names: 0,
        }
    }

    pub(super) fn step(&mut self) {
        match self.random.below(100) {
            0..5 => self.appear(),
            5..43 => self.beat(),
            43..51 => self.let_go(),
            51..61 => self.commit(),
            61..64 => self.leave(),
            64 => self.crash(),
            65..79 => self.arrive_late(),
            79..82 => self.change_topics(),
            82..89 => self.change_wish(),
            89..91 => self.restart(),
            _ => {
                let ms_max = if self.random.one_in(30) { 15_000 } else { 500 };
                self.pass(ms_max);
            }
        }
        if !self.random.one_in(3) {
            self.flush();
        }
        self.deliver(3);
        self.check();
    }

    /// A new member, sometimes under the name of another.
    fn appear(&mut self) {
        if self.actors.iter().filter(|actor| !actor.gone).count() >= 9 {
            return;
        }
        let id = member_id(1 + self.actors.len() as u128);
        let group = GROUPS[usize::from(self.random.one_in(5))];
        let wish = self.wish();
        self.actors.push(Actor::new(id, group, wish));
    }

    fn wish(&mut self) -> Subscription {
        let mut wish = match self.random.below(4) {
            0 => wants(&["a"]),
            1 => wants(&["a", "b", "not-yet"]),
            _ => wants(&["a", "b"]),
        };
        if self.random.one_in(3) {
            wish.topics.truncate(1);
            wish.pattern = Some("[b-z].*".to_owned());
        }
        if self.random.one_in(3) {
            wish.instance = Some(format!("i{}", self.random.below(3)));
        }
        let assignors = ["sticky", "range", "round-robin", "cores"];
        if self.random.one_in(4) {
            wish.assignor = Some(assignors[self.random.below(4)].to_owned());
        }
        wish.session_timeout_ms = 4_000 + 1_000 * self.random.below(6) as u32;
        wish.rebalance_timeout_ms = 3_000 + 1_000 * self.random.below(20) as u32;
        wish
    }

    fn anybody(&mut self) -> Option<usize> {
        let alive: Vec<_> = (0..self.actors.len())
            .filter(|n| !self.actors[*n].gone)
            .collect();
        (!alive.is_empty()).then(|| alive[self.random.below(alive.len())])
    }

    fn beat(&mut self) {
        let Some(actor) = self.anybody() else { return };
        self.numbers += 1;
        let request = self.actors[actor].beat(self.numbers);
        self.beat_of(actor, request);
    }

    fn beat_of(&mut self, actor: usize, request: GroupHeartbeatRequest) {
        // Who takes what it was told only later is safe as long as its requests keep their order.
        if !self.lazy && self.random.one_in(3) {
            self.late.push(Sent::Beat(request.clone()));
        }
        if self.random.one_in(20) {
            return;
        }
        let answer = self.bench.send(&request);
        self.end_batch();
        self.parked.push(Parked {
            length: self.bench.log.len(),
            actor,
            number: self.numbers,
            answer,
        });
    }

    fn let_go(&mut self) {
        let Some(actor) = self.anybody() else { return };
        let actor = &mut self.actors[actor];
        actor.take_up();
        let all = self.random.one_in(2);
        for partition in actor.must_go.clone() {
            if all || self.random.one_in(2) {
                actor.let_go(partition);
            }
        }
    }

    /// Members commit what they hold; those that are fenced try as well.
    fn commit(&mut self) {
        if self.actors.is_empty() {
            return;
        }
        let actor = self.random.below(self.actors.len());
        let actor = &self.actors[actor];
        if actor.me.generation == Generation::NONE {
            return;
        }
        let offset = self.random.next() % 1_000;
        let entry = |partition: &TopicPartition| CommitEntry {
            partition: *partition,
            offset: Offset::new(offset),
            leader_epoch: None,
            metadata: String::new(),
        };
        // What it does not hold it commits as well, at times.
        let all: Vec<_> = self
            .bench
            .topics
            .by_name
            .values()
            .map(|(id, _)| at(*id, 1))
            .collect();
        let foreign = self
            .random
            .one_in(3)
            .then(|| all[self.random.below(all.len())]);
        let request = CommitOffsetsRequest {
            group: actor.group.clone(),
            member: Some(actor.me),
            entries: actor.owned.iter().chain(&foreign).map(entry).collect(),
        };
        if self.random.one_in(6) {
            self.late.push(Sent::Commit(request.clone()));
        }
        self.send_commit(&request);
    }

    fn send_commit(&mut self, request: &CommitOffsetsRequest) {
        let member = request.member.expect("all commits are of members");
        let owners = self.holders(&request.group);
        let bench = &mut self.bench;
        let outcome = bench.coordinator.commit(bench.now, &bench.topics, request);
        bench.log.extend(outcome.records);
        self.end_batch();
        let known = self.bench.coordinator.groups.get(request.group.as_str());
        let known = known.and_then(|group| group.members.get(&member.id));
        let present = known.is_some_and(|known| known.generation == member.generation);
        let Ok(entries) = outcome.result else {
            assert!(
                !present || known.is_some_and(|known| known.away),
                "{}",
                self.told()
            );
            return;
        };
        assert!(
            present,
            "a commit of somebody fenced was taken: {}",
            self.told()
        );
        for (entry, answered) in request.entries.iter().zip(entries) {
            if answered.result.is_err() {
                continue;
            }
            let other = owners
                .get(&entry.partition)
                .filter(|owner| **owner != member.id);
            assert_eq!(other, None, "of another's partition: {}", self.told());
            let offset = Some(entry.offset.get());
            let length = self.bench.log.len();
            self.commits
                .push((length, request.group.clone(), entry.partition, offset));
        }
    }

    fn leave(&mut self) {
        let Some(actor) = self.anybody() else { return };
        let returns = self.actors[actor].wish.instance.is_some() && self.random.one_in(2);
        let actor = &mut self.actors[actor];
        actor.gone = true;
        actor.owned.clear();
        actor.must_go.clear();
        actor.given.clear();
        let request = LeaveGroupRequest {
            group: actor.group.clone(),
            member: actor.me,
            returns,
        };
        if self.random.one_in(3) {
            self.late.push(Sent::Leave(request.clone()));
        }
        if !self.random.one_in(4) {
            self.send_leave(&request);
        }
    }

    fn send_leave(&mut self, request: &LeaveGroupRequest) {
        let bench = &mut self.bench;
        let outcome = bench.coordinator.leave(bench.now, &bench.topics, request);
        bench.log.extend(outcome.records);
        self.end_batch();
    }

    /// It holds what it held, and is not heard of any more.
    fn crash(&mut self) {
        if let Some(actor) = self.anybody() {
            self.actors[actor].gone = true;
        }
    }

    fn arrive_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let newest = if self.random.one_in(4) {
            self.late.len()
        } else {
            6
        };
        let place = self.late.len() - 1 - self.random.below(newest.min(self.late.len()));
        match self.late.remove(place) {
            Sent::Beat(request) => {
                let _ = self.bench.send(&request);
                self.end_batch();
            }
            Sent::Leave(request) => self.send_leave(&request),
            Sent::Commit(request) => self.send_commit(&request),
        }
    }

    fn change_topics(&mut self) {
        let names: Vec<String> = self.bench.topics.by_name.keys().cloned().collect();
        let name = names[self.random.below(names.len())].clone();
        match self.random.below(4) {
            0 if names.len() > 2 => {
                let (id, _) = self.bench.topics.by_name(&name).expect("it is there");
                self.bench.topics.delete(&name);
                let length = self.bench.log.len() + 1;
                let of_topic = self.commits.iter().filter(|one| one.2.topic == id);
                let gone: BTreeSet<_> = of_topic.map(|one| (one.1.clone(), one.2)).collect();
                let gone = gone
                    .into_iter()
                    .map(|(group, one)| (length, group, one, None));
                let gone: Vec<_> = gone.collect();
                self.commits.extend(gone);
                if name == "a" || name == "b" {
                    self.bench.topics.create(&name, 4);
                }
            }
            1 if names.len() < 6 => {
                self.names += 1;
                self.bench.topics.create(&format!("t{}", self.names), 2);
            }
            _ => {
                let (_, count) = self.bench.topics.by_name(&name).expect("it is there");
                self.bench.topics.extend(&name, (count + 1).min(9));
            }
        }
        self.bench.topics_changed();
        self.end_batch();
    }

    fn change_wish(&mut self) {
        let Some(actor) = self.anybody() else { return };
        let mut wish = self.wish();
        let actor = &mut self.actors[actor];
        wish.instance.clone_from(&actor.wish.instance);
        actor.wish = wish;
        actor.wish_changed = true;
    }

    fn pass(&mut self, ms_max: usize) {
        let ms = 1 + self.random.below(ms_max) as u64;
        self.bench.pass_ms(ms);
        if self.random.one_in(2) {
            self.bench.wait_ms(0);
            self.end_batch();
        }
    }

    /// What was not durable is lost, and nobody was told of it.
    fn restart(&mut self) {
        let durable = self.durable;
        self.bench.log.truncate(durable);
        self.ends.retain(|end| *end <= durable);
        self.parked.retain(|parked| parked.length <= durable);
        let topics = &self.bench.topics;
        self.commits
            .retain(|one| one.0 <= durable || one.3.is_none());
        let live = |one: &Commit| one.3.is_none() || topics.name_of(one.2.topic).is_some();
        self.commits.retain(live);
        if self.random.one_in(3) {
            self.bench.now.monotonic_us = self.random.next() % 1_000_000;
        }
        self.bench.restart();
        self.end_batch();
        let mut read = Coordinator::new(Settings::default());
        self.bench.log[..durable]
            .iter()
            .for_each(|record| read.replay(record.clone()));
        let ids = |coordinator: &Coordinator| -> Vec<MemberId> {
            let members = coordinator
                .groups
                .values()
                .flat_map(|group| group.members.keys());
            members.copied().collect()
        };
        assert_eq!(
            ids(&self.bench.coordinator),
            ids(&read),
            "all stay: {}",
            self.told()
        );
    }

    pub(super) fn end_batch(&mut self) {
        let length = self.bench.log.len();
        if self.ends.last().is_none_or(|end| *end < length) {
            self.ends.push(length);
        }
    }

    /// Some batches become durable.
    fn flush(&mut self) {
        let next: Vec<_> = self
            .ends
            .iter()
            .copied()
            .filter(|end| *end > self.durable)
            .collect();
        if !next.is_empty() {
            self.durable = next[self.random.below(next.len())];
        }
    }

    /// Some of the answers that may be sent arrive; the others are lost.
    fn deliver(&mut self, one_of: usize) {
        let parked = std::mem::take(&mut self.parked);
        for parked in parked {
            if parked.length > self.durable || (one_of > 1 && self.random.one_in(4)) {
                self.parked.push(parked);
            } else if one_of == 1 || !self.random.one_in(8) {
                let actor = &mut self.actors[parked.actor];
                if !actor.gone {
                    actor.told(parked.number, &parked.answer);
                    if !self.lazy {
                        actor.take_up();
                    }
                }
            }
        }
    }
}
