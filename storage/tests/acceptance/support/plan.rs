//! What the clients of a session do: lists of steps, made from a seed before anything runs.

use std::rc::Rc;

use corelane_protocol::{PartitionIndex, TopicId, TopicPartition};
use corelane_storage::store::LogConfig;
use corelane_storage::testing::Random;

use super::batches::batch;
use super::oracle::Oracle;

/// A partition and the store that has it.
pub(crate) type Placed = (TopicPartition, usize);

/// A topic with its partitions.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) config: LogConfig,
    pub(crate) partitions: Vec<Placed>,
}

/// One thing that a client does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Create(Topic),
    Delete(Topic),
    /// Appends batches without a pause between them.
    Append(TopicPartition, Rc<[Vec<u8>]>),
    /// Reads from a place, in thousandths of what can be read.
    Read {
        partition: TopicPartition,
        permille: u64,
        bytes_max: usize,
        at_least_one: bool,
    },
    /// Deletes the records before a place, in thousandths of what can be read.
    DeleteRecords {
        partition: TopicPartition,
        permille: u64,
    },
    /// Waits until everything appended so far is durable, unless the partition is weak.
    Flush(TopicPartition),
    /// Lets so many ms pass.
    Tick(i64),
    /// Lets others run.
    Pause(u32),
}

/// What is done in a session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Before anything else, one after the other.
    pub(crate) first: Vec<Step>,
    /// At the same time.
    pub(crate) clients: Vec<Vec<Step>>,
}

/// Makes the plans of consecutive sessions; knows which topics there are.
pub(crate) struct Planner {
    random: Random,
    stores: usize,
    /// The largest value of a record, in bytes.
    value_bytes_max: usize,
    segment_bytes: u64,
    topics: Vec<Topic>,
    topics_made: u128,
    serial: u64,
}

impl Planner {
    pub(crate) fn new(
        seed: u64,
        stores: usize,
        value_bytes_max: usize,
        segment_bytes: u64,
    ) -> Self {
        Self {
            random: Random::new(seed),
            stores,
            value_bytes_max,
            segment_bytes,
            topics: Vec::new(),
            topics_made: u128::from(seed) << 64,
            serial: seed << 32,
        }
    }

    /// A session that begins by making topics: ordinary ones, one that keeps little, and two that are declared
    /// weaker, one of which ends segments and lets them expire by time.
    pub(crate) fn first_session(&mut self, clients: usize, steps: usize) -> Plan {
        let ordinary = self.log_config();
        let by_messages = LogConfig {
            flush_messages: Some(6),
            ..self.log_config()
        };
        let small = LogConfig {
            retention_bytes: Some(self.segment_bytes),
            ..self.log_config()
        };
        let by_time = LogConfig {
            flush_ms: Some(4),
            segment_ms: Some(10),
            retention_ms: Some(25),
            ..self.log_config()
        };
        let topics = [(ordinary, 3), (small, 1), (by_messages, 1), (by_time, 1)];
        for (config, partitions) in topics {
            let topic = self.new_topic(config, partitions);
            self.topics.push(topic);
        }
        let first = self.topics.iter().cloned().map(Step::Create).collect();
        Plan {
            first,
            ..self.session(clients, steps)
        }
    }

    /// A session of clients that append, read and wait, while one of them deletes a topic and makes it again.
    pub(crate) fn session(&mut self, clients: usize, steps: usize) -> Plan {
        let old = self.random.index(self.topics.len());
        let deleted = self.topics[old].clone();
        let created = self.new_topic(deleted.config.clone(), deleted.partitions.len());
        let mut lists: Vec<Vec<Step>> = Vec::new();
        for _ in 0..clients {
            let before = (0..steps / 2).map(|_| self.step()).collect();
            lists.push(before);
        }
        lists[0].push(Step::Delete(deleted));
        lists[0].push(Step::Pause(8));
        lists[0].push(Step::Create(created.clone()));
        self.topics[old] = created;
        for list in &mut lists {
            list.extend((0..steps / 2).map(|_| self.step()));
        }
        Plan {
            first: Vec::new(),
            clients: lists,
        }
    }

