//! Draws the live view, as wide and as high as the terminal is.
//!
//! Pure: what is in the app goes into a frame.

use std::collections::VecDeque;
use std::time::Duration;

use corelane_broker::admin::state::Phase;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use super::app::App;
use super::rates::{CoreRates, TopicRates, View};
use crate::output::units;

/// From this width on lanes show their traffic of the past, and more numbers.
const WIDE: u16 = 104;

/// What a lane is, and what its times are.
const LANES_TITLE: &str = "one for each core · P50, P99: produces · FLUSH: p99";

/// From this width on there is room for what is stored beside the rates.
const STORED_WIDTH: u16 = 92;

/// From this width on there is room for what compaction does.
const COMPACTION_WIDTH: u16 = 130;

const IN: Color = Color::Green;
const OUT: Color = Color::Blue;
const DIM: Color = Color::DarkGray;

pub(super) fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    let Some(view) = &app.view else {
        return draw_waiting(frame, app, area);
    };
    let problems = problems(app, view);
    let lanes = u16::try_from(view.cores.len()).unwrap_or(u16::MAX);
    // The topics keep a third of the screen, whatever the number of cores.
    let lanes = lanes.min((area.height / 2).max(4)).saturating_add(2);
    let [head, totals, warnings, lanes, topics, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(4),
        Constraint::Length(u16::try_from(problems.len()).unwrap_or(8).min(8)),
        Constraint::Length(lanes),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(head_line(app, view, head.width), head);
    draw_totals(frame, app, view, totals);
    let problems: Vec<_> = problems.into_iter().map(|text| text.red()).collect();
    frame.render_widget(
        Paragraph::new(problems.into_iter().map(Line::from).collect::<Vec<_>>()),
        warnings,
    );
    draw_lanes(frame, app, view, lanes);
    match app.selected_topic().filter(|_| app.is_inside) {
        Some(topic) => draw_partitions(frame, app, topic, topics),
        None => draw_topics(frame, app, topics),
    }
    frame.render_widget(keys(app), foot);
}

fn draw_waiting(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let text = match &app.problem {
        Some(problem) => vec![
            Line::from(format!("{} says nothing: {problem}", app.admin)).red(),
            Line::from(
                "Is a broker running there (admin.listen)? Another address: --admin HOST:PORT",
            ),
            Line::from("q quits; it is tried again"),
        ],
        None => vec![Line::from(format!("looking at {} …", app.admin)).fg(DIM)],
    };
    frame.render_widget(Paragraph::new(text), area);
}

fn problems(app: &App, view: &View) -> Vec<String> {
    let lost = app.problem.iter().map(|problem| {
        format!(
            "{} does not answer: {problem}; it is tried again",
            app.admin
        )
    });
    let problems = lost.chain(view.problems.iter().cloned());
    problems.map(|text| format!(" ! {text}")).collect()
}

fn head_line(app: &App, view: &View, width: u16) -> Line<'static> {
    let (word, color) = match (view.phase, app.is_paused) {
        (_, true) => ("paused", Color::Yellow),
        (Phase::Serving, _) => ("serving", Color::Green),
        (Phase::Starting, _) => ("starting", Color::Yellow),
        (Phase::Draining, _) => ("draining", Color::Yellow),
    };
    let uptime = Duration::from_secs(view.uptime_us / 1_000_000);
    let left = vec![
        " corelane ".bold().cyan(),
        Span::from(view.bootstrap.clone()),
        "  ● ".fg(color),
        word.fg(color),
        format!("  up {}", span(uptime)).fg(DIM),
    ];
    let right = format!(
        "{} connections · {} topics · {} partitions · {} ",
        units::count(view.total.connections),
        units::count(view.topics.len() as u64),
        units::count(view.total.partitions),
        units::bytes(view.resident_bytes),
    );
    let mut line = Line::from(left);
    let gap = usize::from(width).saturating_sub(line.width() + right.chars().count());
    if gap > 0 {
        line.push_span(Span::from(" ".repeat(gap)));
        line.push_span(right.fg(DIM));
    }
    line
}

