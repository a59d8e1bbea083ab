//! Little-endian fields at fixed places of a byte layout.
//!
//! Owns nothing and knows no layout: each format names its own places. Used on every core.

/// The unit of padding and of writing in every file of the engine, in bytes.
pub(crate) const BLOCK: u64 = crate::disk::BLOCK_BYTES as u64;

/// The bytes of every file header, and of a group's, that carry fields; their last four are a checksum.
pub(crate) const HEADER_BYTES: usize = 128;

/// `value` rounded down to a whole number of blocks.
pub(crate) const fn block_floor(value: u64) -> u64 {
    value - value % BLOCK
}

/// `value` rounded up to a whole number of blocks.
pub(crate) const fn block_ceiling(value: u64) -> u64 {
    value.next_multiple_of(BLOCK)
}

macro_rules! field {
    ($get:ident, $put:ident, $number:ty) => {
        /// The number at `at`.
        ///
        /// # Panics
        /// If the bytes end before it does.
        pub(crate) fn $get(bytes: &[u8], at: usize) -> $number {
            const LEN: usize = size_of::<$number>();
            <$number>::from_le_bytes(
                bytes[at..at + LEN]
                    .try_into()
                    .expect("the range has its length"),
            )
        }

        /// Puts a number at `at`.
        ///
        /// # Panics
        /// If the bytes end before it does.
        pub(crate) fn $put(bytes: &mut [u8], at: usize, value: $number) {
            bytes[at..at + size_of::<$number>()].copy_from_slice(&value.to_le_bytes());
        }
    };
}

field!(get_u16, put_u16, u16);
field!(get_u32, put_u32, u32);
field!(get_u64, put_u64, u64);

/// The 16 bytes at `at`.
///
/// # Panics
/// If the bytes end before.
pub(crate) fn get_16(bytes: &[u8], at: usize) -> [u8; 16] {
    bytes[at..at + 16]
        .try_into()
        .expect("the range has its length")
}

/// Writes the checksum of a header of `HEADER_BYTES` into its last four bytes.
pub(crate) fn seal_header(header: &mut [u8], seed: &[u8]) {
    let checksum = header_checksum(header, seed);
    put_u32(header, HEADER_BYTES - 4, checksum);
}

/// Whether a header of `HEADER_BYTES` carries its own checksum.
pub(crate) fn header_is_sound(header: &[u8], seed: &[u8]) -> bool {
    get_u32(header, HEADER_BYTES - 4) == header_checksum(header, seed)
}

fn header_checksum(header: &[u8], seed: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(seed), &header[..HEADER_BYTES - 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_little_endian() {
        let mut bytes = [0; 20];
        put_u64(&mut bytes, 1, 0x0102_0304_0506_0708);
        put_u16(&mut bytes, 10, 0xa0b0);
        put_u32(&mut bytes, 12, 7);
        assert_eq!(&bytes[1..9], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(
            (get_u64(&bytes, 1), get_u16(&bytes, 10), get_u32(&bytes, 12)),
            (0x0102_0304_0506_0708, 0xa0b0, 7)
        );
    }

    #[test]
    fn a_headers_checksum_covers_every_bit_and_the_seed() {
        let mut header = [3; HEADER_BYTES];
        seal_header(&mut header, b"seed");
        assert!(header_is_sound(&header, b"seed"));
        assert!(!header_is_sound(&header, b"Seed"));
        for bit in 0..HEADER_BYTES * 8 {
            header[bit / 8] ^= 1 << (bit % 8);
            assert!(!header_is_sound(&header, b"seed"), "bit {bit}");
            header[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn rounding_is_to_blocks() {
        assert_eq!(
            (block_floor(4095), block_floor(4096), block_floor(9000)),
            (0, 4096, 8192)
        );
        assert_eq!(
            (block_ceiling(0), block_ceiling(1), block_ceiling(4096)),
            (0, 4096, 4096)
        );
    }
}
