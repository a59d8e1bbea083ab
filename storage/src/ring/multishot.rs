//! What goes on for as long as somebody wants it: accepting connections, and receiving from one.
//!
//! Owns what has arrived and was not fetched yet, and arms the operation again when the kernel has ended
//! it (no buffer left, its own limits). Never copies. Belongs to the core of its ring.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use io_uring::{cqueue, opcode, types};

use super::buffers::{GROUP, Piece};
use super::ring::Ring;
use super::slots::{Harvest, SlotKey, Stream};
use super::sockets::Socket;

/// Receives from one socket into the ring's pool, for as long as it exists and is not paused.
pub struct Receiver {
    socket: Socket,
    state: Rc<ReceiveState>,
}

struct ReceiveState {
    ring: Ring,
    /// Keeps the descriptor open while the kernel may receive from it.
    _socket: Socket,
    pieces: RefCell<VecDeque<Piece>>,
    /// The operation in the kernel, if any.
    armed: Cell<Option<SlotKey>>,
    paused: Cell<bool>,
    /// Nobody will fetch any more.
    abandoned: Cell<bool>,
    end: Cell<Option<End>>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy)]
enum End {
    Closed,
    Failed(i32),
}

impl Receiver {
    /// Receives from `socket`. Nothing is asked of the kernel before the first `next`.
    #[must_use]
    pub fn new(socket: &Socket) -> Self {
        let state = Rc::new(ReceiveState {
            ring: socket.ring.clone(),
            _socket: socket.clone(),
            pieces: RefCell::default(),
            armed: Cell::new(None),
            paused: Cell::new(false),
            abandoned: Cell::new(false),
            end: Cell::new(None),
            waker: RefCell::default(),
        });
        Self {
            socket: socket.clone(),
            state,
        }
    }

    /// The next bytes, or `None` at the end of the stream.
    ///
    /// Bytes are handed on as they arrived, one `Piece` after the other; those that follow each other in
    /// memory are joined.
    ///
    /// # Errors
    /// The connection's, once everything that arrived before was fetched.
    pub async fn next(&mut self) -> io::Result<Option<Piece>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Piece>>> {
        let state = &self.state;
        if let Some(piece) = state.take_joined() {
            return Poll::Ready(Ok(Some(piece)));
        }
        match state.end.get() {
            Some(End::Closed) => return Poll::Ready(Ok(None)),
            Some(End::Failed(code)) => {
                return Poll::Ready(Err(io::Error::from_raw_os_error(code)));
            }
            None => {}
        }
        *state.waker.borrow_mut() = Some(cx.waker().clone());
        if state.armed.get().is_none() && !state.paused.get() {
            if state.ring.inner.closing.get() {
                return Poll::Ready(Err(io::Error::from_raw_os_error(libc::ECANCELED)));
            }
            if state.ring.inner.pool.poll_ready(cx.waker()) {
                self.arm();
            }
        }
        Poll::Pending
    }

    fn arm(&self) {
        let entry = opcode::RecvMulti::new(types::Fd(self.socket.raw()), GROUP).build();
        // SAFETY: the stream's state keeps the socket open until the last completion; the kernel receives into the
        // pool only.
        let key = unsafe {
            self.socket
                .ring
                .submit_stream(entry, self.state.clone() as Rc<dyn Stream>)
        };
        self.state.armed.set(Some(key));
    }

    /// A handle to pause and resume with, for others than the task that receives.
    #[must_use]
    pub fn control(&self) -> ReceiveControl {
        ReceiveControl {
            state: self.state.clone(),
        }
    }
}

/// Pauses and resumes a `Receiver`. Does nothing once that is gone.
#[derive(Clone)]
pub struct ReceiveControl {
    state: Rc<ReceiveState>,
}

impl ReceiveControl {
    /// Takes in no more bytes. What the kernel received before it hears of this, at most the pool, still comes.
    pub fn pause(&self) {
        self.state.paused.set(true);
        self.state.cancel();
    }

    /// Takes in bytes again.
    pub fn resume(&self) {
        if self.state.paused.replace(false) {
            self.state.wake();
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.state.abandoned.set(true);
        self.state.cancel();
        let pieces = self.state.pieces.take();
        drop(pieces);
    }
}

impl ReceiveState {
    fn cancel(&self) {
        if let Some(key) = self.armed.get() {
            self.ring.cancel(key);
        }
    }

