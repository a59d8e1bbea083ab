//! The world of one seed: machines, a network, clients, virtual time, and the queue of events between them.
//!
//! Owns the one order in which everything happens. Every choice comes from the seed, every event goes into the
//! trace, so that a seed gives one run.

mod compaction;
mod connections;
mod faults;
mod turns;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt::Arguments;

use corelane_protocol::TopicPartition;
use corelane_storage::testing::{Clock, Random};

use self::compaction::{dir_of, is_compacted};
use crate::client::{Action, Client, ClientEvent, Context, Verifier};
use crate::counters::Sometimes;
use crate::history::History;
use crate::machine::Machine;
use crate::network::{ConnNumber, Network};
use crate::profile::{Damage, FLUSH_MS, Profile};
use crate::trace::Trace;

/// Events of a run at most: one that has more goes round in circles.
const EVENTS_MAX: u64 = 40_000_000;

/// Longer than the `flush.ms` of any topic, and than what a healed broker takes to flush.
const SETTLE_US: u64 = 3_000_000;

/// Connections that stand still do so no longer after everything has healed.
const CALM_AFTER_US: u64 = 10_000_000;

/// Topics that keep records longer than this are not waited for until they delete them.
const EXPIRY_MS_MAX: u64 = 40_000;

/// Records are deleted so long after their time at the latest.
const EXPIRY_SPARE_MS: u64 = 15_000;

/// How long everything may take to come to rest once all faults are healed.
const CONVERGENCE_US: u64 = 90_000_000;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A core runs.
    Turn {
        broker: usize,
        life: u32,
        core: usize,
    },
    /// A core's next deadline has come.
    Deadline {
        broker: usize,
        life: u32,
        core: usize,
    },
    Mail {
        broker: usize,
        life: u32,
        from: usize,
        to: usize,
    },
    /// A process starts.
    Start {
        broker: usize,
    },
    /// Whoever operates the broker restarts it, since something had failed.
    Restart {
        broker: usize,
        life: u32,
    },
    /// A client's attempt reaches the broker.
    Connect {
        conn: ConnNumber,
        core: Option<u16>,
    },
    /// The client learns that it is connected.
    Connected {
        conn: ConnNumber,
    },
    /// A piece reaches the broker.
    Upstream {
        conn: ConnNumber,
    },
    /// A piece reaches the client.
    Downstream {
        conn: ConnNumber,
    },
    /// The broker sees that the client is gone.
    BrokerSees {
        conn: ConnNumber,
    },
    /// The client sees that the broker is gone.
    ClientSees {
        conn: ConnNumber,
    },
    Wake {
        client: usize,
    },
    /// The next fault strikes.
    Fault,
    /// The power goes while this process runs.
    PowerOff {
        broker: usize,
        life: u32,
    },
    /// The power goes before the broker has ever served.
    FirstPowerOff {
        broker: usize,
    },
    /// A fault of a machine that lasts is over.
    DiskHasRoom {
        broker: usize,
    },
    DiskIsFast {
        broker: usize,
    },
}

/// When an event happens, and its place in the plan.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Planned {
    /// Its time, in microseconds, above its number: one comparison orders by both.
    when: u128,
    place: usize,
}

impl Planned {
    fn us(&self) -> u64 {
        (self.when >> 64) as u64
    }
}

/// What is planned, by time: events of one time happen in the order in which they were planned.
#[derive(Default)]
struct Plan {
    /// When each event happens and its place, the next one first.
    order: BinaryHeap<Reverse<Planned>>,
    events: Vec<Option<Event>>,
    /// Places without an event.
    free: Vec<usize>,
    events_made: u64,
}

impl Plan {
    fn push(&mut self, us: u64, event: Event) {
        self.events_made += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        let when = u128::from(us) << 64 | u128::from(self.events_made);
        self.order.push(Reverse(Planned { when, place }));
    }

    /// The time of the next event.
    fn next_us(&self) -> Option<u64> {
        self.order.peek().map(|Reverse(planned)| planned.us())
    }

    fn pop(&mut self) -> Option<Event> {
        let Reverse(Planned { place, .. }) = self.order.pop()?;
        self.free.push(place);
        self.events[place].take()
    }
}

/// A client and what the world knows of it.
struct Slot {
    client: Box<dyn Client>,
    wake_us: Option<u64>,
}

