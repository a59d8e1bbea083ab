//! The deterministic simulator: whole brokers on simulated disks, networks and clocks, under one seed.
//!
//! Owns a world in which everything is decided by a seed: what the cores of a broker do in which order, when
//! bytes arrive, what disks lose, when machines die. The lanes and stores are the real ones; their shell is
//! simulated. At the end of each run the history checker judges what its clients saw.
//!
//! Never reads a real clock, never touches a real file or socket.
#![forbid(unsafe_code)]

mod bugs;
mod client;
mod compacting;
mod counters;
mod group_offsets;
mod grouping;
mod guarding;
mod history;
mod keeping;
mod machine;
mod many;
mod network;
mod panics;
mod possible;
mod process;
mod profile;
mod run;
mod shell;
mod trace;
mod world;

pub use bugs::{Caught, Hunt, hunt};
pub use corelane_storage::planted::Bug;
pub use counters::{Counters, Sometimes};
pub use many::{Report, run_many};
pub use panics::keep as keep_panics;
pub use run::{Outcome, SECONDS_DEFAULT, run_seed};
pub use trace::Reader;
