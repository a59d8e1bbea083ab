//! One life of a broker's process: from the first look at the data directory to its end.
//!
//! Owns the cores and the order in which they start and end together, as `broker/src/runtime` does. Its disk
//! outlives it and belongs to the machine.

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use corelane_broker::config::BrokerConfig;
use corelane_broker::lane::{
    ConnectionId, Lane, LaneParts, Mail, Now, StoresFound, Topology, open_store, reconcile,
    refusal_frame,
};
use corelane_broker::metadata::MetadataImage;
use corelane_broker::runtime::MetadataLog;
use corelane_protocol::response::CoreAddress;
use corelane_protocol::{BrokerId, CoreId, StoreId, Timestamp, TopicId, TopicPartition};
use corelane_storage::directory::{self, DirectoryIdentity, Opened};
use corelane_storage::disk::memory::MemoryDisk;
use corelane_storage::memory::Ledger;
use corelane_storage::store::{CompactionMeters, LogState, RecoveryReport, Store};
use corelane_storage::testing::{Executor, JoinHandle, Random};
use uuid::Uuid;

use crate::shell::{CoreClock, Outgoing, Shell};

/// Something that reaches a core from outside of it.
#[derive(Debug)]
pub(crate) enum Input {
    /// A client has connected; the number is the network's.
    Opened(u64),
    Received(ConnectionId, Vec<u8>),
    Sent(ConnectionId, usize),
    Closed(ConnectionId),
    Mail(CoreId, Mail),
    Tick,
}

/// One core of a running process.
pub(crate) struct Core {
    pub(crate) executor: Executor,
    pub(crate) clock: CoreClock,
    pub(crate) shell: Option<Rc<Shell>>,
    pub(crate) inbox: VecDeque<Input>,
    /// It does nothing before this time.
    pub(crate) busy_until_us: u64,
    /// A turn of it is planned already.
    pub(crate) is_turn_planned: bool,
    /// When its next planned tick is.
    pub(crate) armed_us: Option<u64>,
}

/// What a turn of a core made of a connection attempt.
pub(crate) enum Opening {
    Accepted(ConnectionId),
    /// To be sent before the connection closes.
    Refused(Vec<u8>),
}

struct Loaded {
    identity: DirectoryIdentity,
    is_new: bool,
    image: MetadataImage,
    log: MetadataLog<MemoryDisk>,
}

struct Recovered {
    stores: Vec<Rc<Store<MemoryDisk>>>,
    reports: Vec<(StoreId, RecoveryReport)>,
    ledger: Rc<Ledger>,
}

enum Phase {
    Loading(JoinHandle<Result<Loaded, String>>),
    Recovering {
        loaded: Box<Loaded>,
        topology: Arc<Topology>,
        cores: Vec<Pending<Result<Recovered, String>>>,
    },
    Finishing {
        done: JoinHandle<Result<(), String>>,
        loaded: Box<Loaded>,
        topology: Arc<Topology>,
        recovered: Vec<Recovered>,
    },
    Serving,
    Draining,
    Closing(Vec<Pending<Vec<String>>>),
    Over,
}

/// What a task will have found, and what it has.
struct Pending<T> {
    handle: JoinHandle<T>,
    value: Option<T>,
}

impl<T> Pending<T> {
    fn new(handle: JoinHandle<T>) -> Self {
        Self {
            handle,
            value: None,
        }
    }

    fn is_done(&mut self) -> bool {
        if self.value.is_none() {
            self.value = self.handle.try_take();
        }
        self.value.is_some()
    }
}

/// A step in a process's life.
pub(crate) enum Milestone {
    /// It accepts connections. What each store's recovery found, and whether the data directory is new.
    Serves {
        reports: Vec<(StoreId, RecoveryReport)>,
        is_new: bool,
    },
    /// It has ended by itself; the problems that it met. Clean if there were none.
    Ended(Vec<String>),
    /// It could not start.
    Failed(String),
}

