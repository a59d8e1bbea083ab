//! What the handles of a producer and its sender share.
//!
//! Owns: the topics in use with their partitions, the buffer's permits, and the list of partitions
//! that the sender should look at. Never: decides what is sent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use corelane_protocol::ErrorCode;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::accumulator::{Accumulator, Place, Refusal, Slot};
use super::builders::Builders;
use super::delivery::Sink;
use super::intake::Intake;
use super::partitioner::{Chooser, Partitioner, Spread, no_partition};
use crate::cluster::{Cluster, TopicMetadata};
use crate::error::{Error, Result};
use crate::record::RecordRef;

/// A topic that a producer sends to.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) metadata: Arc<TopicMetadata>,
    /// By partition index.
    pub(crate) slots: Vec<Arc<Slot>>,
    spread: Arc<Spread>,
}

/// The topics in use, and whether records are still taken.
#[derive(Debug, Default)]
struct Table {
    closed: bool,
    topics: BTreeMap<Arc<str>, Arc<Topic>>,
    /// Every partition that was ever in use, by topic and index. One that comes back goes on as the
    /// slot that it was: two slots of one partition would give two batches the same number.
    slots: BTreeMap<Arc<str>, Vec<Arc<Slot>>>,
    slot_count: usize,
}

impl Table {
    /// The slots of a topic's partitions.
    fn slots(&mut self, metadata: &TopicMetadata) -> Vec<Arc<Slot>> {
        let slots = self.slots.entry(Arc::clone(&metadata.name)).or_default();
        for partition in slots.len() as u32..metadata.partition_count() {
            slots.push(Arc::new(Slot::new(
                self.slot_count,
                Arc::clone(&metadata.name),
                partition,
                metadata.batch_bytes_max,
            )));
            self.slot_count += 1;
        }
        slots[..metadata.routes.len()].to_vec()
    }

    fn check_open(&self) -> Result<()> {
        match self.closed {
            true => Err(Error::Closed { what: "producer" }),
            false => Ok(()),
        }
    }
}

impl Topic {
    fn no_partition(&self, partition: u32) -> Error {
        no_partition(
            &self.metadata.name,
            partition,
            self.metadata.partition_count(),
        )
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) builders: Arc<Builders>,
    pub(crate) started: Instant,
    pub(crate) wake: Notify,
    partitioner: Partitioner,
    seed: u64,
    buffer: Semaphore,
    buffer_bytes_max: usize,
    waiting_callers: AtomicUsize,
    table: RwLock<Table>,
    ready: Mutex<Vec<(Arc<Topic>, u32)>>,
    /// When a record that was too large made us ask what its topic takes by now.
    limits_asked: Mutex<BTreeMap<Arc<str>, Duration>>,
}

/// How long what was heard of a topic's limit counts, when a record exceeds it.
const LIMIT_COUNTS_FOR: Duration = Duration::from_secs(1);

/// Why a synchronous append stopped before the last record.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The next record needs so many bytes of the buffer.
    NeedsBytes(usize),
    /// The topic's partitions are not known.
    NeedsTopic,
    /// The next record is larger than the topic took when it was last asked, which is a while ago:
    /// it may take more by now. Without asking again, the record is refused with this.
    OldLimit(Error),
}

/// Bytes of the buffer that a caller holds for records it is about to append. What is left when it
/// is dropped goes back.
#[derive(Debug)]
pub(crate) struct Grant<'a> {
    shared: &'a Shared,
    pub(crate) bytes: usize,
}

impl Drop for Grant<'_> {
    fn drop(&mut self) {
        self.shared.release(self.bytes);
    }
}

