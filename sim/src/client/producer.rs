//! A producer that keeps its order through refusals and reconnects, as the protocol asks.
//!
//! It has several requests in flight, follows the RESUME rule, and sends again in order whatever it has no
//! answer for. Without idempotence that may leave second copies, never an inversion of first copies; with it, none.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::rc::Rc;

use corelane_protocol::batch::{SEQUENCES, advance_sequence, set_producer};
use corelane_protocol::request::{
    Acks, InitProducerIdRequest, MetadataRequest, ProduceEntry, ProduceRequest,
};
use corelane_protocol::response::{Durability, ProduceResponse, Receipt, Response};
use corelane_protocol::{
    ApiError, ErrorCode, PartitionIndex, ProducerEpoch, ProducerId, Request, RequestFlags, TopicId,
    TopicPartition,
};

use super::frames::NewRecord;
use super::link::Link;
use super::{Client, ClientEvent, Context, Reply};
use crate::counters::Sometimes;
use crate::keeping::Kept;
use crate::trace::happens;

/// Batches of a partition that may wait for their acknowledgement.
const BACKLOG_MAX: usize = 24;

/// The time of records at the beginning: two days before the world's, so that no jump of a broker's clock puts them
/// into that broker's future, which a topic refuses.
pub(crate) const TIME_MS: i64 = 1_699_827_200_000;

/// Records are out of the order of their times by so much at most, ms.
pub(crate) const JITTER_MS: u64 = 3_000;

pub(crate) struct ProducerParts {
    pub(crate) number: u32,
    pub(crate) topic: String,
    pub(crate) acks: Acks,
    pub(crate) is_weak: bool,
    pub(crate) window: usize,
    pub(crate) pause_us: u64,
    pub(crate) value_bytes_max: u64,
    pub(crate) batch_bytes_max: u64,
    pub(crate) no_forward: bool,
    pub(crate) is_idempotent: bool,
    /// Its records have keys, so many in each partition, and some have no value.
    pub(crate) keys: Option<u64>,
}

pub(crate) struct Producer {
    parts: ProducerParts,
    link: Link,
    topic: Option<(TopicId, u32)>,
    metadata_asked: Option<u32>,
    /// Its number, if it is idempotent and has one.
    id: Option<ProducerId>,
    id_asked: Option<u32>,
    /// No number is asked for before.
    id_us: u64,
    /// No metadata is asked for before.
    metadata_us: u64,
    streams: BTreeMap<TopicPartition, Stream>,
    requests: BTreeMap<u32, Vec<(TopicPartition, u64)>>,
    /// Requests that were sent a second time at once, with the batches in them.
    echoes: BTreeMap<u32, Vec<(TopicPartition, u64)>>,
    batches: u64,
    next_send_us: u64,
    sequence: u64,
}

/// One partition of a producer.
#[derive(Default)]
struct Stream {
    batches: VecDeque<Batch>,
    resume: bool,
    /// Nothing is sent before this time.
    pause_until_us: u64,
    epoch: u16,
    /// The sequence number of the next batch.
    next_sequence: u32,
    /// A new epoch begins once nothing is in flight.
    begins_epoch: bool,
}

struct Batch {
    number: u64,
    first_record: u64,
    count: u64,
    bytes: Rc<[u8]>,
    times: Vec<i64>,
    made_us: u64,
    state: State,
    /// An attempt of it had no definite answer.
    is_uncertain: bool,
    /// It was sent twice at once.
    is_echoed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Queued,
    InFlight,
    Refused,
}

impl Batch {
    /// Nobody knows whether an attempt has arrived.
    fn doubt(&mut self, context: &mut Context<'_>) {
        if !std::mem::replace(&mut self.is_uncertain, true) {
            context.history.unknown(self.first_record, self.count);
        }
    }
}

impl Stream {
    fn in_flight(&self) -> bool {
        self.batches
            .iter()
            .any(|batch| batch.state == State::InFlight)
    }

    /// Once nothing is in flight, what was refused is sent again, in order.
    fn turn_back(&mut self) {
        let is_refused = self
            .batches
            .iter()
            .any(|batch| batch.state == State::Refused);
        if is_refused && !self.in_flight() {
            for batch in &mut self.batches {
                batch.state = State::Queued;
            }
            self.resume = true;
        }
    }

