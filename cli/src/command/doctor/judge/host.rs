//! What the machine gives to a process: files, CPUs, memory, addresses, time.

use std::net::SocketAddr;

use corelane_broker::config::{BrokerConfig, CoreSelection};

use super::{Check, Facts, Size};
use crate::command::doctor::facts::ListenFault;
use crate::output::units;

/// Files of a core besides connections and segments: rings, listeners, what wakes it.
const FILES_PER_CORE: u64 = 64;

/// Segments that a store may be writing at the same time, besides those that it keeps open.
const SEGMENTS_BEING_WRITTEN: u64 = 256;

pub(super) fn open_files(facts: &Facts, config: &BrokerConfig, size: Size) -> Check {
    const NAME: &str = "open files";
    const ADVICE: &str =
        "raise the hard limit: LimitNOFILE= in the service's unit, or /etc/security/limits.conf";
    let Some(limit) = facts.open_files else {
        return Check::ok(NAME, "no limit");
    };
    let connections = u64::from(config.limits.connections_max) * size.cores;
    let least = FILES_PER_CORE * size.cores + u64::from(config.journal.files_max) * size.stores;
    let segments = u64::from(config.log.open_files_max) + SEGMENTS_BEING_WRITTEN;
    let segments = segments * size.stores;
    let all = least + segments + connections;
    let found = format!("at most {} may be open", units::count(limit));
    if limit >= all {
        Check::ok(NAME, found)
    } else if limit >= 2 * least {
        let found = format!(
            "{found}; limits.connections_max on {} core(s) and log.open_files_max in {} store(s) may take {}",
            size.cores,
            size.stores,
            units::count(all)
        );
        let advice =
            format!("{ADVICE}; or lower those settings, so that clients are refused in words");
        Check::warning(NAME, found, advice)
    } else {
        let found = format!(
            "{found}, and {} are needed at least",
            units::count(2 * least)
        );
        Check::problem(NAME, found, ADVICE)
    }
}

pub(super) fn cpus(facts: &Facts, config: &BrokerConfig) -> Check {
    const NAME: &str = "cores";
    let allowed = facts.cpus.len();
    let names: Vec<String> = facts.cpus.iter().map(usize::to_string).collect();
    let names = names.join(",");
    let found = format!("this process may run on {allowed} CPU(s): {names}");
    match &config.server.cores {
        CoreSelection::List(wanted) => {
            let missing = wanted
                .iter()
                .find(|cpu| !facts.cpus.contains(&usize::from(**cpu)));
            if let Some(cpu) = missing {
                return Check::problem(
                    NAME,
                    format!("{found}; the setting cores asks for CPU {cpu}"),
                    "change cores, or what taskset or the cpuset of the service (AllowedCPUs=) allows",
                );
            }
        }
        CoreSelection::Count(wanted) if usize::from(*wanted) > allowed => {
            return Check::warning(
                NAME,
                format!("{found}; the setting cores asks for {wanted}"),
                "lower cores: several cores on one CPU work, and are slow",
            );
        }
        CoreSelection::Count(_) | CoreSelection::All => {}
    }
    if facts.parallelism < allowed {
        return Check::warning(
            NAME,
            format!(
                "{found}; a quota gives it the time of {} only",
                facts.parallelism
            ),
            "give whole CPUs with a cpuset instead of a quota, or set cores to what the quota covers: a core stalls \
             while its quota is used up",
        );
    }
    Check::ok(NAME, found)
}

pub(super) fn memory(facts: &Facts, config: &BrokerConfig, size: Size) -> Check {
    const NAME: &str = "memory";
    let stores_per_core = size.stores.div_ceil(size.cores.max(1));
    if let Err(problem) =
        config.check_journals_fit(usize::try_from(stores_per_core).unwrap_or(usize::MAX))
    {
        return Check::warning(
            NAME,
            problem,
            "a restart after a crash may not find room for all that the journals hold",
        );
    }
    let wanted = size.cores.saturating_mul(config.memory.per_core_bytes);
    let wants = format!("{} core(s) may take {}", size.cores, units::bytes(wanted));
    match facts.memory_bytes {
        None => Check::ok(NAME, wants),
        Some(free) if free >= wanted => {
            Check::ok(NAME, format!("{wants}, {} are free", units::bytes(free)))
        }
        Some(free) => Check::warning(
            NAME,
            format!("{wants}, but only {} are free", units::bytes(free)),
            "lower memory.per_core_bytes, or give the machine or its control group more memory",
        ),
    }
}

pub(super) fn listen(facts: &Facts, config: &BrokerConfig) -> Check {
    let address = Address {
        name: "address",
        address: config.server.listen,
        others: "; each core takes another free port",
        flag: "--listen",
        elsewhere: "choose one that `ip address` lists; advertised_host is for what clients are told",
    };
    address.judge(&facts.listen, facts)
}

/// The address of metrics and health; nothing if it is off.
pub(super) fn admin(facts: &Facts, config: &BrokerConfig) -> Option<Check> {
    let address = Address {
        name: "admin address",
        address: config.admin.listen?,
        others: "",
        flag: "--admin-listen",
        elsewhere: "choose one that `ip address` lists",
    };
    Some(address.judge(facts.admin.as_ref()?, facts))
}

/// An address that a broker listens on.
struct Address {
    /// The check's name.
    name: &'static str,
    address: SocketAddr,
    /// What else is taken there.
    others: &'static str,
    /// The flag that chooses another one.
    flag: &'static str,
    /// The advice if it is no address of this machine.
    elsewhere: &'static str,
}

impl Address {
    fn judge(&self, found: &Result<(), ListenFault>, facts: &Facts) -> Check {
        let Self {
            name,
            address,
            others,
            flag,
            elsewhere,
        } = *self;
        let Err(fault) = found else {
            return Check::ok(name, format!("{address} is free{others}"));
        };
        let directory = facts.directory.as_ref().ok();
        let user = directory.and_then(|made| made.user.as_ref());
        match (fault, user) {
            (ListenFault::InUse, Some(user)) => Check::ok(
                name,
                format!("{address} is taken, and the data directory is used by a broker ({user})"),
            ),
            (ListenFault::InUse, None) => Check::problem(
                name,
                format!("{address} is taken by another program"),
                format!(
                    "find it with `ss -ltnp sport = :{}`; or choose another address with {flag} (port 0 picks a free \
                     one)",
                    address.port()
                ),
            ),
            (ListenFault::NotPermitted, _) => Check::problem(
                name,
                format!("this user may not listen on {address}"),
                "choose a port from 1024 on (sysctl net.ipv4.ip_unprivileged_port_start)",
            ),
            (ListenFault::NotHere, _) => Check::problem(
                name,
                format!("{} is no address of this machine", address.ip()),
                elsewhere,
            ),
            (ListenFault::Other(problem), _) => Check::problem(
                name,
                format!("{address} cannot be listened on: {problem}"),
                format!("choose another address with {flag}"),
            ),
        }
    }
}

pub(super) fn clock(facts: &Facts) -> Check {
    const NAME: &str = "clock";
    match &facts.clock {
        Ok(true) => Check::ok(NAME, "synchronised"),
        Ok(false) => Check::warning(
            NAME,
            "not synchronised with any other: the times of records may be wrong",
            "run chrony or systemd-timesyncd (timedatectl set-ntp true); in a virtual machine or container, on its \
             host",
        ),
        Err(problem) => Check::warning(
            NAME,
            format!("the kernel does not say whether it is synchronised: {problem}"),
            "make sure that the host runs chrony or systemd-timesyncd",
        ),
    }
}
