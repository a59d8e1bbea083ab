//! `Ring`: the auxiliary io_uring of one core, as its tasks see it.
//!
//! Owns the kernel's ring, the slot table and the receive pool. Pushing an operation makes no system call;
//! the driver task makes them all, one `io_uring_enter` a turn. Never decides when to wait: that is the
//! driver's. Belongs to the core that started it and ends with `close`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use io_uring::{IoUring, opcode, squeue, types};

use super::buffers::{BufferConfig, BufferPool};
use super::driver;
use super::files::FileTable;
use super::message::{RingAddress, SharedAddress};
use super::op::Op;
use super::probe::Features;
use super::send_pace::SendPace;
use super::slots::{CLOSE, Harvest, IGNORED, MESSAGE, SlotKey, Slots, Stream};
use crate::distribution::Distribution;

/// How a ring is sized and when its driver waits. The defaults are measured ones.
#[derive(Clone, Debug)]
pub struct RingConfig {
    /// Entries of the submission queue; what exceeds it waits in memory.
    pub submission_entries: u32,
    /// Entries of the completion queue; what exceeds it waits in the kernel.
    pub completion_entries: u32,
    /// Places in the table of registered files. A file beyond them is used by its descriptor.
    pub fixed_files: u32,
    /// The receive pool; `None` lets the kernel's features decide.
    pub buffers: Option<BufferConfig>,
    /// Turns without progress before the driver waits. Each lets all woken tasks run once, so a chain of so
    /// many tasks that wake each other is never interrupted by a wait.
    pub empty_turns: u32,
    /// The wait inside the ring. After one in vain the driver parks on the eventfd, which lets the executor sleep.
    pub block: Duration,
    /// How often, under load, the executor gets to look at its own rings and timers: seldom, since nothing on
    /// the hot path waits for those.
    pub lap: Duration,
    /// When completions come fast, a wait is for so many …
    pub gather_completions: u32,
    /// … or for so long after the first.
    pub gather: Duration,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self {
            submission_entries: 1024,
            completion_entries: 4096,
            fixed_files: 1024,
            buffers: None,
            empty_turns: 8,
            block: Duration::from_millis(2),
            lap: Duration::from_millis(4),
            gather_completions: 32,
            gather: Duration::from_micros(50),
        }
    }
}

/// What a ring has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStats {
    /// Turns of the driver.
    pub turns: u64,
    /// System calls of the driver.
    pub enters: u64,
    /// Of these, waits inside the ring.
    pub blocks: u64,
    /// Times the driver slept on its eventfd.
    pub parks: u64,
    /// Operations pushed.
    pub submitted: u64,
    /// Completions taken in.
    pub completed: u64,
    /// Receives that ended for want of a buffer.
    pub buffers_exhausted: u64,
    /// Messages received from other rings.
    pub messages: u64,
}

/// A handle on the core's ring. A clone is another handle; nothing here is `Send`.
#[derive(Clone)]
pub struct Ring {
    pub(super) inner: Rc<Inner>,
}

pub(super) struct Inner {
    /// Closed before the memory below it is freed: fields drop in order.
    uring: RefCell<IoUring>,
    pub(super) pool: Rc<BufferPool>,
    pub(super) slots: RefCell<Slots>,
    pub(super) files: RefCell<FileTable>,
    pub(super) send_pace: SendPace,
    /// Operations that found the submission queue full, oldest first.
    backlog: RefCell<VecDeque<squeue::Entry>>,
    /// Operations pushed since the last `io_uring_enter`.
    pub(super) queued: Cell<u32>,
    /// Operations that the kernel has not completed for good.
    pub(super) in_flight: Cell<u32>,
    /// Descriptors that are being closed, part of `in_flight`.
    pub(super) closes: Cell<u32>,
    /// The driver while it sleeps: whoever pushes wakes it.
    pub(super) parked: RefCell<Option<Waker>>,
    /// Set by whoever has more work to come: the driver does not wait in this round.
    pub(super) attention: Cell<bool>,
    pub(super) messages: Cell<u64>,
    pub(super) message_waker: RefCell<Option<Waker>>,
    pub(super) address: Arc<SharedAddress>,
    pub(super) features: Features,
    pub(super) config: RingConfig,
    pub(super) stats: Cell<RingStats>,
    /// How long the core's tasks ran between two turns of the driver, µs.
    pub(super) turn_times: RefCell<Distribution>,
    pub(super) closing: Cell<bool>,
    pub(super) driver_ended: Cell<bool>,
    pub(super) close_waker: RefCell<Option<Waker>>,
    harvest: RefCell<Harvest>,
}

