//! Starting a broker: what happens once, on the caller's thread, and keeps the cores in step.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use corelane_protocol::response::CoreAddress;
use corelane_protocol::{BrokerId, CoreId};
use corelane_storage::directory::DirectoryIdentity;
use corelane_storage::memory::prepare_ahead;
use corelane_storage::ring::{Features, ProbeError, RingAddress, probe};

use super::clock::Clock;
use super::guard::{AbortOnPanic, DirectoryLock};
use super::life::{CoreParts, live};
use super::link::{BrokerState, Ended, Event, Link, Loaded, Order, Recover, Report};
use super::{Running, ShutdownHandle, StartError, cores, executor, open_files};
use crate::admin::{self, About, AdminEndpoint, Serving, asks};
use crate::config::{BrokerConfig, format_bytes};
use crate::io::{bind, mailboxes};
use crate::lane::{StoresFound, Topology};

/// From so long on a step of the start is told of, with what each core has reported.
const LONG_STEP: Duration = Duration::from_secs(10);

/// Starts a broker and returns once it accepts connections.
///
/// # Errors
/// `StartError`, whose text says what to do. Nothing of the broker is left then.
pub fn serve(config: BrokerConfig) -> Result<Running, StartError> {
    serve_probed(config, probe)
}

/// As [`serve`], with another look at the kernel than the usual one, such as one that overlooks what an older
/// kernel has not.
///
/// # Errors
/// As `serve`.
pub fn serve_probed(
    config: BrokerConfig,
    probe: impl FnMut() -> Result<Features, ProbeError>,
) -> Result<Running, StartError> {
    let config = Arc::new(config);
    let lock = DirectoryLock::acquire(&config.server.data_dir)?;
    let features = executor::patiently(probe)?;
    for fallback in features.fallbacks() {
        tracing::warn!("{fallback}");
    }
    tracing::info!(
        memory_of_core = format_bytes(config.memory.per_core_bytes),
        journal_files_of_store = config.journal.files_max,
        segment_files_of_store = config.log.open_files_max,
        open_files = open_files::raise_limit(),
        "takes at most"
    );
    let cpus = cores::assign(&config.server.cores, &cores::available())?;
    let address = config.server.listen;
    let listeners =
        bind(address, cpus.len()).map_err(|source| StartError::Listen { address, source })?;
    let admin = bind_admin(&config)?;
    let bootstrap = listeners[0].bootstrap_address;
    let own: Vec<SocketAddr> = listeners.iter().map(|core| core.own_address).collect();

    let state = Arc::new(BrokerState::new(cpus.len()));
    let (reports, incoming) = mpsc::channel();
    let clock = Clock::start();
    let started_ms = clock.now().wall.get();
    let (lines, asks) = asks(cpus.len());
    let admin = admin
        .map(|(address, listener)| {
            let state = state.clone();
            let is_ending = move || state.is_ending();
            AdminEndpoint::start(listener, lines, clock, is_ending)
                .map_err(|source| StartError::AdminListen { address, source })
        })
        .transpose()?;
    let mut start = Start {
        orders: Vec::new(),
        threads: Vec::new(),
        reports: incoming,
        reported: vec!["it has not begun"; cpus.len()],
        state: state.clone(),
    };
    let seats = mailboxes(cpus.len());
    let seats = seats.into_iter().zip(asks);
    let cores = cpus.iter().zip(listeners).zip(seats).enumerate();
    for (core, ((cpu, listeners), (seat, asks))) in cores {
        let (orders, receiver) = mpsc::channel();
        let parts = CoreParts {
            config: config.clone(),
            features: features.clone(),
            listeners,
            seat,
            asks,
            clock,
            lock: lock.file(),
            link: Link::new(core, reports.clone(), receiver, state.clone()),
        };
        let thread = spawn(core, *cpu, parts).map_err(|error| start.give_up(error))?;
        start.orders.push(orders);
        start.threads.push(thread);
    }
    drop(reports);
    let (addresses, topology) = start
        .run(&config, bootstrap, &own)
        .map_err(|error| start.give_up(error))?;
    if let Some(admin) = &admin {
        admin.broker_serves(Serving {
            about: About {
                broker_id: config.server.broker_id,
                cluster_id: topology.cluster_id.to_string(),
                bootstrap: bootstrap.to_string(),
                started_ms,
                partition_series_max: config.admin.partition_series_max as usize,
            },
            addresses: addresses.clone(),
        });
        tracing::info!(address = %admin.address(), "metrics, health and readiness");
    }
    tracing::info!(%bootstrap, cores = own.len(), "the broker is ready");
    Ok(Running {
        bootstrap,
        cores: own,
        handle: ShutdownHandle::new(state, addresses),
        threads: start.threads,
        admin,
        _lock: lock,
    })
}

