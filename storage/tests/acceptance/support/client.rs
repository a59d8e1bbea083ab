//! The clients of a session: they do what the plan says, and show the oracle what came of it.
//!
//! Owns the decision which refusals are in order.

use std::rc::Rc;
use std::task::Poll;

use corelane_protocol::{Offset, Timestamp, TopicPartition};
use corelane_storage::disk::memory::MemoryDisk;
use corelane_storage::store::{
    AppendError, DeleteRecordsError, Fetched, Read, ReadError, Store, StoreError,
};
use corelane_storage::testing::yield_now;

use super::event::Event;
use super::oracle::{Existence, Log};
use super::plan::{Plan, Step, Topic};
use super::world::{Tolerance, World};

/// How often a full journal or memory is waited for before that is taken for a standstill.
pub(crate) const RETRIES_MAX: u32 = 3000;
/// How often a disk is tried again that may well be full, or out of order, for the rest of the session.
const RETRIES_ON_BAD_DISK: u32 = 200;

impl World {
    /// Runs a plan to its end.
    pub(crate) async fn act(self: &Rc<Self>, plan: &Plan) {
        for step in &plan.first {
            self.step(step).await;
        }
        let clients = plan.clients.iter().map(|steps| {
            let (world, steps) = (Rc::clone(self), steps.clone());
            self.spawner.spawn(async move {
                for step in &steps {
                    world.step(step).await;
                }
            })
        });
        let clients: Vec<_> = clients.collect();
        for client in clients {
            client.await;
        }
    }

    async fn step(&self, step: &Step) {
        match step {
            Step::Create(topic) => self.create(topic).await,
            Step::Delete(topic) => self.delete(topic).await,
            Step::Append(partition, batches) => {
                for batch in batches.iter() {
                    self.append(*partition, batch).await;
                }
            }
            Step::Read {
                partition,
                permille,
                bytes_max,
                at_least_one,
            } => {
                let Some(store) = self.store_of(*partition) else {
                    return;
                };
                let Ok(offsets) = store.offsets(*partition) else {
                    return;
                };
                let from = Offset::new(offsets.high_watermark.get() * permille / 1000);
                self.read(&store, *partition, from, *bytes_max, *at_least_one)
                    .await;
            }
            Step::DeleteRecords {
                partition,
                permille,
            } => self.delete_records(*partition, *permille).await,
            Step::Flush(partition) => self.flushed(*partition).await,
            Step::Tick(ms) => {
                self.now.set(self.now.get() + ms);
                self.tick();
            }
            Step::Pause(turns) => {
                for _ in 0..*turns {
                    yield_now().await;
                }
            }
        }
    }

    async fn create(&self, topic: &Topic) {
        for &(partition, store) in &topic.partitions {
            let log = Log::new(store, topic.config.clone());
            self.oracle.borrow_mut().logs.insert(partition, log);
            self.note(Event::Creating(partition));
        }
        for store in self.open_stores() {
            let index = usize::from(store.id().get());
            let here: Vec<_> = topic
                .partitions
                .iter()
                .filter(|(_, store)| *store == index)
                .collect();
            if here.is_empty() {
                continue;
            }
            let wanted: Vec<_> = here
                .iter()
                .map(|(partition, _)| (*partition, topic.config.clone()))
                .collect();
            let result = store.create_partitions(&wanted).await;
            for &&(partition, _) in &here {
                self.settle(partition, &result, Existence::Creating, Existence::Exists);
                self.note(Event::Created(partition));
            }
        }
    }

    async fn delete(&self, topic: &Topic) {
        for &(partition, _) in &topic.partitions {
            self.with_log(partition, |log| log.existence = Existence::Deleting);
            self.note(Event::Deleting(partition));
        }
        for store in self.open_stores() {
            let index = usize::from(store.id().get());
            let result = store.delete_topic(topic.id).await;
            for &(partition, _) in topic.partitions.iter().filter(|(_, store)| *store == index) {
                self.settle(partition, &result, Existence::Deleting, Existence::Deleted);
                self.note(Event::Deleted(partition));
            }
        }
    }

