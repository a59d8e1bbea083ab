//! `BlockLog`: a small file of records that must never be lost.
//!
//! Owns the store's catalogue and the cluster's metadata log on disk: appends that are durable on return,
//! checksums that are chained, two alternating superblocks, and compaction by rewriting. Never knows what
//! a record means. Runs on the core that opened it. `docs/data_dir.md` draws its bytes.

pub(crate) mod layout;
mod scan;

use std::io;

use futures_util::lock::Mutex;
use uuid::Uuid;

pub use self::layout::{
    BLOCK_LOG_MAGIC, BLOCK_LOG_VERSION, BlockLogKind, CHECKPOINT_BYTES_MAX, GROUP_BYTES_MAX,
};
use self::layout::{Header, Superblock, encode_group, group_length};
use crate::disk::{BLOCK_BYTES, Disk, DiskFile, Durable, OpenOptions};

/// Room is taken in steps, so that a full disk is met before a write begins.
const ALLOCATION_STEP_BYTES: u64 = 64 * 1024;

/// Room behind the last group that is taken ahead, for what must be recorded though the disk is full.
const RESERVE_BYTES: u64 = 64 * 1024;

/// The most bytes of a group that `rewrite` makes.
const REWRITE_GROUP_BYTES: usize = 256 * 1024;

/// Why an operation on a block log failed.
#[derive(Debug, thiserror::Error)]
pub enum BlockLogError {
    /// The disk's error. After a failed write or flush the log is poisoned; after a full disk it is not.
    #[error("{file}: {source}")]
    Io {
        /// The log's path.
        file: String,
        /// What the disk said.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error(
        "{file} is damaged at byte {position}: {what}; restore the file, or the directory, from a copy"
    )]
    Corrupt {
        /// The log's path.
        file: String,
        /// Where in the file, in bytes.
        position: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// Another release wrote the file.
    #[error(
        "{file} has format version {version}, this release knows {BLOCK_LOG_VERSION}; use the release that wrote it"
    )]
    Version {
        /// The log's path.
        file: String,
        /// The version found.
        version: u16,
    },
    /// The file is a block log of another kind.
    #[error("{file} is a log of kind {found:?}, not {expected:?}; was it moved here?")]
    Kind {
        /// The log's path.
        file: String,
        /// The kind found.
        found: BlockLogKind,
        /// The kind expected.
        expected: BlockLogKind,
    },
    /// An earlier write failed or was abandoned, so nothing is known about the file's end.
    #[error("{file} takes no more records since a write failed; a restart reopens it")]
    Poisoned {
        /// The log's path.
        file: String,
    },
    /// The records do not fit one group, or the checkpoint does not fit a superblock.
    #[error("{file}: {bytes} bytes in one append, at most {bytes_max} are possible")]
    TooLarge {
        /// The log's path.
        file: String,
        /// Bytes of the group or checkpoint.
        bytes: usize,
        /// The most there may be.
        bytes_max: usize,
    },
}

impl BlockLogError {
    /// Whether the disk was full. Unless the log is poisoned, nothing has changed then.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }

    fn io(path: &str, source: io::Error) -> Self {
        Self::Io {
            file: path.to_owned(),
            source,
        }
    }

    fn corrupt(path: &str, position: u64, what: &'static str) -> Self {
        Self::Corrupt {
            file: path.to_owned(),
            position,
            what,
        }
    }
}

/// What a log held when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockLogContents {
    /// The UUID that was given when the log was made.
    pub identity: Uuid,
    /// Every record, oldest first.
    pub records: Vec<Vec<u8>>,
    /// The newest checkpoint.
    pub checkpoint: Vec<u8>,
    /// Whether the last thing written was a clean mark.
    pub is_clean: bool,
    /// Whether a crash had kept the last superblock from being written, and it was written now.
    pub was_repaired: bool,
}

/// An open block log. Its methods may be called while others are under way; they take turns.
pub struct BlockLog<D: Disk> {
    disk: D,
    path: String,
    writer: Mutex<Writer<D::File>>,
}

