//! What a member's caller and its tasks share: the partitions, and how far each has come.
//!
//! Owns: the rule that nothing of a partition is handed out which is let go or lost, and what counts as processed.
//! Never: waits with the lock held.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corelane_protocol::request::MemberRef;
use corelane_protocol::{PartitionIndex, TopicPartition};
use tokio::sync::watch;
use tokio::time::Instant;

use super::effect::{Partitions, Standing};
use crate::cluster::TopicMetadata;
use crate::consumer::{Found, Place};
use crate::error::Error;

/// How far records were handed out, or processed: the offset of the next one, and the epoch of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) offset: u64,
    pub(super) epoch: Option<u32>,
}

impl From<Place> for Mark {
    fn from(place: Place) -> Self {
        Self {
            offset: place.offset,
            epoch: place.epoch,
        }
    }
}

/// Where reading of a partition begins.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub(super) topic: Arc<TopicMetadata>,
    pub(super) start: Result<Found, Error>,
    /// What was committed before.
    pub(super) committed: Option<u64>,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Where to begin is being found out, or the listener is told.
    Taking(Option<Opened>),
    Reading(Opened),
    /// Nothing is handed out any more; it is the member's until the coordinator was told.
    LettingGo,
}

/// A partition that the member holds.
#[derive(Debug)]
pub(super) struct Holding {
    pub(super) name: Arc<str>,
    /// Differs each time that a partition is taken.
    pub(super) number: u64,
    pub(super) phase: Phase,
    /// The listener was told of it.
    pub(super) is_announced: bool,
    /// Behind what was handed out; nothing before it is known where to begin.
    pub(super) position: Option<Mark>,
    pub(super) processed: Option<Mark>,
    pub(super) committed: Option<u64>,
}

impl Holding {
    pub(super) fn is_to_be_announced(&self) -> bool {
        !self.is_announced && matches!(self.phase, Phase::Taking(Some(_)))
    }

    /// Whether it is this taking, of which is yet to be found out where to begin.
    pub(super) fn is_sought(&self, number: u64) -> bool {
        self.number == number && matches!(self.phase, Phase::Taking(None))
    }

    pub(super) fn is_read(&self) -> bool {
        matches!(self.phase, Phase::Reading(_))
    }
}

/// Partitions that were taken: which taking of each, and the names of their topics.
pub(super) type Taken = BTreeMap<TopicPartition, (u64, Arc<str>)>;

#[derive(Debug)]
pub(super) struct State {
    pub(super) member: MemberRef,
    pub(super) standing: Standing,
    /// From here on others may have the partitions, unless the coordinator answers before.
    pub(super) session_until: Option<Instant>,
    pub(super) partitions: BTreeMap<TopicPartition, Holding>,
    next_number: u64,
    /// Changes with every change of which partitions are read.
    pub(super) version: u64,
    /// The partition whose records the program is at.
    pub(super) in_hand: Option<TopicPartition>,
    /// To be told by the next call that asks for records.
    pub(super) errors: VecDeque<Error>,
    /// Why the member is out, until it was told.
    pub(super) out: Option<Error>,
    /// The last failed attempt to join or to stay.
    pub(super) last_failure: Option<Error>,
    /// Lost partitions of which more was handed out than was committed.
    pub(super) lost_uncommitted: BTreeSet<(String, u32)>,
    /// Whether the program waits for records, and since when it does or does not.
    is_asking: bool,
    asked_at: Instant,
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changes: watch::Sender<()>,
}

