//! `Ledger`: how much memory one core holds, by kind, under a cap.
//!
//! Owns numbers only: it allocates nothing, and whoever reserves must release. Each core has one.

use std::cell::{Cell, RefCell};
use std::task::Waker;

/// What a reservation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryKind {
    /// Bytes received and not handled yet.
    Receive,
    /// The in-memory ends of partitions.
    Tail,
    /// Journal groups that are being built or written.
    Journal,
    /// Segment data read from disk, ahead of or for a reader.
    ReadAhead,
    /// Replies that have not left yet.
    Reply,
    /// Consumer groups that the core coordinates.
    Groups,
    /// The keys that compaction knows, and what it writes anew.
    Compaction,
}

impl MemoryKind {
    /// Every kind, in the order of the enum.
    pub const ALL: [Self; 7] = [
        Self::Receive,
        Self::Tail,
        Self::Journal,
        Self::ReadAhead,
        Self::Reply,
        Self::Groups,
        Self::Compaction,
    ];

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Tail => "tail",
            Self::Journal => "journal",
            Self::ReadAhead => "read_ahead",
            Self::Reply => "reply",
            Self::Groups => "groups",
            Self::Compaction => "compaction",
        }
    }
}

/// The reservation would exceed the cap. An operating error: refuse the work and let the sender retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the core's memory is full: {requested} bytes asked for {kind:?}, {in_use} of {cap} in use"
)]
pub struct LedgerFull {
    /// What the bytes were for.
    pub kind: MemoryKind,
    /// Bytes asked for.
    pub requested: usize,
    /// Bytes reserved by all kinds.
    pub in_use: usize,
    /// The most that may be reserved.
    pub cap: usize,
}

/// Bytes reserved on one core, by kind. Shared as `Rc<Ledger>`.
#[derive(Debug)]
pub struct Ledger {
    cap: usize,
    soft: usize,
    in_use: Cell<usize>,
    by_kind: [Cell<usize>; MemoryKind::ALL.len()],
    /// To be woken when something is released.
    waiters: RefCell<Vec<Waker>>,
}

impl Ledger {
    /// At most `cap` bytes; from `soft` bytes on, the core should slow its senders down.
    ///
    /// # Panics
    /// If `soft` exceeds `cap`.
    #[must_use]
    pub fn new(cap: usize, soft: usize) -> Self {
        assert!(soft <= cap);
        Self {
            cap,
            soft,
            in_use: Cell::new(0),
            by_kind: Default::default(),
            waiters: RefCell::default(),
        }
    }

    /// Accounts for `bytes` that are about to be allocated.
    ///
    /// # Errors
    /// `LedgerFull`, with nothing reserved.
    pub fn reserve(&self, kind: MemoryKind, bytes: usize) -> Result<(), LedgerFull> {
        let in_use = self.in_use.get();
        if bytes > self.cap.saturating_sub(in_use) {
            return Err(LedgerFull {
                kind,
                requested: bytes,
                in_use,
                cap: self.cap,
            });
        }
        self.add(kind, bytes);
        Ok(())
    }

    /// Accounts for `bytes` that cannot be refused, beyond the cap if need be.
    ///
    /// For memory whose bound lies elsewhere, such as a replay of the journal; everybody else is then
    /// refused until it is released.
    pub fn reserve_unbounded(&self, kind: MemoryKind, bytes: usize) {
        self.add(kind, bytes);
    }

    /// Gives `bytes` back.
    ///
    /// # Panics
    /// If fewer were reserved for this kind.
    pub fn release(&self, kind: MemoryKind, bytes: usize) {
        let of_kind = &self.by_kind[kind as usize];
        assert!(
            bytes <= of_kind.get(),
            "released {bytes} bytes of {kind:?}, {} reserved",
            of_kind.get()
        );
        of_kind.set(of_kind.get() - bytes);
        self.in_use.set(self.in_use.get() - bytes);
        for waiter in self.waiters.take() {
            waiter.wake();
        }
    }

    /// Wakes `waker` when bytes are released next, once.
    pub(crate) fn wake_on_release(&self, waker: &Waker) {
        let mut waiters = self.waiters.borrow_mut();
        if !waiters.iter().any(|waiter| waiter.will_wake(waker)) {
            waiters.push(waker.clone());
        }
    }

    /// The most that may be reserved, in bytes.
    #[must_use]
    pub fn cap(&self) -> usize {
        self.cap
    }

    /// Bytes reserved by all kinds.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.in_use.get()
    }

    /// Bytes reserved for one kind.
    #[must_use]
    pub fn in_use_of(&self, kind: MemoryKind) -> usize {
        self.by_kind[kind as usize].get()
    }

    /// Bytes that can still be reserved.
    #[must_use]
    pub fn available(&self) -> usize {
        self.cap.saturating_sub(self.in_use.get())
    }

    /// Whether the soft threshold is reached.
    #[must_use]
    pub fn is_above_soft(&self) -> bool {
        self.in_use.get() >= self.soft
    }

    /// The share of the cap in use; above 1 only after `reserve_unbounded`.
    #[must_use]
    pub fn pressure(&self) -> f32 {
        if self.cap == 0 {
            1.0
        } else {
            self.in_use.get() as f32 / self.cap as f32
        }
    }

    fn add(&self, kind: MemoryKind, bytes: usize) {
        let of_kind = &self.by_kind[kind as usize];
        of_kind.set(of_kind.get() + bytes);
        self.in_use.set(self.in_use.get() + bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_holds_over_all_kinds() {
        let ledger = Ledger::new(100, 80);
        ledger.reserve(MemoryKind::Tail, 60).expect("room");
        ledger.reserve(MemoryKind::Reply, 40).expect("room");
        let full = ledger.reserve(MemoryKind::Receive, 1).expect_err("no room");
        assert_eq!(
            full,
            LedgerFull {
                kind: MemoryKind::Receive,
                requested: 1,
                in_use: 100,
                cap: 100
            }
        );
        assert_eq!(ledger.in_use_of(MemoryKind::Receive), 0);
        ledger.release(MemoryKind::Tail, 10);
        assert_eq!(
            (
                ledger.in_use(),
                ledger.in_use_of(MemoryKind::Tail),
                ledger.available()
            ),
            (90, 50, 10)
        );
        assert!(ledger.reserve(MemoryKind::Journal, usize::MAX).is_err());
    }

    #[test]
    fn the_soft_threshold_is_below_the_cap() {
        let ledger = Ledger::new(100, 80);
        ledger.reserve(MemoryKind::Tail, 79).expect("room");
        assert!(!ledger.is_above_soft());
        ledger.reserve(MemoryKind::Tail, 1).expect("room");
        assert!(ledger.is_above_soft());
        assert!((ledger.pressure() - 0.8).abs() < 1e-6);
    }

    #[test]
    fn what_cannot_be_refused_is_counted_against_the_others() {
        let ledger = Ledger::new(100, 80);
        ledger.reserve_unbounded(MemoryKind::Tail, 150);
        assert_eq!(ledger.available(), 0);
        assert!(ledger.reserve(MemoryKind::Reply, 1).is_err());
        ledger.release(MemoryKind::Tail, 150);
        assert!(ledger.reserve(MemoryKind::Reply, 100).is_ok());
    }

    #[test]
    #[should_panic(expected = "released")]
    fn nobody_releases_what_was_not_reserved() {
        let ledger = Ledger::new(100, 80);
        ledger.reserve(MemoryKind::Tail, 10).expect("room");
        ledger.release(MemoryKind::Reply, 1);
    }
}