    /// Gives its batches the numbers that come next, from some number on; what they had before is in no log.
    fn renumber(&mut self, id: ProducerId, first: usize, mut sequence: u32) {
        for batch in self.batches.iter_mut().skip(first) {
            let mut bytes = batch.bytes.to_vec();
            set_producer(&mut bytes, id, ProducerEpoch::new(self.epoch), sequence);
            batch.bytes = bytes.into();
            sequence = advance_sequence(sequence, batch.count as u32);
        }
        self.next_sequence = sequence;
    }

    /// The connection is gone: nobody knows about what was in flight.
    fn lose_connection(&mut self, context: &mut Context<'_>) {
        for batch in &mut self.batches {
            if batch.state == State::InFlight {
                batch.doubt(context);
            }
            batch.state = State::Queued;
        }
        self.resume = false;
    }

    fn next(&mut self) -> Option<usize> {
        if self
            .batches
            .iter()
            .any(|batch| batch.state == State::Refused)
        {
            return None;
        }
        self.batches
            .iter()
            .position(|batch| batch.state == State::Queued)
    }
}

impl Producer {
    pub(crate) fn new(parts: ProducerParts) -> Self {
        Self {
            parts,
            link: Link::new(),
            topic: None,
            metadata_asked: None,
            id: None,
            id_asked: None,
            id_us: 0,
            metadata_us: 0,
            streams: BTreeMap::new(),
            requests: BTreeMap::new(),
            echoes: BTreeMap::new(),
            batches: 0,
            next_send_us: 0,
            sequence: 0,
        }
    }

    /// Whether it is answered before anything is durable, so that a crash may take what it was told of.
    fn is_acknowledged_early(&self) -> bool {
        self.parts.is_weak || self.parts.acks == Acks::None
    }

    fn lose_connection(&mut self, context: &mut Context<'_>) {
        self.requests.clear();
        self.echoes.clear();
        self.metadata_asked = None;
        self.id_asked = None;
        if self.is_done() && context.random.chance(1, 4) {
            // As another producer, that knows nothing of this one.
            self.id = None;
            self.streams.clear();
        }
        if context.random.coin() {
            // The topic may have more partitions by now.
            self.topic = None;
        }
        for stream in self.streams.values_mut() {
            stream.lose_connection(context);
        }
    }

    fn work(&mut self, context: &mut Context<'_>) {
        if self.link.tend(context) {
            self.lose_connection(context);
        }
        let mut next = self.link.next_us(context.now_us);
        if self.link.open().is_some() && self.topic.is_none() {
            self.ask_metadata(context);
            if self.metadata_asked.is_none() {
                next = next.min(self.metadata_us);
            }
        }
        let needs_id = self.parts.is_idempotent && self.id.is_none();
        if self.link.open().is_some() && needs_id && self.id_asked.is_none() {
            if self.id_us <= context.now_us {
                let request = Request::InitProducerId(InitProducerIdRequest);
                self.id_asked = Some(self.link.ask(context, RequestFlags::NONE, &request));
            } else {
                next = next.min(self.id_us);
            }
        }
        let may_begin = self.topic.is_some() && !context.is_draining;
        let has_work = !needs_id && (!self.is_done() || may_begin);
        if self.link.open().is_some() && has_work {
            if self.next_send_us <= context.now_us {
                self.send(context);
                self.next_send_us = context.now_us + 1 + context.about(self.parts.pause_us);
            }
            next = next.min(self.next_send_us);
        }
        context.wake_at(next);
    }

    fn ask_metadata(&mut self, context: &mut Context<'_>) {
        if self.metadata_asked.is_some() || self.metadata_us > context.now_us {
            return;
        }
        let topics = Some(vec![self.parts.topic.clone()]);
        let request = Request::Metadata(MetadataRequest { topics });
        self.metadata_asked = Some(self.link.ask(context, RequestFlags::NONE, &request));
    }

