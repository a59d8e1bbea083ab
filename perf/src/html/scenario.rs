//! The page of a scenario: its runs beside each other, and the way to the page of each.

use std::collections::BTreeMap;

use serde_json::Value;

use super::chart::{Axis, Form};
use super::fields::{dash, flat, pairs, plain, to_json};
use super::number;
use super::page::{Cells, Notice, Page, Row};
use super::palette::Role;
use super::plots::Legend;
use super::rows::{self, RowForm, Rows};
use super::{conditions, result_notices, several, spaced};
use crate::output::REPORT_FILE;
use crate::result::{Pace, Percentiles, PerfResult};
use crate::scenario::{RunOutcome, ScenarioOutcome, is_run_name};
use crate::workload::Kind;

/// The report of a scenario. With links it leads to the pages of the runs, in directories of their names beside it.
#[must_use]
pub fn of_scenario(outcome: &ScenarioOutcome, has_links: bool) -> String {
    let about = format!("corelane perf run {}", outcome.scenario);
    let headline = match outcome.description.as_str() {
        "" => several(outcome.runs.len() as u64, "run"),
        description => capitalised(description),
    };
    let mut page = Page::new(&about, &headline, &shared_conditions(&outcome.runs));
    notices(&mut page, outcome);
    if outcome
        .runs
        .iter()
        .any(|run| run.result.pace == Pace::Closed)
    {
        throughputs(&mut page, &outcome.runs);
    }
    latencies(&mut page, &outcome.runs);
    runs_table(&mut page, outcome, has_links);
    page.table(
        "Manifest",
        "What was measured, with what, on what. Where runs differ, each is named.",
        &[],
        Cells::Text,
        &pairs(&shared_manifest(&outcome.runs)),
    );
    page.finish()
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(letters).collect()
}

/// What all runs have in common.
fn shared_conditions(runs: &[RunOutcome]) -> Vec<String> {
    let mut all = runs.iter().map(|run| conditions(&run.result));
    let Some(mut shared) = all.next() else {
        return Vec::new();
    };
    for others in all {
        shared.retain(|condition| others.contains(condition));
    }
    shared
}

fn notices(page: &mut Page, outcome: &ScenarioOutcome) {
    if let Some(reason) = &outcome.ended_by {
        let text = format!(
            "Only {} of {} were made: {reason}",
            outcome.runs.len(),
            several(outcome.planned.len() as u64, "run")
        );
        page.notice(Notice::Alarm, &text);
    } else if outcome.runs.len() < outcome.planned.len() {
        let text = format!(
            "Ended after {} of {}.",
            outcome.runs.len(),
            several(outcome.planned.len() as u64, "run")
        );
        page.notice(Notice::Alarm, &text);
    }
    for run in &outcome.runs {
        result_notices(page, &format!("{}: ", run.name), &run.result);
    }
    if let Some(run) = outcome.runs.first() {
        super::manifest_notices(page, "", &run.result.manifest);
    }
}

fn throughputs(page: &mut Page, runs: &[RunOutcome]) {
    let figures = runs.iter().map(|run| run.result.throughput_mb_s);
    let rows = runs.iter().map(|run| rows::Row {
        name: run.name.clone(),
        words: format!(
            "{} MB/s · {} records/s",
            number::rough(run.result.throughput_mb_s),
            number::tick_count(significant(run.result.records_per_s))
        ),
        marks: vec![(Role::First, run.result.throughput_mb_s)],
    });
    let rows = Rows {
        x: Axis::from_zero(figures, number::fraction),
        rows: rows.collect(),
        form: RowForm::Bar,
    };
    let is_consumed = |run: &RunOutcome| matches!(run.result.kind, Kind::Consume | Kind::EndToEnd);
    let what = match (runs.iter().any(is_consumed), runs.iter().all(is_consumed)) {
        (_, true) => "handed to consumers",
        (false, _) => "acknowledged",
        _ => "acknowledged, or handed to consumers",
    };
    let caption = format!("MB/s of values that were {what}.");
    page.rows("Throughput", &caption, &rows, &Legend::new());
}

/// Three digits, the rest zeros.
fn significant(number: f64) -> f64 {
    if number < 1.0 {
        return 0.0;
    }
    let unit = 10_f64.powi(number.log10().floor() as i32 - 2);
    (number / unit).round() * unit
}

fn latencies(page: &mut Page, runs: &[RunOutcome]) {
    let measured: Vec<_> = runs
        .iter()
        .filter_map(|run| Some((run, run.result.latency_us?)))
        .collect();
    if measured.is_empty() {
        return;
    }
    let place = |us: u64| (us.max(1) as f64).log10();
    type Part = fn(&Percentiles) -> u64;
    let parts: [(Role, &str, Part); 3] = [
        (Role::Slowest, "max", |latency| latency.max),
        (Role::First, "p99", |latency| latency.p99),
        (Role::Median, "p50", |latency| latency.p50),
    ];
    let figures = measured
        .iter()
        .flat_map(|(_, latency)| parts.map(|(_, _, part)| part(latency) as f64));
    let rows = measured.iter().map(|(run, latency)| rows::Row {
        name: run.name.clone(),
        words: format!(
            "p50 {} · p99 {}",
            spaced(number::latency(latency.p50)),
            spaced(number::latency(latency.p99))
        ),
        marks: parts
            .map(|(role, _, part)| (role, place(part(latency))))
            .to_vec(),
    });
    let rows = Rows {
        x: Axis::logarithmic(figures, number::tick_latency),
        rows: rows.collect(),
        form: RowForm::Dots,
    };
    let legend = parts.map(|(role, name, _)| (role, Form::Dots, name.to_owned()));
    let is_open = |(run, _): &(&RunOutcome, Percentiles)| run.result.pace == Pace::Open;
    let caption = match (measured.iter().any(is_open), measured.iter().all(is_open)) {
        (_, true) => "From intended send times. The axis is logarithmic.",
        (false, _) => {
            "From the send. These are closed loops: it is mostly the length of the queue. The axis is logarithmic."
        }
        _ => {
            "Open loop: from intended send times. Closed loop: from the send, so mostly the length of the queue. The axis \
             is logarithmic."
        }
    };
    page.rows("Latency", caption, &rows, &legend.into());
}