struct Writer<F> {
    file: F,
    header: Header,
    reached: Superblock,
    /// Room taken, in bytes from the start of the file.
    allocated: u64,
    /// Set while a write is under way, so that one that fails or is abandoned leaves it set for good.
    is_poisoned: bool,
}

impl<D: Disk> BlockLog<D> {
    /// Makes a log in a directory that exists. Durable on return; a crash before leaves no log at `path`.
    ///
    /// # Errors
    /// `Io` (`AlreadyExists` if there is a file), `TooLarge`.
    pub async fn create(
        disk: D,
        path: &str,
        kind: BlockLogKind,
        identity: Uuid,
        records: &[impl AsRef<[u8]>],
        checkpoint: &[u8],
    ) -> Result<Self, BlockLogError> {
        let io_error = |source| BlockLogError::io(path, source);
        if disk.file_len(path).await.map_err(io_error)?.is_some() {
            return Err(io_error(io::ErrorKind::AlreadyExists.into()));
        }
        let header = Header {
            kind,
            identity,
            incarnation: 1,
        };
        let writer = write_new(&disk, path, header, records, checkpoint).await?;
        put_in_place(&disk, path).await.map_err(io_error)?;
        Ok(Self {
            disk,
            path: path.to_owned(),
            writer: Mutex::new(writer),
        })
    }

    /// Opens a log, checks all of it, and makes good what a crash left undone.
    ///
    /// # Errors
    /// `Io` (`NotFound` if there is none), `Corrupt`, `Version`, `Kind`.
    pub async fn open(
        disk: D,
        path: &str,
        kind: BlockLogKind,
    ) -> Result<(Self, BlockLogContents), BlockLogError> {
        let io_error = |source| BlockLogError::io(path, source);
        remove_leftover(&disk, path).await.map_err(io_error)?;
        let file = disk
            .open(path, OpenOptions::EXISTING)
            .await
            .map_err(io_error)?;
        let scanned = scan::scan(file.clone(), path, kind).await?;
        let allocated = file.len().await.map_err(io_error)?;
        let (header, reached) = (scanned.header, scanned.reached);
        // What a killed process had written, renamed or in flight was read, but may be in caches only. A
        // later append takes it for durable.
        file.flush().await.map_err(io_error)?;
        sync_parent(&disk, path).await.map_err(io_error)?;
        if scanned.superblock_missing {
            write_superblock(&file, &header, &reached, Durable::Data)
                .await
                .map_err(io_error)?;
        }
        let contents = BlockLogContents {
            identity: header.identity,
            records: scanned.records,
            checkpoint: reached.checkpoint.clone(),
            is_clean: reached.is_clean,
            was_repaired: scanned.superblock_missing,
        };
        let writer = Writer {
            file,
            header,
            reached,
            allocated,
            is_poisoned: false,
        };
        let log = Self {
            disk,
            path: path.to_owned(),
            writer: Mutex::new(writer),
        };
        Ok((log, contents))
    }

    /// Appends records, all or none of them, and replaces the checkpoint (`None` keeps it). Durable on return.
    ///
    /// A full disk is met while a reserve of room is left, see `append_from_reserve`.
    ///
    /// # Errors
    /// `TooLarge`, or `Io` for a full disk: then the log is as it was. `Io` for anything else, and
    /// `Poisoned` from then on: whether the records are there shows only when the log is opened again.
    pub async fn append(
        &self,
        records: &[impl AsRef<[u8]>],
        checkpoint: Option<&[u8]>,
    ) -> Result<(), BlockLogError> {
        self.write(records, checkpoint, false, Reserve::Keep).await
    }

    /// `append` for what a full disk must not prevent, a little at a time: it may use the reserve.
    ///
    /// # Errors
    /// As `append`.
    pub async fn append_from_reserve(
        &self,
        records: &[impl AsRef<[u8]>],
        checkpoint: Option<&[u8]>,
    ) -> Result<(), BlockLogError> {
        self.write(records, checkpoint, false, Reserve::Use).await
    }

    /// Marks the log as cleanly ended, with a last checkpoint. Durable on return; the next append ends it. It
    /// may use the reserve.
    ///
    /// # Errors
    /// As `append`.
    pub async fn mark_clean(&self, checkpoint: Option<&[u8]>) -> Result<(), BlockLogError> {
        self.write(&[[0; 0]; 0], checkpoint, true, Reserve::Use)
            .await
    }

