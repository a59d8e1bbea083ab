//! A disk without room: stores open, appends are refused, nothing is fenced or lost, and it goes on once there
//! is room.

use crate::support::history::History;
use crate::support::layout::Layout;
use crate::support::seeds;
use crate::support::session::{Scene, Start, recovers};
use crate::support::world::{Tolerance, store_dir};

/// The most room that is left, in bytes: enough for a whole session.
const ROOM_MAX: u64 = 256 << 10;
/// How many sizes between nothing and all of it are tried.
const ROOMS: u64 = 8;

/// What could not be made for want of room is not left behind in ever more files.
fn expect_few_journal_files(left: &Start, layout: &Layout) {
    let files = left.image.files();
    for store in (0..layout.stores).map(store_dir) {
        let journal = files
            .iter()
            .filter(|(path, _)| path.starts_with(&format!("{store}/journal-")));
        let (count, most) = (journal.count(), layout.config.journal_files_max as usize);
        assert!(
            count <= most,
            "{store} has {count} journal files instead of at most {most}"
        );
    }
}

#[test]
fn appends_are_refused_until_there_is_room_again() {
    for seed in seeds() {
        expect_refusals(seed, &History::mixed(seed));
    }
}

#[test]
fn so_are_those_that_would_go_straight_to_segments() {
    for seed in seeds() {
        expect_refusals(seed, &History::straight_of(seed, 150));
    }
}

fn expect_refusals(seed: u64, history: &History) {
    let mut refused = 0;
    for (index, chapter) in history.chapters.iter().enumerate() {
        let lengths = chapter.start.image.files();
        let at_rest: u64 = lengths.iter().map(|(_, len)| len).sum();
        let session = chapter.session.tolerating(Tolerance::Errors);
        for room in (0..ROOMS).map(|share| share * ROOM_MAX / ROOMS) {
            let _scene = Scene(|| eprintln!("seed {seed}, session {index}, {room} bytes of room"));
            // The session lifts the limit at its end, and sees that all partitions take appends then.
            let run = session.run(&chapter.start, |disk| {
                disk.set_capacity(Some(at_rest + room))
            });
            let events = run.world.events.borrow();
            let failure = events.iter().find(|event| event.is_failure());
            assert!(
                failure.is_none(),
                "a full disk is no reason to fence: {failure:?}"
            );
            refused += usize::from(run.world.was_refused.get());
            expect_few_journal_files(&run.process_death(), &session.layout);
            recovers(
                &run.power_loss(seed + room),
                &session.layout,
                800_000 + room,
            );
        }
    }
    assert!(refused > 0, "no append was ever refused");
    eprintln!("seed {seed}: {refused} sessions were refused appends");
}
