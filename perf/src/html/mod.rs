//! Reports as a page for browsers: one file, with plots, that loads nothing and runs nothing.
//!
//! Owns the page, its style, and the plots. Every figure is one of the result's; none is computed here but ratios to show.

mod chart;
mod number;
mod page;
mod palette;
mod plots;

use serde_json::Value;

use crate::compare::{Comparison, Figure};
use crate::manifest::Manifest;
use crate::result::{DurabilityFrom, Pace, Percentiles, PerfResult};
use crate::sweep::Sweep;
use crate::workload::Kind;
use chart::Form;
use page::{Cells, Notice, Page, Row, Tile};
use palette::Role;
use plots::{Curve, LatencySeries, Series};

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
    let throughput = plots::throughput_over_time(&[series("throughput", Role::First)]);
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

/// The report of a sweep.
#[must_use]
pub fn of_sweep(sweep: &Sweep) -> String {
    let bound = spaced(number::latency(sweep.bound.p99_us));
    let headline = sweep.highest_rate.map_or_else(
        || format!("No rate had a p99 of at most {bound}"),
        |rate| {
            format!(
                "{} records/s with a p99 of at most {bound}",
                number::count(rate)
            )
        },
    );
    let mut conditions = load_conditions(&sweep.manifest, true);
    conditions.insert(0, "open loop".to_owned());
    conditions.insert(1, sweep.manifest.durability.clone());
    let mut page = Page::new("corelane perf sweep", &headline, &conditions);
    if sweep.highest_rate.is_none() {
        page.notice(Notice::Alarm, "No rate held.");
    }
    if sweep.cut_short {
        page.notice(Notice::Alarm, "Cut short: a higher rate may hold.");
    }
    manifest_notices(&mut page, "", &sweep.manifest);
    let plot = plots::latency_by_rate(&sweep.steps, sweep.bound.p99_us);
    page.plot(
        "Latency by rate",
        "Records a second that were due, and their latency from intended send times. Both axes are logarithmic.",
        plot.as_ref(),
    );
    let mut steps: Vec<_> = sweep.steps.iter().collect();
    steps.sort_by_key(|step| step.rate);
    let rows = steps.into_iter().map(|step| {
        let latency = |part: fn(&Percentiles) -> u64| {
            step.latency_us
                .as_ref()
                .map_or_else(dash, |latency| number::count(part(latency)))
        };
        Row {
            cells: vec![
                number::count(step.rate),
                number::rough(step.records_per_s),
                number::rough(step.throughput_mb_s),
                latency(|latency| latency.p50),
                latency(|latency| latency.p99),
                latency(|latency| latency.p999),
                latency(|latency| latency.max),
                number::count(step.errors),
                step.durability.clone(),
                step.failed_by.clone().unwrap_or_else(|| "yes".to_owned()),
            ],
            is_marked: Some(step.rate) == sweep.highest_rate,
        }
    });
    page.table(
        "Every rate",
        "Latency in µs, from intended send times. The highest rate that held is marked.",
        &[
            "rate",
            "records/s",
            "MB/s",
            "p50",
            "p99",
            "p99.9",
            "max",
            "errors",
            "durability",
            "held",
        ],
        Cells::Numbers,
        &rows.collect::<Vec<_>>(),
    );
    manifest_table(&mut page, &sweep.manifest);
    page.finish()
}

