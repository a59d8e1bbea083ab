//! Who has how much while an assignor decides: the least loaded member that may hold a partition
//! is found without looking at all.

use std::collections::{BTreeMap, BTreeSet};

use super::Problem;

/// An assignment in the making.
#[derive(Debug)]
pub(super) struct Table<'a> {
    problem: &'a Problem,
    owners: Vec<Option<usize>>,
    loads: Vec<usize>,
    /// Loads and members of each class.
    by_load: Vec<BTreeSet<(usize, usize)>>,
    /// The partitions of each member by pool; those at the end are given away first.
    held: Vec<BTreeMap<usize, Vec<usize>>>,
}

impl<'a> Table<'a> {
    /// Nobody has anything.
    pub(super) fn new(problem: &'a Problem) -> Self {
        let mut by_load = vec![BTreeSet::new(); problem.classes];
        for (member, class) in problem.class_of.iter().enumerate() {
            by_load[*class].insert((0, member));
        }
        Self {
            problem,
            owners: vec![None; problem.partitions()],
            loads: vec![0; problem.members()],
            by_load,
            held: vec![BTreeMap::new(); problem.members()],
        }
    }

    pub(super) fn into_owners(self) -> Vec<Option<usize>> {
        self.owners
    }

    pub(super) fn load(&self, member: usize) -> usize {
        self.loads[member]
    }

    /// The least loaded member that may hold partitions of the pool, and its load.
    pub(super) fn least_loaded(&self, pool: usize) -> Option<(usize, usize)> {
        let mut least = None;
        for class in &self.problem.pools[pool].classes {
            let first = self.by_load[*class].first().copied();
            if least.is_none_or(|least| first.is_some_and(|first| first < least)) {
                least = first;
            }
            // None has less; with many classes it is found soon.
            if least.is_some_and(|(load, _)| load == 0) {
                break;
            }
        }
        least
    }

    /// Gives the member a partition that nobody has.
    pub(super) fn give(&mut self, partition: usize, member: usize) {
        debug_assert!(self.owners[partition].is_none());
        debug_assert!(self.problem.may_hold(member, partition));
        self.owners[partition] = Some(member);
        let pool = self.problem.pool_of[partition];
        self.held[member].entry(pool).or_default().push(partition);
        self.set_load(member, self.loads[member] + 1);
    }

    /// Takes a partition of the pool from the member, which has one.
    pub(super) fn take(&mut self, member: usize, pool: usize) -> usize {
        let of_pool = self.held[member]
            .get_mut(&pool)
            .expect("the member has one of the pool");
        let partition = of_pool.pop().expect("empty lists are removed");
        if of_pool.is_empty() {
            self.held[member].remove(&pool);
        }
        self.owners[partition] = None;
        self.set_load(member, self.loads[member] - 1);
        partition
    }

    /// Where a partition of the member had better be: the pool, and a member whose load is less by
    /// two or more. It is the least loaded of all, or one that has at most half as much.
    pub(super) fn better_place(&self, member: usize) -> Option<(usize, usize)> {
        let own = self.loads[member];
        let mut best: Option<(usize, usize, usize)> = None;
        for pool in self.held[member].keys() {
            let Some((load, other)) = self.least_loaded(*pool) else {
                continue;
            };
            if load + 2 <= own && best.is_none_or(|best| load < best.0) {
                best = Some((load, *pool, other));
                // Far from even, a look at every pool for every move would take too long.
                if load * 2 <= own {
                    break;
                }
            }
        }
        best.map(|(_, pool, other)| (pool, other))
    }

    fn set_load(&mut self, member: usize, load: usize) {
        let class = &mut self.by_load[self.problem.class_of[member]];
        class.remove(&(self.loads[member], member));
        class.insert((load, member));
        self.loads[member] = load;
    }
}
