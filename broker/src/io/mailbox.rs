//! Mail between cores: for each ordered pair of cores one bounded queue with one writer and one reader.
//!
//! Owns the queues and the wake-up of the receiver. Loses nothing and keeps the order of each pair. Serves the
//! senders in turn, so that none can keep the others out. Each core has a `Mailbox`.
//!
//! # Waking the receiver
//! One flag for each receiver says that it was told of mail and has not looked yet; only who raises it posts a
//! message to its ring. The receiver lowers the flag before it looks: a sender that finds it raised has put
//! its mail in before the receiver looks, a sender that finds it lowered posts again.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use corelane_storage::ring::{Ring, RingAddress};
use rtrb::{Consumer, Producer, RingBuffer};

/// What one queue holds. More waits at the sender, where the lane's own limits bound it.
const QUEUE_ITEMS: usize = 256;

/// Items taken from one sender before the next has its turn.
const TURN_ITEMS: usize = 64;

/// How long a sender waits for room in a queue that was full.
const RETRY: Duration = Duration::from_micros(50);

/// One core's ends of the queues, before it has a ring. Sent to the core's thread.
pub(crate) struct MailboxSeat<T> {
    core: usize,
    outgoing: Vec<Option<Producer<T>>>,
    incoming: Vec<Option<Consumer<T>>>,
    flags: Arc<[AtomicBool]>,
}

/// The seats of `cores` cores.
pub(crate) fn mailboxes<T>(cores: usize) -> Vec<MailboxSeat<T>> {
    let flags: Arc<[AtomicBool]> = (0..cores).map(|_| AtomicBool::new(false)).collect();
    let mut seats: Vec<_> = (0..cores)
        .map(|core| MailboxSeat {
            core,
            outgoing: Vec::new(),
            incoming: Vec::new(),
            flags: flags.clone(),
        })
        .collect();
    for from in 0..cores {
        for to in 0..cores {
            let (producer, consumer) = if from == to {
                (None, None)
            } else {
                let (producer, consumer) = RingBuffer::new(QUEUE_ITEMS);
                (Some(producer), Some(consumer))
            };
            seats[from].outgoing.push(producer);
            seats[to].incoming.push(consumer);
        }
    }
    seats
}

#[cfg(test)]
impl<T> MailboxSeat<T> {
    /// The core that it is for.
    pub(crate) fn core(&self) -> usize {
        self.core
    }
}

/// One core's mail.
pub(crate) struct Mailbox<T> {
    core: usize,
    ring: Ring,
    /// Every core's ring, by core number.
    addresses: Vec<RingAddress>,
    outgoing: RefCell<Vec<Outgoing<T>>>,
    flags: Arc<[AtomicBool]>,
    retry: RefCell<Option<Waker>>,
}

struct Outgoing<T> {
    queue: Option<Producer<T>>,
    /// What found the queue full, oldest first.
    waiting: VecDeque<T>,
}

/// The receiving ends of one core.
pub(crate) struct Incoming<T> {
    queues: Vec<Option<Consumer<T>>>,
    next: usize,
}

