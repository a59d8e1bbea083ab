//! Writing segments anew, and putting the new file in the place of the old ones.
//!
//! Owns the order: the new file is written and flushed, then its name, then the catalogue says that it counts, and only
//! then the old files go. What a crash leaves that the catalogue does not name is removed before the next pass.

use std::io;

use corelane_protocol::aligned::AlignedBytes;
use corelane_protocol::batch::{RecordView, Retained, Stamp, batches, extend_to, hollow, retain};
use corelane_protocol::{LeaderEpoch, Offset};

use super::compact::{Pass, PassError, unpack_limit};
use super::partition::PartitionHandle;
use super::removal::remove_if_there;
use super::segments::SegmentPlace;
use super::state::State;
use super::{SEGMENT_BYTES_MAX, Store};
use crate::catalogue::{SealedSegment, places_of};
use crate::compaction::{Rules, SOURCES_MAX, fits_behind};
use crate::disk::{BLOCK_BYTES, Disk, DiskFile, Durable, OpenOptions, WriteData};
use crate::index::{IndexIdentity, SparseIndex};
use crate::layout::block_ceiling;
use crate::memory::AlignedBuf;
use crate::position::{LogPosition, SEGMENT_DATA};
use crate::segment::batches::{peek, peek_times};
use crate::segment::{HandleKey, index_beside, parse_file_name, partition_dir};
use crate::times::SegmentTimes;

/// Bytes of one write, unless it is the last.
const WRITE_BYTES: usize = 256 << 10;

/// The batches of a segment that is written anew: without gaps between them, and what is not written to its file yet.
struct NewSegment {
    index: SparseIndex,
    times: SegmentTimes,
    /// Bytes of the file that are taken out of `bytes`.
    written: u64,
    bytes: Vec<u8>,
    /// Where the batches end that are not changed any more.
    sealed_end: Offset,
    /// The one behind them. It may still be made to cover more offsets.
    last: AlignedBytes,
    /// Before there is one, the last of those that lack records.
    gone: Vec<u8>,
    removed: u64,
}

impl NewSegment {
    fn new(base: Offset, index_interval: u32) -> Self {
        Self {
            index: SparseIndex::new(base, index_interval),
            times: SegmentTimes::NONE,
            written: SEGMENT_DATA,
            bytes: Vec::new(),
            sealed_end: base,
            last: AlignedBytes::new(),
            gone: Vec::new(),
            removed: 0,
        }
    }

    /// The offset after the last batch.
    fn end(&self) -> Offset {
        if self.last.is_empty() {
            self.sealed_end
        } else {
            peek(&self.last).end_offset
        }
    }

    /// Where the last batch will end in the file.
    fn data_end(&self) -> u64 {
        self.written + (self.bytes.len() + self.last.len()) as u64
    }

    /// Adds a batch, and sees to it that the one before ends where it begins.
    fn push(&mut self, batch: &[u8]) {
        self.end_at(peek(batch).base_offset);
        self.seal_last();
        self.last.extend_from_slice(batch);
    }

    /// Notes that records of a batch, maybe all, are left out. What covers its offsets is of its leader epoch: whoever
    /// has read a batch takes the epoch to have gone as far as that covers.
    fn leave_out(&mut self, batch: &[u8], records: u32) {
        self.removed += u64::from(records);
        let covering = match self.last.is_empty() {
            true => &self.gone[..],
            false => &self.last[..],
        };
        if !covering.is_empty() && leader_epoch(covering) != leader_epoch(batch) {
            self.end_at(peek(batch).base_offset);
            self.seal_last();
        }
        if self.last.is_empty() {
            self.gone.clear();
            self.gone.extend_from_slice(batch);
        }
    }

    /// Makes the last batch end at an offset; where there is none, one without records.
    fn end_at(&mut self, end: Offset) {
        if self.end() == end {
            return;
        }
        let covered = if self.last.is_empty() {
            hollow(&self.gone, self.sealed_end, end, &mut self.last)
        } else {
            extend_to(&mut self.last, end)
        };
        covered.expect("a segment has fewer than 2^32 offsets");
    }

