//! The native payload: an rkyv archive of columns.
//!
//! Owns its shape and every check that rkyv does not make: that ends rise and
//! stay within their blob, that the columns have as many rows as the header has
//! records, that what is marked null is empty, that header keys are UTF-8 and
//! that the timestamps are those of the header. Bytes are only ever read
//! through [`checked`] or, after that succeeded once, through [`access`].

use rkyv::primitive::{ArchivedI16, ArchivedI32, ArchivedU16, ArchivedU32};
use rkyv::rancor::Failure;
use rkyv::{Archive, Serialize};

use super::error::BatchError;
use super::header::BatchHeader;
use crate::aligned::AlignedBytes;

/// A whole payload.
#[derive(Debug, Default, Archive, Serialize)]
#[rkyv(derive(Debug))]
pub(super) struct Columns {
    /// The values.
    pub(super) values: Blobs,
    /// The keys; absent where every key is null.
    pub(super) keys: Option<Box<Blobs>>,
    /// The timestamps, less the header's first one.
    pub(super) timestamps: Deltas,
    /// The offsets, less the batch's base offset; empty where they are
    /// consecutive. Only compaction makes gaps.
    pub(super) offsets: Vec<u32>,
    /// The headers; absent where no record has any.
    pub(super) headers: Option<Box<HeaderColumns>>,
}

/// The headers of all records, one after the other.
#[derive(Debug, Default, Archive, Serialize)]
#[rkyv(derive(Debug))]
pub(super) struct HeaderColumns {
    /// For each record, the number of headers up to and with its own.
    pub(super) record_ends: Ends,
    /// The headers' keys; never null, UTF-8.
    pub(super) keys: Blobs,
    /// The headers' values.
    pub(super) values: Blobs,
}

/// Byte strings, one after the other.
#[derive(Debug, Default, Archive, Serialize)]
#[rkyv(derive(Debug))]
pub(super) struct Blobs {
    /// Where each ends in `bytes`; it begins where the one before it ends.
    pub(super) ends: Ends,
    /// A bit for each, the lowest first: whether it is null. Empty where none is.
    pub(super) nulls: Vec<u8>,
    /// All of them.
    pub(super) bytes: Vec<u8>,
}

/// Positions that never fall, narrow where the last one fits.
#[derive(Debug, Archive, Serialize)]
#[rkyv(derive(Debug))]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the builder writes it as bytes")
)]
pub(super) enum Ends {
    Narrow(Vec<u16>),
    Wide(Vec<u32>),
}

/// Differences to the header's first timestamp, ms, as narrow as they fit.
#[derive(Debug, Default, Archive, Serialize)]
#[rkyv(derive(Debug))]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the builder writes it as bytes")
)]
pub(super) enum Deltas {
    #[default]
    Zero,
    Narrow(Vec<i16>),
    Wide(Vec<i32>),
}

/// The archive's fixed parts, as `docs/wire.md` draws them.
const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(size_of::<ArchivedEnds>() == 12);
    assert!(size_of::<ArchivedDeltas>() == 12);
    assert!(size_of::<ArchivedBlobs>() == 28);
    assert!(offset_of!(ArchivedBlobs, ends) == 0);
    assert!(offset_of!(ArchivedBlobs, nulls) == 12);
    assert!(offset_of!(ArchivedBlobs, bytes) == 20);
    assert!(size_of::<ArchivedHeaderColumns>() == 68);
    assert!(offset_of!(ArchivedHeaderColumns, record_ends) == 0);
    assert!(offset_of!(ArchivedHeaderColumns, keys) == 12);
    assert!(offset_of!(ArchivedHeaderColumns, values) == 40);
    assert!(size_of::<ArchivedColumns>() == 64);
    assert!(offset_of!(ArchivedColumns, values) == 0);
    assert!(offset_of!(ArchivedColumns, keys) == 28);
    assert!(offset_of!(ArchivedColumns, timestamps) == 36);
    assert!(offset_of!(ArchivedColumns, offsets) == 48);
    assert!(offset_of!(ArchivedColumns, headers) == 56);
    assert!(align_of::<ArchivedColumns>() == 4);
};