    fn wake(&self) {
        let waker = self.waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn take_joined(&self) -> Option<Piece> {
        let mut pieces = self.pieces.borrow_mut();
        let mut piece = pieces.pop_front()?;
        while let Some(next) = pieces.pop_front() {
            if let Err(next) = piece.join(next) {
                pieces.push_front(next);
                break;
            }
        }
        Some(piece)
    }
}

impl Stream for ReceiveState {
    fn complete(&self, result: i32, flags: u32, more: bool, harvest: &mut Harvest) {
        if !more {
            self.armed.set(None);
        }
        if let Some(id) = cqueue::buffer_select(flags) {
            let len = u32::try_from(result).unwrap_or(0);
            let piece = self
                .ring
                .inner
                .pool
                .claim(id, len, cqueue::buffer_more(flags));
            if self.abandoned.get() || len == 0 {
                harvest.pieces.push(piece);
            } else {
                self.pieces.borrow_mut().push_back(piece);
            }
        }
        match result {
            1.. => {}
            0 => self.end.set(Some(End::Closed)),
            // The pool was empty: armed again when it is not. Cancelled: paused, or to be armed again.
            _ if -result == libc::ENOBUFS => {
                self.ring.inner.count(|stats| stats.buffers_exhausted += 1);
            }
            _ if matches!(-result, libc::ECANCELED | libc::EAGAIN | libc::EINTR) => {}
            _ => self.end.set(Some(End::Failed(-result))),
        }
        harvest.wakers.extend(self.waker.take());
    }
}

/// Accepts connections from one listener, for as long as it exists: one with each turn of the ring.
///
/// An accept with many completions would hand over all that wait, thousands in a storm of connections, and everybody
/// else on the core would wait until the last of them is opened, read and closed.
pub struct Acceptor {
    state: Rc<AcceptState>,
}

struct AcceptState {
    ring: Ring,
    listener: TcpListener,
    accepted: Cell<Option<io::Result<OwnedFd>>>,
    armed: Cell<Option<SlotKey>>,
    abandoned: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Acceptor {
    /// Accepts from `listener`, a socket that is already bound and listening.
    #[must_use]
    pub fn new(ring: &Ring, listener: TcpListener) -> Self {
        let state = Rc::new(AcceptState {
            ring: ring.clone(),
            listener,
            accepted: Cell::default(),
            armed: Cell::new(None),
            abandoned: Cell::new(false),
            waker: RefCell::default(),
        });
        Self { state }
    }

    /// The next connection.
    ///
    /// # Errors
    /// Those of `accept(2)`. `EMFILE` and its like pass; the caller waits a little and asks again.
    pub async fn next(&mut self) -> io::Result<Socket> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Socket>> {
        let state = &self.state;
        if let Some(accepted) = state.accepted.take() {
            let socket = accepted.map(|descriptor| Socket::new(state.ring.clone(), descriptor));
            return Poll::Ready(socket);
        }
        if state.ring.inner.closing.get() {
            return Poll::Ready(Err(io::Error::from_raw_os_error(libc::ECANCELED)));
        }
        if state.armed.get().is_none() {
            let listener = types::Fd(state.listener.as_raw_fd());
            let entry = opcode::Accept::new(listener, ptr::null_mut(), ptr::null_mut())
                .flags(libc::SOCK_CLOEXEC)
                .build();
            // SAFETY: the stream's state keeps the listener open until the completion; no memory is referred to.
            let key = unsafe {
                state
                    .ring
                    .submit_stream(entry, state.clone() as Rc<dyn Stream>)
            };
            state.armed.set(Some(key));
        }
        *state.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.state.abandoned.set(true);
        if let Some(key) = self.state.armed.get() {
            self.state.ring.cancel(key);
        }
        let accepted = self.state.accepted.take();
        drop(accepted);
    }
}

impl Stream for AcceptState {
    fn complete(&self, result: i32, _flags: u32, more: bool, harvest: &mut Harvest) {
        if !more {
            self.armed.set(None);
        }
        let accepted = if result >= 0 {
            // SAFETY: the kernel has just opened the descriptor for us, and tells about it once.
            Ok(unsafe { OwnedFd::from_raw_fd(result) })
        } else {
            Err(io::Error::from_raw_os_error(-result))
        };
        let cancelled = result == -libc::ECANCELED;
        if !self.abandoned.get() && !cancelled {
            self.accepted.set(Some(accepted));
        }
        harvest.wakers.extend(self.waker.take());
    }
}