    fn send(&mut self, context: &mut Context<'_>) {
        if self.requests.len() >= self.parts.window {
            return;
        }
        let mut chosen = Vec::new();
        let mut bytes = 0;
        if let Some((topic, partitions)) = self.topic {
            for _ in 0..=context.random.below(3) {
                let index = context.random.below(u64::from(partitions)) as u32;
                let partition = TopicPartition::new(topic, PartitionIndex::new(index));
                chosen.extend(self.choose(context, partition, &mut bytes));
            }
        }
        // Of a topic that was deleted there may be something left, which the broker will refuse.
        if chosen.is_empty() {
            let waiting: Vec<_> = self.streams.keys().copied().collect();
            for partition in waiting {
                chosen.extend(self.choose(context, partition, &mut bytes));
            }
        }
        if chosen.is_empty() {
            return;
        }
        let entries = chosen
            .iter()
            .map(|(partition, _, resume, batch)| ProduceEntry {
                partition: *partition,
                resume: *resume,
                batch,
            });
        let request = Request::Produce(ProduceRequest {
            acks: self.parts.acks,
            timeout_ms: 500 + context.random.below(8_000) as u32,
            entries: entries.collect(),
        });
        let flags = if self.parts.no_forward {
            RequestFlags::NO_FORWARD
        } else {
            RequestFlags::NONE
        };
        let correlation = self.link.ask(context, flags, &request);
        // Once more, as if the network had done it: the broker knows it again, however little of it is durable.
        let echo = (self.id.is_some() && context.random.chance(1, 12))
            .then(|| self.link.ask(context, flags, &request));
        let sent: Vec<_> = chosen
            .iter()
            .map(|(partition, number, _, _)| (*partition, *number))
            .collect();
        if let Some(echo) = echo {
            for (partition, number) in &sent {
                let stream = self.streams.get_mut(partition).expect("chosen from it");
                let mut batches = stream.batches.iter_mut();
                let batch = batches.find(|batch| batch.number == *number);
                batch.expect("chosen from it").is_echoed = true;
            }
            self.echoes.insert(echo, sent.clone());
        }
        self.requests.insert(correlation, sent);
    }

    /// The next batch for a partition, if one may be sent now.
    fn choose(
        &mut self,
        context: &mut Context<'_>,
        partition: TopicPartition,
        bytes: &mut u64,
    ) -> Option<(TopicPartition, u64, bool, Rc<[u8]>)> {
        let stream = self.streams.entry(partition).or_default();
        stream.turn_back();
        if stream.begins_epoch && !stream.in_flight() {
            context.history.reached(Sometimes::EpochBegun);
            stream.begins_epoch = false;
            stream.epoch += 1;
            stream.renumber(self.id.expect("it has sent"), 0, 0);
        }
        if stream.pause_until_us > context.now_us {
            return None;
        }
        if stream.next().is_none() && !context.is_draining && stream.batches.len() < BACKLOG_MAX {
            let refused = stream
                .batches
                .iter()
                .any(|batch| batch.state == State::Refused);
            let is_current = self
                .topic
                .is_some_and(|(topic, _)| topic == partition.topic);
            if !refused && is_current {
                self.make_batch(context, partition);
            }
        }
        let stream = self.streams.get_mut(&partition).expect("made above");
        let index = stream.next()?;
        let batch = &mut stream.batches[index];
        if *bytes > 0 && *bytes + batch.bytes.len() as u64 > self.parts.batch_bytes_max {
            return None;
        }
        *bytes += batch.bytes.len() as u64;
        batch.state = State::InFlight;
        context
            .history
            .keeping
            .attempted(partition, batch.bytes.len() as u64);
        if batch.is_uncertain {
            context.history.reached(Sometimes::Resent);
        }
        let resume = std::mem::take(&mut stream.resume);
        if resume {
            context.history.reached(Sometimes::Resumed);
        }
        Some((partition, batch.number, resume, Rc::clone(&batch.bytes)))
    }

