//! The page of a sweep.

use super::fields::dash;
use super::number;
use super::page::{Cells, Notice, Page, Row};
use super::plots;
use super::{load_conditions, manifest_notices, manifest_table, spaced};
use crate::result::Percentiles;
use crate::sweep::Sweep;

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
    if sweep.highest_rate.is_none() && sweep.ended_by.is_none() {
        page.notice(Notice::Alarm, "No rate held.");
    }
    if let Some(reason) = &sweep.ended_by {
        let text = format!("Ended before its time, a higher rate may hold: {reason}.");
        page.notice(Notice::Alarm, &text);
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
    steps_table(&mut page, sweep);
    manifest_table(&mut page, &sweep.manifest);
    page.finish()
}

fn steps_table(page: &mut Page, sweep: &Sweep) {
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
            ..Row::default()
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
}
