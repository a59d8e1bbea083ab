//! What the hostile tests share: damage, and the memory that a decoder reserves.
#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod group_requests;
pub(crate) mod group_responses;

/// Runs `decode` and returns its result with the most bytes that it held.
pub(crate) fn peak<T>(decode: impl FnOnce() -> T) -> (T, u64) {
    let mut result = None;
    let allocated = allocation_counter::measure(|| result = Some(decode()));
    (
        result.expect("measure runs its closure"),
        allocated.bytes_max,
    )
}

/// Every single-bit flip of `bytes` within `range`, with the bit's number.
pub(crate) fn flips(
    bytes: &[u8],
    range: std::ops::Range<usize>,
) -> impl Iterator<Item = (usize, Vec<u8>)> + '_ {
    (range.start * 8..range.end * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        (bit, flipped)
    })
}

/// `bytes` with absurd numbers written over every position: whatever field is a
/// count or a length somewhere, it becomes 2^16-1, 2^24, 2^31, 2^32-1, 2^63.
pub(crate) fn absurdities(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> + '_ {
    let numbers = [
        u16::MAX.to_le_bytes().to_vec(),
        (1_u32 << 24).to_le_bytes().to_vec(),
        (1_u32 << 31).to_le_bytes().to_vec(),
        (i32::MAX as u32).to_le_bytes().to_vec(),
        u32::MAX.to_le_bytes().to_vec(),
        (1_u64 << 63).to_le_bytes().to_vec(),
        u64::MAX.to_le_bytes().to_vec(),
    ];
    (0..bytes.len()).flat_map(move |at| {
        let written = numbers.iter().filter_map(|number| {
            let mut changed = bytes.to_vec();
            changed
                .get_mut(at..at + number.len())?
                .copy_from_slice(number);
            Some((at, changed))
        });
        written.collect::<Vec<_>>()
    })
}