pub(crate) struct Process {
    pub(crate) life: u32,
    pub(crate) cores: Vec<Core>,
    disk: MemoryDisk,
    config: Arc<BrokerConfig>,
    random: Random,
    phase: Phase,
    metadata_log: Option<Rc<MetadataLog<MemoryDisk>>>,
}

/// What a process is started with.
pub(crate) struct ProcessParts {
    pub(crate) life: u32,
    pub(crate) cores: u16,
    pub(crate) disk: MemoryDisk,
    pub(crate) config: Arc<BrokerConfig>,
    pub(crate) random: Random,
}

impl Process {
    pub(crate) fn start(parts: ProcessParts) -> Self {
        let ProcessParts {
            life,
            cores,
            disk,
            config,
            mut random,
        } = parts;
        let cores: Vec<Core> = (0..cores).map(|_| new_core(&mut random)).collect();
        let identity = DirectoryIdentity {
            cluster: uuid(&mut random),
            directory: uuid(&mut random),
            stores: config.server.stores,
        };
        let load = load(disk.clone(), identity);
        let phase = Phase::Loading(cores[0].executor.spawn(load));
        Self {
            life,
            cores,
            disk,
            config,
            random,
            phase,
            metadata_log: None,
        }
    }

    pub(crate) fn is_serving(&self) -> bool {
        matches!(self.phase, Phase::Serving)
    }

    pub(crate) fn is_ending(&self) -> bool {
        matches!(
            self.phase,
            Phase::Draining | Phase::Closing(_) | Phase::Over
        )
    }

    /// The shells of all cores, while there are some.
    pub(crate) fn shells(&self) -> impl Iterator<Item = &Rc<Shell>> {
        self.cores.iter().filter_map(|core| core.shell.as_ref())
    }

    /// The leader epochs of the partitions that the open stores have, each with its store and
    /// whether it is not recorded yet.
    pub(crate) fn leader_epochs(&self) -> Vec<(StoreId, TopicPartition, u32, bool)> {
        let stores = self.shells().flat_map(|shell| shell.stores.iter());
        let mut epochs = Vec::new();
        for store in stores.filter(|store| store.unfit().is_none()) {
            for partition in store.partitions() {
                if let Some(epoch) = store.leader_epoch(partition) {
                    let awaits_room = store.awaits_epoch(partition);
                    epochs.push((store.id(), partition, epoch.get(), awaits_room));
                }
            }
        }
        epochs
    }

    /// The partitions that the open stores have, each with its store and the end of its log.
    pub(crate) fn log_ends(&self) -> Vec<(StoreId, TopicPartition, u64)> {
        let stores = self.shells().flat_map(|shell| shell.stores.iter());
        let mut ends = Vec::new();
        for store in stores.filter(|store| store.unfit().is_none()) {
            for partition in store.partitions() {
                if let Ok(offsets) = store.offsets(partition) {
                    ends.push((store.id(), partition, offsets.log_end.get()));
                }
            }
        }
        ends
    }

    /// Where the logs in service begin.
    pub(crate) fn log_starts(&self) -> Vec<(TopicPartition, u64)> {
        let stores = self.shells().flat_map(|shell| shell.stores.iter());
        let fit = stores.filter(|store| store.unfit().is_none());
        let starts = fit.flat_map(|store| {
            let partitions = store.partitions().into_iter();
            partitions.filter_map(|partition| {
                let offsets = store.offsets(partition).ok()?;
                Some((partition, offsets.log_start.get()))
            })
        });
        starts.collect()
    }

    /// What compaction has done in this life.
    pub(crate) fn compaction(&self) -> CompactionMeters {
        let stores = self.shells().flat_map(|shell| shell.stores.iter());
        let mut all = CompactionMeters::default();
        for meters in stores.map(|store| store.metrics().compaction) {
            all.passes += meters.passes;
            all.records_removed += meters.records_removed;
        }
        all
    }

