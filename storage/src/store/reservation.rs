//! Reserved memory that gives itself back.

use std::rc::Rc;

use crate::memory::{Ledger, LedgerFull, MemoryKind};

/// Bytes reserved in a ledger until this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    ledger: Rc<Ledger>,
    kind: MemoryKind,
    bytes: usize,
}

impl Reservation {
    /// Reserves `bytes`.
    ///
    /// # Errors
    /// `LedgerFull`.
    pub(crate) fn new(
        ledger: &Rc<Ledger>,
        kind: MemoryKind,
        bytes: usize,
    ) -> Result<Self, LedgerFull> {
        ledger.reserve(kind, bytes)?;
        Ok(Self {
            ledger: Rc::clone(ledger),
            kind,
            bytes,
        })
    }

    /// Reserves `bytes` whose number is bounded elsewhere.
    pub(crate) fn unbounded(ledger: &Rc<Ledger>, kind: MemoryKind, bytes: usize) -> Self {
        ledger.reserve_unbounded(kind, bytes);
        Self {
            ledger: Rc::clone(ledger),
            kind,
            bytes,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.ledger.release(self.kind, self.bytes);
    }
}
