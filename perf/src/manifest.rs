//! What figures were measured on, so that they can be compared with others, or not.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// The machine and the software.
#[derive(Clone, Debug, Serialize)]
pub struct Manifest {
    /// Corelane's version.
    pub version: &'static str,
    /// Whether it was built with optimisation; figures of a debug build say nothing.
    pub optimised: bool,
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
    /// Cores that broker and client share.
    pub cores: usize,
    /// Where the broker kept its data.
    pub data_dir: String,
    /// That directory's filesystem and device, from the mount table.
    pub filesystem: String,
}

impl Manifest {
    /// Looks at this machine. What cannot be found out is called unknown.
    pub(crate) fn of(data_dir: &Path) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            optimised: !cfg!(debug_assertions),
            kernel: line_of("/proc/sys/kernel/osrelease", |line| Some(line.to_owned())),
            cpu: line_of("/proc/cpuinfo", |line| {
                let (name, value) = line.split_once(':')?;
                (name.trim() == "model name").then(|| value.trim().to_owned())
            }),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            data_dir: data_dir.display().to_string(),
            filesystem: filesystem(data_dir),
        }
    }
}

/// The first line of a file from which something can be made.
fn line_of(path: &str, make: impl Fn(&str) -> Option<String>) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .find_map(make)
        .unwrap_or_else(|| "unknown".to_owned())
}

/// `ext4 on /dev/vda`: the mount with the longest path above the directory, the last one if several
/// lie over each other.
fn filesystem(directory: &Path) -> String {
    let directory = directory
        .canonicalize()
        .unwrap_or_else(|_| directory.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let found = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        directory
            .starts_with(point)
            .then(|| (point.len(), format!("{kind} on {device}")))
    });
    found
        .max_by_key(|(length, _)| *length)
        .map_or_else(|| "unknown".to_owned(), |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known() {
        let manifest = Manifest::of(&std::env::temp_dir());
        assert_ne!(manifest.kernel, "unknown");
        assert!(
            manifest.filesystem.contains(" on "),
            "{}",
            manifest.filesystem
        );
    }
}
