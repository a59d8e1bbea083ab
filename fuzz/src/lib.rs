//! Fuzz targets: each takes any bytes, and panics where the code under it breaks a promise.
//!
//! Owns what is promised of any input; the engine is in the binary alone, so that the corpora are replayed by
//! an ordinary test. What a target builds on besides (brokers of lanes, stores, forms of the command line) is
//! taken from where it is tested or used. What each target reads is drawn in `docs/fuzzing.md`.

mod batches;
mod bytes;
mod config;
mod formats;
mod lane;
mod messages;
mod mutation;
mod recovery;
mod repair;

/// The broker of the lanes' own tests.
#[allow(dead_code, reason = "a part of it is used")]
#[path = "../../broker/tests/lane/client.rs"]
mod client;
#[allow(dead_code, reason = "a part of it is used")]
#[path = "../../broker/tests/lane/world.rs"]
mod world;

/// How golden data directories are kept, and the store that the stores' own tests use.
#[allow(dead_code, reason = "a part of it is used")]
#[path = "../../storage/tests/store/image_file.rs"]
mod image_file;
#[allow(dead_code, reason = "a part of it is used")]
#[path = "../../storage/tests/store/support.rs"]
mod support;

/// The parts of the command line that read what people type: it has no library.
#[allow(dead_code, reason = "a part of it is used")]
#[path = "../../cli/src/input"]
mod input {
    pub(crate) mod escapes;
    pub(crate) mod start;
}
#[allow(dead_code, reason = "a part of it is used")]
#[path = "../../cli/src/output"]
mod output {
    pub(crate) mod json;
    pub(crate) mod print_format;
}

/// Something that takes any bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Panics where a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs from which a fuzzer begins, made from what is known to be sound.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 6] = [
    Target {
        name: "messages",
        run: messages::run,
        seeds: messages::seeds,
    },
    Target {
        name: "batches",
        run: batches::run,
        seeds: batches::seeds,
    },
    Target {
        name: "formats",
        run: formats::run,
        seeds: formats::seeds,
    },
    Target {
        name: "recovery",
        run: recovery::run,
        seeds: recovery::seeds,
    },
    Target {
        name: "config",
        run: config::run,
        seeds: config::seeds,
    },
    Target {
        name: "lane",
        run: lane::run,
        seeds: lane::seeds,
    },
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
