//! `Op`: a one-shot operation as a future that owns the operation's memory.
//!
//! Owns that memory until the kernel is done with it: a dropped future leaves it to the slot table. An
//! operation whose future is dropped still happens, unless it was made to be cancelled then. Belongs to the
//! core of its ring.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::ring::Ring;
use super::slots::SlotKey;

/// An operation in flight. Resolves with its result, never negative, and the memory it owned.
#[must_use = "an operation reports its errors through its future"]
pub(super) struct Op<T: 'static> {
    ring: Ring,
    key: SlotKey,
    /// Present until the future has resolved. It may move while the operation is in flight; what the kernel
    /// was told about does not (`Ring::submit`).
    memory: Option<T>,
    is_cancelled_on_drop: bool,
}

impl<T> Op<T> {
    pub(super) fn new(ring: Ring, key: SlotKey, memory: T) -> Self {
        Self {
            ring,
            key,
            memory: Some(memory),
            is_cancelled_on_drop: false,
        }
    }

    /// Has the kernel end the operation early when its future is dropped.
    pub(super) fn cancelled_on_drop(mut self) -> Self {
        self.is_cancelled_on_drop = true;
        self
    }
}

/// The memory is never pinned: only what it points to has to stay where it is.
impl<T> Unpin for Op<T> {}

impl<T> Future for Op<T> {
    type Output = (io::Result<u32>, T);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self
            .ring
            .inner
            .slots
            .borrow_mut()
            .poll(self.key, cx.waker());
        let Some(result) = polled else {
            return Poll::Pending;
        };
        let memory = self
            .memory
            .take()
            .expect("a future is not polled again after it has resolved");
        let result = u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        Poll::Ready((result, memory))
    }
}

impl<T> Drop for Op<T> {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else {
            return;
        };
        // What is dropped here, a waker or memory that the kernel has already left, is dropped after the borrow.
        let mut memory = Some(memory);
        let waker = {
            let mut slots = self.ring.inner.slots.borrow_mut();
            slots.abandon(self.key, || {
                Box::new(memory.take().expect("handed over once"))
            })
        };
        let is_in_flight = memory.is_none();
        drop((waker, memory));
        if is_in_flight && self.is_cancelled_on_drop {
            self.ring.cancel(self.key);
        }
    }
}
