//! A broker whose shell is a test: it carries out effects when the test says so.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use corelane_broker::config::BrokerConfig;
use corelane_broker::lane::{
    ConnectionId, Effect, Lane, LaneParts, LogAnswer, LogToken, Mail, Now, ReadToken, Reconciled,
    StoreTask, StoresFound, TaskFailure, Topology, open_store, reconcile,
};
use corelane_broker::metadata::{MetadataImage, MetadataRecord};
use corelane_protocol::response::CoreAddress;
use corelane_protocol::{ApiError, BrokerId, CoreId, StoreId, Timestamp, TopicId};
use corelane_storage::disk::memory::{DiskImage, MemoryDisk};
use corelane_storage::memory::Ledger;
use corelane_storage::store::{AppendError, Fetched, ReadError, Store, StoreConfig};
use corelane_storage::testing::Executor;
use uuid::Uuid;

use crate::client::Client;

/// What the executor's tasks report to the lanes.
enum Report {
    Read(ReadToken, Result<Fetched, ReadError>),
    Log(LogToken, LogAnswer),
    StoreTask(u64, Result<(), TaskFailure>),
}

/// One core of the world.
pub(crate) struct Core {
    pub(crate) lane: Lane<MemoryDisk>,
    pub(crate) stores: Vec<Rc<Store<MemoryDisk>>>,
    pub(crate) ledger: Rc<Ledger>,
    pub(crate) reconciled: Reconciled,
    reports: Rc<RefCell<VecDeque<Report>>>,
}

/// The stores of one core, before it serves.
struct OpenStores {
    stores: Vec<Rc<Store<MemoryDisk>>>,
    reconciled: Reconciled,
    ledger: Rc<Ledger>,
}

/// A broker of several cores.
pub(crate) struct World {
    pub(crate) config: Arc<BrokerConfig>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) executor: Executor,
    pub(crate) disk: MemoryDisk,
    pub(crate) cores: Vec<Core>,
    pub(crate) clients: Vec<Client>,
    pub(crate) now: Now,
    /// Records of the metadata log, which is always durable here.
    pub(crate) metadata_log: Vec<Vec<u8>>,
    /// Refuses the next append to the metadata log.
    /// The size of the disk after the next restart; none: as much as is wanted.
    pub(crate) disk_bytes_max: Option<u64>,
    pub(crate) metadata_log_fails: Option<TaskFailure>,
    /// Mail on its way, by sender and receiver.
    pub(crate) mail: BTreeMap<(CoreId, CoreId), VecDeque<Mail>>,
    /// Disk reads that fetches asked for.
    pub(crate) reads_begun: usize,
    /// The most mail that was on its way from one core to another.
    pub(crate) mail_on_its_way_max: usize,
    next_topic: Rc<RefCell<u128>>,
    seed: u64,
}

/// A small configuration: tests reach its limits.
pub(crate) fn small_config() -> BrokerConfig {
    let mut config = BrokerConfig::default();
    config.limits.frame_bytes_max = 256 * 1024;
    config.limits.connection_in_flight_bytes_max = 512 * 1024;
    config.limits.connection_reply_bytes_max = 512 * 1024;
    config.log.max_message_bytes = 128 * 1024;
    config.journal.file_bytes = 1 << 20;
    config.journal.files_max = 2;
    config.journal.group_bytes_max = 128 * 1024;
    config.log.segment_bytes = 1 << 20;
    config.log.spill_bytes = 64 * 1024;
    config
}

pub(crate) fn core(number: u16) -> CoreId {
    CoreId::new(number)
}

impl World {
    /// A broker of `cores` cores with two stores each, and an empty data directory.
    pub(crate) fn new(seed: u64, cores: u16) -> Self {
        Self::with_config(seed, cores, small_config())
    }

    pub(crate) fn with_config(seed: u64, cores: u16, config: BrokerConfig) -> Self {
        let executor = Executor::new(seed);
        let disk = MemoryDisk::new(&executor);
        let stores = 2 * cores;
        Self::create_stores(&executor, &disk, stores, &config);
        Self::start(executor, disk, cores, stores, config, Vec::new(), seed)
    }

    pub(crate) fn create_stores(
        executor: &Executor,
        disk: &MemoryDisk,
        stores: u16,
        config: &BrokerConfig,
    ) {
        executor.block_on(async {
            for store in 0..stores {
                let uuid = Uuid::from_u128(u128::from(store) + 1);
                let id = StoreId::new(store);
                Store::create(disk, &dir(id), id, uuid, &store_config(config))
                    .await
                    .expect("a new store");
            }
        });
    }

