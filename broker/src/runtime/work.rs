//! `WorkQueue`: what one task of a core does for the others, one item after the other.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Items in the order in which they were pushed. The lane bounds how many there are.
pub(super) struct WorkQueue<T> {
    items: RefCell<VecDeque<T>>,
    waker: RefCell<Option<Waker>>,
}

impl<T> WorkQueue<T> {
    pub(super) fn new() -> Self {
        Self {
            items: RefCell::default(),
            waker: RefCell::default(),
        }
    }

    pub(super) fn push(&self, item: T) {
        self.items.borrow_mut().push_back(item);
        let waker = self.waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next item. Awaited by one task.
    pub(super) async fn next(&self) -> T {
        poll_fn(|cx| {
            if let Some(item) = self.items.borrow_mut().pop_front() {
                return Poll::Ready(item);
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}
