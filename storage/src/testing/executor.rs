//! A single-threaded executor that polls its tasks in an order that the seed decides.
//!
//! Owns the tasks. Has no clock: time is an event like any other, made by whoever simulates it once
//! `run_until_stalled` says that nothing else is left to do.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::Random;

/// Polls after which a run is taken for a busy loop, so that a test fails instead of hanging.
const POLLS_MAX: u64 = 50_000_000;

/// Names a task for as long as the executor lives.
#[derive(Clone, Copy, PartialEq, Eq)]
struct TaskId {
    /// Where it is in the table; others were there before, or will be.
    slot: usize,
    number: u64,
}

/// The task that `block_on` itself polls, which is not in the table.
const MAIN: TaskId = TaskId {
    slot: usize::MAX,
    number: 0,
};

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Runs tasks one at a time, each time a ready one drawn from the seed. Dropping it drops them all.
///
/// When a test panics while it lives, it prints the seed.
pub struct Executor {
    shared: Rc<Shared>,
}

/// Starts tasks on an `Executor` without keeping it alive. Once that is gone, spawned tasks never run.
#[derive(Clone)]
pub struct Spawner {
    shared: Weak<Shared>,
}

struct Shared {
    seed: u64,
    /// Whether a panic prints the seed.
    tells_seed: Cell<bool>,
    random: RefCell<Random>,
    tasks: RefCell<Tasks>,
    tasks_made: Cell<u64>,
    ready: Arc<Ready>,
    /// Wakes `MAIN`.
    main_waker: Waker,
}

impl Executor {
    /// An executor without tasks, whose every choice follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let ready = Arc::default();
        let shared = Shared {
            seed,
            tells_seed: Cell::new(true),
            random: RefCell::new(Random::new(seed)),
            tasks: RefCell::default(),
            tasks_made: Cell::new(MAIN.number),
            main_waker: waker(MAIN, &ready),
            ready,
        };
        Self {
            shared: Rc::new(shared),
        }
    }

    /// The same, for whoever names the seed of a failure by itself: a panic prints nothing here.
    #[must_use]
    pub fn without_a_word(self) -> Self {
        self.shared.tells_seed.set(false);
        self
    }

    /// The seed it was made with.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    /// A handle to start tasks with, for those who live on this executor.
    #[must_use]
    pub fn spawner(&self) -> Spawner {
        Spawner {
            shared: Rc::downgrade(&self.shared),
        }
    }

    /// Starts a task. Dropping the handle does not stop it.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        self.shared.spawn(future)
    }

    /// Runs tasks until `future` is done.
    ///
    /// # Panics
    /// If nothing can run before that, and if the run does not end.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let seed = self.seed();
        self.try_block_on(future)
            .unwrap_or_else(|| panic!("every task waits for another (seed {seed})"))
    }

    /// Runs tasks until `future` is done, or until nothing can run: then `None`, and `future` is dropped.
    ///
    /// # Panics
    /// If the run does not end.
    pub fn try_block_on<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let waker = &self.shared.main_waker;
        waker.wake_by_ref();
        for _ in 0..POLLS_MAX {
            match self.shared.next_ready()? {
                MAIN => {
                    if let Poll::Ready(value) =
                        future.as_mut().poll(&mut Context::from_waker(waker))
                    {
                        self.shared.ready.forget(|id| id == MAIN);
                        return Some(value);
                    }
                }
                id => self.shared.poll(id),
            }
        }
        panic!(
            "still running after {POLLS_MAX} polls (seed {})",
            self.seed()
        );
    }

    /// Runs tasks until all of them wait.
    ///
    /// # Panics
    /// If the run does not end.
    pub fn run_until_stalled(&self) {
        if !self.is_ready() {
            // Nothing but the task that waits here for ever, which is drawn all the same.
            self.shared.random.borrow_mut().index(1);
            return;
        }
        let stalled = self.try_block_on(std::future::pending::<()>());
        debug_assert!(stalled.is_none(), "a pending future is never done");
    }

    /// Whether some task could run now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.ready.count.load(Ordering::Relaxed) > 0
    }

    /// Drops every task where it stands, as a crash of the process would.
    pub fn crash(&self) {
        self.shared.drop_tasks();
    }

    /// A source of randomness that belongs to this run.
    #[must_use]
    pub fn random(&self) -> Random {
        self.shared.random.borrow_mut().fork()
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        if std::thread::panicking() && self.shared.tells_seed.get() {
            eprintln!("the executor's seed was {}", self.seed());
        }
        self.shared.drop_tasks();
    }
}

