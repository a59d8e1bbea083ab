//! Reads a configuration: defaults, then the file, then the environment, then flags, then what
//! depends on the machine, then the checks that need several keys at once.
//!
//! Pure: the file's text, the environment and the machine come in as values.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin};
use super::keys::{KEYS, Key};
use super::value::format_bytes;
use super::{BrokerConfig, CoreSelection, FRAME_OVERHEAD_BYTES, Machine};

/// A configuration file that was read.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    /// Its name, for messages.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// Everything that settings may come from; later ones override earlier ones.
#[derive(Debug, Clone, Default)]
pub struct ConfigSources {
    /// The configuration file, if one was given.
    pub file: Option<ConfigFile>,
    /// Environment variables; those that do not begin with `CORELANE_` are ignored.
    pub environment: Vec<(String, String)>,
    /// Flags: the flag's name as the user knows it, the key's path (`section.key`), the value.
    pub flags: Vec<(&'static str, &'static str, String)>,
    /// What defaults depend on.
    pub machine: Machine,
}

/// Where each key that was set came from, by path.
type Origins = BTreeMap<&'static str, Origin>;

impl BrokerConfig {
    /// Reads all sources, the later overriding the earlier, and checks the outcome.
    ///
    /// # Errors
    /// The first setting that is unknown, malformed, out of range or at odds with another.
    pub fn load(sources: &ConfigSources) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let mut origins = Origins::new();
        if let Some(file) = &sources.file {
            read_file(file, &mut config, &mut origins)?;
        }
        for (name, value) in &sources.environment {
            read_variable(name, value, &mut config, &mut origins)?;
        }
        for (flag, path, value) in &sources.flags {
            let key = find(path).expect("flags name keys of the table");
            let origin = Origin::Flag((*flag).to_owned());
            assign(key, value, origin, &mut config, &mut origins)?;
        }
        config.size_for(&sources.machine, |path| origins.contains_key(path));
        check(&config, &origins)?;
        Ok(config)
    }

    /// Every key's path and value, in the order of the documented example.
    pub fn entries(&self) -> Vec<(&'static str, String)> {
        KEYS.iter().map(|key| (key.path, key.show(self))).collect()
    }

    /// Whether the journals of `stores` stores can be replayed into one core's memory.
    ///
    /// # Errors
    /// Says which keys to change.
    pub fn check_journals_fit(&self, stores: usize) -> Result<(), String> {
        let journals = (self.journal.file_bytes)
            .saturating_mul(u64::from(self.journal.files_max))
            .saturating_mul(stores as u64);
        let budget = self.memory.per_core_bytes / 4 * 3;
        if journals <= budget {
            return Ok(());
        }
        Err(format!(
            "the journals of {stores} store(s) of one core may grow to {}, but must fit three quarters of memory.per_core_bytes ({}) so that a restart can replay them; lower journal.files_max or journal.file_bytes, raise memory.per_core_bytes, or use more cores",
            format_bytes(journals),
            format_bytes(budget),
        ))
    }
}

fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

fn assign(
    key: &'static Key,
    text: &str,
    origin: Origin,
    config: &mut BrokerConfig,
    origins: &mut Origins,
) -> Result<(), ConfigError> {
    match key.set(config, text) {
        Ok(()) => {
            origins.insert(key.path, origin);
            Ok(())
        }
        Err(problem) => Err(ConfigError {
            origin,
            problem: format!("{}: {problem}", key.path),
        }),
    }
}

fn read_file(
    file: &ConfigFile,
    config: &mut BrokerConfig,
    origins: &mut Origins,
) -> Result<(), ConfigError> {
    let place = |position: usize| Origin::File {
        name: file.name.clone(),
        line: line_of(&file.text, position),
    };
    let table = DeTable::parse(&file.text).map_err(|error| ConfigError {
        origin: place(error.span().map_or(0, |span| span.start)),
        problem: error.message().to_owned(),
    })?;
    // In the order of the file, so that the first line that is wrong is the one reported.
    let mut items: Vec<_> = table.get_ref().iter().collect();
    items.sort_by_key(|(name, _)| name.span().start);
    for (name, value) in items {
        let section: &str = name.get_ref();
        let DeValue::Table(inner) = value.get_ref() else {
            read_item(section, name.span().start, value, &place, config, origins)?;
            continue;
        };
        if !KEYS.iter().any(|key| key.section() == section) {
            return Err(unknown(section, place(name.span().start)));
        }
        let mut keys: Vec<_> = inner.iter().collect();
        keys.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in keys {
            let path = format!("{section}.{}", name.get_ref());
            read_item(&path, name.span().start, value, &place, config, origins)?;
        }
    }
    Ok(())
}

