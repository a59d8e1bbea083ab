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

fn crash_twice(seed: u64, index: usize, chapter: &Chapter) {
    let steps: Vec<u64> = chapter
        .operations
        .iter()
        .filter(|operation| operation.kind.is_change())
        .map(|operation| operation.number)
        .collect();
    let stride = if is_thorough() {
        7
    } else {
        steps.len() / FIRST_CRASHES + 1
    };
    let mut points = 0;
    for first in steps
        .into_iter()
        .skip(seed as usize % stride + stride / 2)
        .step_by(stride)
    {
        let halted = chapter
            .session
            .run(&chapter.start, |disk| disk.halt_at(first));
        let start = halted.power_loss(seed + first);
        let layout = &chapter.session.layout;
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
                    "seed {seed}, session {index}, crashes before {first} and then {second}: {operation:?}"
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

#[test]
fn at_every_step_of_the_recovery() {
    for seed in seeds() {
        let history = History::mixed(seed);
        for (index, chapter) in history.chapters.iter().enumerate() {
            crash_twice(seed, index, chapter);
        }
    }
}