    /// A broker on what a disk holds.
    pub(crate) fn start(
        executor: Executor,
        disk: MemoryDisk,
        cores: u16,
        stores: u16,
        config: BrokerConfig,
        metadata_log: Vec<Vec<u8>>,
        seed: u64,
    ) -> Self {
        let topology = Topology {
            broker_id: BrokerId::new(1),
            cluster_id: Uuid::from_u128(99),
            host: "broker".to_owned(),
            port: 9500,
            cores: (0..cores)
                .map(|number| CoreAddress {
                    core: core(number),
                    host: "broker".to_owned(),
                    port: 9600 + number,
                })
                .collect(),
            stores: (0..stores).map(|store| core(store % cores)).collect(),
        };
        let mut world = Self {
            config: Arc::new(config),
            topology: Arc::new(topology),
            executor,
            disk,
            cores: Vec::new(),
            clients: Vec::new(),
            now: Now {
                wall: Timestamp::new(1_700_000_000_000),
                monotonic_us: 1_000_000,
            },
            metadata_log,
            disk_bytes_max: None,
            metadata_log_fails: None,
            mail: BTreeMap::new(),
            reads_begun: 0,
            mail_on_its_way_max: 0,
            next_topic: Rc::new(RefCell::new(0)),
            seed,
        };
        let mut image = MetadataImage::new();
        for record in &world.metadata_log {
            let record = MetadataRecord::decode(record).expect("a record that was logged");
            image.apply(&record).expect("records in their order");
        }
        *world.next_topic.borrow_mut() =
            u128::from(seed) << 64 | u128::from(image.records_applied());
        let opened: Vec<_> = (0..cores)
            .map(|number| world.open_stores(core(number), &image))
            .collect();
        let stores = opened.iter().flat_map(|opened| &opened.stores);
        let found = StoresFound::of(stores);
        for (number, opened) in (0..).zip(opened) {
            let core = world.start_core(core(number), opened, found.clone(), &image);
            world.cores.push(core);
        }
        world
    }

    fn open_stores(&self, core: CoreId, image: &MetadataImage) -> OpenStores {
        let memory = self.config.memory.per_core_bytes as usize;
        let ledger = Rc::new(Ledger::new(memory, memory / 4 * 3));
        let settings = store_config(&self.config);
        let config = &self.config;
        let (stores, reconciled) = self.executor.block_on(async {
            let mut stores = Vec::new();
            for id in self.topology.stores_of(core) {
                let (dir, settings) = (dir(id), settings.clone());
                let opened = open_store(&self.disk, &dir, id, settings, &ledger, image, config);
                let (store, _report) = opened.await.expect("a store that opens");
                stores.push(store);
            }
            let reconciled = reconcile(image, config, &self.topology, core, &stores).await;
            (stores, reconciled.expect("stores that follow the metadata"))
        });
        OpenStores {
            stores,
            reconciled,
            ledger,
        }
    }

    fn start_core(
        &self,
        core: CoreId,
        opened: OpenStores,
        found: StoresFound,
        image: &MetadataImage,
    ) -> Core {
        let OpenStores {
            stores,
            reconciled,
            ledger,
        } = opened;
        for store in &stores {
            for task in store.tasks() {
                self.executor.spawn(task);
            }
        }
        let next_topic = Rc::clone(&self.next_topic);
        let topic_ids = move || {
            *next_topic.borrow_mut() += 1;
            TopicId::new(Uuid::from_u128(*next_topic.borrow()))
        };
        Core {
            lane: Lane::new(LaneParts {
                core,
                config: Arc::clone(&self.config),
                topology: Arc::clone(&self.topology),
                stores: stores.clone(),
                found,
                ledger: Rc::clone(&ledger),
                image: image.clone(),
                topic_ids: Box::new(topic_ids),
            }),
            stores,
            ledger,
            reconciled,
            reports: Rc::default(),
        }
    }

    /// The same data directory after a power loss and a restart with `cores` cores.
    pub(crate) fn crash(self, cores: u16) -> Self {
        let image = self.disk.crash(self.seed);
        self.executor.crash();
        self.restart_from(&image, cores)
    }

