//! The coordinator by itself: a broker's topics and a clock are made up, and the log is a list.

mod assignors;
mod commits;
mod expiry;
mod joining;
mod limits;
mod loading;
mod many;
mod model;
mod reconciling;
mod records;
mod sound;
mod static_members;
mod subscriptions;

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::request::{
    CommitEntry, CommitOffsetsRequest, FetchOffsetsRequest, GroupHeartbeatRequest,
    LeaveGroupRequest, MemberRef, PartitionsOfTopic, Subscription,
};
use corelane_protocol::response::{CommittedEntry, HeartbeatAnswer, NamedPartitions};
use corelane_protocol::{
    ApiError, CoreId, ErrorCode, Generation, MemberId, Offset, PartitionIndex, Timestamp, TopicId,
    TopicPartition,
};
use uuid::Uuid;

use super::partitions::PartitionSet;
use super::{Allowance, Coordinator, GroupRecord, Now, Settings, Topics};

/// The topics of a made-up broker; partitions are dealt to four cores.
#[derive(Debug, Clone, Default)]
pub(super) struct FakeTopics {
    by_name: BTreeMap<String, (TopicId, u32)>,
    by_id: BTreeMap<TopicId, String>,
    made: u128,
}

impl FakeTopics {
    pub(super) fn create(&mut self, name: &str, partitions: u32) -> TopicId {
        self.made += 1;
        let id = TopicId::new(Uuid::from_u128(self.made));
        self.by_name.insert(name.to_owned(), (id, partitions));
        self.by_id.insert(id, name.to_owned());
        id
    }

    fn extend(&mut self, name: &str, partitions: u32) {
        self.by_name.get_mut(name).expect("the topic is there").1 = partitions;
    }

    fn delete(&mut self, name: &str) {
        let (id, _) = self.by_name.remove(name).expect("the topic is there");
        self.by_id.remove(&id);
    }
}

impl Topics for FakeTopics {
    fn by_name(&self, name: &str) -> Option<(TopicId, u32)> {
        self.by_name.get(name).copied()
    }

    fn name_of(&self, id: TopicId) -> Option<&str> {
        self.by_id.get(&id).map(String::as_str)
    }

    fn for_each_name(&self, see: &mut dyn FnMut(&str)) {
        self.by_name.keys().for_each(|name| see(name));
    }

    fn core_of(&self, partition: TopicPartition) -> CoreId {
        CoreId::new((partition.partition.get() % 4) as u16)
    }
}

/// A small generator of numbers that only depend on the seed.
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

pub(super) fn member_id(n: u128) -> MemberId {
    MemberId::new(Uuid::from_u128(n))
}

pub(super) fn at(topic: TopicId, partition: u32) -> TopicPartition {
    TopicPartition::new(topic, PartitionIndex::new(partition))
}

pub(super) fn wants(topics: &[&str]) -> Subscription {
    Subscription {
        instance: None,
        client: "client".to_owned(),
        session_timeout_ms: 9_000,
        rebalance_timeout_ms: 20_000,
        topics: topics.iter().map(|name| (*name).to_owned()).collect(),
        pattern: None,
        assignor: None,
    }
}

pub(super) fn flat(assignment: &[NamedPartitions]) -> BTreeSet<TopicPartition> {
    let of = |of: &NamedPartitions| {
        let topic = of.topic;
        of.partitions
            .clone()
            .into_iter()
            .map(move |index| TopicPartition::new(topic, index))
    };
    assignment.iter().flat_map(of).collect()
}

/// A consumer as it sees itself.
#[derive(Debug, Clone)]
struct Client {
    group: String,
    me: MemberRef,
    subscription: Subscription,
    owned: BTreeSet<TopicPartition>,
}

impl Client {
    fn new(n: u128, subscription: Subscription) -> Self {
        Self {
            group: "g".to_owned(),
            me: MemberRef {
                id: member_id(n),
                generation: Generation::NONE,
            },
            subscription,
            owned: BTreeSet::new(),
        }
    }

    /// Sends its subscription when it joins.
    fn request(&self) -> GroupHeartbeatRequest {
        let joins = self.me.generation == Generation::NONE;
        GroupHeartbeatRequest {
            group: self.group.clone(),
            member: self.me,
            subscription: joins.then(|| self.subscription.clone()),
            owned: owned_on_wire(&self.owned),
        }
    }

    /// Does at once what it is told.
    fn apply(&mut self, answer: &HeartbeatAnswer) {
        self.me.generation = answer.generation;
        if let Some(assignment) = &answer.assignment {
            self.owned = flat(assignment);
        }
    }
}

fn owned_on_wire(owned: &BTreeSet<TopicPartition>) -> Vec<PartitionsOfTopic> {
    PartitionSet::new(owned.iter().copied().collect()).to_wire()
}