fn draw_totals(frame: &mut Frame<'_>, app: &App, view: &View, area: Rect) {
    let total = &view.total;
    let flow = |name: &'static str, bytes: f64, records: f64, history: &VecDeque<f64>, color| {
        let mut line = Line::from(vec![
            format!(" {name:<4}").fg(color).bold(),
            format!("{:>9}/s", bytes_rate(bytes)).bold(),
            format!("  {:>7} records/s  ", short_count(records)).fg(DIM),
        ]);
        let left = usize::from(area.width).saturating_sub(line.width() + 1);
        line.push_span(sparkline(history, left).fg(color));
        line
    };
    let times = [total.produce_p50_us, total.produce_p99_us].map(time);
    let errors = Span::from(format!("{} errors/s", short_count(total.errors)));
    let errors = if total.errors > 0.0 {
        errors.red().bold()
    } else {
        errors.fg(DIM)
    };
    let mut requests = Line::from(vec![
        " all ".bold(),
        format!("{:>9}/s requests", short_count(total.requests)).into(),
        "   produce p50 ".fg(DIM),
        times[0].clone().into(),
        "  p99 ".fg(DIM),
        times[1].clone().into(),
        "   ".into(),
        errors,
    ]);
    if area.width >= STORED_WIDTH {
        requests.push_span("   stored ".fg(DIM));
        requests.push_span(units::bytes(total.size_bytes));
    }
    if area.width >= COMPACTION_WIDTH && total.compaction_read > 0.0 {
        let [read, removed] = [
            format!("{}/s", bytes_rate(total.compaction_read)),
            format!("{}/s", short_count(total.compaction_records_removed)),
        ];
        requests.push_span("   compacts ".fg(DIM));
        requests.push_span(read);
        requests.push_span("  records left out ".fg(DIM));
        requests.push_span(removed);
    }
    let lines = vec![
        Line::default(),
        flow("in", total.bytes_in, total.records_in, &app.bytes_in, IN),
        flow(
            "out",
            total.bytes_out,
            total.records_out,
            &app.bytes_out,
            OUT,
        ),
        requests,
    ];
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_lanes(frame: &mut Frame<'_>, app: &App, view: &View, area: Rect) {
    let [title, body] = split_title(area);
    frame.render_widget(rule("Lanes", LANES_TITLE, title.width), title);
    let is_wide = area.width >= WIDE;
    let mut columns = vec![
        ("CORE", Constraint::Length(5)),
        ("CPU", Constraint::Length(if is_wide { 22 } else { 12 })),
        ("IN/S", Constraint::Length(8)),
        ("OUT/S", Constraint::Length(8)),
        ("REQ/S", Constraint::Length(6)),
        ("P50", Constraint::Length(6)),
        ("P99", Constraint::Length(6)),
        ("FLUSH", Constraint::Length(6)),
        ("QUEUE", Constraint::Length(5)),
        ("MEM", Constraint::Length(if is_wide { 12 } else { 7 })),
    ];
    if is_wide {
        columns.push(("CONNS", Constraint::Length(6)));
        columns.push(("ERR/S", Constraint::Length(5)));
        columns.push(("TRAFFIC", Constraint::Min(1)));
    }
    let fixed = columns.iter().map(|(_, width)| match width {
        Constraint::Length(width) => usize::from(*width) + 1,
        _ => 0,
    });
    let road = usize::from(body.width).saturating_sub(fixed.sum());
    let rows = view.cores.iter().zip(&app.lanes);
    let rows = rows.map(|(core, history)| lane_row(core, history, is_wide, road));
    let table = Table::new(rows, columns.iter().map(|(_, width)| *width))
        .header(header(columns.iter().map(|(name, _)| *name)))
        .column_spacing(1);
    frame.render_widget(table, body);
    let visible = usize::from(body.height).saturating_sub(1);
    if view.cores.len() > visible && visible > 0 {
        // The last row that is visible makes room for this line.
        let hidden = view.cores.len() - visible + 1;
        let more = format!("{hidden} more lanes: a higher terminal shows them");
        let last = Rect {
            y: body.bottom().saturating_sub(1),
            height: 1,
            ..body
        };
        frame.render_widget(ratatui::widgets::Clear, last);
        frame.render_widget(Line::from(format!("      … {more}")).fg(DIM), last);
    }
}

