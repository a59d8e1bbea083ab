//! The provided buffers: memory that the kernel picks from when bytes arrive.
//!
//! Owns the buffers, their registration with the ring, and the count of who still reads which. A buffer goes
//! back to the kernel when the kernel has left it and every `Piece` of it is dropped. Never copies anything.
//! One pool per ring, small on purpose: four buffers of 256 KiB stay in the second-level cache, which is
//! worth more than a large pool (132 against 114 ns/KB).

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::Waker;

use io_uring::{IoUring, types};

use super::mapping::Mapping;

/// The group that every receive of a ring selects its buffer from.
pub(super) const GROUP: u16 = 0;

/// The size of a receive pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferConfig {
    /// Buffers, a power of two of at most 32,768.
    pub count: u16,
    /// Bytes of each.
    pub bytes: u32,
    /// Lets the kernel fill a buffer piece by piece (`IOU_PBUF_RING_INC`, Linux 6.12). Without it, each
    /// arrival takes a whole buffer, so that more and smaller ones are wanted.
    pub incremental: bool,
}

impl BufferConfig {
    /// For kernels that fill a buffer piece by piece.
    pub const INCREMENTAL: Self = Self {
        count: 4,
        bytes: 256 * 1024,
        incremental: true,
    };
    /// For kernels that give every arrival a whole buffer.
    pub const PLAIN: Self = Self {
        count: 64,
        bytes: 32 * 1024,
        incremental: false,
    };
}

#[derive(Clone, Copy)]
struct Buffer {
    /// Bytes that the kernel has filled since it got the buffer.
    filled: u32,
    /// Pieces that are being read.
    readers: u32,
    /// Whether the kernel may still write to it.
    with_kernel: bool,
}

/// The pool, shared by the ring, its receives, and every piece that is being read.
pub(super) struct BufferPool {
    config: BufferConfig,
    ring: Mapping,
    memory: Mapping,
    buffers: RefCell<Vec<Buffer>>,
    tail: Cell<u16>,
    with_kernel: Cell<u16>,
    waiters: RefCell<Vec<Waker>>,
}

impl BufferPool {
    /// Takes memory and registers it.
    ///
    /// # Errors
    /// `EINVAL` if the kernel lacks provided buffer rings or, when asked for, incremental ones.
    pub(super) fn register(uring: &IoUring, config: BufferConfig) -> io::Result<Rc<Self>> {
        assert!(config.count.is_power_of_two() && config.count <= 1 << 15);
        let ring = Mapping::zeroed(
            usize::from(config.count) * size_of::<types::BufRingEntry>(),
            false,
        )?;
        let memory = Mapping::zeroed(usize::from(config.count) * config.bytes as usize, true)?;
        let flags = if config.incremental {
            types::IOU_PBUF_RING_INC as u16
        } else {
            0
        };
        // SAFETY: the mapping holds `count` entries and lives as long as the pool, which the ring's owner keeps
        // until the ring is gone.
        unsafe {
            uring.submitter().register_buf_ring_with_flags(
                ring.start().as_ptr() as u64,
                config.count,
                GROUP,
                flags,
            )?;
        }
        let absent = Buffer {
            filled: 0,
            readers: 0,
            with_kernel: false,
        };
        let pool = Self {
            config,
            ring,
            memory,
            buffers: RefCell::new(vec![absent; usize::from(config.count)]),
            tail: Cell::new(0),
            with_kernel: Cell::new(0),
            waiters: RefCell::default(),
        };
        for id in 0..config.count {
            pool.give(id);
        }
        Ok(Rc::new(pool))
    }

    pub(super) fn config(&self) -> BufferConfig {
        self.config
    }

    /// Buffers that the kernel may still write to.
    pub(super) fn with_kernel(&self) -> u16 {
        self.with_kernel.get()
    }

    /// Whether enough buffers are with the kernel to start a receive. If not, `waker` is woken when so.
    pub(super) fn poll_ready(&self, waker: &Waker) -> bool {
        let ready = self.is_ready();
        if !ready {
            self.waiters.borrow_mut().push(waker.clone());
        }
        ready
    }