pub(crate) struct World {
    now_us: u64,
    clock: Clock,
    queue: Plan,
    random: Random,
    profile: Profile,
    trace: Trace,
    pub(crate) history: History,
    machines: Vec<Machine>,
    network: Network,
    clients: Vec<Slot>,
    /// Empty between two calls of a client: memory for what it wants.
    actions: Vec<Action>,
    conns: ConnNumber,
    is_healed: bool,
    calm_us: u64,
    seen_files: BTreeMap<String, u64>,
    /// The file that compaction makes, by the directory of its partition.
    compacting: BTreeMap<String, String>,
    /// All that it ever made.
    written_anew: BTreeSet<String>,
    /// Segment files that were complete when a bit of them turned over.
    flipped: BTreeSet<String>,
}

/// What a run came to.
pub(crate) struct Ended {
    pub(crate) trace: Trace,
    pub(crate) history: History,
}

impl World {
    pub(crate) fn new(profile: Profile, mut random: Random, trace: Trace) -> Self {
        let clock = Clock::default();
        let times = (profile.disk_base_us, profile.disk_flush_us);
        let machines = (0..profile.brokers)
            .map(|_| {
                let (config, cores) = (profile.config.clone(), profile.cores);
                Machine::new(clock.clone(), config, cores, times, random.fork())
            })
            .collect();
        let mut history = History::new(profile.damage);
        history.has_large_reserve = profile.config.log.disk_reserve_bytes > 1_000_000;
        Self {
            now_us: 0,
            clock,
            queue: Plan::default(),
            random,
            profile,
            trace,
            history,
            machines,
            network: Network::default(),
            clients: Vec::new(),
            actions: Vec::new(),
            conns: 0,
            is_healed: false,
            calm_us: u64::MAX,
            seen_files: BTreeMap::new(),
            compacting: BTreeMap::new(),
            written_anew: BTreeSet::new(),
            flipped: BTreeSet::new(),
        }
    }

    pub(crate) fn add(&mut self, client: Box<dyn Client>) {
        let us = self.now_us + self.random.below(50_000);
        self.clients.push(Slot {
            client,
            wake_us: None,
        });
        self.wake(self.clients.len() - 1, us);
    }

    /// Runs for so much virtual time with faults, heals everything, and waits until all is at rest.
    pub(crate) fn run(mut self, for_us: u64, verified: Vec<String>) -> Ended {
        for broker in 0..self.machines.len() {
            self.plan_start(broker, 0);
            if let Some(us) = self.profile.first_power_off_us {
                self.plan(us, Event::FirstPowerOff { broker });
            }
        }
        if !self.profile.faults.is_empty() {
            self.plan(self.profile.fault_us, Event::Fault);
        }
        self.run_until(for_us, |_| false);
        self.heal();
        self.converge("clients", |world| {
            world.is_everybody_up() && world.clients.iter().all(|slot| slot.client.is_done())
        });
        let quiet_us = self.now_us;
        self.settle();
        if self.history.problems.is_empty() {
            self.add(Box::new(Verifier::new(verified)));
            self.converge("verifier", |world| {
                world
                    .clients
                    .last()
                    .is_some_and(|slot| slot.client.is_done())
            });
            self.converge("consumers", World::is_everybody_at_the_end);
            self.settle_groups();
            if self.profile.config.log.scrub_bytes_per_second > 0 {
                self.converge("scrubbers", World::is_damage_told);
            }
            self.expire(quiet_us);
        }
        for broker in 0..self.machines.len() {
            self.count_passes(broker);
        }
        Ended {
            trace: self.trace,
            history: self.history,
        }
    }

    /// Waits until nothing that was acknowledged from memory may be lost any more, and takes the power away.
    fn settle(&mut self) {
        let has_bound = self
            .profile
            .weak_topic
            .is_some_and(|(key, _)| key == FLUSH_MS);
        if !has_bound || self.may_be_damaged() || !self.history.problems.is_empty() {
            return;
        }
        self.run_until(self.now_us + SETTLE_US, |_| false);
        for broker in 0..self.machines.len() {
            for (_, partition, _) in self.weak_logs(broker) {
                self.history.reached(Sometimes::WeakRecordsSettled);
                self.history.settled(partition);
            }
            self.history.reached(Sometimes::PowerLost);
            self.kill(broker, true);
        }
        self.converge("brokers", Self::is_everybody_up);
    }

    /// Waits until every partition that a group wants is held by one of its members.
    fn settle_groups(&mut self) {
        let unsettled = |world: &Self| world.history.grouping.unsettled(world.now_us);
        if !self.may_be_damaged() && self.profile.groups > 0 {
            self.run_until(self.now_us + CONVERGENCE_US, |world| {
                unsettled(world).is_none()
            });
            match unsettled(self) {
                Some(what) => {
                    let seconds = CONVERGENCE_US / 1_000_000;
                    let problem = format!("after {seconds} s without faults {what}");
                    self.history.problem(problem);
                }
                None => self.history.reached(Sometimes::GroupsSettled),
            }
        }
        self.history.grouping.is_over = true;
    }