fn lane_row(core: &CoreRates, history: &VecDeque<f64>, is_wide: bool, road: usize) -> Row<'static> {
    let cpu = core.cpu.clamp(0.0, 1.0);
    let cpu_bar = if is_wide { 16 } else { 6 };
    let share = core.memory_bytes as f64 / (core.memory_cap.max(1)) as f64;
    let memory_bar = if is_wide { 7 } else { 2 };
    let mut cells = vec![
        Cell::from(Line::from(format!(" {} ", core.core)).bold()),
        Cell::from(gauge(cpu, cpu_bar)),
        number(bytes_rate(core.bytes_in), IN),
        number(bytes_rate(core.bytes_out), OUT),
        number(short_count(core.requests), Color::Reset),
        number(time(core.produce_p50_us), Color::Reset),
        number(time(core.produce_p99_us), Color::Reset),
        number(time(core.flush_p99_us), Color::Reset),
        number(units::count(core.queue), Color::Reset),
        Cell::from(gauge(share, memory_bar)),
    ];
    if is_wide {
        cells.push(number(units::count(core.connections), Color::Reset));
        let color = if core.errors > 0.0 { Color::Red } else { DIM };
        cells.push(number(short_count(core.errors), color));
        cells.push(Cell::from(sparkline(history, road).fg(Color::Cyan)));
    }
    Row::new(cells)
}

fn draw_topics(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let [title, body] = split_title(area);
    let by = format!("{}, by {}", app.topics().len(), app.order.name());
    frame.render_widget(rule("Topics", &by, title.width), title);
    if app.topics().is_empty() {
        let hint = "  none yet; make one with `corelane topic create NAME --partitions N`";
        frame.render_widget(Line::from(hint).fg(DIM), body);
        return;
    }
    let rows = app.topics().iter().map(|topic| {
        Row::new(vec![
            Cell::from(format!(" {}", topic.name)),
            number(units::count(topic.partitions.len() as u64), Color::Reset),
            number(short_count(topic.records_in), Color::Reset),
            number(bytes_rate(topic.bytes_in), IN),
            number(short_count(topic.records_out), Color::Reset),
            number(bytes_rate(topic.bytes_out), OUT),
            number(short_count(topic.records as f64), Color::Reset),
            number(units::bytes(topic.size_bytes), Color::Reset),
        ])
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(5),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(9),
    ];
    let names = [
        "TOPIC",
        "PARTS",
        "REC IN/S",
        "IN/S",
        "REC OUT/S",
        "OUT/S",
        "RECORDS",
        "SIZE",
    ];
    let table = Table::new(rows, widths)
        .header(header(names.into_iter()))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .column_spacing(1);
    let mut state = TableState::new().with_selected(app.selected_index());
    frame.render_stateful_widget(table, body, &mut state);
}

fn draw_partitions(frame: &mut Frame<'_>, app: &App, topic: &TopicRates, area: Rect) {
    let [title, body] = split_title(area);
    let to_compact = topic.to_compact.map(|share| {
        let percent = share * 100.0;
        format!(", {percent:.0}% of closed segments to compact")
    });
    let of = format!(
        "{}, {} partitions{}",
        topic.name,
        topic.partitions.len(),
        to_compact.unwrap_or_default()
    );
    frame.render_widget(rule("Partitions", &of, title.width), title);
    let rows = topic.partitions.iter().map(|partition| {
        let state = if partition.is_online {
            Span::from("online").fg(IN)
        } else {
            Span::from("offline").red().bold()
        };
        Row::new(vec![
            number(partition.partition.to_string(), Color::Reset),
            number(partition.core.to_string(), Color::Reset),
            Cell::from(state),
            number(units::count(partition.log_start), DIM),
            number(units::count(partition.high_watermark), Color::Reset),
            number(short_count(partition.records_in), Color::Reset),
            number(bytes_rate(partition.bytes_in), IN),
            number(bytes_rate(partition.bytes_out), OUT),
            number(units::bytes(partition.size_bytes), Color::Reset),
        ])
    });
    let widths = [
        Constraint::Length(5),
        Constraint::Length(4),
        Constraint::Length(7),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(9),
    ];
    let names = [
        "PART", "CORE", "STATE", "START", "HIGH WM", "REC IN/S", "IN/S", "OUT/S", "SIZE",
    ];
    let table = Table::new(rows, widths)
        .header(header(names.into_iter()))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .column_spacing(1);
    let mut state = TableState::new().with_selected(Some(app.partition));
    frame.render_stateful_widget(table, body, &mut state);
}

fn keys(app: &App) -> Line<'static> {
    let mut line = Line::default();
    let enter = if app.is_inside {
        ("Esc", "topics")
    } else {
        ("Enter", "partitions")
    };
    let pause = if app.is_paused { "go on" } else { "pause" };
    for (key, what) in [
        ("q", "quit"),
        ("↑↓", "select"),
        enter,
        ("s", "order"),
        ("p", pause),
    ] {
        line.push_span(format!(" {key} ").reversed());
        line.push_span(format!(" {what}  ").fg(DIM));
    }
    line
}

fn split_title(area: Rect) -> [Rect; 2] {
    Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area)
}

