//! A broker in a process of its own: started, looked at, ended or killed. So its memory, handles and CPU are its own.

mod serve;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::BenchError;
use crate::clock::Clock;
use crate::cpu::Threads;
pub use serve::serve;

/// A running broker; killed if it is dropped.
pub(crate) struct Child {
    process: process::Child,
    address: SocketAddr,
}

impl Child {
    /// Starts it with a core on each of the CPUs, and waits until it is ready.
    pub(crate) fn start(data_dir: &Path, cpus: &[usize]) -> Result<Self, BenchError> {
        let program = std::env::current_exe();
        let program = program.map_err(BenchError::io("cannot find this program"))?;
        let mut command = Command::new(program);
        command.arg("--serve").arg(data_dir);
        let cpus: Vec<_> = cpus.iter().map(usize::to_string).collect();
        command.arg("--serve-cpus").arg(cpus.join(","));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let process = command.spawn();
        let mut process = process.map_err(BenchError::io("cannot start a broker"))?;
        let mut line = String::new();
        let output = process.stdout.take().expect("it was piped");
        let read = BufReader::new(output).read_line(&mut line);
        let address = line.strip_prefix("ready ").map(str::trim);
        let address = address.and_then(|address| address.parse().ok());
        match (read, address) {
            (Ok(_), Some(address)) => Ok(Self { process, address }),
            _ => {
                let _ = process.kill();
                let _ = process.wait();
                let text = "the broker's process ended before it was ready";
                Err(BenchError::Protocol(text.into()))
            }
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Resident memory, bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most that was ever resident, bytes.
    pub(crate) fn memory_peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let status = fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|line| line.split_ascii_whitespace().next());
        kilobytes
            .and_then(|field| field.parse::<u64>().ok())
            .unwrap_or(0)
            * 1024
    }

    /// Open handles.
    pub(crate) fn handles(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).map_or(0, Iterator::count)
    }

    /// CPU of all threads over a while, per cent of one core.
    pub(crate) fn cpu_percent(&self, duration: Duration) -> f64 {
        let threads = Threads::named(self.id(), "");
        let clock = Clock::start();
        let before = threads.run_time_ns();
        thread::sleep(duration);
        let used = threads.run_time_ns().saturating_sub(before);
        100.0 * used as f64 / clock.ns() as f64
    }

    /// Ends it in order.
    pub(crate) fn stop(mut self) -> Result<(), BenchError> {
        drop(self.process.stdin.take());
        let ended = self.process.wait();
        let status = ended.map_err(BenchError::io("cannot wait for the broker"))?;
        if status.success() {
            Ok(())
        } else {
            Err(BenchError::Protocol(format!(
                "the broker's process ended with {status}"
            )))
        }
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(mut self) -> Result<(), BenchError> {
        let killed = self.process.kill().and_then(|()| self.process.wait());
        killed
            .map(drop)
            .map_err(BenchError::io("cannot kill the broker"))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already, which is as well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
