//! Sessions: a data directory is opened, used, and closed or left; and what is there afterwards.
//!
//! Owns the run of one session under its seed, the crash at one of its steps, and the check that what a crash
//! left recovers, goes on working, and is still there after that.

use std::collections::BTreeSet;
use std::rc::Rc;

use corelane_storage::disk::memory::{DiskImage, MemoryDisk, Operation};
use corelane_storage::testing::Executor;

use super::layout::Layout;
use super::oracle::{Existence, Oracle};
use super::plan::Plan;
use super::world::{Tolerance, World};

/// How many operations and events of a failed run are printed.
const TRACE_LINES: usize = 60;

/// A data directory, and what must be in it.
#[derive(Clone)]
pub(crate) struct Start {
    pub(crate) image: DiskImage,
    pub(crate) oracle: Oracle,
    /// The stores that were closed.
    pub(crate) closed: BTreeSet<usize>,
}

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its stores are closed.
    Close,
    /// Its stores are left as they are, with I/O in flight.
    Leave,
    /// Its stores are left once they have nothing more to do.
    Rest,
}

/// What is done with a data directory from its opening on.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) seed: u64,
    pub(crate) layout: Layout,
    pub(crate) plan: Rc<Plan>,
    pub(crate) ending: Ending,
    pub(crate) tolerance: Tolerance,
}

/// A session that has ended, or whose disk has halted. It prints itself when a test fails while it lives.
pub(crate) struct Run {
    session: Session,
    pub(crate) world: Rc<World>,
    pub(crate) disk: MemoryDisk,
    pub(crate) is_finished: bool,
    /// What has completed.
    pub(crate) operations: Vec<Operation>,
    /// Until the process is killed.
    executor: Option<Executor>,
}

impl Session {
    /// A session on a healthy disk.
    pub(crate) fn new(seed: u64, layout: Layout, plan: Plan, ending: Ending) -> Self {
        Self {
            seed,
            layout,
            plan: Rc::new(plan),
            ending,
            tolerance: Tolerance::Nothing,
        }
    }

    /// The same on a disk that may do worse.
    pub(crate) fn tolerating(&self, tolerance: Tolerance) -> Self {
        Self {
            tolerance,
            ..self.clone()
        }
    }

    /// Runs it to its end, or to where the disk halts. `prepare` may set the disk up to fail.
    pub(crate) fn run(&self, start: &Start, prepare: impl FnOnce(&MemoryDisk)) -> Run {
        let executor = Executor::new(self.seed);
        let disk = MemoryDisk::from_image(&executor, &start.image);
        prepare(&disk);
        self.run_on(executor, disk, start)
    }

    /// Kills the process of a session and runs this one on the same disk, on which nothing has been flushed
    /// meanwhile.
    pub(crate) fn run_after(
        &self,
        mut killed: Run,
        seed: u64,
        prepare: impl FnOnce(&MemoryDisk),
    ) -> Run {
        let executor = killed.executor.take().expect("a process is killed once");
        executor.crash();
        killed.disk.kill(seed);
        prepare(&killed.disk);
        self.run_on(executor, killed.disk.clone(), &killed.process_death())
    }

    fn run_on(&self, executor: Executor, disk: MemoryDisk, start: &Start) -> Run {
        disk.start_trace();
        let world = World::new(
            disk.clone(),
            executor.spawner(),
            self.layout.clone(),
            start,
            self.tolerance,
        );
        let scene = Scene(|| self.print(&world, &disk.take_trace()));
        let is_finished = executor
            .try_block_on(self.live(Rc::clone(&world)))
            .is_some();
        assert!(
            is_finished || disk.is_halted(),
            "every task waits for another"
        );
        if is_finished && self.ending != Ending::Leave {
            executor.run_until_stalled();
        }
        if is_finished && self.ending == Ending::Rest {
            // What is weak is flushed, and then the journal is sealed.
            for _ in 0..2 {
                world.let_time_pass();
                executor.run_until_stalled();
            }
        }
        let operations = disk.take_trace();
        drop(scene);
        let run = Run {
            session: self.clone(),
            world,
            disk,
            is_finished,
            operations,
            executor: Some(executor),
        };
        run.world.expect_stillness(&run.operations);
        run
    }