    async fn delete_records(&self, partition: TopicPartition, permille: u64) {
        let Some(store) = self.store_of(partition) else {
            return;
        };
        let Ok(offsets) = store.offsets(partition) else {
            return;
        };
        let before = Offset::new(offsets.high_watermark.get() * permille / 1000);
        self.with_log(partition, |log| log.deleting(before));
        self.note(Event::DeletingRecords { partition, before });
        let result = store.delete_records(partition, before).await;
        self.note(Event::DeletedRecords {
            partition,
            result: format!("{result:?}"),
        });
        match result {
            Ok(log_start) => {
                assert!(log_start >= before, "{partition}: {log_start}");
                self.starts_at(partition, log_start);
            }
            Err(DeleteRecordsError::UnknownPartition(_)) => {
                let existence = self.oracle.borrow().logs[&partition].existence;
                assert_ne!(existence, Existence::Exists, "{partition} is gone");
            }
            Err(error) => assert!(self.tolerance > Tolerance::Nothing, "{partition}: {error}"),
        }
    }

    /// Shows the oracle where a log starts.
    pub(crate) fn starts_at(&self, partition: TopicPartition, log_start: Offset) {
        let now = Timestamp::new(self.now.get());
        self.with_log(partition, |log| self.expect(log.starts_at(log_start, now)));
    }

    fn settle(
        &self,
        partition: TopicPartition,
        result: &Result<(), StoreError>,
        from: Existence,
        to: Existence,
    ) {
        let settled = match result {
            Ok(()) => to,
            Err(error) => {
                assert!(self.tolerance > Tolerance::Nothing, "{partition}: {error}");
                Existence::Undecided
            }
        };
        self.with_log(partition, |log| {
            assert_eq!(log.existence, from, "only one client changes a topic");
            log.existence = settled;
        });
    }

    /// Appends a batch, waiting for room; gives up if the partition is not there or has failed.
    pub(crate) async fn append(&self, partition: TopicPartition, batch: &[u8]) -> bool {
        let is_healthy = self.tolerance == Tolerance::Nothing;
        let retries = if is_healthy {
            RETRIES_MAX
        } else {
            RETRIES_ON_BAD_DISK
        };
        let appended = self.append_patiently(partition, batch, retries).await;
        assert!(
            appended != Some(false) || !is_healthy,
            "{partition} takes no more"
        );
        appended == Some(true)
    }

    /// Appends a batch, waiting for room so many times. Returns whether there was any, unless the partition is
    /// not there or has failed.
    pub(crate) async fn append_patiently(
        &self,
        partition: TopicPartition,
        batch: &[u8],
        retries: u32,
    ) -> Option<bool> {
        let store = self.store_of(partition)?;
        for _ in 0..retries {
            let now = Timestamp::new(self.now.get());
            match store.append(partition, batch, now) {
                Ok(appended) => {
                    let (base, end) = (appended.base_offset, appended.end_offset);
                    self.note(Event::Appended {
                        partition,
                        base,
                        end,
                        bytes: batch.len(),
                    });
                    self.with_log(partition, |log| {
                        self.expect(log.append(partition, batch, appended, now))
                    });
                    return Some(true);
                }
                Err(error) if !self.is_back_pressure(&error) => {
                    self.refused(partition, &error);
                    return None;
                }
                Err(AppendError::DiskFull) => self.was_refused.set(true),
                Err(_) => {}
            }
            self.expect_running().await;
            yield_now().await;
            self.now.set(self.now.get() + 1);
            self.tick();
        }
        Some(false)
    }

    fn is_back_pressure(&self, error: &AppendError) -> bool {
        let is_full = matches!(error, AppendError::DiskFull) && self.tolerance > Tolerance::Nothing;
        is_full || matches!(error, AppendError::JournalFull | AppendError::MemoryFull(_))
    }

