//! Which partition a record goes to.
//!
//! Owns: the choice by explicit index, by key (murmur2, as Kafka's Java client), sticky without a
//! key, round robin, or by the user's function. Never: knows brokers or loads.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use corelane_protocol::partition_for_key;

use crate::error::{Error, Result};
use crate::record::RecordRef;

/// What a custom partitioner sees of a record.
#[derive(Debug, Clone, Copy)]
pub struct PartitionInput<'a> {
    /// The record's topic.
    pub topic: &'a str,
    /// The record's key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The record's value, if it is not null.
    pub value: Option<&'a [u8]>,
    /// How many partitions the topic has; at least 1.
    pub partition_count: u32,
}

/// A user's own choice of partition.
pub type PartitionFn = dyn Fn(&PartitionInput<'_>) -> u32 + Send + Sync;

/// How a producer spreads records that name no partition of their own.
#[derive(Clone, Default)]
pub enum Partitioner {
    /// By the key's murmur2 hash, exactly as Kafka's Java client, so that keys land alike; without
    /// a key one partition is filled with a batch's worth of bytes before the next one is taken,
    /// which makes full batches.
    #[default]
    KeyOrSticky,
    /// Each record to the next partition, whatever its key.
    RoundRobin,
    /// The given function's choice; an index that the topic does not have is an error.
    Custom(Arc<PartitionFn>),
}

impl Partitioner {
    /// A partitioner that calls `choose` for each record without an explicit partition.
    pub fn custom(choose: impl Fn(&PartitionInput<'_>) -> u32 + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(choose))
    }
}

impl fmt::Debug for Partitioner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::KeyOrSticky => "KeyOrSticky",
            Self::RoundRobin => "RoundRobin",
            Self::Custom(_) => "Custom",
        })
    }
}

/// Where the next record without a key goes in one topic. Callers share it without a lock: when two
/// of them race, a partition is left a little early or late, which does no harm.
#[derive(Debug)]
pub(crate) struct Spread {
    next: AtomicU32,
    bytes: AtomicUsize,
    /// Bytes after which a sticky partition is left.
    sticky_bytes: usize,
}

impl Spread {
    /// Begins at a partition derived from `seed`, so that many producers do not begin at the same.
    pub(crate) fn new(seed: u64, sticky_bytes: usize) -> Self {
        Self {
            next: AtomicU32::new((seed >> 32) as u32),
            bytes: AtomicUsize::new(0),
            sticky_bytes,
        }
    }

    fn round_robin(&self, partition_count: u32) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed) % partition_count
    }
}

/// Chooses the partitions of the records of one call.
#[derive(Debug)]
pub(crate) struct Chooser<'a> {
    partitioner: &'a Partitioner,
    spread: &'a Spread,
    topic: &'a str,
    partition_count: u32,
    sticky: Option<Sticky>,
}

/// The partition in use for records without a key, and how much of its turn is used.
#[derive(Debug)]
struct Sticky {
    partition: u32,
    bytes: usize,
}

impl<'a> Chooser<'a> {
    pub(crate) fn new(
        partitioner: &'a Partitioner,
        spread: &'a Spread,
        topic: &'a str,
        partition_count: u32,
    ) -> Self {
        Self {
            partitioner,
            spread,
            topic,
            partition_count,
            sticky: None,
        }
    }

    /// The partition of a record that takes `bytes` in its batch.
    ///
    /// # Errors
    /// `InvalidArgument` when the topic does not have the partition that was named or chosen.
    pub(crate) fn choose(&mut self, record: &RecordRef<'_>, bytes: usize) -> Result<u32> {
        let partition = match (record.partition, self.partitioner) {
            (Some(partition), _) => partition,
            (None, Partitioner::KeyOrSticky) => match record.key {
                Some(key) => return Ok(partition_for_key(key, self.partition_count)),
                None => return Ok(self.sticky(bytes)),
            },
            (None, Partitioner::RoundRobin) => self.spread.round_robin(self.partition_count),
            (None, Partitioner::Custom(choose)) => choose(&PartitionInput {
                topic: self.topic,
                key: record.key,
                value: record.value,
                partition_count: self.partition_count,
            }),
        };
        if partition >= self.partition_count {
            return Err(no_partition(self.topic, partition, self.partition_count));
        }
        Ok(partition)
    }

