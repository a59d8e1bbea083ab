//! `TaskGroup`: the tasks of a core that end together.
//!
//! Owns the sign to end and the count of who has not. Tasks are never cancelled: glommio 0.9.0 leaks 62 to
//! 70 bytes for each task that is, so they are detached and end by themselves. One per core.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// A clone is another handle on the same group.
#[derive(Clone, Default)]
pub(crate) struct TaskGroup {
    state: Rc<State>,
}

#[derive(Default)]
struct State {
    is_stopped: Cell<bool>,
    /// The tasks that are to be polled once more when the group is stopped.
    stoppable: RefCell<Vec<Waker>>,
    running: Cell<usize>,
    waiting: RefCell<Option<Waker>>,
}

impl TaskGroup {
    /// Starts a task that ends by itself. It begins in a later turn: glommio polls a new task at once, within the one
    /// that starts it, and tasks that are done at once and start the next would go one level deeper for each.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let state = self.state.clone();
        state.running.set(state.running.get() + 1);
        glommio::spawn_local(async move {
            later().await;
            future.await;
            state.ended();
        })
        .detach();
    }

    /// Starts a task that runs for as long as the core: `stop` drops its future where it stands.
    pub(crate) fn spawn_until_stopped(&self, future: impl Future<Output = ()> + 'static) {
        let mut stop = self.stop_sign();
        self.spawn(async move {
            stop.or(future).await;
        });
    }

    /// For a task that is started by `spawn`, runs for as long as the core, and ends what it has begun.
    pub(crate) fn stop_sign(&self) -> StopSign {
        StopSign {
            state: self.state.clone(),
            is_listed: false,
        }
    }

    /// Ends the tasks that run until they are stopped.
    pub(crate) fn stop(&self) {
        self.state.is_stopped.set(true);
        for waker in self.state.stoppable.take() {
            waker.wake();
        }
    }

    /// Waits until every task has ended.
    pub(crate) async fn ended(&self) {
        poll_fn(|cx| {
            if self.state.running.get() == 0 {
                return Poll::Ready(());
            }
            *self.state.waiting.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Tells one task of a group when the group is stopped.
pub(crate) struct StopSign {
    state: Rc<State>,
    is_listed: bool,
}

impl StopSign {
    /// What a future gives, or nothing once the group is stopped: then the future is dropped where it stands.
    pub(crate) async fn or<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if self.state.is_stopped.get() {
                return Poll::Ready(None);
            }
            // A task of glommio's has one waker for life, so one entry is enough.
            if !self.is_listed {
                self.is_listed = true;
                let waker = cx.waker().clone();
                self.state.stoppable.borrow_mut().push(waker);
            }
            future.as_mut().poll(cx).map(Some)
        })
        .await
    }
}

/// Is ready the second time.
async fn later() {
    let mut is_later = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_later, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl State {
    fn ended(&self) {
        self.running.set(self.running.get() - 1);
        if self.running.get() == 0
            && let Some(waker) = self.waiting.take()
        {
            waker.wake();
        }
    }
}
