//! What members of consumer groups may be told, as far as those can know who are told it.
//!
//! Owns three rules. No two members hold one partition at a time: a member holds what it was given until it has sent
//! a heartbeat without it, has gone, or has had no answer for its session timeout, counted from when it *sent* the last
//! heartbeat that was answered. Generations never come again with something else. And an offset that was acknowledged
//! is there, until a later one is.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::{MemberId, TopicId, TopicPartition};

use crate::group_offsets::Offsets;

/// Partitions.
pub(crate) type Partitions = BTreeSet<TopicPartition>;

/// How long a member may be silent, and how long it may take to let go, µs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) session_us: u64,
    pub(crate) rebalance_us: u64,
}

/// All groups of a world.
#[derive(Debug, Default)]
pub(crate) struct Grouping {
    groups: BTreeMap<&'static str, Group>,
    /// Topics that are there for good.
    lasting: BTreeSet<TopicId>,
    /// Topics with their partitions, as they were said last.
    topics: BTreeMap<String, (TopicId, u32)>,
    /// Committed offsets are numbers of their own.
    numbers: u64,
    /// Devices that lie may take back whatever was said.
    is_blind: bool,
    /// Members have nothing more to do.
    pub(crate) is_over: bool,
}

#[derive(Debug, Default)]
struct Group {
    members: BTreeMap<MemberId, Seen>,
    given: BTreeMap<TopicPartition, Given>,
    offsets: BTreeMap<TopicPartition, Offsets>,
    /// Something was committed that keeps the group in being whoever leaves it.
    is_kept: bool,
    /// The topics that its members want.
    topics: Vec<String>,
}

/// What a member knows.
#[derive(Debug, Default)]
struct Seen {
    generation: u32,
    /// What it was told last that it may hold.
    may: Partitions,
    holds: Partitions,
    /// Until when it holds that.
    until_us: u64,
    /// By when it has to have let go.
    let_go_by_us: Option<u64>,
    /// The first heartbeat since the last answer.
    unanswered_us: Option<u64>,
}

/// Who was given a partition last.
#[derive(Debug)]
struct Given {
    member: MemberId,
    instance: Option<String>,
    generation: u32,
    us: u64,
}

/// What a heartbeat was answered.
pub(crate) struct Told<'a> {
    pub(crate) id: MemberId,
    pub(crate) instance: Option<&'a str>,
    /// The member did not know a generation.
    pub(crate) is_join: bool,
    /// When the heartbeat was sent, µs.
    pub(crate) sent_us: u64,
    pub(crate) timeouts: Timeouts,
    pub(crate) generation: u32,
    /// All that the member may hold.
    pub(crate) may: &'a Partitions,
}

impl Grouping {
    pub(crate) fn new(is_blind: bool) -> Self {
        Self {
            is_blind,
            ..Self::default()
        }
    }

    fn group(&mut self, group: &'static str) -> &mut Group {
        self.groups.entry(group).or_default()
    }

    /// Members of a group will want these topics.
    pub(crate) fn subscribes(&mut self, group: &'static str, topics: Vec<String>) {
        self.group(group).topics = topics;
    }

    /// A number that no offset has had.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// A topic that is never deleted.
    pub(crate) fn lasts(&mut self, topic: TopicId) {
        self.lasting.insert(topic);
    }

    /// A topic has so many partitions, or is gone.
    pub(crate) fn topic_seen(&mut self, name: &str, topic: Option<(TopicId, u32)>) {
        match topic {
            Some(topic) => self.topics.insert(name.to_owned(), topic),
            None => self.topics.remove(name),
        };
    }

    /// A member sends a heartbeat that lists what it holds.
    pub(crate) fn beats(
        &mut self,
        now_us: u64,
        group: &'static str,
        id: MemberId,
        owned: &Partitions,
    ) {
        let seen = self.group(group).members.entry(id).or_default();
        seen.holds.retain(|partition| owned.contains(partition));
        seen.unanswered_us.get_or_insert(now_us);
    }