/// The report of two results, with the names that they go by.
#[must_use]
pub fn of_comparison(
    names: [&str; 2],
    [a, b]: [&PerfResult; 2],
    comparison: &Comparison,
) -> String {
    let mut both = vec![format!("A: {}", names[0]), format!("B: {}", names[1])];
    both.extend(conditions(a));
    let about = format!("corelane perf compare: {}", a.kind.name());
    let mut page = Page::new(&about, &comparison_headline(comparison), &both);
    if !comparison.differences.is_empty() {
        let text = format!("Not the same load: {}", comparison.differences.join("; "));
        page.notice(Notice::Alarm, &text);
    }
    notices(&mut page, "A: ", a);
    notices(&mut page, "B: ", b);
    if !comparison.circumstances.is_empty() {
        let text = format!(
            "What differs beside the figures: {}",
            comparison.circumstances.join("; ")
        );
        page.notice(Notice::Hint, &text);
    }
    let curve = |name, role, points| Curve { name, role, points };
    let curves = [
        curve("A", Role::First, &a.latency_curve_us),
        curve(
            "A, service time",
            Role::FirstDashed,
            &a.service_time_curve_us,
        ),
        curve("B", Role::Second, &b.latency_curve_us),
        curve(
            "B, service time",
            Role::SecondDashed,
            &b.service_time_curve_us,
        ),
    ];
    let is_open = a.pace == Pace::Open || b.pace == Pace::Open;
    let curves: Vec<_> = if is_open {
        curves.to_vec()
    } else {
        vec![curves[0], curves[2]]
    };
    let has_latency = a.latency_us.is_some() || b.latency_us.is_some();
    if has_latency {
        page.plot(
            "Latency by percentile",
            PERCENTILE_CAPTION,
            plots::latency_by_percentile(&curves).as_ref(),
        );
    }
    let of_a = |name, role| Series {
        name,
        role,
        intervals: &a.series,
    };
    let of_b = |name, role| Series {
        name,
        role,
        intervals: &b.series,
    };
    let throughput =
        plots::throughput_over_time(&[of_a("A", Role::First), of_b("B", Role::Second)]);
    page.plot(
        "Throughput over time",
        throughput_caption(a),
        throughput.as_ref(),
    );
    if has_latency {
        let latency = |series, value_us| LatencySeries {
            series,
            form: Form::Line,
            value_us,
        };
        let latencies = plots::latency_over_time(&[
            latency(of_a("A, p50", Role::FirstDashed), |interval| {
                interval.p50_us
            }),
            latency(of_b("B, p50", Role::SecondDashed), |interval| {
                interval.p50_us
            }),
            latency(of_a("A, p99", Role::First), |interval| interval.p99_us),
            latency(of_b("B, p99", Role::Second), |interval| interval.p99_us),
        ]);
        page.plot("Latency over time", TIME_CAPTION, latencies.as_ref());
    }
    let rows: Vec<_> = comparison.figures.iter().map(figure_row).collect();
    page.table(
        "Figures",
        "",
        &["figure", "A", "B", "B / A", ""],
        Cells::Numbers,
        &rows,
    );
    page.table(
        "Manifests",
        "What was measured, with what, on what. Marked is what differs.",
        &["", "A", "B"],
        Cells::Text,
        &manifest_rows(&a.manifest, &b.manifest),
    );
    page.finish()
}

const PERCENTILE_CAPTION: &str = "How much of the records was at most how late. The axis stretches towards 100 %, where the rare and slow ones are.";
const TIME_CAPTION: &str =
    "Of the records that were due (closed loop: sent) at that time. The axis is logarithmic.";

fn throughput_caption(result: &PerfResult) -> &'static str {
    match result.kind {
        Kind::Produce | Kind::Latency => "Value bytes that were acknowledged, a second.",
        Kind::Consume | Kind::EndToEnd => "Value bytes that a consumer was handed, a second.",
    }
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

/// What the figures stand for: who set the pace, how durable the records are, and the load.
fn conditions(result: &PerfResult) -> Vec<String> {
    let workload = &result.manifest.workload;
    let pace = match (result.pace, workload.rate, result.kind) {
        (Pace::Open, Some(rate), _) => format!("open loop at {} records/s", number::count(rate)),
        (Pace::Open, None, _) => "open loop".to_owned(),
        (Pace::Closed, _, Kind::Consume) => "closed loop, as fast as they come".to_owned(),
        (Pace::Closed, _, _) => {
            format!(
                "closed loop, {} in flight",
                number::bytes(workload.in_flight_bytes)
            )
        }
    };
    let from = match result.durability_from {
        DurabilityFrom::Receipts => "confirmed by receipts",
        DurabilityFrom::TopicSettings => "as the topic is set",
    };
    let sized = result
        .consumed
        .is_none_or(|consumed| consumed.filled_records > 0);
    let mut conditions = vec![pace, format!("{}, {from}", result.durability)];
    conditions.extend(load_conditions(&result.manifest, sized));
    conditions
}

fn load_conditions(manifest: &Manifest, is_sized: bool) -> Vec<String> {
    let workload = &manifest.workload;
    let sized = is_sized.then(|| {
        format!(
            "records of {} B",
            number::count(workload.record_size.into())
        )
    });
    let software = &manifest.software;
    let broker = if manifest.broker.embedded {
        "a broker of its own".to_owned()
    } else {
        format!("broker {}", manifest.broker.address)
    };
    let rest = [
        format!("topic {}", manifest.topic.name),
        several(manifest.topic.partitions.into(), "partition"),
        several(workload.connections.into(), "connection"),
        format!("batches of {}", number::bytes(workload.batch_bytes.into())),
        broker,
        format!(
            "{}, {}",
            software.cpu,
            several(software.cores as u64, "core")
        ),
    ];
    sized.into_iter().chain(rest).collect()
}

fn several(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", number::count(number))
}

/// Errors, and what makes figures say less than they seem to.
fn notices(page: &mut Page, of: &str, result: &PerfResult) {
    if result.errors > 0 {
        let kinds = result.errors_by_kind.iter();
        let kinds: Vec<_> = kinds
            .map(|(kind, count)| format!("{kind}: {}", number::count(*count)))
            .collect();
        let first = result.first_error.as_deref().unwrap_or("unknown");
        let text = format!(
            "{of}{} failed ({}). The first: {first}",
            several(result.errors, "record"),
            kinds.join(", ")
        );
        page.notice(Notice::Alarm, &text);
    }
    if result.cut_short {
        page.notice(
            Notice::Alarm,
            &format!(
                "{of}Cut short after {} s that count.",
                number::fraction(result.seconds)
            ),
        );
    }
    manifest_notices(page, of, &result.manifest);
}

