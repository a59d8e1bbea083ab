//! What the broker in the tests keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use corelane_protocol::batch::{
    BatchHeader, BatchLimits, DecompressLimit, RecordBatch, Stamp, TimestampType, validate,
};
use corelane_protocol::response::{CoreAddress, DivergingEpoch, Durability, Receipt};
use corelane_protocol::{
    AlignedBytes, ApiError, CoreId, ErrorCode, LeaderEpoch, Offset, PartitionIndex, RequestHeader,
    ResponseMeta, Timestamp, TopicId,
};

use super::groups::Groups;
use super::producers::{Identities, Producers};

/// One batch as it arrived.
pub(crate) struct Seen {
    pub(crate) partition: u32,
    /// How many batches arrived before, over all partitions.
    pub(crate) number: u64,
    pub(crate) values: Vec<String>,
}

/// What happens to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Accept,
    /// Append it, and answer its request only after this time.
    AcceptAfter(Duration),
    Refuse(ErrorCode),
    /// Append it and close the connection without an answer.
    AcceptAndClose,
    /// Close the connection.
    Close,
    /// Neither append nor answer.
    Ignore,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Counters {
    pub(crate) connections: u64,
    pub(crate) produces: u64,
    pub(crate) batches: u64,
    pub(crate) resumes: u64,
    pub(crate) fetches: u64,
    pub(crate) reports: u64,
    pub(crate) metadata: u64,
    /// Producer ids asked for.
    pub(crate) identities: u64,
    /// Batches that were in the log already.
    pub(crate) duplicates: u64,
    /// Bytes of produce requests not answered yet, and the most there were on one connection.
    pub(crate) outstanding_bytes: BTreeMap<u64, usize>,
    pub(crate) outstanding_bytes_max: usize,
    /// The cores on whose ports produces arrived.
    pub(crate) produce_cores: BTreeSet<u16>,
}

pub(crate) struct Partition {
    pub(crate) owner: u16,
    /// Base offset, end offset, stamped bytes.
    pub(crate) log: Vec<(u64, u64, Vec<u8>)>,
    pub(crate) start: u64,
    /// Its leader epochs and where each began, from 1 on.
    pub(crate) epochs: Vec<u64>,
    pub(crate) producers: Producers,
}

impl Partition {
    /// A restart has lost the batches that end beyond `end`.
    pub(crate) fn lose_from(&mut self, end: u64) {
        self.log.retain(|(_, batch_end, _)| *batch_end <= end);
        self.epochs.push(self.end());
        self.producers.forget();
        for (base, _, bytes) in &self.log {
            let header = BatchHeader::parse(bytes).unwrap();
            self.producers.note(&header, *base);
        }
    }

    pub(crate) fn sequences(&self) -> Vec<(u64, u16, u32)> {
        let headers = self.log.iter();
        headers
            .map(|(_, _, bytes)| {
                let header = BatchHeader::parse(bytes).unwrap();
                let (id, epoch) = (header.producer_id, header.producer_epoch);
                (id.get(), epoch.get(), header.base_sequence)
            })
            .collect()
    }

    pub(crate) fn epoch(&self) -> LeaderEpoch {
        LeaderEpoch::new(self.epochs.len() as u32)
    }

    /// Where what was read up to an offset, the last record under this epoch, is not in the log any more.
    pub(crate) fn divergence(&self, epoch: LeaderEpoch, offset: u64) -> Option<DivergingEpoch> {
        let end = self.epochs.get(epoch.get() as usize).copied();
        let end = end.unwrap_or_else(|| self.end());
        (end < offset).then_some(DivergingEpoch {
            epoch,
            end_offset: Offset::new(end),
        })
    }

