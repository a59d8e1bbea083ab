//! Waking the tasks of a store.
//!
//! Owns the wakers of one event. Tasks of one core only: nothing here is `Send`.

use std::cell::{Cell, RefCell};
use std::task::{Poll, Waker};

/// An event that is remembered until one waiter has seen it.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    is_set: Cell<bool>,
    waiters: RefCell<Vec<Waker>>,
}

impl Notify {
    /// Remembers the event and wakes every waiter; the first to look takes it.
    pub(crate) fn notify(&self) {
        self.is_set.set(true);
        for waiter in self.waiters.take() {
            waiter.wake();
        }
    }

    /// Waits for the event, and takes it.
    pub(crate) async fn notified(&self) {
        std::future::poll_fn(|context| {
            if self.is_set.take() {
                return Poll::Ready(());
            }
            self.wait(context.waker());
            Poll::Pending
        })
        .await;
    }

    /// Waits until `condition` holds; looked at after every event, which it does not take.
    pub(crate) async fn until(&self, mut condition: impl FnMut() -> bool) {
        std::future::poll_fn(|context| {
            if condition() {
                return Poll::Ready(());
            }
            self.wait(context.waker());
            Poll::Pending
        })
        .await;
    }

    /// Wakes `waker` at the next event.
    pub(crate) fn wait(&self, waker: &Waker) {
        let mut waiters = self.waiters.borrow_mut();
        if !waiters.iter().any(|waiter| waiter.will_wake(waker)) {
            waiters.push(waker.clone());
        }
    }
}

/// A lock that is held across awaits. All waiters race for it when it is freed.
#[derive(Debug)]
pub(crate) struct AsyncLock<T> {
    value: RefCell<Option<T>>,
    freed: Notify,
}

impl<T> AsyncLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: RefCell::new(Some(value)),
            freed: Notify::default(),
        }
    }

    /// Waits for the value. Dropping the guard gives it back.
    pub(crate) async fn lock(&self) -> LockGuard<'_, T> {
        self.freed.until(|| self.value.borrow().is_some()).await;
        let value = self.value.borrow_mut().take();
        LockGuard { lock: self, value }
    }
}

/// The right to use what an `AsyncLock` holds.
#[derive(Debug)]
pub(crate) struct LockGuard<'a, T> {
    lock: &'a AsyncLock<T>,
    value: Option<T>,
}

impl<T> std::ops::Deref for LockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
            .as_ref()
            .expect("a guard has the value until it is dropped")
    }
}

impl<T> std::ops::DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value
            .as_mut()
            .expect("a guard has the value until it is dropped")
    }
}

impl<T> Drop for LockGuard<'_, T> {
    fn drop(&mut self) {
        *self.lock.value.borrow_mut() = self.value.take();
        self.lock.freed.notify();
    }
}