    fn make_batch(&mut self, context: &mut Context<'_>, partition: TopicPartition) {
        let count = 1 + context.random.below(6);
        let mut records = Vec::new();
        let mut left = self.parts.batch_bytes_max / 2;
        for _ in 0..count {
            let index = partition.partition.get();
            let filling = context
                .random
                .below(self.parts.value_bytes_max.min(left).max(1));
            let mut name = String::with_capacity(filling as usize + 32);
            write!(name, "{}:{index}:{}:", self.parts.number, self.sequence)
                .expect("a string takes everything");
            let mut value = name.into_bytes();
            self.sequence += 1;
            left = left.saturating_sub(filling + 32);
            let letter = b'a' + (self.sequence % 26) as u8;
            let key = self.parts.keys.map(|keys| {
                let key = context.random.below(keys);
                format!("{}/{index}/{key}", self.parts.topic).into_bytes()
            });
            let is_tombstone = key.is_some() && context.random.chance(1, 5);
            if !is_tombstone {
                value.resize(value.len() + filling as usize, letter);
            }
            records.push(NewRecord {
                key,
                identity: value,
                is_tombstone,
            });
        }
        let now_ms = TIME_MS + (context.now_us / 1000) as i64;
        let jitter = records
            .iter()
            .map(|_| context.random.below(JITTER_MS) as i64);
        let times: Vec<_> = jitter.map(|jitter| now_ms + jitter).collect();
        let mut bytes = super::frames::batch(&records, &times);
        let first_record = context
            .history
            .sent(context.now_us, self.parts.number, &records);
        self.batches += 1;
        let stream = self.streams.entry(partition).or_default();
        if let Some(id) = self.id {
            let epoch = ProducerEpoch::new(stream.epoch);
            set_producer(&mut bytes, id, epoch, stream.next_sequence);
            stream.next_sequence = advance_sequence(stream.next_sequence, count as u32);
        }
        stream.batches.push_back(Batch {
            number: self.batches,
            first_record,
            count,
            bytes: bytes.into(),
            times,
            made_us: context.now_us,
            state: State::Queued,
            is_uncertain: false,
            is_echoed: false,
        });
    }

    fn reply(&mut self, context: &mut Context<'_>, reply: &Reply) {
        let correlation = reply.correlation();
        let response = match reply.response() {
            Ok(response) => response,
            Err(problem) => {
                return context
                    .history
                    .problem(format!("{}: {problem}", self.name()));
            }
        };
        if self.metadata_asked == Some(correlation) {
            self.metadata_asked = None;
            self.take_metadata(context, response);
        } else if self.id_asked == Some(correlation) {
            self.id_asked = None;
            self.id_us = context.now_us + context.about(100_000);
            if let Ok(Response::InitProducerId(response)) = response
                && let Ok(identity) = response.result
            {
                context.history.idempotent(self.parts.number);
                self.id = Some(identity.producer_id);
            }
        } else if let Some(sent) = self.requests.remove(&correlation) {
            match response {
                Ok(Response::Produce(response)) => self.produced(context, &sent, response),
                Ok(_) => context
                    .history
                    .problem(format!("{}: a wrong answer", self.name())),
                Err(error) => {
                    for (partition, number) in sent {
                        self.refused(context, partition, number, &error);
                    }
                }
            }
        } else if let Some(sent) = self.echoes.remove(&correlation) {
            // What was refused the first time has its answer already.
            if let Ok(Response::Produce(response)) = response {
                for ((partition, number), entry) in sent.iter().zip(response.entries) {
                    if let Ok(receipt) = entry.result {
                        self.acknowledged(context, *partition, *number, &receipt);
                    }
                }
            }
        } else if correlation == 0 {
            // The connection itself was refused; it closes now.
        } else {
            context
                .history
                .problem(format!("{}: answered {correlation} again", self.name()));
        }
        let awaits_more =
            !self.requests.is_empty() || self.metadata_asked.is_some() || self.id_asked.is_some();
        self.link.answered(context, awaits_more);
    }

    fn take_metadata(
        &mut self,
        context: &mut Context<'_>,
        response: Result<Response<'_>, ApiError>,
    ) {
        self.metadata_us = context.now_us + 20_000 + context.about(200_000);
        let Ok(Response::Metadata(mut response)) = response else {
            return;
        };
        if let Some(Ok(topic)) = response.topics.pop().map(|topic| topic.result) {
            let count = u32::try_from(topic.partitions.len()).expect("few partitions");
            self.topic = Some((topic.id, count));
            if self.parts.no_forward && !topic.partitions.is_empty() {
                let any = context.random.index(topic.partitions.len());
                self.link.core = Some(topic.partitions[any].core.get());
            }
        }
    }