/// Counts a caller as waiting for buffer space for as long as it lives.
struct Waiting<'a>(&'a Shared);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting_callers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        builders: Arc<Builders>,
        partitioner: Partitioner,
        buffer_bytes_max: usize,
        seed: u64,
    ) -> Self {
        Self {
            cluster,
            builders,
            started: Instant::now(),
            wake: Notify::new(),
            partitioner,
            seed,
            buffer: Semaphore::new(buffer_bytes_max),
            buffer_bytes_max,
            waiting_callers: AtomicUsize::new(0),
            table: RwLock::default(),
            ready: Mutex::default(),
            limits_asked: Mutex::default(),
        }
    }

    /// The time since the producer started.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no more records from now on.
    pub(crate) fn close(&self) {
        self.table_mut().closed = true;
        self.buffer.close();
        self.wake.notify_one();
    }

    /// Throws away what callers put in and was not taken; their deliveries learn of it.
    pub(crate) fn discard(&self) {
        for slot in self.table().slots.values().flatten() {
            drop(slot.lock().take_opened_until(Duration::MAX));
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.table().closed
    }

    /// Makes a topic's partitions known to the callers.
    pub(crate) async fn load_topic(&self, name: &str) -> Result<()> {
        let metadata = self.cluster.topic(name).await?;
        self.update_topic(&metadata);
        Ok(())
    }

    /// Asks what a topic takes by now. When that fails, what was known goes on to count.
    pub(crate) async fn refresh_limit(&self, name: &str) {
        match self.cluster.refresh(name).await {
            Ok(metadata) => self.update_topic(&metadata),
            Err(error) => {
                tracing::debug!(topic = %name, %error, "the topic's limit may have changed");
                self.forget_if_unknown(name, &error);
            }
        }
        self.limits_asked().insert(name.into(), self.now());
    }

    fn limits_asked(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Duration>> {
        self.limits_asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is long ago that a topic was asked what it takes.
    fn limit_is_old(&self, name: &str, now: Duration) -> bool {
        let asked = self.limits_asked().get(name).copied();
        asked.is_none_or(|asked| now >= asked + LIMIT_COUNTS_FOR)
    }

    /// Takes in what the broker says of a topic. Partitions that are known keep their state.
    pub(crate) fn update_topic(&self, metadata: &Arc<TopicMetadata>) {
        let mut table = self.table_mut();
        let known = table.topics.get(&metadata.name).cloned();
        // A topic only grows: an answer with fewer partitions is older than what is known.
        if known.as_ref().is_some_and(|topic| {
            topic.metadata.id == metadata.id && topic.slots.len() > metadata.routes.len()
        }) {
            return;
        }
        let slots = table.slots(metadata);
        for slot in &slots {
            slot.lock().set_batch_bytes_max(metadata.batch_bytes_max);
        }
        let spread = known.map(|topic| Arc::clone(&topic.spread));
        let spread =
            spread.unwrap_or_else(|| Arc::new(Spread::new(self.seed, self.builders.batch_bytes())));
        let topic = Topic {
            metadata: Arc::clone(metadata),
            slots,
            spread,
        };
        table
            .topics
            .insert(Arc::clone(&metadata.name), Arc::new(topic));
    }

    /// Forgets a topic that does not exist any more, so that the next record asks for it.
    pub(crate) fn forget_if_unknown(&self, name: &str, error: &Error) {
        if error.code() == Some(ErrorCode::UnknownTopic) {
            self.table_mut().topics.remove(name);
        }
    }

    /// An empty grant.
    pub(crate) fn grant(&self) -> Grant<'_> {
        Grant {
            shared: self,
            bytes: 0,
        }
    }

    /// Adds to a grant if the buffer has so much room now.
    pub(crate) fn try_reserve(&self, grant: &mut Grant<'_>, bytes: usize) -> bool {
        let Ok(count) = u32::try_from(bytes) else {
            return false;
        };
        let Ok(permits) = self.buffer.try_acquire_many(count) else {
            return false;
        };
        permits.forget();
        grant.bytes += bytes;
        true
    }

    /// Adds to a grant, waiting for room.
    ///
    /// # Errors
    /// `InvalidArgument` if the whole buffer is smaller; `Closed`.
    pub(crate) async fn reserve(&self, grant: &mut Grant<'_>, bytes: usize) -> Result<()> {
        if self.try_reserve(grant, bytes) {
            return Ok(());
        }
        let count = u32::try_from(bytes)
            .ok()
            .filter(|_| bytes <= self.buffer_bytes_max);
        let Some(count) = count else {
            return Err(self.never_fits(bytes));
        };
        self.waiting_callers.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(self);
        self.wake.notify_one();
        let permits = self.buffer.acquire_many(count).await;
        drop(waiting);
        permits
            .map_err(|_| Error::Closed { what: "producer" })?
            .forget();
        grant.bytes += bytes;
        Ok(())
    }

    /// The buffer space that a batch call asks for at a time, in bytes: as much as a usual batch, so
    /// that it neither waits for each record nor keeps others from theirs.
    pub(crate) fn grant_bytes_max(&self) -> usize {
        self.builders.batch_bytes().min(self.buffer_bytes_max)
    }

    /// The refusal of a record that the whole buffer could not hold, if it could not.
    pub(crate) fn check_fits(&self, bytes: usize) -> Result<()> {
        if bytes <= self.buffer_bytes_max {
            Ok(())
        } else {
            Err(self.never_fits(bytes))
        }
    }

    fn never_fits(&self, bytes: usize) -> Error {
        Error::invalid(format!(
            "the record needs {bytes} bytes of the producer's buffer, which has {}; raise buffer_bytes",
            self.buffer_bytes_max
        ))
    }

    /// Gives bytes back to the buffer.
    pub(crate) fn release(&self, bytes: usize) {
        if bytes > 0 {
            self.buffer.add_permits(bytes);
        }
    }

    /// Whether the sender was told of something and has not looked since.
    pub(crate) fn sender_is_late(&self) -> bool {
        self.has_ready()
    }

    pub(crate) fn callers_wait(&self) -> bool {
        self.waiting_callers.load(Ordering::Relaxed) > 0
    }

    /// Appends records as far as the grant goes, without waiting; `sink` is told of each.
    ///
    /// # Errors
    /// `Closed`.
    pub(crate) fn append<'r, const AHEAD: usize>(
        &self,
        name: &str,
        records: &mut Intake<'r, impl Iterator<Item = RecordRef<'r>>, AHEAD>,
        grant: &mut Grant<'_>,
        now_ms: i64,
        sink: &mut impl Sink,
    ) -> Result<Option<Stopped>> {
        loop {
            if records.is_empty() {
                let Some(topic) = self.topic(name)? else {
                    return Ok(Some(Stopped::NeedsTopic));
                };
                let count = topic.metadata.partition_count();
                let mut chooser = Chooser::new(&self.partitioner, &topic.spread, name, count);
                records.fill(&mut chooser);
                if records.is_empty() {
                    return Ok(None);
                }
            }
            let stopped = self.append_taken(name, records, grant, now_ms, sink)?;
            if stopped.is_some() {
                return Ok(stopped);
            }
        }
    }

    fn topic(&self, name: &str) -> Result<Option<Arc<Topic>>> {
        let table = self.table();
        table.check_open()?;
        Ok(table.topics.get(name).cloned())
    }

    /// Appends the records that the intake has taken, under the locks of their partitions.
    fn append_taken<'r, const AHEAD: usize>(
        &self,
        name: &str,
        records: &mut Intake<'r, impl Iterator<Item = RecordRef<'r>>, AHEAD>,
        grant: &mut Grant<'_>,
        now_ms: i64,
        sink: &mut impl Sink,
    ) -> Result<Option<Stopped>> {
        // Held to the end: once the producer is closed, nothing comes after what the sender saw.
        let table = self.table();
        table.check_open()?;
        let Some(topic) = table.topics.get(name) else {
            return Ok(Some(Stopped::NeedsTopic));
        };
        let now = self.now();
        // The partition of the last record stays locked: runs to one partition are common.
        let mut held: Option<(u32, MutexGuard<'_, Accumulator>)> = None;
        while let Some(next) = records.peek() {
            let bytes = next.bytes;
            let partition = match &next.partition {
                Ok(partition) => *partition,
                Err(error) => {
                    sink.refused(Error::clone(error));
                    records.advance();
                    continue;
                }
            };
            if bytes > grant.bytes {
                return Ok(Some(Stopped::NeedsBytes(bytes)));
            }
            if held.as_ref().is_none_or(|(locked, _)| *locked != partition) {
                // Two partitions are never locked at once.
                drop(held.take());
                let Some(slot) = topic.slots.get(partition as usize) else {
                    // The topic was made again, with fewer partitions.
                    sink.refused(topic.no_partition(partition));
                    records.advance();
                    continue;
                };
                held = Some((partition, slot.lock()));
            }
            let (_, accumulator) = held.as_mut().expect("locked above");
            let placed = |place: Place<'_>| sink.placed(partition, place);
            let record = &next.record;
            match accumulator.push(now, record, now_ms, bytes, &self.builders, placed) {
                Ok(announce) => {
                    grant.bytes -= bytes;
                    if announce {
                        self.announce(topic, partition);
                    }
                }
                Err(refusal) => {
                    let may_change = matches!(refusal, Refusal::TooLarge { .. });
                    let error = refusal.into_error(name);
                    if may_change && self.limit_is_old(name, now) {
                        return Ok(Some(Stopped::OldLimit(error)));
                    }
                    sink.refused(error);
                }
            }
            records.advance();
        }
        Ok(None)
    }

    fn announce(&self, topic: &Arc<Topic>, partition: u32) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.push((Arc::clone(topic), partition));
        drop(ready);
        self.wake.notify_one();
    }

    /// The partitions announced since the last call.
    pub(crate) fn take_ready(&self) -> Vec<(Arc<Topic>, u32)> {
        std::mem::take(&mut *self.ready.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self
            .ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }
}