/// The listener of the admin endpoint, if there is to be one.
fn bind_admin(config: &BrokerConfig) -> Result<Option<(SocketAddr, TcpListener)>, StartError> {
    let Some(address) = config.admin.listen else {
        return Ok(None);
    };
    let bound = admin::bind(address);
    let listener = bound.map_err(|source| StartError::AdminListen { address, source })?;
    Ok(Some((address, listener)))
}

fn spawn(core: usize, cpu: usize, parts: CoreParts) -> Result<JoinHandle<Ended>, StartError> {
    let failed = move |problem: String| StartError::Core { core, problem };
    std::thread::Builder::new()
        .name(format!("core-{core}"))
        .spawn(move || {
            let _guard = AbortOnPanic { core };
            // Before this thread is bound to its CPU, so that the memory is not made ready there.
            let prepared = prepare_ahead()
                .map_err(|error| failed(format!("the thread that prepares its memory: {error}")));
            match prepared.and_then(|()| executor::make(core, cpu)) {
                Ok(executor) => executor.run(live(parts)),
                Err(error) => {
                    parts.link.report(Event::Failed(error));
                    Ended::new()
                }
            }
        })
        .map_err(|error| failed(format!("its thread: {error}")))
}

/// A start under way.
struct Start {
    orders: Vec<Sender<Order>>,
    threads: Vec<JoinHandle<Ended>>,
    reports: Receiver<Report>,
    /// What each core has reported last, in words.
    reported: Vec<&'static str>,
    state: Arc<BrokerState>,
}

impl Start {
    /// Takes the cores through their steps. Returns their rings' addresses, and who runs what.
    fn run(
        &mut self,
        config: &BrokerConfig,
        bootstrap: SocketAddr,
        own: &[SocketAddr],
    ) -> Result<(Vec<RingAddress>, Arc<Topology>), StartError> {
        let addresses = self.collect_addresses()?;
        self.order_all(|| Order::Addresses(addresses.clone()));
        let loaded = self.await_loaded()?;
        let topology = Arc::new(topology(config, bootstrap, own, &loaded.identity));
        warn_of_large_journals(config, &topology);
        let recover = Arc::new(Recover {
            topology: topology.clone(),
            is_new: loaded.is_new,
            image: loaded.image,
        });
        self.order_all(|| Order::Recover(recover.clone()));
        let found = self.await_recovered()?;
        if recover.is_new {
            self.order(0, Order::Finish);
            self.await_one(|event| matches!(event, Event::Finished))?;
        }
        self.order_all(|| Order::Listen(found.clone()));
        self.await_all(|event| matches!(event, Event::Ready))?;
        Ok((addresses, topology))
    }

    fn collect_addresses(&mut self) -> Result<Vec<RingAddress>, StartError> {
        let mut addresses = vec![None; self.threads.len()];
        for _ in 0..self.threads.len() {
            let Report { core, event } = self.report()?;
            let Event::Joined(address) = event else {
                unreachable!("a core joins first");
            };
            addresses[core] = Some(address);
        }
        let addresses: Option<Vec<_>> = addresses.into_iter().collect();
        Ok(addresses.expect("each core joins once"))
    }

    fn await_loaded(&mut self) -> Result<Loaded, StartError> {
        let Event::Loaded(loaded) = self.report()?.event else {
            unreachable!("the other cores wait for core 0");
        };
        Ok(*loaded)
    }

    /// Waits for every core; what their stores are.
    fn await_recovered(&mut self) -> Result<StoresFound, StartError> {
        let mut found = StoresFound::default();
        for _ in 0..self.threads.len() {
            let Event::Recovered(of_core) = self.report()?.event else {
                unreachable!("cores are in step");
            };
            found.extend(of_core);
        }
        Ok(found)
    }