impl Default for Ends {
    fn default() -> Self {
        Self::Narrow(Vec::new())
    }
}

impl Columns {
    /// Appends the archive to `out`, whose length is a multiple of 8.
    pub(super) fn write(&self, out: &mut AlignedBytes) {
        let buffer = std::mem::take(out).into_inner();
        let written = rkyv::api::high::to_bytes_in::<_, Failure>(self, buffer);
        *out = AlignedBytes::from_inner(written.expect("memory takes every byte"));
    }
}

/// The columns in `payload`, which begins at a multiple of 8, after every check.
pub(super) fn checked<'a>(
    payload: &'a [u8],
    header: &BatchHeader,
) -> Result<&'a ArchivedColumns, BatchError> {
    let columns = access(payload)?;
    columns.check(header)?;
    Ok(columns)
}

/// The columns in `payload`, safe to touch, with nothing said about what the
/// numbers in them mean.
pub(super) fn access(payload: &[u8]) -> Result<&ArchivedColumns, BatchError> {
    rkyv::access::<ArchivedColumns, Failure>(payload).map_err(|_| BatchError::Structure {
        what: "it is no archive of columns",
    })
}

fn ensure(holds: bool, what: &'static str) -> Result<(), BatchError> {
    if holds {
        Ok(())
    } else {
        Err(BatchError::Structure { what })
    }
}

impl ArchivedColumns {
    fn check(&self, header: &BatchHeader) -> Result<(), BatchError> {
        let rows = header.record_count as usize;
        self.values.check(rows)?;
        if let Some(keys) = self.keys.as_ref() {
            keys.check(rows)?;
        }
        self.timestamps.check(rows, header)?;
        self.check_offsets(header)?;
        match self.headers.as_ref() {
            Some(headers) => headers.check(rows),
            None => Ok(()),
        }
    }

    /// The first record without a key. The columns are checked.
    pub(super) fn first_null_key(&self) -> Option<u32> {
        let Some(keys) = self.keys.as_ref() else {
            return Some(0);
        };
        let byte = keys.nulls.iter().position(|marks| *marks != 0)?;
        Some(byte as u32 * 8 + keys.nulls[byte].trailing_zeros())
    }

    fn check_offsets(&self, header: &BatchHeader) -> Result<(), BatchError> {
        let Some(last) = self.offsets.last() else {
            // The last record may be gone without a gap before it.
            return Ok(());
        };
        ensure(
            self.offsets.len() == header.record_count as usize,
            "offsets and records differ",
        )?;
        let pairs = self.offsets.iter().zip(self.offsets.iter().skip(1));
        ensure(
            pairs.fold(true, |rise, (one, next)| {
                rise & (one.to_native() < next.to_native())
            }),
            "offsets do not rise",
        )?;
        ensure(
            last.to_native() <= header.last_offset_delta,
            "an offset is beyond the last one",
        )
    }
}

impl ArchivedHeaderColumns {
    fn check(&self, rows: usize) -> Result<(), BatchError> {
        let headers = self.keys.ends.len();
        ensure(
            self.record_ends.len() == rows,
            "header counts and records differ",
        )?;
        ensure(
            self.record_ends.rise_to(headers),
            "header counts do not rise to the headers",
        )?;
        self.keys.check(headers)?;
        self.values.check(headers)?;
        ensure(self.keys.nulls.is_empty(), "a header key is null")?;
        let keys = std::str::from_utf8(&self.keys.bytes);
        let keys = keys.map_err(|_| BatchError::Structure {
            what: "a header key is not UTF-8",
        })?;
        let split = |index| !keys.is_char_boundary(self.keys.ends.get(index));
        ensure(
            !(0..headers).any(split),
            "a header key ends within a character",
        )
    }
}

