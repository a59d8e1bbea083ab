//! What the facts mean for a broker. Pure: the machine is never asked here.

mod host;
mod kernel;
mod storage;
#[cfg(test)]
mod tests;

use corelane_broker::config::{BrokerConfig, CoreSelection};
use serde::Serialize;

use super::facts::Facts;

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// A broker serves, at a cost.
    Warning,
    /// A broker does not start, or does not keep its promise.
    Problem,
}

impl State {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What was found about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What was looked at; stable.
    #[serde(rename = "check")]
    pub(super) name: &'static str,
    /// How it is.
    pub(super) state: State,
    /// What was found.
    pub(super) found: String,
    /// What to do about it, unless it is as it should be.
    pub(super) advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Ok,
            found: found.into(),
            advice: None,
        }
    }

    fn warning(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Warning,
            found: found.into(),
            advice: Some(advice.into()),
        }
    }

    fn problem(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            state: State::Problem,
            ..Self::warning(name, found, advice)
        }
    }
}

/// How large the broker would be.
#[derive(Clone, Copy, Debug)]
struct Size {
    cores: u64,
    stores: u64,
}

impl Size {
    fn of(facts: &Facts, config: &BrokerConfig) -> Self {
        let cores = match &config.server.cores {
            CoreSelection::All => facts.cpus.len() as u64,
            CoreSelection::Count(count) => u64::from(*count),
            CoreSelection::List(cpus) => cpus.len() as u64,
        };
        let made = facts.directory.as_ref().ok().and_then(|made| made.stores);
        let stores = match (made, config.server.stores) {
            (Some(stores), _) => u64::from(stores),
            (None, 0) => cores,
            (None, stores) => u64::from(stores),
        };
        Self { cores, stores }
    }
}

/// Judges everything, in the order in which a person would mend it.
pub(super) fn judge(facts: &Facts, config: &BrokerConfig) -> Vec<Check> {
    let size = Size::of(facts, config);
    let mut checks = vec![kernel::version(facts), kernel::io_uring(facts)];
    checks.extend(kernel::operations(facts));
    checks.extend(kernel::extras(facts));
    checks.push(kernel::locked_memory(facts, size));
    checks.push(kernel::huge_pages(facts));
    checks.push(host::open_files(facts, config, size));
    checks.push(host::cpus(facts, config));
    checks.push(host::memory(facts, config, size));
    checks.push(host::listen(facts, config));
    checks.extend(host::admin(facts, config));
    checks.push(host::clock(facts));
    match &facts.directory {
        Ok(directory) => checks.extend(storage::directory(directory, config, size)),
        Err(problem) => checks.push(storage::unusable(problem)),
    }
    checks
}