    /// Nothing is changed in the last batch any more.
    fn seal_last(&mut self) {
        if self.last.is_empty() {
            return;
        }
        let position = self.written + self.bytes.len() as u64;
        let base_offset = peek(&self.last).base_offset;
        self.sealed_end = peek(&self.last).end_offset;
        let max_before = self.times.max_timestamp;
        self.index.note(base_offset, position, max_before);
        let times = peek_times(&self.last);
        self.times.note(times.append_time, times.max_timestamp);
        self.bytes.extend_from_slice(&self.last);
        self.last.clear();
    }

    /// The next bytes to be written, whole blocks, and where; at the end all of them, padded.
    fn next_write(&mut self, is_end: bool) -> Option<(u64, AlignedBuf)> {
        let len = match is_end {
            true => self.bytes.len(),
            false if self.bytes.len() < WRITE_BYTES => 0,
            false => self.bytes.len() / BLOCK_BYTES * BLOCK_BYTES,
        };
        if len == 0 {
            return None;
        }
        let mut blocks = AlignedBuf::zeroed(len.next_multiple_of(BLOCK_BYTES));
        blocks[..len].copy_from_slice(&self.bytes[..len]);
        self.bytes.drain(..len);
        let position = self.written;
        self.written += blocks.len() as u64;
        Some((position, blocks))
    }
}

fn leader_epoch(batch: &[u8]) -> LeaderEpoch {
    let stamp = Stamp::read(batch);
    stamp.expect("it was verified").leader_epoch
}

/// A segment that was written anew, and what it is to take the place of.
struct Written {
    segment: SealedSegment,
    sources: Vec<SealedSegment>,
    removed: u64,
}

impl<D: Disk> Store<D> {
    /// Writes a segment anew, with as many of those behind it as fit. Returns where the next one begins.
    pub(super) async fn write_anew(
        &self,
        pass: &Pass,
        rules: &Rules,
        first: SealedSegment,
    ) -> Result<Offset, PassError> {
        let incarnation = {
            let mut state = self.state.borrow_mut();
            state.expect_compacting(pass)?;
            state.next_segment_incarnation()
        };
        let segment = SealedSegment {
            incarnation,
            is_compacted: true,
            ..first
        };
        let path = segment.path(&self.dir, pass.partition);
        let finished = async {
            let written = self.write_file(pass, rules, first, segment, &path).await?;
            // Otherwise it is as it was.
            let is_other = written.removed > 0 || written.sources.len() > 1;
            if is_other {
                if crate::planted!(ReplacedBeforeRecorded) {
                    self.remove_replaced(pass, &written.sources).await?;
                }
                self.replace(pass, &written).await?;
            }
            Ok((written, is_other))
        };
        match finished.await {
            Ok((written, true)) => {
                self.remove_replaced(pass, &written.sources).await?;
                Ok(written.segment.end_offset)
            }
            Ok((written, false)) => {
                self.discard(&path).await;
                Ok(written.segment.end_offset)
            }
            Err(error) => {
                if self.state.borrow().fenced.is_none() {
                    self.discard(&path).await;
                }
                // Otherwise the catalogue may name it, and the next opening knows.
                Err(error)
            }
        }
    }