    /// The first record that is kept at or after a time, and its time.
    pub(crate) fn at_time(&self, time: Timestamp) -> Option<(u64, Timestamp)> {
        for (_, _, bytes) in &self.log {
            let bytes = AlignedBytes::copy_of(bytes);
            let batch = RecordBatch::parse(&bytes[..], &DecompressLimit::default()).unwrap();
            let kept = |offset: u64| offset >= self.start;
            let found = batch
                .records()
                .find(|record| kept(record.offset.get()) && record.timestamp >= time);
            if let Some(record) = found {
                return Some((record.offset.get(), record.timestamp));
            }
        }
        None
    }

    pub(crate) fn end(&self) -> u64 {
        self.log.last().map_or(self.start, |(_, end, _)| *end)
    }
}

pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) configs: Vec<(String, String)>,
    /// The largest batch that it takes, in bytes.
    pub(crate) batch_bytes_max: u32,
    pub(crate) partitions: Vec<Partition>,
}

impl Topic {
    /// What its batches must say of their records' times.
    pub(crate) fn timestamp_type(&self) -> TimestampType {
        let log_append = |(key, value): &(String, String)| {
            key == "message.timestamp.type" && value == "LogAppendTime"
        };
        if self.configs.iter().any(log_append) {
            TimestampType::LogAppend
        } else {
            TimestampType::Create
        }
    }
}

type Decide = Box<dyn FnMut(&Seen) -> Action + Send>;

pub(crate) struct State {
    pub(crate) cores: u16,
    pub(crate) topics: BTreeMap<String, Topic>,
    pub(crate) on_produce: Option<Decide>,
    pub(crate) down: bool,
    /// Answer NotOwner instead of forwarding.
    pub(crate) strict: bool,
    pub(crate) credit_bytes: u32,
    pub(crate) in_flight_bytes_max: u32,
    pub(crate) batch_bytes_max: u32,
    pub(crate) counters: Counters,
    /// What readers reported, by name and partition.
    pub(crate) positions: BTreeMap<(String, u32), u64>,
    /// Connections on which a partition waits for a resume.
    pub(crate) poisoned: BTreeSet<(u64, TopicId, u32)>,
    /// Consumer groups and their coordinator.
    pub(crate) groups: Groups,
    pub(crate) identities: Identities,
    next_topic: u8,
}

impl State {
    pub(crate) fn new(cores: u16) -> Self {
        Self {
            cores,
            topics: BTreeMap::new(),
            on_produce: None,
            down: false,
            strict: false,
            credit_bytes: u32::MAX,
            in_flight_bytes_max: 8 << 20,
            batch_bytes_max: 1 << 20,
            counters: Counters::default(),
            positions: BTreeMap::new(),
            poisoned: BTreeSet::new(),
            groups: Groups::default(),
            identities: Identities::default(),
            next_topic: 1,
        }
    }

    pub(crate) fn create_topic(&mut self, name: &str, partitions: u32) -> TopicId {
        let mut id = [0; 16];
        id[0] = self.next_topic;
        self.next_topic += 1;
        let id = TopicId::from_bytes(id);
        let partitions = (0..partitions).map(|index| Partition {
            owner: (index % u32::from(self.cores)) as u16,
            log: Vec::new(),
            epochs: vec![0],
            start: 0,
            producers: Producers::default(),
        });
        let topic = Topic {
            id,
            configs: Vec::new(),
            batch_bytes_max: self.batch_bytes_max,
            partitions: partitions.collect(),
        };
        self.topics.insert(name.into(), topic);
        id
    }

    /// Gives a topic more partitions.
    pub(crate) fn extend_topic(&mut self, name: &str, total: u32) -> TopicId {
        let cores = u32::from(self.cores);
        let topic = self.topics.get_mut(name).unwrap();
        let has = topic.partitions.len() as u32;
        let more = (has..total).map(|index| Partition {
            owner: (index % cores) as u16,
            log: Vec::new(),
            epochs: vec![0],
            start: 0,
            producers: Producers::default(),
        });
        topic.partitions.extend(more);
        topic.id
    }

