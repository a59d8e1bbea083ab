//! The page of a run.

use serde_json::Value;

use super::chart::Form;
use super::fields::{dash, flat, pairs, to_json};
use super::number;
use super::page::{Cells, Notice, Page, Row, Tile};
use super::palette::Role;
use super::plots::{self, Curve, LatencySeries, Series};
use super::{
    PERCENTILE_CAPTION, TIME_CAPTION, conditions, manifest_table, notices, spaced,
    throughput_caption,
};
use crate::result::{Pace, Percentiles, PerfResult};
use crate::workload::Kind;

/// The report of one run.
#[must_use]
pub fn of_result(result: &PerfResult) -> String {
    let about = format!("corelane perf {}", result.kind.name());
    let mut page = Page::new(&about, &headline(result), &conditions(result));
    notices(&mut page, "", result);
    page.tiles(&tiles(result));
    let curve = |name, role, points| Curve { name, role, points };
    let mut curves = vec![curve(
        latency_name(result),
        Role::First,
        &result.latency_curve_us,
    )];
    // In a closed loop both are the same.
    if result.pace == Pace::Open {
        curves.push(curve(
            "service time",
            Role::SecondDashed,
            &result.service_time_curve_us,
        ));
    }
    if result.latency_us.is_some() {
        page.plot(
            "Latency by percentile",
            PERCENTILE_CAPTION,
            plots::latency_by_percentile(&curves).as_ref(),
        );
    }
    let series = |name, role| Series {
        name,
        role,
        intervals: &result.series,
    };
    let throughput = plots::throughput_over_time(&[series("throughput, MB/s", Role::First)]);
    page.plot(
        "Throughput over time",
        throughput_caption(result),
        throughput.as_ref(),
    );
    if result.latency_us.is_some() {
        let latencies = plots::latency_over_time(&[
            LatencySeries {
                series: series("max", Role::Slowest),
                form: Form::Thin,
                value_us: |interval| interval.max_us,
            },
            LatencySeries {
                series: series("p99", Role::First),
                form: Form::Line,
                value_us: |interval| interval.p99_us,
            },
            LatencySeries {
                series: series("p50", Role::Median),
                form: Form::Line,
                value_us: |interval| interval.p50_us,
            },
        ]);
        page.plot("Latency over time", TIME_CAPTION, latencies.as_ref());
    }
    percentiles_table(&mut page, &latency_rows(result));
    stages_table(&mut page, result);
    limit_table(&mut page, result);
    page.table(
        "All figures",
        "Named as in result.json.",
        &[],
        Cells::Text,
        &pairs(&figures_of(result)),
    );
    manifest_table(&mut page, &result.manifest);
    page.finish()
}

/// What latency counts from.
fn latency_name(result: &PerfResult) -> &'static str {
    match result.pace {
        Pace::Open => "latency, from intended send times",
        Pace::Closed => "latency, from the send (closed loop: mostly the length of the queue)",
    }
}

fn headline(result: &PerfResult) -> String {
    let rate = number::rough(result.records_per_s);
    match (result.pace, result.latency_us) {
        (Pace::Open, Some(latency)) => {
            let p99 = spaced(number::latency(latency.p99));
            format!("p99 of {p99} at {rate} records/s")
        }
        _ => format!(
            "{} MB/s, {rate} records/s",
            number::rough(result.throughput_mb_s)
        ),
    }
}

fn tiles(result: &PerfResult) -> Vec<Tile> {
    let tile = |name: &str, (value, unit): (String, &str)| Tile {
        name: name.to_owned(),
        value,
        unit: unit.to_owned(),
        is_alarm: false,
    };
    let mut tiles = vec![
        tile(
            "throughput",
            (number::rough(result.throughput_mb_s), "MB/s"),
        ),
        tile("records", (number::rough(result.records_per_s), "/s")),
    ];
    if let Some(latency) = &result.latency_us {
        tiles.extend([
            tile("p50", number::latency(latency.p50)),
            tile("p99", number::latency(latency.p99)),
            tile("p99.9", number::latency(latency.p999)),
            tile("max", number::latency(latency.max)),
        ]);
    }
    tiles.push(Tile {
        is_alarm: result.errors > 0,
        ..tile("errors", (number::count(result.errors), ""))
    });
    tiles
}

