//! A chart of lines in two axes, drawn as SVG. Knows nothing of what it shows.

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

use super::palette::Role;

/// A chart, before it has a size.
#[derive(Debug)]
pub(super) struct Chart {
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// The first is drawn first.
    pub lines: Vec<Line>,
}

/// An axis: its ends, and the ticks with their labels, in the chart's units. The ends differ.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// The lower end.
    pub from: f64,
    /// The upper end.
    pub to: f64,
    /// Places and labels.
    pub ticks: Vec<(f64, String)>,
}

/// A line, which may have gaps.
#[derive(Debug)]
pub(super) struct Line {
    /// Its colour.
    pub role: Role,
    /// Its parts, each without gaps.
    pub parts: Vec<Vec<(f64, f64)>>,
    /// What there is of it.
    pub form: Form,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A line; dots where points have no neighbour.
    Line,
    /// A thin line, for what varies much.
    Thin,
    /// A line, and a tint under it down to the axis.
    Filled,
    /// A line with a dot at every point.
    Dotted,
    /// Only dots.
    Dots,
    /// Only rings around the points.
    Rings,
}

/// For how wide a window a chart is drawn, so that its words have the same size in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// A page.
    Wide,
    /// A telephone, or a column.
    Narrow,
}

/// Units of the drawing for a pixel: plotters draws in whole units, and lines have to be finer than a pixel.
pub(super) const UNITS: u32 = 4;

impl Width {
    /// Pixels.
    const fn size(self) -> (u32, u32) {
        match self {
            Self::Wide => (920, 280),
            Self::Narrow => (360, 260),
        }
    }
}

/// What is drawn on.
pub(super) type Area<'s> = DrawingArea<SVGBackend<'s>, plotters::coord::Shift>;
/// What cannot be drawn: nothing, on a string.
pub(super) type Drawn = Result<(), Box<dyn std::error::Error>>;

/// An SVG element of that height in pixels, for a page: without a namespace, as HTML has it, and with words for who
/// cannot see it.
pub(super) fn svg(
    width: Width,
    pixels_y: u32,
    words: &str,
    draw: impl FnOnce(&Area<'_>) -> Drawn,
) -> String {
    let size = (width.size().0 * UNITS, pixels_y * UNITS);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        draw(&area).expect("strings take everything");
    }
    let inside = svg.split_once('>').map_or("", |(_, inside)| inside);
    let class = match width {
        Width::Wide => "wide",
        Width::Narrow => "narrow",
    };
    format!(
        "<svg class=\"{class}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{inside}",
        size.0,
        size.1,
        super::page::escape(words)
    )
}

/// Words of so many pixels' height.
pub(super) fn words(pixels: u32, role: Role) -> TextStyle<'static> {
    ("sans-serif", f64::from(pixels * UNITS) * FONT_FACTOR)
        .into_font()
        .color(&role.colour())
}

impl Chart {
    /// The SVG element.
    pub(super) fn svg(&self, width: Width, words: &str) -> String {
        svg(width, width.size().1, words, |area| self.draw(area))
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        let units = UNITS as i32;
        let mut chart = ChartBuilder::on(area)
            .margin_top(10 * units)
            .margin_right(26 * units)
            .x_label_area_size(28 * units)
            .y_label_area_size(58 * units)
            .build_cartesian_2d(self.x.clone(), self.y.clone())?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(Role::Grid.colour().stroke_width(UNITS))
            .axis_style(Role::Grid.colour().stroke_width(UNITS))
            .set_all_tick_mark_size(5 * units)
            .label_style(words(12, Role::Label))
            .draw()?;
        for line in &self.lines {
            let colour = line.role.colour();
            let stroke = colour.stroke_width(match line.form {
                Form::Thin => UNITS,
                _ => 2 * UNITS,
            });
            for part in &line.parts {
                let points = || part.iter().copied();
                if line.form == Form::Filled && part.len() > 1 {
                    chart.draw_series(AreaSeries::new(points(), self.y.from, colour.mix(0.12)))?;
                }
                if part.len() > 1 && !matches!(line.form, Form::Dots | Form::Rings) {
                    chart.draw_series(LineSeries::new(points(), stroke))?;
                }
                if line.form == Form::Rings {
                    let ring = colour.stroke_width(2 * UNITS);
                    chart.draw_series(points().map(|at| Circle::new(at, 7 * units, ring)))?;
                } else if part.len() == 1 || matches!(line.form, Form::Dots | Form::Dotted) {
                    let dot = colour.filled();
                    chart.draw_series(points().map(|at| Circle::new(at, 7 * units / 2, dot)))?;
                }
            }
        }
        Ok(area.present()?)
    }
}

