//! Sockets through the ring: connected sockets, and vectored sends.
//!
//! Owns descriptors and the bytes of a send until it completes. Never queues: one `SendBatch` is one send,
//! and its caller keeps one in flight per connection. Belongs to the core of its ring.

use std::io;
use std::mem::ManuallyDrop;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::{opcode, types};

use crate::memory::AlignedSlice;

use super::ring::Ring;
use super::send_pace::SEND_BYTES_MAX;

/// Small parts are copied together up to this many bytes: one buffer costs the kernel less than many.
const JOIN_BYTES_MAX: usize = 64 * 1024;

/// A part of at most so many bytes is copied behind its predecessor.
const SMALL_BYTES_MAX: usize = 2048;

/// The parts of one send, at most what `sendmsg(2)` takes.
const PARTS_MAX: usize = 512;

/// A connected socket. A clone is another handle; it closes when the last one and every operation are gone.
#[derive(Clone)]
pub struct Socket {
    pub(super) ring: Ring,
    pub(super) descriptor: Rc<OwnedFd>,
}

impl Socket {
    /// A socket to be used through `ring`.
    #[must_use]
    pub fn new(ring: Ring, descriptor: OwnedFd) -> Self {
        Self {
            ring,
            descriptor: Rc::new(descriptor),
        }
    }

    pub(super) fn raw(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }

    /// Sends small replies at once instead of waiting for more to fill a packet.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`.
    pub fn set_no_delay(&self) -> io::Result<()> {
        self.set_option(libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)
    }

    /// Bounds how long sent bytes may go unacknowledged before the connection counts as dead.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`.
    pub fn set_user_timeout(&self, timeout: Duration) -> io::Result<()> {
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        self.set_option(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, millis)
    }

    /// Bounds what the kernel keeps of this connection that the other end has no room for, in bytes, about.
    ///
    /// A send waits once so much is there that could not leave. What is on its way, as much as the link takes, does not count: so
    /// clients that do not read hold little of the kernel's memory, and fast ones far away are not slowed down.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`.
    pub fn set_unsent_max(&self, bytes: u32) -> io::Result<()> {
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        self.set_option(libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, bytes)
    }

    fn set_option(&self, level: i32, name: i32, value: i32) -> io::Result<()> {
        // SAFETY: `value` outlives the call and its size is the one that is passed.
        let result = unsafe {
            libc::setsockopt(
                self.raw(),
                level,
                name,
                (&raw const value).cast(),
                size_of::<i32>() as libc::socklen_t,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// The other end's address.
    ///
    /// # Errors
    /// Those of `getpeername(2)`; `NotConnected` if it is already gone.
    pub fn peer_address(&self) -> io::Result<SocketAddr> {
        // SAFETY: the descriptor is open, and `ManuallyDrop` leaves it so.
        let stream = ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(self.raw()) });
        stream.peer_addr()
    }

    /// Ends both directions: a receive in flight sees the end of the stream and a send fails.
    pub fn shut_down(&self) {
        // SAFETY: the descriptor is open. An error means that the connection is already gone.
        unsafe { libc::shutdown(self.raw(), libc::SHUT_RDWR) };
    }

    /// Says that no more will be sent; what is on its way still arrives.
    pub fn shut_down_write(&self) {
        // SAFETY: the descriptor is open. An error means that the connection is already gone.
        unsafe { libc::shutdown(self.raw(), libc::SHUT_WR) };
    }

    /// Sends the front of what `batch` holds, as much as one send takes, and takes it off; the rest stays for the next
    /// send. Waits its turn while others send.
    ///
    /// # Errors
    /// Those of `sendmsg(2)`: the connection is gone.
    pub async fn send(&self, mut batch: SendBatch) -> (io::Result<usize>, SendBatch) {
        batch.prepare();
        self.ring.admit_send(batch.described).await;
        let fd = types::Fd(self.raw());
        // WAITALL: the kernel itself goes on after a short send, without a round through us.
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let entry = match &batch.vectors[..] {
            [one] => {
                let len = u32::try_from(one.iov_len).expect("a part is smaller than 4 GiB");
                opcode::Send::new(fd, one.iov_base.cast_const().cast(), len)
                    .flags(flags)
                    .build()
            }
            _ => opcode::SendMsg::new(fd, &raw const *batch.header)
                .flags(flags as u32)
                .build(),
        };
        // SAFETY: the operation owns the batch, whose header, vectors and bytes are on the heap, and a handle that
        // keeps the socket open.
        let op = unsafe { self.ring.submit(entry, (batch, self.clone())) };
        let (result, (mut batch, _)) = op.await;
        let result = result.map(|bytes| bytes as usize);
        if let Ok(bytes) = result {
            batch.advance(bytes);
        }
        (result, batch)
    }
}

/// A piece of a reply.
#[derive(Debug)]
pub enum SendPart {
    /// Bytes made for it.
    Bytes(Vec<u8>),
    /// Bytes that lie in the log's memory, sent from there.
    Log(AlignedSlice),
}

impl SendPart {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Log(slice) => slice,
        }
    }
}

