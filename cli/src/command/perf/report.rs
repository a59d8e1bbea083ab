//! A result for people.

use std::io;

use comfy_table::Table;
use corelane_perf::{DurabilityFrom, Kind, Manifest, Pace, Percentiles, PerfResult, output};

use crate::output::table::Column;
use crate::output::{line, table, units};

/// Prints what was measured, on what, the figures, and the line that scripts read.
pub(super) fn print(result: &PerfResult) -> io::Result<()> {
    print_headline(result)?;
    line(format_args!(""))?;
    let mut figures = table::table(&[
        Column::Number("RECORDS"),
        Column::Number("SECONDS"),
        Column::Number("RECORDS/S"),
        Column::Number("MB/S"),
        Column::Number("BROKER CPU NS/RECORD"),
        Column::Number("CLIENT CPU NS/RECORD"),
        Column::Number("ERRORS"),
    ]);
    let cpu = |ns: Option<f64>| or_dash(ns.map(|ns| ns as u64));
    figures.add_row([
        units::count(result.records),
        format!("{:.2}", result.seconds),
        units::count(result.records_per_s as u64),
        format!("{:.1}", result.throughput_mb_s),
        cpu(result.broker_cpu_ns_per_record),
        cpu(result.client_cpu_ns_per_record),
        units::count(result.errors),
    ]);
    table::print(&figures)?;
    print_latencies(result)?;
    if result.stages.is_some() {
        line(format_args!(""))?;
        print_stages(result)?;
    }
    print_limit(result)?;
    if let Some(consumed) = &result.consumed {
        line(format_args!(
            "\n{} records ({}) were read {:.1} times{}",
            units::count(consumed.topic_records),
            units::bytes(consumed.topic_bytes),
            consumed.passes,
            match consumed.filled_records {
                0 => String::new(),
                filled => format!(
                    "; the topic was empty and was filled with {} first",
                    units::count(filled)
                ),
            }
        ))?;
    }
    if result.cut_short {
        line(format_args!(
            "\nCUT SHORT after {:.2} s that count",
            result.seconds
        ))?;
    }
    line(format_args!("\n{}", output::line(result)))
}

/// How long the broker's stages took, if that was asked.
pub(super) fn print_stages(result: &PerfResult) -> io::Result<()> {
    let Some(stages) = &result.stages else {
        return Ok(());
    };
    if !stages.times.is_empty() {
        let mut table = table::table(&[
            Column::Text("BROKER'S STAGE, TIMES IN µs"),
            Column::Text("OF"),
            Column::Number("COUNT"),
            Column::Number("MEAN"),
            Column::Number("P50 ≤"),
            Column::Number("P99 ≤"),
            Column::Number("MAX ≤"),
        ]);
        for times in &stages.times {
            table.add_row([
                times.title(),
                times.of.clone(),
                units::count(times.count),
                times
                    .mean_us
                    .map_or_else(|| "-".to_owned(), |us| format!("{us:.1}")),
                or_dash(times.p50_us),
                or_dash(times.p99_us),
                or_dash(times.max_us),
            ]);
        }
        table::print(&table)?;
        line(format_args!(
            "({:.2} s of {}: all cores, and all that the broker did meanwhile; ≤: at most a sixteenth less)",
            stages.seconds, stages.admin
        ))?;
    }
    if let Some(problem) = &stages.problem {
        line(format_args!("STAGES, from {}: {problem}", stages.admin))?;
    }
    Ok(())
}

/// What the machine could do at most with the same bytes, if that was measured.
fn print_limit(result: &PerfResult) -> io::Result<()> {
    let Some(limit) = &result.limit else {
        return Ok(());
    };
    let mut yardsticks = table::table(&[
        Column::Text("LIMIT"),
        Column::Number("MB/S"),
        Column::Number("CPU NS/RECORD"),
        Column::Number("P50"),
        Column::Number("P99"),
        Column::Number("THIS RUN: MB/S"),
        Column::Number("P50"),
        Column::Number("P99"),
    ]);
    let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |r| format!("{r:.2} ×"));
    for yardstick in &limit.yardsticks {
        let latency = yardstick.latency_us.as_ref();
        yardsticks.add_row([
            yardstick.name.clone(),
            format!("{:.1}", yardstick.throughput_mb_s),
            or_dash(yardstick.cpu_ns_per_record.map(|ns| ns as u64)),
            or_dash(latency.map(|latency| latency.p50)),
            or_dash(latency.map(|latency| latency.p99)),
            ratio(Some(yardstick.throughput_ratio)),
            ratio(yardstick.p50_ratio),
            ratio(yardstick.p99_ratio),
        ]);
    }
    line(format_args!(""))?;
    table::print(&yardsticks)?;
    for yardstick in &limit.yardsticks {
        if yardstick.failed_frames > 0 {
            line(format_args!(
                "{}: {} FRAMES GOT NO ANSWER, so its figures say little",
                yardstick.name,
                units::count(yardstick.failed_frames)
            ))?;
        }
    }
    Ok(())
}

