//! Fetch: reads batches, and waits for them if there are too few.
//!
//! The entries are read in order, from memory or from the disk, until the answer is full. A fetch
//! that found too little parks until its partitions' high watermarks move or its time is over. A
//! fetch is served by one core: the one that owns its first partition.

use std::collections::BTreeMap;

use corelane_protocol::request::FetchRequest;
use corelane_protocol::response::{
    DivergingEpoch, FetchResponseHead, FetchedEntryHead, FetchedHead,
};
use corelane_protocol::{ApiError, CoreId, ErrorCode, Offset};
use corelane_storage::disk::Disk;

use super::mail::{ForwardedReply, ForwardedRequest};
use super::meters::Stage;
use super::parked::{ClientRequest, ColdRead, FetchState, FetchWait, ForwardKind, Origin};
use super::partitions::Home;
use super::produce::unknown_partition;
use super::slab::Key;
use super::storage_errors::{partition_error, read_error};
use super::{Lane, Mail, Now, ReplyPart};
use corelane_storage::store::{DiskRead, Fetched, LogOffsets, PartitionError, Read};

/// Bytes that a fetch through another core returns: they are copied, and wait in a mailbox.
const FORWARDED_FETCH_BYTES_MAX: u32 = 256 * 1024;

/// Bytes that a fetch returns while the core holds more replies than it should.
const SCARCE_FETCH_BYTES_MAX: usize = 64 * 1024;

/// What serving a fetch came to.
enum Served {
    /// It is to be answered.
    Done,
    /// There is too little yet.
    TooLittle,
    /// The next entry is on the disk of this store; so many bytes of it were asked for.
    Disk {
        store: usize,
        read: DiskRead,
        bytes: usize,
    },
}

impl<D: Disk> Lane<D> {
    pub(super) fn fetch(&mut self, now: Now, client: ClientRequest, request: FetchRequest) {
        let first = request
            .entries
            .first()
            .map(|entry| self.partitions.find(entry.partition));
        match first {
            Some(Home::Remote(core)) if !client.no_forward => {
                self.forward_fetch(client, core, request);
            }
            _ => self.fetch_here(now, Origin::Client(client), request),
        }
    }

    /// Serves a fetch from the partitions of this core.
    pub(super) fn fetch_here(&mut self, now: Now, origin: Origin, request: FetchRequest) {
        let limits = &self.config.limits;
        let wait_ms = request.max_wait_ms.min(limits.fetch_wait_ms_max);
        let max_bytes = request.max_bytes.min(limits.fetch_bytes_max) as usize;
        let mut homes = Vec::with_capacity(request.entries.len());
        let mut heads = Vec::with_capacity(request.entries.len());
        let mut hasty = wait_ms == 0 || request.entries.is_empty() || self.shutdown.is_some();
        for entry in &request.entries {
            let home = self.partitions.find(entry.partition);
            let (local, error, owner) = match home {
                Home::Local(key) => (Some(key), ErrorCode::Internal.into(), None),
                Home::Remote(core) => {
                    let owner = self.topology.address(core).clone();
                    (None, ErrorCode::NotOwner.into(), Some(owner))
                }
                unknown => (None, unknown_partition(entry.partition, unknown), None),
            };
            hasty |= local.is_none();
            homes.push(local);
            // A local entry's head is written when it is read.
            heads.push(FetchedEntryHead {
                partition: entry.partition,
                result: Err(error),
                owner,
            });
        }
        let key = self.fetches.insert(FetchWait {
            origin,
            entries: request.entries,
            homes,
            heads,
            parts: Vec::new(),
            cold: BTreeMap::new(),
            min_bytes: (request.min_bytes as usize).min(max_bytes),
            max_bytes,
            deadline_us: now.monotonic_us + u64::from(wait_ms) * 1000,
            cursor: 0,
            bytes: 0,
            hasty,
            state: FetchState::Woken,
            waits_since_us: now.monotonic_us,
            read: Vec::new(),
        });
        self.serve_fetch(now, key);
    }

    /// Serves a fetch that something woke, unless it is gone.
    pub(super) fn serve_woken(&mut self, now: Now, key: Key) {
        if self
            .fetches
            .get(key)
            .is_some_and(|wait| wait.state == FetchState::Woken)
        {
            self.serve_fetch(now, key);
        }
    }

