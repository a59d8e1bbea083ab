//! Frame headers: where a request or a response ends, and whose it is.
//!
//! Owns the first 16 bytes of a request and the first 24 of a response. A
//! length is held against the limit before anybody reserves memory for it.
//! Never looks into bodies.

use std::fmt;

use crate::api::ApiKey;
use crate::error::{ApiError, ErrorCode};
use crate::ids::CorrelationId;
use crate::wire::{EncodeError, Writer};

/// The default limit on one frame, bytes: a batch of 8 MiB and 64 KiB around it.
pub const FRAME_BYTES_MAX_DEFAULT: u32 = 8 * 1024 * 1024 + 64 * 1024;

/// Bytes of the length field, which does not count itself.
pub const LENGTH_BYTES: usize = 4;

/// What a request asks of the connection's core. Other bits must be 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestFlags(u32);

impl RequestFlags {
    /// Nothing special.
    pub const NONE: Self = Self(0);
    /// Answer NotOwner instead of forwarding to the owning core.
    pub const NO_FORWARD: Self = Self(1);

    /// Whether [`Self::NO_FORWARD`] is set.
    pub const fn no_forward(self) -> bool {
        self.0 & Self::NO_FORWARD.0 != 0
    }

    /// The bits on the wire.
    pub const fn bits(self) -> u32 {
        self.0
    }

    const fn known(self) -> bool {
        self.0 & !Self::NO_FORWARD.0 == 0
    }
}

/// The header of a request frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Bytes of the frame after this field.
    pub length: u32,
    /// The request's number, which may be unknown here.
    pub api_key: u16,
    /// The request's version, which may be unknown here.
    pub api_version: u16,
    /// Chosen by the client; the response repeats it.
    pub correlation_id: CorrelationId,
    /// See [`RequestFlags`].
    pub flags: RequestFlags,
}

impl RequestHeader {
    /// Bytes of the header, the length field included.
    pub const LEN: usize = 16;

    /// Reads the header at the front of `bytes`; `None` while fewer than
    /// [`Self::LEN`] bytes are there.
    ///
    /// # Errors
    /// Names the header where the sender can still be answered. The connection
    /// is to be closed in every case: where the next frame begins is unknown,
    /// or would cost more bytes than the limit.
    pub fn parse(bytes: &[u8], frame_bytes_max: u32) -> Result<Option<Self>, FrameError> {
        let Some(fields) = bytes.first_chunk::<{ Self::LEN }>() else {
            return Ok(None);
        };
        let header = Self {
            length: u32_at(fields, 0),
            api_key: u16_at(fields, 4),
            api_version: u16_at(fields, 6),
            correlation_id: CorrelationId::new(u32_at(fields, 8)),
            flags: RequestFlags(u32_at(fields, 12)),
        };
        check_length(header.length, Self::LEN, frame_bytes_max)?;
        if !header.flags.known() {
            return Err(FrameError::UnknownFlags {
                bits: header.flags.bits(),
            });
        }
        Ok(Some(header))
    }

    /// Reads the correlation id and API of a frame that [`Self::parse`] refused,
    /// so that the refusal can be answered.
    pub fn peek(bytes: &[u8]) -> Option<(u16, u16, CorrelationId)> {
        let fields = bytes.first_chunk::<{ Self::LEN }>()?;
        let correlation_id = CorrelationId::new(u32_at(fields, 8));
        Some((u16_at(fields, 4), u16_at(fields, 6), correlation_id))
    }

    /// Bytes of the whole frame.
    pub const fn frame_length(&self) -> usize {
        LENGTH_BYTES + self.length as usize
    }

    /// Bytes of the body.
    pub const fn body_length(&self) -> usize {
        self.frame_length() - Self::LEN
    }

    /// Writes one frame: the header with these fields, the body, and
    /// `raw_bytes` that the caller sends after it.
    pub(crate) fn write_frame(
        out: &mut Vec<u8>,
        api_key: ApiKey,
        correlation_id: CorrelationId,
        flags: RequestFlags,
        raw_bytes: usize,
        body: impl FnOnce(&mut Writer<'_>),
    ) -> Result<(), EncodeError> {
        let mut writer = Writer::new(out);
        writer.u32(0);
        writer.u16(api_key.as_u16());
        writer.u16(api_key.version());
        writer.u32(correlation_id.get());
        writer.u32(flags.bits());
        body(&mut writer);
        finish_frame(writer, raw_bytes)
    }
}

/// What every response carries beside its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseMeta {
    /// The request's version, in which the response is written.
    pub api_version: u16,
    /// The request's correlation id.
    pub correlation_id: CorrelationId,
    /// How long the client should pause before its next request, ms; a hint.
    pub throttle_ms: u32,
    /// How many more bytes of requests this connection may have in flight.
    pub credit_bytes: u32,
}