fn read_item(
    path: &str,
    position: usize,
    value: &Spanned<DeValue<'_>>,
    place: &impl Fn(usize) -> Origin,
    config: &mut BrokerConfig,
    origins: &mut Origins,
) -> Result<(), ConfigError> {
    let key = find(path).ok_or_else(|| unknown(path, place(position)))?;
    let text = match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().to_owned(),
        // As it is written: shares have up to three decimals, and other keys say what they take instead.
        DeValue::Float(float) => float.as_str().to_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        other => {
            return Err(ConfigError {
                origin: place(value.span().start),
                problem: format!(
                    "{path}: a value of type {} cannot be used; write a string, a number, true or false",
                    other.type_str()
                ),
            });
        }
    };
    assign(key, &text, place(value.span().start), config, origins)
}

fn read_variable(
    name: &str,
    value: &str,
    config: &mut BrokerConfig,
    origins: &mut Origins,
) -> Result<(), ConfigError> {
    if !name.starts_with("CORELANE_") {
        return Ok(());
    }
    let origin = Origin::Environment(name.to_owned());
    if let Some(key) = KEYS.iter().find(|key| key.environment_name() == name) {
        return assign(key, value, origin, config, origins);
    }
    // Other programs of the family have variables of their own (`CORELANE_BROKER`), so only what
    // begins like a section of this file is taken for a mistake.
    let looks_like_ours = KEYS.iter().any(|key| {
        let prefix = format!("CORELANE_{}_", key.section().to_uppercase());
        !key.section().is_empty() && name.starts_with(&prefix)
    });
    if looks_like_ours {
        return Err(ConfigError {
            origin,
            problem: format!("names no setting; known are {}", variables_like(name)),
        });
    }
    Ok(())
}

fn variables_like(name: &str) -> String {
    let section = name.split('_').nth(1).unwrap_or_default().to_lowercase();
    let names = KEYS.iter().filter(|key| key.section() == section);
    names
        .map(Key::environment_name)
        .collect::<Vec<_>>()
        .join(", ")
}

fn unknown(path: &str, origin: Origin) -> ConfigError {
    let (section, name) = path.split_once('.').unwrap_or(("", path));
    let elsewhere: Vec<_> = KEYS
        .iter()
        .filter(|key| key.name() == name && key.section() != section)
        .map(|key| format!("`{}`", key.path))
        .collect();
    let advice = if elsewhere.is_empty() {
        let known: Vec<_> = KEYS
            .iter()
            .filter(|key| key.section() == section)
            .map(Key::name)
            .collect();
        if section.is_empty() {
            let mut sections: Vec<_> = KEYS.iter().map(Key::section).collect();
            sections.dedup();
            sections.retain(|section| !section.is_empty());
            format!(
                "known at the top of the file are {}; sections are [{}]",
                known.join(", "),
                sections.join("], [")
            )
        } else {
            format!("known in [{section}] are {}", known.join(", "))
        }
    } else {
        format!("did you mean {}?", elsewhere.join(" or "))
    };
    ConfigError {
        origin,
        problem: format!("unknown key `{path}`; {advice}"),
    }
}