    fn await_all(&mut self, is_expected: impl Fn(&Event) -> bool) -> Result<(), StartError> {
        for _ in 0..self.threads.len() {
            self.await_one(&is_expected)?;
        }
        Ok(())
    }

    fn await_one(&mut self, is_expected: impl Fn(&Event) -> bool) -> Result<(), StartError> {
        let report = self.report()?;
        assert!(is_expected(&report.event), "cores are in step");
        Ok(())
    }

    fn report(&mut self) -> Result<Report, StartError> {
        let report = loop {
            match self.reports.recv_timeout(LONG_STEP) {
                Ok(report) => break report,
                Err(RecvTimeoutError::Timeout) => {
                    for (core, reported) in self.reported.iter().enumerate() {
                        tracing::warn!(
                            core,
                            reported,
                            "the start takes long: what this core has reported last"
                        );
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("a core reports until it is ready, or ends the process")
                }
            }
        };
        self.reported[report.core] = report.event.name();
        match report.event {
            Event::Failed(error) => Err(error),
            _ => Ok(report),
        }
    }

    fn order(&self, core: usize, order: Order) {
        // A core that has failed meanwhile has reported it.
        let _ = self.orders[core].send(order);
    }

    fn order_all(&self, mut order: impl FnMut() -> Order) {
        for core in 0..self.orders.len() {
            self.order(core, order());
        }
    }

    /// Lets go of all cores and waits until they have ended. Those that serve already await no order.
    fn give_up(&mut self, error: StartError) -> StartError {
        self.orders.clear();
        self.state.abandon();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        error
    }
}

/// Fewer cores than before run more stores each. Such a start is not refused, since what is acknowledged has
/// to come back; but the core's memory may be too small for all of its stores' journals.
fn warn_of_large_journals(config: &BrokerConfig, topology: &Topology) {
    let cores = (0..topology.cores.len())
        .map(|core| CoreId::new(u16::try_from(core).expect("cores are numbered by u16")));
    let most = cores.map(|core| {
        topology
            .stores
            .iter()
            .filter(|owner| **owner == core)
            .count()
    });
    if let Err(problem) = config.check_journals_fit(most.max().unwrap_or(0)) {
        tracing::warn!("{problem}");
    }
}

fn topology(
    config: &BrokerConfig,
    bootstrap: SocketAddr,
    own: &[SocketAddr],
    identity: &DirectoryIdentity,
) -> Topology {
    let host = config
        .server
        .advertised_host
        .clone()
        .unwrap_or_else(|| bootstrap.ip().to_string());
    let cores: Vec<CoreAddress> = own
        .iter()
        .zip(0..)
        .map(|(address, core)| CoreAddress {
            core: CoreId::new(core),
            host: host.clone(),
            port: address.port(),
        })
        .collect();
    let count = u16::try_from(cores.len()).expect("cores are numbered by u16");
    Topology {
        broker_id: BrokerId::new(config.server.broker_id),
        cluster_id: identity.cluster,
        host,
        port: bootstrap.port(),
        cores,
        stores: (0..identity.stores)
            .map(|store| CoreId::new(store % count))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A core that accepts connections already looks at the state, not for orders: a start in which another one fails at
    /// its last step waited for it for ever.
    #[test]
    fn a_start_that_is_given_up_ends_cores_that_serve() {
        let state = Arc::new(BrokerState::new(2));
        let (_, reports) = mpsc::channel();
        let (ended, has_ended) = mpsc::channel();
        let serving = state.clone();
        let thread = std::thread::spawn(move || {
            let is_told = (0..10_000).any(|_| {
                std::thread::sleep(Duration::from_millis(1));
                serving.is_abandoned()
            });
            assert!(is_told, "it would serve on");
            ended.send(()).expect("somebody listens");
            Ended::new()
        });
        let mut start = Start {
            orders: Vec::new(),
            threads: vec![thread],
            reports,
            reported: vec!["it accepts connections"],
            state,
        };
        start.give_up(StartError::Core {
            core: 1,
            problem: "its address is in use".into(),
        });
        assert_eq!(has_ended.try_recv(), Ok(()));
    }
}
