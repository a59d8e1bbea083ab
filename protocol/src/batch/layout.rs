//! Where each field of a batch stands. The compiler checks that the fields
//! follow one another without gap or overlap.

/// Bytes that the broker stamps, at the front of a batch.
pub const STAMP_LEN: usize = 48;
/// Bytes of the producer's header, after the stamp.
pub const HEADER_LEN: usize = 64;
/// Bytes before the payload.
pub const PREFIX_LEN: usize = STAMP_LEN + HEADER_LEN;
/// A batch begins at a multiple of this, in memory, in a frame and in a file,
/// and its length is one.
pub const BATCH_ALIGN: usize = 8;
/// The two bytes by which a batch is known.
pub const MAGIC: u16 = 0xC1BA;
/// The header's version.
pub const VERSION: u8 = 1;
/// The payload is the columnar archive. Other numbers leave room for other
/// payloads in the same log.
pub const ENCODING_COLUMNAR: u8 = 1;

/// Declares fields as `NAME at width`, and asserts that each begins where the
/// one before it ends, at a multiple of its own width (of 8 at most).
macro_rules! fields {
    ($first:literal .. $last:expr; $($(#[$doc:meta])* $name:ident $at:literal $width:literal;)+) => {
        $($(#[$doc])* pub(super) const $name: usize = $at;)+

        const _: () = {
            let mut end = $first;
            $(
                assert!($at == end, concat!(stringify!($name), " leaves a gap or overlaps"));
                let alignment = if $width < 8 { $width } else { 8 };
                assert!($at % alignment == 0, concat!(stringify!($name), " is not aligned"));
                end += $width;
            )+
            assert!(end == $last);
        };
    };
}

fields! { 0 .. STAMP_LEN;
    /// CRC32C of the rest of the stamp; never 0 in a stamped batch.
    STAMP_CHECKSUM 0 4;
    /// The header's CRC once more: ties the stamp to its batch.
    BATCH_CRC 4 4;
    TOPIC 8 16;
    PARTITION 24 4;
    LEADER_EPOCH 28 4;
    BASE_OFFSET 32 8;
    APPEND_TIME 40 8;
}

fields! { 48 .. PREFIX_LEN;
    /// CRC32C of everything after it, the padding included.
    CRC 48 4;
    MAGIC_AT 52 2;
    VERSION_AT 54 1;
    ENCODING 55 1;
    TOTAL_LENGTH 56 4;
    ATTRIBUTES 60 2;
    RESERVED_A 62 2;
    RECORD_COUNT 64 4;
    LAST_OFFSET_DELTA 68 4;
    FIRST_TIMESTAMP 72 8;
    MAX_TIMESTAMP 80 8;
    PRODUCER_ID 88 8;
    PRODUCER_EPOCH 96 2;
    RESERVED_B 98 2;
    BASE_SEQUENCE 100 4;
    PAYLOAD_LENGTH 104 4;
    UNCOMPRESSED_LENGTH 108 4;
}

const _: () = assert!(STAMP_LEN.is_multiple_of(BATCH_ALIGN));
const _: () = assert!(PREFIX_LEN.is_multiple_of(BATCH_ALIGN));

/// Where the CRC's coverage begins.
pub(super) const CRC_COVERS_FROM: usize = CRC + 4;
/// Where the stamp checksum's coverage begins.
pub(super) const STAMP_CHECKSUM_COVERS_FROM: usize = STAMP_CHECKSUM + 4;

/// The `N` bytes at `at`.
pub(super) fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the range has N bytes")
}

/// Overwrites the bytes at `at`.
pub(super) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}