/// Line of a byte position, counted from 1.
fn line_of(text: &str, position: usize) -> usize {
    let before = &text.as_bytes()[..position.min(text.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// What no single key can tell.
fn check(config: &BrokerConfig, origins: &Origins) -> Result<(), ConfigError> {
    // The first of the keys that somebody set is to blame; if none was, the defaults disagree,
    // which a test excludes.
    let fail = |paths: &[&'static str], problem: String| {
        let origin = paths.iter().find_map(|path| origins.get(path)).cloned();
        Err(ConfigError {
            origin: origin.unwrap_or(Origin::Default),
            problem,
        })
    };
    let server = &config.server;
    if !server.listen.ip().is_loopback() && !server.insecure {
        return fail(
            &["listen"],
            format!(
                "listen: {} can be reached from other machines, and this broker does not authenticate anyone; listen on 127.0.0.1, or accept that with insecure = true (--insecure)",
                server.listen
            ),
        );
    }
    if let Some(admin) = config.admin.listen
        && !admin.ip().is_loopback()
        && !server.insecure
    {
        return fail(
            &["admin.listen"],
            format!(
                "admin.listen: {admin} can be reached from other machines, and this broker does not authenticate anyone; listen on 127.0.0.1, or accept that with insecure = true (--insecure)",
            ),
        );
    }
    if config.admin.listen == Some(server.listen) && server.listen.port() != 0 {
        return fail(
            &["admin.listen", "listen"],
            format!(
                "admin.listen: {} is the address of clients already; give another port",
                server.listen
            ),
        );
    }
    let groups = &config.groups;
    if groups.session_timeout_ms_min > groups.session_timeout_ms_max {
        return fail(
            &[
                "groups.session_timeout_ms_min",
                "groups.session_timeout_ms_max",
            ],
            format!(
                "groups.session_timeout_ms_min: {} is more than groups.session_timeout_ms_max, {}; no member could join",
                groups.session_timeout_ms_min, groups.session_timeout_ms_max
            ),
        );
    }
    if server.listen.ip().is_unspecified() && server.advertised_host.is_none() {
        return fail(
            &["listen"],
            format!(
                "listen: {} is no address that clients can connect to; set advertised_host to the name or address that they use",
                server.listen.ip()
            ),
        );
    }
    if let CoreSelection::Count(count) = server.cores
        && server.stores != 0
        && server.stores < count
    {
        return fail(
            &["stores", "cores"],
            format!(
                "stores: {} stores leave some of {count} cores without one; set stores to at least {count}, or to 0",
                server.stores
            ),
        );
    }
    check_sizes(config, fail)
}

fn check_sizes(
    config: &BrokerConfig,
    fail: impl Fn(&[&'static str], String) -> Result<(), ConfigError>,
) -> Result<(), ConfigError> {
    let (limits, journal, log) = (&config.limits, &config.journal, &config.log);
    // (smaller, its value, larger, its value, what the larger one has to spare)
    let orders = [
        (
            "log.max_message_bytes",
            u64::from(log.max_message_bytes) + u64::from(FRAME_OVERHEAD_BYTES),
            "limits.frame_bytes_max",
            u64::from(limits.frame_bytes_max),
            " less 64 KiB for headers",
        ),
        (
            "limits.frame_bytes_max",
            u64::from(limits.frame_bytes_max),
            "limits.connection_in_flight_bytes_max",
            limits.connection_in_flight_bytes_max,
            "",
        ),
        (
            "limits.connection_in_flight_bytes_max",
            limits.connection_in_flight_bytes_max,
            "limits.core_in_flight_bytes_max",
            limits.core_in_flight_bytes_max,
            "",
        ),
        (
            "limits.frame_bytes_max",
            u64::from(limits.frame_bytes_max),
            "limits.mailbox_bytes_max",
            limits.mailbox_bytes_max,
            "",
        ),
        (
            "limits.core_in_flight_bytes_max",
            limits.core_in_flight_bytes_max,
            "memory.per_core_bytes",
            config.memory.per_core_bytes,
            "",
        ),
        (
            "log.max_message_bytes",
            u64::from(log.max_message_bytes) + 8192,
            "log.segment_bytes",
            log.segment_bytes,
            " less 8 KiB",
        ),
        (
            "journal.group_bytes_min",
            u64::from(journal.group_bytes_min),
            "journal.group_bytes_max",
            u64::from(journal.group_bytes_max),
            "",
        ),
        (
            "limits.topic_partitions_max",
            u64::from(limits.topic_partitions_max),
            "limits.partitions_max",
            u64::from(limits.partitions_max),
            "",
        ),
    ];
    for (small, small_value, large, large_value, spare) in orders {
        if small_value > large_value {
            let value = |path| find(path).expect("a key of the table").show(config);
            return fail(
                &[small, large],
                format!(
                    "{small} ({}) must be at most {large} ({}){spare}; lower the one or raise the other",
                    value(small),
                    value(large)
                ),
            );
        }
    }
    let store = config.store_config().check();
    store.or_else(|problem| {
        let journal = [
            "journal.file_bytes",
            "journal.group_bytes_max",
            "limits.frame_bytes_max",
        ];
        fail(&journal, format!("journal: {problem}"))
    })?;
    let journals = config.check_journals_fit(1);
    journals.or_else(|problem| {
        let memory = [
            "journal.files_max",
            "journal.file_bytes",
            "memory.per_core_bytes",
        ];
        fail(&memory, problem)
    })
}
