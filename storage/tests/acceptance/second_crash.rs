//! A second crash while the first one is being recovered from, and while the store goes on after that.
//!
//! What a first crash left is opened and used once more, and that session is crashed at every step as well:
//! the recovery must find the same, however often it is interrupted, and nothing of an epoch that was
//! discarded may come back after new records have taken its place.

use crate::support::history::{Chapter, History};
use crate::support::session::{Scene, recovers, touch};
use crate::support::{is_thorough, seeds};

/// Of the steps of each session, the first crash is tried at so many.
const FIRST_CRASHES: usize = 4;

/// Where a session is crashed for the first time.
fn first_steps(seed: u64, chapter: &Chapter) -> impl Iterator<Item = u64> {
    let operations = chapter.operations.iter();
    let changes = operations.filter(|operation| operation.kind.is_change());
    let steps: Vec<u64> = changes.map(|operation| operation.number).collect();
    let usual = steps.len() / FIRST_CRASHES + 1;
    let stride = if is_thorough() { 7 } else { usual };
    let first = seed as usize % stride + stride / 2;
    steps.into_iter().skip(first).step_by(stride)
}

fn crash_twice(seed: u64, index: usize, chapter: &Chapter) {
    let layout = &chapter.session.layout;
    let mut points = 0;
    for first in first_steps(seed, chapter) {
        let halted = chapter
            .session
            .run(&chapter.start, |disk| disk.halt_at(first));
        let start = halted.power_loss(seed + first);
        let session = touch(&start, layout, seed * 10_000 + first);
        let whole = session.run(&start, |_| {});
        for operation in whole
            .operations
            .iter()
            .filter(|operation| operation.kind.is_change())
        {
            let second = operation.number;
            let _scene = Scene(|| {
                eprintln!(
                    "seed {seed}, session {index}, power loss before {first}, then {second}: {operation:?}"
                );
            });
            let halted = session.run(&start, |disk| disk.halt_at(second));
            recovers(
                &halted.power_loss(first + second),
                layout,
                500_000 + first * 1000 + second,
            );
            points += 1;
        }
    }
    eprintln!("seed {seed}, session {index}: {points} second crash points");
}

fn kill_and_crash(seed: u64, index: usize, chapter: &Chapter) {
    let layout = &chapter.session.layout;
    let mut points = 0;
    for first in first_steps(seed, chapter) {
        let killed = || {
            chapter
                .session
                .run(&chapter.start, |disk| disk.halt_at(first))
        };
        let session = touch(&killed().process_death(), layout, seed * 10_000 + first);
        let whole = session.run_after(killed(), first, |_| {});
        for operation in whole
            .operations
            .iter()
            .filter(|operation| operation.kind.is_change())
        {
            let second = operation.number;
            let _scene = Scene(|| {
                eprintln!(
                    "seed {seed}, session {index}, killed before {first}, power loss before {second}: {operation:?}"
                );
            });
            let halted = session.run_after(killed(), first, |disk| disk.halt_at(second));
            recovers(
                &halted.power_loss(first + second),
                layout,
                600_000 + first * 1000 + second,
            );
            points += 1;
        }
    }
    eprintln!("seed {seed}, session {index}: {points} power losses after a kill");
}

#[test]
fn at_every_step_of_the_recovery() {
    for seed in seeds() {
        let history = History::mixed(seed);
        for (index, chapter) in history.chapters.iter().enumerate() {
            crash_twice(seed, index, chapter);
        }
    }
}

#[test]
fn at_every_step_of_the_recovery_of_what_went_straight_to_segments() {
    for seed in seeds() {
        let history = History::straight(seed);
        for (index, chapter) in history.chapters.iter().enumerate() {
            crash_twice(seed, index, chapter);
            kill_and_crash(seed, index, chapter);
        }
    }
}

#[test]
fn at_every_step_of_the_recovery_from_a_kill_that_flushed_nothing() {
    for seed in seeds() {
        let history = History::mixed(seed);
        for (index, chapter) in history.chapters.iter().enumerate() {
            kill_and_crash(seed, index, chapter);
        }
    }
}
