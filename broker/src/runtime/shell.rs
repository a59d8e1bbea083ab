//! The shell of one core: it tells the lane what happens and does what the lane wants.
//!
//! Owns the lane, and the way of every effect to whoever carries it out. Decides nothing. Every call into
//! the lane goes through [`Shell::event`], which holds the lane only for the call itself and never across
//! an await.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};

use corelane_protocol::CoreId;
use corelane_storage::disk::Disk;
use corelane_storage::ring::Ring;
use corelane_storage::store::{DiskRead, Store};

use super::clock::Clock;
use super::metadata_log::MetadataLog;
use super::timer::Timer;
use super::work::WorkQueue;
use crate::admin::{Ask, AskSeat, CoreAnswer, RingMetrics};
use crate::io::{ConnectionEvents, Connections, Mailbox, TaskGroup};
use crate::lane::{
    ConnectionId, Effect, Lane, LogTask, LogToken, Mail, Now, ReadToken, StoreTask, TaskFailure,
    refusal_frame,
};

/// Records for the metadata log. See [`Effect::AppendMetadata`].
struct MetadataAppend {
    token: u64,
    records: Vec<Vec<u8>>,
    frees_room: bool,
}

/// What a shell is made of.
pub(super) struct ShellParts<D: Disk> {
    pub(super) lane: Lane<D>,
    pub(super) ring: Ring,
    pub(super) clock: Clock,
    pub(super) tasks: TaskGroup,
    pub(super) connections: Rc<Connections>,
    pub(super) mailbox: Rc<Mailbox<Mail>>,
    pub(super) stores: Vec<Rc<Store<D>>>,
    pub(super) asks: AskSeat,
}

pub(super) struct Shell<D: Disk> {
    lane: RefCell<Lane<D>>,
    ring: Ring,
    clock: Clock,
    tasks: TaskGroup,
    pub(super) connections: Rc<Connections>,
    mailbox: Rc<Mailbox<Mail>>,
    stores: Vec<Rc<Store<D>>>,
    /// What each store is to do, by its place in `stores`.
    store_work: Vec<WorkQueue<(u64, StoreTask)>>,
    metadata_work: WorkQueue<MetadataAppend>,
    timer: Timer,
    /// Whether a shutdown has begun: then every event may be the one that drains the core.
    is_ending: Cell<bool>,
    /// What the admin thread wants to know.
    asks: RefCell<AskSeat>,
    /// Who waits for a wish to end, or for the core to be drained.
    watcher: RefCell<Option<Waker>>,
}

impl<D: Disk> Shell<D> {
    pub(super) fn new(parts: ShellParts<D>) -> Rc<Self> {
        let store_work = parts.stores.iter().map(|_| WorkQueue::new()).collect();
        Rc::new(Self {
            lane: RefCell::new(parts.lane),
            ring: parts.ring,
            clock: parts.clock,
            tasks: parts.tasks,
            connections: parts.connections,
            mailbox: parts.mailbox,
            stores: parts.stores,
            store_work,
            metadata_work: WorkQueue::new(),
            timer: Timer::default(),
            is_ending: Cell::new(false),
            asks: RefCell::new(parts.asks),
            watcher: RefCell::default(),
        })
    }

    /// Tells the lane of something, then does what it wants.
    pub(super) fn event<T>(self: &Rc<Self>, tell: impl FnOnce(&mut Lane<D>, Now) -> T) -> T {
        let now = self.clock.now();
        let answer = tell(&mut self.lane.borrow_mut(), now);
        loop {
            let effect = self.lane.borrow_mut().poll_effect();
            let Some(effect) = effect else { break };
            self.perform(effect);
        }
        self.timer.set(self.lane.borrow().next_deadline());
        // What was started may pass through several tasks before it reaches the ring.
        self.ring.stay_awake();
        if self.is_ending.get() {
            self.wake_watcher();
        }
        answer
    }

    /// Takes no more requests. From now on `watch` is told after every event.
    pub(super) fn begin_shutdown(self: &Rc<Self>) {
        self.is_ending.set(true);
        self.event(Lane::begin_shutdown);
    }

    /// Whether nothing is in flight any more, during a shutdown.
    pub(super) fn is_drained(&self) -> bool {
        self.lane.borrow().is_drained()
    }

    /// Whether every client has gone.
    pub(super) fn is_idle(&self) -> bool {
        self.lane.borrow().connections() == 0
    }

