//! Messages between rings: how one core wakes another.
//!
//! Owns the address of a ring, which any thread may hold, and the count of messages that have arrived. A
//! message carries nothing: what it is about lies in a queue between the two cores. Never blocks.

use std::future::poll_fn;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use io_uring::{opcode, types};

use super::ring::Ring;
use super::slots::MESSAGE;

/// What all holders of a ring's address share. Keeps both descriptors open, so that a message to a ring
/// that is gone reaches nobody else.
pub(super) struct SharedAddress {
    ring: OwnedFd,
    eventfd: OwnedFd,
    /// Set before the eventfd is signalled for a message, since the kernel signals it too.
    signalled: AtomicBool,
}

impl SharedAddress {
    pub(super) fn new(ring: OwnedFd, eventfd: OwnedFd) -> Self {
        Self {
            ring,
            eventfd,
            signalled: AtomicBool::new(false),
        }
    }

    pub(super) fn eventfd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }

    pub(super) fn signal_eventfd(&self) {
        // SAFETY: the descriptor is open and the call refers to no memory of ours. It fails only when the
        // counter is full, and then the reader is woken anyway.
        unsafe { libc::eventfd_write(self.eventfd.as_raw_fd(), 1) };
    }

    pub(super) fn take_signal(&self) -> bool {
        self.signalled.swap(false, Ordering::AcqRel)
    }
}

/// The address of a ring, to be given to other threads.
#[derive(Clone)]
pub struct RingAddress {
    shared: Arc<SharedAddress>,
}

impl RingAddress {
    pub(super) fn new(shared: Arc<SharedAddress>) -> Self {
        Self { shared }
    }

    /// Sends a message from a thread that has no ring. It arrives within some ms when the core is busy and at
    /// once when it sleeps; cores among themselves use `Ring::post`, which is faster.
    pub fn signal(&self) {
        self.shared.signalled.store(true, Ordering::Release);
        self.shared.signal_eventfd();
    }
}

impl Ring {
    /// Sends a message to another core's ring: it wakes whether it turns, waits or sleeps.
    ///
    /// Nothing is reported: posting fails only when that ring is gone.
    pub fn post(&self, to: &RingAddress) {
        if !self.inner.features.message_ring {
            return to.signal();
        }
        let target = types::Fd(to.shared.ring.as_raw_fd());
        let entry = opcode::MsgRingData::new(target, 0, MESSAGE, None).build();
        // SAFETY: the entry refers to no memory but to the descriptor that the address keeps open, and the
        // operation owns a clone of the address until it completes.
        let op = unsafe { self.submit(entry, to.clone()) };
        drop(op);
    }

    /// Waits until messages have arrived and returns their number. One task of a core does so.
    pub async fn messages(&self) -> u64 {
        let inner = &self.inner;
        poll_fn(|cx| {
            let count = inner.messages.take();
            if count > 0 {
                return Poll::Ready(count);
            }
            *inner.message_waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}
