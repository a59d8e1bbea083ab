//! The relay's io_uring: one connection, one file, and the memory between them.
//!
//! Owns what the kernel reads and writes: the receive buffers, the memory that is written from, and the
//! acknowledgement being sent. Decides nothing. Belongs to the thread that made it, which drops it only when
//! nothing is in flight.
#![expect(
    unsafe_code,
    reason = "the kernel reads and writes memory that operations point to"
)]

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};

use corelane_storage::memory::AlignedBuf;
use io_uring::{IoUring, cqueue, opcode, squeue, types};

/// Receive buffers that the kernel fills piece by piece: a small pool, which stays in the second-level cache.
const INCREMENTAL: (u16, usize) = (4, 256 << 10);
/// Buffers that each take one arrival, for kernels before 6.12.
const WHOLE: (u16, usize) = (64, 32 << 10);
const GROUP: u16 = 0;
const RECEIVE: u64 = u64::MAX;
const SEND: u64 = u64::MAX - 1;

/// What has happened.
#[derive(Debug)]
pub(super) enum Event {
    /// Bytes have arrived; to be given back with [`Ring::release`].
    Received(Piece),
    /// The connection has ended, or receiving must be started again (`ENOBUFS`).
    ReceiveEnded(io::Result<()>),
    /// The write of this number has ended.
    Written(u64, io::Result<usize>),
    /// The acknowledgement has left.
    Sent(io::Result<usize>),
}

/// Bytes in a receive buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    buffer: u16,
    start: usize,
    len: usize,
    is_last: bool,
    /// Whether the multishot receive that brought it goes on.
    pub(super) goes_on: bool,
}

/// See the module.
pub(super) struct Ring {
    uring: IoUring,
    socket: types::Fd,
    file: types::Fd,
    memory: AlignedBuf,
    buffers: AlignedBuf,
    entries: AlignedBuf,
    buffer_bytes: usize,
    buffer_count: u16,
    filled: Vec<usize>,
    tail: u16,
    acknowledgement: Box<u64>,
    pub(super) is_incremental: bool,
    pub(super) is_registered: bool,
}

