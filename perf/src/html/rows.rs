//! A chart of rows, one for each run: its name, and its figures along one axis. Knows nothing of what it shows.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::chart::{self, Area, Axis, Drawn, UNITS, Width, words};
use super::palette::Role;

/// A chart of rows, before it has a size.
#[derive(Debug)]
pub(super) struct Rows {
    /// From left to right.
    pub x: Axis,
    /// From top to bottom.
    pub rows: Vec<Row>,
    /// How figures are drawn.
    pub form: RowForm,
}

/// A row.
#[derive(Debug)]
pub(super) struct Row {
    /// What it is about.
    pub name: String,
    /// Its figures in words.
    pub words: String,
    /// Its figures along the axis.
    pub marks: Vec<(Role, f64)>,
}

/// How the figures of a row are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowForm {
    /// A bar from the axis' beginning.
    Bar,
    /// Dots on a line.
    Dots,
}

/// Pixels of a row, and of the axis under all of them.
const ROW_PIXELS: u32 = 58;
const AXIS_PIXELS: u32 = 46;
/// Pixels of a letter, about, as far as room for words goes.
const LETTER_PIXELS: u32 = 7;
/// Where in a row its words and its figures are, from its top.
const WORDS_AT: f64 = 0.12;
const FIGURES_AT: f64 = 0.62;
const BAR_HALF: f64 = 0.13;

impl Rows {
    /// The SVG element.
    pub(super) fn svg(&self, width: Width, about: &str) -> String {
        let height = AXIS_PIXELS + ROW_PIXELS * self.rows.len().max(1) as u32;
        let letters = match width {
            Width::Wide => 830,
            Width::Narrow => 290,
        } / LETTER_PIXELS;
        chart::svg(width, height, about, |area| {
            self.draw(area, letters as usize)
        })
    }

    fn draw(&self, area: &Area<'_>, letters: usize) -> Drawn {
        let units = UNITS as i32;
        let count = self.rows.len().max(1) as f64;
        // Rows go down, and so does this axis.
        let y = Axis {
            from: count,
            to: 0.0,
            ticks: Vec::new(),
        };
        let mut chart = ChartBuilder::on(area)
            .margin_top(8 * units)
            .margin_left(24 * units)
            .margin_right(26 * units)
            .x_label_area_size(30 * units)
            .build_cartesian_2d(self.x.clone(), y)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .bold_line_style(Role::Grid.colour().stroke_width(UNITS))
            .axis_style(Role::Grid.colour().stroke_width(UNITS))
            .set_all_tick_mark_size(5 * units)
            .label_style(words(12, Role::Label))
            .draw()?;
        for (top, row) in (0..).map(f64::from).zip(&self.rows) {
            let at = |part: f64| top + part;
            let name = shortened(
                &row.name,
                letters.saturating_sub(row.words.chars().count() + 2),
            );
            let left = words(13, Role::Name).pos(Pos::new(HPos::Left, VPos::Top));
            let right = words(13, Role::Label).pos(Pos::new(HPos::Right, VPos::Top));
            chart.draw_series([
                Text::new(name, (self.x.from, at(WORDS_AT)), left),
                Text::new(row.words.clone(), (self.x.to, at(WORDS_AT)), right),
            ])?;
            match self.form {
                RowForm::Bar => {
                    let bars = row.marks.iter().map(|(role, figure)| {
                        let corners = [
                            (self.x.from, at(FIGURES_AT - BAR_HALF)),
                            (*figure, at(FIGURES_AT + BAR_HALF)),
                        ];
                        Rectangle::new(corners, role.colour().filled())
                    });
                    chart.draw_series(bars)?;
                }
                RowForm::Dots => {
                    let line = row
                        .marks
                        .iter()
                        .map(|(_, figure)| (*figure, at(FIGURES_AT)));
                    let stroke = Role::Grid.colour().stroke_width(3 * UNITS);
                    chart.draw_series(LineSeries::new(line, stroke))?;
                    let dots = row.marks.iter().map(|(role, figure)| {
                        let place = (*figure, at(FIGURES_AT));
                        Circle::new(place, 5 * units, role.colour().filled())
                    });
                    chart.draw_series(dots)?;
                }
            }
        }
        Ok(area.present()?)
    }
}

/// A name for which there is so much room. What no text may have is shown as what cannot be.
fn shortened(name: &str, letters: usize) -> String {
    let mut letters_left = name.chars().map(|letter| match letter {
        _ if letter.is_control() => '\u{FFFD}',
        letter => letter,
    });
    let letters = letters.max(4);
    let short: String = letters_left.by_ref().take(letters).collect();
    if letters_left.next().is_none() {
        return short;
    }
    let kept: String = short.chars().take(letters - 1).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_its_name_its_words_and_its_marks() {
        let row = |name: &str, figure| Row {
            name: name.to_owned(),
            words: format!("{figure} MB/s"),
            marks: vec![(Role::First, figure)],
        };
        let mut rows = Rows {
            x: Axis::from_zero([3.0, 41.0].into_iter(), |figure| format!("{figure}")),
            rows: vec![row("a<b", 3.0), row("c", 41.0)],
            form: RowForm::Bar,
        };
        let svg = rows.svg(Width::Wide, "all");
        assert!(svg.contains("a&lt;b") && svg.contains("41 MB/s"), "{svg}");
        let bar = |svg: &str| svg.matches("fill=\"#005FA8\"").count();
        assert_eq!(bar(&svg), 2, "{svg}");
        rows.form = RowForm::Dots;
        let svg = rows.svg(Width::Narrow, "all");
        assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
    }

    #[test]
    fn names_without_room_are_shortened() {
        assert_eq!(shortened("16-kib", 10), "16-kib");
        assert_eq!(shortened("sixteen-kib", 10), "sixteen-k…");
        assert_eq!(shortened("a\u{1}", 10), "a\u{FFFD}");
        assert_eq!(shortened("abcdef", 0), "abc…");
    }
}