fn runs_table(page: &mut Page, outcome: &ScenarioOutcome, has_links: bool) {
    let descriptions = differing(&outcome.runs);
    let rows = outcome.runs.iter().zip(descriptions);
    let rows = rows.map(|(run, description)| {
        let result = &run.result;
        let latency = |part: fn(&Percentiles) -> u64| {
            let latency = result.latency_us.as_ref();
            latency.map_or_else(dash, |latency| number::count(part(latency)))
        };
        let cpu = |ns: Option<f64>| ns.map_or_else(dash, |ns| number::count(ns as u64));
        Row {
            cells: vec![
                run.name.clone(),
                number::rough(result.throughput_mb_s),
                number::count(result.records_per_s as u64),
                latency(|latency| latency.p50),
                latency(|latency| latency.p99),
                latency(|latency| latency.p999),
                latency(|latency| latency.max),
                cpu(result.broker_cpu_ns_per_record),
                cpu(result.client_cpu_ns_per_record),
                number::count(result.errors),
            ],
            is_marked: result.errors > 0,
            link: (has_links && is_run_name(&run.name))
                .then(|| format!("{}/{REPORT_FILE}", run.name)),
            note: description,
        }
    });
    let caption = if has_links {
        "Latency in µs, CPU of broker and client in ns for each record. Each name leads to the page of that run, in a \
         directory beside this one."
    } else {
        "Latency in µs, CPU of broker and client in ns for each record."
    };
    let mut heads = vec![
        "run",
        "MB/s",
        "records/s",
        "p50",
        "p99",
        "p99.9",
        "max",
        "broker",
        "client",
        "errors",
    ];
    let mut rows: Vec<_> = rows.collect();
    // What no run has, such as a latency of reading, is no column.
    for column in (1..heads.len()).rev() {
        if rows.iter().all(|row| row.cells[column] == dash()) {
            heads.remove(column);
            for row in &mut rows {
                row.cells.remove(column);
            }
        }
    }
    page.table("Runs", caption, &heads, Cells::Numbers, &rows);
}

/// What each run has that not all have: its load, its options, its durability.
fn differing(runs: &[RunOutcome]) -> Vec<Option<String>> {
    let of_run = |result: &PerfResult| {
        let mut fields = BTreeMap::new();
        if let Value::Object(workload) = to_json(&result.manifest.workload) {
            fields.extend(workload);
        }
        // What is no option of it, or says nothing of the load.
        fields
            .retain(|key, value| !value.is_null() && !["topic", "stages"].contains(&key.as_str()));
        fields.insert(
            "durability".to_owned(),
            result.durability.to_string().into(),
        );
        fields
    };
    let all: Vec<_> = runs.iter().map(|run| of_run(&run.result)).collect();
    let describe = |fields: &BTreeMap<String, Value>| {
        let differing = fields
            .iter()
            .filter(|(key, value)| all.iter().any(|other| other.get(*key) != Some(*value)));
        let mut differing: Vec<_> = differing.collect();
        // Which load it is comes first.
        differing.sort_by_key(|(key, _)| *key != "kind");
        let parts = differing
            .into_iter()
            .map(|(key, value)| match key.as_str() {
                "kind" | "durability" => plain(value),
                _ => format!("{} {}", key.replace('_', " "), plain(value)),
            });
        let parts: Vec<_> = parts.collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    };
    all.iter().map(describe).collect()
}

/// The manifests of all runs as one; where they differ, each value with its run.
fn shared_manifest(runs: &[RunOutcome]) -> Vec<(String, String)> {
    let all = runs
        .iter()
        .map(|run| (run.name.as_str(), flat(&to_json(&run.result.manifest))));
    let all: Vec<_> = all.collect();
    let mut keys: Vec<&String> = Vec::new();
    for (key, _) in all.iter().flat_map(|(_, fields)| fields) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let values = keys.into_iter().map(|key| {
        let values = all.iter().map(|(name, fields)| {
            let found = fields.iter().find(|(field, _)| field == key);
            (*name, found.map_or_else(dash, |(_, value)| value.clone()))
        });
        let values: Vec<_> = values.collect();
        let is_same = values.iter().all(|(_, value)| *value == values[0].1);
        let text = if is_same {
            values[0].1.clone()
        } else {
            let named = values
                .iter()
                .map(|(name, value)| format!("{name}: {value}"));
            named.collect::<Vec<_>>().join("\n")
        };
        (key.clone(), text)
    });
    values.collect()
}