impl<T: Send + 'static> Mailbox<T> {
    /// Takes a seat, once every core has told its address.
    pub(crate) fn new(
        seat: MailboxSeat<T>,
        ring: Ring,
        addresses: Vec<RingAddress>,
    ) -> (Rc<Self>, Incoming<T>) {
        let outgoing = seat
            .outgoing
            .into_iter()
            .map(|queue| Outgoing {
                queue,
                waiting: VecDeque::new(),
            })
            .collect();
        let mailbox = Self {
            core: seat.core,
            ring,
            addresses,
            outgoing: RefCell::new(outgoing),
            flags: seat.flags,
            retry: RefCell::default(),
        };
        let incoming = Incoming {
            queues: seat.incoming,
            next: 0,
        };
        (Rc::new(mailbox), incoming)
    }

    /// Sends an item to another core, after everything sent to it before.
    pub(crate) fn send(&self, to: usize, item: T) {
        assert_ne!(to, self.core, "a core has no mail for itself");
        let is_full = {
            let mut outgoing = self.outgoing.borrow_mut();
            outgoing[to].waiting.push_back(item);
            outgoing[to].fill_queue();
            !outgoing[to].waiting.is_empty()
        };
        self.notify(to);
        if is_full && let Some(waker) = self.retry.take() {
            waker.wake();
        }
    }

    /// Items to all cores that these have not taken.
    pub(crate) fn queued(&self) -> usize {
        let outgoing = self.outgoing.borrow();
        let pairs = outgoing.iter();
        pairs
            .map(|pair| {
                let queue = pair.queue.as_ref();
                pair.waiting.len() + queue.map_or(0, |queue| QUEUE_ITEMS - queue.slots())
            })
            .sum()
    }

    fn notify(&self, to: usize) {
        if !self.flags[to].swap(true, Ordering::AcqRel) {
            self.ring.post(&self.addresses[to]);
        }
    }

    /// The task that sends what found a queue full. One for each mailbox, for as long as it is polled.
    pub(crate) async fn retry(self: Rc<Self>) {
        loop {
            poll_fn(|cx| {
                *self.retry.borrow_mut() = Some(cx.waker().clone());
                let outgoing = self.outgoing.borrow();
                if outgoing.iter().any(|pair| !pair.waiting.is_empty()) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            self.ring.sleep(RETRY).await;
            for to in 0..self.addresses.len() {
                let has_more = {
                    let mut outgoing = self.outgoing.borrow_mut();
                    let had_some = !outgoing[to].waiting.is_empty();
                    outgoing[to].fill_queue();
                    had_some
                };
                if has_more {
                    self.notify(to);
                }
            }
        }
    }

    /// The task that receives: hands each item with its sender's number to `deliver`. One for each mailbox, for
    /// as long as it is polled. `woken` is called whenever a message woke the core, mail or not.
    pub(crate) async fn receive(
        self: Rc<Self>,
        mut incoming: Incoming<T>,
        mut deliver: impl FnMut(usize, T),
        mut woken: impl FnMut(),
    ) {
        loop {
            self.ring.messages().await;
            woken();
            self.flags[self.core].swap(false, Ordering::AcqRel);
            while incoming.take_turns(&mut deliver) {
                // Let the core's other tasks run between the rounds.
                self.ring.yield_now().await;
            }
        }
    }
}

impl<T> Outgoing<T> {
    fn fill_queue(&mut self) {
        let Some(queue) = &mut self.queue else {
            return;
        };
        while let Some(item) = self.waiting.pop_front() {
            if let Err(rtrb::PushError::Full(item)) = queue.push(item) {
                self.waiting.push_front(item);
                return;
            }
        }
    }
}

impl<T> Incoming<T> {
    /// One turn of each sender. Says whether there may be more.
    fn take_turns(&mut self, deliver: &mut impl FnMut(usize, T)) -> bool {
        let count = self.queues.len();
        let mut has_more = false;
        for step in 0..count {
            let from = (self.next + step) % count;
            let Some(queue) = &mut self.queues[from] else {
                continue;
            };
            let mut taken = 0;
            while taken < TURN_ITEMS
                && let Ok(item) = queue.pop()
            {
                deliver(from, item);
                taken += 1;
            }
            has_more |= taken == TURN_ITEMS;
        }
        self.next = (self.next + 1) % count.max(1);
        has_more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_have_their_turns() {
        let mut seats = mailboxes::<u32>(3);
        let mut third = Incoming {
            queues: seats.pop().expect("three seats").incoming,
            next: 0,
        };
        for (from, count) in [(0, 200), (1, 3)] {
            let queue = seats[from].outgoing[2].as_mut().expect("another core");
            for item in 0..count {
                queue.push(item).expect("room");
            }
        }
        let mut delivered = Vec::new();
        assert!(third.take_turns(&mut |from, item| delivered.push((from, item))));
        assert_eq!(
            delivered.len(),
            TURN_ITEMS + 3,
            "the second waits for one turn of the first"
        );
        while third.take_turns(&mut |from, item| delivered.push((from, item))) {}
        let of = |sender| delivered.iter().filter(move |(from, _)| *from == sender);
        assert!(of(0).map(|(_, item)| *item).eq(0..200));
        assert!(of(1).map(|(_, item)| *item).eq(0..3));
    }
}
