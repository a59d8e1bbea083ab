//! Changes of the catalogue: one at a time, each with the checkpoint of its moment.
//!
//! Owns the turn to change it, and its compaction.

use std::io;

use super::state::Full;
use super::{Store, StoreError};
use crate::block_log::{BlockLog, BlockLogError};
use crate::catalogue::CatalogueRecord;
use crate::disk::Disk;
use crate::journal::CheckpointEffects;

/// The most bytes of records in one append: far below what a block log takes.
const APPEND_BYTES_MAX: usize = 1 << 20;
/// A catalogue below this size is never rewritten.
pub(super) const REWRITE_BYTES_MIN: u64 = 256 << 10;
/// A catalogue is rewritten when it is so many times larger than what it says.
const REWRITE_FACTOR: u64 = 4;
/// About what a record takes, in bytes: generous.
const PARTITION_RECORD_BYTES: u64 = 200;

/// What is appended to the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Usual,
    FromReserve,
    Clean,
}

impl<D: Disk> Store<D> {
    /// Makes records durable, with a checkpoint. All of them are, or (after an error) none may be relied on.
    ///
    /// # Errors
    /// A full disk, after which it may be tried again; anything else fences the store.
    pub(super) async fn record(&self, records: &[CatalogueRecord]) -> Result<(), StoreError> {
        self.record_as(records, Kind::Usual).await
    }

    /// `record` for what goes on though the disk is full: opening, closing, and making room by deletions.
    ///
    /// # Errors
    /// As `record`.
    pub(super) async fn record_from_reserve(
        &self,
        records: &[CatalogueRecord],
    ) -> Result<(), StoreError> {
        self.record_as(records, Kind::FromReserve).await
    }

    async fn record_as(&self, records: &[CatalogueRecord], kind: Kind) -> Result<(), StoreError> {
        let _turn = self.catalogue_turn.lock().await;
        let encoded: Vec<Vec<u8>> = records.iter().map(CatalogueRecord::encode).collect();
        let mut rest = &encoded[..];
        loop {
            let count = fitting(rest);
            self.append_to_catalogue(&rest[..count], kind).await?;
            rest = &rest[count..];
            if rest.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Makes the checkpoint of a closed store durable.
    ///
    /// # Errors
    /// As `record`.
    pub(super) async fn record_clean(&self) -> Result<(), StoreError> {
        let _turn = self.catalogue_turn.lock().await;
        self.append_to_catalogue(&[], Kind::Clean).await?;
        self.is_closed.set(true);
        Ok(())
    }

    /// Rewrites the catalogue if most of it is out of date. A failure leaves the old one, or fences.
    pub(super) async fn compact_catalogue(&self) {
        let Some(catalogue) = &self.catalogue else {
            return;
        };
        let len = catalogue.len_bytes().await;
        let live = self.catalogue_bytes();
        if len < self.compact_at.get() || len < REWRITE_FACTOR * live {
            return;
        }
        if !self.state.borrow().trims.epochs.is_empty() {
            // What is not recorded yet would be twice.
            return;
        }
        let _turn = self.catalogue_turn.lock().await;
        let (records, checkpoint, effects) = {
            let state = self.state.borrow();
            let (checkpoint, effects) = state.checkpoint();
            (state.catalogue_records(), checkpoint, effects)
        };
        let encoded: Vec<Vec<u8>> = records.iter().map(CatalogueRecord::encode).collect();
        match catalogue.rewrite(&encoded, &checkpoint.encode()).await {
            Ok(()) => {
                self.compact_at.set(REWRITE_BYTES_MIN);
                self.checkpointed(effects);
            }
            Err(error) if catalogue.is_poisoned().await => self.fence(error.to_string()),
            Err(error) => {
                // A full disk is not asked again before the catalogue itself found room.
                self.compact_at.set(len + REWRITE_BYTES_MIN);
                tracing::warn!(%error, "the catalogue could not be rewritten; it is tried again when it is longer");
            }
        }
    }

    async fn append_to_catalogue(&self, records: &[Vec<u8>], kind: Kind) -> Result<(), StoreError> {
        if let Some(reason) = &self.state.borrow().fenced {
            return Err(StoreError::Fenced(reason.clone()));
        }
        if self.is_closed.get() {
            return Err(StoreError::Closed);
        }
        let catalogue = self
            .catalogue
            .as_ref()
            .expect("a store without one is fenced");
        let (checkpoint, effects) = self.state.borrow().checkpoint();
        let checkpoint = checkpoint.encode();
        let appended = match kind {
            Kind::Usual => catalogue.append(records, Some(&checkpoint)).await,
            Kind::FromReserve => {
                let appended = catalogue.append_from_reserve(records, Some(&checkpoint));
                appended.await
            }
            Kind::Clean => catalogue.mark_clean(Some(&checkpoint)).await,
        };
        match appended {
            Ok(()) => {
                if kind == Kind::Usual {
                    self.set_catalogue_full(false);
                }
                self.checkpointed(effects);
                Ok(())
            }
            Err(error) => Err(self.catalogue_failed(catalogue, error).await),
        }
    }

    /// A checkpoint is durable, and journal files may be armed or free by it.
    fn checkpointed(&self, effects: CheckpointEffects) {
        let mut state = self.state.borrow_mut();
        state.files.checkpointed(effects);
        self.tell_news(&state);
        self.wake.commit.notify();
    }

    /// A full disk leaves the catalogue as it was, unless it was met in the middle of a write.
    async fn catalogue_failed(&self, catalogue: &BlockLog<D>, error: BlockLogError) -> StoreError {
        let reason = format!("writing the catalogue failed: {error}");
        match error {
            BlockLogError::Io { file, source }
                if source.kind() == io::ErrorKind::StorageFull
                    && !catalogue.is_poisoned().await =>
            {
                self.set_catalogue_full(true);
                StoreError::io("writing", file, source)
            }
            _ => {
                self.fence(reason.clone());
                StoreError::Fenced(reason.into())
            }
        }
    }

    fn set_catalogue_full(&self, is_full: bool) {
        let mut state = self.state.borrow_mut();
        let full = Full {
            catalogue: is_full,
            ..state.full
        };
        state.set_full(full);
        self.tell_news(&state);
    }

    fn catalogue_bytes(&self) -> u64 {
        let state = self.state.borrow();
        let parts: usize = state
            .partitions
            .iter()
            .map(|(_, partition)| {
                let segments = partition.sealed.len() + partition.expired.len();
                segments + partition.epochs.starts().len() + partition.readers.states.len()
            })
            .sum();
        let parts = (state.partitions.len() + parts) as u64;
        parts * PARTITION_RECORD_BYTES + state.producers_bytes as u64
    }
}

/// How many of the records go into one append.
fn fitting(records: &[Vec<u8>]) -> usize {
    let mut bytes = 0;
    let fitting = records.iter().take_while(|record| {
        bytes += record.len();
        bytes <= APPEND_BYTES_MAX
    });
    fitting.count().max(records.len().min(1))
}
