//! Sweeps: the highest rate whose latency stays under a bound.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::error::PerfError;
use crate::manifest::Manifest;
use crate::result::{Percentiles, PerfResult};
use crate::session::Session;
use crate::workload::Workload;

/// What is searched for, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// The p99 of the latency that a rate may have at most, microseconds.
    pub p99_us: u64,
    /// The first rate that is tried, records a second.
    pub first_rate: u64,
    /// How far apart the highest rate that held and the lowest that did not may be in the end: 0.05 for 5 %.
    pub precision: f64,
}

/// What a sweep gives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sweep {
    /// [`RESULT_VERSION`](crate::RESULT_VERSION).
    pub version: u32,
    /// What was searched for.
    pub bound: Bound,
    /// The highest rate that held. `None` if none did.
    pub highest_rate: Option<u64>,
    /// Whether it was ended before its time: a higher rate may hold.
    pub cut_short: bool,
    /// Why it could not go on. `None`: it was ended by itself or by somebody who watched it.
    #[serde(default)]
    pub ended_by: Option<String>,
    /// Every rate that was tried, in the order in which they were.
    pub steps: Vec<Step>,
    /// That of the last step; its workload has that step's rate.
    pub manifest: Manifest,
}

/// One rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Records a second that were due.
    pub rate: u64,
    /// Records a second that came to their end.
    pub records_per_s: f64,
    /// Their value bytes in 10^6 a second.
    pub throughput_mb_s: f64,
    /// From the time at which a record was due. `None` if none has a latency.
    pub latency_us: Option<Percentiles>,
    /// From when it was sent.
    pub service_time_us: Option<Percentiles>,
    /// Records that failed.
    pub errors: u64,
    /// The weakest durability that was confirmed; `unconfirmed` if nothing was.
    pub durability: String,
    /// Why the rate did not hold. `None` if it did.
    pub failed_by: Option<String>,
}

/// The part of a rate that has to come to its end for the rate to hold.
const ACHIEVED_MIN: f64 = 0.98;

impl Step {
    fn of(rate: u64, result: &PerfResult, bound: Bound) -> Self {
        let p99_us = result.latency_us.map(|latency| latency.p99);
        let failed_by = if result.errors > 0 {
            Some(format!("{} records failed", result.errors))
        } else if p99_us.is_none_or(|p99_us| p99_us > bound.p99_us) {
            Some(format!("p99 over {} µs", bound.p99_us))
        } else if result.records_per_s < rate as f64 * ACHIEVED_MIN {
            Some(format!("only {:.0} records/s", result.records_per_s))
        } else {
            None
        };
        Self {
            rate,
            records_per_s: result.records_per_s,
            throughput_mb_s: result.throughput_mb_s,
            latency_us: result.latency_us,
            service_time_us: result.service_time_us,
            errors: result.errors,
            durability: result.durability.to_string(),
            failed_by,
        }
    }
}

/// What stands for a durability that nothing confirmed.
const UNCONFIRMED: &str = "unconfirmed";

impl Step {
    fn without_result(rate: u64, error: &PerfError) -> Self {
        Self {
            rate,
            records_per_s: 0.0,
            throughput_mb_s: 0.0,
            latency_us: None,
            service_time_us: None,
            errors: 0,
            durability: UNCONFIRMED.to_owned(),
            failed_by: Some(error.to_string()),
        }
    }
}

/// Which rate to try next: twice the last until one does not hold, then between the two.
#[derive(Clone, Copy, Debug)]
struct Search {
    first: u64,
    precision: f64,
    /// The highest that held.
    held: Option<u64>,
    /// The lowest that did not.
    failed: Option<u64>,
}

/// No rate above is tried.
const RATE_MAX: u64 = 100_000_000;

impl Search {
    fn next(&self) -> Option<u64> {
        let next = match (self.held, self.failed) {
            (None, None) => self.first,
            (Some(held), None) => (held * 2).min(RATE_MAX),
            (None, Some(failed)) => failed / 2,
            (Some(held), Some(failed)) => {
                if failed as f64 <= held as f64 * (1.0 + self.precision) {
                    return None;
                }
                ((held as f64 * failed as f64).sqrt()).round() as u64
            }
        };
        let is_new = next > 0 && Some(next) != self.held && Some(next) != self.failed;
        is_new.then_some(next)
    }

    fn take(&mut self, rate: u64, has_held: bool) {
        if has_held {
            self.held = Some(self.held.map_or(rate, |held| held.max(rate)));
        } else {
            self.failed = Some(self.failed.map_or(rate, |failed| failed.min(rate)));
        }
    }
}

impl Bound {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// `Workload` with the option's name.
    pub fn check(&self) -> Result<(), PerfError> {
        let refuse = |what: &str| Err(PerfError::Workload(what.to_owned()));
        if self.p99_us == 0 {
            return refuse("--p99 has to be more than 0");
        }
        if !(1..=RATE_MAX).contains(&self.first_rate) {
            return refuse("--rate, the first that is tried, has to be 1 to 100000000");
        }
        if !(0.01..=1.0).contains(&self.precision) {
            return refuse("--precision has to be 0.01 to 1");
        }
        Ok(())
    }
}

/// Runs the workload at one rate after another. Each run that is over is handed to `on_step`.
///
/// # Errors
/// As [`Session::run`], of the first run. What keeps a later one from being made is in the sweep, beside what was measured
/// before.
pub fn sweep(
    session: &Session,
    workload: &Workload,
    bound: Bound,
    control: &mut Control<'_>,
    on_step: impl FnMut(&Step),
) -> Result<Sweep, PerfError> {
    bound.check()?;
    let stop = control.stop;
    let run = |rate| {
        let at_rate = Workload {
            rate: Some(rate),
            ..workload.clone()
        };
        session.run(&at_rate, control)
    };
    try_rates(bound, stop, run, on_step)
}

