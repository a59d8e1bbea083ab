//! What the passing of time asks for, and the journal task: makes journal files ready before they are needed.
//!
//! Owns the writing of new files in full, of headers, and the checkpoints that arm and free files.

use std::io;
use std::rc::Rc;

use corelane_protocol::Timestamp;

use super::partition::Status;
use super::state::State;
use super::{Store, StoreError};
use crate::disk::{Disk, DiskFile, Durable, OpenOptions, WriteData};
use crate::journal::{Arming, JournalHeader, journal_path};
use crate::layout::BLOCK;
use crate::memory::AlignedBuf;

/// A new journal file is written in pieces of this size.
const PREWRITE_BYTES: u64 = 256 << 10;

impl State {
    /// See `Store::tick`.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        let wants_room = std::mem::take(&mut self.wants_room);
        self.flush_waiting(now, wants_room);
        if wants_room {
            self.fence_if_stuck();
        }
        if self.seal.is_wanted && self.planner.is_idle() {
            let since = self
                .seal
                .last_append
                .map_or(i64::MAX, |last| now.get().saturating_sub(last.get()));
            self.seal.is_due = since < 0 || since >= self.config.seal_after_ms;
        }
        if self.is_cache_full() {
            self.evict();
            self.wants_memory |= self.ledger.is_above_soft();
        } else {
            self.pool.collect();
        }
    }
}

impl State {
    /// Makes the weak partitions due whose `flush.ms` is over; all that wait if their batches take the
    /// journal's room from others.
    fn flush_waiting(&mut self, now: Timestamp, wants_room: bool) {
        for handle in std::mem::take(&mut self.waiting) {
            let Some(partition) = self.partitions.get_mut(handle) else {
                continue;
            };
            partition.flags.is_waiting = false;
            let Some(since) = partition.unflushed_since else {
                continue;
            };
            // A clock that went back makes it due as well.
            let elapsed = now.get().saturating_sub(since.get());
            let flush_ms = partition.config.flush_ms;
            let is_over = flush_ms.is_some_and(|limit| elapsed < 0 || elapsed as u64 >= limit)
                && !crate::planted!(FlushMsForgotten);
            if is_over || wants_room {
                self.make_due(handle);
            } else {
                partition.flags.is_waiting = true;
                self.waiting.push(handle);
            }
        }
    }

    /// Fences the store if nothing can give the journal room again: its oldest file is needed by partitions
    /// only whose segments could not be written.
    ///
    /// Appends would be refused as retriable for ever otherwise. A restart recovers.
    fn fence_if_stuck(&mut self) {
        let Some(oldest) = self.files.oldest_of_full() else {
            return;
        };
        let mut stuck = None;
        for (_, partition) in self.partitions.iter() {
            if partition.pins.front().is_some_and(|pin| pin.file == oldest) {
                match &partition.status {
                    Status::Fenced(reason) => stuck = Some((partition.id, Rc::clone(reason))),
                    Status::Online | Status::Failed(_) => return,
                }
            }
        }
        if let Some((partition, reason)) = stuck {
            self.fence(format!(
                "the journal is full of what {partition} could not write to its segment ({reason}); a restart \
                 recovers"
            ));
        }
    }
}