/// A title in a line.
fn rule(title: &'static str, what: &str, width: u16) -> Line<'static> {
    let what = format!(" {what} ");
    let used = title.chars().count() + what.chars().count() + 4;
    let rest = "─".repeat(usize::from(width).saturating_sub(used));
    Line::from(vec![
        "── ".fg(DIM),
        title.bold().cyan(),
        what.fg(DIM),
        rest.fg(DIM),
    ])
}

/// Column names: those of numbers stand over them at the right.
fn header<'a>(names: impl Iterator<Item = &'a str>) -> Row<'a> {
    let cells = names.map(|name| {
        let alignment = match name {
            "CORE" | "CPU" | "MEM" | "TRAFFIC" | "STATE" => Alignment::Left,
            "TOPIC" => Alignment::Left,
            _ => Alignment::Right,
        };
        let name = if matches!(name, "TOPIC") {
            format!(" {name}")
        } else {
            name.to_owned()
        };
        Cell::from(Line::from(name).alignment(alignment).fg(DIM))
    });
    Row::new(cells)
}

fn number(text: String, color: Color) -> Cell<'static> {
    // What does not happen should not catch the eye.
    let color = if matches!(text.as_str(), "0" | "0 B" | "–") {
        DIM
    } else {
        color
    };
    Cell::from(Line::from(text).right_aligned().fg(color))
}

/// A bar with its share in percent behind it.
fn gauge(share: f64, width: usize) -> Line<'static> {
    let color = match share {
        share if share >= 0.9 => Color::Red,
        share if share >= 0.7 => Color::Yellow,
        _ => Color::Green,
    };
    let (full, empty) = bar(share, width);
    Line::from(vec![
        full.fg(color),
        empty.fg(DIM),
        format!(" {:>3.0}%", share * 100.0).into(),
    ])
}

/// A bar of so many cells in eighths of a cell, and the track that it leaves.
fn bar(share: f64, width: usize) -> (String, String) {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * (width * 8) as f64).round() as usize;
    let full = format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8]);
    let left = width - full.chars().count();
    (full, "░".repeat(left))
}

/// The newest values, as high as they are beside the largest one.
fn sparkline(values: &VecDeque<f64>, width: usize) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let shown = values.iter().skip(values.len().saturating_sub(width));
    let most = shown.clone().copied().fold(0.0, f64::max);
    let pad = width.saturating_sub(values.len());
    let level = |value: &f64| {
        let level = if most > 0.0 { value / most * 7.0 } else { 0.0 };
        LEVELS[level.round() as usize]
    };
    " ".repeat(pad).chars().chain(shown.map(level)).collect()
}

