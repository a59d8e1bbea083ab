//! A filesystem of its own that fills up under the broker, and has room again later.
//!
//! While it is full, what was acknowledged must be readable, also by a broker that was stopped or
//! killed and started again. Nothing that was sent meanwhile may be lost or given up: it waits for
//! room.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::broker_process::{BrokerProcess, Launcher};
use super::faults::Fault;
use super::power::{make_filesystem, mount, unmount};
use super::random::Random;

/// Size of the filesystem. The image is sparse, and the ballast takes no room of its own in it.
const DEVICE_BYTES: u64 = 2 << 30;

/// The least room that is given to a file at a time.
const BLOCK: i64 = 4096;

/// The small filesystem, mounted.
#[derive(Debug)]
pub(crate) struct FullDisk {
    directory: PathBuf,
}

impl FullDisk {
    /// Makes and mounts it.
    ///
    /// # Errors
    /// Says loudly what is missing: rights to mount, loop devices, mkfs.ext4.
    pub(crate) fn build(scratch: &Path) -> Result<Self, String> {
        let (image, directory) = (scratch.join("small.img"), scratch.join("small"));
        let built = fs::create_dir(&directory)
            .map_err(|error| error.to_string())
            .and_then(|()| make_filesystem(&image, DEVICE_BYTES))
            .and_then(|()| mount(&image, &directory));
        match built {
            Ok(()) => Ok(Self { directory }),
            Err(error) => Err(format!(
                "A FULL DISK WAS NOT TRIED: {error}\n\
                 it needs root with loop devices and mounts (CAP_SYS_ADMIN), and mkfs.ext4 of e2fsprogs"
            )),
        }
    }

    /// A directory on it.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub(crate) fn ballast(&self) -> PathBuf {
        self.directory.join("ballast")
    }

    /// Takes all room that is left, to the last block.
    fn fill(&self) -> Result<(), String> {
        let file = File::create(self.ballast()).map_err(|error| error.to_string())?;
        let (mut length, mut step) = (0, 1 << 30);
        while step >= BLOCK {
            // SAFETY: the descriptor is open; the call touches no memory of ours.
            match unsafe { libc::posix_fallocate(file.as_raw_fd(), length, step) } {
                0 => length += step,
                libc::ENOSPC => step /= 2,
                code => return Err(io::Error::from_raw_os_error(code).to_string()),
            }
        }
        Ok(())
    }

    pub(crate) fn empty(&self) -> Result<(), String> {
        fs::remove_file(self.ballast()).map_err(|error| error.to_string())
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.directory) {
            eprintln!("the drill's filesystem stays mounted: {error}");
        }
    }
}

impl Fault for FullDisk {
    fn name(&self) -> &'static str {
        "full disk"
    }

    fn strike(
        &mut self,
        broker: BrokerProcess,
        launcher: &Launcher,
        random: &mut Random,
    ) -> Result<BrokerProcess, String> {
        self.fill()?;
        thread::sleep(Duration::from_millis(random.within(100..3_000)));
        // The broker may have given room back meanwhile.
        self.fill()?;
        let broker = match random.within(0..3) {
            0 => broker,
            1 => {
                broker.stop()?;
                launcher.start()?
            }
            _ => {
                broker.kill();
                launcher.start()?
            }
        };
        still_serves(launcher, broker.address())?;
        self.empty()?;
        Ok(broker)
    }
}

/// Metadata and records can be read while there is no room.
pub(crate) fn still_serves(launcher: &Launcher, broker: &str) -> Result<(), String> {
    let commands: [&[&str]; 2] = [
        &["topic", "describe", "drill"],
        &["consume", "drill", "--from", "start", "--until-end"],
    ];
    for arguments in commands {
        let output = Command::new(&launcher.corelane)
            .args(arguments)
            .args(["--broker", broker])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(format!(
                "corelane {} fails on a full disk: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }
    Ok(())
}