    fn step(&mut self) -> Step {
        let (partition, _) = self.any_partition();
        match self.random.below(20) {
            0..11 => Step::Append(partition, self.burst()),
            11..15 => Step::Read {
                partition,
                permille: [0, self.random.below(1001), 1000][self.random.index(3)],
                bytes_max: [1, 700, 5000, 40_000][self.random.index(4)],
                at_least_one: self.random.chance(7, 8),
            },
            15 | 16 => Step::Flush(partition),
            17 => Step::Tick(self.random.below(12) as i64),
            18 => Step::DeleteRecords {
                partition,
                permille: [self.random.below(600), self.random.below(1001), 1000]
                    [self.random.index(3)],
            },
            _ => Step::Pause(self.random.below(40) as u32),
        }
    }

    fn burst(&mut self) -> Rc<[Vec<u8>]> {
        let max = self.value_bytes_max;
        (0..=self.random.below(3))
            .map(|_| {
                let (records, bytes) = match self.random.below(10) {
                    0..4 => (
                        1 + self.random.below(3) as u32,
                        20 + self.random.index(200.min(max / 4)),
                    ),
                    4..7 => (
                        1 + self.random.below(4) as u32,
                        max / 16 + self.random.index(max / 8),
                    ),
                    7 => (1, max - self.random.index(max / 8)),
                    _ => (1, max / 2 + self.random.index(max / 4)),
                };
                self.serial += 1;
                batch(self.serial, records, bytes)
            })
            .collect()
    }

    fn any_partition(&mut self) -> Placed {
        let topic = &self.topics[self.random.index(self.topics.len())];
        topic.partitions[self.random.index(topic.partitions.len())]
    }

    fn log_config(&mut self) -> LogConfig {
        LogConfig {
            segment_bytes: self.segment_bytes,
            batch_bytes_max: 2 << 20,
            ..LogConfig::default()
        }
    }

    fn new_topic(&mut self, config: LogConfig, partitions: usize) -> Topic {
        self.topics_made += 1;
        topic(self.topics_made, config, partitions, self.stores)
    }
}

impl Plan {
    /// Topics of one partition each, with these configurations, and a client that appends to them in turn.
    pub(crate) fn in_turn(seed: u64, configs: &[LogConfig], rounds: usize) -> Self {
        let number = |index: usize| (u128::from(seed) << 64) + index as u128 + 1;
        let configs = configs.iter().cloned().enumerate();
        let topics: Vec<_> = configs
            .map(|(index, config)| topic(number(index), config, 1, 1))
            .collect();
        let steps = (0..rounds * topics.len()).map(|step| {
            let (partition, _) = topics[step % topics.len()].partitions[0];
            Step::Append(
                partition,
                Rc::new([batch(seed << 32 | step as u64, 1, 2500)]),
            )
        });
        let clients = vec![steps.collect()];
        Self {
            first: topics.into_iter().map(Step::Create).collect(),
            clients,
        }
    }

    /// Appends to every partition that there is, makes another topic, and sees it all durable.
    pub(crate) fn touch(oracle: &Oracle, seed: u64, stores: usize) -> Self {
        let mut serial = (seed << 32) | 1 << 31;
        let config = LogConfig {
            segment_bytes: 12 << 10,
            ..LogConfig::default()
        };
        let new = topic(u128::from(seed) << 64 | 1 << 63, config, 1, stores);
        let created = new.partitions[0].0;
        let partitions: Vec<_> = oracle
            .existing()
            .map(|(partition, _)| partition)
            .chain([created])
            .collect();
        let mut steps = Vec::new();
        for &partition in &partitions {
            serial += 1;
            let records = 1 + serial as u32 % 2;
            steps.push(Step::Append(
                partition,
                Rc::new([batch(serial, records, 40 + serial as usize % 700)]),
            ));
        }
        steps.extend(partitions.into_iter().map(Step::Flush));
        Self {
            first: vec![Step::Create(new)],
            clients: vec![steps],
        }
    }
}

fn topic(number: u128, config: LogConfig, partitions: usize, stores: usize) -> Topic {
    let id = TopicId::from_bytes(number.to_be_bytes());
    let first = number as usize;
    let placed = (0..partitions).map(|index| {
        let partition = TopicPartition::new(id, PartitionIndex::new(index as u32));
        (partition, (first + index) % stores)
    });
    Topic {
        id,
        config,
        partitions: placed.collect(),
    }
}