impl<D: Disk> Store<D> {
    /// Makes journal files ready until the store is closed or fenced.
    pub(super) async fn run_journal(self: Rc<Self>) {
        let _work = self.begin_work();
        loop {
            if self.has_ended() {
                return;
            }
            let arming = self.state.borrow_mut().files.next_arming();
            let mut is_stuck = false;
            if let Some(arming) = arming {
                is_stuck = !self.arm(arming).await;
            }
            if self.state.borrow().files.wants_checkpoint() {
                // A failure fences the store, or is a full disk, and then it is tried again later.
                is_stuck |= self.record(&[]).await.is_err();
            } else if arming.is_none() {
                is_stuck = true;
            }
            if is_stuck && !self.has_ended() {
                self.wake.journal.notified().await;
            }
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        let state = self.state.borrow();
        state.is_closing || state.fenced.is_some()
    }

    /// Makes a file ready for groups. Returns whether that worked.
    async fn arm(&self, arming: Arming) -> bool {
        let path = journal_path(&self.dir, arming.file.number);
        let result = self.prepare(arming, &path).await;
        let mut state = self.state.borrow_mut();
        match result {
            Ok(()) => state.files.prepared(arming.file),
            Err(error) => {
                let is_news = state.files.preparation_failed(arming);
                let is_harmless = arming.is_new || error.kind() == io::ErrorKind::StorageFull;
                if is_news {
                    tracing::warn!(
                        path,
                        %error,
                        "a journal file could not be made ready; it is tried again and again"
                    );
                }
                self.wake.spill.notify();
                if !is_harmless {
                    state.fence(format!("writing the header of {path} failed: {error}"));
                    drop(state);
                    self.wake_all();
                }
                return false;
            }
        }
        true
    }

    async fn prepare(&self, arming: Arming, path: &str) -> io::Result<()> {
        let (file_bytes, recovery_epoch) = {
            let state = self.state.borrow();
            (state.config.journal_file_bytes, state.chain.recovery_epoch)
        };
        let known = self
            .journal_files
            .borrow()
            .get(&arming.file.number)
            .cloned();
        let file = match known {
            Some(file) => file,
            None if arming.is_new => self.create_journal(path).await?,
            None => self.disk.open(path, OpenOptions::CREATE).await?,
        };
        // A file that is too short was made when the configured size was smaller.
        if arming.is_new || file.len().await? < file_bytes {
            prewrite(&file, file_bytes).await?;
            self.sync_shared_dir(&self.dir).await?;
        }
        write_header(
            &file,
            JournalHeader {
                store: self.uuid,
                incarnation: arming.file.incarnation,
                recovery_epoch,
                file_bytes,
                number: arming.file.number,
            },
        )
        .await?;
        self.journal_files
            .borrow_mut()
            .insert(arming.file.number, file);
        Ok(())
    }

    /// Makes an empty file, in the place of one whose making failed: after a failed flush nothing is known of
    /// that one, whatever later flushes say.
    async fn create_journal(&self, path: &str) -> io::Result<D::File> {
        match self.disk.remove_file(path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.disk.open(path, OpenOptions::CREATE_NEW).await
    }
}

impl<D: Disk> Store<D> {
    /// Makes the names in a directory durable that several tasks put names into.
    ///
    /// After a failure the names of all of them are in doubt, and a later success proves nothing. So the
    /// store is fenced.
    pub(super) async fn sync_shared_dir(&self, dir: &str) -> io::Result<()> {
        if crate::planted!(DirectorySyncSkipped) {
            return Ok(());
        }
        let synced = self.disk.sync_dir(dir).await;
        if let Err(error) = &synced {
            self.fence(format!("flushing the directory {dir} failed: {error}"));
        }
        synced
    }
}

/// Writes a whole file with zeros and makes it durable, so that later writes to it change no metadata.
pub(super) async fn prewrite<F: DiskFile>(file: &F, bytes: u64) -> io::Result<()> {
    file.allocate(bytes).await?;
    let zeros = AlignedBuf::zeroed(PREWRITE_BYTES.min(bytes) as usize).freeze();
    let mut position = 0;
    while position < bytes {
        let len = (bytes - position).min(zeros.len() as u64);
        file.write(
            position,
            WriteData::from(zeros.slice(0..len as usize)),
            Durable::No,
        )
        .await?;
        position += len;
    }
    file.flush().await
}

/// Writes a journal file's header block, durably.
pub(super) async fn write_header<F: DiskFile>(file: &F, header: JournalHeader) -> io::Result<()> {
    let mut block = AlignedBuf::zeroed(BLOCK as usize);
    header.encode(&mut block);
    file.write(0, WriteData::from(block), Durable::Data).await
}

/// An error of the disk as the store's.
pub(super) fn io_error(
    operation: &'static str,
    path: &str,
) -> impl FnOnce(io::Error) -> StoreError {
    move |error| StoreError::io(operation, path, error)
}
