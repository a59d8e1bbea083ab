//! What is written when, and from when on it is durable: the relay's decisions, without any I/O.
//!
//! Bytes go round in a memory of fixed size and into a file, both in blocks. A write takes what is there: whole
//! blocks while others are being written, and also the last partial block, padded, when nothing is. A block is
//! written once, since what was acknowledged must not be touched again.

use std::collections::VecDeque;
use std::ops::Range;

/// Bytes of a block.
pub(super) const BLOCK: u64 = 4096;
/// The most writes in flight.
pub(super) const WRITES_MAX: usize = 8;
/// The largest write, bytes.
const WRITE_BYTES_MAX: u64 = 1 << 20;
/// While others are in flight, a write waits for so much, bytes.
const WRITE_BYTES_MIN: u64 = 64 << 10;

/// Positions of the stream in memory and file.
#[derive(Debug)]
pub(super) struct Log {
    memory_bytes: u64,
    file_bytes: u64,
    is_recycled: bool,
    /// Where the next byte goes, padding counted.
    filled: u64,
    /// Where the next write begins.
    issued: u64,
    /// Bytes of the stream before `filled`, and those that are durable.
    stream_filled: u64,
    stream_durable: u64,
    flights: VecDeque<Flight>,
    first_flight: u64,
}

#[derive(Debug)]
struct Flight {
    start: u64,
    length: u64,
    stream_end: u64,
    is_done: bool,
}

/// A write to be made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Write {
    /// To be given back to [`Log::wrote`].
    pub(super) number: u64,
    /// Where it comes from in memory.
    pub(super) memory: Range<usize>,
    /// The end of `memory` that is padding, to be zeroed before.
    pub(super) padding: Range<usize>,
    /// Where it goes in the file.
    pub(super) position: u64,
}

/// The file has no block left that was not written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Log {
    /// An empty log. A recycled file is gone through again and again, any other once.
    pub(super) fn new(memory_bytes: u64, file_bytes: u64, is_recycled: bool) -> Self {
        assert!(memory_bytes.is_multiple_of(BLOCK) && file_bytes.is_multiple_of(memory_bytes));
        Self {
            memory_bytes,
            file_bytes,
            is_recycled,
            filled: 0,
            issued: 0,
            stream_filled: 0,
            stream_durable: 0,
            flights: VecDeque::new(),
            first_flight: 0,
        }
    }

    /// Where in memory the next bytes go, as far as there is room in one piece.
    pub(super) fn room(&self) -> Range<usize> {
        let oldest = self
            .flights
            .front()
            .map_or(self.issued, |write| write.start);
        let at = self.filled % self.memory_bytes;
        let free = self.memory_bytes - (self.filled - oldest);
        at as usize..(at + free.min(self.memory_bytes - at)) as usize
    }

    /// So many bytes were put where [`Self::room`] said.
    pub(super) fn fill(&mut self, bytes: usize) {
        assert!(bytes <= self.room().len(), "the room is kept to");
        self.filled += bytes as u64;
        self.stream_filled += bytes as u64;
    }

    /// Bytes of the stream that are here.
    pub(super) fn received(&self) -> u64 {
        self.stream_filled
    }

    /// Bytes of the stream that may be acknowledged.
    pub(super) fn durable(&self) -> u64 {
        self.stream_durable
    }

    /// The next write, if it is time for one.
    pub(super) fn next_write(&mut self) -> Result<Option<Write>, Full> {
        let waiting = self.filled - self.issued;
        let is_early = !self.flights.is_empty() && waiting < WRITE_BYTES_MIN;
        if waiting == 0 || is_early || self.flights.len() == WRITES_MAX {
            return Ok(None);
        }
        let start = self.issued;
        let at = start % self.memory_bytes;
        let most = WRITE_BYTES_MAX.min(self.memory_bytes - at);
        let takes_all = waiting <= most;
        let bytes = if takes_all { waiting } else { most };
        let length = bytes.next_multiple_of(BLOCK);
        if !self.is_recycled && start + length > self.file_bytes {
            return Err(Full);
        }
        self.issued += length;
        self.filled = self.filled.max(self.issued);
        // What is not taken stays behind this write in the stream too.
        let stream_end = self.stream_filled - (self.filled - self.issued);
        let number = self.first_flight + self.flights.len() as u64;
        self.flights.push_back(Flight {
            start,
            length,
            stream_end,
            is_done: false,
        });
        Ok(Some(Write {
            number,
            memory: at as usize..(at + length) as usize,
            padding: (at + bytes) as usize..(at + length) as usize,
            position: start % self.file_bytes,
        }))
    }

    /// Bytes of a write in flight.
    pub(super) fn length(&self, number: u64) -> usize {
        self.flights[(number - self.first_flight) as usize].length as usize
    }

    /// A write is durable. What is durable grows only once all writes before it are.
    pub(super) fn wrote(&mut self, number: u64) {
        let index = (number - self.first_flight) as usize;
        self.flights[index].is_done = true;
        while let Some(write) = self.flights.front()
            && write.is_done
        {
            self.stream_durable = write.stream_end;
            self.flights.pop_front();
            self.first_flight += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn nothing_is_durable_before_its_write_and_all_before_it() {
        let mut log = Log::new(16 * MIB, 16 * MIB, true);
        log.fill(1000);
        let first = log.next_write().unwrap().unwrap();
        assert_eq!((first.memory, first.padding), (0..4096, 1000..4096));
        log.fill(100_000);
        let second = log.next_write().unwrap().unwrap();
        assert_eq!((second.memory.start, second.position), (4096, 4096));
        assert_eq!(log.durable(), 0);
        log.wrote(second.number);
        assert_eq!(log.durable(), 0, "the first is still in flight");
        log.wrote(first.number);
        assert_eq!(log.durable(), 101_000);
    }

    #[test]
    fn little_waits_while_something_is_in_flight() {
        let mut log = Log::new(16 * MIB, 16 * MIB, true);
        log.fill(10);
        let first = log.next_write().unwrap().unwrap();
        log.fill(10);
        assert_eq!(log.next_write(), Ok(None));
        log.wrote(first.number);
        assert!(log.next_write().unwrap().is_some());
    }

    #[test]
    fn memory_goes_round_and_is_not_overwritten_before_it_is_durable() {
        let mut log = Log::new(2 * MIB, 4 * MIB, true);
        let mut positions = Vec::new();
        for _ in 0..5 {
            log.fill(log.room().len());
            let mut writes = Vec::new();
            while let Some(write) = log.next_write().unwrap() {
                writes.push(write);
            }
            assert_eq!(log.room().len(), 0, "everything is in flight");
            for write in writes {
                positions.push(write.position);
                log.wrote(write.number);
            }
        }
        assert_eq!(positions[..6], [0, MIB, 2 * MIB, 3 * MIB, 0, MIB]);
        assert_eq!(log.durable(), 10 * MIB);
    }

    #[test]
    fn a_fresh_file_is_never_gone_through_twice() {
        let mut log = Log::new(MIB, MIB, false);
        log.fill(MIB as usize);
        let write = log.next_write().unwrap().unwrap();
        log.wrote(write.number);
        log.fill(1);
        assert_eq!(log.next_write(), Err(Full));
    }
}