    fn refused(&self, partition: TopicPartition, error: &AppendError) {
        self.note(Event::Refused {
            partition,
            error: error.to_string(),
        });
        let oracle = self.oracle.borrow();
        let existence = oracle.logs[&partition].existence;
        let in_order = match error {
            AppendError::UnknownPartition(_) => existence != Existence::Exists,
            AppendError::StorageFailed(_) | AppendError::PartitionFailed(_) => {
                self.tolerance > Tolerance::Nothing
            }
            _ => false,
        };
        assert!(
            in_order,
            "an append to {partition} ({existence:?}) was refused: {error}"
        );
    }

    /// Reads once, and shows the oracle what came. Returns where the next read begins.
    pub(crate) async fn read(
        &self,
        store: &Rc<Store<MemoryDisk>>,
        partition: TopicPartition,
        from: Offset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Option<Offset> {
        let log_start = self.oracle.borrow().logs[&partition].log_start();
        let read = match store.read(partition, from, bytes_max, at_least_one) {
            Ok(Read::Ready(fetched)) => Ok(fetched),
            Ok(Read::Disk(read)) => store.read_disk(read).await,
            Err(error) => Err(error),
        };
        let fetched = match read {
            Ok(fetched) => fetched,
            Err(error) => {
                self.read_refused(partition, from, &error);
                return None;
            }
        };
        assert!(
            from >= log_start,
            "{partition} was read at {from}, its log starts at {log_start}"
        );
        let next = fetched.next_offset;
        self.note(Event::Read {
            partition,
            from,
            next,
        });
        self.with_log(partition, |log| {
            self.expect(log.read(from, &bytes_of(&fetched), next))
        });
        let is_progress = next > from || !at_least_one;
        let at_end = || {
            store
                .offsets(partition)
                .is_ok_and(|offsets| offsets.high_watermark <= from)
        };
        assert!(
            is_progress || at_end(),
            "a read of {partition} from {from} gave nothing"
        );
        (next > from).then_some(next)
    }

    fn read_refused(&self, partition: TopicPartition, from: Offset, error: &ReadError) {
        if let ReadError::OutOfRange { log_start, .. } = error
            && from < *log_start
        {
            return self.starts_at(partition, *log_start);
        }
        let oracle = self.oracle.borrow();
        let existence = oracle.logs[&partition].existence;
        let in_order = match error {
            ReadError::UnknownPartition(_) | ReadError::PartitionGone => {
                existence != Existence::Exists
            }
            ReadError::MemoryFull(_) => true,
            ReadError::Io { .. } | ReadError::PartitionFailed(_) => {
                self.tolerance > Tolerance::Nothing
            }
            ReadError::Corrupt(_) => self.tolerance == Tolerance::Damage,
            ReadError::OutOfRange { .. } => false,
        };
        assert!(
            in_order,
            "a read of {partition} ({existence:?}) was refused: {error}"
        );
    }

    /// Waits until everything appended to a partition so far is durable, or never will be.
    pub(crate) async fn flushed(&self, partition: TopicPartition) {
        let Some(target) = self.oracle.borrow().logs.get(&partition).map(Log::end) else {
            return;
        };
        std::future::poll_fn(|context| {
            let oracle = self.oracle.borrow();
            let log = &oracle.logs[&partition];
            let is_settled =
                log.existence != Existence::Exists || self.is_failed(log.store, partition);
            if log.config.is_weak() || is_settled || log.acknowledged() >= target {
                return Poll::Ready(());
            }
            self.changed.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// What a read gave, in one piece.
pub(crate) fn bytes_of(fetched: &Fetched) -> Vec<u8> {
    let bytes: Vec<u8> = fetched
        .parts
        .iter()
        .flat_map(|part| part.iter().copied())
        .collect();
    assert_eq!(bytes.len(), fetched.bytes, "a read counts its bytes");
    bytes
}