    pub(crate) fn meta(&self, header: &RequestHeader) -> ResponseMeta {
        ResponseMeta {
            api_version: header.api_version,
            correlation_id: header.correlation_id,
            throttle_ms: 0,
            credit_bytes: self.credit_bytes,
        }
    }

    pub(crate) fn partition(
        &mut self,
        topic: TopicId,
        partition: PartitionIndex,
    ) -> Result<(&str, &mut Partition), ApiError> {
        let found = self.topics.iter_mut().find(|(_, known)| known.id == topic);
        let (name, topic) = found.ok_or(ErrorCode::UnknownTopic)?;
        let partition = topic.partitions.get_mut(partition.get() as usize);
        Ok((name, partition.ok_or(ErrorCode::UnknownPartition)?))
    }

    /// Changes the largest batch that a topic takes; nobody is told.
    pub(crate) fn set_batch_bytes_max(&mut self, topic: &str, batch_bytes_max: u32) {
        self.topics.get_mut(topic).unwrap().batch_bytes_max = batch_bytes_max;
    }

    pub(crate) fn log(&mut self, topic: &str, partition: u32) -> &mut Partition {
        &mut self.topics.get_mut(topic).unwrap().partitions[partition as usize]
    }

    pub(crate) fn values(&self, topic: &str, partition: u32) -> Vec<String> {
        let log = &self.topics[topic].partitions[partition as usize].log;
        log.iter()
            .flat_map(|(_, _, bytes)| values_of(&AlignedBytes::copy_of(bytes)))
            .collect()
    }

    /// Appends a batch as a real broker would: checked, stamped, in order.
    pub(crate) fn append(
        &mut self,
        topic: TopicId,
        index: PartitionIndex,
        batch: &[u8],
    ) -> Result<Receipt, ApiError> {
        let mut bytes = AlignedBytes::copy_of(batch);
        let known = self.topics.values().find(|known| known.id == topic);
        let limits = BatchLimits {
            batch_bytes_max: known.ok_or(ErrorCode::UnknownTopic)?.batch_bytes_max,
            ..BatchLimits::default()
        };
        let header = validate(&bytes, &limits)?;
        let named = self.topics.values().find(|known| known.id == topic);
        if named.is_some_and(|named| named.timestamp_type() != header.timestamp_type) {
            return Err(ErrorCode::TimestampTypeMismatch.into());
        }
        let (_, partition) = self.partition(topic, index)?;
        let before = partition.producers.find(&header)?;
        let base = before.unwrap_or_else(|| partition.end());
        let append_time = Timestamp::new(1_000_000);
        let stamp = Stamp {
            topic,
            partition: index,
            leader_epoch: partition.epoch(),
            base_offset: Offset::new(base),
            append_time,
        };
        stamp.write(&mut bytes);
        let receipt = Receipt {
            base_offset: Offset::new(base),
            append_time,
            log_start_offset: Offset::new(partition.start),
            durability: Durability::Durable,
            replicas_flushed: 1,
        };
        if before.is_some() {
            self.counters.duplicates += 1;
            return Ok(receipt);
        }
        partition.producers.note(&header, base);
        partition
            .log
            .push((base, base + header.offsets_taken(), bytes.to_vec()));
        Ok(receipt)
    }

    pub(crate) fn core_address(&self, core: u16, port: u16) -> CoreAddress {
        CoreAddress {
            core: CoreId::new(core),
            host: "127.0.0.1".into(),
            port,
        }
    }
}

/// The values of a batch that a producer sent or a broker stamped.
pub(crate) fn values_of(bytes: &AlignedBytes) -> Vec<String> {
    let batch = RecordBatch::parse_unstamped(&bytes[..], &DecompressLimit::default()).unwrap();
    let values = batch
        .records()
        .map(|record| String::from_utf8_lossy(record.value.unwrap_or(b"null")).into_owned());
    values.collect()
}