    /// Waits until what topics may keep for a while only is gone, whoever has not read it.
    fn expire(&mut self, quiet_us: u64) {
        if self.may_be_damaged() {
            return;
        }
        let longest_ms = self.history.keeping.longest_ms(EXPIRY_MS_MAX);
        let patience_ms = longest_ms.unwrap_or(0) + 2 * EXPIRY_SPARE_MS;
        self.run_until(self.now_us + patience_ms * 1000, |world| {
            world.history.keeping.is_expired(EXPIRY_MS_MAX)
        });
        let keeping = &self.history.keeping;
        if let Some((log, what)) = keeping.overdue(quiet_us, EXPIRY_SPARE_MS) {
            let problem = format!("{log} {what}, and nothing is to be kept so long or so large");
            self.history.problem(problem);
        }
    }

    fn converge(&mut self, what: &str, is_done: impl Fn(&Self) -> bool) {
        let end = self.now_us + CONVERGENCE_US;
        self.run_until(end, |world| {
            is_done(world) || !world.history.problems.is_empty()
        });
        if self.history.problems.is_empty() && !is_done(self) {
            let waiting: Vec<_> = self
                .clients
                .iter()
                .filter(|slot| !slot.client.is_done())
                .map(|slot| format!("{}: {}", slot.client.name(), slot.client.waits_for()))
                .collect();
            let seconds = CONVERGENCE_US / 1_000_000;
            let waiting = waiting.join("; ");
            self.history.problem(format!(
                "after {seconds} s without faults the {what} are not done: {waiting}"
            ));
        }
    }

    fn is_everybody_up(&self) -> bool {
        let mut machines = self.machines.iter();
        machines.all(|machine| {
            let process = machine.process.as_ref();
            process.is_some_and(crate::process::Process::is_serving)
        })
    }

    /// Whether every consumer has read what the verifier has.
    fn is_everybody_at_the_end(&self) -> bool {
        if self.profile.damage != Damage::None {
            return true;
        }
        let ends = self.clients.last().map(|slot| slot.client.positions());
        let ends: BTreeMap<TopicPartition, u64> = ends.unwrap_or_default().into_iter().collect();
        let positions = self.clients.iter().flat_map(|slot| slot.client.positions());
        let mut behind = positions
            .filter(|(partition, position)| ends.get(partition).is_some_and(|end| position < end));
        behind.next().is_none()
    }

    /// Whether scrubbing tells of every complete segment that has a bit turned over.
    fn is_damage_told(&self) -> bool {
        if self.flipped.is_empty() {
            return true;
        }
        let machines = self.machines.iter();
        let processes = machines.filter_map(|machine| Some((machine.process.as_ref()?, machine)));
        processes.into_iter().all(|(process, machine)| {
            let disk = &machine.disk;
            // What an interrupted compaction has left there is not scrubbed.
            let is_compacted = |path: &str| {
                disk.has_file(|file| is_compacted(file) && dir_of(file) == dir_of(path))
            };
            let is_there =
                |path: &&String| disk.has_file(|file| file == *path) && !is_compacted(path);
            let flipped: Vec<_> = self.flipped.iter().filter(is_there).collect();
            if flipped.is_empty() {
                return true;
            }
            let told = process.damage_told();
            flipped.into_iter().all(|path| {
                let about = told.iter().find(|(dir, _)| path.starts_with(dir));
                // A partition that is out of service is not scrubbed, and remembers so much only.
                about.is_none_or(|(_, damage)| {
                    damage.len() >= 16 || damage.iter().any(|told| told.contains(path))
                })
            })
        })
    }

    fn run_until(&mut self, end_us: u64, is_done: impl Fn(&Self) -> bool) {
        let mut steps = 0_u64;
        while self.history.problems.is_empty() {
            steps += 1;
            if steps.is_multiple_of(16) && is_done(self) {
                return;
            }
            let timer = self.clock.next_due_us();
            let event = self.queue.next_us();
            let Some(next) = timer.into_iter().chain(event).min() else {
                return;
            };
            if next > end_us {
                self.now_us = end_us;
                self.clock.advance_to(end_us);
                return;
            }
            self.now_us = next;
            let woke_any = self.clock.advance_to(next);
            if woke_any {
                self.run_devices();
            } else if let Some(event) = self.queue.pop() {
                self.handle(event);
            }
            if self.trace.events() > EVENTS_MAX {
                self.history.problem(format!("{EVENTS_MAX} events"));
            }
        }
    }

    pub(crate) fn note(&mut self, what: Arguments<'_>) {
        self.trace.event(self.now_us, what);
    }