    /// A member has left, has crashed, or takes itself for lost.
    pub(crate) fn gone(&mut self, group: &'static str, id: MemberId) {
        if let Some(seen) = self.group(group).members.get_mut(&id) {
            seen.holds.clear();
            seen.until_us = 0;
        }
    }

    /// A heartbeat was answered. Says how many partitions the member has got from others.
    ///
    /// # Errors
    /// What may not be.
    pub(crate) fn told(
        &mut self,
        now_us: u64,
        group: &'static str,
        told: &Told<'_>,
    ) -> Result<usize, String> {
        let is_blind = self.is_blind;
        let lasting = &self.lasting;
        let group = self.groups.entry(group).or_default();
        let problem = group.judge(now_us, told, lasting);
        let moved = group.take(now_us, told);
        match problem {
            Some(problem) if !is_blind => Err(problem),
            _ => Ok(moved),
        }
    }

    /// A member is told that it is none. Says whether its time had run out.
    ///
    /// # Errors
    /// It had not.
    pub(crate) fn lost(
        &mut self,
        now_us: u64,
        group: &'static str,
        id: MemberId,
        timeouts: Timeouts,
    ) -> Result<(), String> {
        let is_blind = self.is_blind;
        let seen = self.group(group).members.entry(id).or_default();
        let by_us = seen.unanswered_us.map(|us| us + timeouts.rebalance_us);
        let is_late = |by_us: Option<u64>| by_us.is_some_and(|us| us <= now_us);
        let until_us = seen.until_us;
        let is_excused = until_us <= now_us || is_late(seen.let_go_by_us) || is_late(by_us);
        self.gone(group, id);
        if is_excused || is_blind {
            return Ok(());
        }
        Err(format!(
            "member {id} is told that it is none, and may be silent until {until_us} µs"
        ))
    }

    /// Whether a member holds a partition for sure.
    pub(crate) fn holds(
        &self,
        now_us: u64,
        group: &'static str,
        id: MemberId,
        partition: TopicPartition,
    ) -> bool {
        let seen = self
            .groups
            .get(group)
            .and_then(|group| group.members.get(&id));
        seen.is_some_and(|seen| seen.until_us > now_us && seen.holds.contains(&partition))
    }

    /// An offset is about to be committed.
    pub(crate) fn commits(
        &mut self,
        now_us: u64,
        group: &'static str,
        partition: TopicPartition,
        offset: u64,
    ) {
        let offsets = self.group(group).offsets.entry(partition).or_default();
        offsets.asked(now_us, offset);
    }

    /// A commit that was sent at `sent_us` was acknowledged.
    ///
    /// # Errors
    /// Somebody else had been given the partition before.
    pub(crate) fn committed(
        &mut self,
        now_us: u64,
        sent_us: u64,
        group: &'static str,
        id: MemberId,
        partition: TopicPartition,
        offset: u64,
    ) -> Result<(), String> {
        let is_blind = self.is_blind;
        let is_lasting = self.lasting.contains(&partition.topic);
        let group = self.group(group);
        if is_lasting && !std::mem::replace(&mut group.is_kept, true) {
            // Until now it may have been forgotten and begun anew after whoever is gone by now.
            for gone in group
                .members
                .values_mut()
                .filter(|seen| seen.until_us <= now_us)
            {
                gone.generation = 0;
                gone.may.clear();
            }
        }
        group
            .offsets
            .entry(partition)
            .or_default()
            .acknowledged(now_us, offset);
        match group.given.get(&partition) {
            Some(given) if given.member != id && given.us <= sent_us && !is_blind => Err(format!(
                "{partition}: a commit of member {id}, sent at {sent_us} µs, is acknowledged, and member {} was given \
                 it at {} µs with generation {}",
                given.member, given.us, given.generation
            )),
            _ => Ok(()),
        }
    }

