//! What figures were measured on. No figure is printed without it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::broker::unusual_settings;
use crate::cpu;

/// The machine, and how busy it was.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Corelane's version.
    pub version: &'static str,
    /// The revision of the tree that it was built in, if that is still there.
    pub revision: String,
    /// Whether it was built with optimisation; figures of a debug build say nothing.
    pub optimised: bool,
    /// The processor's name.
    pub cpu: String,
    /// Cores of this process.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
    /// The filesystem and device that are written to.
    pub filesystem: String,
    /// The load average over the minute before the measurement began: others' work spoils figures.
    pub load_average: f64,
    /// What is set in the environment for a broker that these programs start, and is not the default: `section.key=value`.
    pub settings: Vec<String>,
}

impl Machine {
    /// Looks at this machine before a measurement. What cannot be found out is called unknown.
    #[must_use]
    pub fn look(directory: &Path) -> Self {
        let unknown = || "unknown".to_owned();
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
        let model = model.and_then(|line| line.split_once(": "));
        Self {
            version: env!("CARGO_PKG_VERSION"),
            revision: revision().unwrap_or_else(unknown),
            optimised: !cfg!(debug_assertions),
            cpu: model.map_or_else(unknown, |(_, name)| name.to_owned()),
            cores: core_affinity::get_core_ids().map_or(0, |cores| cores.len()),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            filesystem: filesystem(directory).unwrap_or_else(unknown),
            load_average: cpu::load_average(),
            settings: unusual_settings(),
        }
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let warning = if self.optimised {
            ""
        } else {
            ", DEBUG BUILD: figures say nothing"
        };
        let settings: String = (self.settings.iter())
            .map(|setting| format!(", {setting}"))
            .collect();
        format!(
            "{}, {} cores, kernel {}, {}, load average {:.1} at start, revision {}{settings}{warning}",
            self.cpu, self.cores, self.kernel, self.filesystem, self.load_average, self.revision
        )
    }
}

fn revision() -> Option<String> {
    let mut command = Command::new("git");
    command.args(["-C", env!("CARGO_MANIFEST_DIR"), "describe"]);
    let output = command.args(["--always", "--dirty"]).output();
    let output = output.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `ext4 on /dev/vda`: the mount with the longest path above the directory.
fn filesystem(directory: &Path) -> Option<String> {
    let directory = directory.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let above = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        let is_above = directory.starts_with(point);
        is_above.then(|| (point.len(), format!("{kind} on {device}")))
    });
    above
        .max_by_key(|(length, _)| *length)
        .map(|(_, name)| name)
}
