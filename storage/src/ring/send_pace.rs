//! How many bytes of sends one turn of the driver hands to the kernel.
//!
//! A send copies its bytes within the system call that submits it, and on the loopback does the receiver's work too. The
//! core does nothing else meanwhile: 300 sends at once took 0.8 s. So what one turn submits is bounded, and sends beyond
//! that go with the next turns, in their order; only small ones, such as receipts, never wait. Never looks at a socket.
//! Pure; one for each ring.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// The most bytes of one send: what is left goes with a later one.
pub(super) const SEND_BYTES_MAX: usize = 256 * 1024;

/// The bytes after which a turn takes no further send.
const TURN_BYTES: usize = 512 * 1024;

/// A send of at most so many bytes goes with the next turn whatever waits.
const SMALL_BYTES_MAX: usize = 16 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct SendPace {
    /// Bytes that the next turn may still take.
    left: Cell<usize>,
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
}

/// A send that goes with a later turn.
#[derive(Debug)]
struct Waiter {
    bytes: usize,
    is_admitted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl SendPace {
    pub(super) fn new() -> Self {
        Self {
            left: Cell::new(TURN_BYTES),
            waiting: RefCell::default(),
        }
    }

    /// Whether a send of so many bytes goes with the next turn. Otherwise its caller awaits `wait`.
    pub(super) fn admit(&self, bytes: usize) -> bool {
        if bytes > SMALL_BYTES_MAX && (self.left.get() == 0 || !self.waiting.borrow().is_empty()) {
            return false;
        }
        self.left.set(self.left.get().saturating_sub(bytes));
        true
    }

    /// Resolves when a send of so many bytes may be submitted, behind those that wait already. One that is dropped costs
    /// its turn, and nothing else.
    pub(super) async fn wait(&self, bytes: usize) {
        let waiter = Rc::new(Waiter {
            bytes,
            is_admitted: Cell::new(false),
            waker: RefCell::default(),
        });
        self.waiting.borrow_mut().push_back(waiter.clone());
        poll_fn(|context| {
            if waiter.is_admitted.get() {
                return Poll::Ready(());
            }
            *waiter.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// A turn has submitted what there was. Returns whether sends go on that had to wait.
    pub(super) fn turned(&self) -> bool {
        self.left.set(TURN_BYTES);
        let mut has_admitted = false;
        while self.left.get() > 0 {
            let Some(waiter) = self.waiting.borrow_mut().pop_front() else {
                break;
            };
            self.left.set(self.left.get().saturating_sub(waiter.bytes));
            waiter.is_admitted.set(true);
            has_admitted = true;
            let waker = waiter.waker.take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        has_admitted
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::Context;

    use super::*;

    /// Takes out the waits that are admitted, and asserts that they are the first ones; how many they were.
    fn admitted<F: Future<Output = ()>>(waits: &mut VecDeque<Pin<Box<F>>>) -> usize {
        let mut context = Context::from_waker(Waker::noop());
        let is_ready: Vec<_> = (waits.iter_mut())
            .map(|wait| wait.as_mut().poll(&mut context).is_ready())
            .collect();
        let count = is_ready.iter().filter(|is_ready| **is_ready).count();
        assert!(
            is_ready[..count].iter().all(|is_ready| *is_ready),
            "in their order"
        );
        drop(waits.drain(..count));
        count
    }

    #[test]
    fn a_turn_takes_so_many_bytes_and_the_next_ones_the_rest_in_order() {
        let pace = SendPace::new();
        assert!(pace.admit(SEND_BYTES_MAX) && pace.admit(SEND_BYTES_MAX - 1));
        assert!(pace.admit(SEND_BYTES_MAX), "there was a byte left");
        assert!(!pace.admit(SMALL_BYTES_MAX + 1), "there is none");
        assert!(pace.admit(SMALL_BYTES_MAX), "small ones never wait");
        let mut waits: VecDeque<_> = (0..5)
            .map(|_| Box::pin(pace.wait(SEND_BYTES_MAX)))
            .collect();
        // Each is polled once before any is admitted, so that all have their places.
        assert_eq!(admitted(&mut waits), 0);
        assert!(pace.turned());
        assert_eq!((admitted(&mut waits), waits.len()), (2, 3));
        assert!(!pace.admit(SEND_BYTES_MAX), "whoever comes later waits");
        assert!(pace.turned());
        assert_eq!((admitted(&mut waits), waits.len()), (2, 1));
        assert!(pace.turned());
        assert_eq!((admitted(&mut waits), waits.len()), (1, 0));
        assert!(pace.admit(1) && !pace.turned());
    }

    #[test]
    fn a_send_that_is_given_up_holds_nobody_up() {
        let pace = SendPace::new();
        assert!(pace.admit(TURN_BYTES));
        let mut context = Context::from_waker(Waker::noop());
        {
            let mut dropped = pin!(pace.wait(TURN_BYTES));
            assert!(dropped.as_mut().poll(&mut context).is_pending());
        }
        let mut next = pin!(pace.wait(1));
        assert!(next.as_mut().poll(&mut context).is_pending());
        assert!(pace.turned() && pace.turned());
        assert!(next.as_mut().poll(&mut context).is_ready());
    }
}