    fn produced(
        &mut self,
        context: &mut Context<'_>,
        sent: &[(TopicPartition, u64)],
        response: ProduceResponse,
    ) {
        if response.entries.len() != sent.len() {
            let problem = format!(
                "{}: {} results for {} batches",
                self.name(),
                response.entries.len(),
                sent.len()
            );
            return context.history.problem(problem);
        }
        for ((partition, number), entry) in sent.iter().zip(response.entries) {
            if entry.partition != *partition {
                let problem = format!(
                    "{}: an answer about {} for {partition}",
                    self.name(),
                    entry.partition
                );
                context.history.problem(problem);
                continue;
            }
            match entry.result {
                Ok(receipt) => self.acknowledged(context, *partition, *number, &receipt),
                Err(error) => {
                    self.refused(context, *partition, *number, &error);
                    if error.code == ErrorCode::NotOwner {
                        self.link.core = entry.owner.map(|owner| owner.core.get());
                        if self.link.core.is_none() {
                            let problem = format!("{}: not the owner, and no address", self.name());
                            context.history.problem(problem);
                        }
                    }
                }
            }
        }
        // Another core's partition: go there with the next connection.
        let is_answered = self.requests.is_empty() && self.echoes.is_empty();
        if self.link.core.is_some() && is_answered && context.random.chance(1, 4) {
            self.link.close(context);
            self.lose_connection(context);
        }
    }

    fn acknowledged(
        &mut self,
        context: &mut Context<'_>,
        partition: TopicPartition,
        number: u64,
        receipt: &Receipt,
    ) {
        // What was sent to a deleted topic may still be answered.
        let Some(stream) = self.streams.get_mut(&partition) else {
            return;
        };
        let Some(index) = stream
            .batches
            .iter()
            .position(|batch| batch.number == number)
        else {
            return;
        };
        let batch = stream.batches.remove(index).expect("just found");
        let durable = receipt.durability != Durability::Memory;
        // What is known already may be durable by now.
        let is_known = self.id.is_some() && (batch.is_uncertain || batch.is_echoed);
        if durable && self.is_acknowledged_early() && !is_known {
            context
                .history
                .problem(format!("{}: durable from memory", self.name()));
        }
        if !durable && !self.is_acknowledged_early() {
            context
                .history
                .problem(format!("{}: memory where durable was asked", self.name()));
        }
        if is_known {
            context.history.reached(Sometimes::ResentKnown);
        }
        let base = receipt.base_offset;
        happens!(
            context,
            "producer {}: {}: batch {} is at {}, {:?}",
            self.parts.number,
            partition,
            number,
            base,
            receipt.durability
        );
        context
            .history
            .acknowledged(batch.first_record, batch.count, partition, base, durable);
        if durable {
            let kept = Kept {
                bytes: batch.bytes.len() as u64,
                times: batch.times,
                sent_us: batch.made_us,
                acked_us: context.now_us,
            };
            context.history.keeping.acknowledged(partition, base, kept);
        }
    }

