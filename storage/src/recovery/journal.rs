//! Reading the journal's files from one group to the next.
//!
//! Owns the order of the files and the buffer. Decides nothing: see `judge`.

use std::io;

use uuid::Uuid;

use super::judge::{Expected, GroupState, Testimony, examine, testimony};
use crate::disk::{Disk, DiskFile, OpenOptions};
use crate::journal::{
    FIRST_GROUP, FileId, GroupHeader, HeaderError, JournalFile, JournalHeader, journal_path,
};
use crate::layout::{BLOCK, block_ceiling};
use crate::memory::AlignedBuf;
use crate::store::StoreError;

/// Bytes of one read.
const READ_BYTES: usize = 1 << 20;

/// A journal file that the checkpoint names.
pub(super) struct JournalReader<F> {
    pub(super) file: F,
    pub(super) path: String,
    pub(super) identity: JournalFile,
    bytes: u64,
    buffer: Option<AlignedBuf>,
    buffered_from: u64,
    buffered_to: u64,
}

/// A group with the expected header.
pub(super) struct FoundGroup {
    pub(super) header: GroupHeader,
    pub(super) checksum: u32,
    pub(super) state: GroupState,
    /// The batches of those of its parts that are in segments, each with the index of the part.
    pub(super) extents: Vec<(usize, AlignedBuf)>,
}

/// Opens a file that the checkpoint names, and checks that it is that one.
///
/// # Errors
/// `Ok(Err(reason))` if it is not there as it should be, which fences the store.
pub(super) async fn open_journal<D: Disk>(
    disk: &D,
    dir: &str,
    store: Uuid,
    identity: JournalFile,
) -> Result<Result<JournalReader<D::File>, String>, StoreError> {
    let path = journal_path(dir, identity.number);
    let io_error = |error| StoreError::io("reading", path.clone(), error);
    let file = match disk.open(&path, OpenOptions::EXISTING).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Err(format!("{path} is missing")));
        }
        result => result.map_err(io_error)?,
    };
    let len = file.len().await.map_err(io_error)?;
    if len < BLOCK {
        return Ok(Err(format!(
            "{path} is damaged at byte {len}: the file ends here"
        )));
    }
    let (read, block) = file.read(0, AlignedBuf::zeroed(BLOCK as usize)).await;
    read.map_err(io_error)?;
    let header = match JournalHeader::decode(&block) {
        Ok(header) => header,
        Err(HeaderError::Damaged) => {
            return Ok(Err(format!("{path} is damaged at byte 0: the header")));
        }
        Err(error @ HeaderError::Version(_)) => {
            return Err(StoreError::Unsupported {
                file: path,
                reason: error.to_string(),
            });
        }
    };
    if (header.store, header.number, header.incarnation)
        != (store, identity.number, identity.incarnation)
    {
        return Ok(Err(format!(
            "{path} is not the file that the catalogue names: the header is another's"
        )));
    }
    if len < header.file_bytes {
        return Ok(Err(format!(
            "{path} is damaged at byte {len}: the file ends here, {} bytes were written",
            header.file_bytes
        )));
    }
    Ok(Ok(JournalReader {
        file,
        path,
        identity,
        bytes: len,
        buffer: None,
        buffered_from: 0,
        buffered_to: 0,
    }))
}

impl<F: DiskFile> JournalReader<F> {
    /// The expected group, if its header is there.
    pub(super) async fn find(
        &mut self,
        expected: &Expected,
    ) -> Result<Option<FoundGroup>, StoreError> {
        let position = expected.point.position;
        if position + BLOCK > self.bytes {
            return Ok(None);
        }
        let incarnation: FileId = self.identity.incarnation;
        let found = expected.header(incarnation, self.read(position, BLOCK as usize).await?);
        let Some((header, checksum)) = found else {
            return Ok(None);
        };
        let len = header.padded_length().min(self.bytes - position);
        let state = examine(&header, self.read(position, len as usize).await?);
        Ok(Some(FoundGroup {
            header,
            checksum,
            state,
            extents: Vec::new(),
        }))
    }

    /// The bytes of a group that was found, as far as the file has them.
    pub(super) async fn group(&mut self, header: &GroupHeader) -> Result<&[u8], StoreError> {
        let len = header.padded_length().min(self.bytes - header.position);
        self.read(header.position, len as usize).await
    }

    /// What the groups from a position on say.
    pub(super) async fn testimony(
        &mut self,
        store: Uuid,
        from: u64,
    ) -> Result<Testimony, StoreError> {
        let incarnation = self.identity.incarnation;
        let (mut found, mut position) = (Testimony::default(), from.max(FIRST_GROUP));
        while position + BLOCK <= self.bytes {
            let len = (self.bytes - position).min(READ_BYTES as u64) / BLOCK * BLOCK;
            let bytes = self.read(position, len as usize).await?;
            found = found.and(testimony(store, incarnation, position, bytes));
            position += len;
        }
        Ok(found)
    }

    /// `len` bytes, a multiple of the block, from the buffer or the file.
    async fn read(&mut self, position: u64, len: usize) -> Result<&[u8], StoreError> {
        let end = position + len as u64;
        if position < self.buffered_from || end > self.buffered_to {
            let wanted =
                (len.max(READ_BYTES) as u64).min(block_ceiling(self.bytes) - position) as usize;
            let mut buffer = match self.buffer.take() {
                Some(buffer) if buffer.capacity() >= wanted => buffer,
                _ => AlignedBuf::with_any_contents(wanted),
            };
            buffer.set_len(wanted);
            let (read, buffer) = self.file.read(position, buffer).await;
            self.buffer = Some(buffer);
            (self.buffered_from, self.buffered_to) = (position, position);
            let count =
                read.map_err(|error| StoreError::io("reading", self.path.clone(), error))?;
            if count < len {
                let error = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(StoreError::io("reading", self.path.clone(), error));
            }
            self.buffered_to = position + count as u64;
        }
        let from = (position - self.buffered_from) as usize;
        let buffer = self.buffer.as_ref().expect("something was read");
        Ok(&buffer[from..from + len])
    }
}