    /// Reads on from the fetch's cursor, and answers it, parks it or sends it to the disk.
    pub(super) fn serve_fetch(&mut self, now: Now, key: Key) {
        let Some(room) = self.reply_room(key) else {
            return self.defer_fetch(key);
        };
        let wait = self.fetches.get_mut(key).expect("looked up by the caller");
        wait.hasty |= now.monotonic_us >= wait.deadline_us;
        let most = wait.max_bytes.min(room);
        match self.read_entries(key, most) {
            Served::Done => self.finish_fetch(key),
            Served::TooLittle => self.park_fetch(key),
            Served::Disk { store, read, bytes } => self.start_reads(key, store, read, bytes, most),
        }
    }

    /// How many bytes may be read for a fetch; `None` while its client should read first.
    fn reply_room(&self, key: Key) -> Option<usize> {
        let wait = self.fetches.get(key).expect("looked up by the caller");
        let Origin::Client(client) = wait.origin else {
            return Some(usize::MAX);
        };
        let Some(connection) = self.connections.get(client.connection) else {
            return Some(0);
        };
        if !connection.may_reply(&self.config.limits) {
            return None;
        }
        if self.reply_bytes < self.config.memory.per_core_bytes / 2 {
            Some(usize::MAX)
        } else if connection.unsent_bytes + connection.expected_bytes > 0 {
            None
        } else {
            Some(SCARCE_FETCH_BYTES_MAX)
        }
    }

    /// Reads the entries that are in memory, beginning at the cursor.
    fn read_entries(&mut self, key: Key, most: usize) -> Served {
        let wait = self.fetches.get_mut(key).expect("looked up by the caller");
        while wait.cursor < wait.entries.len() {
            let index = wait.cursor;
            let Some(local) = wait.homes[index] else {
                wait.cursor += 1;
                continue;
            };
            let Some(partition) = self.partitions.local(local) else {
                wait.keep_error(ErrorCode::UnknownTopic.into());
                continue;
            };
            let entry = wait.entries[index];
            match partition.check_epochs(&self.stores, &entry) {
                Ok(None) => {}
                Ok(Some(diverging)) => {
                    wait.keep_divergence(partition.offsets(&self.stores), diverging);
                    continue;
                }
                Err(error) => {
                    wait.keep_error(error);
                    continue;
                }
            }
            let bytes = most
                .saturating_sub(wait.bytes)
                .min(entry.max_bytes as usize);
            let first = wait.bytes == 0;
            let read = match wait.cold.remove(&index) {
                // It was read for less than there is room for now; the first one comes whole.
                Some(ColdRead::Done(Ok(fetched))) if first && fetched.bytes == 0 => None,
                // Others returned more than was thought: one that comes first is not cut.
                Some(ColdRead::Done(Ok(fetched)))
                    if !first && wait.bytes + fetched.bytes > most =>
                {
                    Some(Ok(nothing_read(entry.offset)))
                }
                Some(ColdRead::Done(result)) => Some(result),
                Some(ColdRead::Out { .. }) => unreachable!("it is served when all reads are done"),
                // The answer is full; the disk is not asked for nothing.
                None if bytes == 0 && !first => Some(Ok(nothing_read(entry.offset))),
                None => None,
            };
            let read = match read {
                Some(read) => read.map(Read::Ready),
                None => partition.read(&self.stores, entry.offset, bytes, first),
            };
            match read {
                Ok(Read::Ready(fetched)) => {
                    wait.keep(partition.offsets(&self.stores), fetched);
                }
                Ok(Read::Disk(read)) => {
                    return Served::Disk {
                        store: partition.store,
                        read,
                        bytes,
                    };
                }
                Err(error) => wait.keep_error(read_error(&error)),
            }
        }
        if wait.hasty || wait.bytes >= wait.min_bytes {
            Served::Done
        } else {
            Served::TooLittle
        }
    }

    /// Lets a fetch wait until its client has read replies.
    fn defer_fetch(&mut self, key: Key) {
        let wait = self.fetches.get_mut(key).expect("looked up by the caller");
        let Origin::Client(client) = wait.origin else {
            unreachable!("only a client's fetch is deferred");
        };
        wait.state = FetchState::Deferred;
        let connection = self.connections.get_mut(client.connection);
        let connection = connection.expect("a closed connection has no fetches");
        connection.fetches.insert(key);
        connection.deferred.push(key);
    }

