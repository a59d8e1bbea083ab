//! One interval's rates, printed.

use std::io;
use std::time::Duration;

use corelane_broker::admin::fetch;

use super::rates::{CoreRates, TopicRates, View, between};
use super::screen::{bytes_rate, short_count, span, time};
use crate::command::Format;
use crate::failure::Failure;
use crate::output::table::Column;
use crate::output::{json, line, say, table, units};
use crate::runtime::block_on;

pub(super) fn run(admin: &str, interval: Duration, format: Format) -> Result<(), Failure> {
    let view = block_on(look(admin, interval))?;
    for problem in &view.problems {
        say(format_args!("warning: {problem}"));
    }
    let printed = match format {
        Format::Json => json::print(&view),
        Format::Table => print(&view),
    };
    printed.map_err(|error| Failure::writing(&error))
}

async fn look(admin: &str, interval: Duration) -> Result<View, Failure> {
    let failed = |problem: String| {
        Failure::with_advice(
            format_args!("{admin} says nothing: {problem}"),
            "start a broker with `corelane serve`, or name its admin endpoint (admin.listen) with --admin or \
             CORELANE_ADMIN",
        )
    };
    let earlier = fetch(admin).await.map_err(failed)?;
    loop {
        tokio::time::sleep(interval).await;
        let later = fetch(admin).await.map_err(failed)?;
        if later.started_ms != earlier.started_ms {
            return Err(Failure::new("the broker was started anew in between"));
        }
        // A state may be shown again for a moment.
        if let Some(view) = between(&earlier, &later) {
            return Ok(view);
        }
    }
}

fn print(view: &View) -> io::Result<()> {
    let total = &view.total;
    line(format_args!(
        "{}  up {}  {} connections  {} partitions  {} stored  {} resident",
        view.bootstrap,
        span(Duration::from_micros(view.uptime_us)),
        units::count(total.connections),
        units::count(total.partitions),
        units::bytes(total.size_bytes),
        units::bytes(view.resident_bytes),
    ))?;
    line(format_args!(
        "in {}/s, {} records/s; out {}/s, {} records/s; produce p50 {}, p99 {}; {} errors/s",
        bytes_rate(total.bytes_in),
        short_count(total.records_in),
        bytes_rate(total.bytes_out),
        short_count(total.records_out),
        time(total.produce_p50_us),
        time(total.produce_p99_us),
        short_count(total.errors),
    ))?;
    if total.compaction_read > 0.0 {
        line(format_args!(
            "compaction reads {}/s, writes {}/s, leaves out {} records/s",
            bytes_rate(total.compaction_read),
            bytes_rate(total.compaction_written),
            short_count(total.compaction_records_removed),
        ))?;
    }
    line(format_args!(""))?;
    print_cores(&view.cores)?;
    line(format_args!(""))?;
    print_topics(&view.topics)
}

fn print_cores(cores: &[CoreRates]) -> io::Result<()> {
    let columns = [
        Column::Number("CORE"),
        Column::Number("CPU"),
        Column::Number("IN/S"),
        Column::Number("OUT/S"),
        Column::Number("REQ/S"),
        Column::Number("P50"),
        Column::Number("P99"),
        Column::Number("FLUSH"),
        Column::Number("QUEUE"),
        Column::Number("MEM"),
        Column::Number("CONNS"),
    ];
    let mut rows = table::table(&columns);
    for core in cores {
        let memory = core.memory_bytes as f64 / core.memory_cap.max(1) as f64;
        rows.add_row([
            core.core.to_string(),
            format!("{:.0}%", core.cpu * 100.0),
            bytes_rate(core.bytes_in),
            bytes_rate(core.bytes_out),
            short_count(core.requests),
            time(core.produce_p50_us),
            time(core.produce_p99_us),
            time(core.flush_p99_us),
            units::count(core.queue),
            format!("{:.0}%", memory * 100.0),
            units::count(core.connections),
        ]);
    }
    table::print(&rows)
}

fn print_topics(topics: &[TopicRates]) -> io::Result<()> {
    let mut topics: Vec<_> = topics.iter().collect();
    topics.sort_by(|one, other| other.traffic().total_cmp(&one.traffic()));
    let columns = [
        Column::Text("TOPIC"),
        Column::Number("PARTS"),
        Column::Number("REC IN/S"),
        Column::Number("IN/S"),
        Column::Number("REC OUT/S"),
        Column::Number("OUT/S"),
        Column::Number("RECORDS"),
        Column::Number("SIZE"),
    ];
    let mut rows = table::table(&columns);
    for topic in topics {
        rows.add_row([
            topic.name.clone(),
            units::count(topic.partitions.len() as u64),
            short_count(topic.records_in),
            bytes_rate(topic.bytes_in),
            short_count(topic.records_out),
            bytes_rate(topic.bytes_out),
            short_count(topic.records as f64),
            units::bytes(topic.size_bytes),
        ]);
    }
    table::print(&rows)
}
