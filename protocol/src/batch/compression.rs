//! The four codecs. Each is used in its plainest form: the header says how long
//! the payload is once unpacked, so no codec's own framing is trusted with it.
//!
//! Owns the caps: what is reserved for unpacking is bounded by the limits, never
//! by the header's word alone.

use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;

use super::error::BatchError;
use crate::aligned::AlignedBytes;

/// How a payload is compressed; the numbers are Kafka's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Compression {
    /// Not at all: it is read in place.
    #[default]
    None = 0,
    /// One gzip member (RFC 1952).
    Gzip = 1,
    /// Snappy's block format.
    Snappy = 2,
    /// LZ4's block format.
    Lz4 = 3,
    /// One zstd frame (RFC 8878).
    Zstd = 4,
}

impl Compression {
    /// Every codec, in the order of the numbers.
    pub const ALL: &'static [Self] = &[Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The name in settings, as Kafka's `compression.type` has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    pub(super) fn from_bits(bits: u16) -> Option<Self> {
        Self::ALL.get(usize::from(bits)).copied()
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text names no codec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no compression; use none, gzip, snappy, lz4 or zstd")]
pub struct UnknownCompression(pub String);

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.iter().find(|codec| codec.as_str() == text);
        known
            .copied()
            .ok_or_else(|| UnknownCompression(text.to_owned()))
    }
}

/// The default limit on an unpacked payload, bytes.
pub const UNCOMPRESSED_BYTES_MAX_DEFAULT: u32 = 64 * 1024 * 1024;

/// Bytes to which any payload may unpack, whatever its ratio.
const RATIO_FREE_BYTES: u64 = 64 * 1024;

/// How far a payload may unpack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecompressLimit {
    /// Bytes of the unpacked payload.
    pub bytes_max: u32,
    /// Unpacked bytes for each packed byte, beyond a free 64 KiB.
    pub ratio_max: u32,
}

impl Default for DecompressLimit {
    fn default() -> Self {
        Self {
            bytes_max: UNCOMPRESSED_BYTES_MAX_DEFAULT,
            ratio_max: 4096,
        }
    }
}

impl DecompressLimit {
    /// Bytes to which a payload of `packed` bytes may unpack.
    pub(super) fn bytes_for(&self, packed: u32) -> u32 {
        let by_ratio = RATIO_FREE_BYTES + u64::from(packed) * u64::from(self.ratio_max);
        u32::try_from(by_ratio).map_or(self.bytes_max, |bytes| bytes.min(self.bytes_max))
    }
}

/// Unpacks `packed` to exactly `uncompressed_length` bytes.
///
/// # Errors
/// The limit is exceeded (checked before memory is reserved), or the bytes do
/// not unpack to this length.
pub(super) fn decompress(
    compression: Compression,
    packed: &[u8],
    uncompressed_length: u32,
    limit: &DecompressLimit,
) -> Result<AlignedBytes, BatchError> {
    let packed_length = u32::try_from(packed.len()).map_err(|_| BatchError::Lengths)?;
    let bytes_max = limit.bytes_for(packed_length);
    if uncompressed_length > bytes_max {
        return Err(BatchError::UnpacksTooLarge {
            uncompressed_length,
            bytes_max,
        });
    }
    let mut unpacked = AlignedBytes::zeroed(uncompressed_length as usize);
    let out = &mut unpacked[..];
    let complete = match compression {
        Compression::None => {
            let fits = packed.len() == out.len();
            if fits {
                out.copy_from_slice(packed);
            }
            fits
        }
        Compression::Gzip => gunzip(packed, out).is_ok(),
        Compression::Snappy => {
            snap::raw::decompress_len(packed) == Ok(out.len())
                && snap::raw::Decoder::new().decompress(packed, out) == Ok(out.len())
        }
        Compression::Lz4 => {
            lz4_flex::block::decompress_into(packed, out).is_ok_and(|length| length == out.len())
        }
        Compression::Zstd => zstd::bulk::Decompressor::new()
            .and_then(|mut decompressor| decompressor.decompress_to_buffer(packed, out))
            .is_ok_and(|length| length == uncompressed_length as usize),
    };
    if complete {
        Ok(unpacked)
    } else {
        Err(BatchError::Decompress { compression })
    }
}

/// Fills `out` from one gzip member that ends where `packed` ends.
fn gunzip(mut packed: &[u8], out: &mut [u8]) -> std::io::Result<()> {
    let mut decoder = flate2::bufread::GzDecoder::new(&mut packed);
    decoder.read_exact(out)?;
    // Reading on to the end of the member is what verifies its checksum.
    let more = decoder.read(&mut [0])?;
    if more != 0 || !packed.is_empty() {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    Ok(())
}

/// A codec with the state that it keeps between batches.
pub(super) enum Compressor {
    None,
    Gzip(flate2::Compression),
    Snappy(Box<snap::raw::Encoder>),
    Lz4,
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Compressor {
    /// The codec at `level`, which only gzip (0 to 9) and zstd know; values
    /// outside of a codec's range are brought into it.
    pub(super) fn new(compression: Compression, level: Option<i32>) -> std::io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None,
            Compression::Gzip => Self::Gzip(match level {
                None => flate2::Compression::default(),
                Some(level) => flate2::Compression::new(level.clamp(0, 9).unsigned_abs()),
            }),
            Compression::Snappy => Self::Snappy(Box::new(snap::raw::Encoder::new())),
            Compression::Lz4 => Self::Lz4,
            Compression::Zstd => {
                let range = zstd::compression_level_range();
                let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
                let level = level.clamp(*range.start(), *range.end());
                Self::Zstd(Box::new(zstd::bulk::Compressor::new(level)?))
            }
        })
    }

    pub(super) const fn compression(&self) -> Compression {
        match self {
            Self::None => Compression::None,
            Self::Gzip(_) => Compression::Gzip,
            Self::Snappy(_) => Compression::Snappy,
            Self::Lz4 => Compression::Lz4,
            Self::Zstd(_) => Compression::Zstd,
        }
    }

    /// Appends `plain`, packed, to `out`. `None` where it cannot be packed; what
    /// was appended then is of no use.
    pub(super) fn compress(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let start = out.len();
        let room = match self {
            Self::None => return None,
            Self::Gzip(_) => plain.len(),
            Self::Snappy(_) => snap::raw::max_compress_len(plain.len()),
            Self::Lz4 => lz4_flex::block::get_maximum_output_size(plain.len()),
            Self::Zstd(_) => zstd::zstd_safe::compress_bound(plain.len()),
        };
        out.resize(start + room, 0);
        let free = &mut out[start..];
        let length = match self {
            Self::None => return None,
            Self::Gzip(level) => {
                let mut encoder = flate2::write::GzEncoder::new(free, *level);
                encoder.write_all(plain).ok()?;
                room - encoder.finish().ok()?.len()
            }
            Self::Snappy(encoder) => encoder.compress(plain, free).ok()?,
            Self::Lz4 => lz4_flex::block::compress_into(plain, free).ok()?,
            Self::Zstd(compressor) => compressor.compress_to_buffer(plain, free).ok()?,
        };
        out.resize(start + length, 0);
        Some(())
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.compression(), f)
    }
}
