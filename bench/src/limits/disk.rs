//! Direct writes over blocks that were written before, through io_uring.
#![expect(
    unsafe_code,
    reason = "the kernel reads memory that operations point to"
)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use corelane_storage::memory::AlignedBuf;
use io_uring::{IoUring, opcode, types};
use serde::Serialize;

use crate::BenchError;
use crate::clock::Clock;
use crate::latency::{Latency, histogram};

/// Writes in flight where the rate is measured.
pub const DEPTH: u64 = 4;
/// The sizes that are measured, bytes.
pub const SIZES: [usize; 4] = [4 << 10, 64 << 10, 256 << 10, 1 << 20];

/// What writes of one size reach.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DiskLimit {
    /// Bytes of one write.
    pub write_bytes: usize,
    /// Writes in flight.
    pub depth: u64,
    /// Whether each was flushed before it counted.
    pub is_durable: bool,
    /// 10^6 bytes a second.
    pub mb_s: f64,
    /// The time of one write, microseconds.
    pub latency_us: Latency,
}

/// Writes through a file of `file_bytes`, a multiple of `write_bytes`, again and again.
///
/// # Errors
/// io_uring or the disk refuses.
pub fn measure(
    file: &File,
    file_bytes: u64,
    write_bytes: usize,
    depth: u64,
    is_durable: bool,
    duration: Duration,
) -> Result<DiskLimit, BenchError> {
    let mut uring = IoUring::new(64).map_err(BenchError::io("io_uring"))?;
    let mut memory = AlignedBuf::zeroed(write_bytes);
    memory.fill(0x5a);
    let flags = if is_durable { libc::RWF_DSYNC } else { 0 };
    let clock = Clock::start();
    let mut started = vec![0; depth as usize];
    let mut times = histogram();
    let (mut pushed, mut done) = (0_u64, 0_u64);
    loop {
        let is_over = clock.elapsed() >= duration;
        while !is_over && pushed - done < depth {
            let position = pushed * write_bytes as u64 % file_bytes;
            let file = types::Fd(file.as_raw_fd());
            let write = opcode::Write::new(file, memory.as_ptr(), write_bytes as u32)
                .offset(position)
                .rw_flags(flags)
                .build()
                .user_data(pushed % depth);
            // Completions may change places: a time that is overtaken counts for the other.
            started[(pushed % depth) as usize] = clock.ns();
            // SAFETY: nobody writes to the memory, and it is freed only after all writes have ended.
            let result = unsafe { uring.submission().push(&write) };
            result.expect("the queue holds more than the depth");
            pushed += 1;
        }
        if pushed == done {
            break;
        }
        uring
            .submit_and_wait(1)
            .map_err(BenchError::io("io_uring"))?;
        for entry in uring.completion() {
            if entry.result() != write_bytes as i32 {
                // The other writes may still read the memory.
                std::mem::forget(memory);
                let error = io::Error::from_raw_os_error(-entry.result().min(0));
                return Err(BenchError::io("a direct write")(error));
            }
            let start = started[entry.user_data() as usize];
            times.saturating_record(clock.ns() - start);
            done += 1;
        }
    }
    let bytes = done as f64 * write_bytes as f64;
    Ok(DiskLimit {
        write_bytes,
        depth,
        is_durable,
        mb_s: bytes / 1e6 / clock.elapsed().as_secs_f64(),
        latency_us: Latency::of(&times),
    })
}
