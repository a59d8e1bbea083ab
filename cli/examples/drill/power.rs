//! A disk whose power can be cut, made of two loop devices.
//!
//! The broker's filesystem lies on a loop device whose file lies on a second filesystem on a second
//! loop device. What the first device was given and not told to flush is then only in the page
//! cache of the second filesystem, as it would be in a disk's volatile cache. Shutting the second
//! filesystem down by ext4's own ioctl, without a log flush, throws that cache away for good: an
//! unflushed direct write is lost as well as an unflushed file. The rig proves this of itself
//! before it is used.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{ptr, slice, thread};

/// Size of the broker's device. Both images are sparse.
const DEVICE_BYTES: u64 = 6 << 30;

/// `EXT4_IOC_SHUTDOWN`, that is `_IOR('X', 125, __u32)` (linux/fs/ext4/ext4.h).
const EXT4_IOC_SHUTDOWN: libc::Ioctl = 0x8004_587d_u32 as libc::Ioctl;
/// Neither the journal nor data are flushed: what is not on the device is lost.
const EXT4_GOING_FLAGS_NOLOGFLUSH: u32 = 2;

/// Filesystem on device on filesystem on device.
#[derive(Debug)]
pub(crate) struct Rig {
    outer_image: PathBuf,
    outer: PathBuf,
    inner: PathBuf,
}

impl Rig {
    /// Builds the rig and shows that it loses what is not flushed and keeps what is.
    ///
    /// # Errors
    /// Says loudly what is missing: rights to mount, loop devices, mkfs.ext4.
    pub(crate) fn build(scratch: &Path) -> Result<Self, String> {
        let rig = Self {
            outer_image: scratch.join("outer.img"),
            outer: scratch.join("outer"),
            inner: scratch.join("inner"),
        };
        rig.prepare().map_err(|error| {
            format!(
                "POWER LOSS WAS NOT TRIED: {error}\n\
                 it needs root with loop devices and mounts (CAP_SYS_ADMIN), and mkfs.ext4 of e2fsprogs"
            )
        })?;
        rig.prove()?;
        Ok(rig)
    }

    /// A directory on the broker's filesystem.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.inner.join("data")
    }

    /// Cuts the power: from here on nothing reaches the disk, and its cache is forgotten.
    pub(crate) fn cut(&self) -> Result<(), String> {
        let outer = File::open(&self.outer).map_err(|error| error.to_string())?;
        let flags = EXT4_GOING_FLAGS_NOLOGFLUSH;
        // SAFETY: the request reads one u32, which outlives the call, and the descriptor is open.
        let result =
            unsafe { libc::ioctl(outer.as_raw_fd(), EXT4_IOC_SHUTDOWN, ptr::from_ref(&flags)) };
        if result == 0 {
            return Ok(());
        }
        Err(format!(
            "the ext4 shutdown ioctl failed: {}",
            io::Error::last_os_error()
        ))
    }

    /// Power returns: both filesystems are mounted again, from what the disk had kept.
    pub(crate) fn restore(&self) -> Result<(), String> {
        self.unmount()?;
        self.mount()
    }

    fn prepare(&self) -> Result<(), String> {
        for directory in [&self.outer, &self.inner] {
            fs::create_dir(directory).map_err(|error| error.to_string())?;
        }
        make_filesystem(&self.outer_image, DEVICE_BYTES + DEVICE_BYTES / 8)?;
        mount(&self.outer_image, &self.outer)?;
        make_filesystem(&self.inner_image(), DEVICE_BYTES)?;
        run(Command::new("sync").arg("--file-system").arg(&self.outer))?;
        mount(&self.inner_image(), &self.inner)
    }

    /// A direct write that was flushed survives, and one that was not is lost. Otherwise a drill on
    /// this rig would show nothing.
    fn prove(&self) -> Result<(), String> {
        let path = self.inner.join("canary");
        let explain = |error: io::Error| format!("cannot try the rig: {error}");
        let canary = || -> io::Result<()> {
            let file = open_direct(&path, true)?;
            let mut block = DirectBlock::new();
            block.fill(b'0');
            for position in 0..2 {
                file.write_all_at(block.bytes(), position * DirectBlock::BYTES)?;
            }
            file.sync_all()?;
            File::open(&self.inner)?.sync_all()?;
            block.fill(b'1');
            file.write_all_at(block.bytes(), 0)?;
            file.sync_data()?;
            file.write_all_at(block.bytes(), DirectBlock::BYTES)
        };
        canary().map_err(explain)?;
        self.cut()?;
        self.restore()?;
        let kept = fs::read(&path).map_err(explain)?;
        fs::remove_file(&path).map_err(explain)?;
        let (flushed, unflushed) = (kept[0], kept[DirectBlock::BYTES as usize]);
        if (flushed, unflushed) != (b'1', b'0') {
            return Err(format!(
                "this rig does not lose what is not flushed (flushed block {flushed}, unflushed block {unflushed}): POWER LOSS WAS NOT TRIED"
            ));
        }
        println!("the disk was shown to keep a flushed write and to lose an unflushed one");
        Ok(())
    }

    fn inner_image(&self) -> PathBuf {
        self.outer.join("inner.img")
    }

    fn mount(&self) -> Result<(), String> {
        mount(&self.outer_image, &self.outer)?;
        mount(&self.inner_image(), &self.inner)
    }

    fn unmount(&self) -> Result<(), String> {
        unmount(&self.inner)?;
        unmount(&self.outer)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            eprintln!("the drill's filesystems stay mounted: {error}");
        }
    }
}

pub(crate) fn make_filesystem(image: &Path, bytes: u64) -> Result<(), String> {
    let file = File::create_new(image).and_then(|file| file.set_len(bytes));
    file.map_err(|error| format!("cannot make {}: {error}", image.display()))?;
    run(Command::new("mkfs.ext4")
        .args(["-q", "-F", "-m", "0"])
        .arg(image))
}

pub(crate) fn mount(image: &Path, directory: &Path) -> Result<(), String> {
    run(Command::new("mount")
        .args(["-o", "loop"])
        .arg(image)
        .arg(directory))
}

/// A process that was just killed may hold the filesystem for a moment longer.
pub(crate) fn unmount(directory: &Path) -> Result<(), String> {
    let mut tries = 0;
    loop {
        match run(Command::new("umount").arg(directory)) {
            Err(error) if error.contains("busy") && tries < 100 => {
                tries += 1;
                thread::sleep(Duration::from_millis(50));
            }
            Err(error) if error.contains("not mounted") => return Ok(()),
            result => return result,
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output();
    let name = command.get_program().to_string_lossy().into_owned();
    let output = output.map_err(|error| format!("cannot run {name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    ))
}

fn open_direct(path: &Path, create: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(create)
        .custom_flags(libc::O_DIRECT);
    options.open(path)
}

/// One block, aligned as direct writes ask.
#[repr(align(4096))]
struct DirectBlock([u8; Self::BYTES as usize]);

impl DirectBlock {
    const BYTES: u64 = 4096;

    fn new() -> Box<Self> {
        Box::new(Self([0; Self::BYTES as usize]))
    }

    fn fill(&mut self, byte: u8) {
        self.0.fill(byte);
    }

    fn bytes(&self) -> &[u8] {
        slice::from_ref(&self.0).as_flattened()
    }
}