impl Ring {
    /// Sets it up. The socket and the file must outlive it.
    pub(super) fn new(socket: &TcpStream, file: &File, memory_bytes: usize) -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(4096)
            .build(256)?;
        let memory = AlignedBuf::zeroed(memory_bytes);
        let vector = libc::iovec {
            iov_base: memory.as_ptr().cast_mut().cast(),
            iov_len: memory.len(),
        };
        // SAFETY: the memory is kept as long as the ring, whose owner drops both when nothing is in flight.
        let registered = unsafe { uring.submitter().register_buffers(&[vector]) };
        let mut ring = Self {
            uring,
            socket: types::Fd(socket.as_raw_fd()),
            file: types::Fd(file.as_raw_fd()),
            memory,
            buffers: AlignedBuf::zeroed(INCREMENTAL.0 as usize * INCREMENTAL.1),
            entries: AlignedBuf::zeroed(4096),
            buffer_bytes: 0,
            buffer_count: 0,
            filled: Vec::new(),
            tail: 0,
            acknowledgement: Box::new(0),
            is_incremental: true,
            is_registered: registered.is_ok(),
        };
        if ring
            .provide(INCREMENTAL, types::IOU_PBUF_RING_INC as u16)
            .is_err()
        {
            ring.is_incremental = false;
            ring.buffers = AlignedBuf::zeroed(WHOLE.0 as usize * WHOLE.1);
            ring.provide(WHOLE, 0)?;
        }
        for buffer in 0..ring.buffer_count {
            ring.give(buffer);
        }
        Ok(ring)
    }

    fn provide(&mut self, (count, bytes): (u16, usize), flags: u16) -> io::Result<()> {
        let address = self.entries.as_ptr() as u64;
        // SAFETY: the page of entries holds more than `count` and is kept as long as the ring.
        unsafe {
            let submitter = self.uring.submitter();
            submitter.register_buf_ring_with_flags(address, count, GROUP, flags)?;
        }
        (self.buffer_count, self.buffer_bytes) = (count, bytes);
        self.filled = vec![0; usize::from(count)];
        Ok(())
    }

    fn give(&mut self, buffer: u16) {
        let offset = usize::from(buffer) * self.buffer_bytes;
        let address = self.buffers[offset..][..self.buffer_bytes].as_mut_ptr();
        let index = usize::from(self.tail & (self.buffer_count - 1));
        let entries = self.entries.as_mut_ptr().cast::<types::BufRingEntry>();
        self.filled[usize::from(buffer)] = 0;
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `index` is below the count of entries in the page. The kernel reads an entry only once the
        // tail has passed it; the tail lies in the first entry, 2-aligned, and is stored after the entry.
        unsafe {
            let entry = &mut *entries.add(index);
            entry.set_addr(address as u64);
            entry.set_len(self.buffer_bytes as u32);
            entry.set_bid(buffer);
            let tail = types::BufRingEntry::tail(entries).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }

    /// Starts receiving, until [`Event::ReceiveEnded`] or a piece that does not go on.
    pub(super) fn receive(&mut self) -> io::Result<()> {
        let receive = opcode::RecvMulti::new(self.socket, GROUP).build();
        self.push(receive.user_data(RECEIVE))
    }

    /// Writes from memory to the file, durably.
    pub(super) fn write(
        &mut self,
        number: u64,
        range: Range<usize>,
        position: u64,
    ) -> io::Result<()> {
        let bytes = &self.memory[range];
        let (start, len) = (bytes.as_ptr(), bytes.len() as u32);
        let entry = if self.is_registered {
            opcode::WriteFixed::new(self.file, start, len, 0)
                .offset(position)
                .rw_flags(libc::RWF_DSYNC)
                .build()
        } else {
            opcode::Write::new(self.file, start, len)
                .offset(position)
                .rw_flags(libc::RWF_DSYNC)
                .build()
        };
        self.push(entry.user_data(number))
    }

    /// Sends an acknowledgement. Not again before [`Event::Sent`].
    pub(super) fn acknowledge(&mut self, bytes: u64) -> io::Result<()> {
        *self.acknowledgement = bytes.to_le();
        let start = (&raw const *self.acknowledgement).cast::<u8>();
        let send = opcode::Send::new(self.socket, start, 8).flags(libc::MSG_NOSIGNAL);
        self.push(send.build().user_data(SEND))
    }

    fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: what the entry points to belongs to this ring and is neither moved nor freed before the
            // ring has ended; nobody writes to it meanwhile, which the log sees to.
            let pushed = unsafe { self.uring.submission().push(&entry) };
            if pushed.is_ok() {
                return Ok(());
            }
            self.uring.submit()?;
        }
    }

    /// Submits what was pushed and waits until something has happened.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        match self.uring.submit_and_wait(1) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// The next thing that has happened.
    pub(super) fn next(&mut self) -> Option<Event> {
        let entry = self.uring.completion().next()?;
        let result = match entry.result() {
            error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
            bytes => Ok(bytes as usize),
        };
        Some(match entry.user_data() {
            RECEIVE => self.received(result, entry.flags()),
            SEND => Event::Sent(result),
            number => Event::Written(number, result),
        })
    }

    fn received(&mut self, result: io::Result<usize>, flags: u32) -> Event {
        let (len, buffer) = match (result, cqueue::buffer_select(flags)) {
            (Ok(len), Some(buffer)) if len > 0 => (len, buffer),
            (Err(error), _) => return Event::ReceiveEnded(Err(error)),
            _ => return Event::ReceiveEnded(Ok(())),
        };
        let filled = &mut self.filled[usize::from(buffer)];
        let start = usize::from(buffer) * self.buffer_bytes + *filled;
        *filled += len;
        Event::Received(Piece {
            buffer,
            start,
            len,
            is_last: !(self.is_incremental && cqueue::buffer_more(flags)),
            goes_on: cqueue::more(flags),
        })
    }

    /// The bytes of a piece.
    pub(super) fn bytes(&self, piece: &Piece) -> &[u8] {
        &self.buffers[piece.start..][..piece.len]
    }

    /// Copies the front of a piece to memory, and leaves the rest.
    pub(super) fn copy(&mut self, piece: &mut Piece, to: Range<usize>) {
        let bytes = to.len();
        self.memory[to].copy_from_slice(&self.buffers[piece.start..][..bytes]);
        piece.start += bytes;
        piece.len -= bytes;
    }

    /// Zeroes a range of memory.
    pub(super) fn zero(&mut self, range: Range<usize>) {
        self.memory[range].fill(0);
    }

    /// Ends reading a piece; the buffer goes back if the kernel has left it.
    pub(super) fn release(&mut self, piece: Piece) {
        if piece.is_last {
            self.give(piece.buffer);
        }
    }
}

impl Piece {
    /// Bytes not copied yet.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}