/// How a turn waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Not at all, and without a system call if there is nothing to submit or to fetch.
    No,
    /// Not at all, but looks into the kernel: with `DEFER_TASKRUN` a completion shows only after that.
    Look,
    /// For a completion, bounded by `RingConfig::block`; for several if `gather`.
    Block { gather: bool },
}

impl Ring {
    /// Makes a ring and starts its driver on the glommio executor of this thread.
    ///
    /// # Errors
    /// What the kernel says: `EPERM` if io_uring is disabled, `EINVAL` if it is too old, `ENOMEM` if the limit
    /// of locked memory is too small. `probe` says it in words.
    pub fn start(config: RingConfig, features: &Features) -> io::Result<Self> {
        let mut uring = build(&config)?;
        // SAFETY: no arguments that refer to memory; the result is checked below.
        let eventfd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if eventfd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let eventfd = unsafe { OwnedFd::from_raw_fd(eventfd) };
        uring.submitter().register_eventfd(eventfd.as_raw_fd())?;
        let files = FileTable::register(&uring, config.fixed_files);
        let buffers = config.buffers.unwrap_or(if features.incremental_buffers {
            BufferConfig::INCREMENTAL
        } else {
            BufferConfig::PLAIN
        });
        let pool = BufferPool::register(&uring, buffers)?;
        // SAFETY: duplicates the ring's own descriptor, which is open; the result is checked below.
        let ring_fd = unsafe { libc::fcntl(uring.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0) };
        if ring_fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the duplicate was just made and belongs to nobody else.
        let ring_fd = unsafe { OwnedFd::from_raw_fd(ring_fd) };
        uring.completion().disable_eventfd();
        let inner = Rc::new(Inner {
            uring: RefCell::new(uring),
            pool,
            slots: RefCell::new(Slots::new()),
            files: RefCell::new(files),
            send_pace: SendPace::new(),
            backlog: RefCell::default(),
            queued: Cell::new(0),
            in_flight: Cell::new(0),
            closes: Cell::new(0),
            parked: RefCell::default(),
            attention: Cell::new(false),
            messages: Cell::new(0),
            message_waker: RefCell::default(),
            address: Arc::new(SharedAddress::new(ring_fd, eventfd)),
            features: features.clone(),
            config,
            stats: Cell::default(),
            turn_times: RefCell::new(Distribution::of_micros()),
            closing: Cell::new(false),
            driver_ended: Cell::new(false),
            close_waker: RefCell::default(),
            harvest: RefCell::default(),
        });
        let ring = Self { inner };
        glommio::spawn_local(driver::run(ring.clone())).detach();
        glommio::spawn_local(driver::heartbeat(ring.clone())).detach();
        Ok(ring)
    }

    /// Where other cores post messages to this ring.
    #[must_use]
    pub fn address(&self) -> RingAddress {
        RingAddress::new(self.inner.address.clone())
    }

    /// The kernel features it was started with.
    #[must_use]
    pub fn features(&self) -> &Features {
        &self.inner.features
    }

    /// What the ring has done so far.
    #[must_use]
    pub fn stats(&self) -> RingStats {
        self.inner.stats.get()
    }

    /// How long the core's tasks have kept the driver from its turn, in µs, while it had work: what is long here is
    /// a stall of everything that the core does.
    #[must_use]
    pub fn turn_times(&self) -> Distribution {
        self.inner.turn_times.borrow().clone()
    }

    /// Forgets the turns so far, such as those of a start, when nobody waits for the core yet.
    pub fn forget_turns(&self) {
        self.inner.turn_times.borrow_mut().clear();
    }

    /// Operations in flight whose futures were dropped: their memory is kept until they complete.
    #[must_use]
    pub fn orphans(&self) -> u32 {
        self.inner.slots.borrow().orphans()
    }