fn print_headline(result: &PerfResult) -> io::Result<()> {
    let manifest = &result.manifest;
    let workload = &manifest.workload;
    let pace = match (result.pace, workload.rate, result.kind) {
        (Pace::Open, Some(rate), _) => format!("open loop at {} records/s", units::count(rate)),
        (_, _, Kind::Consume) => "closed loop, as fast as they come".to_owned(),
        _ => format!(
            "closed loop, {} in flight",
            units::bytes(workload.in_flight_bytes)
        ),
    };
    let from = match result.durability_from {
        DurabilityFrom::Receipts => "",
        DurabilityFrom::TopicSettings => " (as the topic is set)",
    };
    let size = match (result.kind, &result.consumed) {
        (Kind::Consume, Some(consumed)) if consumed.filled_records == 0 => String::new(),
        _ => format!(" of {} B", workload.record_size),
    };
    line(format_args!(
        "{}, {pace}: {} records{size}{from}, {} partitions, {} connections, batches of {}",
        result.kind.name(),
        result.durability,
        units::count(manifest.topic.partitions.into()),
        workload.connections,
        units::bytes(workload.batch_bytes.into())
    ))?;
    print_manifest(manifest)
}

/// The machine, the broker, and what is not the default.
pub(super) fn print_manifest(manifest: &Manifest) -> io::Result<()> {
    let software = &manifest.software;
    let broker = if manifest.broker.embedded {
        "broker embedded".to_owned()
    } else {
        format!("broker {}", manifest.broker.address)
    };
    let filesystem = software.filesystem.as_ref();
    let filesystem = filesystem.map_or_else(String::new, |filesystem| format!(", {filesystem}"));
    line(format_args!(
        "{}, {} cores, kernel {}{filesystem}, {broker}, load average {:.1} at start",
        software.cpu, software.cores, software.kernel, software.load_average
    ))?;
    if let Some(settings) = manifest
        .broker
        .settings
        .as_ref()
        .filter(|settings| !settings.is_empty())
    {
        line(format_args!("broker settings: {}", settings.join(", ")))?;
    }
    if !manifest.topic.settings.is_empty() {
        line(format_args!(
            "topic settings: {}",
            manifest.topic.settings.join(", ")
        ))?;
    }
    if manifest.workload.topic.is_none() && manifest.topic.kept {
        line(format_args!(
            "its topic {} could not be deleted and is left behind",
            manifest.topic.name
        ))?;
    }
    if !software.optimised {
        line(format_args!(
            "THIS IS A DEBUG BUILD: its figures say nothing; use --release"
        ))?;
    }
    Ok(())
}

/// A number that may be unknown.
pub(super) fn or_dash(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), units::count)
}

/// A word for who decides when records are sent.
pub(super) fn pace_word(result: &PerfResult) -> &'static str {
    match result.pace {
        Pace::Open => "open",
        Pace::Closed => "closed",
    }
}

/// A table of percentiles, without rows.
pub(super) fn percentiles_table() -> Table {
    table::table(&PERCENTILES.map(Column::Number))
}

const PERCENTILES: [&str; 7] = ["P50", "P90", "P99", "P99.9", "P99.99", "MAX", "RECORDS"];

/// A row of it.
pub(super) fn percentiles_row(latency: &Percentiles) -> [String; 7] {
    let figures = [
        latency.p50,
        latency.p90,
        latency.p99,
        latency.p999,
        latency.p9999,
        latency.max,
        latency.count,
    ];
    figures.map(units::count)
}

fn print_latencies(result: &PerfResult) -> io::Result<()> {
    let mut latencies = table::table(&[
        Column::Text("LATENCY IN µs, FROM"),
        Column::Number(PERCENTILES[0]),
        Column::Number(PERCENTILES[1]),
        Column::Number(PERCENTILES[2]),
        Column::Number(PERCENTILES[3]),
        Column::Number(PERCENTILES[4]),
        Column::Number(PERCENTILES[5]),
        Column::Number(PERCENTILES[6]),
    ]);
    let (name, service) = match (result.pace, result.kind) {
        (Pace::Closed, _) => (
            "the send (closed loop: mostly the length of the queue)",
            None,
        ),
        (Pace::Open, Kind::EndToEnd) => (
            "its intended send to the consumer",
            Some("its actual send to the consumer"),
        ),
        (Pace::Open, _) => ("its intended send", Some("its actual send (service time)")),
    };
    let rows = [
        (Some(name), &result.latency_us),
        (service, &result.service_time_us),
        (
            Some("its intended send to the receipt"),
            &result.acknowledge_us,
        ),
    ];
    let mut is_empty = true;
    for (name, latency) in rows {
        if let (Some(name), Some(latency)) = (name, latency) {
            let figures = percentiles_row(latency);
            latencies.add_row(std::iter::once(name.to_owned()).chain(figures));
            is_empty = false;
        }
    }
    if is_empty {
        return Ok(());
    }
    line(format_args!(""))?;
    table::print(&latencies)
}