    /// What scrubbing has found in each partition in service, by the partition's directory.
    pub(crate) fn damage_told(&self) -> Vec<(String, Vec<Rc<str>>)> {
        let stores = self.shells().flat_map(|shell| shell.stores.iter());
        let mut told = Vec::new();
        for store in stores.filter(|store| store.unfit().is_none()) {
            for partition in store.partitions() {
                let description = store.describe(partition);
                let description = description
                    .ok()
                    .filter(|found| found.state == LogState::Online);
                if let Some(description) = description {
                    let store = store.id().get();
                    let (topic, index) = (partition.topic, partition.partition.get());
                    let dir = format!("store-{store:04}/{topic}/{index}/");
                    told.push((dir, description.damage));
                }
            }
        }
        told
    }

    /// Lets one core take its inputs and run until it waits. Returns what became of connection attempts.
    pub(crate) fn turn(&mut self, index: usize, now: Now) -> Vec<(u64, Opening)> {
        let takes_input = matches!(self.phase, Phase::Serving | Phase::Draining);
        let core = &mut self.cores[index];
        core.clock.set(now);
        let mut opened = Vec::new();
        while let Some(input) = core.inbox.pop_front() {
            let Some(shell) = core.shell.as_ref().filter(|_| takes_input) else {
                continue;
            };
            match input {
                Input::Opened(number) => {
                    let port = 10_000 + (number % 50_000) as u16;
                    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                    let opening = shell.event(|lane, now| lane.connection_opened(now, peer));
                    let opening = match opening {
                        Ok(id) => Opening::Accepted(id),
                        Err(error) => Opening::Refused(refusal_frame(&error)),
                    };
                    opened.push((number, opening));
                }
                Input::Received(id, bytes) => {
                    let taken = shell.event(|lane, now| lane.received(now, id, &bytes));
                    if taken < bytes.len() {
                        let rest = bytes[taken..].to_vec();
                        core.inbox.push_front(Input::Received(id, rest));
                    }
                }
                Input::Sent(id, bytes) => shell.event(|lane, now| lane.sent(now, id, bytes)),
                Input::Closed(id) => shell.event(|lane, now| lane.connection_closed(now, id)),
                Input::Mail(from, mail) => shell.event(|lane, now| lane.mail(now, from, mail)),
                Input::Tick => shell.event(Lane::tick),
            }
            if self.random.chance(1, 3) {
                core.executor.run_until_stalled();
            }
        }
        core.executor.run_until_stalled();
        opened
    }

    /// What leaves a core since its last turn.
    pub(crate) fn poll_outgoing(&self, index: usize) -> Option<Outgoing> {
        self.cores[index].shell.as_ref()?.poll_outgoing()
    }

    /// Begins an orderly end.
    pub(crate) fn begin_shutdown(&mut self) {
        if !self.is_serving() {
            return;
        }
        self.phase = Phase::Draining;
        for shell in self.shells() {
            shell.event(Lane::begin_shutdown);
        }
    }

