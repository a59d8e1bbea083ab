//! The life of one core: the main future of its executor.

use std::fs::File;
use std::rc::Rc;
use std::sync::Arc;

use corelane_protocol::{CoreId, StoreId, TopicId};
use corelane_storage::directory::{self, DirectoryIdentity};
use corelane_storage::disk::Disk;
use corelane_storage::disk::uring::UringDisk;
use corelane_storage::ring::{Acceptor, Features, Ring, RingAddress};
use corelane_storage::store::Store;
use uuid::Uuid;

use super::clock::Clock;
use super::link::{Ended, Event, GivenUp, Link, Order};
use super::metadata_log::MetadataLog;
use super::shell::{Clients, Shell, ShellParts};
use super::{StartError, StopError, executor, prepare};
use crate::admin::AskSeat;
use crate::config::BrokerConfig;
use crate::io::{Connections, Listeners, Mailbox, MailboxSeat, TaskGroup, accept};
use crate::lane::{Lane, LaneParts, Mail, StoresFound, reconcile};

/// What a core is given. Moves to its thread.
pub(super) struct CoreParts {
    pub(super) config: Arc<BrokerConfig>,
    pub(super) features: Features,
    pub(super) listeners: Listeners,
    pub(super) seat: MailboxSeat<Mail>,
    /// Where the admin thread's questions come from.
    pub(super) asks: AskSeat,
    pub(super) clock: Clock,
    /// The file whose lock guards the data directory.
    pub(super) lock: Arc<File>,
    pub(super) link: Link,
}

/// Why a core does not serve.
enum NotServing {
    /// Another core has failed, or the starting thread is gone.
    GivenUp,
    Failed(StartError),
}

impl From<GivenUp> for NotServing {
    fn from(_: GivenUp) -> Self {
        Self::GivenUp
    }
}

