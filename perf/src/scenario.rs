//! Scenarios: named lists of workloads, from a TOML file or shipped with the program.

use serde::{Deserialize, Serialize};

use crate::error::PerfError;
use crate::options::Options;
use crate::result::{PerfResult, RESULT_VERSION};
use crate::workload::{Kind, Workload};

/// A list of workloads that are run one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The name of a shipped one, or the file.
    pub name: String,
    /// What it shows, in one line.
    pub description: String,
    /// Its runs, each with a name of its own.
    pub runs: Vec<(String, Workload)>,
}

/// What the runs of a scenario gave: its JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScenarioOutcome {
    /// [`RESULT_VERSION`].
    pub version: u32,
    /// The scenario's name.
    pub scenario: String,
    /// What it shows, in one line.
    #[serde(default)]
    pub description: String,
    /// The names of all its runs.
    #[serde(default)]
    pub planned: Vec<String>,
    /// Why not all of them were made. `None`: they were, or somebody ended the last one before its time.
    #[serde(default)]
    pub ended_by: Option<String>,
    /// Those that were made.
    pub runs: Vec<RunOutcome>,
}

/// What one of them gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunOutcome {
    /// Its name.
    pub name: String,
    /// Its result.
    pub result: PerfResult,
}

impl ScenarioOutcome {
    /// Of a scenario that has not begun.
    #[must_use]
    pub fn of(scenario: &Scenario) -> Self {
        Self {
            version: RESULT_VERSION,
            scenario: scenario.name.clone(),
            description: scenario.description.clone(),
            planned: scenario.runs.iter().map(|(name, _)| name.clone()).collect(),
            ended_by: None,
            runs: Vec::new(),
        }
    }

    /// Whether runs are missing, or the last one was ended before its time.
    #[must_use]
    pub fn is_cut_short(&self) -> bool {
        self.runs.len() < self.planned.len() || self.runs.iter().any(|run| run.result.cut_short)
    }
}

/// The scenarios that are shipped, by name.
const STANDARD: [(&str, &str); 8] = [
    (
        "record-sizes",
        include_str!("../scenarios/record-sizes.toml"),
    ),
    ("partitions", include_str!("../scenarios/partitions.toml")),
    ("connections", include_str!("../scenarios/connections.toml")),
    ("batches", include_str!("../scenarios/batches.toml")),
    ("keyed", include_str!("../scenarios/keyed.toml")),
    (
        "compressible",
        include_str!("../scenarios/compressible.toml"),
    ),
    (
        "producers-and-consumers",
        include_str!("../scenarios/producers-and-consumers.toml"),
    ),
    ("catch-up", include_str!("../scenarios/catch-up.toml")),
];

/// Characters of a run's name, which becomes a directory's.
const NAME_BYTES_MAX: usize = 64;

/// A file's form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    description: String,
    /// What holds for every run that does not say otherwise.
    #[serde(default)]
    all: Options,
    run: Vec<Run>,
}

/// A run: the options of [`Options`], and what only a run has.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    name: String,
    command: Kind,
    #[serde(default)]
    options: Options,
}

impl Scenario {
    /// The shipped ones.
    ///
    /// # Panics
    /// Never: a test reads all of them.
    #[must_use]
    pub fn standard() -> Vec<Self> {
        let scenarios = STANDARD
            .iter()
            .map(|(name, text)| Self::parse(name, text).expect("a shipped scenario is valid"));
        scenarios.collect()
    }

    /// The shipped one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::standard()
            .into_iter()
            .find(|scenario| scenario.name == name)
    }

    /// The text of the shipped one with this name.
    #[must_use]
    pub fn text(name: &str) -> Option<&'static str> {
        let found = STANDARD.iter().find(|(standard, _)| *standard == name);
        found.map(|(_, text)| *text)
    }

    /// Reads a file's text. `name` is for messages.
    ///
    /// # Errors
    /// `Workload` with the line of what is unknown or cannot be, or the run that cannot work.
    pub fn parse(name: &str, text: &str) -> Result<Self, PerfError> {
        let refuse = |what: String| PerfError::Workload(format!("{name}: {what}"));
        let file: File = toml::from_str(text).map_err(|error| refuse(error.to_string()))?;
        let mut runs: Vec<(String, Workload)> = Vec::new();
        for run in file.run {
            let workload = run
                .options
                .apply(file.all.apply(Workload::new(run.command)));
            if !is_run_name(&run.name) {
                return Err(refuse(format!(
                    "the run's name {:?} has to be 1 to {NAME_BYTES_MAX} letters, digits, - or _",
                    run.name
                )));
            }
            if runs.iter().any(|(other, _)| *other == run.name) {
                return Err(refuse(format!("two runs are called {}", run.name)));
            }
            let checked = run
                .options
                .check(run.command)
                .and_then(|()| workload.check());
            checked.map_err(|error| refuse(format!("run {}: {error}", run.name)))?;
            runs.push((run.name, workload));
        }
        let kinds = || runs.iter().map(|(_, workload)| workload.kind);
        if let Some(kind) = kinds().next()
            && kinds().all(|kind| file.all.check(kind).is_err())
        {
            let checked = file.all.check(kind);
            checked.map_err(|error| refuse(format!("[all]: {error}")))?;
        }
        if runs.is_empty() {
            return Err(refuse("there is no [[run]]".to_owned()));
        }
        Ok(Self {
            name: name.to_owned(),
            description: file.description,
            runs,
        })
    }
}