impl Spawner {
    /// Starts a task. Dropping the handle does not stop it.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        match self.shared.upgrade() {
            Some(shared) => shared.spawn(future),
            None => JoinHandle {
                join: Rc::default(),
            },
        }
    }

    /// A number below `limit` from the run's randomness; 0 once the executor is gone.
    #[must_use]
    pub fn below(&self, limit: u64) -> u64 {
        self.shared
            .upgrade()
            .map_or(0, |shared| shared.random.borrow_mut().below(limit))
    }
}

impl Shared {
    fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        let join = Rc::new(Join {
            value: Cell::new(None),
            waiter: Cell::new(None),
        });
        let done = Rc::clone(&join);
        let task = Box::pin(async move {
            done.value.set(Some(future.await));
            if let Some(waiter) = done.waiter.take() {
                waiter.wake();
            }
        });
        self.tasks_made.set(self.tasks_made.get() + 1);
        let mut tasks = self.tasks.borrow_mut();
        let id = TaskId {
            slot: tasks.vacant(),
            number: self.tasks_made.get(),
        };
        let waker = waker(id, &self.ready);
        waker.wake_by_ref();
        tasks.slots[id.slot] = Slot {
            number: id.number,
            waiting: Some((task, waker)),
        };
        JoinHandle { join }
    }

    fn next_ready(&self) -> Option<TaskId> {
        self.ready.draw(&mut self.random.borrow_mut())
    }

    /// Polls one task. It is out of the table meanwhile, so that it may spawn others.
    fn poll(&self, id: TaskId) {
        // A task that has ended may still be woken.
        let Some((mut task, waker)) = self.tasks.borrow_mut().take(id) else {
            return;
        };
        let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
        let mut tasks = self.tasks.borrow_mut();
        // A crash that it brought about itself has emptied the table.
        let Some(slot) = tasks.slot(id) else { return };
        match polled {
            Poll::Pending => slot.waiting = Some((task, waker)),
            Poll::Ready(()) => tasks.free.push(id.slot),
        }
    }

    /// Tasks may hold others' handles, so what drops must not find the table borrowed.
    fn drop_tasks(&self) {
        let tasks = self.tasks.take();
        drop(tasks);
        self.ready.forget(|_| true);
    }
}

fn waker(id: TaskId, ready: &Arc<Ready>) -> Waker {
    let is_queued = AtomicBool::new(false);
    Waker::from(Arc::new(TaskWaker {
        id,
        is_queued,
        ready: Arc::clone(ready),
    }))
}

/// The tasks that have not ended.
#[derive(Default)]
struct Tasks {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

/// A place of the table, and what waits there; nothing while that is polled, and once it has ended.
#[derive(Default)]
struct Slot {
    number: u64,
    waiting: Option<(Task, Waker)>,
}

impl Tasks {
    /// A place for a task.
    fn vacant(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        })
    }

    /// The place of this task, if no crash has dropped it and no other task has it by now.
    fn slot(&mut self, id: TaskId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(id.slot);
        slot.filter(|slot| slot.number == id.number)
    }

    fn take(&mut self, id: TaskId) -> Option<(Task, Waker)> {
        self.slot(id)?.waiting.take()
    }
}

/// The tasks that may run, each once.
#[derive(Default)]
struct Ready {
    wakers: Mutex<Vec<Arc<TaskWaker>>>,
    /// How many they are. Everything runs on one thread, so no ordering is needed.
    count: AtomicUsize,
}

impl Ready {
    fn with<T>(&self, change: impl FnOnce(&mut Vec<Arc<TaskWaker>>) -> T) -> T {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut wakers);
        self.count.store(wakers.len(), Ordering::Relaxed);
        changed
    }

    fn draw(&self, random: &mut Random) -> Option<TaskId> {
        let drawn = self.with(|wakers| match wakers.len() {
            0 => None,
            len => Some(wakers.swap_remove(random.index(len))),
        })?;
        drawn.is_queued.store(false, Ordering::Relaxed);
        Some(drawn.id)
    }

    /// Takes back the wakes of the tasks that satisfy `predicate`.
    fn forget(&self, predicate: impl Fn(TaskId) -> bool) {
        self.with(|wakers| {
            for waker in wakers.extract_if(.., |waker| predicate(waker.id)) {
                waker.is_queued.store(false, Ordering::Relaxed);
            }
        });
    }
}

struct TaskWaker {
    id: TaskId,
    /// Whether it is among the ready ones.
    is_queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.load(Ordering::Relaxed) {
            self.is_queued.store(true, Ordering::Relaxed);
            self.ready.with(|wakers| wakers.push(Arc::clone(self)));
        }
    }
}

/// A spawned task's result, to be awaited. Never ready if the task is dropped before its end.
pub struct JoinHandle<T> {
    join: Rc<Join<T>>,
}

struct Join<T> {
    value: Cell<Option<T>>,
    waiter: Cell<Option<Waker>>,
}

impl<T> Default for Join<T> {
    fn default() -> Self {
        Self {
            value: Cell::new(None),
            waiter: Cell::new(None),
        }
    }
}

