//! The values that are sent: each carries its number, so that what is read back can be recognised.

use corelane_client::RecordRef;

/// Bytes of a value's number.
pub(crate) const NUMBER_BYTES: usize = 8;
/// Bytes of a number and the time at which the record was sent.
pub(crate) const STAMPED_BYTES: usize = 16;

/// A value's number: the run, the producer, and the how-manieth of its records it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    /// Tells this run's records from those of others on the same topic.
    pub(crate) run: u16,
    pub(crate) producer: u8,
    /// At most [`SEQUENCE_BITS`].
    pub(crate) sequence: u64,
}

const SEQUENCE_BITS: u32 = 40;

impl Number {
    pub(crate) fn pack(self) -> u64 {
        let sequence = self.sequence & ((1 << SEQUENCE_BITS) - 1);
        u64::from(self.run) << 48 | u64::from(self.producer) << SEQUENCE_BITS | sequence
    }

    pub(crate) fn unpack(packed: u64) -> Self {
        Self {
            run: (packed >> 48) as u16,
            producer: (packed >> SEQUENCE_BITS) as u8,
            sequence: packed & ((1 << SEQUENCE_BITS) - 1),
        }
    }
}

/// Records that were made.
pub(crate) struct Made<'v>(std::slice::ChunksExact<'v, u8>);

impl<'v> Iterator for Made<'v> {
    type Item = RecordRef<'v>;

    fn next(&mut self) -> Option<RecordRef<'v>> {
        self.0.next().map(RecordRef::value)
    }
}

/// Makes and recognises values of one size.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    filler: Vec<u8>,
    /// Values one after the other, of which only what differs is written anew.
    made: Vec<u8>,
}

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
            made: Vec::new(),
        }
    }

    /// The values with these numbers; where `sent_ns` is given they carry it, and have [`STAMPED_BYTES`] at least.
    pub(crate) fn make(&mut self, first: Number, count: usize, sent_ns: Option<u64>) -> Made<'_> {
        self.write(first, count, sent_ns);
        Made(self.made[..count * self.filler.len()].chunks_exact(self.filler.len()))
    }

    fn write(&mut self, first: Number, count: usize, sent_ns: Option<u64>) {
        let bytes = self.filler.len();
        while self.made.len() < count * bytes {
            self.made.extend_from_slice(&self.filler);
        }
        let values = self.made.chunks_exact_mut(bytes).take(count);
        for (packed, value) in (first.pack()..).zip(values) {
            value[..NUMBER_BYTES].copy_from_slice(&packed.to_le_bytes());
            if let Some(sent_ns) = sent_ns {
                value[NUMBER_BYTES..STAMPED_BYTES].copy_from_slice(&sent_ns.to_le_bytes());
            }
        }
    }

    /// The number of a value, if it is whole.
    pub(crate) fn number(&self, value: &[u8]) -> Option<Number> {
        let (packed, rest) = value.split_first_chunk::<NUMBER_BYTES>()?;
        let is_whole = rest == &self.filler[NUMBER_BYTES..];
        is_whole.then(|| Number::unpack(u64::from_le_bytes(*packed)))
    }

    /// The number and the time of a value that has one, if it is whole.
    pub(crate) fn stamp(&self, value: &[u8]) -> Option<(Number, u64)> {
        let (packed, rest) = value.split_first_chunk::<NUMBER_BYTES>()?;
        let (sent_ns, rest) = rest.split_first_chunk::<{ STAMPED_BYTES - NUMBER_BYTES }>()?;
        let is_whole = rest == self.filler.get(STAMPED_BYTES..)?;
        let number = Number::unpack(u64::from_le_bytes(*packed));
        is_whole.then(|| (number, u64::from_le_bytes(*sent_ns)))
    }

    /// The size of each value, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.filler.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Number = Number {
        run: 0xbeef,
        producer: 63,
        sequence: 7,
    };

    #[test]
    fn values_are_recognised_and_damage_is_not() {
        let mut values = Values::new(100);
        assert_eq!(values.make(FIRST, 3, None).count(), 3);
        let mut made: Vec<Vec<u8>> = values.made.chunks(100).map(<[u8]>::to_vec).collect();
        let numbers: Vec<_> = made
            .iter()
            .map(|value| values.number(value).map(|number| number.sequence))
            .collect();
        assert_eq!(numbers, [Some(7), Some(8), Some(9)]);
        assert_eq!(values.number(&made[0]), Some(FIRST));
        made[1][50] ^= 1;
        assert_eq!(values.number(&made[1]), None);
        assert_eq!(values.number(&made[0][..99]), None);
        assert_eq!(values.number(&[]), None);
    }

    #[test]
    fn a_value_may_carry_its_time() {
        for bytes in [STAMPED_BYTES, 100] {
            let mut values = Values::new(bytes);
            assert_eq!(values.make(FIRST, 2, Some(12_345)).count(), 2);
            let made: Vec<Vec<u8>> = values.made.chunks(bytes).map(<[u8]>::to_vec).collect();
            let second = Number {
                sequence: 8,
                ..FIRST
            };
            assert_eq!(values.stamp(&made[1]), Some((second, 12_345)));
            assert_eq!(values.stamp(&made[1][..bytes - 1]), None);
        }
    }
}
