//! `limit`: what this machine can do at most, in under two minutes. See docs/performance.md.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use corelane_bench::cpu::{self, Threads};
use corelane_bench::frames::Frames;
use corelane_bench::limits::disk::{self, DiskLimit};
use corelane_bench::limits::memory::{self, MemoryLimits};
use corelane_bench::limits::tcp::{self, TcpLimit};
use corelane_bench::machine::Machine;
use corelane_bench::relay::{Form, MEMORY_BYTES, Relay, Served, THREAD};
use corelane_bench::sender::{Outcome, Pace, Peer, Plan, send};
use corelane_bench::table::{figure, table};
use corelane_bench::{BenchError, scratch};
use serde::Serialize;

/// Measures what this machine can do at most: TCP, direct writes, memory, and the relay, a program that does only
/// what a perfect broker must.
#[derive(Parser)]
#[command(name = "limit")]
struct Arguments {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Bytes of a relay frame.
    #[arg(long, default_value_t = 65_536)]
    frame_bytes: usize,
    /// Bytes in flight to the relay.
    #[arg(long, default_value_t = 8 << 20)]
    window_bytes: usize,
    /// Bytes of a small relay frame, for the loads of single records.
    #[arg(long, default_value_t = 1_128)]
    small_bytes: usize,
    /// Small frames in flight.
    #[arg(long, default_value_t = 2000)]
    small_in_flight: usize,
    /// Small frames a second in the open loop.
    #[arg(long, default_value_t = 5000.0)]
    rate: f64,
    /// Bytes of the file whose blocks are written again; a multiple of 16 MiB.
    #[arg(long, default_value_t = 512 << 20)]
    recycled_bytes: u64,
    /// Bytes of the file whose blocks are never written again; 0: as much as the measurement can take.
    #[arg(long, default_value_t = 0)]
    fresh_bytes: u64,
    /// Directory to write in [default: TMPDIR, or /var/tmp].
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// Everything that was measured. `version` changes with the meaning of the other fields.
#[derive(Serialize)]
struct Report {
    version: u32,
    machine: Machine,
    tcp: Vec<TcpLimit>,
    disk: Vec<DiskLimit>,
    memory: MemoryLimits,
    relay: Vec<RelayResult>,
}

#[derive(Serialize)]
struct RelayResult {
    load: &'static str,
    form: Form,
    frame_bytes: usize,
    /// Whether frames were sent at a steady rate, so that latency counts from the time each was due.
    is_open_loop: bool,
    outcome: Outcome,
    served: Served,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure(&arguments) {
        Ok(report) => {
            match arguments.format {
                Format::Json => println!("{}", json(&report)),
                Format::Table => print(&report),
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("limit: {error}");
            ExitCode::FAILURE
        }
    }
}

fn json(report: &Report) -> String {
    serde_json::to_string_pretty(report).expect("figures and names become JSON")
}

fn measure(arguments: &Arguments) -> Result<Report, BenchError> {
    if arguments.seconds.is_nan() || arguments.seconds <= 0.0 {
        return Err(BenchError::Settings("--seconds must be more than 0".into()));
    }
    let duration = Duration::from_secs_f64(arguments.seconds);
    let directory = scratch::directory(arguments.directory.as_deref())?;
    let machine = Machine::look(directory.path());
    let cpus = cpu::pair();
    let mut tcp = Vec::new();
    for write_bytes in [64 << 10, 1 << 20] {
        for has_crc32c in [false, true] {
            tcp.push(tcp::measure(write_bytes, has_crc32c, duration, cpus)?);
        }
    }
    let disk = measure_disk(directory.path(), arguments.recycled_bytes, duration)?;
    Ok(Report {
        version: 1,
        machine,
        tcp,
        disk,
        memory: memory::measure(duration / 4),
        relay: measure_relay(arguments, directory.path(), cpus)?,
    })
}

fn measure_disk(
    directory: &Path,
    file_bytes: u64,
    duration: Duration,
) -> Result<Vec<DiskLimit>, BenchError> {
    let path = directory.join("written");
    let file = scratch::written(&path, file_bytes)?;
    let mut limits = Vec::new();
    for (depth, is_durable) in [(disk::DEPTH, false), (1, true)] {
        for size in disk::SIZES {
            limits.push(disk::measure(
                &file, file_bytes, size, depth, is_durable, duration,
            )?);
        }
    }
    std::fs::remove_file(&path).map_err(BenchError::file("remove", &path))?;
    Ok(limits)
}

fn measure_relay(
    arguments: &Arguments,
    directory: &Path,
    (relay_cpu, sender_cpu): (usize, usize),
) -> Result<Vec<RelayResult>, BenchError> {
    let fresh_bytes = match arguments.fresh_bytes {
        0 => corelane_bench::relay::fresh_bytes(directory, arguments.seconds + 1.0)?,
        bytes => bytes,
    };
    let step = MEMORY_BYTES as u64;
    let recycled = arguments.recycled_bytes / step * step;
    let recycled = Relay::prepare(Form::Recycled, directory, recycled, relay_cpu)?;
    let fresh = Relay::prepare(Form::Fresh, directory, fresh_bytes, relay_cpu)?;
    let closed = |window_bytes| Pace::Closed { window_bytes };
    let small = arguments.small_bytes;
    let loads = [
        (
            "batches",
            &recycled,
            arguments.frame_bytes,
            closed(arguments.window_bytes),
        ),
        (
            "batches",
            &fresh,
            arguments.frame_bytes,
            closed(arguments.window_bytes),
        ),
        (
            "records",
            &recycled,
            small,
            closed(small * arguments.small_in_flight),
        ),
        (
            "steady",
            &recycled,
            small,
            Pace::Open {
                rate: arguments.rate,
            },
        ),
    ];
    let mut results = Vec::new();
    for (load, relay, frame_bytes, pace) in loads {
        if frame_bytes <= corelane_bench::relay::HEADER_BYTES {
            return Err(BenchError::Settings(
                "a frame must have more than 8 bytes".into(),
            ));
        }
        let mut frames = Frames::relay(frame_bytes, 1);
        let serving = relay.serve()?;
        cpu::settle(Duration::from_secs(2));
        let plan = Plan {
            peer: Peer::Relay,
            address: serving.address(),
            pace,
            warm_up: Duration::from_millis(300),
            duration: Duration::from_secs_f64(arguments.seconds),
            cpu: sender_cpu,
        };
        let threads = Threads::named(std::process::id(), THREAD);
        let sent = send(&plan, &mut frames, &threads);
        // If the connection broke, the relay knows why.
        let served = serving.finish()?;
        relay.clear();
        results.push(RelayResult {
            load,
            form: relay.form(),
            frame_bytes,
            is_open_loop: matches!(pace, Pace::Open { .. }),
            outcome: sent?,
            served,
        });
    }
    Ok(results)
}

fn print(report: &Report) {
    println!("{}\n", report.machine.line());
    let mut tcp = table(&["tcp one way", "crc32c", "MB/s"]);
    for limit in &report.tcp {
        let crc32c = if limit.has_crc32c { "yes" } else { "no" };
        tcp.add_row([size(limit.write_bytes), crc32c.into(), figure(limit.mb_s)]);
    }
    println!("{tcp}\n");
    let mut disk = table(&[
        "direct write",
        "depth",
        "flushed",
        "MB/s",
        "p50 µs",
        "p99 µs",
    ]);
    for limit in &report.disk {
        let flushed = if limit.is_durable { "yes" } else { "no" };
        disk.add_row([
            size(limit.write_bytes),
            limit.depth.to_string(),
            flushed.into(),
            figure(limit.mb_s),
            figure(limit.latency_us.p50),
            figure(limit.latency_us.p99),
        ]);
    }
    println!("{disk}\n");
    let mut memory = table(&["memory", "cold MB/s", "warm MB/s"]);
    let limits = &report.memory;
    memory.add_row([
        "copy".into(),
        figure(limits.copy_cold_mb_s),
        figure(limits.copy_warm_mb_s),
    ]);
    memory.add_row([
        "crc32c".into(),
        figure(limits.crc32c_cold_mb_s),
        figure(limits.crc32c_warm_mb_s),
    ]);
    println!("{memory}\n");
    let headings = [
        "relay, durable",
        "frame",
        "loop",
        "MB/s",
        "acks/s",
        "CPU ns/KB",
        "CPU ns/ack",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
    ];
    let mut relay = table(&headings);
    for result in &report.relay {
        let outcome = &result.outcome;
        relay.add_row([
            format!("{}, {}", result.load, result.form.as_str()),
            size(result.frame_bytes),
            if result.is_open_loop {
                "open"
            } else {
                "closed"
            }
            .into(),
            figure(outcome.mb_s),
            figure(outcome.acks_s),
            figure(outcome.cpu_ns_per_kb),
            figure(outcome.cpu_ns_per_ack),
            figure(outcome.latency_us.p50),
            figure(outcome.latency_us.p99),
            figure(outcome.latency_us.p999),
        ]);
    }
    println!("{relay}");
}

fn size(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => {
            format!("{} MiB", bytes >> 20)
        }
        bytes if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => {
            format!("{} KiB", bytes >> 10)
        }
        bytes => format!("{bytes} B"),
    }
}
