//! Histories: sessions that follow each other on one data directory, run once without a crash.
//!
//! Owns the starting point of each session and the list of its operations, at each of which it can be
//! crashed.

use std::collections::BTreeSet;

use corelane_protocol::StoreId;
use corelane_storage::directory::{self, DirectoryIdentity, Opened};
use corelane_storage::disk::memory::{DiskImage, MemoryDisk, Operation};
use corelane_storage::store::Store;
use corelane_storage::testing::Executor;
use uuid::Uuid;

use super::layout::Layout;
use super::oracle::Oracle;
use super::plan::Planner;
use super::session::{Ending, Session, Start};
use super::world::store_dir;

/// A session in its place.
pub(crate) struct Chapter {
    pub(crate) start: Start,
    pub(crate) session: Session,
    /// What it does when nothing goes wrong.
    pub(crate) operations: Vec<Operation>,
}

/// Sessions in a row.
pub(crate) struct History {
    pub(crate) chapters: Vec<Chapter>,
    pub(crate) end: Start,
    /// Parts of groups that went straight to segments, and those that recoveries read there.
    straight_parts: u64,
    extents_replayed: u64,
}

impl History {
    /// Three stores on 3, 1, 2, 3 and 1 cores, with clean closes, power losses and a killed process in between.
    pub(crate) fn mixed(seed: u64) -> Self {
        let mut planner = Planner::new(seed + 1, 3, 3000, 14 << 10);
        let cores = [3, 1, 2, 3, 1];
        let endings = [
            Ending::Close,
            Ending::Leave,
            Ending::Close,
            Ending::Leave,
            Ending::Close,
        ];
        let mut sessions = Vec::new();
        for (index, (cores, ending)) in cores.into_iter().zip(endings).enumerate() {
            let plan = if index == 0 {
                planner.first_session(3, 40)
            } else {
                planner.session(3, 40)
            };
            let layout = Layout {
                rotation: index,
                ..Layout::tiny(3, cores)
            };
            sessions.push(Session::new(
                seed * 100 + index as u64,
                layout,
                plan,
                ending,
            ));
        }
        Self::of(empty(seed, &Layout::tiny(3, 1)), sessions, seed)
    }

    /// Two stores whose batches may be larger than the largest chunk of a tail.
    pub(crate) fn large_batches(seed: u64) -> Self {
        let mut planner = Planner::new(seed + 1000, 2, 1_000_000, 2 << 20);
        let plans = [planner.first_session(2, 10), planner.session(2, 8)];
        let endings = [Ending::Leave, Ending::Close];
        let sessions = plans
            .into_iter()
            .zip(endings)
            .enumerate()
            .map(|(index, (plan, ending))| {
                let layout = Layout::large_batches(2, 1 + index);
                Session::new(seed * 100 + 50 + index as u64, layout, plan, ending)
            });
        Self::of(
            empty(seed, &Layout::large_batches(2, 1)),
            sessions.collect(),
            seed,
        )
    }

    /// Two stores whose batches go straight to their segments as soon as these have files; three sessions end without a
    /// close, one of them by the death of the process alone.
    pub(crate) fn straight(seed: u64) -> Self {
        // Whether a session ends with some that only the journal tells of is chance: the shortest in which one does.
        let histories = (26..70)
            .step_by(4)
            .map(|steps| Self::straight_of(seed, steps));
        let mut histories = histories.filter(|history| history.extents_replayed > 0);
        histories.next().expect("no recovery looked for it")
    }

    /// The same with sessions of so many steps.
    pub(crate) fn straight_of(seed: u64, steps: usize) -> Self {
        let mut planner = Planner::new(seed + 3000, 2, 3000, 100 << 10);
        let endings = [
            Ending::Leave,
            Ending::Leave,
            Ending::Close,
            Ending::Leave,
            Ending::Close,
        ];
        let mut sessions = Vec::new();
        for (index, ending) in endings.into_iter().enumerate() {
            let plan = if index == 0 {
                planner.first_session(2, steps + 10)
            } else {
                planner.session(2, steps)
            };
            let layout = Layout {
                rotation: index,
                ..Layout::straight(2, 1 + index % 2)
            };
            let seed = seed * 100 + 60 + index as u64;
            sessions.push(Session::new(seed, layout, plan, ending));
        }
        let history = Self::of(empty(seed, &Layout::straight(2, 1)), sessions, seed);
        assert!(history.straight_parts > 0, "nothing went straight");
        history
    }