impl<E: Into<StartError>> From<E> for NotServing {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// From the ring's first turn to its last.
pub(super) async fn live(parts: CoreParts) -> Ended {
    let core = parts.link.core;
    let ring = match executor::start_ring(core, &parts.features) {
        Ok(ring) => ring,
        Err(error) => {
            parts.link.report(Event::Failed(error));
            return Ended::new();
        }
    };
    let held = ring.hold(&parts.lock);
    if let Err(error) = &held {
        tracing::warn!(
            %error,
            core,
            "after a kill the directory's lock may be free while writes are in flight: wait before a restart"
        );
    }
    let groups = Groups::default();
    let start_parts = StartParts {
        config: parts.config,
        listeners: parts.listeners,
        seat: parts.seat,
        asks: parts.asks,
        clock: parts.clock,
    };
    let ended = match start(&parts.link, &ring, &groups, start_parts).await {
        Ok(serving) => serving.until_ended(&parts.link, &groups).await,
        Err(NotServing::GivenUp) => Ended::new(),
        Err(NotServing::Failed(error)) => {
            parts.link.report(Event::Failed(error));
            Ended::new()
        }
    };
    for group in [&groups.accepting, &groups.serving, &groups.stores] {
        group.stop();
        group.ended().await;
    }
    ring.close().await;
    drop(held);
    ended
}

/// A core's tasks, in the order in which they end.
#[derive(Default)]
struct Groups {
    /// Those that accept connections.
    accepting: TaskGroup,
    /// Connections, mail, and what follows the stores.
    serving: TaskGroup,
    /// The stores' own.
    stores: TaskGroup,
}

struct StartParts {
    config: Arc<BrokerConfig>,
    listeners: Listeners,
    seat: MailboxSeat<Mail>,
    asks: AskSeat,
    clock: Clock,
}

/// Everything until the core accepts connections, in step with the other cores.
async fn start(
    link: &Link,
    ring: &Ring,
    groups: &Groups,
    parts: StartParts,
) -> Result<Serving<UringDisk>, NotServing> {
    let StartParts {
        config,
        listeners,
        seat,
        asks,
        clock,
    } = parts;
    link.report(Event::Joined(ring.address()));
    let Order::Addresses(addresses) = link.order(ring).await? else {
        unreachable!("addresses come first");
    };
    let data_dir = &config.server.data_dir;
    let disk = UringDisk::open(ring, data_dir).await.map_err(|source| {
        NotServing::Failed(StartError::DataDirectory {
            path: data_dir.clone(),
            source,
        })
    })?;
    if link.core == 0 && !disk.is_direct() {
        tracing::warn!(
            data_dir = %data_dir.display(),
            "this filesystem has no direct I/O: files go through the page cache; writes are as durable, and slower"
        );
    }
    let mut metadata_log = None;
    let mut identity = None;
    if link.core == 0 {
        let (loaded, log) = prepare::load(&disk, &config, addresses.len()).await?;
        identity = loaded.is_new.then_some(loaded.identity);
        metadata_log = Some(Rc::new(log));
        link.report(Event::Loaded(Box::new(loaded)));
    }
    let Order::Recover(recover) = link.order(ring).await? else {
        unreachable!("recovery follows");
    };
    let ledger = prepare::ledger(&config);
    let core = core_id(link.core);
    let mut stores = Vec::new();
    for id in recover.topology.stores_of(core) {
        let store = prepare::open_store(&disk, id, &recover, &config, &ledger).await?;
        for task in store.tasks() {
            groups.stores.spawn_until_stopped(task);
        }
        stores.push(store);
    }
    let reconciled = reconcile(&recover.image, &config, &recover.topology, core, &stores).await?;
    tracing::info!(core = link.core, ?reconciled, "stores follow the metadata");
    link.report(Event::Recovered(StoresFound::of(&stores)));
    let found = finish_directory(link, ring, &disk, identity.as_ref()).await?;
    let (mailbox, incoming) = Mailbox::new(seat, ring.clone(), addresses.clone());
    let tasks = groups.serving.clone();
    let connections = Connections::new(ring.clone(), tasks.clone());
    let lane = Lane::new(LaneParts {
        core,
        config: config.clone(),
        topology: recover.topology.clone(),
        stores: stores.clone(),
        found,
        ledger,
        image: recover.image.clone(),
        topic_ids: Box::new(new_topic_id),
    });
    let shell = Shell::new(ShellParts {
        lane,
        ring: ring.clone(),
        clock,
        tasks: tasks.clone(),
        connections,
        mailbox: mailbox.clone(),
        stores: stores.clone(),
        asks,
    });
    shell.start_tasks(metadata_log.clone());
    let (mail_shell, woken_shell) = (shell.clone(), shell.clone());
    tasks.spawn_until_stopped(mailbox.clone().receive(
        incoming,
        move |from, mail| mail_shell.deliver(from, mail),
        move || woken_shell.woken(),
    ));
    tasks.spawn_until_stopped(mailbox.retry());
    ring.forget_turns();
    listen(link.core, ring, &shell, listeners, &groups.accepting)?;
    link.report(Event::Ready);
    Ok(Serving {
        config,
        addresses,
        shell,
        stores: recover.topology.stores_of(core).zip(stores).collect(),
        metadata_log,
    })
}

/// Waits for the order to listen; before it core 0 marks a new directory as finished. Gives what the
/// stores of all cores are.
async fn finish_directory<D: Disk>(
    link: &Link,
    ring: &Ring,
    disk: &D,
    new: Option<&DirectoryIdentity>,
) -> Result<StoresFound, NotServing> {
    loop {
        match link.order(ring).await? {
            Order::Finish => {
                let identity = new.expect("asked of core 0, for a new directory");
                directory::finish(disk, identity).await?;
                link.report(Event::Finished);
            }
            Order::Listen(found) => return Ok(found),
            Order::Addresses(_) | Order::Recover(_) => unreachable!("came before"),
        }
    }
}

fn listen<D: Disk>(
    core: usize,
    ring: &Ring,
    shell: &Rc<Shell<D>>,
    listeners: Listeners,
    accepting: &TaskGroup,
) -> Result<(), NotServing> {
    let address = listeners.own_address;
    let failed = |source| NotServing::Failed(StartError::Listen { address, source });
    let (bootstrap, own) = listeners.listen().map_err(failed)?;
    let clients = Rc::new(Clients {
        shell: shell.clone(),
    });
    for listener in [bootstrap, own] {
        accepting.spawn_until_stopped(accept(
            ring.clone(),
            Acceptor::new(ring, listener),
            shell.connections.clone(),
            clients.clone(),
        ));
    }
    tracing::info!(core, %address, "accepts connections");
    Ok(())
}

/// A core that serves.
struct Serving<D: Disk> {
    config: Arc<BrokerConfig>,
    addresses: Vec<RingAddress>,
    shell: Rc<Shell<D>>,
    stores: Vec<(StoreId, Rc<Store<D>>)>,
    metadata_log: Option<Rc<MetadataLog<D>>>,
}

impl<D: Disk> Serving<D> {
    async fn until_ended(self, link: &Link, groups: &Groups) -> Ended {
        let state = link.state.clone();
        self.shell.watch(|| state.is_ending()).await;
        let mut problems = Ended::new();
        groups.accepting.stop();
        groups.accepting.ended().await;
        if !state.is_abandoned() {
            problems.extend(self.drain(link).await);
        }
        self.shell.connections.close_all();
        groups.serving.stop();
        groups.serving.ended().await;
        if !state.is_abandoned() {
            problems.extend(self.close().await);
        }
        problems
    }

    /// Answers what is in flight, and waits until every core has: until then others may forward to this one.
    async fn drain(&self, link: &Link) -> Option<StopError> {
        let state = &link.state;
        self.shell.begin_shutdown();
        self.shell
            .watch(|| self.shell.is_drained() || state.is_abandoned())
            .await;
        let is_idle = self.shell.is_idle();
        if state.core_drained() {
            for address in &self.addresses {
                address.signal();
            }
        }
        self.shell
            .watch(|| state.all_drained() || state.is_abandoned())
            .await;
        let problem = StopError::NotDrained {
            core: link.core,
            patience_ms: self.config.server.shutdown_drain_ms,
        };
        (!is_idle).then_some(problem)
    }

    async fn close(&self) -> Ended {
        let mut problems = Ended::new();
        // A store that is out of service was never opened, and has nothing to close.
        let open = self
            .stores
            .iter()
            .filter(|(_, store)| store.unfit().is_none());
        for (id, store) in open {
            if let Err(error) = store.close().await {
                problems.push(StopError::Store {
                    store: *id,
                    problem: error.to_string(),
                });
            }
        }
        if let Some(log) = &self.metadata_log
            && let Err(error) = log.mark_clean().await
        {
            problems.push(StopError::MetadataLog(error.to_string()));
        }
        problems
    }
}

fn core_id(core: usize) -> CoreId {
    CoreId::new(u16::try_from(core).expect("cores are numbered by u16"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "identities are made here and passed in"
)]
fn new_topic_id() -> TopicId {
    TopicId::from_bytes(*Uuid::new_v4().as_bytes())
}