impl<T> JoinHandle<T> {
    /// The result, if the task has ended and nobody has taken it.
    #[must_use]
    pub fn try_take(&self) -> Option<T> {
        self.join.value.take()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match self.join.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                self.join.waiter.set(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

/// Lets any other ready task run first.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_with_nothing_to_do_draws_as_any_other() {
        let (run, blocked) = (Executor::new(3), Executor::new(3));
        run.run_until_stalled();
        assert!(blocked.try_block_on(std::future::pending::<()>()).is_none());
        assert_eq!(run.random().next_u64(), blocked.random().next_u64());
    }

    /// The order in which five tasks pass three points each.
    fn order(seed: u64) -> Vec<u32> {
        let executor = Executor::new(seed);
        let log = Rc::new(RefCell::new(Vec::new()));
        for task in 0..5 {
            let log = Rc::clone(&log);
            executor.spawn(async move {
                for _ in 0..3 {
                    log.borrow_mut().push(task);
                    yield_now().await;
                }
            });
        }
        executor.run_until_stalled();
        log.take()
    }

    #[test]
    fn the_seed_decides_the_order() {
        assert_eq!(order(1), order(1));
        assert!((2..10).any(|seed| order(seed) != order(1)));
    }

    #[test]
    fn a_task_can_spawn_and_await_another() {
        let executor = Executor::new(3);
        let spawner = executor.spawner();
        let sum = executor.block_on(async {
            let inner = spawner.clone();
            let first = spawner.spawn(async move { inner.spawn(async { 1 }).await + 1 });
            let second = spawner.spawn(async { 40 });
            first.await + second.await
        });
        assert_eq!(sum, 42);
    }

    #[test]
    fn a_wait_that_ends_while_it_is_woken_again_leaves_nothing_behind() {
        let executor = Executor::new(3);
        for expected in 0..3 {
            let ended = executor.block_on(std::future::poll_fn(|context| {
                context.waker().wake_by_ref();
                Poll::Ready(expected)
            }));
            assert_eq!(ended, expected);
            assert!(!executor.is_ready());
        }
    }

    #[test]
    fn a_task_that_takes_the_place_of_another_is_not_woken_for_it() {
        let executor = Executor::new(3);
        let waker = Rc::new(Cell::new(None));
        let kept = Rc::clone(&waker);
        executor.block_on(executor.spawn(std::future::poll_fn(move |context| {
            kept.set(Some(context.waker().clone()));
            Poll::Ready(())
        })));
        let polls = Rc::new(Cell::new(0));
        let counted = Rc::clone(&polls);
        executor.spawn(std::future::poll_fn(move |_| {
            counted.set(counted.get() + 1);
            Poll::<()>::Pending
        }));
        executor.run_until_stalled();
        waker.take().expect("polled once").wake();
        executor.run_until_stalled();
        assert_eq!(polls.get(), 1);
    }

    #[test]
    fn a_task_may_crash_its_executor() {
        let executor = Rc::new(Executor::new(3));
        let own = Rc::clone(&executor);
        executor.spawn(async move {
            own.crash();
            std::future::pending::<()>().await;
        });
        executor.run_until_stalled();
        assert_eq!(Rc::strong_count(&executor), 1);
        assert_eq!(executor.block_on(executor.spawn(async { 5 })), 5);
    }

    #[test]
    fn a_wait_for_nothing_is_noticed() {
        let executor = Executor::new(3);
        assert_eq!(executor.try_block_on(std::future::pending::<()>()), None);
    }

    #[test]
    #[should_panic(expected = "every task waits for another (seed 3)")]
    fn a_deadlock_names_the_seed() {
        Executor::new(3).block_on(std::future::pending::<()>());
    }

    #[test]
    fn a_crash_drops_every_task_and_the_executor_goes_on() {
        let executor = Executor::new(3);
        let alive = Rc::new(());
        for _ in 0..3 {
            let alive = Rc::clone(&alive);
            executor.spawn(async move {
                std::future::pending::<()>().await;
                drop(alive);
            });
        }
        executor.run_until_stalled();
        assert_eq!(Rc::strong_count(&alive), 4);
        executor.crash();
        assert_eq!(Rc::strong_count(&alive), 1);
        assert_eq!(executor.block_on(executor.spawn(async { 5 })), 5);
    }

    #[test]
    fn tasks_do_not_outlive_the_executor() {
        let executor = Executor::new(3);
        let spawner = executor.spawner();
        let alive = Rc::new(());
        let held = (Rc::clone(&alive), spawner.clone());
        executor.spawn(async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        drop(executor);
        assert_eq!(Rc::strong_count(&alive), 1);
        assert!(spawner.spawn(async { 1 }).try_take().is_none());
    }
}
