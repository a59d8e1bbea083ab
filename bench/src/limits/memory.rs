//! Copying and checksums, from memory and from the caches.

use std::hint::black_box;
use std::time::Duration;

use corelane_storage::memory::AlignedBuf;
use serde::Serialize;

use crate::clock::Clock;

/// Larger than the caches of most machines.
const COLD_BYTES: usize = 128 << 20;
/// A large batch, which stays in a core's own cache.
const WARM_BYTES: usize = 64 << 10;

/// Bytes gone over, in 10^6 a second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MemoryLimits {
    /// Copies between two areas of 64 MiB.
    pub copy_cold_mb_s: f64,
    /// Copies of 64 KiB again and again.
    pub copy_warm_mb_s: f64,
    /// CRC32C over 128 MiB.
    pub crc32c_cold_mb_s: f64,
    /// CRC32C over the same 64 KiB again and again.
    pub crc32c_warm_mb_s: f64,
}

/// Measures them on the calling thread, each for `duration`.
#[must_use]
pub fn measure(duration: Duration) -> MemoryLimits {
    let mut memory = AlignedBuf::zeroed(COLD_BYTES);
    memory.fill(0x5a);
    let (from, to) = memory.split_at_mut(COLD_BYTES / 2);
    let copy_cold_mb_s = rate(duration, from.len(), || {
        to.copy_from_slice(black_box(from));
    });
    let copy_warm_mb_s = rate(duration, WARM_BYTES, || {
        to[..WARM_BYTES].copy_from_slice(black_box(&from[..WARM_BYTES]));
    });
    MemoryLimits {
        copy_cold_mb_s,
        copy_warm_mb_s,
        crc32c_cold_mb_s: rate(duration, COLD_BYTES, || {
            black_box(crc32c::crc32c(black_box(&memory)));
        }),
        crc32c_warm_mb_s: rate(duration, WARM_BYTES, || {
            black_box(crc32c::crc32c(black_box(&memory[..WARM_BYTES])));
        }),
    }
}

fn rate(duration: Duration, bytes: usize, mut once: impl FnMut()) -> f64 {
    // Enough for a look at the clock to cost nothing.
    let repeats = (1_usize << 20).div_ceil(bytes);
    let clock = Clock::start();
    let mut total = 0;
    while clock.elapsed() < duration {
        for _ in 0..repeats {
            once();
        }
        total += repeats * bytes;
    }
    total as f64 / 1e6 / clock.elapsed().as_secs_f64()
}