    async fn live(&self, world: Rc<World>) {
        world.open().await;
        world.act(&self.plan).await;
        if self.tolerance == Tolerance::Errors {
            world.probe().await;
        }
        if self.ending == Ending::Close {
            world.close().await;
        }
        world.drain();
    }

    fn print(&self, world: &World, operations: &[Operation]) {
        let (seed, cores) = (self.seed, self.layout.cores);
        eprintln!(
            "a session with seed {seed}, {} stores on {cores} cores",
            self.layout.stores
        );
        let events = world.events.borrow();
        eprintln!("its last events:");
        for event in &events[events.len().saturating_sub(TRACE_LINES)..] {
            eprintln!("    {event}");
        }
        eprintln!("the last of {} operations:", operations.len());
        for operation in &operations[operations.len().saturating_sub(TRACE_LINES)..] {
            let (number, kind, path) = (operation.number, operation.kind, &operation.path);
            eprintln!(
                "    {number} {kind:?} {path} at {} for {}",
                operation.position, operation.len
            );
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.session.print(&self.world, &self.operations);
        }
    }
}

impl Run {
    /// What a power loss leaves at the point where the session stands.
    pub(crate) fn power_loss(&self, seed: u64) -> Start {
        self.after(self.disk.crash(seed))
    }

    /// What the death of the process alone leaves.
    pub(crate) fn process_death(&self) -> Start {
        self.after(self.disk.image())
    }

    fn after(&self, image: DiskImage) -> Start {
        let (oracle, closed) = (
            self.world.oracle.borrow().clone(),
            self.world.closed.borrow().keys().copied().collect(),
        );
        Start {
            image,
            oracle,
            closed,
        }
    }
}

/// Opens what a crash left and sees that nothing promised is lost; goes on appending, closes, and opens again,
/// each time with the stores on other cores. Returns what is there in the end.
pub(crate) fn recovers(start: &Start, layout: &Layout, seed: u64) -> Start {
    let regrouped = |cores: usize, rotation| Layout {
        cores,
        rotation,
        ..layout.clone()
    };
    let touch = touch(start, &regrouped(1 + layout.cores % layout.stores, 1), seed);
    let run = touch.run(start, |_| {});
    let touched = run.power_loss(seed);
    let last = Session::new(seed + 1, regrouped(1, 0), Plan::default(), Ending::Close);
    let last = last.run(&touched, |_| {});
    let end = last.power_loss(seed + 1);
    expect_nothing_left_over(&end);
    end
}

/// The first session after a crash: it appends to every partition, then closes.
pub(crate) fn touch(start: &Start, layout: &Layout, seed: u64) -> Session {
    let plan = Plan::touch(&start.oracle, seed, layout.stores);
    Session::new(seed, layout.clone(), plan, Ending::Close)
}

/// Nothing of a deleted topic is on disk.
pub(crate) fn expect_nothing_left_over(end: &Start) {
    let deleted = end
        .oracle
        .logs
        .iter()
        .filter(|(_, log)| log.existence == Existence::Deleted);
    let directories = end.image.directories();
    for (partition, log) in deleted {
        let dir = format!(
            "store-{:04}/{}/{}",
            log.store, partition.topic, partition.partition
        );
        assert!(
            !directories.contains(&dir),
            "{dir} of a deleted topic is still there"
        );
    }
}

/// Prints what a failing test should know, when one fails while this lives.
pub(crate) struct Scene<F: Fn()>(pub(crate) F);

impl<F: Fn()> Drop for Scene<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}
