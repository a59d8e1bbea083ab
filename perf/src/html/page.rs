//! The page: what it consists of, and escaping. It is one file that asks for nothing else, and needs no script.

use std::fmt::Write;

use super::chart::{Form, Width};
use super::palette;
use super::plots::{Legend, Plot};
use super::rows::Rows;

/// A page that grows from top to bottom. Every text is escaped here.
#[derive(Debug)]
pub(super) struct Page {
    title: String,
    body: String,
}

/// How much a notice matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// Figures are not what they seem.
    Alarm,
    /// To be known.
    Hint,
}

/// One figure of the headline.
#[derive(Debug)]
pub(super) struct Tile {
    pub name: String,
    pub value: String,
    pub unit: String,
    pub is_alarm: bool,
}

/// A row of a table.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub cells: Vec<String>,
    pub is_marked: bool,
    /// The page beside this one that its name leads to.
    pub link: Option<String>,
    /// What is said of it under its name.
    pub note: Option<String>,
}

/// What the cells of a table are, beside the first of each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cells {
    /// Numbers, one below the other.
    Numbers,
    /// Words and numbers.
    Text,
}

impl Page {
    /// A page with its headline: what it is about, its main figures in a sentence, and what they stand for.
    pub(super) fn new(about: &str, headline: &str, conditions: &[String]) -> Self {
        let mut page = Self {
            title: format!("{about}: {headline}"),
            body: String::new(),
        };
        page.push(format_args!(
            "<header>\n<p class=\"about\">{}</p>\n<h1>{}</h1>\n<ul class=\"conditions\">\n",
            escape(about),
            escape(headline)
        ));
        for condition in conditions {
            page.push(format_args!("<li>{}</li>\n", escape(condition)));
        }
        page.push(format_args!("</ul>\n</header>\n"));
        page
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        self.body.write_fmt(text).expect("strings take everything");
    }

    /// A sentence that nobody should miss.
    pub(super) fn notice(&mut self, notice: Notice, text: &str) {
        let (class, role) = match notice {
            Notice::Alarm => ("notice alarm", "alert"),
            Notice::Hint => ("notice", "note"),
        };
        self.push(format_args!(
            "<p class=\"{class}\" role=\"{role}\">{}</p>\n",
            escape(text)
        ));
    }

    /// The main figures.
    pub(super) fn tiles(&mut self, tiles: &[Tile]) {
        self.push(format_args!("<dl class=\"tiles\">\n"));
        for tile in tiles {
            let class = if tile.is_alarm {
                " class=\"alarm\""
            } else {
                ""
            };
            self.push(format_args!(
                "<div{class}><dt>{}</dt><dd>{} <small>{}</small></dd></div>\n",
                escape(&tile.name),
                escape(&tile.value),
                escape(&tile.unit)
            ));
        }
        self.push(format_args!("</dl>\n"));
    }

    /// A plot with its legend, or a sentence that there is nothing to plot.
    pub(super) fn plot(&mut self, title: &str, caption: &str, plot: Option<&Plot>) {
        let Some(plot) = plot else {
            self.push(format_args!(
                "<section>\n<h2>{}</h2>\n<p class=\"caption\">Nothing to plot.</p>\n</section>\n",
                escape(title)
            ));
            return;
        };
        self.figure(title, caption, &plot.legend, |width| {
            plot.chart.svg(width, caption)
        });
    }

    /// A chart of rows with its legend.
    pub(super) fn rows(&mut self, title: &str, caption: &str, rows: &Rows, legend: &Legend) {
        self.figure(title, caption, legend, |width| rows.svg(width, caption));
    }

    fn figure(
        &mut self,
        title: &str,
        caption: &str,
        legend: &Legend,
        svg: impl Fn(Width) -> String,
    ) {
        self.push(format_args!("<section>\n<h2>{}</h2>\n", escape(title)));
        self.push(format_args!(
            "<p class=\"caption\">{}</p>\n<ul class=\"legend\">\n",
            escape(caption)
        ));
        for (role, form, name) in legend {
            let form = match form {
                Form::Dots => " dots",
                Form::Rings => " rings",
                _ => "",
            };
            self.push(format_args!(
                "<li class=\"key {}{form}\">{}</li>\n",
                role.class(),
                escape(name)
            ));
        }
        self.push(format_args!("</ul>\n"));
        for width in [Width::Wide, Width::Narrow] {
            self.push(format_args!("{}", svg(width)));
        }
        self.push(format_args!("</section>\n"));
    }

    /// A table. The first cell of each row is its name.
    pub(super) fn table(
        &mut self,
        title: &str,
        caption: &str,
        heads: &[&str],
        cells: Cells,
        rows: &[Row],
    ) {
        let class = match cells {
            Cells::Numbers => "numbers",
            Cells::Text => "text",
        };
        self.push(format_args!("<section>\n<h2>{}</h2>\n", escape(title)));
        if !caption.is_empty() {
            self.push(format_args!(
                "<p class=\"caption\">{}</p>\n",
                escape(caption)
            ));
        }
        self.push(format_args!(
            "<div class=\"scroll\">\n<table class=\"{class}\">\n"
        ));
        if !heads.is_empty() {
            self.push(format_args!("<thead><tr>"));
            for head in heads {
                self.push(format_args!("<th scope=\"col\">{}</th>", escape(head)));
            }
            self.push(format_args!("</tr></thead>\n"));
        }
        self.push(format_args!("<tbody>\n"));
        for row in rows {
            let class = if row.is_marked {
                " class=\"marked\""
            } else {
                ""
            };
            self.push(format_args!("<tr{class}>"));
            for (index, cell) in row.cells.iter().enumerate() {
                let cell = escape(cell);
                match index {
                    0 => self.row_head(row, &cell),
                    _ => self.push(format_args!("<td>{cell}</td>")),
                }
            }
            self.push(format_args!("</tr>\n"));
        }
        self.push(format_args!("</tbody>\n</table>\n</div>\n</section>\n"));
    }

    /// The name of a row, which may lead somewhere, and what is said of it.
    fn row_head(&mut self, row: &Row, name: &str) {
        self.push(format_args!("<th scope=\"row\">"));
        match &row.link {
            Some(link) => self.push(format_args!("<a href=\"{}\">{name}</a>", escape(link))),
            None => self.push(format_args!("{name}")),
        }
        if let Some(note) = &row.note {
            self.push(format_args!("<small>{}</small>", escape(note)));
        }
        self.push(format_args!("</th>"));
    }

    /// The whole page.
    pub(super) fn finish(self) -> String {
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
             <meta name=\"color-scheme\" content=\"light dark\"/>\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n\
             <title>{}</title>\n<style>\n{}{}</style>\n</head>\n<body>\n<main>\n{}\
             <footer>Figures are counted as the load generator's documentation says. MB are 10^6 bytes.</footer>\n\
             </main>\n</body>\n</html>\n",
            escape(&self.title),
            include_str!("style.css"),
            palette::rules(),
            self.body
        )
    }
}

/// Text as text, in elements and in attributes. Control characters, which no page may have, are shown as what cannot be.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ if character.is_control() && !character.is_whitespace() => escaped.push('\u{FFFD}'),
            _ => escaped.push(character),
        }
    }
    escaped
}
