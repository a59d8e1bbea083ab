//! What members are to hold in the end.
//!
//! Owns how subscriptions become topics, and how an assignor is asked. It is done when something
//! has changed that matters for it, never for a heartbeat.

use std::collections::BTreeMap;

use corelane_protocol::{MemberId, PartitionIndex, TopicId, TopicPartition};

use super::Topics;
use super::assignors::{Assignor, Problem, TopicShape};
use super::group::{Group, release};
use super::partitions::PartitionSet;

/// The steps that a partition or a member takes.
const AIM_STEPS: usize = 4;

/// The topics that members subscribe to and that there are.
struct Resolved {
    /// Name, id and number of partitions, in the order of names.
    topics: Vec<(String, TopicId, u32)>,
    /// The topics of each distinct subscription.
    classes: Vec<Vec<usize>>,
    /// The subscription of each member.
    class_of: Vec<usize>,
}

impl Group {
    /// Asks the assignor for each member's target.
    pub(super) fn aim(&mut self, topics: &dyn Topics) {
        let votes = self.members.values().map(|member| member.assignor());
        let assignor = Assignor::elect(votes, self.assignor);
        self.changes.group |= assignor != self.assignor;
        self.assignor = assignor;
        let order = self.member_order();
        let resolved = self.resolve(&order, topics);
        self.set_topics(resolved.sizes());
        let partitions = resolved.partitions();
        let problem = self.problem(&order, resolved, &partitions, topics);
        let mut targets = vec![Vec::new(); order.len()];
        for (owner, partition) in assignor.assign(&problem).into_iter().zip(partitions) {
            if let Some(member) = owner {
                targets[member].push(partition);
            }
        }
        for (id, target) in order.into_iter().zip(targets) {
            let member = self
                .members
                .get_mut(&id)
                .expect("the order is of its members");
            member.target = PartitionSet::new(target);
            if member.away {
                let lost = member.assigned.minus(&member.target);
                if !lost.is_empty() {
                    lost.iter()
                        .for_each(|one| release(&mut self.owners, one, id));
                    member.assigned = member.assigned.and(&member.target);
                    self.changes.members.insert(id);
                }
            }
        }
    }

    /// Roughly the steps that it took last.
    pub(super) fn aim_steps(&self) -> usize {
        AIM_STEPS * (self.partitions() + self.members.len())
    }

    /// Whether the topics that members subscribe to are others, or have other partitions, than
    /// when members got their targets.
    pub(super) fn topics_differ(&self, topics: &dyn Topics) -> bool {
        let order: Vec<MemberId> = self.members.keys().copied().collect();
        self.resolve(&order, topics).sizes() != *self.topics()
    }

    /// The members in the order of instance names, then of ids: those that come back under another
    /// id keep their place.
    fn member_order(&self) -> Vec<MemberId> {
        let mut order: Vec<_> = self
            .members
            .iter()
            .map(|(id, member)| {
                let instance = member.subscription.instance.as_deref();
                (instance.is_none(), instance, *id)
            })
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, _, id)| id).collect()
    }

    fn resolve(&self, order: &[MemberId], topics: &dyn Topics) -> Resolved {
        let mut found: Vec<(&str, TopicId, u32)> = Vec::new();
        let mut seen: BTreeMap<&str, Option<usize>> = BTreeMap::new();
        let mut known = BTreeMap::new();
        let mut classes: Vec<Vec<usize>> = Vec::new();
        let mut class_of = Vec::with_capacity(order.len());
        for id in order {
            let wanted = &self.members[id].subscription;
            let key = (wanted.topics.as_slice(), wanted.pattern.as_deref());
            let class = *known.entry(key).or_insert_with(|| {
                let pattern = wanted.pattern.as_ref();
                let matched = pattern.and_then(|text| self.patterns.get(text));
                let matched = matched.iter().flat_map(|pattern| &pattern.topics);
                let matched = matched.filter_map(|id| topics.name_of(*id));
                let names = wanted.topics.iter().map(String::as_str).chain(matched);
                let mut find = |name| {
                    let (id, count) = topics.by_name(name)?;
                    found.push((name, id, count));
                    Some(found.len() - 1)
                };
                let place = |name| *seen.entry(name).or_insert_with(|| find(name));
                let mut places: Vec<usize> = names.filter_map(place).collect();
                places.sort_unstable();
                places.dedup();
                classes.push(places);
                classes.len() - 1
            });
            class_of.push(class);
        }
        // Topics were found in any order; they are to be in the order of their names.
        let mut by_name: Vec<usize> = (0..found.len()).collect();
        by_name.sort_unstable_by_key(|place| found[*place].0);
        let mut rank = vec![0; found.len()];
        for (place, old) in by_name.iter().enumerate() {
            rank[*old] = place;
        }
        let topics = by_name.iter().map(|place| {
            let (name, id, count) = found[*place];
            (name.to_owned(), id, count)
        });
        let topics = topics.collect();
        classes
            .iter_mut()
            .flatten()
            .for_each(|topic| *topic = rank[*topic]);
        Resolved {
            topics,
            classes,
            class_of,
        }
    }

    fn problem(
        &self,
        order: &[MemberId],
        resolved: Resolved,
        partitions: &[TopicPartition],
        topics: &dyn Topics,
    ) -> Problem {
        let mut firsts = BTreeMap::new();
        let mut shapes = Vec::with_capacity(resolved.topics.len());
        let mut first = 0;
        for (_, id, count) in &resolved.topics {
            let count = *count as usize;
            firsts.insert(*id, TopicShape { first, count });
            shapes.push(TopicShape { first, count });
            first += count;
        }
        let place = |partition: TopicPartition| {
            let shape = firsts.get(&partition.topic)?;
            let index = partition.partition.get() as usize;
            (index < shape.count).then_some(shape.first + index)
        };
        let mut problem = Problem::new(shapes, &resolved.classes, resolved.class_of);
        // Who holds a partition counts more than who was to hold it.
        for really in [false, true] {
            for (member, id) in order.iter().enumerate() {
                let of = &self.members[id];
                let set = if really { &of.assigned } else { &of.target };
                for one in set.iter().filter_map(place) {
                    if problem.may_hold(member, one) {
                        problem.current[one] = Some(member);
                        problem.held[one] = really;
                    }
                }
            }
        }
        if self.assignor == Assignor::Cores {
            for (core, partition) in problem.cores.iter_mut().zip(partitions) {
                *core = topics.core_of(*partition);
            }
        }
        problem
    }
}

impl Resolved {
    fn sizes(&self) -> BTreeMap<TopicId, u32> {
        self.topics
            .iter()
            .map(|(_, id, count)| (*id, *count))
            .collect()
    }

    fn partitions(&self) -> Vec<TopicPartition> {
        let of_topic = |(_, id, count): &(String, TopicId, u32)| {
            let id = *id;
            (0..*count).map(move |index| TopicPartition::new(id, PartitionIndex::new(index)))
        };
        self.topics.iter().flat_map(of_topic).collect()
    }
}