    /// Small stores that were closed twice, with batches in segments that only the journal tells of.
    pub(crate) fn small_straight(seed: u64, stores: usize) -> Self {
        let mut planner = Planner::new(seed + 4000, stores, 600, 60 << 10);
        let plans = [planner.first_session(1, 300), planner.session(1, 160)];
        let sessions = plans.into_iter().enumerate().map(|(index, plan)| {
            let layout = Layout::smallest_straight(stores);
            Session::new(seed * 100 + 90 + index as u64, layout, plan, Ending::Close)
        });
        let start = empty(seed, &Layout::smallest_straight(stores));
        Self::of(start, sessions.collect(), seed)
    }

    /// Small stores that were closed twice.
    pub(crate) fn small(seed: u64, stores: usize) -> Self {
        let mut planner = Planner::new(seed + 2000, stores, 600, 10 << 10);
        let plans = [planner.first_session(1, 24), planner.session(1, 16)];
        let sessions = plans.into_iter().enumerate().map(|(index, plan)| {
            Session::new(
                seed * 100 + 80 + index as u64,
                Layout::smallest(stores),
                plan,
                Ending::Close,
            )
        });
        Self::of(
            empty(seed, &Layout::smallest(stores)),
            sessions.collect(),
            seed,
        )
    }

    /// Runs sessions one after the other, from a data directory that has no partition.
    fn of(mut start: Start, sessions: Vec<Session>, seed: u64) -> Self {
        let mut chapters = Vec::new();
        let (mut straight_parts, mut extents_replayed) = (0, 0);
        for (index, session) in sessions.into_iter().enumerate() {
            let mut run = session.run(&start, |_| {});
            assert!(run.is_finished);
            straight_parts += run.world.straight_parts.get();
            extents_replayed += run.world.extents_replayed.get();
            // Every other one that is left was killed while the machine lived on.
            let is_kill = session.ending == Ending::Leave && index % 4 == 3;
            let end = if is_kill {
                run.process_death()
            } else {
                run.power_loss(seed)
            };
            chapters.push(Chapter {
                start,
                session,
                operations: std::mem::take(&mut run.operations),
            });
            start = end;
        }
        Self {
            chapters,
            end: start,
            straight_parts,
            extents_replayed,
        }
    }
}

/// A new data directory.
pub(crate) fn empty(seed: u64, layout: &Layout) -> Start {
    let executor = Executor::new(seed);
    let disk = MemoryDisk::from_image(&executor, &DiskImage::default());
    executor.block_on(make(&disk, layout));
    Start {
        image: disk.crash(seed),
        oracle: Oracle::default(),
        closed: BTreeSet::new(),
    }
}

/// Makes a data directory, or finds it made.
pub(crate) async fn make(disk: &MemoryDisk, layout: &Layout) {
    let stores = layout.stores as u16;
    let identity = DirectoryIdentity {
        cluster: Uuid::from_u128(1),
        directory: Uuid::from_u128(2),
        stores,
    };
    let opened = directory::open(disk, identity)
        .await
        .expect("a directory of ours");
    if let Opened::New(identity) = opened {
        for store in 0..stores {
            let (id, uuid) = (
                StoreId::new(store),
                Uuid::from_u128(100 + u128::from(store)),
            );
            Store::create(
                disk,
                &store_dir(usize::from(store)),
                id,
                uuid,
                &layout.config,
            )
            .await
            .expect("a healthy disk");
        }
        directory::finish(disk, &identity)
            .await
            .expect("a healthy disk");
    }
}
