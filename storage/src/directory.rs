//! The data directory itself: the file `corelane.dir` that says whose it is and how many stores it has.
//!
//! Owns that file and the order in which a new directory comes into being: the file is there first, marked
//! as unfinished, and marked as finished once everything else exists. Until then nothing in the directory
//! was ever used, so a start that finds it unfinished begins anew. Never touches what stores keep. Used by
//! the core that starts the broker, before anything else. The format is drawn in `docs/data_dir.md`.

use std::io;

use uuid::Uuid;

use crate::disk::{BLOCK_BYTES, DirEntry, Disk, DiskFile, Durable, OpenOptions, WriteData};
use crate::memory::AlignedBuf;

/// The first bytes of the file.
pub const DIRECTORY_MAGIC: [u8; 8] = *b"CLDATDIR";
/// The version of the format that this code writes and reads.
pub const DIRECTORY_VERSION: u16 = 1;
/// The file's name, at the top of the data directory.
pub const DIRECTORY_FILE: &str = "corelane.dir";

/// The name that the file has while it is written.
const UNFINISHED_FILE: &str = "corelane.dir.new";
/// Directories may nest so deep: a store, a topic, a partition.
const DEPTH_MAX: usize = 8;

mod at {
    pub(super) const VERSION: usize = 8;
    pub(super) const STORES: usize = 10;
    pub(super) const BLOCK_SIZE: usize = 12;
    pub(super) const CLUSTER: usize = 16;
    pub(super) const DIRECTORY: usize = 32;
    pub(super) const STATE: usize = 48;
    pub(super) const CHECKSUM: usize = super::BLOCK_BYTES - 4;
}

const STATE_CREATING: u32 = 0;
const STATE_READY: u32 = 1;

/// What a data directory says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryIdentity {
    /// The cluster that its data belongs to.
    pub cluster: Uuid,
    /// This directory, among all there ever are.
    pub directory: Uuid,
    /// Its stores, numbered from 0; fixed for its life.
    pub stores: u16,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Reading or writing failed.
    #[error("{DIRECTORY_FILE}: {0}")]
    Io(#[from] io::Error),
    /// The file is not what it was written as.
    #[error(
        "{DIRECTORY_FILE} is damaged at byte {position}: {what}; restore it from a copy of the data directory"
    )]
    Damaged {
        /// Where in the file, in bytes.
        position: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// Another version wrote it.
    #[error(
        "{DIRECTORY_FILE} has format version {0}, this build reads {DIRECTORY_VERSION}: run the version that wrote it"
    )]
    Version(u16),
    /// The file is absent, but others are there.
    #[error(
        "{DIRECTORY_FILE} is missing, but the data directory has '{0}': restore the file from a copy, or give \
         an empty directory"
    )]
    Missing(String),
}

/// A data directory that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It is in use since an earlier start.
    Existing(DirectoryIdentity),
    /// It is empty but for its file: make everything in it, then call `finish`.
    New(DirectoryIdentity),
}

/// Opens the data directory at the root of `disk`; an empty one, or one whose making was interrupted,
/// becomes `new`.
///
/// # Errors
/// `DirectoryError`. Nothing is changed in a directory that is not ours.
pub async fn open(disk: &impl Disk, new: DirectoryIdentity) -> Result<Opened, DirectoryError> {
    match read(disk).await? {
        Some((identity, STATE_READY)) => return Ok(Opened::Existing(identity)),
        Some(_) => {
            for entry in disk.list("").await? {
                if is_ours(&entry.name) && entry.name != DIRECTORY_FILE {
                    remove(disk, entry).await?;
                }
            }
        }
        None => {
            let entries = disk.list("").await?;
            let other = entries
                .into_iter()
                .find(|entry| is_ours(&entry.name) && entry.name != UNFINISHED_FILE);
            if let Some(other) = other {
                return Err(DirectoryError::Missing(other.name));
            }
        }
    }
    write(disk, &new, STATE_CREATING).await?;
    Ok(Opened::New(new))
}

/// Marks a new directory as finished, durably.
///
/// # Errors
/// Those of the disk.
pub async fn finish(disk: &impl Disk, identity: &DirectoryIdentity) -> Result<(), DirectoryError> {
    write(disk, identity, STATE_READY).await
}

