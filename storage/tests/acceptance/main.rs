//! What the storage engine promises, tried on the in-memory disk that keeps *written* and *flushed* apart.
//!
//! A long mixed run of several stores is crashed at every step, its I/O fails at every step, and every byte
//! of a small store is damaged; an oracle that watched the run says what must be there afterwards. Everything
//! follows from seeds: a failing test prints its seed, its step, and what happened.
//!
//! `CORELANE_CRASH_SEEDS=N` (or `A..B`) makes every test try the seeds 0 to N (or A to B), each a run of its
//! own, and more of each: every operation, every bit, more crashes in a row.

mod crash;
mod creation;
mod damage;
mod disk_full;
mod io_errors;
mod liars;
mod room;
mod second_crash;
mod support;
