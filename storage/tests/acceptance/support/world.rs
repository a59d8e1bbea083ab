//! A running machine: its stores, the clients that use them, and the oracle that watches.
//!
//! Owns the reporting of everything that happens to the oracle, and what is known to have failed.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::task::Waker;

use corelane_protocol::{Offset, StoreId, Timestamp, TopicPartition};
use corelane_storage::disk::memory::{MemoryDisk, Operation};
use corelane_storage::memory::Ledger;
use corelane_storage::store::{AppendError, LogState, Progress, RecoveryReport, Store};
use corelane_storage::testing::Spawner;
use futures_util::future::join_all;

use super::batches::batch;
use super::client::RETRIES_MAX;
use super::event::Event;
use super::layout::Layout;
use super::oracle::{Existence, Log, Oracle};
use super::session::Start;

/// What may go wrong in a session without being the engine's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tolerance {
    /// Nothing: the disk is healthy.
    Nothing,
    /// The disk refuses operations.
    Errors,
    /// The disk lies, so that damage may be found.
    Damage,
}

/// The stores that are open, by number.
type Stores = Vec<Option<Rc<Store<MemoryDisk>>>>;

/// See the module.
pub(crate) struct World {
    pub(crate) disk: MemoryDisk,
    pub(crate) layout: Layout,
    pub(crate) oracle: RefCell<Oracle>,
    pub(crate) tolerance: Tolerance,
    pub(crate) events: RefCell<Vec<Event>>,
    /// What was reported as failed, or did not open.
    pub(crate) failed_stores: RefCell<BTreeSet<usize>>,
    pub(crate) failed_partitions: RefCell<BTreeSet<TopicPartition>>,
    /// The stores that were closed, with the number of the operation that came next.
    pub(crate) closed: RefCell<BTreeMap<usize, u64>>,
    /// Whether an append was refused because the disk is full.
    pub(crate) was_refused: Cell<bool>,
    /// Parts of groups that went straight to segments, and those that recoveries read there.
    pub(crate) straight_parts: Cell<u64>,
    pub(crate) extents_replayed: Cell<u64>,
    /// Those that the session before had closed.
    closed_before: BTreeSet<usize>,
    stores: RefCell<Stores>,
    pub(super) spawner: Spawner,
    pub(super) now: Cell<i64>,
    pub(super) changed: RefCell<Vec<Waker>>,
}

/// The directory of a store.
pub(crate) fn store_dir(store: usize) -> String {
    format!("store-{store:04}")
}

impl World {
    pub(crate) fn new(
        disk: MemoryDisk,
        spawner: Spawner,
        layout: Layout,
        start: &Start,
        tolerance: Tolerance,
    ) -> Rc<Self> {
        let stores = (0..layout.stores).map(|_| None).collect();
        Rc::new(Self {
            disk,
            layout,
            oracle: RefCell::new(start.oracle.clone()),
            tolerance,
            events: RefCell::default(),
            failed_stores: RefCell::default(),
            failed_partitions: RefCell::default(),
            closed: RefCell::default(),
            was_refused: Cell::new(false),
            straight_parts: Cell::new(0),
            extents_replayed: Cell::new(0),
            closed_before: start.closed.clone(),
            stores: RefCell::new(stores),
            spawner,
            now: Cell::new(1_000_000),
            changed: RefCell::default(),
        })
    }

    /// Opens every store, core by core, and sees that each has what it must have.
    pub(crate) async fn open(self: &Rc<Self>) {
        let cores = (0..self.layout.cores).map(|core| async move {
            let ledger = Rc::new(Ledger::new(
                self.layout.memory_bytes,
                self.layout.memory_bytes_soft,
            ));
            for store in (0..self.layout.stores).filter(|store| self.layout.core_of(*store) == core)
            {
                self.open_store(store, Rc::clone(&ledger)).await;
            }
        });
        join_all(cores).await;
    }