    /// Waits until `condition` holds, which is looked at whenever the watcher is woken. One task does so.
    pub(super) async fn watch(&self, mut condition: impl FnMut() -> bool) {
        poll_fn(|cx| {
            if condition() {
                return Poll::Ready(());
            }
            *self.watcher.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// A message has woken the core: mail, a wish to end, or a question.
    pub(super) fn woken(&self) {
        self.wake_watcher();
        loop {
            let ask = self.asks.borrow_mut().pop();
            let Ok(ask) = ask else { break };
            self.answer(ask);
        }
    }

    /// Answers the admin thread. Who does not wait any more needs no answer.
    fn answer(&self, ask: Ask) {
        match ask {
            Ask::Ping(answer) => {
                let _ = answer.send(());
            }
            Ask::Core(answer) => {
                let _ = answer.send(Box::new(self.metrics()));
            }
            Ask::Partitions { from, answer } => {
                let _ = answer.send(self.lane.borrow().partition_metrics(from));
            }
            Ask::Groups { from, answer } => {
                let _ = answer.send(self.lane.borrow().group_metrics(&from));
            }
        }
    }

    fn metrics(&self) -> CoreAnswer {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let cpu_us = cpu.tv_sec.unsigned_abs() * 1_000_000 + cpu.tv_nsec.unsigned_abs() / 1000;
        CoreAnswer {
            lane: self.lane.borrow().metrics(),
            cpu_us,
            mail_queued: self.mailbox.queued(),
            ring: RingMetrics {
                in_flight: self.ring.in_flight(),
                stats: self.ring.stats(),
                turn_times: self.ring.turn_times(),
            },
        }
    }

    pub(super) fn wake_watcher(&self) {
        let waker = self.watcher.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn perform(self: &Rc<Self>, effect: Effect) {
        match effect {
            Effect::Send { connection, parts } => self.connections.send(connection, parts),
            Effect::Close {
                connection,
                after_sending,
            } => self.connections.close(connection, after_sending),
            Effect::Receive { connection, on } => self.connections.set_receiving(connection, on),
            Effect::Mail { to, mail } => self.mailbox.send(usize::from(to.get()), mail),
            Effect::Read { token, store, read } => self.read(token, store, read),
            Effect::LogTask { token, store, task } => self.do_log_task(token, store, task),
            Effect::StoreTask { token, store, task } => {
                self.store_work[store].push((token, task));
            }
            Effect::AppendMetadata {
                token,
                records,
                frees_room,
            } => self.metadata_work.push(MetadataAppend {
                token,
                records,
                frees_room,
            }),
        }
    }

    fn read(self: &Rc<Self>, token: ReadToken, store: usize, read: DiskRead) {
        let this = self.clone();
        self.tasks.spawn(async move {
            let result = this.stores[store].read_disk(read).await;
            this.event(|lane, now| lane.read_done(now, token, result));
        });
    }

    fn do_log_task(self: &Rc<Self>, token: LogToken, store: usize, task: LogTask) {
        let this = self.clone();
        self.tasks.spawn(async move {
            // It may be done from memory, and its end begins the next one.
            this.ring.next_turn().await;
            let answer = task.run(&this.stores[store]).await;
            this.event(|lane, now| lane.log_task_done(now, token, answer));
        });
    }

    /// Starts the tasks that run for as long as the core serves.
    pub(super) fn start_tasks(self: &Rc<Self>, metadata_log: Option<Rc<MetadataLog<D>>>) {
        for store in 0..self.stores.len() {
            self.tasks
                .spawn_until_stopped(self.clone().follow_progress(store));
            self.tasks
                .spawn_until_stopped(self.clone().do_store_work(store));
        }
        if let Some(log) = metadata_log {
            self.tasks.spawn(self.clone().append_metadata(log));
        }
        self.tasks.spawn_until_stopped(self.clone().keep_time());
        // Deadlines that the lane has had from its beginning.
        self.event(|_, _| ());
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

    /// Ends what it has begun: a log that is left while it is written, or replaced, takes no clean mark.
    async fn append_metadata(self: Rc<Self>, log: Rc<MetadataLog<D>>) {
        let mut stop = self.tasks.stop_sign();
        while let Some(append) = stop.or(self.metadata_work.next()).await {
            let token = append.token;
            let result = log.append(&append.records, append.frees_room).await;
            let is_logged = result.is_ok();
            self.event(|lane, now| lane.metadata_appended(now, token, result));
            // The lane of this core has applied all that is logged.
            let rewriting = log.rewriting(self.lane.borrow().image());
            if let Some(rewriting) = rewriting.filter(|_| is_logged) {
                log.rewrite(rewriting).await;
            }
        }
    }

    async fn keep_time(self: Rc<Self>) {
        loop {
            self.timer.fired(&self.ring, self.clock).await;
            self.event(Lane::tick);
        }
    }

    /// Mail from another core.
    pub(super) fn deliver(self: &Rc<Self>, from: usize, mail: Mail) {
        let from = u16::try_from(from).expect("cores are numbered by u16");
        self.event(|lane, now| lane.mail(now, CoreId::new(from), mail));
    }
}

/// The events of connections, for their tasks. A type of its own, since events need the shell's `Rc`.
pub(super) struct Clients<D: Disk> {
    pub(super) shell: Rc<Shell<D>>,
}

impl<D: Disk> ConnectionEvents for Clients<D> {
    fn opened(&self, peer: SocketAddr) -> Result<ConnectionId, Vec<u8>> {
        let opened = self
            .shell
            .event(|lane, now| lane.connection_opened(now, peer));
        opened.map_err(|error| {
            tracing::debug!(%peer, %error, "a connection is refused");
            refusal_frame(&error)
        })
    }

    fn received(&self, connection: ConnectionId, bytes: &[u8]) -> usize {
        self.shell
            .event(|lane, now| lane.received(now, connection, bytes))
    }

    fn sent(&self, connection: ConnectionId, bytes: usize) {
        self.shell
            .event(|lane, now| lane.sent(now, connection, bytes));
    }

    fn closed(&self, connection: ConnectionId) {
        self.shell
            .event(|lane, now| lane.connection_closed(now, connection));
    }
}
