//! TCP over loopback in one direction: one thread writes, one reads, each on its CPU.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::clock::Clock;
use crate::{BenchError, cpu};

/// Bytes of one read.
const READ_BYTES: usize = 256 << 10;

/// What arrived, in 10^6 bytes a second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TcpLimit {
    /// Bytes of one write.
    pub write_bytes: usize,
    /// Whether the reader went over it with CRC32C.
    pub has_crc32c: bool,
    /// The rate.
    pub mb_s: f64,
}

/// Measures with writes of `write_bytes`, reading on the first CPU and writing on the second.
///
/// # Errors
/// There is no loopback.
pub fn measure(
    write_bytes: usize,
    has_crc32c: bool,
    duration: Duration,
    (read_cpu, write_cpu): (usize, usize),
) -> Result<TcpLimit, BenchError> {
    let what = "TCP over loopback";
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(BenchError::io(what))?;
    let address = listener.local_addr().map_err(BenchError::io(what))?;
    let writer = thread::spawn(move || -> std::io::Result<()> {
        cpu::pin(write_cpu);
        let mut socket = TcpStream::connect(address)?;
        let bytes = vec![0x5a; write_bytes];
        // It ends when the reader has gone.
        while socket.write_all(&bytes).is_ok() {}
        Ok(())
    });
    let reader = thread::spawn(move || -> std::io::Result<f64> {
        cpu::pin(read_cpu);
        let (mut socket, _) = listener.accept()?;
        let mut bytes = vec![0; READ_BYTES];
        let mut checksum = 0;
        let clock = Clock::start();
        let mut total = 0;
        while clock.elapsed() < duration {
            let count = socket.read(&mut bytes)?;
            if has_crc32c {
                checksum = crc32c::crc32c_append(checksum, &bytes[..count]);
            }
            total += count;
        }
        std::hint::black_box(checksum);
        Ok(total as f64 / 1e6 / clock.elapsed().as_secs_f64())
    });
    let mb_s = reader.join().expect("the reader does not panic");
    let mb_s = mb_s.map_err(BenchError::io(what))?;
    let wrote = writer.join().expect("the writer does not panic");
    wrote.map_err(BenchError::io(what))?;
    Ok(TcpLimit {
        write_bytes,
        has_crc32c,
        mb_s,
    })
}
