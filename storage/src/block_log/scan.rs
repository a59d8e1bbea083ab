//! Opening a block log: which of its bytes count.
//!
//! Owns the rules of `docs/data_dir.md` that tell a crash from damage. Only reads; what must be written after
//! a crash is up to the caller.

use std::io;

use super::layout::{BLOCK, FIRST_GROUP, GroupHeader, Header, HeaderDefect, Superblock};
use super::{BlockLogError, BlockLogKind};
use crate::disk::{BLOCK_BYTES, DiskFile};
use crate::memory::AlignedBuf;

/// How much is read at once.
const WINDOW_BYTES: usize = 256 * 1024;

/// A log that was found sound.
pub(super) struct Scanned {
    pub(super) header: Header,
    /// How far it reaches.
    pub(super) reached: Superblock,
    pub(super) records: Vec<Vec<u8>>,
    /// Whether the last group lacks its superblock.
    pub(super) superblock_missing: bool,
}

pub(super) async fn scan<F: DiskFile>(
    file: F,
    path: &str,
    kind: BlockLogKind,
) -> Result<Scanned, BlockLogError> {
    let mut scan = Scan {
        path,
        window: Window::new(file),
        records: Vec::new(),
    };
    let (header, newest, other_is_valid) = scan.front(kind).await?;
    let mut reached = Superblock::empty();
    while reached.end < newest.end {
        let at = reached.end;
        reached = scan
            .group(&header, &reached)
            .await?
            .map_err(|what| scan.corrupt(at, what))?;
    }
    if reached != newest {
        let position = Superblock::position(newest.sequence);
        return Err(scan.corrupt(position, "the superblock does not name the last group"));
    }
    let Ok(beyond) = scan.group(&header, &reached).await? else {
        scan.expect_no_superblock(&header, reached.end).await?;
        if !other_is_valid {
            let position = Superblock::position(newest.sequence + 1);
            return Err(scan.corrupt(
                position,
                "the superblock is damaged, and no crash explains it",
            ));
        }
        return Ok(Scanned {
            header,
            reached,
            records: scan.records,
            superblock_missing: false,
        });
    };
    if scan.group(&header, &beyond).await?.is_ok() {
        let position = Superblock::position(beyond.sequence);
        return Err(scan.corrupt(
            position,
            "the superblock is older than the log: a write was lost",
        ));
    }
    Ok(Scanned {
        header,
        reached: beyond,
        records: scan.records,
        superblock_missing: true,
    })
}

struct Scan<'a, F> {
    path: &'a str,
    window: Window<F>,
    records: Vec<Vec<u8>>,
}

impl<F: DiskFile> Scan<'_, F> {
    /// The header, the newest superblock, and whether the other one is valid too.
    async fn front(
        &mut self,
        kind: BlockLogKind,
    ) -> Result<(Header, Superblock, bool), BlockLogError> {
        let path = self.path;
        let front = self.window.get(0, FIRST_GROUP as usize).await;
        let front = front.map_err(|source| BlockLogError::io(path, source))?;
        let Some(front) = front else {
            return Err(self.corrupt(0, "the file ends within its first blocks"));
        };
        let (header_block, superblocks) = front.split_at(BLOCK_BYTES);
        let header = Header::decode(header_block).map_err(|defect| match defect {
            HeaderDefect::Damaged(what) => BlockLogError::corrupt(path, 0, what),
            HeaderDefect::Version(version) => BlockLogError::Version {
                file: path.to_owned(),
                version,
            },
        })?;
        if header.kind != kind {
            let (file, found) = (path.to_owned(), header.kind);
            return Err(BlockLogError::Kind {
                file,
                found,
                expected: kind,
            });
        }
        let first = Superblock::decode(&superblocks[..BLOCK_BYTES], BLOCK, &header);
        let second = Superblock::decode(&superblocks[BLOCK_BYTES..], 2 * BLOCK, &header);
        match (first, second) {
            (Some(first), Some(second)) if first.sequence.abs_diff(second.sequence) == 1 => Ok((
                header,
                if first.sequence > second.sequence {
                    first
                } else {
                    second
                },
                true,
            )),
            (Some(_), Some(_)) => Err(self.corrupt(
                BLOCK,
                "the superblocks are not neighbours: a write was lost",
            )),
            (Some(only), None) | (None, Some(only)) => Ok((header, only, false)),
            (None, None) => Err(self.corrupt(BLOCK, "both superblocks are damaged")),
        }
    }

    /// The group that follows `before`, its records taken; or why there is none.
    async fn group(
        &mut self,
        header: &Header,
        before: &Superblock,
    ) -> Result<Result<Superblock, &'static str>, BlockLogError> {
        const BEYOND: &str = "the file ends within a group";
        let path = self.path;
        let io_error = |source| BlockLogError::io(path, source);
        let Some(block) = self
            .window
            .get(before.end, BLOCK_BYTES)
            .await
            .map_err(io_error)?
        else {
            return Ok(Err(BEYOND));
        };
        let group = match GroupHeader::decode(block, header, before) {
            Ok(group) => group,
            Err(what) => return Ok(Err(what)),
        };
        let Some(bytes) = self
            .window
            .get(before.end, group.padded_length())
            .await
            .map_err(io_error)?
        else {
            return Ok(Err(BEYOND));
        };
        Ok(group.decode_body(bytes, before).map(|(reached, records)| {
            self.records.extend(records.into_iter().map(<[u8]>::to_vec));
            reached
        }))
    }

    /// No crash puts a superblock where a group belongs. If one is there, it has destroyed a group that it
    /// was to acknowledge.
    async fn expect_no_superblock(
        &mut self,
        header: &Header,
        position: u64,
    ) -> Result<(), BlockLogError> {
        let path = self.path;
        let block = self.window.get(position, BLOCK_BYTES).await;
        let block = block.map_err(|source| BlockLogError::io(path, source))?;
        let is_superblock =
            |place| block.is_some_and(|block| Superblock::decode(block, place, header).is_some());
        if [BLOCK, 2 * BLOCK].into_iter().any(is_superblock) {
            return Err(self.corrupt(
                position,
                "a superblock is in the place of a group: a write went astray",
            ));
        }
        Ok(())
    }

    fn corrupt(&self, position: u64, what: &'static str) -> BlockLogError {
        BlockLogError::corrupt(self.path, position, what)
    }
}

/// A part of the file, read in large pieces.
struct Window<F> {
    file: F,
    position: u64,
    bytes: AlignedBuf,
}

impl<F: DiskFile> Window<F> {
    fn new(file: F) -> Self {
        Self {
            file,
            position: 0,
            bytes: AlignedBuf::zeroed(0),
        }
    }

    /// `len` bytes at `position`, both multiples of the block, or `None` if the file ends before.
    async fn get(&mut self, position: u64, len: usize) -> io::Result<Option<&[u8]>> {
        if self.within(position, len).is_none() {
            let buf = AlignedBuf::with_any_contents(len.max(WINDOW_BYTES));
            let (count, mut buf) = self.file.read(position, buf).await;
            buf.set_len(count?);
            (self.position, self.bytes) = (position, buf);
        }
        Ok(self.within(position, len))
    }

    fn within(&self, position: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(position.checked_sub(self.position)?).ok()?;
        self.bytes.get(from..from.checked_add(len)?)
    }
}
