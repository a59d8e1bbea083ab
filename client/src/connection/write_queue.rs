//! Bytes on their way into the socket.
//!
//! Owns: the frames that were submitted and not yet taken by the kernel, in order. Batches are
//! shared with the producer, which keeps them until they are acknowledged, and never copied here.
//! Never: waits; a full socket is reported and the connection's task continues later.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use corelane_protocol::batch::BatchBytes;
use tokio::net::TcpStream;

/// Slices given to the kernel at once (its own limit is 1,024).
const SLICES_MAX: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct WriteQueue {
    chunks: VecDeque<Chunk>,
    /// Bytes of the first chunk that the kernel has taken.
    front_written: usize,
}

#[derive(Debug)]
enum Chunk {
    Head(Vec<u8>),
    Batch(Arc<BatchBytes>),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Head(bytes) => bytes,
            Self::Batch(bytes) => bytes,
        }
    }
}

/// How far a flush came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    Done,
    /// The socket takes no more for now.
    Blocked,
}

impl WriteQueue {
    /// Adds a frame; returns its size in bytes.
    pub(crate) fn push(&mut self, head: Vec<u8>, batches: Vec<Arc<BatchBytes>>) -> u64 {
        let mut bytes = head.len();
        self.chunks.push_back(Chunk::Head(head));
        for batch in batches {
            bytes += batch.len();
            self.chunks.push_back(Chunk::Batch(batch));
        }
        bytes as u64
    }

    /// Writes until everything is out or the socket is full.
    pub(crate) fn flush(&mut self, stream: &TcpStream) -> io::Result<Flush> {
        while !self.chunks.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut count = 0;
            for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
                let skipped = if count == 0 { self.front_written } else { 0 };
                *slice = IoSlice::new(&chunk.bytes()[skipped..]);
                count += 1;
            }
            match stream.try_write_vectored(&slices[..count]) {
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Flush::Blocked);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Flush::Done)
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(front) = self.chunks.front() {
            let left = front.bytes().len() - self.front_written;
            if written < left {
                self.front_written += written;
                return;
            }
            written -= left;
            self.front_written = 0;
            self.chunks.pop_front();
        }
        assert_eq!(written, 0, "the kernel takes no more than it was given");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_writes_continue_where_they_stopped() {
        let mut queue = WriteQueue::default();
        let batch = Arc::new(BatchBytes::copy_of(&[2; 8]));
        assert_eq!(queue.push(vec![1; 5], vec![batch]), 13);
        queue.advance(3);
        assert_eq!((queue.chunks.len(), queue.front_written), (2, 3));
        queue.advance(4);
        assert_eq!((queue.chunks.len(), queue.front_written), (1, 2));
        queue.advance(6);
        assert!(queue.chunks.is_empty());
        assert_eq!(queue.front_written, 0);
    }
}