    /// Plans an event for later.
    fn plan(&mut self, in_us: u64, event: Event) {
        self.plan_at(self.now_us + in_us, event);
    }

    fn plan_at(&mut self, us: u64, event: Event) {
        self.queue.push(us.max(self.now_us), event);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Turn { broker, life, core } => self.turn(broker, life, core),
            Event::Deadline { broker, life, core } => self.deadline(broker, life, core),
            Event::Mail {
                broker,
                life,
                from,
                to,
            } => self.mail_arrives(broker, life, from, to),
            Event::Start { broker } => self.start(broker),
            Event::Restart { broker, life } => self.restart_failed(broker, life),
            Event::Connect { conn, core } => self.connect_arrives(conn, core),
            Event::Connected { conn } => self.connected(conn),
            Event::Upstream { conn } => self.upstream(conn),
            Event::Downstream { conn } => self.downstream(conn),
            Event::BrokerSees { conn } => self.broker_sees(conn),
            Event::ClientSees { conn } => self.client_sees(conn),
            Event::Wake { client } => {
                if self.clients[client]
                    .wake_us
                    .is_some_and(|us| us <= self.now_us)
                {
                    self.clients[client].wake_us = None;
                    self.tell(client, ClientEvent::Wake);
                }
            }
            Event::Fault => self.strike(),
            Event::PowerOff { broker, life } => self.power_off(broker, life),
            Event::FirstPowerOff { broker } => self.first_power_off(broker),
            Event::DiskHasRoom { broker } => {
                self.note(format_args!("broker {broker}: the disk has room again"));
                self.machines[broker].disk.set_capacity(None);
                self.history.keeping.guarding.emptied(self.now_us);
            }
            Event::DiskIsFast { broker } => {
                self.note(format_args!("broker {broker}: the disk is fast again"));
                self.machines[broker].set_slow(false);
            }
        }
    }

    fn wake(&mut self, client: usize, us: u64) {
        let slot = &mut self.clients[client];
        if slot.wake_us.is_none_or(|planned| us < planned) {
            slot.wake_us = Some(us);
            self.plan_at(us, Event::Wake { client });
        }
    }

    /// Tells a client something, and does what it wants.
    fn tell(&mut self, client: usize, event: ClientEvent) {
        // What the client wants may lead to another being told something, which takes a list of its own.
        let mut actions = std::mem::take(&mut self.actions);
        let mut context = Context {
            now_us: self.now_us,
            random: &mut self.random,
            history: &mut self.history,
            trace: &mut self.trace,
            actions: &mut actions,
            conns: &mut self.conns,
            is_draining: self.is_healed,
            calm_us: self.calm_us,
            cores: self.machines[0].cores,
        };
        self.clients[client].client.handle(&mut context, event);
        if std::mem::take(&mut self.history.storage_failed)
            && !(self.is_healed && self.may_be_damaged())
        {
            self.plan_restart(0);
        }
        for action in actions.drain(..) {
            match action {
                Action::Connect { conn, core } => self.connect(client, conn, core),
                Action::Send { conn, bytes } => self.client_sends(conn, bytes),
                Action::Close { conn } => self.client_closes(conn),
                Action::Read { conn, on } => self.client_reads(conn, on),
                Action::WakeAt(us) => self.wake(client, us),
            }
        }
        self.actions = actions;
    }

    /// Counts what scrubbing has found.
    fn count_damage(&mut self) {
        let machines = self.machines.iter();
        let processes = machines.filter_map(|machine| machine.process.as_ref());
        let told = processes.flat_map(crate::process::Process::damage_told);
        let found = told.map(|(_, damage)| damage.len() as u64).sum();
        self.history
            .counters
            .add(Sometimes::ScrubFoundDamage, found);
    }

    /// Everything that was broken is mended; what only a restart mends is restarted.
    fn heal(&mut self) {
        self.note(format_args!("everything heals"));
        self.is_healed = true;
        if self.profile.damage == Damage::None {
            self.calm_us = self.now_us + CALM_AFTER_US;
        }
        self.count_damage();
        self.history.keeping.guarding.emptied(self.now_us);
        for broker in 0..self.machines.len() {
            let machine = &mut self.machines[broker];
            machine.disk.clear_faults();
            machine.disk.set_capacity(None);
            machine.set_slow(false);
            let is_ending = machine
                .process
                .as_ref()
                .is_some_and(crate::process::Process::is_ending);
            if machine.wants_restart && !is_ending {
                self.history.reached(Sometimes::Killed);
                self.kill(broker, false);
            }
            if self.machines[broker].process.is_none() {
                self.plan_start(broker, 100_000);
            }
        }
        for client in 0..self.clients.len() {
            self.wake(client, self.now_us);
        }
    }
}
