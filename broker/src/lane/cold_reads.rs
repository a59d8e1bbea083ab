//! Reads of the disk, for fetches.
//!
//! The reads of one fetch go out together, so that a reader of many cold partitions waits once and not for
//! one after the other. Owns their bounds; what they return is put together in the order of the entries, by
//! `fetch`.

use corelane_storage::disk::Disk;
use corelane_storage::store::{DiskRead, Fetched, Read, ReadError};

use super::meters::Stage;
use super::parked::{ColdRead, FetchState, Origin};
use super::slab::Key;
use super::{Effect, Lane, Now, ReadToken};

/// Disk reads that one core has out at a time, of up to a MiB each: what the journal writes waits behind them.
const READS_IN_FLIGHT_MAX: usize = 16;

/// Disk reads that one fetch has out at a time.
const READS_PER_FETCH_MAX: usize = 16;

/// A disk read that waits for others to finish.
pub(super) struct QueuedRead {
    token: ReadToken,
    store: usize,
    read: DiskRead,
}

impl<D: Disk> Lane<D> {
    /// Sends a fetch to the disk: the read that the entry at its cursor needs, and those of the entries
    /// behind it that will fit as well, whatever these return.
    pub(super) fn start_reads(
        &mut self,
        key: Key,
        store: usize,
        read: DiskRead,
        bytes: usize,
        most: usize,
    ) {
        let wait = self.fetches.get(key).expect("looked up by the caller");
        let cursor = wait.cursor;
        let mut left = most.saturating_sub(wait.bytes + bytes);
        let mut reads = vec![(cursor, store, read, bytes)];
        for (index, entry) in wait.entries.iter().enumerate().skip(cursor + 1) {
            if left == 0 || reads.len() == READS_PER_FETCH_MAX {
                break;
            }
            let partition = wait.homes[index].and_then(|local| self.partitions.local(local));
            let Some(partition) = partition.filter(|_| !wait.cold.contains_key(&index)) else {
                continue;
            };
            let bytes = left.min(entry.max_bytes as usize);
            match partition.read(&self.stores, entry.offset, bytes, false) {
                Ok(Read::Disk(read)) => {
                    left -= bytes;
                    reads.push((index, partition.store, read, bytes));
                }
                // It is read again when it has its turn.
                Ok(Read::Ready(fetched)) => left = left.saturating_sub(fetched.bytes),
                Err(_) => {}
            }
        }
        let wait = self.fetches.get_mut(key).expect("looked up by the caller");
        wait.state = FetchState::Reading { reads: reads.len() };
        wait.waits_since_us = self.meters.now_us;
        let origin = wait.origin;
        for (entry, store, read, bytes) in reads {
            let expected_bytes = bytes as u64;
            let wait = self.fetches.get_mut(key).expect("just looked up");
            wait.cold.insert(entry, ColdRead::Out { expected_bytes });
            if let Origin::Client(client) = origin
                && let Some(connection) = self.connections.get_mut(client.connection)
            {
                connection.expected_bytes += expected_bytes;
                self.reply_bytes += expected_bytes;
                connection.fetches.insert(key);
            }
            let token = ReadToken { fetch: key, entry };
            self.queued_reads
                .push_back(QueuedRead { token, store, read });
        }
        self.start_queued_reads();
    }

    fn start_queued_reads(&mut self) {
        while self.reads_in_flight < READS_IN_FLIGHT_MAX
            && let Some(QueuedRead { token, store, read }) = self.queued_reads.pop_front()
        {
            if self.fetches.get(token.fetch).is_some() {
                self.reads_in_flight += 1;
                self.effects.push_back(Effect::Read { token, store, read });
            }
        }
    }

    /// A disk read has ended. The fetch goes on when all of its reads have.
    pub fn read_done(&mut self, now: Now, token: ReadToken, result: Result<Fetched, ReadError>) {
        self.meters.begin_event(now);
        self.reads_in_flight -= 1;
        self.start_queued_reads();
        let key = token.fetch;
        if let Some(wait) = self.fetches.get_mut(key) {
            let FetchState::Reading { reads } = &mut wait.state else {
                unreachable!("a fetch with a read out waits for nothing else");
            };
            *reads -= 1;
            let is_last = *reads == 0;
            let before = wait.cold.insert(token.entry, ColdRead::Done(result));
            let Some(ColdRead::Out { expected_bytes }) = before else {
                unreachable!("a read is reported once");
            };
            // What came from the disk is not read again to wait for more.
            wait.hasty = true;
            if let Origin::Client(client) = wait.origin
                && let Some(connection) = self.connections.get_mut(client.connection)
            {
                connection.expected_bytes -= expected_bytes;
                self.reply_bytes -= expected_bytes;
            }
            if is_last {
                self.reads_are_done(now, key);
            }
        }
        self.finish_event(now);
    }

    fn reads_are_done(&mut self, now: Now, key: Key) {
        let wait = self.fetches.get_mut(key).expect("looked up by the caller");
        wait.state = FetchState::Woken;
        self.meters
            .stage_done(Stage::FetchDisk, wait.waits_since_us);
        if let Origin::Client(client) = wait.origin {
            self.forget_listed(client.connection, key);
        }
        self.serve_fetch(now, key);
    }
}
