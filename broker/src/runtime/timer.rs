//! The core's one timer: it follows the lane's next deadline.
//!
//! Owns when it fires, and nothing of what happens then. Keeps at most one timeout in the ring.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::Duration;

use corelane_storage::ring::Ring;

use super::clock::Clock;

/// Deadlines are kept to this much: one that is later by less does not move a timeout.
const SLACK_US: u64 = 100;

#[derive(Default)]
pub(super) struct Timer {
    /// When it has to fire, in monotonic microseconds.
    wanted: Cell<Option<u64>>,
    /// When the timeout in the ring ends.
    armed: Cell<Option<u64>>,
    waker: RefCell<Option<Waker>>,
}

impl Timer {
    /// Takes over a new deadline. Cheap, as it is called after every event: only one that is sooner than what
    /// the ring waits for wakes the timer's task.
    pub(super) fn set(&self, deadline_us: Option<u64>) {
        self.wanted.set(deadline_us);
        let is_sooner = match (deadline_us, self.armed.get()) {
            (Some(deadline), Some(armed)) => deadline + SLACK_US < armed,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if is_sooner {
            self.armed.set(deadline_us);
            let waker = self.waker.take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Waits until the deadline has passed. Awaited by one task.
    pub(super) async fn fired(&self, ring: &Ring, clock: Clock) {
        loop {
            let deadline = self.next_wanted().await;
            self.armed.set(Some(deadline));
            let left = deadline.saturating_sub(clock.now().monotonic_us);
            // Even a deadline that has passed goes through the ring, so that other tasks get to run.
            let mut timeout = pin!(ring.sleep(Duration::from_micros(left)));
            poll_fn(|cx| {
                if self.armed.get() != Some(deadline) {
                    return Poll::Ready(());
                }
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                timeout.as_mut().poll(cx)
            })
            .await;
            let now = clock.now().monotonic_us;
            if self.wanted.get().is_some_and(|wanted| wanted <= now) {
                self.armed.set(None);
                return;
            }
            self.armed.set(None);
        }
    }

    async fn next_wanted(&self) -> u64 {
        poll_fn(|cx| {
            if let Some(deadline) = self.wanted.get() {
                return Poll::Ready(deadline);
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}