impl Shared {
    pub(super) fn new(member: MemberRef, now: Instant) -> Self {
        let state = State {
            member,
            standing: Standing::Joining,
            session_until: None,
            partitions: BTreeMap::new(),
            next_number: 0,
            version: 0,
            in_hand: None,
            errors: VecDeque::new(),
            out: None,
            last_failure: None,
            lost_uncommitted: BTreeSet::new(),
            is_asking: false,
            asked_at: now,
        };
        Self {
            state: Mutex::new(state),
            changes: watch::Sender::new(()),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something that others may wait for.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let value = change(&mut self.state());
        self.changes.send_replace(());
        value
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Waits until `is_so`. Cancel safe.
    pub(super) async fn until(&self, is_so: impl Fn(&State) -> bool) {
        let mut changes = self.subscribe();
        loop {
            changes.borrow_and_update();
            if is_so(&self.state()) {
                return;
            }
            changes.changed().await.expect("the sender is in self");
        }
    }

    /// Does something on behalf of partitions; `None` if none of them is held any more before it was done.
    pub(super) async fn while_held<T>(
        &self,
        partitions: &BTreeSet<TopicPartition>,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let none_left = |state: &State| {
            let mut partitions = partitions.iter();
            !partitions.any(|partition| state.partitions.contains_key(partition))
        };
        tokio::select! {
            biased;
            () = self.until(none_left) => None,
            value = work => Some(value),
        }
    }
}

impl State {
    /// Begins to hold partitions; nothing is read of them yet.
    pub(super) fn take(&mut self, partitions: &Partitions) -> Taken {
        let mut taken = Taken::new();
        for (partition, name) in partitions {
            let number = self.next_number;
            taken.insert(*partition, (number, Arc::clone(name)));
            self.next_number += 1;
            let holding = Holding {
                name: Arc::clone(name),
                number,
                phase: Phase::Taking(None),
                is_announced: false,
                position: None,
                processed: None,
                committed: None,
            };
            self.partitions.insert(*partition, holding);
        }
        taken
    }

    /// Hands nothing out of these any more.
    pub(super) fn let_go(&mut self, partitions: &BTreeSet<TopicPartition>) {
        self.version += 1;
        for partition in partitions {
            if let Some(holding) = self.partitions.get_mut(partition) {
                holding.phase = Phase::LettingGo;
            }
        }
    }

    /// Forgets these, which were let go or lost.
    pub(super) fn remove(
        &mut self,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Vec<(TopicPartition, Holding)> {
        self.version += 1;
        let removed = partitions
            .iter()
            .filter_map(|partition| self.partitions.remove_entry(partition));
        removed.collect()
    }

    /// Forgets these, which others may have; what was handed out of them and not committed will be told.
    pub(super) fn lose(
        &mut self,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Vec<(TopicPartition, Holding)> {
        let lost = self.remove(partitions);
        for (partition, holding) in &lost {
            let handed_out = holding.position.map(|mark| mark.offset);
            let begun = holding.committed.or(match &holding.phase {
                Phase::Reading(opened) => {
                    opened.start.as_ref().ok().map(|found| found.place.offset)
                }
                _ => None,
            });
            if handed_out > begun {
                let place = (holding.name.to_string(), partition.partition.get());
                self.lost_uncommitted.insert(place);
            }
        }
        lost
    }

    /// Where reading of a partition begins was found out.
    pub(super) fn opened(&mut self, partition: TopicPartition, number: u64, opened: Opened) {
        let holding = self.partitions.get_mut(&partition);
        let Some(holding) = holding.filter(|holding| holding.is_sought(number)) else {
            return;
        };
        let start = opened.start.as_ref().ok();
        holding.position = start.map(|found| found.place.into());
        holding.processed = holding.position;
        holding.committed = opened.committed;
        holding.phase = Phase::Taking(Some(opened));
    }

    /// Partitions of which is known where to begin, and the listener does not know yet.
    pub(super) fn is_to_be_announced(&self) -> bool {
        self.partitions.values().any(Holding::is_to_be_announced)
    }

    /// Lets the caller read what was announced.
    pub(super) fn begin(&mut self) {
        self.version += 1;
        for holding in self.partitions.values_mut() {
            if !holding.is_announced {
                continue;
            }
            if let Phase::Taking(opened @ Some(_)) = &mut holding.phase {
                let opened = opened.take().expect("matched above");
                holding.phase = Phase::Reading(opened);
            }
        }
    }

    /// Whether records may be handed out at all.
    pub(super) fn may_hand_out(&self, now: Instant) -> bool {
        self.session_until.is_some_and(|until| now < until)
    }

    /// Records of a partition go to the program; false if they may not.
    pub(super) fn hand_out(&mut self, partition: TopicPartition, number: u64, to: Mark) -> bool {
        let Some(holding) = self.reading(partition, number) else {
            return false;
        };
        holding.position = Some(to);
        self.in_hand = Some(partition);
        true
    }

    /// The program has done with everything up to here.
    pub(super) fn processed(&mut self, partition: TopicPartition, number: u64, to: Mark) {
        let holding = self.partitions.get_mut(&partition);
        if let Some(holding) = holding.filter(|holding| holding.number == number) {
            holding.position = Some(to);
            holding.processed = Some(to);
        }
    }

    pub(super) fn reading(
        &mut self,
        partition: TopicPartition,
        number: u64,
    ) -> Option<&mut Holding> {
        let holding = self.partitions.get_mut(&partition)?;
        (holding.is_read() && holding.number == number).then_some(holding)
    }

    /// What was processed and is not committed, of these partitions or of all.
    pub(super) fn uncommitted(
        &self,
        of: Option<&BTreeSet<TopicPartition>>,
    ) -> Vec<(TopicPartition, Mark)> {
        let chosen = |partition: &TopicPartition| of.is_none_or(|of| of.contains(partition));
        let uncommitted = self
            .partitions
            .iter()
            .filter(|(partition, _)| chosen(partition));
        let uncommitted = uncommitted.filter_map(|(partition, holding)| {
            if matches!(holding.phase, Phase::Taking(_)) {
                // The listener may say otherwise.
                return None;
            }
            let processed = holding.processed?;
            (holding.committed != Some(processed.offset)).then_some((*partition, processed))
        });
        uncommitted.collect()
    }

    pub(super) fn committed(&mut self, partition: TopicPartition, offset: u64) {
        if let Some(holding) = self.partitions.get_mut(&partition) {
            holding.committed = Some(offset);
        }
    }

    /// The partition of this name, if it is held.
    pub(super) fn find(&self, topic: &str, partition: u32) -> Option<(TopicPartition, &Holding)> {
        let partition = PartitionIndex::new(partition);
        // From topic to topic, of which each may have thousands.
        let mut next = self.partitions.first_key_value();
        while let Some((first, holding)) = next {
            if &*holding.name == topic {
                let id = TopicPartition::new(first.topic, partition);
                if let Some(holding) = self.partitions.get(&id) {
                    return Some((id, holding));
                }
            }
            let last = TopicPartition::new(first.topic, PartitionIndex::new(u32::MAX));
            let mut behind = self
                .partitions
                .range((Bound::Excluded(last), Bound::Unbounded));
            next = behind.next();
        }
        None
    }

    /// A partition as people know it.
    pub(super) fn place(&self, partition: &TopicPartition) -> String {
        match self.partitions.get(partition) {
            Some(holding) => format!("{}-{}", holding.name, partition.partition),
            None => partition.to_string(),
        }
    }

    pub(super) fn asks(&mut self, is_asking: bool, now: Instant) {
        self.is_asking = is_asking;
        self.asked_at = now;
    }

    /// When the program has not asked for records for too long, if it does not until then.
    pub(super) fn poll_overdue_at(&self, max_poll_interval: Duration) -> Option<Instant> {
        let due = self.asked_at.checked_add(max_poll_interval);
        due.filter(|_| !self.is_asking && self.standing == Standing::Member)
    }
}
