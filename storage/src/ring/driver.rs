//! The driver: the one task of a core that talks to its ring.
//!
//! Owns the decision when to look, when to wait inside the ring, and when to sleep. Never touches an
//! operation's memory. Runs on every core for as long as its ring is open.
//!
//! # Going to sleep without losing a wake-up
//! While the driver turns, the eventfd is switched off by a flag in the completion ring. To sleep it
//! 1. switches the eventfd on,
//! 2. passes a sequentially consistent fence,
//! 3. looks into the kernel once more and harvests,
//! 4. and only if that found nothing awaits a read of the eventfd.
//!
//! What completes after step 1 signals the eventfd; what completed before it is found by step 3. The fence
//! keeps step 3 from being seen before step 1. Step 3 must be a system call: with `DEFER_TASKRUN` nothing
//! appears in the completion queue without one. The read is kept across turns and never dropped while it is
//! in flight: dropping a glommio operation leaks, and would lose the count that it took. A task that pushes
//! an operation while the driver sleeps wakes it directly.
//!
//! # When glommio sleeps although tasks are runnable
//! glommio 0.9.0 arms its preempt timer, and then looks whether it has fired before it runs the first task. If it
//! has, or if anything else has arrived in the ring of that timer meanwhile, `run_task_queues` reports that nothing
//! ran, and the executor sleeps until something wakes glommio itself. The driver is one of the tasks that do not run
//! then, so that nothing of ours ever would: a core stood still for good. Two things keep that from happening:
//! [`PREEMPT_TIMER`] is so long that no thread is kept off its CPU for that long, and a [`heartbeat`] wakes glommio
//! whatever the cause.

use std::future::{Future, poll_fn};
use std::os::fd::{AsRawFd, FromRawFd};
use std::pin::Pin;
use std::sync::atomic::{Ordering, fence};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::ring::{Ring, Wait};

/// A closing ring gives up on operations that the kernel does not end after so long, and leaks their memory.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// The preempt timer that an executor with a ring is to be built with: in effect none. The driver gives glommio its
/// turns (`Driver::lap`). With 1 ms cores stood still in 2 of 10 runs; with 100 ms, probably once on a machine with more
/// work than CPU.
pub const PREEMPT_TIMER: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a core stands still at most that glommio has let sleep on runnable tasks.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// Wakes glommio again and again, whatever it has missed.
pub(super) async fn heartbeat(ring: Ring) {
    while !ring.inner.closing.get() {
        // glommio's own timer, since the ring's cannot wake it.
        glommio::timer::sleep(HEARTBEAT).await;
    }
}

pub(super) async fn run(ring: Ring) {
    let mut driver = Driver {
        ring,
        sleep: None,
        empty_turns: 0,
        lap_began: now(),
        turned: None,
        has_waited: false,
        pace: Pace::new(),
    };
    while !driver.ring.inner.closing.get() {
        driver.step().await;
    }
    driver.finish().await;
}

struct Driver {
    ring: Ring,
    /// The read of the eventfd that is in flight, if any.
    sleep: Option<Pin<Box<dyn Future<Output = ()>>>>,
    empty_turns: u32,
    lap_began: Instant,
    /// When it let the core's other tasks run, unless it has waited since.
    turned: Option<Instant>,
    /// Whether the driver has waited inside the ring in vain: the next time it sleeps.
    has_waited: bool,
    pace: Pace,
}

impl Driver {
    async fn step(&mut self) {
        if self.turn_found_work() {
            self.empty_turns = 0;
            self.has_waited = false;
            let time = now();
            self.time_turn(time);
            // Only under load: a driver that waits soon parks, which serves glommio as well.
            if time - self.lap_began > self.ring.inner.config.lap {
                self.lap().await;
            }
            return yield_now().await;
        }
        self.empty_turns += 1;
        if self.empty_turns < self.ring.inner.config.empty_turns {
            return yield_now().await;
        }
        if self.may_block() {
            self.block();
            return yield_now().await;
        }
        self.park().await;
        self.empty_turns = 0;
        self.has_waited = false;
        self.lap_began = now();
        self.turned = Some(self.lap_began);
        yield_now().await;
    }

    /// Counts how long the core's tasks have kept the driver from its turn.
    fn time_turn(&mut self, time: Instant) {
        if let Some(turned) = self.turned.replace(time) {
            let us = u64::try_from((time - turned).as_micros()).unwrap_or(u64::MAX);
            self.ring.inner.turn_times.borrow_mut().record(us);
        }
    }

    fn turn_found_work(&self) -> bool {
        let inner = &self.ring.inner;
        let pushed = inner.queued.get() > 0;
        let attention = inner.attention.take();
        inner.turn(Wait::No) > 0 || pushed || attention
    }

