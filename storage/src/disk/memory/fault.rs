//! What can go wrong with an operation of the in-memory disk, and when.

use super::operation::{Operation, OperationKind, Strike};

/// Something that goes wrong, on the operations that match all of its conditions.
///
/// Without conditions it strikes the next operation that its effect can strike, once.
pub struct Fault {
    pub(super) effect: FaultEffect,
    kinds: Vec<OperationKind>,
    number: Option<u64>,
    path: Option<PathPredicate>,
    times_left: u64,
}

type PathPredicate = Box<dyn Fn(&str) -> bool>;

#[derive(Clone, Debug)]
pub(super) enum FaultEffect {
    Error { errno: i32 },
    Lose,
    Misdirect { path: String, position: u64 },
    CorruptRead { byte: usize, bit: u8 },
}

impl FaultEffect {
    pub(super) fn name(&self) -> Strike {
        match self {
            Self::Error { .. } => Strike::Failed,
            Self::Lose => Strike::Lost,
            Self::Misdirect { .. } => Strike::Misdirected,
            Self::CorruptRead { .. } => Strike::Corrupted,
        }
    }
}

impl Fault {
    /// The operation fails with this error number. A failed write may have written any of its blocks; a
    /// failed flush loses unflushed data, and the next one succeeds without it.
    #[must_use]
    pub fn error(errno: i32) -> Self {
        Self::new(FaultEffect::Error { errno }, &[])
    }

    /// The device fails (`EIO`).
    #[must_use]
    pub fn io_error() -> Self {
        Self::error(libc::EIO)
    }

    /// A write, flush or sync says that it succeeded and has done nothing.
    #[must_use]
    pub fn lost() -> Self {
        let kinds = [
            OperationKind::Write,
            OperationKind::Flush,
            OperationKind::SyncDir,
        ];
        Self::new(FaultEffect::Lose, &kinds)
    }

    /// A write succeeds at another place: at `position`, in bytes, of the file at `path`.
    #[must_use]
    pub fn misdirected(path: &str, position: u64) -> Self {
        Self::new(
            FaultEffect::Misdirect {
                path: path.to_owned(),
                position,
            },
            &[OperationKind::Write],
        )
    }

    /// A read returns its bytes with one bit turned over; `byte` counts from the start of the read.
    #[must_use]
    pub fn corrupt_read(byte: usize, bit: u8) -> Self {
        Self::new(
            FaultEffect::CorruptRead { byte, bit },
            &[OperationKind::Read],
        )
    }

    fn new(effect: FaultEffect, kinds: &[OperationKind]) -> Self {
        Self {
            effect,
            kinds: kinds.to_vec(),
            number: None,
            path: None,
            times_left: 1,
        }
    }

    /// Strikes operations of this kind only.
    #[must_use]
    pub fn on(mut self, kind: OperationKind) -> Self {
        self.kinds = vec![kind];
        self
    }

    /// Strikes the operation with this number only.
    #[must_use]
    pub fn at(mut self, number: u64) -> Self {
        self.number = Some(number);
        self
    }

    /// Strikes operations on paths that satisfy `predicate` only.
    #[must_use]
    pub fn in_path(mut self, predicate: impl Fn(&str) -> bool + 'static) -> Self {
        self.path = Some(Box::new(predicate));
        self
    }

    /// Strikes every matching operation from now on.
    #[must_use]
    pub fn forever(mut self) -> Self {
        self.times_left = u64::MAX;
        self
    }

    /// Whether it makes this of the operation that it strikes.
    pub(super) fn makes(&self, strike: Strike) -> bool {
        self.effect.name() == strike
    }

    /// What happens to the operation, if this fault strikes it.
    pub(super) fn strike(&mut self, operation: &Operation) -> Option<FaultEffect> {
        let strikes = self.times_left > 0
            && (self.kinds.is_empty() || self.kinds.contains(&operation.kind))
            && self.number.is_none_or(|number| number == operation.number)
            && self
                .path
                .as_ref()
                .is_none_or(|predicate| predicate(&operation.path));
        strikes.then(|| {
            self.times_left -= 1;
            self.effect.clone()
        })
    }

    pub(super) fn is_spent(&self) -> bool {
        self.times_left == 0
    }
}