    /// The same data directory after an orderly end and a restart with `cores` cores.
    pub(crate) fn close_and_restart(self, cores: u16) -> Self {
        self.close_and_restart_with(cores, |_| {})
    }

    /// The same, and in between something happens to the files.
    pub(crate) fn close_and_restart_with(
        self,
        cores: u16,
        change: impl FnOnce(&mut DiskImage),
    ) -> Self {
        let stores: Vec<_> = self
            .cores
            .iter()
            .flat_map(|core| core.stores.clone())
            .filter(|store| store.unfit().is_none())
            .collect();
        self.executor.block_on(async {
            for store in &stores {
                store.close().await.expect("a store that closes");
            }
        });
        let mut image = self.disk.image();
        change(&mut image);
        self.restart_from(&image, cores)
    }

    pub(crate) fn restart_from(self, image: &DiskImage, cores: u16) -> Self {
        let seed = self.seed + 1;
        let executor = Executor::new(seed);
        let disk = MemoryDisk::from_image(&executor, image);
        disk.set_capacity(self.disk_bytes_max);
        let stores = u16::try_from(self.topology.stores.len()).expect("few stores");
        let config = (*self.config).clone();
        Self::start(
            executor,
            disk,
            cores,
            stores,
            config,
            self.metadata_log,
            seed,
        )
    }

    /// Lets time pass and tells the lanes whose deadlines it reaches.
    pub(crate) fn pass_ms(&mut self, ms: u64) {
        let end = self.now.monotonic_us + ms * 1000;
        loop {
            self.settle();
            let next = self
                .cores
                .iter()
                .filter_map(|core| core.lane.next_deadline())
                .min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.set_time(next.max(self.now.monotonic_us));
            let now = self.now;
            for core in &mut self.cores {
                if core
                    .lane
                    .next_deadline()
                    .is_some_and(|deadline| deadline <= now.monotonic_us)
                {
                    core.lane.tick(now);
                }
            }
        }
        self.set_time(end);
    }

    /// Lets time pass and mail be carried while no disk makes progress.
    pub(crate) fn pass_ms_without_disks(&mut self, ms: u64) {
        let end = self.now.monotonic_us + ms * 1000;
        while self.now.monotonic_us < end {
            self.set_time((self.now.monotonic_us + 100_000).min(end));
            self.tick(0..self.cores.len());
            self.carry();
        }
    }

    /// Tells these lanes the time.
    pub(crate) fn tick(&mut self, cores: std::ops::Range<usize>) {
        for core in &mut self.cores[cores] {
            core.lane.tick(self.now);
        }
    }

    fn set_time(&mut self, monotonic_us: u64) {
        let passed = i64::try_from(monotonic_us / 1000 - self.now.monotonic_us / 1000);
        let wall = self.now.wall.get() + passed.expect("tests are short");
        self.now = Now {
            wall: Timestamp::new(wall),
            monotonic_us,
        };
    }

