//! The hash that places keys: murmur2 exactly as Kafka's Java client computes
//! it, so that a key lands on the same partition number there and here.

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;
const R: u32 = 24;

/// Murmur2 of `data` with Kafka's seed (`org.apache.kafka.common.utils.Utils`).
/// Java shows the same 32 bits as a signed number.
pub fn murmur2(data: &[u8]) -> u32 {
    // Java's length is an int; arrays there cannot be longer, and the low 32
    // bits are what enters the hash.
    let mut hash = SEED ^ (data.len() as u32);
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (index, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of a record with this key among `partitions`: the hash with
/// its sign bit cleared, modulo the number of partitions, as Kafka's default
/// partitioner has it.
///
/// # Panics
/// When `partitions` is 0.
pub fn partition_for_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's `UtilsTest.testMurmur2`.
    #[test]
    fn kafkas_published_vectors() {
        let vectors: &[(&[u8], i32)] = &[
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (
                b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            (b"abc", 479_470_107),
        ];
        for (data, expected) in vectors {
            assert_eq!(
                murmur2(data) as i32,
                *expected,
                "{:?}",
                String::from_utf8_lossy(data)
            );
        }
    }

    #[test]
    fn partitions_follow_the_positive_hash() {
        assert_eq!(
            partition_for_key(b"21", 10),
            ((-973_932_308_i32) & i32::MAX) as u32 % 10
        );
        assert_eq!(partition_for_key(b"", 1), 0);
    }
}
