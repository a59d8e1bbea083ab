//! `round-robin`: one partition after the other to one member after the other.
//!
//! Goes through all partitions of all topics and, in a circle, through the members; those that do
//! not subscribe to a topic are passed over for its partitions.

use super::Problem;

pub(super) fn assign(problem: &Problem) -> Vec<Option<usize>> {
    let mut next = 0;
    let deal = |pool: &usize| {
        let members = &problem.pools[*pool].members;
        let place = members.partition_point(|member| *member < next);
        let member = members.get(place).or(members.first()).copied()?;
        next = member + 1;
        Some(member)
    };
    problem.pool_of.iter().map(deal).collect()
}
