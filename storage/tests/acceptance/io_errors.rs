//! An I/O error at each step: what must be fenced is, it is reported, and a restart recovers.
//!
//! Each operation of a session fails once. Until the end nothing may be acknowledged that is not durable,
//! stores and partitions that were not concerned go on, and what was durable can still be read.

use corelane_protocol::TopicPartition;
use corelane_storage::disk::memory::{Fault, Operation, OperationKind};

use crate::support::history::{Chapter, History};
use crate::support::oracle::Existence;
use crate::support::seeds;
use crate::support::session::{Run, Scene, recovers};
use crate::support::world::Tolerance;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// What must not go on after an operation has failed.
#[derive(Debug, PartialEq, Eq)]
enum MustFence {
    Store(usize),
    /// The partition, or all of its store.
    Partition(usize, TopicPartition),
    Nothing,
}

fn must_fence(operation: &Operation, run: &Run) -> MustFence {
    let is_write = matches!(operation.kind, OperationKind::Write | OperationKind::Flush);
    let parts: Vec<&str> = operation.path.split('/').collect();
    let store = parts[0]
        .strip_prefix("store-")
        .and_then(|number| number.parse().ok());
    let Some(store) = store.filter(|_| is_write) else {
        return MustFence::Nothing;
    };
    match parts[1..] {
        ["catalogue"] => MustFence::Store(store),
        // A header may be that of a new file, which nothing needs yet.
        [name] if name.starts_with("journal-") && operation.position > 0 => MustFence::Store(store),
        [topic, partition, name] if name.ends_with(".log") => {
            let oracle = run.world.oracle.borrow();
            let owner = oracle.existing().find(|(owner, log)| {
                let is_there = log.existence == Existence::Exists;
                is_there
                    && owner.topic.to_string() == topic
                    && owner.partition.to_string() == partition
            });
            owner.map_or(MustFence::Nothing, |(owner, _)| {
                MustFence::Partition(store, owner)
            })
        }
        _ => MustFence::Nothing,
    }
}

fn expect_fenced(operation: &Operation, run: &Run) {
    let world = &run.world;
    let is_fenced = match must_fence(operation, run) {
        MustFence::Store(store) => world.failed_stores.borrow().contains(&store),
        MustFence::Partition(store, partition) => world.is_failed(store, partition),
        MustFence::Nothing => true,
    };
    assert!(is_fenced, "nothing is fenced after {operation:?} failed");
}

fn fail_everywhere(seed: u64, index: usize, chapter: &Chapter, errno: i32) {
    let session = chapter.session.tolerating(Tolerance::Errors);
    let (mut points, mut fenced) = (0, 0);
    let whole = session.run(&chapter.start, |_| {});
    for operation in &whole.operations {
        let step = operation.number;
        let _scene = Scene(|| {
            eprintln!("seed {seed}, session {index}, error {errno} at step {step}: {operation:?}")
        });
        let run = session.run(&chapter.start, |disk| {
            disk.inject(Fault::error(errno).at(step))
        });
        assert!(run.is_finished);
        if errno == EIO {
            expect_fenced(operation, &run);
        }
        let is_fenced = !run.world.failed_stores.borrow().is_empty()
            || !run.world.failed_partitions.borrow().is_empty();
        fenced += usize::from(is_fenced);
        recovers(
            &run.power_loss(seed + step),
            &session.layout,
            700_000 + step,
        );
        points += 1;
    }
    eprintln!(
        "seed {seed}, session {index}: {points} errors {errno}, {fenced} of them fenced something"
    );
}

#[test]
fn at_each_step_of_a_first_session() {
    for seed in seeds() {
        let history = History::mixed(seed);
        fail_everywhere(seed, 0, &history.chapters[0], EIO);
    }
}

#[test]
fn at_each_step_of_a_session_after_a_crash() {
    for seed in seeds() {
        let history = History::mixed(seed);
        fail_everywhere(seed, 2, &history.chapters[2], EIO);
    }
}

#[test]
fn at_each_step_while_batches_go_straight_to_segments() {
    for seed in seeds() {
        let history = History::straight(seed);
        // Both end with a close, and so with an answer to whatever failed.
        fail_everywhere(seed, 2, &history.chapters[2], EIO);
        fail_everywhere(seed, 4, &history.chapters[4], ENOSPC);
    }
}

#[test]
fn of_a_full_disk_at_each_step() {
    for seed in seeds() {
        let history = History::mixed(seed);
        fail_everywhere(seed, 1, &history.chapters[1], ENOSPC);
    }
}