/// Bytes per second with at most three digits, in decimal units as networks and disks are sold.
pub(super) fn bytes_rate(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (bytes, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 99.95 { 0 } else { 1 };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A count or a rate with about three digits.
pub(super) fn short_count(number: f64) -> String {
    const UNITS: [&str; 4] = ["", "k", "M", "G"];
    let (mut value, mut unit) = (number, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let is_small = unit == 0 && value > 0.0 && value < 9.95;
    let digits = usize::from(is_small || (unit > 0 && value < 99.95));
    format!("{value:.digits$}{}", UNITS[unit])
}

/// A time with two or three digits.
pub(super) fn time(us: Option<u64>) -> String {
    match us {
        None => "–".to_owned(),
        Some(us) if us < 1000 => format!("{us}µs"),
        Some(us) if us < 10_000 => format!("{:.1}ms", us as f64 / 1e3),
        Some(us) if us < 1_000_000 => format!("{:.0}ms", us as f64 / 1e3),
        Some(us) => format!("{:.1}s", us as f64 / 1e6),
    }
}

/// A long time in its two largest units.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::app::Key;
    use super::super::rates::tests::state;
    use super::*;

    fn shown(app: &App, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| draw(frame, app)).expect("drawn");
        let buffer = terminal.backend().buffer();
        let rows = buffer.content.chunks(usize::from(width));
        rows.map(|row| {
            let text: String = row.iter().map(|cell| cell.symbol()).collect();
            text.trim_end().to_owned()
        })
        .collect()
    }

    fn app() -> App {
        let mut app = App::new("127.0.0.1:9600");
        for second in 10..14 {
            app.take(Ok(state(second)));
        }
        app
    }

    #[test]
    fn everything_fits_a_small_terminal() {
        let expected = "
 corelane 127.0.0.1:9500  ● serving  up 13 s

 in     100 MB/s    96.0k records/s                                        ███
 out    200 MB/s     192k records/s                                        ███
 all      2.0k/s requests   produce p50 359µs  p99 359µs   4.0 errors/s
── Lanes one for each core · P50, P99: produces · FLUSH: p99 ─────────────────
CORE  CPU              IN/S    OUT/S  REQ/S    P50    P99  FLUSH QUEUE MEM
 0    █▌░░░░  25%   50.0 MB   100 MB   1.0k  359µs  359µs  831µs     0 ▌░  25%
 1    ███░░░  50%   50.0 MB   100 MB   1.0k  359µs  359µs  831µs     0 ▌░  25%
── Topics 2, by traffic ──────────────────────────────────────────────────────
 TOPIC             PARTS REC IN/S     IN/S REC OUT/S    OUT/S RECORDS      SIZE
 payments              2    60.0k  60.0 MB      120k   120 MB    780k 743.9 MiB
 orders                4    36.0k  36.0 MB     72.0k  72.0 MB    468k 446.3 MiB";
        let shown = shown(&app(), 79, 24);
        let expected: Vec<_> = expected.lines().skip(1).collect();
        assert_eq!(shown[..expected.len()], expected, "{shown:#?}");
        assert_eq!(
            shown[23],
            " q  quit   ↑↓  select   Enter  partitions   s  order   p  pause"
        );
    }

    #[test]
    fn a_wide_terminal_shows_each_lane_s_traffic() {
        let shown = shown(&app(), 160, 30);
        let title = &shown[6];
        assert!(
            title.contains("CONNS") && title.ends_with("TRAFFIC"),
            "{title}"
        );
        assert!(shown[7].ends_with("███"), "{}", shown[7]);
        assert!(shown[0].contains("16 connections · 2 topics · 6 partitions"));
        assert!(
            shown[4].contains("compacts 6.0 MB/s  records left out 1.8k/s"),
            "{}",
            shown[4]
        );
    }

    #[test]
    fn partitions_of_a_topic_are_shown() {
        let mut app = app();
        app.press(Key::Down);
        app.press(Key::Enter);
        let shown = shown(&app, 80, 24);
        assert!(
            shown[9].contains("Partitions orders, 4 partitions"),
            "{shown:#?}"
        );
        assert!(
            shown[11].contains("online") && shown[11].contains("117,000"),
            "{shown:#?}"
        );
        assert!(shown[23].contains("Esc  topics"));
    }

    #[test]
    fn what_is_wrong_is_shown() {
        let mut app = App::new("127.0.0.1:9600");
        app.take(Err("connection refused".to_owned()));
        let text = shown(&app, 80, 24).join("\n");
        assert!(
            text.contains("connection refused") && text.contains("--admin"),
            "{text}"
        );
        app.take(Ok(state(10)));
        let mut fenced = state(11);
        fenced.stores[1].fenced = Some("I/O error".to_owned());
        app.take(Ok(fenced));
        app.take(Err("connection refused".to_owned()));
        let text = shown(&app, 80, 24).join("\n");
        assert!(
            text.contains("! store 1 takes no appends: I/O error"),
            "{text}"
        );
        assert!(
            text.contains("does not answer: connection refused"),
            "{text}"
        );
    }

    #[test]
    fn no_size_of_a_terminal_is_too_small() {
        let mut app = app();
        for inside in [false, true] {
            app.is_inside = inside;
            for (width, height) in [(1, 1), (10, 3), (40, 10), (80, 8), (300, 100)] {
                shown(&app, width, height);
            }
        }
    }

    #[test]
    fn numbers_are_short() {
        let rates = [0.0, 950.0, 12_340.0, 255_100_000.0, 1_230_000_000.0].map(bytes_rate);
        assert_eq!(rates, ["0 B", "950 B", "12.3 kB", "255 MB", "1.2 GB"]);
        let counts = [0.0, 0.5, 12.0, 999.0, 1234.0, 96_000.0, 999_900.0].map(short_count);
        assert_eq!(counts, ["0", "0.5", "12", "999", "1.2k", "96.0k", "1.0M"]);
        let times = [None, Some(12), Some(1234), Some(45_600), Some(2_340_000)].map(time);
        assert_eq!(times, ["–", "12µs", "1.2ms", "46ms", "2.3s"]);
        let spans = [5, 75, 3_700, 90_000].map(|s| span(Duration::from_secs(s)));
        assert_eq!(spans, ["5 s", "1 min 15 s", "1 h 1 min", "1 d 1 h"]);
    }
}