/// A coordinator, with what is around it.
#[derive(Debug)]
struct Bench {
    coordinator: Coordinator,
    topics: FakeTopics,
    now: Now,
    log: Vec<GroupRecord>,
}

impl Bench {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        Self {
            coordinator: Coordinator::new(settings),
            topics: FakeTopics::default(),
            now: Now {
                wall: Timestamp::new(1_000_000),
                monotonic_us: 5_000_000,
            },
            log: Vec::new(),
        }
    }

    fn pass_ms(&mut self, ms: u64) {
        self.now.monotonic_us += ms * 1000;
        self.now.wall = Timestamp::new(self.now.wall.get() + ms as i64);
    }

    /// Lets time pass and what is due happen; says how many records that made.
    fn wait_ms(&mut self, ms: u64) -> usize {
        self.pass_ms(ms);
        let mut allowance = Allowance::of_event();
        let records = self
            .coordinator
            .tick(self.now, &self.topics, &mut allowance);
        let count = records.len();
        self.log.extend(records);
        self.check();
        count
    }

    fn check(&self) {
        sound::assert_sound(&self.coordinator);
    }

    /// A heartbeat whose answer does not arrive.
    fn send(&mut self, request: &GroupHeartbeatRequest) -> Result<HeartbeatAnswer, ApiError> {
        let outcome = self
            .coordinator
            .heartbeat(self.now, &self.topics, "host", request);
        self.log.extend(outcome.records);
        self.check();
        outcome.result
    }

    fn beat(&mut self, client: &mut Client) -> HeartbeatAnswer {
        let answer = self.send(&client.request()).expect("the heartbeat is fine");
        client.apply(&answer);
        answer
    }

    /// Heartbeats of all until nobody has anything to do.
    fn settle(&mut self, clients: &mut [&mut Client]) {
        for _ in 0..10 {
            let before = self.log.len();
            let mut told = false;
            for client in clients.iter_mut() {
                told |= self.beat(client).assignment.is_some();
            }
            if self.log.len() == before && !told {
                return;
            }
        }
        panic!("the group does not come to rest");
    }

    fn leave(&mut self, client: &Client, returns: bool) -> Result<(), ApiError> {
        let request = LeaveGroupRequest {
            group: client.group.clone(),
            member: client.me,
            returns,
        };
        let outcome = self.coordinator.leave(self.now, &self.topics, &request);
        self.log.extend(outcome.records);
        self.check();
        outcome.result
    }

    fn commit(
        &mut self,
        member: Option<MemberRef>,
        offsets: &[(TopicPartition, u64)],
    ) -> Result<Vec<CommittedEntry>, ApiError> {
        let entry = |(partition, offset): &(TopicPartition, u64)| CommitEntry {
            partition: *partition,
            offset: Offset::new(*offset),
            leader_epoch: None,
            metadata: String::new(),
        };
        let request = CommitOffsetsRequest {
            group: "g".to_owned(),
            member,
            entries: offsets.iter().map(entry).collect(),
        };
        let outcome = self.coordinator.commit(self.now, &self.topics, &request);
        self.log.extend(outcome.records);
        self.check();
        outcome.result
    }

    fn committed(&self, partition: TopicPartition) -> Option<u64> {
        let request = FetchOffsetsRequest {
            group: "g".to_owned(),
            partitions: Some(vec![partition]),
        };
        let fetched = self
            .coordinator
            .fetch_offsets(&request)
            .expect("the request is fine");
        fetched[0]
            .committed
            .as_ref()
            .map(|committed| committed.offset.get())
    }

    fn topics_changed(&mut self) -> usize {
        self.coordinator.topics_changed();
        let mut allowance = Allowance::of_event();
        let records = self
            .coordinator
            .look(self.now, &self.topics, &mut allowance);
        let count = records.len();
        self.log.extend(records);
        self.check();
        count
    }

    /// Another coordinator reads the log; says how many records it adds.
    fn restart(&mut self) -> usize {
        self.coordinator = Coordinator::new(self.coordinator.settings);
        for record in &self.log {
            let (key, value) = (record.key(), record.value());
            let read = GroupRecord::decode(&key, value.as_deref()).expect("it was encoded");
            assert_eq!(read, *record);
            self.coordinator.replay(read);
        }
        let records = loop {
            let mut allowance = Allowance::of_event();
            let loaded = self
                .coordinator
                .loaded(self.now, &self.topics, &mut allowance);
            if let Some(records) = loaded {
                break records;
            }
        };
        let count = records.len();
        self.log.extend(records);
        self.check();
        count
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, ApiError>) -> ErrorCode {
    result.expect_err("it is refused").code
}
