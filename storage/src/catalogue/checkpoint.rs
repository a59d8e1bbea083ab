//! What the superblock of the catalogue says of the journal.
//!
//! Owns its bytes, which `docs/data_dir.md` draws. Pure; used on the core that runs the store.

use corelane_protocol::wire::{DecodeError, Reader, Writer};

use super::CATALOGUE_VERSION;
use crate::journal::{ChainPoint, JournalCheckpoint, JournalFile};

/// What the superblock of the catalogue says of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Raised by every opening of the store.
    pub recovery_epoch: u64,
    /// The first group of this epoch; earlier ones belong to earlier epochs.
    pub epoch_first_sequence: u64,
    /// The incarnation that no journal file has had yet.
    pub next_incarnation: u64,
    /// The newest group known to be durable; 0 if none.
    pub durable_sequence: u64,
    /// Its checksum.
    pub durable_checksum: u32,
    /// The journal's files, and where a replay begins.
    pub journal: JournalCheckpoint,
}

impl Checkpoint {
    /// The checkpoint's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        let mut out = Writer::new(&mut bytes);
        out.u8(CATALOGUE_VERSION);
        out.u64(self.recovery_epoch);
        out.u64(self.epoch_first_sequence);
        out.u64(self.next_incarnation);
        out.u64(self.durable_sequence);
        out.u32(self.durable_checksum);
        out.u64(self.journal.start.position);
        out.u64(self.journal.start.sequence);
        out.u32(self.journal.start.previous_checksum);
        out.u32(self.journal.files.len() as u32);
        for file in &self.journal.files {
            out.u32(file.number);
            out.u64(file.incarnation);
        }
        out.finish().expect("no field is too long");
        bytes
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// The bytes are no checkpoint of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        if input.u8()? != CATALOGUE_VERSION {
            return Err(input.invalid("version of a checkpoint"));
        }
        let checkpoint = Self {
            recovery_epoch: input.u64()?,
            epoch_first_sequence: input.u64()?,
            next_incarnation: input.u64()?,
            durable_sequence: input.u64()?,
            durable_checksum: input.u32()?,
            journal: JournalCheckpoint {
                start: ChainPoint {
                    position: input.u64()?,
                    sequence: input.u64()?,
                    previous_checksum: input.u32()?,
                },
                files: input.list(12, |input| {
                    Ok(JournalFile {
                        number: input.u32()?,
                        incarnation: input.u64()?,
                    })
                })?,
            },
        };
        input.finish()?;
        Ok(checkpoint)
    }
}

/// The most files a checkpoint has room for.
pub(crate) const CHECKPOINT_FILES_MAX: usize = 128;

const _: () = assert!(2 + 8 * 4 + 4 + 8 * 2 + 4 + 4 + CHECKPOINT_FILES_MAX * 12 <= 2048);