    /// Operations that the kernel has not completed.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.inner.in_flight.get()
    }

    /// The receive pool.
    #[must_use]
    pub fn buffers(&self) -> BufferConfig {
        self.inner.pool.config()
    }

    /// Buffers of the receive pool that the kernel may still fill; the others are being read.
    #[must_use]
    pub fn buffers_with_kernel(&self) -> u16 {
        self.inner.pool.with_kernel()
    }

    /// Says that a task has more to do although it awaits no operation: the driver will let it run before it
    /// waits for the kernel. Without it a chain of more than `RingConfig::empty_turns` tasks that wake each other
    /// may be held up by `RingConfig::block`.
    pub fn stay_awake(&self) {
        self.inner.attention.set(true);
    }

    /// Lets every other runnable task of the core run once. A task that yields by itself, without the ring's
    /// knowledge, may wait for `RingConfig::block` instead.
    pub async fn yield_now(&self) {
        self.stay_awake();
        driver::yield_now().await;
    }

    /// Completes with the driver's next turn. Tasks that begin one another without any operation never let the
    /// executor's queue run empty, for which the driver waits now and then: each of them awaits this, so that clients
    /// and disks are looked at in between.
    pub async fn next_turn(&self) {
        let entry = opcode::Nop::new().build();
        // SAFETY: the entry refers to no memory and to no descriptor.
        let (result, ()) = unsafe { self.submit(entry, ()) }.await;
        debug_assert!(
            result.is_ok() || self.inner.closing.get(),
            "nothing cannot fail"
        );
    }

    /// Completes after `duration`, without glommio's timers: their first sleep may take 8 ms instead of 1.
    /// Dropping it takes the timer back.
    pub async fn sleep(&self, duration: Duration) {
        let time = Box::new(types::Timespec::from(duration));
        let entry = opcode::Timeout::new(&raw const *time).build();
        // SAFETY: the entry points to `time`, which the operation owns, in a box that does not move.
        let mut timer = unsafe { self.submit(entry, time) }.cancelled_on_drop();
        let (result, _) = (&mut timer).await;
        debug_assert!(
            result.as_ref().is_err_and(|error| matches!(
                error.raw_os_error(),
                Some(libc::ETIME | libc::ECANCELED)
            )),
            "a timeout ends by time or by cancellation"
        );
    }

    /// Cancels every operation, waits for the kernel to let go of their memory and ends the driver. Futures of
    /// cancelled operations resolve with `ECANCELED`. Nothing may be submitted afterwards.
    pub async fn close(&self) {
        let inner = &self.inner;
        inner.closing.set(true);
        self.wake_driver();
        std::future::poll_fn(|cx| {
            if inner.driver_ended.get() {
                return std::task::Poll::Ready(());
            }
            *inner.close_waker.borrow_mut() = Some(cx.waker().clone());
            std::task::Poll::Pending
        })
        .await;
    }

    /// Resolves when a send of so many bytes may be submitted.
    pub(super) async fn admit_send(&self, bytes: usize) {
        let pace = &self.inner.send_pace;
        if !pace.admit(bytes) {
            self.stay_awake();
            self.wake_driver();
            pace.wait(bytes).await;
        }
    }

    /// Starts a one-shot operation whose memory is `memory`.
    ///
    /// # Safety
    /// Every pointer and descriptor in `entry` must stay valid while `memory` exists, wherever `memory` itself is
    /// moved to; memory that the kernel writes to must not be reachable in any other way.
    pub(super) unsafe fn submit<T: 'static>(&self, entry: squeue::Entry, memory: T) -> Op<T> {
        let key = self.inner.slots.borrow_mut().insert_one_shot();
        self.push(entry.user_data(key.user_data()));
        Op::new(self.clone(), key, memory)
    }

    /// Starts an operation with many completions.
    ///
    /// # Safety
    /// Every descriptor in `entry` must stay valid until the last completion, and `entry` must refer to no memory
    /// but the receive pool.
    pub(super) unsafe fn submit_stream(
        &self,
        entry: squeue::Entry,
        stream: Rc<dyn Stream>,
    ) -> SlotKey {
        let key = self.inner.slots.borrow_mut().insert_stream(stream);
        self.push(entry.user_data(key.user_data()));
        key
    }

    /// Starts an operation that nobody awaits.
    ///
    /// # Safety
    /// `entry` must refer to no memory, and its descriptor must be valid when the driver submits it.
    pub(super) unsafe fn submit_ignored(&self, entry: squeue::Entry) {
        self.push(entry.user_data(IGNORED));
    }

    /// Closes a descriptor in the kernel's own threads: the last close of a file may free its blocks, which
    /// takes time.
    pub(super) fn close_descriptor(&self, descriptor: OwnedFd) {
        let entry = opcode::Close::new(types::Fd(descriptor.into_raw_fd()))
            .build()
            .flags(squeue::Flags::ASYNC);
        self.inner.closes.set(self.inner.closes.get() + 1);
        // The descriptor is open, and given up here to the operation, which closes it.
        self.push(entry.user_data(CLOSE));
    }

    /// Asks the kernel to end an operation early. It completes as it would otherwise, perhaps with `ECANCELED`.
    pub(super) fn cancel(&self, key: SlotKey) {
        let entry = opcode::AsyncCancel::new(key.user_data()).build();
        // SAFETY: the entry refers to no memory and to no descriptor.
        unsafe { self.submit_ignored(entry) };
    }

    pub(super) fn cancel_all(&self) {
        let entry = opcode::AsyncCancel2::new(types::CancelBuilder::any()).build();
        // SAFETY: the entry refers to no memory and to no descriptor.
        unsafe { self.submit_ignored(entry) };
    }

    fn push(&self, entry: squeue::Entry) {
        let inner = &self.inner;
        inner.in_flight.set(inner.in_flight.get() + 1);
        inner.queued.set(inner.queued.get() + 1);
        inner.count(|stats| stats.submitted += 1);
        let mut backlog = inner.backlog.borrow_mut();
        if backlog.is_empty() {
            let mut uring = inner.uring.borrow_mut();
            // SAFETY: whoever made the entry vouches for what it refers to (`submit` and its siblings).
            if unsafe { uring.submission().push(&entry) }.is_err() {
                backlog.push_back(entry);
            }
        } else {
            backlog.push_back(entry);
        }
        drop(backlog);
        self.wake_driver();
    }

    pub(super) fn wake_driver(&self) {
        let parked = self.inner.parked.borrow_mut().take();
        if let Some(waker) = parked {
            waker.wake();
        }
    }
}