    /// Replaces the whole log with these records, in a new file. Durable on return; a crash before leaves
    /// the old log or the new one.
    ///
    /// # Errors
    /// As `append`; the log is poisoned only if it is unknown which file has its name.
    pub async fn rewrite(
        &self,
        records: &[impl AsRef<[u8]>],
        checkpoint: &[u8],
    ) -> Result<(), BlockLogError> {
        let mut writer = self.writer.lock().await;
        self.expect_sound(&writer)?;
        let header = Header {
            incarnation: writer.header.incarnation + 1,
            ..writer.header
        };
        let new = match write_new(&self.disk, &self.path, header, records, checkpoint).await {
            Ok(new) => new,
            Err(error) => {
                // It would keep the room that it has taken; one that stays is removed before the next.
                let _ = remove_leftover(&self.disk, &self.path).await;
                return Err(error);
            }
        };
        writer.is_poisoned = true;
        put_in_place(&self.disk, &self.path)
            .await
            .map_err(|source| BlockLogError::io(&self.path, source))?;
        *writer = new;
        Ok(())
    }

    /// Where the last group ends: how many bytes of the file count.
    pub async fn len_bytes(&self) -> u64 {
        self.writer.lock().await.reached.end
    }

    /// Whether a failure keeps the log from taking records until it is opened again.
    pub async fn is_poisoned(&self) -> bool {
        self.writer.lock().await.is_poisoned
    }

    /// The log's path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    async fn write(
        &self,
        records: &[impl AsRef<[u8]>],
        checkpoint: Option<&[u8]>,
        is_clean: bool,
        reserve: Reserve,
    ) -> Result<(), BlockLogError> {
        let mut writer = self.writer.lock().await;
        self.expect_sound(&writer)?;
        let checkpoint = checkpoint.unwrap_or(&writer.reached.checkpoint);
        check_size(&self.path, records, checkpoint)?;
        let (group, reached) = encode_group(
            &writer.header,
            &writer.reached,
            records,
            checkpoint,
            is_clean,
        );
        let io_error = |source| BlockLogError::io(&self.path, source);
        let room = writer.make_room(reached.end, reserve).await;
        room.map_err(io_error)?;
        writer.is_poisoned = true;
        let position = writer.reached.end;
        if crate::planted!(SuperblockFirst) {
            let early = write_superblock(&writer.file, &writer.header, &reached, Durable::Data);
            early.await.map_err(io_error)?;
        }
        writer
            .file
            .write(position, group.into(), Durable::Data)
            .await
            .map_err(io_error)?;
        write_superblock(&writer.file, &writer.header, &reached, Durable::Data)
            .await
            .map_err(io_error)?;
        writer.reached = reached;
        writer.is_poisoned = false;
        Ok(())
    }

    fn expect_sound(&self, writer: &Writer<D::File>) -> Result<(), BlockLogError> {
        if writer.is_poisoned {
            Err(BlockLogError::Poisoned {
                file: self.path.clone(),
            })
        } else {
            Ok(())
        }
    }
}

/// Whether an append may use the room that is kept for what must be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reserve {
    Keep,
    Use,
}

impl<F: DiskFile> Writer<F> {
    /// Sees to it that a group that ends at `end` has its room, and the reserve behind it. The group's durable
    /// write makes that room durable too.
    async fn make_room(&mut self, end: u64, reserve: Reserve) -> io::Result<()> {
        if end + RESERVE_BYTES <= self.allocated {
            return Ok(());
        }
        match self.allocate(room_for(end)).await {
            Err(error) if error.kind() == io::ErrorKind::StorageFull && reserve == Reserve::Use => {
                if end > self.allocated {
                    self.allocate(end.next_multiple_of(BLOCK_BYTES as u64))
                        .await?;
                }
                Ok(())
            }
            allocated => allocated,
        }
    }

    async fn allocate(&mut self, bytes: u64) -> io::Result<()> {
        self.file.allocate(bytes).await?;
        self.allocated = bytes;
        Ok(())
    }
}