    /// Writes the file, and makes it durable under its name.
    async fn write_file(
        &self,
        pass: &Pass,
        rules: &Rules,
        first: SealedSegment,
        mut segment: SealedSegment,
        path: &str,
    ) -> Result<Written, PassError> {
        let io_error =
            |error: io::Error| PassError::Later(format!("writing {path} failed: {error}"));
        let file = self.disk.open(path, OpenOptions::CREATE_NEW).await;
        let file = file.map_err(io_error)?;
        let (partition, base) = (pass.partition, segment.base);
        let header = self.segment_header(partition, base, segment.incarnation);
        let header = file.write(0, WriteData::from(header), Durable::No);
        header.await.map_err(io_error)?;
        let (interval, segment_bytes) = {
            let state = self.state.borrow();
            let found = state.partitions.get(pass.handle).ok_or(PassError::Over)?;
            (
                state.config.index_interval_bytes,
                found.config.segment_bytes,
            )
        };
        let mut new = NewSegment::new(base, interval);
        let mut sources = Vec::new();
        let mut next = Some(first);
        while let Some(source) = next {
            self.copy_kept(pass, rules, &source, &mut new, |position, blocks| {
                let file = &file;
                async move {
                    let write = file.write(position, WriteData::from(blocks), Durable::No);
                    write.await.map_err(io_error)
                }
            })
            .await?;
            sources.push(source);
            let written = new.data_end();
            next = self
                .next_source(pass, rules, source.end_offset)
                .filter(|next| fits_behind(next, base, written, segment_bytes))
                .filter(|_| sources.len() < SOURCES_MAX);
            segment.end_offset = source.end_offset;
            segment.last_append_time = segment.last_append_time.max(source.last_append_time);
        }
        new.end_at(segment.end_offset);
        new.seal_last();
        segment.data_end = new.data_end();
        segment.file_bytes = block_ceiling(segment.data_end);
        segment.max_timestamp = new.times.max_timestamp;
        while let Some((position, blocks)) = new.next_write(true) {
            let write = file.write(position, WriteData::from(blocks), Durable::No);
            write.await.map_err(io_error)?;
        }
        if !crate::planted!(CompactedNotFlushed) {
            file.flush().await.map_err(io_error)?;
        }
        let identity = IndexIdentity {
            base,
            incarnation: segment.incarnation,
        };
        self.write_index_file(&index_beside(path), identity, &new.index)
            .await;
        let dir = partition_dir(&self.dir, pass.partition);
        self.sync_shared_dir(&dir).await.map_err(io_error)?;
        Ok(Written {
            segment,
            sources,
            removed: new.removed,
        })
    }

    /// Adds what is kept of a segment, and writes what is complete of the new one.
    async fn copy_kept<W: Future<Output = Result<(), PassError>>>(
        &self,
        pass: &Pass,
        rules: &Rules,
        source: &SealedSegment,
        new: &mut NewSegment,
        write: impl Fn(u64, AlignedBuf) -> W,
    ) -> Result<(), PassError> {
        let limit = unpack_limit(&self.state.borrow());
        let mut out = AlignedBytes::new();
        let place = SegmentPlace::of_sealed(source);
        let mut source = self.open_place(pass, place).await?;
        while let Some(piece) = self.next_piece(pass, &mut source).await? {
            for (at, bytes) in piece.batches() {
                let unpacked = self.unpack(&source, at, bytes, &limit)?;
                let Some((batch, _reserved)) = unpacked else {
                    new.push(bytes);
                    continue;
                };
                let keep = |record: &RecordView<'_>| rules.keeps(record);
                let retained = retain(&batch, keep, &mut out);
                match retained.map_err(|error| PassError::Later(error.to_string()))? {
                    Retained::All => new.push(bytes),
                    Retained::Some { removed } => {
                        new.leave_out(bytes, removed);
                        for kept in batches(&out) {
                            new.push(kept.expect("it was just built"));
                        }
                    }
                    Retained::None => new.leave_out(bytes, batch.record_count()),
                }
            }
            while let Some((position, blocks)) = new.next_write(false) {
                write(position, blocks).await?;
            }
            if new.data_end() > SEGMENT_BYTES_MAX + SEGMENT_BYTES_MAX / 2 {
                let reason = "packed anew, the segment is too long for its index";
                return Err(PassError::Damaged(reason.to_owned()));
            }
        }
        Ok(())
    }

    /// Tells the catalogue that a new segment is in the place of others, and then everybody.
    async fn replace(&self, pass: &Pass, written: &Written) -> Result<(), PassError> {
        let (handle, segment) = (pass.handle, written.segment);
        // Its log start is being moved, and with it the segments that count.
        let is_moving = || {
            let state = self.state.borrow();
            let found = state.partitions.get(handle);
            found.is_some_and(|partition| partition.flags.is_moving)
        };
        self.wake.idle.until(|| !is_moving()).await;
        {
            let mut state = self.state.borrow_mut();
            state.expect_compacting(pass)?;
            let found = state.partitions.get_mut(handle).ok_or(PassError::Over)?;
            let places = places_of(&found.sealed, &segment);
            if !places.is_some_and(|places| found.sealed[places] == *written.sources) {
                return Err(PassError::Over);
            }
            found.flags.is_replacing = true;
        }
        let recorded = self.record(&[segment.record(pass.partition)]).await;
        let mut state = self.state.borrow_mut();
        if let Some(found) = state.partitions.get_mut(handle) {
            found.flags.is_replacing = false;
            if recorded.is_ok() {
                let places = places_of(&found.sealed, &segment);
                let places = places.expect("nothing else changes what is complete meanwhile");
                found.sealed.splice(places, [segment]);
            }
        }
        state.queue_move(handle);
        self.wake.trim.notify();
        recorded?;
        let meters = &mut state.meters.compaction;
        meters.written_bytes += segment.file_bytes;
        meters.records_removed += written.removed;
        state.forget_tail(handle, segment.end_offset);
        let mut cache = self.read_cache.borrow_mut();
        cache.forget_below(handle, segment.end_offset);
        Ok(())
    }

