//! How much is done in one go.
//!
//! Owns the measure of work. A core does one thing at a time, so what many groups have to do at
//! once is spread over events of the core, and others have their turn in between.

/// The steps of one event.
pub(super) const STEPS_OF_EVENT: usize = 20_000;

/// How much may still be done in an event of a core, by all of its coordinators together. It is
/// counted in steps, each of them a look at one name, member, offset or partition: some 0.1 µs. The
/// last thing that is begun is done whole, so one group alone may take more.
#[derive(Debug)]
pub struct Allowance {
    steps: usize,
}

impl Allowance {
    /// That of one event.
    pub const fn of_event() -> Self {
        Self::of_steps(STEPS_OF_EVENT)
    }

    pub(super) const fn of_steps(steps: usize) -> Self {
        Self { steps }
    }

    /// Whether nothing more is to be begun.
    pub const fn is_spent(&self) -> bool {
        self.steps == 0
    }

    pub(super) const fn spend(&mut self, steps: usize) {
        self.steps = self.steps.saturating_sub(steps);
    }
}
