//! Response frames out of a byte stream that is split anywhere.
//!
//! Owns: the staging buffer for small frames, the exact buffer of a large one, and the spare buffers
//! that large frames come back to. Never: reads a socket, or reserves memory for a length that was
//! not checked against the limit.

use std::sync::{Arc, Mutex, PoisonError};

use corelane_protocol::{AlignedBytes, FrameError, ResponseHeader};

/// Small frames are gathered in a buffer of this size, so that one read takes many.
const STAGING_BYTES: usize = 64 * 1024;

/// Buffers of large frames that are kept for the next ones.
const SPARE_MAX: usize = 4;

/// The bytes of one frame. A large buffer goes back to its connection when the frame is dropped,
/// which saves mapping and clearing fresh memory for each fetch.
#[derive(Debug)]
pub(crate) struct FrameBuffer {
    bytes: AlignedBytes,
    length: usize,
    spare: Option<Arc<Spare>>,
}

impl FrameBuffer {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for FrameBuffer {
    fn drop(&mut self) {
        if let Some(spare) = &self.spare {
            spare.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

#[derive(Debug, Default)]
struct Spare(Mutex<Vec<AlignedBytes>>);

impl Spare {
    /// A buffer of at least `length` bytes, with any content.
    fn take(&self, length: usize) -> AlignedBytes {
        let mut buffers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |buffer: &AlignedBytes| buffer.len() >= length && buffer.len() / 4 <= length;
        match buffers.iter().position(fits) {
            Some(index) => buffers.swap_remove(index),
            None => AlignedBytes::zeroed(length),
        }
    }

    fn give_back(&self, buffer: AlignedBytes) {
        let mut buffers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() == SPARE_MAX {
            // Makes room for sizes that are in use now.
            buffers.remove(0);
        }
        buffers.push(buffer);
    }
}

/// Gathers bytes into frames: give [`Assembler::space`] to a read, say how much was
/// [`Assembler::filled`], then take frames until there is none.
#[derive(Debug)]
pub(crate) struct Assembler {
    staging: AlignedBytes,
    /// Staged bytes that were handed out already.
    start: usize,
    end: usize,
    large: Option<Large>,
    spare: Arc<Spare>,
}

#[derive(Debug)]
struct Large {
    header: ResponseHeader,
    buffer: AlignedBytes,
    filled: usize,
}

impl Default for Assembler {
    fn default() -> Self {
        Self {
            staging: AlignedBytes::zeroed(STAGING_BYTES),
            start: 0,
            end: 0,
            large: None,
            spare: Arc::default(),
        }
    }
}

impl Assembler {
    /// Where the next bytes go; never empty.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if let Some(large) = &mut self.large {
            let length = large.header.frame_length();
            return &mut large.buffer[large.filled..length];
        }
        if self.start > 0 {
            self.staging.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.staging[self.end..]
    }

    /// Counts bytes that were put into the space.
    pub(crate) fn filled(&mut self, count: usize) {
        match &mut self.large {
            Some(large) => large.filled += count,
            None => self.end += count,
        }
    }

    /// The next whole frame, if it is there.
    ///
    /// # Errors
    /// A header that cannot be, or a frame above the limit: the stream is of no more use.
    pub(crate) fn next_frame(
        &mut self,
        frame_bytes_max: u32,
    ) -> Result<Option<(ResponseHeader, FrameBuffer)>, FrameError> {
        if let Some(large) = self
            .large
            .take_if(|large| large.filled == large.header.frame_length())
        {
            return Ok(Some((
                large.header,
                FrameBuffer {
                    bytes: large.buffer,
                    length: large.filled,
                    spare: Some(Arc::clone(&self.spare)),
                },
            )));
        }
        if self.large.is_some() {
            return Ok(None);
        }
        let staged = &self.staging[self.start..self.end];
        let Some(header) = ResponseHeader::parse(staged, frame_bytes_max)? else {
            return Ok(None);
        };
        let length = header.frame_length();
        if length <= staged.len() {
            let buffer = FrameBuffer {
                bytes: AlignedBytes::copy_of(&staged[..length]),
                length,
                spare: None,
            };
            self.start += length;
            return Ok(Some((header, buffer)));
        }
        if length > STAGING_BYTES {
            let mut buffer = self.spare.take(length);
            buffer[..staged.len()].copy_from_slice(staged);
            self.large = Some(Large {
                header,
                buffer,
                filled: staged.len(),
            });
            (self.start, self.end) = (0, 0);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use corelane_protocol::response::ApiVersionsResponse;
    use corelane_protocol::{CorrelationId, Response, ResponseMeta};

    use super::*;

    const LIMIT: u32 = 1 << 20;

    /// A response frame of about `bytes`, told apart by its correlation id.
    fn frame(id: u32, bytes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let meta = ResponseMeta {
            api_version: 1,
            correlation_id: CorrelationId::new(id),
            ..ResponseMeta::default()
        };
        let apis = vec![
            corelane_protocol::response::SupportedApi {
                api_key: 1,
                version_min: 1,
                version_max: 1,
            };
            bytes / 6
        ];
        let response = ApiVersionsResponse {
            apis,
            ..ApiVersionsResponse::default()
        };
        Response::ApiVersions(response).encode(&meta, &mut out);
        out
    }

    /// Feeds `stream` in pieces of at most `step` bytes; returns the frames that came out.
    fn assemble(stream: &[u8], step: usize) -> Vec<Vec<u8>> {
        let mut assembler = Assembler::default();
        let mut frames = Vec::new();
        let mut rest = stream;
        while !rest.is_empty() {
            let space = assembler.space();
            let count = step.min(space.len()).min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            assembler.filled(count);
            rest = &rest[count..];
            while let Some((header, buffer)) = assembler.next_frame(LIMIT).unwrap() {
                assert_eq!(buffer.bytes().len(), header.frame_length());
                assert_eq!(buffer.bytes().as_ptr().addr() % 8, 0);
                frames.push(buffer.bytes().to_vec());
            }
        }
        frames
    }

    #[test]
    fn frames_come_out_whole_however_the_stream_is_split() {
        let sizes = [
            0,
            10,
            STAGING_BYTES - 60,
            STAGING_BYTES,
            3 * STAGING_BYTES,
            5,
            300_000,
            7,
        ];
        let expected: Vec<Vec<u8>> = (0..).zip(sizes).map(|(id, size)| frame(id, size)).collect();
        let stream = expected.concat();
        for step in [1, 7, 24, 1_000, STAGING_BYTES, usize::MAX] {
            assert_eq!(assemble(&stream, step), expected, "step {step}");
        }
    }

    #[test]
    fn a_large_buffer_is_used_again() {
        let mut assembler = Assembler::default();
        for id in 0..3 {
            let stream = frame(id, 200_000);
            let mut rest = &stream[..];
            let taken = loop {
                let space = assembler.space();
                let count = space.len().min(rest.len());
                space[..count].copy_from_slice(&rest[..count]);
                assembler.filled(count);
                rest = &rest[count..];
                if let Some((_, buffer)) = assembler.next_frame(LIMIT).unwrap() {
                    break buffer;
                }
            };
            assert_eq!(taken.bytes(), stream);
            drop(taken);
            let spare = assembler.spare.0.lock().unwrap();
            assert_eq!(spare.len(), 1);
        }
    }

    #[test]
    fn a_length_above_the_limit_is_an_error_before_memory_is_taken() {
        let mut assembler = Assembler::default();
        let mut header = frame(1, 0)[..24].to_vec();
        header[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assembler.space()[..24].copy_from_slice(&header);
        assembler.filled(24);
        assert!(assembler.next_frame(LIMIT).is_err());
        assert!(assembler.large.is_none());
    }
}
