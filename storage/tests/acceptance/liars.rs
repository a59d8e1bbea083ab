//! A disk that lies: a write, flush or sync that never happened, a write that went elsewhere.
//!
//! Nothing wrong is ever served, neither while the store runs nor after it was opened again, and nothing that
//! was acknowledged is gone without a word.

use corelane_storage::disk::memory::{Fault, Operation, OperationKind};
use corelane_storage::testing::Random;

use crate::support::history::{Chapter, History};
use crate::support::inspect::inspect;
use crate::support::seeds;
use crate::support::session::{Ending, Scene};
use crate::support::world::Tolerance;

/// Runs a session with a lie at each of its steps that the fault is about.
fn lie_everywhere(
    seed: u64,
    index: usize,
    chapter: &Chapter,
    kinds: &[OperationKind],
    lie: impl Fn(&Operation) -> Option<Fault>,
) {
    let mut session = chapter.session.tolerating(Tolerance::Damage);
    if session.ending == Ending::Leave {
        // The last group of a journal that is not sealed is not missed: it might never have been written.
        session.ending = Ending::Rest;
    }
    let (mut points, mut found) = (0, 0);
    for operation in chapter
        .operations
        .iter()
        .filter(|operation| kinds.contains(&operation.kind))
    {
        let step = operation.number;
        let Some(fault) = lie(operation) else {
            continue;
        };
        let _scene = Scene(|| {
            eprintln!("seed {seed}, session {index}, a lie at step {step}: {operation:?}")
        });
        let run = session.run(&chapter.start, |disk| disk.inject(fault.at(step)));
        assert!(run.is_finished);
        let left = run.power_loss(seed + step);
        let inspected = inspect(&left.image, &session.layout, &left.oracle);
        let inspection = inspected.unwrap_or_else(|violation| panic!("{violation}"));
        found += usize::from(!inspection.findings.is_empty());
        points += 1;
    }
    eprintln!(
        "seed {seed}, session {index}: {points} lies, {found} found out, the others harmless"
    );
}

#[test]
fn about_what_it_has_done() {
    for seed in seeds() {
        let history = History::mixed(seed);
        let kinds = [
            OperationKind::Write,
            OperationKind::Flush,
            OperationKind::SyncDir,
        ];
        for index in [0, 1] {
            lie_everywhere(seed, index, &history.chapters[index], &kinds, |_| {
                Some(Fault::lost())
            });
        }
    }
}

#[test]
fn about_where_it_has_written() {
    for seed in seeds() {
        let history = History::mixed(seed);
        for index in [0, 1] {
            misdirect_everywhere(seed, index, &history.chapters[index]);
        }
    }
}

#[test]
fn about_what_went_straight_to_segments() {
    for seed in seeds() {
        let history = History::straight(seed);
        let kinds = [OperationKind::Write, OperationKind::Flush];
        for index in [1, 2] {
            let chapter = &history.chapters[index];
            lie_everywhere(seed, index, chapter, &kinds, |_| Some(Fault::lost()));
            misdirect_everywhere(seed, index, chapter);
        }
    }
}

fn misdirect_everywhere(seed: u64, index: usize, chapter: &Chapter) {
    lie_everywhere(seed, index, chapter, &[OperationKind::Write], |operation| {
        let target = elsewhere(chapter, operation)?;
        Some(Fault::misdirected(&target.path, target.position))
    });
}

/// The place of another write, earlier in the session, to a file that is still there.
fn elsewhere<'a>(chapter: &'a Chapter, operation: &Operation) -> Option<&'a Operation> {
    let is_lasting = |path: &str| path.ends_with("catalogue") || path.contains("journal-");
    let is_target = |other: &&Operation| {
        let is_write = other.kind == OperationKind::Write && other.number < operation.number;
        let same_place = (&other.path, other.position) == (&operation.path, operation.position);
        is_write && !same_place && (is_lasting(&other.path) || other.path == operation.path)
    };
    let targets: Vec<_> = chapter.operations.iter().filter(is_target).collect();
    let drawn = Random::new(operation.number).index(targets.len().max(1));
    targets.get(drawn).copied()
}
