//! Consumer groups: members, what they may hold, and how far they have come.
//!
//! Owns the coordinator, a state machine. Requests, the time and what is known of topics go in;
//! answers, and records to be logged, come out. It reads no clock, draws no random number, and
//! writes nothing. There is one coordinator for each partition of the internal topic that keeps
//! groups, on the core that owns the partition; its state is what that log says.
//!
//! **Its caller** lets it read the log ([`Coordinator::replay`], [`Coordinator::loaded`]), and from
//! then on appends the records of each call as one batch. A change counts at once in memory, so an
//! answer is not sent before the call's records and all before them are durable. After an append
//! that failed the coordinator is thrown away, and another one reads the log again.
//!
//! **Reconciliation** goes member by member, and nobody stops for the others. Every change of who
//! is in a group, of what members want, or of the topics that they want, raises the group's
//! generation, and an assignor says what each member is to hold in the end: its *target*. A member
//! learns by its heartbeats, first, what it has to let go. Only when a heartbeat says that it
//! holds none of that any more is this free; only then the member's generation rises, and it is
//! given what is its own by the target and free; the rest as soon as others have let go. At no
//! time may two members hold one partition.
//!
//! **Generations** of a member stand for what it was given: whenever it is given partitions its
//! generation rises, and so within a generation it can only let go. (Where a member is given
//! partitions that others have let go late, the group's generation rises for it; the others need
//! not follow.) A heartbeat that names the member's generation is therefore believed where it says
//! that partitions were let go. One that names the generation before, or none, may have been sent
//! before the answer that is known to the member by now: it is answered again, and nothing else.

mod aim;
mod alarms;
mod allowance;
mod assignors;
mod checks;
mod describe;
mod group;
mod heartbeat;
mod leave;
mod load;
mod looks;
mod member;
mod offsets;
mod partitions;
mod pattern;
mod record;
mod report;
mod settings;
#[cfg(test)]
mod tests;
mod tick;

use std::collections::BTreeMap;
use std::sync::Arc;

use corelane_protocol::{ApiError, CoreId, Offset, Timestamp, TopicId, TopicPartition};

use alarms::{Alarm, Alarms};
use group::{Group, Tally};
use load::Load;
use looks::Looks;

pub use allowance::Allowance;
pub use record::{GroupRecord, GroupRecordError, GroupValue, MemberValue};
pub use report::GroupView;
pub use settings::Settings;

/// The time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, for times that are kept.
    pub wall: Timestamp,
    /// A clock that never goes back, in µs from any beginning, for deadlines.
    pub monotonic_us: u64,
}

impl Now {
    const ZERO: Self = Self {
        wall: Timestamp::new(0),
        monotonic_us: 0,
    };

    fn after_ms(self, ms: u32) -> u64 {
        self.monotonic_us.saturating_add(u64::from(ms) * 1000)
    }
}

/// What a coordinator sees of the broker's topics.
pub trait Topics {
    /// The topic of this name, and its number of partitions.
    fn by_name(&self, name: &str) -> Option<(TopicId, u32)>;
    /// The name of a topic, unless it is gone.
    fn name_of(&self, id: TopicId) -> Option<&str>;
    /// The names of all topics but the internal ones, in any order.
    fn for_each_name(&self, see: &mut dyn FnMut(&str));
    /// The core that owns a partition of a topic that there is.
    fn core_of(&self, partition: TopicPartition) -> CoreId;
}

/// What a request comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome<T> {
    /// The answer, to be sent once the records, and all before them, are durable.
    pub result: Result<T, ApiError>,
    /// To be logged as one batch; empty where nothing has changed.
    pub records: Vec<GroupRecord>,
}

impl<T> Outcome<T> {
    /// Nothing has changed.
    fn refused(error: ApiError) -> Self {
        Self {
            result: Err(error),
            records: Vec::new(),
        }
    }
}

/// The groups of one partition of the topic that keeps groups.
#[derive(Debug)]
pub struct Coordinator {
    settings: Settings,
    groups: BTreeMap<Arc<str>, Group>,
    alarms: Alarms,
    load: Load,
    looks: Looks,
    total: Tally,
}

impl Coordinator {
    /// A coordinator that has read nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            groups: BTreeMap::new(),
            alarms: Alarms::default(),
            load: Load::default(),
            looks: Looks::default(),
            total: Tally::default(),
        }
    }

    /// When [`Coordinator::tick`] is due, in µs of the monotonic clock.
    pub fn next_deadline(&self) -> Option<u64> {
        if self.looks.are_due() {
            return Some(0);
        }
        self.alarms.next()
    }

    /// How many records are alive: as many as [`Coordinator::snapshot`] has.
    pub fn live_records(&self) -> usize {
        self.groups.len() + self.total.members + self.total.offsets
    }

    /// Roughly the bytes of its state.
    pub fn memory_bytes(&self) -> usize {
        self.total.memory_bytes
    }

    /// How many groups there are.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// How many members all groups have together.
    pub fn member_count(&self) -> usize {
        self.total.members
    }

    /// Every committed offset, with its group and partition.
    pub fn committed_offsets(&self) -> impl Iterator<Item = (&str, TopicPartition, Offset)> {
        self.groups.iter().flat_map(|(name, group)| {
            let offsets = group.offsets.iter();
            offsets.map(|(partition, committed)| (&**name, *partition, committed.offset))
        })
    }

    /// Changes a group, which there is, and does what follows from any change: records, alarms,
    /// and what is counted. A group that has neither members nor offsets in the end is forgotten.
    fn change<R>(
        &mut self,
        now: Now,
        name: &str,
        records: &mut Vec<GroupRecord>,
        change: impl FnOnce(&mut Group, &mut Alarms, &Settings) -> R,
    ) -> R {
        let group = self
            .groups
            .get_mut(name)
            .expect("the caller has seen the group");
        let before = group.counted;
        let result = change(group, &mut self.alarms, &self.settings);
        group.note_emptiness(now);
        let forgotten = group.members.is_empty() && group.offsets.is_empty();
        group.take_records(forgotten, records);
        group.counted = if forgotten {
            Tally::default()
        } else {
            group.tally()
        };
        self.total = self.total.with(before, group.counted);
        if forgotten {
            self.alarms.set(
                &mut group.expiry_us,
                None,
                Alarm::Expiry(group.name.clone()),
            );
            self.groups.remove(name);
        } else if group.empty_since.is_some() != group.expiry_us.is_some() {
            let at = group.expiry(now, &self.settings);
            self.alarms
                .set(&mut group.expiry_us, at, Alarm::Expiry(group.name.clone()));
        }
        result
    }

    /// The group's entry, made if there is none.
    fn make_group(&mut self, name: &str) {
        if !self.groups.contains_key(name) {
            let name: Arc<str> = name.into();
            let group = Group::new(name.clone(), self.looks.change);
            self.groups.insert(name, group);
            self.looks.group_made();
        }
    }
}
