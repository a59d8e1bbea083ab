//! `sticky`: balanced, with the fewest moves.
//!
//! Everybody keeps what it has. What nobody has goes to the least loaded of those who may hold it,
//! partitions with few such members first. Then a partition moves for as long as one member has
//! two or more partitions more than another that could hold one of them. Among members with equal
//! subscriptions nobody has more than one partition more than another in the end, and no way to
//! get there moves fewer.
//!
//! With p partitions and m members with equal subscriptions it takes O(p log m). With different
//! ones, a step looks at one member of each class of subscriptions.

use std::collections::BTreeSet;

use super::Problem;
use super::table::Table;

/// Sticks to `current`.
pub(super) fn assign(problem: &Problem, current: &[Option<usize>]) -> Vec<Option<usize>> {
    let mut table = Table::new(problem);
    // What is only meant for a member is given away before what it really has.
    for really in [true, false] {
        for (partition, holder) in current.iter().enumerate() {
            match holder {
                Some(member) if problem.held[partition] == really => table.give(partition, *member),
                _ => {}
            }
        }
    }
    let choice = |partition: &usize| problem.pools[problem.pool_of[*partition]].members.len();
    let mut free: Vec<usize> = (0..current.len())
        .filter(|p| current[*p].is_none())
        .collect();
    free.sort_by_key(choice);
    for partition in free {
        if let Some((_, member)) = table.least_loaded(problem.pool_of[partition]) {
            table.give(partition, member);
        }
    }
    while balance(&mut table, problem.members()) {}
    table.into_owners()
}

/// Goes through the members, the most loaded first, and moves what had better be elsewhere. Says
/// whether anything moved: then others may have found a better place meanwhile. It ends, since each
/// move lessens the sum of the squares of loads.
fn balance(table: &mut Table<'_>, members: usize) -> bool {
    let mut moved = false;
    let mut queue: BTreeSet<(usize, usize)> = (0..members).map(|m| (table.load(m), m)).collect();
    while let Some((load, member)) = queue.pop_last() {
        let Some((pool, to)) = table.better_place(member) else {
            continue;
        };
        let was_queued = queue.remove(&(table.load(to), to));
        let partition = table.take(member, pool);
        table.give(partition, to);
        queue.insert((load - 1, member));
        if was_queued {
            queue.insert((table.load(to), to));
        }
        moved = true;
    }
    moved
}
