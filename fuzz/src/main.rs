//! The fuzzer: runs the target that `CORELANE_FUZZ_TARGET` names. `scripts/fuzz` builds and runs it.
#![no_main]

use std::sync::OnceLock;

use corelane_fuzz::{TARGETS, Target, target};
use libfuzzer_sys::fuzz_target;

static CHOSEN: OnceLock<Target> = OnceLock::new();

fuzz_target!(|input: &[u8]| {
    (CHOSEN.get_or_init(chosen).run)(input);
});

fn chosen() -> Target {
    let name = std::env::var("CORELANE_FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| {
        let known = TARGETS.map(|target| target.name).join(", ");
        panic!("CORELANE_FUZZ_TARGET is '{name}'; targets are {known}")
    })
}
