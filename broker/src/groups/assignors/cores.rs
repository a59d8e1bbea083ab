//! `cores`: balanced, and a member's partitions on as few cores as that allows.
//!
//! A member that reads from few cores keeps few connections busy, and its fetches are larger. It
//! begins with what `sticky` says, and gathers: each pair of a core and a member, those that have
//! most in common first, gets as many partitions as the core has left and the member has room for.
//! So each step is done with a core or a member, and all members together use fewer cores than
//! there are cores and members. It is taken only where members are on fewer cores by it; else
//! nothing moves that `sticky` would not move.
//!
//! Where members have different subscriptions it is the same as `sticky`.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::CoreId;

use super::{Problem, sticky};

pub(super) fn assign(problem: &Problem) -> Vec<Option<usize>> {
    let mut best = sticky::assign(problem, &problem.current);
    if problem.pools.len() != 1 || problem.pools[0].members.is_empty() {
        return best;
    }
    // Until it is no better: the same question asked again of the answer changes nothing.
    loop {
        let next = gather(problem, &best);
        if spread(problem, &next) >= spread(problem, &best) {
            return best;
        }
        best = next;
    }
}

/// How many cores members are on, all together.
fn spread(problem: &Problem, owners: &[Option<usize>]) -> usize {
    let pairs = owners.iter().zip(&problem.cores);
    let distinct: BTreeSet<_> = pairs
        .filter_map(|(owner, core)| Some((*core, (*owner)?)))
        .collect();
    distinct.len()
}

/// How many partitions of a core a member gets.
type Shares = BTreeMap<(CoreId, usize), usize>;

fn gather(problem: &Problem, owners: &[Option<usize>]) -> Vec<Option<usize>> {
    let mut shares = share_out(problem, owners);
    let mut gathered = vec![None; owners.len()];
    for (partition, owner) in owners.iter().enumerate() {
        let Some(member) = *owner else { continue };
        if let Some(left @ 1..) = shares.get_mut(&(problem.cores[partition], member)) {
            *left -= 1;
            gathered[partition] = Some(member);
        }
    }
    shares.retain(|_, left| *left > 0);
    for (partition, owner) in gathered.iter_mut().enumerate() {
        if owner.is_some() {
            continue;
        }
        let core = problem.cores[partition];
        let mut of_core = shares.range_mut((core, 0)..=(core, usize::MAX));
        let (key, left) = of_core
            .next()
            .expect("the shares of a core are its partitions");
        *owner = Some(key.1);
        *left -= 1;
        if *left == 0 {
            let key = *key;
            shares.remove(&key);
        }
    }
    gathered
}

/// Shares out each core's partitions, so that each member has as many as in `owners`.
fn share_out(problem: &Problem, owners: &[Option<usize>]) -> Shares {
    let mut cores: BTreeMap<CoreId, usize> = BTreeMap::new();
    let mut room: BTreeMap<usize, usize> = BTreeMap::new();
    let mut common: Shares = BTreeMap::new();
    for (owner, core) in owners.iter().zip(&problem.cores) {
        let Some(member) = *owner else { continue };
        *cores.entry(*core).or_default() += 1;
        *room.entry(member).or_default() += 1;
        *common.entry((*core, member)).or_default() += 1;
    }
    let mut pairs: Vec<_> = common.into_iter().collect();
    pairs.sort_by_key(|(pair, count)| (std::cmp::Reverse(*count), *pair));
    let mut shares = Shares::new();
    let mut share = |core: CoreId, member: usize, of_core: &mut usize, of_member: &mut usize| {
        let both = (*of_core).min(*of_member);
        if both > 0 {
            *shares.entry((core, member)).or_default() += both;
            *of_core -= both;
            *of_member -= both;
        }
    };
    for ((core, member), _) in pairs {
        if let (Some(a), Some(b)) = (cores.get_mut(&core), room.get_mut(&member)) {
            share(core, member, a, b);
        }
    }
    let mut cores = by_size(cores);
    let mut room = by_size(room);
    while let Some((mut of_core, core)) = cores.pop_last() {
        // A member with just that much room is done with the core; else the one with the most.
        let fitting = room
            .range((of_core, 0)..=(of_core, usize::MAX))
            .next()
            .copied();
        let Some(chosen) = fitting.or(room.last().copied()) else {
            break;
        };
        room.remove(&chosen);
        let (mut of_member, member) = chosen;
        share(core, member, &mut of_core, &mut of_member);
        if of_core > 0 {
            cores.insert((of_core, core));
        }
        if of_member > 0 {
            room.insert((of_member, member));
        }
    }
    shares
}

/// What is left, the least first.
fn by_size<K: Ord>(left: BTreeMap<K, usize>) -> BTreeSet<(usize, K)> {
    let sized = left.into_iter().map(|(key, count)| (count, key));
    sized.filter(|(count, _)| *count > 0).collect()
}
