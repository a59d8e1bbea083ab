//! A crash at every step of a long mixed run: nothing acknowledged is lost, no offset is given out twice.
//!
//! Each session of a history is stopped before each of its operations in turn, with what was in flight and
//! unflushed torn, reordered, kept or lost under several seeds. What is left must recover, take appends,
//! close, and open again.

use crate::support::history::{Chapter, History};
use crate::support::session::{Run, Scene, Start, recovers};
use crate::support::{is_thorough, seeds};

/// Images of the disk that are tried for each step.
const IMAGES: u64 = 2;

fn crash_everywhere(seed: u64, index: usize, chapter: &Chapter) {
    let (mut points, mut images) = (0, 0);
    for operation in &chapter.operations {
        // A crash before an operation that changes nothing is a crash before the next one that does.
        if !operation.kind.is_change() && !is_thorough() {
            continue;
        }
        let step = operation.number;
        let run = chapter
            .session
            .run(&chapter.start, |disk| disk.halt_at(step));
        for (image, start) in left_by(&run, step).into_iter().enumerate() {
            let _scene = Scene(|| {
                eprintln!(
                    "seed {seed}, session {index}, crash before step {step}, image {image}: {operation:?}"
                );
            });
            recovers(&start, &chapter.session.layout, seed * 10_000 + step);
            images += 1;
        }
        points += 1;
    }
    eprintln!("seed {seed}, session {index}: {points} crash points, {images} images");
}

/// What the crash may leave: several power losses, and now and then the death of the process alone.
fn left_by(run: &Run, step: u64) -> Vec<Start> {
    let mut left: Vec<_> = (0..IMAGES)
        .map(|image| run.power_loss(step * IMAGES + image))
        .collect();
    if step.is_multiple_of(4) || is_thorough() {
        left.push(run.process_death());
    }
    left
}

fn crash_in_mixed_session(index: usize) {
    for seed in seeds() {
        let history = History::mixed(seed);
        crash_everywhere(seed, index, &history.chapters[index]);
    }
}

#[test]
fn in_the_first_session() {
    crash_in_mixed_session(0);
}

#[test]
fn on_one_core_after_a_clean_close() {
    crash_in_mixed_session(1);
}

#[test]
fn on_two_cores_after_a_power_loss() {
    crash_in_mixed_session(2);
}

#[test]
fn on_three_cores_after_a_clean_close() {
    crash_in_mixed_session(3);
}

#[test]
fn on_one_core_after_the_process_was_killed() {
    crash_in_mixed_session(4);
}

#[test]
fn with_batches_that_go_straight_to_segments() {
    for seed in seeds() {
        let history = History::straight(seed);
        for (index, chapter) in history.chapters.iter().enumerate() {
            crash_everywhere(seed, index, chapter);
        }
    }
}

#[test]
fn with_batches_larger_than_a_chunk() {
    for seed in seeds() {
        let history = History::large_batches(seed);
        for (index, chapter) in history.chapters.iter().enumerate() {
            crash_everywhere(seed, index, chapter);
        }
    }
}