    async fn open_store(self: &Rc<Self>, index: usize, ledger: Rc<Ledger>) {
        let (dir, id) = (store_dir(index), StoreId::new(index as u16));
        let opened = Store::open(
            self.disk.clone(),
            dir,
            id,
            self.layout.config.clone(),
            ledger,
        )
        .await;
        let (store, report) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                assert!(
                    self.tolerance > Tolerance::Nothing,
                    "store {index} does not open: {error}"
                );
                self.note(Event::NotOpened {
                    store: index,
                    error: error.to_string(),
                });
                self.failed_stores.borrow_mut().insert(index);
                return;
            }
        };
        self.note(Event::Opened {
            store: index,
            report: report.clone(),
        });
        let extents = self.extents_replayed.get() + report.extents_replayed;
        self.extents_replayed.set(extents);
        for task in store.tasks() {
            self.spawner.spawn(task);
        }
        self.spawner
            .spawn(Rc::clone(self).watch(index, Rc::clone(&store)));
        self.stores.borrow_mut()[index] = Some(Rc::clone(&store));
        if self.tolerance == Tolerance::Nothing {
            assert!(
                report.failed.is_empty() && report.fenced.is_none(),
                "store {index}: {report:?}"
            );
            assert!(
                report.was_clean || !self.closed_before.contains(&index),
                "store {index}: {report:?}"
            );
        }
        self.verify(index, &store, &report).await;
    }

    /// Compares a store that was just opened with the oracle, and reads all of it.
    async fn verify(&self, index: usize, store: &Rc<Store<MemoryDisk>>, report: &RecoveryReport) {
        if report.fenced.is_some() {
            self.failed_stores.borrow_mut().insert(index);
        }
        let failed = report.failed.iter().map(|(partition, _)| *partition);
        self.failed_partitions.borrow_mut().extend(failed);
        let found = store.partitions();
        self.expect(self.oracle.borrow_mut().found(index, &found));
        for &partition in &found {
            let offsets = store
                .offsets(partition)
                .expect("the store has just named it");
            if !self.is_failed(index, partition) {
                self.with_log(partition, |log| self.expect(log.recovered(offsets)));
            }
            if report.fenced.is_none()
                && let Some(handle) = store.partition_handle(partition)
                && !self.is_failed(index, partition)
            {
                let epoch = store.leader_epoch(partition).expect("it is there");
                let divergence = |epoch, offset| store.divergence(handle, epoch, offset);
                self.with_log(partition, |log| {
                    self.expect(log.reopened(epoch, report.was_clean, divergence))
                });
            }
        }
        for partition in found {
            self.read_all(store, partition).await;
        }
    }

    /// Reads a partition from its start to its end.
    pub(crate) async fn read_all(&self, store: &Rc<Store<MemoryDisk>>, partition: TopicPartition) {
        let mut from = Offset::ZERO;
        loop {
            let Ok(offsets) = store.offsets(partition) else {
                return;
            };
            from = from.max(offsets.log_start);
            if from >= offsets.high_watermark {
                return;
            }
            match self.read(store, partition, from, 24 << 10, true).await {
                Some(next) => from = next,
                // It may have been deleted in between.
                None if self.oracle.borrow().logs[&partition].log_start() > from => {}
                None => return,
            }
        }
    }

    /// Reads every partition of every open store.
    pub(crate) async fn read_everything(&self) {
        for store in self.open_stores() {
            for partition in store.partitions() {
                self.read_all(&store, partition).await;
            }
        }
    }

    /// Closes every open store.
    pub(crate) async fn close(&self) {
        let closing = self.open_stores().into_iter().map(|store| async move {
            let (index, result) = (usize::from(store.id().get()), store.close().await);
            self.note(Event::Closed {
                store: index,
                result: format!("{result:?}"),
            });
            match result {
                Ok(()) => {
                    self.closed
                        .borrow_mut()
                        .insert(index, self.disk.operations());
                    let mut oracle = self.oracle.borrow_mut();
                    let logs = oracle.logs.values_mut().filter(|log| log.store == index);
                    logs.filter(|log| log.existence == Existence::Exists)
                        .for_each(Log::closed);
                }
                Err(error) => assert!(
                    self.tolerance > Tolerance::Nothing,
                    "store {index} does not close: {error}"
                ),
            }
        });
        join_all(closing).await;
    }

    /// A store that is closed changes nothing on the disk.
    pub(crate) fn expect_stillness(&self, operations: &[Operation]) {
        for (&store, &closed_at) in &*self.closed.borrow() {
            let dir = store_dir(store);
            let after = operations.iter().find(|operation| {
                let is_later = operation.number >= closed_at && operation.kind.is_change();
                is_later && operation.path.starts_with(&dir)
            });
            assert!(
                after.is_none(),
                "store {store} was closed, and then: {after:?}"
            );
        }
    }

    pub(crate) fn open_stores(&self) -> Vec<Rc<Store<MemoryDisk>>> {
        self.stores.borrow().iter().flatten().cloned().collect()
    }

    pub(crate) fn store(&self, index: usize) -> Option<Rc<Store<MemoryDisk>>> {
        self.stores.borrow()[index].clone()
    }

    pub(crate) fn is_failed(&self, store: usize, partition: TopicPartition) -> bool {
        self.failed_stores.borrow().contains(&store)
            || self.failed_partitions.borrow().contains(&partition)
    }

    /// Reports a store's progress to the oracle.
    async fn watch(self: Rc<Self>, index: usize, store: Rc<Store<MemoryDisk>>) {
        loop {
            store.progressed().await;
            self.take_progress(index, &store);
        }
    }

    fn take_progress(&self, index: usize, store: &Rc<Store<MemoryDisk>>) {
        let mut progress = Vec::new();
        store.take_progress(&mut progress);
        for event in progress {
            self.note(Event::Progress(event.clone()));
            self.progress(index, &event);
        }
        for waker in self.changed.take() {
            waker.wake();
        }
    }

    /// Takes the progress that nobody has seen yet.
    pub(crate) fn drain(&self) {
        for store in self.open_stores() {
            self.take_progress(usize::from(store.id().get()), &store);
            let straight = self.straight_parts.get() + store.metrics().straight_parts;
            self.straight_parts.set(straight);
        }
    }

    /// Sees, on a disk that had room again and whose faults are over, that what was reported as failed refuses
    /// appends and everything else takes them; and that all of it can be read.
    pub(crate) async fn probe(&self) {
        self.disk.set_capacity(None);
        self.tick();
        let partitions: Vec<_> = {
            let oracle = self.oracle.borrow();
            oracle
                .existing()
                .map(|(partition, log)| (partition, log.store))
                .collect()
        };
        for (serial, &(partition, index)) in partitions.iter().enumerate() {
            let batch = batch(u64::MAX - serial as u64, 1, 50);
            let Some(store) = self.store(index) else {
                continue;
            };
            let accepted = self.append_patiently(partition, &batch, RETRIES_MAX).await;
            assert_ne!(
                accepted,
                Some(false),
                "{partition} has no room, though the disk has"
            );
            self.flushed(partition).await;
            self.drain();
            let refused = store
                .append(partition, &[], Timestamp::new(self.now.get()))
                .expect_err("no batch");
            let is_failed = self.is_failed(index, partition);
            let is_refused = matches!(
                refused,
                AppendError::StorageFailed(_) | AppendError::PartitionFailed(_)
            );
            assert_eq!(
                is_failed, is_refused,
                "{partition} of store {index}: {refused}"
            );
            let state = store.describe(partition).expect("it exists").state;
            assert_eq!(
                is_failed,
                state != LogState::Online,
                "{partition} of store {index}: {state:?}"
            );
        }
        self.read_everything().await;
    }

    fn progress(&self, index: usize, event: &Progress) {
        match event {
            Progress::Durable {
                partition,
                durable_end,
                high_watermark,
                ..
            } => {
                self.with_log(*partition, |log| {
                    self.expect(log.progress(*durable_end, *high_watermark))
                });
            }
            Progress::Unread { partition, .. } => panic!("{partition} knows no readers"),
            Progress::Damaged { partition, reason } => assert!(
                self.tolerance == Tolerance::Damage,
                "store {index}, {partition:?} is damaged: {reason}"
            ),
            Progress::Failed { partition, reason } => {
                assert!(
                    self.tolerance > Tolerance::Nothing,
                    "store {index}, {partition:?} failed: {reason}"
                );
                match partition {
                    Some(partition) => drop(self.failed_partitions.borrow_mut().insert(*partition)),
                    None => drop(self.failed_stores.borrow_mut().insert(index)),
                }
            }
        }
    }

    pub(super) fn tick(&self) {
        for store in self.open_stores() {
            store.tick(Timestamp::new(self.now.get()));
        }
    }

    /// Lets so much time pass that whatever waits for time happens.
    pub(crate) fn let_time_pass(&self) {
        self.now.set(self.now.get() + 10_000);
        self.tick();
    }

    /// Waits for ever once the disk has halted: a crash ends retries, too.
    pub(super) async fn expect_running(&self) {
        if self.disk.is_halted() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn store_of(&self, partition: TopicPartition) -> Option<Rc<Store<MemoryDisk>>> {
        let index = self.oracle.borrow().logs.get(&partition)?.store;
        self.store(index)
    }

    pub(super) fn with_log<T>(
        &self,
        partition: TopicPartition,
        change: impl FnOnce(&mut Log) -> T,
    ) -> T {
        let mut oracle = self.oracle.borrow_mut();
        let log = oracle.logs.get_mut(&partition);
        change(log.unwrap_or_else(|| panic!("nobody made {partition}")))
    }

    pub(super) fn expect(&self, result: Result<(), String>) {
        if let Err(violation) = result {
            panic!("{violation}");
        }
    }

    pub(super) fn note(&self, event: Event) {
        self.events.borrow_mut().push(event);
    }
}
