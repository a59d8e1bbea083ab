//! The plots of a report: each from plain figures to a chart, with its legend. `None` where there is nothing to plot.

use super::chart::{Axis, Chart, Form, Line};
use super::number;
use super::palette::Role;
use crate::result::{CurvePoint, Interval};
use crate::sweep::Step;

/// A chart, and what its lines are.
#[derive(Debug)]
pub(super) struct Plot {
    pub chart: Chart,
    /// Names of lines, by their colours.
    pub legend: Legend,
}

/// Names of lines, by their colours and forms.
pub(super) type Legend = Vec<(Role, Form, String)>;

/// A latency by percentile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Curve<'r> {
    pub name: &'r str,
    pub role: Role,
    /// By percentile, which ends with 100.
    pub points: &'r [CurvePoint],
}

/// The series of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Series<'r> {
    pub name: &'r str,
    pub role: Role,
    pub intervals: &'r [Interval],
}

/// A latency of each interval of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct LatencySeries<'r> {
    pub series: Series<'r>,
    pub form: Form,
    pub value_us: fn(&Interval) -> Option<u64>,
}

/// Where the slowest of all stands on the axis of percentiles, beyond 99.99 %.
const SLOWEST_AT: f64 = 4.8;
/// Points of a curve are nearer to each other than this, unless so many records had the same latency.
const GAP: f64 = 0.1;

/// Latency by percentile; the axis is logarithmic in the distance to 100 %.
pub(super) fn latency_by_percentile(curves: &[Curve<'_>]) -> Option<Plot> {
    let shown = curves.iter().filter(|curve| !curve.points.is_empty());
    let (mut lines, mut legend) = (Vec::new(), Vec::new());
    for curve in shown.clone() {
        lines.push(Line {
            role: curve.role,
            parts: vec![logarithms(&percentile_points(curve))],
            form: Form::Line,
        });
        legend.push((curve.role, Form::Line, curve.name.to_owned()));
    }
    let values = shown
        .flat_map(|curve| curve.points)
        .map(|point| point.value_us as f64);
    let percentiles = [50.0, 90.0, 99.0, 99.9, 99.99];
    let ticks = percentiles.map(|percentile| (nines(percentile), format!("{percentile}%")));
    let slowest = (SLOWEST_AT, "max".to_owned());
    (!lines.is_empty()).then(|| Plot {
        chart: Chart {
            x: Axis {
                from: 0.0,
                to: SLOWEST_AT,
                ticks: ticks.into_iter().chain([slowest]).collect(),
            },
            y: Axis::logarithmic(values, number::tick_latency),
            lines,
        },
        legend,
    })
}

/// How many nines a percentile has: 1 for 90 %, 2 for 99 %.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).log10()
}

/// Places and microseconds. A percentile between two points has the latency of the second, so a wide gap is a step.
fn percentile_points(curve: &Curve<'_>) -> Vec<(f64, f64)> {
    let place = |point: &CurvePoint| match point.percentile {
        percentile if percentile < 100.0 => nines(percentile).max(0.0),
        _ => SLOWEST_AT,
    };
    let mut points: Vec<(f64, f64)> = Vec::new();
    for point in curve.points {
        let (at, us) = (place(point), point.value_us as f64);
        if let Some((last, _)) = points.last().copied()
            && at - last > GAP
        {
            points.push((last, us));
        }
        if at < SLOWEST_AT || point.percentile >= 100.0 {
            points.push((at, us));
        }
    }
    points
}

fn logarithms(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let points = points.iter();
    points
        .map(|(at, value)| (*at, value.max(1.0).log10()))
        .collect()
}