    /// A connection's replies have left: its deferred fetches are served.
    pub(super) fn wake_deferred(&mut self, connection: Key, deferred: Vec<Key>) {
        for key in deferred {
            if let Some(wait) = self.fetches.get_mut(key) {
                wait.state = FetchState::Woken;
                self.forget_listed(connection, key);
                self.woken.push(key);
            }
        }
    }

    /// Lets a fetch wait for records.
    fn park_fetch(&mut self, key: Key) {
        let wait = self.fetches.get_mut(key).expect("looked up by the caller");
        wait.rewind();
        wait.state = FetchState::Parked;
        wait.waits_since_us = self.meters.now_us;
        self.fetch_deadlines.insert((wait.deadline_us, key));
        for local in wait.homes.iter().flatten() {
            if let Some(partition) = self.partitions.local_mut(*local) {
                partition.fetches.insert(key);
            }
        }
        if let Origin::Client(client) = wait.origin
            && let Some(connection) = self.connections.get_mut(client.connection)
        {
            connection.fetches.insert(key);
        }
    }

    /// Takes a parked fetch off every list and has it served within this event.
    pub(super) fn unpark_fetch(&mut self, key: Key) {
        let Some(wait) = self.fetches.get_mut(key) else {
            return;
        };
        if wait.state != FetchState::Parked {
            return;
        }
        self.meters
            .stage_done(Stage::FetchWait, wait.waits_since_us);
        wait.state = FetchState::Woken;
        self.fetch_deadlines.remove(&(wait.deadline_us, key));
        for local in wait.homes.iter().flatten() {
            if let Some(partition) = self.partitions.local_mut(*local) {
                partition.fetches.remove(&key);
            }
        }
        if let Origin::Client(client) = wait.origin {
            self.forget_listed(client.connection, key);
        }
        self.woken.push(key);
    }

    /// A partition has more to read: whoever waits at it looks again.
    pub(super) fn wake_fetches(&mut self, local: Key) {
        let Some(partition) = self.partitions.local_mut(local) else {
            return;
        };
        for key in std::mem::take(&mut partition.fetches) {
            self.unpark_fetch(key);
        }
    }

    /// Has a parked fetch answered with what there is.
    pub(super) fn hasten_fetch(&mut self, key: Key) {
        if let Some(wait) = self.fetches.get_mut(key) {
            wait.hasty = true;
            self.unpark_fetch(key);
        }
    }

    /// Drops a fetch whose connection is closed.
    pub(super) fn drop_fetch(&mut self, key: Key) {
        self.unpark_fetch(key);
        self.fetches.remove(key);
    }

    pub(super) fn forget_listed(&mut self, connection: Key, key: Key) {
        if let Some(connection) = self.connections.get_mut(connection) {
            connection.fetches.remove(&key);
        }
    }

    fn finish_fetch(&mut self, key: Key) {
        let wait = self.fetches.remove(key).expect("looked up by the caller");
        for (local, records, bytes) in &wait.read {
            if let Some(partition) = self.partitions.local_mut(*local) {
                partition.traffic.records_out += records;
                partition.traffic.bytes_out += bytes;
            }
        }
        match wait.origin {
            Origin::Client(client) => {
                let head = FetchResponseHead {
                    entries: wait.heads,
                };
                self.answer_fetch(client, &head, wait.parts.into_iter().map(ReplyPart::Log));
            }
            Origin::Groups { .. } => unreachable!("groups read their log by tasks"),
            Origin::Core { core, token, .. } => {
                let mut bytes = Vec::with_capacity(wait.bytes);
                for part in &wait.parts {
                    bytes.extend_from_slice(part);
                }
                let heads = wait.heads.into_iter().map(|head| head.result).collect();
                let reply = ForwardedReply::Fetch { heads, bytes };
                self.post(core, Mail::ForwardReply { token, reply });
            }
        }
    }

