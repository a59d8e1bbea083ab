//! Reports as a page for browsers: one file, with plots, that loads nothing and runs nothing.
//!
//! Owns the page, its style, and the plots. Every figure is one of the result's; none is computed here but ratios to show.

mod chart;
mod comparison;
mod fields;
mod number;
mod page;
mod palette;
mod plots;
mod rounds;
mod rows;
mod run;
mod scenario;
mod sweep;

pub use comparison::of_comparison;
pub use rounds::of_rounds;
pub use run::of_result;
pub use scenario::of_scenario;
pub use sweep::of_sweep;

use crate::manifest::Manifest;
use crate::result::{DurabilityFrom, Pace, PerfResult};
use crate::workload::Kind;
use fields::{flat, pairs, to_json};
use page::{Cells, Notice, Page};

const PERCENTILE_CAPTION: &str = "How much of the records was at most how late. The axis stretches towards 100 %, where the rare and slow ones are.";
const TIME_CAPTION: &str =
    "Of the records that were due (closed loop: sent) at that time. The axis is logarithmic.";

fn throughput_caption(result: &PerfResult) -> &'static str {
    match result.kind {
        Kind::Produce | Kind::Latency => "MB/s of values that were acknowledged.",
        Kind::Consume | Kind::EndToEnd => "MB/s of values that a consumer was handed.",
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
    result_notices(page, of, result);
    manifest_notices(page, of, &result.manifest);
}

/// Those that are of the run itself.
fn result_notices(page: &mut Page, of: &str, result: &PerfResult) {
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
}

fn manifest_notices(page: &mut Page, of: &str, manifest: &Manifest) {
    if !manifest.software.optimised {
        page.notice(
            Notice::Alarm,
            &format!("{of}This is a debug build: its figures say nothing."),
        );
    }
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

fn spaced((value, unit): (String, &str)) -> String {
    format!("{value} {unit}")
}

#[cfg(test)]
mod tests;
