//! Every entry of every corpus, every crash of the past and every seed goes through its target, without an engine.

use std::path::{Path, PathBuf};

use corelane_fuzz::{TARGETS, Target};

fn directory(kind: &str, target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(kind)
        .join(target.name)
}

/// Files of a directory, in the order of their names; none if it is not there.
fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    let mut paths: Vec<_> = paths.filter(|path| path.is_file()).collect();
    paths.sort();
    paths
}

/// Says which input it was if a target panics.
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("input: {}", self.0);
        }
    }
}

fn replay(name: &str) {
    let target = corelane_fuzz::target(name).expect("a target");
    for (number, seed) in (target.seeds)().into_iter().enumerate() {
        let _named = Named(format!("seed {number} of {name}"));
        (target.run)(&seed);
    }
    let mut replayed = 0;
    for path in ["corpus", "crashes"]
        .iter()
        .flat_map(|kind| files(&directory(kind, &target)))
    {
        let _named = Named(path.display().to_string());
        (target.run)(&std::fs::read(&path).expect("it can be read"));
        replayed += 1;
    }
    assert!(replayed > 20, "{name} has a corpus: {replayed} entries");
}

macro_rules! replays {
    ($($target:ident)+) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })+

        #[test]
        fn every_target_is_replayed() {
            assert_eq!(TARGETS.map(|target| target.name), [$(stringify!($target)),+]);
        }
    };
}

replays! { messages batches formats recovery config lane }

/// Writes the seeds into a directory, for an engine to begin from: `scripts/fuzz` asks for it.
#[test]
fn seeds_are_written_if_asked_for() {
    let Ok(wanted) = std::env::var("CORELANE_FUZZ_SEEDS") else {
        return;
    };
    for target in &TARGETS {
        let directory = Path::new(&wanted).join(target.name);
        std::fs::create_dir_all(&directory).expect("it can be written");
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            std::fs::write(directory.join(format!("seed-{number:03}")), seed).expect("room");
        }
    }
}
