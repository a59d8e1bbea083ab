//! The settings of a consumer.

use std::sync::Arc;
use std::time::Duration;

use super::Consumer;
use super::assigned::Assigned;
use super::options::FetchOptions;
use super::start::{Asked, Found, OffsetReset, OnTruncation, Start, find};
use crate::cluster::{Cluster, TopicMetadata};
use crate::error::{Error, Result};

/// The settings of a [`Consumer`].
#[derive(Debug, Clone)]
pub struct ConsumerBuilder {
    cluster: Arc<Cluster>,
    assigned: Vec<Assignment>,
    until_end: bool,
    options: FetchOptions,
    reader: Option<String>,
}

/// What the user asked to read.
#[derive(Debug, Clone)]
struct Assignment {
    topic: String,
    /// `None` for all partitions of the topic.
    partition: Option<u32>,
    start: Start,
}

impl ConsumerBuilder {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self {
            cluster,
            assigned: Vec::new(),
            until_end: false,
            options: FetchOptions::default(),
            reader: None,
        }
    }

    /// Reads these partitions, given as (topic, index), from `start`. May be called several times.
    pub fn assign<S: Into<String>>(
        mut self,
        partitions: impl IntoIterator<Item = (S, u32)>,
        start: Start,
    ) -> Self {
        let assigned = partitions.into_iter().map(|(topic, partition)| Assignment {
            topic: topic.into(),
            partition: Some(partition),
            start,
        });
        self.assigned.extend(assigned);
        self
    }

    /// Reads all partitions that the topic has when the consumer is built, from `start`.
    pub fn assign_topic(mut self, topic: impl Into<String>, start: Start) -> Self {
        self.assigned.push(Assignment {
            topic: topic.into(),
            partition: None,
            start,
        });
        self
    }

    /// Whether reading ends: [`Consumer::next`] gives `None` once every partition was read up to
    /// the end that it had when the consumer was built. Default false: it waits for more.
    pub fn until_end(mut self, until_end: bool) -> Self {
        self.until_end = until_end;
        self
    }

    /// How long the broker may hold a fetch back while there are fewer than
    /// [`min_bytes`](Self::min_bytes) to read. Default 500 ms.
    pub fn max_wait(mut self, max_wait: Duration) -> Self {
        self.options.max_wait = max_wait;
        self
    }

    /// The bytes for which the broker answers a fetch before `max_wait` is over. Default 1: as soon
    /// as there is a record.
    pub fn min_bytes(mut self, bytes: u32) -> Self {
        self.options.min_bytes = bytes;
        self
    }

    /// The bytes of one fetch over all partitions of one core. Default 4 MiB. A batch larger than
    /// this is fetched all the same, alone.
    pub fn max_bytes(mut self, bytes: u32) -> Self {
        self.options.max_bytes = bytes;
        self
    }

    /// The bytes of one fetch for one partition. Default 1 MiB.
    pub fn max_partition_bytes(mut self, bytes: u32) -> Self {
        self.options.max_partition_bytes = bytes;
        self
    }

    /// No more is fetched ahead while this many bytes wait to be handed out. Default 8 MiB. Up to
    /// one fetch of each core may come on top.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.options.buffer_bytes = bytes;
        self
    }

    /// What to do when the offset to be read does not exist. Default: report it.
    pub fn offset_reset(mut self, reset: OffsetReset) -> Self {
        self.options.offset_reset = reset;
        self
    }

    /// What to do when records that were read are gone. Default: report it once, and go on with what the log has
    /// at those offsets now.
    pub fn on_truncation(mut self, on_truncation: OnTruncation) -> Self {
        self.options.on_truncation = on_truncation;
        self
    }

    /// The name under which [`Consumer::report_processed`] reports how far this reader has come: one that the topics
    /// name in `retention.guard.readers`.
    pub fn reader(mut self, name: impl Into<String>) -> Self {
        self.reader = Some(name.into());
        self
    }

    /// Makes the consumer's random choices (jitter of waits) repeatable.
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.seed = Some(seed);
        self
    }

    /// Finds the partitions and where to begin, and gives the consumer. Fetching begins with its
    /// first use.
    ///
    /// # Errors
    /// `InvalidArgument` for settings that cannot work, or a partition that is missing or assigned
    /// twice; `Refused` with `UnknownTopic`; connection errors after the request timeout.
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub async fn build(self) -> Result<Consumer> {
        self.check()?;
        let mut partitions: Vec<(Assigned, Start)> = Vec::new();
        for assignment in &self.assigned {
            let topic = self.cluster.refresh(&assignment.topic).await?;
            for assigned in open(&topic, assignment)? {
                let twice = |(other, _): &(Assigned, Start)| {
                    other.topic == assigned.topic && other.partition == assigned.partition
                };
                if partitions.iter().any(twice) {
                    let (topic, partition) = (&assigned.topic, assigned.partition);
                    return Err(Error::invalid(format!(
                        "partition {topic}-{partition} is assigned twice"
                    )));
                }
                partitions.push((assigned, assignment.start));
            }
        }
        self.find_starts(&mut partitions).await?;
        let partitions = partitions
            .into_iter()
            .map(|(assigned, _)| assigned)
            .collect();
        let source = self.options.open_fixed(&self.cluster, partitions);
        Ok(Consumer::new(self.cluster, source, self.reader))
    }

    /// Fills in the positions, and the ends where reading shall end. Asks only if need be.
    async fn find_starts(&self, partitions: &mut [(Assigned, Start)]) -> Result<()> {
        let known = partitions.iter().map(|(_, start)| start.known());
        let known: Option<Vec<_>> = known.collect();
        if let Some(known) = known.filter(|_| !self.until_end) {
            for ((assigned, start), place) in partitions.iter_mut().zip(known) {
                assigned.begin_at(Found {
                    place,
                    read_from: start.read_from(place),
                    latest: u64::MAX,
                });
            }
            return Ok(());
        }
        let asked: Vec<(Asked<'_>, Start)> = partitions
            .iter()
            .map(|(assigned, start)| (assigned.asked(), *start))
            .collect();
        let found = find(&self.cluster, &asked).await?;
        for ((assigned, _), found) in partitions.iter_mut().zip(found) {
            assigned.begin_at(found);
            assigned.end = self.until_end.then_some(found.latest);
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if self.assigned.is_empty() {
            return Err(Error::invalid(
                "a consumer needs partitions: call assign or assign_topic",
            ));
        }
        self.options.check(&self.cluster)
    }
}

/// The partitions of a topic that an assignment means.
fn open(topic: &TopicMetadata, assignment: &Assignment) -> Result<Vec<Assigned>> {
    let partitions = match assignment.partition {
        Some(partition) => partition..partition.saturating_add(1),
        None => 0..topic.partition_count(),
    };
    let assigned = partitions.map(|partition| match topic.route(partition) {
        Some(route) => Ok(Assigned::new(topic, partition, route.clone())),
        None => Err(Error::invalid(format!(
            "partition {partition} of topic {} does not exist; it has {} partitions, counted from 0",
            topic.name,
            topic.partition_count()
        ))),
    });
    assigned.collect()
}