    /// Runs everything but time until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        loop {
            self.carry();
            self.executor.run_until_stalled();
            let reported = self.deliver_reports();
            if !self.carry() && !reported {
                break;
            }
        }
    }

    /// Carries out effects, and the mail from one core to another.
    pub(crate) fn carry_one_way(&mut self, from: u16, to: u16) {
        self.perform_effects();
        let now = self.now;
        let queue = self.mail.remove(&(core(from), core(to)));
        for mail in queue.unwrap_or_default() {
            self.cores[usize::from(to)].lane.mail(now, core(from), mail);
        }
        self.perform_effects();
    }

    /// Lets the disks do all that they can, and carries no mail.
    pub(crate) fn run_disks(&mut self) {
        self.executor.run_until_stalled();
        self.deliver_reports();
        self.perform_effects();
    }

    /// Carries out effects and mail, but lets no disk make progress. Whether there was anything.
    pub(crate) fn carry(&mut self) -> bool {
        let mut any = false;
        loop {
            let effects = self.perform_effects();
            let mail = self.deliver_mail();
            if !effects && !mail {
                return any;
            }
            any = true;
        }
    }

    pub(crate) fn perform_effects(&mut self) -> bool {
        let mut any = false;
        for index in 0..self.cores.len() {
            while let Some(effect) = self.cores[index].lane.poll_effect() {
                any = true;
                self.perform(index, effect);
            }
        }
        any
    }

    fn perform(&mut self, index: usize, effect: Effect) {
        let from = core(u16::try_from(index).expect("few cores"));
        let now = self.now;
        match effect {
            Effect::Send { connection, parts } => {
                assert!(!parts.is_empty(), "an empty send");
                let client = self.client_of(from, connection);
                let before = client.unread.len();
                for part in &parts {
                    client.unread.extend_from_slice(part.as_slice());
                }
                let length = client.unread.len() - before;
                if client.reading {
                    let bytes = client.read();
                    assert_eq!(bytes, length, "nothing was left unread before");
                    self.cores[index].lane.sent(now, connection, bytes);
                }
            }
            Effect::Close {
                connection,
                after_sending,
            } => {
                let client = self.client_of(from, connection);
                client.closed_by_broker = true;
                client.closed_at_once = !after_sending;
                if !after_sending || client.unread.is_empty() {
                    client.open = false;
                    self.cores[index].lane.connection_closed(now, connection);
                }
            }
            Effect::Receive { connection, on } => {
                // The client may have gone since this was decided.
                if let Some(client) = self.find_client(from, connection) {
                    assert_ne!(client.receiving, on, "a switch that changes nothing");
                    client.receiving = on;
                }
            }
            Effect::Mail { to, mail } => {
                assert_ne!(to, from, "mail to itself");
                let queue = self.mail.entry((from, to)).or_default();
                queue.push_back(mail);
                self.mail_on_its_way_max = self.mail_on_its_way_max.max(queue.len());
            }
            Effect::AppendMetadata { token, records, .. } => {
                let result = if let Some(failure) = self.metadata_log_fails.take() {
                    Err(failure)
                } else {
                    self.metadata_log.extend(records);
                    Ok(())
                };
                self.cores[index].lane.metadata_appended(now, token, result);
            }
            Effect::Read { token, store, read } => {
                self.reads_begun += 1;
                let core = &self.cores[index];
                let (store, reports) = (Rc::clone(&core.stores[store]), Rc::clone(&core.reports));
                self.executor.spawn(async move {
                    let result = store.read_disk(read).await;
                    reports.borrow_mut().push_back(Report::Read(token, result));
                });
            }
            Effect::LogTask { token, store, task } => {
                let core = &self.cores[index];
                let (store, reports) = (Rc::clone(&core.stores[store]), Rc::clone(&core.reports));
                self.executor.spawn(async move {
                    let answer = task.run(&store).await;
                    reports.borrow_mut().push_back(Report::Log(token, answer));
                });
            }
            Effect::StoreTask { token, store, task } => {
                let core = &self.cores[index];
                let (store, reports) = (Rc::clone(&core.stores[store]), Rc::clone(&core.reports));
                self.executor.spawn(async move {
                    let result = match task {
                        StoreTask::CreatePartitions(list) => store.create_partitions(&list).await,
                        StoreTask::DeleteTopic(topic) => store.delete_topic(topic).await,
                    };
                    let result = result.map_err(TaskFailure::from);
                    reports
                        .borrow_mut()
                        .push_back(Report::StoreTask(token, result));
                });
            }
        }
    }

    fn deliver_reports(&mut self) -> bool {
        let mut any = false;
        let now = self.now;
        for core in &mut self.cores {
            while let Some(report) = { core.reports.borrow_mut().pop_front() } {
                any = true;
                match report {
                    Report::Read(token, result) => core.lane.read_done(now, token, result),
                    Report::Log(token, answer) => core.lane.log_task_done(now, token, answer),
                    Report::StoreTask(token, result) => {
                        core.lane.store_task_done(now, token, result)
                    }
                }
            }
            let mut stores = core.stores.iter();
            if stores.any(|store| is_ready(store.progressed())) {
                any = true;
                core.lane.store_progress(now);
            }
        }
        any
    }

    /// Delivers one letter of each pair of cores. Whether there was any.
    pub(crate) fn deliver_mail(&mut self) -> bool {
        let mut any = false;
        let now = self.now;
        for ((from, to), queue) in &mut self.mail {
            if let Some(mail) = queue.pop_front() {
                any = true;
                self.cores[usize::from(to.get())]
                    .lane
                    .mail(now, *from, mail);
            }
        }
        any
    }

    fn find_client(&mut self, core: CoreId, connection: ConnectionId) -> Option<&mut Client> {
        self.clients
            .iter_mut()
            .find(|client| client.open && client.core == core && client.connection == connection)
    }

    fn client_of(&mut self, core: CoreId, connection: ConnectionId) -> &mut Client {
        self.find_client(core, connection)
            .expect("an effect for an open connection")
    }

    /// Connects a client to a core; its number.
    pub(crate) fn connect(&mut self, number: u16) -> usize {
        self.try_connect(number)
            .expect("a connection that is accepted")
    }

    pub(crate) fn try_connect(&mut self, number: u16) -> Result<usize, ApiError> {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
        let lane = &mut self.cores[usize::from(number)].lane;
        let connection = lane.connection_opened(self.now, peer)?;
        self.clients.push(Client::new(core(number), connection));
        Ok(self.clients.len() - 1)
    }

    /// A client closes its connection.
    pub(crate) fn disconnect(&mut self, client: usize) {
        let Client {
            core, connection, ..
        } = self.clients[client];
        self.clients[client].open = false;
        let lane = &mut self.cores[usize::from(core.get())].lane;
        lane.connection_closed(self.now, connection);
    }

    /// A client's bytes arrive.
    pub(crate) fn receive(&mut self, client: usize, bytes: &[u8]) {
        let mut taken = 0;
        while taken < bytes.len() {
            taken += self.receive_once(client, &bytes[taken..]);
        }
    }

    /// A client's bytes arrive; how many of them were taken in.
    pub(crate) fn receive_once(&mut self, client: usize, bytes: &[u8]) -> usize {
        let Client {
            core, connection, ..
        } = self.clients[client];
        let lane = &mut self.cores[usize::from(core.get())].lane;
        lane.received(self.now, connection, bytes)
    }

    /// A client reads everything that was sent to it, and goes on reading.
    pub(crate) fn start_reading(&mut self, client: usize) {
        let Client {
            core, connection, ..
        } = self.clients[client];
        self.clients[client].reading = true;
        let bytes = self.clients[client].read();
        let lane = &mut self.cores[usize::from(core.get())].lane;
        lane.sent(self.now, connection, bytes);
        if self.clients[client].closed_by_broker && self.clients[client].open {
            self.disconnect(client);
        }
    }
}

