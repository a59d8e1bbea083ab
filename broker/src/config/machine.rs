//! Defaults that depend on the machine: memory, journals and open files of each core.
//!
//! A fixed default would either waste a large machine or not start on a small one. With many partitions it decides how
//! much of each is written to its segment file at once, and so what a record costs:
//! `docs/decisions/sized-for-the-machine.md`.

use super::{BrokerConfig, CoreSelection};

const MIB: u64 = 1 << 20;

/// The share of the machine's memory that a broker takes at most, unless it is told otherwise.
const MEMORY_SHARE: u64 = 2;
/// More is not taken for a core without being asked for: after a crash, half of it may have to be read.
const CORE_BYTES_MAX: u64 = 4096 * MIB;
/// The share of a core's memory that its journals may come to. What they hold is in memory as well, in chunks that are
/// not quite full, and must stay below where senders are slowed down.
const JOURNAL_SHARE: u64 = 2;
/// A store cannot have more journal files.
const JOURNAL_FILES_MAX: u64 = 128;
/// The share of the files that the process may have open which is for segments; the rest is for connections.
const OPEN_FILES_SHARE: u64 = 2;
/// Segment files that a store keeps open, at least and at most.
const OPEN_FILES: (u64, u64) = (64, 32_768);

/// What a machine has, as far as defaults depend on it. What is not known changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Memory in bytes: all that there is, or what the process's control group may take, if that is less.
    pub memory_bytes: Option<u64>,
    /// Files that the process may have open.
    pub open_files: Option<u64>,
    /// CPUs that the process may run on.
    pub cpus: Option<usize>,
}

impl BrokerConfig {
    /// Sets what `is_set` does not name and what depends on the machine.
    pub(super) fn size_for(&mut self, machine: &Machine, is_set: impl Fn(&str) -> bool) {
        let Some(cores) = self.cores_on(machine) else {
            return;
        };
        let stores_per_core = match u64::from(self.server.stores) {
            0 => 1,
            stores => stores.div_ceil(cores),
        };
        if let Some(memory) = machine.memory_bytes {
            if !is_set("memory.per_core_bytes") {
                let share = memory / MEMORY_SHARE / cores / MIB * MIB;
                // Never less than where nothing is known of the machine.
                let least = self.memory.per_core_bytes;
                self.memory.per_core_bytes = share.clamp(least, CORE_BYTES_MAX);
            }
            if !is_set("journal.files_max") {
                let journal = self.memory.per_core_bytes / JOURNAL_SHARE / stores_per_core;
                let files = (journal / self.journal.file_bytes).clamp(2, JOURNAL_FILES_MAX);
                self.journal.files_max = u32::try_from(files).expect("a clamped number");
            }
        }
        if let Some(open_files) = machine.open_files
            && !is_set("log.open_files_max")
        {
            let (least, most) = OPEN_FILES;
            let share = open_files / OPEN_FILES_SHARE / (stores_per_core * cores);
            let files = share.clamp(least, most);
            self.log.open_files_max = u32::try_from(files).expect("a clamped number");
        }
    }

    /// How many cores the broker has there, from one on.
    fn cores_on(&self, machine: &Machine) -> Option<u64> {
        let cores = match &self.server.cores {
            CoreSelection::All => machine.cpus?,
            CoreSelection::Count(count) => usize::from(*count),
            CoreSelection::List(list) => list.len(),
        };
        Some(cores.max(1) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigError, ConfigSources};

    const GIB: u64 = 1 << 30;

    /// A configuration of these variables on a machine.
    fn on(
        memory_bytes: u64,
        open_files: u64,
        variables: &[(&str, &str)],
    ) -> Result<BrokerConfig, ConfigError> {
        let variable = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        BrokerConfig::load(&ConfigSources {
            environment: variables.iter().map(variable).collect(),
            machine: Machine {
                memory_bytes: Some(memory_bytes),
                open_files: Some(open_files),
                cpus: Some(4),
            },
            ..ConfigSources::default()
        })
    }

    /// Bytes of memory of a core, journal files of a store, segment files of a store that are open.
    fn sizes(config: Result<BrokerConfig, ConfigError>) -> (u64, u32, u32) {
        let config = config.expect("valid");
        let per_core = config.memory.per_core_bytes;
        (
            per_core,
            config.journal.files_max,
            config.log.open_files_max,
        )
    }

    #[test]
    fn what_nobody_set_follows_the_machine() {
        assert_eq!(sizes(on(16 * GIB, 1 << 20, &[])), (2 * GIB, 16, 32_768));
        assert_eq!(sizes(on(1024 * GIB, 20_000, &[])), (4 * GIB, 32, 2_500));
        let of_one = [("CORELANE_CORES", "1")];
        assert_eq!(sizes(on(16 * GIB, 20_000, &of_one)), (4 * GIB, 32, 10_000));
        let of_many = [("CORELANE_STORES", "16")];
        assert_eq!(sizes(on(16 * GIB, 4_096, &of_many)), (2 * GIB, 4, 128));
        // A small machine has what one has of which nothing is known.
        assert_eq!(sizes(on(GIB, 1_024, &[])), (GIB / 2, 4, 128));
        assert_eq!(sizes(on(0, 0, &[])), (GIB / 2, 4, 64));
    }

    #[test]
    fn what_somebody_set_stays_and_the_rest_follows_it() {
        let memory = [("CORELANE_MEMORY_PER_CORE_BYTES", "1 GiB")];
        assert_eq!(sizes(on(64 * GIB, 8_000, &memory)), (GIB, 8, 1_000));
        let files = [("CORELANE_JOURNAL_FILE_BYTES", "32 MiB")];
        assert_eq!(sizes(on(16 * GIB, 8_000, &files)), (2 * GIB, 32, 1_000));
        let all = [
            ("CORELANE_MEMORY_PER_CORE_BYTES", "768 MiB"),
            ("CORELANE_JOURNAL_FILES_MAX", "9"),
            ("CORELANE_LOG_OPEN_FILES_MAX", "17"),
        ];
        assert_eq!(sizes(on(64 * GIB, 8_000, &all)), (768 << 20, 9, 17));
        // What was set is checked against what follows from the machine.
        let refused = on(GIB, 8_000, &[("CORELANE_JOURNAL_FILES_MAX", "9")]);
        let problem = refused.expect_err("too much").to_string();
        assert!(problem.contains("may grow to 576 MiB"), "{problem}");
    }

    #[test]
    fn a_machine_of_which_nothing_is_known_changes_nothing() {
        let mut config = BrokerConfig::default();
        config.size_for(&Machine::default(), |_| false);
        assert_eq!(config, BrokerConfig::default());
    }
}