fn latency_rows(result: &PerfResult) -> Vec<Row> {
    let end = if result.kind == Kind::EndToEnd {
        " to the consumer"
    } else {
        ""
    };
    let (name, service) = match result.pace {
        Pace::Open => (
            format!("its intended send{end}"),
            Some(format!("its actual send{end} (service time)")),
        ),
        Pace::Closed => (
            "the send (closed loop: mostly the length of the queue)".to_owned(),
            None,
        ),
    };
    let acknowledge = "its intended send to the receipt".to_owned();
    let rows = [
        (Some(name), result.latency_us),
        (service, result.service_time_us),
        (Some(acknowledge), result.acknowledge_us),
    ];
    let rows = rows.into_iter().filter_map(|(name, latency)| {
        let (name, latency) = (name?, latency?);
        let parts = [
            latency.p50,
            latency.p90,
            latency.p95,
            latency.p99,
            latency.p999,
            latency.p9999,
            latency.max,
        ];
        let mut cells = vec![name];
        cells.extend(parts.map(number::count));
        cells.extend([number::rough(latency.mean), number::count(latency.count)]);
        Some(Row {
            cells,
            ..Row::default()
        })
    });
    rows.collect()
}

fn percentiles_table(page: &mut Page, rows: &[Row]) {
    if !rows.is_empty() {
        page.table(
            "Latency in µs",
            "",
            &[
                "from", "p50", "p90", "p95", "p99", "p99.9", "p99.99", "max", "mean", "records",
            ],
            Cells::Numbers,
            rows,
        );
    }
}

/// What the machine could do at most, where that was measured.
fn limit_table(page: &mut Page, result: &PerfResult) {
    let Some(limit) = &result.limit else {
        return;
    };
    for yardstick in &limit.yardsticks {
        if yardstick.failed_frames > 0 {
            let text = format!(
                "The limit, {}: {} did not get an answer, so that its figures say little.",
                yardstick.name,
                super::several(yardstick.failed_frames, "frame")
            );
            page.notice(Notice::Alarm, &text);
        }
    }
    let ratio = |ratio: Option<f64>| ratio.map_or_else(dash, |ratio| format!("{ratio:.2} ×"));
    let rows = limit.yardsticks.iter().map(|yardstick| {
        let latency = |part: fn(&Percentiles) -> u64| {
            let latency = yardstick.latency_us.as_ref();
            latency.map_or_else(dash, |latency| number::count(part(latency)))
        };
        Row {
            cells: vec![
                yardstick.name.clone(),
                number::rough(yardstick.throughput_mb_s),
                ratio(Some(yardstick.throughput_ratio)),
                latency(|latency| latency.p50),
                ratio(yardstick.p50_ratio),
                latency(|latency| latency.p99),
                ratio(yardstick.p99_ratio),
            ],
            ..Row::default()
        }
    });
    page.table(
        "The limit",
        "What this machine could do at most with the same bytes, measured before and after the run. Each ratio is of this \
         run to it. Latency in µs.",
        &["beside", "MB/s", "this run", "p50", "this run", "p99", "this run"],
        Cells::Numbers,
        &rows.collect::<Vec<_>>(),
    );
}

fn stages_table(page: &mut Page, result: &PerfResult) {
    let Some(stages) = &result.stages else {
        return;
    };
    if let Some(problem) = &stages.problem {
        let text = format!("The broker's stages, from {}: {problem}.", stages.admin);
        page.notice(Notice::Alarm, &text);
    }
    if stages.times.is_empty() {
        return;
    }
    let us = |us: Option<u64>| us.map_or_else(dash, number::count);
    let rows = stages.times.iter().map(|times| Row {
        cells: vec![
            times.title(),
            times.of.clone(),
            number::count(times.count),
            times.mean_us.map_or_else(dash, number::rough),
            us(times.p50_us),
            us(times.p99_us),
            us(times.max_us),
        ],
        ..Row::default()
    });
    let caption = format!(
        "In µs, over all cores and all that the broker did in {} s, as {} says. The broker counts in steps: percentiles and \
         maxima are the upper ends of theirs, at most a sixteenth too high. A group is written and flushed by one \
         operation, so these two cannot be told apart.",
        number::fraction(stages.seconds),
        stages.admin
    );
    page.table(
        "The broker's stages",
        &caption,
        &["stage", "of", "count", "mean", "p50 ≤", "p99 ≤", "max ≤"],
        Cells::Numbers,
        &rows.collect::<Vec<_>>(),
    );
}

/// Everything of the result that is not shown by itself.
fn figures_of(result: &PerfResult) -> Vec<(String, String)> {
    const SHOWN: [&str; 8] = [
        "latency_us",
        "service_time_us",
        "acknowledge_us",
        "latency_curve_us",
        "service_time_curve_us",
        "series",
        "stages",
        "manifest",
    ];
    let mut json = to_json(result);
    if let Value::Object(fields) = &mut json {
        fields.retain(|key, _| !SHOWN.contains(&key.as_str()));
    }
    flat(&json)
}