    /// Lets go of files that others have taken the place of. Whoever reads them goes on reading them.
    async fn remove_replaced(
        &self,
        pass: &Pass,
        sources: &[SealedSegment],
    ) -> Result<(), PassError> {
        let handle = pass.handle;
        let upto = sources.last().map_or(Offset::ZERO, |last| last.end_offset);
        for source in sources {
            self.handles.borrow_mut().close(HandleKey {
                partition: handle,
                base: source.base,
                incarnation: source.incarnation,
            });
        }
        self.indexes.borrow_mut().forget_below(handle, upto);
        self.wake
            .idle
            .until(|| !self.has_index_writes(handle))
            .await;
        for source in sources {
            self.discard(&source.path(&self.dir, pass.partition)).await;
        }
        // Before the catalogue says that the pass is over: nobody looks for them then.
        let dir = partition_dir(&self.dir, pass.partition);
        let synced = self.sync_shared_dir(&dir).await;
        synced.map_err(|error| PassError::Later(format!("flushing {dir} failed: {error}")))
    }

    /// Removes a segment's file and its index. What cannot be removed is removed before a later pass.
    async fn discard(&self, path: &str) {
        for path in [index_beside(path), path.to_owned()] {
            if let Err(error) = remove_if_there(&self.disk, &path).await {
                tracing::warn!(path, %error, "a file that compaction has no use for could not be removed");
            }
        }
    }

    /// Removes what compactions that were interrupted left in the partition's directory.
    pub(super) async fn sweep(&self, pass: &Pass) -> Result<(), PassError> {
        let is_swept = |store: &Self| {
            let state = store.state.borrow();
            let found = state.partitions.get(pass.handle);
            found.is_none_or(|partition| partition.flags.is_swept)
        };
        if is_swept(self) {
            return Ok(());
        }
        let dir = partition_dir(&self.dir, pass.partition);
        let entries = self.disk.list(&dir).await;
        let entries = entries.map_err(|error| PassError::Later(error.to_string()))?;
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            let Some((base, incarnation)) = parse_file_name(&entry.name) else {
                continue;
            };
            if self.is_left_over(pass, base, incarnation) {
                let path = format!("{dir}/{}", entry.name);
                tracing::info!(
                    path,
                    "left by a compaction that was interrupted, and removed"
                );
                let removed = remove_if_there(&self.disk, &path).await;
                removed.map_err(|error| PassError::Later(error.to_string()))?;
            }
        }
        let mut state = self.state.borrow_mut();
        if let Some(partition) = state.partitions.get_mut(pass.handle) {
            partition.flags.is_swept = true;
        }
        Ok(())
    }

    /// Whether a file is of no segment that counts, though its offsets are complete.
    fn is_left_over(&self, pass: &Pass, base: Offset, incarnation: Option<u64>) -> bool {
        let state = self.state.borrow();
        let Some(found) = state.partitions.get(pass.handle) else {
            return false;
        };
        let mut known = found.sealed.iter().chain(&found.expired);
        let is_known = known.any(|segment| {
            let named = segment.is_compacted.then_some(segment.incarnation);
            (segment.base, named) == (base, incarnation)
        });
        !is_known && base < found.flush.flushed.segment
    }
}

impl State {
    /// Lets go of what memory still has of complete segments below an offset: what is gone from them is there.
    fn forget_tail(&mut self, handle: PartitionHandle, upto: Offset) {
        let end = LogPosition::start_of(upto);
        while let Some(partition) = self.partitions.get_mut(handle)
            && let Some(chunk) = partition.tail.pop_flushed(end)
        {
            self.pool.give(chunk);
        }
    }
}
