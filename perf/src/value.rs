//! The values that are sent: each carries its number, so that what is read back can be recognised.

/// Makes and recognises values of one size.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    filler: Vec<u8>,
}

/// Bytes of a value's number.
const NUMBER_BYTES: usize = 8;

impl Values {
    /// Values of this size, in bytes; at least [`NUMBER_BYTES`].
    pub(crate) fn new(bytes: usize) -> Self {
        assert!(bytes >= NUMBER_BYTES, "a value holds its number");
        // No two bytes in a row alike, so that nothing on the way can take advantage of zeros.
        let mut state: u32 = 0x9e37_79b9;
        let filler = (0..bytes).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_le_bytes()[3]
        });
        Self {
            filler: filler.collect(),
        }
    }

    /// Fills `values` with `count` values numbered from `first`, one after the other.
    pub(crate) fn fill(&self, values: &mut Vec<u8>, first: u64, count: usize) {
        values.clear();
        for number in (first..).take(count) {
            values.extend_from_slice(&number.to_le_bytes());
            values.extend_from_slice(&self.filler[NUMBER_BYTES..]);
        }
    }

    /// The number of a value, if it is whole.
    pub(crate) fn number(&self, value: &[u8]) -> Option<u64> {
        let (number, rest) = value.split_first_chunk::<NUMBER_BYTES>()?;
        (rest == &self.filler[NUMBER_BYTES..]).then(|| u64::from_le_bytes(*number))
    }

    /// The size of each value, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.filler.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_recognised_and_damage_is_not() {
        let values = Values::new(100);
        let mut bytes = Vec::new();
        values.fill(&mut bytes, 7, 3);
        assert_eq!(bytes.len(), 300);
        let numbers: Vec<_> = bytes
            .chunks(100)
            .map(|value| values.number(value))
            .collect();
        assert_eq!(numbers, [Some(7), Some(8), Some(9)]);
        bytes[150] ^= 1;
        assert_eq!(values.number(&bytes[100..200]), None);
        assert_eq!(values.number(&bytes[..99]), None);
        assert_eq!(values.number(&[]), None);
    }
}