/// The header of a response frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHeader {
    /// Bytes of the frame after this field.
    pub length: u32,
    /// The request's number.
    pub api_key: u16,
    /// The request's version.
    pub api_version: u16,
    /// The request's correlation id.
    pub correlation_id: CorrelationId,
    /// How long the client should pause before its next request, ms; a hint.
    pub throttle_ms: u32,
    /// How many more bytes of requests this connection may have in flight.
    pub credit_bytes: u32,
    /// 0, or the error of the whole request; the body is its message then.
    pub error_code: u16,
}

impl ResponseHeader {
    /// Bytes of the header, the length field included.
    pub const LEN: usize = 24;

    /// Reads the header at the front of `bytes`; `None` while fewer than
    /// [`Self::LEN`] bytes are there.
    ///
    /// # Errors
    /// The connection is to be closed: framing is lost.
    pub fn parse(bytes: &[u8], frame_bytes_max: u32) -> Result<Option<Self>, FrameError> {
        let Some(fields) = bytes.first_chunk::<{ Self::LEN }>() else {
            return Ok(None);
        };
        let header = Self {
            length: u32_at(fields, 0),
            api_key: u16_at(fields, 4),
            api_version: u16_at(fields, 6),
            correlation_id: CorrelationId::new(u32_at(fields, 8)),
            throttle_ms: u32_at(fields, 12),
            credit_bytes: u32_at(fields, 16),
            error_code: u16_at(fields, 20),
        };
        check_length(header.length, Self::LEN, frame_bytes_max)?;
        match u16_at(fields, 22) {
            0 => Ok(Some(header)),
            bits => Err(FrameError::UnknownFlags {
                bits: u32::from(bits),
            }),
        }
    }

    /// Bytes of the whole frame.
    pub const fn frame_length(&self) -> usize {
        LENGTH_BYTES + self.length as usize
    }

    /// Bytes of the body.
    pub const fn body_length(&self) -> usize {
        self.frame_length() - Self::LEN
    }

    /// Writes one frame: the header with these fields, the body, and
    /// `raw_bytes` that the caller sends after it.
    pub(crate) fn write_frame(
        out: &mut Vec<u8>,
        api_key: u16,
        meta: &ResponseMeta,
        error_code: u16,
        raw_bytes: usize,
        body: impl FnOnce(&mut Writer<'_>),
    ) -> Result<(), EncodeError> {
        let mut writer = Writer::new(out);
        writer.u32(0);
        writer.u16(api_key);
        writer.u16(meta.api_version);
        writer.u32(meta.correlation_id.get());
        writer.u32(meta.throttle_ms);
        writer.u32(meta.credit_bytes);
        writer.u16(error_code);
        writer.u16(0);
        body(&mut writer);
        finish_frame(writer, raw_bytes)
    }
}

/// Why a frame header is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The frame is longer than the limit.
    TooLarge {
        /// Bytes of the whole frame.
        frame_bytes: u64,
        /// The limit.
        frame_bytes_max: u32,
    },
    /// The frame is shorter than its header.
    TooShort {
        /// Bytes of the whole frame.
        frame_bytes: u64,
    },
    /// Bits are set that have no meaning.
    UnknownFlags {
        /// The flags field.
        bits: u32,
    },
}

impl FrameError {
    /// The code with which a broker refuses such a request.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } => ErrorCode::FrameTooLarge,
            Self::TooShort { .. } | Self::UnknownFlags { .. } => ErrorCode::MalformedRequest,
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge {
                frame_bytes,
                frame_bytes_max,
            } => {
                write!(
                    f,
                    "a frame of {frame_bytes} bytes exceeds the limit of {frame_bytes_max}"
                )
            }
            Self::TooShort { frame_bytes } => {
                write!(
                    f,
                    "a frame of {frame_bytes} bytes is shorter than its header"
                )
            }
            Self::UnknownFlags { bits } => write!(f, "the flags {bits:#x} are unknown"),
        }
    }
}

impl std::error::Error for FrameError {}

