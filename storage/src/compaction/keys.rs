//! The last offset of each key, in bounded memory.
//!
//! Owns the hashes of keys: 128 bits by SipHash (Aumasson and Bernstein, 2012) under a key of the store's own, so
//! that two keys that meet are as good as impossible and nobody can look for them. Pure.

use std::collections::BTreeMap;

use corelane_protocol::Offset;
use siphasher::sip128::SipHasher13;
use uuid::Uuid;

/// About what one key takes, bytes: hash and offset, in nodes that are half full at worst, and those above them.
pub(crate) const KEY_BYTES: usize = 64;

/// The last offset of each key that was noted.
#[derive(Debug)]
pub(crate) struct LatestOffsets {
    hasher: SipHasher13,
    keys_max: usize,
    offsets: BTreeMap<u128, Offset>,
}

impl LatestOffsets {
    /// Knows no key yet, and takes as many as fit into about `bytes_max` bytes, one at least.
    pub(crate) fn new(secret: Uuid, bytes_max: usize) -> Self {
        let (high, low) = secret.as_u64_pair();
        Self {
            hasher: SipHasher13::new_with_keys(high, low),
            keys_max: (bytes_max / KEY_BYTES).max(1),
            offsets: BTreeMap::new(),
        }
    }

    /// Notes a record behind those noted before. Returns whether there was room for its key.
    pub(crate) fn note(&mut self, key: &[u8], offset: Offset) -> bool {
        let hash = self.hash(key);
        if self.offsets.len() == self.keys_max && !self.offsets.contains_key(&hash) {
            return false;
        }
        self.offsets.insert(hash, offset);
        true
    }

    /// The last offset noted for a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Offset> {
        self.offsets.get(&self.hash(key)).copied()
    }

    fn hash(&self, key: &[u8]) -> u128 {
        self.hasher.hash(key).as_u128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_counts_and_memory_is_bounded() {
        let mut latest = LatestOffsets::new(Uuid::from_u128(5), 3 * KEY_BYTES + 1);
        for (offset, key) in [(1, "a"), (2, "b"), (3, ""), (4, "a")] {
            assert!(latest.note(key.as_bytes(), Offset::new(offset)));
        }
        assert!(!latest.note(b"c", Offset::new(5)), "it is full");
        assert!(latest.note(b"b", Offset::new(6)), "of keys, not of records");
        let get = |key: &str| latest.get(key.as_bytes()).map(Offset::get);
        assert_eq!(
            (get("a"), get("b"), get(""), get("c")),
            (Some(4), Some(6), Some(3), None)
        );
    }

    #[test]
    fn every_store_hashes_in_its_own_way() {
        let hash = |secret| LatestOffsets::new(Uuid::from_u128(secret), 0).hash(b"key");
        assert_ne!(hash(1), hash(2));
        assert_eq!(hash(3), hash(3));
    }
}