    /// Lets the executor's queue run empty now and then, so that glommio looks at its own rings, timers and
    /// channels. This is not left to glommio's preempt timer, which must not fire.
    async fn lap(&mut self) {
        self.ring.inner.address.signal_eventfd();
        self.eventfd_read().await;
        self.sleep = None;
        self.ring.inner.take_signal();
        self.lap_began = now();
    }

    /// Waiting inside the ring costs one system call and wakes at once; sleeping through glommio costs several,
    /// and doubles the CPU of light loads. So gaps of up to `RingConfig::block` are waited out here, in one piece:
    /// nothing that comes another way than through the ring is urgent.
    fn may_block(&self) -> bool {
        // Without messages between rings, other cores can only reach the eventfd, which a ring does not watch.
        self.ring.inner.features.message_ring && !self.has_waited
    }

    fn block(&mut self) {
        let inner = &self.ring.inner;
        let gather =
            inner.features.minimum_wait && self.pace.is_faster_than(inner.config.gather / 2);
        let completed = inner.turn(Wait::Block { gather });
        self.has_waited = completed == 0;
        self.turned = None;
        if completed > 0 {
            self.turned = Some(self.pace.record(completed));
            self.empty_turns = 0;
        }
    }

    async fn park(&mut self) {
        let inner = self.ring.inner.clone();
        inner.enable_eventfd();
        fence(Ordering::SeqCst);
        if inner.turn(Wait::Look) == 0 && !inner.attention.take() {
            inner.count(|stats| stats.parks += 1);
            let fired = poll_fn(|cx| self.poll_sleep(cx)).await;
            if fired {
                self.sleep = None;
                inner.take_signal();
            }
            inner.parked.take();
        }
        inner.disable_eventfd();
        inner.turn(Wait::Look);
    }

    /// Resolves with `true` when the eventfd was read, with `false` when somebody pushed an operation.
    fn poll_sleep(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.eventfd_read().as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        let inner = &self.ring.inner;
        if inner.queued.get() > 0 || inner.closing.get() {
            return Poll::Ready(false);
        }
        *inner.parked.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    fn eventfd_read(&mut self) -> &mut Pin<Box<dyn Future<Output = ()>>> {
        let ring = &self.ring;
        self.sleep.get_or_insert_with(|| {
            let address = ring.inner.address.clone();
            Box::pin(async move {
                // glommio offers no readiness for other descriptors, but it reads any as a file.
                // SAFETY: the descriptor is open for as long as `address`; the file is forgotten below, so that it
                // is not closed twice.
                let file = unsafe {
                    glommio::io::BufferedFile::from_raw_fd(address.eventfd().as_raw_fd())
                };
                let read = file.read_at(0, 8).await;
                std::mem::forget(file);
                read.expect("an eventfd can be read");
            })
        })
    }

    /// Cancels what is in flight and waits for it.
    async fn finish(&mut self) {
        let inner = self.ring.inner.clone();
        let began = now();
        while inner.in_flight.get() > 0 && began.elapsed() < CLOSE_PATIENCE {
            // Each round again: what was pushed meanwhile is cancelled too. Not while descriptors are being closed:
            // a close that is cancelled leaves its descriptor open.
            if inner.closes.get() == 0 {
                self.ring.cancel_all();
            }
            inner.turn(Wait::No);
            inner.turn(Wait::Block { gather: false });
            yield_now().await;
        }
        if inner.in_flight.get() > 0 {
            tracing::error!(
                operations = inner.in_flight.get(),
                "the kernel does not end them; their memory is given up"
            );
        }
        if self.sleep.is_some() {
            inner.address.signal_eventfd();
            self.eventfd_read().await;
            self.sleep = None;
        }
        inner.driver_ended.set(true);
        if let Some(waker) = inner.close_waker.take() {
            waker.wake();
        }
    }
}

/// The mean time between completions while the driver waits, which says whether gathering them pays.
struct Pace {
    last: Instant,
    mean_ns: f64,
}

impl Pace {
    fn new() -> Self {
        Self {
            last: now(),
            mean_ns: 1e6,
        }
    }

    fn record(&mut self, completions: u32) -> Instant {
        let time = now();
        let gap_ns = (time - self.last).as_nanos() as f64 / f64::from(completions);
        self.mean_ns += (gap_ns - self.mean_ns) / 8.0;
        self.last = time;
        time
    }

    fn is_faster_than(&self, gap: Duration) -> bool {
        self.mean_ns < gap.as_nanos() as f64
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the driver decides how long to wait, which no outcome depends on"
)]
fn now() -> Instant {
    Instant::now()
}

/// Lets every other runnable task of the core run once.
pub(super) fn yield_now() -> impl Future<Output = ()> {
    let mut yielded = false;
    poll_fn(move |cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}
