//! The page of two series of results that were made in turns.

use super::chart::{Axis, Form};
use super::fields::dash;
use super::number;
use super::page::{Cells, Notice, Page, Row};
use super::palette::Role;
use super::plots::Legend;
use super::rows::{self, RowForm, Rows};
use super::several;
use crate::rounds::{Rounds as Series, RoundsFigure};

/// The report of rounds, with the names that the two series go by.
#[must_use]
pub fn of_rounds(names: [&str; 2], series: &Series) -> String {
    let conditions = [
        several(series.rounds as u64, "round"),
        format!("A: {}", names[0]),
        format!("B: {}", names[1]),
        format!(
            "load average at most {} at the start of a run",
            number::rough(series.load_average_max)
        ),
    ];
    let mut page = Page::new("corelane perf compare", &headline(series), &conditions);
    if !series.differences.is_empty() {
        let text = format!("Not the same load: {}", series.differences.join("; "));
        page.notice(Notice::Alarm, &text);
    }
    if !series.circumstances.is_empty() {
        let text = format!(
            "What differs beside the figures: {}",
            series.circumstances.join("; ")
        );
        page.notice(Notice::Hint, &text);
    }
    ratios(&mut page, &series.figures);
    figures_table(&mut page, &series.figures);
    page.finish()
}

fn headline(series: &Series) -> String {
    let ratio = |name: &str| {
        let figure = series.figures.iter().find(|figure| figure.name == name)?;
        figure.ratio.map(number::rough)
    };
    let throughput = ratio("throughput, MB/s").map(|ratio| format!("{ratio} × the throughput"));
    let p99 = ratio("latency p99, µs").map(|ratio| format!("{ratio} × the p99"));
    let parts: Vec<_> = throughput.into_iter().chain(p99).collect();
    if parts.is_empty() {
        return "Two series of results side by side".to_owned();
    }
    format!("B has {} of A", parts.join(" and "))
}

/// The ratio of each round, and the median.
fn ratios(page: &mut Page, figures: &[RoundsFigure]) {
    let shown: Vec<_> = figures
        .iter()
        .filter_map(|figure| Some((figure, figure.ratio?)))
        .collect();
    if shown.is_empty() {
        return;
    }
    let values = shown.iter().flat_map(|(figure, _)| figure.ratios.iter());
    let drawn = shown.iter().map(|(figure, ratio)| {
        let mut marks: Vec<_> = figure
            .ratios
            .iter()
            .map(|ratio| (Role::Slowest, place(*ratio)))
            .collect();
        marks.push((Role::First, place(*ratio)));
        rows::Row {
            name: figure.name.to_owned(),
            words: format!("{ratio:.3} × {}", figure.verdict())
                .trim_end()
                .to_owned(),
            marks,
        }
    });
    let rows = Rows {
        x: axis(values.copied()),
        rows: drawn.collect(),
        form: RowForm::Dots,
    };
    let legend: Legend = vec![
        (Role::Slowest, Form::Dots, "each round".to_owned()),
        (Role::First, Form::Dots, "their median".to_owned()),
    ];
    page.rows(
        "B / A",
        "The ratio within each round: the machine drifts from one to the next. Better and worse are called so where every \
         round says it. The axis is logarithmic.",
        &rows,
        &legend,
    );
}

/// The least and the greatest ratio that can be told from those beyond.
const PLACES: [f64; 2] = [1.0 / 1024.0, 1024.0];

fn place(ratio: f64) -> f64 {
    ratio.clamp(PLACES[0], PLACES[1]).log2()
}

/// An axis of ratios, on which twice is as far from the same as half, and which is no longer than it needs to be.
fn axis(ratios: impl Iterator<Item = f64>) -> Axis {
    /// Ends within a factor of two.
    const NEAR: [f64; 5] = [1.05, 1.1, 1.25, 1.5, 2.0];
    /// More ticks than this on each side are too many.
    const TICKS_MAX: usize = 4;
    let far = ratios.map(|ratio| place(ratio).abs()).fold(0.0, f64::max);
    let near = NEAR.into_iter().find(|end| end.log2() > far);
    let (end, step) = near.map_or_else(
        || {
            let doublings = far.ceil() as usize;
            let step = doublings.div_ceil(TICKS_MAX).max(1);
            ((doublings.div_ceil(step) * step) as f64, step as f64)
        },
        |end| (end.log2(), end.log2()),
    );
    let count = (end / step).round() as i32;
    let ticks = (-count..=count).map(|tick| {
        let at = f64::from(tick) * step;
        (at, number::fraction(at.exp2()))
    });
    Axis {
        from: -end,
        to: end,
        ticks: ticks.collect(),
    }
}

fn figures_table(page: &mut Page, figures: &[RoundsFigure]) {
    let ratio = |ratio: Option<f64>| ratio.map_or_else(dash, |ratio| format!("{ratio:.3}"));
    let rows = figures.iter().map(|figure| Row {
        cells: vec![
            figure.name.to_owned(),
            number::fraction(figure.a),
            number::fraction(figure.b),
            ratio(figure.ratio),
            ratio(figure.ratio_min),
            ratio(figure.ratio_max),
            figure.verdict().to_owned(),
        ],
        ..Row::default()
    });
    page.table(
        "Figures",
        "Medians of the rounds, and the median, the least and the greatest of the ratios within them.",
        &["figure", "A", "B", "B / A", "least", "most", "in every round"],
        Cells::Numbers,
        &rows.collect::<Vec<_>>(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_is_as_far_from_the_same_as_twice() {
        let labels = |ratios: &[f64]| {
            let axis = axis(ratios.iter().copied());
            assert_eq!(axis.from, -axis.to);
            let labels = axis.ticks.into_iter().map(|(_, label)| label);
            labels.collect::<Vec<_>>()
        };
        assert_eq!(labels(&[]), ["0.952", "1", "1.05"]);
        assert_eq!(labels(&[0.9, 1.2]), ["0.8", "1", "1.25"]);
        assert_eq!(labels(&[0.3, 1.0]), ["0.25", "0.5", "1", "2", "4"]);
        assert_eq!(
            labels(&[36.7]),
            ["0.016", "0.062", "0.25", "1", "4", "16", "64"]
        );
        assert_eq!(labels(&[0.0, f64::INFINITY]).len(), 9);
    }
}