    /// Goes on to the next phase if this one is done.
    pub(crate) fn advance(&mut self) -> Option<Milestone> {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Loading(done) => match done.try_take() {
                None => self.phase = Phase::Loading(done),
                Some(Err(problem)) => return Some(Milestone::Failed(problem)),
                Some(Ok(loaded)) => self.recover(loaded),
            },
            Phase::Recovering {
                loaded,
                topology,
                mut cores,
            } => {
                if !cores.iter_mut().all(Pending::is_done) {
                    self.phase = Phase::Recovering {
                        loaded,
                        topology,
                        cores,
                    };
                    return None;
                }
                let values = cores
                    .into_iter()
                    .map(|core| core.value.expect("all are done"));
                match values.collect::<Result<Vec<_>, _>>() {
                    Err(problem) => return Some(Milestone::Failed(problem)),
                    Ok(recovered) => return self.recovered(loaded, topology, recovered),
                }
            }
            Phase::Finishing {
                done,
                loaded,
                topology,
                recovered,
            } => match done.try_take() {
                None => {
                    self.phase = Phase::Finishing {
                        done,
                        loaded,
                        topology,
                        recovered,
                    };
                }
                Some(Err(problem)) => return Some(Milestone::Failed(problem)),
                Some(Ok(())) => return Some(self.serve(*loaded, &topology, recovered)),
            },
            Phase::Serving => self.phase = Phase::Serving,
            Phase::Draining => {
                let is_drained = self.shells().all(|shell| shell.lane.borrow().is_drained());
                self.phase = if is_drained {
                    self.close()
                } else {
                    Phase::Draining
                };
            }
            Phase::Closing(mut cores) => {
                if !cores.iter_mut().all(Pending::is_done) {
                    self.phase = Phase::Closing(cores);
                    return None;
                }
                let problems = cores.into_iter().filter_map(|core| core.value).flatten();
                return Some(Milestone::Ended(problems.collect()));
            }
            Phase::Over => {}
        }
        None
    }

    /// Every core opens its stores.
    fn recover(&mut self, loaded: Loaded) {
        let topology = Arc::new(topology(&self.config, self.cores.len(), &loaded.identity));
        let mut cores = Vec::new();
        for (number, core) in (0..).zip(&self.cores) {
            let task = open_stores(OpenStores {
                core: CoreId::new(number),
                disk: self.disk.clone(),
                config: Arc::clone(&self.config),
                topology: Arc::clone(&topology),
                is_new: loaded.is_new,
                image: loaded.image.clone(),
                uuids: self.random.fork(),
                spawner: core.executor.spawner(),
            });
            cores.push(Pending::new(core.executor.spawn(task)));
        }
        self.phase = Phase::Recovering {
            loaded: Box::new(loaded),
            topology,
            cores,
        };
    }

    fn recovered(
        &mut self,
        loaded: Box<Loaded>,
        topology: Arc<Topology>,
        recovered: Vec<Recovered>,
    ) -> Option<Milestone> {
        if !loaded.is_new {
            return Some(self.serve(*loaded, &topology, recovered));
        }
        let (disk, identity) = (self.disk.clone(), loaded.identity);
        let done = self.cores[0].executor.spawn(async move {
            let finished = directory::finish(&disk, &identity).await;
            finished.map_err(|error| error.to_string())
        });
        self.phase = Phase::Finishing {
            done,
            loaded,
            topology,
            recovered,
        };
        None
    }

    fn serve(
        &mut self,
        loaded: Loaded,
        topology: &Arc<Topology>,
        recovered: Vec<Recovered>,
    ) -> Milestone {
        let stores = recovered.iter().flat_map(|recovered| &recovered.stores);
        let found = StoresFound::of(stores);
        let log = Rc::new(loaded.log);
        let mut reports = Vec::new();
        for (number, recovered) in (0..).zip(recovered) {
            reports.extend(recovered.reports);
            let mut ids = self.random.fork();
            let lane = Lane::new(LaneParts {
                core: CoreId::new(number),
                config: Arc::clone(&self.config),
                topology: Arc::clone(topology),
                stores: recovered.stores.clone(),
                found: found.clone(),
                ledger: recovered.ledger,
                image: loaded.image.clone(),
                topic_ids: Box::new(move || TopicId::new(uuid(&mut ids))),
            });
            let core = &mut self.cores[usize::from(number)];
            let (clock, spawner) = (Rc::clone(&core.clock), core.executor.spawner());
            let shell = Shell::new(lane, recovered.stores, clock, spawner);
            shell.start_tasks((number == 0).then(|| Rc::clone(&log)));
            core.shell = Some(shell);
        }
        self.metadata_log = Some(log);
        self.phase = Phase::Serving;
        Milestone::Serves {
            reports,
            is_new: loaded.is_new,
        }
    }

    /// Every core closes its stores; core 0 marks the metadata log as well.
    fn close(&mut self) -> Phase {
        let mut log = self.metadata_log.take();
        let mut cores = Vec::new();
        for core in &mut self.cores {
            core.inbox.clear();
            let stores: Vec<_> = core
                .shell
                .iter()
                .flat_map(|shell| shell.stores.clone())
                .collect();
            let log = log.take();
            cores.push(Pending::new(core.executor.spawn(async move {
                let mut problems = Vec::new();
                for store in stores.iter().filter(|store| store.unfit().is_none()) {
                    if let Err(error) = store.close().await {
                        problems.push(format!("store {}: {error}", store.id()));
                    }
                }
                if let Some(log) = log
                    && let Err(error) = log.mark_clean().await
                {
                    problems.push(format!("metadata log: {error}"));
                }
                problems
            })));
        }
        Phase::Closing(cores)
    }

    /// The process is gone where it stands.
    pub(crate) fn kill(self) {
        for core in &self.cores {
            core.executor.crash();
        }
    }
}