/// Whether a future is ready at once.
fn is_ready(future: impl Future<Output = ()>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    pin!(future).poll(&mut context).is_ready()
}

fn dir(id: StoreId) -> String {
    format!("store-{:04}", id.get())
}

fn store_config(config: &BrokerConfig) -> StoreConfig {
    StoreConfig {
        // What a close leaves in the journal is not in the segments that tests look at.
        close_replay_bytes_max: 0,
        ..config.store_config()
    }
}

impl World {
    /// Appends to a topic of its own until the journals of a core's stores are full; the next
    /// `settle` writes them out.
    pub(crate) fn fill_journals(&mut self, number: u16) {
        for store in 0..self.cores[usize::from(number)].stores.len() {
            self.fill_journal(number, store);
        }
    }

    /// The same for one of the core's stores.
    pub(crate) fn fill_journal(&mut self, number: u16, store: usize) {
        let filler = match self.cores[0].lane.image().topic_named("filler") {
            Some(topic) => topic.id,
            None => self.create("filler", 4 * u32::from(number + 1), &[]),
        };
        let sizes = [100_000, 1000, 1];
        let batches = sizes.map(|size| crate::client::batch(&["x".repeat(size).as_str()]));
        let store = &self.cores[usize::from(number)].stores[store];
        let mut partitions = store.partitions().into_iter();
        let partition = partitions.find(|partition| partition.topic == filler);
        let partition = partition.expect("the filler has a partition in every store");
        for batch in &batches {
            let mut appended = 0;
            while store.append(partition, batch, self.now.wall).is_ok() {
                appended += 1;
                assert!(appended < 10_000, "the journal never fills");
            }
        }
        let refusal = store.append(partition, &batches[2], self.now.wall);
        assert_eq!(refusal, Err(AppendError::JournalFull));
    }

    /// The end of a partition's log, in memory.
    pub(crate) fn log_end(&self, number: u16, partition: corelane_protocol::TopicPartition) -> u64 {
        let stores = self.cores[usize::from(number)].stores.iter();
        let offsets = stores.filter_map(|store| store.offsets(partition).ok());
        offsets
            .map(|offsets| offsets.log_end.get())
            .next()
            .expect("a partition of this core")
    }
}
