//! What figures were measured on and with, so that they can be compared with others, or not.

use std::path::Path;

use corelane_bench::machine::Machine;
use serde::{Deserialize, Serialize};

use crate::workload::Workload;

/// The machine and the software.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Software {
    /// Corelane's version.
    pub version: String,
    /// The git revision of the checkout that it was built in, as that is now. `None` where that is gone.
    pub revision: Option<String>,
    /// Whether it was built with optimisation; figures of a debug build say nothing.
    pub optimised: bool,
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
    /// Cores that this process may run on.
    pub cores: usize,
    /// The load average over the minute before the run began: others' work spoils figures.
    pub load_average: f64,
    /// Where an embedded broker kept its data. `None` for any other.
    pub data_dir: Option<String>,
    /// That directory's filesystem and device, from the mount table.
    pub filesystem: Option<String>,
}

impl Software {
    /// Looks at this machine. What cannot be found out is called unknown.
    pub(crate) fn look(data_dir: Option<&Path>) -> Self {
        let machine = Machine::look(data_dir.unwrap_or(Path::new("/")));
        let known = |text: String| (text != "unknown").then_some(text);
        Self {
            version: machine.version.to_owned(),
            revision: known(machine.revision),
            optimised: machine.optimised,
            kernel: machine.kernel,
            cpu: machine.cpu,
            cores: machine.cores,
            load_average: machine.load_average,
            data_dir: data_dir.map(|directory| directory.display().to_string()),
            filesystem: data_dir.map(|_| machine.filesystem),
        }
    }
}

/// The broker that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Broker {
    /// Its bootstrap address.
    pub address: String,
    /// Whether it ran in this process, for this run.
    pub embedded: bool,
    /// The version that it says it has.
    pub version: String,
    /// Its cores.
    pub cores: usize,
    /// Settings that are not the defaults, `section.key=value`. `None` where they cannot be learned.
    pub settings: Option<Vec<String>>,
}

/// The topic that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its partitions.
    pub partitions: u32,
    /// Whether the run made it.
    pub made: bool,
    /// Whether it is there after the run.
    pub kept: bool,
    /// Settings that are not the defaults, `key=value`.
    pub settings: Vec<String>,
}

/// Which threads may run where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pinning {
    /// The broker's: `one core each`, or `unknown`.
    pub broker: String,
    /// The load generator's.
    pub client: String,
}

/// The client library's settings that the workload leaves open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientSettings {
    /// Bytes of records that a producer takes before calls wait.
    pub buffer_bytes: u64,
    /// Whether the broker knows a batch again that is sent again. Results that do not say so are of before it could.
    #[serde(default)]
    pub idempotent: bool,
    /// Its name and version.
    pub library: String,
}

/// What was measured, with what, on what. No result is without it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// What was asked of the broker.
    pub workload: Workload,
    /// The topic.
    pub topic: Topic,
    /// The broker.
    pub broker: Broker,
    /// The client.
    pub client: ClientSettings,
    /// Which threads may run where.
    pub pinning: Pinning,
    /// The weakest durability that was confirmed, as in the result.
    pub durability: String,
    /// The machine that this ran on, and the software.
    #[serde(flatten)]
    pub software: Software,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known() {
        let directory = std::env::temp_dir();
        let software = Software::look(Some(&directory));
        assert_ne!(software.kernel, "unknown");
        let filesystem = software.filesystem.unwrap();
        assert!(filesystem.contains(" on "), "{filesystem}");
        assert_eq!(Software::look(None).filesystem, None);
    }
}