/// What the file's first block says, for `dump`: the identity and whether the directory is finished.
///
/// # Errors
/// `Damaged` or `Version`.
pub fn decode(block: &[u8]) -> Result<(DirectoryIdentity, bool), DirectoryError> {
    parse(block).map(|(identity, state)| (identity, state == STATE_READY))
}

/// The names that the broker gives at the top of its directory. Others, `lost+found` among them, are left alone.
fn is_ours(name: &str) -> bool {
    name == DIRECTORY_FILE
        || name == UNFINISHED_FILE
        || name == "metadata"
        || name.starts_with("store-")
}

async fn read(disk: &impl Disk) -> Result<Option<(DirectoryIdentity, u32)>, DirectoryError> {
    let file = match disk.open(DIRECTORY_FILE, OpenOptions::EXISTING).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let (read, block) = file.read(0, AlignedBuf::zeroed(BLOCK_BYTES)).await;
    parse(&block[..read?]).map(Some)
}

async fn write(
    disk: &impl Disk,
    identity: &DirectoryIdentity,
    state: u32,
) -> Result<(), DirectoryError> {
    let file = disk.open(UNFINISHED_FILE, OpenOptions::CREATE).await?;
    let block = WriteData::from(encode(identity, state));
    file.write(0, block, Durable::Data).await?;
    disk.rename(UNFINISHED_FILE, DIRECTORY_FILE).await?;
    disk.sync_dir("").await?;
    Ok(())
}

/// Removes an entry of the top directory with everything below it.
async fn remove(disk: &impl Disk, entry: DirEntry) -> io::Result<()> {
    // Visited twice: to list a directory, and to remove it once it is empty.
    let mut pending = vec![(entry.name, entry.is_dir)];
    while let Some((path, is_dir)) = pending.pop() {
        if !is_dir {
            disk.remove_file(&path).await?;
            continue;
        }
        let entries = disk.list(&path).await?;
        if entries.is_empty() {
            disk.remove_dir(&path).await?;
            continue;
        }
        if path.split('/').count() > DEPTH_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let inner: Vec<_> = entries
            .into_iter()
            .map(|entry| (format!("{path}/{}", entry.name), entry.is_dir))
            .collect();
        pending.push((path, true));
        pending.extend(inner);
    }
    Ok(())
}

fn encode(identity: &DirectoryIdentity, state: u32) -> AlignedBuf {
    let mut block = AlignedBuf::zeroed(BLOCK_BYTES);
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &DIRECTORY_MAGIC);
    put(at::VERSION, &DIRECTORY_VERSION.to_le_bytes());
    put(at::STORES, &identity.stores.to_le_bytes());
    put(at::BLOCK_SIZE, &(BLOCK_BYTES as u32).to_le_bytes());
    put(at::CLUSTER, identity.cluster.as_bytes());
    put(at::DIRECTORY, identity.directory.as_bytes());
    put(at::STATE, &state.to_le_bytes());
    let checksum = crc32c::crc32c(&block[..at::CHECKSUM]);
    block[at::CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
    block
}

fn parse(block: &[u8]) -> Result<(DirectoryIdentity, u32), DirectoryError> {
    let damaged = |position: usize, what| DirectoryError::Damaged {
        position: position as u64,
        what,
    };
    if block.len() < BLOCK_BYTES {
        return Err(damaged(block.len(), "the file ends too early"));
    }
    if block[..8] != DIRECTORY_MAGIC {
        return Err(damaged(0, "the magic is another"));
    }
    // Before the checksum: another version may have it elsewhere.
    let version = u16::from_le_bytes(array(block, at::VERSION));
    let checksum = crc32c::crc32c(&block[..at::CHECKSUM]);
    let is_sound = checksum == u32::from_le_bytes(array(block, at::CHECKSUM));
    if version != DIRECTORY_VERSION {
        return Err(if is_sound {
            DirectoryError::Version(version)
        } else {
            damaged(at::VERSION, "the version is unknown and the checksum wrong")
        });
    }
    if !is_sound {
        return Err(damaged(at::CHECKSUM, "the checksum is wrong"));
    }
    let identity = DirectoryIdentity {
        cluster: Uuid::from_bytes(array(block, at::CLUSTER)),
        directory: Uuid::from_bytes(array(block, at::DIRECTORY)),
        stores: u16::from_le_bytes(array(block, at::STORES)),
    };
    let state = u32::from_le_bytes(array(block, at::STATE));
    if identity.stores == 0 {
        return Err(damaged(at::STORES, "there is no store"));
    }
    if state > STATE_READY {
        return Err(damaged(at::STATE, "the state is unknown"));
    }
    Ok((identity, state))
}