    fn sticky(&mut self, bytes: usize) -> u32 {
        let (spread, count) = (self.spread, self.partition_count);
        let sticky = self.sticky.get_or_insert_with(|| Sticky {
            partition: spread.next.load(Ordering::Relaxed) % count,
            bytes: spread.bytes.load(Ordering::Relaxed),
        });
        if sticky.bytes >= spread.sticky_bytes {
            let left = spread.next.fetch_add(1, Ordering::Relaxed);
            sticky.partition = left.wrapping_add(1) % count;
            sticky.bytes = 0;
        }
        sticky.bytes += bytes;
        sticky.partition
    }
}

impl Drop for Chooser<'_> {
    fn drop(&mut self) {
        if let Some(sticky) = &self.sticky {
            self.spread.bytes.store(sticky.bytes, Ordering::Relaxed);
        }
    }
}

/// The refusal of a partition that a topic does not have.
pub(crate) fn no_partition(topic: &str, partition: u32, partition_count: u32) -> Error {
    Error::invalid(format!(
        "partition {partition} of topic {topic} does not exist; it has {partition_count} partitions, \
         counted from 0"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(
        partitioner: &Partitioner,
        spread: &Spread,
        explicit: Option<u32>,
        key: Option<&[u8]>,
    ) -> Result<u32> {
        let record = RecordRef {
            partition: explicit,
            key,
            ..RecordRef::default()
        };
        Chooser::new(partitioner, spread, "orders", 4).choose(&record, 10)
    }

    fn chosen(partitioner: &Partitioner, spread: &Spread, key: Option<&[u8]>) -> u32 {
        choose(partitioner, spread, None, key).unwrap()
    }

    #[test]
    fn an_explicit_partition_wins_and_must_exist() {
        let spread = Spread::new(0, 100);
        let partitioner = Partitioner::custom(|_| 0);
        assert_eq!(choose(&partitioner, &spread, Some(3), None).unwrap(), 3);
        let error = choose(&partitioner, &spread, Some(4), None).unwrap_err();
        assert!(error.to_string().contains("has 4 partitions"), "{error}");
    }

    #[test]
    fn a_key_goes_where_kafka_sends_it() {
        // murmur2("foobar") is -790332482 in Kafka's own test of its hash.
        let positive = (-790_332_482_i32 & 0x7fff_ffff) as u32;
        let spread = Spread::new(0, 100);
        let partition = chosen(&Partitioner::KeyOrSticky, &spread, Some(b"foobar"));
        assert_eq!(partition, positive % 4);
    }

    #[test]
    fn without_a_key_one_partition_is_filled_before_the_next() {
        let filled = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 0];
        let spread = Spread::new(0, 30);
        let by_call = filled.map(|_| chosen(&Partitioner::KeyOrSticky, &spread, None));
        assert_eq!(by_call, filled);
        let spread = Spread::new(0, 30);
        let mut chooser = Chooser::new(&Partitioner::KeyOrSticky, &spread, "orders", 4);
        let in_one_call = filled.map(|_| chooser.choose(&RecordRef::default(), 10).unwrap());
        assert_eq!(in_one_call, filled);
    }

    #[test]
    fn round_robin_visits_every_partition_in_turn() {
        let spread = Spread::new(0, 30);
        let sequence = [0; 5].map(|_| chosen(&Partitioner::RoundRobin, &spread, Some(b"k")));
        assert_eq!(sequence, [0, 1, 2, 3, 0]);
    }

    #[test]
    fn a_custom_choice_outside_the_topic_is_an_error() {
        let spread = Spread::new(0, 30);
        let partitioner = Partitioner::custom(|input| input.partition_count);
        assert!(choose(&partitioner, &spread, None, None).is_err());
    }
}