impl From<FrameError> for ApiError {
    fn from(error: FrameError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

fn check_length(length: u32, header_bytes: usize, frame_bytes_max: u32) -> Result<(), FrameError> {
    let frame_bytes = u64::from(length) + LENGTH_BYTES as u64;
    if frame_bytes < header_bytes as u64 {
        return Err(FrameError::TooShort { frame_bytes });
    }
    if frame_bytes > u64::from(frame_bytes_max) {
        return Err(FrameError::TooLarge {
            frame_bytes,
            frame_bytes_max,
        });
    }
    Ok(())
}

fn finish_frame(mut writer: Writer<'_>, raw_bytes: usize) -> Result<(), EncodeError> {
    let length = writer.length() + raw_bytes;
    match u32::try_from(length - LENGTH_BYTES) {
        Ok(after) => writer.patch_u32(0, after),
        Err(_) => writer.fail(EncodeError::FrameTooLarge { length }),
    }
    writer.finish()
}

fn u16_at(fields: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(fields[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(fields: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(fields[at..at + 4].try_into().expect("four bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Vec<u8> {
        let mut frame = Vec::new();
        RequestHeader::write_frame(
            &mut frame,
            ApiKey::Fetch,
            CorrelationId::new(77),
            RequestFlags::NO_FORWARD,
            100,
            |writer| writer.u32(5),
        )
        .unwrap();
        frame
    }

    fn response() -> Vec<u8> {
        let meta = ResponseMeta {
            api_version: 1,
            correlation_id: CorrelationId::new(78),
            throttle_ms: 9,
            credit_bytes: 1 << 20,
        };
        let mut frame = Vec::new();
        ResponseHeader::write_frame(&mut frame, 3, &meta, 17, 0, |writer| writer.text("no"))
            .unwrap();
        frame
    }

    #[test]
    fn headers_read_back() {
        let header = RequestHeader::parse(&request(), 1000).unwrap().unwrap();
        assert_eq!((header.frame_length(), header.body_length()), (120, 104));
        assert_eq!((header.api_key, header.api_version), (3, 1));
        assert_eq!(header.correlation_id.get(), 77);
        assert!(header.flags.no_forward());
        let header = ResponseHeader::parse(&response(), 1000).unwrap().unwrap();
        assert_eq!((header.frame_length(), header.body_length()), (28, 4));
        assert_eq!(
            (header.throttle_ms, header.credit_bytes, header.error_code),
            (9, 1 << 20, 17)
        );
    }

    #[test]
    fn every_prefix_asks_for_more() {
        for length in 0..RequestHeader::LEN {
            assert_eq!(RequestHeader::parse(&request()[..length], 1000), Ok(None));
        }
        for length in 0..ResponseHeader::LEN {
            assert_eq!(ResponseHeader::parse(&response()[..length], 1000), Ok(None));
        }
    }

    #[test]
    fn every_flip_is_read_or_refused() {
        for bit in 0..RequestHeader::LEN * 8 {
            let mut frame = request();
            frame[bit / 8] ^= 1 << (bit % 8);
            let read = RequestHeader::parse(&frame, 1000);
            assert_ne!(read, RequestHeader::parse(&request(), 1000), "bit {bit}");
            if let Ok(Some(header)) = read {
                assert!(header.frame_length() <= 1000);
            }
        }
        for bit in 0..ResponseHeader::LEN * 8 {
            let mut frame = response();
            frame[bit / 8] ^= 1 << (bit % 8);
            let read = ResponseHeader::parse(&frame, 1000);
            assert_ne!(read, ResponseHeader::parse(&response(), 1000), "bit {bit}");
            if let Ok(Some(header)) = read {
                assert!(header.frame_length() <= 1000);
            }
        }
    }

    #[test]
    fn lengths_are_held_against_the_limit() {
        let mut frame = request();
        for length in [997, 1 << 31, u32::MAX] {
            frame[..4].copy_from_slice(&length.to_le_bytes());
            let error = RequestHeader::parse(&frame, 1000).unwrap_err();
            assert_eq!(
                error,
                FrameError::TooLarge {
                    frame_bytes: u64::from(length) + 4,
                    frame_bytes_max: 1000
                }
            );
            assert_eq!(error.code(), ErrorCode::FrameTooLarge);
        }
        frame[..4].copy_from_slice(&996_u32.to_le_bytes());
        assert!(RequestHeader::parse(&frame, 1000).unwrap().is_some());
        frame[..4].copy_from_slice(&11_u32.to_le_bytes());
        assert_eq!(
            RequestHeader::parse(&frame, 1000),
            Err(FrameError::TooShort { frame_bytes: 15 })
        );
        assert_eq!(
            RequestHeader::peek(&frame),
            Some((3, 1, CorrelationId::new(77)))
        );
    }
}
