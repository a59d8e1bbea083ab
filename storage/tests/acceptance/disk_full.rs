//! A disk without room: appends are refused, nothing is fenced or lost, and it goes on once there is room.

use crate::support::history::History;
use crate::support::seeds;
use crate::support::session::{Scene, recovers};
use crate::support::world::Tolerance;

/// The most room that is left, in bytes: enough for a whole session.
const ROOM_MAX: u64 = 256 << 10;
/// How many sizes between nothing and all of it are tried.
const ROOMS: u64 = 8;

#[test]
fn appends_are_refused_until_there_is_room_again() {
    for seed in seeds() {
        let history = History::mixed(seed);
        let mut refused = 0;
        for (index, chapter) in history.chapters.iter().enumerate() {
            let lengths = chapter.start.image.files();
            let at_rest: u64 = lengths.iter().map(|(_, len)| len).sum();
            let session = chapter.session.tolerating(Tolerance::Errors);
            for room in (0..ROOMS).map(|share| share * ROOM_MAX / ROOMS) {
                let _scene =
                    Scene(|| eprintln!("seed {seed}, session {index}, {room} bytes of room"));
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
}
