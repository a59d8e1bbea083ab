//! The shell of one simulated core: what `broker/src/runtime/shell.rs` is to a real one.
//!
//! Owns the lane, and the way of every effect. Mirrors the real shell task by task, so that the executor's
//! seed decides about orders that the real one may have too. What leaves the core is left in `outgoing`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use corelane_broker::lane::{
    ConnectionId, Effect, Lane, LogTask, LogToken, Mail, Now, ReadToken, ReplyPart, StoreTask,
    TaskFailure,
};
use corelane_broker::runtime::MetadataLog;
use corelane_protocol::CoreId;
use corelane_storage::disk::memory::MemoryDisk;
use corelane_storage::store::{DiskRead, Store};
use corelane_storage::testing::Spawner;

/// What leaves a core.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Send {
        connection: ConnectionId,
        parts: Vec<ReplyPart>,
    },
    Close {
        connection: ConnectionId,
        after_sending: bool,
    },
    Receive {
        connection: ConnectionId,
        on: bool,
    },
    Mail {
        to: CoreId,
        mail: Mail,
    },
}

/// Records for the metadata log.
struct MetadataAppend {
    token: u64,
    records: Vec<Vec<u8>>,
    frees_room: bool,
}

/// The time of one core, set before each of its turns.
pub(crate) type CoreClock = Rc<Cell<Now>>;

pub(crate) struct Shell {
    pub(crate) lane: RefCell<Lane<MemoryDisk>>,
    pub(crate) stores: Vec<Rc<Store<MemoryDisk>>>,
    clock: CoreClock,
    spawner: Spawner,
    outgoing: RefCell<VecDeque<Outgoing>>,
    store_work: Vec<WorkQueue<(u64, StoreTask)>>,
    metadata_work: WorkQueue<MetadataAppend>,
    reads: Cell<u64>,
}

impl Shell {
    pub(crate) fn new(
        lane: Lane<MemoryDisk>,
        stores: Vec<Rc<Store<MemoryDisk>>>,
        clock: CoreClock,
        spawner: Spawner,
    ) -> Rc<Self> {
        Rc::new(Self {
            lane: RefCell::new(lane),
            store_work: stores.iter().map(|_| WorkQueue::default()).collect(),
            stores,
            clock,
            spawner,
            outgoing: RefCell::default(),
            metadata_work: WorkQueue::default(),
            reads: Cell::new(0),
        })
    }

    /// Tells the lane of something, then does what it wants.
    pub(crate) fn event<T>(
        self: &Rc<Self>,
        tell: impl FnOnce(&mut Lane<MemoryDisk>, Now) -> T,
    ) -> T {
        let answer = tell(&mut self.lane.borrow_mut(), self.clock.get());
        loop {
            let effect = self.lane.borrow_mut().poll_effect();
            let Some(effect) = effect else { break };
            self.perform(effect);
        }
        answer
    }

    /// The next thing that leaves the core.
    pub(crate) fn poll_outgoing(&self) -> Option<Outgoing> {
        self.outgoing.borrow_mut().pop_front()
    }

    /// How often the lane has read from a disk.
    pub(crate) fn take_reads(&self) -> u64 {
        self.reads.take()
    }

    pub(crate) fn next_deadline_us(&self) -> Option<u64> {
        self.lane.borrow().next_deadline()
    }

    fn perform(self: &Rc<Self>, effect: Effect) {
        let outgoing = match effect {
            Effect::Send { connection, parts } => {
                assert!(!parts.is_empty(), "an empty send");
                Outgoing::Send { connection, parts }
            }
            Effect::Close {
                connection,
                after_sending,
            } => Outgoing::Close {
                connection,
                after_sending,
            },
            Effect::Receive { connection, on } => Outgoing::Receive { connection, on },
            Effect::Mail { to, mail } => Outgoing::Mail { to, mail },
            Effect::Read { token, store, read } => return self.read(token, store, read),
            Effect::LogTask { token, store, task } => return self.do_log_task(token, store, task),
            Effect::StoreTask { token, store, task } => {
                return self.store_work[store].push((token, task));
            }
            Effect::AppendMetadata {
                token,
                records,
                frees_room,
            } => {
                return self.metadata_work.push(MetadataAppend {
                    token,
                    records,
                    frees_room,
                });
            }
        };
        self.outgoing.borrow_mut().push_back(outgoing);
    }

    fn read(self: &Rc<Self>, token: ReadToken, store: usize, read: DiskRead) {
        self.reads.set(self.reads.get() + 1);
        let this = Rc::clone(self);
        self.spawner.spawn(async move {
            let result = this.stores[store].read_disk(read).await;
            this.event(|lane, now| lane.read_done(now, token, result));
        });
    }

    fn do_log_task(self: &Rc<Self>, token: LogToken, store: usize, task: LogTask) {
        let this = Rc::clone(self);
        self.spawner.spawn(async move {
            let answer = task.run(&this.stores[store]).await;
            this.event(|lane, now| lane.log_task_done(now, token, answer));
        });
    }

    /// Starts the tasks that run for as long as the core serves.
    pub(crate) fn start_tasks(self: &Rc<Self>, metadata_log: Option<Rc<MetadataLog<MemoryDisk>>>) {
        for store in 0..self.stores.len() {
            self.spawner.spawn(Rc::clone(self).follow_progress(store));
            self.spawner.spawn(Rc::clone(self).do_store_work(store));
        }
        if let Some(log) = metadata_log {
            self.spawner.spawn(Rc::clone(self).append_metadata(log));
        }
    }

    async fn follow_progress(self: Rc<Self>, store: usize) {
        loop {
            self.stores[store].progressed().await;
            self.event(|lane, now| lane.store_progress(now));
        }
    }

    async fn do_store_work(self: Rc<Self>, store: usize) {
        loop {
            let (token, task) = self.store_work[store].next().await;
            let store = &self.stores[store];
            let result = match task {
                StoreTask::CreatePartitions(partitions) => {
                    store.create_partitions(&partitions).await
                }
                StoreTask::DeleteTopic(topic) => store.delete_topic(topic).await,
            };
            let result = result.map_err(TaskFailure::from);
            self.event(|lane, now| lane.store_task_done(now, token, result));
        }
    }

    async fn append_metadata(self: Rc<Self>, log: Rc<MetadataLog<MemoryDisk>>) {
        loop {
            let append = self.metadata_work.next().await;
            let token = append.token;
            let result = log.append(&append.records, append.frees_room).await;
            let is_logged = result.is_ok();
            self.event(|lane, now| lane.metadata_appended(now, token, result));
            let rewriting = log.rewriting(self.lane.borrow().image());
            if let Some(rewriting) = rewriting.filter(|_| is_logged) {
                log.rewrite(rewriting).await;
            }
        }
    }
}

/// Items for one task, in the order in which they were pushed.
struct WorkQueue<T> {
    items: RefCell<VecDeque<T>>,
    waker: RefCell<Option<Waker>>,
}

impl<T> Default for WorkQueue<T> {
    fn default() -> Self {
        Self {
            items: RefCell::default(),
            waker: RefCell::default(),
        }
    }
}

impl<T> WorkQueue<T> {
    fn push(&self, item: T) {
        self.items.borrow_mut().push_back(item);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    async fn next(&self) -> T {
        poll_fn(|cx| {
            if let Some(item) = self.items.borrow_mut().pop_front() {
                return Poll::Ready(item);
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}
