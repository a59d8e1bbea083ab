//! What came of it.

use serde::Serialize;

use super::{Attack, Round, Settings};
use crate::machine::Machine;
use crate::series::median;
use crate::table::{figure, table};

/// What an innocent client felt of one attack. Figures are medians over the rounds, times in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Suffered {
    /// The attack.
    pub attack: Attack,
    /// 50 % of the records were durable so soon after they were due.
    pub p50_us: f64,
    /// 99 %.
    pub p99_us: f64,
    /// 99.9 %.
    pub p999_us: f64,
    /// The median of the ratios of p99 within the rounds, to that without anybody else.
    pub p99_ratio: f64,
    /// The same to that beside a flood that does not reach the broker.
    pub p99_ratio_no_broker: f64,
    /// What the attack did, a second: requests, connections or bytes.
    pub attack_steps_s: f64,
    /// The most memory that the broker ever held in any round, bytes.
    pub memory_peak_bytes: u64,
    /// One for each round.
    pub rounds: Vec<Round>,
}

/// What was measured, on what.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Changes with the meaning of the other fields.
    pub version: u32,
    /// Where it was measured.
    pub machine: Machine,
    /// Records a second of the innocent client.
    pub rate: f64,
    /// Partitions that they went to.
    pub partitions: u32,
    /// One for each attack; first nobody, and a flood that does not reach the broker.
    pub attacks: Vec<Suffered>,
    /// Requests of the innocent client that were refused, not answered, or answered twice.
    pub errors: u64,
}

impl Report {
    pub(super) fn new(
        machine: Machine,
        settings: &Settings,
        attacks: impl Iterator<Item = (Attack, Vec<Round>)>,
    ) -> Self {
        let attacks: Vec<(Attack, Vec<Round>)> = attacks.collect();
        let p99 = |rounds: &[Round]| -> Vec<f64> {
            rounds
                .iter()
                .map(|round| round.innocent.latency_us.p99)
                .collect()
        };
        let (nobody, no_broker) = (p99(&attacks[0].1), p99(&attacks[1].1));
        let ratio = |rounds: &[Round], to: &[f64]| {
            median(
                p99(rounds)
                    .iter()
                    .zip(to)
                    .map(|(us, reference)| us / reference),
            )
        };
        let suffered = attacks.into_iter().map(|(attack, rounds)| {
            let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
            let peaks = rounds.iter().map(|round| round.memory_peak_bytes);
            Suffered {
                attack,
                p50_us: of(|round| round.innocent.latency_us.p50),
                p99_us: of(|round| round.innocent.latency_us.p99),
                p999_us: of(|round| round.innocent.latency_us.p999),
                p99_ratio: ratio(&rounds, &nobody),
                p99_ratio_no_broker: ratio(&rounds, &no_broker),
                attack_steps_s: of(|round| round.attack_steps_s),
                memory_peak_bytes: peaks.max().unwrap_or(0),
                rounds,
            }
        });
        let attacks: Vec<Suffered> = suffered.collect();
        let runs = attacks.iter().flat_map(|suffered| &suffered.rounds);
        let errors = runs.map(|round| {
            let innocent = &round.innocent;
            innocent.errors + innocent.unanswered + innocent.stray_answers
        });
        Self {
            version: 1,
            machine,
            rate: settings.rate,
            partitions: settings.partitions,
            errors: errors.sum(),
            attacks,
        }
    }

    /// As a table for people.
    #[must_use]
    pub fn text(&self) -> String {
        let headings = [
            "attack",
            "attack/s",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "p99 to nobody's",
            "to no-broker's",
            "memory peak MB",
            "busy before",
        ];
        let mut lines = table(&headings);
        for suffered in &self.attacks {
            let busy = suffered.rounds.iter().map(|round| round.busy_before);
            lines.add_row([
                suffered.attack.name(),
                figure(suffered.attack_steps_s),
                figure(suffered.p50_us / 1e3),
                figure(suffered.p99_us / 1e3),
                figure(suffered.p999_us / 1e3),
                format!("{:.2} ×", suffered.p99_ratio),
                format!("{:.2} ×", suffered.p99_ratio_no_broker),
                figure(suffered.memory_peak_bytes as f64 / 1e6),
                figure(median(busy)),
            ]);
        }
        format!(
            "{}\n\n{} durable records of 1,000 bytes a second over {} partitions\n\n{lines}\n\nerrors: {}",
            self.machine.line(),
            figure(self.rate),
            self.partitions,
            self.errors
        )
    }
}