/// What plotters divides a font's size by.
const FONT_FACTOR: f64 = 1.24;

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    /// What lies outside stands at the edge.
    fn map(&self, at: &f64, (first, last): (i32, i32)) -> i32 {
        let part = ((at - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
        first + (part * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.iter().map(|(place, _)| *place).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Axis {
    /// The label of the tick at this place.
    fn format(at: &f64) -> String {
        at.to_string()
    }

    fn format_ext(&self, at: &f64) -> String {
        let found = self.ticks.iter().find(|(place, _)| place == at);
        found.map_or_else(String::new, |(_, label)| label.clone())
    }
}

impl Axis {
    /// An axis of logarithms of positive figures, from one round figure to another; ticks are round too.
    pub(super) fn logarithmic(
        figures: impl Iterator<Item = f64>,
        label: impl Fn(f64) -> String,
    ) -> Self {
        /// More ticks than this are too many.
        const TICKS_MAX: usize = 8;
        let (low, high) = ends(figures.map(|figure| figure.max(1.0)), 1.0);
        let round: Vec<f64> = (0..=20)
            .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
            .collect();
        // Both ends lie apart from what is shown, so that there is an axis for a single figure too.
        let below = round.iter().rfind(|figure| **figure < low * 0.999);
        let above = round.iter().find(|figure| **figure > high * 1.001);
        let (from, to) = (*below.unwrap_or(&0.5), *above.unwrap_or(&1e21));
        let within = |figure: &f64| (from..=to).contains(figure);
        let mut ticks: Vec<f64> = round.iter().copied().filter(within).collect();
        if ticks.len() > TICKS_MAX {
            let powers = (0..=20).map(|power| 10_f64.powi(power));
            ticks = powers.filter(within).collect();
        }
        Self {
            from: from.log10(),
            to: to.log10(),
            ticks: ticks
                .into_iter()
                .map(|figure| (figure.log10(), label(figure)))
                .collect(),
        }
    }

    /// An axis from 0 to a round figure that nothing exceeds.
    pub(super) fn from_zero(
        figures: impl Iterator<Item = f64>,
        label: impl Fn(f64) -> String,
    ) -> Self {
        let (_, high) = ends(figures, 0.0);
        let step = step(high);
        let to = (high / step).ceil().max(1.0) * step;
        Self::stepped(to, step, label)
    }

    /// An axis of time from 0 to its end, which need not be round.
    pub(super) fn seconds(end: f64) -> Self {
        let end = if end.is_finite() && end > 0.0 {
            end
        } else {
            1.0
        };
        Self::stepped(end, step(end), |seconds| {
            format!("{} s", super::number::fraction(seconds))
        })
    }

    fn stepped(to: f64, step: f64, label: impl Fn(f64) -> String) -> Self {
        let count = (to / step + 1e-9) as u32;
        let ticks = (0..=count).map(|index| f64::from(index) * step);
        Self {
            from: 0.0,
            to,
            ticks: ticks.map(|at| (at, label(at))).collect(),
        }
    }
}

/// The least and the greatest figure, or the same figure twice where there is none.
fn ends(figures: impl Iterator<Item = f64>, none: f64) -> (f64, f64) {
    let finite = figures.filter(|figure| figure.is_finite());
    finite
        .fold(None, |ends: Option<(f64, f64)>, figure| {
            let (low, high) = ends.unwrap_or((figure, figure));
            Some((low.min(figure), high.max(figure)))
        })
        .unwrap_or((none, none))
}

/// The round step of which five or a few more reach the figure.
fn step(figure: f64) -> f64 {
    let least = if figure > 0.0 { figure / 5.0 } else { 0.2 };
    let power = 10_f64.powf(least.log10().floor());
    let digits = [1.0, 2.0, 5.0, 10.0];
    let digit = digits
        .into_iter()
        .find(|digit| digit * power >= least * 0.999);
    digit.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn axes_have_round_ticks_and_hold_what_is_shown() {
        let plain = |figure: f64| format!("{figure}");
        let axis = Axis::logarithmic([120.0, 900.0].into_iter(), plain);
        assert_eq!(labels(&axis), ["100", "200", "500", "1000"]);
        let axis = Axis::logarithmic([120.0, 900_000.0].into_iter(), plain);
        assert_eq!(labels(&axis), ["100", "1000", "10000", "100000", "1000000"]);
        let axis = Axis::from_zero([3.0, 41.0].into_iter(), plain);
        assert_eq!(labels(&axis), ["0", "10", "20", "30", "40", "50"]);
        assert_eq!(axis.to, 50.0);
        let axis = Axis::seconds(2.5);
        assert_eq!(
            labels(&axis),
            ["0 s", "0.5 s", "1 s", "1.5 s", "2 s", "2.5 s"]
        );
    }

    #[test]
    fn axes_have_a_length_whatever_they_show() {
        let plain = |figure: f64| format!("{figure}");
        for figures in [
            &[][..],
            &[0.0],
            &[7.0, 7.0],
            &[f64::NAN, f64::INFINITY],
            &[1e19],
            &[1.0, 1e19],
        ] {
            for axis in [
                Axis::logarithmic(figures.iter().copied(), plain),
                Axis::from_zero(figures.iter().copied(), plain),
                Axis::seconds(figures.last().copied().unwrap_or(0.0)),
            ] {
                assert!(axis.from < axis.to, "{figures:?} {axis:?}");
                assert!((1..=30).contains(&axis.ticks.len()), "{figures:?} {axis:?}");
                let end = axis.to.max(10_f64.powf(axis.to)) * 1.000_001;
                let mut finite = figures.iter().filter(|figure| figure.is_finite());
                assert!(finite.all(|figure| *figure <= end), "{figures:?} {axis:?}");
            }
        }
    }

    #[test]
    fn a_chart_is_one_svg_element_of_its_own() {
        let chart = Chart {
            x: Axis::seconds(3.0),
            y: Axis::from_zero([4.0].into_iter(), |figure| format!("{figure}")),
            lines: vec![Line {
                role: Role::First,
                parts: vec![vec![(0.0, 1.0), (1.0, 4.0)], vec![(3.0, 2.0)]],
                form: Form::Filled,
            }],
        };
        let svg = chart.svg(Width::Wide, "a < b");
        assert!(
            svg.starts_with("<svg class=\"wide\" viewBox=\"0 0 3680 1120\""),
            "{svg}"
        );
        assert!(svg.contains("aria-label=\"a &lt; b\""), "{svg}");
        assert!(!svg.contains("http"), "{svg}");
        assert_eq!(svg.matches("<polygon").count(), 1);
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(svg.trim_end().ends_with("</svg>"), "{svg}");
    }
}