    /// A commit has come to nothing, for certain.
    ///
    /// # Errors
    /// The member holds the partition, and has since before it committed.
    pub(crate) fn commit_refused(
        &mut self,
        now_us: u64,
        sent_us: u64,
        group: &'static str,
        id: MemberId,
        (partition, offset): (TopicPartition, u64),
        was_not_assigned: bool,
    ) -> Result<(), String> {
        let holds = self.holds(now_us, group, id, partition);
        let (is_blind, is_lasting) = (self.is_blind, self.lasting.contains(&partition.topic));
        let group = self.group(group);
        group.offsets.entry(partition).or_default().refused(offset);
        let given = group.given.get(&partition);
        let held_before = given.is_some_and(|given| given.member == id && given.us <= sent_us);
        if was_not_assigned && holds && held_before && is_lasting && !is_blind {
            return Err(format!(
                "{partition}: a commit of member {id}, which holds it, is refused"
            ));
        }
        Ok(())
    }

    /// How far a group has come, asked at `asked_us`, is `offset`.
    ///
    /// # Errors
    /// It cannot be.
    pub(crate) fn fetched(
        &mut self,
        now_us: u64,
        asked_us: u64,
        group: &'static str,
        partition: TopicPartition,
        offset: Option<u64>,
    ) -> Result<(), String> {
        let is_lasting = self.lasting.contains(&partition.topic);
        let is_blind = self.is_blind;
        let offsets = self.group(group).offsets.entry(partition).or_default();
        let problem = offsets.fetched(now_us, asked_us, offset, is_lasting);
        match problem {
            Some(problem) if !is_blind => Err(format!("{partition}: {problem}")),
            _ => Ok(()),
        }
    }

    /// Partitions of which something was committed.
    pub(crate) fn committed_partitions(&self, group: &'static str) -> Vec<TopicPartition> {
        let group = self.groups.get(group);
        group.map_or(Vec::new(), |group| group.offsets.keys().copied().collect())
    }

    /// A broker has ended: what had not come through by then never will. Says whether a member had just to let go.
    pub(crate) fn broker_ended(&mut self, now_us: u64) -> bool {
        let mut was_moving = false;
        for group in self.groups.values_mut() {
            group
                .offsets
                .values_mut()
                .for_each(|offsets| offsets.settle(now_us));
            let mut members = group.members.values();
            let is_moving =
                |seen: &Seen| seen.until_us > now_us && !seen.holds.is_subset(&seen.may);
            was_moving |= members.any(is_moving);
        }
        was_moving
    }

    /// What is missing for every partition to be held by one member, each holding as many as the others; if anything.
    pub(crate) fn unsettled(&self, now_us: u64) -> Option<String> {
        let (topics, mut groups) = (&self.topics, self.groups.iter());
        groups.find_map(|(name, group)| {
            group
                .unsettled(now_us, topics)
                .map(|what| format!("group {name}: {what}"))
        })
    }
}

impl Seen {
    /// Until when it may hold what it holds: its session, or less where it was to let go of something, or may have been
    /// told so by an answer that is lost.
    fn holds_until_us(&self, timeouts: Timeouts) -> u64 {
        let by_us = self.unanswered_us.map(|us| us + timeouts.rebalance_us);
        let ends = [Some(self.until_us), self.let_go_by_us, by_us];
        ends.into_iter().flatten().min().expect("one is there")
    }
}