fn manifest_notices(page: &mut Page, of: &str, manifest: &Manifest) {
    if !manifest.software.optimised {
        page.notice(
            Notice::Alarm,
            &format!("{of}This is a debug build: its figures say nothing."),
        );
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
            is_marked: false,
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
            is_marked: false,
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

/// Everything of the result that is not shown by itself.
fn figures_of(result: &PerfResult) -> Vec<(String, String)> {
    const SHOWN: [&str; 7] = [
        "latency_us",
        "service_time_us",
        "acknowledge_us",
        "latency_curve_us",
        "service_time_curve_us",
        "series",
        "manifest",
    ];
    let mut json = to_json(result);
    if let Value::Object(fields) = &mut json {
        fields.retain(|key, _| !SHOWN.contains(&key.as_str()));
    }
    flat(&json)
}

fn manifest_table(page: &mut Page, manifest: &Manifest) {
    let rows = pairs(&flat(&to_json(manifest)));
    page.table(
        "Manifest",
        "What was measured, with what, on what.",
        &[],
        Cells::Text,
        &rows,
    );
}

fn manifest_rows(a: &Manifest, b: &Manifest) -> Vec<Row> {
    let [a, b] = [a, b].map(|manifest| flat(&to_json(manifest)));
    let value = |fields: &[(String, String)], key: &str| {
        let found = fields.iter().find(|(name, _)| name == key);
        found.map_or_else(dash, |(_, value)| value.clone())
    };
    let only_b = b
        .iter()
        .filter(|(key, _)| !a.iter().any(|(name, _)| name == key));
    let keys = a.iter().chain(only_b).map(|(key, _)| key);
    let rows = keys.map(|key| {
        let (of_a, of_b) = (value(&a, key), value(&b, key));
        Row {
            is_marked: of_a != of_b,
            cells: vec![key.clone(), of_a, of_b],
        }
    });
    rows.collect()
}

fn comparison_headline(comparison: &Comparison) -> String {
    let ratio = |name: &str| {
        let figure = comparison
            .figures
            .iter()
            .find(|figure| figure.name == name)?;
        figure.ratio.map(number::rough)
    };
    let throughput = ratio("throughput, MB/s").map(|ratio| format!("{ratio} × the throughput"));
    let p99 = ratio("latency p99, µs").map(|ratio| format!("{ratio} × the p99"));
    let parts: Vec<_> = throughput.into_iter().chain(p99).collect();
    if parts.is_empty() {
        return "Two results side by side".to_owned();
    }
    format!("B has {} of A", parts.join(" and "))
}

fn figure_row(figure: &Figure) -> Row {
    let word = match figure.ratio {
        None | Some(1.0) => "",
        Some(ratio) if (ratio > 1.0) == figure.more_is_better => "better",
        Some(_) => "worse",
    };
    let ratio = figure
        .ratio
        .map_or_else(dash, |ratio| format!("{ratio:.3}"));
    Row {
        cells: vec![
            figure.name.to_owned(),
            number::fraction(figure.a),
            number::fraction(figure.b),
            ratio,
            word.to_owned(),
        ],
        is_marked: false,
    }
}

fn to_json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("results and manifests have keys that are text")
}

fn pairs(fields: &[(String, String)]) -> Vec<Row> {
    let rows = fields.iter().map(|(key, value)| Row {
        cells: vec![key.clone(), value.clone()],
        is_marked: false,
    });
    rows.collect()
}

/// All values of a JSON object with their paths.
fn flat(value: &Value) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    flatten("", value, &mut fields);
    fields
}

fn flatten(path: &str, value: &Value, fields: &mut Vec<(String, String)>) {
    let is_plain = |value: &Value| !value.is_object() && !value.is_array();
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (key, value) in object {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                flatten(&path, value, fields);
            }
        }
        Value::Array(values) if !values.is_empty() && !values.iter().all(is_plain) => {
            for (index, value) in values.iter().enumerate() {
                flatten(&format!("{path}[{index}]"), value, fields);
            }
        }
        Value::Array(values) if !values.is_empty() => {
            let values: Vec<_> = values.iter().map(plain).collect();
            fields.push((path.to_owned(), values.join("\n")));
        }
        _ => fields.push((path.to_owned(), plain(value))),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => dash(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_u64() {
            Some(whole) => number::count(whole),
            None => number.as_f64().map_or_else(dash, number::fraction),
        },
        Value::Array(_) | Value::Object(_) => "none".to_owned(),
    }
}

fn dash() -> String {
    "–".to_owned()
}

fn spaced((value, unit): (String, &str)) -> String {
    format!("{value} {unit}")
}

#[cfg(test)]
mod tests;
