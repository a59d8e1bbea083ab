//! What came of it.

use serde::Serialize;

use crate::machine::Machine;
use crate::table::{figure, table};

/// A state of the broker: what came last, and what it holds and does then.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// What came since the last one.
    pub name: &'static str,
    /// How many of that.
    pub count: usize,
    /// Resident memory of the broker, bytes.
    pub memory_bytes: u64,
    /// CPU of all its threads while nothing happened, per cent of one core.
    pub idle_cpu_percent: f64,
}

/// What was measured, on what.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Changes with the meaning of the other fields.
    pub version: u32,
    /// Where it was measured.
    pub machine: Machine,
    /// The broker's cores.
    pub cores: usize,
    /// What the broker went through.
    pub steps: Vec<Step>,
    /// What memory grew by in each step, divided by what came, bytes. Nothing came before the first.
    pub memory_bytes_each: Vec<f64>,
}

impl Report {
    pub(super) fn new(machine: Machine, cores: usize, steps: Vec<Step>) -> Self {
        Self {
            version: 1,
            machine,
            cores,
            memory_bytes_each: growth_each(&steps),
            steps,
        }
    }

    /// As a table for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut lines = table(&["state", "count", "memory MB", "more B each", "idle CPU %"]);
        for (step, each) in self.steps.iter().zip(&self.memory_bytes_each) {
            lines.add_row([
                step.name.to_owned(),
                figure(step.count as f64),
                figure(step.memory_bytes as f64 / 1e6),
                figure(*each),
                figure(step.idle_cpu_percent),
            ]);
        }
        let machine = self.machine.line();
        format!(
            "{machine}\n\na broker of {} cores, each line after the one above\n\n{lines}",
            self.cores
        )
    }
}

/// What memory grew by, for each thing that came.
fn growth_each(steps: &[Step]) -> Vec<f64> {
    let before = std::iter::once(None).chain(steps.iter().map(Some));
    let growths = before.zip(steps).map(|(before, step)| match before {
        Some(before) => {
            let growth = step.memory_bytes as f64 - before.memory_bytes as f64;
            growth / step.count.max(1) as f64
        }
        None => 0.0,
    });
    growths.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_counted_from_step_to_step_and_may_be_less() {
        let step = |count, memory_bytes| Step {
            name: "",
            count,
            memory_bytes,
            idle_cpu_percent: 0.0,
        };
        let steps = [step(0, 1000), step(10, 2000), step(5, 3000), step(10, 2500)];
        assert_eq!(growth_each(&steps), [0.0, 100.0, 200.0, -50.0]);
    }
}
