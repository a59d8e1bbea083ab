//! The relay: a program that does only what a perfect broker must. It receives by TCP on one core, checks a
//! CRC32C, writes directly and durably, and acknowledges when it is durable. What it reaches is the limit that
//! a broker's figures are held against.
//!
//! It does nothing else on purpose: no topics, no offsets, no index, one connection, and one acknowledgement
//! for all that became durable together. It is served by a thread of its own, pinned to a CPU, through an
//! io_uring set up as the broker's is: multishot receive into provided buffers, one copy into aligned memory,
//! writes with `RWF_DSYNC`.
//!
//! # The stream
//! Frames of `length: u32`, `crc32c: u32`, then `length` bytes, little-endian. Back comes, as 8 bytes, how many
//! bytes of the stream are durable, as often as that grows.
//!
//! # Two forms
//! *Recycled* goes over a file of blocks that were all written before, again and again, as a journal may.
//! *Fresh* never writes a block twice, as a log that keeps its data: it goes through a file whose room was only
//! reserved.

mod check;
mod log;
mod ring;
mod serve;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use serde::Serialize;

use crate::{BenchError, scratch};

/// What lies between receiving and writing, bytes: small enough to stay in the caches with the receive buffers,
/// large enough for several writes in flight.
pub const MEMORY_BYTES: usize = 16 << 20;

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 8;

/// Whether blocks are written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Over blocks that were written before.
    Recycled,
    /// Never the same block twice.
    Fresh,
}

impl Form {
    /// The word in tables and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recycled => "recycled",
            Self::Fresh => "fresh",
        }
    }
}

/// A relay's file and CPU. Serves any number of connections, one after the other.
#[derive(Debug)]
pub struct Relay {
    form: Form,
    cpu: usize,
    path: PathBuf,
    file_bytes: u64,
    /// Open for as long as it is reused; a fresh file is made for each connection.
    recycled: Option<File>,
}

impl Relay {
    /// Makes the file, and writes all of it once if it is to be recycled.
    ///
    /// # Errors
    /// The length is no multiple of [`MEMORY_BYTES`], or the disk refuses.
    pub fn prepare(
        form: Form,
        directory: &Path,
        file_bytes: u64,
        cpu: usize,
    ) -> Result<Self, BenchError> {
        if file_bytes == 0 || !file_bytes.is_multiple_of(MEMORY_BYTES as u64) {
            let text = format!(
                "the relay's file has {file_bytes} bytes, which is no multiple of {MEMORY_BYTES}"
            );
            return Err(BenchError::Settings(text));
        }
        let path = directory.join(format!("relay-{}", form.as_str()));
        let recycled = match form {
            Form::Recycled => Some(scratch::written(&path, file_bytes)?),
            Form::Fresh => None,
        };
        Ok(Self {
            form,
            cpu,
            path,
            file_bytes,
            recycled,
        })
    }

    /// The form it was made in.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// Where the bytes go.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves one connection, on a thread of its own.
    ///
    /// # Errors
    /// There is no port, no room for a fresh file, or no thread.
    pub fn serve(&self) -> Result<Serving, BenchError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = listener.map_err(BenchError::io("cannot listen"))?;
        let address = listener.local_addr();
        let address = address.map_err(BenchError::io("cannot listen"))?;
        let file = match &self.recycled {
            Some(file) => file
                .try_clone()
                .map_err(BenchError::file("use", &self.path))?,
            None => {
                // A file that was written to is no fresh one.
                let _ = fs::remove_file(&self.path);
                scratch::reserved(&self.path, self.file_bytes)?
            }
        };
        let settings = serve::Settings {
            form: self.form,
            cpu: self.cpu,
            file,
            file_bytes: self.file_bytes,
        };
        let thread = thread::Builder::new().name(THREAD.into());
        let thread = thread
            .spawn(move || serve::serve(&listener, settings))
            .map_err(BenchError::io("cannot start a thread"))?;
        Ok(Serving { address, thread })
    }

    /// Gives back the room that a fresh file took.
    pub fn clear(&self) {
        if self.form == Form::Fresh {
            // If it is not there, there is nothing to give back.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The name of the relay's thread.
pub const THREAD: &str = "relay";

/// A relay that serves a connection.
pub struct Serving {
    address: SocketAddr,
    thread: JoinHandle<Result<Served, BenchError>>,
}

impl Serving {
    /// Where to connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the sender has closed the connection.
    ///
    /// # Errors
    /// A checksum was wrong, the disk refused, or a fresh file is full.
    pub fn finish(self) -> Result<Served, BenchError> {
        self.thread.join().expect("the relay does not panic")
    }
}

/// What a relay did.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Served {
    /// Frames whose checksum was right.
    pub frames: u64,
    /// Bytes of the stream, all durable.
    pub bytes: u64,
    /// Durable writes.
    pub writes: u64,
    /// Bytes written, padding to whole blocks included.
    pub written_bytes: u64,
    /// Whether writes used memory that was registered with the kernel, which needs locked memory.
    pub has_registered_memory: bool,
    /// Whether the kernel fills receive buffers piece by piece (Linux 6.12).
    pub has_incremental_buffers: bool,
}

/// How long a fresh file has to be so that no relay fills it in so many seconds: as if it wrote 5 GB a second, but
/// at most half of the free room.
///
/// # Errors
/// Nobody knows how much room there is.
pub fn fresh_bytes(directory: &Path, seconds: f64) -> Result<u64, BenchError> {
    let step = MEMORY_BYTES as u64;
    let free = scratch::free_bytes(directory)?;
    let wanted = (seconds * 5e9) as u64;
    Ok(wanted.min(free / 2).max(step) / step * step)
}