/// Whether a run may be called so: its directory is.
pub(crate) fn is_run_name(name: &str) -> bool {
    let is_known = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(is_known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_scenarios_are_valid_and_cover_what_they_promise() {
        let scenarios = Scenario::standard();
        assert_eq!(scenarios.len(), STANDARD.len());
        let runs: Vec<_> = scenarios
            .iter()
            .flat_map(|scenario| &scenario.runs)
            .collect();
        let has = |is: &dyn Fn(&Workload) -> bool| runs.iter().any(|(_, workload)| is(workload));
        for partitions in [1, 3, 100, 10_000] {
            assert!(
                has(&|workload| workload.partitions == Some(partitions)),
                "{partitions}"
            );
        }
        for connections in [1, 64] {
            assert!(
                has(&|workload| workload.connections == connections),
                "{connections}"
            );
        }
        for batch_bytes in [16 << 10, 64 << 10, 1 << 20] {
            assert!(
                has(&|workload| workload.batch_bytes == batch_bytes),
                "{batch_bytes}"
            );
        }
        for record_size in [100, 1000] {
            assert!(
                has(&|workload| workload.record_size == record_size),
                "{record_size}"
            );
        }
        assert!(has(&|workload| workload.keys.is_some()));
        for kind in [Kind::Produce, Kind::Consume, Kind::Latency, Kind::EndToEnd] {
            assert!(has(&|workload| workload.kind == kind), "{kind:?}");
        }
        for scenario in &scenarios {
            assert!(scenario.description.len() < 100, "{}", scenario.description);
        }
    }

    const TEXT: &str = "\
description = \"mine\"

[all]
duration = 2
record-size = 100

[[run]]
name = \"one\"
command = \"produce\"

[[run]]
name = \"two\"
command = \"latency\"
options = { record-size = 200, rate = 7, acks = \"1\" }
";

    #[test]
    fn what_holds_for_all_holds_unless_a_run_says_otherwise() {
        let scenario = Scenario::parse("mine.toml", TEXT).unwrap();
        let [(one, first), (two, second)] = &scenario.runs[..] else {
            panic!("{scenario:?}");
        };
        assert_eq!(
            (one.as_str(), first.record_size, first.rate),
            ("one", 100, None)
        );
        assert_eq!(
            (two.as_str(), second.record_size, second.rate),
            ("two", 200, Some(7))
        );
        assert_eq!((first.duration_s, second.duration_s), (2.0, 2.0));
    }

    #[test]
    fn a_run_may_ask_for_the_broker_s_stages() {
        let text = TEXT.replace("rate = 7", "rate = 7, stages = true");
        let scenario = Scenario::parse("mine.toml", &text).unwrap();
        let runs = scenario.runs.iter();
        let asked: Vec<_> = runs.map(|(_, workload)| workload.stages).collect();
        assert_eq!(asked, [false, true]);
    }

    #[test]
    fn what_is_unknown_or_cannot_be_is_refused_with_its_place() {
        let cases = [
            ("record-size = 100", "record-sise = 100", "line 5"),
            ("rate = 7", "rate = \"fast\"", "line 14"),
            ("rate = 7", "rate = 0", "run two: --rate is 0"),
            ("\"latency\"", "\"lateness\"", "line 13"),
            ("\"two\"", "\"one\"", "two runs are called one"),
            ("\"two\"", "\"../two\"", "letters"),
            ("description", "explanation", "line 1"),
            (
                "rate = 7",
                "fill-bytes = 7000",
                "run two: only consume fills",
            ),
            (
                "duration = 2",
                "fill-bytes = 7000",
                "[all]: only consume fills",
            ),
        ];
        for (from, to, part) in cases {
            let text = TEXT.replace(from, to);
            let error = Scenario::parse("mine.toml", &text).unwrap_err().to_string();
            assert!(error.starts_with("mine.toml: "), "{error}");
            assert!(error.contains(part), "{part:?} is not in {error}");
        }
    }
}