    fn refused(
        &mut self,
        context: &mut Context<'_>,
        partition: TopicPartition,
        number: u64,
        error: &ApiError,
    ) {
        context.note(format_args!(
            "producer {}: {partition}: batch {number} is refused: {error}",
            self.parts.number
        ));
        let pause_us = context.about(60_000);
        let gives_up = context.random.chance(1, 60) && !context.is_draining;
        let name = self.name();
        let is_acknowledged_early = self.is_acknowledged_early();
        let Some(stream) = self.streams.get_mut(&partition) else {
            return;
        };
        let follows_doubtful =
            (stream.batches.iter()).any(|batch| batch.number < number && batch.is_uncertain);
        let Some(batch) = stream
            .batches
            .iter_mut()
            .find(|batch| batch.number == number)
        else {
            return;
        };
        batch.state = State::Refused;
        let reached = match error.code {
            ErrorCode::Overloaded => Sometimes::RefusedOverloaded,
            ErrorCode::ProduceOrder => Sometimes::RefusedForOrder,
            ErrorCode::DiskFull if context.history.has_large_reserve => Sometimes::RefusedByReserve,
            ErrorCode::DiskFull => Sometimes::RefusedDiskFull,
            ErrorCode::ShuttingDown => Sometimes::RefusedShuttingDown,
            ErrorCode::NotOwner => Sometimes::ProduceForwarded,
            ErrorCode::TimedOut => {
                batch.doubt(context);
                Sometimes::RequestTimedOut
            }
            ErrorCode::StorageFailed => {
                batch.doubt(context);
                context.history.storage_failed = true;
                stream.pause_until_us = context.now_us + 100_000 + pause_us;
                if context.is_draining && context.may_be_damaged() {
                    // The broker says that it cannot keep its promise here, which is what it owes.
                    return self.forget(context, partition);
                }
                Sometimes::RefusedStorageFailed
            }
            ErrorCode::OutOfOrderSequence | ErrorCode::UnknownProducer
                if is_acknowledged_early || context.may_be_damaged() =>
            {
                // What the broker had only in memory is gone, and what it knew of its producers with it.
                stream.begins_epoch = true;
                Sometimes::SequenceLost
            }
            // The one before it was refused because the disk had no room to make the partition, which was made since.
            ErrorCode::UnknownProducer if follows_doubtful => Sometimes::RefusedForOrder,
            ErrorCode::UnknownTopic | ErrorCode::UnknownPartition => {
                context.history.reached(Sometimes::TopicUnknown);
                return self.forget(context, partition);
            }
            code => {
                return context
                    .history
                    .problem(format!("{name}: refused with {code:?}: {error}"));
            }
        };
        if !matches!(error.code, ErrorCode::TimedOut | ErrorCode::StorageFailed) {
            let bytes = batch.bytes.len() as u64;
            context.history.keeping.refused(partition, bytes);
        }
        if error.code != ErrorCode::NotOwner {
            context.history.reached(reached);
        }
        stream.pause_until_us = stream.pause_until_us.max(context.now_us + pause_us / 4);
        let is_last = !stream.in_flight();
        let batch = stream
            .batches
            .iter()
            .find(|batch| batch.number == number)
            .expect("found above");
        if gives_up && is_last && !batch.is_uncertain && error.code == ErrorCode::Overloaded {
            context.history.reached(Sometimes::GivenUp);
            context
                .history
                .given_up(batch.first_record, batch.count, true);
            let index = stream
                .batches
                .iter()
                .position(|batch| batch.number == number);
            let index = index.expect("found above");
            if let Some(id) = self.id {
                let before = stream.batches.iter().take(index);
                let open: u64 = stream.batches.iter().map(|batch| batch.count).sum();
                let skipped: u64 = before.map(|batch| batch.count).sum();
                let first = stream.next_sequence + SEQUENCES - open as u32;
                let sequence = advance_sequence(first % SEQUENCES, skipped as u32);
                stream.batches.remove(index);
                stream.renumber(id, index, sequence);
            } else {
                stream.batches.remove(index);
            }
            // What was refused behind it still has to resume.
            stream.resume = true;
        }
    }

    /// A partition's topic is gone: nobody learns more about its records.
    fn forget(&mut self, context: &mut Context<'_>, partition: TopicPartition) {
        self.topic = None;
        self.metadata_us = context.now_us + context.about(100_000);
        if let Some(stream) = self.streams.remove(&partition) {
            for batch in stream.batches {
                context
                    .history
                    .given_up(batch.first_record, batch.count, false);
            }
        }
    }
}

impl Client for Producer {
    fn name(&self) -> String {
        format!("producer {} of {}", self.parts.number, self.parts.topic)
    }

    fn handle(&mut self, context: &mut Context<'_>, event: ClientEvent) {
        match event {
            ClientEvent::Wake => {}
            ClientEvent::Connected(conn) => self.link.connected(conn),
            ClientEvent::Closed(conn) if self.link.is(conn) => {
                self.link.closed(context);
                self.lose_connection(context);
            }
            ClientEvent::Reply(conn, reply) if self.link.is(conn) => self.reply(context, &reply),
            ClientEvent::Closed(_) | ClientEvent::Reply(..) => return,
        }
        self.work(context);
    }

    fn is_done(&self) -> bool {
        self.streams
            .values()
            .all(|stream| stream.batches.is_empty())
    }

    fn waits_for(&self) -> String {
        let waiting = self
            .streams
            .iter()
            .filter(|(_, stream)| !stream.batches.is_empty());
        let waiting: Vec<_> = waiting
            .map(|(partition, stream)| format!("{} batches for {partition}", stream.batches.len()))
            .collect();
        waiting.join(", ")
    }
}
