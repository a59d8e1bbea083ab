//! One connection: a task that receives and a task that sends.
//!
//! Owns the socket, what waits to be sent on it, and the steps of closing it. Keeps one send in flight and
//! sends what gathered meanwhile in the next. Runs on the core that accepted it.
//!
//! # Closing
//! ```text
//! Open ── close(after_sending) ──> Flushing ── all is sent ──> Lingering ── end of stream, or a second ──> gone
//!   └──── end of stream, error, close ────────────────────────────────────────────────────────────────────> gone
//! ```
//! While it lingers, what still arrives is thrown away: a socket that is closed with unread bytes makes the
//! kernel reset the connection, and the client may lose the last reply, which says why.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use corelane_storage::ring::{Piece, ReceiveControl, Receiver, Ring, SendBatch, SendPart, Socket};

use super::ConnectionEvents;
use crate::lane::ConnectionId;

/// The longest that a connection waits for its last replies to be taken.
const FLUSH_PATIENCE: Duration = Duration::from_secs(10);

/// The longest that a connection waits for the client to go once everything is sent.
const LINGER: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Sends what is waiting, then lingers.
    Flushing,
    /// Has sent its last byte and waits for the client to close.
    Lingering,
    /// To be closed at once.
    Closed,
}

pub(super) struct Connection {
    pub(super) id: ConnectionId,
    socket: Socket,
    receive: ReceiveControl,
    state: Cell<State>,
    /// Whether a send is in flight.
    is_sending: Cell<bool>,
    outbox: RefCell<VecDeque<SendPart>>,
    sender: RefCell<Option<Waker>>,
    receiver: RefCell<Option<Waker>>,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, socket: Socket, receive: ReceiveControl) -> Self {
        Self {
            id,
            socket,
            receive,
            state: Cell::new(State::Open),
            is_sending: Cell::new(false),
            outbox: RefCell::default(),
            sender: RefCell::default(),
            receiver: RefCell::default(),
        }
    }

    /// Queues parts behind what waits already. After `close` nothing is taken any more.
    pub(super) fn send(&self, parts: impl Iterator<Item = SendPart>) {
        if self.state.get() == State::Open {
            self.outbox.borrow_mut().extend(parts);
            wake(&self.sender);
        }
    }

    pub(super) fn set_receiving(&self, on: bool) {
        if self.state.get() != State::Open {
            return;
        }
        if on {
            self.receive.resume();
        } else {
            self.receive.pause();
        }
    }

    pub(super) fn close(&self, after_sending: bool) {
        let next = match self.state.get() {
            State::Open if after_sending => State::Flushing,
            _ if after_sending => return,
            _ => State::Closed,
        };
        self.state.set(next);
        // A paused receive would not see the client go.
        self.receive.resume();
        wake(&self.sender);
        wake(&self.receiver);
    }

    /// The task that receives, and that ends the connection.
    pub(super) async fn receive<E: ConnectionEvents>(
        self: Rc<Self>,
        ring: Ring,
        mut receiver: Receiver,
        events: Rc<E>,
    ) {
        while let Some(piece) = self.next_piece(&mut receiver).await {
            let mut taken = events.received(self.id, &piece);
            while taken < piece.len() && self.state.get() == State::Open {
                ring.yield_now().await;
                taken += events.received(self.id, &piece[taken..]);
            }
        }
        if self.state.get() == State::Flushing {
            let _ = timeout(&ring, FLUSH_PATIENCE, self.discard(&mut receiver)).await;
        }
        if self.state.get() == State::Lingering {
            let _ = timeout(&ring, LINGER, self.discard(&mut receiver)).await;
        }
        self.state.set(State::Closed);
        // Ends a send that waits for the client. Otherwise closing the socket does all of it.
        if self.is_sending.get() {
            self.socket.shut_down();
        }
        self.outbox.take();
        wake(&self.sender);
    }

    /// The next bytes while the connection is open; `None` once it is not.
    async fn next_piece(&self, receiver: &mut Receiver) -> Option<Piece> {
        let mut next = pin!(receiver.next());
        let piece = poll_fn(|cx| {
            if self.state.get() != State::Open {
                return Poll::Ready(Ok(None));
            }
            keep(&self.receiver, cx.waker());
            next.as_mut().poll(cx)
        })
        .await;
        piece.unwrap_or_else(|error| {
            tracing::debug!(connection = %self.id, %error, "the connection is lost");
            None
        })
    }

    /// Throws away what arrives, until the stream ends or the state changes.
    async fn discard(&self, receiver: &mut Receiver) {
        let state = self.state.get();
        loop {
            let mut next = pin!(receiver.next());
            let piece = poll_fn(|cx| {
                if self.state.get() != state {
                    return Poll::Ready(Ok(None));
                }
                keep(&self.receiver, cx.waker());
                next.as_mut().poll(cx)
            })
            .await;
            match piece {
                Ok(Some(_)) => {}
                Ok(None) if self.state.get() == State::Lingering && state == State::Flushing => {
                    return;
                }
                Ok(None) | Err(_) => {
                    self.state.set(State::Closed);
                    return;
                }
            }
        }
    }

    /// The task that sends. Ends when the connection does, or has sent everything that it will.
    pub(super) async fn send_all<E: ConnectionEvents>(self: Rc<Self>, events: Rc<E>) {
        let mut batch = SendBatch::new();
        while self.fill(&mut batch).await {
            self.is_sending.set(true);
            let (result, rest) = self.socket.send(batch).await;
            self.is_sending.set(false);
            batch = rest;
            match result {
                Ok(bytes) if self.state.get() != State::Closed => events.sent(self.id, bytes),
                Ok(_) => return,
                Err(error) => {
                    tracing::debug!(connection = %self.id, %error, "a reply could not be sent");
                    return self.close(false);
                }
            }
        }
    }

    /// Moves what waits into `batch`. Resolves with `false` if there will be nothing more to send.
    fn fill(&self, batch: &mut SendBatch) -> impl Future<Output = bool> {
        poll_fn(move |cx| {
            if self.state.get() == State::Closed {
                return Poll::Ready(false);
            }
            let mut outbox = self.outbox.borrow_mut();
            while !batch.is_full()
                && let Some(part) = outbox.pop_front()
            {
                batch.push(part);
            }
            if !batch.is_empty() {
                return Poll::Ready(true);
            }
            if self.state.get() == State::Flushing {
                self.state.set(State::Lingering);
                self.socket.shut_down_write();
                wake(&self.receiver);
                return Poll::Ready(false);
            }
            keep(&self.sender, cx.waker());
            Poll::Pending
        })
    }
}

/// What `future` resolves with, unless that takes longer.
async fn timeout<T>(
    ring: &Ring,
    patience: Duration,
    future: impl Future<Output = T>,
) -> io::Result<T> {
    let mut future = pin!(future);
    let mut timer = pin!(ring.sleep(patience));
    poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        timer
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    })
    .await
}

fn keep(place: &RefCell<Option<Waker>>, waker: &Waker) {
    let mut place = place.borrow_mut();
    match &mut *place {
        Some(kept) => kept.clone_from(waker),
        None => *place = Some(waker.clone()),
    }
}

fn wake(place: &RefCell<Option<Waker>>) {
    let waker = place.take();
    if let Some(waker) = waker {
        waker.wake();
    }
}