impl Group {
    /// What of an answer may not be.
    fn judge(&self, now_us: u64, told: &Told<'_>, lasting: &BTreeSet<TopicId>) -> Option<String> {
        let (id, generation) = (told.id, told.generation);
        let nothing = Seen::default();
        let seen = self.members.get(&id).unwrap_or(&nothing);
        // A group that was forgotten begins anew.
        let is_anew = told.is_join && !self.is_kept;
        if generation == 0 || (generation < seen.generation && !is_anew) {
            let before = seen.generation;
            return Some(format!(
                "member {id} is told generation {generation} after {before}"
            ));
        }
        let mut given = told
            .may
            .difference(&seen.may)
            .filter(|one| lasting.contains(&one.topic));
        if generation == seen.generation
            && !is_anew
            && let Some(partition) = given.next()
        {
            return Some(format!(
                "{partition}: member {id} is given it with generation {generation}, as which it had not got it"
            ));
        }
        if now_us >= told.sent_us + told.timeouts.session_us {
            return None;
        }
        for partition in told.may {
            let others = self.members.iter().filter(|(other, _)| **other != id);
            let mut holders = others.filter(|(_, seen)| seen.holds.contains(partition));
            let until_us = |seen: &Seen| seen.holds_until_us(told.timeouts);
            if let Some((other, seen)) = holders.find(|(_, seen)| until_us(seen) > now_us) {
                return Some(format!(
                    "{partition}: member {id} is given it with generation {generation}, and member {other} of \
                     generation {} holds it until {} µs",
                    seen.generation,
                    until_us(seen)
                ));
            }
            let Some(before) = self.given.get(partition).filter(|given| given.member != id) else {
                continue;
            };
            let took_over = told.instance.is_some() && told.instance == before.instance.as_deref();
            let is_later =
                generation > before.generation || (took_over && generation == before.generation);
            if self.is_kept && !is_later {
                return Some(format!(
                    "{partition}: member {id} is given it with generation {generation}, and member {} had it with {}",
                    before.member, before.generation
                ));
            }
        }
        None
    }

    /// A member takes what it was told that it may hold. Says how many partitions others have had before.
    fn take(&mut self, now_us: u64, told: &Told<'_>) -> usize {
        let seen = self.members.entry(told.id).or_default();
        let asked_us = seen.unanswered_us.take().unwrap_or(told.sent_us);
        seen.generation = told.generation;
        seen.may.clone_from(told.may);
        if seen.until_us <= now_us {
            seen.holds.clear();
        }
        let until_us = told.sent_us + told.timeouts.session_us;
        if until_us <= now_us {
            return 0;
        }
        seen.until_us = until_us;
        // What a member had to let go before it joined anew it has let go only with its next heartbeat.
        if !told.is_join && seen.holds.is_subset(told.may) {
            seen.let_go_by_us = None;
        } else {
            seen.let_go_by_us
                .get_or_insert(asked_us + told.timeouts.rebalance_us);
        }
        let mut moved = 0;
        for partition in told.may {
            let is_new = seen.holds.insert(*partition);
            let before = self.given.get(partition);
            let was_others = before.is_some_and(|given| given.member != told.id);
            if !is_new && !was_others {
                continue;
            }
            let given = Given {
                member: told.id,
                instance: told.instance.map(str::to_owned),
                generation: told.generation,
                us: before
                    .filter(|_| !was_others)
                    .map_or(now_us, |given| given.us),
            };
            self.given.insert(*partition, given);
            if was_others {
                moved += 1;
                if let Some(offsets) = self.offsets.get_mut(partition) {
                    offsets.settle(now_us);
                }
            }
        }
        moved
    }

    fn unsettled(&self, now_us: u64, topics: &BTreeMap<String, (TopicId, u32)>) -> Option<String> {
        let live: Vec<_> = self
            .members
            .values()
            .filter(|seen| seen.until_us > now_us)
            .collect();
        let held: usize = live.iter().map(|seen| seen.holds.len()).sum();
        let distinct: Partitions = live
            .iter()
            .flat_map(|seen| seen.holds.iter().copied())
            .collect();
        let wanted = self.topics.iter().filter_map(|name| topics.get(name));
        let wanted: usize = wanted.map(|(_, count)| *count as usize).sum();
        if held != wanted || distinct.len() != wanted {
            let members = live.len();
            return Some(format!(
                "{members} members hold {held} partitions, and there are {wanted}"
            ));
        }
        let counts = live.iter().map(|seen| seen.holds.len());
        let (least, most) = (counts.clone().min()?, counts.max()?);
        (most > least + 1).then(|| format!("members hold {least} to {most} partitions"))
    }
}

