//! A journal that runs out of room: what holds the room is made to let go, or the store says why it cannot.
//!
//! A refusal for want of room is retriable, so it must not last for ever: senders would go on trying, and
//! nobody would know why.

use corelane_storage::disk::memory::{Fault, OperationKind};
use corelane_storage::store::LogConfig;

use crate::support::history::empty;
use crate::support::layout::Layout;
use crate::support::plan::Plan;
use crate::support::seeds;
use crate::support::session::{Ending, Session, recovers};
use crate::support::world::Tolerance;

const ROUNDS: usize = 60;

/// Two topics on one store, appended to in turn; the first one has this configuration.
fn in_turn(seed: u64, first: LogConfig) -> Session {
    let plan = Plan::in_turn(seed, &[first, LogConfig::default()], ROUNDS);
    Session::new(seed, Layout::tiny(1, 1), plan, Ending::Close)
}

#[test]
fn a_weak_topic_that_nothing_flushes_leaves_room_for_others() {
    for seed in seeds() {
        let weak = LogConfig {
            flush_messages: Some(1_000_000),
            ..LogConfig::default()
        };
        let session = in_turn(seed, weak);
        let start = empty(seed, &session.layout);
        let run = session.run(&start, |_| {});
        recovers(&run.power_loss(seed), &session.layout, seed);
    }
}

#[test]
fn what_a_failed_segment_holds_of_the_journal_ends_in_a_reason() {
    for seed in seeds() {
        let session = in_turn(seed, LogConfig::default()).tolerating(Tolerance::Errors);
        let start = empty(seed, &session.layout);
        let run = session.run(&start, |disk| {
            let fault = Fault::io_error().on(OperationKind::Write);
            disk.inject(fault.in_path(|path| path.ends_with(".log")));
        });
        assert_eq!(
            run.world.failed_partitions.borrow().len(),
            1,
            "a segment has failed"
        );
        assert!(
            run.world.failed_stores.borrow().contains(&0),
            "and then there was no room"
        );
        recovers(&run.power_loss(seed), &session.layout, seed);
    }
}