/// What one send takes: parts in order. Kept between sends for the memory it holds.
pub struct SendBatch {
    parts: Vec<SendPart>,
    /// Bytes of the first part that were sent already.
    sent: usize,
    bytes: usize,
    /// Bytes that the vectors describe: what the next send is of.
    described: usize,
    vectors: Vec<libc::iovec>,
    header: Box<libc::msghdr>,
}

impl Default for SendBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl SendBatch {
    /// Nothing to send.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: a message header of zeros is a valid one: no address, no vectors, no control data.
        let header = unsafe { std::mem::zeroed() };
        Self {
            parts: Vec::new(),
            sent: 0,
            bytes: 0,
            described: 0,
            vectors: Vec::new(),
            header: Box::new(header),
        }
    }

    /// Bytes that are still to be sent.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether everything was sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether no part can be added before some are sent.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.parts.len() >= PARTS_MAX
    }

    /// Adds a part behind the others.
    ///
    /// # Panics
    /// If it is full.
    pub fn push(&mut self, part: SendPart) {
        assert!(!self.is_full(), "{PARTS_MAX} parts are waiting");
        let bytes = part.bytes();
        if bytes.is_empty() {
            return;
        }
        self.bytes += bytes.len();
        if let Some(SendPart::Bytes(last)) = self.parts.last_mut()
            && bytes.len() <= SMALL_BYTES_MAX
            && last.len() + bytes.len() <= JOIN_BYTES_MAX
        {
            last.extend_from_slice(bytes);
            return;
        }
        self.parts.push(part);
    }

    /// Describes the front of the parts to the kernel. The pointers are good until the parts change.
    fn prepare(&mut self) {
        assert!(!self.is_empty(), "a send has something to send");
        self.vectors.clear();
        self.described = self.bytes.min(SEND_BYTES_MAX);
        let (mut skip, mut left) = (self.sent, self.described);
        for part in &self.parts {
            if left == 0 {
                break;
            }
            let rest = &part.bytes()[skip..];
            let rest = &rest[..rest.len().min(left)];
            skip = 0;
            left -= rest.len();
            self.vectors.push(libc::iovec {
                iov_base: rest.as_ptr().cast_mut().cast(),
                iov_len: rest.len(),
            });
        }
        self.header.msg_iov = self.vectors.as_mut_ptr();
        self.header.msg_iovlen = self.vectors.len();
    }

    fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.bytes, "no more is sent than there was");
        self.bytes -= bytes;
        self.sent += bytes;
        let mut done = 0;
        for part in &self.parts {
            if self.sent < part.bytes().len() {
                break;
            }
            self.sent -= part.bytes().len();
            done += 1;
        }
        self.parts.drain(..done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::AlignedBuf;

    fn contents(batch: &mut SendBatch) -> Vec<u8> {
        batch.prepare();
        let mut bytes = Vec::new();
        for vector in &batch.vectors {
            // SAFETY: `prepare` has just described parts that are still there.
            let part =
                unsafe { std::slice::from_raw_parts(vector.iov_base.cast::<u8>(), vector.iov_len) };
            bytes.extend_from_slice(part);
        }
        bytes
    }

    #[test]
    fn a_short_send_leaves_the_rest_in_order() {
        let log = AlignedBuf::copy_of(&[9; 5000]).freeze();
        let mut expected = vec![1; 3000];
        expected.extend([9; 5000]);
        expected.extend([2; 10]);
        for step in [1, 7, 2999, 3000, 3001, 8005] {
            let mut batch = SendBatch::new();
            batch.push(SendPart::Bytes(vec![1; 3000]));
            batch.push(SendPart::Log(log.clone()));
            batch.push(SendPart::Bytes(vec![2; 10]));
            let mut sent = 0;
            while !batch.is_empty() {
                assert_eq!(contents(&mut batch), expected[sent..], "after {sent} bytes");
                let bytes = step.min(batch.bytes());
                batch.advance(bytes);
                sent += bytes;
            }
            assert_eq!((sent, batch.parts.len()), (expected.len(), 0));
        }
    }

    #[test]
    fn one_send_is_bounded() {
        let log = AlignedBuf::copy_of(&vec![9; SEND_BYTES_MAX - 100]).freeze();
        let mut batch = SendBatch::new();
        for _ in 0..3 {
            batch.push(SendPart::Log(log.clone()));
        }
        let (mut sends, mut bytes) = (0, 0);
        while !batch.is_empty() {
            let front = contents(&mut batch).len();
            assert_eq!(front, batch.described);
            batch.advance(front);
            (sends, bytes) = (sends + 1, bytes + front);
        }
        assert_eq!((sends, bytes), (3, 3 * (SEND_BYTES_MAX - 100)));
    }

    #[test]
    fn small_parts_become_one() {
        let mut batch = SendBatch::new();
        for byte in 0..100 {
            batch.push(SendPart::Bytes(vec![byte; 50]));
        }
        assert_eq!((batch.parts.len(), batch.bytes()), (1, 5000));
        assert!(
            (0..100)
                .flat_map(|byte| [byte; 50])
                .eq(contents(&mut batch))
        );
    }
}
