//! `range`: neighbouring partitions of each topic to one member.
//!
//! Topics of equal size with the same subscribers are cut alike, so that partitions of the same
//! number come to the same member: records of one key can be joined. Members at the front get one
//! partition more of each topic that does not divide evenly.

use super::Problem;

pub(super) fn assign(problem: &Problem) -> Vec<Option<usize>> {
    let mut owners = vec![None; problem.partitions()];
    for (topic, pool) in problem.topics.iter().zip(&problem.topic_pools) {
        let members = &problem.pools[*pool].members;
        if members.is_empty() {
            continue;
        }
        let (each, more) = (topic.count / members.len(), topic.count % members.len());
        let mut next = topic.first;
        for (place, member) in members.iter().enumerate() {
            let end = next + each + usize::from(place < more);
            owners[next..end].fill(Some(*member));
            next = end;
        }
    }
    owners
}