impl ArchivedBlobs {
    fn check(&self, rows: usize) -> Result<(), BatchError> {
        ensure(self.ends.len() == rows, "ends and rows differ")?;
        ensure(
            self.ends.rise_to(self.bytes.len()),
            "ends do not rise to the end of the bytes",
        )?;
        if self.nulls.is_empty() {
            return Ok(());
        }
        ensure(
            self.nulls.len() == rows.div_ceil(8),
            "null marks and rows differ",
        )?;
        for (index, marks) in self.nulls.iter().enumerate() {
            let mut marks = *marks;
            while marks != 0 {
                let row = index * 8 + marks.trailing_zeros() as usize;
                ensure(row < rows, "a null mark is beyond the last row")?;
                ensure(
                    self.ends.start(row) == self.ends.get(row),
                    "a null has bytes",
                )?;
                marks &= marks - 1;
            }
        }
        Ok(())
    }

    /// The bytes of row `index`, which begin at `start`; `None` where it is null.
    pub(super) fn row(&self, index: usize, start: usize, end: usize) -> Option<&[u8]> {
        if !self.nulls.is_empty() && self.nulls[index / 8] & (1 << (index % 8)) != 0 {
            return None;
        }
        Some(&self.bytes[start..end])
    }
}

impl ArchivedEnds {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Narrow(ends) => ends.len(),
            Self::Wide(ends) => ends.len(),
        }
    }

    /// Where row `index` ends.
    pub(super) fn get(&self, index: usize) -> usize {
        match self {
            Self::Narrow(ends) => usize::from(ends[index].to_native()),
            Self::Wide(ends) => ends[index].to_native() as usize,
        }
    }

    /// Where row `index` begins.
    pub(super) fn start(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.get(index - 1) }
    }

    /// Whether no end falls and the last one is `total` (0 where there is none).
    fn rise_to(&self, total: usize) -> bool {
        match self {
            Self::Narrow(ends) => {
                let last = ends.last().map_or(0, |end| usize::from(end.to_native()));
                last == total && never_fall(ends, |end: &ArchivedU16| end.to_native())
            }
            Self::Wide(ends) => {
                let last = ends.last().map_or(0, |end| end.to_native() as usize);
                last == total && never_fall(ends, |end: &ArchivedU32| end.to_native())
            }
        }
    }
}

/// Whether no item is less than the one before it. Without an early exit, so
/// that it compiles to a few instructions for many items.
fn never_fall<T, N: PartialOrd>(items: &[T], number: impl Fn(&T) -> N) -> bool {
    let pairs = items.iter().zip(items.iter().skip(1));
    pairs.fold(true, |rise, (one, next)| {
        rise & (number(one) <= number(next))
    })
}

impl ArchivedDeltas {
    /// The delta of row `index`, ms.
    pub(super) fn get(&self, index: usize) -> i64 {
        match self {
            Self::Zero => 0,
            Self::Narrow(deltas) => i64::from(deltas[index].to_native()),
            Self::Wide(deltas) => i64::from(deltas[index].to_native()),
        }
    }

    fn check(&self, rows: usize, header: &BatchHeader) -> Result<(), BatchError> {
        let (length, first, min, max) = match self {
            Self::Zero => (rows, 0, 0, 0),
            Self::Narrow(deltas) => {
                let (min, max) = span(deltas, |delta: &ArchivedI16| delta.to_native());
                let first = deltas.first().map_or(0, |delta| delta.to_native());
                (deltas.len(), first.into(), min.into(), max.into())
            }
            Self::Wide(deltas) => {
                let (min, max) = span(deltas, |delta: &ArchivedI32| delta.to_native());
                (
                    deltas.len(),
                    deltas.first().map_or(0, |delta| delta.to_native()),
                    min,
                    max,
                )
            }
        };
        ensure(length == rows, "timestamps and records differ")?;
        ensure(first == 0, "the first timestamp is not the header's")?;
        let base = header.first_timestamp.get();
        ensure(base + i64::from(min) >= 0, "a timestamp is negative")?;
        let max = base + i64::from(max);
        ensure(
            max == header.max_timestamp.get(),
            "the latest timestamp is not the header's",
        )
    }
}

/// The least and the greatest number, 0 included: the first delta is 0.
fn span<T, N: Ord + Copy + Default>(items: &[T], number: impl Fn(&T) -> N) -> (N, N) {
    let start = (N::default(), N::default());
    items
        .iter()
        .map(number)
        .fold(start, |(min, max), n| (min.min(n), max.max(n)))
}
