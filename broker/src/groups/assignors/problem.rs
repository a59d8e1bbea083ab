//! What an assignor decides on: members, topics, who may hold what, and who holds what now.
//!
//! Members with the same topics are one *class*, and topics with the same classes one *pool*, so
//! that nothing is kept for each pair of member and topic. In most groups there is one of each.

use std::collections::BTreeMap;

use corelane_protocol::CoreId;

/// A topic of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct TopicShape {
    /// The index of its first partition; the others follow.
    pub(in super::super) first: usize,
    /// Its number of partitions.
    pub(in super::super) count: usize,
}

/// Topics that the same members subscribe to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Pool {
    /// The classes of their subscribers, in order.
    pub(super) classes: Vec<usize>,
    /// Their subscribers, in order.
    pub(super) members: Vec<usize>,
}

/// The question. Members, topics and partitions are indices: members in the order of instance
/// names, then of ids; topics in the order of names, and their partitions one after the other.
#[derive(Debug, Clone)]
pub(in super::super) struct Problem {
    /// The topics.
    pub(in super::super) topics: Vec<TopicShape>,
    /// Who holds each partition now, or was last to hold it, of those who may.
    pub(in super::super) current: Vec<Option<usize>>,
    /// Whether that member really holds it.
    pub(in super::super) held: Vec<bool>,
    /// The core of each partition; only looked at by one assignor.
    pub(in super::super) cores: Vec<CoreId>,
    /// The class of each member.
    pub(super) class_of: Vec<usize>,
    /// How many classes there are.
    pub(super) classes: usize,
    /// The pool of each topic.
    pub(super) topic_pools: Vec<usize>,
    /// The pool of each partition.
    pub(super) pool_of: Vec<usize>,
    /// The pools. One of them may have no members.
    pub(super) pools: Vec<Pool>,
}

impl Problem {
    /// `classes` has the topics of each class, and `class_of` the class of each member. Nobody
    /// holds anything yet.
    pub(in super::super) fn new(
        topics: Vec<TopicShape>,
        classes: &[Vec<usize>],
        class_of: Vec<usize>,
    ) -> Self {
        let partitions = topics.iter().map(|topic| topic.count).sum();
        let mut classes_of_topic = vec![Vec::new(); topics.len()];
        for (class, subscribed) in classes.iter().enumerate() {
            for topic in subscribed {
                classes_of_topic[*topic].push(class);
            }
        }
        let mut members_of_class = vec![Vec::new(); classes.len()];
        for (member, class) in class_of.iter().enumerate() {
            members_of_class[*class].push(member);
        }
        let mut found = BTreeMap::new();
        let mut pools = Vec::new();
        let mut topic_pools = Vec::with_capacity(topics.len());
        let mut pool_of = Vec::with_capacity(partitions);
        for (topic, classes) in topics.iter().zip(classes_of_topic) {
            let pool = *found
                .entry(classes)
                .or_insert_with_key(|classes: &Vec<usize>| {
                    let of_class = |class: &usize| members_of_class[*class].iter().copied();
                    let mut members: Vec<usize> = classes.iter().flat_map(of_class).collect();
                    members.sort_unstable();
                    pools.push(Pool {
                        classes: classes.clone(),
                        members,
                    });
                    pools.len() - 1
                });
            topic_pools.push(pool);
            pool_of.resize(pool_of.len() + topic.count, pool);
        }
        Self {
            topics,
            current: vec![None; partitions],
            held: vec![false; partitions],
            cores: vec![CoreId::new(0); partitions],
            class_of,
            classes: classes.len(),
            topic_pools,
            pool_of,
            pools,
        }
    }

    /// Whether the member subscribes to the partition's topic.
    pub(in super::super) fn may_hold(&self, member: usize, partition: usize) -> bool {
        let pool = &self.pools[self.pool_of[partition]];
        pool.classes.binary_search(&self.class_of[member]).is_ok()
    }

    pub(in super::super) fn members(&self) -> usize {
        self.class_of.len()
    }

    pub(in super::super) fn partitions(&self) -> usize {
        self.pool_of.len()
    }
}
