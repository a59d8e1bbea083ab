//! One operation of the in-memory disk, as its trace and its faults name it.

use std::rc::Rc;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the method of its name")]
pub enum OperationKind {
    Open,
    CreateDir,
    RemoveFile,
    RemoveDir,
    Rename,
    List,
    SyncDir,
    FileLen,
    FreeBytes,
    Read,
    Write,
    Flush,
    Allocate,
    Truncate,
    Len,
}

impl OperationKind {
    /// Whether it can change what the device holds; a crash just before one that cannot is a crash before the
    /// next one that can.
    #[must_use]
    pub fn is_change(self) -> bool {
        !matches!(
            self,
            Self::List | Self::FileLen | Self::FreeBytes | Self::Read | Self::Len
        )
    }
}

/// An operation that has completed, well or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which one it was, from 0, in the order of completion.
    pub number: u64,
    /// What it did.
    pub kind: OperationKind,
    /// The file or directory; for a rename the old path.
    pub path: Rc<str>,
    /// Where in the file, in bytes; 0 where that means nothing.
    pub position: u64,
    /// How many bytes; 0 where that means nothing.
    pub len: u64,
    /// The fault that struck it.
    pub struck: Option<Strike>,
}

/// What a fault has made of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strike {
    /// It failed.
    Failed,
    /// It said that it succeeded and did nothing.
    Lost,
    /// It wrote to another place.
    Misdirected,
    /// It returned other bytes than are stored.
    Corrupted,
}

impl Operation {
    pub(super) fn new(kind: OperationKind, path: &Rc<str>) -> Self {
        Self {
            number: 0,
            kind,
            path: Rc::clone(path),
            position: 0,
            len: 0,
            struck: None,
        }
    }

    pub(super) fn of_range(kind: OperationKind, path: &Rc<str>, position: u64, len: usize) -> Self {
        Self {
            position,
            len: len as u64,
            ..Self::new(kind, path)
        }
    }
}
