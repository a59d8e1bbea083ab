//! Virtual time, in microseconds: whoever simulates it says when it passes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A clock that stands still until it is moved. A clone is another handle on the same clock.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    state: Rc<State>,
}

#[derive(Debug, Default)]
struct State {
    now_us: Cell<u64>,
    timers: RefCell<BTreeMap<TimerKey, Waker>>,
    timers_made: Cell<u64>,
}

/// When a timer is due, and its number: timers of one moment fire in the order in which they were made.
type TimerKey = (u64, u64);

impl Clock {
    /// Microseconds since the clock was made.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.state.now_us.get()
    }

    /// When the next sleeper is to be woken.
    #[must_use]
    pub fn next_due_us(&self) -> Option<u64> {
        let timers = self.state.timers.borrow();
        timers.first_key_value().map(|((due, _), _)| *due)
    }

    /// Moves the clock on, and wakes whoever has slept until then. Returns whether anybody was woken.
    ///
    /// # Panics
    /// If the time has passed already.
    pub fn advance_to(&self, now_us: u64) -> bool {
        assert!(now_us >= self.now_us(), "time does not run backwards");
        self.state.now_us.set(now_us);
        let mut woke_any = false;
        loop {
            let mut timers = self.state.timers.borrow_mut();
            let Some(first) = timers.first_entry().filter(|first| first.key().0 <= now_us) else {
                return woke_any;
            };
            let waker = first.remove();
            drop(timers);
            waker.wake();
            woke_any = true;
        }
    }

    /// Resolves once so much time has passed.
    pub fn sleep_us(&self, us: u64) -> impl Future<Output = ()> + use<> {
        let number = self.state.timers_made.get();
        self.state.timers_made.set(number + 1);
        Sleep {
            state: Rc::clone(&self.state),
            key: (self.now_us() + us, number),
        }
    }
}

struct Sleep {
    state: Rc<State>,
    key: TimerKey,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.state.now_us.get() >= self.key.0 {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        self.state.timers.borrow_mut().insert(self.key, waker);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        // Whoever was due was woken, and is no more among the timers.
        if self.state.now_us.get() < self.key.0 {
            self.state.timers.borrow_mut().remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Executor;

    #[test]
    fn sleepers_wake_in_the_order_of_their_time() {
        let (executor, clock) = (Executor::new(1), Clock::default());
        let woken = Rc::new(RefCell::new(Vec::new()));
        for us in [30, 10, 20] {
            let (clock, woken) = (clock.clone(), Rc::clone(&woken));
            executor.spawn(async move {
                clock.sleep_us(us).await;
                woken.borrow_mut().push((us, clock.now_us()));
            });
        }
        executor.run_until_stalled();
        assert!(!executor.is_ready());
        while let Some(due) = clock.next_due_us() {
            clock.advance_to(due);
            assert!(executor.is_ready());
            executor.run_until_stalled();
        }
        assert_eq!(woken.take(), [(10, 10), (20, 20), (30, 30)]);
    }

    #[test]
    fn a_sleeper_that_is_gone_is_not_waited_for() {
        let (executor, clock) = (Executor::new(1), Clock::default());
        let sleep = clock.sleep_us(5);
        executor.spawn(sleep);
        executor.run_until_stalled();
        assert_eq!(clock.next_due_us(), Some(5));
        executor.crash();
        assert_eq!(clock.next_due_us(), None);
    }
}
