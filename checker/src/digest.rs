//! A fixed-size stand-in for a record's bytes, so that a history of millions of records fits in
//! memory.

use std::hash::Hasher;

/// In the manner of 128-bit FNV-1a, by words of eight bytes, over length-prefixed fields, of which long ones are taken
/// in several states beside each other, since each multiplication waits for the one before. It tells accidental damage
/// apart, not an attacker's work: two records of one history share a digest by chance once in about 10^26 pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(u128);

const FNV_OFFSET_BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const FNV_PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

/// States of a long field.
const LANES: usize = 4;

/// A field is long from this many rounds of all states on.
const ROUNDS_MIN: usize = 4;

impl Digest {
    /// The digest of a record without headers. A null key or value differs from an empty one.
    pub fn of_record(key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        Self(add_field(add_field(FNV_OFFSET_BASIS, key), value))
    }

    /// The digest of a key alone, by which the records of one key are recognised.
    pub fn of_key(key: &[u8]) -> Self {
        Self(add_field(FNV_OFFSET_BASIS, Some(key)))
    }
}

/// Hashes a digest for a map: it is a hash already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write_u128(&mut self, digest: u128) {
        self.0 = digest as u64 ^ (digest >> 64) as u64;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a digest is one number");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn add_field(state: u128, field: Option<&[u8]>) -> u128 {
    let Some(bytes) = field else {
        return add_bytes(state, &u64::MAX.to_le_bytes());
    };
    let length = u64::try_from(bytes.len()).expect("a slice is shorter than 2^63 bytes");
    add_bytes(add_bytes(state, &length.to_le_bytes()), bytes)
}

fn add_bytes(state: u128, bytes: &[u8]) -> u128 {
    let (words, rest) = bytes.as_chunks::<8>();
    let (rounds, words) = if words.len() >= LANES * ROUNDS_MIN {
        words.as_chunks::<LANES>()
    } else {
        (&[][..], words)
    };
    let state = if rounds.is_empty() {
        state
    } else {
        add_rounds(state, rounds)
    };
    let state = words
        .iter()
        .fold(state, |state, word| add_word(state, *word));
    if rest.is_empty() {
        return state;
    }
    let mut word = [0; 8];
    word[..rest.len()].copy_from_slice(rest);
    add_word(state, word)
}

fn add_rounds(state: u128, rounds: &[[[u8; 8]; LANES]]) -> u128 {
    let mut lanes = [state; LANES];
    for round in rounds {
        for (lane, word) in lanes.iter_mut().zip(round) {
            *lane = add_word(*lane, *word);
        }
    }
    lanes.into_iter().fold(state, add)
}

fn add_word(state: u128, word: [u8; 8]) -> u128 {
    add(state, u128::from(u64::from_le_bytes(word)))
}

/// Nothing is lost: for each state another number gives another one, and for each number another state does.
fn add(state: u128, number: u128) -> u128 {
    let state = (state ^ number).wrapping_mul(FNV_PRIME);
    state ^ (state >> 67)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_into_each_other() {
        let digests = [
            Digest::of_record(Some(b"ab"), Some(b"c")),
            Digest::of_record(Some(b"a"), Some(b"bc")),
            Digest::of_record(Some(b""), Some(b"abc")),
            Digest::of_record(None, Some(b"abc")),
            Digest::of_record(Some(b"abc"), None),
            Digest::of_record(Some(b"abc"), Some(b"")),
        ];
        for (index, left) in digests.iter().enumerate() {
            for right in &digests[index + 1..] {
                assert_ne!(left, right);
            }
        }
    }

    /// Also in the bytes that a multiplication alone would leave in the low half.
    #[test]
    fn every_bit_counts_wherever_it_is() {
        let digest = |value: &[u8]| Digest::of_record(None, Some(value));
        for length in [40, 8 * LANES * ROUNDS_MIN, 8 * LANES * ROUNDS_MIN + 21] {
            let value = vec![7; length];
            let mut seen = std::collections::BTreeSet::from([digest(&value)]);
            for bit in 0..value.len() * 8 {
                let mut other = value.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                assert!(seen.insert(digest(&other)), "bit {bit} of {length} bytes");
            }
        }
    }

    /// Each state of a long field has a place of its own.
    #[test]
    fn the_order_of_words_counts() {
        let value: Vec<u8> = (0..8 * LANES * ROUNDS_MIN)
            .map(|at| (at / 8) as u8)
            .collect();
        let (words, _) = value.as_chunks::<8>();
        let mut seen = std::collections::BTreeSet::new();
        for (left, right) in
            (0..words.len()).flat_map(|left| (0..left).map(move |right| (left, right)))
        {
            let mut other = words.to_vec();
            other.swap(left, right);
            assert!(
                seen.insert(Digest::of_key(other.as_flattened())),
                "{left} and {right}"
            );
        }
    }
}
