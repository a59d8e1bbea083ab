//! A broker's topics, and one coordinator that is driven as a core drives it: event by event, each of them timed.

use std::time::Duration;

use corelane_bench::clock::Clock;
use corelane_broker::groups::{
    Allowance, Coordinator, GroupRecord, Now, Outcome, Settings, Topics,
};
use corelane_broker::metadata::{MetadataImage, MetadataRecord, is_internal};
use corelane_protocol::request::{
    CommitEntry, CommitOffsetsRequest, GroupHeartbeatRequest, MemberRef, PartitionsOfTopic,
    Subscription,
};
use corelane_protocol::{
    CoreId, Generation, MemberId, Offset, PartitionIndex, StoreId, Timestamp, TopicId, TopicName,
    TopicPartition,
};
use rustix::time::{ClockId, clock_gettime};
use uuid::Uuid;

const STORES: u16 = 4;

/// Topics as they come out of the metadata log.
pub(crate) struct Catalogue {
    pub(crate) image: MetadataImage,
    made: u128,
}

impl Topics for Catalogue {
    fn by_name(&self, name: &str) -> Option<(TopicId, u32)> {
        let topic = self.image.topic_named(name)?;
        Some((topic.id, topic.partition_count))
    }

    fn name_of(&self, id: TopicId) -> Option<&str> {
        self.image.topic(id).map(|topic| topic.name.as_str())
    }

    fn for_each_name(&self, see: &mut dyn FnMut(&str)) {
        let names = self.image.topics().map(|topic| topic.name.as_str());
        names.filter(|name| !is_internal(name)).for_each(see);
    }

    fn core_of(&self, partition: TopicPartition) -> CoreId {
        CoreId::new((partition.partition.get() % 2) as u16)
    }
}

impl Catalogue {
    pub(crate) fn new() -> Self {
        Self {
            image: MetadataImage::new(),
            made: 0,
        }
    }

    /// So many topics of so many partitions.
    pub(crate) fn with(topics: usize, partitions: u32) -> Self {
        let mut catalogue = Self::new();
        for number in 0..topics {
            catalogue.create(&topic_name(number), partitions);
        }
        catalogue
    }

    pub(crate) fn create(&mut self, name: &str, partitions: u32) -> TopicId {
        let (id, records) = self.creation(name, partitions);
        for record in records {
            self.image.apply(&record).expect("a new topic");
        }
        id
    }

    /// The records that make a topic.
    pub(crate) fn creation(
        &mut self,
        name: &str,
        partitions: u32,
    ) -> (TopicId, [MetadataRecord; 2]) {
        self.made += 1;
        // As ids are: in another order than names.
        let id = TopicId::new(Uuid::from_u128(
            self.made.wrapping_mul(u128::MAX / 1_000_003),
        ));
        let store = |partition| StoreId::new((partition % u32::from(STORES)) as u16);
        let created = MetadataRecord::TopicCreated {
            id,
            name: TopicName::new(name).expect("a valid name"),
            partitions,
            settings: Vec::new(),
        };
        let placed = MetadataRecord::PartitionsPlaced {
            topic: id,
            first: PartitionIndex::new(0),
            stores: (0..partitions).map(store).collect(),
        };
        (id, [created, placed])
    }
}

pub(crate) fn topic_name(number: usize) -> String {
    format!("topic-{number:04}")
}

pub(crate) fn group_name(number: usize) -> String {
    format!("group-{number:04}")
}

pub(crate) fn by_name(topic: &str) -> Subscription {
    Subscription {
        client: "bench".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        topics: vec![topic.to_owned()],
        ..Subscription::default()
    }
}

pub(crate) fn by_pattern(pattern: &str) -> Subscription {
    let mut wanted = by_name("");
    wanted.topics.clear();
    wanted.pattern = Some(pattern.to_owned());
    wanted
}

/// A consumer as it sees itself.
pub(crate) struct Consumer {
    group: String,
    member: MemberRef,
    wanted: Subscription,
    owned: Vec<PartitionsOfTopic>,
}

impl Consumer {
    pub(crate) fn new(number: usize, group: &str, wanted: Subscription) -> Self {
        let number = (number as u128 + 1).wrapping_mul(u128::MAX / 999_983);
        Self {
            group: group.to_owned(),
            member: MemberRef {
                id: MemberId::new(Uuid::from_u128(number)),
                generation: Generation::NONE,
            },
            wanted,
            owned: Vec::new(),
        }
    }

    pub(crate) fn held(&self) -> usize {
        self.owned.iter().map(|topic| topic.partitions.len()).sum()
    }
}

