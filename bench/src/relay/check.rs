//! Checks the frames of a stream, in whatever pieces it comes.

use super::HEADER_BYTES;

/// The check of one stream.
#[derive(Debug, Default)]
pub(super) struct FrameCheck {
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    left: usize,
    expected: u32,
    checksum: u32,
    frames: u64,
}

/// A frame whose bytes are not those that were sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame {frame} does not match its checksum")]
pub(super) struct BadFrame {
    frame: u64,
}

impl FrameCheck {
    /// Frames that were right.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// Goes over the next bytes of the stream.
    pub(super) fn check(&mut self, mut bytes: &[u8]) -> Result<(), BadFrame> {
        while !bytes.is_empty() {
            if self.header_bytes < HEADER_BYTES {
                let taken = bytes.len().min(HEADER_BYTES - self.header_bytes);
                let (piece, rest) = bytes.split_at(taken);
                self.header[self.header_bytes..][..taken].copy_from_slice(piece);
                self.header_bytes += taken;
                bytes = rest;
                if self.header_bytes == HEADER_BYTES {
                    self.begin();
                    self.end_if_whole()?;
                }
                continue;
            }
            let (piece, rest) = bytes.split_at(bytes.len().min(self.left));
            self.checksum = crc32c::crc32c_append(self.checksum, piece);
            self.left -= piece.len();
            bytes = rest;
            self.end_if_whole()?;
        }
        Ok(())
    }

    fn begin(&mut self) {
        let (length, checksum) = self.header.split_at(4);
        let field = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        self.left = field(length) as usize;
        self.expected = field(checksum);
        self.checksum = 0;
    }

    fn end_if_whole(&mut self) -> Result<(), BadFrame> {
        if self.left > 0 {
            return Ok(());
        }
        if self.checksum != self.expected {
            return Err(BadFrame { frame: self.frames });
        }
        self.frames += 1;
        self.header_bytes = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::Frames;

    fn stream() -> Vec<u8> {
        Frames::relay(100, 1).block(0, 3).to_vec()
    }

    #[test]
    fn frames_are_checked_in_pieces_of_any_size() {
        let stream = stream();
        for size in 1..stream.len() {
            let mut check = FrameCheck::default();
            for piece in stream.chunks(size) {
                assert_eq!(check.check(piece), Ok(()));
            }
            assert_eq!(check.frames(), 3, "in pieces of {size}");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_body_or_checksum_is_seen() {
        let stream = stream();
        // A flipped length moves the end of the frame, which only a longer stream would show.
        for bit in 4 * 8..100 * 8 {
            let mut damaged = stream.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let result = FrameCheck::default().check(&damaged);
            assert_eq!(result, Err(BadFrame { frame: 0 }), "bit {bit}");
        }
    }
}