/// Bytes of a file whose last group ends at `end`.
fn room_for(end: u64) -> u64 {
    (end + RESERVE_BYTES).next_multiple_of(ALLOCATION_STEP_BYTES)
}

/// Writes a whole log to the file that will take `path`'s name, and makes its bytes durable.
async fn write_new<D: Disk>(
    disk: &D,
    path: &str,
    header: Header,
    records: &[impl AsRef<[u8]>],
    checkpoint: &[u8],
) -> Result<Writer<D::File>, BlockLogError> {
    let io_error = |source| BlockLogError::io(path, source);
    let mut rest = records;
    let mut groups = Vec::new();
    let mut before = Superblock::empty();
    let mut reached = Superblock::empty();
    while groups.is_empty() || !rest.is_empty() {
        let count = fitting(rest, checkpoint);
        check_size(path, &rest[..count], checkpoint)?;
        let (group, after) = encode_group(&header, &reached, &rest[..count], checkpoint, false);
        groups.push((reached.end, group));
        before = std::mem::replace(&mut reached, after);
        rest = &rest[count..];
    }
    remove_leftover(disk, path).await.map_err(io_error)?;
    let written = async {
        let file = disk.open(&leftover(path), OpenOptions::CREATE_NEW).await?;
        let allocated = room_for(reached.end);
        file.allocate(allocated).await?;
        file.write(0, header.encode().into(), Durable::No).await?;
        write_superblock(&file, &header, &before, Durable::No).await?;
        write_superblock(&file, &header, &reached, Durable::No).await?;
        for (position, group) in groups {
            file.write(position, group.into(), Durable::No).await?;
        }
        file.flush().await?;
        Ok((file, allocated))
    };
    let (file, allocated) = written.await.map_err(io_error)?;
    Ok(Writer {
        file,
        header,
        reached,
        allocated,
        is_poisoned: false,
    })
}

/// Gives the new file the log's name, durably.
async fn put_in_place<D: Disk>(disk: &D, path: &str) -> io::Result<()> {
    disk.rename(&leftover(path), path).await?;
    if crate::planted!(RenameNotSynced) {
        return Ok(());
    }
    sync_parent(disk, path).await
}

/// Makes the names in the log's directory durable.
async fn sync_parent<D: Disk>(disk: &D, path: &str) -> io::Result<()> {
    let (directory, _) = path.rsplit_once('/').unwrap_or_default();
    disk.sync_dir(directory).await
}

/// Removes the new file of a rewrite that did not get to its end.
async fn remove_leftover<D: Disk>(disk: &D, path: &str) -> io::Result<()> {
    match disk.remove_file(&leftover(path)).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The name of a log that is not in place yet.
fn leftover(path: &str) -> String {
    format!("{path}.new")
}

async fn write_superblock<F: DiskFile>(
    file: &F,
    header: &Header,
    superblock: &Superblock,
    durable: Durable,
) -> io::Result<()> {
    let position = Superblock::position(superblock.sequence);
    file.write(position, superblock.encode(header).into(), durable)
        .await
}

/// How many of the records go into the next group of a rewritten log: at least one, if there is one.
fn fitting(records: &[impl AsRef<[u8]>], checkpoint: &[u8]) -> usize {
    let mut count = records.len().min(1);
    let mut bytes = group_length(checkpoint, &records[..count]);
    while let Some(record) = records.get(count) {
        bytes += group_length(&[], std::slice::from_ref(record));
        if bytes > REWRITE_GROUP_BYTES {
            break;
        }
        count += 1;
    }
    count
}

fn check_size(
    path: &str,
    records: &[impl AsRef<[u8]>],
    checkpoint: &[u8],
) -> Result<(), BlockLogError> {
    let sizes = [
        (checkpoint.len(), CHECKPOINT_BYTES_MAX),
        (group_length(checkpoint, records), GROUP_BYTES_MAX),
    ];
    match sizes
        .into_iter()
        .find(|(bytes, bytes_max)| bytes > bytes_max)
    {
        Some((bytes, bytes_max)) => Err(BlockLogError::TooLarge {
            file: path.to_owned(),
            bytes,
            bytes_max,
        }),
        None => Ok(()),
    }
}