/// How long events took: all together, and the longest one by the CPU that it had, so that what else the machine does
/// is not in it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Times {
    pub(crate) events: usize,
    pub(crate) total: Duration,
    pub(crate) longest: Duration,
}

/// The CPU time of this thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.try_into().expect("it is not negative")
}

impl Times {
    pub(crate) fn time<R>(&mut self, event: impl FnOnce() -> R) -> R {
        let before = cpu_time();
        let clock = Clock::start();
        let result = event();
        self.total += clock.elapsed();
        self.longest = self.longest.max(cpu_time() - before);
        self.events += 1;
        result
    }
}

/// A coordinator and its time.
pub(crate) struct Bench {
    pub(crate) coordinator: Coordinator,
    pub(crate) now: Now,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            coordinator: Coordinator::new(Settings {
                group_members_max: usize::MAX,
                memory_bytes_max: usize::MAX,
                ..Settings::default()
            }),
            now: Now {
                wall: Timestamp::new(1_700_000_000_000),
                monotonic_us: 1_000_000,
            },
        }
    }

    /// One heartbeat. Says whether it has changed anything.
    pub(crate) fn beat(
        &mut self,
        topics: &Catalogue,
        consumer: &mut Consumer,
        times: &mut Times,
    ) -> bool {
        let joins = consumer.member.generation == Generation::NONE;
        let request = GroupHeartbeatRequest {
            group: consumer.group.clone(),
            member: consumer.member,
            subscription: joins.then(|| consumer.wanted.clone()),
            owned: consumer.owned.clone(),
        };
        let Outcome { result, records } = times.time(|| {
            self.coordinator
                .heartbeat(self.now, topics, "127.0.0.1", &request)
        });
        let answer = result.expect("the heartbeat is fine");
        consumer.member.generation = answer.generation;
        let told = answer.assignment.is_some();
        if let Some(assignment) = answer.assignment {
            let owned = assignment.into_iter().map(|of| PartitionsOfTopic {
                topic: of.topic,
                partitions: of.partitions,
            });
            consumer.owned = owned.collect();
        }
        told || !records.is_empty()
    }

    /// Heartbeats of all in turn until nothing changes any more.
    pub(crate) fn settle(&mut self, topics: &Catalogue, consumers: &mut [Consumer]) -> Times {
        let mut times = Times::default();
        loop {
            let mut changed = false;
            for consumer in &mut *consumers {
                changed |= self.beat(topics, consumer, &mut times);
            }
            if !changed {
                return times;
            }
        }
    }

    /// Tells it that topics have changed, and does what is due at once until nothing is.
    pub(crate) fn topics_changed(&mut self, topics: &Catalogue) -> Times {
        let mut times = Times::default();
        times.time(|| {
            self.coordinator.topics_changed();
            let mut allowance = Allowance::of_event();
            self.coordinator.look(self.now, topics, &mut allowance)
        });
        self.tick(topics, &mut times);
        times
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, topics: &Catalogue, times: &mut Times) {
        while let Some(due) = self.coordinator.next_deadline()
            && due <= self.now.monotonic_us
        {
            let mut allowance = Allowance::of_event();
            times.time(|| self.coordinator.tick(self.now, topics, &mut allowance));
        }
    }

    /// Commits offsets of a group without members.
    pub(crate) fn commit(
        &mut self,
        topics: &Catalogue,
        group: &str,
        partitions: &[TopicPartition],
    ) {
        let entries = partitions.iter().map(|partition| CommitEntry {
            partition: *partition,
            offset: Offset::new(17),
            leader_epoch: None,
            metadata: String::new(),
        });
        let request = CommitOffsetsRequest {
            group: group.to_owned(),
            member: None,
            entries: entries.collect(),
        };
        let committed = self.coordinator.commit(self.now, topics, &request).result;
        let committed = committed.expect("the group has no members");
        assert!(committed.iter().all(|entry| entry.result.is_ok()));
    }

    /// The same groups, read back from a snapshot.
    pub(crate) fn reloaded(&self, topics: &Catalogue) -> Times {
        let records: Vec<GroupRecord> = self.coordinator.snapshot().collect();
        let mut read = Self::new();
        records
            .into_iter()
            .for_each(|record| read.coordinator.replay(record));
        let mut times = Times::default();
        let mut load = || {
            let mut allowance = Allowance::of_event();
            read.coordinator.loaded(read.now, topics, &mut allowance)
        };
        while times.time(&mut load).is_none() {}
        assert_eq!(
            read.coordinator.member_count(),
            self.coordinator.member_count()
        );
        times
    }
}
