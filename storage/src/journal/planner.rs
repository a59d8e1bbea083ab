//! When the next group is written.
//!
//! Owns the queue of partitions with batches that no group holds yet, and the count of groups in flight.
//! Never looks at a batch. Pure; used on the core that runs the store.

use std::collections::VecDeque;

use crate::store::PartitionHandle;

use super::format::PART_BYTES;

/// Limits of group commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlannerLimits {
    /// From so many dirty bytes on, a group is written though others are in flight.
    pub(crate) group_bytes_min: usize,
    /// The most groups in flight.
    pub(crate) groups_in_flight: usize,
}

/// Decides when a group is due, and whose turn it is to be in it.
#[derive(Debug)]
pub(crate) struct CommitPlanner {
    limits: PlannerLimits,
    dirty: VecDeque<PartitionHandle>,
    dirty_bytes: usize,
    /// What the batches that no group holds may need of the journal, whether they are due or not.
    unjournaled_cost: u64,
    in_flight: usize,
    /// Bytes of the batches in groups in flight.
    in_flight_bytes: usize,
}

impl CommitPlanner {
    pub(crate) fn new(limits: PlannerLimits) -> Self {
        Self {
            limits,
            dirty: VecDeque::new(),
            dirty_bytes: 0,
            unjournaled_cost: 0,
            in_flight: 0,
            in_flight_bytes: 0,
        }
    }

    /// What a batch may need of the journal: itself and, at worst, a part of its own.
    pub(crate) fn cost(batches: u32, bytes: usize) -> u64 {
        bytes as u64 + u64::from(batches) * PART_BYTES as u64
    }

    /// A batch was appended.
    pub(crate) fn appended(&mut self, bytes: usize) {
        self.unjournaled_cost += Self::cost(1, bytes);
    }

    /// A partition whose batches are due joins the queue with `bytes`.
    pub(crate) fn enqueue(&mut self, partition: PartitionHandle, bytes: usize) {
        self.dirty.push_back(partition);
        self.dirty_bytes += bytes;
    }

    /// A partition in the queue has more due bytes.
    pub(crate) fn grew(&mut self, bytes: usize) {
        self.dirty_bytes += bytes;
    }

    /// Batches went into a group.
    pub(crate) fn journaled(&mut self, batches: u32, bytes: usize) {
        self.dirty_bytes -= bytes;
        self.unjournaled_cost -= Self::cost(batches, bytes);
    }

    /// A partition's batches will never be in a group, because it is gone.
    pub(crate) fn dropped(
        &mut self,
        partition: PartitionHandle,
        due_bytes: usize,
        batches: u32,
        bytes: usize,
    ) {
        self.dirty.retain(|waiting| *waiting != partition);
        self.dirty_bytes -= due_bytes;
        self.unjournaled_cost -= Self::cost(batches, bytes);
    }

    /// The partition whose turn it is.
    pub(crate) fn next(&mut self) -> Option<PartitionHandle> {
        self.dirty.pop_front()
    }

    /// A partition that has more than the group could take waits for the next one, behind the others.
    pub(crate) fn requeue(&mut self, partition: PartitionHandle) {
        self.dirty.push_back(partition);
    }

    /// A partition whose group has no room in the journal yet keeps its turn.
    pub(crate) fn requeue_first(&mut self, partition: PartitionHandle) {
        self.dirty.push_front(partition);
    }

    /// Whether a group should be built now.
    pub(crate) fn is_due(&self) -> bool {
        !self.dirty.is_empty()
            && (self.in_flight == 0
                || (self.dirty_bytes >= self.limits.group_bytes_min
                    && self.in_flight < self.limits.groups_in_flight))
    }

    /// Whether any batch is due that no group holds.
    pub(crate) fn has_due(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Bytes of the batches that are due.
    pub(crate) fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    /// Bytes of the batches that are due or being written: what an append waits for.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.dirty_bytes + self.in_flight_bytes
    }

    /// A group with so many bytes of batches is being written.
    pub(crate) fn group_started(&mut self, bytes: usize) {
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
    }

    pub(crate) fn group_done(&mut self, bytes: usize) {
        self.in_flight -= 1;
        self.in_flight_bytes -= bytes;
    }

    /// Whether nothing is due and nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.dirty.is_empty() && self.in_flight == 0
    }

    /// See `cost`.
    pub(crate) fn unjournaled_cost(&self) -> u64 {
        self.unjournaled_cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planner() -> CommitPlanner {
        CommitPlanner::new(PlannerLimits {
            group_bytes_min: 1000,
            groups_in_flight: 2,
        })
    }

    fn handle(index: u32) -> PartitionHandle {
        PartitionHandle::new(index, 0)
    }

    #[test]
    fn an_idle_journal_commits_at_once_and_a_busy_one_gathers() {
        let mut planner = planner();
        assert!(!planner.is_due() && planner.is_idle());
        planner.appended(10);
        planner.enqueue(handle(1), 10);
        assert!(planner.is_due());
        assert_eq!(planner.next(), Some(handle(1)));
        planner.journaled(1, 10);
        planner.group_started(10);
        assert_eq!(planner.unjournaled_cost(), 0);
        planner.appended(999);
        planner.enqueue(handle(2), 999);
        assert!(!planner.is_due());
        planner.appended(1);
        planner.grew(1);
        assert!(planner.is_due());
        assert_eq!(planner.queued_bytes(), 1010);
        planner.group_started(0);
        assert!(!planner.is_due(), "no more than the limit in flight");
        planner.group_done(10);
        planner.group_done(0);
        assert_eq!(planner.queued_bytes(), 1000);
        assert!(planner.is_due() && !planner.is_idle());
    }

    #[test]
    fn what_does_not_fit_goes_behind_the_others() {
        let mut planner = planner();
        for index in 0..3 {
            planner.appended(500);
            planner.enqueue(handle(index), 500);
        }
        let first = planner.next().expect("three wait");
        planner.journaled(1, 100);
        planner.requeue(first);
        let order: Vec<_> = std::iter::from_fn(|| planner.next()).collect();
        assert_eq!(order, [handle(1), handle(2), handle(0)]);
    }
}