/// MB/s of values over time.
pub(super) fn throughput_over_time(runs: &[Series<'_>]) -> Option<Plot> {
    const BYTES_PER_MB: f64 = 1e6;
    let form = if runs.len() == 1 {
        Form::Filled
    } else {
        Form::Line
    };
    let (mut lines, mut legend) = (Vec::new(), Vec::new());
    for run in runs {
        let points = run.intervals.iter().map(|interval| {
            let mb_s = interval.value_bytes as f64 / BYTES_PER_MB / interval.seconds;
            Some((middle(interval), mb_s))
        });
        push(
            &mut lines,
            &mut legend,
            (run.role, form, run.name),
            parts(points),
        );
    }
    let values: Vec<_> = heights(&lines).collect();
    let y = Axis::from_zero(values.into_iter(), number::fraction);
    over_time(runs, y, lines, legend)
}

/// Latencies over time.
pub(super) fn latency_over_time(series: &[LatencySeries<'_>]) -> Option<Plot> {
    let (mut lines, mut legend) = (Vec::new(), Vec::new());
    for one in series {
        let points = one.series.intervals.iter().map(|interval| {
            let value_us = (one.value_us)(interval)?;
            Some((middle(interval), (value_us.max(1) as f64).log10()))
        });
        let key = (one.series.role, one.form, one.series.name);
        push(&mut lines, &mut legend, key, parts(points));
    }
    let values: Vec<_> = heights(&lines).map(|power| 10_f64.powf(power)).collect();
    let y = Axis::logarithmic(values.into_iter(), number::tick_latency);
    let runs: Vec<_> = series.iter().map(|one| one.series).collect();
    over_time(&runs, y, lines, legend)
}

/// p50 and p99 of the latency by rate, the bound, and which rates did not hold.
pub(super) fn latency_by_rate(steps: &[Step], bound_us: u64) -> Option<Plot> {
    let mut measured: Vec<_> = steps
        .iter()
        .filter_map(|step| Some((step, step.latency_us?)))
        .collect();
    measured.sort_by_key(|(step, _)| step.rate);
    let place = |step: &Step| (step.rate.max(1) as f64).log10();
    let height = |us: u64| (us.max(1) as f64).log10();
    let x = Axis::logarithmic(
        measured.iter().map(|(step, _)| step.rate as f64),
        number::tick_count,
    );
    let values = measured
        .iter()
        .flat_map(|(_, latency)| [latency.p50, latency.p99]);
    let y = Axis::logarithmic(
        values.chain([bound_us]).map(|us| us as f64),
        number::tick_latency,
    );
    let bound = vec![(x.from, height(bound_us)), (x.to, height(bound_us))];
    let medians = measured
        .iter()
        .map(|(step, latency)| (place(step), height(latency.p50)));
    let p99s = measured
        .iter()
        .map(|(step, latency)| (place(step), height(latency.p99)));
    let failed = measured.iter().filter(|(step, _)| step.failed_by.is_some());
    let failed = failed.map(|(step, latency)| (place(step), height(latency.p99)));
    let (mut lines, mut legend) = (Vec::new(), Vec::new());
    for (role, form, name, points) in [
        (Role::Alarm, Form::Line, "the bound of the p99", bound),
        (Role::Median, Form::Dotted, "p50", medians.collect()),
        (Role::First, Form::Dotted, "p99", p99s.collect()),
        (Role::Second, Form::Rings, "did not hold", failed.collect()),
    ] {
        push(&mut lines, &mut legend, (role, form, name), vec![points]);
    }
    (!measured.is_empty()).then_some(Plot {
        chart: Chart { x, y, lines },
        legend,
    })
}

/// Adds a line and its name, unless it has no points.
fn push(
    lines: &mut Vec<Line>,
    legend: &mut Legend,
    (role, form, name): (Role, Form, &str),
    parts: Vec<Vec<(f64, f64)>>,
) {
    if parts.iter().any(|part| !part.is_empty()) {
        lines.push(Line { role, parts, form });
        legend.push((role, form, name.to_owned()));
    }
}

/// A plot over the time of all runs, with dots where records failed. Without lines it is none.
fn over_time(
    runs: &[Series<'_>],
    y: Axis,
    mut lines: Vec<Line>,
    mut legend: Legend,
) -> Option<Plot> {
    if lines.is_empty() {
        return None;
    }
    let intervals = || runs.iter().flat_map(|run| run.intervals);
    let ends = intervals().map(|interval| interval.start_s + interval.seconds);
    let failed = intervals().filter(|interval| interval.errors > 0);
    let mut failed: Vec<_> = failed.map(|interval| (middle(interval), y.from)).collect();
    failed.dedup();
    push(
        &mut lines,
        &mut legend,
        (Role::Alarm, Form::Dots, "records failed"),
        vec![failed],
    );
    let x = Axis::seconds(ends.fold(0.0, f64::max));
    Some(Plot {
        chart: Chart { x, y, lines },
        legend,
    })
}

fn middle(interval: &Interval) -> f64 {
    interval.start_s + interval.seconds / 2.0
}

/// Points with a gap wherever there is none, or none that can be drawn.
fn parts(points: impl Iterator<Item = Option<(f64, f64)>>) -> Vec<Vec<(f64, f64)>> {
    let mut parts = vec![Vec::new()];
    for point in points {
        match point.filter(|(at, value)| at.is_finite() && value.is_finite()) {
            Some(point) => parts.last_mut().expect("never empty").push(point),
            None => parts.push(Vec::new()),
        }
    }
    parts.retain(|part: &Vec<_>| !part.is_empty());
    parts
}

fn heights(lines: &[Line]) -> impl Iterator<Item = f64> {
    let points = lines.iter().flat_map(|line| line.parts.iter().flatten());
    points.map(|(_, height)| *height)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(start_s: f64, value_bytes: u64, p99_us: Option<u64>, errors: u64) -> Interval {
        Interval {
            start_s,
            seconds: 1.0,
            records: 1,
            value_bytes,
            latencies: 1,
            p50_us: p99_us,
            p99_us,
            max_us: p99_us,
            errors,
        }
    }

    fn series(intervals: &[Interval]) -> Series<'_> {
        Series {
            name: "a",
            role: Role::First,
            intervals,
        }
    }

    fn latencies(intervals: &[Interval]) -> Option<Plot> {
        latency_over_time(&[LatencySeries {
            series: series(intervals),
            form: Form::Line,
            value_us: |interval| interval.p99_us,
        }])
    }

    #[test]
    fn between_two_points_of_a_curve_the_latency_is_that_of_the_second() {
        let points = [(90.0, 200), (99.0, 900), (100.0, 5_000)];
        let points = points.map(|(percentile, value_us)| CurvePoint {
            percentile,
            value_us,
        });
        let curve = Curve {
            name: "latency",
            role: Role::First,
            points: &points,
        };
        let drawn = percentile_points(&curve);
        let expected = [
            (1.0, 200.0),
            (1.0, 900.0),
            (2.0, 900.0),
            (2.0, 5_000.0),
            (SLOWEST_AT, 5_000.0),
        ];
        assert_eq!(drawn.len(), expected.len(), "{drawn:?}");
        for ((at, us), (place, value)) in drawn.into_iter().zip(expected) {
            assert!((at - place).abs() < 1e-9 && us == value, "{at} {us}");
        }
        let plot = latency_by_percentile(&[curve]).unwrap();
        assert_eq!(plot.chart.x.ticks.last().unwrap().1, "max");
        assert_eq!(plot.legend.len(), 1);
    }

    #[test]
    fn what_is_not_there_is_a_gap_and_not_a_zero() {
        let intervals = [
            interval(0.0, 1, Some(10), 0),
            interval(1.0, 1, None, 0),
            interval(2.0, 1, Some(10), 2),
        ];
        let plot = latencies(&intervals).unwrap();
        assert_eq!(plot.chart.lines[0].parts.len(), 2);
        assert_eq!(plot.chart.lines[1].parts, [[(2.5, plot.chart.y.from)]]);
        assert_eq!(plot.legend[1].2, "records failed");
        let plot = throughput_over_time(&[series(&intervals)]).unwrap();
        assert_eq!(plot.chart.lines[0].parts.len(), 1);
        assert_eq!(plot.chart.x.to, 3.0);
    }

    #[test]
    fn nothing_is_no_plot() {
        assert!(latency_by_percentile(&[]).is_none());
        assert!(throughput_over_time(&[series(&[])]).is_none());
        assert!(latencies(&[interval(0.0, 1, None, 0)]).is_none());
        assert!(latency_by_rate(&[], 1_000).is_none());
    }

    #[test]
    fn an_interval_of_no_length_is_left_out() {
        let mut empty = interval(0.0, 5, Some(1), 0);
        empty.seconds = 0.0;
        assert!(throughput_over_time(&[series(&[empty])]).is_none());
    }
}