/// Runs at one rate after another, until the highest is found, somebody wants it to stop, or a run cannot be made.
fn try_rates(
    bound: Bound,
    stop: &AtomicBool,
    mut run: impl FnMut(u64) -> Result<PerfResult, PerfError>,
    mut on_step: impl FnMut(&Step),
) -> Result<Sweep, PerfError> {
    let is_stopped = || stop.load(Ordering::Relaxed);
    let mut search = Search {
        first: bound.first_rate,
        precision: bound.precision,
        held: None,
        failed: None,
    };
    let mut steps = Vec::new();
    let mut manifest = None;
    let mut cut_short = false;
    let mut ended_by = None;
    while let Some(rate) = search.next() {
        let result = match run(rate) {
            Ok(result) if !result.cut_short => result,
            // A rate so far beyond what is possible that nothing is to be reported of it does not hold.
            Err(error @ PerfError::NothingMeasured { .. })
                if manifest.is_some() && !is_stopped() =>
            {
                search.take(rate, false);
                let step = Step::without_result(rate, &error);
                on_step(&step);
                steps.push(step);
                continue;
            }
            Err(error) if manifest.is_none() => return Err(error),
            Err(error) if !is_stopped() => {
                ended_by = Some(format!("{rate} records/s could not be tried: {error}"));
                break;
            }
            _ => {
                cut_short = true;
                break;
            }
        };
        let step = Step::of(rate, &result, bound);
        search.take(rate, step.failed_by.is_none());
        on_step(&step);
        steps.push(step);
        manifest = Some(result.manifest);
    }
    let manifest = manifest.ok_or_else(|| PerfError::NothingMeasured {
        what: "it was ended before the first rate was measured".to_owned(),
        first_error: None,
    })?;
    Ok(Sweep {
        version: crate::RESULT_VERSION,
        bound,
        highest_rate: search.held,
        cut_short,
        ended_by,
        steps,
        manifest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::example;

    /// Searches where rates up to `limit` hold, and gives the highest that was found, and all that were tried.
    fn search(first: u64, precision: f64, limit: u64) -> (Option<u64>, Vec<u64>) {
        let mut search = Search {
            first,
            precision,
            held: None,
            failed: None,
        };
        let mut tried = Vec::new();
        while let Some(rate) = search.next() {
            assert!(!tried.contains(&rate), "{rate} was tried before: {tried:?}");
            tried.push(rate);
            search.take(rate, rate <= limit);
        }
        (search.held, tried)
    }

    #[test]
    fn the_highest_rate_is_found_from_below_and_from_above() {
        for first in [1, 1_000, 50_000, 10_000_000] {
            for limit in [1, 3, 777, 50_000, 123_456] {
                let (held, tried) = search(first, 0.05, limit);
                let held = held.unwrap();
                assert!(held <= limit, "{held} {limit}");
                assert!(
                    held as f64 * 1.05 + 1.0 >= limit as f64,
                    "{first} {limit}: {tried:?}"
                );
                assert!(tried.len() < 40, "{tried:?}");
            }
        }
    }

    #[test]
    fn a_search_ends_where_no_rate_holds_or_all_do() {
        assert_eq!(search(1_000, 0.05, 0).0, None);
        assert_eq!(search(1_000, 0.05, u64::MAX).0, Some(RATE_MAX));
    }

    #[test]
    fn what_was_measured_is_kept_when_a_later_rate_cannot_be_tried() {
        let bound = Bound {
            p99_us: 5_000,
            first_rate: 1_000,
            precision: 0.05,
        };
        let go_on = AtomicBool::new(false);
        let broken = |_| PerfError::Settings("the broker is gone".to_owned());
        let run = |rate| match rate {
            1_000 => Ok(PerfResult {
                errors: 0,
                ..example()
            }),
            rate => Err(broken(rate)),
        };
        let swept = try_rates(bound, &go_on, run, |_| {}).unwrap();
        assert_eq!((swept.steps.len(), swept.highest_rate), (1, Some(1_000)));
        let reason = swept.ended_by.unwrap();
        assert!(
            reason.contains("2000") && reason.contains("gone"),
            "{reason}"
        );
        assert!(!swept.cut_short);
        let nothing = try_rates(bound, &go_on, |rate| Err(broken(rate)), |_| {});
        assert!(matches!(nothing, Err(PerfError::Settings(_))));
    }

    #[test]
    fn a_rate_holds_only_if_it_was_reached_in_time_and_without_errors() {
        let bound = Bound {
            p99_us: 5_000,
            first_rate: 1,
            precision: 0.05,
        };
        let mut result = example();
        result.errors = 0;
        let failed_by = |rate, result: &PerfResult, bound| Step::of(rate, result, bound).failed_by;
        assert_eq!(failed_by(1_000, &result, bound), None);
        assert!(
            failed_by(1_050, &result, bound)
                .unwrap()
                .contains("only 1000")
        );
        let tighter = Bound {
            p99_us: 4_999,
            ..bound
        };
        assert!(failed_by(1_000, &result, tighter).unwrap().contains("p99"));
        result.errors = 1;
        assert!(failed_by(1_000, &result, bound).unwrap().contains("failed"));
    }
}
