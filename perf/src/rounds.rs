//! Two series of results that were made in turns: what is left of a difference when the machine drifts.

use serde::Serialize;

use crate::compare::{Figure, compare};
use crate::result::PerfResult;

/// Two series of results, round by round.
#[derive(Clone, Debug, Serialize)]
pub struct Rounds {
    /// How many rounds there were.
    pub rounds: usize,
    /// In what the loads differ, in any round: figures of different loads are not comparable.
    pub differences: Vec<String>,
    /// In what machine or software differ.
    pub circumstances: Vec<String>,
    /// The highest load average at the start of any run. A run leaves its own behind for the next one.
    pub load_average_max: f64,
    /// The figures.
    pub figures: Vec<RoundsFigure>,
}

/// One figure of both series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoundsFigure {
    /// What it is.
    pub name: &'static str,
    /// The median of the first series.
    pub a: f64,
    /// The median of the second series.
    pub b: f64,
    /// The median of the ratios within the rounds, which is not that of the medians. `None` where a round has none.
    pub ratio: Option<f64>,
    /// The least and the greatest ratio of a round.
    pub ratio_min: Option<f64>,
    /// The greatest.
    pub ratio_max: Option<f64>,
    /// The ratio of each round.
    pub ratios: Vec<f64>,
    /// Whether more is better.
    pub more_is_better: bool,
}

impl RoundsFigure {
    /// A word for the second series: `better` or `worse` if it was so in every round, and nothing otherwise.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        let (Some(min), Some(max)) = (self.ratio_min, self.ratio_max) else {
            return "";
        };
        match self.more_is_better {
            _ if min <= 1.0 && max >= 1.0 => "",
            more_is_better if (min > 1.0) == more_is_better => "better",
            _ => "worse",
        }
    }
}

/// Compares the results of each round.
#[must_use]
pub fn compare_rounds(rounds: &[(PerfResult, PerfResult)]) -> Rounds {
    let compared: Vec<_> = rounds.iter().map(|(a, b)| compare(a, b)).collect();
    let mut all = Rounds {
        rounds: rounds.len(),
        differences: Vec::new(),
        circumstances: Vec::new(),
        load_average_max: 0.0,
        figures: Vec::new(),
    };
    for (a, b) in rounds {
        for result in [a, b] {
            let load = result.manifest.software.load_average;
            all.load_average_max = all.load_average_max.max(load);
        }
    }
    for comparison in &compared {
        for (texts, more) in [
            (&mut all.differences, &comparison.differences),
            (&mut all.circumstances, &comparison.circumstances),
        ] {
            for text in more {
                if !texts.contains(text) {
                    texts.push(text.clone());
                }
            }
        }
    }
    let Some((first, _)) = compared.split_first() else {
        return all;
    };
    for figure in &first.figures {
        let of_rounds = compared.iter().map(|comparison| {
            let mut figures = comparison.figures.iter();
            figures.find(|other| other.name == figure.name)
        });
        // One that is missing in a round is not one of the series.
        if let Some(of_rounds) = of_rounds.collect::<Option<Vec<_>>>() {
            all.figures.push(figure_of(&of_rounds));
        }
    }
    all
}

/// One figure, of each round.
fn figure_of(rounds: &[&Figure]) -> RoundsFigure {
    let ratios: Option<Vec<f64>> = rounds.iter().map(|figure| figure.ratio).collect();
    let ratios = ratios.unwrap_or_default();
    RoundsFigure {
        name: rounds[0].name,
        a: median(rounds.iter().map(|figure| figure.a).collect()).unwrap_or(0.0),
        b: median(rounds.iter().map(|figure| figure.b).collect()).unwrap_or(0.0),
        ratio_min: ratios.iter().copied().reduce(f64::min),
        ratio_max: ratios.iter().copied().reduce(f64::max),
        ratio: median(ratios.clone()),
        ratios,
        more_is_better: rounds[0].more_is_better,
    }
}

/// The one in the middle, or what lies between the two that are.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(values[middle - 1], upper))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::example;

    fn result(throughput_mb_s: f64, p99: u64, load_average: f64) -> PerfResult {
        let mut result = example();
        result.throughput_mb_s = throughput_mb_s;
        if let Some(latency) = &mut result.latency_us {
            latency.p99 = p99;
        }
        result.manifest.software.load_average = load_average;
        result
    }

    fn find<'r>(rounds: &'r Rounds, name: &str) -> &'r RoundsFigure {
        let found = rounds.figures.iter().find(|figure| figure.name == name);
        found.unwrap_or_else(|| panic!("{name} is not in {rounds:?}"))
    }

    #[test]
    fn ratios_are_of_each_round_and_not_of_the_medians() {
        // The machine is twice as fast in the second round, and half as fast in the third.
        let rounds = [
            (result(100.0, 10, 0.1), result(110.0, 10, 0.1)),
            (result(200.0, 20, 2.5), result(240.0, 20, 0.1)),
            (result(50.0, 40, 0.1), result(65.0, 50, 0.1)),
        ];
        let rounds = compare_rounds(&rounds);
        assert_eq!((rounds.rounds, rounds.load_average_max), (3, 2.5));
        let throughput = find(&rounds, "throughput, MB/s");
        assert_eq!((throughput.a, throughput.b), (100.0, 110.0));
        let near = |ratio: Option<f64>, wanted: f64| (ratio.unwrap() - wanted).abs() < 1e-9;
        assert!(near(throughput.ratio, 1.2) && near(throughput.ratio_min, 1.1));
        assert!(near(throughput.ratio_max, 1.3) && throughput.verdict() == "better");
        let p99 = find(&rounds, "latency p99, µs");
        assert_eq!((p99.a, p99.b), (20.0, 20.0));
        assert_eq!((p99.ratio, p99.ratio_max), (Some(1.0), Some(1.25)));
        assert_eq!(p99.verdict(), "", "not in every round");
    }

    #[test]
    fn worse_is_worse_whichever_way_it_goes() {
        let slower = compare_rounds(&[(result(100.0, 10, 0.0), result(90.0, 20, 0.0))]);
        assert_eq!(find(&slower, "throughput, MB/s").verdict(), "worse");
        assert_eq!(find(&slower, "latency p99, µs").verdict(), "worse");
    }

    #[test]
    fn what_a_round_does_not_have_is_no_figure_of_the_series() {
        let mut without = example();
        without.service_time_us = None;
        let mut zero = example();
        zero.errors = 0;
        let rounds = [(example(), example()), (zero, without)];
        let rounds = compare_rounds(&rounds);
        assert!(
            !rounds
                .figures
                .iter()
                .any(|figure| figure.name.starts_with("service"))
        );
        assert_eq!(find(&rounds, "errors").ratio, None);
        assert_eq!(compare_rounds(&[]).figures, []);
    }

    #[test]
    fn a_difference_in_any_round_is_one_and_named_once() {
        let mut other = example();
        other.manifest.workload.record_size = 100;
        let rounds = [
            (example(), example()),
            (example(), other.clone()),
            (example(), other),
        ];
        let rounds = compare_rounds(&rounds);
        assert_eq!(rounds.differences, ["record_size: 1000 and 100"]);
    }

    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }
}