    /// A receive that starts on the last buffer ends at once for want of another: a quarter is waited for.
    fn is_ready(&self) -> bool {
        self.with_kernel.get() * 4 >= self.config.count
    }

    fn start_of(&self, id: u16) -> NonNull<u8> {
        let offset = usize::from(id) * self.config.bytes as usize;
        // SAFETY: `id` is below `count`, so the offset is within the mapping.
        unsafe { self.memory.start().add(offset) }
    }

    /// Hands a buffer that nobody reads to the kernel.
    fn give(&self, id: u16) {
        let tail = self.tail.get();
        let index = usize::from(tail & (self.config.count - 1));
        let entries = self.ring.start().cast::<types::BufRingEntry>();
        // SAFETY: the mapping holds `count` entries and `index` is below that. The kernel reads an entry only
        // once the tail below has passed it, so this is the only access to it now.
        unsafe {
            let entry = entries.add(index).as_mut();
            entry.set_addr(self.start_of(id).as_ptr() as u64);
            entry.set_len(self.config.bytes);
            entry.set_bid(id);
        }
        self.buffers.borrow_mut()[usize::from(id)] = Buffer {
            filled: 0,
            readers: 0,
            with_kernel: true,
        };
        let tail = tail.wrapping_add(1);
        self.tail.set(tail);
        // SAFETY: the tail is the `resv` field of the first entry, within the mapping and 2-aligned; the kernel
        // only reads it, and the release store publishes the entry written above.
        unsafe {
            let field = types::BufRingEntry::tail(entries.as_ptr()).cast::<AtomicU16>();
            (*field).store(tail, Ordering::Release);
        }
        self.with_kernel.set(self.with_kernel.get() + 1);
        if self.is_ready() {
            for waker in self.waiters.take() {
                waker.wake();
            }
        }
    }

    /// Takes over `len` bytes that the kernel says it put into buffer `id`; `more` if it goes on using it.
    pub(super) fn claim(self: &Rc<Self>, id: u16, len: u32, more: bool) -> Piece {
        let mut buffers = self.buffers.borrow_mut();
        let buffer = &mut buffers[usize::from(id)];
        assert!(
            buffer.with_kernel && buffer.filled + len <= self.config.bytes,
            "the kernel fills the buffers it has"
        );
        // SAFETY: `filled` is within the buffer, as asserted.
        let start = unsafe { self.start_of(id).add(buffer.filled as usize) };
        buffer.filled += len;
        buffer.readers += 1;
        let more = more && self.config.incremental;
        if !more {
            buffer.with_kernel = false;
            self.with_kernel.set(self.with_kernel.get() - 1);
        }
        Piece {
            pool: self.clone(),
            id,
            start,
            len,
        }
    }

    fn leave(&self, id: u16) {
        let unused = {
            let mut buffers = self.buffers.borrow_mut();
            let buffer = &mut buffers[usize::from(id)];
            buffer.readers -= 1;
            buffer.readers == 0 && !buffer.with_kernel
        };
        if unused {
            self.give(id);
        }
    }
}

/// Received bytes, in the memory that the kernel put them into.
///
/// Copy out what has to stay: a piece keeps its whole buffer from the kernel, and the pool is small.
pub struct Piece {
    pool: Rc<BufferPool>,
    id: u16,
    start: NonNull<u8>,
    len: u32,
}

impl Piece {
    /// Joins `next` to this piece if it follows it in memory, so that a frame in several arrivals is still
    /// one slice; otherwise gives it back.
    ///
    /// # Errors
    /// The piece that does not follow.
    pub fn join(&mut self, next: Piece) -> Result<(), Piece> {
        // SAFETY: one past the end of our own bytes, which lie within one mapping.
        let end = unsafe { self.start.add(self.len as usize) };
        if next.id != self.id || next.start != end || !Rc::ptr_eq(&next.pool, &self.pool) {
            return Err(next);
        }
        // One buffer, so it is read once more than it needs to be until `next` drops right here.
        self.len += next.len;
        Ok(())
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the kernel has filled these bytes and, until the buffer is given back, writes only beyond
        // them. The buffer is given back when its last piece is gone.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len as usize) }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.pool.leave(self.id);
    }
}