fn new_core(random: &mut Random) -> Core {
    let now = Now {
        wall: Timestamp::new(0),
        monotonic_us: 0,
    };
    Core {
        executor: Executor::new(random.next_u64()).without_a_word(),
        clock: Rc::new(Cell::new(now)),
        shell: None,
        inbox: VecDeque::new(),
        busy_until_us: 0,
        is_turn_planned: false,
        armed_us: None,
    }
}

fn uuid(random: &mut Random) -> Uuid {
    let (high, low) = (u128::from(random.next_u64()), u128::from(random.next_u64()));
    Uuid::from_u128(high << 64 | low)
}

/// What core 0 does first.
async fn load(disk: MemoryDisk, new: DirectoryIdentity) -> Result<Loaded, String> {
    let opened = directory::open(&disk, new)
        .await
        .map_err(|error| error.to_string())?;
    match opened {
        Opened::New(identity) => {
            let log = MetadataLog::create(&disk, &identity).await;
            Ok(Loaded {
                identity,
                is_new: true,
                image: MetadataImage::new(),
                log: log.map_err(|error| error.to_string())?,
            })
        }
        Opened::Existing(identity) => {
            let opened = MetadataLog::open(&disk).await;
            let (log, image) = opened.map_err(|error| error.to_string())?;
            Ok(Loaded {
                identity,
                is_new: false,
                image,
                log,
            })
        }
    }
}

struct OpenStores {
    core: CoreId,
    disk: MemoryDisk,
    config: Arc<BrokerConfig>,
    topology: Arc<Topology>,
    is_new: bool,
    image: MetadataImage,
    uuids: Random,
    spawner: corelane_storage::testing::Spawner,
}

/// What each core does before it serves.
async fn open_stores(parts: OpenStores) -> Result<Recovered, String> {
    let OpenStores {
        core,
        disk,
        config,
        topology,
        is_new,
        image,
        mut uuids,
        spawner,
    } = parts;
    let memory = config.memory.per_core_bytes as usize;
    let ledger = Rc::new(Ledger::new(memory, memory / 4 * 3));
    let (mut stores, mut reports) = (Vec::new(), Vec::new());
    for id in topology.stores_of(core) {
        let dir = format!("store-{:04}", id.get());
        let settings = config.store_config();
        if is_new {
            let created = Store::create(&disk, &dir, id, uuid(&mut uuids), &settings).await;
            created.map_err(|error| format!("store {id}: {error}"))?;
        }
        let opened = open_store(&disk, &dir, id, settings, &ledger, &image, &config).await;
        let (store, report) = opened.map_err(|error| format!("store {id}: {error}"))?;
        for task in store.tasks() {
            spawner.spawn(task);
        }
        stores.push(store);
        reports.push((id, report));
    }
    let reconciled = reconcile(&image, &config, &topology, core, &stores).await;
    reconciled.map_err(|error| error.to_string())?;
    Ok(Recovered {
        stores,
        reports,
        ledger,
    })
}

fn topology(config: &BrokerConfig, cores: usize, identity: &DirectoryIdentity) -> Topology {
    let count = u16::try_from(cores).expect("cores are numbered by u16");
    let host = format!("broker-{}", config.server.broker_id);
    Topology {
        broker_id: BrokerId::new(config.server.broker_id),
        cluster_id: identity.cluster,
        port: 9500,
        cores: (0..count)
            .map(|core| CoreAddress {
                core: CoreId::new(core),
                host: host.clone(),
                port: 9600 + core,
            })
            .collect(),
        host,
        stores: (0..identity.stores)
            .map(|store| CoreId::new(store % count))
            .collect(),
    }
}