    /// Sends a fetch to the core that owns its first partition; what others own is refused.
    fn forward_fetch(&mut self, client: ClientRequest, to: CoreId, request: FetchRequest) {
        let mut heads = Vec::with_capacity(request.entries.len());
        let mut indexes = Vec::new();
        let mut entries = Vec::new();
        for (index, entry) in (0..).zip(&request.entries) {
            let home = self.partitions.find(entry.partition);
            let (error, owner) = match home {
                Home::Remote(core) => (ErrorCode::NotOwner.into(), Some(core)),
                Home::Local(_) => (ErrorCode::NotOwner.into(), Some(self.core)),
                unknown => (unknown_partition(entry.partition, unknown), None),
            };
            if owner == Some(to) {
                indexes.push(index);
                entries.push(*entry);
            }
            heads.push(FetchedEntryHead {
                partition: entry.partition,
                result: Err(error),
                owner: owner.map(|core| self.topology.address(core).clone()),
            });
        }
        let whole = entries.len() == request.entries.len();
        let forwarded = ForwardedRequest::Fetch {
            // An answer with an error is not waited for.
            max_wait_ms: if whole { request.max_wait_ms } else { 0 },
            min_bytes: request.min_bytes,
            max_bytes: request.max_bytes.min(FORWARDED_FETCH_BYTES_MAX),
            entries,
        };
        let kind = ForwardKind::Fetch {
            client,
            heads,
            entries: indexes,
        };
        if let Err((kind, error)) = self.forward(client.connection, to, forwarded, kind) {
            let ForwardKind::Fetch {
                mut heads, entries, ..
            } = kind
            else {
                unreachable!("the kind comes back as it was given");
            };
            for index in entries {
                heads[index as usize].result = Err(error.clone());
            }
            let head = FetchResponseHead { entries: heads };
            self.answer_fetch(client, &head, []);
        }
    }

    /// The owning core has answered these entries of a fetch.
    pub(super) fn forwarded_fetch_done(
        &mut self,
        client: ClientRequest,
        mut heads: Vec<FetchedEntryHead>,
        entries: &[u32],
        results: Vec<Result<FetchedHead, ApiError>>,
        bytes: Vec<u8>,
    ) {
        debug_assert_eq!(entries.len(), results.len(), "one result for each entry");
        // They are a copy that this core has to keep until they are read.
        let has_room = bytes.len() <= self.ledger.available();
        for (index, result) in entries.iter().zip(results) {
            heads[*index as usize].result = match result {
                Ok(head) if head.batch_bytes > 0 && !has_room => {
                    let problem = "the memory of this core is full of replies that nobody reads";
                    Err(ApiError::new(ErrorCode::Overloaded, problem))
                }
                result => result,
            };
        }
        let head = FetchResponseHead { entries: heads };
        let bytes = has_room.then_some(ReplyPart::Bytes(bytes));
        self.answer_fetch(client, &head, bytes);
    }
}

fn nothing_read(next_offset: Offset) -> Fetched {
    Fetched {
        parts: Vec::new(),
        bytes: 0,
        next_offset,
    }
}

impl FetchWait {
    /// Keeps what was read for the entry at the cursor, and goes on to the next.
    fn keep(&mut self, offsets: Result<LogOffsets, PartitionError>, fetched: Fetched) {
        match offsets {
            Ok(offsets) => {
                if fetched.bytes > 0
                    && let Some(local) = self.homes[self.cursor]
                {
                    let asked = self.entries[self.cursor].offset;
                    let records = fetched.next_offset.get().saturating_sub(asked.get());
                    self.read.push((local, records, fetched.bytes as u64));
                }
                self.heads[self.cursor].result = Ok(FetchedHead {
                    high_watermark: offsets.high_watermark,
                    log_start_offset: offsets.log_start,
                    batch_bytes: u32::try_from(fetched.bytes).expect("bounded by fetch_bytes_max"),
                    diverging: None,
                });
                self.bytes += fetched.bytes;
                self.parts.extend(fetched.parts);
                self.cursor += 1;
            }
            Err(error) => self.keep_error(partition_error(&error)),
        }
    }

    /// Keeps that the reader of the entry at the cursor has read what is gone, and goes on to the next.
    fn keep_divergence(
        &mut self,
        offsets: Result<LogOffsets, PartitionError>,
        diverging: DivergingEpoch,
    ) {
        let index = self.cursor;
        self.keep(offsets, nothing_read(diverging.end_offset));
        if let Ok(head) = &mut self.heads[index].result {
            head.diverging = Some(diverging);
        }
        self.hasty = true;
    }

    /// Keeps why the entry at the cursor cannot be read, and goes on to the next.
    fn keep_error(&mut self, error: ApiError) {
        self.heads[self.cursor].result = Err(error);
        self.hasty = true;
        self.cursor += 1;
    }

    /// Forgets what was read, to begin again.
    fn rewind(&mut self) {
        self.cursor = 0;
        self.bytes = 0;
        self.parts.clear();
        self.read.clear();
    }
}