#[cfg(test)]
mod tests {
    use corelane_protocol::PartitionIndex;
    use uuid::Uuid;

    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        session_us: 100,
        rebalance_us: 1_000,
    };

    fn partitions(of: &[u32]) -> Partitions {
        let topic = TopicId::default();
        let of = of
            .iter()
            .map(|index| TopicPartition::new(topic, PartitionIndex::new(*index)));
        of.collect()
    }

    fn member(number: u128) -> MemberId {
        MemberId::new(Uuid::from_u128(number))
    }

    /// A heartbeat that is answered ten µs later.
    fn beat(
        grouping: &mut Grouping,
        sent_us: u64,
        number: u128,
        owned: &[u32],
        (generation, may): (u32, &[u32]),
    ) -> Result<usize, String> {
        grouping.beats(sent_us, "g", member(number), &partitions(owned));
        let told = Told {
            id: member(number),
            instance: None,
            is_join: false,
            sent_us,
            timeouts: TIMEOUTS,
            generation,
            may: &partitions(may),
        };
        grouping.told(sent_us + 10, "g", &told)
    }

    fn grouping() -> Grouping {
        let mut grouping = Grouping::new(false);
        grouping.lasts(TopicId::default());
        grouping
    }

    #[test]
    fn a_partition_is_given_on_only_once_its_holder_says_that_it_has_let_go() {
        let mut grouping = grouping();
        beat(&mut grouping, 0, 1, &[], (1, &[0, 1])).expect("free");
        beat(&mut grouping, 20, 1, &[0, 1], (1, &[0])).expect("to let go of one");
        beat(&mut grouping, 40, 2, &[], (2, &[1])).expect_err("it is held");
        grouping.beats(60, "g", member(1), &partitions(&[0]));
        let moved = beat(&mut grouping, 70, 2, &[], (3, &[1]));
        assert_eq!(moved, Ok(0), "it was given it before, wrongly");
    }

    #[test]
    fn a_session_ends_by_the_time_at_which_the_last_answered_heartbeat_was_sent() {
        let mut grouping = grouping();
        beat(&mut grouping, 0, 1, &[], (1, &[0])).expect("free");
        beat(&mut grouping, 80, 2, &[], (2, &[0])).expect_err("held until 100");
        let mut grouping = self::grouping();
        beat(&mut grouping, 0, 1, &[], (1, &[0])).expect("free");
        assert_eq!(beat(&mut grouping, 90, 2, &[], (2, &[0])), Ok(1));
        grouping
            .lost(120, "g", member(1), TIMEOUTS)
            .expect("its session is over");
        grouping
            .lost(120, "g", member(2), TIMEOUTS)
            .expect_err("its session goes on");
    }

    #[test]
    fn generations_do_not_fall_and_give_nothing_twice() {
        let mut grouping = grouping();
        beat(&mut grouping, 0, 1, &[], (3, &[0])).expect("free");
        beat(&mut grouping, 20, 1, &[0], (3, &[0, 1])).expect_err("within a generation");
        beat(&mut grouping, 40, 1, &[0], (2, &[0])).expect_err("it falls");
    }

    #[test]
    fn a_commit_of_what_was_given_on_is_not_acknowledged() {
        let mut grouping = grouping();
        let partition = *partitions(&[0]).first().expect("one");
        beat(&mut grouping, 0, 1, &[], (1, &[0])).expect("free");
        grouping.commits(50, "g", partition, 7);
        assert_eq!(beat(&mut grouping, 100, 2, &[], (2, &[0])), Ok(1));
        let mut committed =
            |sent_us| grouping.committed(200, sent_us, "g", member(1), partition, 7);
        committed(50).expect("it may have come before");
        committed(120).expect_err("it was given on before");
    }
}