fn build(config: &RingConfig) -> io::Result<IoUring> {
    IoUring::builder()
        // One thread submits, so the kernel takes no lock and runs completions only when that thread asks
        // (DEFER_TASKRUN, Linux 6.1): they never interrupt it. TASKRUN_FLAG shows that there are some.
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        // A bad entry does not stop the ones behind it.
        .setup_submit_all()
        .setup_cqsize(config.completion_entries)
        .build(config.submission_entries)
}

impl Inner {
    pub(super) fn count(&self, change: impl FnOnce(&mut RingStats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }

    pub(super) fn enable_eventfd(&self) {
        self.uring.borrow_mut().completion().enable_eventfd();
    }

    pub(super) fn disable_eventfd(&self) {
        self.uring.borrow_mut().completion().disable_eventfd();
    }

    /// Changes the table of registered files; see `FileTable`.
    pub(super) fn update_file(&self, index: u32, descriptor: i32) -> io::Result<()> {
        let uring = self.uring.borrow();
        uring
            .submitter()
            .register_files_update(index, &[descriptor])
            .map(drop)
    }

    /// One turn: at most one system call, then every completion that is there. Returns their number.
    pub(super) fn turn(&self, wait: Wait) -> u32 {
        self.enter(wait);
        let mut harvest = self.harvest.take();
        let completed = self.collect(&mut harvest);
        // Nothing is borrowed from here on: wakers and dropped memory may come back to the ring.
        for waker in harvest.wakers.drain(..) {
            waker.wake();
        }
        harvest.orphans.clear();
        harvest.pieces.clear();
        self.harvest.replace(harvest);
        if self.send_pace.turned() {
            self.attention.set(true);
        }
        completed
    }

    fn enter(&self, wait: Wait) {
        let mut uring = self.uring.borrow_mut();
        let mut queued = self.queued.take();
        let (_, mut submission, completion) = uring.split();
        let mut backlog = self.backlog.borrow_mut();
        while let Some(entry) = backlog.front() {
            // SAFETY: whoever made the entry vouches for what it refers to (`submit` and its siblings).
            if unsafe { submission.push(entry) }.is_err() {
                break;
            }
            backlog.pop_front();
        }
        submission.sync();
        let submit = u32::try_from(submission.len()).expect("the queue's size is a u32");
        queued = queued.max(submit);
        let look = wait == Wait::Look
            || queued > 0
            || submission.taskrun()
            || submission.cq_overflow()
            || !backlog.is_empty();
        let waiting = completion.is_empty() && backlog.is_empty();
        drop((submission, completion));
        self.queued
            .set(u32::try_from(backlog.len()).expect("operations fit memory"));
        drop(backlog);
        let result = match wait {
            Wait::Block { gather } if waiting => {
                self.count(|stats| {
                    stats.enters += 1;
                    stats.blocks += 1;
                });
                let time = types::Timespec::from(self.config.block);
                let mut arguments = types::SubmitArgs::new().timespec(&time);
                let mut want = 1;
                if gather {
                    want = self.config.gather_completions as usize;
                    arguments = arguments.min_wait_usec(self.config.gather.as_micros() as u32);
                }
                uring.submitter().submit_with_args(want, &arguments)
            }
            Wait::No | Wait::Look | Wait::Block { .. } if look => {
                self.count(|stats| stats.enters += 1);
                const GET_EVENTS: u32 = 1;
                // SAFETY: no argument is passed; the entries are vouched for by whoever pushed them.
                unsafe {
                    uring
                        .submitter()
                        .enter::<libc::sigset_t>(submit, 0, GET_EVENTS, None)
                }
            }
            _ => return,
        };
        match result {
            Ok(_) => {}
            // ETIME: nothing came. EINTR: a signal. EBUSY, EAGAIN: the kernel wants its completions taken first;
            // what was not submitted stays in the queue.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) => {}
            Err(error) => panic!("a core cannot go on without its ring: io_uring_enter: {error}"),
        }
    }

    fn collect(&self, harvest: &mut Harvest) -> u32 {
        let mut uring = self.uring.borrow_mut();
        let mut slots = self.slots.borrow_mut();
        let (mut completed, mut messages, mut ended) = (0, 0, 0);
        for entry in uring.completion() {
            completed += 1;
            match entry.user_data() {
                MESSAGE => {
                    messages += 1;
                    continue;
                }
                IGNORED => {}
                CLOSE => self.closes.set(self.closes.get() - 1),
                user_data => slots.complete(user_data, entry.result(), entry.flags(), harvest),
            }
            if !io_uring::cqueue::more(entry.flags()) {
                ended += 1;
            }
        }
        self.in_flight.set(self.in_flight.get() - ended);
        self.count(|stats| {
            stats.turns += 1;
            stats.completed += u64::from(completed);
        });
        if messages > 0 {
            self.take_messages(messages, harvest);
        }
        completed
    }

    fn take_messages(&self, count: u64, harvest: &mut Harvest) {
        self.messages.set(self.messages.get() + count);
        self.count(|stats| stats.messages += count);
        harvest.wakers.extend(self.message_waker.take());
    }

    /// Messages that came through the eventfd, from threads without a ring.
    pub(super) fn take_signal(&self) {
        if self.address.take_signal() {
            self.messages.set(self.messages.get() + 1);
            self.count(|stats| stats.messages += 1);
            if let Some(waker) = self.message_waker.take() {
                waker.wake();
            }
        }
    }
}

impl Drop for Inner {
    /// A ring that was closed has nothing in flight. One that was not may still be written to by the kernel:
    /// then its memory is leaked rather than freed.
    fn drop(&mut self) {
        if self.in_flight.get() > 0 {
            std::mem::forget(self.pool.clone());
            std::mem::forget(self.slots.replace(Slots::new()));
        }
    }
}
