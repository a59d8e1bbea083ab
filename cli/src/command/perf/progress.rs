//! How a load goes, live, on a terminal.

use std::cell::RefCell;
use std::io::{self, IsTerminal};

use corelane_perf::Phase;
use indicatif::{ProgressBar, ProgressStyle};

use crate::output::units;

/// A line on standard error, if that is a terminal. It is drawn when the run says something, on no thread of its own, so
/// that it takes no CPU in between.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    /// The run of several that goes on.
    run: RefCell<String>,
}

impl Progress {
    pub(super) fn start() -> Self {
        let bar = io::stderr().is_terminal().then(ProgressBar::new_spinner);
        if let Some(bar) = &bar {
            let style = ProgressStyle::with_template("{spinner} {wide_msg}");
            bar.set_style(style.expect("the template is valid"));
        }
        Self {
            bar,
            run: RefCell::default(),
        }
    }

    pub(super) fn say(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
            bar.tick();
        }
    }

    pub(super) fn show(&self, now: &corelane_perf::Progress) {
        if self.bar.is_some() {
            let run = self.run.borrow();
            self.say(&format!("{run}{}", line(now)));
        }
    }

    /// The next of several runs begins.
    pub(super) fn begin(&self, name: &str) {
        *self.run.borrow_mut() = format!("{name}: ");
    }

    /// Says something that stays above the line.
    pub(super) fn note(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.println(what);
        }
    }

    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// `measuring 3 of 10 s: 869,888 records/s, 869.9 MB/s, p99 9.4 ms`
fn line(now: &corelane_perf::Progress) -> String {
    let what = match now.phase {
        Phase::Limit => return "measuring what this machine can do at most".to_owned(),
        Phase::Prepare => return "looking at the topic".to_owned(),
        Phase::Fill => "filling the topic",
        Phase::WarmUp => "warming up",
        Phase::Measure => "measuring",
        Phase::Drain => "awaiting the last answers",
    };
    let seconds = now.elapsed.as_secs_f64();
    let time = now.of.map_or_else(
        || format!("{seconds:.0} s"),
        |of| format!("{seconds:.0} of {:.0} s", of.as_secs_f64()),
    );
    let speed = format!(
        "{} records/s, {:.1} MB/s",
        units::count(now.records_per_s as u64),
        now.mb_s
    );
    let p99 = now
        .p99_us
        .map_or_else(String::new, |us| format!(", p99 {:.1} ms", us as f64 / 1e3));
    let errors = match now.errors {
        0 => String::new(),
        errors => format!(", {} FAILED", units::count(errors)),
    };
    format!("{what}, {time}: {speed}{p99}{errors}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_line_says_how_it_goes() {
        let now = corelane_perf::Progress {
            phase: Phase::Measure,
            elapsed: Duration::from_secs(3),
            of: Some(Duration::from_secs(10)),
            records: 2_600_000,
            records_per_s: 869_888.4,
            mb_s: 869.89,
            p99_us: Some(9_415),
            errors: 2,
        };
        assert_eq!(
            line(&now),
            "measuring, 3 of 10 s: 869,888 records/s, 869.9 MB/s, p99 9.4 ms, 2 FAILED"
        );
    }
}
