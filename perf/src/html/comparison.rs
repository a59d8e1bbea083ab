//! The page of two results side by side.

use super::chart::Form;
use super::fields::{dash, flat, to_json};
use super::number;
use super::page::{Cells, Notice, Page, Row};
use super::palette::Role;
use super::plots::{self, Curve, LatencySeries, Series};
use super::{PERCENTILE_CAPTION, TIME_CAPTION, conditions, notices, throughput_caption};
use crate::compare::{Comparison, Figure};
use crate::manifest::Manifest;
use crate::result::{Pace, PerfResult};

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
    let mut page = Page::new(&about, &headline(comparison), &both);
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
    draw(&mut page, a, b);
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

/// Both runs in each plot.
fn draw(page: &mut Page, a: &PerfResult, b: &PerfResult) {
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
}

fn headline(comparison: &Comparison) -> String {
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
        ..Row::default()
    }
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
            ..Row::default()
        }
    });
    rows.collect()
}