fn array<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    block[at..at + N]
        .try_into()
        .expect("the range has its length")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::memory::MemoryDisk;
    use crate::testing::Executor;

    fn identity(number: u128) -> DirectoryIdentity {
        DirectoryIdentity {
            cluster: Uuid::from_u128(number),
            directory: Uuid::from_u128(number + 1),
            stores: 3,
        }
    }

    /// As a start does it: everything else is made between the two marks.
    async fn start(disk: &MemoryDisk, new: DirectoryIdentity) -> DirectoryIdentity {
        match open(disk, new).await.expect("a usable directory") {
            Opened::Existing(identity) => {
                assert!(
                    disk.list("store-0000/topic").await.is_ok(),
                    "everything exists"
                );
                identity
            }
            Opened::New(identity) => {
                for dir in ["store-0000", "store-0000/topic", "metadata"] {
                    disk.create_dir(dir).await.expect("it was removed");
                }
                for dir in ["store-0000", ""] {
                    disk.sync_dir(dir).await.expect("a healthy disk");
                }
                finish(disk, &identity).await.expect("a healthy disk");
                identity
            }
        }
    }

    #[test]
    fn a_directory_keeps_its_identity() {
        let executor = Executor::new(1);
        let disk = MemoryDisk::new(&executor);
        executor.block_on(async {
            assert_eq!(start(&disk, identity(10)).await, identity(10));
            assert_eq!(start(&disk, identity(20)).await, identity(10));
        });
    }

    #[test]
    fn a_crash_at_any_moment_leaves_a_directory_that_starts() {
        for halt_at in 0.. {
            let executor = Executor::new(halt_at);
            let disk = MemoryDisk::new(&executor);
            disk.halt_at(halt_at);
            let finished = executor.try_block_on(start(&disk, identity(10))).is_some();
            for seed in 0..20 {
                let executor = Executor::new(seed);
                let disk = MemoryDisk::from_image(&executor, &disk.crash(seed));
                let survivor = executor.block_on(start(&disk, identity(20)));
                assert!(!finished || survivor == identity(10));
            }
            if finished {
                return;
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let block = encode(&identity(5), STATE_READY);
        assert_eq!(decode(&block).expect("sound"), (identity(5), true));
        for bit in 0..BLOCK_BYTES * 8 {
            let mut block = AlignedBuf::copy_of(&block);
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(
                matches!(decode(&block), Err(DirectoryError::Damaged { .. })),
                "bit {bit}"
            );
        }
        for len in [0, 1, 8, BLOCK_BYTES - 1] {
            assert!(matches!(
                decode(&block[..len]),
                Err(DirectoryError::Damaged { .. })
            ));
        }
    }

    #[test]
    fn data_without_its_file_is_refused_and_strangers_are_left_alone() {
        let executor = Executor::new(1);
        let disk = MemoryDisk::new(&executor);
        executor.block_on(async {
            disk.create_dir("lost+found").await.expect("a healthy disk");
            start(&disk, identity(10)).await;
            disk.remove_file(DIRECTORY_FILE)
                .await
                .expect("a healthy disk");
            let refused = open(&disk, identity(20))
                .await
                .expect_err("a file is missing");
            assert!(refused.to_string().contains("'metadata'"), "{refused}");
            assert!(disk.list("lost+found").await.is_ok());
        });
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut block = encode(&identity(5), STATE_READY);
        block[at::VERSION] = 2;
        let checksum = crc32c::crc32c(&block[..at::CHECKSUM]);
        block[at::CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        assert!(matches!(decode(&block), Err(DirectoryError::Version(2))));
    }
}
